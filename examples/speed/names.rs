//! The naming server in the loop: queries for names of its table, queries for others, and packets that are no queries.

use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use ::byway::Instant;
use ::byway::naming::{Answered, HeapNames, NameEntry, Names, NamesConfig, Pattern};

use crate::labels::{Call, Direction, Label, Measure, Protocol};
use crate::packet::{Content, Pair, Slot, is_sound};
use crate::timed::{CHUNK, Chunk, Row, Steady, SteadyRow, compare};
use crate::workload::Flows;

/// The most names: a table of more would be all of a small machine's memory.
const MOST: u32 = 100_000;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(9, 9, 9, 53), 53);
/// Room for each answer of a chunk.
const ROOM: usize = 128;

/// A table with so many names, each with an address of its own, and no limit to the rate of answers.
pub(crate) fn rows(flows: &Rc<Flows>) -> Result<Vec<Box<dyn Row>>, String> {
    let count = flows.count();
    if count > MOST {
        return Ok(Vec::new());
    }
    let config = NamesConfig::new([7; 32]).answers_per_second(0);
    let mut names = Names::new(config, HeapNames::new(count as usize, 0));
    for number in 0..count {
        let pattern: Pattern = text(number, Measure::NameAnswered).parse().map_err(|error| format!("{error}"))?;
        names.insert(NameEntry::new(pattern).to(address(number))).map_err(|error| error.to_string())?;
    }
    let names = Rc::new(RefCell::new(names));
    let measures: &[Measure] = match flows.protocol {
        Protocol::Udp => &[Measure::NameAnswered, Measure::NameOther, Measure::NameUnrelated],
        Protocol::Tcp => &[Measure::NameUnrelated],
    };
    let calls = measures.iter().flat_map(|measure| [(*measure, Call::Single), (*measure, Call::Burst)]);
    let row = |(number, (measure, call)): (usize, (Measure, Call))| {
        let naming = Naming {
            names: Rc::clone(&names),
            flows: Rc::clone(flows),
            measure,
            call,
            done: [Answered::Pass; CHUNK],
            out: vec![[0; ROOM]; CHUNK],
        };
        Box::new(SteadyRow::new(naming, 64 + number as u64)) as Box<dyn Row>
    };
    Ok(calls.enumerate().map(row).collect())
}

/// The name with this number, as people write it; another one where it is to be in no table.
fn text(number: u32, measure: Measure) -> String {
    let top = if measure == Measure::NameAnswered { "test" } else { "else" };
    format!("www.n{number:05x}.{top}")
}

/// What the name with this number is answered with.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x6440_0000 | number)
}

struct Naming {
    names: Rc<RefCell<Names<HeapNames>>>,
    flows: Rc<Flows>,
    measure: Measure,
    call: Call,
    done: [Answered; CHUNK],
    out: Vec<[u8; ROOM]>,
}

impl Naming {
    fn write(&self, number: u32, slot: &mut Slot) {
        let pair = self.flows.client_side(number);
        match self.measure {
            Measure::NameUnrelated => {
                // Some flows are to port 53.
                let pair = Pair { destination: SocketAddrV4::new(*pair.destination.ip(), 443), ..pair };
                slot.write(Content::middle(number, self.flows.protocol, Direction::ToServer), pair);
            }
            measure => {
                let mut name = Vec::new();
                for label in text(number, measure).split('.') {
                    name.push(label.len() as u8);
                    name.extend(label.bytes());
                }
                name.push(0);
                // Each has the same length.
                let name = name.try_into().unwrap_or_default();
                slot.write(Content::Query { id: number as u16, name }, Pair { destination: SERVER, ..pair });
            }
        }
    }

    /// Whether the answer is a sound packet to the client, with the question as it was asked and the address.
    fn is_right(&self, number: u32, slot: &Slot, answer: &[u8]) -> bool {
        let asked = slot.as_ref();
        let addresses = [&asked[16..20], &asked[12..16], &asked[22..24], &asked[20..22]].concat();
        is_sound(answer)
            && answer[12..24] == addresses
            && answer[28..30] == asked[28..30]
            && (answer[30] & 0x80, answer[31] & 0x0f) == (0x80, 0)
            && answer[40..asked.len()] == asked[40..]
            && answer.ends_with(&address(number).octets())
    }
}

impl Naming {
    /// In a function of its own, so that it costs single calls nothing.
    #[inline(never)]
    fn run_burst(&mut self, chunk: &Chunk) {
        self.names.borrow_mut().intercept_burst(Instant::ZERO, &chunk.slots, &mut self.out, &mut self.done);
    }
}

impl Steady for Naming {
    fn label(&self) -> Label {
        Label {
            measure: self.measure,
            call: Some(self.call),
            direction: None,
            protocol: self.flows.protocol,
            limit: None,
        }
    }

    fn flows(&self) -> u32 {
        self.flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        for (slot, &number) in chunk.slots.iter_mut().zip(&chunk.flows) {
            self.write(number, slot);
        }
    }

    fn run(&mut self, chunk: &mut Chunk) {
        if self.call == Call::Burst {
            return self.run_burst(chunk);
        }
        let names = &mut *self.names.borrow_mut();
        for ((slot, done), out) in chunk.slots.iter().zip(&mut self.done).zip(&mut self.out) {
            *done = names.intercept(Instant::ZERO, slot.as_ref(), out);
        }
    }

    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        for ((slot, done), (number, out)) in chunk.slots.iter().zip(&self.done).zip(chunk.flows.iter().zip(&self.out)) {
            let is_right = match (self.measure, done) {
                (Measure::NameAnswered, Answered::Answer { length }) => self.is_right(*number, slot, &out[..*length]),
                (Measure::NameOther | Measure::NameUnrelated, Answered::Pass) => true,
                _ => false,
            };
            if !is_right {
                return Err(format!("{:?}: {slot:?} came to {done:?} {out:x?}", self.label()));
            }
        }
        compare(chunk, self.label(), |number, slot| self.write(number, slot))
    }
}
