//! What a TCP connection needs so that another server can take it over: what was agreed in its handshake, what its
//! client has seen last, and, once a server has taken it over, how that server's numbers become the ones that the
//! client knows.
//!
//! Everything is expressed in the client's numbers. A server that took over counts from numbers of its own:
//!
//! ```text
//!                    client's view            server's view
//!   client's bytes      x          <----->       x + forward
//!   server's bytes      y + reply  <----->       y
//!   server's clock      z + clock  <----->       z               (RFC 7323)
//!   server's window     in units of 2^shown      in units of 2^server
//!   client's window     in units of 2^client     the same, or in bytes if the server does not scale
//! ```
//!
//! Tracking, records and events have the client's view only.

mod carry;

pub(crate) use carry::put;

use crate::connection::Direction;
use crate::track::measure::MeasureSlot;
use crate::track::sequence::Sequences;
use crate::wire::options;
use crate::wire::tcp::{ACK, RST, SYN, Segment, is_behind};

/// Both sides agreed on timestamps.
pub(crate) const TIMESTAMPS: u16 = 1;
/// Both sides agreed on selective acknowledgements.
pub(crate) const SACK: u16 = 2;
/// Both SYNs were seen.
pub(crate) const HANDSHAKE: u16 = 4;
/// The client's last segment reported bytes beyond a hole.
const HOLE: u16 = 8;
/// No segment passes: another server is taking over.
pub(crate) const FROZEN: u16 = 16;
/// The server has taken over: its numbers differ.
pub(crate) const SPLICED: u16 = 32;
/// The server that took over knows no selective acknowledgements.
pub(crate) const NO_SACK: u16 = 64;
/// The connection has something that no other server can take over: data in the SYN (RFC 7413), signatures (RFC 2385,
/// RFC 5925).
pub(crate) const BARRED: u16 = 128;
/// The client has sent data after the server's last: it waits for an answer.
pub(crate) const ASKED: u16 = 256;
/// A re-divert wants it handed over.
pub(crate) const WANTED: u16 = 512;
/// If it cannot be handed over, it is to be reset.
pub(crate) const OR_RESET: u16 = 1_024;
/// It has been wanted for a while.
pub(crate) const LONG_WANTED: u16 = 2_048;
/// The attempt in progress to hand it over is the last one.
pub(crate) const LAST_ATTEMPT: u16 = 4_096;
/// The server that took over has not sent anything yet. It may be one that accepts a connection with its first data
/// (Linux's `TCP_DEFER_ACCEPT`): until then it may repeat its SYN+ACK, and accepts only segments that echo the
/// timestamp of one.
const UNHEARD: u16 = 8_192;
/// Its server's numbers are not known yet: they come in another record. Nothing passes until then.
pub(crate) const AWAITED: u16 = 16_384;
/// Segments of the server pass through this translator too, so it is known what the server has sent.
const SERVER_SEEN: u16 = 32_768;
/// What a re-divert has ordered.
const ORDERED: u16 = WANTED | OR_RESET | LONG_WANTED | LAST_ATTEMPT;
/// The flags that matter beyond this translator.
const LASTING: u16 =
    TIMESTAMPS | SACK | HANDSHAKE | HOLE | SPLICED | NO_SACK | BARRED | ASKED | WANTED | OR_RESET | UNHEARD;

/// Room for what a resumable connection needs, in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ResumeSlot {
    /// Added to the client's sequence numbers on the way to the server.
    pub(crate) forward: u32,
    /// Added to the server's sequence numbers on the way to the client.
    pub(crate) reply: u32,
    /// Added to the server's timestamps.
    pub(crate) clock: u32,
    /// The client's last timestamp.
    pub(crate) client_clock: u32,
    /// The latest of the server's timestamps that the client was sent.
    pub(crate) server_clock: u32,
    /// The right edge of the window that the client was offered.
    edge: u32,
    /// The client's window as its last segment has it.
    pub(crate) client_window: u16,
    /// The client's maximum segment size.
    pub(crate) client_mss: u16,
    /// The client's window scale.
    pub(crate) client_scale: u8,
    /// The server's window scale that the client was sent, times 16, and the server's own.
    server_scales: u8,
    pub(crate) flags: u16,
}

const _: () = assert!(size_of::<ResumeSlot>() == 32);

/// No window scaling, until both sides have asked for it.
const UNSCALED: u8 = u8::MAX;

/// The scale of a server that took over and does not scale, while its client does: it takes the client's windows for
/// bytes (RFC 7323, section 2.2), and its own are bytes.
pub(crate) const IN_BYTES: u8 = 15;

/// Which handshake a SYN belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// None that the receiver of the SYN answers.
    None,
    /// That of the connection.
    Current,
    /// One on the same ports that has just taken the place of another. What its client offered is not known.
    Other,
}

/// What is known of a segment from its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) attempt: Attempt,
    /// Its numbers fit those of the connection: somebody who does not see the connection can hardly have sent it.
    pub(crate) is_believed: bool,
    /// It is the first one with which the numbers of the connection begin, or begin again: there is no clock before its
    /// own.
    pub(crate) is_first: bool,
    /// It brings new data: the client asks, or the server answers what the client has asked last.
    pub(crate) takes_turn: bool,
}

impl Placed {
    /// `before` and `after` are the numbers of the connection before the segment and after it. All are the client's.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn of(
        direction: Direction,
        segment: &Segment,
        attempt: Attempt,
        (before, after): (&Sequences, &Sequences),
    ) -> Self {
        let fits = |numbers: &Sequences| numbers.fits(direction, segment.end(), segment.acknowledgment);
        let fits_after = || segment.flags & (SYN | RST | ACK) == ACK && fits(after);
        if attempt == Attempt::None && !fits_after() {
            return Self { attempt, is_believed: false, is_first: false, takes_turn: false };
        }
        let is_first = segment.has(SYN) || !fits(before);
        let takes_turn = match direction {
            Direction::ToServer => is_first && segment.data != 0 || MeasureSlot::asks(segment, before),
            Direction::ToClient => MeasureSlot::responds(segment, before),
        };
        Self { attempt, is_believed: true, is_first, takes_turn }
    }

    /// The same for a segment that [`Sequences::note_plain`] has taken.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn plain(direction: Direction, segment: &Segment, before: &Sequences) -> Self {
        let (acknowledged, sent) = before.unacknowledged(Direction::ToServer);
        let answers = acknowledged == sent || segment.acknowledgment != acknowledged;
        let is_new = segment.data != 0 && segment.sequence.wrapping_add(segment.data) != before.end(direction);
        let takes_turn = is_new && (matches!(direction, Direction::ToServer) || answers);
        Self { attempt: Attempt::None, is_believed: true, is_first: false, takes_turn }
    }
}

/// The numbers of a server that takes over, relative to the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) forward: u32,
    pub(crate) reply: u32,
    pub(crate) clock: u32,
    /// Of its windows, or [`IN_BYTES`].
    pub(crate) scale: u8,
    pub(crate) sack: bool,
}

impl ResumeSlot {
    /// An unused slot.
    pub const EMPTY: Self = Self {
        forward: 0,
        reply: 0,
        clock: 0,
        client_clock: 0,
        server_clock: 0,
        edge: 0,
        client_window: 0,
        client_mss: 0,
        client_scale: 0,
        server_scales: 0,
        flags: 0,
    };

    /// One whose numbers have yet to come.
    pub(crate) const AWAITED: Self = Self { flags: AWAITED, ..Self::EMPTY };

    /// Its form in a record.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [self.forward, self.reply, self.clock, self.client_clock, self.server_clock, self.edge];
        let halves = [self.client_window, self.client_mss];
        let fields =
            words.iter().flat_map(|word| word.to_be_bytes()).chain(halves.iter().flat_map(|half| half.to_be_bytes()));
        let fields = fields.chain([self.client_scale, self.server_scales]).chain((self.flags & LASTING).to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Reads the form in a record. The error is the name and value of a field that no connection can have.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, (&'static str, u8)> {
        let word_at = |at| word(bytes, at).unwrap_or(0);
        let half_at = |at| half(bytes, at).unwrap_or(0);
        let [.., client_scale, server_scales, high, low] = *bytes;
        let flags = u16::from_be_bytes([high, low]);
        if flags & !LASTING != 0 {
            return Err(("flags", high));
        }
        if client_scale > options::LARGEST_SCALE && (flags & HANDSHAKE != 0 || client_scale != UNSCALED) {
            return Err(("client scale", client_scale));
        }
        let is_scale = |scale| scale <= options::LARGEST_SCALE || scale == IN_BYTES && flags & SPLICED != 0;
        if server_scales >> 4 > options::LARGEST_SCALE || !is_scale(server_scales & 15) {
            return Err(("server scales", server_scales));
        }
        Ok(Self {
            forward: word_at(0),
            reply: word_at(4),
            clock: word_at(8),
            client_clock: word_at(12),
            server_clock: word_at(16),
            edge: word_at(20),
            client_window: half_at(24),
            client_mss: half_at(26),
            client_scale,
            server_scales,
            flags,
        })
    }

    /// Takes over what another translator knows better about a connection whose server has the same numbers.
    pub(crate) const fn join(&mut self, other: &Self) {
        if is_behind(self.client_clock, other.client_clock) {
            (self.client_clock, self.client_window) = (other.client_clock, other.client_window);
        }
        if is_behind(self.server_clock, other.server_clock) {
            self.server_clock = other.server_clock;
        }
        if is_behind(self.edge, other.edge) {
            self.edge = other.edge;
        }
        self.flags &= other.flags | !UNHEARD;
    }

    /// Whether the server has the same numbers in both.
    pub(crate) const fn counts_like(&self, other: &Self) -> bool {
        let same = self.forward == other.forward && self.reply == other.reply && self.clock == other.clock;
        same && self.flags & SPLICED == other.flags & SPLICED
    }

    #[inline]
    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether the client has reported bytes beyond a hole.
    pub(crate) const fn has_hole(&self) -> bool {
        self.has(HOLE)
    }

    /// The client's window in bytes.
    pub(crate) const fn client_window_bytes(&self) -> u32 {
        (self.client_window as u32) << (self.client_scale & 15)
    }

    /// The client's window scale, if scaling was agreed. Two scales of zero cannot be distinguished from no scaling,
    /// and have the same effect.
    pub(crate) const fn agreed_scale(&self) -> Option<u8> {
        if self.client_scale | self.server_scales == 0 { None } else { Some(self.client_scale) }
    }

    const fn shown_scale(&self) -> u8 {
        self.server_scales >> 4
    }

    const fn server_scale(&self) -> u8 {
        if self.is_in_bytes() { 0 } else { self.server_scales & 0x0f }
    }

    /// Whether the server takes the client's windows for bytes, which they are not.
    const fn is_in_bytes(&self) -> bool {
        self.server_scales & 0x0f == IN_BYTES
    }

    /// A re-divert wants the connection handed over, or else reset.
    pub(crate) const fn want(&mut self, or_reset: bool) {
        self.unwant();
        self.flags |= WANTED | if or_reset { OR_RESET } else { 0 };
    }

    /// The connection is not to be handed over any more.
    pub(crate) const fn unwant(&mut self) {
        self.flags &= !ORDERED;
    }

    /// A server with these numbers has taken over.
    pub(crate) fn splice(&mut self, offsets: &Offsets) {
        (self.forward, self.reply, self.clock) = (offsets.forward, offsets.reply, offsets.clock);
        self.server_scales = self.server_scales & 0xf0 | offsets.scale & 0x0f;
        self.unwant();
        self.flags =
            self.flags & !(FROZEN | NO_SACK) | SPLICED | UNHEARD | SERVER_SEEN | if offsets.sack { 0 } else { NO_SACK };
    }

    /// The segment in the client's numbers, given the first and the last number of the server that the client may
    /// acknowledge.
    ///
    /// The client may acknowledge more, which it has received from the previous server, and late segments less. Neither
    /// would make sense to the server, which learns only of what it has sent itself. A portion for the forward
    /// direction does not know how much that is. A number that is further away than the client's window ever reaches is
    /// not the client's, and stays as it is.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) const fn for_client(
        &self,
        direction: Direction,
        segment: Segment,
        (first, last): (u32, u32),
    ) -> Segment {
        match direction {
            Direction::ToServer if self.has(SPLICED) && segment.has(ACK) => {
                let reach = (u16::MAX as u32) << (self.client_scale & 15);
                let acknowledgment = segment.acknowledgment;
                let acknowledgment = if acknowledgment.wrapping_sub(last) <= reach && self.has(SERVER_SEEN) {
                    last
                } else if first.wrapping_sub(acknowledgment) <= reach {
                    first
                } else {
                    acknowledgment
                };
                Segment { acknowledgment, ..segment }
            }
            Direction::ToServer => segment,
            Direction::ToClient => Segment {
                sequence: segment.sequence.wrapping_add(self.reply),
                acknowledgment: segment.acknowledgment.wrapping_sub(self.forward),
                // To the client, a repeated SYN+ACK is like any old segment: it acknowledges what the server has
                // received so far.
                flags: if self.repeats_handshake(segment) { segment.flags & !SYN } else { segment.flags },
                ..segment
            },
        }
    }

    /// Whether a segment of the server repeats the answer with which it took over.
    const fn repeats_handshake(&self, segment: Segment) -> bool {
        segment.has(SYN) && segment.has(ACK) && self.has(UNHEARD)
    }

    /// The numbers of a segment in this direction as its receiver counts them, from the client's numbers.
    pub(crate) const fn for_receiver(
        &self,
        direction: Direction,
        (sequence, acknowledgment): (u32, u32),
    ) -> (u32, u32) {
        match direction {
            Direction::ToServer => (sequence.wrapping_add(self.forward), acknowledgment.wrapping_sub(self.reply)),
            Direction::ToClient => (sequence, acknowledgment),
        }
    }

    /// What to add to the sequence number in a quoted packet of this direction, which the translator has written, to
    /// get the one that the sender wrote.
    pub(crate) const fn quoted(&self, direction: Direction) -> u32 {
        match direction {
            Direction::ToServer => 0_u32.wrapping_sub(self.forward),
            Direction::ToClient => 0_u32.wrapping_sub(self.reply),
        }
    }
}

/// Four bytes of a segment.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_be_bytes(*half))
}
