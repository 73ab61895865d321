//! byway where something changes: connections begin and end, and a flood would have them end.
//!
//! A pass begins and ends with an empty table, or with a full one; what brings it there is not timed. The slots were in
//! use before, as in a translator that has run for a while.

use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::rc::Rc;

use ::byway::{State, TRANSMIT_BUFFER, Verdict};

use crate::labels::{Call, Direction, Label, Measure, Protocol};
use crate::packet::{Content, Pair, Slot};
use crate::subject::{Calls, LONG, Rules, Subject};
use crate::timed::{CHUNK, Chunk, Clock, Effort, Row, Timed, compare};
use crate::workload::{ALTERNATIVE, Flows, ORIGINALS, Random, original, scattered, server};

/// A translator whose connections come and go.
pub(crate) struct Churn {
    pub(crate) subject: Subject,
    chunk: Chunk,
}

impl Churn {
    pub(crate) fn new(flows: &Rc<Flows>) -> Result<Self, String> {
        Ok(Self { subject: Subject::new(flows, Rules::OwnServers)?, chunk: Chunk::new() })
    }

    fn is_full(&self) -> bool {
        self.subject.translator.slots_in_use() == self.subject.flows.count()
    }

    /// Opens every connection. The time is that of the first packets.
    fn fill(&mut self, calls: &mut Calls, clock: Clock) -> Result<Duration, String> {
        let mut duration = Duration::ZERO;
        let order: Vec<u32> = scattered(self.subject.flows.count()).collect();
        for flows in order.chunks(CHUNK) {
            duration += self.open(flows, calls, clock)?;
        }
        let count = self.subject.flows.count();
        self.subject.intact(count)?;
        Ok(duration)
    }

    fn open(&mut self, flows: &[u32], calls: &mut Calls, clock: Clock) -> Result<Duration, String> {
        let protocol = self.subject.flows.protocol;
        self.chunk.resize(flows.len());
        self.chunk.flows.copy_from_slice(flows);
        for (slot, &flow) in self.chunk.slots.iter_mut().zip(flows) {
            slot.write(Content::first(flow, protocol), self.subject.flows.client_side(flow));
        }
        self.subject.step();
        let subject = &mut self.subject;
        let duration = clock.over(&mut self.chunk, &mut |chunk| {
            calls.translate(&mut subject.translator, subject.now, chunk);
        });
        calls.all(&self.chunk, Verdict::ToServer)?;
        for (slot, &flow) in self.chunk.slots.iter().zip(flows) {
            self.subject.learn(flow, slot);
        }
        compare(&self.chunk, label(Measure::New, Some(calls.call), protocol), |flow, slot| {
            slot.write(Content::first(flow, protocol), self.subject.server_side(flow));
        })?;
        self.subject.hear();
        Ok(duration)
    }

    /// Lets every connection end by its time-out, and then every endpoint that it held. The time is that of the calls
    /// of `poll`.
    pub(crate) fn empty(&mut self, clock: Clock) -> Result<Duration, String> {
        let subject = &mut self.subject;
        let ended = |subject: &Subject| subject.translator.counters().expired;
        let listed = subject.translator.connections().count() as u64;
        let (before, mut duration) = (ended(subject), Duration::ZERO);
        for aim in [before + listed, u64::MAX] {
            subject.now = subject.now + LONG;
            let most_calls = subject.flows.count();
            duration += clock.over(&mut self.chunk, &mut |_| {
                for _ in 0..most_calls {
                    subject.translator.poll(subject.now);
                    if ended(subject) >= aim || subject.translator.slots_in_use() == 0 {
                        break;
                    }
                }
            });
        }
        subject.hear();
        let (left, expired) = (subject.translator.slots_in_use(), ended(subject) - before);
        if left == 0 && expired == listed {
            return Ok(duration);
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
        label(Measure::New, Some(self.calls.call), self.churn.borrow().subject.flows.protocol)
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let mut churn = self.churn.borrow_mut();
        let count = churn.subject.flows.count();
        effort.repeat(count, || {
            churn.empty(Clock::Stopped)?;
            churn.fill(&mut self.calls, Clock::Running)
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
        effort.repeat(count, || {
            if !churn.is_full() {
                churn.empty(Clock::Stopped)?;
                churn.fill(&mut self.calls, Clock::Stopped)?;
            }
            churn.empty(Clock::Running)
        })
    }
}

/// SYNs from strangers into a table that is full: one half established connections, the other what strangers opened.
pub(crate) struct Flood {
    subject: Subject,
    random: Random,
    calls: Calls,
    chunk: Chunk,
    strangers: Vec<(u32, SocketAddrV4)>,
}

impl Flood {
    pub(crate) fn row(flows: &Rc<Flows>) -> Result<Box<dyn Row>, String> {
        let subject = Subject::filled(flows, Rules::OwnServers, flows.count() / 2)?;
        let chunk = Chunk::new();
        let strangers = Vec::new();
        let mut flood = Self { subject, random: Random(64), calls: Calls::new(Call::Single), chunk, strangers };
        while (flood.subject.translator.slots_in_use() as usize) < flood.subject.translator.capacity() {
            flood.strike(Clock::Stopped)?;
        }
        Ok(Box::new(flood))
    }

    /// 256 SYNs.
    fn strike(&mut self, clock: Clock) -> Result<Duration, String> {
        self.strangers.clear();
        self.chunk.resize(CHUNK);
        for slot in &mut self.chunk.slots {
            // 11.0.0.0/8: no flow of ours comes from there.
            let address = Ipv4Addr::from_bits(0x0b00_0000 | self.random.below(1 << 24));
            let stranger = SocketAddrV4::new(address, 1024 + self.random.below(64_512) as u16);
            let number = self.random.below(ORIGINALS);
            self.strangers.push((number, stranger));
            let pair = Pair { source: stranger, destination: original(number) };
            slot.write(Content::first(number, Protocol::Tcp), pair);
        }
        self.subject.step();
        let (subject, calls) = (&mut self.subject, &mut self.calls);
        let duration = clock.over(&mut self.chunk, &mut |chunk| {
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
        Ok(duration)
    }

    /// A packet of each of some established connections, which must come through. Not timed.
    fn check_established(&mut self) -> Result<(), String> {
        let count = self.subject.flows.count() / 2;
        for flow in &mut self.chunk.flows {
            *flow = self.random.below(count);
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
        let timed = effort.repeat(CHUNK as u32, || {
            let duration = self.strike(Clock::Running)?;
            self.check_established()?;
            Ok(duration)
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
