//! Packets that arrive before the record of their connection.
//!
//! The portion to the server sends a connection's record when it sends its first packet. The reply to that packet can be at
//! the other portion first. In the same way the client can have the server's SYN+ACK, and answer it, before the portion to
//! the server has heard of it. Such packets are kept for a moment, and offered again when the record has come.

use core::net::SocketAddrV4;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use byway::{Connection, Instant, Protocol, State};

use super::{Direction, Status};
use crate::packet;

/// How long a packet waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// How many wait at most: an attacker can send packets of no connection.
const MOST: usize = 256;

/// Which record a packet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The record of a connection whose replies go to this alternative.
    Reply(Protocol, SocketAddrV4),
    /// The record of an answered TCP connection between this client and this original destination.
    Answer(SocketAddrV4, SocketAddrV4),
}

impl Awaited {
    /// The record that a packet without a connection waits for.
    #[must_use]
    pub fn by_reply(packet: &[u8]) -> Option<Self> {
        packet::reply_to(packet).map(|(protocol, to)| Self::Reply(protocol, to))
    }

    fn is(&self, connection: &Connection) -> bool {
        let (client, server) = (connection.client_side, connection.server_side);
        match *self {
            Self::Reply(protocol, to) => (protocol, to) == (connection.protocol, server.source),
            Self::Answer(from, to) => {
                connection.protocol == Protocol::Tcp
                    && connection.state != State::Opening
                    && (from, to) == (client.source, client.destination)
            }
        }
    }
}

/// Packets that wait for a record.
#[derive(Debug)]
pub struct Early {
    /// The direction of the packets.
    direction: Direction,
    /// The stream that records come on.
    link: Option<Arc<Status>>,
    waiting: VecDeque<Waiting>,
    ready: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    awaited: Awaited,
    until: Instant,
    frame: Vec<u8>,
}

impl Early {
    /// No packet waits. Only packets in this direction are kept.
    #[must_use]
    pub const fn new(direction: Direction) -> Self {
        Self { direction, link: None, waiting: VecDeque::new(), ready: VecDeque::new() }
    }

    /// Sets the status of the stream that brings records.
    pub fn follow(&mut self, link: Arc<Status>) {
        self.link = Some(link);
    }

    /// Whether packets in this direction are kept: without the stream no record would come.
    #[must_use]
    pub fn keeps(&self, direction: Direction) -> bool {
        let is_connected = |link: &Arc<Status>| link.is_connected.load(Ordering::Relaxed);
        self.direction == direction && self.link.as_ref().is_some_and(is_connected)
    }

    /// Keeps a frame. Returns whether there was room for it.
    pub fn keep(&mut self, now: Instant, awaited: Awaited, frame: &[u8]) -> bool {
        if self.waiting.len() >= MOST {
            return false;
        }
        self.waiting.push_back(Waiting { awaited, until: now + PATIENCE, frame: frame.to_vec() });
        true
    }

    /// This connection is known now.
    pub fn release(&mut self, connection: &Connection) {
        let mut place = 0;
        while let Some(waiting) = self.waiting.get(place) {
            if waiting.awaited.is(connection) {
                self.ready.extend(self.waiting.remove(place).map(|waiting| waiting.frame));
            } else {
                place += 1;
            }
        }
    }

    /// The next frame that need not wait any more, in the order in which they came.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// Gives up packets that have waited for too long. A client's segment goes on as it is, a reply without a connection does
    /// not; returns how many such replies there were.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut lost = 0;
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.until <= now) {
            match waiting.awaited {
                Awaited::Reply(..) => lost += 1,
                Awaited::Answer(..) => self.ready.push_back(waiting.frame),
            }
        }
        lost
    }

    /// When the next one is to be given up.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A connection of a translator, before and after the server's SYN+ACK.
    pub(in crate::portion) fn connection(is_answered: bool) -> Connection {
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = byway::Translator::new(config, byway::Heap::new(64, 16)).unwrap();
        translator.divert(byway::Divert::new(CLIENT_SIDE.1).to(SERVER)).unwrap();
        let mut syn = packet::tests::tcp([1, 2, 3, 4], [100, 1, 1, 1], &[]);
        syn[33] = 2;
        let _ = translator.translate(Instant::ZERO, &mut syn);
        let alternative = translator.connections().next().unwrap().server_side.source;
        if is_answered {
            let mut answer = packet::tests::tcp(SERVER.ip().octets(), alternative.ip().octets(), &[]);
            answer[20..22].copy_from_slice(&SERVER.port().to_be_bytes());
            answer[22..24].copy_from_slice(&alternative.port().to_be_bytes());
            let next = u32::from_be_bytes(*syn[24..].first_chunk().unwrap()) + 1;
            answer[28..32].copy_from_slice(&next.to_be_bytes());
            answer[33] = 0x12;
            let _ = translator.translate(Instant::ZERO, &mut answer);
        }
        translator.connections().next().unwrap()
    }

    const SERVER: SocketAddrV4 = SocketAddrV4::new(core::net::Ipv4Addr::new(20, 0, 0, 1), 80);
    const CLIENT_SIDE: (SocketAddrV4, SocketAddrV4) = (
        SocketAddrV4::new(core::net::Ipv4Addr::new(1, 2, 3, 4), 3456),
        SocketAddrV4::new(core::net::Ipv4Addr::new(100, 1, 1, 1), 80),
    );

    #[test]
    fn replies_wait_for_their_connection_and_not_for_long() {
        let mut early = Early::new(Direction::ToClient);
        let (now, connection) = (Instant::from_secs(1), connection(false));
        let to = connection.server_side.source;
        let other = SocketAddrV4::new(*to.ip(), to.port() ^ 1);
        assert!(early.keep(now, Awaited::Reply(Protocol::Tcp, to), b"1"));
        assert!(early.keep(now, Awaited::Reply(Protocol::Tcp, other), b"2"));
        assert!(early.keep(now, Awaited::Reply(Protocol::Udp, to), b"3"));
        assert!(early.keep(now, Awaited::Reply(Protocol::Tcp, to), b"4"));
        early.release(&connection);
        assert_eq!((early.take(), early.take(), early.take()), (Some(b"1".to_vec()), Some(b"4".to_vec()), None));
        assert_eq!((early.due(), early.expire(now)), (Some(now + PATIENCE), 0));
        assert_eq!((early.expire(now + PATIENCE), early.due(), early.take()), (2, None, None));
    }

    #[test]
    fn a_segment_waits_for_the_answer_to_its_handshake_or_goes_on_without() {
        let mut early = Early::new(Direction::ToClient);
        let (now, (from, to)) = (Instant::from_secs(1), CLIENT_SIDE);
        assert!(early.keep(now, Awaited::Answer(from, to), b"1"));
        early.release(&connection(false));
        assert_eq!(early.take(), None, "the server has not answered");
        early.release(&connection(true));
        assert_eq!(early.take(), Some(b"1".to_vec()));
        assert!(early.keep(now, Awaited::Answer(from, to), b"2"));
        assert_eq!((early.expire(now + PATIENCE), early.take()), (0, Some(b"2".to_vec())));
    }

    #[test]
    fn they_wait_only_while_records_can_come() {
        let mut early = Early::new(Direction::ToClient);
        assert!(!early.keeps(Direction::ToClient));
        let status = Arc::new(Status::default());
        early.follow(status.clone());
        assert!(!early.keeps(Direction::ToClient));
        status.is_connected.store(true, Ordering::Relaxed);
        assert!(early.keeps(Direction::ToClient) && !early.keeps(Direction::ToServer));
    }

    #[test]
    fn so_many_and_no_more() {
        let mut early = Early::new(Direction::ToClient);
        let awaited = Awaited::Answer(CLIENT_SIDE.0, CLIENT_SIDE.1);
        let kept = (0..1000).filter(|_| early.keep(Instant::ZERO, awaited, b"")).count();
        assert_eq!(kept, MOST);
    }
}
