//! ICMP errors: they follow the packet that they quote (RFC 5508, section 4).

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::table::connection::ConnectionSlot;
use crate::translator::state::{Followed, Table};
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::{Checksums, Delta};
use crate::wire::flow::Flow;
use crate::wire::ipv4::Parts;
use crate::wire::quote;
use crate::wire::rewrite::{self, Change};

impl Table<'_> {
    /// Translates an ICMP error about a packet of a connection. An error never opens, closes or refreshes a connection.
    #[inline(never)]
    pub(super) fn icmp_error(&mut self, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        let ours = self.state.is_alternative(flow.destination);
        if !ours && !self.state.filter.may_hold(flow.destination) && self.state.kept == 0 {
            return Verdict::Pass;
        }
        let quoted = match quote::read_quoted(parts.payload) {
            Ok(Some(quoted)) => quoted,
            Ok(None) => return self.pass_or_drop(flow, DropReason::IcmpUnrelated),
            Err(reason) => return Verdict::Drop(reason),
        };
        // An error goes to the sender of the packet that it is about. One that goes elsewhere is an attempt to have an
        // address that it quotes translated (CVE-2019-5598).
        if quoted.source != flow.destination {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        }
        if crate::wire::ipv4::is_martian(flow.source) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.state.is_own(flow.source) {
            return Verdict::Drop(DropReason::OwnSource);
        }
        let near = Endpoint::new(quoted.source, quoted.source_port);
        // An answer to the quoted packet goes in the same direction as the error.
        let answer = Flow {
            source: quoted.destination,
            source_port: quoted.destination_port,
            destination: quoted.source,
            destination_port: quoted.source_port,
            protocol: quoted.protocol,
            shape: flow.shape,
        };
        for direction in Direction::both().rev() {
            let slot = self.find_for(&answer, direction);
            if let Some(slot) = slot.filter(|slot| self.is_listed(*slot)) {
                return self.error_along(slot, direction, parts, flow);
            }
        }
        // Where such an answer must not show its source, neither must the error, because it quotes that address.
        if self.state.gives_away(near) || self.hides_source(&answer) {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        }
        self.pass_or_drop(flow, DropReason::IcmpUnrelated)
    }

    fn is_listed(&self, slot: u32) -> bool {
        self.slot(slot).is_some_and(|c| c.phase.is_listed()) && !self.is_dead(slot)
    }

    /// Handles an error that goes in this direction, about a packet of this connection that went in the other: it
    /// quotes that packet as its sender sent it. An error to the server reveals nothing about the client behind the
    /// alternative address (RFC 5508, REQ-5).
    fn error_along(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.follow_rediverts(slot) {
            Followed::Stranded => return Verdict::Drop(DropReason::NoPort),
            Followed::Home => return Verdict::Drop(DropReason::IcmpUnrelated),
            Followed::Moved if direction == Direction::ToClient => return Verdict::Drop(DropReason::OldServer),
            Followed::Moved | Followed::Stayed | Followed::Reset => {}
        }
        let Some(ConnectionSlot(c)) = self.memory.connections.get(slot as usize) else {
            return Verdict::Drop(DropReason::IcmpUnrelated);
        };
        let (near, far) = c.ends(direction);
        let (network, transport) = c.deltas();
        let change = Change {
            source: far.address,
            destination: near.address,
            source_port: far.port,
            destination_port: near.port,
            network: network.along(direction),
            transport: transport.along(direction),
        };
        // An error from the server itself appears to come from the original, and one towards an address of ours (an
        // alternative, or the original of a port forward) from that: who is behind it is hidden. One from a router
        // elsewhere keeps the router's address.
        let hides = flow.source == c.server || self.state.is_own(near.address);
        let source = if hides { near.address } else { flow.source };
        quote::requote(parts.payload, c.protocol, &change);
        if let Some(resumable) = self.for_resumable(slot) {
            (resumable.requote)(self, slot, direction, parts.payload);
        }
        let delta = match self.state.config.checksums {
            Checksums::Software => Delta::of([flow.source, flow.destination], [source, far.address]),
            Checksums::Hardware => Delta(0),
        };
        rewrite::network(parts.header, source, far.address, delta);
        self.state.identify(parts);
        if let Some(measured) = self.state.for_measured {
            (measured.icmp_error)(self, slot, direction, parts);
        }
        Verdict::carried(direction)
    }
}
