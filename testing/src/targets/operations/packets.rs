//! Builds the packets of a run.

use core::net::SocketAddrV4;

use byway::{Protocol, Storage};
use byway_testing::packet::{self, ACK, FIN, RST, SYN};

use super::super::model::Conn;
use super::super::model::tcp::Way;
use super::input::Packet;
use super::run::Run;
use super::{ALTERNATIVE, CLIENTS, ORIGINALS, ROUTER};

impl<F: Storage> Run<'_, F> {
    /// A connection among those that are alive.
    pub(super) fn choose(&self, which: u8) -> Option<Conn> {
        let alive: Vec<&Conn> = self.model.alive().collect();
        alive.get(usize::from(which) % alive.len().max(1)).map(|c| (*c).clone())
    }

    /// A packet of a connection as its sender sends it.
    pub(super) fn of(&self, conn: &Conn, back: bool, flags: u8, number: u8, size: u8) -> Vec<u8> {
        let (source, destination) =
            if back { (conn.far.destination, conn.far.source) } else { (conn.near.source, conn.near.destination) };
        let data = vec![number; usize::from(size)];
        match conn.protocol {
            Protocol::Udp => packet::udp(source, destination, &data),
            Protocol::Tcp => {
                let (way, other) = if back { (Way::Back, Way::There) } else { (Way::There, Way::Back) };
                let tcp = conn.tcp.as_ref();
                let (mine, theirs) = tcp.map_or((0, 0), |tcp| (tcp.sent(way), tcp.sent(other)));
                let expected = tcp.map_or(0, |tcp| tcp.expected(other));
                let mine = if mine == 0 { 0x1000_0000 } else { mine };
                let far = u32::from(number) << 22;
                let (sequence, acknowledgment) = match number {
                    0..=150 => (mine, theirs),
                    151..=180 => (expected, theirs),
                    181..=200 => (mine.wrapping_sub(u32::from(size)), theirs.wrapping_sub(3)),
                    201..=220 => (mine.wrapping_add(7), theirs.wrapping_add(9)),
                    221..=230 => (0, 0),
                    _ => (mine.wrapping_add(far), theirs.wrapping_sub(far)),
                };
                let data = if flags & (SYN | RST) != 0 { &[] } else { data.as_slice() };
                packet::tcp(source, destination, (flags, sequence, acknowledgment), data)
            }
            _ if back => packet::echo(0, *source.ip(), *destination.ip(), destination.port(), &data),
            _ => packet::echo(8, *source.ip(), *destination.ip(), source.port(), &data),
        }
    }

    pub(super) fn build(&self, packet: &Packet) -> Vec<u8> {
        match packet {
            Packet::Client { protocol, client, original, flags, number, size } => {
                let data = vec![*number; usize::from(*size)];
                match protocol {
                    Protocol::Udp => packet::udp(*client, *original, &data),
                    Protocol::Tcp => {
                        let sequence = u32::from(*number) << 24 | 0x00ff_fff0;
                        packet::tcp(
                            *client,
                            *original,
                            (*flags, sequence, 77),
                            if flags & SYN != 0 { &[] } else { &data },
                        )
                    }
                    _ => packet::echo(
                        if *flags == 0 { 0 } else { 8 },
                        *client.ip(),
                        *original.ip(),
                        client.port(),
                        &data,
                    ),
                }
            }
            Packet::Known { which, back, flags, number, size } => match self.choose(*which) {
                Some(conn) => self.of(&conn, *back, *flags, *number, *size),
                None => self.last.clone(),
            },
            Packet::Segment(chosen) => match self.choose(chosen.which) {
                Some(conn) if conn.protocol == Protocol::Tcp => chosen.of(&conn),
                _ => self.last.clone(),
            },
            Packet::Astray { which, server, protocol } => {
                let source = self.choose(*which).map_or(SocketAddrV4::new(ALTERNATIVE, 1023), |c| c.far.source);
                match protocol {
                    Protocol::Udp => packet::udp(*server, source, b"from elsewhere"),
                    Protocol::Tcp => packet::tcp(*server, source, (ACK, 5, 5), b""),
                    _ => packet::echo(0, *server.ip(), *source.ip(), source.port(), b"reply"),
                }
            }
            Packet::Error { which, back, kind, from_router, quoted, options, damage } => {
                let Some(conn) = self.choose(*which) else {
                    return packet::icmp_error(*kind, ROUTER, ALTERNATIVE, &self.last, usize::from(*quoted));
                };
                // Back: the server's side complains about what it got, which went out from the alternative endpoint.
                let mut about = self.of(&conn, !back, ACK, 7, 30);
                about = packet::mirrored(&about);
                if *options {
                    about.splice(20..20, [1, 1, 1, 0]);
                    about[0] = 0x46;
                    let total = about.len() as u16;
                    about[2..4].copy_from_slice(&total.to_be_bytes());
                    packet::fill_checksums(&mut about);
                }
                let from = if *from_router { ROUTER } else { packet::address(&about, 16) };
                let mut error =
                    packet::icmp_error(*kind, from, packet::address(&about, 12), &about, usize::from(*quoted));
                if *damage > 200
                    && let Some(byte) = error.get_mut(usize::from(*damage) - 180)
                {
                    *byte ^= 0x10;
                    if damage & 1 != 0 {
                        packet::fill_checksums(&mut error);
                    }
                }
                error
            }
            Packet::Fragment { which, back, identification, start, units, more } => {
                let flags = if *identification == 2 { FIN | ACK } else { ACK };
                let whole = match self.choose(*which) {
                    Some(conn) => self.of(&conn, *back, flags, 7, 4),
                    None => {
                        packet::udp(SocketAddrV4::new(CLIENTS[0], 1000), SocketAddrV4::new(ORIGINALS[0], 53), b"1234")
                    }
                };
                let mut fragment = whole[..20].to_vec();
                if *start == 0 {
                    fragment.extend(&whole[20..]);
                }
                fragment.resize(20 + usize::from(*units) * 8 - usize::from(!more && *units > 3), 0xf7);
                let total = fragment.len() as u16;
                fragment[2..4].copy_from_slice(&total.to_be_bytes());
                fragment[4..6].copy_from_slice(&u16::from(*identification).to_be_bytes());
                let field = u16::from(*start) | if *more { 0x2000 } else { 0 };
                fragment[6..8].copy_from_slice(&field.to_be_bytes());
                packet::fill_checksums(&mut fragment);
                fragment
            }
            Packet::Changed { place, value, cut, right } => {
                let mut packet = self.last.clone();
                let length = packet.len();
                packet.truncate(length - usize::from(*cut).min(length));
                if let Some(byte) = packet.get_mut(usize::from(*place) % 64) {
                    *byte = *value;
                }
                if *right {
                    packet::fill_checksums(&mut packet);
                }
                packet
            }
            Packet::Raw(bytes) => bytes.to_vec(),
        }
    }
}
