//! The connections that a re-divert wants handed over ([`Redivert::HandOver`](crate::Redivert::HandOver)): a sweep
//! finds them, begins as many hand-overs as there is room for, tries those again that were not ready, and finally gives
//! up.

use core::time::Duration;

use crate::endpoint::Endpoint;
use crate::time::Instant;
use crate::track::resume::{LAST_ATTEMPT, LONG_WANTED, OR_RESET, WANTED};
use crate::translator::handover::HandOvers;
use crate::translator::handover::resumption::{Kept, Resumption};
use crate::translator::handover::splice::Ends;
use crate::translator::state::Table;

/// How many slots one poll examines.
const SLOTS: usize = 64;
/// How long to wait before connections that were not ready are tried again, in microseconds.
const AGAIN: u64 = 250_000;
/// How long connections are tried, unless the caller says otherwise.
const PATIENCE: u64 = 60_000_000;

/// A sweep over the slots: passes repeat as long as there are connections that may still be handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// How many slots this pass has examined, and one; zero between passes.
    cursor: u32,
    /// When the next pass begins, if connections are left.
    next: Instant,
    /// Whether this pass has found connections that may still be handed over, or between passes, whether the last one has.
    left: bool,
    /// Whether this pass gives up connections that have been wanted for long.
    settles: bool,
    /// When a pass that gives up is due.
    deadline: Instant,
    patience: u64,
}

impl Sweep {
    pub(super) const NONE: Self = Self {
        cursor: 0,
        next: Instant::ZERO,
        left: false,
        settles: false,
        deadline: Instant::ZERO,
        patience: PATIENCE,
    };

    /// Starts a pass over all slots. It does not prolong the wait of connections that an earlier re-divert wanted.
    fn start(&mut self, now: Instant) {
        if self.cursor == 0 && !self.left {
            self.deadline = now.plus_micros(self.patience);
        }
        self.begin(now);
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn begin(&mut self, now: Instant) {
        (self.cursor, self.left) = (1, false);
        self.settles = now >= self.deadline;
        if self.settles {
            self.deadline = now.plus_micros(self.patience);
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.cursor != 0 {
            return Some(now);
        }
        self.left.then_some(self.next)
    }

    /// The next slot to examine, below `slots`. `None` if there is none now.
    fn next(&mut self, now: Instant, slots: u32) -> Option<u32> {
        if self.cursor == 0 {
            if !self.left || now < self.next {
                return None;
            }
            self.begin(now);
        }
        if self.cursor > slots {
            self.cursor = 0;
            self.next = now.plus_micros(AGAIN);
            return None;
        }
        self.cursor += 1;
        Some(self.cursor - 2)
    }

    /// Records that the examined connection may be handed over later.
    const fn leave(&mut self) {
        self.left = true;
    }
}

impl<R: Resumption, const N: usize> HandOvers<'_, R, N> {
    /// How long to try to hand over connections that a re-divert wants handed over
    /// ([`Redivert::HandOver`](crate::Redivert::HandOver)), before they are left to their old server or reset: at most
    /// about twice that, and longer where many wait for a server that does not answer. The default is 60 s. With zero
    /// each is tried twice.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.sweep.patience =
            if patience.as_micros() < u64::MAX as u128 { patience.as_micros() as u64 } else { u64::MAX };
        self
    }

    /// Begins to hand over the connections that re-diverts want handed over, as far as there is room.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn follow_rediverts(&mut self, now: Instant, table: &mut Table<'_>) {
        if core::mem::take(&mut table.state.hand_overs_wanted) {
            self.sweep.start(now);
        }
        for _ in 0..SLOTS {
            if self.active >= N {
                return;
            }
            let Some(slot) = self.sweep.next(now, table.state.fresh) else {
                return;
            };
            let Some(since) = table.wanted(slot) else {
                continue;
            };
            let ends = table.slot(slot).map_or(Ends::NONE, Ends::of);
            let to = table.server_for(slot);
            let begun = match to {
                Some(to) => self.try_begin(now, table, &ends, to),
                None => Err(Kept::NoRule),
            };
            // Whether it was tried for long enough. This pass may give up connections that were already wanted at the
            // previous such pass.
            let settles = self.sweep.settles;
            let is_given_up = since & if settles { LAST_ATTEMPT | LONG_WANTED } else { LAST_ATTEMPT } != 0;
            match begun {
                Err(why) if why != Kept::Busy && (is_given_up || !why.may_pass()) => {
                    table.give_up_wanted(slot, why == Kept::SameServer);
                    if why != Kept::SameServer {
                        self.outcomes.keep(&ends, to.unwrap_or(Endpoint::NONE), why);
                    }
                }
                // It is under way, or is tried again.
                Ok(()) | Err(_) => {
                    self.sweep.leave();
                    if settles {
                        table.note_settled(slot);
                    }
                }
            }
        }
    }
}

impl Kept {
    /// Whether the reason may be temporary, so that a connection that a re-divert wants handed over is tried again.
    const fn may_pass(self) -> bool {
        match self {
            Self::NotEstablished
            | Self::Busy
            | Self::NoPort
            | Self::TableFull
            | Self::Unacknowledged
            | Self::NotNow
            | Self::Refused
            | Self::Silent
            | Self::Closing => true,
            Self::NoConnection
            | Self::NotResumable
            | Self::NoRule
            | Self::SameServer
            | Self::NoTimestamps
            | Self::WrongAnswer
            | Self::LongAnswer => false,
        }
    }
}

impl Table<'_> {
    /// Whether the connection in this slot is to be handed over: its flags [`LONG_WANTED`] and [`LAST_ATTEMPT`].
    fn wanted(&mut self, slot: u32) -> Option<u16> {
        self.for_resumable(slot)?;
        if self.is_dead(slot) {
            return None;
        }
        self.follow_rediverts(slot);
        let (entry, resume) = (self.slot(slot)?, self.resume(slot)?);
        let is_wanted = resume.has(WANTED) && !entry.phase.is_over();
        is_wanted.then_some(resume.flags & (LONG_WANTED | LAST_ATTEMPT))
    }

    /// Records that a pass that gives up has examined the connection while it could not be handed over, or was just
    /// being.
    fn note_settled(&mut self, slot: u32) {
        if let Some(resume) = self.resume_mut(slot) {
            resume.flags |= if resume.has(LONG_WANTED) { LAST_ATTEMPT } else { LONG_WANTED };
        }
    }

    /// Records that a hand-over of this connection has failed.
    pub(super) fn note_failed(&mut self, slot: u32, why: Kept) {
        if !why.may_pass() || self.resume(slot).is_some_and(|resume| resume.has(LAST_ATTEMPT)) {
            self.give_up_wanted(slot, false);
        }
    }

    /// Gives up handing the connection over: it stays, or is reset, as the re-divert asked.
    fn give_up_wanted(&mut self, slot: u32, stays: bool) {
        let Some(resume) = self.resume_mut(slot) else {
            return;
        };
        let is_reset = resume.has(OR_RESET) && !stays;
        resume.unwant();
        if is_reset && self.slot(slot).is_some_and(|c| !c.phase.is_over()) {
            self.reset_alone(slot);
        }
    }
}
