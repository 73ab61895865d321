//! All packets that a machine sends and receives, and what must hold of each of them.

use core::time::Duration;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use byway_host::lab::network::{A, ALTERNATIVE, B, OWN, PROXY};
use byway_host::lab::space::Space;
use byway_host::packet::{self, ICMP, TCP, UDP};
use rustix::process::{Pid, Signal, kill_process};

use super::{FOLDER, command, run};

/// A plain packet socket misses more than half of a download: its buffer is small and cannot grow without rights. Wireshark's
/// `dumpcap` has a ring buffer, of this size.
const RING_MIB: usize = 192;

pub(crate) struct Capture {
    space: Space,
    device: &'static str,
    program: Child,
    file: PathBuf,
    /// How many packets there had been when it began.
    before: u64,
}

impl Capture {
    /// Begins to record what a machine's `eth0` sends and receives.
    pub(crate) fn start(space: &Space) -> Self {
        Self::start_on(space, "eth0")
    }

    /// Begins to record what a machine sends and receives over a device.
    pub(crate) fn start_on(space: &Space, device: &'static str) -> Self {
        let file = Path::new(FOLDER).join(format!("capture-{}-{device}", space.name()));
        let mut program = command(&format!("dumpcap -q -P -i {device} -B {RING_MIB} -w {}", file.display()));
        program.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut program = space.run(move || program.spawn()).expect("dumpcap comes with tshark");
        let mut said = String::new();
        let mut lines = BufReader::new(program.stderr.as_mut().expect("it is piped"));
        while !said.contains("File: ") {
            let length = lines.read_line(&mut said).expect("text");
            assert_ne!(length, 0, "dumpcap: {said}");
        }
        Self { before: packets(space, device), space: space.clone(), device, program, file }
    }

    /// Ends it. Every packet that has gone through the interface is in it.
    #[track_caller]
    pub(crate) fn end(mut self) -> Captured {
        let passed = packets(&self.space, self.device) - self.before;
        // What is in the ring gets into the file.
        let length = |file: &Path| std::fs::metadata(file).map_or(0, |data| data.len());
        let mut last = u64::MAX;
        while last != length(&self.file) {
            last = length(&self.file);
            std::thread::sleep(Duration::from_millis(700));
        }
        let pid = Pid::from_raw(self.program.id().cast_signed()).expect("a process");
        kill_process(pid, Signal::INT).expect("it runs");
        let mut said = String::new();
        self.program.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
        assert!(self.program.wait().expect("it was started").success(), "{said}");
        let captured = Captured::read(&self.file);
        let seen = captured.packets;
        assert!(seen as u64 >= passed, "{seen} packets of {passed} are in the capture: {said}");
        std::fs::remove_file(&self.file).expect("it is there");
        captured
    }
}

/// How many packets a machine has sent and received over a device.
fn packets(space: &Space, device: &str) -> u64 {
    let said = run(space, &format!("ip -s -s link show dev {device}"));
    let lines: Vec<_> = said.lines().collect();
    let after = |title: &str| {
        let at = lines.iter().position(|line| line.trim_start().starts_with(title)).expect("a title");
        lines[at + 1].split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number")
    };
    after("RX:") + after("TX:")
}

/// What was recorded.
pub(crate) struct Captured {
    pub(crate) packets: usize,
    /// What was wrong with some.
    pub(crate) wrong: Vec<String>,
}

impl Captured {
    /// Reads a file of the old format, whose numbers are in this machine's order.
    fn read(file: &Path) -> Self {
        const FILE_HEADER: usize = 24;
        const RECORD_HEADER: usize = 16;
        const ETHERNET: usize = 14;
        let mut file = BufReader::with_capacity(1 << 20, std::fs::File::open(file).expect("the capture"));
        let mut header = [0; FILE_HEADER];
        file.read_exact(&mut header).expect("a header");
        assert_eq!(&header[20..], 1_u32.to_ne_bytes(), "Ethernet");
        let (mut captured, mut record, mut frame) =
            (Self { packets: 0, wrong: Vec::new() }, [0; RECORD_HEADER], vec![0; 70_000]);
        while file.read_exact(&mut record).is_ok() {
            let length = |at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes")) as usize;
            assert_eq!(length(8), length(12), "whole packets");
            let frame = &mut frame[..length(8)];
            file.read_exact(frame).expect("a frame");
            captured.packets += 1;
            if frame[12..ETHERNET] == [8, 0] {
                captured.wrong.extend(check(&frame[ETHERNET..]));
            }
        }
        captured
    }

    /// Nothing may have been wrong with any packet, and there must have been traffic to judge.
    #[track_caller]
    pub(crate) fn judge(&self) {
        let (seen, wrong) = (self.packets, &self.wrong);
        assert!(seen > 10, "the client has seen {seen} packets");
        assert!(wrong.is_empty(), "{} of {seen} packets: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    }
}

/// What is wrong with a packet, in words.
fn check(bytes: &[u8]) -> Option<String> {
    let fault = fault(bytes)?;
    let head = &bytes[..bytes.len().min(80)];
    Some(format!("{fault}: {} bytes, {head:02x?}", bytes.len()))
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    let Ok(total) = packet::check(bytes) else {
        return Some("no good IPv4 header");
    };
    let bytes = &bytes[..total];
    let (source, destination, protocol) = (packet::source(bytes), packet::destination(bytes), packet::protocol(bytes));
    let hidden = [A, B, ALTERNATIVE];
    if hidden.contains(&source) || hidden.contains(&destination) {
        return Some("an address that the client must not see");
    }
    if [PROXY, OWN].contains(&source) && protocol != ICMP {
        return Some("the proxy speaks to the client");
    }
    let payload = &bytes[packet::header_length(bytes)..];
    if !packet::is_fragment(bytes) {
        let sum = match protocol {
            TCP => Some(packet::add_sums(packet::pseudo_sum(bytes, payload.len()), packet::sum(payload))),
            UDP if packet::word(payload, 6) != 0 => {
                Some(packet::add_sums(packet::pseudo_sum(bytes, payload.len()), packet::sum(payload)))
            }
            ICMP => Some(packet::sum(payload)),
            _ => None,
        };
        if sum.is_some_and(|sum| sum != 0xffff) {
            return Some("a wrong checksum");
        }
    }
    if protocol == ICMP && matches!(payload.first(), Some(3 | 4 | 5 | 11 | 12)) {
        let quoted = payload.get(8..)?;
        if quoted.len() < 28 || packet::sum(&quoted[..20]) != 0xffff {
            return Some("an ICMP error that quotes no good header");
        }
        let shown = [packet::source(quoted), packet::destination(quoted)];
        if shown.iter().any(|address| hidden.contains(address)) {
            return Some("an ICMP error that quotes what the client must not see");
        }
    }
    None
}
