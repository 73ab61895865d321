//! For large storage with an index of rules: what follows an instruction about one rule without examining all others,
//! and the gradual renewal of what cannot be removed from the index.

use crate::endpoint::Endpoint;
use crate::table::rebuilding::EVERYTHING;
use crate::table::renewal::{ALL_FOLLOWED, Stage};
use crate::table::rule::{DivertSlot, RuleCounts};
use crate::table::rule_index::RuleIndex;
#[cfg(feature = "control")]
use crate::table::{rule::Target, server::Place};
use crate::track::phase::Phase;
use crate::translator::rules::filter::add_rule;
use crate::translator::state::{HIDES_SERVERS, Table};
use crate::translator::table::rule_index;

impl Table<'_> {
    /// True if no rule matches packets to this address; false if one may match.
    #[inline(always)]
    pub(in crate::translator) fn is_unruled(&self, address: u32) -> bool {
        self.rule_index().is_some_and(|index| index.lengths_for(address) == 0)
    }

    fn counts_of(&self, rule: &DivertSlot) -> RuleCounts {
        let forwards = rule.host().is_some_and(|host| self.state.is_own(host));
        RuleCounts {
            prefixes: u32::from(rule.host().is_none()),
            forwards: u32::from(forwards),
            limited_forwards: u32::from(self.is_limited_forward(rule)),
            hiding: u32::from(rule.hides_servers()),
        }
    }

    /// Follows a change of rules: one was added (`come`), removed (`gone`), or replaced by one that may have the same
    /// match.
    pub(in crate::translator) fn follow_rules(&mut self, come: Option<DivertSlot>, gone: Option<DivertSlot>) {
        let change = [come.map(|rule| self.counts_of(&rule)), gone.map(|rule| self.counts_of(&rule))];
        let [come_counts, gone_counts] = change.map(Option::unwrap_or_default);
        let counts = &mut self.state.rule_counts;
        *counts = counts.plus(come_counts).minus(gone_counts);
        let RuleCounts { prefixes, forwards, hiding, .. } = *counts;
        let state = &mut *self.state;
        state.forwards = forwards != 0;
        state.kept = state.kept & !HIDES_SERVERS | if hiding != 0 { HIDES_SERVERS } else { 0 };
        if let Some(rule) = come {
            add_rule(&mut state.filter, &rule, self.memory.servers);
            self.note_hidden(&rule);
        }
        if prefixes != 0 {
            self.divert_everything();
        } else if come.is_none()
            && let Some(rule) = gone
        {
            // Connections that the rule has opened need not have been added to a filter that is under construction.
            if let Some(host) = rule.host() {
                self.state.filter.add_diverted(host);
            }
            self.rebuild_without_rule();
        }
        if come.is_none() {
            self.state.renewal.note_gone(self.state.tick);
            self.renew(0);
        }
    }

    /// Whether a rule is one of those that stand apart: it hides servers, or names one of our own ports for some
    /// clients, which the index does not find.
    pub(in crate::translator) fn stands_apart(&self, rule: &DivertSlot) -> bool {
        rule.hides_servers() || self.is_limited_forward(rule)
    }

    fn is_limited_forward(&self, rule: &DivertSlot) -> bool {
        let is_forward = rule.host().is_some_and(|host| self.state.is_own(host));
        is_forward && rule.has_port() && rule.clients_length() != 0
    }

    /// Records in the index which servers a rule hides, and returns how many.
    fn note_hidden(&mut self, rule: &DivertSlot) -> usize {
        let mut servers = 0;
        if rule.hides_servers() {
            let mut index = rule_index!(self.state, self.memory);
            for server in rule.chain(self.memory.servers) {
                index.note_hidden(server.address);
                servers += 1;
            }
        }
        servers
    }

    /// Called when a rule was moved to this place: a pass that has already examined this place would miss the rule.
    pub(in crate::translator) fn note_moved(&mut self, place: usize) {
        let Some(rule) = self.rules().get(place).copied() else {
            return;
        };
        add_rule(&mut self.state.filter, &rule, self.memory.servers);
        self.note_hidden(&rule);
        self.follow_drained(place);
    }

    /// Makes the rule at this place point at the new entry if it points at a drained one. False if no rule is there.
    fn follow_drained(&mut self, place: usize) -> bool {
        let Some(entry) = self.rules().get(place).map(|rule| rule.servers) else {
            return false;
        };
        let meant = self.servers().leave_drained(entry);
        if let Some(rule) = self.memory.diverts.get_mut(place) {
            rule.servers = meant;
        }
        true
    }

    /// Calls [`follow_drained`](Self::follow_drained) for the next `steps` rules, if servers were drained.
    fn follow_all_drained(&mut self, steps: usize) {
        for _ in 0..steps {
            let place = self.state.renewal.following;
            if place == ALL_FOLLOWED {
                return;
            }
            let goes_on = self.follow_drained(place as usize);
            self.state.renewal.following = if goes_on { place + 1 } else { ALL_FOLLOWED };
        }
    }

    /// Looks at every rule that can match a packet to `at`, the most specific first, however many others there are.
    /// False if that cannot be done, or not for all of them.
    #[cfg(feature = "control")]
    pub(crate) fn each_that_speaks_of(&self, at: Place, look: &mut dyn FnMut(&DivertSlot)) -> bool {
        self.rule_index().is_some_and(|index| index.each_that_speaks_of(self.rules(), at, look))
    }

    /// Whether a rule leads from `at` to another server; also true if look-ups cannot find all rules.
    #[cfg(feature = "control")]
    pub(crate) fn may_lead_on_from(&self, at: Place) -> bool {
        let mut leads_on = false;
        let mut look = |rule: &DivertSlot| {
            leads_on |= rule.chain(self.memory.servers).any(|server| server.target() != Target::Same);
        };
        let are_all = self.each_that_speaks_of(at, &mut look);
        !are_all || leads_on
    }

    /// Records a connection whose original destination may be named by no rule.
    pub(in crate::translator) fn note_uncovered(&mut self, original: u32) {
        if self.is_unruled(original) {
            self.state.renewal.covers_connections = false;
            if let Stage::Connections(slot) = self.state.renewal.stage {
                self.state.renewal.end(self.state.tick, self.state.diverts as u32 + slot);
            }
        }
    }

    /// Continues to rebuild the filter and the classes of the index by `steps` steps, if that is due.
    pub(in crate::translator) fn renew(&mut self, steps: usize) {
        if !self.state.directory.is_there() {
            return;
        }
        self.follow_all_drained(steps);
        let rules = self.state.diverts as u32;
        if self.state.used == 0 && self.state.renewal.stage == Stage::Done {
            self.state.renewal.covers_connections = true;
        }
        if self.state.renewal.is_due(self.state.tick, rules) {
            rule_index!(self.state, self.memory).start_rebuilding();
            self.state.renewal.start();
        }
        let mut left = steps;
        while left > 0 && self.state.renewal.stage != Stage::Done {
            left = left.saturating_sub(self.renew_step());
        }
    }

    /// The next step of a pass. Returns how many steps' work it was.
    fn renew_step(&mut self) -> usize {
        match self.state.renewal.stage {
            Stage::Done => {}
            Stage::Filter(word) => {
                let goes_on = rule_index!(self.state, self.memory).clear(word as usize, WORDS_PER_STEP as usize);
                self.state.renewal.stage = if goes_on { Stage::Filter(word + WORDS_PER_STEP) } else { Stage::Rules(0) };
            }
            Stage::Rules(place) => {
                if let Some(rule) = self.rules().get(place as usize).copied() {
                    rule_index!(self.state, self.memory).note(&rule);
                    self.state.renewal.stage = Stage::Rules(place + 1);
                    return 1 + self.note_hidden(&rule);
                }
                rule_index!(self.state, self.memory).finish_rebuilding();
                self.state.renewal.stage = Stage::Connections(0);
                // Where there are many rules, only the rebuilt index shows which connections none of them matches any
                // more.
                let has_few = self.has_few_rules();
                let rebuilding = &mut self.state.rebuilding;
                if rebuilding.cursor != EVERYTHING && !has_few {
                    (rebuilding.stale, rebuilding.orphans) = (true, true);
                }
            }
            Stage::Connections(slot) => {
                let used = self.slot(slot).filter(|_| slot < self.state.fresh);
                match used {
                    Some(c) if c.phase == Phase::Free || !self.is_unruled(c.original) => {
                        self.state.renewal.stage = Stage::Connections(slot + 1);
                    }
                    _ => {
                        self.state.renewal.covers_connections = used.is_none();
                        self.state.renewal.end(self.state.tick, self.state.diverts as u32 + slot);
                    }
                }
            }
        }
        1
    }
}

/// How many words of the filter one step clears.
const WORDS_PER_STEP: u32 = 64;

/// Whether some rule, for any client, names exactly this address and port. Those for some clients are
/// among the rules that stand apart.
pub(in crate::translator) fn forwards(
    index: RuleIndex<'_>,
    counts: &RuleCounts,
    rules: &[DivertSlot],
    protocol: u8,
    endpoint: Endpoint,
) -> bool {
    if index.find_port(rules, protocol, endpoint).is_some() {
        return true;
    }
    if counts.limited_forwards == 0 || !index.may_name_for_clients(endpoint) {
        return false;
    }
    let apart = rules.get(..index.directory.apart()).unwrap_or_default();
    let speaks = |rule: &DivertSlot| rule.host() == Some(endpoint.address) && rule.port() == Some(endpoint.port);
    apart.iter().any(|rule| speaks(rule) && rule.is_for(protocol))
}
