//! Rules that have one server alone share its entry, in large storages.

use crate::table::rule::{Divert, Target, Weighted};
use crate::table::server::{self, Holder};
use crate::translator::state::Table;

impl Table<'_> {
    /// The server whose entry a rule shares with all other rules that have this server alone.
    pub(super) fn shares(&mut self, divert: &Divert<'_>) -> Option<Target> {
        match divert.targets() {
            [Weighted { target, weight: 1 }] if !divert.options.ejecting && self.servers().are_shared() => {
                Some(*target)
            }
            _ => None,
        }
    }

    /// Lets go of the servers of a rule, the first of which is `old`, and gives it the entry that rules with this server
    /// alone share.
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
