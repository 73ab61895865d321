//! The table of names: [`Names`], its settings, and the instructions that change it.

use core::fmt;

use super::config::NamesConfig;
use super::counters::NameCounters;
use super::entry::{EntryError, Inserted, MAX_ADDRESSES, MAX_CLIENT_PREFIXES, MAX_TTL, NameEntry, WeightedAddress};
use super::index::{self, Candidates, of_pattern};
use super::list::ListedName;
use super::name::Pattern;
use super::storage::{MAX_NAMES, NAME_INDEX_WORDS, NONE, NameParts, NameSlot, NameStorage, NameView, RateSlot};
use crate::endpoint::Prefix;
use crate::table::hash::{Keys, Label};
use crate::time::Instant;
use crate::wire::ipv4;

/// The state beside the tables.
#[derive(Clone)]
pub(super) struct State {
    pub(super) config: NamesConfig,
    pub(super) keys: Keys,
    pub(super) cookie_key: (u64, u64),
    /// Microseconds that an answer costs its network; zero if there is no limit.
    pub(super) interval: u64,
    pub(super) counters: NameCounters,
    pub(super) generation: u32,
    /// How many entries there are.
    used: usize,
    /// Entries from here on were never used; the others that are unused are in the list `free`.
    pub(super) fresh: usize,
    free: u32,
    /// How many patterns are suffixes, and which numbers of labels these have, or have had since there last was no
    /// suffix.
    pub(super) suffixes: usize,
    pub(super) depths: Depths,
    pub(super) now: Instant,
    /// How many entries are tied to a rule, and the generation of the rules when these entries were last checked
    /// against them.
    pub(super) tied: usize,
    pub(super) checked: Option<u32>,
}

/// The enhanced naming server of the document (Figure 5, 509) with its address table 511: it answers queries for the names
/// in its table, and lets all others pass to the DNS server.
///
/// [`intercept`](Self::intercept) takes the packets that a machine forwards, [`answer`](Self::answer) the messages of a
/// caller that has a socket, and [`answer_stream`](Self::answer_stream) those of a TCP connection. Like the translator
/// it has no clock, socket or allocator, no input makes it panic, and what a query costs does not depend on the number
/// of names. See the [module](super).
// The state lies at small offsets from the start, before the tables: small processors reach it with short instructions.
#[repr(C)]
pub struct Names<N> {
    pub(super) state: State,
    pub(super) storage: N,
}

impl<N> fmt::Debug for Names<N> {
    /// Without the secrets and the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("config", &self.state.config).field("entries", &self.state.used).finish()
    }
}

#[cfg(feature = "defmt")]
impl<N> defmt::Format for Names<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Names {{ config: {}, entries: {} }}", self.state.config, self.state.used);
    }
}

impl<N: NameStorage> Names<N> {
    /// A table without names. Any previous contents of `storage` are cleared.
    ///
    /// Slots of [`BorrowedNames`](super::BorrowedNames) for which there are fewer than [`NAME_INDEX_WORDS`] words of
    /// index, or beyond the first 1 048 575, are not used.
    pub fn new(config: NamesConfig, mut storage: N) -> Self {
        let NameParts { slots, index, rates } = storage.parts();
        slots.fill(NameSlot::EMPTY);
        index.fill(0);
        rates.fill(RateSlot::EMPTY);
        let keys = Keys::new(&config.secret);
        let cookie_key = match config.cookie_secret {
            Some(secret) => {
                let [a, b] =
                    [secret.first_chunk(), secret.last_chunk()].map(|half| half.map_or(0, |h| u64::from_le_bytes(*h)));
                (a, b)
            }
            None => (keys.choose(Label::Cookie, [0, 0]), keys.choose(Label::Cookie, [1, 0])),
        };
        let interval = 1_000_000_u32.checked_div(config.rate).map_or(0, |micros| u64::from(micros.max(1)));
        let state = State {
            config,
            keys,
            cookie_key,
            interval,
            counters: NameCounters::ZERO,
            generation: 0,
            used: 0,
            fresh: 0,
            free: NONE,
            suffixes: 0,
            depths: Depths::NONE,
            now: Instant::ZERO,
            tied: 0,
            checked: None,
        };
        Self { state, storage }
    }

    /// Enters a name: the document's instruction to the naming server. An entry with the same pattern and clients is
    /// updated in place.
    ///
    /// # Errors
    /// [`EntryError`] names what is wrong; nothing has changed then.
    ///
    /// ```
    /// # use byway::naming::*;
    /// # use core::net::Ipv4Addr;
    /// let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// let www: Pattern = "www.bt.com".parse()?;
    /// let [a, b] = [1, 2].map(|n| Ipv4Addr::new(203, 0, 113, n));
    /// assert!(!names.insert(NameEntry::new(www).to(a))?.updated);
    /// assert!(names.insert(NameEntry::new(www).to(b))?.updated);
    /// assert_eq!(names.entries().count(), 1);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn insert(&mut self, entry: NameEntry<'_>) -> Result<Inserted, EntryError> {
        let hash = self.hash(&entry.pattern);
        let place = self.place(hash, &entry.pattern, entry.clients);
        if let Some(rule) = self.slot(place.at).and_then(NameSlot::rule) {
            return Err(EntryError::Tied { rule });
        }
        self.enter(hash, place, &entry)
    }

    /// Checks an entry and enters it in this place.
    pub(super) fn enter(&mut self, hash: u64, place: Place, entry: &NameEntry<'_>) -> Result<Inserted, EntryError> {
        check(entry)?;
        let updated = place.at != NONE;
        let number = if updated { place.at } else { self.link(hash, place, entry)? };
        let NameParts { slots, .. } = self.storage.parts();
        if let Some(slot) = slot_mut(slots, number) {
            slot.ttl = entry.ttl;
            slot.set_addresses(entry.addresses());
        }
        self.state.generation = self.state.generation.wrapping_add(1);
        Ok(Inserted { generation: self.state.generation, updated })
    }

    /// Takes an unused slot, and puts it into its list.
    fn link(&mut self, hash: u64, place: Place, entry: &NameEntry<'_>) -> Result<u32, EntryError> {
        let capacity = self.capacity();
        let Self { state, storage } = self;
        let NameParts { slots, index, .. } = storage.parts();
        if place.others >= MAX_CLIENT_PREFIXES {
            return Err(EntryError::TooManyClientPrefixes { clients: entry.clients });
        }
        let (number, free) = match state.free {
            NONE if state.fresh < capacity => (state.fresh as u32 + 1, None),
            NONE => return Err(EntryError::TableFull { capacity }),
            number => (number, index::slot(slots, number).map(|slot| slot.next)),
        };
        match (place.before, place.after) {
            (NONE, NONE) => {
                if !index::insert(index, hash, number) {
                    return Err(EntryError::TableFull { capacity });
                }
                if entry.pattern.is_suffix() {
                    state.suffixes += 1;
                    state.depths.add(entry.pattern.name().labels().count());
                }
            }
            (NONE, first) => index::replace(index, hash, first, number),
            (before, _) => {
                if let Some(slot) = slot_mut(slots, before) {
                    slot.next = number;
                }
            }
        }
        match free {
            Some(next) => state.free = next,
            None => state.fresh += 1,
        }
        state.used += 1;
        if let Some(slot) = slot_mut(slots, number) {
            *slot = NameSlot::EMPTY;
            slot.next = place.after;
            slot.set_pattern(entry.pattern.name().as_wire(), entry.pattern.is_suffix());
            slot.set_clients(entry.clients);
        }
        Ok(number)
    }

    /// Removes the entry with exactly this pattern and these clients. Its names pass to the DNS server from now on, and
    /// clients that have cached its answer keep it for its time to live. Returns whether it was there.
    ///
    /// # Errors
    /// [`EntryError::Tied`] if it is tied to a rule.
    pub fn remove(&mut self, pattern: &Pattern, clients: Prefix) -> Result<bool, EntryError> {
        let hash = self.hash(pattern);
        let place = self.place(hash, pattern, clients);
        match self.slot(place.at).map(NameSlot::rule) {
            Some(Some(rule)) => Err(EntryError::Tied { rule }),
            Some(None) => {
                self.take_out(hash, place);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Removes the entry in this place.
    pub(super) fn take_out(&mut self, hash: u64, place: Place) {
        let Self { state, storage } = self;
        let NameParts { slots, index, .. } = storage.parts();
        match place.before {
            NONE => index::replace(index, hash, place.at, place.after),
            before => {
                if let Some(slot) = slot_mut(slots, before) {
                    slot.next = place.after;
                }
            }
        }
        let Some(slot) = slot_mut(slots, place.at) else { return };
        if slot.is_suffix() && place.before == NONE && place.after == NONE {
            state.suffixes -= 1;
            if state.suffixes == 0 {
                state.depths = Depths::NONE;
            }
        }
        *slot = NameSlot::EMPTY;
        slot.next = state.free;
        state.free = place.at;
        state.used -= 1;
        state.generation = state.generation.wrapping_add(1);
    }

    /// All entries, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = ListedName<'_>> {
        let slots = self.storage.view().slots;
        slots.iter().take(self.state.fresh).filter(|slot| slot.is_used()).map(|slot| ListedName { slot })
    }

    /// The entry with exactly this pattern and these clients.
    #[must_use]
    pub fn find(&self, pattern: &Pattern, clients: Prefix) -> Option<ListedName<'_>> {
        let place = self.place(self.hash(pattern), pattern, clients);
        self.slot(place.at).map(|slot| ListedName { slot })
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.state.used
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.state.used == 0
    }

    /// Increases by one with each instruction that changes an entry; it wraps after 2^32. It is the serial number of
    /// the SOA records that negative answers carry.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.state.generation
    }

    /// What became of all queries.
    #[must_use]
    pub const fn counters(&self) -> &NameCounters {
        &self.state.counters
    }

    /// How many entries there is room for.
    pub(super) fn capacity(&self) -> usize {
        let NameView { slots, index } = self.storage.view();
        slots.len().min(index.len() / NAME_INDEX_WORDS).min(MAX_NAMES)
    }

    pub(super) fn slot(&self, number: u32) -> Option<&NameSlot> {
        index::slot(self.storage.view().slots, number)
    }

    pub(super) fn hash(&self, pattern: &Pattern) -> u64 {
        let name = pattern.name().as_wire();
        of_pattern(index::hash(&self.state.keys, name, 0, name.len()), pattern.is_suffix())
    }

    /// Where the entry with this pattern and these clients is, or belongs.
    pub(super) fn place(&self, hash: u64, pattern: &Pattern, clients: Prefix) -> Place {
        let NameView { slots, index } = self.storage.view();
        let mut next =
            index::find(index, slots, Candidates::of(index, hash), pattern.name().as_wire(), pattern.is_suffix());
        let mut place = Place { before: NONE, at: NONE, after: NONE, others: 0 };
        while let Some(slot) = index::slot(slots, next) {
            let own = slot.clients();
            if own == clients {
                place.at = next;
                place.after = slot.next;
                return place;
            }
            // Longer prefixes come first.
            if own.length() < clients.length() && place.after == NONE {
                place.after = next;
            }
            if place.after == NONE {
                place.before = next;
            }
            place.others += 1;
            next = slot.next;
        }
        place
    }
}

/// Where an entry is in the list of those with its pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    before: u32,
    /// The entry itself, if it is there.
    pub(super) at: u32,
    after: u32,
    others: usize,
}

/// Numbers of labels: a bit for each that a name can have.
#[derive(Clone, Copy)]
pub(super) struct Depths([u32; 4]);

impl Depths {
    const NONE: Self = Self([0; 4]);

    fn add(&mut self, labels: usize) {
        if let Some(word) = self.0.get_mut(labels >> 5) {
            *word |= 1 << (labels & 31);
        }
    }

    #[inline]
    pub(super) fn has(&self, labels: usize) -> bool {
        self.0.get(labels >> 5).is_some_and(|word| word >> (labels & 31) & 1 != 0)
    }
}

pub(super) fn slot_mut(slots: &mut [NameSlot], number: u32) -> Option<&mut NameSlot> {
    slots.get_mut((number as usize).wrapping_sub(1))
}

/// Whether an entry can be entered.
pub(crate) fn check(entry: &NameEntry<'_>) -> Result<(), EntryError> {
    let addresses = entry.addresses();
    if addresses.len() > MAX_ADDRESSES {
        return Err(EntryError::TooManyAddresses { addresses: addresses.len() });
    }
    if addresses.iter().all(|a| a.weight == 0) {
        return Err(EntryError::NoAddress { addresses: addresses.len() });
    }
    for (number, WeightedAddress { address, .. }) in addresses.iter().enumerate() {
        if ipv4::is_martian(address.to_bits()) {
            return Err(EntryError::MartianAddress { address: *address });
        }
        if addresses.iter().skip(number + 1).any(|other| other.address == *address) {
            return Err(EntryError::DuplicateAddress { address: *address });
        }
    }
    if entry.ttl > MAX_TTL {
        return Err(EntryError::TtlTooLong { seconds: entry.ttl });
    }
    Ok(())
}
