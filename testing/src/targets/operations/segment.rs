//! TCP segments whose numbers are those that a connection expects, or just beside them.

use arbitrary::{Arbitrary, Unstructured};
use byway_testing::packet::{self, ACK, FIN, RST, SYN};

use super::super::model::Conn;
use super::super::model::tcp::Way;
use super::draw::pick;

/// A TCP segment by what its numbers are close to.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    pub(super) which: u8,
    pub(super) back: bool,
    pub(super) flags: u8,
    sequence: (Near, u32),
    acknowledgment: (Near, u32),
    pub(super) data: u16,
}

/// A number that means something to a connection.
#[derive(Clone, Copy, Debug)]
enum Near {
    /// Behind the last that its side has used.
    Sent,
    /// What the other side expects of it.
    Expected,
    /// One that its side has tried to make valid.
    Tried,
    /// In a handshake, behind the data of the SYN.
    Data,
    /// A number that nobody uses.
    Elsewhere(u8),
}

impl Near {
    pub(super) fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(match u.int_in_range(0..=15)? {
            0..=5 => Self::Sent,
            6 => Self::Data,
            7 | 8 => Self::Expected,
            9..=12 => Self::Tried,
            place => Self::Elsewhere(place - 13),
        })
    }

    /// The number of the side that sends this way.
    pub(super) fn number(self, conn: &Conn, way: Way) -> u32 {
        let Some(tcp) = &conn.tcp else {
            return 0;
        };
        let receiver = if way == Way::There { Way::Back } else { Way::There };
        let elsewhere = |place: u8| {
            let side = if way == Way::There { 0 } else { 0x0800_0000 };
            // Beside the last of these are zero and the numbers around it.
            [0x5000_0000_u32 + side, 0x9000_0000 + side, u32::MAX][usize::from(place) % 3]
        };
        let number = match self {
            Self::Sent => tcp.sent(way),
            Self::Expected => tcp.expected(receiver),
            Self::Data => tcp.behind_data(way),
            Self::Tried => tcp.tried(way).unwrap_or(0),
            Self::Elsewhere(place) => elsewhere(place),
        };
        if number == 0 { elsewhere(0) } else { number }
    }
}

impl Chosen {
    /// The packet.
    pub(super) fn of(&self, conn: &Conn) -> Vec<u8> {
        let (way, other) = if self.back { (Way::Back, Way::There) } else { (Way::There, Way::Back) };
        let (source, destination) =
            if self.back { (conn.far.destination, conn.far.source) } else { (conn.near.source, conn.near.destination) };
        let number = |(near, beside): (Near, u32), way| near.number(conn, way).wrapping_add(beside);
        let sequence = number(self.sequence, way);
        // It is the number behind a SYN that is compared.
        let sequence = if self.flags & SYN != 0 { sequence.wrapping_sub(1) } else { sequence };
        let segment = (self.flags, sequence, number(self.acknowledgment, other));
        packet::tcp(source, destination, segment, &vec![0x55; usize::from(self.data)])
    }
}

impl<'a> Arbitrary<'a> for Chosen {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let window = 1_u32 << 24;
        let edges = [
            1,
            1_u32.wrapping_neg(),
            20,
            20_u32.wrapping_neg(),
            40,
            1_400,
            window - 1,
            window,
            window.wrapping_neg(),
            window.wrapping_neg() - 1,
            (1 << 20) - 1,
            1 << 20,
            1 << 14,
            (1 << 14) + 1,
            1 << 31,
        ];
        let beside = |u: &mut Unstructured<'a>| Ok(if u.ratio(3, 4)? { 0 } else { pick(u, &edges)? });
        let which = u.arbitrary()?;
        let back = u.arbitrary()?;
        let flags = [SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, ACK, ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, 0];
        Ok(Self {
            which,
            back,
            flags: pick(u, &flags)?,
            sequence: (Near::arbitrary(u)?, beside(u)?),
            acknowledgment: (Near::arbitrary(u)?, beside(u)?),
            data: pick(u, &[0, 0, 0, 0, 1, 20, 40, 1_400])?,
        })
    }
}

/// The lowest first byte of an operation that is a [`Packet::Segment`]; the fourth says which flags it has.
pub const SEGMENT: u8 = 0xec;
/// The fourth byte of one that has ACK alone.
pub const PLAIN: u8 = 4;
