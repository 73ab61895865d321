//! How far the filter of addresses has been built anew.

use crate::time::Tick;

/// There is nothing to build.
pub(crate) const DONE: u32 = u32::MAX;

/// There is a rule for a prefix: everything is in the filter.
pub(crate) const EVERYTHING: u32 = u32::MAX - 1;

/// How many ticks lie between two beginnings at least, unless a rule was removed: 8.4 s. Connections may come and go all
/// the time, and each pass looks at all of them.
pub(crate) const INTERVAL: u32 = 128;

/// How far the filter has been built anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rebuilding {
    /// The next of all connections, then notes about fragments, then rules; or [`DONE`], or [`EVERYTHING`].
    pub(crate) cursor: u32,
    pub(crate) since: Tick,
    /// Whether something may be gone that was added since the last beginning, or before and not been passed by.
    pub(crate) stale: bool,
    /// Whether connections may be in the filter whose original destination no rule names.
    pub(crate) orphans: bool,
}

impl Rebuilding {
    pub(crate) const NONE: Self = Self { cursor: DONE, since: Tick(0), stale: false, orphans: false };

    /// When it has to go on; the tick may lie in the past.
    pub(crate) fn due(&self, now: Tick) -> Option<Tick> {
        match self.cursor {
            EVERYTHING => None,
            DONE => self.stale.then(|| self.since.plus(INTERVAL)),
            _ => Some(now),
        }
    }
}
