//! The rules above the model: which servers may get anything at a time, how much, and from whom.

use std::sync::Arc;

use byway::Prefix;
use byway::control::MAX_SERVERS;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::service::State;
use crate::config::monitor::{Demand, Rule, Service};

/// One value for each server of a service.
pub type Each<T> = [T; MAX_SERVERS];

/// Clients, as prefixes. Shared, since there can be many.
pub type Clients = Arc<[Prefix]>;

/// What rules and operators demand of a service at some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Demands {
    /// The rule or operator by which a server gets nothing.
    pub excluded: Each<Option<String>>,
    /// The largest share of a server, and what sets it.
    pub maximum: Each<Option<(f64, String)>>,
    /// Clients that only some servers may serve, and what demands this.
    pub clients: Vec<(Clients, Vec<usize>, String)>,
    /// Rules that cannot be fulfilled beside those before them, and were left out.
    pub left_out: Vec<String>,
}

/// What an operator has set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pins {
    /// Servers that get nothing.
    pub drained: Each<bool>,
    /// The share that a server gets, in per cent, whatever the model says.
    pub share: Each<Option<u8>>,
}

impl Pins {
    /// For the journal, by the names of servers.
    #[must_use]
    pub fn json(&self, state: &State) -> Value {
        let drained: Vec<_> = (0..state.len()).filter(|s| self.drained[*s]).map(|s| state.name(s)).collect();
        let share: serde_json::Map<_, _> =
            (0..state.len()).filter_map(|s| Some((state.name(s), self.share[s]?.into()))).collect();
        json!({ "drained": drained, "share": share })
    }

    /// What the journal has; servers that are there no longer are left out.
    #[must_use]
    pub fn of(value: &Value, service: &Service) -> Self {
        let mut pins = Self::default();
        for (place, server) in service.servers.iter().enumerate() {
            let name = server.target.to_string();
            pins.drained[place] = value["drained"].as_array().is_some_and(|all| all.iter().any(|one| *one == *name));
            pins.share[place] = value["share"][&name].as_u64().and_then(|share| u8::try_from(share).ok()).filter(|s| *s <= 100);
        }
        pins
    }
}

impl Demands {
    /// What holds at a time. An operator comes before the rules, and rules come in their order.
    #[must_use]
    pub fn at(time: Timestamp, rules: &[Rule], service: usize, servers: usize, pins: &Pins) -> Self {
        let mut demands = Self {
            excluded: Default::default(),
            maximum: Default::default(),
            clients: Vec::new(),
            left_out: Vec::new(),
        };
        for (server, drained) in pins.drained.iter().enumerate().take(servers) {
            if *drained {
                demands.excluded[server] = Some("the operator".into());
            }
        }
        let is_open = |rule: &&Rule| rule.window.as_ref().is_none_or(|window| window.is_open(time));
        for rule in rules.iter().filter(|rule| rule.service == service).filter(is_open) {
            let before = demands.clone();
            demands.add(rule, servers);
            if !demands.is_possible(servers, pins) {
                demands = before;
                demands.left_out.push(named(rule));
            }
        }
        demands
    }

    fn add(&mut self, rule: &Rule, servers: usize) {
        let by = named(rule);
        match rule.demand {
            Demand::Maintenance => rule.servers.iter().for_each(|server| {
                self.excluded[*server].get_or_insert_with(|| by.clone());
            }),
            Demand::Only(None) => (0..servers).filter(|server| !rule.servers.contains(server)).for_each(|server| {
                self.excluded[server].get_or_insert_with(|| by.clone());
            }),
            Demand::Only(Some(ref clients)) => self.clients.push((clients.clone(), rule.servers.clone(), by)),
            Demand::Maximum(percent) => rule.servers.iter().for_each(|server| {
                let new = f64::from(percent) / 100.0;
                if self.maximum[*server].as_ref().is_none_or(|(old, _)| new < *old) {
                    self.maximum[*server] = Some((new, by.clone()));
                }
            }),
        }
    }

    /// Whether a server is left for everybody. One that is pinned to nothing is as good as drained.
    fn is_possible(&self, servers: usize, pins: &Pins) -> bool {
        let free = |server: &usize| self.excluded[*server].is_none() && pins.share[*server] != Some(0);
        let room: f64 =
            (0..servers).filter(free).map(|s| self.maximum[s].as_ref().map_or(1.0, |(share, _)| *share)).sum();
        room >= 0.999 && self.clients.iter().all(|(_, servers, _)| servers.iter().any(free))
    }

    /// The weights nearest to the wanted ones that fulfil the demands: the part of its share that a server may not have goes to
    /// the others, in proportion. Returns also which rules have changed them, or that the operator has.
    #[must_use]
    pub fn constrain(&self, wanted: &Each<u16>, servers: usize, pins: &Pins) -> (Each<u16>, Vec<String>) {
        let mut by = Vec::new();
        let mut shares: Each<f64> = Default::default();
        let sum: f64 = (0..servers).filter(|s| self.excluded[*s].is_none()).map(|s| f64::from(wanted[s])).sum();
        let mut fixed: Each<bool> = Default::default();
        let mut is_alone = true;
        for server in 0..servers {
            if let Some(who) = &self.excluded[server] {
                fixed[server] = true;
                if wanted[server] != 0 {
                    note(&mut by, who);
                }
            } else if let Some(percent) = pins.share[server] {
                (shares[server], fixed[server]) = (f64::from(percent) / 100.0, true);
                note(&mut by, "the operator");
            } else {
                shares[server] = if sum > 0.0 { f64::from(wanted[server]) / sum } else { 1.0 };
                is_alone = false;
            }
        }
        // Each round fixes at least one server, or is the last.
        for _ in 0..=servers {
            let taken: f64 = (0..servers).filter(|s| fixed[*s]).map(|s| shares[s]).sum();
            let free: f64 = (0..servers).filter(|s| !fixed[*s]).map(|s| shares[s]).sum();
            let left = (1.0 - taken).max(0.0);
            let mut is_done = true;
            for server in 0..servers {
                if fixed[server] {
                    continue;
                }
                shares[server] = if free > 0.0 { shares[server] / free * left } else { left };
            }
            for server in 0..servers {
                if let Some((maximum, who)) = &self.maximum[server]
                    && !fixed[server]
                    && shares[server] > maximum + 1e-9
                {
                    (shares[server], fixed[server], is_done) = (*maximum, true, false);
                    note(&mut by, who);
                }
            }
            if is_done {
                break;
            }
        }
        if by.is_empty() && !is_alone {
            return (*wanted, by);
        }
        let largest = shares.iter().copied().fold(0.0, f64::max);
        if largest <= 0.0 {
            // The fixed servers leave nothing for the others: the weights stay as wanted.
            return (*wanted, Vec::new());
        }
        // By its scale the model may tell weights apart that are the same shares.
        let scale = wanted.iter().copied().max().filter(|most| (19_000..20_000).contains(most)).unwrap_or(20_000);
        let one = |share: f64| ((share / largest * f64::from(scale)).round() as u16).max(1);
        (shares.map(|share| if share > 0.0 { one(share) } else { 0 }), by)
    }
}

fn note(by: &mut Vec<String>, who: &str) {
    if !by.iter().any(|known| known == who) {
        by.push(who.into());
    }
}

fn named(rule: &Rule) -> String {
    let window = rule.window.as_ref().map_or(String::new(), |window| format!(", {window}"));
    format!("rule \"{}\" (line {}{window})", rule.name, rule.line)
}

/// A rule with which the last one cannot be fulfilled at some time of a week: each quarter of an hour of the next eight days
/// is tried. `None` if there is no such time.
#[must_use]
pub fn conflict<'a>(rules: &'a [Rule], services: &[Service]) -> Option<&'a Rule> {
    let (last, earlier) = rules.split_last()?;
    let servers = services.get(last.service)?.servers.len();
    let possible = |rules: &[Rule], at: Timestamp| {
        Demands::at(at, rules, last.service, servers, &Pins::default()).left_out.is_empty()
    };
    let start = Timestamp::now();
    let times = (0..8 * 96).filter_map(|quarter: i64| start.checked_add(SignedDuration::from_mins(quarter * 15)).ok());
    // A rule that is always open, or closed, need not be tried at each time.
    let is_timed = rules.iter().any(|rule| rule.window.is_some());
    for at in times.take(if is_timed { usize::MAX } else { 1 }) {
        if !possible(rules, at) {
            // The first without which all would be well.
            let fault = earlier.iter().enumerate().find(|(place, rule)| {
                let others: Vec<Rule> =
                    rules.iter().enumerate().filter(|(n, _)| n != place).map(|(_, rule)| rule.clone()).collect();
                rule.service == last.service && possible(&others, at)
            });
            return Some(fault.map_or(last, |(_, rule)| rule));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::monitor::Monitor;

    /// A configuration with these rules, on three servers; its key file is there.
    fn config(rules: &str) -> Result<Monitor, String> {
        let folder = std::env::temp_dir().join(format!("byway-rules-{:?}", std::thread::current().id()));
        std::fs::create_dir_all(&folder).unwrap();
        let key = folder.join("key");
        std::fs::write(&key, format!("1 {}\n", "ab".repeat(32))).unwrap();
        let text = format!(
            "[[translator]]\nat = \"127.0.0.1:5213\"\nkey = \"key\"\n[[service]]\nname = \"web\"\n\
             divert = \"100.100.100.100:80 tcp\"\nservers = [\"20.0.0.1:80\", \"20.0.0.2:80*2\", \"20.0.0.3:80\"]\n{rules}"
        );
        let read = Monitor::parse(&folder.join("monitor.toml"), &text).map_err(|error| error.to_string());
        std::fs::remove_dir_all(&folder).unwrap();
        read.map_err(|error| error.replace(&*folder.to_string_lossy(), ""))
    }

    fn rule(body: &str) -> String {
        format!("[[rule]]\n{body}\n")
    }

    const A: &str = "20.0.0.1:80";

    fn weights(first: [u16; 3]) -> Each<u16> {
        let mut all: Each<u16> = Default::default();
        all[..3].copy_from_slice(&first);
        all
    }

    fn constrained(rules: &str, pins: &Pins, wanted: [u16; 3], at: &str) -> ([u16; 3], Vec<String>) {
        let config = config(rules).unwrap();
        let demands = Demands::at(at.parse().unwrap(), &config.rules, 0, 3, pins);
        let (all, by) = demands.constrain(&weights(wanted), 3, pins);
        assert!(all[3..].iter().all(|weight| *weight == 0));
        ([all[0], all[1], all[2]], by)
    }

    const NOON: &str = "2026-11-26T12:00:00Z";
    const NIGHT: &str = "2026-11-26T23:00:00Z";

    /// What a service does where its servers differ in speed. Its table is the last one before the rules.
    #[test]
    fn how_slow_a_server_may_be() {
        let slow = |text: &str| config(text).map(|config| config.services[0].slow);
        assert_eq!((slow(""), slow("rebalance = true\n")), (Ok(0), Ok(4)));
        assert_eq!(slow("open_connections = \"hand-over\"\n"), Ok(4));
        assert_eq!((slow("slow = 7\nopen_connections = \"reset\"\n"), slow("slow = 0\nrebalance = true\n")), (Ok(7), Ok(0)));
        let error = slow("slow = 1\n").unwrap_err();
        assert!(error.ends_with("slow: 1 found: expected 2 to 100, or 0 if it does not matter how slow a server is"), "{error}");
        assert!(slow("slow = 101\n").unwrap_err().contains("101"));
    }

    #[test]
    fn without_a_rule_the_model_has_its_way() {
        assert_eq!(constrained("", &Pins::default(), [3, 1, 9_999], NOON), ([3, 1, 9_999], vec![]));
    }

    #[test]
    fn what_a_server_may_not_have_goes_to_the_others() {
        let maximum = rule(&format!("servers = \"{A}\"\nmaximum = 20"));
        let (weights, by) = constrained(&maximum, &Pins::default(), [10_000, 10_000, 5_000], NOON);
        // 20 %, and the rest 2 to 1.
        assert_eq!(weights, [7_500, 20_000, 10_000]);
        assert_eq!(by, ["rule \"line 8\" (line 8)"]);
        // A maximum is a limit, not a target.
        assert_eq!(constrained(&maximum, &Pins::default(), [100, 500, 500], NOON), ([100, 500, 500], vec![]));
        // The share that one server gives up does not take another above its own limit.
        let both = maximum + &rule("servers = \"20.0.0.2:80\"\nmaximum = 40");
        let (weights, by) = constrained(&both, &Pins::default(), [10_000, 10_000, 5_000], NOON);
        assert_eq!((weights, by.len()), ([10_000, 20_000, 20_000], 2));
    }

    #[test]
    fn maintenance_and_only_have_their_hours() {
        let night = "from = \"22:00\"\nto = \"06:00\"\nzone = \"UTC\"";
        let rules = rule(&format!("name = \"night\"\nservers = \"{A}\"\nmaintenance = true\n{night}"));
        assert_eq!(constrained(&rules, &Pins::default(), [5, 5, 5], NOON).0, [5, 5, 5]);
        let (weights, by) = constrained(&rules, &Pins::default(), [5, 5, 5], NIGHT);
        assert_eq!(weights, [0, 20_000, 20_000]);
        assert_eq!(by, ["rule \"night\" (line 8, every day from 22:00 to 06:00 (UTC))"]);
        let rules = rule(&format!("servers = \"{A}\"\nonly = true\n{night}"));
        assert_eq!(constrained(&rules, &Pins::default(), [5, 5, 5], NIGHT).0, [20_000, 0, 0]);
    }

    #[test]
    fn an_operator_comes_first() {
        let mut pins = Pins::default();
        pins.drained[1] = true;
        pins.share[0] = Some(10);
        let (constrained_to, by) = constrained("", &pins, [5, 5, 5], NOON);
        assert_eq!((constrained_to, by), ([2_222, 0, 20_000], vec!["the operator".to_string()]));
        // A rule that would leave no server beside these pins is left out, and named.
        let config = config(&rule("servers = \"20.0.0.2:80\"\nonly = true")).unwrap();
        let demands = Demands::at(NOON.parse().unwrap(), &config.rules, 0, 3, &pins);
        assert_eq!(demands.left_out, ["rule \"line 8\" (line 8)"]);
        assert_eq!(demands.constrain(&weights([5, 5, 5]), 3, &pins).0[1], 0);
        // All of it is pinned.
        let mut pins = Pins::default();
        (pins.share[0], pins.share[1], pins.share[2]) = (Some(50), Some(25), Some(25));
        assert_eq!(constrained("", &pins, [5, 5, 5], NOON).0, [20_000, 10_000, 10_000]);
    }

    /// Both lines are named, also where the conflict lasts for some hours only.
    #[test]
    fn a_conflict_names_both_lines() {
        let only_a = rule(&format!("name = \"a\"\nservers = \"{A}\"\nonly = true"));
        let no_a = rule(&format!(
            "name = \"b\"\nservers = \"{A}\"\nmaintenance = true\ndays = [\"sat\"]\nfrom = \"22:00\"\nto = \"23:00\"\nzone = \"Europe/Berlin\""
        ));
        let said = config(&format!("{only_a}{no_a}")).unwrap_err();
        assert!(said.contains(":12:1: rule[2]: rule \"b\" (line 12) and rule \"a\" (line 8) leave no server of \"web\""), "{said}");
        // Apart from each other they are good, and so are they at different hours.
        assert!(config(&only_a).is_ok() && config(&no_a).is_ok());
        let at = |from: &str, to: &str| format!("from = \"{from}\"\nto = \"{to}\"\nzone = \"UTC\"\n");
        let (first, second) = (at("08:00", "12:00"), at("12:00", "08:00"));
        assert!(config(&format!("{only_a}{first}{}{second}", no_a.split("days").next().unwrap())).is_ok());
        // Limits that leave no room for everybody, and clients without a server.
        let limits = "servers = [\"20.0.0.1:80\", \"20.0.0.2:80\", \"20.0.0.3:80\"]\nmaximum = 30";
        assert!(config(&rule(limits)).unwrap_err().contains("leave no server"));
        let clients = rule(&format!("servers = \"{A}\"\nonly = true\nclients = \"10.0.0.0/8\""));
        assert!(config(&clients).is_ok());
        assert!(config(&format!("{clients}{}", rule(&format!("servers = \"{A}\"\nmaintenance = true")))).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (body, expected) in [
            ("servers = \"20.0.0.9:80\"\nonly = true", "20.0.0.9:80 is no server of \"web\""),
            ("servers = \"20.0.0.1:80\"", "expected just one of maximum, maintenance and only"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nmaximum = 3", "expected just one of"),
            ("servers = \"20.0.0.1:80\"\nmaximum = 3\nclients = \"1.2.3.4\"", "clients or location only with only"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nclients = []", "expected a prefix, or a list of some"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nclients = \"0.0.0.0/0\"", "0.0.0.0/0 is no part of the clients of \"web\", 0.0.0.0/0"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nclients = [\"1.2.3.4\", \"1.2.3.4/32\"]", "1.2.3.4/32 is named twice"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nclients = \"1.2.3.4\"\nlocation = \"de\"", "expected clients or location, not both"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nlocation = \"de\"", "rule[1].location: monitor.locations is missing"),
            ("servers = \"20.0.0.1:80\"\nmaximum = 3\nlocation = \"de\"", "monitor.locations is missing"),
            ("servers = \"20.0.0.1:80\"\nmaximum = 100", "rule[1].maximum: 100 found: expected a number from 1 to 99"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nfrom = \"7:00\"\nzone = \"UTC\"", "expected a time of day like"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nfrom = \"07:00\"", "zone is missing"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nfrom = \"07:00\"\nzone = \"Mars\"", "there is no time zone \"Mars\""),
            ("servers = \"20.0.0.1:80\"\nonly = true\nzone = \"UTC\"", "a zone says nothing without"),
            ("servers = \"20.0.0.1:80\"\nonly = true\nday = \"mon\"", "there is no such field: expected one of"),
            ("service = \"mail\"\nservers = \"20.0.0.1:80\"\nonly = true", "there is no service \"mail\""),
        ] {
            let said = config(&rule(body)).unwrap_err();
            assert!(said.contains(expected) && said.contains("monitor.toml:"), "{said}");
        }
        assert!(Monitor::read(Path::new("/nowhere")).is_err());
    }

    /// Whatever the rules and pins, some server serves, excluded servers get nothing, and limits hold.
    #[test]
    fn shares_are_always_shares() {
        let mut dice = 7_u64;
        let mut below = |limit: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % limit
        };
        for round in 0..5_000 {
            let servers = 1 + below(16) as usize;
            let mut pins = Pins::default();
            let mut demands = Demands::at(Timestamp::UNIX_EPOCH, &[], 0, servers, &pins);
            let mut wanted: Each<u16> = Default::default();
            for (server, wanted) in wanted.iter_mut().enumerate().take(servers) {
                *wanted = below(65_536) as u16;
                if below(4) == 0 {
                    demands.excluded[server] = Some("x".into());
                }
                if below(4) == 0 {
                    demands.maximum[server] = Some((below(99) as f64 / 100.0 + 0.01, "y".into()));
                }
                if below(6) == 0 {
                    pins.share[server] = Some(below(12) as u8);
                }
            }
            if !demands.is_possible(servers, &pins) {
                continue;
            }
            let (weights, _) = demands.constrain(&wanted, servers, &pins);
            let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let is_pinned = pins.share.iter().any(Option::is_some);
            for server in 0..servers {
                assert!(demands.excluded[server].is_none() || weights[server] == 0 || weights == wanted, "{round}");
                let limit = demands.maximum[server].as_ref().map_or(1.0, |(limit, _)| *limit);
                if !is_pinned && sum > 0.0 && weights != wanted {
                    assert!(f64::from(weights[server]) / sum <= limit + 0.01, "{round} {weights:?} {demands:?}");
                }
            }
            if wanted[..servers].iter().any(|weight| *weight != 0) {
                assert!(sum > 0.0, "{round} {wanted:?} {demands:?} {pins:?}");
            }
        }
    }

    /// A server that is pinned to nothing does not count as the last one.
    #[test]
    fn one_that_is_pinned_to_nothing_does_not_count_as_left() {
        let mut pins = Pins::default();
        pins.share[0] = Some(0);
        let mut demands = Demands::at(Timestamp::now(), &[], 0, 2, &pins);
        assert!(demands.is_possible(2, &pins));
        demands.excluded[1] = Some("maintenance".into());
        assert!(!demands.is_possible(2, &pins) && demands.is_possible(2, &Pins::default()));
    }
}
