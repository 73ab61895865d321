//! The naming server of the process: one table for all shards, and a TCP stack for what comes to port 53 over TCP.
//!
//! Packets of all shards come here if they may be about names, and few are. So they share one lock, and no other packet
//! pays for it.

mod change;
mod numbers;
mod ports;
mod queues;
mod relay;
mod transfer;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway::naming::{Answered, HeapNames, MAX_ANSWER_PACKET, Names, Outcome};
use byway::{DivertEntry, Heap, Instant, Prefix, Protocol, Target, Translator};

pub use change::NameChanges;
use numbers::Numbers;
use ports::Ports;
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
    /// What relayed queries come from.
    ports: Ports,
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
        let ports = Ports::new();
        let relay = Relay::new(address, ports.clone(), mtu, Numbers::seed());
        let (due, state) = (AtomicU64::new(NEVER), Mutex::new(State { names, relay }));
        Self { servers: section.servers, address, ports, capacity: section.capacity, due, state }
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
        let Some(port) = packet::destination_port(packet) else {
            return false;
        };
        let is_query = port == DNS && self.servers.contains(packet::destination(packet));
        // A rule may lead to a server on any port. What comes late from a usual one is reset.
        let is_relayed = || self.ports.contains(port) || packet::source_port(packet) == Some(DNS);
        is_query || (protocol == TCP && packet::destination(packet) == self.address && is_relayed())
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
        let (mut out, mut passed, mut is_for_stack) = (Vec::new(), Vec::new(), false);
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
                is_for_stack = true;
            }
        }
        // A flood of UDP has no part in what connections cost.
        if is_for_stack || self.is_due(now) {
            self.work(now, &mut state, translator, &mut out);
        }
        match (is_split, passed.is_empty()) {
            (_, true) => Named::Done(out),
            (true, false) => Named::Split(out, passed),
            (false, false) => Named::Pass,
        }
    }

    /// Does what time brings; returns packets to send.
    pub fn poll(&self, now: Instant, translator: &Translator<Heap>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.is_due(now) {
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

    fn is_due(&self, now: Instant) -> bool {
        self.due.load(Ordering::Relaxed) <= now.as_micros()
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
    pub relay: [(&'static str, u64); 5],
    /// How many clients are connected now.
    pub connections: usize,
}

/// Where a client's query for other names is relayed to: the server that it asked, or the one that a rule leads it to. `None`
/// if that is this machine itself.
fn server_of(translator: &Translator<Heap>, client: Ipv4Addr, server: Ipv4Addr) -> Option<SocketAddrV4> {
    let rules = translator.diverts().filter(|rule| {
        let matches = rule.matches();
        matches.destination().contains(server)
            && matches.port().is_none_or(|port| port == DNS)
            && matches.limited_to().is_none_or(|protocol| protocol == Protocol::Tcp)
            && matches.from_clients().contains(client)
    });
    // The most specific one, as for packets.
    let rule = rules.min_by_key(DivertEntry::matches);
    let target = rule.and_then(|rule| {
        let mut servers = rule.servers().map(|(server, _)| server).filter(|server| server.weight != 0);
        servers.next().map(|server| server.target)
    });
    let to = match target {
        None | Some(Target::Same) => SocketAddrV4::new(server, DNS),
        Some(Target::Address(address)) => SocketAddrV4::new(address, DNS),
        Some(Target::Endpoint(endpoint)) => endpoint,
    };
    // What is sent there comes back.
    (!translator.is_own(*to.ip())).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use byway::{Config, Divert, Verdict, Weighted};

    use crate::counters::Counters;
    use crate::router::{Output, Router};
    use crate::vnet::LENGTH;

    fn syn(client: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[8], packet[9]) = (0x45, 64, TCP);
        packet::put(&mut packet, 2, 40);
        packet[12..16].copy_from_slice(&client.octets());
        packet[16..20].copy_from_slice(&server.octets());
        packet::put(&mut packet, 20, 40_000);
        packet::put(&mut packet, 22, DNS);
        (packet[32], packet[33]) = (0x50, 2);
        packet::seal(&mut packet);
        let sum = packet::add_sums(packet::pseudo_sum(&packet, 20), packet::sum(&packet[20..]));
        packet::put(&mut packet, 36, !sum);
        packet
    }

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
            "9.9.6.1:53 tcp to 20.0.0.7",
            "9.9.6.1:53 from 1.0.0.0/8 to 20.0.0.8",
        ] {
            let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
            translator.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
        }
        for (client, server, expected) in [
            ("1.2.3.4", "9.9.6.1", "20.0.0.7:53"),
            ("1.2.3.4", "9.9.9.53", "20.0.0.5:5353"),
            ("2.2.3.4", "9.9.9.53", "20.0.0.1:53"),
            ("1.2.3.4", "9.9.8.1", "9.9.8.1:53"),
            ("1.2.3.4", "9.8.1.1", "9.8.1.1:53"),
            ("1.2.3.4", "10.9.9.9", "20.0.0.6:53"),
        ] {
            assert_eq!(to(&translator, client, server).as_deref(), Some(expected), "{client} asks {server}");
            let mut packet = syn(client.parse().unwrap(), server.parse().unwrap());
            let verdict = translator.translate(Instant::from_secs(1), &mut packet);
            assert!(matches!(verdict, Verdict::ToServer | Verdict::Pass), "{verdict:?}");
            let led = SocketAddrV4::new(packet::destination(&packet), packet::destination_port(&packet).unwrap());
            assert_eq!(led.to_string(), expected, "where packets go");
        }
    }

    struct Sent(Vec<Vec<u8>>);

    impl Output for Sent {
        fn send(&mut self, frame: &[u8], _: &mut Counters) {
            self.0.push(frame[LENGTH..].to_vec());
        }
    }

    /// A query for the address of `a`.
    fn query(server: Ipv4Addr, ttl: u8) -> Vec<u8> {
        let message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let mut packet = syn([1, 2, 3, 4].into(), server);
        packet.truncate(28);
        packet[24..28].copy_from_slice(&[0, 8 + message.len() as u8, 0, 0]);
        packet.extend(message);
        (packet[3], packet[8], packet[9]) = (packet.len() as u8, ttl, UDP);
        packet::seal(&mut packet);
        packet
    }

    fn with_names() -> (crate::config::Config, Translator<Heap>, Naming) {
        let text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n\
            [names]\n[[names.entry]]\nname = \"a\"\nto = \"203.0.113.7\"\n";
        let config = crate::config::Config::parse(std::path::Path::new("byway.toml"), text.into()).unwrap();
        let translator = Translator::new(config.nat.config([7; 32]), Heap::new(16, 16)).unwrap();
        let naming = Naming::new(config.names.as_ref().unwrap(), [7; 32], config.router.address, 1500);
        naming.lock().names.insert(config.entries()[0].entry()).unwrap();
        (config, translator, naming)
    }

    /// What connections cost is no part of a packet over UDP.
    #[test]
    fn a_query_over_udp_leaves_the_stack_alone() {
        let (_, translator, naming) = with_names();
        let server = Ipv4Addr::new(9, 9, 9, 53);
        let (query, syn) = (query(server, 64), syn([1, 2, 3, 4].into(), server));
        naming.lock().relay.receive(syn.clone());
        let now = Instant::from_secs(1);
        let sent = |packet: &[u8]| match naming.take(now, &VnetHeader::NONE, packet, &translator) {
            Named::Done(packets) => packets.iter().map(|packet| packet::protocol(packet)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(sent(&query), [UDP]);
        assert!(sent(&syn).contains(&TCP));
    }

    /// A query to this machine has arrived, whatever is left of its time to live; one to a server is on its way.
    #[test]
    fn a_query_that_has_arrived_is_answered() {
        let (config, translator, naming) = with_names();
        let mut router = Router::new(translator, config.router.clone());
        router.answer_names(std::sync::Arc::new(naming));
        for (server, ttl, is_answered) in
            [([10, 9, 9, 9], 1, true), ([10, 9, 9, 9], 64, true), ([9, 9, 9, 53], 1, false), ([9, 9, 9, 53], 2, true)]
        {
            let packet = query(server.into(), ttl);
            let mut sent = Sent(Vec::new());
            router.forward(Instant::from_secs(1), &mut [&VnetHeader::NONE.to_bytes(), &packet[..]].concat(), &mut sent);
            let [packet] = &sent.0[..] else { panic!("{:?}", sent.0) };
            assert_eq!(packet.ends_with(&[203, 0, 113, 7]), is_answered, "{server:?} {ttl}");
        }
    }
}
