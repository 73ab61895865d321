//! The naming server of the process: one table for all shards, and a TCP stack for what comes to port 53 over TCP.
//!
//! Packets of all shards come here if they may be about names, and few are. So they share one lock, and no other packet
//! pays for it.

mod change;
mod relay;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway::naming::{Answered, HeapNames, MAX_ANSWER_PACKET, Names, Outcome};
use byway::{Heap, Instant, Prefix, Protocol, Target, Translator};

pub use change::NameChanges;
use relay::Relay;

use crate::config::NamesSection;
use crate::packet::{self, TCP, UDP};
use crate::segment;
use crate::vnet::VnetHeader;

/// Where DNS servers listen (RFC 1035, section 4.2).
const DNS: u16 = 53;
/// For how many networks of clients the rate of answers is counted apart.
const RATES: usize = 4096;
/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// The naming server.
#[derive(Debug)]
pub struct Naming {
    servers: Prefix,
    address: Ipv4Addr,
    capacity: usize,
    /// When the TCP stack wants to be looked after, in microseconds.
    due: AtomicU64,
    state: Mutex<State>,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct State {
    /// The names.
    pub names: Names<HeapNames>,
    relay: Relay,
}

/// What has become of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    /// It goes on its way.
    Pass,
    /// It is done with, and these packets are to be sent.
    Done(Vec<Vec<u8>>),
    /// It stood for several: the first are to be sent, and the others go on their way.
    Split(Vec<Vec<u8>>, Vec<Vec<u8>>),
}

impl Naming {
    /// A naming server without names. What it relays comes from `router` unless it has an address of its own.
    #[must_use]
    pub fn new(section: &NamesSection, secret: [u8; 32], router: Ipv4Addr, mtu: u16) -> Self {
        let address = section.address.unwrap_or(router);
        let names = Names::new(section.config(secret), HeapNames::new(section.capacity, RATES));
        let seed = secret.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let state = State { names, relay: Relay::new(address, mtu, seed) };
        Self { servers: section.servers, address, capacity: section.capacity, due: AtomicU64::new(NEVER), state: Mutex::new(state) }
    }

    /// How many entries there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// The names and the stack. Whoever needs routers as well borrows these first: a shard may wait for the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the table whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a packet may be about names: few are, and all others pay for this alone.
    #[inline]
    #[must_use]
    pub fn concerns(&self, packet: &[u8]) -> bool {
        let protocol = packet::protocol(packet);
        if !matches!(protocol, TCP | UDP) {
            return false;
        }
        let is_from = |port| packet::source_port(packet) == Some(port);
        let is_query =
            packet::destination_port(packet) == Some(DNS) && self.servers.contains(packet::destination(packet));
        is_query || (protocol == TCP && packet::destination(packet) == self.address && is_from(DNS))
    }

    /// Takes a packet that may be about names.
    pub fn take(&self, now: Instant, header: &VnetHeader, packet: &[u8], translator: &Translator<Heap>) -> Named {
        let mut parts = Vec::new();
        let is_split = segment::split(header, packet, |part| parts.push(part.to_vec()));
        if !is_split {
            let mut whole = packet.to_vec();
            if !segment::complete(header, &mut whole) {
                return Named::Pass;
            }
            parts.push(whole);
        }
        let mut state = self.lock();
        let (mut out, mut passed) = (Vec::new(), Vec::new());
        for part in parts {
            if packet::protocol(&part) == UDP {
                let mut answer = vec![0; MAX_ANSWER_PACKET];
                match state.names.intercept(now, &part, &mut answer) {
                    Answered::Answer { length } => {
                        answer.truncate(length);
                        out.push(answer);
                    }
                    Answered::Drop(_) => {}
                    Answered::Pass => passed.push(part),
                }
            } else {
                state.relay.receive(part);
            }
        }
        self.work(now, &mut state, translator, &mut out);
        match (is_split, passed.is_empty()) {
            (_, true) => Named::Done(out),
            (true, false) => Named::Split(out, passed),
            (false, false) => Named::Pass,
        }
    }

    /// Does what time brings; returns packets to send.
    pub fn poll(&self, now: Instant, translator: &Translator<Heap>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.due.load(Ordering::Relaxed) <= now.as_micros() {
            self.work(now, &mut self.lock(), translator, &mut out);
        }
        out
    }

    /// When to poll at the latest.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let due = self.due.load(Ordering::Relaxed);
        (due != NEVER).then(|| Instant::from_micros(due))
    }

    fn work(&self, now: Instant, state: &mut State, translator: &Translator<Heap>, out: &mut Vec<Vec<u8>>) {
        let State { names, relay } = state;
        relay.work(now, names, |client, server| server_of(translator, client, server));
        out.extend(relay.packets());
        self.due.store(relay.due(now).map_or(NEVER, Instant::as_micros), Ordering::Relaxed);
    }

    /// What has become of queries, and of those of TCP.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let counters = state.names.counters();
        let mut outcomes: Vec<_> = Outcome::ALL.iter().map(|o| (o.name(), counters.of(*o))).collect();
        outcomes.push(("proven", counters.proven));
        let relay = state.relay.counts();
        Counts { entries: state.names.len(), outcomes, relay, connections: state.relay.connections() }
    }
}

/// What the naming server has done.
#[derive(Clone, Debug)]
pub struct Counts {
    /// How many entries there are now.
    pub entries: usize,
    /// What has become of queries, and at last how many had a valid cookie.
    pub outcomes: Vec<(&'static str, u64)>,
    /// What has become of TCP connections, with what that means.
    pub relay: [(&'static str, u64); 4],
    /// How many clients are connected now.
    pub connections: usize,
}

/// Where a client's query for other names is relayed to: the server that it asked, or the one that a rule leads it to. `None`
/// if the client asked this machine itself, and no rule leads on from there.
fn server_of(translator: &Translator<Heap>, client: Ipv4Addr, server: Ipv4Addr) -> Option<SocketAddrV4> {
    let rules = translator.diverts().filter(|rule| {
        let matches = rule.matches();
        matches.destination().contains(server)
            && matches.port().is_none_or(|port| port == DNS)
            && matches.limited_to().is_none_or(|protocol| protocol == Protocol::Tcp)
            && matches.from_clients().contains(client)
    });
    // The most specific one, as for packets.
    let rule = rules.max_by_key(|rule| {
        let matches = rule.matches();
        let lengths = (matches.destination().length(), matches.from_clients().length());
        (lengths.0 == 32 && matches.port().is_some(), lengths.0, matches.port().is_some(), lengths.1)
    });
    let target = rule.and_then(|rule| {
        let mut servers = rule.servers().map(|(server, _)| server).filter(|server| server.weight != 0);
        servers.next().map(|server| server.target)
    });
    match target {
        None | Some(Target::Same) => (!translator.is_own(server)).then(|| SocketAddrV4::new(server, DNS)),
        Some(Target::Address(address)) => Some(SocketAddrV4::new(address, DNS)),
        Some(Target::Endpoint(endpoint)) => Some(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway::{Config, Divert, Weighted};

    /// A query over TCP goes where the client's packets would have gone.
    #[test]
    fn rules_lead_queries_on() {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own([10, 9, 9, 9].into());
        let mut translator = Translator::new(config, Heap::new(16, 16)).unwrap();
        let to = |translator: &Translator<Heap>, client: &str, server: &str| {
            server_of(translator, client.parse().unwrap(), server.parse().unwrap()).map(|to| to.to_string())
        };
        assert_eq!(to(&translator, "1.2.3.4", "9.9.9.53"), Some("9.9.9.53:53".into()));
        assert_eq!(to(&translator, "1.2.3.4", "10.9.9.9"), None);
        for rule in [
            "9.9.0.0/16 to 20.0.0.1",
            "9.9.9.53 udp to 20.0.0.2",
            "9.9.9.53:80 to 20.0.0.3",
            "9.9.9.53:53 from 1.0.0.0/8 to 20.0.0.4:5353*0, 20.0.0.5:5353",
            "9.9.8.1 to same",
            "10.9.9.9:53 to 20.0.0.6",
        ] {
            let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
            translator.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
        }
        for (client, server, expected) in [
            ("1.2.3.4", "9.9.9.53", "20.0.0.5:5353"),
            ("2.2.3.4", "9.9.9.53", "20.0.0.1:53"),
            ("1.2.3.4", "9.9.8.1", "9.9.8.1:53"),
            ("1.2.3.4", "9.8.1.1", "9.8.1.1:53"),
            ("1.2.3.4", "10.9.9.9", "20.0.0.6:53"),
        ] {
            assert_eq!(to(&translator, client, server).as_deref(), Some(expected), "{client} asks {server}");
        }
    }
}
