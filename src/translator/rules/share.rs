//! In large storages, rules with a single server share the entry of that server.

use crate::table::rule::{Divert, Target, Weighted};
use crate::table::server::{self, Holder};
use crate::translator::state::Table;

impl Table<'_> {
    /// The server whose entry a rule shares with all other rules that have only this server.
    pub(super) fn shares(&mut self, divert: &Divert<'_>) -> Option<Target> {
        match divert.targets() {
            [Weighted { target, weight: 1 }] if !divert.options.ejecting && self.servers().are_shared() => {
                Some(*target)
            }
            _ => None,
        }
    }

    /// Replaces the servers of a rule, the first of which is `old`, by the entry that all rules with only this server
    /// share.
    pub(super) fn replace_by_one(&mut self, old: u16, target: Target) -> u16 {
        let mut servers = self.servers();
        let (mut kept, mut entry) = (server::NONE, old);
        while let Some(slot) = servers.get(entry) {
            let (next, is_it) = (slot.next, slot.target() == target);
            if is_it && kept == server::NONE {
                kept = entry;
                if !slot.is_shared() {
                    servers.set_holder(entry, Holder::Rules, 1);
                }
            } else {
                servers.detach(entry);
            }
            entry = next;
        }
        if kept != server::NONE { kept } else { servers.share(target).unwrap_or(server::NONE) }
    }
}
