//! What may leave untranslated: nothing that a rule matches, unless the rule says so.

use core::net::Ipv4Addr;
use std::collections::{HashMap, HashSet};

use byway::{DivertEntry, Match, Midstream, Prefix, Storage, Target, Translator};

use crate::packet::{self, TCP};
use crate::tap::{Ends, is_about};

/// What a rule says of a packet that is not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// No rule matches it, or the rule is an exception: it leaves as it is.
    Free,
    /// The rule says that its packets leave untranslated rather than not at all.
    Open,
    /// It does not leave.
    Closed,
}

/// The rules of a translator, to be found by a packet that they match. A packet is looked up only when it was not translated.
#[derive(Debug, Default)]
pub struct Policies {
    /// By the length of their prefix, the longest first; and by its network, in the translator's own order.
    lengths: Vec<(u8, HashMap<Ipv4Addr, Vec<Rule>>)>,
    /// The table's generation that this was made from.
    generation: Option<u32>,
    /// Packets to this prefix do not leave even if no rule matches them.
    closed: Option<Prefix>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    matches: Match,
    policy: Policy,
    passes_midstream: bool,
}

impl Policies {
    /// Follows the translator, whose rules may have changed by an instruction. `open` has the rules that fail open.
    pub fn follow<S: Storage>(&mut self, translator: &Translator<S>, open: &HashSet<Match>) {
        if self.generation == Some(translator.generation()) {
            return;
        }
        self.lengths.clear();
        let mut rules: Vec<_> = translator.diverts().collect();
        rules.sort_unstable_by_key(DivertEntry::matches);
        for rule in rules {
            let matches = rule.matches();
            let is_exception = rule.keeps_source() && rule.servers().all(|(s, _)| s.target == Target::Same);
            let policy = match open.contains(&matches) {
                _ if is_exception => Policy::Free,
                true => Policy::Open,
                false => Policy::Closed,
            };
            let passes_midstream = rule.midstream() == Some(Midstream::Pass);
            let (network, length) = (matches.destination().network(), matches.destination().length());
            if self.lengths.last().is_none_or(|(last, _)| *last != length) {
                self.lengths.push((length, HashMap::new()));
            }
            if let Some((_, networks)) = self.lengths.last_mut() {
                networks.entry(network).or_default().push(Rule { matches, policy, passes_midstream });
            }
        }
        self.generation = Some(translator.generation());
    }

    /// Packets to this prefix do not leave even if no rule matches them: no host has these addresses.
    pub const fn close(&mut self, prefix: Prefix) {
        self.closed = Some(prefix);
    }

    /// Forgets the rules, since others fail open now.
    pub const fn forget(&mut self) {
        self.generation = None;
    }

    /// The policy for this packet.
    #[must_use]
    pub fn of(&self, packet: &[u8]) -> Policy {
        let is_closed = || self.closed.is_some_and(|prefix| prefix.contains(packet::destination(packet)));
        self.of_rule(packet).unwrap_or_else(|| if is_closed() { Policy::Closed } else { Policy::Free })
    }

    /// What a rule says of this packet; `None` if none matches it. Where nothing in it tells which of several rules it belongs to, as in a later fragment, the
    /// strictest counts.
    #[must_use]
    pub fn of_rule(&self, packet: &[u8]) -> Option<Policy> {
        let (ends, destination) = (Ends::of(packet), packet::destination(packet));
        let (number, later) = (packet::protocol(packet), packet::is_later_fragment(packet));
        let mut found = None;
        for (length, networks) in &self.lengths {
            let network = Prefix::new(destination, *length).map(Prefix::network);
            for rule in network.and_then(|network| networks.get(&network)).into_iter().flatten() {
                if !is_about(&rule.matches, &ends) {
                    continue;
                }
                let policy = if rule.passes_midstream && number == TCP { Policy::Open } else { rule.policy };
                if !later {
                    return Some(policy);
                }
                found = match found {
                    Some(other) if policy != Policy::Closed && other != Policy::Free => Some(other),
                    _ => Some(policy),
                };
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use byway::{Config, Divert, Heap, Weighted};

    use super::*;
    use crate::packet::put;
    use crate::packet::tests::{ipv4, tcp, udp};

    fn policies(rules: &[&str], open: &[&str]) -> Policies {
        policies_of(16, rules, open)
    }

    fn policies_of(most: usize, rules: &[&str], open: &[&str]) -> Policies {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(64, most)).unwrap();
        for rule in rules {
            translator
                .divert(Divert::parse(rule, &mut [Weighted { target: Target::Same, weight: 1 }; 4]).unwrap())
                .unwrap();
        }
        let mut policies = Policies::default();
        policies.follow(&translator, &open.iter().map(|rule| rule.parse().unwrap()).collect());
        policies
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let policies = policies(
            &[
                "100.1.0.0/16 to 20.0.0.1",
                "100.1.1.1:80 to 20.0.0.1",
                "100.1.1.1:80 udp to 20.0.0.2",
                "100.1.1.1:81 to 20.0.0.1 midstream pass",
                "100.1.1.2 to same keep-source",
                "100.1.1.3 from 9.0.0.0/8 to 20.0.0.1",
            ],
            &["100.1.1.1:80", "100.1.1.3 from 9.0.0.0/8"],
        );
        let from = [1, 2, 3, 4];
        let port = |mut packet: Vec<u8>, port| {
            put(&mut packet, 22, port);
            policies.of(&packet)
        };
        assert_eq!(policies.of(&tcp(from, [100, 1, 1, 1], &[])), Policy::Open);
        assert_eq!(policies.of(&udp(from, [100, 1, 1, 1], &[])), Policy::Closed);
        assert_eq!(port(tcp(from, [100, 1, 1, 1], &[]), 81), Policy::Open, "the rule itself passes segments");
        assert_eq!(port(udp(from, [100, 1, 1, 1], &[]), 81), Policy::Closed);
        assert_eq!(port(tcp(from, [100, 1, 1, 1], &[]), 82), Policy::Closed, "the prefix");
        assert_eq!(policies.of(&tcp(from, [100, 1, 1, 2], &[])), Policy::Free);
        assert_eq!(policies.of(&tcp(from, [100, 1, 1, 3], &[])), Policy::Closed);
        assert_eq!(policies.of(&tcp([9, 2, 3, 4], [100, 1, 1, 3], &[])), Policy::Open);
        assert_eq!(policies.of(&tcp(from, [100, 2, 1, 1], &[])), Policy::Free);
        assert_eq!(policies.of(&ipv4(47, from, [100, 1, 9, 9], &[0; 8])), Policy::Closed);
    }

    /// A translator with room for so many rules that it does not keep them in order.
    #[test]
    fn the_most_specific_rule_decides_among_many() {
        let rules = [
            "100.0.0.0/8 to 20.0.0.1",
            "100.1.1.0/24 to 20.0.0.1",
            "100.0.0.0/8 from 9.0.0.0/8 to 20.0.0.1",
            "100.2.0.0/16 to 20.0.0.1",
            "100.1.1.0/24 tcp to 20.0.0.1",
            "100.1.1.1:80 from 9.0.0.0/8 to 20.0.0.1",
            "100.1.1.0/24:80 to 20.0.0.1",
            "100.1.1.1:80 to 20.0.0.1",
        ];
        let open = ["100.1.1.0/24", "100.2.0.0/16", "100.0.0.0/8 from 9.0.0.0/8", "100.1.1.1:80 from 9.0.0.0/8"];
        for rules in [rules.to_vec(), rules.into_iter().rev().collect()] {
            let policies = policies_of(2_000, &rules, &open);
            let few = policies_of(16, &rules, &open);
            for (client, server, policy) in [
                ([1, 2, 3, 4], [100, 9, 9, 9], Policy::Closed),
                ([9, 2, 3, 4], [100, 9, 9, 9], Policy::Open),
                ([1, 2, 3, 4], [100, 1, 1, 9], Policy::Closed),
                ([1, 2, 3, 4], [100, 2, 1, 9], Policy::Open),
                ([1, 2, 3, 4], [100, 1, 1, 1], Policy::Closed),
                ([9, 2, 3, 4], [100, 1, 1, 1], Policy::Open),
            ] {
                let packet = tcp(client, server, &[]);
                assert_eq!(few.of(&packet), policy, "few: {client:?} to {server:?}");
                assert_eq!(policies.of(&packet), policy, "many: {client:?} to {server:?}");
                let packet = udp(client, server, &[]);
                assert_eq!(policies.of(&packet), few.of(&packet), "UDP: {client:?} to {server:?}");
            }
        }
    }

    #[test]
    fn what_no_rule_is_about_stays_away_from_closed_addresses() {
        let mut policies = policies(&["100.1.1.1 to 20.0.0.1", "100.1.1.2 to same keep-source"], &["100.1.1.1"]);
        policies.close("100.1.1.0/24".parse().unwrap());
        let of = |last, fragment| {
            let mut packet = udp([1, 2, 3, 4], [100, 1, 1, last], &[0; 16]);
            put(&mut packet, 6, fragment);
            policies.of(&packet)
        };
        for (fragment, what) in [(0, "whole"), (1, "a later fragment")] {
            let all = [of(1, fragment), of(2, fragment), of(3, fragment)];
            assert_eq!(all, [Policy::Open, Policy::Free, Policy::Closed], "{what}");
        }
        assert_eq!(policies.of(&udp([1, 2, 3, 4], [100, 1, 2, 1], &[])), Policy::Free);
    }

    /// It may belong to any port's rule.
    #[test]
    fn the_strictest_decides_about_a_later_fragment() {
        let of = |open: &[&str]| {
            let policies = policies(&["100.1.1.1:80 to 20.0.0.1", "100.1.1.1:81 to 20.0.0.1"], open);
            let mut packet = udp([1, 2, 3, 4], [100, 1, 1, 1], &[0; 16]);
            put(&mut packet, 6, 1);
            policies.of(&packet)
        };
        assert_eq!((of(&[]), of(&["100.1.1.1:80"])), (Policy::Closed, Policy::Closed));
        assert_eq!(of(&["100.1.1.1:80", "100.1.1.1:81"]), Policy::Open);
    }
}
