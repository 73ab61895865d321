//! The network that the images and the test beside them agree on.
//!
//! ```text
//!  client 10.1.0.10 ── 10.1.0.1 [router] 10.2.0.1 ──┬── server A 10.2.0.20
//!                      MTU 1500         10.2.0.2    └── server B 10.2.0.30
//!                                       MTU 1400
//! ```

use core::net::Ipv4Addr;

use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::{Config, Interface};

/// The address that a server sees instead of a client's.
pub const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// The router's place in that network: its two feet, each on a wire with this number and this link address of ours.
pub const fn config(feet: [(usize, EthernetAddress); 2], seed: u64) -> Config {
    let [(client_wire, client_mac), (server_wire, server_mac)] = feet;
    Config {
        interfaces: [
            Interface {
                wire: client_wire,
                mac: client_mac,
                address: Ipv4Cidr::new(Ipv4Addr::new(10, 1, 0, 1), 24),
                mtu: 1500,
                alternative: None,
            },
            // Smaller, so that path-MTU discovery has something to discover.
            Interface {
                wire: server_wire,
                mac: server_mac,
                address: Ipv4Cidr::new(Ipv4Addr::new(10, 2, 0, 1), 24),
                mtu: 1400,
                alternative: Some(ALTERNATIVE),
            },
        ],
        gateway: None,
        seed,
    }
}
