//! A mediating proxy: HTTP clients on one side, CoAP servers on the other (RFC 8075), and byway between the proxy and the
//! servers.
//!
//! ```text
//!   HTTP clients            curl, browsers, anything
//!        |  TCP
//!   service                 sockets and the loop; the only module with a clock
//!   mediator, session       one HTTP connection each, in bounded memory
//!   http, map               HTTP/1.1; its terms in those of CoAP
//!   coap                    messages, retransmission, blocks
//!        |  UDP, to the origin that the client asked for
//!   far                     a smoltcp stack
//!        |
//!   byway                   rules, groups, re-diverts, instructions
//!        |
//!   far::carrier            ordinary UDP sockets of the operating system; or far::tun, a TUN device, where portion can
//!        |                  be another process that translates what comes back
//!        |
//!   CoAP servers
//! ```
//!
//! The proxy never chooses a server. It sends each request, and so each block of a body, to the origin; byway's rules
//! lead it to a server, and an instruction to byway leads the next block to another one. The proxy checks that what comes
//! is still the same representation ([`coap::transfer`]). Only an upload that could not begin again elsewhere goes on to the
//! server that has its beginning ([`far::bypass`]).
//!
//! `docs/mediator.md` is for users of the program. For a proxy of your own, [`far`] is the part to read.

pub mod clients;
pub mod coap;
pub mod control;
pub mod counters;
pub mod demo;
pub mod far;
pub mod http;
pub mod map;
pub mod mediator;
pub mod monitor;
#[cfg(target_os = "linux")]
pub mod portion;
pub mod server;
pub mod service;
pub mod session;
pub mod settings;
