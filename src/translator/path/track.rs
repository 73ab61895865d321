//! What a packet changes in its connection.

use crate::config::InexactReset;
use crate::connection::Direction;
use crate::event::Closed;
use crate::table::server;
use crate::track::claims::Claims;
use crate::track::phase::{Class, Phase};
use crate::track::tcp::{Reset, Tcp};
use crate::translator::state::Table;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv4::Parts;
use crate::wire::tcp::{RST, SYN, Segment};

/// What tracking says about a packet that is to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    /// It refreshes its connection.
    Refreshing,
    /// It does not: a RST is no sign of life (RFC 7857, section 7.1).
    Quiet,
    /// It is dropped.
    Dropped(Verdict),
}

impl Table<'_> {
    /// The TCP state of the connection in a slot.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn tcp(&mut self, slot: u32) -> Option<Tcp> {
        let connection = self.memory.connections.get(slot as usize)?.0;
        let phase = connection.phase.tracked();
        let claims = Claims::from_words(*self.state.layout.claims(self.memory.index, slot)?);
        Some(Tcp { phase, sequences: connection.sequences, claims })
    }

    /// Stores the TCP state of the connection in a slot, except its phase.
    pub(in crate::translator) fn set_tcp(&mut self, slot: u32, tcp: &Tcp) {
        if let Some(connection) = self.slot_mut(slot) {
            connection.sequences = tcp.sequences;
        }
        self.set_claims(slot, tcp.claims);
    }

    #[inline]
    pub(in crate::translator) fn set_claims(&mut self, slot: u32, claims: Claims) {
        if let Some(words) = self.state.layout.claims(self.memory.index, slot) {
            *words = claims.to_words();
        }
    }

    /// Tracks a TCP segment that is more than data and acknowledgement in an established connection. `whole` says that
    /// it is not a fragment.
    pub(super) fn follow_segment(
        &mut self,
        slot: u32,
        direction: Direction,
        segment: &Segment,
        whole: bool,
    ) -> Tracked {
        let Some(tcp) = &mut self.tcp(slot) else {
            return Tracked::Quiet;
        };
        if let Some(measured) = self.state.for_measured {
            (measured.segment)(self, slot, direction, segment);
        }
        if segment.has(RST) {
            return self.follow_reset(slot, tcp, direction, segment);
        }
        let before = tcp.phase;
        let alive = tcp.follow(direction, segment, whole);
        // The client's SYN came before the RST that ended the connection, and now the server answers it.
        if before == Phase::TimeWait && alive && segment.has(SYN) {
            tcp.replace();
        }
        self.set_tcp(slot, tcp);
        if tcp.phase != before {
            if tcp.phase == Phase::TimeWait {
                self.finish(slot, Closed::Finished);
            }
            self.begin_phase(slot, tcp.phase);
            if before == Phase::TimeWait {
                self.reopen(slot);
            }
        }
        if alive { Tracked::Refreshing } else { Tracked::Quiet }
    }

    /// Counts a connection that was over and is open again, and reports it. No server's entry counts it, because the entry
    /// that it had may be another server's by now.
    #[cold]
    fn reopen(&mut self, slot: u32) {
        let Some(connection) = self.slot_mut(slot) else {
            return;
        };
        connection.member = server::NONE;
        let client = connection.client;
        let hash = self.state.keys.hash_client(client);
        self.count_in(slot, hash, server::NONE);
        self.state.counters.opened = self.state.counters.opened.wrapping_add(1);
        // A re-divert may still want it handed over, and no sweep has waited for it.
        self.state.hand_overs_wanted = true;
    }

    fn follow_reset(&mut self, slot: u32, tcp: &mut Tcp, direction: Direction, segment: &Segment) -> Tracked {
        if tcp.phase.is_over() {
            return Tracked::Quiet;
        }
        match tcp.judge_reset(direction, segment) {
            Reset::Exact => {
                if matches!(tcp.phase, Phase::Opening | Phase::Opened) {
                    tcp.await_another_answer(direction, segment.sequence);
                }
                self.finish(slot, Closed::Reset);
                tcp.phase = Phase::TimeWait;
            }
            Reset::Replaced => tcp.replace(),
            Reset::Refused => tcp.forget_answer(),
            Reset::InFlight if tcp.phase.class() == Class::TcpEstablished => tcp.phase = Phase::Doubtful,
            Reset::Inexact if self.state.config.inexact_reset == InexactReset::Drop => {
                return Tracked::Dropped(Verdict::Drop(DropReason::InexactReset));
            }
            Reset::InFlight | Reset::Elsewhere | Reset::Inexact => return Tracked::Quiet,
        }
        self.set_tcp(slot, tcp);
        self.begin_phase(slot, tcp.phase);
        Tracked::Quiet
    }

    /// Takes note of a UDP datagram or an ICMP echo: the second end may have been heard for the first time. False if the
    /// packet does not refresh the connection: a server that sends from a port that its client has not sent to does not
    /// keep the connection alive by itself (RFC 4787, REQ-6).
    pub(super) fn hear(&mut self, slot: u32, direction: Direction) -> bool {
        let next = match (self.slot(slot).map(|c| c.phase), direction) {
            (Some(Phase::UdpUnconfirmed), Direction::ToClient) => return false,
            (Some(Phase::UdpUnanswered), Direction::ToClient) | (Some(Phase::UdpUnconfirmed), Direction::ToServer) => {
                Phase::UdpAnswered
            }
            (Some(Phase::IcmpUnanswered), Direction::ToClient) => Phase::IcmpAnswered,
            _ => return true,
        };
        self.set_phase(slot, next);
        true
    }

    /// Does what the configuration asks for beyond rewriting addresses: measuring, and a new identification.
    pub(super) fn do_extras(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>) {
        if let Some(measured) = self.state.for_measured {
            (measured.packet)(self, slot, direction, parts.header);
        }
        self.state.identify(parts);
    }
}
