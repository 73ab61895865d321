//! byway where something changes: connections begin and end, and a flood would have them end.
//!
//! A pass begins and ends with an empty table, or with a full one; what brings it there is not timed. The slots were in
//! use before, as in a translator that has run for a while.

use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use ::byway::{State, TRANSMIT_BUFFER, Verdict};
use byway_testing::Dice;

use crate::labels::{Call, Direction, Label, Measure, Protocol};
use crate::packet::{Content, Pair, Slot};
use crate::subject::{Calls, LONG, Rules, Settings, Subject};
use crate::timed::{CHUNK, Chunk, Effort, Row, Stopwatch, Timed, compare};
use crate::workload::{ALTERNATIVE, Flows, ORIGINALS, below, original, scattered, server};

/// How many connections one call of `poll` ends. Were it fewer, some would be left, and the row would fail.
const LOOKS: usize = 64;

/// A translator whose connections come and go.
pub(crate) struct Churn {
    pub(crate) subject: Subject,
    chunk: Chunk,
    /// What opening its connections measures.
    opening: Measure,
}

impl Churn {
    pub(crate) fn new(flows: &Rc<Flows>) -> Result<Self, String> {
        Self::with(flows, Measure::New, Rules::OwnServers, Settings::Usual)
    }

    /// One whose connections open otherwise than by a rule for each original, or under other settings.
    pub(crate) fn with(flows: &Rc<Flows>, opening: Measure, rules: Rules, settings: Settings) -> Result<Self, String> {
        Ok(Self { subject: Subject::with(flows, rules, settings)?, chunk: Chunk::new(), opening })
    }

    fn is_full(&self) -> bool {
        self.subject.translator.slots_in_use() == self.subject.flows.count()
    }

    /// Opens every connection. What is timed are the first packets.
    fn fill(&mut self, calls: &mut Calls, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let order: Vec<u32> = scattered(self.subject.flows.count()).collect();
        for flows in order.chunks(CHUNK) {
            self.open(flows, calls, stopwatch)?;
        }
        let count = self.subject.flows.count();
        self.subject.intact(count)
    }

    fn open(&mut self, flows: &[u32], calls: &mut Calls, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let protocol = self.subject.flows.protocol;
        self.chunk.resize(flows.len());
        self.chunk.flows.copy_from_slice(flows);
        for (slot, &flow) in self.chunk.slots.iter_mut().zip(flows) {
            slot.write(Content::first(flow, protocol), self.subject.flows.client_side(flow));
        }
        self.subject.step();
        let subject = &mut self.subject;
        stopwatch.over(flows.len(), &mut self.chunk, &mut |chunk| {
            calls.translate(&mut subject.translator, subject.now, chunk);
        });
        calls.all(&self.chunk, Verdict::ToServer)?;
        for (slot, &flow) in self.chunk.slots.iter().zip(flows) {
            self.subject.learn(flow, slot);
        }
        compare(&self.chunk, label(self.opening, Some(calls.call), protocol), |flow, slot| {
            slot.write(Content::first(flow, protocol), self.subject.server_side(flow));
        })?;
        self.subject.hear();
        Ok(())
    }

    /// Has every server answer. What is timed are the answers.
    fn answer(&mut self, calls: &mut Calls, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let protocol = self.subject.flows.protocol;
        let order: Vec<u32> = scattered(self.subject.flows.count()).collect();
        for flows in order.chunks(CHUNK) {
            self.chunk.resize(flows.len());
            self.chunk.flows.copy_from_slice(flows);
            for (slot, &flow) in self.chunk.slots.iter_mut().zip(flows) {
                slot.write(Content::answer(flow, protocol), self.subject.before(flow, Direction::ToClient));
            }
            self.subject.step();
            let subject = &mut self.subject;
            stopwatch.over(flows.len(), &mut self.chunk, &mut |chunk| {
                calls.translate(&mut subject.translator, subject.now, chunk);
            });
            calls.all(&self.chunk, Verdict::ToClient)?;
            compare(&self.chunk, label(Measure::Answer, Some(calls.call), protocol), |flow, slot| {
                slot.write(Content::answer(flow, protocol), self.subject.after(flow, Direction::ToClient));
            })?;
            self.subject.hear();
        }
        Ok(())
    }

    /// Lets every connection end by its time-out, and then every endpoint that it held. What is timed are the calls of
    /// `poll`.
    pub(crate) fn empty(&mut self, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let subject = &mut self.subject;
        let listed = subject.translator.connections().count();
        let expired = subject.translator.counters().expired;
        // Each connection has two ends: its own, and that of what it holds.
        for _ in 0..2 {
            subject.now = subject.now + LONG;
            for first in (0..listed).step_by(CHUNK) {
                let ends = (listed - first).min(CHUNK);
                stopwatch.over(ends.div_ceil(2), &mut self.chunk, &mut |_| {
                    for _ in 0..ends.div_ceil(LOOKS) {
                        subject.translator.poll(subject.now);
                    }
                });
            }
        }
        subject.hear();
        let (left, expired) = (subject.translator.slots_in_use(), subject.translator.counters().expired - expired);
        if left == 0 && expired == listed as u64 {
            return Ok(());
        }
        Err(format!("{expired} connections of {listed} have expired, {left} slots are in use"))
    }
}

fn label(measure: Measure, call: Option<Call>, protocol: Protocol) -> Label {
    let direction = call.map(|_| Direction::ToServer);
    Label { measure, call, direction, protocol, limit: None }
}

/// The first packet of each connection.
pub(crate) struct New {
    churn: Rc<RefCell<Churn>>,
    calls: Calls,
}

impl New {
    pub(crate) fn row(churn: &Rc<RefCell<Churn>>, call: Call) -> Box<dyn Row> {
        Box::new(Self { churn: Rc::clone(churn), calls: Calls::new(call) })
    }
}

impl Row for New {
    fn label(&self) -> Label {
        let churn = self.churn.borrow();
        label(churn.opening, Some(self.calls.call), churn.subject.flows.protocol)
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let mut churn = self.churn.borrow_mut();
        let count = churn.subject.flows.count();
        effort.repeat(count, |stopwatch| {
            churn.empty(&mut Stopwatch::stopped())?;
            churn.fill(&mut self.calls, stopwatch)
        })
    }
}

/// The first answer of each connection's server.
pub(crate) struct Answer {
    churn: Rc<RefCell<Churn>>,
    calls: Calls,
}

impl Answer {
    pub(crate) fn row(churn: &Rc<RefCell<Churn>>, call: Call) -> Box<dyn Row> {
        Box::new(Self { churn: Rc::clone(churn), calls: Calls::new(call) })
    }
}

impl Row for Answer {
    fn label(&self) -> Label {
        let protocol = self.churn.borrow().subject.flows.protocol;
        Label { direction: Some(Direction::ToClient), ..label(Measure::Answer, Some(self.calls.call), protocol) }
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let mut churn = self.churn.borrow_mut();
        let count = churn.subject.flows.count();
        effort.repeat(count, |stopwatch| {
            churn.empty(&mut Stopwatch::stopped())?;
            churn.fill(&mut self.calls, &mut Stopwatch::stopped())?;
            churn.answer(&mut self.calls, stopwatch)
        })
    }
}

/// The end of each connection of a full table.
pub(crate) struct Expire {
    churn: Rc<RefCell<Churn>>,
    calls: Calls,
}

impl Expire {
    pub(crate) fn row(churn: &Rc<RefCell<Churn>>) -> Box<dyn Row> {
        Box::new(Self { churn: Rc::clone(churn), calls: Calls::new(Call::Single) })
    }
}

impl Row for Expire {
    fn label(&self) -> Label {
        label(Measure::Expire, None, self.churn.borrow().subject.flows.protocol)
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let mut churn = self.churn.borrow_mut();
        let count = churn.subject.flows.count();
        effort.repeat(count, |stopwatch| {
            if !churn.is_full() {
                churn.empty(&mut Stopwatch::stopped())?;
                churn.fill(&mut self.calls, &mut Stopwatch::stopped())?;
            }
            churn.empty(stopwatch)
        })
    }
}

/// SYNs from strangers into a table that is full: one half established connections, the other what strangers opened.
pub(crate) struct Flood {
    subject: Subject,
    random: Dice,
    calls: Calls,
    chunk: Chunk,
    strangers: Vec<(u32, SocketAddrV4)>,
}

impl Flood {
    pub(crate) fn row(flows: &Rc<Flows>) -> Result<Box<dyn Row>, String> {
        let subject = Subject::filled(flows, Rules::OwnServers, flows.count() / 2)?;
        let chunk = Chunk::new();
        let strangers = Vec::new();
        let mut flood = Self { subject, random: Dice(64), calls: Calls::new(Call::Single), chunk, strangers };
        while (flood.subject.translator.slots_in_use() as usize) < flood.subject.translator.capacity() {
            flood.strike(&mut Stopwatch::stopped())?;
        }
        Ok(Box::new(flood))
    }

    /// 256 SYNs.
    fn strike(&mut self, stopwatch: &mut Stopwatch) -> Result<(), String> {
        self.strangers.clear();
        self.chunk.resize(CHUNK);
        for slot in &mut self.chunk.slots {
            // 11.0.0.0/8: no flow of ours comes from there.
            let address = Ipv4Addr::from_bits(0x0b00_0000 | below(&mut self.random, 1 << 24));
            let stranger = SocketAddrV4::new(address, 1024 + below(&mut self.random, 64_512) as u16);
            let number = below(&mut self.random, ORIGINALS);
            self.strangers.push((number, stranger));
            let pair = Pair { source: stranger, destination: original(number) };
            slot.write(Content::first(number, Protocol::Tcp), pair);
        }
        self.subject.step();
        let (subject, calls) = (&mut self.subject, &mut self.calls);
        stopwatch.over(CHUNK, &mut self.chunk, &mut |chunk| {
            calls.translate(&mut subject.translator, subject.now, chunk);
        });
        calls.all(&self.chunk, Verdict::ToServer)?;
        let mut expected = Slot::EMPTY;
        for (slot, &(number, stranger)) in self.chunk.slots.iter().zip(&self.strangers) {
            let source = SocketAddrV4::new(ALTERNATIVE, slot.source().port());
            expected.write(Content::first(number, Protocol::Tcp), Pair { source, destination: server(number) });
            if *slot != expected {
                return Err(format!("flood: the SYN of {stranger} came out as {slot:?}, not as {expected:?}"));
            }
        }
        subject.hear();
        let mut buffer = [0; TRANSMIT_BUFFER];
        while subject.translator.poll_transmit(subject.now, &mut buffer).is_some() {}
        Ok(())
    }

    /// A packet of each of some established connections, which must come through. Not timed.
    fn check_established(&mut self) -> Result<(), String> {
        let count = self.subject.flows.count() / 2;
        for flow in &mut self.chunk.flows {
            *flow = below(&mut self.random, count);
        }
        for (slot, &flow) in self.chunk.slots.iter_mut().zip(&self.chunk.flows) {
            let content = Content::middle(flow, Protocol::Tcp, Direction::ToServer);
            slot.write(content, self.subject.before(flow, Direction::ToServer));
        }
        let subject = &mut self.subject;
        self.calls.translate(&mut subject.translator, subject.now, &mut self.chunk);
        self.calls.all(&self.chunk, Verdict::ToServer)
    }
}

impl Row for Flood {
    fn label(&self) -> Label {
        label(Measure::Flood, Some(Call::Single), Protocol::Tcp)
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let evicted = self.subject.translator.counters().evicted;
        let timed = effort.repeat(CHUNK as u32, |stopwatch| {
            self.strike(stopwatch)?;
            self.check_established()
        })?;
        // The table is full, so each of them cost another its place.
        let evicted = self.subject.translator.counters().evicted - evicted;
        if evicted != timed.items {
            return Err(format!("{evicted} connections were evicted by {} SYNs", timed.items));
        }
        Ok(timed)
    }

    fn finish(&self) -> Result<(), String> {
        let translator = &self.subject.translator;
        let established = translator.connections().filter(|c| c.state == State::Established).count();
        let dropped = translator.counters().dropped_in_all();
        if established == self.subject.flows.count() as usize / 2 && dropped == 0 {
            return Ok(());
        }
        Err(format!("{established} established connections are left, {dropped} packets were dropped"))
    }
}
