//! What a query needs from the table.

use core::net::Ipv4Addr;

use super::entry::MAX_CLIENT_PREFIXES;
use super::index::{self, Candidates, of_pattern};
use super::question::{Asked, HEADER};
use super::storage::{NameSlot, NameStorage, NameView};
use super::table::{Names, State};
use crate::table::hash::{Label, reduce};
use crate::table::rendezvous::Rendezvous;

impl<N: NameStorage> Names<N> {
    /// The hash of the name that a message asks for.
    #[inline]
    pub(super) fn hash_of(&self, message: &[u8], asked: Asked) -> u64 {
        index::hash(&self.state.keys, message, HEADER, HEADER + asked.length)
    }

    /// The entries that may be for the name with this hash. Begins to prefetch them.
    #[inline]
    pub(super) fn candidates(&self, hash: u64) -> Candidates {
        let NameView { index, .. } = self.storage.view();
        let candidates = Candidates::of(index, hash);
        #[cfg(target_pointer_width = "64")]
        for number in candidates.numbers(index) {
            crate::intrinsics::prefetch(self.storage.view().slots, (number as usize).wrapping_sub(1));
        }
        candidates
    }

    /// Whether there may be an entry for a name with these candidates.
    #[inline]
    pub(super) fn may_have(&self, candidates: Candidates) -> bool {
        !candidates.is_empty() || self.state.suffixes != 0
    }

    /// The entry that applies to this name and this client: one of `candidates`, which are more specific than any
    /// suffix, or the longest suffix. Also returns where the entry's own name starts in `name`.
    #[inline]
    pub(super) fn look_up(
        &self,
        name: &[u8],
        asked: Asked,
        candidates: Candidates,
        client: Ipv4Addr,
    ) -> Option<(&NameSlot, usize)> {
        let NameView { slots, index } = self.storage.view();
        let name = name.get(..asked.length)?;
        let first = index::find(index, slots, candidates, name, false);
        match for_client(slots, first, client) {
            Some(slot) => Some((slot, 0)),
            None => self.look_up_suffix(name, asked.labels, client),
        }
    }

    /// The entry of the longest suffix that applies to a name with `labels` labels and to this client, and where the
    /// suffix starts.
    fn look_up_suffix(&self, name: &[u8], labels: usize, client: Ipv4Addr) -> Option<(&NameSlot, usize)> {
        let NameView { slots, index } = self.storage.view();
        let State { keys, depths, suffixes, .. } = &self.state;
        if *suffixes == 0 {
            return None;
        }
        let mut below = name;
        for labels in (0..labels).rev() {
            below = below.get(1 + usize::from(*below.first()?)..)?;
            if depths.has(labels) {
                let hash = of_pattern(index::hash(keys, name, name.len() - below.len(), name.len()), true);
                let first = index::find(index, slots, Candidates::of(index, hash), below, true);
                if let Some(slot) = for_client(slots, first, client) {
                    return Some((slot, name.len() - below.len()));
                }
            }
        }
        None
    }

    /// Whether this client's network may get another answer.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn may_answer(&mut self, client: Ipv4Addr) -> bool {
        const BURST: u64 = 1_000_000;
        let network = client.to_bits() >> 8;
        let hash = self.state.keys.hash_client(network);
        let rates = self.storage.parts().rates;
        let place = reduce((hash >> 32) as u32, rates.len() as u32);
        let Some(rate) = rates.get_mut(place as usize).filter(|_| self.state.interval != 0) else {
            return true;
        };
        let now = self.state.now.as_micros();
        let paid = rate.paid.max(now);
        if paid > now.saturating_add(BURST - self.state.interval) {
            return false;
        }
        rate.paid = paid.saturating_add(self.state.interval);
        true
    }

    /// The address that an entry gives this client. It stays the same as long as the entry has it.
    pub(super) fn address_for(&self, slot: &NameSlot, client: Ipv4Addr) -> Option<u32> {
        if let Some(address) = slot.only_address() {
            return Some(address);
        }
        let mut rendezvous = Rendezvous::new();
        for (address, weight) in slot.pairs() {
            let words = [u64::from(client.to_bits()) << 32 | u64::from(address), 0];
            rendezvous.look(address, self.state.keys.choose(Label::Name, words), weight.into());
        }
        rendezvous.best()
    }
}

/// The first entry of a list whose prefix contains this client; longer prefixes come first.
#[cfg_attr(target_pointer_width = "64", inline)]
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn for_client(slots: &[NameSlot], first: u32, client: Ipv4Addr) -> Option<&NameSlot> {
    let mut number = first;
    for _ in 0..MAX_CLIENT_PREFIXES {
        let slot = index::slot(slots, number)?;
        if slot.clients().contains(client) {
            return Some(slot);
        }
        number = slot.next;
    }
    None
}
