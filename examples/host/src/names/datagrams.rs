//! DNS over UDP, where clients ask this machine itself: their queries for other names are relayed to the servers of
//! `[names.relay]`, and the answers back.
//!
//! It is in the path of packets, as the TCP stack is: any port can be a query's without a socket for it, the kernel need not have
//! the address, and the process needs no rights. Fragments are never put together, so no answer comes in any.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::naming::{HeapRelay, MAX_RELAY_QUERY, Relay, RelayNotice, RelayOutcome, RelayRecord, Relayed};
use byway::{Instant, Pair};

use super::DNS;
use super::elsewhere::Elsewhere;
use crate::config::RelaySection;
use crate::packet::{self, HEADER, UDP};
use crate::portion::{Direction, RecordSender};

const UDP_HEADER: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;

/// The relay, and the address that its queries come from.
#[derive(Debug)]
pub(super) struct Datagrams {
    relay: Relay<HeapRelay>,
    section: RelaySection,
    address: Ipv4Addr,
    /// Datagrams that were cut short, in fragments, or had a wrong checksum, and queries at the portion to the client.
    damaged: u64,
    /// The other portion, if this is one.
    elsewhere: Option<Elsewhere>,
    /// What relays before this one have counted.
    past: Vec<u64>,
    /// Answers that waited for the record of their query, which has come.
    ready: Vec<Vec<u8>>,
}

impl Datagrams {
    /// A relay with this secret, which must not be known to others.
    ///
    /// # Errors
    /// The settings are not usable.
    pub(super) fn new(section: &RelaySection, secret: [u8; 32], address: Ipv4Addr) -> Result<Self, String> {
        let relay = Relay::new(section.config(secret), HeapRelay::new(section.queries));
        let relay = relay.map_err(|error| format!("names.relay: {error}"))?;
        let past = vec![0; RelayOutcome::ALL.len()];
        Ok(Self { relay, section: section.clone(), address, damaged: 0, elsewhere: None, past, ready: Vec::new() })
    }

    /// Exchanges queries and what becomes of them with the other portion.
    pub(super) fn share(&mut self, sender: RecordSender, direction: Direction) {
        self.elsewhere = Some(Elsewhere::new(sender, direction));
    }

    /// Begins anew with a secret that the other portion has too.
    pub(super) fn begin(&mut self, secret: [u8; 32]) {
        self.past = self.outcomes().map(|(_, count)| count).collect();
        // These settings were usable before.
        if let Ok(relay) = Relay::new(self.section.config(secret), HeapRelay::new(self.section.queries)) {
            self.relay = relay;
        }
    }

    /// Takes over what the other portion has asked. Returns how much of it was refused.
    pub(super) fn import(&mut self, now: Instant, queries: &[RelayRecord]) -> usize {
        let Some(elsewhere) = self.elsewhere.as_mut().filter(|elsewhere| elsewhere.takes_answers()) else {
            return queries.len();
        };
        let mut refused = 0;
        for record in queries {
            match self.relay.import(now, record) {
                Ok(()) => self.ready.extend(elsewhere.come_to(record.port())),
                Err(why) => {
                    refused += 1;
                    tracing::debug!("a query of the other portion is refused: {why}");
                }
            }
        }
        refused
    }

    /// Takes what has become of queries. Returns how many of them are not known.
    pub(super) fn apply(&mut self, now: Instant, notices: &[RelayNotice]) -> usize {
        notices.iter().filter(|notice| !self.relay.apply(now, **notice)).count()
    }

    /// Whether a packet comes from a server that the relay asks. The destination port does not matter, so that no ICMP error
    /// shows at which port a query waits.
    pub(super) fn is_answer(servers: &[SocketAddrV4], address: Ipv4Addr, packet: &[u8]) -> bool {
        let ports = packet::source_port(packet).zip(packet::destination_port(packet));
        let Some((from, to)) = ports.filter(|_| packet::destination(packet) == address) else {
            return false;
        };
        // A server may be a client as well.
        to != DNS && servers.contains(&SocketAddrV4::new(packet::source(packet), from))
    }

    /// Where this client's queries over TCP go.
    pub(super) fn server(&self, client: Ipv4Addr) -> Option<SocketAddrV4> {
        // A connection needs both directions in one process.
        (self.elsewhere.is_none() && self.section.is_for(client)).then(|| self.relay.server())
    }

    /// Takes a client's query to this machine; returns a packet to send.
    pub(super) fn query(&mut self, now: Instant, query: &[u8]) -> Option<Vec<u8>> {
        let Some((client, message)) = read(query) else {
            self.damaged += 1;
            return None;
        };
        if self.elsewhere.as_ref().is_some_and(Elsewhere::takes_answers) {
            // Clients ask the portion to the server, which has the numbers that are drawn.
            self.damaged += 1;
            return None;
        }
        let mut out = [0; MAX_RELAY_QUERY];
        let done = self.relay.query(now, client, message, &mut out);
        self.send(done, &out)
    }

    /// Takes what a server has sent; returns the client's answer, if it is one.
    pub(super) fn answer(&mut self, now: Instant, answer: &[u8]) -> Option<Vec<u8>> {
        self.judge(now, answer, true)
    }

    /// The same. An answer for whose port there is no record yet may wait for it once.
    fn judge(&mut self, now: Instant, answer: &[u8], may_wait: bool) -> Option<Vec<u8>> {
        let Some((ends, message)) = read(answer) else {
            self.damaged += 1;
            return None;
        };
        let (mut message, port) = (message.to_vec(), ends.destination.port());
        if let Some(elsewhere) = self.elsewhere.as_mut().filter(|elsewhere| elsewhere.takes_answers())
            && may_wait
            && !self.relay.waits_at(port)
        {
            elsewhere.keep(now, port, answer);
            return None;
        }
        let client = self.relay.answer(now, ends.source, port, &mut message);
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.notice(&mut self.relay);
        }
        client.map(|client| write(client.destination, client.source, &message))
    }

    /// Does what is due.
    pub(super) fn poll(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        let late = self.elsewhere.as_mut().map_or(Vec::new(), |elsewhere| elsewhere.expired(now));
        for answer in core::mem::take(&mut self.ready).into_iter().chain(late) {
            out.extend(self.judge(now, &answer, false));
        }
        let mut buffer = [0; MAX_RELAY_QUERY];
        while let Some(done) = self.relay.poll(now, &mut buffer) {
            out.extend(self.send(done, &buffer));
        }
    }

    /// When to poll at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(Instant::ZERO);
        }
        let early = self.elsewhere.as_ref().and_then(Elsewhere::due);
        self.relay.poll_at().into_iter().chain(early).min()
    }

    fn send(&self, done: Relayed, out: &[u8]) -> Option<Vec<u8>> {
        match done {
            Relayed::Ask { server, port, length } => {
                if let Some(elsewhere) = &self.elsewhere {
                    elsewhere.tell(&self.relay, port);
                }
                Some(write(SocketAddrV4::new(self.address, port), server, out.get(..length)?))
            }
            Relayed::Answer { client, length } => Some(write(client.destination, client.source, out.get(..length)?)),
            Relayed::Drop(_) => None,
        }
    }

    /// The counters of queries and answers, by outcome.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let early = self.elsewhere.as_ref();
        let early = early.map(|elsewhere| [("early_kept", elsewhere.kept), ("early_displaced", elsewhere.displaced)]);
        self.outcomes().chain([("damaged", self.damaged)]).chain(early.into_iter().flatten()).collect()
    }

    fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = self.relay.counters();
        let all = RelayOutcome::ALL.iter().zip(&self.past);
        all.map(|(outcome, past)| (outcome.name(), past + counters.of(*outcome)))
    }

    /// How many queries wait.
    pub(super) const fn waiting(&self) -> usize {
        self.relay.len()
    }
}

/// The ends of a datagram and what it carries. `None` if it is not whole, or not as it was sent.
fn read(packet: &[u8]) -> Option<(Pair, &[u8])> {
    let datagram = packet.get(packet::header_length(packet)..usize::from(packet::word(packet, 2)))?;
    if packet::is_fragment(packet) || datagram.len() < UDP_HEADER {
        return None;
    }
    let length = usize::from(packet::word(datagram, 4));
    let datagram = datagram.get(..length).filter(|datagram| datagram.len() >= UDP_HEADER)?;
    // Zero says that there is none (RFC 768).
    let is_right = || packet::add_sums(packet::pseudo_sum(packet, length), packet::sum(datagram)) == 0xffff;
    if packet::word(datagram, 6) != 0 && !is_right() {
        return None;
    }
    let source = SocketAddrV4::new(packet::source(packet), packet::word(datagram, 0));
    let destination = SocketAddrV4::new(packet::destination(packet), packet::word(datagram, 2));
    Some((Pair { source, destination }, &datagram[UDP_HEADER..]))
}

/// A datagram that is never fragmented, and so needs no identification (RFC 6864).
fn write(from: SocketAddrV4, to: SocketAddrV4, message: &[u8]) -> Vec<u8> {
    let length = UDP_HEADER + message.len();
    let mut packet = vec![0; HEADER];
    (packet[0], packet[8], packet[9]) = (0x45, 64, UDP);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet::put(&mut packet, 2, (HEADER + length) as u16);
    packet::put(&mut packet, 6, DONT_FRAGMENT);
    packet::seal(&mut packet);
    for word in [from.port(), to.port(), length as u16, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(message);
    let sum = !packet::add_sums(packet::pseudo_sum(&packet, length), packet::sum(&packet[HEADER..]));
    packet::put(&mut packet, HEADER + 6, if sum == 0 { 0xffff } else { sum });
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (from, to) = ("10.9.9.9:53".parse().unwrap(), "1.2.3.4:4000".parse().unwrap());
        for length in 0..300 {
            let message: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let packet = write(from, to, &message);
            assert_eq!(packet::check(&packet), Ok(packet.len()));
            assert_eq!(read(&packet), Some((Pair { source: from, destination: to }, &message[..])));
            for at in 20..packet.len() {
                let mut damaged = packet.clone();
                damaged[at] ^= 0x10;
                assert_eq!(read(&damaged), None, "{at}");
            }
            let mut fragment = packet.clone();
            packet::put(&mut fragment, 6, 0x2000);
            assert_eq!((read(&fragment), read(&packet[..packet.len() - 1])), (None, None));
        }
    }
}
