//! Changes of names by a configuration, as a whole or not at all.

use std::collections::HashMap;

use byway::naming::{HeapNames, MAX_CLIENT_PREFIXES, NameEntry, Names, Pattern};
use byway::{Heap, Match, Prefix, Translator};

use crate::config::{Answer, Entry};

/// What is to become different.
#[derive(Clone, Debug, Default)]
pub struct NameChanges {
    remove: Vec<(Pattern, Prefix)>,
    set: Vec<Entry>,
}

impl NameChanges {
    /// What differs between what a configuration said and what the next one says. What does not is not touched: an
    /// instruction may have changed it in the meantime.
    #[must_use]
    pub fn between(before: &[Entry], after: &[Entry]) -> Self {
        let is_gone = |old: &&Entry| !after.iter().any(|new| new.key() == old.key());
        let is_new = |new: &&Entry| !before.contains(new);
        Self {
            remove: before.iter().filter(is_gone).map(Entry::key).collect(),
            set: after.iter().filter(is_new).cloned().collect(),
        }
    }

    /// One entry is new or changed.
    #[must_use]
    pub fn setting(entry: Entry) -> Self {
        Self { remove: Vec::new(), set: vec![entry] }
    }

    /// The same in parts, of which each can be refused alone.
    #[must_use]
    pub fn one_by_one(self) -> Vec<Self> {
        let remove = Self { remove: self.remove, set: Vec::new() };
        core::iter::once(remove).chain(self.set.into_iter().map(Self::setting)).collect()
    }

    /// How many are removed, and how many are new or changed.
    #[must_use]
    pub const fn counts(&self) -> (usize, usize) {
        (self.remove.len(), self.set.len())
    }

    /// Whether a table of this capacity would take all of it; `has_rule` says whether there will be a rule.
    ///
    /// # Errors
    /// Says what it would refuse.
    pub fn check(
        &self,
        names: &Names<HeapNames>,
        capacity: usize,
        has_rule: impl Fn(&Match) -> bool,
    ) -> Result<(), String> {
        let mut entries = names.len();
        let mut prefixes: HashMap<String, usize> = HashMap::new();
        for entry in names.entries() {
            *prefixes.entry(entry.pattern().to_string()).or_default() += 1;
        }
        for (pattern, clients) in &self.remove {
            if names.find(pattern, *clients).is_some() {
                entries -= 1;
                *prefixes.entry(pattern.to_string()).or_default() -= 1;
            }
        }
        for entry in &self.set {
            let refused = |why: String| Err(format!("name {}: {why}", entry.pattern));
            if let Some(rule) = rule_of(entry).filter(|rule| !has_rule(rule)) {
                return refused(format!("an instruction has removed the rule for {rule}"));
            }
            if names.find(&entry.pattern, entry.clients).is_some() {
                continue;
            }
            entries += 1;
            let of_name = prefixes.entry(entry.pattern.to_string()).or_default();
            *of_name += 1;
            if *of_name > MAX_CLIENT_PREFIXES {
                return refused(format!("with those of instructions it has more than {MAX_CLIENT_PREFIXES} entries"));
            }
            if entries > capacity {
                return refused(format!("with those of instructions there are more than {capacity} entries"));
            }
        }
        Ok(())
    }

    /// Makes a table different. The rules that entries are tied to are there already, in each translator.
    ///
    /// # Errors
    /// Says what it refused: nothing that was checked before.
    pub fn apply(&self, names: &mut Names<HeapNames>, translator: &Translator<Heap>) -> Result<(), String> {
        for (pattern, clients) in &self.remove {
            // An instruction may have removed it before.
            let _ = names.untie(pattern, *clients);
            let _ = names.remove(pattern, *clients);
        }
        for entry in &self.set {
            set(names, translator, &entry.entry(), rule_of(entry))
                .map_err(|problem| format!("name {}: {problem}", entry.pattern))?;
        }
        Ok(())
    }
}

const fn rule_of(entry: &Entry) -> Option<Match> {
    match &entry.answer {
        Answer::Rule(rule) => Some(*rule),
        Answer::Addresses(_) => None,
    }
}

fn set(
    names: &mut Names<HeapNames>,
    translator: &Translator<Heap>,
    entry: &NameEntry<'_>,
    rule: Option<Match>,
) -> Result<(), String> {
    match rule {
        Some(rule) => names.tie_to(translator, *entry, rule).map(drop).map_err(|error| error.to_string()),
        None => {
            // It may be tied to a rule, and is not any more.
            let _ = names.untie(&entry.pattern(), entry.from_clients());
            names.insert(*entry).map(drop).map_err(|error| error.to_string())
        }
    }
}
