//! What a second core brings: a set of shards, each on a thread of its own, beside one of them alone.

use core::cell::RefCell;
use core::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::thread;

use ::byway::{Config, Divert, Heap, Owner, Sharded, Sharding, Translator};

use crate::byway;
use crate::labels::{Call, Direction, Label, Measure, Protocol};
use crate::packet::{Content, Slot};
use crate::report::median;
use crate::subject::{Subject, storage};
use crate::timed::{Chunk, Effort, Row, Steady, SteadyRow};
use crate::workload::{ALTERNATIVE, Flows, ORIGINALS, original, server};

/// The result for one number of connections (of each shard).
#[derive(Debug)]
pub(crate) struct Scaling {
    pub(crate) label: Label,
    pub(crate) connections: u32,
    pub(crate) cores: u32,
    /// Nanoseconds from one packet to the next, all threads together.
    pub(crate) nanoseconds: f64,
    /// How often as many packets as one thread alone; the median of the passes,
    pub(crate) speedup: f64,
    /// and the best.
    pub(crate) best: f64,
    /// Nanoseconds to tell whose a packet is, on one thread.
    pub(crate) owner: f64,
}

pub(crate) fn measure(cores: u32, flows: &[u32], passes: u32) -> Result<Vec<Scaling>, String> {
    flows.iter().map(|&connections| measure_one(cores, connections, passes)).collect()
}

fn measure_one(cores: u32, connections: u32, passes: u32) -> Result<Scaling, String> {
    eprintln!("{connections} connections, {cores} cores");
    let (mut together, mut speedups, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut label = None;
    for _ in 0..passes {
        let alone = run(cores, 1, connections)?;
        let all = run(cores, cores, connections)?;
        together.push(1.0 / all.rate);
        speedups.push(all.rate / alone.rate);
        owners.push(alone.owner);
        label = Some(all.label);
    }
    Ok(Scaling {
        label: label.ok_or("no pass")?,
        connections,
        cores,
        nanoseconds: median(together.into_iter()),
        best: speedups.iter().copied().fold(0.0, f64::max),
        speedup: median(speedups.into_iter()),
        owner: median(owners.into_iter()),
    })
}

/// What some threads have done in a pass.
struct Done {
    label: Label,
    /// Packets per nanosecond, the sum over all threads.
    rate: f64,
    owner: f64,
}

/// Of a set of `cores` shards, this many run, each on a thread; they start together.
fn run(cores: u32, threads: u32, connections: u32) -> Result<Done, String> {
    let shards = set(cores, connections)?;
    let sharding = shards.sharding();
    let barrier = Arc::new(Barrier::new(threads as usize));
    let handles: Vec<_> = shards
        .into_shards()
        .take(threads as usize)
        .enumerate()
        .map(|(number, translator)| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let rows = rows(sharding, number, translator, connections);
                // Before any early return: the others wait for this thread too.
                barrier.wait();
                let (mut hit, mut owner) = rows?;
                let timed = hit.pass(Effort::USUAL)?;
                hit.finish()?;
                let asked = owner.pass(Effort::USUAL)?;
                let rate = 1.0 / timed.nanoseconds_per_item;
                Ok::<_, String>(Done { label: hit.label(), rate, owner: asked.nanoseconds_per_item })
            })
        })
        .collect();
    let mut all: Option<Done> = None;
    for handle in handles {
        let one = handle.join().map_err(|_| "a thread has panicked")??;
        let rate = all.map_or(0.0, |all| all.rate) + one.rate;
        all = Some(Done { rate, ..one });
    }
    all.ok_or("no thread".into())
}

/// With an alternative address for each shard, and a rule for each original.
fn set(cores: u32, connections: u32) -> Result<Sharded<Heap>, String> {
    let last = Ipv4Addr::from_bits(ALTERNATIVE.to_bits() + cores - 1);
    let config = Config::new([0x5a; 32]).alternatives(ALTERNATIVE, last, 1024..=65535);
    let storages = (0..cores).map(|_| storage(connections, ORIGINALS as usize));
    let mut set = Sharded::new(config, storages).map_err(|error| error.to_string())?;
    for number in 0..ORIGINALS {
        set.divert(Divert::new(original(number)).to(server(number))).map_err(|error| error.to_string())?;
    }
    Ok(set)
}

/// The rows that each thread runs: bursts to the server, through the shard that all of these packets belong to, and the
/// question whether they do.
fn rows(
    sharding: Sharding,
    number: usize,
    translator: Translator<Heap>,
    connections: u32,
) -> Result<(Box<dyn Row>, SteadyRow<Asked>), String> {
    let (alternative, _, _) = sharding.alternatives(number).next().ok_or("a shard without an address")?;
    let is_ours = |host| sharding.shard_of_client(host) == number;
    let flows = Rc::new(Flows::of_hosts(connections, Protocol::Udp, is_ours)?);
    let mut subject = Subject::of_shard(translator, &flows, alternative);
    subject.fill(connections)?;
    let subject = Rc::new(RefCell::new(subject));
    let asked = Asked { subject: Rc::clone(&subject), sharding, number, direction: Direction::ToServer, owned: 0 };
    Ok((byway::hit(&subject, Call::Burst, Direction::ToServer), SteadyRow::new(asked, 64)))
}

/// Whose a packet is, asked of packets of both ways in turn.
struct Asked {
    subject: Rc<RefCell<Subject>>,
    sharding: Sharding,
    number: usize,
    direction: Direction,
    /// How many of the chunk were found to be ours.
    owned: usize,
}

impl Asked {
    #[inline(never)]
    fn count(&self, slots: &[Slot]) -> usize {
        slots.iter().filter(|slot| self.sharding.owner(slot.as_ref()) == Owner::One(self.number)).count()
    }
}

impl Steady for Asked {
    fn label(&self) -> Label {
        Label {
            measure: Measure::Owner,
            call: Some(Call::Single),
            direction: None,
            protocol: self.subject.borrow().flows.protocol,
            limit: None,
        }
    }

    fn flows(&self) -> u32 {
        self.subject.borrow().flows.count()
    }

    fn build(&mut self, chunk: &mut Chunk) {
        self.direction = match self.direction {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        };
        let subject = self.subject.borrow();
        for (slot, &flow) in chunk.slots.iter_mut().zip(&chunk.flows) {
            let content = Content::middle(flow, subject.flows.protocol, self.direction);
            slot.write(content, subject.before(flow, self.direction));
        }
    }

    fn run(&mut self, chunk: &mut Chunk) {
        self.owned = self.count(&chunk.slots);
    }

    /// All of them belong to the shard that translates them, on both ways.
    fn verify(&mut self, chunk: &Chunk) -> Result<(), String> {
        let owned = core::mem::take(&mut self.owned);
        if owned == chunk.slots.len() { Ok(()) } else { Err(format!("only {owned} packets of the chunk are ours")) }
    }
}
