//! Segments of resumable connections ([`Divert::resumable`]), before and after another server has taken them over.
//!
//! They take this path instead of that in `slow.rs`. It is reached through a pointer that only storage with room for
//! the state of such connections sets, so that no other program links it.
//!
//! [`Divert::resumable`]: crate::Divert::resumable

use crate::connection::Direction;
use crate::table::connection::{ConnectionSlot, Entry, RESUMABLE};
use crate::table::redivert_log::Treatment;
use crate::track::phase::Phase;
use crate::track::resume::{AWAITED, Attempt, FROZEN, Placed, ResumeSlot};
use crate::track::sequence::Sequences;
use crate::translator::path::track::Tracked;
use crate::translator::state::{ForResumable, Table};
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::{self, Checksums};
use crate::wire::flow::{Flow, Shape};
use crate::wire::ipv4::{Parts, TCP};
use crate::wire::quote;
use crate::wire::tcp::{ACK, SYN, Segment};

/// Bytes of a TCP header with as many options as there can be.
const LONGEST_HEADER: usize = 60;

/// A hand-over stops a connection for at most this many ticks: 4 s.
const LONGEST_FREEZE: u32 = 61;

/// The functions for resumable connections.
pub(in crate::translator) static FOR_RESUMABLE: ForResumable = ForResumable {
    carry,
    requote: |table, slot, direction, message| {
        if let Some(resume) = table.resume(slot) {
            quote::shift_sequence(message, resume.quoted(direction.opposite()));
        }
    },
    number: |table, slot, direction, numbers| match table.resume(slot) {
        Some(resume) => resume.for_receiver(direction, numbers),
        None => numbers,
    },
    want: |table, slot, treatment| {
        let or_reset = treatment == Treatment::HandOverOrReset;
        let can_be_handed_over = table.slot(slot).is_some_and(|c| c.has(RESUMABLE));
        if can_be_handed_over && let Some(resume) = table.resume_mut(slot) {
            resume.want(or_reset);
        }
        can_be_handed_over || !or_reset
    },
};

/// Translates a segment of a resumable connection.
fn carry(table: &mut Table<'_>, slot: u32, direction: Direction, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
    let (Some(raw), Some(resume), Some(connection)) =
        (Segment::of(parts.payload), table.resume(slot), table.slot(slot))
    else {
        return Verdict::Drop(DropReason::MalformedTransport);
    };
    let before = (connection.phase, connection.sequences);
    let segment = resume.for_client(direction, raw, connection.sequences.unacknowledged(Direction::ToClient));
    if resume.has(FROZEN | AWAITED) && table.is_frozen(slot) {
        return Verdict::Drop(DropReason::HandingOver);
    }
    let whole = flow.shape != Shape::FirstFragment;
    let alive = table.note_established(slot, direction, &segment)
        || match table.follow_segment(slot, direction, &segment, whole) {
            Tracked::Refreshing => true,
            Tracked::Quiet => false,
            Tracked::Dropped(verdict) => return verdict,
        };
    if alive && (direction == Direction::ToServer || table.state.config.refresh_from_server) {
        let tick = table.state.tick;
        if let Some(connection) = table.slot_mut(slot) {
            connection.last = tick;
        }
    }
    table.rewrite_resumable(slot, direction, parts, (&segment, &before), whole);
    if table.state.extras {
        table.do_extras(slot, direction, parts);
    }
    table.state.carried_resumable = true;
    Verdict::carried(direction)
}

impl Table<'_> {
    /// The hand-over state of a resumable connection.
    pub(in crate::translator) fn resume(&self, slot: u32) -> Option<&ResumeSlot> {
        self.memory.resumable.get(slot as usize)
    }

    pub(in crate::translator) fn resume_mut(&mut self, slot: u32) -> Option<&mut ResumeSlot> {
        self.memory.resumable.get_mut(slot as usize)
    }

    /// Whether the connection is frozen. It continues by itself if the hand-over that froze it does not end in time.
    #[cold]
    fn is_frozen(&mut self, slot: u32) -> bool {
        let is_awaited = self.resume(slot).is_some_and(|resume| resume.has(AWAITED));
        if is_awaited || self.slot(slot).is_some_and(|c| self.state.tick.since(c.last) < LONGEST_FREEZE) {
            return true;
        }
        if let Some(resume) = self.resume_mut(slot) {
            resume.flags &= !FROZEN;
        }
        false
    }

    /// Records a segment that carries only data or an acknowledgement in an established connection, as nearly all do.
    /// False, with nothing recorded, for any other.
    #[inline(always)]
    fn note_established(&mut self, slot: u32, direction: Direction, segment: &Segment) -> bool {
        let measured = self.state.for_measured.is_some();
        self.slot_mut(slot).is_some_and(|connection| {
            let plain = connection.phase == Phase::EstablishedResumable && segment.is_established() && !measured;
            plain && connection.sequences.note_plain(direction, segment)
        })
    }

    /// Writes the new addresses and numbers into a segment. `before` are the phase and the numbers before it.
    #[inline]
    fn rewrite_resumable(
        &mut self,
        slot: u32,
        direction: Direction,
        parts: &mut Parts<'_>,
        (segment, before): (&Segment, &(Phase, Sequences)),
        whole: bool,
    ) {
        let Some(ConnectionSlot(connection)) = self.memory.connections.get(slot as usize) else {
            return;
        };
        self.state.change(connection, direction, whole).apply(parts, TCP);
        let sent = connection.sequences.end(Direction::ToClient);
        let attempt = attempt(segment, before.0, connection);
        let placed = Placed::of(direction, segment, attempt, (&before.1, &connection.sequences));
        let Some(resume) = self.memory.resumable.get_mut(slot as usize) else {
            return;
        };
        let in_hardware = whole && self.state.config.checksums == Checksums::Hardware;
        // The sum of the header before and after shows what has changed (RFC 1624, equation 3).
        let before = (!in_hardware && resume.rewrites(segment)).then(|| header_sum(parts.payload));
        resume.carry(direction, segment, placed, sent, parts.payload);
        if let Some(before) = before {
            let change = header_sum(parts.payload) + u32::from(checksum::finish(before));
            if let Some(field) = parts.payload.get_mut(16..).and_then(<[u8]>::first_chunk_mut) {
                *field = checksum::finish(u32::from(!u16::from_be_bytes(*field)) + change).to_be_bytes();
            }
        }
    }
}

/// The sum of a TCP header, and perhaps of data after it.
fn header_sum(segment: &[u8]) -> u32 {
    checksum::sum(0, segment.get(..LONGEST_HEADER).unwrap_or(segment))
}

/// Which handshake a segment belongs to, after the connection has been updated with it. `before` is the phase before
/// that.
fn attempt(segment: &Segment, before: Phase, connection: &Entry) -> Attempt {
    let opening = |phase| matches!(phase, Phase::Opening | Phase::Opened);
    match (segment.has(SYN), opening(before), opening(connection.phase)) {
        (true, true, true) => Attempt::Current,
        (true, false, true) if segment.has(ACK) => Attempt::Other,
        _ => Attempt::None,
    }
}
