//! Rebuilds the filter of destinations when something in it may be gone: a rule, a connection whose original
//! destination no rule names any more, a client that keeps its address.

use crate::table::connection::SOURCE_KEPT;
use crate::table::filter::Filter;
use crate::table::rebuilding::{DONE, EVERYTHING, Rebuilding};
use crate::table::rule::{self, DivertSlot};
use crate::table::server::ServerSlot;
use crate::track::phase::Phase;
use crate::translator::state::{HIDES_SERVERS, Table};

impl Table<'_> {
    /// Updates the filter after a rule was added, or one was `removed`.
    pub(in crate::translator) fn refilter(&mut self, removed: Option<DivertSlot>) {
        let rules = self.memory.diverts.get(..self.state.diverts).unwrap_or_default();
        let hosts = || rules.iter().filter_map(DivertSlot::host);
        let state = &mut *self.state;
        state.forwards = hosts().any(|host| state.is_own(host));
        let hides_servers = rules.iter().any(DivertSlot::hides_servers);
        state.kept = state.kept & !HIDES_SERVERS | if hides_servers { HIDES_SERVERS } else { 0 };
        // Rules for prefixes come after all others.
        if rules.last().is_some_and(|rule| rule.host().is_none()) {
            self.divert_everything();
            return;
        }
        let filter = &mut state.filter;
        // Connections that the removed rule has opened need not have been added to a filter that is under construction.
        if let Some(host) = removed.and_then(|rule| rule.host()) {
            filter.add_diverted(host);
        }
        for rule in rules {
            add_rule(filter, rule, self.memory.servers);
        }
        if removed.is_some() {
            self.rebuild_without_rule();
        }
    }

    /// Makes the filter match every address: there is a rule for a prefix.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    pub(super) fn divert_everything(&mut self) {
        if self.state.rebuilding.cursor != EVERYTHING {
            self.state.filter.divert_everything();
            self.state.rebuilding.cursor = EVERYTHING;
        }
    }

    /// Rebuilds the filter after a rule was removed. There must be no rule for a prefix.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    pub(super) fn rebuild_without_rule(&mut self) {
        let rebuilding = &mut self.state.rebuilding;
        if rebuilding.cursor >= EVERYTHING {
            self.start_rebuilding();
        } else {
            (rebuilding.stale, rebuilding.orphans) = (true, true);
        }
        self.rebuild_filter(crate::translator::connection::expire::LOOKS);
    }

    fn start_rebuilding(&mut self) {
        let since = self.state.tick;
        self.state.rebuilding = Rebuilding { cursor: self.start_of_pass(), since, stale: false, orphans: false };
        self.state.filter.start_share();
    }

    /// Where a pass begins: if no slot is in use, after the slots.
    const fn start_of_pass(&self) -> u32 {
        if self.state.used == 0 { self.state.fresh } else { 0 }
    }

    /// Takes at most `steps` steps of rebuilding the filter, if that is due.
    pub(in crate::translator) fn rebuild_filter(&mut self, steps: usize) {
        let Rebuilding { cursor, stale, .. } = self.state.rebuilding;
        if cursor >= EVERYTHING {
            if cursor == EVERYTHING || !stale || !self.state.rebuilding.has_paused(self.state.tick) {
                return;
            }
            self.start_rebuilding();
        }
        for _ in 0..steps {
            let cursor = self.state.rebuilding.cursor;
            if self.rebuild_step(cursor) {
                self.state.rebuilding.cursor = cursor + 1;
            } else if self.state.filter.finish_share() {
                self.state.rebuilding.cursor = self.start_of_pass();
            } else {
                self.state.rebuilding.cursor = DONE;
                return;
            }
        }
    }

    /// Adds the next item to the filter. False if there is none left.
    ///
    /// Connections that are opened in slots that the cursor has passed, and new rules, are added at once. The number of
    /// slots ever used may grow in the meantime: then some items are visited twice. If a rule is removed, all others
    /// are added at once.
    fn rebuild_step(&mut self, cursor: u32) -> bool {
        let Some(offset) = cursor.checked_sub(self.state.fresh) else {
            if let Some(connection) = self.memory.connections.get(cursor as usize).map(|c| &c.0)
                && connection.phase != Phase::Free
            {
                let is_orphan = !self.names(connection.original);
                let filter = &mut self.state.filter;
                filter.add_diverted(connection.original);
                if connection.has(SOURCE_KEPT) {
                    filter.add_near(connection.client);
                }
                self.state.rebuilding.orphans |= is_orphan;
            }
            return true;
        };
        let offset = offset as usize;
        let Some(note) = self.memory.fragments.get(offset) else {
            let rules = self.memory.diverts.get(..self.state.diverts).unwrap_or_default();
            let rule = rules.get(offset - self.memory.fragments.len());
            if let Some(rule) = rule {
                add_rule(&mut self.state.filter, rule, self.memory.servers);
            }
            return rule.is_some();
        };
        // The connection may be gone, and the rest of the datagram must not pass untranslated.
        if let Some(original) = note.original(self.state.tick, self.state.timers.fragment)
            && !self.names(original)
        {
            self.state.filter.add_diverted(original);
            self.state.rebuilding.stale = true;
        }
        true
    }

    /// Records a new connection that no rule has opened.
    pub(in crate::translator) fn note_orphan(&mut self, original: u32) {
        self.state.rebuilding.orphans |= !self.names(original);
        #[cfg(target_pointer_width = "64")]
        self.note_uncovered(original);
    }

    /// Whether some rule names exactly this address. Where there are many rules, `false` may be wrong too: until the
    /// index has been rebuilt, it does not show what is gone. Then the filter is rebuilt more often than needed.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn names(&self, address: u32) -> bool {
        #[cfg(target_pointer_width = "64")]
        if let Some(index) = self.rule_index() {
            return if self.has_few_rules() {
                self.rules().iter().any(|rule| rule.host() == Some(address))
            } else {
                index.is_complete() && self.state.renewal.gone == 0 && index.may_name(32, address)
            };
        }
        rule::names(self.rules(), address)
    }

    /// Whether the rules are so few that they can be searched one by one where they are not sorted.
    #[cfg(target_pointer_width = "64")]
    pub(super) const fn has_few_rules(&self) -> bool {
        self.state.diverts <= 32
    }

    /// Called when a slot is freed: its connection may be the last one that needs its addresses in the filter.
    #[inline(always)]
    pub(in crate::translator) fn outdate_filter(&mut self, kept: bool) {
        let rebuilding = &mut self.state.rebuilding;
        rebuilding.stale |= rebuilding.orphans | kept;
    }
}

/// Adds what a rule names: its destination, and the servers that it hides.
pub(super) fn add_rule(filter: &mut Filter, rule: &DivertSlot, servers: &[ServerSlot]) {
    if let Some(host) = rule.host() {
        filter.add_diverted(host);
    }
    if rule.hides_servers() {
        rule.chain(servers).for_each(|server| filter.add_near(server.address));
    }
}
