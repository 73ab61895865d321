//! Whatever a network does to the datagrams between a monitor and a translator, loses, repeats, delays or reorders
//! them: the table becomes what the instructions make of it one after the other, each carried out exactly once.
//!
//! What fails is shrunk and kept in `tests/proptest-regressions/`; `PROPTEST_CASES` says how many are tried.

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::VecDeque;

use crate::support::*;
use byway::control::{Answer, Client, Incoming, Instruction, Outcome, Request};
use byway::{Instant, Redivert, Timeouts};
use byway_testing::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// What a network does to one datagram. The first is the simplest, which is what a failure is shrunk to.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    Lost,
    /// After so many milliseconds: up to 6 s, longer than a monitor waits, so that it overtakes and is overtaken.
    Delayed(u16),
    /// It comes twice, after these.
    Twice(u16, u16),
}

/// How long the way is when nothing happens.
const DELAY: Duration = Duration::from_millis(10);

fn fate() -> impl Strategy<Value = Fate> {
    let delay = || prop_oneof![0..60_u16, 0..6_000_u16];
    prop_oneof![
        3 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        2 => delay().prop_map(Fate::Delayed),
        1 => (delay(), delay()).prop_map(|(a, b)| Fate::Twice(a, b)),
    ]
}

/// One of the two ways. Once its fates are used up, everything arrives.
struct Line {
    fates: VecDeque<Fate>,
    under_way: Vec<(Instant, Vec<u8>)>,
}

impl Line {
    fn new(fates: &[Fate]) -> Self {
        Self { fates: fates.iter().copied().collect(), under_way: Vec::new() }
    }

    fn put(&mut self, now: Instant, datagram: &[u8]) {
        let after = |millis: u16| now + Duration::from_millis(u64::from(millis));
        let arrivals = match self.fates.pop_front().unwrap_or(Fate::Arrives) {
            Fate::Arrives => [Some(now + DELAY), None],
            Fate::Lost => [None, None],
            Fate::Delayed(millis) => [Some(after(millis)), None],
            Fate::Twice(one, other) => [Some(after(one)), Some(after(other))],
        };
        self.under_way.extend(arrivals.into_iter().flatten().map(|at| (at, datagram.to_vec())));
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.iter().map(|(at, _)| *at).min()
    }

    fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let place = self.under_way.iter().position(|(at, _)| *at <= now)?;
        Some(self.under_way.swap_remove(place).1)
    }
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let original = || (0..4_u16).prop_map(|n| SocketAddrV4::new(ip("100.0.0.1"), 80 + n));
    let server = || (1..4_u8).prop_map(|n| SocketAddrV4::new(ip(&format!("20.0.0.{n}")), 80));
    let how = prop_oneof![Just(Redivert::Switch), Just(Redivert::Drain), Just(Redivert::Reset)];
    let timeouts = (200..300_u64).prop_map(|s| Timeouts { udp: Duration::from_secs(s), ..Timeouts::RECOMMENDED });
    prop_oneof![
        5 => (original(), server()).prop_map(|(original, server)| divert(original, server)),
        2 => original().prop_map(|original| Instruction::Remove(original.into())),
        3 => (server(), server(), how)
            .prop_map(|(from, to, how)| Instruction::Redivert { from: from.into(), to: to.into(), how }),
        1 => (0..3_u32).prop_map(Instruction::SetClientLimit),
        1 => timeouts.prop_map(Instruction::SetTimeouts),
    ]
}

/// Something that a monitor asks for. Some of it cannot be carried out, and must do nothing.
#[derive(Clone, Debug)]
struct Asked {
    instructions: Vec<Instruction>,
    only_if: Option<u32>,
    dry_run: bool,
    /// A client's packet to this original before that, so that there are connections.
    packet: Option<u16>,
}

impl Asked {
    fn request(&self) -> Request {
        let all = self.instructions.iter().try_fold(Request::new(), |all, one| all.and(*one)).unwrap();
        let all = if self.dry_run { all.dry_run() } else { all };
        self.only_if.map_or(all, |generation| all.only_if(generation))
    }

    fn traffic(&self, house: &mut House) {
        if let Some(n) = self.packet {
            let mut packet =
                udp(at(&format!("1.2.3.4:{}", 5000 + n)), at(&format!("100.0.0.1:{}", 80 + n)), b"question");
            let _ = house.byway.translate(house.now, &mut packet);
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let instructions = prop_oneof![3 => vec(instruction(), 1), 1 => vec(instruction(), 2..4)];
    let only_if = option::weighted(0.1, 0..5_u32);
    let packet = option::weighted(0.5, 0..4_u16);
    (instructions, only_if, proptest::bool::weighted(0.1), packet)
        .prop_map(|(instructions, only_if, dry_run, packet)| Asked { instructions, only_if, dry_run, packet })
}

/// What a monitor asks for, and what becomes of the datagrams on both ways.
#[derive(Clone, Debug)]
struct Story {
    asked: Vec<Asked>,
    there: Vec<Fate>,
    back: Vec<Fate>,
}

fn story() -> impl Strategy<Value = Story> {
    (vec(asked(), 1..12), vec(fate(), 0..60), vec(fate(), 0..60)).prop_map(|(asked, there, back)| Story {
        asked,
        there,
        back,
    })
}

/// What a monitor reads in an answer.
type Told = (Option<u16>, u32, Vec<(Outcome, u16, u32)>);

fn told(answer: &Answer<'_>) -> Told {
    let effects = answer.effects().map(|e| (e.outcome, e.servers, e.connections)).collect();
    (answer.refused().map(|r| r.number), answer.generation(), effects)
}

/// How a story went.
#[derive(Debug)]
struct Ending {
    /// Everything was answered; else the monitor gave up.
    complete: bool,
    datagrams: usize,
}

/// Tells a story to a house behind the network, and to another one where everything arrives at once.
fn tell(story: &Story) -> Result<Ending, TestCaseError> {
    let (mut house, mut model) = (House::new(), House::new());
    let mut client = house.client(ADMIN);
    let mut direct = model.open(ADMIN, peer(1));
    let (mut there, mut back) = (Line::new(&story.there), Line::new(&story.back));
    let mut asked = story.asked.iter();
    // What the one under way comes to if it is carried out, and the table before it.
    let (mut expected, mut before): (Option<Told>, _) = (None, model.table());
    let mut datagrams = 0;
    let complete = loop {
        let now = house.now;
        match client.poll_transmit(now) {
            Ok(Some(datagram)) => {
                there.put(now, datagram);
                datagrams += 1;
            }
            Ok(None) => {}
            Err(_) => break false,
        }
        while let Some(datagram) = there.take(now) {
            if let Ok(answer) = house.give(peer(1), &datagram) {
                back.put(now, &answer);
            }
        }
        while let Some(datagram) = back.take(now) {
            if let Some(answer) = answered(&mut client, now, &datagram) {
                prop_assert_eq!(Some(answer), expected.take(), "the answer");
                prop_assert_eq!(house.table(), model.table(), "the table after it");
            }
        }
        if client.is_ready() {
            let Some(next) = asked.next() else { break true };
            model.now = now;
            next.traffic(&mut house);
            next.traffic(&mut model);
            before = model.table();
            expected = Some(model.ask(&mut direct, peer(1), &next.request(), told));
            client.send(now, &next.request()).unwrap();
        }
        let next = [client.poll_at(), there.next(), back.next()].into_iter().flatten().min();
        house.now = next.expect("something is under way").max(now);
    };
    if complete {
        prop_assert_eq!(house.byway.generation(), model.byway.generation());
    }
    // What is still under way comes in the end. It changes nothing, but that what was given up may be carried out yet.
    while let Some(at) = there.next() {
        house.now = house.now.max(at);
        let datagram = there.take(house.now).expect("it has come");
        let _ = house.give(peer(1), &datagram);
    }
    let (table, after) = (house.table(), model.table());
    prop_assert!(table == after || (!complete && table == before), "{table}\nbefore: {before}\nafter: {after}");
    Ok(Ending { complete, datagrams })
}

fn answered(client: &mut Client, now: Instant, datagram: &[u8]) -> Option<Told> {
    match client.handle(now, datagram) {
        Ok(Incoming::Answer(answer)) => Some(told(&answer)),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(500), ..ProptestConfig::default() })]

    #[test]
    fn each_instruction_is_carried_out_once_and_in_order(story in story()) {
        tell(&story)?;
    }
}

/// The property would hold in a network that does nothing, too: this one is as bad as it is meant to be.
#[test]
fn most_stories_have_trouble_and_end_well() {
    let mut runner = TestRunner::deterministic();
    let (mut complete, mut needed, mut sent) = (0, 0, 0);
    for _ in 0..100 {
        let story = story().new_tree(&mut runner).unwrap().current();
        let ending = tell(&story).unwrap();
        if ending.complete {
            complete += 1;
            needed += 2 + story.asked.len();
            sent += ending.datagrams;
        }
    }
    assert!(complete > 80 && complete < 100 && sent > 3 * needed / 2, "{complete} {needed} {sent}");
}
