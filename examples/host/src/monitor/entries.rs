//! Which servers a translator's reports name, at which positions, and with which weights: those show whether a report is late. A
//! report does not say of which rule an entry is, so where several rules name a server all of their weights are looked at together.

use std::collections::{HashMap, HashSet};

use byway::Target;

use super::beside::Owner;
use super::listed::Listed;
use super::run::{Run, SETTLED};
use super::service::State;

/// What the reports of one translator name.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By position: the servers and weights of the last whole report, with what came after it.
    last: HashMap<u32, (Target, u16)>,
    /// The same, of the report that is arriving.
    arriving: HashMap<u32, (Target, u16)>,
    /// Servers that stand at more than one position of a shard: in several rules.
    repeated: HashSet<Target>,
    /// By position: whose requests those of an entry are.
    pub(super) owners: HashMap<u32, Owner>,
    /// Whether the report that is arriving has named another weight than the one in force.
    is_other: bool,
    /// Whether the rules were already listed because of that.
    has_listed: bool,
}

impl Entries {
    /// Notes what stands at a position. Returns whether that server stood there in the last report.
    fn note(&mut self, position: u32, target: Target, weight: u16) -> bool {
        self.arriving.insert(position, (target, weight));
        self.last.get(&position).is_some_and(|(before, _)| *before == target)
    }

    /// The session is over: the rest of the report that was arriving will not come.
    pub(super) fn lose(&mut self) {
        self.arriving.clear();
    }

    /// The report is complete, or all that will come of it is there.
    pub(super) fn end(&mut self, is_whole: bool) {
        let arrived = core::mem::take(&mut self.arriving);
        if is_whole {
            self.last = arrived;
        } else {
            // Lost entries are assumed to be unchanged.
            self.last.extend(arrived);
        }
        let mut seen = HashSet::new();
        let again = self.last.iter().filter(|(position, (target, _))| !seen.insert((shard_of(**position), *target)));
        self.repeated = again.map(|(_, (target, _))| *target).collect();
        self.has_listed &= core::mem::take(&mut self.is_other);
    }

    /// Whether one of these servers is in several rules.
    fn has_repeated(&self, mut servers: impl Iterator<Item = Target>) -> bool {
        servers.any(|server| self.repeated.contains(&server))
    }

    /// Whether the last report can have been made under the weights that these rules, all of a translator's, have for a server: each
    /// shard has named it with all of them. It may have named it more often, for rules with a single server and for connections that
    /// have stayed.
    fn agree(&self, rules: &[Listed], server: Target) -> bool {
        let groups = rules.iter().filter(|rule| rule.servers.len() > 1).flat_map(|rule| &rule.servers);
        let expected: Vec<u16> = groups.filter(|listed| listed.target == server).map(|listed| listed.weight).collect();
        let shards: HashSet<u32> = self.last.keys().map(|position| shard_of(*position)).collect();
        shards.into_iter().all(|shard| {
            let entries = self.last.iter().filter(|(position, (target, _))| shard_of(**position) == shard && *target == server);
            let mut named: Vec<u16> = entries.map(|(_, (_, weight))| *weight).collect();
            let mut take = |weight: &u16| named.iter().position(|named| named == weight).map(|place| named.swap_remove(place));
            expected.iter().all(|weight| take(weight).is_some())
        })
    }
}

/// A position is a shard's number times 65 536, plus a place; each shard names the servers of all rules.
const fn shard_of(position: u32) -> u32 {
    position >> 16
}

impl Run {
    /// Notes with which weight a server was measured. Where [each entry shows](Self::is_plain) whether it is late, another weight
    /// than the one in force shows that it is, or that somebody else has changed it: the rules are listed, once until the weights
    /// are the same again.
    pub(super) fn note_weight(&mut self, place: usize, (service, server): (usize, usize), position: u32, weight: u16) {
        let now = self.now();
        let is_settled = now.duration_since(self.told[service]) > SETTLED;
        let Some(target) = self.services[service].service.servers.get(server).map(|server| server.target) else { return };
        let is_known = self.entries.entry(place).or_default().note(position, target, weight);
        if !is_known || !self.is_plain(place, service) || !self.services[service].note_weight(server, weight) {
            return;
        }
        let entries = self.entries.entry(place).or_default();
        entries.is_other = true;
        if is_settled && !core::mem::replace(&mut entries.has_listed, true) {
            self.links[place].list();
        }
    }

    /// Whether each entry of a report about a service shows whether it is late: there is no other service, it has no rules for some
    /// clients, and no other rule of the translator names one of its servers.
    fn is_plain(&self, place: usize, service: usize) -> bool {
        let state = &self.services[service];
        let is_repeated = self.entries.get(&place).is_some_and(|entries| entries.has_repeated(targets(state)));
        self.services.len() == 1 && state.demands.clients.is_empty() && !is_repeated
    }

    /// A report is complete, or all that will come of it is there. For services of which no single entry shows it, notes whether it
    /// is late: whether some server is named with other weights than all rules together have for it. While the rules are being
    /// listed, since they have changed, it is taken to be late.
    pub(super) fn end_report(&mut self, place: usize, is_whole: bool) {
        self.entries.entry(place).or_default().end(is_whole);
        let (Some(entries), rules) = (self.entries.get(&place), self.links[place].listed()) else { return };
        let is_late = |service: &usize| {
            let agree = |rules| targets(&self.services[*service]).all(|server| entries.agree(rules, server));
            !self.is_plain(place, *service) && !rules.is_some_and(agree)
        };
        let late: Vec<usize> = (0..self.services.len()).filter(is_late).collect();
        late.into_iter().for_each(|service| self.services[service].note_late());
    }
}

/// The servers of a service.
fn targets(state: &State) -> impl Iterator<Item = Target> {
    state.service.servers.iter().map(|server| server.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(n: u8) -> Target {
        Target::from(core::net::SocketAddrV4::new([20, 0, 0, n].into(), 80))
    }

    /// Takes a report; returns which of its entries were where they stood.
    fn report(entries: &mut Entries, named: &[(u32, u8)], is_whole: bool) -> Vec<bool> {
        let known = named.iter().map(|(position, n)| entries.note(*position, server(*n), 1)).collect();
        entries.end(is_whole);
        known
    }

    #[test]
    fn servers_of_several_rules_are_noticed() {
        let mut entries = Entries::default();
        let both = || [1, 2].map(server).into_iter();
        assert_eq!(report(&mut entries, &[(0, 1), (1, 2)], true), [false, false]);
        assert_eq!(report(&mut entries, &[(0, 1), (1, 2)], true), [true, true]);
        assert!(!entries.has_repeated(both()));
        // Another rule: what is new is not taken for what was there.
        assert_eq!(report(&mut entries, &[(0, 1), (1, 2), (2, 1)], true), [true, true, false]);
        assert!(entries.has_repeated(both()) && !entries.has_repeated([server(2)].into_iter()));
        // A lost page does not hide it.
        report(&mut entries, &[(0, 1), (1, 2)], false);
        assert!(entries.has_repeated(both()));
        // Its end is noticed with the next whole report.
        report(&mut entries, &[(0, 1), (1, 2)], true);
        assert!(!entries.has_repeated(both()));
        // Each shard has the rule.
        report(&mut entries, &[(0, 1), (1, 2), (0x1_0000, 1), (0x1_0001, 2)], true);
        assert!(!entries.has_repeated(both()));
        report(&mut entries, &[(0, 1), (1, 2), (0x1_0000, 1), (0x1_0001, 2), (0x1_0002, 2)], true);
        assert!(entries.has_repeated(both()));
        // A translator that was restarted may have its rules in another order.
        entries.note(0, server(1), 1);
        entries.lose();
        report(&mut entries, &[(1, 1), (0, 2)], true);
        assert!(!entries.has_repeated(both()));
    }
    /// Every shard names a server with the weights of all groups that it is in, in any order.
    #[test]
    fn the_weights_of_all_rules_show_what_is_late() {
        let rule = |named: &[(u8, u16)]| {
            let weighted = |(n, weight): &(u8, u16)| byway::Weighted { target: server(*n), weight: *weight };
            Listed { servers: named.iter().map(weighted).collect(), ..Listed::new("100.1.1.1".parse().unwrap()) }
        };
        let rules = [rule(&[(1, 3), (2, 7)]), rule(&[(2, 1), (1, 9)]), rule(&[(1, 5)]), rule(&[(3, 4), (4, 4)])];
        let mut entries = Entries::default();
        let mut agrees = |named: &[(u32, u8, u16)]| {
            for (position, n, weight) in named {
                entries.note(*position, server(*n), *weight);
            }
            entries.end(true);
            [1, 2].map(|n| entries.agree(&rules, server(n)))
        };
        assert_eq!(agrees(&[(0, 1, 3), (1, 2, 7), (2, 1, 9), (3, 2, 1)]), [true, true]);
        assert_eq!(agrees(&[(0, 1, 9), (1, 2, 1), (2, 1, 3), (3, 2, 7)]), [true, true], "as in another order of the rules");
        assert_eq!(agrees(&[(0, 1, 3), (1, 2, 7), (2, 1, 9), (3, 2, 1), (4, 1, 1), (5, 2, 6)]), [true, true], "it has more");
        assert_eq!(agrees(&[(0, 1, 4), (1, 2, 7), (2, 1, 9), (3, 2, 1)]), [false, true], "the first rule was changed");
        assert_eq!(agrees(&[(0, 1, 3), (1, 2, 7), (2, 1, 3), (3, 2, 1)]), [false, true], "and the second");
        assert_eq!(agrees(&[(0, 1, 3), (1, 2, 7), (2, 1, 9)]), [true, false], "an entry is missing");
        let two_shards = [(0, 1, 3), (1, 2, 7), (2, 1, 9), (3, 2, 1), (0x1_0000, 1, 9), (0x1_0001, 2, 7), (0x1_0002, 1, 3)];
        assert_eq!(agrees(&two_shards), [true, false]);
        assert!(entries.agree(&[], server(1)) && entries.agree(&rules[2..3], server(1)), "no group names it");
    }
}
