//! Rules that lead in a circle: their packets would come back to the device until their TTL runs out.

use core::net::Ipv4Addr;
use std::collections::{BTreeSet, HashMap};

use byway::{Match, Prefix, Target};

use super::document::Fault;
use super::rules::Rule;

/// Refuses rules that lead in a circle. A rule whose target it matches itself does not count: its packets are not translated, or
/// are translated once.
///
/// # Errors
/// A fault at one of the rules in the circle. It lists all of them.
pub(super) fn refuse(rules: &[Rule]) -> Result<(), Fault> {
    let graph = Graph::new(rules);
    // Rules that are known not to lead into a circle, and the rules on the current path.
    let (mut done, mut on_way) = (vec![false; rules.len()], vec![false; rules.len()]);
    for start in 0..rules.len() {
        if done[start] {
            continue;
        }
        // The current path: each rule with those of its successors that are still to be visited.
        let mut way = vec![(start, graph.next(start))];
        on_way[start] = true;
        while let Some((rule, next)) = way.last_mut() {
            match next.pop() {
                None => {
                    (done[*rule], on_way[*rule]) = (true, false);
                    way.pop();
                }
                Some(next) if on_way[next] => {
                    let circle = way.iter().map(|(rule, _)| *rule).skip_while(|rule| *rule != next).chain([next]);
                    let names: Vec<_> = circle.map(|rule| rules[rule].matches.to_string()).collect();
                    return Err(rules[next].fault(format!("rules lead in a circle: {}", names.join(" -> "))));
                }
                Some(next) if done[next] => {}
                Some(next) => {
                    on_way[next] = true;
                    way.push((next, graph.next(next)));
                }
            }
        }
    }
    Ok(())
}

/// The rules, found by their destinations.
struct Graph<'a> {
    rules: &'a [Rule],
    by_destination: HashMap<Prefix, Vec<usize>>,
    /// All prefix lengths of destinations.
    lengths: BTreeSet<u8>,
}

impl<'a> Graph<'a> {
    fn new(rules: &'a [Rule]) -> Self {
        let mut graph = Self { rules, by_destination: HashMap::new(), lengths: BTreeSet::new() };
        for (number, rule) in rules.iter().enumerate() {
            // A rule for some clients does not match what comes from an alternative address.
            if rule.matches.from_clients().length() == 0 {
                let destination = rule.matches.destination();
                graph.by_destination.entry(destination).or_default().push(number);
                graph.lengths.insert(destination.length());
            }
        }
        graph
    }

    /// The rules whose destinations contain this address, each with its match.
    fn about(&self, address: Ipv4Addr) -> impl Iterator<Item = (&Match, usize)> {
        let prefixes = self.lengths.iter().filter_map(move |length| Prefix::new(address, *length));
        let found = prefixes.filter_map(|prefix| self.by_destination.get(&prefix)).flatten();
        found.map(|number| (&self.rules[*number].matches, *number))
    }

    /// The other rules that may match packets which this one has translated.
    fn next(&self, number: usize) -> Vec<usize> {
        let from = &self.rules[number];
        let mut next = Vec::new();
        for server in &from.servers {
            let (address, port) = match server.target {
                Target::Same => continue,
                Target::Address(address) => (address, from.matches.port()),
                Target::Endpoint(endpoint) => (*endpoint.ip(), Some(endpoint.port())),
            };
            let protocol = from.matches.limited_to();
            let mut others: Vec<_> = self.about(address).collect();
            // The most specific first, and none after one that matches everything.
            others.sort_unstable();
            for (other, place) in others {
                let overlaps = overlap(other.port(), port) && overlap(other.limited_to(), protocol);
                if overlaps && place != number {
                    next.push(place);
                }
                if covers(other.port(), port) && covers(other.limited_to(), protocol) {
                    break;
                }
            }
        }
        next
    }
}

/// Whether two limits can both hold, where `None` is no limit.
fn overlap<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Whether a limit admits all that another one does.
fn covers<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || one == other
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::path::Path;

    use crate::config::Config;

    fn check(rules: &[(&str, &str)]) -> Result<(), String> {
        let mut text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = \"10.10.10.10\"\n".to_owned();
        for (divert, to) in rules {
            text += &format!("[[rule]]\ndivert = \"{divert}\"\nto = {to}\n");
        }
        Config::parse(Path::new("byway.toml"), text).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn circles_are_refused_with_all_that_are_in_them() {
        for (rules, circle) in [
            (&[("1.1.1.1", "'2.2.2.2'"), ("2.2.2.2", "'1.1.1.1'")][..], "1.1.1.1 -> 2.2.2.2 -> 1.1.1.1"),
            (
                &[("1.1.1.1:80 tcp", "'2.2.2.2:81'"), ("2.2.2.2:81", "['3.3.3.3', '4.4.4.4:80']"), ("4.4.4.4", "'1.1.1.1'")],
                "1.1.1.1:80 tcp -> 2.2.2.2:81 -> 4.4.4.4 -> 1.1.1.1:80 tcp",
            ),
            (&[("10.0.0.0/8", "'2.2.2.2'"), ("2.2.2.2", "'10.1.1.1'")], "10.0.0.0/8 -> 2.2.2.2 -> 10.0.0.0/8"),
            // Another rule takes some of the packets; the others go round.
            (
                &[("10.0.0.0/8", "'2.2.2.2'"), ("2.2.2.2", "'10.1.1.1'"), ("10.1.1.1:80", "'same'")],
                "10.0.0.0/8 -> 2.2.2.2 -> 10.0.0.0/8",
            ),
        ] {
            let error = check(rules).unwrap_err();
            assert!(error.contains(&format!("rules lead in a circle: {circle}")), "{error}");
            assert!(error.contains("rule["), "{error}");
        }
    }

    #[test]
    fn chains_and_exceptions_are_no_circles() {
        for rules in [
            &[("1.1.1.1", "'2.2.2.2'"), ("2.2.2.2", "'3.3.3.3'")][..],
            &[("1.1.1.1", "'1.1.1.1:8080'")],
            &[("1.1.1.1:80", "'2.2.2.2:81'"), ("2.2.2.2:82", "'1.1.1.1:80'")],
            &[("1.1.1.1 tcp", "'2.2.2.2'"), ("2.2.2.2 udp", "'1.1.1.1'")],
            &[("10.0.0.0/8", "'2.2.2.2'"), ("2.2.2.2", "'10.1.1.1'"), ("10.1.1.1", "'same'")],
            &[("1.1.1.1", "'2.2.2.2'"), ("2.2.2.2 from 192.0.2.0/24", "'1.1.1.1'")],
        ] {
            check(rules).unwrap();
        }
    }

    #[test]
    fn thousands_of_rules_take_no_time_to_speak_of() {
        for length in [32, 24] {
            let at = |n: u32| Ipv4Addr::from_bits(0x0101_0000 + (n << (32 - length)));
            let rules: Vec<_> = (0..20_000).map(|n| (format!("{}/{length}", at(n)), format!("'{}'", at(n + 1)))).collect();
            let rules: Vec<_> = rules.iter().map(|(divert, to)| (divert.as_str(), to.as_str())).collect();
            let error = check(&rules).unwrap_err();
            // The error is that the table is full, and not a circle.
            assert!(!error.contains("circle") && error.contains("table is full"), "{error:.300}");
        }
    }
}
