//! The naming server of the process: one table for all shards, and a TCP stack for what comes to port 53 over TCP.
//!
//! Packets of all shards come here if they may be about names, and few are. So they share one lock, and no other packet
//! pays for it.

mod change;
mod datagrams;
mod elsewhere;
mod numbers;
mod ports;
mod queues;
mod relay;
mod transfer;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway::naming::{Answered, HeapNames, MAX_ANSWER_PACKET, Names, Outcome, RelayNotice, RelayRecord};
use byway::{DivertEntry, Heap, Instant, Prefix, Protocol, Target, Translator};

pub use change::NameChanges;
use datagrams::Datagrams;
use numbers::Numbers;
use ports::Ports;
use relay::Relay;

use crate::config::NamesSection;
use crate::packet::{self, TCP, UDP};
use crate::portion::{Direction, RecordSender};
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
    /// The ports that relayed queries come from.
    ports: Ports,
    capacity: usize,
    /// The DNS servers that are asked over UDP.
    relayed_to: Vec<SocketAddrV4>,
    /// When the TCP stack and the relay of datagrams have to be polled, in microseconds.
    due: AtomicU64,
    datagrams_due: AtomicU64,
    state: Mutex<State>,
}

/// The state that the lock guards.
#[derive(Debug)]
pub struct State {
    /// The names.
    pub names: Names<HeapNames>,
    relay: Relay,
    datagrams: Option<Datagrams>,
}

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    /// It goes on its way.
    Pass,
    /// It was taken, and these packets are to be sent.
    Done(Vec<Vec<u8>>),
    /// It was a super-packet: the first packets are to be sent, and the others go on their way.
    Split(Vec<Vec<u8>>, Vec<Vec<u8>>),
}

impl Naming {
    /// A naming server without names. What it relays comes from `router` unless it has an address of its own. Of the secrets
    /// the first is for names, and the other for what is relayed.
    ///
    /// # Errors
    /// The relay's settings are not usable.
    pub fn new(
        section: &NamesSection,
        secrets: [[u8; 32]; 2],
        router: Ipv4Addr,
        mtu: u16,
    ) -> Result<Self, String> {
        let address = section.address.unwrap_or(router);
        let names = Names::new(section.config(secrets[0]), HeapNames::new(section.capacity, RATES));
        let ports = Ports::new();
        let relay = Relay::new(address, ports.clone(), mtu, Numbers::seed());
        let datagrams = section.relay.as_ref().map(|relay| Datagrams::new(relay, secrets[1], address)).transpose()?;
        Ok(Self {
            servers: section.servers,
            address,
            ports,
            capacity: section.capacity,
            relayed_to: section.relay.as_ref().map(|relay| relay.servers.clone()).unwrap_or_default(),
            due: AtomicU64::new(NEVER),
            datagrams_due: AtomicU64::new(NEVER),
            state: Mutex::new(State { names, relay, datagrams }),
        })
    }

    /// Exchanges with the other portion what is relayed over UDP.
    pub fn share(&self, sender: RecordSender, direction: Direction) {
        self.datagrams(|datagrams| datagrams.share(sender, direction));
    }

    /// The other portion is there, and has this secret too. What is not answered yet will not be: its clients ask again.
    pub fn begin_exchange(&self, secret: [u8; 32]) {
        self.datagrams(|datagrams| datagrams.begin(secret));
    }

    /// Takes over what the other portion has asked. Returns how much of it was refused.
    pub fn import(&self, now: Instant, queries: &[RelayRecord]) -> usize {
        self.datagrams(|datagrams| datagrams.import(now, queries)).unwrap_or(queries.len())
    }

    /// Takes what has become of queries at the other portion. Returns how many of them are not known here any more.
    pub fn apply(&self, now: Instant, notices: &[RelayNotice]) -> usize {
        self.datagrams(|datagrams| datagrams.apply(now, notices)).unwrap_or(notices.len())
    }

    /// Does something with the relay of datagrams, if there is one, and notes when it is due.
    fn datagrams<T>(&self, work: impl FnOnce(&mut Datagrams) -> T) -> Option<T> {
        let mut state = self.lock();
        let datagrams = state.datagrams.as_mut()?;
        let done = work(datagrams);
        self.set_due(datagrams);
        Some(done)
    }

    /// How many entries there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// The names and the stack. Routers, if they are needed too, are locked first, as for a packet.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // The lock can be used although a thread has panicked with it: each change leaves the table whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a packet may be about names: few are, and this check is all that others pay.
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
        if protocol == UDP {
            return is_query || self.is_relayed_answer(packet);
        }
        // A rule may lead to a server on any port. A late packet from the usual port is taken too, and reset.
        let is_relayed = || self.ports.contains(port) || packet::source_port(packet) == Some(DNS);
        is_query || (packet::destination(packet) == self.address && is_relayed())
    }

    fn is_relayed_answer(&self, packet: &[u8]) -> bool {
        !self.relayed_to.is_empty() && Datagrams::is_answer(&self.relayed_to, self.address, packet)
    }

    /// Takes a packet that may be about names.
    pub fn take(&self, now: Instant, header: &VnetHeader, packet: &[u8], translator: &Translator<Heap>) -> Named {
        let Some((parts, is_split)) = parts(header, packet) else {
            return Named::Pass;
        };
        let mut state = self.lock();
        let (mut out, mut passed, mut is_for_stack) = (Vec::new(), Vec::new(), false);
        for part in parts {
            if let Some(datagrams) = &mut state.datagrams
                && packet::protocol(&part) == UDP
                && self.is_relayed_answer(&part)
            {
                out.extend(datagrams.answer(now, &part));
                self.set_due(datagrams);
            } else if packet::protocol(&part) == UDP {
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
                is_for_stack |= state.relay.receive(part);
            }
        }
        // UDP queries cause no work for connections, however many they are.
        if is_for_stack || self.is_due(now) {
            self.work(now, &mut state, translator, &mut out);
        }
        match (is_split, passed.is_empty()) {
            (_, true) => Named::Done(out),
            (true, false) => Named::Split(out, passed),
            (false, false) => Named::Pass,
        }
    }

    /// Takes a packet that is for this machine and not for a name of the table. `None` if it is no query over UDP, or none is
    /// relayed; otherwise it is done with, and these packets are to be sent.
    pub fn relay(&self, now: Instant, header: &VnetHeader, packet: &[u8]) -> Option<Vec<Vec<u8>>> {
        let is_query = packet::protocol(packet) == UDP && packet::destination_port(packet) == Some(DNS);
        // Queries to other addresses were not looked at, and may be for a name of the table.
        if self.relayed_to.is_empty() || !is_query || !self.servers.contains(packet::destination(packet)) {
            return None;
        }
        let (parts, _) = parts(header, packet)?;
        self.datagrams(|datagrams| parts.iter().filter_map(|part| datagrams.query(now, part)).collect())
    }

    /// Does what is due; returns packets to send.
    pub fn poll(&self, now: Instant, translator: &Translator<Heap>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.is_due(now) {
            self.work(now, &mut self.lock(), translator, &mut out);
        }
        if self.datagrams_due.load(Ordering::Relaxed) <= now.as_micros() {
            self.datagrams(|datagrams| datagrams.poll(now, &mut out));
        }
        out
    }

    /// When to poll at the latest.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        let due = self.due.load(Ordering::Relaxed).min(self.datagrams_due.load(Ordering::Relaxed));
        (due != NEVER).then(|| Instant::from_micros(due))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.load(Ordering::Relaxed) <= now.as_micros()
    }

    fn set_due(&self, datagrams: &Datagrams) {
        self.datagrams_due.store(datagrams.due().map_or(NEVER, Instant::as_micros), Ordering::Relaxed);
    }

    fn work(&self, now: Instant, state: &mut State, translator: &Translator<Heap>, out: &mut Vec<Vec<u8>>) {
        let State { names, relay, datagrams } = state;
        relay.work(now, names, |client, server| {
            // Queries to this machine itself.
            let elsewhere = || datagrams.as_ref().filter(|_| translator.is_own(server))?.server(client);
            server_of(translator, client, server).or_else(elsewhere)
        });
        out.extend(relay.packets());
        self.due.store(relay.due().map_or(NEVER, Instant::as_micros), Ordering::Relaxed);
    }

    /// The counters of all queries, and of those over TCP.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        let counters = state.names.counters();
        let mut outcomes: Vec<_> = Outcome::ALL.iter().map(|o| (o.name(), counters.of(*o))).collect();
        outcomes.push(("proven", counters.proven));
        let relay = state.relay.counts();
        let datagrams = state.datagrams.as_ref().map(|datagrams| (datagrams.waiting(), datagrams.counts()));
        Counts { entries: state.names.len(), outcomes, relay, connections: state.relay.connections(), datagrams }
    }
}

/// The counters of the naming server.
#[derive(Clone, Debug)]
pub struct Counts {
    /// How many entries there are now.
    pub entries: usize,
    /// Queries by outcome, and at the end the number of those with a valid cookie.
    pub outcomes: Vec<(&'static str, u64)>,
    /// TCP connections by outcome, each with its meaning.
    pub relay: [(&'static str, u64); 5],
    /// How many clients are connected now.
    pub connections: usize,
    /// If queries over UDP are relayed: how many wait now, and what has become of them.
    pub datagrams: Option<(usize, Vec<(&'static str, u64)>)>,
}

impl Counts {
    /// All counters, each with a name of its own.
    pub fn named(self) -> impl Iterator<Item = (String, u64)> {
        let datagrams = self.datagrams.into_iter().flat_map(|(_, counts)| counts);
        let datagrams = datagrams.map(|(name, count)| (format!("names_relay_{name}"), count));
        let others = self.outcomes.into_iter().chain(self.relay);
        others.map(|(name, count)| (format!("names_{name}"), count)).chain(datagrams)
    }
}

/// The packets that one stands for, whole and with their checksums, and whether it was several. `None` if that cannot be told.
fn parts(header: &VnetHeader, packet: &[u8]) -> Option<(Vec<Vec<u8>>, bool)> {
    let mut parts = Vec::new();
    let is_split = segment::split(header, packet, |part| parts.push(part.to_vec()));
    if !is_split {
        let mut whole = packet.to_vec();
        if !segment::complete(header, &mut whole) {
            return None;
        }
        parts.push(whole);
    }
    Some((parts, is_split))
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
    // A query to this machine's own address would come back.
    (!translator.is_own(*to.ip())).then_some(to)
}

#[cfg(test)]
mod tests;
