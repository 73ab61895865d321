//! Where a large storage has an index of rules: what follows an instruction about one rule without a look at all
//! others, and the slow renewal of what the index cannot take back.

use crate::table::renewal::{ALL_FOLLOWED, Renewal, Stage};
use crate::table::rule::{DivertSlot, RuleCounts};
use crate::table::rule_index::RuleIndex;
use crate::track::phase::Phase;
use crate::translator::rules::filter::add_rule;
use crate::translator::state::{HIDES_SERVERS, Table};
use crate::translator::table::rule_index;

impl Table<'_> {
    /// Whether a packet to this address is of no connection and no rule. `false` says nothing.
    #[inline(always)]
    pub(in crate::translator) fn is_foreign(&self, address: u32) -> bool {
        self.state.renewal.covers_connections && self.is_unruled(address)
    }

    /// Whether no rule speaks of packets to this address. `false` says nothing.
    #[inline(always)]
    pub(in crate::translator) fn is_unruled(&self, address: u32) -> bool {
        self.rule_index().is_some_and(|index| !index.may_match(address))
    }

    fn counts_of(&self, rule: &DivertSlot) -> RuleCounts {
        let forwards = rule.host().is_some_and(|host| self.state.is_own(host));
        RuleCounts {
            prefixes: u32::from(rule.host().is_none()),
            forwards: u32::from(forwards),
            limited_forwards: u32::from(forwards && rule.has_port() && rule.clients_length() != 0),
            hiding: u32::from(rule.hides_servers()),
        }
    }

    /// A rule has come, and one has `gone` whose match may be the same.
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
            self.state.renewal.gone += 1;
            self.renew(0);
        }
    }

    /// A rule stands in another place than before: passes over all rules may miss it.
    pub(in crate::translator) fn note_moved(&mut self, place: usize) {
        let Some(rule) = self.rules().get(place).copied() else {
            return;
        };
        add_rule(&mut self.state.filter, &rule, self.memory.servers);
        self.follow_drained(place);
    }

    /// Points a rule at the entry that it means. False if there is no such rule.
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

    /// Points rules at the entries that they mean, so many of them, if servers were drained.
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

    /// Takes note of a connection that no rule need have opened.
    pub(in crate::translator) fn note_uncovered(&mut self, original: u32) {
        if self.is_unruled(original) {
            self.state.renewal.covers_connections = false;
            self.state.renewal.stage = Stage::Done;
        }
    }

    /// Goes on building filter and classes of the index anew, so many steps, if that is due.
    pub(in crate::translator) fn renew(&mut self, steps: usize) {
        if !self.state.directory.is_there() {
            return;
        }
        self.follow_all_drained(steps);
        let rules = self.state.diverts as u32;
        if self.state.used == 0 && self.state.renewal.stage == Stage::Done {
            self.state.renewal.covers_connections = true;
        }
        if self.state.renewal.stage == Stage::Done && self.state.renewal.gone > 1_024 + rules / 2 {
            rule_index!(self.state, self.memory).start_anew();
            let following = self.state.renewal.following;
            self.state.renewal = Renewal { gone: 0, stage: Stage::Rules(0), covers_connections: false, following };
        }
        for _ in 0..steps {
            match self.state.renewal.stage {
                Stage::Done => return,
                Stage::Rules(place) => match self.rules().get(place as usize).copied() {
                    Some(rule) => {
                        rule_index!(self.state, self.memory).note(&rule);
                        self.state.renewal.stage = Stage::Rules(place + 1);
                    }
                    None => {
                        rule_index!(self.state, self.memory).finish_anew();
                        self.state.renewal.stage = Stage::Connections(0);
                    }
                },
                Stage::Connections(slot) => {
                    let used = self.slot(slot).filter(|_| slot < self.state.fresh);
                    self.state.renewal.stage = match used {
                        Some(c) if c.phase != Phase::Free && self.is_unruled(c.original) => Stage::Done,
                        Some(_) => Stage::Connections(slot + 1),
                        None => {
                            self.state.renewal.covers_connections = true;
                            Stage::Done
                        }
                    };
                }
            }
        }
    }
}

/// Whether some rule speaks of exactly this address and port, whoever the client is: surely if there is such a rule;
/// where forwards are limited to clients hardly ever if there is none.
pub(in crate::translator) fn forwards(
    index: RuleIndex<'_>,
    counts: &RuleCounts,
    rules: &[DivertSlot],
    protocol: u8,
    endpoint: (u32, u16),
) -> bool {
    if counts.limited_forwards != 0 && index.may_name(32, endpoint.0) {
        let of_rank = |rule: &DivertSlot| rule.host() == Some(endpoint.0) && rule.port() == Some(endpoint.1);
        return index.find_port(rules, protocol, endpoint).is_some()
            || rules.iter().any(|rule| of_rank(rule) && rule.is_for(protocol));
    }
    index.find_port(rules, protocol, endpoint).is_some()
}
