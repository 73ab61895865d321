//! A table that is full, and clients that want too much.

mod support;

use byway::{DropReason, Verdict};
use support::talk::*;
use support::*;

/// Connections whose time-out has passed count against nobody, even if nobody ever polls.
#[test]
fn dead_connections_do_not_use_up_a_clients_limit() {
    let mut t = diverting(config().client_limit(3));
    let from = |port: u16| udp(core::net::SocketAddrV4::new(ip("192.168.7.7"), port), at(ORIGINAL), b"");
    for port in 1..=3 {
        there(&mut t, s(0), &from(port));
    }
    assert_eq!(verdict(&mut t, s(299), &from(4)), Verdict::Drop(DropReason::ClientLimit));
    for port in 5..=7 {
        there(&mut t, s(302), &from(port));
    }
    assert_eq!(verdict(&mut t, s(302), &from(8)), Verdict::Drop(DropReason::ClientLimit));
}
