//! Packets that the translator itself originates, RSTs and ICMP errors; the caller fetches them.

use crate::connection::Direction;
use crate::table::connection::{Entry, OWES_CLIENT, OWES_SERVER};
use crate::table::outbox::{Message, QUOTE};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::track::phase::Phase;
use crate::translator::Translator;
use crate::translator::state::{State, Table};
use crate::verdict::DropReason;
use crate::wire::flow::Flow;
use crate::wire::ipv4::{self, Header, ICMP, Parts, TCP};
use crate::wire::tcp::{self, ACK, RST, Segment};
use crate::wire::{checksum, icmp, originate};

/// How many bytes the buffer for [`Translator::poll_transmit`](crate::Translator::poll_transmit) needs: an IPv4 and an
/// ICMP header, and a quote of the longest IPv4 header and 8 bytes.
pub const TRANSMIT_BUFFER: usize = ipv4::HEADER + icmp::HEADER + QUOTE;

/// How many slots one call examines for connections to reset.
const LOOKS: usize = 256;

/// A packet that the translator has written into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the packet is to be sent"]
pub struct Transmit {
    /// Its length in bytes.
    pub length: usize,
    /// Whether it goes towards the client or towards the server; its header has the addresses.
    pub direction: Direction,
}

impl State {
    /// Queues a message to be fetched, if the rate of ICMP errors allows it and there is room.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn say(&mut self, message: &Message) {
        let allowed = self.outbox.allows_error(self.config.errors_per_second, self.now);
        self.put(message, allowed);
    }

    fn put(&mut self, message: &Message, allowed: bool) {
        if !(allowed && self.outbox.push(message)) {
            self.counters.transmit_lost = self.counters.transmit_lost.wrapping_add(1);
        }
    }

    /// Notifies a client that its new connection was refused (RFC 6888, REQ-11; RFC 5508, REQ-8). No error may be sent
    /// about some packets (RFC 1122, section 3.2.2): an ICMP error, a later fragment, a broadcast or multicast, or a
    /// packet whose source is not a single host.
    #[inline(never)]
    pub(super) fn say_prohibited(&mut self, reason: DropReason, flow: &Flow, parts: &Parts<'_>) {
        let refused = matches!(reason, DropReason::TableFull | DropReason::ClientLimit | DropReason::NoPort);
        let hosts = !ipv4::is_martian(flow.source) && ipv4::is_unicast(flow.destination);
        let own = self.config.own.iter().next().copied().or(self.config.alternatives.iter().next().map(|a| a.first));
        let Some(from) = own.filter(|_| refused && hosts) else {
            return;
        };
        let mut message = Message::Prohibited { from, quote: [0; QUOTE], length: 0 };
        let Message::Prohibited { quote, length, .. } = &mut message else { return };
        for part in [parts.header.as_slice(), parts.options, parts.payload.get(..8).unwrap_or_default()] {
            for (place, byte) in quote.iter_mut().skip(usize::from(*length)).zip(part) {
                *place = *byte;
            }
            *length += part.len() as u8;
        }
        self.say(&message);
    }

    /// Answers a segment of a connection that is being reset, as a host without this connection would: with the
    /// sequence number that the segment's sender expects (RFC 9293, section 3.10.7.1).
    pub(super) fn answer_with_reset(&mut self, slot: &Entry, direction: Direction, segment: &Segment) {
        if segment.has(RST) {
            return;
        }
        let (source, destination) = slot.ends(direction.opposite());
        let sequence = if segment.has(ACK) { segment.acknowledgment } else { 0 };
        let acknowledgment = segment.end();
        let allowed = self.outbox.allows_reset(self.config.resets_per_second, self.now);
        let direction = direction.opposite();
        self.put(&Message::Reset { direction, source, destination, sequence, acknowledgment }, allowed);
    }
}

impl<S: Storage> Translator<S> {
    /// Writes the next packet that the translator itself originates into `buffer`, which needs [`TRANSMIT_BUFFER`]
    /// bytes: a RST for an end of a connection that was reset or evicted, or an ICMP error (administratively
    /// prohibited) about a connection that was refused. `None` if there is nothing to send now, or if the buffer is too
    /// small, in which case nothing is lost.
    ///
    /// Call it after [`translate`](Self::translate), [`poll`](Self::poll) and [`redivert`](Self::redivert) until it
    /// returns `None`. If it is never called, these messages are lost, and counted as lost. They are rate-limited
    /// ([`Config::transmit_rates`](crate::Config::transmit_rates)), their checksums are valid, and none is about an
    /// ICMP error, a later fragment, a multicast or a source that is not a host.
    ///
    /// After a re-divert with [`Redivert::Reset`](crate::Redivert::Reset) each call examines a bounded number of
    /// connections. `None` may then mean "not yet": [`poll_at`](Self::poll_at) says to call again at once.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// # fn send(_: Direction, packet: &[u8]) { assert_eq!((packet[9], packet[20], packet[21]), (1, 3, 13)) }
    /// let mut byway = Translator::new(config.client_limit(1), Fixed::<64, 4>::new())?;
    /// byway.divert(Divert::new(*original.ip()).to(server))?;
    /// byway.translate(Instant::ZERO, &mut udp(client, original));
    ///
    /// // A second connection exceeds the limit, and its client is notified.
    /// let mut second = udp(client, SocketAddrV4::new(*original.ip(), 54));
    /// assert_eq!(byway.translate(Instant::ZERO, &mut second), Verdict::Drop(DropReason::ClientLimit));
    /// let mut buffer = [0; TRANSMIT_BUFFER];
    /// let mut sent = 0;
    /// while let Some(Transmit { length, direction }) = byway.poll_transmit(Instant::ZERO, &mut buffer) {
    ///     send(direction, &buffer[..length]);
    ///     sent += 1;
    /// }
    /// assert_eq!(sent, 1);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.begin(now);
        self.table().poll_transmit(buffer)
    }
}

impl Table<'_> {
    /// A RST for one end of the connection in a slot, with the sequence number that this end expects next.
    fn reset(&self, slot: u32, direction: Direction) -> Option<Message> {
        let connection = self.slot(slot)?;
        let (source, destination) = connection.ends(direction);
        let numbers = (connection.sequences.end(direction), connection.sequences.end(direction.opposite()));
        let (sequence, acknowledgment) = match self.for_resumable(slot) {
            Some(resumable) => (resumable.number)(self, slot, direction, numbers),
            None => numbers,
        };
        Some(Message::Reset { direction, source, destination, sequence, acknowledgment })
    }

    /// Queues a RST for both ends of a TCP connection, since its slot is needed now.
    pub(super) fn owe_resets_now(&mut self, slot: u32) {
        if !self.slot(slot).is_some_and(|c| c.protocol == TCP && !c.phase.is_over()) {
            return;
        }
        self.expect_resets(slot);
        let opening = self.slot(slot).is_some_and(|c| c.phase == Phase::Opening);
        self.say_reset(slot, Direction::ToClient);
        // A server that has not answered knows no connection.
        if !opening {
            self.say_reset(slot, Direction::ToServer);
        }
    }

    /// Sends one end of a connection a RST.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn say_reset(&mut self, slot: u32, direction: Direction) {
        if let Some(message) = self.reset(slot, direction) {
            self.state.say(&message);
        }
    }

    /// Records the sequence numbers that both ends of a TCP connection will expect in a RST.
    pub(super) fn expect_resets(&mut self, slot: u32) {
        let Some(tcp) = &mut self.tcp(slot) else {
            return;
        };
        tcp.expect_resets();
        self.set_tcp(slot, tcp);
    }

    fn poll_transmit(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        let buffer = buffer.first_chunk_mut::<TRANSMIT_BUFFER>()?;
        let message = self.state.outbox.pop().or_else(|| self.next_reset())?;
        let transmit = write(&message, buffer);
        self.state.counters.transmitted = self.state.counters.transmitted.wrapping_add(1);
        Some(transmit)
    }

    /// The next RST that a re-divert has ordered.
    fn next_reset(&mut self) -> Option<Message> {
        let slot = self.next_owing(LOOKS)?;
        let &connection = self.slot(slot)?;
        let (direction, flag) = if connection.has(OWES_CLIENT) {
            (Direction::ToClient, OWES_CLIENT)
        } else if connection.has(OWES_SERVER) {
            (Direction::ToServer, OWES_SERVER)
        } else {
            return None;
        };
        if !self.state.outbox.allows_reset(self.state.config.resets_per_second, self.state.now) {
            return None;
        }
        let message = self.reset(slot, direction);
        if let Some(tcp) = &mut self.tcp(slot)
            && tcp.expects_otherwise(direction)
        {
            self.set_tcp(slot, tcp);
        } else if let Some(connection) = self.slot_mut(slot) {
            connection.flags &= !flag;
        }
        message
    }
}

/// Writes a whole packet, with its checksums.
fn write(message: &Message, buffer: &mut [u8; TRANSMIT_BUFFER]) -> Transmit {
    buffer.fill(0);
    match *message {
        Message::Reset { direction, source, destination, sequence, acknowledgment } => {
            const LENGTH: usize = ipv4::HEADER + tcp::HEADER;
            write_header(buffer, LENGTH, TCP, source.address, destination.address);
            if let Some(tcp) = buffer.get_mut(ipv4::HEADER..LENGTH).and_then(|b| b.first_chunk_mut::<20>()) {
                tcp[0..2].copy_from_slice(&source.port.to_be_bytes());
                tcp[2..4].copy_from_slice(&destination.port.to_be_bytes());
                tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
                tcp[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
                tcp[12] = 5 << 4;
                tcp[13] = RST | ACK;
                let sum = originate::transport_checksum(TCP, source.address, destination.address, tcp);
                tcp[16..18].copy_from_slice(&sum.to_be_bytes());
            }
            Transmit { length: LENGTH, direction }
        }
        Message::Prohibited { from, quote, length } => {
            let length = usize::from(length);
            let total = ipv4::HEADER + icmp::HEADER + length;
            let client = Header(quote.first_chunk().unwrap_or(&[0; ipv4::HEADER])).source();
            write_header(buffer, total, ICMP, from, client);
            if let Some(message) = buffer.get_mut(ipv4::HEADER..total) {
                if let (Some(to), Some(from)) = (message.get_mut(icmp::HEADER..), quote.get(..length)) {
                    to.copy_from_slice(from);
                }
                if let Some(header) = message.first_chunk_mut::<{ icmp::HEADER }>() {
                    header[0] = icmp::UNREACHABLE;
                    header[1] = icmp::PROHIBITED;
                }
                let sum = checksum::finish(checksum::sum(0, message));
                if let Some(header) = message.first_chunk_mut::<{ icmp::HEADER }>() {
                    header[2..4].copy_from_slice(&sum.to_be_bytes());
                }
            }
            Transmit { length: total, direction: Direction::ToClient }
        }
    }
}

fn write_header(buffer: &mut [u8; TRANSMIT_BUFFER], total: usize, protocol: u8, source: u32, destination: u32) {
    if let Some(header) = buffer.first_chunk_mut() {
        originate::write_ipv4(header, total as u16, protocol, source, destination);
    }
}
