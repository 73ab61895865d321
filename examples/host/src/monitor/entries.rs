//! Which servers a translator's reports name, and at which positions: only for a server that is named once, the weight in a
//! report is known to be the one that it was measured under.

use std::collections::{HashMap, HashSet};

use byway::Target;

use super::run::{Run, SETTLED};

/// What the reports of one translator name.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// By position: the last whole report, with what came after it.
    last: HashMap<u32, Target>,
    /// The same, of the report that is arriving.
    arriving: HashMap<u32, Target>,
    /// Servers that stand at more than one position of a shard: in several rules.
    repeated: HashSet<Target>,
    /// Whether the report that is arriving has named another weight than the one in force.
    is_other: bool,
    /// Whether the rules were already listed because of that.
    has_listed: bool,
}

impl Entries {
    /// Notes what stands at a position. Returns whether it stood there in the last report.
    fn note(&mut self, position: u32, target: Target) -> bool {
        self.arriving.insert(position, target);
        self.last.get(&position) == Some(&target)
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
        // A position is a shard's number times 65 536, plus a place; each shard names the servers of all rules.
        let again = self.last.iter().filter(|(position, target)| !seen.insert((*position >> 16, **target)));
        self.repeated = again.map(|(_, target)| *target).collect();
        self.has_listed &= core::mem::take(&mut self.is_other);
    }

    /// Whether one of these servers is in several rules.
    fn has_repeated(&self, mut servers: impl Iterator<Item = Target>) -> bool {
        servers.any(|server| self.repeated.contains(&server))
    }
}

impl Run {
    /// Notes with which weight a server was measured. Where the service has no rules for some clients, and no other rule
    /// names one of its servers, another weight than the one in force shows that the report is late, or that somebody else
    /// has changed it: the rules are listed, once until the weights are the same again.
    pub(super) fn note_weight(&mut self, place: usize, (service, server): (usize, usize), position: u32, weight: u16) {
        let now = self.now();
        let is_settled = now.duration_since(self.told[service]) > SETTLED;
        let is_alone = self.services.len() == 1;
        let state = &mut self.services[service];
        let Some(target) = state.service.servers.get(server).map(|server| server.target) else { return };
        let entries = self.entries.entry(place).or_default();
        let is_known = entries.note(position, target);
        let is_repeated = entries.has_repeated(state.service.servers.iter().map(|server| server.target));
        if !is_alone || !state.demands.clients.is_empty() || !is_known || is_repeated || !state.note_weight(server, weight) {
            return;
        }
        entries.is_other = true;
        if is_settled && !core::mem::replace(&mut entries.has_listed, true) {
            self.links[place].list();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(n: u8) -> Target {
        Target::from(core::net::SocketAddrV4::new([20, 0, 0, n].into(), 80))
    }

    /// Takes a report; returns which of its entries were where they stood.
    fn report(entries: &mut Entries, named: &[(u32, u8)], is_whole: bool) -> Vec<bool> {
        let known = named.iter().map(|(position, n)| entries.note(*position, server(*n))).collect();
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
        entries.note(0, server(1));
        entries.lose();
        report(&mut entries, &[(1, 1), (0, 2)], true);
        assert!(!entries.has_repeated(both()));
    }
}
