//! Whatever a network does to the datagrams between a monitor and a translator, loses, repeats, delays or reorders
//! them: the table becomes what the instructions make of it one after the other, each carried out exactly once.

#![cfg(feature = "control")]

mod control_support;
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::control::{Incoming, Instruction, Outcome, Request};
use byway::{Instant, Redivert};
use control_support::*;
use support::*;

/// A sequence of numbers that looks random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Datagrams under way, by when they arrive.
struct Link {
    under_way: Vec<(Instant, Vec<u8>)>,
    /// In percent.
    loss: u64,
}

impl Link {
    fn put(&mut self, now: Instant, datagram: &[u8], dice: &mut Dice) {
        while dice.below(100) >= self.loss {
            // Up to 6 s: longer than a monitor waits, so that what comes late overtakes and is overtaken.
            let delay = if dice.below(4) == 0 { dice.below(6_000) } else { dice.below(50) };
            self.under_way.push((now + Duration::from_millis(delay), datagram.to_vec()));
            // Now and then it arrives twice, or more often.
            if dice.below(3) != 0 {
                break;
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.iter().map(|(at, _)| *at).min()
    }

    fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let place = self.under_way.iter().position(|(at, _)| *at <= now)?;
        Some(self.under_way.swap_remove(place).1)
    }
}

fn instruction(dice: &mut Dice) -> Instruction {
    let original = SocketAddrV4::new(ip("100.0.0.1"), 80 + dice.below(4) as u16);
    let mut server = || SocketAddrV4::new(ip(&format!("20.0.0.{}", 1 + dice.below(3))), 80);
    let (one, other) = (server(), server());
    match dice.below(10) {
        0..=4 => divert(original, one),
        5 | 6 => Instruction::Remove(original.into()),
        7 => Instruction::SetClientLimit(dice.below(3) as u32),
        _ => {
            let how = [Redivert::Switch, Redivert::Drain, Redivert::Reset][dice.below(3) as usize];
            Instruction::Redivert { from: one.into(), to: other.into(), how }
        }
    }
}

fn request(dice: &mut Dice) -> Request {
    // Some are transactions that cannot be carried out; those must do nothing.
    let mut request = Request::new();
    for _ in 0..1 + dice.below(3) {
        request = request.and(instruction(dice)).unwrap();
    }
    if dice.below(8) == 0 { request.only_if(dice.below(5) as u32) } else { request }
}

type Told = (Option<u16>, u32, Vec<(Outcome, u16, u32)>);

fn told(answer: &byway::control::Answer<'_>) -> Told {
    let effects = answer.effects().map(|e| (e.outcome, e.servers, e.connections)).collect();
    (answer.refused().map(|r| r.number), answer.generation(), effects)
}

#[test]
fn each_instruction_is_carried_out_once_and_in_order() {
    let (mut retransmitted, mut completed) = (0_u64, 0_u64);
    for seed in 0..400 {
        let dice = &mut Dice(seed);
        let requests: Vec<Request> = (0..1 + dice.below(12)).map(|_| request(dice)).collect();

        // What it should come to: everything arrives, once.
        let mut model = House::new();
        let mut monitor = model.open(ADMIN, peer(1));
        let expected: Vec<Told> = requests.iter().map(|r| model.ask(&mut monitor, peer(1), r, told)).collect();

        let mut house = House::new();
        let mut client = house.client(ADMIN);
        let loss = dice.below(35);
        let (mut there, mut back) = (Link { under_way: vec![], loss }, Link { under_way: vec![], loss });
        let (mut answers, mut asked) = (Vec::new(), 0);
        let mut gave_up = false;
        for _ in 0..100_000 {
            let now = house.now;
            match client.poll_transmit(now) {
                Ok(Some(datagram)) => {
                    there.put(now, datagram, dice);
                    retransmitted += 1;
                }
                Ok(None) => {}
                // It happens once in a while with bad luck: then what was done is a beginning of it all.
                Err(_) => {
                    gave_up = true;
                    break;
                }
            }
            while let Some(datagram) = there.take(now) {
                if let Ok(answer) = house.give(peer(1), &datagram) {
                    back.put(now, &answer, dice);
                }
            }
            while let Some(datagram) = back.take(now) {
                if let Ok(Incoming::Answer(answer)) = client.handle(now, &datagram) {
                    answers.push(told(&answer));
                }
            }
            if client.is_ready() {
                if asked == requests.len() {
                    break;
                }
                client.send(now, &requests[asked]).unwrap();
                asked += 1;
            }
            let next = [client.poll_at(), there.next(), back.next()].into_iter().flatten().min();
            house.now = next.unwrap().max(now);
        }
        assert_eq!(answers, expected[..answers.len()], "seed {seed}");
        if !gave_up {
            completed += 1;
            assert_eq!(answers.len(), requests.len(), "seed {seed}");
            // What is still under way comes in the end, and changes nothing any more.
            assert_eq!(house.table(), model.table(), "seed {seed}");
            while let Some(at) = there.next() {
                house.now = house.now.max(at);
                let datagram = there.take(house.now).unwrap();
                let _ = house.give(peer(1), &datagram);
            }
            assert_eq!(house.table(), model.table(), "seed {seed}");
            assert_eq!(house.byway.generation(), model.byway.generation(), "seed {seed}");
        }
    }
    assert!(completed > 350 && retransmitted > 5_000, "{completed} {retransmitted}");
}
