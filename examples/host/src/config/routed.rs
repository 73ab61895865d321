//! Whether what rules are about comes to the device. What does not would leave untranslated.

use std::collections::BTreeSet;

use byway::control::Rule as OwnedRule;
use byway::{Prefix, Target, Weighted};

use super::document::{ConfigError, Fault};
use super::rules::Rule;
use super::{Config, Device};

/// Rules for shorter prefixes, such as one that masquerades a network, are about what of it is routed to the device.
pub(super) const SHORTEST: u8 = 8;

/// The prefixes that are routed to the device, to be searched for those of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed(BTreeSet<(u32, u8)>);

impl Routed {
    /// The routes of a device. `None` if somebody else sets them.
    #[must_use]
    pub fn of(device: &Device) -> Option<Self> {
        let key = |route: &Prefix| (u32::from(route.network()), route.length());
        device.configure.then(|| Self(device.routes.iter().map(key).collect()))
    }

    /// Whether what a rule is about comes to the device: all of its prefix, or of a very short one any part. What an
    /// exception from other rules is about need not.
    #[must_use]
    pub fn has(&self, rule: &OwnedRule) -> bool {
        self.has_all_of(rule.matches().destination(), rule.servers(), rule.options().keep_source)
    }

    fn has_all_of(&self, prefix: Prefix, servers: &[Weighted], keeps_source: bool) -> bool {
        let is_exception = keeps_source && servers.iter().all(|server| server.target == Target::Same);
        let (network, length) = (u32::from(prefix.network()), prefix.length());
        is_exception
            || self.covers(network, length)
            || (length < SHORTEST && self.within(network, length).next().is_some())
    }

    /// Whether there are routes for all of a prefix.
    fn covers(&self, network: u32, length: u8) -> bool {
        let route = |length: u8| (network & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0), length);
        if (0..=length).any(|length| self.0.contains(&route(length))) {
            return true;
        }
        if length == 32 || self.within(network, length).next().is_none() {
            return false;
        }
        // Both halves of it.
        let half = 1 << (31 - length);
        self.covers(network, length + 1) && self.covers(network | half, length + 1)
    }

    /// The routes for parts of a prefix.
    fn within(&self, network: u32, length: u8) -> impl Iterator<Item = &(u32, u8)> {
        let last = network | u32::MAX.checked_shr(length.into()).unwrap_or(0);
        self.0.range((network, length)..=(last, 32)).filter(move |(_, other)| *other > length)
    }
}

/// Refuses a rule about what is not routed to the device.
pub(super) fn refuse(device: &Device, rules: &[Rule]) -> Result<(), Fault> {
    let list = |problem| format!("{problem}: add it to device.routes");
    unrouted(device, rules).map_or(Ok(()), |fault| Err(Fault { problem: list(fault.problem), ..fault }))
}

/// The first rule about what is not routed to the device.
fn unrouted(device: &Device, rules: &[Rule]) -> Option<Fault> {
    let routed = Routed::of(device)?;
    let is_there = |rule: &&Rule| {
        routed.has_all_of(rule.matches.destination(), &rule.servers, rule.options.keep_source)
    };
    let rule = rules.iter().find(|rule| !is_there(rule))?;
    let (prefix, name) = (rule.matches.destination(), &device.name);
    Some(rule.fault(format!("{prefix} is not routed to {name}, and would leave untranslated")))
}

impl Config {
    /// Refuses a rule that a running process has no route for: it cannot set any.
    pub(super) fn check_routes(&self, running: &Device) -> Result<(), ConfigError> {
        let Some(fault) = unrouted(running, &self.rules) else {
            return Ok(());
        };
        let problem = format!("{}: routes are set when byway starts, so restart it, or hand over to another", fault.problem);
        Err(ConfigError::at(&self.file, &self.text, Fault { problem, ..fault }))
    }

    /// Routes to the device what these rules are about too, unless the configuration lists what is routed. They are rules
    /// of instructions, from before a restart. Returns the rules that still have no route.
    pub fn route(&mut self, rules: impl Iterator<Item = OwnedRule>) -> Vec<OwnedRule> {
        let Some(routed) = Routed::of(&self.device) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for rule in rules.filter(|rule| !routed.has(rule)) {
            let prefix = rule.matches().destination();
            if self.device.routes_listed || prefix.length() < SHORTEST {
                left.push(rule);
            } else {
                self.device.routes.push(prefix);
            }
        }
        self.device.routes.sort_by_key(|prefix| (prefix.network(), prefix.length()));
        self.device.routes.dedup();
        left
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(routes: &str, rule: &str) -> Result<Config, String> {
        let text = format!(
            "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = \"10.10.10.10\"\n[device]\n{routes}\n\
             [[rule]]\ndivert = \"20.1.1.1\"\nto = \"20.0.0.1\"\n[[rule]]\n{rule}\n"
        );
        Config::parse(Path::new("byway.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_rule_is_about_must_be_routed() {
        const LIST: &str = "routes = [\"20.1.1.1/32\", \"100.1.0.0/17\", \"100.1.128.0/18\", \"100.1.192.0/18\"]";
        let to = |original: &str| format!("divert = \"{original}\"\nto = \"20.0.0.1\"");
        for good in ["100.1.0.0/16", "100.1.2.3:80 tcp", "100.1.127.0/24", "100.1.64.0/18", "10.10.10.10", "96.0.0.0/5"] {
            assert!(parse(LIST, &to(good)).is_ok(), "{good}: {:?}", parse(LIST, &to(good)));
        }
        for (bad, prefix) in [
            ("100.2.1.1:80", "100.2.1.1/32"),
            ("100.1.0.0/15", "100.0.0.0/15"),
            ("100.0.0.0/8", "100.0.0.0/8"),
            ("20.1.1.0/31", "20.1.1.0/31"),
            ("128.0.0.0/1", "128.0.0.0/1"),
        ] {
            let said = parse(LIST, &to(bad)).unwrap_err();
            let place = "byway.toml:11:10: rule[2].divert: ";
            let why = "is not routed to byway0, and would leave untranslated: add it to device.routes";
            assert_eq!(said, format!("{place}{prefix} {why}"));
            // Not where somebody else sets the routes, or nothing is listed, if it is not for half of the world.
            assert!(parse(&format!("{LIST}\nconfigure = false"), &to(bad)).is_ok());
            assert!(prefix == "128.0.0.0/1" || parse("", &to(bad)).is_ok());
        }
        // An exception is to leave as it is.
        assert!(parse(LIST, "divert = \"100.2.1.1\"\nto = \"same\"\nkeep_source = true").is_ok());
        assert!(parse(LIST, "divert = \"100.2.1.1\"\nto = \"same\"").is_err());
        assert!(parse("routes = [\"20.1.1.1/32\", \"0.0.0.0/0\"]", &to("100.2.1.1")).is_ok());
    }

    #[test]
    fn a_reload_makes_no_routes() {
        let with = |routes: &str, original: &str| {
            parse(routes, &format!("divert = \"{original}\"\nto = \"20.0.0.1\"")).unwrap()
        };
        let running = with("", "100.1.0.0/16");
        assert_eq!(with("", "100.1.2.0/24").check_reload(&running), Ok(()));
        let said = with("", "100.2.0.1").check_reload(&running).unwrap_err().to_string();
        let why = "100.2.0.1/32 is not routed to byway0, and would leave untranslated: \
                   routes are set when byway starts, so restart it, or hand over to another";
        assert_eq!(said, format!("byway.toml:11:10: rule[2].divert: {why}"));
        let running = with("configure = false", "100.1.0.0/16");
        assert_eq!(with("configure = false", "100.2.0.1").check_reload(&running), Ok(()));
    }

    #[test]
    fn rules_of_instructions_are_routed_at_the_next_start() {
        let rule = |text: &str| text.parse::<OwnedRule>().unwrap();
        let rules = || ["100.3.0.1:80 to 20.0.0.1", "100.1.2.3 to 20.0.0.1", "0.0.0.0/0 to same"].map(rule).into_iter();
        let second = "divert = \"100.1.0.0/16\"\nto = \"20.0.0.1\"";
        let mut config = parse("", second).unwrap();
        let before = config.device.routes.len();
        assert_eq!(config.route(rules()), []);
        assert!(config.device.routes.len() == before + 1 && config.device.routes.contains(&"100.3.0.1".parse().unwrap()));
        assert_eq!((config.route(rules()), config.device.routes.len()), (vec![], before + 1));
        let mut config = parse("routes = [\"20.1.1.1/32\", \"100.1.0.0/16\"]", second).unwrap();
        assert_eq!(config.route(rules()), [rule("100.3.0.1:80 to 20.0.0.1")]);
    }
}
