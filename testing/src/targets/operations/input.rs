//! The operations, and how they are read from an input.

use core::net::SocketAddrV4;

use arbitrary::{Arbitrary, Unstructured};
use byway::{Match, Midstream, Protocol, Redivert, Target, Weighted};
use byway_testing::packet::SYN;

use super::draw::{client, flags, matches, midstream, pick, protocol, target};
use super::{MIRRORS, ORIGINALS, PORTS};

use super::segment::{Chosen, SEGMENT};

/// What one step does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Time goes on, by so many microseconds, or back.
    Wait {
        micros: i64,
    },
    /// The next so many packets come at once.
    Burst(u8),
    Packet(Packet),
    Divert {
        matches: Match,
        targets: Vec<Weighted>,
        keep_source: bool,
        siblings: bool,
        midstream: Option<Midstream>,
    },
    Remove(Match),
    Redivert {
        from: Target,
        to: Target,
        how: Redivert,
    },
    Poll,
    /// Every connection is forgotten.
    Forget,
    Transmit,
    /// A record of one of the current connections comes back from elsewhere, or a damaged one.
    Import {
        which: u8,
        place: u8,
        value: u8,
    },
}

/// A packet by what it is about. Connections are chosen among those that are there.
#[derive(Clone, Debug)]
pub enum Packet {
    /// From a client to an original destination.
    Client { protocol: Protocol, client: SocketAddrV4, original: SocketAddrV4, flags: u8, number: u8, size: u8 },
    /// On a connection that is there: the way there, or back.
    Known { which: u8, back: bool, flags: u8, number: u8, size: u8 },
    /// A TCP segment of a connection that is there, or one whose numbers are just beside what would be right.
    Segment(Chosen),
    /// From a server to where a connection has its alternative endpoint, from another port or another server.
    Astray { which: u8, server: SocketAddrV4, protocol: Protocol },
    /// An ICMP error about the last packet of a connection, on its way there or back.
    Error { which: u8, back: bool, kind: u8, from_router: bool, quoted: u8, options: bool, damage: u8 },
    /// A fragment.
    Fragment { which: u8, back: bool, identification: u8, start: u8, units: u8, more: bool },
    /// The last packet once more, with a byte changed, shortened, checksums right or not.
    Changed { place: u8, value: u8, cut: u8, right: bool },
    /// Anything at all.
    Raw([u8; 12]),
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind: u8 = u.arbitrary()?;
        if (SEGMENT..SEGMENT + 13).contains(&kind) {
            return Ok(Self::Packet(Packet::Segment(u.arbitrary()?)));
        }
        Ok(match kind % 32 {
            0..=2 => {
                let micros = pick(
                    u,
                    &[
                        1,
                        65_536,
                        1_000_000,
                        31_000_000,
                        61_000_000,
                        121_000_000,
                        241_000_000,
                        301_000_000,
                        7_500_000_000,
                    ],
                )?;
                Self::Wait { micros: if u.ratio(1, 6)? { -micros } else { micros } }
            }
            3 => Self::Burst(u.int_in_range(1..=40)?),
            4 | 5 => {
                let matches = matches(u)?;
                let (keep_source, siblings) = (u.ratio(1, 5)?, u.ratio(1, 3)?);
                let count = pick(u, &[1, 1, 1, 2, 3, 0])?;
                let mut targets = Vec::new();
                for _ in 0..count {
                    targets.push(Weighted { target: target(u)?, weight: pick(u, &[1, 2, 7, 0])? });
                }
                let midstream = midstream(u)?;
                Self::Divert { matches, targets, keep_source, siblings, midstream }
            }
            6 => Self::Remove(matches(u)?),
            7 | 8 => {
                use Redivert::{Drain, HandOver, HandOverOrReset, Reset, Switch};
                let how = pick(u, &[Switch, Drain, Reset, Switch, Drain, Reset, HandOver, HandOverOrReset])?;
                Self::Redivert { from: target(u)?, to: target(u)?, how }
            }
            9 if u.int_in_range(0..=7)? == 7 => Self::Forget,
            9 => Self::Poll,
            10 => Self::Transmit,
            11 => Self::Import { which: u.arbitrary()?, place: u.arbitrary()?, value: u.arbitrary()? },
            12..=16 => Self::Packet(Packet::Client {
                protocol: protocol(u)?,
                client: SocketAddrV4::new(client(u)?, 1000 + u.int_in_range(0..=60)?),
                original: SocketAddrV4::new(pick(u, &ORIGINALS)?, pick(u, &PORTS)?),
                flags: if u.ratio(2, 3)? { SYN } else { flags(u)? },
                number: u.arbitrary()?,
                size: u.int_in_range(0..=40)?,
            }),
            17..=24 => Self::Packet(Packet::Known {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                flags: flags(u)?,
                number: u.arbitrary()?,
                size: u.int_in_range(0..=40)?,
            }),
            25 => Self::Packet(Packet::Astray {
                which: u.arbitrary()?,
                server: SocketAddrV4::new(pick(u, &MIRRORS)?, pick(u, &PORTS)?),
                protocol: protocol(u)?,
            }),
            26 | 27 => Self::Packet(Packet::Error {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                kind: pick(u, &[3, 11, 12, 4, 5])?,
                from_router: u.arbitrary()?,
                quoted: pick(u, &[28, 40, 60, 255, 27, 20])?,
                options: u.ratio(1, 4)?,
                damage: u.arbitrary()?,
            }),
            28 | 29 => Self::Packet(Packet::Fragment {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                identification: u.int_in_range(0..=2)?,
                start: pick(u, &[0, 0, 3, 4, 5, 6, 8, 10, 12, 1])?,
                units: pick(u, &[3, 1, 2, 4, 0])?,
                more: u.ratio(3, 4)?,
            }),
            30 => Self::Packet(Packet::Changed {
                place: u.arbitrary()?,
                value: u.arbitrary()?,
                cut: pick(u, &[0, 0, 0, 1, 8, 20, 21, 28])?,
                right: u.arbitrary()?,
            }),
            _ => Self::Packet(Packet::Raw(u.arbitrary()?)),
        })
    }
}
