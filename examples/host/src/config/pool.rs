//! Names with servers of their own: the original of each is drawn from `names.pool`, where its rule diverts it.
//!
//! An original depends on the name alone, unless another name has it already: not on a secret, nor on the order of the file.
//! So after a crash, and in a second router with the same file, clients with a cached answer reach the same server.

use core::net::Ipv4Addr;
use std::collections::{BTreeSet, HashMap, HashSet};

use byway::naming::{HeapNames, Names, NamesConfig, Pattern};
use byway::{Match, Prefix, Target, Weighted};

use super::Config;
use super::document::{ConfigError, Fault};
use super::names::{Answer, Entry, NamesSection};
use super::rules::Rule;
use crate::reload::Said;

/// A name whose original is drawn.
#[derive(Clone, Debug)]
pub struct Pooled {
    pub(super) pattern: Pattern,
    pub(super) clients: Prefix,
    pub(super) ttl: u32,
    /// Where connections to the original go. Until an original is drawn, its match is the whole pool.
    pub(super) rule: Rule,
    pub(super) place: Fault,
}

/// Addresses that cannot be drawn as originals.
#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    prefixes: HashSet<Prefix>,
    /// The lengths of these.
    lengths: BTreeSet<u8>,
    /// From the first to the last.
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Taken {
    fn contains(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
            || self.lengths.iter().any(|length| {
                Prefix::new(address, *length).is_some_and(|prefix| self.prefixes.contains(&prefix))
            })
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Adds a rule's originals and servers. A masquerade for many addresses takes none: it is for packets that no other rule
    /// matches.
    fn add_rule(&mut self, matches: Match, servers: &[Weighted], keeps_source: bool) {
        let destination = matches.destination();
        let is_same = servers.iter().all(|server| server.target == Target::Same);
        match destination.length() {
            32 => drop(self.addresses.insert(destination.network())),
            _ if is_same && !keeps_source => {}
            length => {
                self.prefixes.insert(destination);
                self.lengths.insert(length);
            }
        }
        self.add_servers(servers);
    }

    fn add_servers(&mut self, servers: &[Weighted]) {
        self.addresses.extend(servers.iter().filter_map(|server| match server.target {
            Target::Same => None,
            Target::Address(address) => Some(address),
            Target::Endpoint(endpoint) => Some(*endpoint.ip()),
        }));
    }

    fn add_entry(&mut self, entry: &Entry) {
        match &entry.answer {
            Answer::Rule(rule) => drop(self.addresses.insert(rule.destination().network())),
            Answer::Addresses(all) => self.addresses.extend(all.iter().map(|one| one.address)),
        }
    }

    /// The addresses that a configuration uses, before anything is drawn.
    fn by(config: &Config, section: &NamesSection) -> Self {
        let mut taken = Self::default();
        taken.addresses.extend(config.nat.own.iter().chain(&config.device.address));
        taken.addresses.extend(section.relay.iter().flat_map(|relay| &relay.servers).map(|server| *server.ip()));
        taken.ranges.extend(config.nat.alternatives.iter().map(|(first, last, _)| (*first, *last)));
        config.rules.iter().for_each(|rule| taken.add_rule(rule.matches, &rule.servers, rule.options.keep_source));
        section.pooled.iter().for_each(|pooled| taken.add_servers(&pooled.rule.servers));
        section.entries.iter().for_each(|entry| taken.add_entry(entry));
        taken
    }

    /// Adds the addresses in use besides, because of instructions for example.
    fn add(&mut self, there: &Said) {
        there.rules.iter().for_each(|rule| self.add_rule(rule.matches(), rule.servers(), rule.options().keep_source));
        there.names.iter().for_each(|entry| self.add_entry(entry));
    }
}

/// The key by which names are found and sorted.
fn key(pattern: &Pattern, clients: Prefix) -> (Vec<u8>, bool, Ipv4Addr, u8) {
    (pattern.name().as_wire().to_vec(), pattern.is_suffix(), clients.network(), clients.length())
}

impl Config {
    /// Draws an original for each name that has servers of its own, and makes it a rule and an entry like others. A name that had
    /// one in the configuration before keeps it. Addresses that are in use now are not drawn.
    ///
    /// # Errors
    /// [`ConfigError`] names the entry for which the pool has no address, or whose address something else has now.
    pub fn draw(mut self, before: Option<Before<'_>>) -> Result<Self, ConfigError> {
        self.draw_all(before).map_err(|fault| ConfigError::at(&self.file, &self.text, fault))?;
        Ok(self)
    }

    /// Whether there are originals to draw, so that the addresses in use matter.
    #[must_use]
    pub fn draws(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.pool.is_some())
    }

    pub(super) fn draw_all(&mut self, before: Option<Before<'_>>) -> Result<(), Fault> {
        let Some((section, pool)) = self.names.as_ref().and_then(|names| Some((names, names.pool?))) else {
            return Ok(());
        };
        let mut taken = Taken::by(self, section);
        let mut kept = HashMap::new();
        if let Some(Before { said, .. }) = before {
            for entry in &said.names {
                if let Answer::Rule(rule) = entry.answer
                    && let Some(original) = drawn(rule, pool)
                {
                    kept.insert(key(&entry.pattern, entry.clients), original);
                }
            }
        }
        let mut pooled = section.pooled.clone();
        pooled.sort_by_cached_key(|pooled| key(&pooled.pattern, pooled.clients));
        let (mut new, mut entries, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        // Originals that are kept come first, so that no other name draws them.
        let mut given = HashSet::new();
        for pooled in pooled {
            // Names that had one rule together each get their own now.
            let original = kept.get(&key(&pooled.pattern, pooled.clients)).copied();
            let Some(original) = original.filter(|original| given.insert(*original)) else {
                new.push(pooled);
                continue;
            };
            if taken.contains(original) {
                let problem = format!(
                    "{original} is the original that clients of {} have cached, and is now used for something else: \
                     take another address there",
                    pooled.pattern
                );
                return Err(Fault { problem, ..pooled.place.clone() });
            }
            pooled.enter(original, &mut entries, &mut rules);
        }
        taken.addresses.extend(given);
        if let Some(Before { there, .. }) = before {
            taken.add(there);
        }
        // The order of addresses is no secret: every client is told its own.
        let order = Names::new(NamesConfig::new([0; 32]), HeapNames::new(0, 0));
        for pooled in &new {
            let Some(original) = order.originals(&pooled.pattern, pool).find(|one| !taken.contains(*one)) else {
                let problem = format!("names.pool ({pool}) has no address left for {}", pooled.pattern);
                return Err(Fault { problem, ..pooled.place.clone() });
            };
            taken.addresses.insert(original);
            pooled.enter(original, &mut entries, &mut rules);
        }
        self.rules.append(&mut rules);
        if let Some(section) = &mut self.names {
            section.entries.append(&mut entries);
            section.pooled.clear();
        }
        Ok(())
    }
}

/// The state before originals are drawn for a new configuration.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// What the configuration had said.
    pub said: &'a Said,
    /// The rules and names that there are.
    pub there: &'a Said,
}

impl Pooled {
    fn enter(&self, original: Ipv4Addr, entries: &mut Vec<Entry>, rules: &mut Vec<Rule>) {
        let matches = Match::from(original);
        rules.push(self.rule.about(matches));
        let (pattern, clients, ttl) = (self.pattern, self.clients, self.ttl);
        entries.push(Entry { pattern, clients, ttl, answer: Answer::Rule(matches), place: self.place.clone() });
    }
}

/// The original of a rule, if it looks like one that was made for a drawn original.
fn drawn(rule: Match, pool: Prefix) -> Option<Ipv4Addr> {
    let original = rule.destination().network();
    (rule == Match::from(original) && pool.contains(original)).then_some(original)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    const FILE: &str = r#"
[router]
address = "10.9.9.9"
[nat]
alternatives = ["10.10.10.10"]
[groups]
web = ["20.0.0.1:80*2", "20.0.0.2:80"]
[names]
pool = "100.64.0.0/24"
[[names.entry]]
name = "fixed.test"
to = "203.0.113.1"
[[names.entry]]
name = "www.test"
servers = "20.0.0.3"
ttl = "24h"
fail_open = true
[[names.entry]]
name = "*.www.test"
clients = "192.168.0.0/16"
group = "web"
least_loaded = true
"#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("byway.toml"), text.into()).map_err(|error| error.to_string())
    }

    fn drawn(text: &str, before: Option<Before<'_>>) -> Result<Config, String> {
        parse(text)?.draw(before).map_err(|error| error.to_string())
    }

    /// The names that are tied to rules, and the addresses of these.
    fn originals(config: &Config) -> BTreeMap<String, Ipv4Addr> {
        let tied = config.entries().iter().filter_map(|entry| match entry.answer {
            Answer::Rule(rule) => Some((entry.pattern.to_string(), rule.destination().network())),
            Answer::Addresses(_) => None,
        });
        tied.collect()
    }

    #[test]
    fn each_name_gets_a_rule_for_an_original_of_its_own() {
        let read = parse(FILE).unwrap();
        assert_eq!((read.rules.len(), read.entries().len()), (0, 1), "nothing is drawn before it is known what was");
        assert!(read.device.routes.contains(&"100.64.0.0/24".parse().unwrap()));
        let config = read.draw(None).unwrap();
        let all = originals(&config);
        let (www, below) = (all["www.test"], all["*.www.test"]);
        let rules: Vec<_> = config.rules.iter().map(|rule| (rule.divert().to_string(), rule.fail_open)).collect();
        assert_eq!(rules.len(), 2);
        assert!(rules.contains(&(format!("{www} to 20.0.0.3"), true)), "{rules:?}");
        assert!(rules.contains(&(format!("{below} to 20.0.0.1:80*2, 20.0.0.2:80 least-loaded"), false)), "{rules:?}");
        let ttls: Vec<_> = config.entries().iter().map(|entry| (entry.pattern.to_string(), entry.ttl)).collect();
        assert!(ttls.contains(&("www.test".into(), 86_400)), "{ttls:?}");
        // Once more, and with the entries in another order: the same.
        let (start, entries) = FILE.split_once("[[names.entry]]").unwrap();
        let reversed: String =
            entries.rsplit("[[names.entry]]").map(|entry| format!("[[names.entry]]{entry}")).collect();
        assert_eq!(originals(&drawn(&format!("{start}{reversed}"), None).unwrap()), all);
    }

    /// One entry for each address of the pool, and everything else that may have one.
    #[test]
    fn what_is_taken_is_not_drawn() {
        let pool = FILE.replace("100.64.0.0/24", "100.64.0.0/28");
        let (start, _) = pool.split_once("[[names.entry]]").unwrap();
        let start = start
            .replace("address = \"10.9.9.9\"", "address = \"100.64.0.0\"\nown = [\"100.64.0.1\"]")
            .replace("10.10.10.10", "100.64.0.2-100.64.0.3")
            .replace("20.0.0.2:80", "100.64.0.4:80")
            + "[names.relay]\nservers = \"100.64.0.5\"\nclients = \"10.0.0.0/8\"\n\
               [[rule]]\ndivert = \"100.64.0.6:443 tcp\"\ngroup = \"web\"\n\
               [[rule]]\ndivert = \"100.64.0.8/31\"\nto = \"20.0.0.9\"\n\
               [[rule]]\ndivert = \"0.0.0.0/0\"\nto = \"same\"\n\
               [[rule]]\ndivert = \"100.64.0.10/31\"\nto = \"same\"\nkeep_source = true\n\
               [[names.entry]]\nname = \"fixed.test\"\nto = \"100.64.0.7\"\n\
               [device]\naddress = \"100.64.0.13\"\nroutes = []\n";
        let with = |names: usize| -> String {
            let each = (0..names).map(|n| format!("[[names.entry]]\nname = \"n{n}.test\"\nservers = \"20.0.0.3\"\n"));
            start.clone() + &each.collect::<String>()
        };
        let config = drawn(&with(3), None).unwrap();
        let mut all: Vec<_> = originals(&config).into_values().collect();
        all.sort();
        let expected = [12, 14, 15].map(|last| Ipv4Addr::new(100, 64, 0, last));
        assert_eq!(all, expected);
        let error = parse(&with(4)).unwrap_err();
        assert!(error.starts_with("byway.toml:43:8: names.entry[5].name: names.pool (100.64.0.0/28) has no address left for n3.test"), "{error}");
    }

    /// Clients may have cached it for a day.
    #[test]
    fn a_name_keeps_its_original() {
        let first = drawn(FILE, None).unwrap();
        let www = originals(&first)["www.test"];
        let nothing = Said { rules: Vec::new(), names: Vec::new(), ..Said::by(&first) };
        // As if it had drawn another one, since this one was taken at the time.
        let mut said = Said::by(&first);
        let other: Ipv4Addr = "100.64.0.200".parse().unwrap();
        for entry in &mut said.names {
            if entry.answer == Answer::Rule(www.into()) {
                entry.answer = Answer::Rule(other.into());
            }
        }
        for there in [&said, &nothing] {
            let again = drawn(&FILE.replace("20.0.0.3", "20.0.0.4"), Some(Before { said: &said, there })).unwrap();
            assert_eq!(originals(&again)["www.test"], other);
            assert!(again.rules.iter().any(|rule| rule.divert().to_string() == format!("{other} to 20.0.0.4")));
        }
        // Another pool, another original; and what an instruction has taken is not drawn.
        let elsewhere = FILE.replace("100.64.0.0/24", "100.65.0.0/24");
        let moved = drawn(&elsewhere, Some(Before { said: &said, there: &nothing })).unwrap();
        let taken = originals(&moved)["www.test"];
        assert_eq!(taken.octets()[1], 65);
        let there = Said { rules: vec![format!("{taken}:443 tcp to 20.0.0.9").parse().unwrap()], ..nothing.clone() };
        let beside = drawn(&elsewhere, Some(Before { said: &said, there: &there })).unwrap();
        assert_ne!(originals(&beside)["www.test"], taken);
        // A rule of the file that takes an original away is refused if clients may have cached that original.
        let rule = format!("{FILE}[[rule]]\ndivert = \"{www}:443 tcp\"\nto = \"20.0.0.9\"\n");
        let said = Said::by(&first);
        let error = drawn(&rule, Some(Before { said: &said, there: &said })).unwrap_err();
        let expected = format!("byway.toml:14:8: names.entry[2].name: {www} is the original that clients of www.test have cached");
        assert!(error.starts_with(&expected), "{error}");
        assert_ne!(originals(&drawn(&rule, None).unwrap())["www.test"], www, "nobody has cached anything");
    }

    /// One of them keeps the original, and the other draws one.
    #[test]
    fn names_that_had_one_rule_get_one_each() {
        let pair = "[[names.entry]]\nname = \"a.test\"\nservers = \"20.0.0.3\"\n\
                    [[names.entry]]\nname = \"b.test\"\nservers = \"20.0.0.4\"\n";
        let text = FILE.split_once("[[names.entry]]").unwrap().0.to_owned();
        let rule = "[[rule]]\ndivert = \"100.64.0.9\"\nto = \"20.0.0.3\"\n";
        let before = format!("{text}{}{rule}", pair.replace("servers = \"20.0.0.3\"", "rule = \"100.64.0.9\"")
            .replace("servers = \"20.0.0.4\"", "rule = \"100.64.0.9\""));
        let said = Said::by(&drawn(&before, None).unwrap());
        let after = drawn(&format!("{text}{pair}"), Some(Before { said: &said, there: &said })).unwrap();
        let all = originals(&after);
        assert_eq!(all["a.test"], Ipv4Addr::new(100, 64, 0, 9));
        assert_ne!(all["b.test"], all["a.test"]);
        assert_eq!(after.rules.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (right, wrong, said) in [
            ("\"100.64.0.0/24\"", "\"100.64.0/24\"", "9:8: names.pool: \"100.64.0/24\" found: expected a prefix of 8 to 32 bits"),
            ("\"100.64.0.0/24\"", "\"96.0.0.0/7\"", "9:8: names.pool: 96.0.0.0/7 found: expected a prefix of 8 to 32 bits"),
            ("\"100.64.0.0/24\"", "\"224.0.0.0/24\"", "9:8: names.pool: 224.0.0.0/24 found: expected a prefix of 8 to 32 bits"),
            ("pool = \"100.64.0.0/24\"", "", "15:11: names.entry[2].servers: an original is drawn from names.pool, which is missing"),
            ("\"20.0.0.3\"", "\"20.0.0.3:x\"", "15:11: names.entry[2].servers: port \"x\": it must be a number"),
            ("\"20.0.0.3\"", "\"same\"", "15:11: names.entry[2].servers: \"same\" found: expected servers"),
            ("\"20.0.0.3\"", "[\"20.0.0.3\", \"20.0.0.3\"]", "15:11: names.entry[2].servers: the group names 20.0.0.3 twice"),
            ("group = \"web\"", "group = \"wob\"", "21:9: names.entry[3].group: \"wob\" found: expected the name of one of [groups]: web"),
            ("group = \"web\"", "group = \"web\"\nservers = \"20.0.0.3\"", "21:9: names.entry[3].group: the entry says already what it is answered with"),
            ("group = \"web\"", "group = \"web\"\nto = \"20.0.0.3\"", "21:9: names.entry[3].group: the entry says already what it is answered with"),
            ("group = \"web\"", "", "18:1: names.entry[3].to: it is missing: expected an address"),
            ("least_loaded = true", "lest_loaded = true", "22:1: names.entry[3].lest_loaded: there is no such field"),
            ("to = \"203.0.113.1\"", "to = \"203.0.113.1\"\neject = true", "13:1: names.entry[1].eject: there is no such field"),
            ("*.www.test\"\nclients = \"192.168.0.0/16\"", "www.test\"", "19:8: names.entry[3].name: another entry is for www.test and the same clients"),
            ("[nat]", "[nat]\nrules = 1", "22:9: names.entry[3].group: the divert table is full: 1 rules"),
        ] {
            assert!(FILE.contains(right), "{right}");
            let error = parse(&FILE.replacen(right, wrong, 1)).unwrap_err();
            assert!(error.starts_with(&format!("byway.toml:{said}")), "{error}\nnot {said}");
        }
        let config = parse(FILE).unwrap();
        let moved = parse(&FILE.replace("100.64.0.0/24", "100.65.0.0/24")).unwrap();
        let error = moved.check_reload(&config).unwrap_err().to_string();
        assert!(error.starts_with("byway.toml:9:8: names.pool: it cannot change while byway runs"), "{error}");
    }

    /// Each name compared with each would be a thousand million comparisons, and this test would take minutes.
    #[test]
    fn thirty_thousand_names_are_drawn() {
        const MANY: usize = 30_000;
        let (start, _) = FILE.split_once("[[names.entry]]").unwrap();
        let start = start.replace("100.64.0.0/24", "100.64.0.0/16").replace("[nat]", "[nat]\nrules = 65000\nconnections = 16");
        let start = start.replace("[names]", "[names]\ncapacity = 65000");
        let each = (0..MANY).map(|n| format!("[[names.entry]]\nname = \"n{n}.test\"\nservers = \"20.0.0.3\"\n"));
        let text = start + &each.collect::<String>();
        let config = drawn(&text, None).unwrap();
        assert_eq!(originals(&config).into_values().collect::<HashSet<_>>().len(), MANY);
        let said = Said::by(&config);
        let again = drawn(&text, Some(Before { said: &said, there: &said })).unwrap();
        assert_eq!(originals(&again), originals(&config));
    }
}
