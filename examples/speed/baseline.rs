//! What byway's index is held against: the loops of L4w and L5w with `hashbrown::HashTable` as the index.
//!
//! The rest is the least again, as in the limits. A slot holds the flow's key, since a hash table compares it.

use core::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashTable;

use crate::labels::{Call, Direction, Label, Measure};
use crate::limits::server_side;
use crate::packet::Content;
use crate::prefetch::prefetch;
use crate::timed::{Chunk, Row, Steady, SteadyRow, compare};
use crate::touch::{Fields, protocol_number, protocol_of, rewrite};
use crate::workload::Flows;

const BURST: usize = 32;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Entry {
    key: Fields,
    protocol: u8,
    new: Fields,
    last_seen: u32,
    packets: u64,
    bytes: u64,
}

impl Entry {
    #[inline(always)]
    fn touch(&mut self, now: u32, length: u16) {
        self.last_seen = now;
        self.packets += 1;
        self.bytes += u64::from(length);
    }
}

struct Tables {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    now: u32,
}

impl Tables {
    fn new(flows: &Flows) -> Self {
        let mut index = HashTable::with_capacity(flows.count() as usize);
        let mut entries: Vec<Entry> = Vec::with_capacity(flows.count() as usize);
        let protocol = protocol_number(flows.protocol);
        for flow in 0..flows.count() {
            let key = Fields::of_pair(flows.client_side(flow));
            let new = Fields::of_pair(server_side(flows, flow));
            entries.push(Entry { key, protocol, new, last_seen: 0, packets: 0, bytes: 0 });
            index.insert_unique(key.hash(protocol), flow, |&other| entries[other as usize].key.hash(protocol));
        }
        Self { index, entries, now: 0 }
    }

    /// Number of the packet's entry; the count of entries if there is none.
    #[inline(always)]
    fn find(&self, key: Fields, protocol: u8) -> usize {
        let is_it = |&number: &u32| {
            let entry = &self.entries[number as usize];
            entry.key == key && entry.protocol == protocol
        };
        self.index.find(key.hash(protocol), is_it).map_or(self.entries.len(), |&number| number as usize)
    }

    #[inline(never)]
    fn unbatched(&mut self, chunk: &mut Chunk) {
        for slot in &mut chunk.slots {
            let old = Fields::of_packet(slot);
            let number = self.find(old, protocol_of(slot));
            if let Some(entry) = self.entries.get_mut(number) {
                rewrite(slot, old, entry.new);
                entry.touch(self.now, slot.length());
            }
        }
    }

    /// `HashTable` says nothing of where it will look, so only the entries could be prefetched, and the search has
    /// fetched them: what is left is that 32 searches do not wait for 32 rewrites.
    #[inline(never)]
    fn batched(&mut self, chunk: &mut Chunk) {
        let mut numbers = [0; BURST];
        for burst in chunk.slots.chunks_mut(BURST) {
            for (slot, number) in burst.iter().zip(&mut numbers) {
                *number = self.find(Fields::of_packet(slot), protocol_of(slot));
                if let Some(entry) = self.entries.get(*number) {
                    prefetch(entry);
                }
            }
            for (slot, &number) in burst.iter_mut().zip(&numbers) {
                if let Some(entry) = self.entries.get_mut(number) {
                    rewrite(slot, Fields::of_packet(slot), entry.new);
                    entry.touch(self.now, slot.length());
                }
            }
        }
    }
}

/// Both rows.
pub(crate) fn rows(flows: &Rc<Flows>) -> Vec<Box<dyn Row>> {
    let tables = Rc::new(RefCell::new(Tables::new(flows)));
    [Call::Single, Call::Burst]
        .into_iter()
        .map(|call| {
            let work = Work { call, tables: Rc::clone(&tables), flows: Rc::clone(flows) };
            Box::new(SteadyRow::new(work, 8 + call as u64)) as Box<dyn Row>
        })
        .collect()
}

struct Work {
    call: Call,
    tables: Rc<RefCell<Tables>>,
    flows: Rc<Flows>,
}

impl Steady for Work {
    fn label(&self) -> Label {
        Label {
            measure: Measure::Hashbrown,
            call: Some(self.call),
            direction: Some(Direction::ToServer),
            protocol: self.flows.protocol,
            limit: None,
        }
    }

    fn flows(&self) -> u32 {
        self.flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            let content = Content::middle(flow, self.flows.protocol, Direction::ToServer);
            slot.write(content, self.flows.client_side(flow));
        }
        self.tables.borrow_mut().now += 1;
    }

    fn run(&mut self, chunk: &mut Chunk) {
        let mut tables = self.tables.borrow_mut();
        match self.call {
            Call::Burst => tables.batched(chunk),
            _ => tables.unbatched(chunk),
        }
    }

    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        compare(chunk, self.label(), |flow, slot| {
            let content = Content::middle(flow, self.flows.protocol, Direction::ToServer);
            slot.write(content, server_side(&self.flows, flow));
        })
    }
}
