//! The main costs of a packet for those who want `cargo bench`; the judge is `cargo run --release --example speed`.
//!
//! A time is that of 256 packets, and packets per second stand below it.

use core::cell::{Cell, RefCell};
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Borrowed, Config, Divert, INDEX_WORDS, Instant, Prefix, Translator, Verdict, slots};
use divan::Bencher;
use divan::counter::ItemsCount;

const PACKETS: usize = 256;
const CONNECTIONS: [u32; 2] = [1_000, 100_000];
const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

type Packet = [u8; 28];
type Subject = Translator<Borrowed<'static>>;

fn main() {
    divan::main();
}

#[divan::bench(args = CONNECTIONS)]
fn hit(bencher: Bencher<'_, '_>, connections: u32) {
    each(bencher, full(connections), connections, Verdict::ToServer, original);
}

#[divan::bench(args = CONNECTIONS)]
fn burst(bencher: Bencher<'_, '_>, connections: u32) {
    let subject = RefCell::new(full(connections));
    let draw = Draw::new(connections);
    bencher
        .counter(ItemsCount::new(PACKETS))
        .with_inputs(|| (draw.packets(original), [Verdict::Pass; PACKETS]))
        .bench_local_refs(|(packets, verdicts)| {
            subject.borrow_mut().translate_burst(Instant::ZERO, packets, verdicts);
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::ToServer));
        });
}

/// No rule matches, and no rule is about more than one address.
#[divan::bench(args = CONNECTIONS)]
fn pass(bencher: Bencher<'_, '_>, connections: u32) {
    each(bencher, full(connections), connections, Verdict::Pass, elsewhere);
}

/// No rule matches, but one is about a whole prefix.
#[divan::bench(args = CONNECTIONS)]
fn pass_beside_a_prefix(bencher: Bencher<'_, '_>, connections: u32) {
    let mut subject = full(connections);
    let prefix = Prefix::new(Ipv4Addr::new(203, 0, 113, 0), 24).expect("24 is a length");
    subject.divert(Divert::new(prefix).to(SERVER)).expect("there is room for a rule");
    each(bencher, subject, connections, Verdict::Pass, elsewhere);
}

/// The first packet of a connection, while the table fills up.
#[divan::bench(args = CONNECTIONS, sample_count = 390, sample_size = 1)]
fn new(bencher: Bencher<'_, '_>, connections: u32) {
    let subject = RefCell::new(full(connections));
    let next = Cell::new(connections);
    let now = Cell::new(Instant::ZERO);
    bencher
        .counter(ItemsCount::new(PACKETS))
        .with_inputs(|| {
            if next.get() + PACKETS as u32 > connections {
                next.set(0);
                empty(&mut subject.borrow_mut(), &now);
            }
            let first = next.get();
            next.set(first + PACKETS as u32);
            core::array::from_fn::<_, PACKETS, _>(|number| {
                let flow = first + number as u32;
                packet(client(flow), original(flow))
            })
        })
        .bench_local_refs(|packets| {
            let mut subject = subject.borrow_mut();
            for packet in packets {
                assert_eq!(subject.translate(now.get(), packet), Verdict::ToServer);
            }
        });
}

/// One call a packet, with the assertion that each has this verdict.
fn each(
    bencher: Bencher<'_, '_>,
    subject: Subject,
    connections: u32,
    expected: Verdict,
    destination: fn(u32) -> SocketAddrV4,
) {
    let subject = RefCell::new(subject);
    let draw = Draw::new(connections);
    bencher.counter(ItemsCount::new(PACKETS)).with_inputs(|| draw.packets(destination)).bench_local_refs(|packets| {
        let mut subject = subject.borrow_mut();
        for packet in packets {
            assert_eq!(subject.translate(Instant::ZERO, packet), expected);
        }
    });
}

/// A translator with 16 rules and so many UDP connections, each of which was answered.
fn full(connections: u32) -> Subject {
    let room = connections as usize;
    let storage = Borrowed::new(
        vec![slots::Connection::EMPTY; room].leak(),
        vec![0; room * INDEX_WORDS + 16].leak(),
        vec![slots::Divert::EMPTY; 32].leak(),
        vec![slots::Server::EMPTY; 32].leak(),
        vec![slots::Move::EMPTY; 4].leak(),
    );
    let config = Config::new([7; 32]).alternative(ALTERNATIVE, 1024..=65535);
    let mut subject = Translator::new(config, storage).expect("the configuration is good");
    for number in 0..16 {
        let rule = Divert::new(original(number)).to(Ipv4Addr::from_bits(SERVER.to_bits() + number));
        subject.divert(rule).expect("there is room for a rule");
    }
    for flow in 0..connections {
        let mut there = packet(client(flow), original(flow));
        assert_eq!(subject.translate(Instant::ZERO, &mut there), Verdict::ToServer);
        let mut answer = packet(endpoint(&there, 16, 22), endpoint(&there, 12, 20));
        assert_eq!(subject.translate(Instant::ZERO, &mut answer), Verdict::ToClient);
    }
    subject
}

/// Lets every connection end, and what it held.
fn empty(subject: &mut Subject, now: &Cell<Instant>) {
    while subject.slots_in_use() != 0 {
        now.set(now.get() + core::time::Duration::from_secs(301));
        for _ in 0..=subject.capacity() / 64 {
            subject.poll(now.get());
        }
    }
}

/// Packets of flows drawn at random.
struct Draw {
    connections: u32,
    state: Cell<u64>,
}

impl Draw {
    fn new(connections: u32) -> Self {
        Self { connections, state: Cell::new(1) }
    }

    fn packets(&self, destination: fn(u32) -> SocketAddrV4) -> [Packet; PACKETS] {
        core::array::from_fn(|_| {
            let state =
                self.state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.state.set(state);
            let flow = (((state >> 32) * u64::from(self.connections)) >> 32) as u32;
            packet(client(flow), destination(flow))
        })
    }
}

fn client(flow: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_0000 + flow / 16), 4096 + (flow % 16) as u16)
}

fn original(flow: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, (flow % 16) as u8 + 1), 53)
}

fn elsewhere(flow: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x5000_0000 | (flow.wrapping_mul(0x9e37_79b1) >> 8)), 53)
}

fn endpoint(packet: &Packet, address: usize, port: usize) -> SocketAddrV4 {
    let [a, b, c, d] = core::array::from_fn(|at| packet[address + at]);
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([packet[port], packet[port + 1]]))
}

/// A UDP datagram without data and without a UDP checksum.
fn packet(source: SocketAddrV4, destination: SocketAddrV4) -> Packet {
    let mut packet = [0; 28];
    packet[0] = 0x45;
    packet[3] = 28;
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.ip().octets());
    packet[16..20].copy_from_slice(&destination.ip().octets());
    packet[20..22].copy_from_slice(&source.port().to_be_bytes());
    packet[22..24].copy_from_slice(&destination.port().to_be_bytes());
    packet[25] = 8;
    packet
}
