//! Changes of names by a configuration, as a whole or not at all.

use core::net::Ipv4Addr;
use std::collections::{HashMap, HashSet};

use byway::naming::{HeapNames, MAX_CLIENT_PREFIXES, NameEntry, Names, Pattern};
use byway::{Heap, Match, Prefix, Translator};

use crate::config::{Answer, Entry};

/// The key of an entry: the names, and the clients.
type Key = (Vec<u8>, Ipv4Addr, u8);

fn key(pattern: &Pattern, clients: Prefix) -> Key {
    (wire(pattern), clients.network(), clients.length())
}

/// Which names a pattern is for.
fn wire(pattern: &Pattern) -> Vec<u8> {
    let mut bytes = pattern.name().as_wire().to_vec();
    bytes.push(pattern.is_suffix().into());
    bytes
}

/// The changes to a table of names.
#[derive(Clone, Debug, Default)]
pub struct NameChanges {
    remove: Vec<(Pattern, Prefix)>,
    set: Vec<Entry>,
}

impl NameChanges {
    /// The differences between a configuration and the next one. An entry that does not differ is left alone: an instruction may
    /// have changed it in the meantime.
    #[must_use]
    pub fn between(before: &[Entry], after: &[Entry]) -> Self {
        let said: HashMap<_, _> = before.iter().map(|old| (key(&old.pattern, old.clients), old)).collect();
        let stays: HashSet<_> = after.iter().map(|new| key(&new.pattern, new.clients)).collect();
        let is_gone = |old: &&Entry| !stays.contains(&key(&old.pattern, old.clients));
        let is_new = |new: &&Entry| said.get(&key(&new.pattern, new.clients)) != Some(new);
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

    /// The same changes one by one, so that each can be refused alone.
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
        if self.set.is_empty() {
            // Without new entries there is always room.
            return Ok(());
        }
        let mut there: HashSet<Key> = HashSet::new();
        let mut prefixes: HashMap<Vec<u8>, usize> = HashMap::new();
        for entry in names.entries() {
            *prefixes.entry(wire(&entry.pattern())).or_default() += 1;
            there.insert(key(&entry.pattern(), entry.clients()));
        }
        for (pattern, clients) in &self.remove {
            if there.remove(&key(pattern, *clients)) {
                let of_name = prefixes.entry(wire(pattern)).or_default();
                *of_name = of_name.saturating_sub(1);
            }
        }
        for entry in &self.set {
            let refused = |why: String| Err(format!("name {}: {why}", entry.pattern));
            if let Some(rule) = rule_of(entry).filter(|rule| !has_rule(rule)) {
                return refused(format!("an instruction has removed the rule for {rule}"));
            }
            if !there.insert(key(&entry.pattern, entry.clients)) {
                continue;
            }
            let of_name = prefixes.entry(wire(&entry.pattern)).or_default();
            *of_name += 1;
            if *of_name > MAX_CLIENT_PREFIXES {
                return refused(format!("with those of instructions it has more than {MAX_CLIENT_PREFIXES} entries"));
            }
            if there.len() > capacity {
                return refused(format!("with those of instructions there are more than {capacity} entries"));
            }
        }
        Ok(())
    }

    /// Applies the changes to a table. The rules that entries are tied to are there already, in each translator.
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
            // It may have been tied to a rule.
            let _ = names.untie(&entry.pattern(), entry.from_clients());
            names.insert(*entry).map(drop).map_err(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {

    use byway::naming::NamesConfig;

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry::parse(text).unwrap()
    }

    #[test]
    fn what_differs_changes() {
        let before = ["a 0.0.0.0/0 30 1.1.1.1*1", "*.a 0.0.0.0/0 30 1.1.1.1*1", "b 9.0.0.0/8 30 1.1.1.1*1"].map(entry);
        let after = ["a 0.0.0.0/0 30 1.1.1.1*1", "*.a 0.0.0.0/0 31 1.1.1.1*1", "b 9.0.0.0/9 30 1.1.1.1*1"].map(entry);
        let changes = NameChanges::between(&before, &after);
        assert_eq!(changes.remove, [before[2].key()]);
        assert_eq!(changes.set, after[1..]);
        // What is removed makes room.
        let mut names = Names::new(NamesConfig::new([7; 32]), HeapNames::new(3, 0));
        for entry in &before {
            let _ = names.insert(entry.entry()).unwrap();
        }
        assert_eq!(changes.check(&names, 3, |_| true), Ok(()));
        let more = NameChanges::setting(entry("c 0.0.0.0/0 30 1.1.1.1*1"));
        assert!(more.check(&names, 3, |_| true).unwrap_err().contains("more than 3 entries"));
    }

    /// Each compared with each would be 2.5 thousand million comparisons, and this test would take minutes.
    #[test]
    fn fifty_thousand_names_are_compared() {
        const MANY: usize = 50_000;
        let all = |ttl: u32| (0..MANY).map(|n| entry(&format!("n{n}.test 0.0.0.0/0 {ttl} 1.1.1.1*1"))).collect::<Vec<_>>();
        let (before, after) = (all(30), all(31));
        let mut names = Names::new(NamesConfig::new([7; 32]), HeapNames::new(MANY, 0));
        for entry in &before {
            let _ = names.insert(entry.entry()).unwrap();
        }
        let changes = NameChanges::between(&before, &after);
        assert_eq!(changes.counts(), (0, MANY));
        assert_eq!(NameChanges::between(&before, &before).counts(), (0, 0));
        assert_eq!(changes.check(&names, MANY, |_| true), Ok(()));
    }
}
