//! Tests in which a connection follows segments, one after the other.

mod attempts;
mod conversation;
mod handshake;
mod resets;

use super::conversation::BY_FINS;
use super::*;
use crate::track::claims::Attempt;
use crate::wire::tcp::{FIN, RST};

/// The client's and the server's initial sequence numbers, and the numbers after their SYNs.
const C0: u32 = 1_000_000_000;
const V0: u32 = 3_000_000_000;
const C: u32 = C0 + 1;
const V: u32 = V0 + 1;
const W: u32 = 1 << 24;

/// The numbers after the SYNs of another attempt.
const C2: u32 = C + (1 << 29);
const V2: u32 = V - (1 << 29);

const fn segment(flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> Segment {
    Segment { sequence, acknowledgment, data, flags }
}

impl Tcp {
    /// A segment of the client; whether it is a sign of life.
    fn client(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> bool {
        self.follow(ToServer, &segment(flags, sequence, acknowledgment, data), true)
    }

    fn server(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: u32) -> bool {
        self.follow(ToClient, &segment(flags, sequence, acknowledgment, data), true)
    }

    fn client_resets(&self, sequence: u32) -> Reset {
        self.judge_reset(ToServer, &segment(RST, sequence, 0, 0))
    }

    fn server_resets(&self, sequence: u32) -> Reset {
        self.judge_reset(ToClient, &segment(RST, sequence, 0, 0))
    }

    fn server_refuses(&self, acknowledgment: u32) -> Reset {
        self.judge_reset(ToClient, &segment(RST | ACK, 0, acknowledgment, 0))
    }

    /// `sent` of client and server, `expected` of client and server.
    fn numbers(&self) -> [u32; 4] {
        self.sequences.to_words()
    }

    fn fins(&self) -> [Fin; 2] {
        [self.claims.fin(ToServer), self.claims.fin(ToClient)]
    }
}

/// A connection after a SYN with this much data.
fn opening_with(data: u32) -> Tcp {
    let mut tcp = Tcp { phase: Phase::Opening, sequences: Sequences::default(), claims: Claims::default() };
    assert!(tcp.client(SYN, C0, 0, data));
    assert_eq!(tcp.phase, Phase::Opening);
    tcp
}

fn opening() -> Tcp {
    opening_with(0)
}

fn opened() -> Tcp {
    let mut tcp = opening();
    assert!(tcp.server(SYN | ACK, V0, C, 0));
    assert_eq!(tcp.phase, Phase::Opened);
    tcp
}

fn established() -> Tcp {
    let mut tcp = opened();
    assert!(tcp.client(ACK, C, V, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    tcp
}

/// A connection that was adopted from a segment of the client.
fn adopted() -> Tcp {
    let mut tcp = Tcp { phase: Phase::Adopted, sequences: Sequences::default(), claims: Claims::default() };
    assert!(tcp.client(ACK, C, V, 10));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Adopted, [C + 10, V, V, C]));
    tcp
}

/// Asserts that a segment changes nothing and is no sign of life.
fn changes_nothing(tcp: &Tcp, direction: Direction, segment: Segment) {
    let mut after = *tcp;
    assert!(!after.follow(direction, &segment, true), "{segment:?}");
    assert_eq!((after.phase, after.sequences, after.claims), (tcp.phase, tcp.sequences, tcp.claims), "{segment:?}");
}
