//! The state that the limits look up, and the four loops themselves.

use core::hint::black_box;

use crate::limits::{any_server_side, server_side};
use crate::prefetch::prefetch;
use crate::timed::Chunk;
use crate::touch::{Fields, protocol_number, protocol_of, rewrite};
use crate::workload::Flows;

/// Packets between a prefetch and its use.
const BURST: usize = 32;

/// The line of state of a flow, which every packet dirties: last seen, packets, bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    new: Fields,
    pub(crate) last_seen: u32,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Entry {
    #[inline(always)]
    fn touch(&mut self, now: u32, length: u16) {
        self.last_seen = now;
        self.packets += 1;
        self.bytes += u64::from(length);
    }
}

/// One line of an index: eight flows, each a tag (not looked at here) and the number of its entry.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket([(u32, u32); 8]);

/// Where the flows lie in a table of `connections`: one line each for L3w, a cell of the index for L4w and L5w.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) lines: u64,
    pub(crate) buckets: u64,
}

impl Shape {
    pub(crate) fn new(connections: u32) -> Self {
        Self {
            lines: u64::from(connections) * 5 / 4 + 1,
            // 60 % load, as an index that must find room for strangers would have.
            buckets: u64::from(connections) * 5 / 24 + 1,
        }
    }

    #[inline(always)]
    pub(crate) fn line(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines) >> 32) as usize
    }

    #[inline(always)]
    pub(crate) fn cell(&self, hash: u64) -> (usize, usize) {
        let bucket = ((hash & 0xffff_ffff) * self.buckets) >> 32;
        (bucket as usize, (hash & 7) as usize)
    }
}

/// The state of one limit.
pub(crate) struct Tables {
    shape: Shape,
    index: Vec<Bucket>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) now: u32,
    /// What `finish` expects to have been counted in the entries.
    pub(crate) packets: u64,
}

impl Tables {
    pub(crate) fn none(flows: &Flows) -> Self {
        Self { shape: Shape::new(flows.count()), index: Vec::new(), entries: Vec::new(), now: 0, packets: 0 }
    }

    pub(crate) fn one_line(flows: &Flows) -> Self {
        let mut tables = Self::none(flows);
        tables.entries = vec![Entry::default(); tables.shape.lines as usize];
        for flow in 0..flows.count() {
            let line = tables.shape.line(hash_of(flows, flow));
            tables.entries[line].new = Fields::of_pair(server_side(flows, flow));
        }
        tables
    }

    pub(crate) fn two_lines(flows: &Flows) -> Self {
        let mut tables = Self::none(flows);
        tables.entries = vec![Entry::default(); flows.count() as usize];
        tables.index = vec![Bucket::default(); tables.shape.buckets as usize];
        for flow in 0..flows.count() {
            let hash = hash_of(flows, flow);
            let (bucket, cell) = tables.shape.cell(hash);
            tables.index[bucket].0[cell] = ((hash >> 32) as u32, flow);
            tables.entries[flow as usize].new = Fields::of_pair(server_side(flows, flow));
        }
        tables
    }

    #[inline(never)]
    pub(crate) fn touch_only(&mut self, chunk: &mut Chunk) {
        let new = Fields::of_pair(any_server_side());
        for slot in &mut chunk.slots {
            let old = Fields::of_packet(slot);
            // Read anew for each packet, from one hot line: no translator could sum it before the loop.
            rewrite(slot, old, *black_box(&new));
        }
    }

    #[inline(never)]
    pub(crate) fn one_line_prefetched(&mut self, chunk: &mut Chunk) {
        let mut lines = [0; BURST];
        for burst in chunk.slots.chunks_mut(BURST) {
            for (slot, line) in burst.iter().zip(&mut lines) {
                *line = self.shape.line(Fields::of_packet(slot).hash(protocol_of(slot)));
                prefetch(&self.entries[*line]);
            }
            for (slot, &line) in burst.iter_mut().zip(&lines) {
                let entry = &mut self.entries[line];
                rewrite(slot, Fields::of_packet(slot), entry.new);
                entry.touch(self.now, slot.length());
            }
        }
    }

    #[inline(never)]
    pub(crate) fn two_lines_unbatched(&mut self, chunk: &mut Chunk) {
        for slot in &mut chunk.slots {
            let old = Fields::of_packet(slot);
            let (bucket, cell) = self.shape.cell(old.hash(protocol_of(slot)));
            let (_tag, number) = self.index[bucket].0[cell];
            let entry = &mut self.entries[number as usize];
            rewrite(slot, old, entry.new);
            entry.touch(self.now, slot.length());
        }
    }

    #[inline(never)]
    pub(crate) fn two_lines_prefetched(&mut self, chunk: &mut Chunk) {
        let mut cells = [(0, 0); BURST];
        let mut numbers = [0; BURST];
        for burst in chunk.slots.chunks_mut(BURST) {
            for (slot, cell) in burst.iter().zip(&mut cells) {
                *cell = self.shape.cell(Fields::of_packet(slot).hash(protocol_of(slot)));
                prefetch(&self.index[cell.0]);
            }
            for (number, &(bucket, cell)) in numbers.iter_mut().zip(&cells) {
                *number = self.index[bucket].0[cell].1 as usize;
                prefetch(&self.entries[*number]);
            }
            for (slot, &number) in burst.iter_mut().zip(&numbers) {
                let entry = &mut self.entries[number];
                rewrite(slot, Fields::of_packet(slot), entry.new);
                entry.touch(self.now, slot.length());
            }
        }
    }
}

fn hash_of(flows: &Flows, flow: u32) -> u64 {
    Fields::of_pair(flows.client_side(flow)).hash(protocol_number(flows.protocol))
}
