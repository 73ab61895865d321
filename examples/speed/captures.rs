//! Captures of real traffic, looped in memory: every kind of packet in the order and the proportion in which it came.
//!
//! Each capture has a translator of its own that diverts all its connections, made anew for each round. What servers sent is
//! turned into what the new server would have sent (`byway_examples::mirror`).

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant as Clock;

use ::byway::{Config, Divert, Heap, Instant, Midstream, Prefix, Translator, Verdict};
use byway_examples::capture::Capture;
use byway_examples::link::Content;
use byway_examples::mirror::Mirror;
use byway_examples::packet::Packet;

use crate::labels::{Call, Direction, Protocol};
use crate::report::median;
use crate::subject::{Rules, Subject};
use crate::timed::Effort;
use crate::{byway, limits};

/// Packets that are copied before they are timed together: these stay in the caches.
const CHUNK: usize = 32;
/// How often all captures are run in one pass.
const ROUNDS: usize = 64;

/// The result.
#[derive(Debug)]
pub(crate) struct Looped {
    files: usize,
    packets: usize,
    /// For each packet; the median of the passes.
    nanoseconds: f64,
    /// The median of the ratios to a hit of the same pass: UDP, by single calls, to the server, 1000 connections.
    times: f64,
}

/// The packets of one capture.
struct Prepared {
    steps: Vec<Step>,
    /// Whether servers answer from another port than the one that was asked.
    any_port: bool,
}

/// A packet, and what becomes of it.
struct Step {
    at: Instant,
    before: Vec<u8>,
    after: Vec<u8>,
    verdict: Verdict,
}

/// Runs every capture of a folder.
///
/// # Errors
/// If there is none, or one cannot be read, or a packet does not come out as it did when the run was prepared.
pub(crate) fn measure(folder: &Path, passes: u32) -> Result<Looped, String> {
    let files = files(folder)?;
    let prepare = |file| prepare(file, false).or_else(|_| prepare(file, true));
    let captures = files.iter().map(|file| prepare(file)).collect::<Result<Vec<_>, _>>()?;
    let flows = Rc::new(limits::flows(1_000, Protocol::Udp)?);
    let subject = Rc::new(core::cell::RefCell::new(Subject::filled(&flows, Rules::OwnServers, 1_000)?));
    let mut hit = byway::hit(&subject, Call::Single, Direction::ToServer);
    let (mut taken, mut times) = (Vec::new(), Vec::new());
    for _ in 0..passes {
        let nanoseconds = pass(&captures)?;
        times.push(nanoseconds / hit.pass(Effort::USUAL)?.nanoseconds_per_item);
        taken.push(nanoseconds);
    }
    Ok(Looped {
        files: captures.len(),
        packets: captures.iter().map(|capture| capture.steps.len()).sum(),
        nanoseconds: median(taken.into_iter()),
        times: median(times.into_iter()),
    })
}

impl Looped {
    pub(crate) fn text(&self) -> String {
        let Self { files, packets, nanoseconds, times } = self;
        format!("{packets} packets of {files} captures: {nanoseconds:.1} ns each, {times:.2} times a hit\n")
    }

    pub(crate) fn json(&self) -> String {
        let Self { files, packets, nanoseconds, times } = self;
        format!(
            "[\n  {{\"row\": \"captures\", \"files\": {files}, \"packets\": {packets}, \"nanoseconds\": {nanoseconds:.3}, \
             \"beside\": \"hit\", \"times\": {times:.3}}}\n]\n"
        )
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let is_capture = |path: &PathBuf| path.extension().is_some_and(|end| end == "pcap" || end == "pcapng");
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_capture).collect();
    files.sort();
    if files.is_empty() { Err(format!("{}: no captures", folder.display())) } else { Ok(files) }
}

fn translator(any_port: bool) -> Result<Translator<Heap>, String> {
    let config =
        Config::new([0x5a; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65_535).midstream(Midstream::Adopt);
    let mut translator = Translator::new(config, Heap::new(256, 1).fragments(64)).map_err(|error| error.to_string())?;
    let divert = Divert::new(Prefix::ALL).to(Ipv4Addr::new(123, 45, 67, 89));
    let divert = if any_port { divert.replies_from_any_port() } else { divert };
    translator.divert(divert).map_err(|error| error.to_string())?;
    Ok(translator)
}

/// Runs a capture once, packet by packet, and takes down what went in and what came out.
fn prepare(file: &Path, any_port: bool) -> Result<Prepared, String> {
    let about = |error: &dyn core::fmt::Display| format!("{}: {error}", file.display());
    let mut capture = Capture::open(File::open(file).map_err(|e| about(&e))?).map_err(|e| about(&e))?;
    let mut translator = translator(any_port)?;
    let mut mirror = Mirror::new(any_port);
    let mut first_fragments = HashMap::new();
    let mut start = None;
    let mut steps = Vec::new();
    while let Some(record) = capture.next_record().map_err(|e| about(&e))? {
        let Some(Content::Ipv4(frame)) = record.link.ok().map(|link| link.content(record.frame)) else {
            continue;
        };
        let Some(packet) = Packet::read(frame).and_then(|packet| Packet::read(frame.get(..packet.total_length())?))
        else {
            continue;
        };
        let since: Duration = record.time.saturating_sub(*start.get_or_insert(record.time));
        let at = Instant::ZERO + since;
        let mirrored = match packet.fragment_of() {
            Some(datagram) if packet.is_later_fragment() => first_fragments.get(&datagram).copied().flatten(),
            Some(datagram) => *first_fragments.entry(datagram).or_insert(mirror.answer(&translator, packet)),
            None => mirror.answer(&translator, packet),
        };
        let mut before = packet.bytes().to_vec();
        if let Some(mirrored) = mirrored {
            mirrored.write(&mut before);
        } else if let Some(error) = mirror.error(&translator, packet) {
            before = error;
        }
        let mut after = before.clone();
        let verdict = translator.translate(at, &mut after);
        while translator.poll_event().is_some() {}
        if verdict == Verdict::ToServer {
            mirror.asked(packet);
        }
        steps.push(Step { at, before, after, verdict });
    }
    match steps.iter().find(|step| !matches!(step.verdict, Verdict::ToServer | Verdict::ToClient)) {
        Some(step) => Err(about(&format!("{:?} of {:02x?}", step.verdict, step.before))),
        None => Ok(Prepared { steps, any_port }),
    }
}

/// Nanoseconds for each packet.
fn pass(captures: &[Prepared]) -> Result<f64, String> {
    let (mut taken, mut packets) = (Duration::ZERO, 0);
    let mut room = vec![Vec::new(); CHUNK];
    let mut verdicts = [Verdict::Pass; CHUNK];
    for _ in 0..ROUNDS {
        for capture in captures {
            let mut translator = translator(capture.any_port)?;
            for steps in capture.steps.chunks(CHUNK) {
                for (packet, step) in room.iter_mut().zip(steps) {
                    packet.clear();
                    packet.extend_from_slice(&step.before);
                }
                let start = Clock::now();
                for ((packet, verdict), step) in room.iter_mut().zip(&mut verdicts).zip(steps) {
                    *verdict = translator.translate(step.at, packet);
                }
                taken += start.elapsed();
                packets += steps.len();
                while translator.poll_event().is_some() {}
                for ((packet, verdict), step) in room.iter().zip(&verdicts).zip(steps) {
                    if (packet, *verdict) != (&step.after, step.verdict) {
                        return Err(format!("{verdict:?} of {:02x?}, not {:?}", step.before, step.verdict));
                    }
                }
            }
        }
    }
    Ok(taken.as_nanos() as f64 / packets as f64)
}
