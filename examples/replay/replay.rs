//! The replay: each packet of the capture goes through the translator, the servers' packets by way of the mirror.

use core::time::Duration;
use std::collections::HashMap;
use std::io;

use byway::{Config, Divert, Heap, Instant, Translator, Verdict};

use crate::arguments::Arguments;
use crate::output::Output;
use crate::report::Summary;
use byway_examples::capture::Record;
use byway_examples::link::Content;
use byway_examples::mirror::{Mirror, Mirrored, write_total_length};
use byway_examples::packet::{Datagram, Packet};

/// Equal captures and arguments are to give equal output. A translator that carries real traffic takes its secret from
/// the machine's source of randomness.
const SECRET: [u8; 32] = [0x5a; 32];

/// How long a fragment waits for the first one of its datagram (RFC 791, section 3.2, says 15 s and up).
const PATIENCE: Duration = Duration::from_secs(30);
/// How many fragments wait at most.
const WAITING: usize = 1024;
/// How many datagrams' first fragments are kept in mind before the old ones are thrown away.
const NOTES: usize = 4096;

pub(crate) struct Replay {
    translator: Translator<Heap>,
    mirror: Mirror,
    /// What became of first fragments, for the later ones.
    notes: HashMap<Datagram, Note>,
    /// How many of those there may be before the old ones are thrown away.
    notes_limit: usize,
    /// Later fragments that overtook their first one, in the capture's order.
    waiting: Vec<Passage>,
    output: Output,
    summary: Summary,
}

/// A packet on its way through.
#[derive(Debug)]
struct Passage {
    number: u64,
    time: Duration,
    /// As it is in the capture.
    captured: Vec<u8>,
    datagram: Option<Datagram>,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    time: Duration,
    /// `None` if the first fragment was a client's, or nobody's.
    mirrored: Option<Mirrored>,
}

/// A translator with the rules that the user asks for.
///
/// # Errors
/// One line that says which of the arguments the library refuses, and why.
pub(crate) fn translator(arguments: &Arguments) -> Result<Translator<Heap>, String> {
    let mut config = Config::new(SECRET);
    if let Some(midstream) = arguments.midstream {
        config = config.midstream(midstream);
    }
    for (address, ports) in &arguments.alternatives {
        config = config.alternative(*address, ports.clone());
    }
    let storage = Heap::new(arguments.connections, arguments.diverts.len()).fragments(256);
    let mut translator = Translator::new(config, storage).map_err(|error| error.to_string())?;
    for &(matches, target) in &arguments.diverts {
        let mut divert = Divert::new(matches).to(target);
        if arguments.replies_from_any_port {
            divert = divert.replies_from_any_port();
        }
        let done = translator.divert(divert).map_err(|error| format!("{matches}={target}: {error}"))?;
        if done.updated {
            return Err(format!("{matches}={target}: {matches} is diverted twice"));
        }
    }
    Ok(translator)
}

impl Replay {
    pub(crate) fn new(arguments: &Arguments, translator: Translator<Heap>, output: Output) -> Self {
        Self {
            translator,
            mirror: Mirror::new(arguments.replies_from_any_port),
            notes: HashMap::new(),
            notes_limit: NOTES,
            waiting: Vec::new(),
            output,
            summary: Summary::default(),
        }
    }

    /// Replays one frame of the capture.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub(crate) fn record(&mut self, record: Record<'_>) -> io::Result<()> {
        self.summary.see(record.time);
        let content = match record.link {
            Ok(link) => link.content(record.frame),
            Err(number) => {
                *self.summary.other_links.entry(number).or_default() += 1;
                Content::Other
            }
        };
        match content {
            Content::Ipv4(bytes) => self.ipv4(&record, bytes),
            Content::Short if record.cut => self.summary.truncated += 1,
            Content::Short | Content::Other => self.summary.not_ipv4 += 1,
        }
        let oldest = self.waiting.iter().map(|passage| passage.number).min();
        self.output.write_before(oldest.unwrap_or(u64::MAX))
    }

    /// Lets go what still waits, and closes the output.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<Summary> {
        while !self.waiting.is_empty() {
            self.give_up_first();
        }
        self.summary.connections = self.translator.counters().opened;
        self.output.finish()?;
        Ok(self.summary)
    }

    fn ipv4(&mut self, record: &Record<'_>, bytes: &[u8]) {
        let packet = Packet::read(bytes);
        let is_whole = |packet: Packet<'_>| (1..=bytes.len()).contains(&packet.total_length());
        if record.cut && !packet.is_some_and(is_whole) {
            self.summary.truncated += 1;
            return;
        }
        let mut captured = bytes.to_vec();
        match packet.map(Packet::total_length) {
            // A large segment, which the network card will cut: it has all that is in the frame.
            Some(0) => write_total_length(&mut captured),
            // What lies behind the packet is the link layer's padding.
            Some(length) => captured.truncate(length.max(packet.map_or(0, Packet::header_length))),
            None => {}
        }
        let datagram = packet.and_then(Packet::fragment_of);
        self.replay(Passage { number: record.number, time: record.time, captured, datagram });
    }

    fn replay(&mut self, passage: Passage) {
        // A connection whose time-out has passed must not be found, and the listing goes by the time of the last call.
        self.translator.poll(instant(passage.time));
        let is_old = |time| passage.time.saturating_sub(time) > PATIENCE;
        while self.waiting.first().is_some_and(|first| is_old(first.time)) || self.waiting.len() > WAITING {
            self.give_up_first();
        }
        let Some(packet) = Packet::read(&passage.captured) else {
            return self.offer_for_good(passage, None);
        };
        if packet.is_later_fragment() {
            let note = passage.datagram.and_then(|datagram| self.notes.get(&datagram));
            return match note.filter(|note| !is_old(note.time)).copied() {
                Some(note) => self.offer_for_good(passage, note.mirrored),
                // Whose fragment it is shows when the first one comes.
                None => self.waiting.push(passage),
            };
        }
        let mirrored = self.mirror.answer(&self.translator, packet);
        let Some(datagram) = passage.datagram else {
            return self.offer_for_good(passage, mirrored);
        };
        if self.notes.len() >= self.notes_limit {
            self.notes.retain(|_, note| !is_old(note.time));
            self.notes_limit = NOTES.max(2 * self.notes.len());
        }
        self.notes.insert(datagram, Note { time: passage.time, mirrored });
        // Those that overtook it come before it here as well: the translator holds them, and gets them again after it.
        self.offer_waiting(datagram, mirrored);
        self.offer_for_good(passage, mirrored);
        self.offer_waiting(datagram, mirrored);
    }

    /// Offers the waiting fragments of a datagram; those that the translator holds wait on.
    fn offer_waiting(&mut self, datagram: Datagram, mirrored: Option<Mirrored>) {
        for passage in core::mem::take(&mut self.waiting) {
            if passage.datagram != Some(datagram) {
                self.waiting.push(passage);
            } else if let Err(held) = self.offer(passage, mirrored) {
                self.waiting.push(held);
            }
        }
    }

    /// Offers the oldest waiting fragment for the last time: its first one has not come.
    fn give_up_first(&mut self) {
        let passage = self.waiting.remove(0);
        self.offer_for_good(passage, None);
    }

    fn offer_for_good(&mut self, passage: Passage, mirrored: Option<Mirrored>) {
        if self.offer(passage, mirrored).is_err() {
            self.summary.held += 1;
        }
    }

    /// Hands a packet to the translator: a server's as the new server would have sent it, any other as it is.
    ///
    /// # Errors
    /// The packet itself, if the translator wants it to be held.
    fn offer(&mut self, passage: Passage, mirrored: Option<Mirrored>) -> Result<(), Passage> {
        let packet = Packet::read(&passage.captured);
        let mut bytes = passage.captured.clone();
        let mut is_answer = mirrored.is_some();
        if let Some(mirrored) = mirrored {
            mirrored.write(&mut bytes);
        } else if let Some(error) = packet.and_then(|packet| self.mirror.error(&self.translator, packet)) {
            bytes = error;
            is_answer = true;
        }
        let verdict = self.translator.translate(instant(passage.time), &mut bytes);
        match verdict {
            Verdict::Hold => return Err(passage),
            Verdict::ToServer => self.summary.to_server += 1,
            Verdict::ToClient => self.summary.to_client += 1,
            Verdict::Pass => self.summary.passed += 1,
            Verdict::Drop(reason) => *self.summary.dropped.entry(reason).or_default() += 1,
        }
        if is_answer {
            self.summary.round_trips.count(verdict, passage.number, &passage.captured, &bytes);
        }
        if verdict == Verdict::ToServer
            && let Some(packet) = packet
        {
            self.mirror.asked(packet);
        }
        if matches!(verdict, Verdict::ToServer | Verdict::ToClient) {
            self.output.send(passage.number, passage.time, bytes);
        }
        Ok(())
    }
}

fn instant(time: Duration) -> Instant {
    Instant::ZERO + time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{self, Wanted};
    use byway_examples::capture::{Capture, CaptureError};
    use byway_testing::Dice;

    fn captures() -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let is_capture = |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "pcap" || e == "pcapng");
        files.filter(is_capture).map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// Replays a file and checks that each of its packets is counted once.
    fn replay(file: &[u8]) -> (Summary, Option<CaptureError>) {
        let line = "in --alternative 10.10.10.10:1024-65535 --divert-all 9.9.9.9 --replies-from-any-port \
                    --midstream adopt --connections 64";
        let Ok(Wanted::Replay(arguments)) = arguments::parse(line.split_whitespace().map(Into::into)) else {
            panic!("the arguments are good");
        };
        let mut capture = match Capture::open(file) {
            Ok(capture) => capture,
            Err(error) => return (Summary::default(), Some(error)),
        };
        let output = Output::new(Box::new(io::sink())).unwrap();
        let mut replay = Replay::new(&arguments, translator(&arguments).unwrap(), output);
        let error = loop {
            match capture.next_record() {
                Ok(Some(record)) => replay.record(record).unwrap(),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let s = replay.finish().unwrap();
        let translated = s.to_server + s.to_client + s.passed + s.held + s.dropped.values().sum::<u64>();
        assert_eq!(s.packets, s.not_ipv4 + s.truncated + translated);
        (s, error)
    }

    #[test]
    fn a_file_that_ends_too_early_is_replayed_up_to_there() {
        for file in captures() {
            let whole = replay(&file).0.packets;
            let mut before = 0;
            let step = file.len() / 12;
            for end in (0..file.len()).step_by(step) {
                let (summary, error) = replay(&file[..end]);
                assert!(summary.packets >= before && summary.packets <= whole);
                // Where a record ends a shorter file is a good one.
                assert!(error.is_some() || summary.packets < whole || file.len() - end <= step);
                before = summary.packets;
            }
        }
    }

    #[test]
    fn damaged_files_are_read_without_a_panic_and_every_packet_is_counted() {
        let mut dice = Dice(1);
        let mut next = |below: usize| dice.index(below);
        let mut damaged = 0;
        for file in captures() {
            for _ in 0..5 {
                let mut file = file.clone();
                for _ in 0..1 + next(40) {
                    let at = next(file.len());
                    file[at] ^= 1 << next(8);
                }
                damaged += u32::from(replay(&file).1.is_some());
            }
        }
        assert!(damaged > 0, "no damage was ever noticed");
    }
}
