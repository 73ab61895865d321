//! What an input draws from: addresses, ports, prefixes, flags.

use core::net::{Ipv4Addr, SocketAddrV4};

use arbitrary::Unstructured;
use byway::{Match, Midstream, Prefix, Protocol, Target};
use byway_testing::packet::{ACK, FIN, RST, SYN};

use super::{CLIENTS, MIRRORS, ORIGINALS, PORTS};

/// A client, seldom one that is none.
pub(super) fn client(u: &mut Unstructured<'_>) -> arbitrary::Result<Ipv4Addr> {
    Ok(CLIENTS[pick(u, &[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5])?])
}

pub(super) fn pick<T: Copy>(u: &mut Unstructured<'_>, from: &[T]) -> arbitrary::Result<T> {
    u.choose(from).copied()
}

pub(super) fn target(u: &mut Unstructured<'_>) -> arbitrary::Result<Target> {
    let address = pick(u, &MIRRORS)?;
    Ok(match u.int_in_range(0..=6)? {
        0 => Target::Same,
        1..=3 => Target::Address(address),
        _ => Target::Endpoint(SocketAddrV4::new(address, pick(u, &PORTS)?)),
    })
}

pub(super) fn matches(u: &mut Unstructured<'_>) -> arbitrary::Result<Match> {
    let address = pick(u, &ORIGINALS)?;
    let port = pick(u, &PORTS)?;
    let length = pick(u, &[32, 32, 32, 24, 16, 0])?;
    let prefix = Prefix::new(address, length).expect("a length of at most 32");
    let mut matches = if u.ratio(1, 2)? { Match::from(prefix) } else { Match::from((prefix, port)) };
    if u.ratio(1, 4)? {
        matches = matches.protocol(protocol(u)?);
    }
    if u.ratio(1, 5)? {
        let length = pick(u, &[32, 24, 16])?;
        matches = matches.clients(Prefix::new(CLIENTS[0], length).expect("a length of at most 32"));
    }
    Ok(matches)
}

/// What a rule says of segments from the middle; mostly nothing.
pub(super) fn midstream(u: &mut Unstructured<'_>) -> arbitrary::Result<Option<Midstream>> {
    pick(u, &[None, None, None, Some(Midstream::Pass), Some(Midstream::Adopt), Some(Midstream::Drop)])
}

pub(super) fn protocol(u: &mut Unstructured<'_>) -> arbitrary::Result<Protocol> {
    pick(u, &[Protocol::Udp, Protocol::Tcp, Protocol::Tcp, Protocol::Icmp])
}

pub(super) fn flags(u: &mut Unstructured<'_>) -> arbitrary::Result<u8> {
    pick(u, &[SYN, SYN, ACK, ACK, SYN | ACK, SYN | ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, FIN, 0, SYN | FIN])
}
