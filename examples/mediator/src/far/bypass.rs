//! A device between byway and the one below it. It lets datagrams of some transfers bypass byway: of those that stay where they
//! are whatever instructions come.
//!
//! An instruction to byway moves a whole connection. A transfer that its new server could not continue is not moved: its
//! datagrams go on from the connection's alternative endpoint to the old server, and that server's answers do not reach byway,
//! which no longer knows the connection. The old server notices nothing.

use core::net::SocketAddrV4;
use std::collections::VecDeque;

use smoltcp::phy::{self, DeviceCapabilities};
use smoltcp::time::Instant;

use super::Way;
use super::carrier::{datagram, is_intact, packet};

/// How many datagrams wait at most until they are received.
const WAITING: usize = 64;

/// Where a connection is at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What the server sees.
    pub alternative: SocketAddrV4,
    /// The server.
    pub server: SocketAddrV4,
    /// The rules' generation at that time. As long as there is no other one, byway leads to the same place.
    pub generation: u32,
}

impl Place {
    /// Whether it is the same place, perhaps at another time.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        (self.alternative, self.server) == (other.alternative, other.server)
    }
}

/// The device.
#[derive(Debug)]
pub(super) struct Bypass<D> {
    inner: D,
    /// The rules' generation.
    generation: u32,
    /// The places whose servers' answers go past byway, whose they are, and how many transfers stay there.
    places: Vec<(Place, Way, usize)>,
    /// How often the places have changed.
    changes: u64,
    received: VecDeque<(Place, Way, Vec<u8>)>,
    /// Packets for none of the transfers that stay there: byway may have given the endpoint to others.
    returned: VecDeque<Vec<u8>>,
    packet: Vec<u8>,
}

impl<D: phy::Device> Bypass<D> {
    pub(super) const fn new(inner: D) -> Self {
        Self {
            inner,
            generation: 0,
            places: Vec::new(),
            changes: 0,
            received: VecDeque::new(),
            returned: VecDeque::new(),
            packet: Vec::new(),
        }
    }

    pub(super) const fn inner(&self) -> &D {
        &self.inner
    }

    pub(super) const fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// Which generation of rules byway has now.
    pub(super) const fn heed(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// From the next instruction on the server's answers do not go to byway, for one more transfer.
    pub(super) fn stay(&mut self, place: Place, way: Way) {
        match self.places.iter_mut().find(|(known, of, _)| (*known, *of) == (place, way)) {
            Some((.., users)) => *users += 1,
            None => {
                self.places.push((place, way, 1));
                self.changes += 1;
            }
        }
    }

    /// One transfer fewer stays there.
    pub(super) fn leave(&mut self, place: Place, way: Way) {
        if let Some(at) = self.places.iter().position(|(known, of, _)| (*known, *of) == (place, way))
            && let Some((.., users)) = self.places.get_mut(at)
        {
            *users -= 1;
            if *users == 0 {
                self.places.swap_remove(at);
                self.changes += 1;
            }
        }
    }

    /// The places, and how often they have changed.
    pub(super) fn places(&self) -> (u64, impl Iterator<Item = Place>) {
        (self.changes, self.places.iter().map(|(place, ..)| *place))
    }

    /// Sends a datagram to the server of a place. False if there is no room.
    pub(super) fn send(&mut self, now: Instant, place: Place, payload: &[u8]) -> bool {
        let packet = packet(place.alternative, place.server, payload);
        let token = self.inner.transmit(now);
        token.is_some_and(|token| {
            phy::TxToken::consume(token, packet.len(), |buffer| buffer.copy_from_slice(&packet));
            true
        })
    }

    /// A datagram that has come past byway.
    pub(super) fn receive(&mut self) -> Option<(Place, Way, Vec<u8>)> {
        self.received.pop_front()
    }

    /// Passes a received datagram on to byway, since it is for no transfer that stays there.
    pub(super) fn give_back(&mut self, place: Place, payload: &[u8]) {
        self.returned.push_back(packet(place.server, place.alternative, payload));
    }

    /// Whether something was given back that byway has not had yet.
    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Keeps what is in `packet`, if it is from a server that a transfer stays at.
    fn keeps(&mut self) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let Some((from, to, payload)) = datagram(&self.packet) else {
            return false;
        };
        if !is_intact(&self.packet) {
            return false;
        }
        let Some((place, way)) = self.find(from, to).filter(|(place, _)| place.generation != self.generation) else {
            return false;
        };
        let payload = payload.to_vec();
        self.hand_in(place, way, payload);
        true
    }

    /// The place of this server and this alternative endpoint, if a transfer stays there, and whose it is.
    pub(super) fn find(&self, server: SocketAddrV4, alternative: SocketAddrV4) -> Option<(Place, Way)> {
        let mine = |(place, ..): &&(Place, Way, usize)| (place.server, place.alternative) == (server, alternative);
        self.places.iter().find(mine).map(|(place, way, _)| (*place, *way))
    }

    /// Keeps a datagram until it is received.
    pub(super) fn hand_in(&mut self, place: Place, way: Way, payload: Vec<u8>) {
        // Dropped, as in a network; it is sent again.
        if self.received.len() < WAITING {
            self.received.push_back((place, way, payload));
        }
    }
}

impl<D: phy::Device> phy::Device for Bypass<D> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, D>
    where
        Self: 'a;

    fn capabilities(&self) -> DeviceCapabilities {
        self.inner.capabilities()
    }

    fn receive(&mut self, now: Instant) -> Option<(RxToken<'_>, TxToken<'_, D>)> {
        loop {
            if let Some(packet) = self.returned.pop_front() {
                self.packet = packet;
                break;
            }
            if self.received.len() >= WAITING {
                // Until it is taken.
                return None;
            }
            let (token, _) = self.inner.receive(now)?;
            let packet = &mut self.packet;
            phy::RxToken::consume(token, |bytes| {
                packet.clear();
                packet.extend_from_slice(bytes);
            });
            if !self.keeps() {
                break;
            }
        }
        Some((RxToken(&self.packet), TxToken { device: &mut self.inner, now }))
    }

    fn transmit(&mut self, now: Instant) -> Option<TxToken<'_, D>> {
        Some(TxToken { device: &mut self.inner, now })
    }
}

/// A packet that was received.
#[derive(Debug)]
pub(super) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Permission to send a packet, if the device below has room then.
#[derive(Debug)]
pub(super) struct TxToken<'a, D> {
    device: &'a mut D,
    now: Instant,
}

impl<D: phy::Device> phy::TxToken for TxToken<'_, D> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        match self.device.transmit(self.now) {
            Some(token) => token.consume(length, f),
            // Lost, as in a network.
            None => f(&mut vec![0; length]),
        }
    }
}
