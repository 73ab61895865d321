//! Packets of every kind that the translator tells apart, and what each call took of the stack.

use core::net::Ipv4Addr;

use byway::{Divert, Fixed, Instant, Prefix, Redivert, TRANSMIT_BUFFER, Target, Translator, Verdict, Weighted};

use crate::packets::{ACK, FIN, Packet, RST, SYN};
use crate::stack::depth;
use crate::{CLIENT, ORIGINAL, SERVERS, at, config};

/// Small, so that it is soon full.
type Storage = Fixed<64, 16, 4, 4, 64>;

/// Another destination: a group of servers.
const GROUP: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 101);
/// Another: its clients keep their addresses.
const KEPT: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 102);
/// A host that no rule speaks of.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A router between the translator and a server.
const BETWEEN: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 254);

pub(crate) struct Bench {
    translator: Translator<Storage>,
    now: Instant,
    /// Deepest call of `translate` since the last line.
    deepest: usize,
    /// How many packets had each verdict, from ToServer to Drop.
    verdicts: [u32; 5],
}

impl Bench {
    fn new() -> Self {
        let mut translator = Translator::new(config(), Storage::sized()).expect("the configuration is good");
        let group = [Weighted::new(SERVERS[0], 3), Weighted::new(SERVERS[1], 1)];
        let everything = Prefix::new(Ipv4Addr::new(100, 64, 0, 0), 10).expect("a prefix");
        for rule in [
            Divert::new(ORIGINAL).to(SERVERS[0]),
            Divert::new(GROUP).to_group(&group),
            Divert::new(KEPT).to(SERVERS[0]).keep_source(),
            Divert::new(everything).to(Target::Same),
        ] {
            translator.divert(rule).expect("there is room");
        }
        Self { translator, now: Instant::from_secs(1), deepest: 0, verdicts: [0; 5] }
    }

    /// Sends a packet through, and returns it as it comes out.
    fn send(&mut self, mut packet: Packet) -> Packet {
        let Self { translator, now, .. } = self;
        let mut verdict = Verdict::Pass;
        let depth = depth(&mut || verdict = translator.translate(*now, packet.bytes()));
        self.deepest = self.deepest.max(depth);
        let place = match verdict {
            Verdict::ToServer => 0,
            Verdict::ToClient => 1,
            Verdict::Pass => 2,
            Verdict::Hold => 3,
            Verdict::Drop(_) => 4,
        };
        self.verdicts[place] += 1;
        packet
    }

    /// A handshake; both ends as the server sees them.
    fn connect(&mut self, port: u16, to: Ipv4Addr) -> Packet {
        let there = self.send(Packet::tcp(at(CLIENT, port), at(to, 80), (SYN, 100, 0), &[]));
        self.send(there.answer_with((SYN | ACK, 500, 101)));
        self.send(Packet::tcp(at(CLIENT, port), at(to, 80), (ACK, 101, 501), &[]))
    }
}

fn udp(bench: &mut Bench) {
    for to in [ORIGINAL, GROUP, KEPT, Ipv4Addr::new(100, 64, 0, 9)] {
        for _ in 0..2 {
            let there = bench.send(Packet::udp(at(CLIENT, 1000), at(to, 53)));
            bench.send(there.answer());
        }
    }
}

fn tcp(bench: &mut Bench) {
    for to in [ORIGINAL, GROUP, KEPT] {
        let client = at(CLIENT, 1001);
        let there = bench.connect(client.port(), to);
        bench.send(Packet::tcp(client, at(to, 80), (ACK, 101, 501), b"GET / HTTP/1.1"));
        bench.send(there.answer_with((ACK, 501, 115)));
        bench.send(there.answer_with((RST, 9, 0)));
        bench.send(Packet::tcp(client, at(to, 80), (FIN | ACK, 115, 501), &[]));
        bench.send(there.answer_with((FIN | ACK, 501, 116)));
        bench.send(Packet::tcp(client, at(to, 80), (ACK, 116, 502), &[]));
        // Anew on the same port, and cut off.
        let there = bench.connect(client.port(), to);
        bench.send(there.answer_with((RST, 501, 0)));
        // From the middle, and in nobody's middle.
        bench.send(Packet::tcp(at(CLIENT, 7777), at(to, 80), (ACK, 1, 1), &[]));
    }
}

fn echo(bench: &mut Bench) {
    for to in [ORIGINAL, KEPT, OTHER] {
        let there = bench.send(Packet::echo(8, CLIENT, to, 77));
        bench.send(there.answer());
    }
}

fn icmp_errors(bench: &mut Bench) {
    for (kind, code) in [(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (5, 0)] {
        for to in [ORIGINAL, KEPT] {
            let there = bench.send(Packet::udp(at(CLIENT, 1002), at(to, 53)));
            bench.send(there.error(kind, code, BETWEEN));
            let back = bench.send(there.answer());
            bench.send(back.error(kind, code, CLIENT));
            let there = bench.connect(1003, to);
            bench.send(there.error(kind, code, BETWEEN));
            let there = bench.send(Packet::echo(8, CLIENT, to, 78));
            bench.send(there.error(kind, code, BETWEEN));
        }
        let stranger = Packet::udp(at(OTHER, 1), at(BETWEEN, 2));
        bench.send(stranger.error(kind, code, BETWEEN));
    }
}

fn fragments(bench: &mut Bench) {
    for (round, to) in [ORIGINAL, KEPT].into_iter().enumerate() {
        for (number, order) in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 0, 1]].into_iter().enumerate() {
            let whole = Packet::udp(at(CLIENT, 1004), at(to, 53)).numbered((round * 16 + number) as u16);
            for piece in order {
                bench.send(whole.fragment(16 * piece, 16 * (piece + 1)));
            }
            bench.send(whole.fragment(8, 40));
        }
        let whole = Packet::tcp(at(CLIENT, 1005), at(to, 80), (SYN, 1, 0), &[1; 40]).numbered(99);
        bench.send(whole.fragment(0, 8));
        bench.send(whole.fragment(0, 24));
        bench.send(whole.fragment(24, 60));
        let whole = Packet::echo(8, CLIENT, to, 79).numbered(100);
        bench.send(whole.fragment(0, 24));
        bench.send(whole.fragment(24, 40));
    }
}

fn passing(bench: &mut Bench) {
    bench.send(Packet::udp(at(CLIENT, 1006), at(OTHER, 53)));
    bench.send(Packet::tcp(at(CLIENT, 1006), at(OTHER, 53), (SYN, 1, 0), &[]));
    bench.send(Packet::new(47, CLIENT, ORIGINAL, &[&[0; 40]]));
    let mut six = Packet::udp(at(CLIENT, 1006), at(ORIGINAL, 53));
    six.bytes()[0] = 0x60;
    bench.send(six);
}

fn rediverts(bench: &mut Bench) {
    for how in [Redivert::Switch, Redivert::Drain, Redivert::Reset] {
        for (from, to) in [(SERVERS[0], SERVERS[1]), (SERVERS[1], SERVERS[0])] {
            let mut udp = [None; 3];
            let mut tcp = [None; 3];
            for (place, original) in [ORIGINAL, GROUP, KEPT].into_iter().enumerate() {
                udp[place] = Some(bench.send(Packet::udp(at(CLIENT, 1007), at(original, 53))));
                tcp[place] = Some(bench.connect(1008, original));
            }
            bench.translator.redivert(from, to, how).expect("there is room");
            for (place, original) in [ORIGINAL, GROUP, KEPT].into_iter().enumerate() {
                for there in [udp[place], tcp[place]].into_iter().flatten() {
                    bench.send(there.answer());
                }
                let there = bench.send(Packet::udp(at(CLIENT, 1007), at(original, 53)));
                bench.send(there.answer());
                let there = bench.send(Packet::tcp(at(CLIENT, 1008), at(original, 80), (ACK, 101, 501), b"more"));
                bench.send(there.answer_with((ACK, 501, 105)));
            }
            bench.settle();
        }
    }
}

fn time_outs(bench: &mut Bench) {
    for _ in 0..2 {
        let there = bench.send(Packet::udp(at(CLIENT, 1009), at(ORIGINAL, 53)));
        let tcp = bench.connect(1010, ORIGINAL);
        bench.now = Instant::from_micros(bench.now.as_micros() + 9_000_000_000);
        bench.send(there.answer());
        bench.send(tcp.answer_with((ACK, 501, 101)));
        bench.send(Packet::udp(at(CLIENT, 1009), at(ORIGINAL, 53)));
    }
}

fn full_table(bench: &mut Bench) {
    for number in 0..200_u8 {
        let client = Ipv4Addr::new(10, 1, 1, number);
        bench.send(Packet::udp(at(client, 1011), at(ORIGINAL, 53)));
        bench.send(Packet::tcp(at(client, 1011), at(ORIGINAL, 80), (SYN, 1, 0), &[]));
        bench.send(Packet::echo(8, client, ORIGINAL, 7));
    }
    // Now with connections that are not given up, until a client is told so.
    for number in 0..100 {
        bench.connect(2000 + number, ORIGINAL);
        bench.send(Packet::udp(at(CLIENT, 3000 + number), at(ORIGINAL, 53)));
    }
}

/// What the fuzzer damages.
const SCENARIOS: [(&str, fn(&mut Bench)); 9] = [
    ("UDP", udp),
    ("TCP", tcp),
    ("ICMP echo", echo),
    ("ICMP errors", icmp_errors),
    ("fragments", fragments),
    ("passing", passing),
    ("re-diverts", rediverts),
    ("time-outs", time_outs),
    ("full table", full_table),
];

impl Bench {
    /// Lets the translator do what is due, and say what it has to say.
    fn settle(&mut self) {
        let mut buffer = [0; TRANSMIT_BUFFER];
        for _ in 0..64 {
            self.now = Instant::from_micros(self.now.as_micros() + 20_000);
            self.translator.poll(self.now);
            while self.translator.poll_transmit(self.now, &mut buffer).is_some() {}
            while self.translator.poll_event().is_some() {}
        }
    }
}

/// Random packets of a few hosts and protocols, damaged here and there.
fn damaged(bench: &mut Bench) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |end: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end
    };
    let hosts = [CLIENT, ORIGINAL, GROUP, KEPT, OTHER, crate::ALTERNATIVE, SERVERS[0], SERVERS[1]];
    for _ in 0..20_000 {
        let mut host = || at(hosts[random(hosts.len())], [0, 53, 80, 1007, 1024, 40_000][random(6)]);
        let (source, destination) = (host(), host());
        let mut packet = match random(6) {
            0 | 1 => Packet::udp(source, destination),
            2 | 3 => Packet::tcp(source, destination, (random(32) as u8, random(1 << 16) as u32, 0), b"data"),
            4 => Packet::echo([8, 0][random(2)], *source.ip(), *destination.ip(), random(3) as u16),
            _ => Packet::udp(destination, source).error([3, 5, 11, 12][random(4)], random(5) as u8, *source.ip()),
        };
        match random(4) {
            0 => packet = packet.fragment(8 * random(2), 8 + 8 * random(4)).numbered(random(4) as u16),
            1 => {
                let length = packet.bytes().len();
                packet.bytes()[random(length)] ^= 1 << random(8);
                packet.truncate(if random(4) == 0 { random(length) } else { length });
            }
            _ => {}
        }
        let mut out = bench.send(packet);
        if random(2) == 0 && out.bytes().len() >= 28 {
            bench.send(out.answer());
        }
        if random(512) == 0 {
            let (from, to) = if random(2) == 0 { (SERVERS[0], SERVERS[1]) } else { (SERVERS[1], SERVERS[0]) };
            // Refused where there is nothing to move, or too much under way.
            let _ = bench.translator.redivert(from, to, [Redivert::Switch, Redivert::Reset][random(2)]);
        }
        bench.now = Instant::from_micros(bench.now.as_micros() + random(200_000) as u64);
        if random(16) == 0 {
            bench.settle();
        }
    }
}

/// Runs everything and prints a line for each kind of packet, and one for each other call.
pub(crate) fn run() {
    let mut all = [0; 5];
    for (name, scenario) in SCENARIOS.into_iter().chain([("20 000 damaged packets", damaged as fn(&mut Bench))]) {
        let mut bench = Bench::new();
        scenario(&mut bench);
        semihosting::println!("stack|translate|{name}|{}", bench.deepest);
        for (sum, count) in all.iter_mut().zip(bench.verdicts) {
            *sum += count;
        }
    }
    // If a verdict was never met, then neither was the way to it.
    assert!(!all.contains(&0), "{all:?}");
    others();
}

/// The calls that are not made for each packet.
fn others() {
    let mut bench = Bench::new();
    rediverts(&mut bench);
    full_table(&mut bench);
    let Bench { translator, now, .. } = &mut bench;
    let later = Instant::from_micros(now.as_micros() + 9_000_000_000);
    let rule = Divert::new(OTHER).to(SERVERS[0]);
    let mut buffer = [0; TRANSMIT_BUFFER];
    let transmit = depth(&mut || while translator.poll_transmit(*now, &mut buffer).is_some() {});
    let mut done = false;
    let divert = depth(&mut || done = translator.divert(rule).is_ok());
    let redivert = depth(&mut || done &= translator.redivert(SERVERS[0], SERVERS[1], Redivert::Reset).is_ok());
    let transmit = transmit.max(depth(&mut || while translator.poll_transmit(*now, &mut buffer).is_some() {}));
    let poll = depth(&mut || translator.poll(later));
    let remove = depth(&mut || done &= translator.remove(OTHER).is_some());
    assert!(done, "an instruction was refused");
    for (name, depth) in
        [("poll", poll), ("poll_transmit", transmit), ("divert", divert), ("redivert", redivert), ("remove", remove)]
    {
        semihosting::println!("stack|{name}||{depth}");
    }
}
