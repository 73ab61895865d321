//! How far the index of rules has been built anew.

/// How far the index's filter and classes have been built anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    /// How many rules have gone since the last time.
    pub(crate) gone: u32,
    pub(crate) stage: Stage,
    /// Whether every connection's original destination is that of a rule, as far as the filter tells: a packet that it
    /// does not know is of no connection then.
    pub(crate) covers_connections: bool,
    /// The next rule that may point at a drained entry for a server.
    pub(crate) following: u32,
}

/// No rule points at a drained entry.
pub(crate) const ALL_FOLLOWED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Done,
    /// The next rule is to be noted again.
    Rules(u32),
    /// The next slot of a connection is to be held against the filter.
    Connections(u32),
}

impl Renewal {
    pub(crate) const NONE: Self =
        Self { gone: 0, stage: Stage::Done, covers_connections: true, following: ALL_FOLLOWED };

    pub(crate) fn is_due(&self) -> bool {
        self.stage != Stage::Done || self.following != ALL_FOLLOWED
    }

    /// Entries for servers have been drained.
    pub(crate) const fn start_following(&mut self) {
        self.following = 0;
    }
}
