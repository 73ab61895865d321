//! The network that the images and the test beside them agree on.
//!
//! ```text
//!  client 10.1.0.10 ── 10.1.0.1 [router] 10.2.0.1 ──┬── server A 10.2.0.20
//!                      MTU 1500         MTU 1400    └── server B 10.2.0.30
//! ```
//!
//! What the client sends to 100.100.100.100, which is nowhere, is diverted to server A; the servers see the router's
//! own address instead of the client's. Queries for `www.bt.com`, whatever server they are sent to, are answered with that
//! address. Whoever knows the key below may change both, at UDP port 213 of the router.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::control::{Key, Rights};
use byway::naming::{FixedNames, NameEntry, NameStorage, Names, NamesConfig, Pattern};
use byway::{Divert, Fixed, Match, Storage, Translator};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::{Config, Control, Interface};

/// The router's addresses on the client's and on the servers' side.
const FEET: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];

/// From where to where.
const DIVERTED: [(Ipv4Addr, Ipv4Addr); 1] = [(Ipv4Addr::new(100, 100, 100, 100), Ipv4Addr::new(10, 2, 0, 20))];

/// The name of the first of them, for a day: the answer stays right when the server changes.
const NAME: &str = "www.bt.com";
const TTL: u32 = 86_400;

/// The ports that connections get on the servers' side. The router's own services have ports below.
const PORTS: core::ops::RangeInclusive<u16> = 1024..=65535;

/// Where instructions come to: the document's port 213.
const CONTROL: u16 = 213;

/// The key of the lab's monitor. It is printed here, so it protects nothing: a product gets its keys when it is
/// installed, each its own, and keeps them where its program is not.
const KEY: Key = Key::new(1, *b"of this lab only, not of any use", Rights::All);

/// What the board draws from its source of randomness at each start.
#[derive(Clone, Copy)]
pub struct Random {
    /// For the hashes of translator and names, the choice of ports, and the cookies.
    pub secret: [u8; 32],
    /// For the sessions of monitors.
    pub sessions: [u8; 32],
    /// For smoltcp.
    pub seed: [u8; 8],
}

impl Random {
    /// How many bytes it takes.
    pub const LEN: usize = 72;

    /// Draws it, by filling bytes.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn draw<E>(fill: impl FnOnce(&mut [u8; Self::LEN]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = [0; Self::LEN];
        fill(&mut bytes)?;
        let mut bytes = bytes.into_iter();
        let mut next = || bytes.next().unwrap_or_default();
        Ok(Self {
            secret: core::array::from_fn(|_| next()),
            sessions: core::array::from_fn(|_| next()),
            seed: core::array::from_fn(|_| next()),
        })
    }
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random")
    }
}

/// Room for 1024 connections and 64 rules.
pub type Tables = Fixed<1024, 64>;

/// The translator for that network.
///
/// # Panics
/// Never, unless the constants above contradict each other.
pub fn translator<T: Storage>(secret: [u8; 32], tables: T) -> Translator<T> {
    let config = byway::Config::new(secret).alternative(FEET[1], PORTS).own(FEET[0]);
    let Ok(mut translator) = Translator::new(config, tables) else { panic!("the configuration is good") };
    for (original, server) in DIVERTED {
        let entered = translator.divert(Divert::new(original).to(server));
        assert!(entered.is_ok(), "the rules are good");
    }
    translator
}

/// Room for 16 names, and for the rates of 16 networks of clients.
pub type NameTables = FixedNames<16, 16>;

/// The names of that network, tied to the rules of its translator.
///
/// # Panics
/// Never, unless the constants above contradict each other.
pub fn names<T: Storage, N: NameStorage>(secret: [u8; 32], translator: &Translator<T>, tables: N) -> Names<N> {
    let mut names = Names::new(NamesConfig::new(secret), tables);
    let [(original, _)] = DIVERTED;
    let Ok(pattern) = NAME.parse::<Pattern>() else { panic!("it is a name") };
    let tied = names.tie_to(translator, NameEntry::new(pattern).ttl(TTL), Match::from(original));
    assert!(tied.is_ok(), "the rule is there");
    names
}

/// Who may give instructions there. `sessions` is new at each start.
///
/// # Panics
/// Never: there is room for one key.
pub fn control(sessions: [u8; 32]) -> Control {
    let mut control = Control::new(sessions).listening_on(SocketAddrV4::new(FEET[0], CONTROL));
    let added = control.add_key(KEY);
    assert!(added.is_ok(), "there is room for one key");
    control
}

/// The router's place in that network: its two feet, each on a wire with this number and this link address of ours.
pub const fn config(feet: [(usize, EthernetAddress); 2], seed: [u8; 8]) -> Config {
    let [(client_wire, client_mac), (server_wire, server_mac)] = feet;
    Config {
        interfaces: [
            Interface { wire: client_wire, mac: client_mac, address: Ipv4Cidr::new(FEET[0], 24), mtu: 1500 },
            // Smaller, so that path-MTU discovery has something to discover.
            Interface { wire: server_wire, mac: server_mac, address: Ipv4Cidr::new(FEET[1], 24), mtu: 1400 },
        ],
        gateway: None,
        control: CONTROL,
        seed: u64::from_le_bytes(seed),
    }
}
