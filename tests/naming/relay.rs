//! The relay: what servers are asked, what clients get, and what somebody who does not see the queries cannot bring about.

mod limits;
mod portions;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::HashSet;

use crate::support::*;
use byway::naming::{
    BorrowedRelay, FixedRelay, MAX_RELAY_QUERY, MAX_RELAY_SERVERS, RELAY_INDEX_WORDS, Relay, RelayConfig, RelayError,
    RelayOutcome, RelaySlot, RelayStorage, Relayed,
};
use byway::{Instant, Pair, Prefix};
use byway_testing::Dice;
use byway_testing::targets::relay as fuzz;
use domain::base::iana::Rcode;
use proptest::prelude::*;

const FIRST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 53), 53);
const SECOND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 53), 5353);
const SECOND_LATER: Duration = Duration::from_secs(1);
const NOW: Instant = Instant::from_secs(1_000);

fn config() -> RelayConfig {
    RelayConfig::new([7; 32], FIRST).server(SECOND)
}

fn relay() -> Relay<FixedRelay<16>> {
    Relay::new(config(), FixedRelay::new()).unwrap()
}

fn client(port: u16) -> Pair {
    let destination = SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 53);
    Pair { source: SocketAddrV4::new(CLIENT, port), destination }
}

/// What a server was asked.
#[derive(Clone, Debug)]
struct Sent {
    server: SocketAddrV4,
    port: u16,
    query: Vec<u8>,
}

impl Sent {
    fn id(&self) -> [u8; 2] {
        [self.query[0], self.query[1]]
    }

    /// The server's answer: with some bytes behind the question that nothing reads.
    fn answer(&self) -> Vec<u8> {
        let mut answer = self.query.clone();
        (answer[2], answer[3]) = (answer[2] | 0x80, 0x80);
        answer.extend([9; 40]);
        answer
    }
}

#[track_caller]
fn sent(done: Relayed, out: &[u8]) -> Sent {
    let Relayed::Ask { server, port, length } = done else { panic!("{done:?}") };
    Sent { server, port, query: out[..length].to_vec() }
}

#[track_caller]
fn ask<S: RelayStorage>(relay: &mut Relay<S>, from: Pair, query: &[u8]) -> Sent {
    let mut out = [0; MAX_RELAY_QUERY];
    let done = relay.query(NOW, from, query, &mut out);
    sent(done, &out)
}

/// What the client is answered at once.
#[track_caller]
fn refused<S: RelayStorage>(relay: &mut Relay<S>, query: &[u8]) -> Vec<u8> {
    let mut out = [0; MAX_RELAY_QUERY];
    let done = relay.query(NOW, client(1), query, &mut out);
    let Relayed::Answer { client: to, length } = done else { panic!("{done:?}") };
    assert_eq!(to, client(1));
    out[..length].to_vec()
}

#[cfg(feature = "alloc")]
fn letters(name: &[u8]) -> usize {
    name.iter().filter(|byte| byte.is_ascii_alphabetic()).count()
}

#[test]
fn an_answer_is_the_servers_but_for_identifier_and_case() {
    let mut relay = relay();
    for (number, (name, record)) in [
        ("www.BT.org", vec![]),
        ("a.b.test", opt(4096, 0, true, &cookie_option(&[1; 24]))),
        ("", opt(512, 0, false, &[])),
    ]
    .into_iter()
    .enumerate()
    {
        let query = if record.is_empty() { query(name, A) } else { query_with(name, A, &record) };
        let asked = ask(&mut relay, client(4000 + number as u16), &query);
        assert_eq!(asked.server, FIRST);
        // The flags with TC, and all that follows the question.
        let mut answer = asked.answer();
        answer[2] |= 2;
        let before = answer.clone();
        let to = relay.answer(NOW, FIRST, asked.port, &mut answer);
        assert_eq!(to, Some(client(4000 + number as u16)));
        let end = 12 + wire(name).len() + 4;
        assert_eq!((&answer[..2], &answer[12..end]), (&query[..2], &query[12..end]));
        assert_eq!((&answer[2..12], &answer[end..]), (&before[2..12], &before[end..]));
        // It was the one answer to it.
        let mut again = before;
        assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut again), None);
    }
    assert!(relay.is_empty());
    let count = |outcome| relay.counters().of(outcome);
    assert_eq!((count(RelayOutcome::Answered), count(RelayOutcome::WrongPort)), (3, 3));
}

/// Who knows everything but one thing, and tries each value of that, has no answer accepted; and then the right one is.
#[test]
fn each_field_is_matched() {
    let name = "abcde.fghij.kl";
    let query = query(name, A);
    let counted = |relay: &Relay<FixedRelay<16>>, outcome| relay.counters().of(outcome);
    let mut relay = relay();
    let asked = ask(&mut relay, client(4000), &query);
    let right = asked.answer();
    let mut forged = right.clone();
    let refuse = |relay: &mut Relay<FixedRelay<16>>, from, port, message: &mut Vec<u8>, outcome| {
        let before = counted(relay, outcome);
        assert_eq!(relay.answer(NOW, from, port, message), None);
        assert_eq!(counted(relay, outcome), before + 1, "{outcome:?}");
    };
    for id in 0..=u16::MAX {
        forged[..2].copy_from_slice(&id.to_be_bytes());
        if id.to_be_bytes() != asked.id() {
            refuse(&mut relay, FIRST, asked.port, &mut forged, RelayOutcome::WrongId);
        }
    }
    forged.copy_from_slice(&right);
    for port in (0..=u16::MAX).filter(|port| *port != asked.port) {
        refuse(&mut relay, FIRST, port, &mut forged, RelayOutcome::WrongPort);
    }
    for port in (0..=u16::MAX).filter(|port| *port != FIRST.port()) {
        let from = SocketAddrV4::new(*FIRST.ip(), port);
        refuse(&mut relay, from, asked.port, &mut forged, RelayOutcome::WrongServer);
    }
    // The other server has not been asked.
    for from in [SECOND, SocketAddrV4::new(CLIENT, 53), SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 54), 53)] {
        refuse(&mut relay, from, asked.port, &mut forged, RelayOutcome::WrongServer);
    }
    // Type and class, the name's bytes and lengths, and how many questions there are.
    let end = asked.query.len();
    for at in (4..6).chain(12..end) {
        for byte in 0..=255 {
            forged.copy_from_slice(&right);
            forged[at] = byte;
            if !byte.eq_ignore_ascii_case(&right[at]) {
                refuse(&mut relay, FIRST, asked.port, &mut forged, RelayOutcome::WrongQuestion);
            }
        }
    }
    for length in 0..12 {
        refuse(&mut relay, FIRST, asked.port, &mut right[..length].to_vec(), RelayOutcome::NoAnswer);
    }
    for length in 12..end {
        refuse(&mut relay, FIRST, asked.port, &mut right[..length].to_vec(), RelayOutcome::WrongQuestion);
    }
    for flags in [0x00, 0x01, 0x88, 0xa8, 0xf8] {
        forged.copy_from_slice(&right);
        forged[2] = flags;
        refuse(&mut relay, FIRST, asked.port, &mut forged, RelayOutcome::NoAnswer);
    }
    assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut right.clone()), Some(client(4000)));
}

/// Each of the 4095 other ways to write a name of twelve letters, by somebody who knows all the rest.
#[test]
fn each_letter_counts() {
    let query = query("abcde.fghij.kl", A);
    let mut fresh = relay();
    let sent = ask(&mut fresh, client(4000), &query);
    let places: Vec<usize> = (12..sent.query.len() - 4).filter(|at| sent.query[*at].is_ascii_alphabetic()).collect();
    assert_eq!(places.len(), 12);
    for flipped in 1..1_u32 << places.len() {
        // The same secret: the same is drawn.
        let mut relay = relay();
        assert_eq!(ask(&mut relay, client(4000), &query).query, sent.query);
        let mut forged = sent.answer();
        for (bit, at) in places.iter().enumerate() {
            forged[*at] ^= ((flipped >> bit & 1) as u8) << 5;
        }
        assert_eq!(relay.answer(NOW, FIRST, sent.port, &mut forged), None);
        assert_eq!(relay.counters().of(RelayOutcome::WrongCase), 1);
        // The right one still comes in time.
        assert_eq!(relay.answer(NOW, FIRST, sent.port, &mut sent.answer()), Some(client(4000)));
    }
}

/// Somebody who does not see the queries knows the server, the time, and the question, which he has the client ask. He sends
/// four million answers with identifiers, ports and case from a generator of his own.
///
/// The probability that one of them is right, with `n` queries open for a name of `l` letters, is n / (2^16 * 64512 * 2^l). Here
/// n = 16 and l = 11, so for all of them together it is 4 * 10^6 * 16 / (2^16 * 64512 * 2^11) = 7 * 10^-6, and without case 1.5 %.
/// What is drawn is always the same, so the test passes always or never.
#[test]
fn who_does_not_see_the_queries_has_no_answer_accepted() {
    const FORGED: u32 = 4_000_000;
    let mut relay = relay();
    let mut open: Vec<Sent> = (0..16).map(|n| ask(&mut relay, client(4000 + n), &query("www.bt.victim", A))).collect();
    // SplitMix64: not what the relay draws with.
    let mut dice = Dice(1);
    let mut forged = query("www.bt.victim", A);
    forged[2] |= 0x80;
    forged.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 6, 6, 6, 6]);
    for number in 0..FORGED {
        let [a, b, c, d, e, f, ..] = dice.number().to_le_bytes();
        forged[..2].copy_from_slice(&[a, b]);
        let bits = u16::from_le_bytes([e, f]);
        for (bit, byte) in forged[12..27].iter_mut().filter(|byte| byte.is_ascii_alphabetic()).enumerate() {
            *byte = *byte & !0x20 | ((bits >> bit & 1) as u8) << 5;
        }
        let mut message = forged.clone();
        assert_eq!(relay.answer(NOW, FIRST, u16::from_le_bytes([c, d]), &mut message), None);
        if number % 250_000 == 0 {
            // Genuine answers go on all the while, and new queries.
            let done = open.remove(0);
            let place = done.port;
            assert!(relay.answer(NOW, FIRST, place, &mut done.answer()).is_some());
            open.push(ask(&mut relay, client(5000 + (number / 250_000) as u16), &query("www.bt.victim", A)));
        }
    }
    let of = |outcome| relay.counters().of(outcome);
    assert_eq!(of(RelayOutcome::WrongPort) + of(RelayOutcome::WrongId), u64::from(FORGED));
    // That he found open ports shows that he has tried; random case is still sent.
    assert!(of(RelayOutcome::WrongId) > 100 && of(RelayOutcome::CaseLost) == 0);
    assert_eq!((of(RelayOutcome::Answered), of(RelayOutcome::WrongCase)), (16, 0));
    for sent in open {
        assert!(relay.answer(NOW, FIRST, sent.port, &mut sent.answer()).is_some(), "the right one is still waited for");
    }
}

/// Ports, identifiers and letters are spread over all that there are, none follows from the others, and another secret
/// draws others.
#[test]
fn what_is_drawn_is_random() {
    const COUNT: usize = 20_000;
    let draw = |secret: u8| {
        let mut relay = Relay::new(RelayConfig::new([secret; 32], FIRST), FixedRelay::<1>::new()).unwrap();
        let one = |_| {
            let sent = ask(&mut relay, client(4000), &query("abcdefgh.ijklmnop", A));
            assert!(relay.answer(NOW, FIRST, sent.port, &mut sent.answer()).is_some());
            sent
        };
        (0..COUNT).map(one).collect::<Vec<_>>()
    };
    let drawn = draw(7);
    // Each bit of each field is set in half of the draws, within six standard deviations of sqrt(20 000) / 2 = 71.
    let is_half = |set: usize| (COUNT / 2 - 425..=COUNT / 2 + 425).contains(&set);
    for bit in 0..16 {
        let set = drawn.iter().filter(|sent| u16::from_be_bytes(sent.id()) >> bit & 1 == 1).count();
        assert!(is_half(set), "bit {bit} of the identifier: {set}");
        // Of 2^16 the highest 1024 numbers are missing, so the highest bits are set a little less often.
        let set = drawn.iter().filter(|sent| (sent.port - 1024) >> bit & 1 == 1).count();
        assert!(is_half(set + if bit > 9 { COUNT / 128 } else { 0 }), "bit {bit} of the port: {set}");
    }
    for at in (13..21).chain(22..30) {
        assert!(is_half(drawn.iter().filter(|sent| sent.query[at].is_ascii_uppercase()).count()), "letter {at}");
    }
    assert!(drawn.iter().all(|sent| sent.port >= 1024));
    // Of 20 000 draws of 65 536 numbers so many are different ones: 65 536 (1 - e^(-20 000 / 65 536)) = 17 237.
    for different in [
        drawn.iter().map(|sent| sent.id().to_vec()).collect::<HashSet<_>>().len(),
        drawn.iter().map(|sent| sent.port.to_be_bytes().to_vec()).collect::<HashSet<_>>().len(),
        drawn.iter().map(|sent| sent.query[12..].to_vec()).collect::<HashSet<_>>().len(),
    ] {
        assert!((16_800..17_600).contains(&different), "{different}");
    }
    let same =
        drawn.iter().zip(draw(8)).filter(|(one, other)| one.port == other.port || one.id() == other.id()).count();
    assert!(same < 10, "{same}");
}

#[test]
fn the_next_server_is_asked_and_at_last_the_client_is_told() {
    let mut relay = relay();
    let query = query_with("www.BT.org", AAAA, &opt(4096, 0, true, &[]));
    let mut asked = vec![ask(&mut relay, client(4000), &query)];
    let mut out = [0; MAX_RELAY_QUERY];
    let mut now = NOW;
    for _ in 0..3 {
        assert_eq!(relay.poll_at(), Some(now + SECOND_LATER));
        assert_eq!(relay.poll(now, &mut out), None);
        now = now + SECOND_LATER;
        let done = relay.poll(now, &mut out).unwrap();
        asked.push(sent(done, &out));
        assert_eq!(relay.poll(now, &mut out), None);
    }
    assert_eq!(asked.iter().map(|sent| sent.server).collect::<Vec<_>>(), [FIRST, SECOND, FIRST, SECOND]);
    for (number, sent) in asked.iter().enumerate() {
        // All of it is drawn anew.
        let is_other =
            |other: &Sent| other.port != sent.port && other.id() != sent.id() && other.query[12..] != sent.query[12..];
        assert!(asked[..number].iter().all(is_other));
        // 1232, whatever the client would take.
        assert!(sent.query.windows(5).any(|five| *five == [0, 0, 41, 4, 0xd0]), "{:?}", sent.query);
        if number < 3 {
            assert_eq!(relay.answer(now, sent.server, sent.port, &mut sent.answer()), None, "too late");
        }
    }
    let done = relay.poll(now + SECOND_LATER, &mut out).unwrap();
    let Relayed::Answer { client: to, length } = done else { panic!("{done:?}") };
    assert_eq!(to, client(4000));
    let message = read(&out[..length]);
    assert_eq!((message.header().id(), message.header().rcode()), (0xbeef, Rcode::SERVFAIL));
    assert_eq!(out[12..query.len() - 11], query[12..query.len() - 11]);
    assert!(message.header().rd() && message.header().ra() && message.opt().unwrap().dnssec_ok());
    assert_eq!((relay.poll_at(), relay.is_empty()), (None, true));
    let of = |outcome| relay.counters().of(outcome);
    assert_eq!((of(RelayOutcome::Asked), of(RelayOutcome::TimedOut), of(RelayOutcome::Unanswered)), (1, 4, 1));
}

/// A server that is gone is given up, tried now and then with one query, and asked again when it answers.
#[test]
fn a_server_that_is_silent_is_asked_last() {
    let mut relay = relay();
    let (mut now, mut out, mut n) = (NOW, [0; MAX_RELAY_QUERY], 0);
    let mut servers = |relay: &mut Relay<FixedRelay<16>>, now: &mut Instant, is_back: bool| {
        n += 1;
        let done = relay.query(*now, client(n), &query("www.bt.org", A), &mut out);
        let mut asked = sent(done, &out);
        let first = asked.server;
        if first == FIRST && !is_back {
            *now = *now + SECOND_LATER;
            asked = sent(relay.poll(*now, &mut out).unwrap(), &out);
        }
        assert_eq!(relay.answer(*now, asked.server, asked.port, &mut asked.answer()), Some(client(n)));
        (first == FIRST, asked.server == FIRST)
    };
    for _ in 0..3 {
        assert_eq!(servers(&mut relay, &mut now, false), (true, false));
    }
    assert_eq!(relay.server(), SECOND);
    for _ in 0..50 {
        assert_eq!(servers(&mut relay, &mut now, false), (false, false));
    }
    now = now + Duration::from_secs(10);
    assert_eq!(servers(&mut relay, &mut now, false), (true, false), "one query tries it");
    assert_eq!(servers(&mut relay, &mut now, false), (false, false));
    now = now + Duration::from_secs(10);
    assert_eq!(servers(&mut relay, &mut now, true), (true, true));
    assert_eq!(servers(&mut relay, &mut now, true), (true, true), "it is back");
}

/// A server that writes names in lower case: each of its clients is answered, from the eighth query on at once. The other
/// server keeps its random case.
#[test]
fn a_server_that_does_not_keep_the_case_is_noticed() {
    let mut relay = relay();
    let mut out = [0; MAX_RELAY_QUERY];
    let query = query("www.Bt.example.ORG", A);
    for number in 0..20 {
        let mut asked = ask(&mut relay, client(4000 + number), &query);
        let lower = |asked: &Sent| {
            let mut answer = asked.answer();
            answer[12..query.len() - 4].make_ascii_lowercase();
            answer
        };
        let is_mixed = number < 8;
        assert_eq!(asked.query[12..] != query[12..], is_mixed, "{number}");
        if is_mixed {
            assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut lower(&asked)), None);
            // Once more, somebody may have repeated it: nothing else happens.
            assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut lower(&asked)), None);
            assert_eq!(relay.poll_at(), Some(NOW));
            let before = asked.clone();
            asked = sent(relay.poll(NOW, &mut out).unwrap(), &out);
            assert_eq!((asked.server, &asked.query[12..]), (FIRST, &query[12..]));
            assert!(asked.port != before.port && asked.id() != before.id());
            assert_eq!(relay.poll(NOW, &mut out), None);
        }
        let mut answer = lower(&asked);
        assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut answer), Some(client(4000 + number)));
        assert_eq!(answer[12..query.len()], query[12..]);
    }
    let of = |outcome| relay.counters().of(outcome);
    assert_eq!((of(RelayOutcome::CaseLost), of(RelayOutcome::WrongCase), of(RelayOutcome::Answered)), (8, 16, 20));
    let _ = ask(&mut relay, client(100), &query);
    let other = sent(relay.poll(NOW + SECOND_LATER, &mut out).unwrap(), &out);
    assert!(other.server == SECOND && other.query[12..] != query[12..]);
}

/// Somebody who guesses port and identifier of seven queries in a row, with the wrong case, has won nothing after the server's
/// next answer; and the queries that he hit are answered.
#[test]
fn a_server_that_keeps_the_case_is_believed() {
    let mut relay = relay();
    let mut out = [0; MAX_RELAY_QUERY];
    let query = query("www.bt.example.org", A);
    for round in 0..30 {
        for hit in 0..7 {
            let number = round * 8 + hit;
            let asked = ask(&mut relay, client(4000 + number), &query);
            assert_ne!(asked.query[12..], query[12..], "random case in round {round}");
            let mut forged = asked.answer();
            forged[13] ^= 0x20;
            assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut forged), None);
            let again = sent(relay.poll(NOW, &mut out).unwrap(), &out);
            assert_eq!(relay.answer(NOW, FIRST, again.port, &mut again.answer()), Some(client(4000 + number)));
        }
        let asked = ask(&mut relay, client(round * 8 + 7), &query);
        assert!(relay.answer(NOW, FIRST, asked.port, &mut asked.answer()).is_some());
    }
}

#[test]
fn a_client_that_repeats_its_query_gets_one_answer() {
    let mut relay = relay();
    let mut out = [0; MAX_RELAY_QUERY];
    let asked = ask(&mut relay, client(4000), &query("www.bt.org", A));
    for _ in 0..50 {
        let again = relay.query(NOW, client(4000), &query("www.bt.org", A), &mut out);
        assert_eq!(again, Relayed::Drop(RelayOutcome::Repeated));
    }
    // Others: another client, another type, another case, and the same from another address of this machine.
    let mut elsewhere = client(4000);
    elsewhere.destination.set_port(54);
    for (from, other) in [
        (client(4001), query("www.bt.org", A)),
        (client(4000), query("www.bt.org", AAAA)),
        (client(4000), query("www.BT.org", A)),
        (elsewhere, query("www.bt.org", A)),
    ] {
        let other = ask(&mut relay, from, &other);
        assert_eq!(relay.answer(NOW, FIRST, other.port, &mut other.answer()), Some(from));
    }
    assert_eq!(relay.answer(NOW, FIRST, asked.port, &mut asked.answer()), Some(client(4000)));
    // Once it has its answer, it may ask anew.
    let _ = ask(&mut relay, client(4000), &query("www.bt.org", A));
    assert_eq!(relay.counters().of(RelayOutcome::Repeated), 50);
}

#[test]
fn what_is_not_relayed_is_said() {
    let mut relay = Relay::new(config().clients("192.0.2.0/24".parse().unwrap()), FixedRelay::<4>::new()).unwrap();
    let mut out = [0; MAX_RELAY_QUERY];
    let broken = query_with("www.bt.org", A, &opt(1232, 0, false, &[0, 10, 0, 1, 1]));
    let pointer = message(0x0100, [1, 0, 0, 0], &[b"\x03www\xc0\x0c\0\x01\0\x01"]);
    let two = message(0x0100, [2, 0, 0, 0], &[&question("a", A), &question("b", A)]);
    let trailing = [query("www.bt.org", A), vec![0]].concat();
    let update = message(0x2800, [1, 0, 0, 0], &[&question("bt.org", SOA)]);
    let long = query_with("www.bt.org", A, &opt(1232, 0, false, &[&[0, 12, 2, 0][..], &[0; 512]].concat()));
    for (query, outcome, code, is_truncated) in [
        (broken, RelayOutcome::Malformed, Rcode::FORMERR, false),
        (pointer, RelayOutcome::Malformed, Rcode::FORMERR, false),
        (two, RelayOutcome::Malformed, Rcode::FORMERR, false),
        (message(0x0100, [0; 4], &[]), RelayOutcome::Malformed, Rcode::FORMERR, false),
        (trailing, RelayOutcome::Malformed, Rcode::FORMERR, false),
        (update, RelayOutcome::NotImplemented, Rcode::NOTIMP, false),
        (query("bt.org", 252), RelayOutcome::Transfer, Rcode::REFUSED, false),
        (query("bt.org", 251), RelayOutcome::Transfer, Rcode::REFUSED, false),
        (long, RelayOutcome::TooLong, Rcode::NOERROR, true),
    ] {
        let answer = refused(&mut relay, &query);
        let said = read(&answer);
        assert_eq!(
            (said.header().id(), said.header().rcode(), said.header().tc()),
            (0xbeef, code, is_truncated),
            "{query:?}"
        );
        assert_eq!(said.header().opcode().to_int() << 3, query[2] & 0x78);
        assert!(answer.len() <= query.len());
        assert_ne!(relay.counters().of(outcome), 0, "{outcome:?}");
    }
    let stranger = Pair { source: "203.0.113.1:4000".parse().unwrap(), ..client(1) };
    let done = relay.query(NOW, stranger, &query("www.bt.org", A), &mut out);
    assert_eq!((done, out[3] & 15), (Relayed::Answer { client: stranger, length: 12 }, 5));
    let response = message(0x8100, [1, 0, 0, 0], &[&question("a", A)]);
    for nothing in [&response[..], &[], &[0; 11]] {
        assert_eq!(relay.query(NOW, client(1), nothing, &mut out), Relayed::Drop(RelayOutcome::NoQuery));
    }
    assert_eq!(relay.query(NOW, client(0), &query("a", A), &mut out), Relayed::Drop(RelayOutcome::NoQuery));
    // What is full is refused, and an answer makes room.
    let first = ask(&mut relay, client(1), &query("a.test", A));
    for port in 2..5 {
        let _ = ask(&mut relay, client(port), &query("a.test", A));
    }
    for _ in 0..3 {
        assert_eq!(relay.query(NOW, client(9), &query("a.test", A), &mut out), Relayed::Drop(RelayOutcome::Full));
    }
    assert!(relay.answer(NOW, FIRST, first.port, &mut first.answer()).is_some());
    let _ = ask(&mut relay, client(9), &query("a.test", A));
    assert_eq!((relay.counters().of(RelayOutcome::Full), relay.len()), (3, 4));
}
