//! byway where all connections go elsewhere: to another server, and into another translator.

use core::cell::RefCell;
use core::net::Ipv4Addr;
use std::rc::Rc;

use ::byway::{Imported, RECORD_LENGTH, Record, Redivert, Verdict};
use byway_testing::Dice;

use crate::episodes::Churn;
use crate::labels::{Call, Direction, Label, Measure};
use crate::packet::Content;
use crate::subject::{Calls, Rules, Subject, verify_middle};
use crate::timed::{CHUNK, Chunk, Effort, Row, Stopwatch, Timed};
use crate::workload::{Flows, below, scattered};

const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 19, 1, 1), Ipv4Addr::new(198, 19, 1, 2)];

/// Instructions in a row. More than 64 may not be outstanding, and after an even number all is as it was.
const INSTRUCTIONS: u32 = 32;

/// How many connections one call of `poll` looks at. Were it fewer, some would not move, and the row would fail.
const LOOKS: u32 = 40;

/// A translator whose connections all stand on one server.
pub(crate) struct Moving {
    subject: Subject,
    /// Which of the two servers they stand on.
    on: usize,
    chunk: Chunk,
}

impl Moving {
    pub(crate) fn new(flows: &Rc<Flows>) -> Result<Self, String> {
        let subject = Subject::filled(flows, Rules::OneServer(SERVERS[0]), flows.count())?;
        Ok(Self { subject, on: 0, chunk: Chunk::new() })
    }

    /// Moves them all to the other server.
    fn redivert(&mut self, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let (from, to) = (SERVERS[self.on], SERVERS[1 - self.on]);
        let mut done = None;
        let translator = &mut self.subject.translator;
        stopwatch.over(1, &mut self.chunk, &mut |_| done = Some(translator.redivert(from, to, Redivert::Switch)));
        let done = done.ok_or("not called")?.map_err(|error| error.to_string())?;
        if done.connections != self.subject.flows.count() {
            return Err(format!("the re-divert speaks of {} connections", done.connections));
        }
        self.on = 1 - self.on;
        self.subject.moved(to);
        Ok(())
    }

    /// Lets those that had no packet follow as well.
    fn settle(&mut self) -> Result<(), String> {
        let subject = &mut self.subject;
        for _ in 0..=subject.flows.count() {
            if subject.translator.poll_at() != Some(subject.now) {
                subject.hear();
                return Ok(());
            }
            subject.translator.poll(subject.now);
        }
        Err("the sweep after a re-divert does not come to its end".into())
    }

    fn label(&self, call: Option<Call>) -> Label {
        let direction = call.map(|_| Direction::ToServer);
        Label { measure: Measure::Redivert, call, direction, protocol: self.subject.flows.protocol, limit: None }
    }
}

/// The instruction that moves every connection.
pub(crate) struct Instruction(pub(crate) Rc<RefCell<Moving>>);

impl Row for Instruction {
    fn label(&self) -> Label {
        self.0.borrow().label(None)
    }

    fn pass(&mut self, _: Effort) -> Result<Timed, String> {
        let mut moving = self.0.borrow_mut();
        moving.settle()?;
        Effort::ONCE.repeat(INSTRUCTIONS, |stopwatch| (0..INSTRUCTIONS).try_for_each(|_| moving.redivert(stopwatch)))
    }

    fn finish(&self) -> Result<(), String> {
        let subject = &self.0.borrow().subject;
        subject.intact(subject.flows.count())
    }
}

/// The next packet of each connection after it.
pub(crate) struct Next {
    moving: Rc<RefCell<Moving>>,
    calls: Calls,
}

impl Next {
    pub(crate) fn row(moving: &Rc<RefCell<Moving>>, call: Call) -> Box<dyn Row> {
        Box::new(Self { moving: Rc::clone(moving), calls: Calls::new(call) })
    }
}

impl Row for Next {
    fn label(&self) -> Label {
        self.moving.borrow().label(Some(self.calls.call))
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let label = self.label();
        let moving = &mut *self.moving.borrow_mut();
        let count = moving.subject.flows.count();
        let packets = u64::from(count).min(effort.packets());
        effort.repeat(packets as u32, |stopwatch| {
            moving.settle()?;
            moving.redivert(&mut Stopwatch::stopped())?;
            let moved = moving.subject.translator.counters().moved;
            let order: Vec<u32> = scattered(count).take(packets as usize).collect();
            for flows in order.chunks(CHUNK) {
                next(moving, &mut self.calls, label, flows, stopwatch)?;
            }
            let moved = moving.subject.translator.counters().moved - moved;
            if moved != packets {
                return Err(format!("{moved} connections moved, by {packets} packets"));
            }
            Ok(())
        })
    }
}

/// The calls of `poll` that let connections follow it which have no packet.
pub(crate) struct Sweep(pub(crate) Rc<RefCell<Moving>>);

impl Row for Sweep {
    fn label(&self) -> Label {
        Label { measure: Measure::Sweep, ..self.0.borrow().label(None) }
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let moving = &mut *self.0.borrow_mut();
        let polls = moving.subject.flows.count().div_ceil(LOOKS);
        effort.repeat(polls, |stopwatch| {
            moving.settle()?;
            moving.redivert(&mut Stopwatch::stopped())?;
            let Moving { subject, chunk, .. } = &mut *moving;
            let moved = subject.translator.counters().moved;
            for _ in 0..polls {
                stopwatch.over(1, chunk, &mut |_| subject.translator.poll(subject.now));
                subject.hear();
            }
            let moved = subject.translator.counters().moved - moved;
            if moved != u64::from(subject.flows.count()) {
                return Err(format!("{moved} connections moved, by {polls} polls"));
            }
            Ok(())
        })
    }
}

/// One packet of each of these flows, to the server that they stand on now.
fn next(
    moving: &mut Moving,
    calls: &mut Calls,
    label: Label,
    flows: &[u32],
    stopwatch: &mut Stopwatch,
) -> Result<(), String> {
    let Moving { subject, chunk, .. } = moving;
    chunk.resize(flows.len());
    chunk.flows.copy_from_slice(flows);
    for (slot, &flow) in chunk.slots.iter_mut().zip(flows) {
        let content = Content::middle(flow, subject.flows.protocol, Direction::ToServer);
        slot.write(content, subject.before(flow, Direction::ToServer));
    }
    subject.step();
    stopwatch.over(flows.len(), chunk, &mut |chunk| calls.translate(&mut subject.translator, subject.now, chunk));
    calls.all(chunk, Verdict::ToServer)?;
    verify_middle(subject, chunk, label, Direction::ToServer)?;
    subject.hear();
    Ok(())
}

/// What a snapshot costs a connection, and what a restore does.
pub(crate) struct Snapshot {
    from: Rc<RefCell<Subject>>,
    to: Rc<RefCell<Churn>>,
    call: Call,
    records: Vec<[u8; RECORD_LENGTH]>,
    chunk: Chunk,
}

impl Snapshot {
    pub(crate) fn row(from: &Rc<RefCell<Subject>>, to: &Rc<RefCell<Churn>>, call: Call) -> Box<dyn Row> {
        let records = vec![[0; RECORD_LENGTH]; from.borrow().flows.count() as usize];
        Box::new(Self { from: Rc::clone(from), to: Rc::clone(to), call, records, chunk: Chunk::new() })
    }

    fn export(&mut self, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let (subject, records) = (self.from.borrow(), &mut self.records);
        let mut written = 0;
        let mut snapshot = subject.translator.records();
        for places in records.chunks_mut(CHUNK) {
            stopwatch.over(places.len(), &mut self.chunk, &mut |_| {
                for (place, record) in places.iter_mut().zip(&mut snapshot) {
                    *place = *record.as_bytes();
                    written += 1;
                }
            });
        }
        if written == records.len() && snapshot.next().is_none() {
            return Ok(());
        }
        Err(format!("{written} records of {} connections", records.len()))
    }

    fn import(&mut self, stopwatch: &mut Stopwatch) -> Result<(), String> {
        let churn = &mut *self.to.borrow_mut();
        churn.empty(&mut Stopwatch::stopped())?;
        let (records, mut result, at_once) = (&self.records, Ok(()), self.call == Call::ImportBurst);
        let (mut read, mut imported) = (Vec::with_capacity(CHUNK), vec![Ok(Imported::New); CHUNK]);
        let subject = &mut churn.subject;
        for records in records.chunks(CHUNK) {
            stopwatch.over(records.len(), &mut self.chunk, &mut |_| {
                let read_all = records.iter().map(|bytes| Record::from_bytes(bytes));
                if at_once {
                    read.clear();
                    read.extend(read_all.filter_map(Result::ok));
                    subject.translator.import_burst(subject.now, &read, &mut imported);
                    return;
                }
                result = read_all.into_iter().try_for_each(|record| {
                    let record = record.map_err(|error| error.to_string())?;
                    subject.translator.import(subject.now, &record).map_err(|error| error.to_string())?;
                    Ok::<_, String>(())
                });
            });
            if let Some(why) = imported.iter().find_map(|result| result.err()) {
                return Err(why.to_string());
            }
            result.clone()?;
        }
        subject.hear();
        subject.intact(records.len() as u32)?;
        self.check(subject)
    }

    /// The next packet of some connections leaves the restored translator as it leaves the other one.
    fn check(&self, restored: &mut Subject) -> Result<(), String> {
        let (original, mut random, mut calls) = (self.from.borrow(), Dice(128), Calls::new(Call::Single));
        let mut chunk = Chunk::new();
        for flow in &mut chunk.flows {
            *flow = below(&mut random, original.flows.count());
        }
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            let content = Content::middle(flow, original.flows.protocol, Direction::ToClient);
            slot.write(content, original.before(flow, Direction::ToClient));
        }
        calls.translate(&mut restored.translator, restored.now, &mut chunk);
        calls.all(&chunk, Verdict::ToClient)?;
        verify_middle(&original, &chunk, self.label(), Direction::ToClient)
    }
}

impl Row for Snapshot {
    fn label(&self) -> Label {
        let protocol = self.from.borrow().flows.protocol;
        Label { measure: Measure::Snapshot, call: Some(self.call), direction: None, protocol, limit: None }
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let count = self.records.len() as u32;
        if self.call != Call::Export {
            self.export(&mut Stopwatch::stopped())?;
        }
        effort.repeat(count, |stopwatch| match self.call {
            Call::Export => self.export(stopwatch),
            _ => self.import(stopwatch),
        })
    }
}
