//! Everything of the router that is not a driver: what the images in this folder share.
//!
//! ```text
//!  wire ──> Ethernet ──┬─ ARP ──> the cache of next hops (`arp`)
//!                      └─ IPv4 ─> checks (`ipv4`) ─> byway ─┬─> TTL, route, MTU, next hop (`egress`) ──> wire
//!                                                          └─> the router's own address (`local`)
//! ```
//!
//! The shape is that of byway and of smoltcp: no clock, no drivers, no allocator. The board calls
//! [`Router::receive`] with each frame and [`Router::poll`] when [`Router::poll_at`] says so, and lends its transmit
//! queues as [`Wires`].
//!
//! # Who does what
//!
//! - **Next hops** are resolved by a cache of our own: a router must keep a packet while it asks, retry, report what
//!   cannot be reached, and serve two subnets on one wire; smoltcp's neighbour cache is private to its `Interface`.
//!   ARP itself is spoken in smoltcp's `wire` types, and because there is one cache, there is one place that answers.
//! - **The router's own address** belongs to a smoltcp `Interface`. Since ARP is already done, that interface works at
//!   the IP level (`Medium::Ip`): one interface and one set of sockets serve both subnets, and what it sends takes the
//!   same way out as a forwarded packet.
//! - **Translation** is byway's, and comes before routing: the packet is shown to the translator as it came, and routed by the
//!   destination that it has afterwards. An ICMP error that the router itself has to send quotes the packet as it
//!   *came*, so it needs no translating back. The alternative address is the router's own one on the servers' side;
//!   byway takes its ports from 1024 on, and passes the rest, and echo requests, to the router.
//!
//! # Not done
//!
//! Keeping the later fragments of a datagram whose first has not been seen yet (dropped and counted as `held`; they come
//! in order on every link but the strangest), IPv6, VLAN tags, IGMP and multicast routing, ICMP redirects, reassembly of fragments that are addressed to the router
//! itself, fragmentation of a packet that carries IP options (dropped and counted), and the processing of IP options:
//! they are forwarded as they are.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod arp;
mod config;
mod counters;
mod egress;
mod icmp;
mod ipv4;
pub mod lab;
mod local;
mod router;
#[cfg(test)]
mod tests;
mod watchdog;

pub use config::{Config, Interface};
pub use counters::{Counters, Reason};
pub use local::SocketMemory;
pub use router::{Control, Router};
pub use smoltcp::time::{Duration, Instant};
pub use smoltcp::wire::{EthernetAddress, Ipv4Cidr};
pub use watchdog::Watchdog;

/// The longest Ethernet frame, without its check sequence: 14 bytes of header and 1500 of payload.
pub const MAX_FRAME: usize = ETHERNET_HEADER + 1500;

const ETHERNET_HEADER: usize = 14;

/// The board's transmit queues.
pub trait Wires {
    /// Sends a frame, complete but for its check sequence. False if there is no room for it: the router counts it.
    fn send(&mut self, wire: usize, frame: &[u8]) -> bool;
}
