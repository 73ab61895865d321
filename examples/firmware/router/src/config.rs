//! What the router is told once, at its start.

use core::net::Ipv4Addr;

use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::MAX_FRAME;

/// One of the router's two feet. Both may stand on the same wire (a router on a stick).
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// The wire, as the board numbers them.
    pub wire: usize,
    /// The link address on that wire.
    pub mac: EthernetAddress,
    /// The router's own address, and with it the subnet that is reached directly.
    pub address: Ipv4Cidr,
    /// The longest IP packet in bytes that this subnet takes; at most 1500.
    pub mtu: usize,
}

impl Interface {
    /// Whether `address` is a host of this subnet: in its range, and neither its first nor its last address.
    pub(crate) fn has_host(&self, address: Ipv4Addr) -> bool {
        self.address.contains_addr(&address) && !self.is_edge(address)
    }

    /// Whether `address` is the directed broadcast of this subnet, or its network address.
    pub(crate) fn is_edge(&self, address: Ipv4Addr) -> bool {
        self.address.prefix_len() < 31
            && (address == self.address.network().address() || Some(address) == self.address.broadcast())
    }

    /// The longest packet for this subnet that also fits into a frame.
    pub(crate) fn packet_limit(&self) -> usize {
        self.mtu.min(MAX_FRAME - crate::ETHERNET_HEADER)
    }
}

/// What the router is told once, at its start.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The two subnets. What is in neither goes to the gateway.
    pub interfaces: [Interface; 2],
    /// The next hop of everything else, on one of the subnets; without it, everything else is unreachable.
    pub gateway: Option<Ipv4Addr>,
    /// The UDP port of the router's own addresses to which instructions come. It must be none that connections get.
    pub control: u16,
    /// A number that a stranger cannot guess: the beginning of smoltcp's own random numbers.
    pub seed: u64,
}
