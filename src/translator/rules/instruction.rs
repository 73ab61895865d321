//! Instructions about rules: insert, update, remove, look up.

use crate::config::Midstream;
#[cfg(target_pointer_width = "64")]
use crate::table::groups::{FEW_SERVERS, Groups};
use crate::table::hash::Keys;
use crate::table::rule::{Divert, DivertEntry, DivertError, DivertSlot, Match, Target, Weighted, servers_of};
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::RuleIndex;
use crate::table::server::{self, Holder, seed};
use crate::table::servers::Servers;
use crate::table::storage::Storage;
#[cfg(target_pointer_width = "64")]
use crate::table::storage::View;
use crate::translator::Translator;
use crate::translator::connection::expire::LOOKS;
use crate::translator::redivert::instruction::place_of;
use crate::translator::rules::cost::{Cost, Leaving, leaving};
#[cfg(target_pointer_width = "64")]
use crate::translator::rules::large_group::{MOST_SERVERS, Names};
#[cfg(target_pointer_width = "64")]
use crate::translator::state::State;
use crate::translator::state::Table;
use crate::translator::table::servers;
use crate::wire::ipv4;

/// What [`Translator::divert`](crate::Translator::divert) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Diverted {
    /// The table's generation after it.
    pub generation: u32,
    /// Whether a rule with the same match was updated, rather than a new one inserted.
    pub updated: bool,
    /// How many connections are on servers that the rule named before and does not name now, including those of other
    /// rules whose only server is one of these. They stay there; see
    /// [`Translator::redivert`](crate::Translator::redivert) for moving them.
    pub left_behind: u32,
}

/// What [`Translator::remove`](crate::Translator::remove) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Removed {
    /// The table's generation after it.
    pub generation: u32,
    /// How many connections are on the servers that the rule named, through it or through another rule whose only
    /// server is one of these. They stay there until they end.
    pub left_behind: u32,
}

impl<S: Storage> Translator<S> {
    /// Adds a rule: the document's instruction from the network monitor. If there is one with the same match it is
    /// updated in place; there is never a second. It applies to connections that begin from now on; those that are on
    /// another server stay there until [`redivert`](Self::redivert) moves them.
    ///
    /// # Errors
    /// [`DivertError`] names what is wrong; nothing has changed then.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
    /// let [first, second] = [89, 90].map(|n| SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, n), 80));
    ///
    /// assert!(!byway.divert(Divert::new(original).to(first))?.updated);
    /// assert!(byway.divert(Divert::new(original).to(second))?.updated); // in place
    /// byway.divert(Divert::new(Prefix::ALL).protocol(Protocol::Udp))?; // masquerades all other UDP
    ///
    /// for rule in byway.diverts() {
    ///     for (server, connections) in rule.servers() {
    ///         println!("{} -> {}: {connections} connections", rule.matches(), server.target);
    ///     }
    /// }
    /// let removed = byway.remove(original).expect("it is there");
    /// assert_eq!((removed.left_behind, byway.diverts().count(), byway.generation()), (0, 1, 4));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn divert(&mut self, divert: Divert<'_>) -> Result<Diverted, DivertError> {
        if S::MEASURES_SERVERS {
            return self.table().divert_measured(&divert);
        }
        if divert.options.ejecting {
            return Err(DivertError::NotMeasured { destination: divert.matches.destination() });
        }
        self.table().divert(&divert)
    }

    /// Removes the rule with exactly this match; `None` if there is none. Connections that it has opened continue until
    /// they end: their client would lose them otherwise.
    pub fn remove(&mut self, matches: impl Into<Match>) -> Option<Removed> {
        let matches = matches.into();
        if S::MEASURES_SERVERS { self.table().remove_measured(&matches) } else { self.table().remove(&matches) }
    }

    /// The rules, the most specific first. On a 64-bit machine, with storage for more than 1024 rules, they are in no
    /// particular order; adding, removing or changing a rule moves at most two others.
    pub fn diverts(&self) -> impl Iterator<Item = DivertEntry<'_>> {
        let view = self.storage.view();
        let rules = view.diverts.get(..self.state.diverts).unwrap_or_default();
        rules.iter().map(move |slot| DivertEntry::new(*slot, view.servers, view.measured_servers))
    }

    /// The rule with exactly this match.
    pub fn find_divert(&self, matches: impl Into<Match>) -> Option<DivertEntry<'_>> {
        let matches = matches.into();
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            let View { diverts, servers, measured_servers, rule_index: words, .. } = self.storage.view();
            let State { directory, keys, .. } = &self.state;
            let index = RuleIndex { directory, words, filter: &[], keys };
            let rules = diverts.get(..self.state.diverts).unwrap_or_default();
            let place = index.place(rules, &DivertSlot::new(&Divert::new(matches), 0, false))?;
            return rules.get(place).map(|slot| DivertEntry::new(*slot, servers, measured_servers));
        }
        #[cfg(target_pointer_width = "64")]
        {
            let View { diverts, servers, measured_servers, .. } = self.storage.view();
            let rules = diverts.get(..self.state.diverts).unwrap_or_default();
            let place = rules.binary_search_by_key(&matches, |slot| slot.matches()).ok()?;
            rules.get(place).map(|slot| DivertEntry::new(*slot, servers, measured_servers))
        }
        #[cfg(not(target_pointer_width = "64"))]
        self.diverts().find(|entry| entry.matches() == matches)
    }

    /// The generation, which each instruction that changes rules or servers increments by one. A caller that remembers
    /// it sees whether the table has changed; it wraps after 2^32 instructions.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.state.generation
    }
}

impl Table<'_> {
    pub(crate) fn divert(&mut self, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        let Cost { place, old, needed, freed, left_behind, .. } = self.weigh(divert)?;
        if place.is_err() && self.state.diverts >= self.memory.diverts.len() {
            return Err(DivertError::TableFull { capacity: self.memory.diverts.len() });
        }
        let servers = self.servers();
        if needed > servers.free() + freed {
            return Err(DivertError::ServersFull { capacity: servers.slots.len() });
        }
        #[cfg(target_pointer_width = "64")]
        let before = place.ok().and_then(|at| self.memory.diverts.get(at).copied());
        let Some(at) = self.take_place(place, divert) else {
            return Err(DivertError::TableFull { capacity: self.memory.diverts.len() });
        };
        // From here on nothing can fail.
        let first = self.replace_servers(divert, old);
        let slot = self.slot_for(divert, first);
        if let Some(place) = self.memory.diverts.get_mut(at) {
            *place = slot;
        }
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            self.follow_rules(Some(slot), before);
        } else {
            self.refilter(None);
        }
        #[cfg(not(target_pointer_width = "64"))]
        self.refilter(None);
        self.start_adopting();
        self.state.generation = self.state.generation.wrapping_add(1);
        Ok(Diverted { generation: self.state.generation, updated: place.is_ok(), left_behind })
    }

    /// The place of a rule. A new one is entered, without servers yet; `None` if the index has no room for it.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn take_place(&mut self, place: Result<usize, usize>, divert: &Divert<'_>) -> Option<usize> {
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            let slot = self.slot_for(divert, server::NONE);
            let stands_apart = self.stands_apart(&slot);
            let mut diverts = self.diverts();
            let at = match place {
                Ok(before) => {
                    let at = diverts.set_apart(before, stands_apart);
                    if at != before {
                        self.note_moved(before);
                    }
                    at
                }
                Err(_) => diverts.insert_indexed(slot, stands_apart)?,
            };
            self.state.diverts += usize::from(place.is_err());
            return Some(at);
        }
        if let Err(at) = place {
            let slot = self.slot_for(divert, server::NONE);
            let mut diverts = self.diverts();
            diverts.insert(at, slot);
            self.state.diverts = diverts.length;
        }
        let (Ok(at) | Err(at)) = place;
        Some(at)
    }

    /// Replaces the servers of a rule, the first of which is `old`. Returns the first of the new ones.
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn replace_servers(&mut self, divert: &Divert<'_>, old: u16) -> u16 {
        #[cfg(target_pointer_width = "64")]
        let old = self.servers().leave_drained(old);
        #[cfg(target_pointer_width = "64")]
        {
            Groups(self.memory.group_index).leave(old);
            if let Some(target) = self.shares(divert) {
                return self.replace_by_one(old, target);
            }
            if divert.targets().len() > FEW_SERVERS {
                return self.replace_by_large_group(old, divert.targets());
            }
        }
        self.replace_by_group(old, divert.targets())
    }

    /// Replaces the servers of a rule, the first of which is `old`, by these: first removes those that go, then adds
    /// those that come, in the order of `targets`.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn replace_by_group(&mut self, old: u16, targets: &[Weighted]) -> u16 {
        let mut servers = servers!(self.state, self.memory);
        let keys = &self.state.keys;
        let named = |target| targets.iter().any(|t| t.target == target);
        // A single server had no share of the clients. In a group its share depends on its target, however it came
        // here.
        if let Some(alone) = servers.get_mut(old).filter(|slot| slot.next == server::NONE && !slot.is_shared()) {
            alone.seed = seed(keys, alone.target());
        }
        let mut kept = server::NONE;
        let mut entry = old;
        while let Some(slot) = servers.get(entry).copied() {
            if named(slot.target()) && slot.is_of_one_rule() {
                #[cfg(target_pointer_width = "64")]
                servers.set_holder(entry, Holder::Group, seed(keys, slot.target()));
                if let Some(slot) = servers.get_mut(entry) {
                    slot.next = kept;
                }
                kept = entry;
            } else {
                servers.detach(entry);
            }
            entry = slot.next;
        }
        let mut first = server::NONE;
        for &Weighted { target, weight } in targets.iter().rev() {
            let own = seed(keys, target);
            let known = unlink(&mut servers, &mut kept, target);
            let entry = known.or_else(|| servers.take(target, Holder::Group, own));
            if let Some((entry, slot)) = entry.and_then(|e| Some((e, servers.get_mut(e)?))) {
                slot.seed = share(slot.seed, own, keys, targets);
                slot.set_weight(weight);
                slot.next = first;
                first = entry;
            }
        }
        // A re-divert may have left the rule with the same server twice.
        while let Some(slot) = servers.get(kept) {
            let next = slot.next;
            servers.detach(kept);
            kept = next;
        }
        first
    }

    /// What a rule would need, wherever the room for it would come from.
    pub(super) fn weigh(&mut self, divert: &Divert<'_>) -> Result<Cost, DivertError> {
        self.check_divert(divert)?;
        let place = self.diverts().place(&divert.matches);
        let old = place.ok().and_then(|p| self.memory.diverts.get(p)).map_or(server::NONE, |slot| slot.servers);
        let targets = divert.targets();
        #[cfg(target_pointer_width = "64")]
        let alone = self.shares(divert);
        #[cfg(not(target_pointer_width = "64"))]
        let alone = None::<Target>;
        #[cfg(target_pointer_width = "64")]
        if targets.len() > FEW_SERVERS {
            return Ok(self.weigh_large_group(place, old, targets));
        }
        let servers = self.servers();
        // An entry that other rules share too cannot become one of a group.
        let of_old = |target: Target| {
            let mut entries = servers_of(servers.slots, old).filter_map(|e| servers.get(e));
            entries.any(|s| s.target() == target && (alone.is_some() || s.is_of_one_rule()))
        };
        let needed = targets.iter().filter(|t| !of_old(t.target)).count();
        #[cfg(not(target_pointer_width = "64"))]
        let joins = false;
        #[cfg(target_pointer_width = "64")]
        let (mut needed, mut joins) = (needed, false);
        #[cfg(target_pointer_width = "64")]
        if needed != 0
            && let Some(shared) = alone.and_then(|target| servers.get(servers.shared(target)?))
        {
            (needed, joins) = (0, shared.rules() == 1);
        }
        let named = |target| targets.iter().any(|t| t.target == target);
        let Leaving { freed, left_behind, leaves } = leaving(servers.slots, old, named);
        Ok(Cost { place, old, needed, freed, left_behind, joins, leaves })
    }

    /// Restarts the search for connections that no server's entry counts, since a rule leads elsewhere now.
    pub(in crate::translator) fn start_adopting(&mut self) {
        if self.state.adopt.is_some() {
            (self.state.adopting, self.state.strays) = (0, false);
            self.adopt(LOOKS);
        }
    }

    /// What removing this rule would do with its servers.
    pub(in crate::translator) fn weigh_removal(&mut self, matches: &Match) -> Option<Leaving> {
        let place = self.diverts().place(matches).ok()?;
        let old = self.memory.diverts.get(place)?.servers;
        Some(leaving(self.memory.servers, old, |_| false))
    }

    pub(crate) fn remove(&mut self, matches: &Match) -> Option<Removed> {
        let place = self.diverts().place(matches).ok()?;
        let removed = *self.memory.diverts.get(place)?;
        let mut entry = removed.servers;
        #[cfg(target_pointer_width = "64")]
        {
            entry = self.servers().leave_drained(entry);
            Groups(self.memory.group_index).leave(entry);
        }
        let mut servers = self.servers();
        let mut left_behind = 0;
        while let Some(slot) = servers.get(entry).copied() {
            left_behind += slot.connections;
            servers.detach(entry);
            entry = slot.next;
        }
        let mut diverts = self.diverts();
        diverts.remove(place);
        self.state.diverts = diverts.length;
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            // The last rules of both kinds have moved.
            self.note_moved(place);
            self.note_moved(self.state.directory.apart());
            self.follow_rules(None, Some(removed));
        } else {
            self.refilter(Some(removed));
        }
        #[cfg(not(target_pointer_width = "64"))]
        self.refilter(Some(removed));
        self.state.generation = self.state.generation.wrapping_add(1);
        Some(Removed { generation: self.state.generation, left_behind })
    }

    fn check_divert(&self, divert: &Divert<'_>) -> Result<(), DivertError> {
        let matches = divert.matches;
        let destination = matches.destination();
        if matches.port() == Some(0) {
            return Err(DivertError::MatchesPortZero { destination });
        }
        let targets = divert.targets();
        if targets.iter().all(|t| t.weight == 0) {
            return Err(DivertError::EmptyGroup { servers: targets.len() });
        }
        if !divert.options.keep_source && self.state.config.alternatives.iter().next().is_none() {
            return Err(DivertError::NoAlternative { destination });
        }
        if divert.options.resumable && self.state.for_resumable.is_none() {
            return Err(DivertError::NotResumable { destination });
        }
        #[cfg(target_pointer_width = "64")]
        let are_named_once = {
            if targets.len() > MOST_SERVERS {
                return Err(DivertError::GroupTooLarge { capacity: MOST_SERVERS });
            }
            let names = Names::new(&self.state.keys, targets);
            names.map_err(|target| DivertError::DuplicateServer { target })?.is_some()
        };
        #[cfg(not(target_pointer_width = "64"))]
        let are_named_once = false;
        // A group that goes by its servers' connections cannot have one whose packets would open none.
        let options = &divert.options;
        let must_open = options.keep_source && (options.least_loaded || options.ejecting) && targets.len() > 1;
        for (i, &Weighted { target, .. }) in targets.iter().enumerate() {
            if !are_named_once && targets.iter().skip(i + 1).any(|other| other.target == target) {
                return Err(DivertError::DuplicateServer { target });
            }
            let Some(place) = place_of(target) else {
                if must_open {
                    return Err(DivertError::ToItself { target });
                }
                if destination.length() == 32 && self.state.is_own(destination.bits()) {
                    return Err(DivertError::OwnTarget { target });
                }
                continue;
            };
            if place.port == Some(0) {
                return Err(DivertError::TargetPortZero { target });
            }
            if ipv4::is_martian(place.address) {
                return Err(DivertError::MartianTarget { target });
            }
            if self.state.is_own(place.address) {
                return Err(DivertError::OwnTarget { target });
            }
            let may_be_itself = must_open || (targets.len() == 1 && destination.length() == 32);
            let same_port =
                place.port.is_none() || place.port == matches.port() || (must_open && matches.port().is_none());
            if may_be_itself && same_port && destination.holds(place.address) {
                return Err(DivertError::ToItself { target });
            }
        }
        Ok(())
    }

    /// A rule as the table holds it, with these servers.
    pub(crate) fn slot_for(&self, divert: &Divert<'_>, servers: u16) -> DivertSlot {
        let destination = divert.matches.destination();
        let is_forward = destination.length() == 32 && self.state.is_own(destination.bits());
        let passes = self.state.config.midstream.or(divert.options.midstream) == Some(Midstream::Pass);
        DivertSlot::new(divert, servers, is_forward && !passes)
    }
}

/// The seed of a server that has this one: its own instead if a re-divert has left it that of another server which the
/// group names too.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn share(seed_now: u32, own: u32, keys: &Keys, targets: &[Weighted]) -> u32 {
    let is_another = seed_now != own && targets.iter().any(|t| seed(keys, t.target) == seed_now);
    if is_another { own } else { seed_now }
}

/// Takes the entry for `target` out of a chain.
fn unlink(servers: &mut Servers<'_>, chain: &mut u16, target: Target) -> Option<u16> {
    let (mut before, mut entry) = (server::NONE, *chain);
    loop {
        let slot = *servers.get(entry)?;
        if slot.target() == target {
            match servers.get_mut(before) {
                Some(before) => before.next = slot.next,
                None => *chain = slot.next,
            }
            return Some(entry);
        }
        (before, entry) = (entry, slot.next);
    }
}
