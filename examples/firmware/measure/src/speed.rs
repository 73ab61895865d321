//! Instructions per packet, at a thousand connections. Each figure is the difference between making the packets and
//! translating them, and making them only.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Divert, Fixed, Instant, Redivert, Translator, Verdict};

use crate::machine::Counter;
use crate::packets::{ACK, Packet, SYN};
use crate::{CLIENT, ORIGINAL, SERVERS, at, config};

/// Room for twice the connections that there are.
pub(crate) type Storage = Fixed<2048, 16>;

/// Packets of a row, each of another connection.
const PACKETS: u16 = 1000;
/// A destination that no rule speaks of.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

type Make<'a> = &'a dyn Fn(u16) -> Packet;

struct Bench<'a> {
    translator: &'a mut Translator<Storage>,
    counter: Counter,
}

#[inline(never)]
fn translate(translator: &mut Translator<Storage>, now: Instant, packet: &mut [u8]) -> Verdict {
    translator.translate(now, packet)
}

impl Bench<'_> {
    /// Translates `PACKETS` packets and prints what one of them took.
    fn row(&mut self, name: &str, make: Make<'_>, expected: Verdict) {
        let now = Instant::from_secs(1);
        let Self { translator, counter } = self;
        let both = counter.count(|| {
            for number in 0..PACKETS {
                let mut packet = black_box(make)(number);
                let verdict = translate(translator, now, packet.bytes());
                assert!(verdict == expected, "{verdict:?}");
            }
        });
        let making = counter.count(|| {
            for number in 0..PACKETS {
                let mut packet = black_box(make)(number);
                let verdict = black_box(expected);
                black_box(packet.bytes());
                assert!(verdict == expected, "{verdict:?}");
            }
        });
        print(name, both.saturating_sub(making), PACKETS.into());
    }
}

fn print(name: &str, instructions: u32, packets: u32) {
    let tenths = (u64::from(instructions) * 10 + u64::from(packets) / 2) / u64::from(packets);
    semihosting::println!("instructions|{name}|{}.{}", tenths / 10, tenths % 10);
}

/// Both ends of each connection as its server sees them.
type Ends = [(SocketAddrV4, SocketAddrV4); PACKETS as usize];

/// Sends the first packet of each connection through, and notes what came out.
fn ends(translator: &mut Translator<Storage>, make: Make<'_>) -> Ends {
    let mut ends = [(at(CLIENT, 1), at(CLIENT, 1)); PACKETS as usize];
    for (number, ends) in ends.iter_mut().enumerate() {
        let mut packet = make(number as u16);
        let _ = translate(translator, Instant::from_secs(1), packet.bytes());
        *ends = (packet.source(), packet.destination());
    }
    ends
}

pub(crate) fn run(translator: &mut Translator<Storage>, counter: Counter) {
    *translator = Translator::new(config(), Storage::new()).expect("the configuration is good");
    translator.divert(Divert::new(ORIGINAL).to(SERVERS[0])).expect("there is room");
    let mut bench = Bench { translator, counter };

    let udp = |number| Packet::udp(at(CLIENT, 2000 + number), at(ORIGINAL, 53));
    bench.row("a new UDP connection", &udp, Verdict::ToServer);
    let there = ends(bench.translator, &udp);
    let back = |number| {
        let (near, server) = there[usize::from(number)];
        Packet::udp(server, near)
    };
    // The first answer changes the connection's state, and is not what most packets do.
    bench.row("the first UDP answer", &back, Verdict::ToClient);
    bench.row("UDP, to the server", &udp, Verdict::ToServer);
    bench.row("UDP, to the client", &back, Verdict::ToClient);

    let from =
        |number, segment, data: &'static [u8]| Packet::tcp(at(CLIENT, 4000 + number), at(ORIGINAL, 80), segment, data);
    let syn = |number| from(number, (SYN, 100, 0), &[]);
    bench.row("a new TCP connection", &syn, Verdict::ToServer);
    let there = ends(bench.translator, &syn);
    let answer = |number, segment, data: &'static [u8]| {
        let (near, server) = there[usize::from(number)];
        Packet::tcp(server, near, segment, data)
    };
    bench.row("SYN and ACK", &|number| answer(number, (SYN | ACK, 500, 101), &[]), Verdict::ToClient);
    bench.row("the ACK that establishes", &|number| from(number, (ACK, 101, 501), &[]), Verdict::ToServer);
    bench.row("TCP, data to the server", &|number| from(number, (ACK, 101, 501), &[7; 32]), Verdict::ToServer);
    bench.row("TCP, data to the client", &|number| answer(number, (ACK, 501, 133), &[7; 32]), Verdict::ToClient);

    let other = |number| Packet::udp(at(CLIENT, 2000 + number), at(OTHER, 53));
    bench.row("a packet that passes", &other, Verdict::Pass);

    let Bench { translator, counter } = &mut bench;
    let redivert = counter.count(|| {
        let moved = translator.redivert(SERVERS[0], SERVERS[1], Redivert::Switch);
        assert!(moved.is_ok_and(|moved| moved.connections == 2 * u32::from(PACKETS)), "{moved:?}");
    });
    print("the re-divert of 2000 connections", redivert, 1);
    bench.row("the first packet after it", &udp, Verdict::ToServer);
    bench.row("the second packet after it", &udp, Verdict::ToServer);
}
