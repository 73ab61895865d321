//! The packet that an ICMP error quotes: read to find its connection, and rewritten to undo its translation.

use super::checksum::{self, Delta};
use super::icmp::{HEADER, Kind, kind};
use super::ipv4::{self, Header, ICMP, Parts, TCP, UDP};
use super::rewrite::Change;

use crate::verdict::DropReason;

/// The addresses of a quoted packet, as it was when it caused the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u8,
}

/// Reads the packet that an ICMP error quotes. `None` if it cannot belong to a connection: another protocol, an echo
/// reply or another ICMP message that is not a request, or a later fragment, which has no ports.
///
/// # Errors
/// [`DropReason::MalformedTransport`] if the quoted header is truncated or inconsistent; [`DropReason::IcmpChecksum`]
/// if the checksum of the message or of the quoted header is wrong (RFC 5508, REQ-3). The quoted transport checksum is
/// not checked: most of the bytes that it covers are not quoted.
// Called once in a translator and once in `Sharding`, which small images do without.
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

/// Adds to the sequence number of the TCP segment that a message quotes, and updates the segment's checksum, if it is
/// quoted, or else the message's own.
pub(crate) fn shift_sequence(message: &mut [u8], by: u32) {
    let Some((icmp, quote)) = message.split_first_chunk_mut::<HEADER>() else {
        return;
    };
    let length = quote.first_chunk::<{ ipv4::HEADER }>().map_or(0, |header| Header(header).header_length());
    let Some(segment) = quote.get_mut(length..) else {
        return;
    };
    let Some(number) = segment.get_mut(4..).and_then(<[u8]>::first_chunk_mut) else {
        return;
    };
    let old = u32::from_be_bytes(*number);
    let new = old.wrapping_add(by);
    *number = new.to_be_bytes();
    let delta = Delta::of([old], [new]);
    // The changes of a sequence number and of the checksum over it cancel out.
    let sum = match segment.get_mut(16..).and_then(<[u8]>::first_chunk_mut) {
        Some(sum) => sum,
        None => {
            [icmp[2], icmp[3]] = checksum::update([icmp[2], icmp[3]], delta);
            return;
        }
    };
    *sum = checksum::update(*sum, delta);
}

/// Rewrites the packet that a message quotes, and the message's own checksum with it.
///
/// The caller has read the quote with [`read_quoted`]. A message that `read_quoted` would refuse stays as it is.
pub(crate) fn requote(message: &mut [u8], protocol: u8, change: &Change) {
    let Some((icmp, quote)) = message.split_first_chunk_mut::<HEADER>() else {
        return;
    };
    let Some((ip, rest)) = quote.split_first_chunk_mut::<{ ipv4::HEADER }>() else {
        return;
    };
    let Some(transport) = rest.get_mut(Header(ip).header_length().saturating_sub(ipv4::HEADER)..) else {
        return;
    };
    // The changes of the quoted header's addresses and of its checksum cancel out, so the message's own checksum is not
    // affected; see `checksum` for why the two are exact opposites.
    let before = checksum::sum(0, transport);
    change.apply(&mut Parts { header: ip, options: &[], payload: transport }, protocol);
    let seen = Delta::of([before], [checksum::sum(0, transport)]);
    [icmp[2], icmp[3]] = checksum::update([icmp[2], icmp[3]], seen);
}
