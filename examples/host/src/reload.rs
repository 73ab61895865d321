//! Changes of rules and limits, as a whole or not at all.

use std::collections::HashSet;

use byway::control::Rule as OwnedRule;
use byway::naming::{HeapNames, Names};
use byway::{Divert, Heap, Match, Timeouts, Translator};

use crate::config::{Config, ControlKey, Entry, Rule};
use crate::names::NameChanges;

/// What is to become different in every shard.
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

/// What a configuration says that may change, for telling what has changed in the next one.
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

fn owned(rule: &Rule) -> Option<OwnedRule> {
    OwnedRule::new(&rule.divert())
}

impl Changes {
    /// What differs between what a configuration said and what the new one says. What does not is not touched: an
    /// instruction may have changed it in the meantime.
    #[must_use]
    pub fn between(before: &Said, config: &Config) -> Self {
        let after = Said::by(config);
        let names = |said: &Said, matches| said.rules.iter().any(|rule| rule.matches() == matches);
        let gone = before.rules.iter().map(OwnedRule::matches).filter(|matches| !names(&after, *matches)).collect();
        let is_new = |rule: &&OwnedRule| !before.rules.iter().any(|old| old.divert() == rule.divert());
        let open = config.rules.iter().filter(|rule| rule.fail_open).map(|rule| rule.matches);
        Self {
            remove: gone,
            divert: after.rules.iter().filter(is_new).copied().collect(),
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

    /// Makes a translator different.
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

    /// The rules that let their packets leave untranslated rather than not at all.
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
        self.names.check(names, capacity, |rule| {
            let is_kept = !self.remove.contains(rule) && translator.find_divert(*rule).is_some();
            is_kept || self.divert.iter().any(|divert| divert.matches() == *rule)
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
