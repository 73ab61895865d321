//! How far rebuilding the address filter has come.

use crate::time::Tick;

/// There is nothing to rebuild.
pub(crate) const DONE: u32 = u32::MAX;

/// There is a rule for a prefix: the filter matches every address.
pub(crate) const EVERYTHING: u32 = u32::MAX - 1;

/// The least number of ticks between the starts of two passes, unless a rule was removed: 8.4 s. Connections may come
/// and go all the time, and each pass examines all of them.
pub(crate) const INTERVAL: u32 = 128;

/// How far rebuilding the filter has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebuilding {
    /// The next position to examine: connections first, then fragmented datagrams, then rules; or [`DONE`], or
    /// [`EVERYTHING`].
    pub(crate) cursor: u32,
    pub(crate) since: Tick,
    /// Whether the filter may contain something that is gone: added since the last pass started, or before it and
    /// missed by it.
    pub(crate) stale: bool,
    /// Whether the filter may contain connections whose original destination no rule names.
    pub(crate) orphans: bool,
}

impl Rebuilding {
    pub(crate) const NONE: Self = Self { cursor: DONE, since: Tick(0), stale: false, orphans: false };

    /// When the next step is due; the tick may be in the past.
    pub(crate) fn due(&self, now: Tick) -> Option<Tick> {
        match self.cursor {
            EVERYTHING => None,
            DONE if !self.has_paused(now) => self.stale.then(|| self.since.plus(INTERVAL)),
            DONE => self.stale.then_some(now),
            _ => Some(now),
        }
    }

    /// Whether the last pass started long enough ago for another one.
    pub(crate) const fn has_paused(&self, now: Tick) -> bool {
        now.since_past(self.since) >= INTERVAL
    }
}
