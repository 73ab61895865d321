//! What is timed, and how: chunks of 256 packets, built and verified outside the timed section.

use core::hint::black_box;
use core::time::Duration;
use std::time::Instant;

use byway_testing::Dice;

use crate::labels::Label;
use crate::packet::Slot;
use crate::report::median;
use crate::workload::below;

/// Packets in a chunk: 16 KiB of slots, which stay in the first cache.
pub(crate) const CHUNK: usize = 256;

/// The packets that one timed section handles, and the flow of each.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) slots: Vec<Slot>,
    pub(crate) flows: Vec<u32>,
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Slot::EMPTY; CHUNK], flows: vec![0; CHUNK] }
    }

    /// The last chunk of an episode may be shorter.
    pub(crate) fn resize(&mut self, packets: usize) {
        self.slots.resize(packets, Slot::EMPTY);
        self.flows.resize(packets, 0);
    }
}

/// One line of the report.
pub(crate) trait Row {
    fn label(&self) -> Label;

    /// Measures once. An error says which output was wrong.
    fn pass(&mut self, effort: Effort) -> Result<Timed, String>;

    /// Called after the last pass: what can only be checked at the end.
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Work that goes on for ever in the same way, packets of randomly drawn flows: most rows.
pub(crate) trait Steady {
    fn label(&self) -> Label;

    /// How many flows there are to draw from.
    fn flows(&self) -> u32;

    /// Builds the packets of `chunk.flows`. Not timed.
    fn build(&mut self, chunk: &mut Chunk);

    /// The timed part.
    fn run(&mut self, chunk: &mut Chunk);

    /// Compares every output with what it must be. Not timed.
    fn verify(&mut self, chunk: &Chunk) -> Result<(), String>;

    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

/// How much one pass of a steady row does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Chunks before the clock counts, which bring the caches to their usual state.
    pub(crate) warm_up: u32,
    pub(crate) chunks: u32,
}

impl Effort {
    pub(crate) fn packets(self) -> u64 {
        u64::from(self.chunks) * CHUNK as u64
    }

    /// Repeats an episode of so many items until it has had its share, and at least once.
    pub(crate) fn repeat(
        self,
        items: u32,
        mut episode: impl FnMut(&mut Stopwatch) -> Result<(), String>,
    ) -> Result<Timed, String> {
        let mut stopwatch = Stopwatch::running();
        let mut done = 0;
        while done == 0 || done + u64::from(items) <= self.packets() {
            episode(&mut stopwatch)?;
            done += u64::from(items);
        }
        Ok(stopwatch.timed())
    }

    /// For an episode that no effort repeats.
    pub(crate) const ONCE: Self = Self { warm_up: 0, chunks: 0 };

    pub(crate) const USUAL: Self = Self { warm_up: 128, chunks: 512 };
}

/// The result of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// Packets, or whatever else the row counts.
    pub(crate) items: u64,
    pub(crate) nanoseconds_per_item: f64,
}

/// A steady row together with its draws.
pub(crate) struct SteadyRow<S> {
    steady: S,
    random: Dice,
    chunk: Chunk,
}

impl<S: Steady> SteadyRow<S> {
    pub(crate) fn new(steady: S, seed: u64) -> Self {
        Self { steady, random: Dice(seed), chunk: Chunk::new() }
    }
}

impl<S: Steady> Row for SteadyRow<S> {
    fn label(&self) -> Label {
        self.steady.label()
    }

    fn pass(&mut self, effort: Effort) -> Result<Timed, String> {
        let mut stopwatch = Stopwatch::running();
        for number in 0..effort.warm_up + effort.chunks {
            for flow in &mut self.chunk.flows {
                *flow = below(&mut self.random, self.steady.flows());
            }
            self.steady.build(&mut self.chunk);
            if number < effort.warm_up {
                self.steady.run(&mut self.chunk);
            } else {
                let steady = &mut self.steady;
                let items = self.chunk.slots.len();
                stopwatch.over(items, &mut self.chunk, &mut |chunk| steady.run(chunk));
            }
            self.steady.verify(&self.chunk)?;
        }
        Ok(stopwatch.timed())
    }

    fn finish(&self) -> Result<(), String> {
        self.steady.finish()
    }
}

/// What a pass has taken so far, section by section.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    /// Items and time of each section; `None` if the clock is stopped.
    sections: Option<Vec<(u64, Duration)>>,
}

impl Stopwatch {
    /// A section with more than this many times the median's time per item was interrupted: another process had the
    /// processor.
    const INTERRUPTED: f64 = 4.0;

    fn running() -> Self {
        Self { sections: Some(Vec::new()) }
    }

    /// For work that only brings about what is to be measured.
    pub(crate) fn stopped() -> Self {
        Self { sections: None }
    }

    /// Does the work, and notes the time if the clock is running.
    ///
    /// `Instant` reads the time stamp counter behind a fence; two of them cost a chunk some 0.1 ns a packet, every row
    /// alike.
    pub(crate) fn over(&mut self, items: usize, chunk: &mut Chunk, work: &mut dyn FnMut(&mut Chunk)) {
        let Some(sections) = &mut self.sections else {
            return work(chunk);
        };
        let start = Instant::now();
        timed_chunk(chunk, work);
        sections.push((items as u64, start.elapsed()));
    }

    /// The mean of all sections that were not interrupted.
    fn timed(self) -> Timed {
        let sections = self.sections.unwrap_or_default();
        let pace = |&(items, time): &(u64, Duration)| time.as_nanos() as f64 / items as f64;
        let most = Self::INTERRUPTED * median(sections.iter().map(pace));
        let sums = |(items, nanoseconds), (more, time): &(u64, Duration)| (items + more, nanoseconds + time.as_nanos());
        let (items, nanoseconds) = sections.iter().filter(|section| pace(section) <= most).fold((0, 0), sums);
        Timed {
            items: sections.iter().map(|(items, _)| items).sum(),
            nanoseconds_per_item: nanoseconds as f64 / items as f64,
        }
    }
}

/// The only function under which `scripts/instructions.sh` counts; it finds it by this name.
#[inline(never)]
fn timed_chunk(chunk: &mut Chunk, work: &mut dyn FnMut(&mut Chunk)) {
    work(chunk);
    // Keeps the call above from becoming a jump out of this function.
    black_box(chunk);
}

/// Holds `chunk` against the packets that `expected` writes for each flow.
pub(crate) fn compare(chunk: &Chunk, label: Label, mut expected: impl FnMut(u32, &mut Slot)) -> Result<(), String> {
    let mut slot = Slot::EMPTY;
    for (actual, &flow) in chunk.slots.iter().zip(&chunk.flows) {
        expected(flow, &mut slot);
        if *actual != slot {
            return Err(format!("{label:?}: flow {flow} came out as {actual:?}, not as {slot:?}"));
        }
    }
    Ok(())
}
