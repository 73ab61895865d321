//! State and memory together, with the basic operations on them.

use crate::connection::Direction;
use crate::event::Closed;
use crate::table::clients::Clients;
use crate::table::connection::{ConnectionSlot, Entry, IndexKey, RESUMABLE};
use crate::table::event_queue::EventKind;
use crate::table::hash::Key;
use crate::table::index::Index;
use crate::table::rule::DivertSlot;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::RuleIndex;
use crate::table::rules::Diverts;
use crate::table::server;
use crate::table::servers::Servers;
use crate::translator::state::{ForResumable, Table};

/// The entries for servers: [`Servers`] over this state and memory, borrowing no other part of them.
macro_rules! servers {
    ($state:expr, $memory:expr) => {
        $crate::table::servers::Servers {
            slots: &mut *$memory.servers,
            unused: &mut $state.unused,
            #[cfg(target_pointer_width = "64")]
            shared: $crate::table::server_index::Shared::new(&mut *$memory.server_index, &$state.keys),
        }
    };
}
pub(in crate::translator) use servers;

/// The index of rules over this state and memory, borrowing no other part of them.
#[cfg(target_pointer_width = "64")]
macro_rules! rule_index {
    ($state:expr, $memory:expr) => {
        $crate::table::rule_index::RuleIndexMut {
            directory: &mut $state.directory,
            words: &mut *$memory.rule_index,
            filter: &mut *$memory.rule_filter,
            keys: &$state.keys,
        }
    };
}
#[cfg(target_pointer_width = "64")]
pub(in crate::translator) use rule_index;

impl<'a> Table<'a> {
    /// Enters a slot into an index under its connection's key. False, with nothing changed, if there is no room.
    #[must_use]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn enter(&mut self, slot: u32, which: IndexKey) -> bool {
        self.located(slot, which).is_some_and(|(mut index, hash)| index.insert(hash, slot))
    }

    /// Removes a slot from an index, if its connection's key is there.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn leave(&mut self, slot: u32, which: IndexKey) {
        if let Some((mut index, hash)) = self.located(slot, which) {
            index.remove(hash, slot);
        }
    }

    /// The index that a slot is entered in under this key of its connection, and the key's hash.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn located(&mut self, slot: u32, which: IndexKey) -> Option<(Index<'_>, u64)> {
        let (direction, key) = self.slot(slot)?.entry(which);
        let hash = self.state.keys.hash(&key);
        Some((self.state.layout.index(self.memory.index, direction), hash))
    }

    /// Puts a slot that is in no age list at the end of the list of its phase.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn enqueue(&mut self, slot: u32) {
        if let Some(class) = self.slot(slot).map(|c| c.phase.class()) {
            self.state.ages.append(self.memory.connections, class, slot, self.state.tick);
        }
    }

    /// Removes a slot from the age list of its phase.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn dequeue(&mut self, slot: u32) {
        if let Some(class) = self.slot(slot).map(|c| c.phase.class()) {
            self.state.ages.remove(self.memory.connections, class, slot);
        }
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn clients(&mut self) -> Clients<'_> {
        Clients::new(self.state.layout.clients(self.memory.index))
    }

    pub(super) fn servers(&mut self) -> Servers<'_> {
        servers!(self.state, self.memory)
    }

    /// Subtracts a connection from the count of an entry for a server.
    #[cfg_attr(target_pointer_width = "64", inline)]
    pub(crate) fn discount(&mut self, entry: u16) {
        if server::discount(self.memory.servers, entry) {
            self.clean_server(entry);
        }
    }

    /// Frees an entry for a server if it is no longer needed.
    #[cfg_attr(target_pointer_width = "64", cold)]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn clean_server(&mut self, entry: u16) {
        self.servers().clean(entry);
    }

    pub(crate) fn diverts(&mut self) -> Diverts<'_> {
        Diverts {
            slots: self.memory.diverts,
            length: self.state.diverts,
            #[cfg(target_pointer_width = "64")]
            index: rule_index!(self.state, self.memory),
        }
    }

    /// The index of rules, if there is one.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) fn rule_index(&self) -> Option<RuleIndex<'_>> {
        let directory = &self.state.directory;
        let (words, filter) = (&*self.memory.rule_index, &*self.memory.rule_filter);
        directory.is_there().then_some(RuleIndex { directory, words, filter, keys: &self.state.keys })
    }

    /// The rules in use, most specific first unless there is an index of them.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn rules(&self) -> &[DivertSlot] {
        self.memory.diverts.get(..self.state.diverts).unwrap_or_default()
    }

    pub(super) fn slot(&self, slot: u32) -> Option<&Entry> {
        self.memory.connections.get(slot as usize).map(|c| &c.0)
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.memory.connections.get_mut(slot as usize).map(|c| &mut c.0)
    }

    /// The slot that is entered under this key, whose hash is known.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(super) fn find_hashed(&self, direction: Direction, key: &Key, hash: u64) -> Option<u32> {
        self.state.find_hashed(self.memory.connections, self.memory.index, direction, key, hash)
    }

    /// The slot of the connection that a packet with this key belongs to if it goes in this direction. In the reply
    /// direction quarantined ones are found too.
    #[inline(never)]
    pub(super) fn find(&self, direction: Direction, key: &Key) -> Option<u32> {
        self.state.find(self.memory.connections, self.memory.index, direction, key)
    }

    pub(super) fn find_forward(&self, key: &Key) -> Option<u32> {
        self.find(Direction::ToServer, key)
    }

    pub(super) fn find_reply(&self, key: &Key) -> Option<u32> {
        self.find(Direction::ToClient, key)
    }

    /// The functions for resumable connections, if the connection in this slot is one.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn for_resumable(&self, slot: u32) -> Option<&'static ForResumable> {
        self.state.for_resumable.filter(|_| self.slot(slot).is_some_and(|c| c.has(RESUMABLE)))
    }

    /// Queues an event about the connection in a slot, if the storage has room for events.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn notify(&mut self, slot: u32, event: EventKind) {
        let Some(ConnectionSlot(connection)) = self.memory.connections.get(slot as usize) else {
            return;
        };
        let told = self.memory.events.is_empty() || self.state.events.push(self.memory.events, connection, event);
        if !told {
            self.state.counters.events_lost = self.state.counters.events_lost.wrapping_add(1);
        }
    }

    /// Counts a connection's end.
    pub(super) fn count_closed(&mut self, why: Closed) {
        let counters = &mut self.state.counters;
        let count = match why {
            Closed::Finished => &mut counters.closed,
            Closed::Reset | Closed::Rediverted => &mut counters.reset,
            Closed::Expired => &mut counters.expired,
            Closed::Evicted => &mut counters.evicted,
            Closed::Stranded => &mut counters.stranded,
            Closed::Forgotten => &mut counters.forgotten,
        };
        *count = count.wrapping_add(1);
    }
}
