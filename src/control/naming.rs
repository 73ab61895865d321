//! Changes of names in a request, and what answers say about names. A request is judged and planned here before any of
//! its changes is made, so that it changes both rules and names as asked, or nothing.

use super::MAX_INSTRUCTIONS;
use super::apply::Terms;
use super::authentication::{Rights, TAG};
use super::code::{Code, Effect, Outcome, Refusal, with};
use super::entry::{MAX_LISTED, NamedEntry, write_listed};
use super::forms::match_bytes;
use super::instruction::Instruction;
use super::names::FIRST_NAMES;
use super::pages::{SLOTS_PER_PAGE, begin_page, finish_page};
use super::translators::Translators;
use super::wire::Writer;

use crate::divert::Match;
use crate::endpoint::Prefix;
use crate::naming::{EntryError, ListedName, MAX_CLIENT_PREFIXES, NameRoom, NameTable, Outcome as Became, Pattern};
use crate::naming::{check, one_address};

/// What the changes of names in a request would do, in the places of their instructions.
pub(super) type OfNames = [Option<Effect>; MAX_INSTRUCTIONS];

/// Checks that do not depend on room: rights, what entries say, and the rules that they are tied to.
pub(super) fn judge<T: Translators + ?Sized>(
    translators: &mut T,
    terms: Terms<'_>,
    place: &mut u8,
) -> Result<(), Refusal> {
    let mut instruction = Instruction::Close;
    *place = 0;
    for raw in terms.request.instructions() {
        raw.read(&mut instruction)?;
        match &instruction {
            Instruction::Name(entry) => {
                permit(translators, terms, &entry.pattern())?;
                if let Some(rule) = entry.rule() {
                    judge_tie(translators, terms, entry, &rule)?;
                }
                check(&entry.entry())?;
            }
            Instruction::RemoveName { pattern, .. } => permit(translators, terms, pattern)?,
            Instruction::Remove(rule) => {
                let left = left_tied(translators, terms, rule);
                if left != 0 {
                    return Err(with(Code::EntriesTied, left));
                }
            }
            _ => {}
        }
        *place += 1;
    }
    Ok(())
}

fn permit<T: Translators + ?Sized>(translators: &T, terms: Terms<'_>, pattern: &Pattern) -> Result<(), Code> {
    if *terms.rights == Rights::All || translators.may_name(terms.key, pattern) {
        Ok(())
    } else {
        Err(Code::NotPermitted)
    }
}

/// Whether an entry may be tied to a rule.
fn judge_tie<T: Translators + ?Sized>(
    translators: &mut T,
    terms: Terms<'_>,
    entry: &NamedEntry,
    rule: &Match,
) -> Result<(), Refusal> {
    let destination = rule.destination();
    // The tie would prevent the rule from being removed.
    if !terms.rights.cover(destination) {
        return Err(Code::NotPermitted.into());
    }
    if one_address(destination).is_none() {
        return Err(with(Code::ManyOriginals, destination.length().into()));
    }
    let (narrow, wide) = (entry.from_clients(), rule.from_clients());
    if narrow.length() < wide.length() || !wide.contains(narrow.network()) {
        return Err(Code::OtherClients.into());
    }
    if will_be_there(translators, terms, rule) { Ok(()) } else { Err(Code::NoRule.into()) }
}

/// Whether there is a rule with this match after the request.
fn will_be_there<T: Translators + ?Sized>(translators: &mut T, terms: Terms<'_>, rule: &Match) -> bool {
    let bytes = match_bytes(rule);
    let mut instruction = Instruction::Close;
    if let Some(raw) = terms.request.instructions().find(|raw| raw.named() == Some(&bytes)) {
        return raw.read(&mut instruction).is_ok() && matches!(instruction, Instruction::Divert(_));
    }
    translators.shard(0).is_some_and(|first| first.find_divert(*rule).is_some())
}

/// How many entries stay tied to a rule that the request removes.
fn left_tied<T: Translators + ?Sized>(translators: &mut T, terms: Terms<'_>, rule: &Match) -> usize {
    let mut left = 0;
    let is_changed = |entry: &ListedName<'_>| {
        let mut instruction = Instruction::Close;
        terms.request.instructions().any(|raw| {
            raw.named_entry().is_some()
                && raw.read(&mut instruction).is_ok()
                && key(&instruction) == Some((entry.pattern(), entry.clients()))
        })
    };
    if let Some(names) = translators.names() {
        // An entry that the request ties to this rule again is refused by `judge_tie`.
        names.each_tied(rule, &mut |entry| left += usize::from(!is_changed(&entry)));
    }
    left
}

/// The key of the entry that an instruction changes.
const fn key(instruction: &Instruction) -> Option<(Pattern, Prefix)> {
    match instruction {
        Instruction::Name(entry) => Some((entry.pattern(), entry.from_clients())),
        Instruction::RemoveName { pattern, clients } => Some((*pattern, *clients)),
        _ => None,
    }
}

/// Finds out what the changes of names would do, and whether there is room for them.
pub(super) fn plan<T: Translators + ?Sized>(
    translators: &mut T,
    terms: Terms<'_>,
    place: &mut u8,
) -> Result<OfNames, Refusal> {
    let mut effects = [None; MAX_INSTRUCTIONS];
    *place = 0;
    let Some(names) = translators.names() else {
        return Ok(effects);
    };
    let mut room = NameRoom::default();
    let mut instruction = Instruction::Close;
    for (raw, number) in terms.request.instructions().zip(0_usize..) {
        *place = number as u8;
        raw.read(&mut instruction)?;
        let Some((pattern, clients)) = key(&instruction) else {
            continue;
        };
        let there = names.find(&pattern, clients);
        let outcome = match (&instruction, there) {
            (Instruction::Name(entry), Some(there)) if stands_so(&there, entry) => Outcome::Unchanged,
            (Instruction::Name(_), Some(_)) => Outcome::Updated,
            (Instruction::Name(_), None) => {
                let others = count_of(names, terms, &effects, &pattern)?;
                names.plan_insert(&mut room, &pattern, clients, others)?;
                Outcome::Inserted
            }
            (_, Some(_)) => {
                let all = count_of(names, terms, &effects, &pattern)?;
                names.plan_remove(&mut room, &pattern, all);
                Outcome::Removed
            }
            (_, None) => Outcome::Absent,
        };
        if let Some(effect) = effects.get_mut(number) {
            *effect = Some(Effect::new(outcome, 0, 0));
        }
    }
    Ok(effects)
}

/// How many entries have this pattern after the changes that were planned so far.
fn count_of(names: &dyn NameTable, terms: Terms<'_>, effects: &OfNames, pattern: &Pattern) -> Result<usize, Refusal> {
    let (mut more, mut less) = (names.count_of(pattern), 0);
    let mut instruction = Instruction::Close;
    for (raw, effect) in terms.request.instructions().zip(effects) {
        let outcome = effect.map(|effect| effect.outcome);
        if !matches!(outcome, Some(Outcome::Inserted | Outcome::Removed)) {
            continue;
        }
        raw.read(&mut instruction)?;
        if key(&instruction).is_some_and(|(other, _)| other == *pattern) {
            more += usize::from(outcome == Some(Outcome::Inserted));
            less += usize::from(outcome == Some(Outcome::Removed));
        }
    }
    Ok(more.saturating_sub(less))
}

/// Whether exactly this entry is in the table, and not suspended: the instruction would resume a suspended one.
fn stands_so(there: &ListedName<'_>, entry: &NamedEntry) -> bool {
    let wanted = entry.entry();
    !there.is_suspended()
        && there.ttl() == wanted.ttl
        && there.rule() == entry.rule()
        && there.addresses().eq(wanted.addresses().iter().copied())
}

/// Makes the changes that were planned. None of them fails; an error would be our bug, and is reported.
pub(super) fn apply<T: Translators + ?Sized>(
    translators: &mut T,
    terms: Terms<'_>,
    place: &mut u8,
    planned: &OfNames,
) -> Result<(), Refusal> {
    let Some(names) = translators.names() else {
        return Ok(());
    };
    let mut instruction = Instruction::Close;
    *place = 0;
    for (raw, effect) in terms.request.instructions().zip(planned) {
        raw.read(&mut instruction)?;
        let is_idle = effect.is_some_and(|effect| effect.outcome == Outcome::Unchanged);
        match &instruction {
            Instruction::Name(entry) if !is_idle => {
                names.set(&entry.entry(), entry.rule().as_ref())?;
            }
            Instruction::RemoveName { pattern, clients } => {
                names.unset(pattern, *clients);
            }
            Instruction::Divert(rule) => names.resume(&rule.matches()),
            _ => {}
        }
        *place += 1;
    }
    Ok(())
}

/// Writes a page of entries. It examines as many places of the table as a page of connections does.
pub(super) fn list(names: &dyn NameTable, position: u32, out: &mut Writer<'_>) {
    let at = begin_page(out);
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (entries, capacity) = names.sizes();
    out.u32(size(entries));
    out.u32(size(capacity));
    let first = position as usize;
    let (mut next, mut count) = (first, 0);
    let mut all = 0;
    while let Some(entry) = names.in_place(next) {
        all = usize::MAX;
        if out.room(TAG) < MAX_LISTED || next - first >= SLOTS_PER_PAGE {
            break;
        }
        if let Some(entry) = entry {
            write_listed(out, &entry);
            count += 1;
        }
        next += 1;
        all = 0;
    }
    finish_page(out, at, count, next, all);
}

/// Adds the counters of names to a list of counters that begins at this place of the answer.
pub(super) fn counters(names: &dyn NameTable, at: usize, out: &mut Writer<'_>) {
    /// Bytes of a number and its count.
    const ENTRY: usize = 10;
    let counters = names.counters();
    let own = Became::ALL.iter().map(|outcome| counters.of(*outcome)).chain([counters.proven]);
    for (number, value) in (FIRST_NAMES..).zip(own) {
        out.u16(number);
        out.u64(value);
    }
    let end = out.go_to(at);
    out.u16(((end - at - 4) / ENTRY) as u16);
    out.go_to(end);
}

impl From<EntryError> for Refusal {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::TableFull { capacity } => with(Code::NamesFull, capacity),
            EntryError::TooManyClientPrefixes { .. } => with(Code::TooManyClientPrefixes, MAX_CLIENT_PREFIXES),
            EntryError::NoAddress { .. } => Code::NoAddress.into(),
            EntryError::DuplicateAddress { .. } => Code::DuplicateAddress.into(),
            EntryError::MartianAddress { address } => with(Code::MartianAddress, address.to_bits() as usize),
            EntryError::TtlTooLong { .. } => Code::TtlTooLong.into(),
            // Neither can happen to an entry of a request.
            EntryError::TooManyAddresses { .. } | EntryError::Tied { .. } => Code::Other.into(),
        }
    }
}
