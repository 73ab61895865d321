//! A smoltcp stack, and the end of the line that it is plugged into.

use core::net::Ipv4Addr;
use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

pub struct Host {
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    pub plug: Plug,
}

impl Host {
    /// A host with one address, to which everything else is behind the line.
    pub fn new(address: Ipv4Addr, seed: u64) -> Self {
        let mut plug = Plug::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut plug, Instant::ZERO);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(address.into(), 32)).expect("the list was empty"));
        interface.routes_mut().add_default_ipv4_route(address).expect("the table was empty");
        Self { interface, sockets: SocketSet::new(Vec::new()), plug }
    }

    pub fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.plug, &mut self.sockets);
    }

    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll_at(now, &self.sockets)
    }
}

/// A network device: packets that have come, and packets that are to go.
#[derive(Debug, Default)]
pub struct Plug {
    pub received: VecDeque<Vec<u8>>,
    pub sent: Vec<Vec<u8>>,
}

impl phy::Device for Plug {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leave<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Leave<'_>)> {
        Some((Received(self.received.pop_front()?), Leave(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leave<'_>> {
        Some(Leave(&mut self.sent))
    }
}

pub struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Leave<'a>(&'a mut Vec<Vec<u8>>);

impl phy::TxToken for Leave<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}
