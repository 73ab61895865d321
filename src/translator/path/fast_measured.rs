//! The fast path of a plain packet whose connection is measured, for large processors.
//!
//! A fast path: it must give the same result as `Table::translate`, or leave the packet to it. It records the same as
//! the slow path ([`measuring`](super::measuring)).

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::server::ServerSlot;
use crate::table::storage::{Parts, Storage};
use crate::track::measure::MeasureSlot;
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::phase::Phase;
use crate::translator::Translator;
use crate::translator::path::ejection::{Sign, note};
use crate::translator::path::measuring::Pair;
use crate::translator::path::plain::Plain;
use crate::translator::state::{State, Table};
use crate::verdict::Verdict;
use crate::wire::ipv4::{HEADER, Header, TCP};
use crate::wire::tcp::{self, ACK, Segment};

impl<S: Storage> Translator<S> {
    /// Handles a plain packet that the plain path cannot translate by the slot that it guessed: connections are measured, or
    /// the slot holds another connection, or a stale one.
    #[cold]
    #[inline(never)]
    pub(super) fn look_again(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Verdict {
        // Storage that measures no servers cannot use this path, and goes straight to the second look.
        if S::MEASURES_SERVERS && self.state.for_measured.is_some() && !self.storage.parts().measured_servers.is_empty()
        {
            return match direction {
                Direction::ToServer => self.measured_at::<true>(packet, slot),
                Direction::ToClient => self.measured_at::<false>(packet, slot),
            };
        }
        self.second_look(direction, packet)
    }

    /// Handles a plain packet that most likely belongs to the connection in this slot, and measures it.
    #[inline(never)]
    fn measured_at<const TO_SERVER: bool>(&mut self, packet: &mut [u8], slot: u32) -> Verdict {
        let direction = if TO_SERVER { Direction::ToServer } else { Direction::ToClient };
        let Parts { connections, measured, servers, measured_servers, .. } = self.storage.parts();
        match carry(&mut self.state, (connections, measured), (servers, measured_servers), direction, packet, slot) {
            Some((verdict, None, None)) => verdict,
            Some((verdict, one, other)) => self.notify(slot, [one, other], verdict),
            None => self.second_look(direction, packet),
        }
    }

    /// Passes on the signs that the packet shows of a server that may be ejected.
    #[cold]
    #[inline(never)]
    fn notify(&mut self, slot: u32, signs: [Option<Sign>; 2], verdict: Verdict) -> Verdict {
        note_all(&mut self.table(), slot, signs, verdict)
    }
}

fn note_all(table: &mut Table<'_>, slot: u32, signs: [Option<Sign>; 2], verdict: Verdict) -> Verdict {
    signs.into_iter().flatten().for_each(|sign| note(table, slot, sign));
    verdict
}

/// Translates and measures a plain packet whose connection the second look has found.
pub(super) fn carry_measured(
    table: &mut Table<'_>,
    direction: Direction,
    packet: &mut [u8],
    slot: u32,
) -> Option<Verdict> {
    let Parts { connections, measured, servers, measured_servers, .. } = &mut table.memory;
    let (verdict, one, other) =
        carry(table.state, (connections, measured), (servers, measured_servers), direction, packet, slot)?;
    Some(note_all(table, slot, [one, other], verdict))
}

/// Translates a plain packet that belongs to the connection in this slot, and measures it. `None`, with nothing
/// changed, if it does not belong there, or needs more than that. Also returns the signs that it shows of a server that
/// may be ejected: as a segment, and as a packet.
#[inline(always)]
fn carry(
    state: &mut State,
    (connections, measured): (&mut [ConnectionSlot], &mut [MeasureSlot]),
    (servers, measured_servers): (&[ServerSlot], &mut [MeasuredServerSlot]),
    direction: Direction,
    packet: &mut [u8],
    slot: u32,
) -> Option<(Verdict, Option<Sign>, Option<Sign>)> {
    let plain = &Plain::read(packet)?;
    let ConnectionSlot(entry) = connections.get_mut(slot as usize)?;
    let connection = measured.get_mut(slot as usize)?;
    if !entry.is_plainly(direction, plain.key(Direction::ToClient), state.measured_epoch()?) {
        return None;
    }
    let member = usize::from(entry.member);
    let server = measured_servers.get_mut(member)?;
    let is_known = connection.entry() == entry.member
        && server.is(servers.get(member)?.identity())
        && server.has_asked(connection);
    if !is_known {
        return None;
    }
    let (phase, before) = (entry.phase, entry.sequences);
    let verdict = state.carry_plain(entry, direction, plain, packet)?;
    let (header, payload) = packet.split_first_chunk::<HEADER>()?;
    let may_be_ejected = server.ejection.on;
    let bytes = Header(header).total_length();
    let now = state.now;
    let (by_segment, by_packet) = if plain.protocol == TCP {
        // What is known of a plain segment is constant here, so that the compiler omits most of what other segments
        // need.
        let mut pair = Pair { connection, server: Some(server), phase: Phase::Established, now };
        let read = Segment::with(payload.first_chunk::<{ tcp::HEADER }>()?, plain.data());
        let segment = Segment { flags: ACK, ..read };
        (pair.segment(direction, &segment, &before), pair.packet(direction, bytes, false))
    } else {
        let mut pair = Pair { connection, server: Some(server), phase, now };
        (None, pair.packet(direction, bytes, true))
    };
    Some((verdict, by_segment.filter(|_| may_be_ejected), by_packet.filter(|_| may_be_ejected)))
}
