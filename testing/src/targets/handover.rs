//! Hand-overs under attack: forged segments of the client and of every server, servers that answer with garbage, a hook that
//! lies about lengths, instructions at any moment, and records that come back.
//!
//! The input is steps of a byte that says what to do and the bytes that it needs. Numbers are small distances from what the
//! ends would use, so that many are believed.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use byway::{
    Checked, Config, Divert, HandOvers, Heap, Instant, Kept, Observed, Outcome, Position, Record, Redivert, Resumed,
    Resumption, Translator, Verdict,
};

use super::checks;
use super::take;
use byway_testing::packet::{self, ACK, FIN, SYN};

const AT_ONCE: usize = 2;
const CLIENT_START: u32 = u32::MAX - 5;
const SERVER_START: u32 = 7_000;

fn client() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456)
}

fn original() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80)
}

fn server(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89 + number % 3), 80)
}

/// A hook that does what the input says, right or wrong.
struct Liar {
    writes: usize,
    refuses: bool,
    checked: Checked,
    longest: usize,
}

impl Resumption for Liar {
    const OBSERVES: bool = true;

    fn observe(&mut self, observed: &Observed<'_>) {
        assert_eq!((observed.client_side.source, observed.client_side.destination), (client(), original()));
        assert!(!observed.data.is_empty(), "nothing to observe");
    }

    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed {
        assert_eq!((position.client_side.source, position.client_side.destination), (client(), original()));
        buffer.fill(0x55);
        if self.refuses { Resumed::Refuse } else { Resumed::Write(self.writes) }
    }

    fn check(&mut self, _: &Position, received: &[u8]) -> Checked {
        self.longest = self.longest.max(received.len());
        self.checked
    }
}

struct Run<'a> {
    data: &'a [u8],
    now: Instant,
    byway: Translator<Heap>,
    mover: HandOvers<'a, Liar, AT_ONCE>,
    /// The translator's endpoint as each server knows it, and the numbers of the last packet that it got.
    seen: [(SocketAddrV4, u32, u32); 3],
    /// What the client has sent and acknowledged.
    numbers: (u32, u32),
    outcomes: u64,
    refused: u64,
}

impl Run<'_> {
    fn byte(&mut self) -> u8 {
        let [byte] = take(&mut self.data);
        byte
    }

    /// A segment with timestamps, selective acknowledgements, both, or neither.
    fn segment(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        (flags, sequence, acknowledgment): (u8, u32, u32),
    ) -> Vec<u8> {
        let [shape, length, clock, echo] = take(&mut self.data);
        let mut options = Vec::new();
        if flags & SYN != 0 {
            options.extend([2, 4, 2, 24, 1, 3, 3, shape & 15]);
            options.extend(if shape & 16 != 0 { [4, 2, 1, 1] } else { [1; 4] });
        } else if shape & 32 != 0 {
            options.extend([1, 1, 5, 10]);
            options.extend(acknowledgment.wrapping_add(u32::from(length)).to_be_bytes());
            options.extend(acknowledgment.wrapping_add(u32::from(clock) + 9).to_be_bytes());
        }
        if shape & 64 != 0 {
            options.extend([1, 1, 8, 10]);
            options.extend((u32::MAX - 100).wrapping_add(u32::from(clock)).to_be_bytes());
            options.extend((u32::MAX - 100).wrapping_add(u32::from(echo)).to_be_bytes());
        }
        let plain = packet::tcp(from, to, (flags, sequence, acknowledgment), b"");
        let mut bytes = plain[..40].to_vec();
        bytes[32] = ((20 + options.len()) as u8 / 4) << 4;
        bytes.extend(options);
        bytes.extend(vec![b'x'; usize::from(length) * usize::from(shape >> 7 & 1)]);
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        packet::fill_checksums(&mut bytes);
        if shape == 255 {
            bytes[36] ^= echo;
        }
        bytes
    }

    /// What became of a packet, from wherever it came.
    fn arrive(&mut self, before: Vec<u8>) {
        let mut after = before.clone();
        let verdict = self.mover.translate(self.now, &mut self.byway, &mut after);
        if let Verdict::ToServer | Verdict::ToClient = verdict {
            self.left(verdict == Verdict::ToClient, &after);
            assert_eq!(before.len(), after.len());
            let right = |bytes: &[u8]| {
                packet::layout(bytes).map(|layout| packet::sums(bytes, layout).transport == Some(0xffff))
            };
            assert!(
                right(&before) != Some(true) || right(&after) == Some(true),
                "a wrong checksum: {before:x?} {after:x?}"
            );
        } else {
            checks::packet(&before, &after, verdict, false);
        }
        assert!(self.mover.under_way() <= AT_ONCE);
    }

    /// A packet that has left: each end sees no address but its peer's.
    fn left(&mut self, to_client: bool, bytes: &[u8]) {
        let source = SocketAddrV4::new(packet::address(bytes, 12), u16::from_be_bytes([bytes[20], bytes[21]]));
        let destination = SocketAddrV4::new(packet::address(bytes, 16), u16::from_be_bytes([bytes[22], bytes[23]]));
        if bytes[9] != 6 {
            assert!(!to_client || *destination.ip() == *client().ip());
            return;
        }
        if to_client {
            assert_eq!((source, destination), (original(), client()));
            return;
        }
        assert_eq!(*source.ip(), Ipv4Addr::new(10, 10, 10, 10));
        let number = (0..3).find(|n| server(*n) == destination).expect("a packet to nobody");
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        self.seen[usize::from(number)] = (source, word(24), word(28));
    }

    fn transmit(&mut self) {
        let mut buffer = [0; 600];
        for _ in 0..64 {
            let own = self.mover.poll_transmit(self.now, &mut self.byway, &mut buffer);
            let Some(own) = own.or_else(|| self.byway.poll_transmit(self.now, &mut buffer)) else {
                break;
            };
            let bytes = &buffer[..own.length];
            let layout = packet::layout(bytes).expect("a packet of its own");
            let sums = packet::sums(bytes, layout);
            assert_eq!((layout.total, sums.header, sums.transport), (own.length, 0xffff, Some(0xffff)));
            self.left(own.direction == byway::Direction::ToClient, bytes);
        }
        while let Some(outcome) = self.mover.poll_outcome() {
            self.outcomes += 1;
            if let Outcome::Moved { connection, .. } = outcome {
                assert_eq!(connection.client_side.source, client());
            }
        }
        while self.byway.poll_event().is_some() {}
    }

    fn step(&mut self) {
        let kind = self.byte();
        match kind % 16 {
            // The client speaks.
            0..=4 => {
                let [flags, ahead, acknowledged] = take(&mut self.data);
                let flags = if kind.is_multiple_of(16) { flags & 0x37 } else { ACK | flags & FIN & ahead };
                let ahead = if ahead > 250 { u32::from(ahead) << 20 } else { u32::from(ahead) };
                let sequence = self.numbers.0.wrapping_add(ahead).wrapping_sub(8);
                let acknowledgment = self.numbers.1.wrapping_add(u32::from(acknowledged)).wrapping_sub(8);
                let segment = self.segment(client(), original(), (flags, sequence, acknowledgment));
                if acknowledged > 8 && acknowledged < 200 {
                    self.numbers.1 = acknowledgment;
                }
                self.arrive(segment);
            }
            // A server speaks to the translator's endpoint, with the numbers that it should use or near them.
            5..=10 => {
                let [which, flags, ahead, more] = take(&mut self.data);
                let (to, next, expected) = self.seen[usize::from(which % 3)];
                let flags = match which >> 6 {
                    0 => flags & 0x37,
                    1 => SYN | ACK,
                    _ => ACK | flags & FIN & more,
                };
                let sequence = expected.wrapping_add(u32::from(ahead)).wrapping_sub(4);
                let acknowledgment = next.wrapping_add(u32::from(more)).wrapping_sub(4);
                let segment = self.segment(server(which), to, (flags, sequence, acknowledgment));
                self.arrive(segment);
            }
            11 => {
                let [to, writes, check, dropped] = take(&mut self.data);
                let hook = self.mover.resumption();
                (hook.writes, hook.refuses) = (usize::from(writes) * 9, check & 8 != 0);
                hook.checked = match check % 4 {
                    0 => Checked::More,
                    1 => Checked::Refuse,
                    2 if check & 16 != 0 => Checked::Undecided,
                    _ => Checked::Accept { dropped: usize::from(dropped) % (1 + usize::from(check) * 8) },
                };
                let pair = byway::Pair { source: client(), destination: original() };
                let begun = self.mover.begin(self.now, &mut self.byway, &pair, server(to));
                self.refused += u64::from(begun.is_err());
            }
            12 => {
                let [sides, how] = take(&mut self.data);
                let how = [Redivert::HandOver, Redivert::HandOverOrReset, Redivert::Switch, Redivert::Reset]
                    [usize::from(how % 4)];
                let _ = self.byway.redivert(server(sides & 3), server(sides >> 4), how);
            }
            13 => {
                let time = self.byte();
                self.now = self.now + Duration::from_millis(u64::from(time) * u64::from(time) / 4);
                self.byway.poll(self.now);
                self.mover.poll(self.now, &mut self.byway);
                if let Some(due) = self.mover.poll_at(self.now) {
                    assert!(due >= self.now);
                }
            }
            // Its records go elsewhere and come back, or the translator starts anew with them.
            14 => {
                let anew = self.byte();
                let records: Vec<Record> = self.byway.records().collect();
                if anew & 1 != 0 && self.mover.under_way() == 0 {
                    self.byway = translator();
                }
                for record in records {
                    let read = Record::from_bytes(record.as_bytes()).expect("what was written can be read");
                    let _ = self.byway.import(self.now, &read);
                }
            }
            // An ICMP error about what a server got.
            _ => {
                let [which, code, quoted] = take(&mut self.data);
                let (to, sequence, acknowledgment) = self.seen[usize::from(which % 3)];
                let about = packet::tcp(to, server(which), (ACK, sequence, acknowledgment), b"");
                let router = Ipv4Addr::new(5, 6, 7, 2);
                self.arrive(packet::icmp_error(3 + code % 2 * 8, router, *to.ip(), &about, usize::from(quoted)));
            }
        }
        self.transmit();
    }
}

fn translator() -> Translator<Heap> {
    let config = Config::new([0x42; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=1039);
    let mut byway = Translator::new(config, Heap::new(16, 4).events(64).resumable()).expect("a good configuration");
    byway.divert(Divert::new(original()).to(server(0)).resumable()).expect("room for a rule");
    byway
}

pub fn run(data: &[u8]) {
    let hook = Liar { writes: 0, refuses: false, checked: Checked::Accept { dropped: 0 }, longest: 0 };
    let mut memory = [0; 2_048 * AT_ONCE];
    let nowhere = (SocketAddrV4::new(Ipv4Addr::new(10, 10, 10, 10), 1024), 0, 0);
    let mut run = Run {
        data,
        now: Instant::from_secs(5),
        byway: translator(),
        mover: HandOvers::new(hook, &mut memory).patience(Duration::from_secs(2)),
        seen: [nowhere; 3],
        numbers: (CLIENT_START, SERVER_START),
        outcomes: 0,
        refused: 0,
    };
    // A handshake with the first server, unless the input wants none.
    if run.byte() & 7 != 0 {
        let syn = run.segment(client(), original(), (SYN, CLIENT_START, 0));
        run.arrive(syn);
        let to = run.seen[0].0;
        let answer = run.segment(server(0), to, (SYN | ACK, SERVER_START, CLIENT_START.wrapping_add(1)));
        run.arrive(answer);
        run.numbers = (CLIENT_START.wrapping_add(1), SERVER_START.wrapping_add(1));
        let ack = run.segment(client(), original(), (ACK, run.numbers.0, run.numbers.1));
        run.arrive(ack);
    }
    for _ in 0..200 {
        if run.data.is_empty() {
            break;
        }
        run.step();
    }
    let kept: u64 = Kept::ALL.iter().map(|why| run.mover.kept(*why)).sum();
    let told = run.outcomes + run.mover.outcomes_lost() + run.refused;
    assert_eq!(run.mover.moved() + kept, told, "an outcome that was not told");
}
