//! The index of rules in a large storage: finds a rule by its match, however many rules there are.
//!
//! Rules are divided into classes by the length of the destination's prefix, with a port or without; and within these
//! by the protocol and the length of the clients' prefix. A packet is looked up once in each class that has rules, the
//! most specific first, by a keyed hash of its addresses masked to the lengths of the class (tuple space search). A
//! filter of the destinations is consulted first, so that a class that has no rule for a destination costs one word.
//!
//! Neither a class nor a destination can be removed, since other rules may share it. So both are rebuilt when many
//! rules were removed, a few rules at a time; until then some look-ups are unnecessary.

use crate::connection::Direction;
use crate::endpoint::{Endpoint, mask};
use crate::intrinsics::prefetch;
use crate::table::hash::{Key, Keys};
use crate::table::index::Layout;
use crate::table::rule::{ANY_PORT, DivertSlot, rank};
#[cfg(feature = "control")]
use crate::table::server::Place;
use crate::wire::ipv4::{ICMP, TCP, UDP};

/// The index has one direction only.
const WAY: Direction = Direction::ToServer;

/// How many lengths a destination prefix can have.
const LENGTHS: usize = 33;

/// Which classes have rules, as pairs of words at the end of the index: a bit for each length of destinations; then for
/// each of these lengths the rules with any port, and those with a port: a bit for each length of clients, and above
/// them one for each protocol. After these, the same again for the set that is being rebuilt.
type Classes = [[u32; 2]];

/// 64-bit numbers in one set of classes.
const CLASSES: usize = 1 + 2 * LENGTHS + 1;

/// Words of both sets.
pub(crate) const CLASS_WORDS: usize = 2 * 2 * CLASSES;

#[inline(always)]
fn class(classes: &Classes, place: usize) -> u64 {
    classes.get(place).map_or(0, |[low, high]| u64::from(*high) << 32 | u64::from(*low))
}

const fn place_of_class(length: u8, has_port: bool) -> usize {
    1 + 2 * length as usize + has_port as usize
}

fn add_to(classes: &mut Classes, place: usize, bits: u64) {
    if let Some([low, high]) = classes.get_mut(place) {
        *low |= bits as u32;
        *high |= (bits >> 32) as u32;
    }
}

fn add_class(classes: &mut Classes, rule: &DivertSlot) {
    let length = rule.length();
    add_to(classes, 0, 1 << length);
    let bits = 1 << rule.clients_length() | protocol_bit(rule.protocol_or_zero());
    add_to(classes, place_of_class(length, rule.has_port()), bits);
}

/// The bit of the rules for any protocol; those for ICMP, TCP and UDP follow.
const ANY_PROTOCOL: u32 = 40;

const fn protocol_bit(protocol: u8) -> u64 {
    match protocol {
        0 => 1 << ANY_PROTOCOL,
        ICMP => 2 << ANY_PROTOCOL,
        TCP => 4 << ANY_PROTOCOL,
        UDP => 8 << ANY_PROTOCOL,
        _ => 0,
    }
}

/// The part of the index that lies in the translator's state.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    layout: Layout,
    /// Whether the filter has the destinations of all rules.
    is_complete: bool,
    /// How many rules stand apart, in front of all others.
    apart: u32,
}

impl Directory {
    pub(crate) fn new(words: &[u32]) -> Self {
        let own = words.len().saturating_sub(CLASS_WORDS);
        let layout = Layout::of_one(words.get(..own).unwrap_or_default());
        Self { layout, is_complete: true, apart: 0 }
    }

    /// Whether there is an index.
    #[inline(always)]
    pub(crate) const fn is_there(&self) -> bool {
        self.layout.has_room()
    }

    /// How many rules stand apart.
    pub(crate) const fn apart(&self) -> usize {
        self.apart as usize
    }

    pub(super) const fn set_apart(&mut self, rules: usize) {
        self.apart = rules as u32;
    }
}

/// The index for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleIndex<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) words: &'a [u32],
    pub(crate) filter: &'a [u16],
    pub(crate) keys: &'a Keys,
}

impl<'a> RuleIndex<'a> {
    #[inline(always)]
    fn classes(self) -> &'a Classes {
        let own = self.words.len().wrapping_sub(CLASS_WORDS);
        self.words.get(own..).unwrap_or_default().as_chunks().0
    }

    /// The most specific of the rules for a new connection.
    pub(crate) fn find(self, rules: &[DivertSlot], protocol: u8, client: u32, to: Endpoint) -> Option<&DivertSlot> {
        self.find_of_lengths(class(self.classes(), 0), rules, protocol, client, to)
    }

    /// The same among the rules for destinations of these [lengths](Self::lengths_for).
    pub(crate) fn find_of_lengths(
        self,
        mut lengths: u64,
        rules: &[DivertSlot],
        protocol: u8,
        client: u32,
        Endpoint { address, port }: Endpoint,
    ) -> Option<&DivertSlot> {
        let classes = self.classes();
        while let Some(length) = pop_longest(&mut lengths) {
            let network = address & mask(length);
            let [any_port, with_port] = [false, true].map(|port| class(classes, place_of_class(length, port)));
            if (any_port | with_port).count_ones() > 2 && !self.may_name(length, network) {
                continue;
            }
            // No other protocol has a port that a rule could name.
            if with_port != 0
                && matches!(protocol, TCP | UDP)
                && let Some(rule) =
                    self.find_of(rules, rank(length, network, u64::from(port)), with_port, protocol, client)
            {
                return Some(rule);
            }
            if any_port != 0
                && let Some(rule) = self.find_of(rules, rank(length, network, ANY_PORT), any_port, protocol, client)
            {
                return Some(rule);
            }
        }
        None
    }

    /// The most specific of the rules of this rank; `class` has the protocols and the lengths of clients that occur.
    #[inline(always)]
    fn find_of(self, rules: &[DivertSlot], rank: u64, class: u64, protocol: u8, client: u32) -> Option<&DivertSlot> {
        for protocol in [protocol, 0] {
            if class & protocol_bit(protocol) == 0 {
                continue;
            }
            let mut lengths = class & ((1 << LENGTHS) - 1);
            while let Some(length) = pop_longest(&mut lengths) {
                let found = self.find_exactly(rules, rank, protocol, client & mask(length), length);
                if let Some(place) = found {
                    return rules.get(place as usize);
                }
            }
        }
        None
    }

    #[inline(always)]
    fn find_exactly(self, rules: &[DivertSlot], rank: u64, protocol: u8, clients: u32, length: u8) -> Option<u32> {
        let hash = self.keys.hash(&key(rank, protocol, clients, length));
        let is_it =
            |place: u32| rules.get(place as usize).is_some_and(|r| r.is_exactly(rank, protocol, clients, length));
        self.directory.layout.find(self.words, WAY, hash, is_it)
    }

    /// A rule for all clients and exactly this address and port.
    pub(crate) fn find_port(
        self,
        rules: &[DivertSlot],
        protocol: u8,
        Endpoint { address, port }: Endpoint,
    ) -> Option<u32> {
        let rank = rank(32, address, u64::from(port));
        [protocol, 0].into_iter().find_map(|protocol| self.find_exactly(rules, rank, protocol, 0, 0))
    }

    /// Prefetches the line of the most common kind of rule for this destination: one for exactly this port, and for all
    /// protocols and clients.
    #[inline(always)]
    pub(crate) fn prefetch(self, Endpoint { address, port }: Endpoint) {
        let hash = self.keys.hash(&key(rank(32, address, u64::from(port)), 0, 0, 0));
        prefetch(self.words, self.directory.layout.position(WAY, hash) as usize);
    }

    /// Calls `look` for every rule that can match a packet to `at`, the most specific first. False if look-ups cannot
    /// find all of them, so that some may be missing: there may be a rule for some clients only, or for a port while
    /// `at` has none.
    #[cfg(feature = "control")]
    pub(crate) fn each_that_speaks_of(
        self,
        rules: &[DivertSlot],
        at: Place,
        look: &mut dyn FnMut(&DivertSlot),
    ) -> bool {
        let classes = self.classes();
        let mut lengths = class(classes, 0);
        while let Some(length) = pop_longest(&mut lengths) {
            let network = at.address & mask(length);
            for has_port in [true, false] {
                let class = class(classes, place_of_class(length, has_port));
                if class == 0 || !self.may_name(length, network) {
                    continue;
                }
                let for_all_clients = class & ((1 << LENGTHS) - 1) == 1;
                let port = if has_port { at.port.map(u64::from) } else { Some(ANY_PORT) };
                let (Some(port), true) = (port, for_all_clients) else {
                    return false;
                };
                for protocol in [ICMP, TCP, UDP, 0] {
                    let place = self.find_exactly(rules, rank(length, network, port), protocol, 0, 0);
                    if let Some(rule) = place.and_then(|place| rules.get(place as usize)) {
                        look(rule);
                    }
                }
            }
        }
        true
    }

    /// The place of the rule with the same match as this one.
    pub(crate) fn place(self, rules: &[DivertSlot], rule: &DivertSlot) -> Option<usize> {
        let (protocol, length) = (rule.protocol_or_zero(), rule.clients_length());
        self.find_exactly(rules, rule.rank(), protocol, rule.clients(), length).map(|place| place as usize)
    }

    /// The lengths of destinations that rules have, a bit for each, without the longest ones if the filter knows that
    /// none of their rules matches this address: zero if no rule does.
    #[inline]
    pub(crate) fn lengths_for(self, address: u32) -> u64 {
        let mut lengths = class(self.classes(), 0);
        let mut left = lengths;
        while let Some(length) = pop_longest(&mut lengths) {
            if self.may_name(length, address & mask(length)) {
                return left;
            }
            left = lengths;
        }
        0
    }

    /// Whether some rule may name exactly this network.
    #[inline(always)]
    pub(crate) fn may_name(self, length: u8, network: u32) -> bool {
        let (word, bits) = in_filter(self.keys, length, network, self.filter.len());
        !self.directory.is_complete || self.filter.get(word).is_some_and(|word| word & bits == bits)
    }

    /// Whether some rule for a client prefix may name exactly this address and port.
    pub(crate) fn may_name_for_clients(self, endpoint: Endpoint) -> bool {
        self.may_name(FOR_CLIENTS, of_endpoint(endpoint))
    }

    /// Whether some rule may hide the servers with this address.
    pub(crate) fn may_hide(self, server: u32) -> bool {
        self.may_name(HIDDEN, server)
    }

    /// Whether the filter is up to date with all rules.
    pub(crate) const fn is_complete(self) -> bool {
        self.directory.is_complete
    }
}

/// In the filter, in place of a length: for an endpoint that rules for client prefixes name, and for a server that a
/// rule hides.
const FOR_CLIENTS: u8 = 33;
const HIDDEN: u8 = 34;

const fn of_endpoint(Endpoint { address, port }: Endpoint) -> u32 {
    address ^ (port as u32) << 16
}

/// Removes and returns the longest of some lengths.
#[inline(always)]
const fn pop_longest(lengths: &mut u64) -> Option<u8> {
    match lengths.checked_ilog2() {
        Some(length) => {
            *lengths ^= 1 << length;
            Some(length as u8)
        }
        None => None,
    }
}

#[inline(always)]
const fn key(rank: u64, protocol: u8, clients: u32, length: u8) -> Key {
    Key { addresses: rank, ports: (clients as u64) << 32 | (protocol as u64) << 8 | length as u64 }
}

/// Where a network's bits are in the filter: a word, and two bits of it.
#[inline(always)]
const fn in_filter(keys: &Keys, length: u8, network: u32, words: usize) -> (usize, u16) {
    let hash = keys.hash_network(length, network);
    let word = ((hash as u128 * words as u128) >> 64) as usize;
    (word, 1 << (hash & 15) | 1 << (hash >> 4 & 15))
}

/// The index for changes.
#[derive(Debug)]
pub(crate) struct RuleIndexMut<'a> {
    pub(crate) directory: &'a mut Directory,
    pub(crate) words: &'a mut [u32],
    pub(crate) filter: &'a mut [u16],
    pub(crate) keys: &'a Keys,
}

impl RuleIndexMut<'_> {
    /// Whether there is an index.
    pub(crate) const fn is_there(&self) -> bool {
        self.directory.is_there()
    }

    pub(crate) const fn read(&self) -> RuleIndex<'_> {
        RuleIndex { directory: self.directory, words: self.words, filter: self.filter, keys: self.keys }
    }

    /// Enters a rule that stands at this place. False if there is no room, in which case nothing is found that was not
    /// found before.
    #[must_use]
    pub(super) fn insert(&mut self, rule: &DivertSlot, place: usize) -> bool {
        self.note(rule);
        let hash = self.hash(rule);
        self.directory.layout.index(self.words, WAY).insert(hash, place as u32)
    }

    pub(super) fn remove(&mut self, rule: &DivertSlot, place: usize) {
        let hash = self.hash(rule);
        self.directory.layout.index(self.words, WAY).remove(hash, place as u32);
    }

    fn hash(&self, rule: &DivertSlot) -> u64 {
        self.keys.hash(&key(rule.rank(), rule.protocol_or_zero(), rule.clients(), rule.clients_length()))
    }

    /// The classes, and those that are being built.
    fn classes(&mut self) -> (&mut Classes, &mut Classes) {
        let own = self.words.len().saturating_sub(CLASS_WORDS);
        let classes = self.words.get_mut(own..).unwrap_or_default().as_chunks_mut().0;
        classes.split_at_mut_checked(CLASSES).unwrap_or_default()
    }

    /// Enters a rule under another place.
    pub(super) fn relocate(&mut self, rule: &DivertSlot, from: usize, to: usize) {
        self.remove(rule, from);
        // There is room: the entry was just removed.
        let _ = self.insert(rule, to);
    }

    /// Adds what a rule matches to the classes and the filter, also to those that are being built.
    pub(crate) fn note(&mut self, rule: &DivertSlot) {
        let (classes, fresh) = self.classes();
        add_class(classes, rule);
        add_class(fresh, rule);
        self.add_to_filter(rule.length(), rule.network());
        if let (Some(host), Some(port), true) = (rule.host(), rule.port(), rule.clients_length() != 0) {
            self.add_to_filter(FOR_CLIENTS, of_endpoint(Endpoint::new(host, port)));
        }
    }

    /// Adds a server that a rule hides to the filter.
    pub(crate) fn note_hidden(&mut self, server: u32) {
        self.add_to_filter(HIDDEN, server);
    }

    fn add_to_filter(&mut self, length: u8, network: u32) {
        let (word, bits) = in_filter(self.keys, length, network, self.filter.len());
        if let Some(word) = self.filter.get_mut(word) {
            *word |= bits;
        }
    }

    /// Starts to rebuild classes and filter: the filter must be [cleared](Self::clear), and then every rule
    /// [noted](Self::note) again.
    pub(crate) fn start_rebuilding(&mut self) {
        self.classes().1.fill([0; 2]);
        self.directory.is_complete = false;
    }

    /// Clears this many words of the filter, starting at `from`. False if there are none left.
    pub(crate) fn clear(&mut self, from: usize, words: usize) -> bool {
        let end = self.filter.len().min(from.saturating_add(words));
        let cleared = self.filter.get_mut(from..end).unwrap_or_default();
        cleared.fill(0);
        !cleared.is_empty()
    }

    /// Finishes rebuilding: every rule has been noted again.
    pub(crate) fn finish_rebuilding(&mut self) {
        let (classes, fresh) = self.classes();
        for (old, new) in classes.iter_mut().zip(fresh) {
            *old = *new;
        }
        self.directory.is_complete = true;
    }
}
