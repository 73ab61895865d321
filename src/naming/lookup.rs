//! What a query needs from the table.

use core::net::Ipv4Addr;

use super::cookie;
use super::entry::MAX_CLIENT_PREFIXES;
use super::index::{self, of_pattern};
use super::question::Asked;
use super::storage::{NameSlot, NameStorage, NameView};
use super::table::{Names, State, depth};
use crate::table::hash::{Label, reduce};
use crate::translator::negative_log2;

/// Where a name was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The entry's number, counted from one.
    pub(super) number: u32,
    /// Where the pattern's name starts in that of the question.
    pub(super) start: usize,
}

impl<N: NameStorage> Names<N> {
    /// The entry that applies to this name and this client.
    #[inline]
    pub(super) fn look_up(&self, asked: &Asked, client: Ipv4Addr) -> Option<Found> {
        let NameView { slots, index } = self.storage.view();
        let State { keys, depths, .. } = &self.state;
        // The suffix that was found last is the longest.
        let mut found = None;
        index::walk(keys, asked, |hash, labels, start| {
            let is_whole = labels == asked.labels();
            // The whole name comes last, and is more specific than any suffix; a name is not below itself.
            if is_whole || depths & depth(labels) != 0 {
                let hash = of_pattern(hash, !is_whole);
                let first = index::find(index, slots, hash, asked.from(start), !is_whole);
                if let Some(number) = for_client(slots, first, client) {
                    found = Some(Found { number, start });
                }
            }
        });
        found
    }

    /// Whether this client's network may get another answer.
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

    /// The address that an entry gives this client: the one with the lowest `-log(hash) / weight`, as with servers of a
    /// rule. So a client keeps its address while the entry has it.
    pub(super) fn address_for(&self, slot: &NameSlot, client: Ipv4Addr) -> Option<u32> {
        let (mut best, mut least, mut of) = (None, 1, 0);
        for (address, weight) in slot.pairs().filter(|(_, weight)| *weight != 0) {
            let words = [u64::from(client.to_bits()) << 32 | u64::from(address), 0];
            let cost = match slot.pairs().nth(1) {
                None => 0,
                Some(_) => negative_log2(self.state.keys.choose(Label::Name, words) as u32),
            };
            let times = |cost: u32, weight: u16| u64::from(cost) * u64::from(weight);
            if times(cost, of) < times(least, weight) {
                (best, least, of) = (Some(address), cost, weight);
            }
        }
        best
    }

    pub(super) fn cookie_for(&self, client: Ipv4Addr, cookie: [u8; 8]) -> [u8; cookie::COOKIE] {
        cookie::create(self.state.cookie_key, client, cookie, cookie::seconds(self.state.now))
    }
}

/// The first entry of a list whose prefix has this client; the list has the longest first.
#[inline]
fn for_client(slots: &[NameSlot], first: u32, client: Ipv4Addr) -> Option<u32> {
    let mut number = first;
    for _ in 0..MAX_CLIENT_PREFIXES {
        let slot = index::slot(slots, number)?;
        if slot.clients().contains(client) {
            return Some(number);
        }
        number = slot.next;
    }
    None
}
