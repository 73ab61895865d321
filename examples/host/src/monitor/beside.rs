//! Servers that several services have: which service an entry of a report is of, so that the requests of each are counted apart.
//!
//! A report does not say of which rule an entry is. But each rule has an entry of its own for each of its servers, with the weight
//! that the rule gives it. So the weights that services have for the same server are kept different, by their scale.

use byway::Target;
use byway::control::MAX_SERVERS;

use super::listed::Listed;
use super::rules::Each;
use super::run::Run;

/// The largest weight of a service, by its place. The model's other scales are multiples of 100 below it.
pub(super) const fn largest(place: usize) -> u16 {
    20_000 - 7 * (place % 14) as u16
}

/// Of which service an entry was, when that was known last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    target: Target,
    /// Its weight then; none if the rules have been listed since.
    weight: Option<u16>,
    /// None: no service's weights steer its requests.
    service: Option<usize>,
}

impl Run {
    /// Whether the requests of an entry are [others'](byway::monitor::Observation::others) for a service, by the owner of the entry:
    /// those of another service, of somebody else's rule, or of a rule with only one server, which no weight steers. What is not
    /// known is a service's own.
    pub(super) fn is_of_others(owner: Option<Option<usize>>, service: usize) -> bool {
        owner.is_some_and(|owner| owner != Some(service))
    }

    /// The service that an entry is of; `None` if that is not known, because several rules name the server with this weight.
    pub(super) fn owner_of(&mut self, place: usize, target: Target, position: u32, weight: u16) -> Option<Option<usize>> {
        let known = self.entries.get(&place).and_then(|entries| entries.owners.get(&position)).filter(|known| known.target == target);
        let before = known.map(|known| known.service);
        if known.is_some_and(|known| known.weight == Some(weight)) {
            return before;
        }
        // While the rules are being listed, or after a change that a late report does not show yet, it is whose it was.
        let Some(rules) = self.links.get(place).and_then(|link| link.listed()) else { return before };
        let named = |rule: &&Listed| rule.servers.iter().any(|server| server.target == target && server.weight == weight);
        let mut owners = rules.iter().filter(named).map(|rule| self.service_of(rule));
        let Some(service) = owners.next() else { return before };
        if owners.any(|other| other != service) {
            return before;
        }
        self.entries.entry(place).or_default().owners.insert(position, Owner { target, weight: Some(weight), service });
        Some(service)
    }

    /// The rules of a translator were listed: where entries stand, another rule may be by now.
    pub(super) fn forget_weights(&mut self, place: usize) {
        let entries = self.entries.entry(place).or_default();
        entries.owners.values_mut().for_each(|owner| owner.weight = None);
    }

    /// The service whose weights a rule has: its own rule, or one for some of its clients.
    fn service_of(&self, rule: &Listed) -> Option<usize> {
        if rule.servers.len() < 2 {
            return None;
        }
        let all = |matches: &byway::Match| matches.clients(byway::Prefix::ALL);
        let is = |exactly: bool| {
            self.services.iter().position(|state| {
                let matches = &state.service.matches;
                if exactly { *matches == rule.matches } else { rule.options.least_loaded && all(matches) == all(&rule.matches) }
            })
        };
        is(true).or_else(|| is(false))
    }

    /// Gives a service the same shares in other numbers, where its weight for a server is the one that an earlier service has: as at
    /// the start, or after an operator's change.
    pub(super) fn tell_apart(&mut self) {
        if self.config.dry_run || !self.acts() {
            return;
        }
        for service in 1..self.services.len() {
            let Some(before) = self.services[service].in_force else { continue };
            let is_settled = !self.is_pending(service) && self.refused[service].is_none();
            if !is_settled || !(0..MAX_SERVERS).any(|server| self.is_taken(service, server, before[server])) {
                continue;
            }
            let most = before.iter().copied().max().unwrap_or(0).max(1);
            let mut weights: Each<u16> = before.map(|weight| {
                let scaled = u32::from(weight) * u32::from(largest(service)) / u32::from(most);
                u16::try_from(scaled).unwrap_or(u16::MAX).max(u16::from(weight != 0))
            });
            for (server, weight) in weights.iter_mut().enumerate() {
                // There are fewer services than numbers.
                while self.is_taken(service, server, *weight) {
                    *weight = weight.wrapping_add(1).max(1);
                }
            }
            let name = &self.services[service].service.name;
            let text = format!("{name}: the same shares in other numbers, which show in reports whose requests a shared server serves");
            self.services[service].adopt(&weights);
            self.start_with(service, before, weights, "several services", &text);
        }
    }

    /// Whether an earlier service has this weight for a server of a service.
    fn is_taken(&self, service: usize, server: usize, weight: u16) -> bool {
        let Some(target) = self.services[service].service.servers.get(server).map(|server| server.target) else { return false };
        weight != 0
            && self.services[..service].iter().any(|earlier| {
                let place = earlier.service.servers.iter().position(|server| server.target == target);
                place.zip(earlier.in_force).is_some_and(|(place, weights)| weights[place] == weight)
            })
    }
}

#[cfg(test)]
mod tests {
    use byway::Histogram;
    use byway::monitor::Observation;

    use super::super::link::Heard;
    use super::super::link::tests::{monitor, pass};
    use super::*;

    const OTHER: &str = "[[service]]\nname = \"mail\"\ndivert = \"100.100.100.101:80\"\nservers = [\"20.0.0.2:80\", \"20.0.0.3:80\"]\n";

    fn weights(first: u16, second: u16) -> Each<u16> {
        let mut weights = Each::default();
        (weights[0], weights[1]) = (first, second);
        weights
    }

    /// The rule of a service, as it is listed with these weights.
    fn rule(run: &Run, service: usize, weights: [u16; 2]) -> Listed {
        let service = &run.services[service].service;
        let weighted = |(server, weight): (&byway::Weighted, u16)| byway::Weighted { target: server.target, weight };
        Listed { servers: service.servers.iter().zip(weights).map(weighted).collect(), ..Listed::new(service.matches) }
    }

    /// What the first service and the second have seen of the server of both: answered, and those of others. Its entries are the
    /// second and the third.
    fn report(run: &mut Run, named: [u16; 2]) -> [(u32, u32); 2] {
        run.fresh.clear();
        let target = run.services[1].service.servers[0].target;
        for ((position, weight), answered) in [1, 2].into_iter().zip(named).zip([5, 70]) {
            let (seen, times) = (Some(Observation { answered, ..Observation::NONE }), Box::new(Histogram::EMPTY));
            run.hear(0, Heard::Server { target, weight, position, seen, times, connections: 0 });
        }
        [(0, 1), (1, 0)].map(|of| {
            let mut all = Observation::NONE;
            run.fresh[&of].values().for_each(|one| all.merge(one));
            (all.answered, all.others)
        })
    }

    #[test]
    fn requests_of_each_service_are_counted_apart() {
        let (mut run, folder) = monitor("beside", OTHER);
        run.links[0].rules = Some(vec![rule(&run, 0, [5, 7]), rule(&run, 1, [9, 4])]);
        assert_eq!(report(&mut run, [7, 9]), [(75, 70), (75, 5)]);
        assert_eq!(report(&mut run, [9, 7]), [(75, 5), (75, 70)], "the weight shows it, not the place");
        assert_eq!(report(&mut run, [7, 9]), [(75, 70), (75, 5)]);
        // Late reports, and those of a time in which the rules are not known, are of whom they were.
        assert_eq!(report(&mut run, [3, 2]), [(75, 70), (75, 5)]);
        run.links[0].is_listing = true;
        assert_eq!(report(&mut run, [9, 7]), [(75, 70), (75, 5)]);
        run.links[0].is_listing = false;
        // So are those with weights that are the same by chance.
        run.links[0].rules = Some(vec![rule(&run, 0, [5, 9]), rule(&run, 1, [9, 4])]);
        run.forget_weights(0);
        assert_eq!(report(&mut run, [9, 9]), [(75, 70), (75, 5)]);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn what_cannot_be_told_apart_is_ones_own() {
        let (mut run, folder) = monitor("beside-own", OTHER);
        run.links[0].rules = Some(vec![rule(&run, 0, [5, 1]), rule(&run, 1, [1, 4])]);
        assert_eq!(report(&mut run, [1, 1]), [(75, 0), (75, 0)]);
        run.links[0].rules = None;
        assert_eq!(report(&mut run, [1, 2]), [(75, 0), (75, 0)]);
        let _ = std::fs::remove_dir_all(&folder);
    }

    /// Requests that no weight of a service steers: of an operator's rule, and of one with a single server.
    #[test]
    fn requests_of_other_rules_are_of_others() {
        let (mut run, folder) = monitor("beside-rules", OTHER);
        let own = rule(&run, 0, [5, 7]);
        let single = Listed { servers: vec![byway::Weighted { weight: 9, ..own.servers[1] }], ..own.clone() };
        let foreign = Listed { servers: rule(&run, 1, [9, 4]).servers, ..Listed::new("100.1.1.1".parse().unwrap()) };
        for other in [single, foreign] {
            run.links[0].rules = Some(vec![own.clone(), other]);
            run.forget_weights(0);
            assert_eq!(report(&mut run, [7, 9])[0], (75, 70));
        }
        // A rule for some of its clients has its weights.
        let clients = own.matches.clients("10.0.0.0/8".parse().unwrap());
        run.links[0].rules = Some(vec![own, Listed { matches: clients, ..rule(&run, 0, [5, 7]) }]);
        assert_eq!(report(&mut run, [7, 7])[0], (75, 0));
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn weights_of_services_are_kept_different() {
        let (mut run, folder) = monitor("beside-apart", OTHER);
        run.note_leads();
        run.services[0].adopt(&weights(1, 3));
        run.services[1].adopt(&weights(3, 1));
        pass(&mut run, core::time::Duration::from_secs(3));
        run.tell_apart();
        let new = run.services[1].in_force.unwrap();
        assert_eq!((new[0], new[1], run.changes), (19_993, 6_664, 1));
        // Once is enough, and what is different stays.
        pass(&mut run, core::time::Duration::from_secs(3));
        run.tell_apart();
        assert_eq!((run.services[1].in_force, run.changes), (Some(new), 1));
        // The same number again, by chance.
        run.services[0].adopt(&weights(20_000, 19_993));
        run.tell_apart();
        assert_eq!(run.services[1].in_force.map(|weights| weights[0]), Some(19_994));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
