//! Groups of many servers: the instruction in one pass over the old and the new servers, and the choice of a server by
//! clusters (see `table/groups.rs`).

use crate::table::groups::{self, CLUSTERS, FEW_SERVERS, Groups, cluster_of, clusters_of};
use crate::table::hash::{Key, Keys, Label};
use crate::table::rendezvous::Rendezvous;
use crate::table::rule::{Target, Weighted, servers_of};
use crate::table::server::{self, Holder, ServerSlot, seed};
use crate::translator::rules::cost::{Cost, Leaving, leaving};
use crate::translator::state::Table;
use crate::translator::table::servers;

/// The number of places in [`Names`].
const PLACES: usize = 8_192;

/// The most servers of a group. At most half of the places are taken, so that probing finds a free one soon; and with
/// more servers, an instruction would examine too many.
pub(super) const MOST_SERVERS: usize = PLACES / 2 - 1;

/// A hash table of the servers of a group, with linear probing.
pub(super) struct Names<'a> {
    keys: &'a Keys,
    targets: &'a [Weighted],
    /// Positions among the targets, plus one.
    places: [u16; PLACES],
}

impl<'a> Names<'a> {
    /// The names of a large group; `None` if it is not large.
    ///
    /// # Errors
    /// A server that is named twice.
    pub(super) fn new(keys: &'a Keys, targets: &'a [Weighted]) -> Result<Option<Self>, Target> {
        if !(FEW_SERVERS + 1..=MOST_SERVERS).contains(&targets.len()) {
            return Ok(None);
        }
        let mut names = Self { keys, targets, places: [0; PLACES] };
        for (position, weighted) in targets.iter().enumerate() {
            let place = names.place(weighted.target);
            match names.places.get_mut(place) {
                Some(free @ 0) => *free = position as u16 + 1,
                _ => return Err(weighted.target),
            }
        }
        Ok(Some(names))
    }

    /// Where a server is, or would be.
    fn place(&self, target: Target) -> usize {
        self.place_of_seed(seed(self.keys, target), |named| named == target)
    }

    /// Where a server with this seed is that meets a condition, or would be.
    fn place_of_seed(&self, seed: u32, is_it: impl Fn(Target) -> bool) -> usize {
        let mut place = seed as usize % PLACES;
        while let Some(found) = self.position_at(place) {
            if self.targets.get(found).is_some_and(|t| is_it(t.target)) {
                break;
            }
            place = (place + 1) % PLACES;
        }
        place
    }

    /// Whether a server of the group has this seed by itself.
    fn have_seed(&self, wanted: u32) -> bool {
        let place = self.place_of_seed(wanted, |named| seed(self.keys, named) == wanted);
        self.position_at(place).is_some()
    }

    fn position_at(&self, place: usize) -> Option<usize> {
        self.places.get(place).and_then(|position| usize::from(*position).checked_sub(1))
    }

    /// The position of a server among the targets.
    pub(super) fn position(&self, target: Target) -> Option<usize> {
        self.position_at(self.place(target))
    }
}

impl Table<'_> {
    /// Like `replace_by_group`, for a large group: the servers are ordered by cluster, and within each as in `targets`.
    pub(super) fn replace_by_large_group(&mut self, old: u16, targets: &[Weighted]) -> u16 {
        let mut servers = servers!(self.state, self.memory);
        let keys = &self.state.keys;
        let names = Names::new(keys, targets).ok().flatten();
        let position = |target| names.as_ref()?.position(target);
        // The entries that stay, by their position among the targets.
        let mut kept = [server::NONE; MOST_SERVERS];
        let mut entry = old;
        while let Some(slot) = servers.get(entry).copied() {
            let place = position(slot.target()).and_then(|position| kept.get_mut(position));
            match place {
                Some(place) if *place == server::NONE && slot.is_of_one_rule() => {
                    servers.set_holder(entry, Holder::Group, seed(keys, slot.target()));
                    *place = entry;
                }
                _ => servers.detach(entry),
            }
            entry = slot.next;
        }
        let mut ends = [[server::NONE; 2]; CLUSTERS];
        for (position, &Weighted { target, weight }) in targets.iter().enumerate() {
            let own = seed(keys, target);
            let known = kept.get(position).copied().filter(|entry| *entry != server::NONE);
            let entry = known.or_else(|| servers.take(target, Holder::Group, own));
            let Some((entry, slot)) = entry.and_then(|e| Some((e, servers.get_mut(e)?))) else {
                continue;
            };
            // A re-divert may have left it the share of a server that the group names as well.
            if slot.seed != own && names.as_ref().is_some_and(|names| names.have_seed(slot.seed)) {
                slot.seed = own;
            }
            slot.set_weight(weight);
            slot.next = server::NONE;
            let Some([first, last]) = ends.get_mut(cluster_of(slot.seed)) else {
                continue;
            };
            let before = core::mem::replace(last, entry);
            match servers.get_mut(before) {
                Some(before) => before.next = entry,
                None => *first = entry,
            }
        }
        let mut all = server::NONE;
        for [first, last] in ends.into_iter().rev() {
            if let Some(last) = servers.get_mut(last) {
                last.next = all;
                all = first;
            }
        }
        Groups(self.memory.group_index).enter(self.memory.servers, all);
        all
    }

    /// What a rule with a large group would need.
    pub(super) fn weigh_large_group(&mut self, place: Result<usize, usize>, old: u16, targets: &[Weighted]) -> Cost {
        let slots = &*self.memory.servers;
        let names = Names::new(&self.state.keys, targets).ok().flatten();
        let position = |target| names.as_ref()?.position(target);
        // Which of the targets have an entry already, a bit for each.
        let mut known = [0_u64; MOST_SERVERS.div_ceil(64)];
        for slot in servers_of(slots, old).filter_map(|entry| slots.get(usize::from(entry))) {
            if slot.is_of_one_rule()
                && let Some(position) = position(slot.target())
                && let Some(word) = known.get_mut(position / 64)
            {
                *word |= 1 << (position % 64);
            }
        }
        let known: usize = known.iter().map(|word| word.count_ones() as usize).sum();
        let Leaving { freed, left_behind, leaves } = leaving(slots, old, |target| position(target).is_some());
        Cost { place, old, needed: targets.len() - known, freed, left_behind, joins: false, leaves }
    }

    /// The server of a large group for a client; `None` if the group is not large.
    #[inline(never)]
    pub(super) fn member_of_large_group(&self, first: u16, client: u32, original: u32) -> Option<u16> {
        let slots = &*self.memory.servers;
        let found;
        let clusters = match groups::find(self.memory.group_index, first) {
            Some(clusters) => clusters,
            None if self.is_large_group(first) => {
                found = clusters_of(slots, first);
                &found
            }
            None => return None,
        };
        let words = [u64::from(client) << 32 | u64::from(original), 1 << 32];
        let keys = &self.state.keys;
        let drawn = keys.choose(Label::Server, words);
        let mut best = Rendezvous::new();
        for (number, [first, weight]) in clusters.iter().enumerate() {
            best.look(*first, keys.hash(&Key { addresses: drawn, ports: number as u64 | 1 << 32 }), *weight);
        }
        let mut entry = best.best()? as u16;
        let cluster = cluster_of(slots.get(usize::from(entry))?.seed);
        let mut best = Rendezvous::new();
        while let Some(slot) = slots.get(usize::from(entry)).filter(|slot| cluster_of(slot.seed) == cluster) {
            let hash = keys.hash(&Key { addresses: drawn, ports: slot.seed.into() });
            best.look(entry.into(), hash, slot.weight().into());
            entry = slot.next;
        }
        best.best().map(|entry| entry as u16)
    }

    /// Whether the chain that begins with this entry is that of a large group.
    fn is_large_group(&self, first: u16) -> bool {
        let slots = &*self.memory.servers;
        let next = |slot: &&ServerSlot| slots.get(usize::from(slot.next));
        core::iter::successors(slots.get(usize::from(first)), next).nth(FEW_SERVERS).is_some()
    }
}
