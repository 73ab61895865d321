//! What one side of a TCP connection has claimed and the other has not confirmed yet.
//!
//! [`Sequences`](super::sequence::Sequences) holds what both ends agree on and lies in the cache line that every packet
//! touches. These twelve bytes lie beside the indexes: they are read only for a handshake, a FIN, a RST or a number
//! that does not fit.

use crate::connection::Direction;

/// How sure it is that a side has sent its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fin {
    /// It has not.
    None = 0,
    /// A FIN came that fits, after data that its receiver has not acknowledged.
    Sent,
    /// A FIN came with exactly the number that its receiver expects.
    InOrder,
    /// Its receiver has acknowledged it.
    Acknowledged,
}

impl Fin {
    /// By its number, of which the lowest two bits count.
    pub(crate) const fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::None,
            1 => Self::Sent,
            2 => Self::InOrder,
            _ => Self::Acknowledged,
        }
    }
}

/// A client's attempt to open a new connection on the port of one that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attempt {
    None = 0,
    /// The client has sent a SYN.
    Syn,
    /// The server has answered it with SYN+ACK.
    SynAck,
    /// The server has sent a SYN+ACK that answers no known SYN.
    Unasked,
}

/// See the [module's documentation](self). All zeros for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Sequence numbers of the client and of the server; zero if there is none. In a handshake: the number after the
    /// SYN of the previous attempt, and the number after the previous SYN+ACK. With an [`Attempt`]: the numbers that
    /// the client and the server will use next; as long as the client's SYN is not answered, the server's is from its
    /// answer to another attempt. Otherwise: where a segment ended that did not fit.
    pub(super) numbers: [u32; 2],
    /// Of the client and of the server: `FIN`, `HEARD`, `AGREED`, `SYN_ACKNOWLEDGED`.
    sides: [u8; 2],
    /// The most bytes of data that a SYN of the client has carried.
    syn_data: u16,
}

const FIN: u8 = 0b11;
const HEARD: u8 = 1 << 2;
const SYN_ACKNOWLEDGED: u8 = 1 << 3;
const AGREED: u32 = 4;
/// In the client's byte.
const ATTEMPT: u32 = 6;
/// In the server's byte.
const CONFIRMED: u8 = 1 << 6;
/// The marks that outlive a handshake.
const LASTING: u8 = FIN | HEARD;

impl Claims {
    /// How many words they take beside the index.
    pub(crate) const WORDS: usize = 3;

    pub(crate) const fn from_words([client, server, marks]: [u32; Self::WORDS]) -> Self {
        let [first, second, low, high] = marks.to_le_bytes();
        Self { numbers: [client, server], sides: [first, second], syn_data: u16::from_le_bytes([low, high]) }
    }

    pub(crate) const fn to_words(self) -> [u32; Self::WORDS] {
        let [low, high] = self.syn_data.to_le_bytes();
        [self.numbers[0], self.numbers[1], u32::from_le_bytes([self.sides[0], self.sides[1], low, high])]
    }

    const fn has(&self, side: Direction, mark: u8) -> bool {
        self.sides[side as usize] & mark != 0
    }

    /// The FIN of the side that sends this way.
    pub(crate) const fn fin(&self, side: Direction) -> Fin {
        Fin::of(self.sides[side as usize])
    }

    pub(super) const fn set_fin(&mut self, side: Direction, fin: Fin) {
        let marks = &mut self.sides[side as usize];
        *marks = *marks & !FIN | fin as u8;
    }

    /// Whether both FINs have been acknowledged.
    pub(super) const fn both_closed(&self) -> bool {
        Fin::of(self.sides[0] & self.sides[1]) as u8 == Fin::Acknowledged as u8
    }

    pub(super) const fn heard(&self, side: Direction) -> bool {
        self.has(side, HEARD)
    }

    pub(super) const fn set_heard(&mut self, side: Direction, heard: bool) {
        let marks = &mut self.sides[side as usize];
        *marks = *marks & !HEARD | if heard { HEARD } else { 0 };
    }

    pub(super) const fn heard_both(&self) -> bool {
        self.sides[0] & self.sides[1] & HEARD != 0
    }

    /// Whether both sides have been heard, here or by the translator that wrote the connection's record.
    pub(crate) const fn known_both(&self) -> bool {
        self.heard_both() || self.sides[1] & CONFIRMED != 0
    }

    pub(super) const fn set_confirmed(&mut self) {
        self.sides[1] |= CONFIRMED;
    }

    pub(crate) const fn attempt(&self) -> Attempt {
        match self.sides[0] >> ATTEMPT {
            0 => Attempt::None,
            1 => Attempt::Syn,
            2 => Attempt::SynAck,
            _ => Attempt::Unasked,
        }
    }

    pub(super) const fn set_attempt(&mut self, attempt: Attempt) {
        self.sides[0] = self.sides[0] & !(3 << ATTEMPT) | (attempt as u8) << ATTEMPT;
    }

    /// How often in a row the receiver agreed with what the side that sends this way claimed.
    pub(super) const fn agreed(&self, side: Direction) -> u32 {
        (self.sides[side as usize] >> AGREED & 3) as u32
    }

    pub(super) const fn set_agreed(&mut self, side: Direction, times: u32) {
        let marks = &mut self.sides[side as usize];
        *marks = *marks & !(3 << AGREED) | (times as u8) << AGREED;
    }

    /// Whether the SYN of the side that sends this way has been acknowledged.
    pub(super) const fn syn_acknowledged(&self, side: Direction) -> bool {
        self.has(side, SYN_ACKNOWLEDGED)
    }

    pub(super) const fn set_syn_acknowledged(&mut self, side: Direction, acknowledged: bool) {
        let marks = &mut self.sides[side as usize];
        *marks = *marks & !SYN_ACKNOWLEDGED | if acknowledged { SYN_ACKNOWLEDGED } else { 0 };
    }

    /// The most bytes of data that a SYN of the client has carried.
    pub(super) const fn syn_data(&self) -> u32 {
        self.syn_data as u32
    }

    pub(super) fn set_syn_data(&mut self, bytes: u32) {
        self.syn_data = bytes.min(0xffff) as u16;
    }

    /// Forgets the server's FIN and whether it was heard.
    pub(super) const fn forget_server(&mut self) {
        self.sides[1] = 0;
    }

    /// Forgets the claimed numbers and everything about them.
    pub(super) const fn clear_numbers(&mut self) {
        let [client, server] = self.sides;
        self.sides = [client & LASTING, server & (LASTING | CONFIRMED)];
        (self.numbers, self.syn_data) = ([0; 2], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Direction::{ToClient, ToServer};

    /// All that can be noted, each with a value of its own.
    fn full() -> Claims {
        let mut claims = Claims { numbers: [11, 22], ..Claims::default() };
        claims.set_fin(ToServer, Fin::Acknowledged);
        claims.set_fin(ToClient, Fin::InOrder);
        claims.set_heard(ToServer, true);
        claims.set_attempt(Attempt::SynAck);
        claims.set_agreed(ToServer, 1);
        claims.set_agreed(ToClient, 2);
        claims.set_syn_acknowledged(ToClient, true);
        claims.set_confirmed();
        claims.set_syn_data(1_400);
        claims
    }

    #[test]
    fn each_mark_has_bits_of_its_own() {
        let claims = full();
        assert_eq!((claims.fin(ToServer), claims.fin(ToClient)), (Fin::Acknowledged, Fin::InOrder));
        assert_eq!((claims.heard(ToServer), claims.heard(ToClient)), (true, false));
        assert_eq!((claims.attempt(), claims.syn_data()), (Attempt::SynAck, 1_400));
        assert_eq!((claims.agreed(ToServer), claims.agreed(ToClient)), (1, 2));
        assert_eq!((claims.syn_acknowledged(ToServer), claims.syn_acknowledged(ToClient)), (false, true));
        assert_eq!(Claims::from_words(claims.to_words()), claims);
        // Each can be cleared without changing another.
        let mut less = claims;
        less.set_fin(ToServer, Fin::None);
        less.set_heard(ToServer, false);
        less.set_agreed(ToClient, 0);
        less.set_syn_acknowledged(ToClient, false);
        less.set_attempt(Attempt::Syn);
        assert_eq!((less.fin(ToServer), less.fin(ToClient)), (Fin::None, Fin::InOrder));
        assert_eq!((less.agreed(ToServer), less.agreed(ToClient)), (1, 0));
        assert_eq!((less.attempt(), less.syn_data(), less.numbers), (Attempt::Syn, 1_400, [11, 22]));
        assert!(!less.heard(ToServer) && !less.syn_acknowledged(ToClient));
    }

    #[test]
    fn fins_and_who_was_heard_outlive_the_numbers() {
        let mut claims = full();
        claims.clear_numbers();
        let mut lasting = Claims::default();
        lasting.set_fin(ToServer, Fin::Acknowledged);
        lasting.set_fin(ToClient, Fin::InOrder);
        lasting.set_heard(ToServer, true);
        lasting.set_confirmed();
        assert_eq!(claims, lasting);
    }

    #[test]
    fn both_are_heard_or_confirmed() {
        let mut claims = Claims::default();
        claims.set_heard(ToServer, true);
        assert!(!claims.heard_both() && !claims.known_both());
        let mut confirmed = claims;
        confirmed.set_confirmed();
        assert!(!confirmed.heard_both() && confirmed.known_both());
        claims.set_heard(ToClient, true);
        assert!(claims.heard_both() && claims.known_both());
    }

    #[test]
    fn more_data_than_fits_is_counted_as_what_fits() {
        let mut claims = Claims::default();
        claims.set_syn_data(70_000);
        assert_eq!((claims.syn_data(), claims.fin(ToServer)), (65_535, Fin::None));
    }

    #[test]
    fn a_fin_by_its_number() {
        for fin in [Fin::None, Fin::Sent, Fin::InOrder, Fin::Acknowledged] {
            assert_eq!(Fin::of(fin as u8), fin);
            assert_eq!(Fin::of(fin as u8 | 4), fin);
        }
        assert!(Fin::None < Fin::Sent && Fin::Sent < Fin::InOrder && Fin::InOrder < Fin::Acknowledged);
    }
}
