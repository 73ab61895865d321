//! Witnesses: what a TCP sees of its peer must be what one TCP could have sent.

use core::net::SocketAddrV4;
use std::collections::HashMap;

use crate::{checksums, ends};

/// The fields of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub window: u16,
    pub length: u32,
    pub clocks: Option<(u32, u32)>,
    pub scale: Option<u8>,
    pub sack: [Option<(u32, u32)>; 4],
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub fn read(packet: &[u8]) -> Segment {
    assert_eq!((packet[0], packet[9]), (0x45, 6), "a TCP segment");
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("four"));
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let header = 20 + usize::from(packet[32] >> 4) * 4;
    let mut clocks = None;
    let mut scale = None;
    let mut sack = [None; 4];
    let mut at = 40;
    while at < header {
        match packet[at] {
            0 => break,
            1 => at += 1,
            kind => {
                let length = usize::from(packet[at + 1]);
                match kind {
                    3 => scale = Some(packet[at + 2]),
                    5 => {
                        for (place, block) in sack.iter_mut().zip((at + 2..at + length).step_by(8)) {
                            *place = Some((word(block), word(block + 4)));
                        }
                    }
                    8 => clocks = Some((word(at + 2), word(at + 6))),
                    _ => {}
                }
                at += length;
            }
        }
    }
    let (source, destination) = ends(packet);
    Segment {
        source,
        destination,
        sequence: word(24),
        acknowledgment: word(28),
        flags: packet[33],
        window: u16::from_be_bytes([packet[34], packet[35]]),
        length: (total - header) as u32,
        clocks,
        scale,
        sack,
    }
}

const fn behind(one: u32, other: u32) -> bool {
    other.wrapping_sub(one).wrapping_sub(1) < (1 << 31) - 1
}

/// What a host has sent and received on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The number behind the last that it has sent.
    sent: Option<u32>,
    /// The first that it has sent.
    first: u32,
    scale: u8,
    scaled: bool,
    clocks: Option<(u32, u32)>,
    /// The number of its peer's SYN.
    syn: Option<u32>,
    /// The number behind the last that it was sent; the window that it was offered; the newest of its peer's clocks.
    heard: Option<u32>,
    edge: Option<u32>,
    clock: Option<u32>,
    peer_scale: u8,
    peer_scaled: bool,
}

/// Watches the packets of one host, on its side.
#[derive(Debug, Default)]
pub struct Witness {
    /// Whether the peer's packets arrive in the order in which they were sent, and none is lost on the way.
    pub in_order: bool,
    /// By how many ticks an echo may be older than the first clock that was sent.
    pub older_echo: u32,
    /// The only peer that there may be.
    pub only: Option<SocketAddrV4>,
    pub known: HashMap<(SocketAddrV4, SocketAddrV4), Known>,
    pub resets: u64,
    pub segments: u64,
}

impl Witness {
    /// The host sends this packet.
    pub fn sends(&mut self, packet: &[u8]) {
        let segment = read(packet);
        let known = self.known.entry((segment.source, segment.destination)).or_default();
        let end = segment
            .sequence
            .wrapping_add(segment.length + u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0));
        if segment.flags & SYN != 0 {
            let again = known.sent.is_some() && known.first == segment.sequence;
            let peer = if segment.flags & ACK != 0 || again { *known } else { Known::default() };
            *known = Known { sent: Some(end), first: segment.sequence, ..peer };
            (known.scale, known.scaled) = (segment.scale.unwrap_or(0), segment.scale.is_some());
        }
        if segment.flags & RST == 0 && known.sent.is_none_or(|sent| behind(sent, end)) {
            known.sent = Some(end);
        }
        if let Some((value, _)) = segment.clocks {
            known.clocks = Some((known.clocks.map_or(value, |(first, _)| first), value));
        }
    }

    /// The host gets this packet.
    pub fn gets(&mut self, packet: &[u8]) {
        self.segments += 1;
        let segment = read(packet);
        let right = checksums(packet);
        assert!(right.header && right.transport, "checksums of {segment:?}");
        if let Some(only) = self.only {
            assert_eq!(segment.source, only, "an address of somebody else: {segment:?}");
        }
        let known = self.known.entry((segment.destination, segment.source)).or_default();
        if segment.flags & RST != 0 {
            self.resets += 1;
            // The same SYN is another connection's from now on: a later leg to this server may begin at the same number.
            known.syn = None;
            return;
        }
        let end = segment.sequence.wrapping_add(segment.length);
        let again = known.syn == Some(segment.sequence);
        if segment.flags & SYN != 0 && !again {
            let mine = if segment.flags & ACK != 0 { *known } else { Known::default() };
            *known = Known {
                syn: Some(segment.sequence),
                heard: Some(segment.sequence.wrapping_add(1)),
                edge: None,
                clock: None,
                ..mine
            };
            (known.peer_scale, known.peer_scaled) = (segment.scale.unwrap_or(0), segment.scale.is_some());
        }
        let Some(sent) = known.sent else {
            return;
        };
        if segment.flags & ACK != 0 {
            assert!(!behind(sent, segment.acknowledgment), "acknowledges what was never sent ({sent}): {segment:?}");
            assert!(!behind(segment.acknowledgment, known.first), "acknowledges nonsense: {segment:?}");
        }
        for (left, right) in segment.sack.iter().flatten() {
            let fits = !behind(sent, *right) && behind(*left, *right) && !behind(*left, known.first);
            assert!(fits, "selectively acknowledges what was never sent ({}..{sent}): {segment:?}", known.first);
        }
        if let Some((value, echo)) = segment.clocks {
            if let Some((first, last)) = known.clocks.filter(|_| segment.flags & ACK != 0) {
                // Segments on their way during a move may echo what the server before sent just before.
                let echoed = !behind(echo, first.wrapping_sub(self.older_echo)) && !behind(last, echo);
                assert!(echoed, "echoes a clock that was never sent ({first}..{last}): {segment:?}");
            }
            if let Some(clock) = known.clock {
                let old = behind(value, clock);
                assert!(!old || !self.in_order, "its clock runs backwards (from {clock}): {segment:?}");
            }
            if known.clock.is_none_or(|clock| behind(clock, value)) {
                known.clock = Some(value);
            }
        }
        if let Some(heard) = known.heard
            && segment.flags & SYN == 0
        {
            let gap = segment.sequence.wrapping_sub(heard);
            assert!(
                !(1 << 20..=u32::MAX - (1 << 20)).contains(&gap),
                "far from what came before ({heard}): {segment:?}"
            );
            assert!(!self.in_order || !behind(heard, segment.sequence), "a gap after {heard}: {segment:?}");
            if behind(heard, end) {
                known.heard = Some(end);
            }
        }
        if segment.flags & ACK != 0 && segment.flags & SYN == 0 {
            let scale = if known.scaled && known.peer_scaled { known.peer_scale } else { 0 };
            let edge = segment.acknowledgment.wrapping_add(u32::from(segment.window) << scale);
            if let Some(before) = known.edge
                && self.in_order
            {
                // Less than a unit is rounding.
                assert!(
                    !behind(edge.wrapping_add(1 << scale), before.wrapping_add(1)),
                    "its window's right edge moves back (from {before}): {segment:?}"
                );
            }
            if known.edge.is_none_or(|before| behind(before, edge)) {
                known.edge = Some(edge);
            }
        }
    }

    /// How many connections the host has had.
    pub fn connections(&self) -> usize {
        self.known.len()
    }
}
