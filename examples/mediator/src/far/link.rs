//! A smoltcp device in memory: a network with a delay and with loss, and hosts behind it that answer datagrams.
//!
//! Time is an argument and loss comes from a seed, so a run can be repeated exactly. For tests, and for trying a
//! configuration without a network.

use core::fmt;
use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use byway::Instant;
use smoltcp::phy::{self, DeviceCapabilities};
use smoltcp::time::Instant as Timestamp;

use super::carrier::{datagram, packet};

/// What answers at an endpoint.
pub trait Host {
    /// Takes a datagram, and gives the datagrams that it sends to `from`.
    fn receive(&mut self, now: Instant, from: SocketAddrV4, datagram: &[u8]) -> Vec<Vec<u8>>;
}

impl<F: FnMut(Instant, SocketAddrV4, &[u8]) -> Vec<Vec<u8>>> Host for F {
    fn receive(&mut self, now: Instant, from: SocketAddrV4, datagram: &[u8]) -> Vec<Vec<u8>> {
        self(now, from, datagram)
    }
}

/// The network.
pub struct Link {
    hosts: BTreeMap<SocketAddrV4, Box<dyn Host>>,
    delay: Duration,
    /// Packets lost, of a million.
    loss: u32,
    random: u64,
    /// Packets to the stack, and when they arrive.
    arriving: VecDeque<(Instant, Vec<u8>)>,
    /// How many packets the stack has sent, and how many of either direction were lost.
    sent: u64,
    lost: u64,
}

impl Link {
    /// A network without hosts, with this delay in each direction, that loses `loss` of a million packets.
    #[must_use]
    pub fn new(delay: Duration, loss: u32, seed: u64) -> Self {
        let (hosts, arriving) = (BTreeMap::new(), VecDeque::new());
        Self { hosts, delay, loss, random: seed, arriving, sent: 0, lost: 0 }
    }

    /// Adds a host, or replaces it.
    pub fn add(&mut self, at: SocketAddrV4, host: impl Host + 'static) {
        self.hosts.insert(at, Box::new(host));
    }

    /// Takes a host away: nothing answers there any more.
    pub fn remove(&mut self, at: SocketAddrV4) {
        self.hosts.remove(&at);
    }

    /// Lets a packet arrive that no host has sent in answer to another: a notification, or an attacker's.
    pub fn inject(&mut self, now: Instant, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        self.arriving.push_back((now + self.delay, packet(from, to, payload)));
    }

    /// When the next packet arrives at the stack.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.arriving.front().map(|(at, _)| *at)
    }

    /// How many packets the stack has sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// How many packets were lost, in both directions.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// splitmix64.
    fn is_lost(&mut self) -> bool {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let is_lost = (mixed ^ (mixed >> 31)) % 1_000_000 < u64::from(self.loss);
        self.lost += u64::from(is_lost);
        is_lost
    }

    fn send(&mut self, now: Instant, bytes: &[u8]) {
        self.sent += 1;
        let Some((from, to, payload)) = datagram(bytes) else {
            return;
        };
        if self.is_lost() {
            return;
        }
        let there = now + self.delay;
        let answers = self.hosts.get_mut(&to).map(|host| host.receive(there, from, payload)).unwrap_or_default();
        for answer in answers {
            if !self.is_lost() {
                self.arriving.push_back((there + self.delay, packet(to, from, &answer)));
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.keys().collect();
        f.debug_struct("Link").field("hosts", &hosts).field("delay", &self.delay).finish_non_exhaustive()
    }
}

fn instant(timestamp: Timestamp) -> Instant {
    Instant::from_micros(u64::try_from(timestamp.total_micros()).unwrap_or(0))
}

impl phy::Device for Link {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        super::ip_device()
    }

    fn receive(&mut self, timestamp: Timestamp) -> Option<(RxToken, TxToken<'_>)> {
        let now = instant(timestamp);
        let (_, packet) = self.arriving.pop_front_if(|(at, _)| *at <= now)?;
        Some((RxToken(packet), TxToken { link: self, now }))
    }

    fn transmit(&mut self, timestamp: Timestamp) -> Option<TxToken<'_>> {
        Some(TxToken { link: self, now: instant(timestamp) })
    }
}

/// A packet that has arrived.
#[derive(Debug)]
pub struct RxToken(Vec<u8>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Permission to send a packet.
#[derive(Debug)]
pub struct TxToken<'a> {
    link: &'a mut Link,
    now: Instant,
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.link.send(self.now, &packet);
        result
    }
}
