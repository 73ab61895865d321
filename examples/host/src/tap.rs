//! A look at one rule's packets on both sides, for `byway ctl pcap`: what came, what became of it, and what left.

use core::net::Ipv4Addr;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Weak};

use byway::{Instant, Match, Protocol, Verdict};

use crate::packet::{self, ICMP, TCP, UDP};
use crate::segment;
use crate::vnet::VnetHeader;

/// How many packets wait at most until they are written to the capture.
pub const WAITING: usize = 4096;

/// On which side a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's: with the original's address.
    Client = 0,
    /// The server's: with an alternative address.
    Server = 1,
}

/// A packet as it was on one side.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it was seen.
    pub time: Instant,
    /// On which side it was seen.
    pub side: Side,
    /// The verdict on it.
    pub verdict: String,
    /// The whole packet.
    pub packet: Vec<u8>,
}

/// Whoever reads a capture. Its taps, in all shards, are over once this is dropped.
#[derive(Debug, Default)]
pub struct Reader(Arc<()>);

impl Reader {
    /// Captures the packets that this match is about.
    #[must_use]
    pub fn tap(&self, matches: Match, seen: SyncSender<Seen>) -> Tap {
        Tap { matches, seen, reader: Arc::downgrade(&self.0) }
    }
}

/// A capture of one rule's packets.
#[derive(Clone, Debug)]
pub struct Tap {
    matches: Match,
    seen: SyncSender<Seen>,
    reader: Weak<()>,
}

impl Tap {
    /// Whether it has a reader: otherwise another one can take its place.
    #[must_use]
    pub fn has_reader(&self) -> bool {
        self.reader.strong_count() != 0
    }

    /// Whether it is this reader's.
    #[must_use]
    pub fn is_of(&self, reader: &Reader) -> bool {
        core::ptr::eq(self.reader.as_ptr(), Arc::as_ptr(&reader.0))
    }

    /// Captures a packet as it came and as it left. Returns whether the capture still has a reader; a reader that is too slow
    /// misses packets.
    #[must_use]
    pub fn show(&self, time: Instant, header: &VnetHeader, verdict: Verdict, before: &[u8], after: &[u8]) -> bool {
        let (is_ours, sides) = match verdict {
            Verdict::ToClient => (is_about(&self.matches, &Ends::of_reply(after)), [Side::Server, Side::Client]),
            _ => (is_about(&self.matches, &Ends::of(before)), [Side::Client, Side::Server]),
        };
        if !is_ours {
            return true;
        }
        let text = match verdict {
            Verdict::ToServer => "to server".into(),
            Verdict::ToClient => "to client".into(),
            Verdict::Pass => "passed".into(),
            Verdict::Hold => "held".into(),
            Verdict::Drop(reason) => format!("dropped: {reason}"),
        };
        let is_translated = matches!(verdict, Verdict::ToServer | Verdict::ToClient);
        let mut is_wanted = true;
        for (side, packet) in sides.into_iter().zip([before, after]).take(if is_translated { 2 } else { 1 }) {
            let mut packet = packet.to_vec();
            // As it will be on the wire, if it is one packet there.
            if header.super_packet().is_none() {
                segment::complete(header, &mut packet);
            }
            let sent = self.seen.try_send(Seen { time, side, verdict: text.clone(), packet });
            is_wanted &= !matches!(sent, Err(TrySendError::Disconnected(_)));
        }
        is_wanted
    }
}

/// The ends of a packet, seen from the client's side.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    client: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    port: Option<u16>,
    is_later_fragment: bool,
}

impl Ends {
    /// The ends of a packet that a client has sent.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        Self {
            client: packet::source(packet),
            destination: packet::destination(packet),
            protocol: packet::protocol(packet),
            port: packet::destination_port(packet),
            is_later_fragment: packet::is_later_fragment(packet),
        }
    }

    /// The ends of a packet that a client gets.
    #[must_use]
    pub fn of_reply(packet: &[u8]) -> Self {
        let (client, destination) = (packet::destination(packet), packet::source(packet));
        Self { client, destination, port: packet::source_port(packet), ..Self::of(packet) }
    }
}

/// Whether a match covers a packet, or may: nothing in a later fragment tells its port.
#[must_use]
pub fn is_about(matches: &Match, ends: &Ends) -> bool {
    let protocol = match matches.limited_to() {
        None => true,
        Some(Protocol::Tcp) => ends.protocol == TCP,
        Some(Protocol::Udp) => ends.protocol == UDP,
        Some(_) => ends.protocol == ICMP,
    };
    let port = match matches.port() {
        None => true,
        Some(_) if ends.is_later_fragment => matches!(ends.protocol, TCP | UDP),
        wanted => wanted == ends.port,
    };
    protocol
        && port
        && matches.destination().contains(ends.destination)
        && matches.from_clients().contains(ends.client)
}

/// Begins a capture: two interfaces of packets without link headers.
///
/// # Errors
/// The reader has gone.
pub fn begin(out: &mut impl Write) -> io::Result<()> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const RAW: [u8; 8] = [101, 0, 0, 0, 0, 0, 0, 0];
    const NAME: u16 = 2;
    let magic = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    block(out, SECTION, &magic, None)?;
    for name in ["client side", "server side"] {
        block(out, INTERFACE, &RAW, Some((NAME, name)))?;
    }
    Ok(())
}

/// Writes a packet, with its verdict as a comment.
///
/// # Errors
/// The reader has gone.
pub fn write(out: &mut impl Write, seen: &Seen) -> io::Result<()> {
    const PACKET: u32 = 6;
    const COMMENT: u16 = 1;
    let (time, length) = (seen.time.as_micros(), seen.packet.len() as u32);
    let words = [seen.side as u32, (time >> 32) as u32, time as u32, length, length];
    let mut body = words.map(u32::to_le_bytes).concat();
    body.extend_from_slice(&seen.packet);
    block(out, PACKET, &body, Some((COMMENT, &seen.verdict)))
}

/// A block of pcapng: its parts are padded to four bytes.
fn block(out: &mut impl Write, kind: u32, body: &[u8], option: Option<(u16, &str)>) -> io::Result<()> {
    let fill = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mut all = body.to_vec();
    fill(&mut all);
    if let Some((code, text)) = option {
        all.extend([code, text.len() as u16].map(u16::to_le_bytes).concat());
        all.extend_from_slice(text.as_bytes());
        fill(&mut all);
        all.extend([0; 4]);
    }
    let length = (all.len() as u32 + 12).to_le_bytes();
    out.write_all(&[&kind.to_le_bytes()[..], &length, &all, &length].concat())
}
