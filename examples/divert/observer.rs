//! Somebody who looks on, at every place of Figure 3, and reads no more of a packet than its addresses.

use core::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};

/// Where a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Client,
    ClientSide,
    NetworkSide,
    Server(char),
}

/// What happens to a packet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Sends,
    Receives,
}

/// A packet that was seen somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) place: Place,
    pub(crate) deed: Deed,
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
}

/// How many packets bore the one source that they should, and how many another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) expected: u64,
    pub(crate) other: u64,
}

impl Seen {
    fn count(&mut self, expected: bool) {
        *(if expected { &mut self.expected } else { &mut self.other }) += 1;
    }
}

/// How many sightings Figure 3 has: its fourth event is two.
pub(crate) const EVENTS: usize = 8;

pub(crate) struct Observer {
    /// The source that the client should see.
    original: SocketAddrV4,
    /// The address that the servers should see.
    proxy: Ipv4Addr,
    /// The first packet at each place, sent and received: the events of Figure 3, in their order.
    pub(crate) figure: Vec<Sighting>,
    /// What reached the client.
    pub(crate) by_client: Seen,
    /// What reached the servers.
    pub(crate) by_servers: Seen,
}

impl Observer {
    pub(crate) fn new(original: SocketAddrV4, proxy: Ipv4Addr) -> Self {
        Self { original, proxy, figure: Vec::new(), by_client: Seen::default(), by_servers: Seen::default() }
    }

    pub(crate) fn sends(&mut self, place: Place, packet: &[u8]) {
        self.note(place, Deed::Sends, packet);
    }

    pub(crate) fn receives(&mut self, place: Place, packet: &[u8]) {
        let from = self.note(place, Deed::Receives, packet);
        match place {
            Place::Client => self.by_client.count(from == Some(self.original)),
            Place::Server(_) => self.by_servers.count(from.is_some_and(|from| *from.ip() == self.proxy)),
            Place::ClientSide | Place::NetworkSide => {}
        }
    }

    fn note(&mut self, place: Place, deed: Deed, packet: &[u8]) -> Option<SocketAddrV4> {
        let (from, to) = ends(packet)?;
        if self.figure.len() < EVENTS && !self.figure.iter().any(|seen| (seen.place, seen.deed) == (place, deed)) {
            self.figure.push(Sighting { place, deed, from, to });
        }
        Some(from)
    }
}

/// Where a packet comes from and where it goes; `None` if it has no ports.
fn ends(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    let (source, destination) = match packet.next_header() {
        IpProtocol::Tcp => TcpPacket::new_checked(packet.payload()).map(|p| (p.src_port(), p.dst_port())).ok()?,
        IpProtocol::Udp => UdpPacket::new_checked(packet.payload()).map(|p| (p.src_port(), p.dst_port())).ok()?,
        _ => return None,
    };
    Some((SocketAddrV4::new(packet.src_addr(), source), SocketAddrV4::new(packet.dst_addr(), destination)))
}
