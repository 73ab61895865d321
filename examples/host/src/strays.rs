//! Segments of servers whose connections nobody knows after a crash.
//!
//! A rule that keeps the source has replies go to the client's own address. Where their connection is known they get the original's
//! address; else nothing tells them from those of a client that talks to the server itself, and these pass. When a process starts
//! without the connections of the one before, the servers still send what is on its way. A client that gets it from an
//! address that it has not asked answers with a RST, which ends a connection that its next segment could have brought back. So for a
//! while such segments do not leave. Who talks to a server itself has to wait for as long, as if segments were lost, unless its
//! connection begins in that time: its SYN+ACK shows that.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::{HashMap, HashSet};

use byway::{Instant, Match, Midstream, Prefix, Protocol, Storage, Target, Translator};

use crate::packet;
use crate::policy::Policies;

/// How many connections between clients and servers themselves are known at most.
const MET: usize = 16_384;

/// Which segments do not leave for now. By default all may.
#[derive(Debug, Default)]
pub struct Strays {
    until: Option<Instant>,
    /// The servers of rules that keep the source and fail closed, by their addresses.
    servers: HashMap<Ipv4Addr, Vec<Hidden>>,
    /// The table's generation that these were made from.
    generation: Option<u32>,
    /// Servers and clients that have begun to talk to each other since.
    met: HashSet<(SocketAddrV4, SocketAddrV4)>,
}

/// A server that clients know by another address.
#[derive(Clone, Copy, Debug)]
struct Hidden {
    port: Option<u16>,
    clients: Prefix,
}

impl Strays {
    /// Stray segments do not leave until then.
    #[must_use]
    pub fn until(until: Instant) -> Self {
        Self { until: Some(until), ..Self::default() }
    }

    /// Forgets the rules, since others fail open now.
    pub const fn forget(&mut self) {
        self.generation = None;
    }

    /// Whether a packet that belongs to no connection is one of them: not if a rule lets it pass. `open` has the rules that
    /// fail open.
    pub fn include<S: Storage>(
        &mut self,
        now: Instant,
        packet: &[u8],
        translator: &Translator<S>,
        (open, policies): (&HashSet<Match>, &Policies),
    ) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        if now >= until {
            *self = Self::default();
            return false;
        }
        let Some((server, client, flags)) = packet::segment(packet) else {
            return false;
        };
        self.follow(translator, open);
        let hidden = self.servers.get(server.ip()).into_iter().flatten();
        let is_its = |one: &Hidden| {
            one.port.is_none_or(|port| port == server.port()) && one.clients.contains(*client.ip())
        };
        if !hidden.copied().any(|one| is_its(&one)) {
            return false;
        }
        match flags & (packet::SYN | packet::ACK) {
            // The server itself asks somebody.
            packet::SYN => false,
            0 | packet::ACK => !self.met.contains(&(server, client)) && policies.of_rule(packet).is_none(),
            _ => {
                if self.met.len() < MET {
                    self.met.insert((server, client));
                }
                false
            }
        }
    }

    /// Follows the translator, whose rules may have changed by an instruction.
    fn follow<S: Storage>(&mut self, translator: &Translator<S>, open: &HashSet<Match>) {
        if self.generation.replace(translator.generation()) == Some(translator.generation()) {
            return;
        }
        self.servers.clear();
        for rule in translator.diverts() {
            let matches = rule.matches();
            let is_tcp = matches.limited_to().is_none_or(|protocol| protocol == Protocol::Tcp);
            let passes = rule.midstream() == Some(Midstream::Pass) || open.contains(&matches);
            if !(is_tcp && rule.keeps_source()) || passes {
                continue;
            }
            for (server, _) in rule.servers() {
                let (address, port) = match server.target {
                    // It answers with the address that its client knows.
                    Target::Same => continue,
                    Target::Address(address) => (address, matches.port()),
                    Target::Endpoint(endpoint) => (*endpoint.ip(), Some(endpoint.port())),
                };
                self.servers.entry(address).or_default().push(Hidden { port, clients: matches.from_clients() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use byway::{Config, Divert, Heap, Weighted};

    use super::*;
    use crate::packet::put;
    use crate::packet::tests::{tcp, udp};

    const CLIENT: [u8; 4] = [1, 2, 3, 4];
    const NOW: Instant = Instant::from_secs(10);
    const UNTIL: Instant = Instant::from_secs(130);

    fn translator(rule: &str) -> Translator<Heap> {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(64, 16)).unwrap();
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
        translator
    }

    /// From a server's port to a client's.
    fn segment(server: [u8; 4], port: u16, client: u16, flags: u8) -> Vec<u8> {
        let mut packet = tcp(server, CLIENT, &[7; 9]);
        put(&mut packet, 20, port);
        put(&mut packet, 22, client);
        packet[33] = flags;
        packet
    }

    #[test]
    fn servers_that_clients_know_by_another_address_say_nothing_for_a_while() {
        let closed = "100.1.1.1:80 tcp from 1.0.0.0/8 to 20.0.0.1:8080, 20.0.0.2 keep-source";
        let (server, other) = ([20, 0, 0, 1], [20, 0, 0, 2]);
        for (rule, open, hides) in [
            (closed, "", true),
            ("100.1.1.1 to 20.0.0.1:8080, 20.0.0.2:80 keep-source midstream adopt", "", true),
            (closed, "100.1.1.1:80 tcp from 1.0.0.0/8", false),
            ("100.1.1.1:80 tcp to 20.0.0.1:8080, 20.0.0.2 keep-source midstream pass", "", false),
            ("100.1.1.1:80 udp to 20.0.0.1:8080, 20.0.0.2 keep-source", "", false),
            ("100.1.1.1:80 tcp from 9.0.0.0/8 to 20.0.0.1:8080, 20.0.0.2 keep-source", "", false),
            ("100.1.1.1:80 tcp to 20.0.0.1:8080, 20.0.0.2", "", false),
            ("20.0.0.0/24 to same keep-source", "", false),
        ] {
            let translator = translator(rule);
            let open: HashSet<Match> = open.parse().into_iter().collect();
            let mut strays = Strays::until(UNTIL);
            let mut are = |packet: &[u8], now| strays.include(now, packet, &translator, (&open, &Policies::default()));
            for flags in [16, 24, 17, 4, 20] {
                assert_eq!(are(&segment(server, 8080, 1000, flags), NOW), hides, "{rule}: {flags}");
                assert_eq!(are(&segment(other, 80, 1000, flags), NOW), hides, "{rule}: {flags}");
                assert!(!are(&segment(server, 80, 1000, flags), NOW), "{rule}: of another port");
            }
            assert!(!are(&segment(server, 8080, 1000, 2), NOW) && !are(&udp(server, CLIENT, &[]), NOW));
            // A client talks to the server itself.
            assert!(!are(&segment(server, 8080, 2000, 18), NOW) && !are(&segment(server, 8080, 2000, 16), NOW));
            assert_eq!(are(&segment(server, 8080, 2001, 16), NOW), hides);
            assert!(!are(&segment(server, 8080, 1000, 16), UNTIL), "{rule}: it is over");
            assert!(!are(&segment(server, 8080, 1000, 16), NOW), "{rule}: for good");
        }
        assert!(!Strays::default().include(NOW, &segment(server, 8080, 1, 16), &translator(closed), (&HashSet::new(), &Policies::default())));
    }

    #[test]
    fn rules_of_instructions_are_followed_and_memory_is_bounded() {
        let mut strays = Strays::until(UNTIL);
        let rules = (&HashSet::new(), &Policies::default());
        let mut translator = translator("100.1.1.1:80 tcp to 20.0.0.1 keep-source");
        let packet = segment([20, 0, 0, 9], 80, 1000, 16);
        assert!(!strays.include(NOW, &packet, &translator, rules));
        let new = Divert::new(Ipv4Addr::new(100, 1, 1, 2)).to(Ipv4Addr::new(20, 0, 0, 9)).keep_source();
        translator.divert(new).unwrap();
        assert!(strays.include(NOW, &packet, &translator, rules));
        for client in 0..=u16::MAX {
            assert!(!strays.include(NOW, &segment([20, 0, 0, 9], 80, client, 18), &translator, rules));
        }
        assert_eq!(strays.met.len(), MET);
    }
}
