//! Changes of rules and limits, as a whole or not at all.

use std::collections::{HashMap, HashSet};

use byway::control::{MAX_SERVERS, Rule as OwnedRule};
use byway::naming::{HeapNames, Names};
use byway::{Divert, DivertEntry, Heap, Match, Target, Timeouts, Translator, Weighted};

use crate::config::{Config, ControlKey, Entry, Rule};
use crate::names::NameChanges;

/// The changes to be made in every shard.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    remove: Vec<Match>,
    divert: Vec<OwnedRule>,
    client_limit: Option<u32>,
    timeouts: Option<Timeouts>,
    open: HashSet<Match>,
    keys: Vec<ControlKey>,
    names: NameChanges,
}

/// The part of a configuration that may change, to be compared with the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The rules.
    pub rules: Vec<OwnedRule>,
    /// How many connections a client may have.
    pub client_limit: u32,
    /// How long connections live.
    pub timeouts: Timeouts,
    /// The entries of names.
    pub names: Vec<Entry>,
}

impl Said {
    /// What this configuration says.
    #[must_use]
    pub fn by(config: &Config) -> Self {
        Self {
            rules: config.rules.iter().filter_map(owned).collect(),
            client_limit: config.nat.client_limit,
            timeouts: config.nat.timeouts,
            names: config.entries().to_vec(),
        }
    }
}

/// A rule of a translator. `None` if it has more servers than an instruction can say.
#[must_use]
pub fn owned_of(entry: &DivertEntry<'_>) -> Option<OwnedRule> {
    let mut servers = [Weighted { target: Target::Same, weight: 0 }; MAX_SERVERS];
    let mut count = 0;
    for (server, _) in entry.servers() {
        *servers.get_mut(count)? = server;
        count += 1;
    }
    OwnedRule::new(&Divert::new(entry.matches()).to_group(servers.get(..count)?).with_options(entry.options()))
}

fn owned(rule: &Rule) -> Option<OwnedRule> {
    OwnedRule::new(&rule.divert())
}

/// The matches of rules that are gone, and the rules that are new or have changed, each in its order. No two rules of a
/// configuration are about the same.
fn differences(before: &[OwnedRule], after: &[OwnedRule]) -> (Vec<Match>, Vec<OwnedRule>) {
    let said: HashMap<_, _> = before.iter().map(|old| (old.matches(), old)).collect();
    let stays: HashSet<_> = after.iter().map(OwnedRule::matches).collect();
    let gone = before.iter().map(OwnedRule::matches).filter(|matches| !stays.contains(matches)).collect();
    let is_new = |rule: &&OwnedRule| said.get(&rule.matches()).is_none_or(|old| old.divert() != rule.divert());
    (gone, after.iter().filter(is_new).copied().collect())
}

impl Changes {
    /// The differences between a configuration and the new one. What does not differ is left alone: an instruction may have
    /// changed it in the meantime.
    #[must_use]
    pub fn between(before: &Said, config: &Config) -> Self {
        let after = Said::by(config);
        let (remove, divert) = differences(&before.rules, &after.rules);
        let open = config.rules.iter().filter(|rule| rule.fail_open).map(|rule| rule.matches);
        Self {
            remove,
            divert,
            client_limit: (before.client_limit != after.client_limit).then_some(after.client_limit),
            timeouts: (before.timeouts != after.timeouts).then_some(after.timeouts),
            open: open.collect(),
            keys: config.control.as_ref().map_or(Vec::new(), |control| control.keys.clone()),
            names: NameChanges::between(&before.names, config.entries()),
        }
    }

    /// Whether a translator would take all of it.
    ///
    /// # Errors
    /// Says what it would refuse.
    pub fn check(&self, translator: &mut Translator<Heap>) -> Result<(), String> {
        let mut plan = translator.plan();
        for matches in &self.remove {
            // An instruction may have removed it before.
            let _ = plan.remove(*matches);
        }
        for rule in &self.divert {
            plan.divert(&rule.divert()).map_err(|error| refusal(&rule.divert(), error))?;
        }
        if let Some(limit) = self.client_limit {
            plan.set_client_limit(limit).map_err(|error| error.to_string())?;
        }
        self.timeouts.as_ref().map_or(Ok(()), |timeouts| plan.set_timeouts(timeouts).map_err(|error| error.to_string()))
    }

    /// Applies the changes to a translator.
    ///
    /// # Errors
    /// Says what it refused: nothing that was checked before.
    pub fn apply(&self, translator: &mut Translator<Heap>) -> Result<(), String> {
        for matches in &self.remove {
            let _ = translator.remove(*matches);
        }
        for rule in &self.divert {
            translator.divert(rule.divert()).map_err(|error| refusal(&rule.divert(), error))?;
        }
        if let Some(limit) = self.client_limit {
            translator.set_client_limit(limit).map_err(|error| error.to_string())?;
        }
        self.timeouts.map_or(Ok(()), |timeouts| translator.set_timeouts(timeouts).map_err(|error| error.to_string()))
    }

    /// The rules that let packets leave untranslated rather than drop them.
    #[must_use]
    pub const fn open(&self) -> &HashSet<Match> {
        &self.open
    }

    /// The keys of the port for instructions.
    #[must_use]
    pub fn keys(&self) -> &[ControlKey] {
        &self.keys
    }

    /// Whether the naming server would take its part, once the rules have changed.
    ///
    /// # Errors
    /// Says what it would refuse.
    pub fn check_names(
        &self,
        names: &Names<HeapNames>,
        capacity: usize,
        translator: &Translator<Heap>,
    ) -> Result<(), String> {
        let removed: HashSet<_> = self.remove.iter().copied().collect();
        let new: HashSet<_> = self.divert.iter().map(OwnedRule::matches).collect();
        self.names.check(names, capacity, |rule| {
            new.contains(rule) || (!removed.contains(rule) && translator.find_divert(*rule).is_some())
        })
    }

    /// The names of the naming server.
    #[must_use]
    pub const fn names(&self) -> &NameChanges {
        &self.names
    }

    /// In a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        let limits = usize::from(self.client_limit.is_some()) + usize::from(self.timeouts.is_some());
        let names = match self.names.counts() {
            (0, 0) => String::new(),
            (gone, set) => format!(", {gone} names removed, {set} new or changed"),
        };
        format!(
            "{} rules removed, {} new or changed, {limits} limits changed{names}",
            self.remove.len(),
            self.divert.len()
        )
    }
}

fn refusal(rule: &Divert<'_>, error: byway::DivertError) -> String {
    format!("rule {rule}: {error}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use byway::naming::NamesConfig;

    use super::*;

    /// Each option of a rule is a change of its own, and the translator has it afterwards.
    #[test]
    fn an_option_that_is_added_to_a_rule_is_a_change() {
        const FILE: &str = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n\
            [resumable]\n[[rule]]\ndivert = \"100.100.100.100:80 tcp\"\nto = \"20.0.0.1\"\n";
        let config = |more: &str| Config::parse(Path::new("byway.toml"), format!("{FILE}{more}\n")).unwrap();
        let before = config("");
        for more in [
            "keep_source = true",
            "any_port = true",
            "resumable = true",
            "least_loaded = true",
            "eject = true",
            "midstream = \"drop\"",
        ] {
            let after = config(more);
            assert!(Changes::between(&Said::by(&after), &after).divert.is_empty(), "{more}");
            let changes = Changes::between(&Said::by(&before), &after);
            let wanted: Vec<_> = after.rules.iter().map(|rule| rule.divert().to_string()).collect();
            assert_eq!(changes.divert.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted, "{more}");
            let back = Changes::between(&Said::by(&after), &before);
            assert_eq!(back.divert.len(), 1, "{more}");
        }
    }

    /// The rules of a translator are those that were put in, and as their text says.
    #[test]
    fn rules_of_a_translator_are_read_without_text() {
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(64, 2048).measured()).unwrap();
        let mut said: Vec<OwnedRule> = (0..500).map(|number| rule(number, number)).collect();
        let group: Vec<_> = (1..=MAX_SERVERS).map(|server| format!("20.1.0.{server}:80*{server}")).collect();
        for text in [
            format!("101.1.1.1:80 tcp from 10.0.0.0/8 to {} eject midstream drop", group.join(", ")),
            "101.1.1.2 udp to same keep-source".into(),
            "0.0.0.0/0 to same".into(),
            "101.1.1.3 icmp to 20.0.0.1*0, 20.0.0.2".into(),
        ] {
            said.push(text.parse().unwrap_or_else(|error| panic!("{text}: {error}")));
        }
        for rule in &said {
            translator.divert(rule.divert()).unwrap();
        }
        let key = |rule: &OwnedRule| rule.to_string();
        let mut found: Vec<_> = translator.diverts().filter_map(|entry| owned_of(&entry)).collect();
        let mut parsed: Vec<OwnedRule> = translator.diverts().filter_map(|entry| entry.to_string().parse().ok()).collect();
        for all in [&mut said, &mut found, &mut parsed] {
            all.sort_by_key(key);
        }
        assert!(found == said && found == parsed);
        // Neither way can tell a rule with more servers.
        let many: Vec<_> = (1..=17).map(|n| Weighted { target: Target::Address([20, 2, 0, n].into()), weight: 1 }).collect();
        translator.divert(Divert::new(Match::from(core::net::Ipv4Addr::new(101, 1, 1, 9))).to_group(&many)).unwrap();
        assert_eq!(translator.diverts().filter_map(|entry| owned_of(&entry)).count(), said.len());
    }

    /// A rule, as far as this number says something.
    fn rule(number: usize, target: usize) -> OwnedRule {
        let prefix = if number.is_multiple_of(3) { "/30" } else { "" };
        let matches = format!("100.{}.{}.{}{prefix}", number >> 14 & 255, number >> 6 & 255, (number & 63) << 2);
        let options = ["", " keep-source", " any-port", " least-loaded"][target & 3];
        format!("{matches} to 20.0.0.{}{options}", target >> 2).parse().unwrap()
    }

    /// Each compared with each.
    fn naive(before: &[OwnedRule], after: &[OwnedRule]) -> (Vec<Match>, Vec<OwnedRule>) {
        let names = |all: &[OwnedRule], matches| all.iter().any(|rule| rule.matches() == matches);
        let gone = before.iter().map(OwnedRule::matches).filter(|matches| !names(after, *matches)).collect();
        let is_new = |rule: &&OwnedRule| !before.iter().any(|old| old.divert() == rule.divert());
        (gone, after.iter().filter(is_new).copied().collect())
    }

    #[test]
    fn what_differs_is_found_in_any_two_sets_of_rules() {
        let mut state = 12_345_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut removed, mut new) = (0, 0);
        for _ in 0..300 {
            let mut set = || {
                let many = random(30);
                let mut numbers: Vec<usize> = (0..many).map(|_| random(40)).collect();
                let mut seen = HashSet::new();
                // No configuration has two rules about the same.
                numbers.retain(|number| seen.insert(*number));
                numbers.iter().map(|number| rule(*number, random(6))).collect::<Vec<_>>()
            };
            let (before, after) = (set(), set());
            let (gone, changed) = differences(&before, &after);
            let text = |rules: &[OwnedRule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
            let (slow_gone, slow_changed) = naive(&before, &after);
            assert_eq!((&gone, text(&changed)), (&slow_gone, text(&slow_changed)));
            (removed, new) = (removed + gone.len(), new + changed.len());
        }
        assert!(removed > 500 && new > 500, "{removed} {new}");
    }

    /// Each compared with each would be 2.5 thousand million comparisons, and this test would take more than a minute.
    #[test]
    fn fifty_thousand_rules_are_compared() {
        const MANY: usize = 50_000;
        let all = |target| (0..MANY).map(|number| rule(number, target)).collect::<Vec<_>>();
        let (before, mut after) = (all(0), all(0));
        after.reverse();
        after[7] = rule(MANY - 8, 1);
        after.pop();
        let (gone, changed) = differences(&before, &after);
        assert_eq!((gone, changed.len()), (vec![before[0].matches()], 1));
        // And names find the rules that they are tied to.
        let tied = |(n, rule): (usize, &OwnedRule)| Entry::parse(&format!("n{n}.test 0.0.0.0/0 30 rule {}", rule.matches()));
        let entries: Vec<_> = after.iter().enumerate().map(|pair| tied(pair).unwrap()).collect();
        let names = Names::new(NamesConfig::new([7; 32]), HeapNames::new(MANY, MANY));
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let translator = Translator::new(config, Heap::new(64, 16)).unwrap();
        let mut changes =
            Changes { divert: after.clone(), names: NameChanges::between(&[], &entries), ..Changes::default() };
        assert_eq!(changes.check_names(&names, MANY, &translator), Ok(()));
        changes.divert.remove(5);
        let refused = changes.check_names(&names, MANY, &translator);
        assert_eq!(refused, Err(format!("name n5.test: an instruction has removed the rule for {}", after[5].matches())));
    }
}
