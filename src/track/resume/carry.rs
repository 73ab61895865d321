//! What happens to the segments of a resumable connection: what is noted of them, and how their numbers change once another
//! server has taken over.

use super::{
    ASKED, Attempt, BARRED, HANDSHAKE, HOLE, NO_SACK, ORDERED, Placed, ResumeSlot, SACK, SERVER_SEEN, SPLICED,
    TIMESTAMPS, UNHEARD, UNSCALED, half, word,
};
use core::ops::Range;

use crate::connection::Direction;
#[cfg(target_pointer_width = "64")]
use crate::track::sequence::Sequences;
use crate::wire::options::{self, Offer, Options};
use crate::wire::tcp::{ACK, FIN, HEADER, RST, SYN, Segment, is_behind};

impl ResumeSlot {
    /// Whether [`carry`](Self::carry) may rewrite such a segment, which the checksum does not show yet.
    pub(crate) const fn rewrites(&self, seen: &Segment) -> bool {
        self.has(SPLICED | UNHEARD) || seen.has(SYN)
    }

    /// Takes note of a segment, and rewrites it, except its checksum, if the server's numbers differ from those that the
    /// client knows. `seen` is the segment [in the client's numbers](Self::for_client), `placed` what is known of those,
    /// and `sent` how much the server has sent, in the same numbers.
    ///
    /// The segment is whole or a first fragment; fields that its header lacks are ignored. Of a segment that is not
    /// [believed](Placed::is_believed) nothing is noted: its receiver will judge it.
    pub(crate) fn carry(&mut self, direction: Direction, seen: &Segment, placed: Placed, sent: u32, bytes: &mut [u8]) {
        if seen.has(SYN) {
            self.agree(direction, seen, placed.attempt, bytes);
        }
        if placed.takes_turn {
            self.turn(direction);
        }
        match direction {
            Direction::ToServer => self.carry_forward(seen, placed, bytes),
            Direction::ToClient => self.carry_reply(seen, placed.is_believed, bytes),
        }
        let spliced = self.has(SPLICED);
        if !seen.has(RST) && (spliced || direction == Direction::ToServer && may_have_sack(bytes)) {
            self.carry_sack(direction, placed.is_believed, (seen.acknowledgment, sent), bytes);
        }
        if spliced && let Some(header) = bytes.first_chunk_mut::<HEADER>() {
            let (sequence, acknowledgment) = self.for_receiver(direction, (seen.sequence, seen.acknowledgment));
            header[4..8].copy_from_slice(&sequence.to_be_bytes());
            if seen.has(ACK) {
                header[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
            }
        }
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
    fn agree(&mut self, direction: Direction, seen: &Segment, attempt: Attempt, bytes: &mut [u8]) {
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
            strip(bytes, options::MULTIPATH);
        }
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn carry_forward(&mut self, seen: &Segment, placed: Placed, bytes: &mut [u8]) {
        let spliced = self.has(SPLICED);
        let acknowledged = word(bytes, 8).filter(|_| seen.has(ACK)).unwrap_or(seen.acknowledgment);
        // The segment was overtaken by others.
        let is_late = is_behind(acknowledged, seen.acknowledgment);
        let mut window = self.client_window;
        if !seen.has(RST) {
            if let Some(field) = half(bytes, 14)
                && !is_late
            {
                window = field;
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
            if spliced && let Some(at) = clocks.filter(|_| seen.has(ACK)) {
                // The client may echo the timestamp of a previous server.
                let heard = if self.has(UNHEARD) { None } else { word(bytes, at + 4) };
                put(bytes, at + 4, heard.unwrap_or(self.server_clock).wrapping_sub(self.clock));
            }
        }
        if spliced && (acknowledged != seen.acknowledgment || self.is_in_bytes() && !seen.has(SYN)) {
            // The right edge of the window stays where it is. A late segment gets the window of the latest one.
            let ahead = if is_late { 0 } else { acknowledged.wrapping_sub(seen.acknowledgment) };
            put_half(bytes, 14, self.window_for_server(window, ahead));
        }
    }

    /// The client's window as the server that has taken over is to read it, larger by `ahead` bytes.
    fn window_for_server(&self, window: u16, ahead: u32) -> u16 {
        let (scale, window) = (self.client_scale & 15, u32::from(window));
        let shown =
            if self.is_in_bytes() { (window << scale).saturating_add(ahead) } else { window + (ahead >> scale) };
        shown.min(u32::from(u16::MAX)) as u16
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn carry_reply(&mut self, seen: &Segment, is_believed: bool, bytes: &mut [u8]) {
        if is_believed {
            self.flags |= SERVER_SEEN;
        }
        if seen.has(RST) {
            return;
        }
        // The client sees it without its SYN.
        let repeats_handshake = !seen.has(SYN) && bytes.get(13).is_some_and(|flags| flags & SYN != 0);
        if repeats_handshake {
            if let Some(flags) = bytes.get_mut(13) {
                *flags &= !SYN;
            }
        } else if is_believed && (seen.data != 0 || seen.has(FIN) || self.has(ASKED)) {
            self.flags &= !UNHEARD;
        }
        if let Some(at) = options::timestamps(bytes)
            && let Some(own) = word(bytes, at)
        {
            // Until it is heard, the server accepts only the timestamps of its handshake, and the client sees no others.
            let is_unheard = self.has(UNHEARD) && !repeats_handshake;
            let shift = if self.has(SPLICED) { self.clock } else { 0 };
            let value = if is_unheard { self.server_clock } else { own.wrapping_add(shift) };
            put(bytes, at, value);
            if is_believed && (is_behind(self.server_clock, value) || seen.has(SYN)) {
                self.server_clock = value;
            }
        }
        if seen.has(ACK) && !seen.has(SYN) {
            self.carry_window(seen.acknowledgment, is_believed, repeats_handshake, bytes);
        }
    }

    /// Writes the server's window in the units that the client knows. Its right edge never moves back (RFC 9293, section
    /// 3.8.6).
    fn carry_window(&mut self, acknowledgment: u32, is_believed: bool, repeats_handshake: bool, bytes: &mut [u8]) {
        let Some(raw) = half(bytes, 14).map(u32::from) else {
            return;
        };
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
            put_half(bytes, 14, window);
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
    ) {
        let Some(place) = find(bytes, options::SACK) else {
            return;
        };
        let forward = direction == Direction::ToServer;
        let (spliced, by) = (self.has(SPLICED), if forward { self.reply } else { self.forward });
        let mut unknown = self.has(NO_SACK);
        let blocks = bytes.get_mut(place).unwrap_or_default();
        for block in blocks.as_chunks_mut::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *block;
            let (left, right) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            if forward && is_believed && is_behind(acknowledgment, right) {
                self.flags |= HOLE;
            }
            let is_unsent = is_behind(sent, right) && self.has(SERVER_SEEN);
            unknown |= is_unsent || is_behind(left, acknowledgment);
            if spliced {
                let edges = u64::from(left.wrapping_sub(by)) << 32 | u64::from(right.wrapping_sub(by));
                *block = edges.to_be_bytes();
            }
        }
        if spliced && forward && unknown {
            strip(bytes, options::SACK);
        }
    }
}

/// Whether the header can have selective acknowledgements: it has more options than timestamps where nearly every sender
/// puts them.
fn may_have_sack(bytes: &[u8]) -> bool {
    // On a small processor the search itself answers that.
    !cfg!(target_pointer_width = "64")
        || !options::has_usual_timestamps(bytes)
        || bytes.get(12).is_some_and(|offset| *offset >> 4 != 8)
}

/// Writes four bytes.
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
pub(crate) fn put(bytes: &mut [u8], at: usize, new: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = new.to_be_bytes();
    }
}

fn put_half(bytes: &mut [u8], at: usize, new: u16) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = new.to_be_bytes();
    }
}

/// Where the value of the first option of this kind lies.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn find(bytes: &[u8], kind: u8) -> Option<Range<usize>> {
    Options::of(bytes).find(|option| option.kind == kind).map(|option| option.at..option.at + option.length)
}

/// Overwrites all options of this kind with padding.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn strip(bytes: &mut [u8], kind: u8) {
    while let Some(Range { start, end }) = find(bytes, kind) {
        bytes.get_mut(start - 2..end).unwrap_or_default().fill(options::NOP);
    }
}
