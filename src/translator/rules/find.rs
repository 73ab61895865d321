//! The rule for a packet, the server that it chooses for a client, and what must not pass where there is none.

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::table::connection::{Entry, SERVER_COUNTED};
use crate::table::hash::{Key, Label};
use crate::table::rendezvous::Rendezvous;
use crate::table::rule::{self, DivertSlot, servers_of};
use crate::table::server::{self, ServerSlot};
#[cfg(target_pointer_width = "64")]
use crate::translator::rules::indexed::forwards;
use crate::translator::state::{HIDES_SERVERS, Table};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::Flow;
use crate::wire::ipv4::{self, ICMP};

impl Table<'_> {
    /// The verdict for a packet that belongs to no connection and opens none.
    pub(in crate::translator) fn pass_or_drop(&mut self, flow: &Flow, reason: DropReason) -> Verdict {
        if self.hides_source(flow) { Verdict::Drop(reason) } else { Verdict::Pass }
    }

    /// Whether a packet must not leave with the source that it has.
    pub(in crate::translator) fn hides_source(&self, flow: &Flow) -> bool {
        match self.rule_for(flow) {
            Some(rule) => rule.masquerades(),
            None => self.shows_server(flow),
        }
    }

    /// Whether the packet would show the address of a server whose client knows another one: it belongs to a connection
    /// that kept its source and has ended, or comes from a server of a port forward that keeps the source.
    ///
    /// For packets from the address of such a server the work grows with the number of port forwards of this kind, in a
    /// small storage with the number of rules.
    pub(in crate::translator) fn shows_server(&self, flow: &Flow) -> bool {
        // The machine itself may talk to its servers, and there are no connections with a multicast group.
        if self.state.kept == 0 || self.state.is_own(flow.destination) || ipv4::is_martian(flow.destination) {
            return false;
        }
        if self.quarantined(&Key::of(flow, Direction::ToClient)).is_some() {
            return true;
        }
        if self.state.kept & HIDES_SERVERS == 0 || !self.may_hide(flow.source) {
            return false;
        }
        for rule in self.rules_that_may_hide() {
            if !rule.hides_servers() || !rule.admits(flow.protocol, flow.destination) {
                continue;
            }
            let mut entry = server::meant(self.memory.servers, rule.servers);
            while entry != server::NONE
                && let Some(server) = self.memory.servers.get(usize::from(entry))
            {
                if server.resolve(Endpoint::new(0, rule.port_or_zero())) == flow.source_endpoint() {
                    return true;
                }
                entry = server.next;
            }
        }
        false
    }

    /// Whether some rule may hide the servers with this address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn may_hide(&self, server: u32) -> bool {
        #[cfg(target_pointer_width = "64")]
        if let Some(index) = self.rule_index() {
            return index.may_hide(server);
        }
        self.state.filter.may_be_near(server)
    }

    /// The rules that include all those that hide their servers.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn rules_that_may_hide(&self) -> &[DivertSlot] {
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            return self.rules().get(..self.state.directory.apart()).unwrap_or_default();
        }
        self.rules()
    }

    /// The rule for a packet that begins a connection.
    pub(in crate::translator) fn rule_for(&self, flow: &Flow) -> Option<&DivertSlot> {
        let destination = flow.destination_endpoint();
        let rule = self.find_rule(flow.protocol, flow.source, destination)?;
        if !self.may_match(rule, flow.destination) {
            return None;
        }
        // A packet to a port that is given to connections is an answer to a client, unless a rule names that very port.
        if !rule.has_port() && flow.protocol != ICMP && self.state.gives_away(destination) {
            return None;
        }
        Some(rule)
    }

    /// Whether a rule that was found may match this destination: one for a prefix does not match this machine, nor
    /// addresses that are no host (multicast, broadcast, loopback).
    #[inline(always)]
    pub(in crate::translator) fn may_match(&self, rule: &DivertSlot, destination: u32) -> bool {
        rule.host().is_some() || !(self.state.is_own(destination) || ipv4::is_martian(destination))
    }

    /// The most specific of the rules for these addresses.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    pub(in crate::translator) fn find_rule(
        &self,
        protocol: u8,
        client: u32,
        destination: Endpoint,
    ) -> Option<&DivertSlot> {
        #[cfg(target_pointer_width = "64")]
        if let Some(index) = self.rule_index() {
            return index.find(self.rules(), protocol, client, destination);
        }
        rule::find(self.rules(), protocol, client, destination)
    }

    /// Whether some rule, for any client, names exactly this address and port.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    pub(in crate::translator) fn forwards(&self, protocol: u8, endpoint: Endpoint) -> bool {
        #[cfg(target_pointer_width = "64")]
        if let Some(index) = self.rule_index() {
            return forwards(index, &self.state.rule_counts, self.rules(), protocol, endpoint);
        }
        rule::forwards(self.rules(), protocol, endpoint)
    }

    /// The server entry of the rule that could have opened this connection, if one describes its server.
    pub(in crate::translator) fn entry_for(&self, new: &Entry) -> u16 {
        let original = new.original_endpoint();
        let Some(rule) = self.find_rule(new.protocol, new.client, original) else {
            return server::NONE;
        };
        let servers = &*self.memory.servers;
        let names = |entry: &u16| servers.get(usize::from(*entry)).is_some_and(|server| describes(server, new));
        servers_of(servers, rule.servers).find(names).unwrap_or(server::NONE)
    }

    /// The server of a rule for a new connection of a client.
    #[inline(always)]
    pub(in crate::translator) fn choose_member(&self, rule: &DivertSlot, client: u32, original: u32) -> Option<u16> {
        if rule.is_least_loaded() {
            core::hint::cold_path();
            return self.least_loaded(rule.servers, client, original);
        }
        self.member_for(rule.servers, client, original)
    }

    /// The server with the lowest (connections + 1) / weight; in a large group, the better of two that are drawn.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn least_loaded(&self, first: u16, client: u32, original: u32) -> Option<u16> {
        let slots = &*self.memory.servers;
        let first = server::meant(slots, first);
        #[cfg(target_pointer_width = "64")]
        if let Some(one) = self.member_of_large_group(first, client, original) {
            let other = self.member_of_large_group(first, !client, original)?;
            let load = |entry: u16| slots.get(usize::from(entry)).map(ServerSlot::load);
            return if is_less_loaded(load(other)?, load(one)?, 0) { Some(other) } else { Some(one) };
        }
        let _ = original;
        let (mut entry, mut best, mut least) = (first, server::NONE, (1, 0));
        while let Some(slot) = slots.get(usize::from(entry)) {
            // Among equals, not every client gets the same one.
            if is_less_loaded(slot.load(), least, client >> (entry & 31) & 1) {
                (best, least) = (entry, slot.load());
            }
            entry = slot.next;
        }
        (best != server::NONE).then_some(best)
    }

    /// The server entry of the rule that could have opened the connection in this slot, if one describes its server.
    pub(in crate::translator) fn entry_of(&self, slot: u32) -> u16 {
        match self.slot(slot) {
            Some(connection) => self.entry_for(connection),
            None => server::NONE,
        }
    }

    /// The server that the connection would get if it were opened now. For this it is not counted on its current
    /// server. `None` if no rule matches.
    pub(in crate::translator) fn server_for(&mut self, slot: u32) -> Option<Endpoint> {
        let connection = self.slot(slot)?;
        let (client, original, stands_on) = (connection.client, connection.original_endpoint(), connection.member);
        let own = u32::from(connection.has(SERVER_COUNTED));
        let rule = *self.find_rule(connection.protocol, client, original)?;
        if let Some(stands_on) = self.servers().get_mut(stands_on) {
            stands_on.connections = stands_on.connections.wrapping_sub(own);
        }
        let member = self.choose_member(&rule, client, original.address);
        if let Some(stands_on) = self.servers().get_mut(stands_on) {
            stands_on.connections = stands_on.connections.wrapping_add(own);
        }
        self.memory.servers.get(usize::from(member?)).map(|server| server.resolve(original))
    }

    /// The server of a rule for a client. A pseudo-random function gives one unpredictable number for client and
    /// original address; a fast hash mixes it with each server, and is not relied on for secrecy. On large processors a
    /// group of more than 32 servers chooses by clusters.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn member_for(&self, first: u16, client: u32, original: u32) -> Option<u16> {
        let first = server::meant(self.memory.servers, first);
        if self.memory.servers.get(usize::from(first))?.next == server::NONE {
            return Some(first);
        }
        #[cfg(target_pointer_width = "64")]
        if let Some(member) = self.member_of_large_group(first, client, original) {
            return Some(member);
        }
        let words = [u64::from(client) << 32 | u64::from(original), 0];
        let (drawn, mut rendezvous, mut entry) =
            (self.state.keys.choose(Label::Server, words), Rendezvous::new(), first);
        while let Some(slot) = self.memory.servers.get(usize::from(entry)) {
            let hash = self.state.keys.hash(&Key { addresses: drawn, ports: slot.seed.into() });
            rendezvous.look(entry.into(), hash, slot.weight().into());
            entry = slot.next;
        }
        rendezvous.best().map(|entry| entry as u16)
    }
}

/// Whether an entry for a server describes the one that a connection has.
pub(in crate::translator) fn describes(server: &ServerSlot, connection: &Entry) -> bool {
    let Endpoint { address, port } = server.resolve(connection.original_endpoint());
    // An ICMP echo has no port of a server.
    let other = if connection.protocol == ICMP { 0 } else { port ^ connection.server_port };
    (address ^ connection.server) | u32::from(other) == 0
}

/// Whether load / weight is less than another, or is equal and preferred. A weight of zero is never less, and any other
/// is less than it.
fn is_less_loaded((load, weight): (u32, u32), (least, of): (u32, u32), preferred: u32) -> bool {
    let (mine, theirs) = (u64::from(load) * u64::from(of), u64::from(least) * u64::from(weight));
    weight != 0 && mine < theirs + u64::from(preferred)
}
