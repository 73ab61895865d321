//! A `no_std` translator that moves a client's traffic from the server it asked for to another one, even in
//! mid-connection, without the client noticing.
//!
//! It rewrites both addresses of each packet in the forward direction and restores them in the reply direction (full
//! NAT). A rule maps an original destination to a server. [`Translator::redivert`] moves existing connections to
//! another server, however many there are, at constant cost.
//!
//! # A program
//!
//! ```
//! use byway::{Config, Divert, Fixed, Instant, Redivert, Storage, TRANSMIT_BUFFER, Translator, Verdict};
//! use core::net::SocketAddrV4;
//! # type End = ([u8; 4], u16);
//! # fn tcp((from, source): End, (to, destination): End, flags: u8, numbers: [u32; 2]) -> Vec<u8> {
//! #     let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
//! #     packet.extend([from, to].concat());
//! #     packet.extend([source, destination].map(u16::to_be_bytes).concat());
//! #     packet.extend(numbers.map(u32::to_be_bytes).concat());
//! #     packet.extend([0x50, flags, 32, 0, 0, 0, 0, 0]);
//! #     packet
//! # }
//!
//! /// One turn of the machine's loop: when a packet has arrived, and at the time that `poll_at` returns.
//! fn turn<S: Storage>(byway: &mut Translator<S>, now: Instant, packet: Option<&mut [u8]>, mut send: impl FnMut(&[u8])) {
//!     if let Some(packet) = packet {
//!         match byway.translate(now, packet) {
//!             Verdict::ToServer | Verdict::ToClient | Verdict::Pass => send(packet),
//!             Verdict::Hold => {} // a fragment that came before its first: see `DatagramId`
//!             Verdict::Drop(_reason) => {} // counted by reason
//!         }
//!     }
//!     if byway.poll_at().is_some_and(|at| at <= now) {
//!         byway.poll(now); // closes connections whose time-out has passed
//!     }
//!     let mut buffer = [0; TRANSMIT_BUFFER];
//!     while let Some(own) = byway.poll_transmit(now, &mut buffer) {
//!         send(&buffer[..own.length]); // a RST or an ICMP error: without this a `Reset` sends nothing
//!     }
//! }
//!
//! let secret = [0x5a; 32]; // from the machine's source of randomness
//! let config = Config::new(secret).alternative("10.10.10.10".parse()?, 1024..=65535);
//! let mut byway = Translator::new(config, Fixed::<64, 8>::new())?;
//! let original: SocketAddrV4 = "100.100.100.100:80".parse()?;
//! let (a, b): (SocketAddrV4, SocketAddrV4) = ("123.45.67.89:80".parse()?, "123.45.67.90:80".parse()?);
//! byway.divert(Divert::new(original).to(a))?;
//! # let mut out: Vec<Vec<u8>> = Vec::new();
//! # let mut send = |packet: &[u8]| out.push(packet.to_vec());
//! # // A handshake; its SYN goes first, since the answer goes to the port that is chosen for it.
//! # let (client, server) = (([1, 2, 3, 4], 3456), ([100, 100, 100, 100], 80));
//! # let mut syn = tcp(client, server, 2, [100, 0]);
//! # byway.translate(Instant::ZERO, &mut syn);
//! # let alternative = ([10, 10, 10, 10], u16::from_be_bytes([syn[20], syn[21]]));
//! # let accepted = tcp(([123, 45, 67, 89], 80), alternative, 0x12, [500, 101]);
//! # let acknowledged = tcp(client, server, 0x10, [101, 501]);
//! # let mut packets = [accepted, acknowledged].into_iter();
//! # let mut receive = || packets.next();
//! # let clock = || Instant::from_secs(1);
//!
//! while let Some(mut packet) = receive() {
//!     turn(&mut byway, clock(), Some(&mut packet), &mut send);
//! }
//! byway.redivert(a, b, Redivert::Reset)?; // b serves from now on; both ends of each open connection get a RST
//! turn(&mut byway, clock(), None, &mut send);
//! # let flags: Vec<u8> = out.iter().map(|packet| packet[33]).collect();
//! # assert_eq!(flags, [0x12, 0x10, 0x14, 0x14], "the handshake, and a RST for each end");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The loop around it
//!
//! The library has no clock, socket, thread or allocator; the caller supplies what is needed.
//!
//! 1. Pass each packet that the machine forwards, starting at its IPv4 header, to [`Translator::translate`] (or many at
//!    once to [`Translator::translate_burst`]) before routing it: translation may change its destination.
//! 2. Fetch the packets that the translator itself originates with [`Translator::poll_transmit`].
//! 3. Fetch events with [`Translator::poll_event`], if the storage has room for events.
//! 4. Call [`Translator::poll`] at the time that [`Translator::poll_at`] returns, or a little later.
//! 5. Instructions ([`divert`](Translator::divert), [`remove`](Translator::remove), [`redivert`](Translator::redivert))
//!    may be given at any time between two packets.
//!
//! # The contract
//!
//! 1. Bytes change if and only if the verdict says that the packet was translated. (If
//!    only ports change in a connection, a later fragment, which has none, is as before; so is a reply from another port
//!    of the server.) The length never changes.
//! 2. No input makes it panic: no packet contents, no time, no order of calls.
//! 3. Valid checksums stay valid, and a wrong checksum is not repaired into a correct one. A UDP checksum of zero stays
//!    zero; a computed zero is sent as 0xFFFF.
//! 4. Work per call is bounded, and the bound does not depend on the number of connections: for a packet, for expiry,
//!    for an instruction, for a full table and for a re-divert of every connection at once.
//! 5. One record holds both sides of a connection. There is no state in which one half can be found and the other
//!    cannot.
//! 6. After a packet is restored, the client sees what it would have seen from the original destination: addresses,
//!    ports, ICMP errors and the header quoted inside them. (With [`Config::rewrite_identification`], a quoted header has
//!    the identification that the translator gave the packet.)
//! 7. With [`Fixed`] and [`Borrowed`] storage nothing is ever allocated; with `Heap` storage (feature `alloc`) nothing
//!    is allocated after construction.
//! 8. Time that runs backwards is clamped. Equal secrets, inputs and times give equal outputs: there is no hidden
//!    state.
//! 9. What the table cannot hold is refused or evicted by a stated policy, and counted by reason. Nothing vanishes
//!    silently.
//!
//! Each of them is a property that is tested and fuzzed; see `tests/` and `fuzz/` in the repository.
//!
//! # The path of a packet
//!
//! ```text
//!        client side                        translator                          server side
//!
//!  1.2.3.4:3456 -> 100.100.100.100:80                          10.10.10.10:513 -> 123.45.67.89:80
//!  ------------------------------------>  rule? connection?  ------------------------------------>
//!                                         rewrite both ends
//!  <------------------------------------  restore both ends  <------------------------------------
//!  100.100.100.100:80 -> 1.2.3.4:3456                          123.45.67.89:80 -> 10.10.10.10:513
//! ```
//!
//! A packet to an alternative address and one of its ports belongs to the reply direction; every other packet is looked
//! up in the forward direction. A connection is unique by protocol, alternative endpoint and server, so that one
//! alternative port serves different servers at once.
//!
//! `docs/glossary.md` in the repository lists the terms used here beside those of the RFCs and of Linux.
//!
//! # What happens when the table is full
//!
//! A new connection takes the slot of a dead one. If there is none, it takes the slot of a finished connection whose
//! alternative endpoint is in quarantine (for 120 s, RFC 6888 REQ-8 and TIME-WAIT). If there is none of those either, a
//! half-open TCP, unanswered UDP or ICMP echo connection is evicted: among the four oldest and the four newest of each
//! kind, the one whose client has the most connections. An established TCP or an answered UDP connection is never
//! evicted. The table counts as full, too, when its index is: connections with replies from any port take two places
//! there. If nothing can be evicted, the packet is dropped ([`DropReason::TableFull`]) and its sender is notified by
//! ICMP (administratively prohibited).
//!
//! # Several cores
//!
//! A translator runs on one thread. [`Sharding`] divides the alternative addresses and ports among several translators,
//! and computes from a packet alone which of them owns it, so that cores share nothing. `Sharded` (feature `alloc`) is
//! such a set; its documentation explains how packets reach the right core.
//!
//! # What it never does
//!
//! Inspect payloads, guess (there is no ALG), reassemble fragments, decrement the time to live (the router around it
//! does), resolve link addresses, translate IPv6.
//!
//! # Features
//!
//! `alloc` adds the storage `Heap` and the set `Sharded`; `std` is the same. `defmt` adds `defmt::Format` to every
//! public type that has `Debug`. `smoltcp` adds the module `device`, `control` the module `control`, `naming` the
//! module `naming`, `monitor` the module `monitor`, `report` the module `report`. A feature adds an API; it never
//! changes behaviour and never sets a size.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(not(target_arch = "x86_64"), forbid(unsafe_code))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(doctest)]
extern crate std;
// Code that the fuzz targets and the tests share refers to the library by its name.
#[cfg(all(test, feature = "alloc"))]
extern crate self as byway;

mod config;
mod connection;
#[cfg(feature = "control")]
pub mod control;
mod counters;
#[cfg(feature = "smoltcp")]
pub mod device;
mod divert;
mod endpoint;
mod error;
mod event;
#[cfg(feature = "defmt")]
mod formats;
mod histogram;
mod intrinsics;
mod limits;
mod measurements;
#[cfg(feature = "monitor")]
pub mod monitor;
#[cfg(feature = "naming")]
pub mod naming;
mod packet_meta;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "alloc")]
mod sharded;
mod sharding;
mod table;
mod text;
mod time;
mod timeouts;
mod track;
mod translator;
mod verdict;
mod wire;

pub use config::{Config, InexactReset, Midstream, PortChoice};
pub use connection::{Connection, Direction, Measured, State, Volume};
pub use counters::Counters;
pub use divert::{Divert, DivertError, DivertOptions, Match, Target, Weighted};
pub use endpoint::{Pair, Prefix, Protocol};
pub use error::{ConfigError, ParseError};
pub use event::{Closed, Event};
#[cfg(feature = "report")]
pub use event::{Moved, Moving, Report};
pub use histogram::Histogram;
pub use limits::MAX_ALTERNATIVES;
pub use measurements::{Ends, Measurements, Total, Traffic};
pub use packet_meta::{ChecksumState, PacketMeta};
#[cfg(feature = "alloc")]
pub use sharded::Sharded;
pub use sharding::{Owner, Sharding, ShardingError};
pub use table::index::INDEX_WORDS;
pub use table::rule::DivertEntry;
#[cfg(feature = "alloc")]
pub use table::storage::Heap;
pub use table::storage::{Borrowed, Fixed, Storage};
pub use time::Instant;
pub use timeouts::Timeouts;
#[cfg(feature = "http")]
pub use translator::HttpGet;
pub use translator::{AtRest, Checked, Greeted, HandOvers, Kept, Observed, Outcome, Position, Resumed, Resumption};
pub use translator::{
    Connections, Diverted, Forgotten, Imported, MeasuredServers, Plan, RECORD_LENGTH, Record, RecordError, Redivert,
    RedivertError, Rediverted, Removed, TRANSMIT_BUFFER, Translator, Transmit,
};
pub use verdict::{DropReason, Verdict};
pub use wire::checksum::Checksums;
pub use wire::datagram::DatagramId;

/// The slots that [`Borrowed`] storage is made of.
pub mod slots {
    pub use crate::table::connection::ConnectionSlot as Connection;
    pub use crate::table::event_queue::EventSlot as Event;
    pub use crate::table::redivert_log::MoveSlot as Move;
    pub use crate::table::rule::DivertSlot as Divert;
    pub use crate::table::server::ServerSlot as Server;
    pub use crate::track::fragments::FragmentSlot as Fragment;
    pub use crate::track::measure::MeasureSlot as Measure;
    pub use crate::track::measure_server::MeasuredServerSlot as MeasuredServer;
    pub use crate::track::resume::ResumeSlot as Resume;
}

/// The program in the README.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
