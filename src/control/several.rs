//! Several shards that take a request as one.

use super::MAX_INSTRUCTIONS;
use super::answer::{HEAD, MAX_LISTED_SERVERS};
use super::apply::{Change, Stage, Terms, is_idle};
use super::authentication::Rights;
use super::code::{Code, Effect, Refusal};
use super::datagram::HEADER;
use super::forms::write_server;
use super::instruction::Instruction;
#[cfg(feature = "naming")]
use super::naming;
use super::pages::{self, SLOTS_PER_PAGE, Sizes, WriteMeasured, begin_page, finish_page, rule_head};
use super::request::Received;
use super::rule::Rule;
use super::subject::Subject;
use super::translators::Translators;
use super::wire::{Reader, Writer};

use crate::counters::Counters;
use crate::table::rule::{DivertSlot, Target, Weighted};
use crate::time::Instant;
use crate::translator::Table;

/// The tables of all shards.
pub(super) struct Several<'a, T: ?Sized>(pub(super) &'a mut T);

/// What the changes of a request have done, or would do.
type Effects = [Option<Effect>; MAX_INSTRUCTIONS];

impl<T: Translators + ?Sized> Several<'_, T> {
    /// Calls `work` with the table of each shard, in the order of their numbers.
    fn each<E>(&mut self, mut work: impl FnMut(&mut Table<'_>) -> Result<(), E>) -> Result<(), E> {
        for number in 0..self.0.count() {
            if let Some(translator) = self.0.shard(number) {
                work(&mut translator.table())?;
            }
        }
        Ok(())
    }

    /// Like [`Self::each`], for work that cannot fail.
    fn for_each(&mut self, mut work: impl FnMut(&mut Table<'_>)) {
        for number in 0..self.0.count() {
            if let Some(translator) = self.0.shard(number) {
                work(&mut translator.table());
            }
        }
    }

    /// Whether there are shards, and all of them are available.
    fn is_complete(&mut self) -> bool {
        let count = self.0.count();
        count != 0 && (0..count).all(|number| self.0.shard(number).is_some())
    }

    /// Which changes would change nothing on any shard, one bit each. They are judged together: a re-divert that finds
    /// nothing on one shard counts as applied there if it finds something on another, so that the generations of all
    /// stay the same.
    fn idle(&mut self, terms: Terms<'_>) -> Result<u16, Refusal> {
        let (mut idle, mut place, mut so_far) = (0, 1, true);
        let mut instruction = Instruction::Close;
        for raw in terms.request.instructions() {
            raw.read(&mut instruction)?;
            let mut on_all = true;
            self.for_each(|table| on_all &= is_idle(table, &instruction, so_far));
            if on_all {
                idle |= place;
            }
            so_far &= on_all;
            place <<= 1;
        }
        Ok(idle)
    }

    /// Calls `run` with the table of each shard, and combines the effects that it writes.
    fn combine(
        &mut self,
        terms: Terms<'_>,
        place: &mut u8,
        idle: u16,
        run: impl Fn(&mut Change<'_, '_>, &mut Writer<'_>) -> Result<(), Refusal>,
    ) -> Result<Effects, Refusal> {
        let mut all = [None; MAX_INSTRUCTIONS];
        self.each(|table| {
            let mut bytes = [0; HEADER + HEAD + MAX_INSTRUCTIONS * Effect::LENGTH];
            let mut out = Writer::new(&mut bytes);
            run(&mut Change::new(terms, table, place, idle), &mut out)?;
            let mut effects = Reader(out.bytes().get(HEADER + HEAD..).unwrap_or_default());
            for sum in &mut all {
                let one = effects.array().and_then(Effect::from_bytes);
                *sum = sum.map_or(one, |sum: Effect| one.map(|one| sum.and(one)));
            }
            Ok::<(), Refusal>(())
        })?;
        Ok(all)
    }
}

impl<T: Translators + ?Sized> Subject for Several<'_, T> {
    fn generation(&mut self) -> u32 {
        generation(self.0)
    }

    fn has_generation(&mut self, demanded: u32) -> bool {
        #[cfg(feature = "naming")]
        let demanded = demanded.wrapping_sub(self.0.names().map_or(0, |names| names.generation()));
        let mut all = true;
        self.for_each(|table| all &= table.state.generation == demanded);
        all
    }

    fn apply(
        &mut self,
        terms: Terms<'_>,
        place: &mut u8,
        first: &mut Instruction,
        out: &mut Writer<'_>,
    ) -> Result<(), Refusal> {
        if !self.is_complete() {
            return Err(Code::Other.into());
        }
        if let Some(one) = self.0.shard(0) {
            Change::new(terms, &mut one.table(), place, 0).go_through(Stage::Form, out)?;
        }
        terms.request.instructions().next().ok_or(Code::Malformed)?.read(first)?;
        if !first.is_change() {
            return Ok(());
        }
        self.each(|table| Change::new(terms, table, place, 0).go_through(Stage::Judge, out))?;
        #[cfg(feature = "naming")]
        naming::judge(self.0, terms, place)?;
        if is_unrouted(self.0, terms.request, place) {
            return Err(Code::NotRouted.into());
        }
        if self.0.count() > 1 {
            refuse_kept_sources(terms, place)?;
        }
        let idle = self.idle(terms)?;
        // All shards have to accept the request before any is changed.
        let mut effects = self.combine(terms, place, idle, |change, out| change.plan(out))?;
        #[cfg(feature = "naming")]
        let of_names = naming::plan(self.0, terms, place)?;
        if !terms.request.dry_run {
            effects = self.combine(terms, place, idle, |change, out| change.go_through(Stage::Do, out))?;
            #[cfg(feature = "naming")]
            naming::apply(self.0, terms, place, &of_names)?;
        }
        #[cfg(feature = "naming")]
        effects.iter_mut().zip(of_names).for_each(|(effect, of_names)| *effect = of_names.or(*effect));
        out.go_to(HEADER + HEAD);
        for effect in effects.iter().flatten() {
            out.put(&effect.bytes());
        }
        Ok(())
    }

    fn list_rules(&mut self, position: u32, out: &mut Writer<'_>) {
        let at = begin_page(out);
        let first = position as usize;
        let (mut next, mut all) = (first, 0);
        while let Some(rule) = self.0.shard(0).and_then(|one| {
            let table = one.table();
            all = table.rules().len();
            ListedRule::of(&table, next)
        }) {
            if !rule_head(&rule.slot, rule.ejecting, rule.count, out) {
                break;
            }
            let matches = rule.slot.matches();
            let mut connections = [0_u32; MAX_LISTED_SERVERS];
            self.for_each(|table| {
                if let Ok(place) = table.diverts().place(&matches)
                    && let Some(slot) = table.rules().get(place)
                {
                    rule.count_on(slot, table, &mut connections);
                }
            });
            for (server, connections) in rule.servers().zip(connections) {
                write_server(out, server);
                out.u32(connections);
            }
            next += 1;
        }
        finish_page(out, at, next - first, next, all);
    }

    /// Positions continue from one shard to the next: the slots of the first are followed by those of the second.
    fn list_connections(&mut self, position: u32, write: Option<WriteMeasured>, out: &mut Writer<'_>) {
        let at = begin_page(out);
        let mut now = Instant::ZERO;
        self.for_each(|table| now = now.max(table.state.now));
        out.u64(now.as_micros());
        let mut next = position as usize;
        let (mut before, mut count, mut most) = (0_usize, 0, SLOTS_PER_PAGE);
        let mut is_full = false;
        self.for_each(|table| {
            let end = before.saturating_add(table.memory.connections.len());
            if !is_full && next < end {
                let from = next.saturating_sub(before);
                let (listed, after, used) = pages::slots(table, from, most, write, out);
                count += listed;
                most = most.saturating_sub(after.saturating_sub(from));
                is_full = after < used;
                next = if is_full { before.saturating_add(after) } else { end };
            }
            before = end;
        });
        finish_page(out, at, count, next, before);
    }

    fn list_counters(&mut self, refused: &[u64], out: &mut Writer<'_>) {
        let mut sum = Counters::ZERO;
        self.for_each(|table| sum = [&sum, &table.state.counters].into_iter().sum());
        #[cfg(feature = "naming")]
        let at = out.bytes().len();
        pages::counters(&sum, refused, out);
        #[cfg(feature = "naming")]
        if let Some(names) = self.0.names() {
            naming::counters(names, at, out);
        }
    }

    #[cfg(feature = "naming")]
    fn list_names(&mut self, position: u32, out: &mut Writer<'_>) {
        if let Some(names) = self.0.names() {
            naming::list(names, position, out);
        }
    }

    fn list_settings(&mut self, rights: Rights, out: &mut Writer<'_>) {
        let mut all = None::<(Sizes, _)>;
        self.for_each(|table| {
            let one = Sizes::of(table);
            all = Some(match all {
                None => (one, table.state.config.timeouts),
                Some((sum, timeouts)) => {
                    let (capacity, used) =
                        (sum.capacity.saturating_add(one.capacity), sum.used.saturating_add(one.used));
                    (Sizes { capacity, used, ..sum }, timeouts)
                }
            });
        });
        if let Some((sizes, timeouts)) = all {
            pages::settings(&sizes, &timeouts, rights, out);
        }
    }
}

/// The generation that an answer gives: the sum of those of the rules and of the names, so that it counts the changes
/// of both.
pub(super) fn generation<T: Translators + ?Sized>(translators: &mut T) -> u32 {
    let rules = translators.shard(0).map_or(0, |first| first.generation());
    #[cfg(feature = "naming")]
    let rules = rules.wrapping_add(translators.names().map_or(0, |names| names.generation()));
    rules
}

/// Whether one of the changes is a rule about packets that do not come to the translators. Leaves its place.
pub(super) fn is_unrouted<T: Translators + ?Sized>(translators: &T, request: &Received<'_>, place: &mut u8) -> bool {
    let Some(comes_here) = translators.comes_here() else {
        return false;
    };
    let mut instruction = Instruction::Close;
    *place = 0;
    request.instructions().any(|raw| {
        let is_read = raw.read(&mut instruction).is_ok();
        let found = is_read && matches!(&instruction, Instruction::Divert(rule) if !comes_here(rule));
        *place += u8::from(!found);
        found
    })
}

/// Refuses rules that keep the source: nothing in a reply to a client's own address says which shard it belongs to.
fn refuse_kept_sources(terms: Terms<'_>, place: &mut u8) -> Result<(), Refusal> {
    let mut instruction = Instruction::Close;
    *place = 0;
    for raw in terms.request.instructions() {
        raw.read(&mut instruction)?;
        if let Instruction::Divert(rule) = &instruction
            && leads_elsewhere(rule)
            && rule.divert().options().keep_source
        {
            return Err(Code::KeptSource.into());
        }
        *place += 1;
    }
    Ok(())
}

fn leads_elsewhere(rule: &Rule) -> bool {
    rule.servers().iter().any(|server| server.target != Target::Same)
}

/// A rule with the servers that an answer lists.
struct ListedRule {
    slot: DivertSlot,
    ejecting: bool,
    /// How many servers it has.
    count: usize,
    servers: [Weighted; MAX_LISTED_SERVERS],
}

impl ListedRule {
    fn of(table: &Table<'_>, place: usize) -> Option<Self> {
        let slot = *table.rules().get(place)?;
        let mut servers = [Weighted { target: Target::Same, weight: 0 }; MAX_LISTED_SERVERS];
        let mut count = 0;
        let (entries, measured) = (&*table.memory.servers, &*table.memory.measured_servers);
        for (_, weighted) in slot.members(entries, measured) {
            if let Some(listed) = servers.get_mut(count) {
                *listed = weighted;
            }
            count += 1;
        }
        Some(Self { slot, ejecting: slot.is_ejecting(entries, measured), count, servers })
    }

    fn servers(&self) -> impl Iterator<Item = Weighted> {
        self.servers.iter().copied().take(self.count)
    }

    /// Adds the connections that a shard has through its rule with the same match, server by server.
    fn count_on(&self, slot: &DivertSlot, table: &Table<'_>, connections: &mut [u32; MAX_LISTED_SERVERS]) {
        for (place, server) in slot.chain(table.memory.servers).take(MAX_LISTED_SERVERS).enumerate() {
            // A server has the same place on all shards, unless one shard was changed alone.
            let is_it = |listed: Option<&Weighted>| listed.is_some_and(|listed| listed.target == server.target());
            let place = if is_it(self.servers.get(place)) {
                Some(place)
            } else {
                self.servers().position(|listed| is_it(Some(&listed)))
            };
            if let Some(sum) = place.and_then(|place| connections.get_mut(place)) {
                *sum = sum.saturating_add(server.connections);
            }
        }
    }
}
