//! The fast path of a plain segment of a resumable connection that no other server has taken over yet, for large
//! processors.
//!
//! A fast path: it must give the same result as [`resumable`](super::resumable), or leave the packet to it.

use crate::connection::Direction;
use crate::table::connection::ConnectionSlot;
use crate::table::storage::{Parts, Storage};
use crate::track::phase::Phase;
use crate::track::resume::Placed;
use crate::translator::Translator;
use crate::translator::path::plain::Plain;
use crate::verdict::Verdict;
use crate::wire::ipv4::{HEADER, Header};
use crate::wire::tcp::{self, Segment};

impl<S: Storage> Translator<S> {
    /// Handles a packet that belongs to the connection in this slot and changes it.
    #[cold]
    #[inline(never)]
    pub(super) fn carry_found(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Verdict {
        if S::RESUMES && self.state.for_resumable.is_some() {
            return match direction {
                Direction::ToServer => self.resumable_at::<true>(packet, slot),
                Direction::ToClient => self.resumable_at::<false>(packet, slot),
            };
        }
        self.table().carry_found(direction, packet, slot)
    }

    /// Handles a packet of the connection in this slot, which may be resumable.
    #[inline(never)]
    fn resumable_at<const TO_SERVER: bool>(&mut self, packet: &mut [u8], slot: u32) -> Verdict {
        let direction = if TO_SERVER { Direction::ToServer } else { Direction::ToClient };
        match self.carry_resumable(direction, packet, slot) {
            Some(verdict) => verdict,
            None => self.table().carry_found(direction, packet, slot),
        }
    }

    /// Translates a plain segment of a resumable connection. `None`, with nothing changed, if it needs more than that.
    /// If connections are measured, no packet takes this path.
    #[inline(always)]
    fn carry_resumable(&mut self, direction: Direction, packet: &mut [u8], slot: u32) -> Option<Verdict> {
        let Parts { connections, resumable, .. } = self.storage.parts();
        let ConnectionSlot(connection) = connections.get_mut(slot as usize)?;
        let resume = resumable.get_mut(slot as usize)?;
        if connection.phase != Phase::EstablishedResumable || !resume.is_plain() {
            return None;
        }
        let plain = Plain::read(packet)?;
        let before = connection.sequences;
        let verdict = self.state.carry_in(Phase::EstablishedResumable, connection, direction, &plain, packet)?;
        let end = Header(packet.first_chunk()?).total_length();
        let bytes = packet.get_mut(HEADER..end)?;
        let segment = Segment::with(bytes.first_chunk::<{ tcp::HEADER }>()?, plain.data());
        if resume.note_common(direction, &segment, &before, bytes).is_none() {
            // The segment does not change, since no other server has taken over.
            let placed = Placed::plain(direction, &segment, &before);
            let sent = connection.sequences.end(Direction::ToClient);
            resume.carry(direction, &segment, placed, sent, bytes);
        }
        self.state.carried_resumable = true;
        Some(verdict)
    }
}
