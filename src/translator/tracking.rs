//! What a packet of a known connection changes about the connection.

use super::state::{State, Table};
use crate::config::InexactReset;
use crate::connection::Direction;
use crate::event::Closed;
use crate::table::connection::{ConnectionSlot, SAID_SYN};
use crate::track::measure::Seen;
use crate::track::phase::{Class, Phase};
use crate::track::tcp::{self, Reset};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::TCP;
use crate::wire::ipv4::{self, Header, Parts};
use crate::wire::rewrite;
use crate::wire::tcp::{RST, Segment};

/// What tracking says of a packet that is to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracked {
    /// It keeps its connection alive.
    Refreshing,
    /// It does not: a RST is no sign of life (RFC 7857, section 7.1).
    Quiet,
    /// It is dropped.
    Dropped(Verdict),
}

impl Table<'_> {
    /// Follows a TCP segment that is more than data and acknowledgement in an established connection.
    pub(crate) fn follow_segment(&mut self, slot: u32, direction: Direction, segment: &Segment) -> Tracked {
        if let (Some(measure), Some(measured), Some(ConnectionSlot(c))) = (
            self.state.measure,
            self.memory.measured.get_mut(slot as usize),
            self.memory.connections.get(slot as usize),
        ) {
            measure(measured, Seen::Segment(direction, segment, &c.sequences), self.state.now);
        }
        if segment.has(RST) {
            return self.follow_reset(slot, direction, segment);
        }
        let Some(connection) = self.slot_mut(slot) else {
            return Tracked::Quiet;
        };
        let phase = connection.phase;
        match (tcp::Kind::of(segment), direction) {
            // A SYN+ACK that acknowledges another SYN is not the server's answer to this one: the client refuses it.
            (tcp::Kind::SynAck, Direction::ToClient) if phase == Phase::Opening => {
                let syn = connection.sequences.sent(Direction::ToServer);
                if syn.is_some_and(|end| end != segment.acknowledgment) {
                    return Tracked::Quiet;
                }
            }
            // The client says that it begins anew. Whether it is believed, the server's answer will tell.
            (tcp::Kind::Syn, Direction::ToServer) if phase.class() == Class::TcpEstablished => {
                connection.flags |= SAID_SYN;
                return Tracked::Refreshing;
            }
            (tcp::Kind::SynAck, Direction::ToClient) if connection.has(SAID_SYN) && !phase.is_over() => {
                connection.flags &= !SAID_SYN;
                connection.sequences.begin_anew(segment);
                self.begin_phase(slot, Phase::Opened);
                return Tracked::Refreshing;
            }
            _ => {}
        }
        connection.sequences.note(direction, segment);
        let next = tcp::advance(phase, direction, segment, &connection.sequences);
        if next != phase {
            if next == Phase::TimeWait {
                self.finish(slot, Closed::Finished);
            }
            self.begin_phase(slot, next);
        }
        Tracked::Refreshing
    }

    fn follow_reset(&mut self, slot: u32, direction: Direction, segment: &Segment) -> Tracked {
        let Some(connection) = self.slot(slot) else {
            return Tracked::Quiet;
        };
        let phase = connection.phase;
        match tcp::judge_reset(phase, direction, segment, &connection.sequences) {
            _ if phase.is_over() => Tracked::Quiet,
            Reset::Exact => {
                self.finish(slot, Closed::Reset);
                self.begin_phase(slot, Phase::TimeWait);
                Tracked::Quiet
            }
            Reset::Inexact if self.state.config.inexact_reset == InexactReset::Drop => {
                Tracked::Dropped(self.state.drop(DropReason::InexactReset))
            }
            Reset::Inexact => Tracked::Quiet,
            Reset::InFlight => {
                if phase == Phase::Established {
                    self.begin_phase(slot, Phase::Doubtful);
                }
                Tracked::Quiet
            }
        }
    }

    /// Moves a connection to another phase, whose time-out begins now, even if the packet itself prolongs nothing: it
    /// may be shorter than the connection has been silent for.
    fn begin_phase(&mut self, slot: u32, phase: Phase) {
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot) {
            connection.last = tick;
        }
        self.set_phase(slot, phase);
    }

    /// The server has answered a UDP datagram or an ICMP echo for the first time.
    pub(crate) fn answered(&mut self, slot: u32) {
        match self.slot(slot).map(|c| c.phase) {
            Some(Phase::UdpUnanswered) => self.set_phase(slot, Phase::UdpAnswered),
            Some(Phase::IcmpUnanswered) => self.set_phase(slot, Phase::IcmpAnswered),
            _ => {}
        }
    }

    /// What is done to a translated packet beyond its addresses, where the configuration asks for it.
    pub(crate) fn do_extras(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>) {
        let header = Header(parts.header);
        let (total, protocol) = (header.total_length(), header.protocol());
        self.measure(slot, Seen::Packet(direction, total));
        if protocol != TCP {
            self.measure(slot, Seen::Datagram(direction));
        }
        self.state.identify(parts);
    }
}

impl State {
    /// Gives a translated packet an identification of its own, where the configuration asks for it.
    pub(crate) fn identify(&mut self, parts: &mut Parts<'_>) {
        // What must not be fragmented needs none (RFC 6864, section 4.1).
        let fragmentation = Header(parts.header).fragmentation();
        let atomic = fragmentation & ipv4::DONT_FRAGMENT != 0 && !ipv4::is_fragment(fragmentation);
        if self.config.rewrite_identification && !atomic {
            let new = self.next_identification();
            rewrite::identification(parts.header, new, self.config.checksums);
        }
    }
}
