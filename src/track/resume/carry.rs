//! What happens to the segments of a resumable connection: what is noted of them, and how their numbers change once another
//! server has taken over.

use super::{
    ASKED, Attempt, BARRED, HANDSHAKE, HOLE, NO_SACK, ORDERED, Placed, ResumeSlot, SACK, SERVER_SEEN, SPLICED,
    TIMESTAMPS, UNHEARD, UNSCALED, word,
};
use crate::connection::Direction;
#[cfg(target_pointer_width = "64")]
use crate::track::sequence::Sequences;
use crate::wire::checksum::Delta;
use crate::wire::options::{self, Offer, Options};
#[cfg(target_pointer_width = "64")]
use crate::wire::tcp::HEADER;
use crate::wire::tcp::{ACK, FIN, RST, SYN, Segment, is_behind};

impl ResumeSlot {
    /// Takes note of a segment, and rewrites it if the server's numbers differ from those that the client knows. `seen`
    /// is the segment [in the client's numbers](Self::for_client), `placed` what is known of those, and `sent` how much
    /// the server has sent, in the same numbers. Returns the change of the checksum.
    ///
    /// The segment is whole or a first fragment; fields that its header lacks are ignored. Of a segment that is not
    /// [believed](Placed::is_believed) nothing is noted: its receiver will judge it.
    pub(crate) fn carry(
        &mut self,
        direction: Direction,
        seen: &Segment,
        placed: Placed,
        sent: u32,
        bytes: &mut [u8],
    ) -> Delta {
        let mut change = Delta(0);
        if seen.has(SYN) {
            self.agree(direction, seen, placed.attempt, bytes, &mut change);
        }
        if placed.takes_turn {
            self.turn(direction);
        }
        match direction {
            Direction::ToServer => self.carry_forward(seen, placed, sent, bytes, &mut change),
            Direction::ToClient => self.carry_reply(seen, placed.is_believed, bytes, &mut change),
        }
        change
    }

    /// Takes note that the last new data went in this direction.
    fn turn(&mut self, direction: Direction) {
        self.flags = self.flags & !ASKED | if direction == Direction::ToServer { ASKED } else { 0 };
    }

    /// The same for a segment that passes [unchanged](Self::is_plain), has ACK and neither SYN, FIN nor RST, and no
    /// options but timestamps where nearly every sender puts them (RFC 7323, appendix A). Any other segment gives
    /// `None`, and nothing is noted. `bytes` are the header, and `before` the numbers before the segment, which fits them.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn note_common(
        &mut self,
        direction: Direction,
        seen: &Segment,
        before: &Sequences,
        bytes: &[u8],
    ) -> Option<()> {
        let header = bytes.first_chunk::<HEADER>()?;
        let clock = match header[12] >> 4 {
            5 => None,
            8 if options::has_usual_timestamps(bytes) => word(bytes, options::USUAL_TIMESTAMPS),
            _ => return None,
        };
        let window = u16::from_be_bytes([header[14], header[15]]);
        // Whose turn it is seldom changes.
        if self.has(ASKED) != matches!(direction, Direction::ToServer)
            && Placed::plain(direction, seen, before).takes_turn
        {
            self.turn(direction);
        }
        let known = match direction {
            Direction::ToServer => {
                (self.client_window, self.flags) = (window, self.flags & !HOLE);
                &mut self.client_clock
            }
            Direction::ToClient => {
                self.flags |= SERVER_SEEN;
                let edge = seen.acknowledgment.wrapping_add(u32::from(window) << self.server_scale());
                if edge.wrapping_sub(self.edge) < 1 << 31 {
                    self.edge = edge;
                }
                &mut self.server_clock
            }
        };
        if let Some(value) = clock.filter(|value| is_behind(*known, *value)) {
            *known = value;
        }
        Some(())
    }

    /// Whether its segments pass as they are: no other server has taken over, or is about to.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn is_plain(&self) -> bool {
        !self.has(super::FROZEN | super::AWAITED | SPLICED | UNHEARD)
    }

    /// Takes note of what a SYN offers or agrees to.
    #[cold]
    fn agree(&mut self, direction: Direction, seen: &Segment, attempt: Attempt, bytes: &mut [u8], change: &mut Delta) {
        let offer = Offer::of(bytes);
        let flag = |set, flag| if set { flag } else { 0 };
        let scale = offer.scale.unwrap_or(UNSCALED);
        let flags = flag(offer.sack, SACK) | flag(offer.timestamps, TIMESTAMPS) | flag(offer.signed, BARRED);
        match (direction, attempt) {
            // Neither end need have accepted it.
            (_, Attempt::None) => {}
            (Direction::ToServer, _) if !seen.has(ACK) => {
                let barred = if seen.data == 0 { 0 } else { BARRED };
                // The server that has taken over counts as before, whatever the attempt.
                let kept = self.flags & (SPLICED | ORDERED);
                *self = Self { forward: self.forward, reply: self.reply, clock: self.clock, ..Self::EMPTY };
                (self.client_mss, self.client_scale, self.flags) = (offer.mss, scale, flags | barred | kept);
            }
            (Direction::ToClient, _) if seen.has(ACK) => {
                let offered = if attempt == Attempt::Other { BARRED | SACK | TIMESTAMPS } else { self.flags };
                let kept = self.flags & (SPLICED | BARRED | ORDERED) | offered & BARRED;
                self.flags = kept | flags & BARRED | flags & offered & (TIMESTAMPS | SACK) | HANDSHAKE;
                // The answer to a SYN without the option does not have it either.
                let both = scale != UNSCALED && (self.client_scale != UNSCALED || attempt == Attempt::Other);
                self.client_scale = if both { self.client_scale.min(options::LARGEST_SCALE) } else { 0 };
                self.server_scales = if both { scale << 4 | scale } else { 0 };
                self.edge = seen.acknowledgment;
            }
            // A simultaneous open: neither SYN answers the other.
            _ => self.flags |= BARRED,
        }
        if direction == Direction::ToServer {
            strip(bytes, options::MULTIPATH, change);
        }
    }

    #[inline]
    fn carry_forward(&mut self, seen: &Segment, placed: Placed, sent: u32, bytes: &mut [u8], change: &mut Delta) {
        let spliced = self.has(SPLICED);
        let acknowledged = word(bytes, 8).filter(|_| seen.has(ACK)).unwrap_or(seen.acknowledgment);
        // The segment was overtaken by others.
        let is_late = is_behind(acknowledged, seen.acknowledgment);
        let mut window = self.client_window;
        if !seen.has(RST) {
            if let Some(field) = bytes.get(14..16).and_then(<[u8]>::first_chunk)
                && !is_late
            {
                window = u16::from_be_bytes(*field);
            }
            let clocks = options::timestamps(bytes);
            if placed.is_believed {
                self.client_window = window;
                if let Some(value) = clocks.and_then(|at| word(bytes, at))
                    && (is_behind(self.client_clock, value) || placed.is_first)
                {
                    self.client_clock = value;
                }
                self.flags &= !HOLE;
            }
            if clocks.is_none() || has_more_options(bytes) || spliced {
                let believed = placed.is_believed;
                self.carry_sack(Direction::ToServer, believed, (seen.acknowledgment, sent), bytes, change);
            }
            if spliced && let Some(at) = clocks.filter(|_| seen.has(ACK)) {
                if self.has(UNHEARD) {
                    // The client may echo the timestamp of a previous server.
                    put(bytes, at + 4, self.server_clock, change);
                }
                shift(bytes, at + 4, 0_u32.wrapping_sub(self.clock), change);
            }
        }
        if spliced {
            if acknowledged != seen.acknowledgment || self.is_in_bytes() && !seen.has(SYN) {
                // The right edge of the window stays where it is. A late segment gets the window of the latest one.
                let ahead = if is_late { 0 } else { acknowledged.wrapping_sub(seen.acknowledgment) };
                put_window(bytes, self.window_for_server(window, ahead), change);
            }
            let (sequence, acknowledgment) =
                self.for_receiver(Direction::ToServer, (seen.sequence, seen.acknowledgment));
            put(bytes, 4, sequence, change);
            if seen.has(ACK) {
                put(bytes, 8, acknowledgment, change);
            }
        }
    }

    /// The client's window as the server that has taken over is to read it, larger by `ahead` bytes.
    fn window_for_server(&self, window: u16, ahead: u32) -> u16 {
        let (scale, window) = (self.client_scale & 15, u32::from(window));
        let shown =
            if self.is_in_bytes() { (window << scale).saturating_add(ahead) } else { window + (ahead >> scale) };
        shown.min(u32::from(u16::MAX)) as u16
    }

    #[inline]
    fn carry_reply(&mut self, seen: &Segment, is_believed: bool, bytes: &mut [u8], change: &mut Delta) {
        let spliced = self.has(SPLICED);
        if is_believed {
            self.flags |= SERVER_SEEN;
        }
        if spliced {
            put(bytes, 4, seen.sequence, change);
            if seen.has(ACK) {
                put(bytes, 8, seen.acknowledgment, change);
            }
        }
        if seen.has(RST) {
            return;
        }
        // The client sees it without its SYN.
        let repeats_handshake = !seen.has(SYN) && bytes.get(13).is_some_and(|flags| flags & SYN != 0);
        if repeats_handshake {
            clear_syn(bytes, change);
        } else if is_believed && (seen.data != 0 || seen.has(FIN) || self.has(ASKED)) {
            self.flags &= !UNHEARD;
        }
        if let Some(at) = options::timestamps(bytes) {
            if self.has(UNHEARD) && !repeats_handshake {
                // Until it is heard, the server accepts only the timestamps of its handshake, and the client sees no
                // others.
                put(bytes, at, self.server_clock, change);
            } else if spliced {
                shift(bytes, at, self.clock, change);
            }
            if let Some(value) = word(bytes, at).filter(|_| is_believed)
                && (is_behind(self.server_clock, value) || seen.has(SYN))
            {
                self.server_clock = value;
            }
        }
        if seen.has(ACK) && !seen.has(SYN) {
            self.carry_window(seen.acknowledgment, is_believed, repeats_handshake, bytes, change);
        }
        if spliced {
            self.carry_sack(Direction::ToClient, false, (0, 0), bytes, change);
        }
    }

    /// Writes the server's window in the units that the client knows. Its right edge never moves back (RFC 9293, section
    /// 3.8.6).
    fn carry_window(
        &mut self,
        acknowledgment: u32,
        is_believed: bool,
        repeats_handshake: bool,
        bytes: &mut [u8],
        change: &mut Delta,
    ) {
        let Some(field) = bytes.get(14..16).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let raw = u32::from(u16::from_be_bytes(*field));
        let edge = acknowledgment.wrapping_add(raw << self.server_scale());
        // The window of a SYN is in other units.
        let ahead = if repeats_handshake { u32::MAX } else { edge.wrapping_sub(self.edge) };
        if self.has(SPLICED) {
            let window = if ahead < 1 << 31 {
                // Less than a unit is shown as one: otherwise the window of a small server would be closed for good.
                // What is too much for it comes again.
                ((raw << self.server_scale()) >> self.shown_scale()).max(raw.min(1))
            } else {
                let left = self.edge.wrapping_sub(acknowledgment);
                // Rounded up: rounding down would move the edge back by less than a unit.
                left.div_ceil(1 << self.shown_scale())
            };
            let window = window.min(u32::from(u16::MAX)) as u16;
            put_window(bytes, window, change);
            if ahead < 1 << 31 && is_believed {
                self.edge = acknowledgment.wrapping_add(u32::from(window) << self.shown_scale());
            }
        } else if ahead < 1 << 31 && is_believed {
            self.edge = edge;
        }
    }

    /// Takes note of selective acknowledgements of a client that is believed, and rewrites their edges. The client's
    /// are removed if any lies outside of what the server has sent and the client has not yet acknowledged: it may be
    /// about bytes of the previous server.
    fn carry_sack(
        &mut self,
        direction: Direction,
        is_believed: bool,
        (acknowledgment, sent): (u32, u32),
        bytes: &mut [u8],
        change: &mut Delta,
    ) {
        let found = Options::of(bytes).find(|option| option.kind == options::SACK);
        let forward = direction == Direction::ToServer;
        let Some(option) = found else {
            return;
        };
        let spliced = self.has(SPLICED);
        let by = if forward { 0_u32.wrapping_sub(self.reply) } else { 0_u32.wrapping_sub(self.forward) };
        let mut unknown = false;
        for block in (option.at..option.at + option.length / 8 * 8).step_by(8) {
            let (Some(left), Some(right)) = (word(bytes, block), word(bytes, block + 4)) else {
                return;
            };
            if is_believed && is_behind(acknowledgment, right) {
                self.flags |= HOLE;
            }
            let is_unsent = is_behind(sent, right) && self.has(SERVER_SEEN);
            unknown |= forward && (is_unsent || is_behind(left, acknowledgment));
            if spliced {
                put(bytes, block, left.wrapping_add(by), change);
                put(bytes, block + 4, right.wrapping_add(by), change);
            }
        }
        if spliced && forward && (unknown || self.has(NO_SACK)) {
            blank(bytes, option.at - 2..option.at + option.length, change);
        }
    }
}

/// Clears the SYN flag of a segment.
fn clear_syn(bytes: &mut [u8], change: &mut Delta) {
    if let Some(field) = bytes.get(12..).and_then(<[u8]>::first_chunk) {
        put_half(bytes, 12, u16::from_be_bytes(*field) & !u16::from(SYN), change);
    }
}

fn put_window(bytes: &mut [u8], new: u16, change: &mut Delta) {
    put_half(bytes, 14, new, change);
}

fn put_half(bytes: &mut [u8], at: usize, new: u16, change: &mut Delta) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *change = change.and(Delta::of([u32::from(u16::from_be_bytes(*place))], [u32::from(new)]));
        *place = new.to_be_bytes();
    }
}

/// Whether a header has more options than timestamps where nearly every sender puts them.
fn has_more_options(bytes: &[u8]) -> bool {
    bytes.get(12).is_some_and(|offset| *offset >> 4 != 8)
}

/// Writes four bytes. The sum of a checksum counts those at odd places the other way round (RFC 1071, section 2B).
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn put(bytes: &mut [u8], at: usize, new: u32, change: &mut Delta) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        let delta = Delta::of([u32::from_be_bytes(*place)], [new]);
        *change = change.and(if at.is_multiple_of(2) { delta } else { Delta(delta.0.swap_bytes()) });
        *place = new.to_be_bytes();
    }
}

fn shift(bytes: &mut [u8], at: usize, by: u32, change: &mut Delta) {
    if let Some(old) = word(bytes, at) {
        put(bytes, at, old.wrapping_add(by), change);
    }
}

/// Overwrites options with padding.
fn blank(bytes: &mut [u8], range: core::ops::Range<usize>, change: &mut Delta) {
    for at in range {
        if let Some(byte) = bytes.get_mut(at) {
            let weight = if at.is_multiple_of(2) { 8 } else { 0 };
            *change = change.and(Delta::of([u32::from(*byte) << weight], [u32::from(options::NOP) << weight]));
            *byte = options::NOP;
        }
    }
}

/// Overwrites all options of this kind with padding.
fn strip(bytes: &mut [u8], kind: u8, change: &mut Delta) {
    while let Some(option) = Options::of(bytes).find(|option| option.kind == kind) {
        blank(bytes, option.at - 2..option.at + option.length, change);
    }
}
