//! Reading from and writing to sockets of the stack.

use core::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::socket::tcp::Socket;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// The client of a connection, and the server that it asks.
pub(super) fn ends(socket: &Socket<'_>) -> Option<(SocketAddrV4, Ipv4Addr)> {
    let end = |endpoint: IpEndpoint| {
        let IpAddress::Ipv4(address) = endpoint.addr;
        SocketAddrV4::new(address, endpoint.port)
    };
    Some((end(socket.remote_endpoint()?), *end(socket.local_endpoint()?).ip()))
}

/// Reads what there is, as far as there is room. Returns whether there was anything.
pub(super) fn read(socket: &mut Socket<'_>, into: &mut Vec<u8>, most: usize) -> bool {
    let before = into.len();
    while into.len() < most && socket.can_recv() {
        let room = most - into.len();
        let read = socket.recv(|bytes| {
            let taken = bytes.len().min(room);
            into.extend_from_slice(&bytes[..taken]);
            (taken, taken)
        });
        if !read.is_ok_and(|read| read != 0) {
            break;
        }
    }
    into.len() != before
}

/// Writes what the other end has room for. Returns whether it was anything.
pub(super) fn write(socket: &mut Socket<'_>, from: &mut Vec<u8>) -> bool {
    let mut written = 0;
    while written < from.len() && socket.can_send() {
        match socket.send_slice(&from[written..]) {
            Ok(length) if length != 0 => written += length,
            _ => break,
        }
    }
    from.drain(..written);
    if from.is_empty() {
        // Frees the memory, which others can use.
        *from = Vec::new();
    }
    written != 0
}

/// The length of the first message, its length field included, if it is whole.
pub(super) fn first_message(bytes: &[u8]) -> Option<usize> {
    let length = 2 + usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    (bytes.len() >= length).then_some(length)
}
