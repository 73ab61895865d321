//! Made-up servers in simulated time, behind a rule that ejects.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::VecDeque;

use byway::{Divert, Heap, Instant, Measurements, Redivert, RedivertError, Translator, Weighted};
use byway_testing::talk::*;
use byway_testing::*;

/// What a server does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Well,
    /// A RST for each SYN.
    Refuses,
    /// It accepts and never answers.
    Hangs,
    /// No answer to any SYN.
    Vanished,
    /// A RST for each request.
    Resets,
    /// A FIN for each request.
    Closes,
    /// One connection in so many is refused.
    RefusesOneIn(u64),
    /// As `Refuses`, for clients with this address.
    Bans(Ipv4Addr),
    /// It answers, but the client waits in the middle of its request: a slow request, as attackers send.
    HearsHalf(Ipv4Addr),
}
pub(super) use Server::{Bans, Closes, Hangs, HearsHalf, Refuses, RefusesOneIn, Resets, Vanished, Well};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Sticky,
    LeastLoaded,
}
pub(super) const BOTH_CHOICES: [Choice; 2] = [Choice::Sticky, Choice::LeastLoaded];

pub(super) struct World {
    pub(super) t: Translator<Heap>,
    pub(super) now: Instant,
    pub(super) servers: Vec<Server>,
    pub(super) weights: Vec<u16>,
    pub(super) choice: Choice,
    pub(super) dice: Dice,
    pub(super) port: u16,
    /// Clients of connections that nobody answers.
    pub(super) open: Vec<SocketAddrV4>,
    /// Those that were answered and end half a second later.
    pub(super) served: VecDeque<(Instant, SocketAddrV4, SocketAddrV4, SocketAddrV4)>,
}

pub(super) fn server(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1400_0001 + number as u32), 80)
}

impl World {
    pub(super) fn new(servers: &[Server], choice: Choice) -> Self {
        Self::with_rules(10, servers, choice)
    }

    /// With room for so many rules. With more than 1024 they have an index.
    pub(super) fn with_rules(rules: usize, servers: &[Server], choice: Choice) -> Self {
        let t = Translator::new(config(), Heap::new(20_000, rules).servers(4_000).measured()).unwrap();
        let (servers, weights) = (servers.to_vec(), vec![1; servers.len()]);
        let (now, dice) = (s(100), Dice(1));
        let mut world =
            Self { t, now, servers, weights, choice, dice, port: 1_000, open: Vec::new(), served: VecDeque::new() };
        world.divert();
        world
    }

    pub(super) fn divert(&mut self) {
        let group: Vec<_> = self.weights.iter().enumerate().map(|(n, w)| Weighted::new(server(n), *w)).collect();
        let rule = Divert::new(at(ORIGINAL)).to_group(&group).ejecting();
        let rule = if self.choice == Choice::LeastLoaded { rule.least_loaded() } else { rule };
        self.t.divert(rule).unwrap();
        let entry = self.t.diverts().next().unwrap();
        // A large group stands in an order of its own.
        let (mut listed, mut asked) = (entry.to_string(), rule.to_string());
        if self.weights.len() > 64 {
            let sorted = |text: String| {
                let mut words: Vec<_> = text.split(' ').map(|word| word.trim_end_matches(',')).collect();
                words.sort();
                words.join(" ")
            };
            (listed, asked) = (sorted(listed), sorted(asked));
        }
        assert_eq!(listed, asked, "whatever is ejected, the rule is what was asked for");
    }

    /// As soon as one that was given before is done with, of which so many may be under way.
    pub(super) fn redivert(&mut self, from: SocketAddrV4, to: SocketAddrV4, how: Redivert) {
        while let Err(RedivertError::Busy { .. }) = self.t.redivert(from, to, how).inspect_err(|why| {
            assert!(matches!(why, RedivertError::Busy { .. }), "{why}");
        }) {
            self.t.poll(self.now);
        }
    }

    pub(super) fn client(&mut self, number: u32) -> SocketAddrV4 {
        self.port = self.port.checked_add(1).unwrap_or(1_000);
        SocketAddrV4::new(Ipv4Addr::from_bits(0xc0a8_0000 + number), self.port)
    }

    /// A client connects and asks. Returns its server.
    pub(super) fn go(&mut self, client: u32) -> usize {
        let client = self.client(client);
        let original = at(ORIGINAL);
        let (now, t) = (self.now, &mut self.t);
        let seen = there(t, now, &tcp(client, original, (SYN, 1, 0), b""));
        let (alternative, to) = ends(&seen);
        let number = (to.ip().to_bits() - 0x1400_0001) as usize;
        let does = match self.servers[number] {
            RefusesOneIn(many) => {
                if self.dice.below(many) == 0 {
                    Refuses
                } else {
                    Well
                }
            }
            Bans(address) => {
                if address == *client.ip() {
                    Refuses
                } else {
                    Well
                }
            }
            HearsHalf(address) => {
                if address == *client.ip() {
                    Hangs
                } else {
                    Well
                }
            }
            does => does,
        };
        if does == Vanished {
            self.open.push(client);
            return number;
        }
        if does == Refuses {
            back(t, now, &tcp(to, alternative, (RST | ACK, 0, 2), b""));
            return number;
        }
        back(t, now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
        there(t, now, &tcp(client, original, (ACK, 2, 51), b""));
        there(t, now, &tcp(client, original, (ACK, 2, 51), b"question"));
        let (flags, answer): (u8, &[u8]) = match does {
            Hangs => {
                // Its kernel goes on.
                back(t, now, &tcp(to, alternative, (ACK, 51, 10), b""));
                self.open.push(client);
                return number;
            }
            Resets => (RST, b""),
            Closes => (FIN | ACK, b""),
            _ => (ACK, b"answer"),
        };
        back(t, now, &tcp(to, alternative, (flags, 51, 10), answer));
        match flags {
            RST => {}
            ACK => self.served.push_back((Instant::from_micros(now.as_micros() + 500_000), client, to, alternative)),
            _ => {
                there(t, now, &tcp(client, original, (FIN | ACK, 10, 52), b""));
                back(t, now, &tcp(to, alternative, (ACK, 52, 11), b""));
            }
        }
        number
    }

    /// Ends what has been served.
    pub(super) fn end(&mut self) {
        while let Some((_, client, to, alternative)) = self.served.pop_front_if(|(until, ..)| *until <= self.now) {
            let (now, t) = (self.now, &mut self.t);
            there(t, now, &tcp(client, at(ORIGINAL), (FIN | ACK, 10, 57), b""));
            back(t, now, &tcp(to, alternative, (FIN | ACK, 57, 11), b""));
            there(t, now, &tcp(client, at(ORIGINAL), (ACK, 11, 58), b""));
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Instant::from_micros(self.now.as_micros() + time.as_micros() as u64);
        self.end();
    }

    /// A hundred connections a second of a thousand clients. Returns how many each server got.
    pub(super) fn run(&mut self, seconds: u64) -> Vec<u32> {
        self.run_at(100, seconds)
    }

    /// The same with another number of connections a second.
    pub(super) fn run_at(&mut self, rate: u64, seconds: u64) -> Vec<u32> {
        let mut got = vec![0; self.servers.len()];
        for _ in 0..seconds * rate {
            let client = self.dice.below(1_000) as u32;
            got[self.go(client)] += 1;
            self.pass(Duration::from_micros(1_000_000 / rate));
        }
        got
    }

    pub(super) fn measured(&self, number: usize) -> Measurements {
        self.t.measurements_of(server(number)).unwrap()
    }

    pub(super) fn ejected(&self) -> Vec<bool> {
        (0..self.servers.len()).map(|n| self.measured(n).ejected).collect()
    }
}
