//! What a packet of a known connection changes about the connection.

use super::state::{State, Table};
use crate::config::InexactReset;
use crate::connection::Direction;
use crate::event::Closed;
use crate::table::connection::ConnectionSlot;
use crate::track::claims::Claims;
use crate::track::measure::Seen;
use crate::track::phase::{Class, Phase};
use crate::track::tcp::{Reset, Tcp};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::TCP;
use crate::wire::ipv4::{self, Header, Parts};
use crate::wire::rewrite;
use crate::wire::tcp::{RST, SYN, Segment};

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
    /// What is known of the TCP connection in a slot.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn tcp(&mut self, slot: u32) -> Option<Tcp> {
        let connection = self.memory.connections.get(slot as usize)?.0;
        let claims = Claims::from_words(*self.state.layout.claims(self.memory.index, slot)?);
        Some(Tcp { phase: connection.phase, sequences: connection.sequences, claims })
    }

    /// Writes down what is known of the TCP connection in a slot, its phase excepted.
    pub(crate) fn set_tcp(&mut self, slot: u32, tcp: &Tcp) {
        if let Some(connection) = self.slot_mut(slot) {
            connection.sequences = tcp.sequences;
        }
        self.set_claims(slot, tcp.claims);
    }

    #[inline]
    pub(crate) fn set_claims(&mut self, slot: u32, claims: Claims) {
        if let Some(words) = self.state.layout.claims(self.memory.index, slot) {
            *words = claims.to_words();
        }
    }

    /// Follows a TCP segment that is more than data and acknowledgement in an established connection. `whole` says that it
    /// is no fragment.
    pub(crate) fn follow_segment(
        &mut self,
        slot: u32,
        direction: Direction,
        segment: &Segment,
        whole: bool,
    ) -> Tracked {
        if let (Some(measure), Some(measured), Some(ConnectionSlot(c))) = (
            self.state.measure,
            self.memory.measured.get_mut(slot as usize),
            self.memory.connections.get(slot as usize),
        ) {
            measure(measured, Seen::Segment(direction, segment, &c.sequences), self.state.now);
        }
        let Some(mut tcp) = self.tcp(slot) else {
            return Tracked::Quiet;
        };
        if segment.has(RST) {
            return self.follow_reset(slot, &mut tcp, direction, segment);
        }
        let before = tcp.phase;
        let alive = tcp.follow(direction, segment, whole);
        // The client's SYN came before the RST that ended the connection, and now the server answers it.
        let reopened = before == Phase::TimeWait && alive && segment.has(SYN);
        if reopened {
            tcp.replace();
        }
        self.set_tcp(slot, &tcp);
        if tcp.phase != before {
            if tcp.phase == Phase::TimeWait {
                self.finish(slot, Closed::Finished);
            }
            self.begin_phase(slot, tcp.phase);
        }
        if reopened {
            self.reopen(slot);
        }
        if alive { Tracked::Refreshing } else { Tracked::Quiet }
    }

    /// Counts a connection in again that was over, and tells it.
    #[cold]
    fn reopen(&mut self, slot: u32) {
        let Some(&connection) = self.slot(slot) else {
            return;
        };
        let hash = self.state.keys.hash_client(connection.client);
        self.count_in(slot, hash, connection.member);
        self.state.counters.opened = self.state.counters.opened.wrapping_add(1);
    }

    fn follow_reset(&mut self, slot: u32, tcp: &mut Tcp, direction: Direction, segment: &Segment) -> Tracked {
        if tcp.phase.is_over() {
            return Tracked::Quiet;
        }
        match tcp.judge_reset(direction, segment) {
            Reset::Exact => {
                self.finish(slot, Closed::Reset);
                self.begin_phase(slot, Phase::TimeWait);
            }
            judged @ (Reset::Replaced | Reset::Refused) => {
                if judged == Reset::Replaced {
                    tcp.replace();
                } else {
                    tcp.forget_answer();
                }
                self.set_tcp(slot, tcp);
                self.begin_phase(slot, tcp.phase);
            }
            Reset::Inexact if self.state.config.inexact_reset == InexactReset::Drop => {
                return Tracked::Dropped(self.state.drop(DropReason::InexactReset));
            }
            Reset::InFlight if tcp.phase.class() == Class::TcpEstablished && tcp.phase != Phase::Doubtful => {
                self.begin_phase(slot, Phase::Doubtful);
            }
            Reset::InFlight | Reset::Elsewhere | Reset::Inexact => {}
        }
        Tracked::Quiet
    }

    /// Moves a connection to another phase, whose time-out begins now, even if the packet itself prolongs nothing: it
    /// may be shorter than the connection has been silent for.
    fn begin_phase(&mut self, slot: u32, phase: Phase) {
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot) {
            // What only the tracker tells apart has one time-out.
            if connection.phase.class() != phase.class() || connection.phase.state() != phase.state() {
                connection.last = tick;
            }
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
