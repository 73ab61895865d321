//! The outcome of a hand-over.

use core::net::SocketAddrV4;
use core::time::Duration;

use heapless::Deque;

use crate::connection::Connection;
use crate::endpoint::{Endpoint, Pair};
use crate::table::connection::Entry;
use crate::time::Instant;
use crate::track::resume::{IN_BYTES, Offsets};
use crate::translator::handover::resumption::Kept;
use crate::translator::handover::run::{Run, SEND_ABORT, SEND_ACK, SEND_FAREWELL, Stage};
use crate::translator::handover::splice::Ends;
use crate::translator::state::Table;

/// The outcome of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Outcome {
    /// The connection was moved to the new server.
    Moved {
        /// The connection, with its new server.
        connection: Connection,
        /// The old server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        from: SocketAddrV4,
        /// How long no packet of the connection passed.
        gap: Duration,
        /// How many bytes the new server was sent first.
        replayed: usize,
        /// How many bytes of its answer were not passed on to the client.
        dropped: usize,
        /// The sequence number, as the client knows it, of the first byte that the new server sends to the client.
        position: u32,
        /// What is added to the new server's sequence numbers (modulo 2^32), and to its timestamps.
        offsets: (u32, u32),
    },
    /// The connection was not moved.
    Kept {
        /// The client, and the original destination.
        client_side: Pair,
        /// The server that was to take over.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        to: SocketAddrV4,
        /// The reason.
        why: Kept,
    },
}

/// How many outcomes wait to be fetched.
const WAITING: usize = 16;

/// The outcomes that wait to be fetched, and how many there were.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) queue: Deque<Outcome, WAITING>,
    pub(super) moved: u64,
    pub(super) kept: [u64; Kept::COUNT],
    /// Those that were not fetched in time.
    pub(super) lost: u64,
}

impl Outcomes {
    pub(super) const NONE: Self = Self { queue: Deque::new(), moved: 0, kept: [0; Kept::COUNT], lost: 0 };

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn count_kept(&mut self, why: Kept) {
        if let Some(count) = self.kept.get_mut(why as usize) {
            *count += 1;
        }
    }

    /// Counts and reports a connection that stays with its server.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn keep(&mut self, ends: &Ends, to: Endpoint, why: Kept) {
        self.count_kept(why);
        self.report(&Outcome::Kept { client_side: ends.pair(), to: to.socket(), why });
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn report(&mut self, outcome: &Outcome) {
        if self.queue.is_full() {
            self.queue.pop_front();
            self.lost += 1;
        }
        let _ = self.queue.push_back(*outcome);
    }
}

impl Run {
    /// The offsets that turn the new server's numbers into those that the client knows.
    fn offsets(&self) -> Offsets {
        let next = self.first_byte().wrapping_add(self.request as u32);
        let clock = self.standing.resume.server_clock.wrapping_sub(self.peer.first_clock);
        Offsets {
            forward: next.wrapping_sub(self.standing.client_next()),
            reply: self.standing.position().wrapping_sub(self.first_answer()).wrapping_sub(self.dropped as u32),
            clock: if self.has_clocks() { clock } else { 0 },
            scale: if self.standing.resume.client_scale != 0 && self.peer.offer.scale.is_none() {
                IN_BYTES
            } else {
                self.peer_scale()
            },
            sack: self.peer.offer.sack,
        }
    }

    /// Ends with the connection on the new server.
    fn commit(&mut self) {
        self.stage = Stage::Ending;
        self.flushed = self.dropped;
        self.pending = SEND_FAREWELL | SEND_ACK;
    }

    /// Ends with the connection on the old server.
    fn fail(&mut self) {
        self.pending = if self.stage == Stage::Replaying { SEND_ABORT } else { 0 };
        self.stage = Stage::Ending;
        self.flushed = self.answered;
    }

    /// Ends the hand-over: moves the connection to its new server, or, if it has failed, leaves it on the old one.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        table: &mut Table<'_>,
        failed: Option<Kept>,
        outcomes: &mut Outcomes,
    ) {
        let from = self.from().socket();
        let (offsets, position) = (self.offsets(), self.standing.position());
        let found = table.find_standing(&mut self.standing);
        let slot = self.standing.slot;
        let spliced = match (found, failed) {
            (Ok(()), None) => {
                let spliced = table.splice(slot, &self.leg, &offsets, position);
                spliced.and_then(|()| table.slot(slot).and_then(Entry::view).ok_or(Kept::NoConnection))
            }
            (Err(why), None) | (_, Some(why)) => Err(why),
        };
        match spliced {
            Ok(connection) => {
                self.commit();
                outcomes.moved += 1;
                let gap = now.duration_since(self.frozen);
                let (replayed, dropped) = (self.request, self.dropped);
                let offsets = (offsets.reply, offsets.clock);
                outcomes.report(&Outcome::Moved { connection, from, gap, replayed, dropped, position, offsets });
            }
            Err(why) => {
                if found.is_ok() {
                    table.freeze(slot, false);
                    table.note_failed(slot, why);
                }
                table.release_leg(&self.leg);
                self.fail();
                outcomes.keep(&self.ends(), self.leg.to, why);
            }
        }
    }
}
