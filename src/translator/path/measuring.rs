//! What a packet shows about a connection and its server, the same for each path that the packet may take.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::time::Instant;
use crate::track::ejection::Wait;
use crate::track::measure::{Flags, MeasureSlot};
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::phase::{Class, Phase};
use crate::track::sequence::Sequences;
use crate::translator::path::ejection::Sign;
use crate::translator::state::Table;
use crate::wire::tcp::{FIN, RST, Segment};

/// A connection and its server, as they are measured.
pub(super) struct Pair<'a> {
    pub(super) connection: &'a mut MeasureSlot,
    pub(super) server: Option<&'a mut MeasuredServerSlot>,
    pub(super) phase: Phase,
    pub(super) now: Instant,
}

impl<'a> Pair<'a> {
    /// The connection in this slot, and the server that it is on.
    #[inline]
    pub(super) fn of(table: &'a mut Table<'_>, slot: u32) -> Option<Self> {
        let now = table.state.now;
        let connection = table.memory.measured.get_mut(slot as usize)?;
        let ConnectionSlot(entry) = table.memory.connections.get(slot as usize)?;
        let (member, phase) = (entry.member, entry.phase);
        if connection.entry() != member {
            // It has been moved: what it waits for does not come from its previous server.
            if let Some(before) = table.memory.measured_servers.get_mut(usize::from(connection.entry())) {
                before.withdraw(connection, now);
            }
            connection.set_entry(member);
        }
        let known = table.memory.servers.get(usize::from(member));
        let server = table.memory.measured_servers.get_mut(usize::from(member)).zip(known).map(|(server, known)| {
            server.be(known.identity(), now);
            server.take_over(connection, phase == Phase::Opening, now);
            server
        });
        Some(Self { connection, server, phase, now })
    }
}

impl Pair<'_> {
    /// Records a packet of `bytes` bytes that was translated, and returns what it shows about the server.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn packet(&mut self, direction: Direction, bytes: usize, is_datagram: bool) -> Option<Sign> {
        let Self { connection, server, phase, now } = self;
        let (phase, now) = (*phase, *now);
        connection.count(direction, bytes);
        if is_datagram {
            connection.time_datagram(direction, now);
        }
        let server = server.as_mut()?;
        server.count(direction as usize, bytes);
        if connection.flags().has(Flags::ENDED) && !phase.is_over() {
            // The client's SYN came before the packet that ended the connection, and now the server has answered it.
            server.open(connection, false, now);
        }
        let flags = connection.flags();
        let mut sign = None;
        if flags.has(Flags::CONNECTING) && phase != Phase::Opening {
            server.withdraw(connection, now);
            sign = (!phase.is_over()).then_some(Sign::Heard(Wait::Syn));
        }
        if !flags.has(Flags::ESTABLISHED) && is_established(phase) {
            server.establish(connection);
        }
        if is_datagram {
            match direction {
                Direction::ToServer if connection.waited(now).is_none() => {
                    server.ask(connection, now);
                    sign = Some(Sign::Waits(Wait::Request));
                }
                Direction::ToServer => {}
                Direction::ToClient => {
                    server.answer(connection, now);
                    sign = Some(Sign::Heard(Wait::Request));
                }
            }
        }
        sign
    }

    /// Records a TCP segment before the connection is updated with it: `before` has the sequence numbers known so far.
    /// Returns what the segment shows about the server.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn segment(&mut self, direction: Direction, segment: &Segment, before: &Sequences) -> Option<Sign> {
        let Self { connection, server, phase, now } = self;
        let (phase, now) = (*phase, *now);
        let (repeated, shaken) = (connection.retransmissions(), connection.handshakes());
        connection.time_segment(direction, segment, before, now);
        let server = server.as_mut()?;
        if connection.retransmissions() != repeated {
            server.note_retransmission();
        }
        for (leg, (before, after)) in
            [(shaken.0, connection.handshakes().0), (shaken.1, connection.handshakes().1)].into_iter().enumerate()
        {
            if before == 0 && after != 0 {
                server.shake(leg, after);
            }
        }
        if segment.has(RST) {
            let mut flags = connection.flags();
            flags.set(Flags::RESET_BY_CLIENT, direction == Direction::ToServer);
            connection.set_flags(flags);
            return None;
        }
        let waits = connection.waited(now).is_some() && !connection.flags().has(Flags::CONNECTING);
        let is_handshake = matches!(phase, Phase::Opening | Phase::Opened) || phase.is_over();
        // Data of a handshake is judged when the server has answered it. The client's first data may come with the segment
        // that completes the handshake.
        let has_data = phase == Phase::Opened && segment.data > 0;
        match direction {
            Direction::ToServer if if is_handshake { has_data } else { MeasureSlot::asks(segment, before) } => {
                server.ask(connection, now);
                (!waits).then_some(Sign::Waits(Wait::Request))
            }
            Direction::ToClient if if is_handshake { has_data } else { MeasureSlot::responds(segment, before) } => {
                server.answer(connection, now);
                Some(Sign::Heard(Wait::Request))
            }
            Direction::ToClient if !is_handshake && segment.has(FIN) => {
                server.give_up(connection, now);
                // A failure only if the client has not closed the connection: after that it waits for nothing more.
                let is_open = matches!(phase, Phase::Established | Phase::EstablishedResumable);
                (waits && is_open).then_some(Sign::Failed)
            }
            _ => None,
        }
    }
}

/// Whether both ends of a connection in this phase have answered each other.
fn is_established(phase: Phase) -> bool {
    // One that was reset is in TIME-WAIT, no matter what it was before.
    let answered = matches!(phase, Phase::Closing | Phase::UdpAnswered | Phase::IcmpAnswered);
    answered || phase.class() == Class::TcpEstablished
}
