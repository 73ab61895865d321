//! Any bytes and any times to `translate`, to three translators that must agree: one over arrays, one over slices of the caller,
//! and one over the heap that takes them in bursts. The second measures connections and no servers, so that each packet takes the
//! slow path, with which the fast paths of the others are compared.
//!
//! The input is a byte of settings and then steps: a byte that says what to do, a length of two bytes, and so many
//! bytes, or what is left.

use byway::{
    Borrowed, Checksums, Config, Divert, Fixed, Heap, InexactReset, Instant, Midstream, PortChoice, Prefix, Protocol,
    Redivert, Storage, TRANSMIT_BUFFER, Translator, Verdict, slots,
};
use core::net::{Ipv4Addr, SocketAddrV4};

use super::checks::{self, Told};
use byway_testing::packet;

const CONNECTIONS: usize = 16;
const RULES: usize = 8;
const ORIGINAL: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);
const FIRST: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 89);
const SECOND: Ipv4Addr = Ipv4Addr::new(123, 45, 67, 90);
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);

pub fn config(settings: u8) -> Config {
    let bit = |n: u8| settings >> n & 1 != 0;
    // Few ports with one setting, so that they run out.
    let ports = if bit(0) { 600..=607 } else { 600..=65535 };
    let mut config = Config::new([0x42; 32]).alternative(ALTERNATIVE, ports).own(Ipv4Addr::new(10, 10, 10, 11));
    config = match settings >> 1 & 3 {
        0 => config.midstream(Midstream::Pass),
        1 => config.midstream(Midstream::Adopt),
        2 => config.midstream(Midstream::Drop),
        _ => config,
    };
    if bit(3) {
        config = config.inexact_reset(InexactReset::Drop).port_choice(PortChoice::Keep).client_limit(5);
    }
    if bit(4) {
        config = config.rewrite_identification(true).tell_changes(true);
    }
    if bit(5) {
        config = config.checksums(Checksums::Hardware);
    }
    config
}

fn rules<S: Storage>(byway: &mut Translator<S>, settings: u8) {
    let http = SocketAddrV4::new(ORIGINAL, 80);
    let tftp = Divert::new(SocketAddrV4::new(ORIGINAL, 69)).protocol(Protocol::Udp).to(FIRST).replies_from_any_port();
    byway.divert(tftp).expect("room for rules");
    byway.divert(Divert::new(http).to(SocketAddrV4::new(FIRST, 8080))).expect("room for rules");
    byway.divert(Divert::new(ORIGINAL).to(SECOND)).expect("room for rules");
    byway.divert(Divert::new(SocketAddrV4::new(ALTERNATIVE, 25)).to(FIRST)).expect("room for rules");
    if settings >> 6 & 1 != 0 {
        byway.divert(Divert::new(ORIGINAL).protocol(Protocol::Icmp).to(FIRST).keep_source()).expect("room for rules");
        byway.divert(Divert::new(ORIGINAL).protocol(Protocol::Udp).to(FIRST).keep_source()).expect("room for rules");
    }
    if settings >> 7 & 1 != 0 {
        byway.divert(Divert::new(Prefix::ALL)).expect("room for rules");
    }
}

/// What a step does, by the lower four bits of its first byte.
fn time_after(now: u64, step: u8, data: &mut &[u8]) -> u64 {
    match step >> 4 {
        0..=5 => now,
        6 => now.saturating_add(1_000),
        7 => now.saturating_add(65_536),
        8 => now.saturating_add(1_000_000),
        9 => now.saturating_add(31_000_000),
        10 => now.saturating_add(125_000_000),
        11 => now.saturating_add(301_000_000),
        12 => now.saturating_add(7_441_000_000),
        13 => now.saturating_sub(10_000_000),
        _ => match data.split_first_chunk::<8>() {
            Some((time, rest)) => {
                *data = rest;
                u64::from_le_bytes(*time)
            }
            None => now,
        },
    }
}

struct Three<'a> {
    fixed: Translator<Fixed<CONNECTIONS, RULES, 4, 64>>,
    borrowed: Translator<Borrowed<'a>>,
    heap: Translator<Heap>,
    told: Told,
    packets: u64,
    hardware: bool,
}

impl Three<'_> {
    fn translate(&mut self, now: Instant, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let mut copies = [packet.to_vec(), packet.to_vec(), packet.to_vec()];
        let [a, b, c] = &mut copies;
        let verdict = self.fixed.translate(now, a);
        assert_eq!(self.borrowed.translate(now, b), verdict);
        let mut verdicts = [Verdict::Pass];
        assert_eq!(self.heap.translate_burst(now, core::slice::from_mut(c), &mut verdicts), 1);
        assert_eq!(verdicts[0], verdict);
        assert!(a == b && a == c, "the storages differ");
        checks::packet(packet, a, verdict, self.hardware);
        self.packets += 1;
        (verdict, core::mem::take(a))
    }

    fn check(&mut self) {
        while let Some(event) = self.fixed.poll_event() {
            assert_eq!(self.borrowed.poll_event(), Some(event));
            assert_eq!(self.heap.poll_event(), Some(event));
            self.told.hear(&event);
        }
        assert_eq!(self.borrowed.poll_event(), None);
        assert_eq!(self.heap.poll_event(), None);
        let counters = self.fixed.counters();
        assert_eq!(checks::outcomes(counters), self.packets, "a packet was not counted once");
        self.told.check(counters);
        checks::alike(&self.fixed, &self.borrowed);
        checks::alike(&self.fixed, &self.heap);
        assert!(self.fixed.slots_in_use() as usize <= CONNECTIONS);
    }

    fn transmit(&mut self, now: Instant) {
        let mut buffers = [[0; TRANSMIT_BUFFER]; 3];
        let [a, b, c] = &mut buffers;
        while let Some(transmit) = self.fixed.poll_transmit(now, a) {
            assert_eq!(self.borrowed.poll_transmit(now, b), Some(transmit));
            assert_eq!(self.heap.poll_transmit(now, c), Some(transmit));
            let said = &a[..transmit.length];
            assert!(said == &b[..transmit.length] && said == &c[..transmit.length]);
            let layout = packet::layout(said).expect("it says what no host would read");
            let sums = packet::sums(said, layout);
            assert_eq!((sums.header, sums.transport), (0xffff, Some(0xffff)), "a wrong checksum of our own");
        }
        assert_eq!(self.borrowed.poll_transmit(now, b), None);
        assert_eq!(self.heap.poll_transmit(now, c), None);
    }
}

pub fn run(data: &[u8]) {
    let Some((&settings, mut data)) = data.split_first() else {
        return;
    };
    let mut connections = [slots::Connection::EMPTY; CONNECTIONS];
    let mut index = [0; CONNECTIONS * byway::INDEX_WORDS];
    let mut diverts = [slots::Divert::EMPTY; RULES];
    let mut servers = [slots::Server::EMPTY; RULES];
    let mut moves = [slots::Move::EMPTY; RULES];
    let mut fragments = [slots::Fragment::EMPTY; 4];
    let mut events = [slots::Event::EMPTY; 64];
    let mut measured = [slots::Measure::EMPTY; CONNECTIONS];
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves)
        .fragments(&mut fragments)
        .events(&mut events)
        .measured(&mut measured);
    let heap = Heap::new(CONNECTIONS, RULES).fragments(4).events(64);
    let mut three = Three {
        fixed: Translator::new(config(settings), Fixed::sized()).expect("a good configuration"),
        borrowed: Translator::new(config(settings), borrowed).expect("a good configuration"),
        heap: Translator::new(config(settings), heap).expect("a good configuration"),
        told: Told::default(),
        packets: 0,
        hardware: settings >> 5 & 1 != 0,
    };
    rules(&mut three.fixed, settings);
    rules(&mut three.borrowed, settings);
    rules(&mut three.heap, settings);

    let mut now = 0;
    // The last packet that was translated, as it came and as it went.
    let mut last: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut steps = 0;
    while let [step, low, high, rest @ ..] = data {
        steps += 1;
        if steps > 200 {
            break;
        }
        let (mut body, after) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        data = after;
        now = time_after(now, *step, &mut body);
        let at = Instant::from_micros(now);
        let mut packet = body.to_vec();
        match (step & 15, &last) {
            // As it is.
            (0..=4, _) => {}
            // With its checksums right.
            (5..=7, _) => packet::fill_checksums(&mut packet),
            // The answer to the last packet, with a few bytes of it changed.
            (8..=10, Some((_, sent))) => {
                packet = packet::mirrored(sent);
                change(&mut packet, body, step & 15 == 8);
            }
            // The last packet once more, with a few bytes of it changed.
            (11, Some((came, _))) => {
                packet = came.clone();
                change(&mut packet, body, true);
            }
            // An ICMP error about it, from a router or from the server.
            (12 | 13, Some((_, sent))) => {
                let kind = body.first().copied().unwrap_or(3);
                let router = if step & 1 == 0 { Ipv4Addr::new(5, 6, 7, 2) } else { packet::address(sent, 16) };
                let quoted = usize::from(body.get(1).copied().unwrap_or(28));
                packet = packet::icmp_error(kind, router, packet::address(sent, 12), sent, quoted);
                change(&mut packet, body.get(2..).unwrap_or_default(), true);
            }
            (14, _) => {
                let how = [Redivert::Switch, Redivert::Drain, Redivert::Reset][body.len() % 3];
                let (from, to) =
                    if body.first().is_some_and(|b| b & 1 != 0) { (FIRST, SECOND) } else { (SECOND, FIRST) };
                let done = three.fixed.redivert(from, to, how);
                assert_eq!(three.borrowed.redivert(from, to, how), done);
                assert_eq!(three.heap.redivert(from, to, how), done);
                continue;
            }
            (15, _) => {
                three.fixed.poll(at);
                three.borrowed.poll(at);
                three.heap.poll(at);
                let next = three.fixed.poll_at();
                assert_eq!(three.borrowed.poll_at(), next);
                assert_eq!(three.heap.poll_at(), next);
                three.transmit(at);
                continue;
            }
            _ => {}
        }
        let (verdict, output) = three.translate(at, &packet);
        if matches!(verdict, Verdict::ToServer | Verdict::ToClient) {
            last = Some((packet, output));
        }
        three.check();
    }
    three.transmit(Instant::from_micros(now));
    three.check();
}

/// Changes bytes of a packet: pairs of a place and a value.
fn change(packet: &mut [u8], changes: &[u8], right: bool) {
    for pair in changes.chunks_exact(2) {
        if let Some(byte) = packet.get_mut(usize::from(pair[0])) {
            *byte = pair[1];
        }
    }
    if right {
        packet::fill_checksums(packet);
    }
}
