//! byway where it goes on for ever in the same way: packets of connections that are there, and packets that are none of
//! its business.

use core::cell::RefCell;
use std::rc::Rc;

use ::byway::Verdict;

use crate::labels::{Call, Direction, Label, Measure};
use crate::packet::{Content, Pair};
use crate::subject::{Calls, Rules, Subject, verify_middle};
use crate::timed::{Chunk, Row, Steady, SteadyRow, compare};
use crate::workload::{Flows, elsewhere};

/// Packets of connections that are there, each way and by each call.
pub(crate) fn hits(subject: &Rc<RefCell<Subject>>, measure: Measure) -> Vec<Box<dyn Row>> {
    let mut rows = Vec::new();
    for call in [Call::Single, Call::Burst] {
        for direction in [Direction::ToServer, Direction::ToClient] {
            rows.push(hit_as(subject, measure, call, direction));
        }
    }
    rows
}

pub(crate) fn hit(subject: &Rc<RefCell<Subject>>, call: Call, direction: Direction) -> Box<dyn Row> {
    hit_as(subject, Measure::Hit, call, direction)
}

fn hit_as(subject: &Rc<RefCell<Subject>>, measure: Measure, call: Call, direction: Direction) -> Box<dyn Row> {
    let seed = 16 + 2 * call as u64 + direction as u64;
    Box::new(SteadyRow::new(Hit { subject: Rc::clone(subject), measure, direction, calls: Calls::new(call) }, seed))
}

/// Packets that no rule matches. Where they go has nothing to do with the connections, so there are none.
pub(crate) fn passes(flows: &Rc<Flows>) -> Result<Vec<Box<dyn Row>>, String> {
    let subject = Rc::new(RefCell::new(Subject::new(flows, Rules::Few)?));
    let row = |call| {
        let pass = Pass { subject: Rc::clone(&subject), calls: Calls::new(call), packets: 0 };
        Box::new(SteadyRow::new(pass, 32 + call as u64)) as Box<dyn Row>
    };
    Ok(vec![row(Call::Single), row(Call::Burst)])
}

struct Hit {
    subject: Rc<RefCell<Subject>>,
    measure: Measure,
    direction: Direction,
    calls: Calls,
}

impl Steady for Hit {
    fn label(&self) -> Label {
        Label {
            measure: self.measure,
            call: Some(self.calls.call),
            direction: Some(self.direction),
            protocol: self.subject.borrow().flows.protocol,
            limit: None,
        }
    }

    fn flows(&self) -> u32 {
        self.subject.borrow().flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        let mut subject = self.subject.borrow_mut();
        subject.step();
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            let content = Content::middle(flow, subject.flows.protocol, self.direction);
            slot.write(content, subject.before(flow, self.direction));
        }
    }

    fn run(&mut self, chunk: &mut Chunk) {
        let subject = &mut *self.subject.borrow_mut();
        self.calls.translate(&mut subject.translator, subject.now, chunk);
    }

    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        let expected = match self.direction {
            Direction::ToServer => Verdict::ToServer,
            Direction::ToClient => Verdict::ToClient,
        };
        self.calls.all(chunk, expected)?;
        verify_middle(&self.subject.borrow(), chunk, self.label(), self.direction)
    }

    fn finish(&self) -> Result<(), String> {
        self.subject.borrow().intact(self.flows())
    }
}

struct Pass {
    subject: Rc<RefCell<Subject>>,
    calls: Calls,
    packets: u64,
}

impl Pass {
    fn content(&self, flow: u32) -> Content {
        Content::middle(flow, self.subject.borrow().flows.protocol, Direction::ToServer)
    }

    fn pair(&self, flow: u32) -> Pair {
        Pair { destination: elsewhere(flow), ..self.subject.borrow().flows.client_side(flow) }
    }
}

impl Steady for Pass {
    fn label(&self) -> Label {
        Label {
            measure: Measure::Pass,
            call: Some(self.calls.call),
            direction: None,
            protocol: self.subject.borrow().flows.protocol,
            limit: None,
        }
    }

    fn flows(&self) -> u32 {
        self.subject.borrow().flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            slot.write(self.content(flow), self.pair(flow));
        }
        self.packets += chunk.slots.len() as u64;
        self.subject.borrow_mut().step();
    }

    fn run(&mut self, chunk: &mut Chunk) {
        let subject = &mut *self.subject.borrow_mut();
        self.calls.translate(&mut subject.translator, subject.now, chunk);
    }

    /// They are as they were.
    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        self.calls.all(chunk, Verdict::Pass)?;
        compare(chunk, self.label(), |flow, slot| slot.write(self.content(flow), self.pair(flow)))
    }

    fn finish(&self) -> Result<(), String> {
        let subject = self.subject.borrow();
        let passed = subject.translator.counters().passed;
        if passed < self.packets {
            return Err(format!("{passed} packets passed, {} were sent", self.packets));
        }
        subject.intact(0)
    }
}
