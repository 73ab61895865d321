//! ICMP errors: they follow the packet that they quote (RFC 5508, section 4).

use super::moving::CaughtUp;
use super::state::Table;
use crate::config::Checksums;
use crate::table::hash::Key;
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::Delta;
use crate::wire::flow::Flow;
use crate::wire::icmp::{self, Quoted, Requote};
use crate::wire::ipv4::Parts;
use crate::wire::rewrite::Change;

impl Table<'_> {
    /// Translates an ICMP error about a packet of a connection. It never begins, ends or prolongs one.
    pub(crate) fn icmp_error(&mut self, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        let ours = self.state.is_alternative(flow.destination);
        if !ours && !self.state.filter.may_hold(flow.destination) && self.state.kept == 0 {
            return self.state.pass();
        }
        let quoted = match icmp::read_quoted(parts.payload) {
            Ok(Some(quoted)) => quoted,
            Ok(None) => return self.state.pass(),
            Err(reason) => return self.state.drop(reason),
        };
        // An error goes to the sender of the packet that it is about. One that goes to somebody else is a trick to get
        // an address translated that it quotes (CVE-2019-5598).
        if quoted.source != flow.destination {
            return self.state.drop(DropReason::IcmpUnrelated);
        }
        if crate::wire::ipv4::is_martian(flow.source) {
            return self.state.drop(DropReason::MartianSource);
        }
        if self.state.is_own(flow.source) {
            return self.state.drop(DropReason::OwnSource);
        }
        let near = (quoted.source, quoted.source_port);
        let far = (quoted.destination, quoted.destination_port);
        if let Some(slot) = self.find_back(Key::new(quoted.protocol, near, far)).filter(|s| self.is_listed(*s)) {
            return self.error_to_client(slot, parts, flow);
        }
        if let Some(slot) = self.find_there(Key::new(quoted.protocol, far, near)).filter(|s| self.is_listed(*s)) {
            return self.error_to_server(slot, parts, flow);
        }
        if self.state.gives_away(near) { self.state.drop(DropReason::IcmpUnrelated) } else { self.state.pass() }
    }

    fn is_listed(&self, slot: u32) -> bool {
        self.slot(slot).is_some_and(|c| c.phase.is_listed()) && !self.is_dead(slot)
    }

    /// An error about a packet of the client: it goes to the client, and quotes what the client sent.
    fn error_to_client(&mut self, slot: u32, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.catch_up(slot) {
            CaughtUp::Stranded => return self.state.drop(DropReason::NoPort),
            CaughtUp::Home => return self.state.drop(DropReason::IcmpUnrelated),
            CaughtUp::Moved => return self.state.drop(DropReason::OldServer),
            CaughtUp::Stayed | CaughtUp::Reset => {}
        }
        let Some(&c) = self.slot(slot) else {
            return self.state.drop(DropReason::IcmpUnrelated);
        };
        let (network, transport) = c.deltas();
        let requote = Requote {
            quoted: Quoted {
                source: c.client,
                destination: c.original,
                source_port: c.client_port,
                destination_port: c.original_port,
                protocol: c.protocol,
            },
            network: network.reversed(),
            transport: transport.reversed(),
            ports: c.ports_delta().reversed(),
        };
        // From the server itself it seems to come from the original; from a router on the way it comes from that.
        let source = if flow.source == c.server { c.original } else { flow.source };
        self.rewrite_error(slot, parts, &requote, (source, c.client), flow);
        self.state.counters.to_client = self.state.counters.to_client.wrapping_add(1);
        Verdict::ToClient
    }

    /// An error about a packet of the server: it goes to the server, quotes what the server sent, and tells nothing of
    /// who is behind the alternative address (RFC 5508, REQ-5).
    fn error_to_server(&mut self, slot: u32, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.catch_up(slot) {
            CaughtUp::Stranded => return self.state.drop(DropReason::NoPort),
            CaughtUp::Home => return self.state.drop(DropReason::IcmpUnrelated),
            CaughtUp::Stayed | CaughtUp::Moved | CaughtUp::Reset => {}
        }
        let Some(&c) = self.slot(slot) else {
            return self.state.drop(DropReason::IcmpUnrelated);
        };
        let (network, transport) = c.deltas();
        let requote = Requote {
            quoted: Quoted {
                source: c.server,
                destination: c.alternative,
                source_port: c.server_port,
                destination_port: c.alternative_port,
                protocol: c.protocol,
            },
            network,
            transport,
            ports: c.ports_delta(),
        };
        self.rewrite_error(slot, parts, &requote, (c.alternative, c.server), flow);
        self.state.counters.to_server = self.state.counters.to_server.wrapping_add(1);
        Verdict::ToServer
    }

    fn rewrite_error(
        &mut self,
        slot: u32,
        parts: &mut Parts<'_>,
        requote: &Requote,
        (source, destination): (u32, u32),
        outer: &Flow,
    ) {
        icmp::requote(parts.payload, requote);
        let network = match self.state.config.checksums {
            Checksums::Software => Delta::of([outer.source, outer.destination], [source, destination]),
            Checksums::Hardware => Delta(0),
        };
        Change { source, destination, source_port: 0, destination_port: 0, network, transport: Delta(0) }
            .network(parts.header);
        if let Some(measure) = self.memory.measured.get_mut(slot as usize) {
            measure.count_icmp_error();
        }
    }
}
