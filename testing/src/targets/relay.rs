//! What a fuzzer runs: clients, servers and a forger at a relay, beside a model that knows what was sent where.
//!
//! `cargo test` runs it on the corpus and on random bytes; `fuzz/` on what a fuzzer finds.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::BTreeMap;

use byway::naming::{FixedRelay, MAX_RELAY_QUERY, Relay, RelayConfig, RelayNotice, RelayOutcome, RelayRecord, Relayed};
use byway::{Instant, Pair};

const CAPACITY: usize = 5;
const PATIENCE: Duration = Duration::from_millis(1_000);
const HEADER: usize = 12;

/// Takes values from the input; zeros when it has ended.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// One query at a server.
#[derive(Clone, Debug)]
struct Open {
    client: Pair,
    query: Vec<u8>,
    server: SocketAddrV4,
    sent: Vec<u8>,
}

/// Where the question of a message ends, if it has one in full.
fn question(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    while *message.get(at)? != 0 {
        at += 1 + usize::from(*message.get(at)?);
    }
    message.get(at + 4)?;
    Some(at + 5)
}

/// Whether a record that ends with the message is a signature: only its identifier may then change.
fn is_signed(query: &[u8]) -> bool {
    let Some(end) = question(query) else { return false };
    let mut at = end;
    while at + 11 <= query.len() {
        while query[at] != 0 && query[at] < 0xc0 {
            at += 1 + usize::from(query[at]);
        }
        at += if query[at] == 0 { 1 } else { 2 };
        if matches!(query[at..at + 2], [0, 250 | 24]) {
            return true;
        }
        at += 10 + usize::from(u16::from_be_bytes([query[at + 8], query[at + 9]]));
    }
    false
}

fn endpoint(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
}

/// How many queries a client may have waiting, if there is a limit.
const SHARE: usize = 3;

struct World {
    is_limited: bool,
    relay: Relay<FixedRelay<CAPACITY>>,
    /// The relay that answers come to, if it is another one.
    takes: Option<Relay<FixedRelay<CAPACITY>>>,
    now: Instant,
    servers: Vec<SocketAddrV4>,
    open: BTreeMap<u16, Open>,
}

impl World {
    fn new(settings: u8, is_split: bool) -> Self {
        let servers: Vec<_> = (0..=settings % 3).map(|n| endpoint(53 + n, 53)).collect();
        let mut config = RelayConfig::new([settings; 32], servers[0]);
        for server in &servers[1..] {
            config = config.server(*server);
        }
        config = config.patience(PATIENCE).attempts(1 + (settings >> 2 & 3)).mix_case(settings & 0x10 == 0);
        if settings & 0x20 != 0 {
            // Few ports, so that some are not free.
            config = config.ports(7_000, 7_003);
        }
        if settings & 0x40 != 0 {
            config = config.clients("10.0.0.0/31".parse().expect("a prefix"));
        }
        if settings & 0x80 != 0 {
            config = config.queries_per_client(SHARE as u32);
        }
        let relay = Relay::new(config.clone(), FixedRelay::new()).expect("good settings");
        let takes = is_split.then(|| Relay::new(config, FixedRelay::new()).expect("good settings"));
        Self {
            is_limited: settings & 0x80 != 0,
            relay,
            takes,
            now: Instant::from_secs(5),
            servers,
            open: BTreeMap::new(),
        }
    }

    fn count(&self, outcome: RelayOutcome) -> u64 {
        self.relay.counters().of(outcome)
    }

    fn all(&self) -> Vec<u64> {
        RelayOutcome::ALL.iter().map(|outcome| self.count(*outcome)).collect()
    }

    /// What the relay has counted that answers come to.
    fn counted(&self) -> u64 {
        let counters = self.takes.as_ref().unwrap_or(&self.relay).counters();
        let expired = counters.of(RelayOutcome::Imported) + counters.of(RelayOutcome::ImportExpired);
        RelayOutcome::ALL.iter().map(|outcome| counters.of(*outcome)).sum::<u64>() - expired
    }

    /// Gives a message to the relay that answers come to, and what that has to tell to the other.
    fn receive(&mut self, from: SocketAddrV4, port: u16, message: &mut [u8]) -> Option<Pair> {
        let Some(takes) = &mut self.takes else { return self.relay.answer(self.now, from, port, message) };
        let client = takes.answer(self.now, from, port, message);
        let notice = takes.take_notice();
        assert!(client.is_none() || notice.is_some());
        if let Some(notice) = notice {
            let notice = RelayNotice::from_bytes(notice.to_bytes()).expect("a notice");
            assert!(self.relay.apply(self.now, notice));
        }
        client
    }

    /// What holds after each step.
    fn check(&self) {
        assert_eq!(self.relay.len(), self.open.len());
        assert!(self.relay.len() <= self.relay.capacity());
        let ended = self.count(RelayOutcome::Answered) + self.count(RelayOutcome::Unanswered);
        assert_eq!(self.count(RelayOutcome::Asked), ended + self.open.len() as u64);
        assert!(self.open.keys().all(|port| self.relay.waits_at(*port)));
        assert_eq!(self.relay.poll_at().is_some(), !self.open.is_empty());
        if self.is_limited {
            let mut clients = BTreeMap::new();
            self.open.values().for_each(|open| *clients.entry(*open.client.source.ip()).or_insert(0) += 1);
            assert!(clients.values().all(|waiting| *waiting <= SHARE), "{clients:?}");
        }
    }

    /// A query was sent: what is in it is the client's, except for what is drawn.
    fn sent(&mut self, client: Pair, query: &[u8], server: SocketAddrV4, port: u16, sent: &[u8]) {
        assert!(self.servers.contains(&server));
        assert_eq!(sent.len(), query.len());
        let end = question(query).expect("a question");
        assert_eq!(sent[2..HEADER], query[2..HEADER]);
        assert!(sent[HEADER..end].eq_ignore_ascii_case(&query[HEADER..end]));
        let differ: Vec<_> = (end..query.len()).filter(|at| sent[*at] != query[*at]).collect();
        assert!(differ.len() <= 2 && differ.last().is_none_or(|last| last - differ[0] < 2), "{differ:?}");
        if is_signed(query) {
            assert_eq!(sent[2..], query[2..]);
        }
        if let Some(takes) = &mut self.takes {
            let mut bytes = [0; RelayRecord::MAX_LENGTH];
            let length = self.relay.record(port).expect("it waits").write(&mut bytes);
            takes.import(self.now, &RelayRecord::read(&bytes[..length]).expect("a record")).expect("there is room");
        }
        let open = Open { client, query: query.to_vec(), server, sent: sent.to_vec() };
        assert!(self.open.insert(port, open).is_none(), "two queries wait at one port");
    }

    fn query(&mut self, client: Pair, query: &[u8]) {
        let mut out = [0; MAX_RELAY_QUERY];
        let waits = self.open.values().any(|open| open.client == client && open.query == query);
        let before = self.all();
        match self.relay.query(self.now, client, query, &mut out) {
            Relayed::Ask { server, port, length } => {
                assert!(!waits, "it was asked already");
                self.sent(client, query, server, port, &out[..length]);
            }
            Relayed::Answer { client: to, length } => {
                assert_eq!(to, client);
                own_answer(query, &out[..length]);
            }
            Relayed::Drop(outcome) => {
                assert_eq!(waits, outcome == RelayOutcome::Repeated, "{outcome:?}");
                let is_limit = outcome == RelayOutcome::ClientLimit;
                assert!(!is_limit || (self.is_limited && self.open.len() >= SHARE), "what has ended is not counted");
            }
        }
        let counted: u64 = self.all().iter().zip(before).map(|(after, before)| after - before).sum();
        assert_eq!(counted, 1, "each query is counted once");
        self.check();
    }

    /// A message from any sender to a port. The model says whether it is the answer.
    fn answer(&mut self, from: SocketAddrV4, port: u16, message: &[u8]) {
        let open = self.open.get(&port).filter(|open| is_answer(open, from, message)).cloned();
        let (mut given, before) = (message.to_vec(), self.counted());
        let client = self.receive(from, port, &mut given);
        match (client, open) {
            (Some(client), Some(open)) => {
                assert_eq!(client, open.client);
                assert_eq!(given[..2], open.query[..2], "the client's identifier");
                let end = question(&open.query).expect("a question");
                if !is_signed(&open.query) {
                    assert_eq!(given[HEADER..end], open.query[HEADER..end], "the client's letters");
                }
                assert_eq!((&given[2..HEADER], &given[end..]), (&message[2..HEADER], &message[end..]));
                self.open.remove(&port);
            }
            (None, open) => {
                assert_eq!(given, message);
                // Where the letters are sent as the client wrote them, the model does not know whether that is by chance.
                let is_exact = |open: &Open| {
                    let end = question(&open.sent).expect("a question");
                    message[HEADER..end] == open.sent[HEADER..end]
                };
                assert!(open.is_none_or(|open| !is_exact(&open)), "it was the answer");
            }
            (Some(_), None) => panic!("it is no answer to what was asked"),
        }
        assert_eq!(self.counted(), before + 1, "each answer is counted once");
        self.check();
    }

    /// Does all that is due.
    fn poll(&mut self) {
        let mut out = [0; MAX_RELAY_QUERY];
        let most = self.open.len();
        for _ in 0..=most {
            let Some(done) = self.relay.poll(self.now, &mut out) else {
                self.check();
                return self.expire();
            };
            let mut gone = self.open.clone();
            gone.retain(|port, _| !self.relay.waits_at(*port));
            // The port that was drawn can be the one that it had.
            let again = match done {
                Relayed::Ask { port, .. } if gone.is_empty() => port,
                _ => *gone.first_key_value().expect("one has ended").0,
            };
            assert!(gone.len() <= 1);
            let open = self.open.remove(&again).expect("it was there");
            match done {
                Relayed::Ask { server, port, length } => {
                    self.sent(open.client, &open.query, server, port, &out[..length]);
                }
                Relayed::Answer { client, length } => {
                    assert_eq!(client, open.client);
                    assert_eq!(out[3] & 15, 2, "SERVFAIL");
                    own_answer(&open.query, &out[..length]);
                }
                Relayed::Drop(outcome) => panic!("{outcome:?}"),
            }
            self.check();
        }
        panic!("more was due than there was");
    }

    /// The relay that answers come to forgets what the other has given up.
    fn expire(&mut self) {
        let Some(takes) = &mut self.takes else { return };
        while let Some(done) = takes.poll(self.now, &mut [0; MAX_RELAY_QUERY]) {
            assert_eq!(done, Relayed::Drop(RelayOutcome::ImportExpired));
        }
        assert_eq!(takes.len(), self.open.len());
        assert!(self.open.keys().all(|port| takes.waits_at(*port)));
    }
}

/// What RFC 5452 asks for, written down once more: everything is compared with what was sent.
fn is_answer(open: &Open, from: SocketAddrV4, message: &[u8]) -> bool {
    let end = question(&open.sent).expect("a question");
    // Only where the client's letters were kept may others come back: then nothing tells that they were mixed.
    let is_right = |said: &[u8]| match open.sent[HEADER..end] == open.query[HEADER..end] {
        true => said.eq_ignore_ascii_case(&open.sent[HEADER..end]),
        false => said == &open.sent[HEADER..end],
    };
    from == open.server
        && message.len() >= end
        && message[..2] == open.sent[..2]
        && message[2] & 0xf8 == 0x80
        && message[4..6] == [0, 1]
        && is_right(&message[HEADER..end])
}

/// What must hold of an answer of the relay's own.
fn own_answer(query: &[u8], answer: &[u8]) {
    assert!(answer.len() <= query.len() && answer.len() >= HEADER, "no amplification");
    assert_eq!(answer[..2], query[..2]);
    assert!(answer[2] & 0x80 != 0 && query[2] & 0x80 == 0);
    assert_eq!(answer[6..10], [0; 4], "no records");
    if answer[5] == 1 {
        let end = question(query).expect("a question");
        assert_eq!(answer[HEADER..end], query[HEADER..end]);
        assert_eq!(answer.len(), end + 11 * usize::from(answer[11]));
    } else {
        assert_eq!((answer.len(), answer[5], answer[11]), (HEADER, 0, 0));
    }
}

const NAMES: [&[u8]; 6] = [
    b"\x03www\x02bt\x03org\0",
    b"\x03wWw\x02Bt\x03ORG\0",
    b"\0",
    b"\x011\0",
    b"\x01a\0",
    b"\x0fa-longer-example\x03org\0",
];

/// The first byte is settings; then each step is a byte and what it needs. One relay and two, of which one asks and the other
/// takes the answers, do the same for clients.
pub fn run(data: &[u8]) {
    run_with(data, false);
    run_with(data, true);
}

fn run_with(data: &[u8], is_split: bool) {
    let mut input = Input(data);
    let mut world = World::new(input.byte(), is_split);
    for _ in 0..200 {
        if input.0.is_empty() {
            break;
        }
        let step = input.byte();
        match step % 8 {
            // A usual query.
            0 | 1 => {
                let (name, record, who) = (input.byte(), input.byte(), input.byte());
                let records: [&[u8]; 4] = [
                    b"",
                    b"\0\0\x29\x10\0\0\0\x80\0\0\0",
                    b"\0\0\x29\x02\0\0\0\0\0\0\0",
                    b"\0\0\xfa\0\xff\0\0\0\0\0\0",
                ];
                let record = records[usize::from(record) % 4];
                let count = u8::from(!record.is_empty());
                let header = [0x12, who & 3, 1, 0, 0, 1, 0, 0, 0, 0, 0, count];
                let name = NAMES[usize::from(name) % NAMES.len()];
                let mut query = [&header[..], name, &[0, 1 + (name.len() as u8 & 1), 0, 1], record].concat();
                if step & 0x80 != 0 {
                    let (at, byte) = (usize::from(input.byte()) % query.len(), input.byte());
                    query[at] ^= byte;
                }
                world.query(client(who), &query);
            }
            2 => {
                let (who, length) = (input.byte(), input.byte());
                let query = input.bytes(usize::from(length) * 3);
                world.query(client(who), &query);
            }
            // The server's answer, or a forgery of it by somebody who sees everything.
            3..=5 => {
                let which = usize::from(input.byte());
                let Some((port, open)) = world.open.iter().nth(which % world.open.len().max(1)) else { continue };
                let (mut port, mut from, mut message) = (*port, open.server, open.sent.clone());
                message[2] |= 0x80;
                message.extend(input.bytes(usize::from(step >> 5)));
                if step % 8 == 4 {
                    message.make_ascii_lowercase();
                    // The identifier and the flags are no letters.
                    message[..HEADER]
                        .copy_from_slice(&[&open.sent[..2], &[open.sent[2] | 0x80], &open.sent[3..HEADER]].concat());
                }
                if step % 8 == 5 {
                    let (at, byte) = (usize::from(input.byte()), input.byte());
                    match at % 4 {
                        0 => port ^= u16::from(byte),
                        1 => from = endpoint(byte, 53),
                        2 => from.set_port(u16::from(byte)),
                        _ => {
                            let place = at / 4 % message.len();
                            message[place] ^= byte;
                        }
                    }
                }
                world.answer(from, port, &message);
            }
            6 => {
                let (from, port, length) =
                    (input.byte(), u16::from_be_bytes([input.byte(), input.byte()]), input.byte());
                let message = input.bytes(length.into());
                world.answer(endpoint(from, 53), port, &message);
            }
            _ => {
                let millis = u64::from(input.byte()) * 10;
                world.now = world.now + Duration::from_millis(millis);
            }
        }
        world.poll();
    }
    // In the end everybody is told.
    for _ in 0..6 {
        world.now = world.now + PATIENCE;
        world.poll();
    }
    assert!(world.relay.is_empty() && world.relay.poll_at().is_none());
}

fn client(who: u8) -> Pair {
    let source = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, who >> 2 & 3), 4_000 + u16::from(who >> 4 & 1));
    let destination = SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 53);
    Pair { source, destination }
}

/// Sequences to begin with: queries, their answers, and time-outs, with each of some settings.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for settings in [0_u8, 1, 2, 5, 0x0c, 0x10, 0x21, 0x40] {
        for name in 0..6_u8 {
            let asks = [0, name, name, 4 * name];
            let answers = [[3, 0].to_vec(), [4, 0].to_vec(), [5, 0, 3 + 16 * name, 1].to_vec(), [7, 100].to_vec()];
            for answer in answers {
                let steps = [&asks[..], &asks, &[0, name, 1, 5], &answer, &[3, 0, 7, 100, 3, 1]].concat();
                seeds.push([&[settings][..], &steps].concat());
            }
        }
    }
    seeds
}
