//! What it costs to refuse a datagram at the control port, kind by kind, and what a million of them a second leave for
//! the traffic: `cargo run --release --example flood`.
//!
//! With the name of a kind it refuses that kind alone, 10 000 times, for a profiler that counts instructions.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::time::Instant as Clock;

use byway::control::{Agent, Client, Instruction, Key, MAX_ANSWER, Request, Rights};
use byway::{Config, Divert, Heap, Instant, Translator, Verdict};

const SECRET: [u8; 32] = [0x5a; 32];

struct House {
    agent: Agent<4, 4>,
    byway: Translator<Heap>,
    answer: Box<[u8; MAX_ANSWER]>,
    /// A million datagrams a second: each comes a microsecond after the one before.
    micros: u64,
}

impl House {
    /// `hashes` is how many a second may cost a hash in vain; by default as many as an agent has by itself.
    fn new(hashes: Option<u32>) -> Self {
        let agent = Agent::new([1; 32]);
        let mut agent = hashes.map_or(agent.clone(), |limit| agent.hashes_per_second(limit));
        agent.add_key(Key::new(1, SECRET, Rights::All)).expect("there is room");
        let config = Config::new([2; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let mut byway = Translator::new(config, Heap::new(10_000, 16)).expect("the configuration is good");
        let (original, server) = (Ipv4Addr::new(100, 1, 1, 1), Ipv4Addr::new(20, 0, 0, 1));
        byway.divert(Divert::new(original).to(server)).expect("there is room");
        Self { agent, byway, answer: Box::new([0; MAX_ANSWER]), micros: 0 }
    }

    fn give(&mut self, datagram: &[u8]) -> Option<usize> {
        let from = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 40_000));
        self.micros += 1;
        self.agent.handle(Instant::from_micros(self.micros), &mut self.byway, from, datagram, &mut self.answer).ok()
    }

    /// What a monitor wants to send, and the answer taken.
    fn exchange(&mut self, client: &mut Client) -> Vec<u8> {
        let datagram = client.poll_transmit(Instant::ZERO).ok().flatten().expect("there is something").to_vec();
        if let Some(length) = self.give(&datagram) {
            let answer = self.answer[..length].to_vec();
            let _ = client.handle(Instant::ZERO, &answer);
        }
        datagram
    }
}

/// Datagrams that are refused, by what they try.
fn kinds(house: &mut House) -> Vec<(&'static str, Vec<u8>)> {
    let mut client = Client::new(Instant::ZERO, 1, SECRET, [3; 16]);
    let (mut hello, mut open) = (house.exchange(&mut client), house.exchange(&mut client));
    let request = Request::one(Instruction::SetClientLimit(5));
    client.send(Instant::ZERO, &request).expect("it is ready");
    let old = house.exchange(&mut client);
    client.send(Instant::ZERO, &request).expect("it is ready");
    let mut forged = house.exchange(&mut client);
    let stale = open.clone();
    // Another session: this one would only be told that it is old.
    let mut next = Client::new(Instant::ZERO, 1, SECRET, [4; 16]);
    let _ = house.exchange(&mut next);
    if let Ok(Some(datagram)) = next.poll_transmit(Instant::ZERO) {
        open = datagram.to_vec();
    }
    hello[50] ^= 1;
    open[60] ^= 1;
    // A number that would be the next one, and as long as a request may be.
    forged[7] += 1;
    forged.resize(512, 0);
    let mut nobody = forged.clone();
    nobody[8] ^= 1;
    vec![
        ("noise", vec![0x5a; 512]),
        ("no_such_session", nobody),
        ("old_request", old),
        ("used_open", stale),
        ("forged_hello", hello),
        ("forged_open", open),
        ("forged_request", forged),
    ]
}

/// A UDP packet from 1.2.3.4:3456 to 100.1.1.1:80, with 256 bytes of data.
fn packet() -> Vec<u8> {
    let total = 20 + 8 + 256_u16;
    let mut packet = vec![0x45, 0, (total >> 8) as u8, total as u8, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 1, 1, 1];
    let sum: u32 = packet.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    packet.extend([0x0d, 0x80, 0, 80, (264_u16 >> 8) as u8, 264_u16 as u8, 0, 0]);
    packet.resize(usize::from(total), 7);
    packet
}

fn each(times: u32, mut work: impl FnMut()) -> Duration {
    let start = Clock::now();
    (0..times).for_each(|_| work());
    start.elapsed() / times
}

fn main() {
    let (mut house, mut unlimited) = (House::new(None), House::new(Some(u32::MAX)));
    let kinds = kinds(&mut house);
    // The same conversation, so that the same datagrams are refused.
    assert_eq!(self::kinds(&mut unlimited), kinds);
    if let Some(name) = std::env::args().nth(1) {
        let Some((_, datagram)) = kinds.iter().find(|(kind, _)| *kind == name) else {
            eprintln!("flood: no such kind: {name}");
            std::process::exit(2);
        };
        for _ in 0..10_000 {
            assert!(unlimited.give(black_box(datagram)).is_none(), "it is refused");
        }
        return;
    }
    let original = packet();
    let mut copy = original.clone();
    let translate = each(2_000_000, || {
        copy.copy_from_slice(&original);
        assert_eq!(house.byway.translate(Instant::ZERO, black_box(&mut copy)), Verdict::ToServer);
    });
    println!("A packet is translated in {translate:?}. In a flood of a million datagrams a second:\n");
    println!(
        "| refused | one of them alone | in the flood, each | left for the traffic |\n| --- | ---: | ---: | ---: |"
    );
    for (kind, datagram) in &kinds {
        let alone = each(100_000, || assert!(unlimited.give(black_box(datagram)).is_none(), "it is refused"));
        let refuse = each(2_000_000, || assert!(house.give(black_box(datagram)).is_none(), "it is refused"));
        let nanos = |d: Duration| d.as_secs_f64() * 1e9;
        let left = 1.0 - refuse.as_secs_f64() * 1e6;
        let (alone, each) = (nanos(alone), nanos(refuse));
        println!("| {kind} | {alone:.0} ns | {each:.0} ns | {:.1} % |", left.max(0.0) * 100.0);
    }
    let before = house.byway.counters().to_server;
    let verdicts = (0..1_000_000_usize).filter(|i| {
        let (_, datagram) = &kinds[i % kinds.len()];
        let refused = house.give(datagram).is_none();
        copy.copy_from_slice(&original);
        i % 10 != 0 || (refused && house.byway.translate(Instant::ZERO, &mut copy) == Verdict::ToServer)
    });
    let fine = verdicts.count();
    let translated = house.byway.counters().to_server - before;
    println!("\n{fine} of 1000000 datagrams refused as they should, among them {translated} packets translated.");
}
