//! A smoltcp device that translates what passes through it (feature `smoltcp`).
//!
//! [`TranslatingDevice`] wraps any [`phy::Device`] and is one itself, so an [`Interface`] can use it in place of the
//! other:
//!
//! ```text
//!   sockets and Interface          the client, or a router's inner side
//!         |       ^
//!     transmit  receive
//!         v       |
//!   TranslatingDevice              translate(), poll(), poll_transmit()
//!         |       ^
//!     transmit  receive
//!         v       |
//!   the wrapped device             the network that the servers are in
//! ```
//!
//! What happens to a frame in each direction:
//!
//! | verdict | on its way out | on its way in |
//! | --- | --- | --- |
//! | [`ToServer`], [`ToClient`] | the translated frame is sent | the stack gets the translated frame |
//! | [`Pass`] | it is sent as it is | the stack gets it as it is |
//! | [`Drop`], [`Hold`] | nothing is sent | the stack gets an empty frame, which it ignores |
//!
//! The empty frame preserves smoltcp's one frame per call: a flood of dropped packets makes no call longer, and does
//! not make the network look idle. Frames that are not IPv4 (ARP, IPv6, VLAN tags, IEEE 802.15.4) pass.
//!
//! The translator needs no calls of its own: each call of `receive`, and so each [`Interface::poll`], does the
//! time-driven work, gives the stack the translator's own packets to the client, and sends those to the server. The
//! device does not know the interface's timers, nor the interface the device's: wake up at the earlier of
//! [`Interface::poll_at`] and [`TranslatingDevice::poll_at`].
//!
//! When the wrapped device has no room for such a packet, the packet waits and goes out before any later frame of the
//! stack; frames are still received meanwhile. A packet to the client waits for room too, since smoltcp requires a
//! transmit token with each frame that it receives.
//!
//! ```
//! use byway::device::TranslatingDevice;
//! use byway::{Config, Divert, Fixed, Translator};
//! use core::net::{Ipv4Addr, SocketAddrV4};
//! use smoltcp::phy::{Loopback, Medium};
//!
//! let device = Loopback::new(Medium::Ip); // your driver
//! let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
//! let translator = Translator::new(config, Fixed::<64, 4>::new())?;
//! // One buffer for received frames, and one for frames to send.
//! let mut device = TranslatingDevice::new(device, translator, [[0; 1514]; 2]);
//!
//! let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
//! let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 80);
//! device.translator_mut().divert(Divert::new(original).to(server))?;
//!
//! // then interface.poll(now, &mut device, &mut sockets), as usual
//! # use smoltcp::iface::{Config as Settings, Interface, SocketSet};
//! # use smoltcp::{time::Instant, wire::HardwareAddress};
//! # let mut interface = Interface::new(Settings::new(HardwareAddress::Ip), &mut device, Instant::ZERO);
//! # interface.poll(Instant::ZERO, &mut device, &mut SocketSet::new([]));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # What is not supported
//!
//! - **Link addresses are not changed.** On Ethernet a diverted frame goes to the next hop that the stack chose for the
//!   original destination: both must be behind the same router, which then forwards it to the server. And the
//!   alternative addresses must answer ARP requests: configure them on the interface, beside its own.
//! - **Clients are on the stack's side of the device.** Servers on that side (a port forward to the stack) are
//!   translated as well, but the translator's own packets about their connections go the wrong way, and are ignored
//!   there.
//! - **Own packets to the server** have, on Ethernet, the link addresses of the last frame that was diverted. Until
//!   there was one, they are lost, and [counted](TranslatingDevice::unaddressed).
//! - **Connections are handed over** only with [`with_hand_overs`](TranslatingDevice::with_hand_overs).
//! - **Nothing is held.** A later fragment that comes before its first is dropped, and must be sent again: a device has
//!   buffers for one frame in each direction. A loop of your own around the translator can hold some
//!   ([`DatagramId`](crate::DatagramId)).
//! - **No segmentation offload**, and no checksum offload for ICMP: the translator has to parse ICMP errors. The other
//!   offloads are those of the wrapped device. [`Checksums::Hardware`](crate::Checksums::Hardware) is correct only
//!   where the stack neither computes nor verifies checksums.
//! - **Link addresses are not filtered**: if the wrapped device is promiscuous, the translator sees frames for other
//!   hosts.
//!
//! [`ToServer`]: Verdict::ToServer
//! [`ToClient`]: Verdict::ToClient
//! [`Pass`]: Verdict::Pass
//! [`Drop`]: Verdict::Drop
//! [`Hold`]: Verdict::Hold
//! [`Interface`]: smoltcp::iface::Interface
//! [`Interface::poll`]: smoltcp::iface::Interface::poll
//! [`Interface::poll_at`]: smoltcp::iface::Interface::poll_at

mod link;
mod mover;
mod token;

use core::fmt;
use smoltcp::phy::{self, Checksum, DeviceCapabilities, PacketMeta};
use smoltcp::time::Instant as Timestamp;

use crate::connection::Direction;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::{TRANSMIT_BUFFER, Translator, Transmit};
#[cfg(doc)]
use crate::verdict::Verdict;
use link::{ETHERNET, Links, copy, header_length};

pub use mover::Mover;
use token::Way;
pub use token::{RxToken, TxToken};

/// The smallest value, in bytes, that the stack is given as the longest frame: every host accepts a datagram of 576
/// (RFC 791, section 3.1), and smoltcp subtracts headers from it without checking.
const LEAST: usize = ETHERNET + 576;

/// How many of the translator's own packets one call sends to servers; any others wait for the next call.
const OWN_PACKETS: usize = 16;

/// A [`phy::Device`] that wraps another and translates what passes through it; see the [module's documentation](self).
///
/// `D` is the wrapped device, `S` the translator's storage, and `B` the type of a buffer for one frame: an array, a
/// `&'static mut [u8]`, a `Vec<u8>`. `H` hands connections over, or is `()` and does nothing
/// ([`with_hand_overs`](Self::with_hand_overs)). Nothing is allocated.
pub struct TranslatingDevice<D, S, B, H = ()> {
    device: D,
    translator: Translator<S>,
    mover: H,
    buffers: [B; 2],
    /// The longest frame that the stack may send.
    longest: usize,
    links: Links,
    /// A packet of the translator's own that could not be delivered yet, and its frame. It has its own buffer, so that
    /// frames can pass in both directions while it waits.
    waiting: Option<Transmit>,
    own: [u8; ETHERNET + TRANSMIT_BUFFER],
    /// The length of a frame of a hand-over for the stack, which is in the first buffer.
    moved: Option<usize>,
    oversized: u64,
    unaddressed: u64,
}

impl<D, S, B> TranslatingDevice<D, S, B>
where
    D: phy::Device,
    S: Storage,
    B: AsMut<[u8]>,
{
    /// Wraps `device`, and translates what passes through it with `translator`.
    ///
    /// Each of the two `buffers` holds one frame: the first a received frame, the second one to be sent. They should be
    /// as long as the device's largest frame (its [`max_transmission_unit`](DeviceCapabilities::max_transmission_unit),
    /// 1514 bytes on Ethernet). If they are shorter, the stack is given the smaller length, down to 590 bytes. A
    /// received frame that is too long for the first buffer is dropped, see [`oversized`](Self::oversized).
    pub fn new(device: D, translator: Translator<S>, mut buffers: [B; 2]) -> Self {
        let [first, second] = &mut buffers;
        let shorter = first.as_mut().len().min(second.as_mut().len());
        let longest = shorter.max(LEAST);
        Self {
            device,
            translator,
            mover: (),
            buffers,
            longest,
            links: Links::NEW,
            waiting: None,
            own: [0; ETHERNET + TRANSMIT_BUFFER],
            moved: None,
            oversized: 0,
            unaddressed: 0,
        }
    }

    /// The same device, which also hands connections over: with [`HandOvers`](crate::HandOvers). Their packets have the
    /// device's buffers to themselves between two frames, so that none is cut short.
    ///
    /// ```
    /// use byway::device::TranslatingDevice;
    /// use byway::{AtRest, Config, Fixed, HandOvers, Translator};
    /// use core::{net::Ipv4Addr, time::Duration};
    /// use smoltcp::phy::{Loopback, Medium};
    ///
    /// // 64 connections and 4 rules; all 64 connections can be handed over.
    /// let storage = Fixed::<64, 4, 8, 8, 0, 64>::sized();
    /// let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// let device = TranslatingDevice::new(Loopback::new(Medium::Ip), Translator::new(config, storage)?, [[0; 1514]; 2]);
    /// let mut buffer = [0; 4096];
    /// let hand_overs = HandOvers::<_, 2>::new(AtRest::after(Duration::from_millis(200)), &mut buffer);
    /// let mut device = device.with_hand_overs(hand_overs);
    ///
    /// let (translator, hand_overs) = device.parts_mut();
    /// // then hand_overs.begin(now, translator, &client_side, server), and interface.poll(..) as usual
    /// assert_eq!((translator.connections().count(), hand_overs.under_way()), (0, 0));
    /// # Ok::<(), byway::ConfigError>(())
    /// ```
    pub fn with_hand_overs<H: Mover<S>>(self, hand_overs: H) -> TranslatingDevice<D, S, B, H> {
        let Self {
            device,
            translator,
            mover: (),
            buffers,
            longest,
            links,
            waiting,
            own,
            moved,
            oversized,
            unaddressed,
        } = self;
        let mover = hand_overs;
        TranslatingDevice {
            device,
            translator,
            mover,
            buffers,
            longest,
            links,
            waiting,
            own,
            moved,
            oversized,
            unaddressed,
        }
    }
}

impl<D, S, B, H> TranslatingDevice<D, S, B, H>
where
    D: phy::Device,
    S: Storage,
    B: AsMut<[u8]>,
    H: Mover<S>,
{
    /// The translator.
    pub const fn translator(&self) -> &Translator<S> {
        &self.translator
    }

    /// The translator, for instructions, events and listings.
    ///
    /// Calling [`poll`](Translator::poll) and [`poll_transmit`](Translator::poll_transmit) is not necessary, and the
    /// device does not send a packet that is fetched here.
    pub const fn translator_mut(&mut self) -> &mut Translator<S> {
        &mut self.translator
    }

    /// What hands connections over.
    pub const fn hand_overs(&self) -> &H {
        &self.mover
    }

    /// The translator, and what hands its connections over: beginning a hand-over needs both.
    pub const fn parts_mut(&mut self) -> (&mut Translator<S>, &mut H) {
        (&mut self.translator, &mut self.mover)
    }

    /// The wrapped device.
    pub const fn inner(&self) -> &D {
        &self.device
    }

    /// The wrapped device. Frames sent or received through it directly are not translated.
    pub const fn inner_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The wrapped device and the translator with all its connections. Hand-overs that are under way are given up, and a
    /// packet of the translator's own that waits for room is lost; there is none unless [`poll_at`](Self::poll_at) returns zero.
    pub fn into_inner(self) -> (D, Translator<S>) {
        (self.device, self.translator)
    }

    /// The latest time at which the interface should be polled for the translator; `None` if nothing is pending.
    /// [`Translator::poll_at`] says what it costs to call early or late.
    pub fn poll_at(&mut self) -> Option<Timestamp> {
        if self.waiting.is_some() || self.moved.is_some() {
            return Some(Timestamp::ZERO);
        }
        let at = self.translator.poll_at().into_iter().chain(self.mover.poll_at(Instant::ZERO)).min()?;
        Some(Timestamp::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How many received frames were too long for the first buffer, and were dropped.
    pub const fn oversized(&self) -> u64 {
        self.oversized
    }

    /// How many of the translator's own packets to servers were dropped because no frame had been diverted yet, so that
    /// their link addresses were unknown. Only Ethernet has link addresses.
    pub const fn unaddressed(&self) -> u64 {
        self.unaddressed
    }

    /// Does the time-driven work, sends the translator's own packets to servers, and fetches one to a client.
    fn work(&mut self, timestamp: Timestamp) {
        let now = instant(timestamp);
        if self.translator.poll_at().is_some_and(|at| at <= now) {
            self.translator.poll(now);
        }
        let Some(header) = header_length(self.device.capabilities().medium) else {
            return;
        };
        if H::MOVES {
            self.mover.poll(now, &mut self.translator);
            self.move_on(timestamp, header);
        }
        for _ in 0..OWN_PACKETS {
            if self.waiting.is_none() {
                let buffer = self.own.get_mut(header..);
                self.waiting = buffer.and_then(|buffer| self.translator.poll_transmit(now, buffer));
            }
            if self.waiting.is_none_or(|waiting| waiting.direction == Direction::ToClient) || !self.flush(timestamp) {
                return;
            }
        }
    }

    /// Sends the packets of hand-overs to servers, and puts one for the stack into the first buffer.
    fn move_on(&mut self, timestamp: Timestamp, header: usize) {
        for _ in 0..OWN_PACKETS {
            if self.moved.is_some() {
                return;
            }
            // Without room nothing is fetched, so that nothing has to be kept.
            let Some(token) = self.device.transmit(timestamp) else {
                return;
            };
            let [first, _] = &mut self.buffers;
            let most = first.as_mut().len().min(self.longest);
            let Some(buffer) = first.as_mut().get_mut(..most).and_then(|frame| frame.get_mut(header..)) else {
                return;
            };
            let Some(own) = self.mover.poll_transmit(instant(timestamp), &mut self.translator, buffer) else {
                return;
            };
            let length = header + own.length;
            let frame = first.as_mut().get_mut(..length).unwrap_or_default();
            let is_addressed = self.links.address(frame, header, own.direction);
            match own.direction {
                Direction::ToClient => self.moved = Some(length),
                Direction::ToServer if is_addressed => phy::TxToken::consume(token, length, |sent| copy(frame, sent)),
                Direction::ToServer => self.unaddressed = self.unaddressed.saturating_add(1),
            }
        }
    }

    /// Sends the waiting packet if it goes to a server. False if there is no room: the packet then keeps waiting.
    fn flush(&mut self, timestamp: Timestamp) -> bool {
        let Some(Transmit { length, direction: Direction::ToServer }) = self.waiting else {
            return true;
        };
        let header = header_length(self.device.capabilities().medium).unwrap_or(0);
        let frame = self.own.get_mut(..header + length).unwrap_or_default();
        if self.links.address(frame, header, Direction::ToServer) {
            let Some(token) = self.device.transmit(timestamp) else {
                return false;
            };
            phy::TxToken::consume(token, frame.len(), |sent| copy(frame, sent));
        } else {
            self.unaddressed = self.unaddressed.saturating_add(1);
        }
        self.waiting = None;
        true
    }
}

impl<D, S, B, H> phy::Device for TranslatingDevice<D, S, B, H>
where
    D: phy::Device,
    S: Storage,
    B: AsMut<[u8]>,
    H: Mover<S>,
{
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, D::TxToken<'a>, S, H>
    where
        Self: 'a;

    fn capabilities(&self) -> DeviceCapabilities {
        let inner = self.device.capabilities();
        // Start from the default, so that this device offers nothing that only a later smoltcp, or one with more
        // features, can offload.
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = inner.medium;
        capabilities.max_transmission_unit = inner.max_transmission_unit.min(self.longest);
        capabilities.max_burst_size = inner.max_burst_size;
        capabilities.checksum = inner.checksum;
        capabilities.checksum.icmpv4 = match capabilities.checksum.icmpv4 {
            Checksum::Both | Checksum::Rx => Checksum::Both,
            Checksum::Tx | Checksum::None => Checksum::Tx,
        };
        capabilities
    }

    fn receive(&mut self, timestamp: Timestamp) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.work(timestamp);
        let now = instant(timestamp);
        let medium = self.device.capabilities().medium;
        let [first, second] = &mut self.buffers;
        let (first, second) = (first.as_mut(), second.as_mut());

        if let Some(length) = self.moved {
            let token = self.device.transmit(timestamp)?;
            self.moved = None;
            let frame = first.get_mut(..length).unwrap_or_default();
            let way =
                Way { translator: &mut self.translator, mover: &mut self.mover, links: &mut self.links, medium, now };
            return Some((RxToken { frame, meta: PacketMeta::default() }, TxToken { token, buffer: second, way }));
        }

        // A packet to a server waits for room to be sent, and does not block receiving.
        if let Some(Transmit { length, direction: Direction::ToClient }) = self.waiting {
            let token = self.device.transmit(timestamp)?;
            self.waiting = None;
            let header = header_length(medium).unwrap_or(0);
            let frame = self.own.get_mut(..header + length).unwrap_or_default();
            let _always = self.links.address(frame, header, Direction::ToClient);
            let way =
                Way { translator: &mut self.translator, mover: &mut self.mover, links: &mut self.links, medium, now };
            let sent = TxToken { token, buffer: second, way };
            return Some((RxToken { frame, meta: PacketMeta::default() }, sent));
        }

        let (received, token) = self.device.receive(timestamp)?;
        let meta = phy::RxToken::meta(&received);
        let mut way =
            Way { translator: &mut self.translator, mover: &mut self.mover, links: &mut self.links, medium, now };
        let length = phy::RxToken::consume(received, |frame| {
            first.get_mut(..frame.len()).map(|buffer| {
                copy(frame, buffer);
                frame.len()
            })
        });
        if length.is_none() {
            self.oversized = self.oversized.saturating_add(1);
        }
        let mut frame = first.get_mut(..length.unwrap_or(0)).unwrap_or_default();
        if !way.translate(frame) {
            frame = &mut [];
        }
        Some((RxToken { frame, meta }, TxToken { token, buffer: second, way }))
    }

    fn transmit(&mut self, timestamp: Timestamp) -> Option<Self::TxToken<'_>> {
        // A waiting packet goes first, or a stack that always finds room could keep it waiting for ever.
        if !self.flush(timestamp) {
            return None;
        }
        let medium = self.device.capabilities().medium;
        let token = self.device.transmit(timestamp)?;
        let [_, second] = &mut self.buffers;
        let now = instant(timestamp);
        let way = Way { translator: &mut self.translator, mover: &mut self.mover, links: &mut self.links, medium, now };
        Some(TxToken { token, buffer: second.as_mut(), way })
    }
}

impl<D: fmt::Debug, S: fmt::Debug, B, H: fmt::Debug> fmt::Debug for TranslatingDevice<D, S, B, H> {
    /// Everything except the contents of the buffers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranslatingDevice")
            .field("device", &self.device)
            .field("translator", &self.translator)
            .field("mover", &self.mover)
            .field("links", &self.links)
            .field("waiting", &self.waiting)
            .field("oversized", &self.oversized)
            .field("unaddressed", &self.unaddressed)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<D, S: Storage, B, H> defmt::Format for TranslatingDevice<D, S, B, H> {
    /// Everything except the wrapped device and the contents of the buffers.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "TranslatingDevice {{ translator: {}, waiting: {}, oversized: {}, unaddressed: {} }}",
            self.translator,
            self.waiting,
            self.oversized,
            self.unaddressed
        );
    }
}

/// The library's form of smoltcp's time, which is negative only by mistake.
fn instant(timestamp: Timestamp) -> Instant {
    Instant::from_micros(u64::try_from(timestamp.total_micros()).unwrap_or(0))
}
