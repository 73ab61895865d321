//! An [`embassy_net_driver::Driver`] that wraps another and translates what passes through it: what the firmware's own
//! sockets ask for is diverted.
//!
//! ```text
//!   embassy-net's Stack            the client
//!         |       ^
//!     transmit  receive
//!         v       |
//!   TranslatingDriver  <- - - - -  Shared: the translator, also for the tasks that give it instructions
//!         |       ^
//!     transmit  receive
//!         v       |
//!   the wrapped driver             the network that the servers are in
//! ```
//!
//! | the translator says | on its way out | on its way in |
//! | --- | --- | --- |
//! | `ToServer`, `ToClient` | the translated frame is sent | the stack gets the translated frame |
//! | `Pass` | it is sent as it is | the stack gets it as it is |
//! | `Drop`, `Hold` | nothing is sent | the stack gets an empty frame, which it ignores |
//!
//! A received frame is translated where it lies. A frame to send is written into the driver's own buffer first, because
//! what has been written into the wrapped driver's can no longer be dropped.
//!
//! # What is not supported
//!
//! - **Link addresses are not changed.** On Ethernet a diverted frame goes to the next hop that the stack chose for the
//!   original destination: both must be behind the same router. Give the alternative address to the stack as its own
//!   address: somebody must answer ARP requests for it.
//! - **Own packets towards the server** bear, on Ethernet, the link addresses of the last frame that was diverted; before
//!   there was one, they are lost.
//! - **Nothing is held.** A later fragment that comes before its first is dropped, and must be sent again.
//! - **No forwarding.** embassy-net is a host; between two interfaces take the loop of `docs/embedding.md`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod links;
#[cfg(test)]
mod tests;

use core::cell::RefCell;
use core::task::{Context, Waker};

use byway::{Direction, Instant, Storage, TRANSMIT_BUFFER, Translator, Transmit, Verdict};
use embassy_net_driver::{Capabilities, Checksum, Driver, HardwareAddress, LinkState, TxToken as _};

use crate::links::{ETHERNET, Links};

/// The least that the stack is told of the longest frame, in bytes: every host takes a datagram of 576 (RFC 791, section
/// 3.1), and smoltcp subtracts headers from it without looking.
const LEAST: usize = ETHERNET + 576;

/// How many packets of the translator's own one call sends towards servers; more than that wait for the next call.
const OWN_PACKETS: usize = 4;

/// The translator, and the clock by which it works: shared by the driver and by the tasks that give instructions.
///
/// All of them must run on the same executor, as tasks of embassy's usually do: it is not `Sync`.
#[derive(Debug)]
pub struct Shared<S> {
    translator: RefCell<Translator<S>>,
    clock: fn() -> Instant,
    network: RefCell<Option<Waker>>,
}

impl<S: Storage> Shared<S> {
    /// Wraps `translator`. `clock` tells the time since any fixed moment, and never runs backwards:
    /// `|| byway::Instant::from_micros(embassy_time::Instant::now().as_micros())`.
    pub const fn new(translator: Translator<S>, clock: fn() -> Instant) -> Self {
        Self { translator: RefCell::new(translator), clock, network: RefCell::new(None) }
    }

    /// Gives instructions to the translator, or asks it something, and has the network task send what follows from it.
    ///
    /// # Panics
    /// If `instruct` calls this again.
    pub fn with<R>(&self, instruct: impl FnOnce(Instant, &mut Translator<S>) -> R) -> R {
        let result = instruct((self.clock)(), &mut self.translator.borrow_mut());
        let waker = self.network.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Does what time brings, and says when it is to be called again; `None` if there is nothing to wait for.
    ///
    /// Have a task call it then, and at least once a second, since a packet may bring something to wait for. Called late,
    /// events are told late and slots of connections that are over stay in use; called early, it does nothing.
    pub fn poll(&self) -> Option<Instant> {
        self.with(|now, translator| {
            if translator.poll_at().is_some_and(|due| due <= now) {
                translator.poll(now);
            }
            translator.poll_at()
        })
    }
}

/// A driver that wraps `D` and translates what passes through it; see the [crate's documentation](crate).
///
/// `B` is the buffer for a frame to send: an array, or a `&'static mut [u8]`.
#[derive(Debug)]
pub struct TranslatingDriver<'s, D, S, B> {
    driver: D,
    shared: &'s Shared<S>,
    buffer: B,
    /// The longest frame that the stack may send.
    longest: usize,
    links: Links,
    /// A packet of the translator's own, with room for its Ethernet header, that could not be handed over yet.
    own: [u8; ETHERNET + TRANSMIT_BUFFER],
    waiting: Option<Transmit>,
}

impl<'s, D: Driver, S: Storage, B: AsMut<[u8]>> TranslatingDriver<'s, D, S, B> {
    /// Wraps `driver`. The `buffer` should be as long as its largest frame, 1514 bytes on Ethernet; if it is shorter, the
    /// stack is told so, down to 590.
    pub fn new(driver: D, shared: &'s Shared<S>, mut buffer: B) -> Self {
        let longest = buffer.as_mut().len().max(LEAST);
        Self { driver, shared, buffer, longest, links: Links::NEW, own: [0; _], waiting: None }
    }

    /// Bytes before the packet; `None` for a medium that we cannot read.
    fn header(&self) -> Option<usize> {
        match self.driver.hardware_address() {
            HardwareAddress::Ethernet(_) => Some(ETHERNET),
            HardwareAddress::Ip => Some(0),
            _ => None,
        }
    }

    /// Sends what the translator has to tell servers, and fetches what it has to tell the stack.
    fn speak(&mut self, header: usize, cx: &mut Context<'_>) {
        for _ in 0..OWN_PACKETS {
            if self.waiting.is_none() {
                let room = self.own.get_mut(header..).unwrap_or_default();
                self.waiting = self.shared.translator.borrow_mut().poll_transmit((self.shared.clock)(), room);
            }
            let to_server = self.waiting.is_some_and(|waiting| waiting.direction == Direction::ToServer);
            if !to_server || !self.flush(header, cx) {
                return;
            }
        }
        // There may be more: come back soon.
        cx.waker().wake_by_ref();
    }

    /// Sends the waiting packet if it goes to a server. False if there is no room for it: then it waits on.
    fn flush(&mut self, header: usize, cx: &mut Context<'_>) -> bool {
        let Some(Transmit { length, direction: Direction::ToServer, .. }) = self.waiting else { return true };
        let frame = self.own.get_mut(..header + length).unwrap_or_default();
        if self.links.address(frame, header, Direction::ToServer) {
            let Some(token) = self.driver.transmit(cx) else { return false };
            token.consume(frame.len(), |sent| copy(frame, sent));
        }
        self.waiting = None;
        true
    }
}

impl<D: Driver, S: Storage, B: AsMut<[u8]>> Driver for TranslatingDriver<'_, D, S, B> {
    type RxToken<'a>
        = RxToken<'a, D::RxToken<'a>, S>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, D::TxToken<'a>, S>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        *self.shared.network.borrow_mut() = Some(cx.waker().clone());
        let header = self.header();
        if let Some(header) = header {
            self.speak(header, cx);
        }
        let (came, token) = match (self.waiting, header) {
            // One for a server waits for room to be sent, and keeps nothing from being received.
            (Some(Transmit { length, direction: Direction::ToClient, .. }), Some(header)) => {
                let token = self.driver.transmit(cx)?;
                self.waiting = None;
                let frame = self.own.get_mut(..header + length).unwrap_or_default();
                self.links.address(frame, header, Direction::ToClient);
                (Came::Own(frame), token)
            }
            _ => {
                let (received, token) = self.driver.receive(cx)?;
                (Came::Received(received), token)
            }
        };
        let received = RxToken { came, shared: self.shared, header };
        let sent = TxToken { token, buffer: self.buffer.as_mut(), links: &mut self.links, shared: self.shared, header };
        Some((received, sent))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let header = self.header();
        // What waits for room goes first, or a stack that always finds the room could keep it waiting for ever.
        if !self.flush(header.unwrap_or(0), cx) {
            return None;
        }
        let token = self.driver.transmit(cx)?;
        Some(TxToken { token, buffer: self.buffer.as_mut(), links: &mut self.links, shared: self.shared, header })
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.driver.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.driver.capabilities();
        capabilities.max_transmission_unit = capabilities.max_transmission_unit.min(self.longest);
        // The translator looks into ICMP errors, so what the stack sends must have its checksum.
        capabilities.checksum.icmpv4 = match capabilities.checksum.icmpv4 {
            Checksum::Both | Checksum::Rx => Checksum::Both,
            Checksum::Tx | Checksum::None => Checksum::Tx,
        };
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}

/// A frame that came.
#[derive(Debug)]
pub struct RxToken<'a, T, S> {
    came: Came<'a, T>,
    shared: &'a Shared<S>,
    header: Option<usize>,
}

#[derive(Debug)]
enum Came<'a, T> {
    /// From the network, not yet translated.
    Received(T),
    /// From the translator itself.
    Own(&'a mut [u8]),
}

impl<T: embassy_net_driver::RxToken, S: Storage> embassy_net_driver::RxToken for RxToken<'_, T, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        match self.came {
            Came::Own(frame) => f(frame),
            Came::Received(token) => token.consume(|frame| match self.shared.translate(self.header, frame) {
                Some(Verdict::Drop(_) | Verdict::Hold) => f(&mut []),
                _ => f(frame),
            }),
        }
    }
}

/// Leave to send a frame, which will be translated.
#[derive(Debug)]
pub struct TxToken<'a, T, S> {
    token: T,
    buffer: &'a mut [u8],
    links: &'a mut Links,
    shared: &'a Shared<S>,
    header: Option<usize>,
}

impl<T: embassy_net_driver::TxToken, S: Storage> embassy_net_driver::TxToken for TxToken<'_, T, S> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Self { token, buffer, links, shared, header } = self;
        let mut translate = |frame: &mut [u8]| {
            let verdict = shared.translate(header, frame);
            if let Some(verdict) = verdict
                && header == Some(ETHERNET)
            {
                links.learn(frame, verdict);
            }
            !matches!(verdict, Some(Verdict::Drop(_) | Verdict::Hold))
        };
        let Some(frame) = buffer.get_mut(..length) else {
            // Longer than the buffer: what must be dropped is sent as zeros, which nobody reads.
            return token.consume(length, |frame| {
                let result = f(frame);
                if !translate(frame) {
                    frame.fill(0);
                }
                result
            });
        };
        let result = f(frame);
        if translate(frame) {
            token.consume(length, |sent| copy(frame, sent));
        }
        result
    }
}

impl<S: Storage> Shared<S> {
    /// Translates the packet in a frame. `None` if there is none that the translator could read.
    fn translate(&self, header: Option<usize>, frame: &mut [u8]) -> Option<Verdict> {
        let (header, packet) = frame.split_at_mut_checked(header?)?;
        if packet.is_empty() || !(header.is_empty() || header.ends_with(&links::IPV4)) {
            return None;
        }
        Some(self.translator.borrow_mut().translate((self.clock)(), packet))
    }
}

/// Copies without a panic, if a driver should give a buffer of another length than it was asked for.
fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The programs in `docs/embedding.md`.
#[doc = include_str!("../../../../docs/embedding.md")]
#[cfg(doctest)]
struct Embedding;
