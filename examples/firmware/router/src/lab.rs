//! The network that the images and the test beside them agree on.
//!
//! ```text
//!  client 10.1.0.10 ── 10.1.0.1 [router] 10.2.0.1 ──┬── server A 10.2.0.20
//!                      MTU 1500         MTU 1400    └── server B 10.2.0.30
//! ```
//!
//! What the client sends to 100.100.100.100, which is nowhere, is diverted to server A; the servers see the router's
//! own address instead of the client's.

use core::net::Ipv4Addr;

use byway::{Divert, Fixed, Translator};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::{Config, Interface};

/// The router's addresses on the client's and on the servers' side.
const FEET: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];

/// From where to where.
const DIVERTED: [(Ipv4Addr, Ipv4Addr); 1] = [(Ipv4Addr::new(100, 100, 100, 100), Ipv4Addr::new(10, 2, 0, 20))];

/// The ports that connections get on the servers' side. The router's own services have ports below.
const PORTS: core::ops::RangeInclusive<u16> = 1024..=65535;

/// Room for 1024 connections and 64 rules.
pub type Tables = Fixed<1024, 64>;

/// The translator for that network.
///
/// # Panics
/// Never, unless the constants above contradict each other.
pub fn translator(secret: [u8; 32]) -> Translator<Tables> {
    let config = byway::Config::new(secret).alternative(FEET[1], PORTS).own(FEET[0]);
    let Ok(mut translator) = Translator::new(config, Tables::new()) else { panic!("the configuration is good") };
    for (original, server) in DIVERTED {
        let entered = translator.divert(Divert::new(original).to(server));
        assert!(entered.is_ok(), "the rules are good");
    }
    translator
}

/// The router's place in that network: its two feet, each on a wire with this number and this link address of ours.
pub const fn config(feet: [(usize, EthernetAddress); 2], seed: u64) -> Config {
    let [(client_wire, client_mac), (server_wire, server_mac)] = feet;
    Config {
        interfaces: [
            Interface { wire: client_wire, mac: client_mac, address: Ipv4Cidr::new(FEET[0], 24), mtu: 1500 },
            // Smaller, so that path-MTU discovery has something to discover.
            Interface { wire: server_wire, mac: server_mac, address: Ipv4Cidr::new(FEET[1], 24), mtu: 1400 },
        ],
        gateway: None,
        seed,
    }
}
