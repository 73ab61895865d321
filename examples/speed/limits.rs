//! The limits of the machine, the yardsticks of the report: L1, L3w, L4w and L5w over the packets of every other row.
//!
//! They are honest in what they read and write, and spare all that they can beside: an entry lies at a fixed place that
//! the hash of its flow names (the flows were chosen so that no two share one), and nothing is compared.

use core::cell::RefCell;
use core::net::SocketAddrV4;
use std::rc::Rc;

use crate::labels::{Call, Direction, Label, Limit, Measure, Protocol};
use crate::packet::{Content, Pair};
use crate::tables::{Shape, Tables};
use crate::timed::{Chunk, Row, Steady, SteadyRow, compare};
use crate::touch::{Fields, protocol_number};
use crate::workload::{ALTERNATIVE, Flows, server};

/// The flows of the benchmark: no two of them share a line or a cell of the limits.
pub(crate) fn flows(connections: u32, protocol: Protocol) -> Result<Flows, String> {
    let shape = Shape::new(connections);
    let mut lines = vec![false; shape.lines as usize];
    let mut cells = vec![[false; 8]; shape.buckets as usize];
    Flows::new(connections, protocol, |protocol, pair| {
        let hash = Fields::of_pair(pair).hash(protocol_number(protocol));
        let (bucket, cell) = shape.cell(hash);
        let free = !lines[shape.line(hash)] && !cells[bucket][cell];
        if free {
            lines[shape.line(hash)] = true;
            cells[bucket][cell] = true;
        }
        free
    })
}

/// The four rows.
pub(crate) fn rows(flows: &Rc<Flows>) -> Vec<Box<dyn Row>> {
    let one_line = Rc::new(RefCell::new(Tables::one_line(flows)));
    let two_lines = Rc::new(RefCell::new(Tables::two_lines(flows)));
    let none = Rc::new(RefCell::new(Tables::none(flows)));
    [(Limit::L1, none), (Limit::L3w, one_line), (Limit::L4w, Rc::clone(&two_lines)), (Limit::L5w, two_lines)]
        .into_iter()
        .map(|(limit, tables)| {
            let work = Work { limit, tables, flows: Rc::clone(flows) };
            Box::new(SteadyRow::new(work, limit as u64)) as Box<dyn Row>
        })
        .collect()
}

/// One limit as a row.
struct Work {
    limit: Limit,
    tables: Rc<RefCell<Tables>>,
    flows: Rc<Flows>,
}

impl Steady for Work {
    fn label(&self) -> Label {
        Label {
            measure: Measure::Limit,
            call: Some(match self.limit {
                Limit::L1 | Limit::L4w => Call::Single,
                Limit::L3w | Limit::L5w => Call::Burst,
            }),
            direction: Some(Direction::ToServer),
            protocol: self.flows.protocol,
            limit: Some(self.limit),
        }
    }

    fn flows(&self) -> u32 {
        self.flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            slot.write(self.content(flow), self.flows.client_side(flow));
        }
        let mut tables = self.tables.borrow_mut();
        tables.now += 1;
        tables.packets += chunk.slots.len() as u64;
    }

    fn run(&mut self, chunk: &mut Chunk) {
        let mut tables = self.tables.borrow_mut();
        match self.limit {
            Limit::L1 => tables.touch_only(chunk),
            Limit::L3w => tables.one_line_prefetched(chunk),
            Limit::L4w => tables.two_lines_unbatched(chunk),
            Limit::L5w => tables.two_lines_prefetched(chunk),
        }
    }

    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        compare(chunk, self.label(), |flow, slot| {
            let pair = match self.limit {
                Limit::L1 => any_server_side(),
                Limit::L3w | Limit::L4w | Limit::L5w => server_side(&self.flows, flow),
            };
            slot.write(self.content(flow), pair);
        })
    }

    /// The lines were dirtied: every packet is counted in one.
    fn finish(&self) -> Result<(), String> {
        let tables = self.tables.borrow();
        let mut packets = 0;
        let mut bytes = 0;
        let mut last_seen = 0;
        for entry in &tables.entries {
            packets += entry.packets;
            bytes += entry.bytes;
            last_seen = last_seen.max(entry.last_seen);
        }
        let length = match self.flows.protocol {
            Protocol::Udp => 28,
            Protocol::Tcp => 40,
        };
        let right = packets == tables.packets && bytes == packets * length && last_seen == tables.now;
        if self.limit == Limit::L1 || right {
            return Ok(());
        }
        Err(format!(
            "{:?}: {packets} packets, {bytes} bytes, last seen {last_seen}; expected {} packets, last seen {}",
            self.limit, tables.packets, tables.now
        ))
    }
}

impl Work {
    fn content(&self, flow: u32) -> Content {
        Content::middle(flow, self.flows.protocol, Direction::ToServer)
    }
}

/// What each flow becomes. An alternative port serves several servers, here as in byway.
pub(crate) fn server_side(flows: &Flows, flow: u32) -> Pair {
    Pair { source: SocketAddrV4::new(ALTERNATIVE, 1024 + (flow % 64_512) as u16), destination: flows.server(flow) }
}

/// What every flow becomes where there is no state.
pub(crate) fn any_server_side() -> Pair {
    Pair { source: SocketAddrV4::new(ALTERNATIVE, 1024), destination: server(0) }
}
