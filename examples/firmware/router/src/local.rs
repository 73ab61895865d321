//! The router as a host: a smoltcp interface that answers for the router's own addresses, with one socket, to which
//! instructions come.
//!
//! It works at the IP level, and holds at most one packet at a time: what it wants to send goes the same way out as a
//! forwarded packet, after it has let go of everything else.

use core::net::SocketAddr;

use byway::control::{MAX_ANSWER, MAX_REQUEST};
use smoltcp::iface::{Config as IfaceConfig, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::config::Config;
use crate::{ETHERNET_HEADER, MAX_FRAME};

/// Instructions, and answers, that the socket holds. One is enough for the answers, because each is fetched at once; what
/// the translator has to tell monitors comes beside it.
const DATAGRAMS: usize = 2;

/// The memory of the router's own socket: in a `static`, because the socket borrows it for as long as it lives.
#[derive(Debug)]
pub struct SocketMemory {
    sockets: [SocketStorage<'static>; 1],
    received: [u8; MAX_REQUEST * DATAGRAMS],
    received_from: [udp::PacketMetadata; DATAGRAMS],
    sent: [u8; MAX_ANSWER * DATAGRAMS],
    sent_to: [udp::PacketMetadata; DATAGRAMS],
}

impl SocketMemory {
    /// Memory that nothing lies in yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sockets: [SocketStorage::EMPTY],
            received: [0; _],
            received_from: [udp::PacketMetadata::EMPTY; DATAGRAMS],
            sent: [0; _],
            sent_to: [udp::PacketMetadata::EMPTY; DATAGRAMS],
        }
    }
}

impl Default for SocketMemory {
    fn default() -> Self {
        Self::new()
    }
}

/// The router as a host.
pub(crate) struct Local {
    interface: Interface,
    slot: Slot,
    sockets: SocketSet<'static>,
    control: SocketHandle,
}

impl core::fmt::Debug for Local {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Local").field("addresses", &self.interface.ip_addrs()).finish_non_exhaustive()
    }
}

impl Local {
    pub(crate) fn new(now: Instant, config: &Config, memory: &'static mut SocketMemory) -> Self {
        let mtu = config.interfaces.iter().map(|foot| foot.packet_limit()).min().unwrap_or(0);
        let mut slot = Slot { mtu, received: 0, inbox: [0; MAX_FRAME], sending: 0, outbox: [0; MAX_FRAME] };
        let mut settings = IfaceConfig::new(HardwareAddress::Ip);
        settings.random_seed = config.seed;
        let mut interface = Interface::new(settings, &mut slot, now);
        interface.update_ip_addrs(|addresses| {
            for foot in &config.interfaces {
                // smoltcp has room for two addresses (its default), and there are two.
                let _ = addresses.push(IpCidr::Ipv4(foot.address));
            }
        });
        let mut control = udp::Socket::new(
            udp::PacketBuffer::new(&mut memory.received_from[..], &mut memory.received[..]),
            udp::PacketBuffer::new(&mut memory.sent_to[..], &mut memory.sent[..]),
        );
        // The only way to fail is to be bound already.
        let _ = control.bind(config.control);
        let mut sockets = SocketSet::new(&mut memory.sockets[..]);
        let control = sockets.add(control);
        Self { interface, slot, sockets, control }
    }

    /// Takes the next instruction out of the socket, hands it to `obey` with whom it came from, and sends what that writes
    /// into its answer and returns the length of. False if there is none.
    pub(crate) fn obey(
        &mut self,
        obey: impl FnOnce(SocketAddr, &[u8], &mut [u8; MAX_ANSWER]) -> Option<usize>,
    ) -> bool {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.control);
        let Ok((datagram, from)) = socket.recv() else { return false };
        let mut answer = [0; MAX_ANSWER];
        let peer = SocketAddr::new(from.endpoint.addr.into(), from.endpoint.port);
        if let Some(answer) = obey(peer, datagram, &mut answer).and_then(|length| answer.get(..length)) {
            // From the address that it came to. Without room it is lost, like any datagram, and the monitor asks again.
            let to = udp::UdpMetadata { local_address: from.local_address, ..from.endpoint.into() };
            let _ = socket.send_slice(answer, to);
        }
        true
    }

    /// Whether the socket has room for another datagram.
    pub(crate) fn can_tell(&mut self) -> bool {
        self.sockets.get_mut::<udp::Socket<'_>>(self.control).can_send()
    }

    /// Sends a datagram to a monitor.
    pub(crate) fn tell(&mut self, to: SocketAddr, datagram: &[u8]) {
        let SocketAddr::V4(to) = to else { return };
        let _ = self.sockets.get_mut::<udp::Socket<'_>>(self.control).send_slice(datagram, to);
    }

    /// Takes a packet for one of the router's own addresses. [`next_frame`](Self::next_frame) is to follow.
    pub(crate) fn receive(&mut self, packet: &[u8]) {
        let Some(room) = self.slot.inbox.get_mut(..packet.len()) else { return };
        room.copy_from_slice(packet);
        self.slot.received = packet.len();
    }

    /// The next packet that the router itself has to say: a frame whose link addresses are still to be filled in. To
    /// be called until there is none.
    pub(crate) fn next_frame(&mut self, now: Instant) -> Option<&mut [u8]> {
        self.slot.sending = 0;
        self.interface.poll(now, &mut self.slot, &mut self.sockets);
        if self.slot.sending == 0 {
            return None;
        }
        self.slot.outbox.get_mut(..ETHERNET_HEADER + self.slot.sending)
    }
}

/// The device that smoltcp sees: one packet in, one packet out. A length of 0 is none.
struct Slot {
    mtu: usize,
    received: usize,
    inbox: [u8; MAX_FRAME],
    sending: usize,
    /// The packet comes after the room for its Ethernet header.
    outbox: [u8; MAX_FRAME],
}

impl phy::Device for Slot {
    type RxToken<'a> = Inbox<'a>;
    type TxToken<'a> = Outbox<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Inbox<'_>, Outbox<'_>)> {
        if self.received == 0 || self.sending != 0 {
            return None;
        }
        let len = core::mem::take(&mut self.received);
        Some((Inbox(&self.inbox[..len]), Outbox { len: &mut self.sending, frame: &mut self.outbox }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outbox<'_>> {
        (self.sending == 0).then_some(Outbox { len: &mut self.sending, frame: &mut self.outbox })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Inbox<'a>(&'a [u8]);

impl phy::RxToken for Inbox<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Outbox<'a> {
    len: &'a mut usize,
    frame: &'a mut [u8; MAX_FRAME],
}

impl phy::TxToken for Outbox<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        // smoltcp asks for no more than `max_transmission_unit`, which is made to fit.
        let room = &mut self.frame[ETHERNET_HEADER..][..len];
        *self.len = len;
        write(room)
    }
}
