//! What a second core brings: threads that share nothing, beside one thread.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::labels::{Label, Protocol};
use crate::report::median;
use crate::rows;
use crate::timed::Effort;

/// The result for one number of connections (of each thread).
#[derive(Debug)]
pub(crate) struct Scaling {
    pub(crate) label: Label,
    pub(crate) connections: u32,
    pub(crate) cores: u32,
    /// Nanoseconds from one packet to the next, all threads together.
    pub(crate) nanoseconds: f64,
    /// How often as many packets as one thread alone; the median within one pass.
    pub(crate) speedup: f64,
}

pub(crate) fn measure(cores: u32, flows: &[u32], passes: u32) -> Result<Vec<Scaling>, String> {
    flows.iter().map(|&connections| measure_one(cores, connections, passes)).collect()
}

fn measure_one(cores: u32, connections: u32, passes: u32) -> Result<Scaling, String> {
    eprintln!("{connections} connections, {cores} cores");
    let mut together = Vec::new();
    let mut speedups = Vec::new();
    let mut label = None;
    for _ in 0..passes {
        let (_, alone) = packets_per_nanosecond(1, connections)?;
        let (row, rate) = packets_per_nanosecond(cores, connections)?;
        together.push(1.0 / rate);
        speedups.push(rate / alone);
        label = Some(row);
    }
    Ok(Scaling {
        label: label.ok_or("no pass")?,
        connections,
        cores,
        nanoseconds: median(together.into_iter()),
        speedup: median(speedups.into_iter()),
    })
}

/// The sum over all threads, which start together.
fn packets_per_nanosecond(threads: u32, connections: u32) -> Result<(Label, f64), String> {
    let barrier = Arc::new(Barrier::new(threads as usize));
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let row = rows::of_shard(connections, Protocol::Udp);
                // Before any early return: the others wait for this thread too.
                barrier.wait();
                let mut row = row?;
                let timed = row.pass(Effort::USUAL)?;
                row.finish()?;
                Ok::<_, String>((row.label(), 1.0 / timed.nanoseconds_per_item))
            })
        })
        .collect();
    let mut rate = 0.0;
    let mut label = None;
    for handle in handles {
        let (row, share) = handle.join().map_err(|_| "a thread has panicked")??;
        label = Some(row);
        rate += share;
    }
    Ok((label.ok_or("no thread")?, rate))
}
