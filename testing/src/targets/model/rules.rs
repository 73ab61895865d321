//! The divert table as a plain list: the most specific rule decides.

use core::cmp::Reverse;
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Match, Midstream, Prefix, Protocol, Redivert, Target, Weighted};

use super::{Flow, Place};

#[derive(Clone, Debug)]
pub struct Rule {
    pub matches: Match,
    pub targets: Vec<Weighted>,
    pub keep_source: bool,
    pub siblings: bool,
    pub midstream: Option<Midstream>,
}

#[derive(Debug, Default)]
pub struct Rules {
    pub list: Vec<Rule>,
    /// Which server of which rule each client was given, since the rule was last changed.
    choices: Vec<(Match, Ipv4Addr, Ipv4Addr, Target)>,
}

/// Addresses that no packet may come from: this network, loopback, link-local, multicast, reserved, broadcast.
pub fn is_martian(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 0 || a == 127 || a >= 224 || (a, b) == (169, 254)
}

impl Rule {
    pub fn port(&self) -> Option<u16> {
        self.matches.port()
    }

    pub fn is_host(&self) -> bool {
        self.matches.destination().length() == 32
    }

    /// Whether it keeps source and destination: what it matches passes.
    pub fn is_exception(&self) -> bool {
        self.keep_source && matches!(self.targets.as_slice(), [Weighted { target: Target::Same, .. }])
    }

    /// Whether it replaces the source and nothing else: what it matches is translated or dropped.
    pub fn masquerades(&self) -> bool {
        !self.keep_source && self.targets.iter().all(|t| t.target == Target::Same)
    }

    /// The longest destination prefix, then a port rather than none, then a protocol rather than none, then the
    /// longest client prefix.
    fn rank(&self) -> impl Ord + use<> {
        let m = self.matches;
        Reverse((m.destination().length(), m.port().is_some(), m.limited_to().is_some(), m.from_clients().length()))
    }

    /// A packet without a protocol is of one that no rule names, and has no ports.
    fn admits(&self, protocol: Option<Protocol>, client: Ipv4Addr, destination: SocketAddrV4) -> bool {
        let m = self.matches;
        let has_ports = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
        m.destination().contains(*destination.ip())
            && m.port().is_none_or(|port| has_ports && port == destination.port())
            && m.limited_to().is_none_or(|p| protocol == Some(p))
            && m.from_clients().contains(client)
    }

    /// Whether one of its servers is this one, for a packet to that destination.
    pub fn leads_to(&self, protocol: Protocol, destination: SocketAddrV4, server: SocketAddrV4) -> bool {
        self.targets.iter().any(|t| resolve(t.target, protocol, destination) == server)
    }
}

/// The server that a target is for a packet to this destination. ICMP echo has no port; what stands in its place, the
/// identifier of a reply, no rule changes.
pub fn resolve(target: Target, protocol: Protocol, destination: SocketAddrV4) -> SocketAddrV4 {
    let server = match target {
        Target::Same => destination,
        Target::Address(address) => SocketAddrV4::new(address, destination.port()),
        Target::Endpoint(endpoint) => endpoint,
    };
    if protocol == Protocol::Icmp { SocketAddrV4::new(*server.ip(), destination.port()) } else { server }
}

pub fn place(target: Target) -> Option<Place> {
    match target {
        Target::Same => None,
        Target::Address(address) => Some(Place { address, port: None }),
        Target::Endpoint(endpoint) => Some(Place { address: *endpoint.ip(), port: Some(endpoint.port()) }),
    }
}

impl Rules {
    /// Enters a rule, or replaces the one with the same match. True if there was one.
    pub fn divert(&mut self, rule: Rule) -> bool {
        self.choices.retain(|c| c.0 != rule.matches);
        let known = self.list.iter().position(|r| r.matches == rule.matches);
        match known {
            Some(at) => self.list[at] = rule,
            None => self.list.push(rule),
        }
        known.is_some()
    }

    pub fn remove(&mut self, matches: Match) -> bool {
        self.choices.retain(|c| c.0 != matches);
        let before = self.list.len();
        self.list.retain(|r| r.matches != matches);
        self.list.len() != before
    }

    pub fn find(&self, protocol: Option<Protocol>, client: Ipv4Addr, destination: SocketAddrV4) -> Option<&Rule> {
        self.list.iter().filter(|r| r.admits(protocol, client, destination)).min_by_key(|r| r.rank())
    }

    /// Whether some rule names exactly this address and port, for any client.
    pub fn forward(&self, protocol: Protocol, endpoint: SocketAddrV4) -> bool {
        self.list.iter().any(|r| {
            r.matches.destination() == Prefix::host(*endpoint.ip())
                && r.port() == Some(endpoint.port())
                && r.matches.limited_to().is_none_or(|p| p == protocol)
        })
    }

    /// Whether some rule may match packets to this address.
    pub fn speak_of(&self, destination: Ipv4Addr) -> bool {
        self.list.iter().any(|r| r.matches.destination().contains(destination))
    }

    /// Points every rule that points at `from` at `to`. An address without port stands for all of its ports, and as
    /// `to` keeps the port. Returns how many servers of rules that were.
    pub fn redivert(&mut self, from: Target, to: Target, _how: Redivert) -> usize {
        let old = place(from).expect("a server");
        let mut count = 0;
        for rule in &mut self.list {
            for weighted in &mut rule.targets {
                let within = match weighted.target {
                    Target::Same => false,
                    Target::Address(address) => old.address == address && old.port.is_none(),
                    Target::Endpoint(endpoint) => old.holds(endpoint),
                };
                if within {
                    count += 1;
                    weighted.target = match (weighted.target, to) {
                        (Target::Endpoint(e), Target::Address(a)) => Target::Endpoint(SocketAddrV4::new(a, e.port())),
                        _ => to,
                    };
                }
            }
        }
        // Clients of the old server are now on the new one, and no other client's server has changed.
        self.choices.clear();
        count
    }

    /// A client keeps to its server as long as its rule does not change.
    pub(super) fn check_choice(&mut self, rule: &Rule, client: Ipv4Addr, flow: Flow, server: SocketAddrV4) {
        let leads = |t: Target| resolve(t, flow.protocol, flow.destination) == server;
        let mut fitting = rule.targets.iter().filter(|t| leads(t.target));
        let (Some(chosen), None) = (fitting.next(), fitting.next()) else {
            return;
        };
        assert!(chosen.weight != 0 || rule.targets.len() == 1, "a server without weight was chosen");
        let original = *flow.destination.ip();
        let before = self.choices.iter().find(|c| c.0 == rule.matches && c.1 == client && c.2 == original);
        match before {
            Some(before) => assert!(leads(before.3), "the client was given another server of the group"),
            None => self.choices.push((rule.matches, client, original, chosen.target)),
        }
    }
}
