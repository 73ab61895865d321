//! The form of matches and servers in a datagram.

use super::wire::{Reader, Writer};
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::divert::Match;
use crate::endpoint::{Prefix, Protocol};
use crate::table::rule::{Target, Weighted};
use crate::table::server::ServerSlot;

/// Length in bytes of a match.
pub(super) const MATCH: usize = 16;

/// A match in the form that it has in a datagram. Each match has one form, so equal bytes mean equal matches.
#[inline(never)]
pub(super) fn match_bytes(matches: &Match) -> [u8; MATCH] {
    let (destination, clients) = (matches.destination(), matches.from_clients());
    let [d0, d1, d2, d3] = destination.network().octets();
    let [c0, c1, c2, c3] = clients.network().octets();
    let [p0, p1] = matches.port().unwrap_or(0).to_be_bytes();
    let protocol = matches.limited_to().map_or(0, Protocol::number);
    let has_port = u8::from(matches.port().is_some());
    [d0, d1, d2, d3, destination.length(), protocol, has_port, clients.length(), c0, c1, c2, c3, p0, p1, 0, 0]
}

#[inline(never)]
pub(super) fn read_match(reader: &mut Reader<'_>) -> Option<Match> {
    let [d0, d1, d2, d3, length, protocol, has_port, clients_length, c0, c1, c2, c3, p0, p1, 0, 0] =
        reader.array::<MATCH>()?
    else {
        return None;
    };
    let port = u16::from_be_bytes([p0, p1]);
    let port = match has_port {
        0 if port == 0 => None,
        1 => Some(port),
        _ => return None,
    };
    let protocol = match protocol {
        0 => None,
        number => Some(Protocol::from_number(number)?),
    };
    let destination = exact_prefix(Ipv4Addr::new(d0, d1, d2, d3), length)?;
    let clients = exact_prefix(Ipv4Addr::new(c0, c1, c2, c3), clients_length)?;
    Some(Match { destination, port, protocol, clients })
}

/// A prefix without bits after its length: each prefix has one form.
#[inline(never)]
pub(super) fn exact_prefix(network: Ipv4Addr, length: u8) -> Option<Prefix> {
    Prefix::new(network, length).filter(|prefix| prefix.network() == network)
}

/// Length in bytes of a server.
const SERVER: usize = 10;

/// The target of an entry, compiled once for all places that ask for it.
#[inline(never)]
pub(super) fn target_of(server: &ServerSlot) -> Target {
    server.target()
}

pub(super) fn write_server(out: &mut Writer<'_>, server: Weighted) {
    let (kind, endpoint) = match server.target {
        Target::Same => (0, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        Target::Address(address) => (1, SocketAddrV4::new(address, 0)),
        Target::Endpoint(endpoint) => (2, endpoint),
    };
    out.u8(kind);
    out.u8(0);
    out.u16(server.weight);
    out.endpoint(endpoint);
}

#[inline(never)]
pub(super) fn read_server(reader: &mut Reader<'_>) -> Option<Weighted> {
    let [kind, 0, w0, w1, a, b, c, d, p0, p1] = reader.array::<SERVER>()? else {
        return None;
    };
    let endpoint = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1]));
    let target = match kind {
        0 if endpoint.ip().is_unspecified() && endpoint.port() == 0 => Target::Same,
        1 if endpoint.port() == 0 => Target::Address(*endpoint.ip()),
        2 => Target::Endpoint(endpoint),
        _ => return None,
    };
    Some(Weighted { target, weight: u16::from_be_bytes([w0, w1]) })
}
