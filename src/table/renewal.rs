//! How far the index of rules has been rebuilt.

use crate::table::rebuilding::INTERVAL;
use crate::time::Tick;

/// How far the index's filter and classes have been rebuilt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    /// How many rules were removed since the last pass began.
    pub(crate) gone: u32,
    /// When the first of them was removed, or the last pass ended; and how many ticks after that the next pass begins.
    since: Tick,
    pause: u32,
    pub(crate) stage: Stage,
    /// Whether, according to the filter, every connection's original destination is that of a rule: then a packet whose
    /// destination is not in the filter belongs to no connection.
    pub(crate) covers_connections: bool,
    /// The next rule that may point at a drained server entry.
    pub(crate) following: u32,
}

/// When more rules were removed than this number plus half of the rules that are left, the next pass begins at once.
const MANY: u32 = 1_024;

/// No rule points at a drained entry.
pub(crate) const ALL_FOLLOWED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Done,
    /// The next word of the filter to clear.
    Filter(u32),
    /// The next rule to note again.
    Rules(u32),
    /// The next connection slot to check against the filter.
    Connections(u32),
}

impl Renewal {
    pub(crate) const NONE: Self = Self {
        gone: 0,
        since: Tick(0),
        pause: INTERVAL,
        stage: Stage::Done,
        covers_connections: true,
        following: ALL_FOLLOWED,
    };

    /// When the next step is due; the tick may be in the past.
    pub(crate) fn due(&self, now: Tick, rules: u32) -> Option<Tick> {
        if self.stage != Stage::Done || self.following != ALL_FOLLOWED || self.gone > MANY + rules / 2 {
            return Some(now);
        }
        (self.gone != 0).then(|| self.since.plus(self.pause))
    }

    /// Whether the next pass is due.
    pub(crate) fn is_due(&self, now: Tick, rules: u32) -> bool {
        let has_paused = self.gone != 0 && now.since(self.since) >= self.pause;
        self.stage == Stage::Done && (has_paused || self.gone > MANY + rules / 2)
    }

    /// Counts a rule that was removed.
    pub(crate) const fn note_gone(&mut self, now: Tick) {
        if self.gone == 0 {
            self.since = now;
        }
        self.gone += 1;
    }

    /// Starts a pass.
    pub(crate) const fn start(&mut self) {
        (self.gone, self.stage, self.covers_connections) = (0, Stage::Filter(0), false);
    }

    /// Ends a pass that has examined this many rules and connections. The more there were, the longer the pause before
    /// the next pass.
    pub(crate) const fn end(&mut self, now: Tick, looked_at: u32) {
        (self.stage, self.since, self.pause) = (Stage::Done, now, INTERVAL * (1 + looked_at / 0x1_0000));
    }

    /// Starts looking for rules that point at drained server entries.
    pub(crate) const fn start_following(&mut self) {
        self.following = 0;
    }
}
