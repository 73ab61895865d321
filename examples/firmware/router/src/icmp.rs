//! The ICMP errors that a router has to send (RFC 792; RFC 1812, section 4.3).

use core::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

use crate::ipv4::{self, HEADER, ICMP};

/// The longest header, and 64 bits of what follows it: what every ICMP error must quote (RFC 792).
const QUOTE: usize = 60 + 8;
const ICMP_HEADER: usize = 8;

/// The longest IP packet that [`Error::write`] makes.
pub(crate) const MAX_ERROR: usize = HEADER + ICMP_HEADER + QUOTE;

/// The beginning of a packet as it came, before anything was changed: what an error about it quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quote {
    bytes: [u8; QUOTE],
    len: usize,
}

impl Quote {
    /// Remembers a checked packet.
    pub(crate) fn of(packet: &[u8], header_len: usize) -> Self {
        let len = packet.len().min(header_len + 8).min(QUOTE);
        let mut bytes = [0; QUOTE];
        bytes[..len].copy_from_slice(&packet[..len]);
        Self { bytes, len }
    }

    /// Whom an error about this packet is for; `None` if there must be none (RFC 1812, section 4.3.2.7): it is itself
    /// an ICMP error, or a fragment that is not the first.
    pub(crate) fn answer_to(&self) -> Option<Ipv4Addr> {
        let bytes = &self.bytes[..self.len];
        let header = ipv4::Header::read(bytes)?;
        if ipv4::is_later_fragment(bytes) {
            return None;
        }
        // Echo, timestamp, information and mask requests and replies are questions, not errors.
        let is_query = matches!(bytes.get(header.header_len), Some(0 | 8 | 13..=18));
        (bytes[9] != ICMP || is_query).then_some(header.source)
    }
}

/// What is wrong with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    TimeExceeded,
    NetUnreachable,
    HostUnreachable,
    /// Communication administratively prohibited (RFC 1812, section 5.2.7.1).
    Prohibited,
    /// RFC 1191: the packet would have to be fragmented, and must not be; the next link takes this many bytes.
    TooBig {
        mtu: usize,
    },
}

impl Error {
    /// Writes the whole IP packet to the beginning of `out`, and returns its length; `None` if it does not fit.
    pub(crate) fn write(self, from: Ipv4Addr, to: Ipv4Addr, quote: &Quote, out: &mut [u8]) -> Option<usize> {
        let (kind, code, mtu) = match self {
            Self::TimeExceeded => (11, 0, 0),
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::Prohibited => (3, 13, 0),
            Self::TooBig { mtu } => (3, 4, mtu as u16),
        };
        let len = HEADER + ICMP_HEADER + quote.len;
        let out = out.get_mut(..len)?;
        let (header, message) = out.split_at_mut(HEADER);
        header.fill(0);
        header[0] = 0x45;
        // Precedence "internetwork control" (RFC 1812, section 4.3.2.5).
        header[1] = 0xc0;
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header[8] = 64;
        header[9] = ICMP;
        header[12..16].copy_from_slice(&from.octets());
        header[16..20].copy_from_slice(&to.octets());
        let sum = ipv4::checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        message[..ICMP_HEADER].fill(0);
        message[0] = kind;
        message[1] = code;
        message[6..8].copy_from_slice(&mtu.to_be_bytes());
        message[ICMP_HEADER..].copy_from_slice(&quote.bytes[..quote.len]);
        let sum = ipv4::checksum(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Some(len)
    }
}

/// How many errors may be sent: a burst, and then so many a second (RFC 1812, section 4.3.2.8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    tokens: u32,
    refilled: Instant,
}

impl RateLimit {
    /// A traceroute of 16 probes at once, and three hosts that run one.
    const BURST: u32 = 50;
    const EVERY: Duration = Duration::from_millis(10);

    pub(crate) const fn new(now: Instant) -> Self {
        Self { tokens: Self::BURST, refilled: now }
    }

    /// Whether one more may be sent now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed = if now > self.refilled { now - self.refilled } else { Duration::ZERO };
        let earned = elapsed.total_micros() / Self::EVERY.total_micros();
        if earned >= u64::from(Self::BURST - self.tokens) {
            self.tokens = Self::BURST;
            self.refilled = now.max(self.refilled);
        } else {
            self.tokens += earned as u32;
            self.refilled += Self::EVERY * earned as u32;
        }
        let Some(left) = self.tokens.checked_sub(1) else { return false };
        self.tokens = left;
        true
    }
}
