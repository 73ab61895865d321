//! The segments that clients and servers send.

use core::net::{Ipv4Addr, SocketAddrV4};

pub(crate) fn client_of(request: usize) -> SocketAddrV4 {
    let address = Ipv4Addr::from_bits(0x0100_0001 + (request / 50_000) as u32 + 7 * (request % 4_096) as u32 * 64);
    SocketAddrV4::new(address, 1_024 + (request % 50_000) as u16)
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP segment, with `data` bytes. The translator updates checksums and does not judge them, so they are left zero.
pub(crate) fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8, numbers: [u32; 2], data: usize) -> Vec<u8> {
    let mut packet = vec![0; 40 + data];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 40 + data as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&numbers[0].to_be_bytes());
    packet[28..32].copy_from_slice(&numbers[1].to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, flags, 0x20, 0]);
    packet
}
