//! What an instruction about a rule needs of the table, and frees.

use crate::table::rule::{Target, servers_of};
use crate::table::server::ServerSlot;

/// What a rule would need, and free.
pub(super) struct Cost {
    /// The place of the rule, or where it would be inserted.
    pub(super) place: Result<usize, usize>,
    /// The first of the servers that it has now.
    pub(super) old: u16,
    /// How many entries for servers it needs.
    pub(super) needed: usize,
    /// How many it frees first.
    pub(super) freed: usize,
    /// How many connections are on the servers that the rule no longer names.
    pub(super) left_behind: u32,
    /// Whether it needs none because one other rule has its server.
    pub(super) joins: bool,
    /// Whether it frees one that another rule may join.
    pub(super) leaves: bool,
}

impl Cost {
    pub(super) const fn updates(&self) -> bool {
        self.place.is_ok()
    }
}

/// What happens to entries for servers that a rule releases.
pub(in crate::translator) struct Leaving {
    /// How many are no longer needed.
    pub(super) freed: usize,
    /// How many connections stand on them.
    pub(super) left_behind: u32,
    /// Whether one of those that are no longer needed is of the shared kind.
    pub(super) leaves: bool,
}

/// What happens to the servers of a rule, the first of which is `old`, except those that are still `named`.
pub(super) fn leaving(servers: &[ServerSlot], old: u16, named: impl Fn(Target) -> bool) -> Leaving {
    let mut all = Leaving { freed: 0, left_behind: 0, leaves: false };
    let entries = servers_of(servers, old).filter_map(|e| servers.get(usize::from(e)));
    for slot in entries.filter(|slot| !named(slot.target())) {
        let is_free = slot.connections == 0 && slot.is_of_one_rule();
        all.freed += usize::from(is_free);
        all.leaves |= is_free && slot.is_shared();
        all.left_behind += slot.connections;
    }
    all
}
