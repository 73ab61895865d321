//! The router as a host: a smoltcp interface that answers for the router's own addresses.
//!
//! It works at the IP level, and holds at most one packet at a time: what it wants to send goes the same way out as a
//! forwarded packet, after it has let go of everything else.

use smoltcp::iface::{Config as IfaceConfig, Interface, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::config::Config;
use crate::{ETHERNET_HEADER, MAX_FRAME};

/// The router as a host.
pub(crate) struct Local {
    interface: Interface,
    slot: Slot,
}

impl core::fmt::Debug for Local {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Local").field("addresses", &self.interface.ip_addrs()).finish_non_exhaustive()
    }
}

impl Local {
    pub(crate) fn new(now: Instant, config: &Config) -> Self {
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
        Self { interface, slot }
    }

    /// Takes a packet for one of the router's own addresses. [`next_frame`](Self::next_frame) is to follow.
    pub(crate) fn receive(&mut self, packet: &[u8]) {
        let Some(room) = self.slot.inbox.get_mut(..packet.len()) else { return };
        room.copy_from_slice(packet);
        self.slot.received = packet.len();
    }

    /// The next packet that the router itself has to say: a frame whose link addresses are still to be filled in. To
    /// be called until there is none.
    pub(crate) fn next_frame(&mut self, now: Instant, sockets: &mut SocketSet<'_>) -> Option<&mut [u8]> {
        self.slot.sending = 0;
        self.interface.poll(now, &mut self.slot, sockets);
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
