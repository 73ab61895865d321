//! Instructions about rules: insert, update, remove, look up.

use crate::config::Midstream;
use crate::table::hash::{Keys, Label};
use crate::table::rule::{Divert, DivertEntry, DivertError, DivertSlot, Match, Target, Weighted, servers_of};
use crate::table::server::{self, Servers};
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::connection::expire::LOOKS;
use crate::translator::redivert::instruction::place_of;
use crate::translator::state::Table;
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
    /// How many connections stand on servers that the rule named before and does not name now. They stay there; see
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
    /// How many connections stand on the servers that the rule named, through it. They stay there until they end.
    pub left_behind: u32,
}

/// What a rule would take, and give back.
pub(super) struct Cost {
    /// Where it stands, or would stand.
    place: Result<usize, usize>,
    /// The first of the servers that it has now.
    old: u16,
    /// How many entries for servers it needs,
    pub(super) needed: usize,
    /// how many it gives back first,
    pub(super) freed: usize,
    /// and how many connections it leaves behind.
    pub(super) left_behind: u32,
}

impl Cost {
    pub(super) const fn updates(&self) -> bool {
        self.place.is_ok()
    }
}

impl<S: Storage> Translator<S> {
    /// Enters a rule: the document's instruction from the network monitor. If there is one with the same match it is
    /// updated in place; there is never a second. It decides about connections that begin from now on; those that
    /// stand on another server stay there until [`redivert`](Self::redivert) moves them.
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
        self.table().divert(&divert)
    }

    /// Removes the rule with exactly this match; `None` if there is none. Connections that it has opened go on until
    /// they end: their client would lose them otherwise.
    pub fn remove(&mut self, matches: impl Into<Match>) -> Option<Removed> {
        self.table().remove(&matches.into())
    }

    /// The rules, the most specific first.
    pub fn diverts(&self) -> impl Iterator<Item = DivertEntry<'_>> {
        let view = self.storage.view();
        let rules = view.diverts.get(..self.state.diverts).unwrap_or_default();
        rules.iter().map(move |slot| DivertEntry::new(*slot, view.servers))
    }

    /// The rule with exactly this match.
    pub fn find_divert(&self, matches: impl Into<Match>) -> Option<DivertEntry<'_>> {
        let matches = matches.into();
        self.diverts().find(|entry| entry.matches() == matches)
    }

    /// Changes with each instruction that changes rules or servers, by one. Who remembers it can tell whether the
    /// table is still as it was; it wraps after 2^32 instructions.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.state.generation
    }
}

impl Table<'_> {
    pub(crate) fn divert(&mut self, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        let Cost { place, old, needed, freed, left_behind } = self.weigh(divert)?;
        if place.is_err() && self.state.diverts >= self.memory.diverts.len() {
            return Err(DivertError::TableFull { capacity: self.memory.diverts.len() });
        }
        let targets = divert.targets();
        let mut servers = Servers(self.memory.servers);
        let named = |target| targets.iter().any(|t| t.target == target);
        if needed > servers.free() + freed {
            return Err(DivertError::ServersFull { capacity: servers.0.len() });
        }

        // From here on nothing can fail. First what goes, then what comes, in the order that was asked for.
        let mut kept = server::NONE;
        let mut entry = old;
        while let Some(slot) = servers.get_mut(entry) {
            let next = slot.next;
            if named(slot.target()) {
                slot.next = kept;
                kept = entry;
            } else {
                servers.detach(entry);
            }
            entry = next;
        }
        let mut first = server::NONE;
        for &Weighted { target, weight } in targets.iter().rev() {
            let seed = seed(&self.state.keys, target);
            let entry = unlink(&mut servers, &mut kept, target).or_else(|| servers.take(target, weight, seed));
            if let Some((entry, slot)) = entry.and_then(|e| Some((e, servers.get_mut(e)?))) {
                slot.weight = weight;
                slot.next = first;
                first = entry;
            }
        }
        // A re-divert may have left the rule with one server twice.
        while let Some(slot) = servers.get(kept) {
            let next = slot.next;
            servers.detach(kept);
            kept = next;
        }
        let slot = self.slot_for(divert, first);
        match place {
            Ok(place) => {
                if let Some(old) = self.memory.diverts.get_mut(place) {
                    *old = slot;
                }
            }
            Err(place) => {
                let mut diverts = self.diverts();
                diverts.insert(place, slot);
                self.state.diverts = diverts.length;
            }
        }
        self.refilter(None);
        self.start_adopting();
        self.state.generation = self.state.generation.wrapping_add(1);
        Ok(Diverted { generation: self.state.generation, updated: place.is_ok(), left_behind })
    }

    /// What a rule would take, wherever the room for it would come from.
    pub(super) fn weigh(&mut self, divert: &Divert<'_>) -> Result<Cost, DivertError> {
        self.check_divert(divert)?;
        let place = self.diverts().place(&divert.matches);
        let old = place.ok().and_then(|p| self.memory.diverts.get(p)).map_or(server::NONE, |slot| slot.servers);
        let targets = divert.targets();
        let servers = Servers(self.memory.servers);
        let known =
            |target: Target| servers_of(&servers, old).find(|e| servers.get(*e).is_some_and(|s| s.target() == target));
        let needed = targets.iter().filter(|t| known(t.target).is_none()).count();
        let named = |target| targets.iter().any(|t| t.target == target);
        let leaving = servers_of(&servers, old).filter_map(|e| servers.get(e)).filter(|s| !named(s.target()));
        let (freed, left_behind) =
            leaving.fold((0, 0), |(freed, left), s| (freed + usize::from(s.connections == 0), left + s.connections));
        Ok(Cost { place, old, needed, freed, left_behind })
    }

    /// Looks again for connections that no server's entry counts, since a rule leads elsewhere now.
    pub(in crate::translator) fn start_adopting(&mut self) {
        if self.state.adopt.is_some() {
            (self.state.adopting, self.state.strays) = (0, false);
            self.adopt(LOOKS);
        }
    }

    /// How many entries for servers would be free without this rule, and how many connections it would leave behind.
    pub(super) fn weigh_removal(&mut self, matches: &Match) -> Option<(usize, u32)> {
        let place = self.diverts().place(matches).ok()?;
        let old = self.memory.diverts.get(place)?.servers;
        let servers = Servers(self.memory.servers);
        let leaving = servers_of(&servers, old).filter_map(|e| servers.get(e));
        Some(leaving.fold((0, 0), |(freed, left), s| (freed + usize::from(s.connections == 0), left + s.connections)))
    }

    pub(crate) fn remove(&mut self, matches: &Match) -> Option<Removed> {
        let place = self.diverts().place(matches).ok()?;
        let removed = *self.memory.diverts.get(place)?;
        let mut entry = removed.servers;
        let mut servers = Servers(self.memory.servers);
        let mut left_behind = 0;
        while let Some(slot) = servers.get(entry).copied() {
            left_behind += slot.connections;
            servers.detach(entry);
            entry = slot.next;
        }
        let mut diverts = self.diverts();
        diverts.remove(place);
        self.state.diverts = diverts.length;
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
        if !divert.keep_source && self.state.config.alternatives.iter().next().is_none() {
            return Err(DivertError::NoAlternative { destination });
        }
        for (i, &Weighted { target, .. }) in targets.iter().enumerate() {
            if targets.iter().skip(i + 1).any(|other| other.target == target) {
                return Err(DivertError::DuplicateServer { target });
            }
            let Some(place) = place_of(target) else {
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
            let same_port = place.port.is_none() || place.port == matches.port();
            let itself = destination.length() == 32 && destination.bits() == place.address;
            if itself && same_port && targets.len() == 1 {
                return Err(DivertError::ToItself { target });
            }
        }
        Ok(())
    }

    /// A rule as the table holds it, with these servers.
    pub(crate) fn slot_for(&self, divert: &Divert<'_>, servers: u16) -> DivertSlot {
        let destination = divert.matches.destination();
        let is_forward = destination.length() == 32 && self.state.is_own(destination.bits());
        let passes = self.state.config.midstream.or(divert.midstream) == Some(Midstream::Pass);
        DivertSlot::new(divert, servers, is_forward && !passes)
    }
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

/// What a server's share of the clients hangs on.
fn seed(keys: &Keys, target: Target) -> u32 {
    let words = match place_of(target) {
        None => [0, 0],
        Some(place) => [u64::from(place.address), place.port.map_or(1 << 16, u64::from)],
    };
    keys.choose(Label::Server, words) as u32
}
