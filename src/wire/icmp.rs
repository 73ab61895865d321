//! ICMP messages (RFC 792) and what they quote.

use super::checksum::{self, Delta};
use super::flow::{ICMP, TCP, UDP};
use super::ipv4::{self, Header};
use super::tcp;
use crate::verdict::DropReason;

/// Octets of an ICMP header.
pub(crate) const HEADER: usize = 8;

pub(crate) const ECHO_REPLY: u8 = 0;
pub(crate) const UNREACHABLE: u8 = 3;
pub(crate) const ECHO_REQUEST: u8 = 8;

/// Destination unreachable: communication administratively prohibited (RFC 1812, section 5.2.7.1).
pub(crate) const PROHIBITED: u8 = 13;

/// What kind of message a type number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    EchoRequest,
    EchoReply,
    /// It quotes the packet that caused it.
    Error,
    Other,
}

pub(crate) const fn kind(number: u8) -> Kind {
    match number {
        ECHO_REQUEST => Kind::EchoRequest,
        ECHO_REPLY => Kind::EchoReply,
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        UNREACHABLE | 4 | 5 | 11 | 12 => Kind::Error,
        _ => Kind::Other,
    }
}

/// The addresses of a quoted packet, as it was when it caused the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
}

/// New addresses for a quoted packet, and the deltas that its checksums follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requote {
    pub(crate) quoted: Quoted,
    /// Of the quoted IPv4 header.
    pub(crate) network: Delta,
    /// Of the quoted transport checksum.
    pub(crate) transport: Delta,
    /// Of the quoted ports alone.
    pub(crate) ports: Delta,
}

/// Reads what an ICMP error quotes. `None` if it quotes what cannot belong to a connection: another protocol, an echo
/// reply or another ICMP message that asks nothing, or a later fragment, which has no ports.
///
/// # Errors
/// [`DropReason::MalformedTransport`] if the quoted header is cut short or contradicts itself;
/// [`DropReason::IcmpChecksum`] if the checksum of the message or of the quoted header is wrong (RFC 5508, REQ-3).
/// The quoted transport checksum is not looked at: most of what it covers is not quoted.
// One call in a translator and one in `Sharding`, which small images do without.
#[inline(always)]
pub(crate) fn read_quoted(message: &[u8]) -> Result<Option<Quoted>, DropReason> {
    const MALFORMED: DropReason = DropReason::MalformedTransport;
    if checksum::finish(checksum::sum(0, message)) != 0 {
        return Err(DropReason::IcmpChecksum);
    }
    let quote = message.get(HEADER..).ok_or(MALFORMED)?;
    let fixed = quote.first_chunk::<{ ipv4::HEADER }>().ok_or(MALFORMED)?;
    let header = Header(fixed);
    let length = header.header_length();
    if fixed[0] >> 4 != 4 || length < ipv4::HEADER {
        return Err(MALFORMED);
    }
    let (whole, transport) = quote.split_at_checked(length).ok_or(MALFORMED)?;
    if checksum::finish(checksum::sum(0, whole)) != 0 {
        return Err(DropReason::IcmpChecksum);
    }
    if ipv4::offset(header.fragmentation()) != 0 {
        return Ok(None);
    }
    let first = transport.first_chunk::<8>().ok_or(MALFORMED)?;
    let pair = |at: usize| first.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let (source_port, destination_port) = match header.protocol() {
        TCP | UDP => (pair(0), pair(2)),
        ICMP => match kind(first[0]) {
            Kind::EchoRequest => (pair(4), 0),
            Kind::EchoReply => (0, pair(4)),
            Kind::Error | Kind::Other => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Quoted {
        source: header.source(),
        destination: header.destination(),
        source_port,
        destination_port,
        protocol: header.protocol(),
    }))
}

/// Rewrites what a message quotes, and the message's own checksum with it.
///
/// The caller has read the quote with [`read_quoted`]; a message that it would refuse is left as it is.
pub(crate) fn requote(message: &mut [u8], change: &Requote) {
    let Some((icmp, quote)) = message.split_first_chunk_mut::<HEADER>() else {
        return;
    };
    let Some((ip, rest)) = quote.split_first_chunk_mut::<{ ipv4::HEADER }>() else {
        return;
    };
    let Some(transport) = rest.get_mut(Header(ip).header_length().saturating_sub(ipv4::HEADER)..) else {
        return;
    };
    let new = &change.quoted;

    // The quoted header's addresses change by as much as its checksum takes back, so that the message's own checksum
    // sees no difference; see `checksum` for why the two are exact opposites.
    [ip[10], ip[11]] = checksum::update([ip[10], ip[11]], change.network);
    ip[12..16].copy_from_slice(&new.source.to_be_bytes());
    ip[16..20].copy_from_slice(&new.destination.to_be_bytes());

    let mut seen = change.ports;
    let Some(first) = transport.first_chunk_mut::<8>() else {
        return;
    };
    let checksum_at = match new.protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    if new.protocol == ICMP {
        let port = if kind(first[0]) == Kind::EchoRequest { new.source_port } else { new.destination_port };
        first[4..6].copy_from_slice(&port.to_be_bytes());
    } else {
        first[0..2].copy_from_slice(&new.source_port.to_be_bytes());
        first[2..4].copy_from_slice(&new.destination_port.to_be_bytes());
    }
    if let Some(field) = transport.get_mut(checksum_at..checksum_at + 2) {
        let before = [field[0], field[1]];
        let mut after = before;
        if new.protocol == UDP {
            checksum::update_udp(&mut after, change.transport);
        } else {
            after = checksum::update(before, change.transport);
        }
        field.copy_from_slice(&after);
        let word = |octets| u32::from(u16::from_be_bytes(octets));
        seen = seen.and(Delta::of([word(before)], [word(after)]));
    }
    [icmp[2], icmp[3]] = checksum::update([icmp[2], icmp[3]], seen);
}

const _: () = assert!(tcp::HEADER == 20 && HEADER == 8);
