//! The fast path of a plain packet, for large processors. Small ones use `fast_small.rs`.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::index::{self, Layout};
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::path::plain::{Left, Plain};
use crate::verdict::Verdict;
use crate::wire::ipv4::{self, TCP, UDP};

impl<S: Storage> Translator<S> {
    /// Translates or passes a packet.
    #[inline(always)]
    pub(in crate::translator) fn fast(&mut self, packet: &mut [u8]) -> Verdict {
        match packet.get(ipv4::PROTOCOL) {
            Some(&TCP) => self.fast_of::<TCP>(packet),
            Some(&UDP) => self.fast_of::<UDP>(packet),
            _ => self.translate_long(packet),
        }
    }

    /// Translates or passes a packet of this protocol.
    ///
    /// It is compiled once for each protocol and each direction, so that nothing is chosen at run time. Every call is a
    /// tail call, so that no registers are spilled.
    #[inline(never)]
    fn fast_of<const PROTOCOL: u8>(&mut self, packet: &mut [u8]) -> Verdict {
        let Some(plain) = Plain::read_as(PROTOCOL, packet) else {
            return self.translate_long(packet);
        };
        let destination = plain.destination();
        let way = if !self.state.span.holds(destination) {
            self.state.likely_direction_elsewhere(destination)
        } else if self.state.has_one_range() {
            Some(Direction::ToClient)
        } else {
            return self.fast_among(packet);
        };
        self.fast_plain(way, &plain, packet)
    }

    /// Handles a packet whose destination may be in one of several ranges of alternative addresses.
    #[inline(never)]
    fn fast_among(&mut self, packet: &mut [u8]) -> Verdict {
        match Plain::read(packet) {
            Some(plain) => self.fast_plain(self.state.likely_direction(plain.destination()), &plain, packet),
            None => self.translate_long(packet),
        }
    }

    /// Handles a plain packet that most likely goes in this direction; with `None` it passes.
    #[inline(always)]
    fn fast_plain(&mut self, way: Option<Direction>, plain: &Plain, packet: &mut [u8]) -> Verdict {
        match way {
            Some(Direction::ToServer) => self.fast_along(Direction::ToServer, plain, packet),
            Some(Direction::ToClient) => self.fast_along(Direction::ToClient, plain, packet),
            None => self.state.pass(),
        }
    }

    /// Handles a plain packet that most likely goes in this direction.
    #[inline(always)]
    fn fast_along(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8]) -> Verdict {
        let hash = self.state.keys.hash(&plain.key(direction));
        let position = self.state.layout.position(direction, hash);
        let guesses = Layout::guesses(self.storage.parts().index, position, index::tag(hash));
        match guesses.and_then(|mut guesses| guesses.next()) {
            Some(guess) => self.fast_at(direction, plain, packet, guess),
            None => self.second_look(direction, packet),
        }
    }

    /// Handles a plain packet that goes in this direction and most likely belongs to the connection in this slot.
    #[inline(always)]
    pub(super) fn fast_at(&mut self, direction: Direction, plain: &Plain, packet: &mut [u8], slot: u32) -> Verdict {
        match self.storage.parts().connections.get_mut(slot as usize) {
            Some(ConnectionSlot(connection))
                if connection.is_plainly(direction, plain.key(Direction::ToClient), self.state.plain_epoch) =>
            {
                match self.state.carry_plain(connection, direction, plain, packet) {
                    Some(verdict) => verdict,
                    None => self.carry_found(direction, packet, slot),
                }
            }
            _ => self.look_again(direction, packet, slot),
        }
    }

    /// Handles a packet that is not plain.
    #[cold]
    #[inline(never)]
    fn translate_long(&mut self, packet: &mut [u8]) -> Verdict {
        self.table().translate(packet, Left::NotPlain)
    }
    /// Handles a packet that arrives after a long time without a poll.
    #[cold]
    #[inline(never)]
    pub(in crate::translator) fn translate_late(&mut self, packet: &mut [u8]) -> Verdict {
        self.table().translate(packet, Left::Late)
    }
}
