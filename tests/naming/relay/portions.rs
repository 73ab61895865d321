//! Two relays: one asks, and the answers come to the other.

use super::*;
use byway::naming::{RelayNotice, RelayRecord, RelayRecordError};

type One = Relay<FixedRelay<16>>;

/// The record of what was asked, over the wire.
fn carried(asks: &One, port: u16) -> RelayRecord {
    let mut bytes = [0xaa; RelayRecord::MAX_LENGTH];
    let length = asks.record(port).expect("it waits").write(&mut bytes);
    RelayRecord::read(&bytes[..length]).unwrap()
}

/// What the last answer has to tell, over the wire.
fn noticed(takes: &mut One) -> Option<RelayNotice> {
    let notice = takes.take_notice();
    assert_eq!(takes.take_notice(), None);
    notice.map(|notice| RelayNotice::from_bytes(notice.to_bytes()).unwrap())
}

#[test]
fn an_answer_that_comes_to_the_other_relay() {
    let (mut asks, mut takes) = (relay(), relay());
    let signed = message(0x0100, [1, 0, 0, 1], &[&question("www.BT.org", A), &signature()]);
    for (number, query) in [query("www.BT.org", A), query("", A), signed].into_iter().enumerate() {
        let from = client(4_000 + number as u16);
        let sent = ask(&mut asks, from, &query);
        assert_eq!(takes.answer(NOW, FIRST, sent.port, &mut sent.answer()), None, "nothing is known of it yet");
        takes.import(NOW, &carried(&asks, sent.port)).unwrap();
        // A forger has to guess here what he would have to guess there.
        let mut forged = sent.answer();
        forged[0] ^= 1;
        assert_eq!(takes.answer(NOW, FIRST, sent.port, &mut forged), None);
        assert_eq!(takes.answer(NOW, SECOND, sent.port, &mut sent.answer()), None);
        assert_eq!(noticed(&mut takes), None);
        let mut answer = sent.answer();
        assert_eq!(takes.answer(NOW, FIRST, sent.port, &mut answer), Some(from));
        assert_eq!((&answer[..2], &answer[12..query.len()]), (&query[..2], &query[12..]));
        let notice = noticed(&mut takes).unwrap();
        assert!(asks.apply(NOW, notice) && !asks.apply(NOW, notice), "once");
        assert!(asks.is_empty() && takes.is_empty());
    }
    for relay in [&asks, &takes] {
        assert_eq!(relay.counters().of(RelayOutcome::Answered), 3);
    }
    assert_eq!(takes.counters().of(RelayOutcome::Imported), 3);
    assert_eq!(takes.counters().of(RelayOutcome::Asked), 0);
}

fn signature() -> Vec<u8> {
    // The root, TSIG, ANY, a TTL of zero, and data that nobody here reads.
    [&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 4][..], &[1, 2, 3, 4]].concat()
}

/// The first server is silent, the second does not keep the case: the other relay has each attempt, and only the last one
/// is answered.
#[test]
fn each_attempt_has_a_record() {
    let (mut asks, mut takes) = (relay(), relay());
    let mut out = [0; MAX_RELAY_QUERY];
    let query = query("abcdef.ghi", A);
    let first = ask(&mut asks, client(4_000), &query);
    takes.import(NOW, &carried(&asks, first.port)).unwrap();
    let now = NOW + SECOND_LATER;
    let second = sent(asks.poll(now, &mut out).unwrap(), &out);
    assert_eq!(second.server, SECOND);
    takes.import(now, &carried(&asks, second.port)).unwrap();
    assert_eq!((asks.len(), takes.len()), (1, 1));
    // The first attempt is over: its answer comes too late.
    assert_eq!(takes.answer(now, FIRST, first.port, &mut first.answer()), None);
    let mut lower = second.answer();
    lower[12..22].make_ascii_lowercase();
    assert_ne!(lower, second.answer(), "the test itself");
    for is_first in [true, false] {
        assert_eq!(takes.answer(now, SECOND, second.port, &mut lower.clone()), None);
        let notice = noticed(&mut takes);
        assert_eq!(notice.is_some(), is_first, "once for each query");
        assert!(notice.is_none_or(|notice| asks.apply(now, notice)));
    }
    assert_eq!(asks.poll_at(), Some(now), "at once");
    let third = sent(asks.poll(now, &mut out).unwrap(), &out);
    assert_eq!((third.server, &third.query[12..]), (SECOND, &query[12..]));
    takes.import(now, &carried(&asks, third.port)).unwrap();
    assert_eq!(takes.answer(now, SECOND, third.port, &mut third.answer()), Some(client(4_000)));
    assert!(asks.apply(now, noticed(&mut takes).unwrap()));
    assert!(asks.is_empty() && takes.is_empty());
    assert_eq!(asks.poll(now + 60 * SECOND_LATER, &mut out), None);
}

/// What is lost between the two costs an answer, and nothing else: each forgets in time.
#[test]
fn what_is_lost_between_them() {
    let (mut asks, mut takes) = (relay(), relay());
    let mut out = [0; MAX_RELAY_QUERY];
    // A record without an answer.
    let sent = ask(&mut asks, client(4_000), &query("a.test", A));
    takes.import(NOW, &carried(&asks, sent.port)).unwrap();
    assert_eq!(takes.poll_at(), Some(NOW + SECOND_LATER));
    assert_eq!(takes.poll(NOW, &mut out), None);
    let expired = takes.poll(NOW + SECOND_LATER, &mut out);
    assert_eq!(expired, Some(Relayed::Drop(RelayOutcome::ImportExpired)), "it never asks itself");
    assert!(takes.is_empty() && takes.poll_at().is_none());
    // A notice that is lost: the client gets SERVFAIL in the end, as from a server that is silent.
    let mut now = NOW;
    let mut answers = 0;
    while let Some(due) = asks.poll_at() {
        now = due;
        answers += u32::from(matches!(asks.poll(now, &mut out), Some(Relayed::Answer { .. })));
    }
    assert_eq!((answers, asks.counters().of(RelayOutcome::Unanswered)), (1, 1));
    // Notices about nothing, or about another query at the port.
    let old = RelayNotice::from_bytes([4, 1, 0, 0, 1]).unwrap();
    assert!(!asks.apply(now, old));
    // A port that is used again: the record before it is obsolete.
    let sent = ask(&mut asks, client(1), &query("a.test", A));
    let record = carried(&asks, sent.port);
    takes.import(now, &record).unwrap();
    takes.import(now, &record).unwrap();
    assert_eq!(takes.len(), 1, "the same record twice");
    let mut bytes = [0; RelayRecord::MAX_LENGTH];
    let length = record.write(&mut bytes);
    bytes[17] ^= 2;
    takes.import(now, &RelayRecord::read(&bytes[..length]).unwrap()).unwrap();
    assert_eq!((takes.len(), takes.counters().of(RelayOutcome::ImportExpired)), (1, 2), "another client's");
}

#[test]
fn bad_records_change_nothing() {
    let (mut asks, mut takes) = (relay(), relay());
    let sent = ask(&mut asks, client(4_000), &query("a.test", A));
    let mut good = [0; RelayRecord::MAX_LENGTH];
    let length = asks.record(sent.port).unwrap().write(&mut good);
    assert!(asks.record(sent.port ^ 1).is_none());
    let good = &good[..length];
    for length in 0..good.len() {
        let error = RelayRecord::read(&good[..length]).unwrap_err();
        assert_eq!(error, RelayRecordError::Length { bytes: length });
    }
    let edit = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        RelayRecord::read(&bytes)
    };
    assert_eq!(edit(0, 0), Err(RelayRecordError::NoRecord));
    assert_eq!(edit(2, 2), Err(RelayRecordError::Version { version: 2 }));
    // A flag of a slot alone, an address that no client can have, a signature that is not there, port 0, and a question that
    // is cut off.
    let port_zero = RelayRecord::read(&[&good[..30], &[0, 0], &good[32..]].concat());
    for record in [edit(3, 16), edit(12, 224), edit(3, 9), port_zero, edit(36 + 12, 63), edit(36 + 2, 0x80)] {
        assert_eq!(takes.import(NOW, &record.unwrap()), Err(RelayRecordError::NoQuery));
    }
    let server = SocketAddrV4::new([192, 0, 2, 52].into(), 53);
    let unknown = takes.import(NOW, &edit(27, 52).unwrap());
    assert_eq!(unknown, Err(RelayRecordError::UnknownServer { server }));
    assert!(unknown.unwrap_err().to_string().contains("192.0.2.52:53"));
    assert!(takes.is_empty() && takes.counters().of(RelayOutcome::Imported) == 0);
    // Until it is full.
    for port in 1..=17 {
        let mut bytes = good.to_vec();
        bytes[17] = port;
        bytes[31] = port;
        let done = takes.import(NOW, &RelayRecord::read(&bytes).unwrap());
        assert_eq!(done, if port <= 16 { Ok(()) } else { Err(RelayRecordError::Full { capacity: 16 }) });
    }
    assert_eq!(takes.len(), 16);
    for what in [0, 4, 255] {
        assert_eq!(RelayNotice::from_bytes([1, 2, 3, 4, what]), None);
    }
}

/// Any bytes as a record: it is refused, or what was imported expires. And back, it is written as it was read.
#[test]
fn any_bytes_as_a_record() {
    let mut dice = Dice(3);
    let mut asks = relay();
    let mut out = [0; MAX_RELAY_QUERY];
    let sent = ask(&mut asks, client(4_000), &query_with("a.test", A, &opt(4096, 0, true, &[])));
    let mut good = [0; RelayRecord::MAX_LENGTH];
    let length = asks.record(sent.port).unwrap().write(&mut good);
    let mut imported = 0;
    for round in 0..20_000_u64 {
        let mut bytes = good[..length].to_vec();
        for _ in 0..dice.number() % 4 {
            let at = dice.number() as usize % bytes.len();
            bytes[at] = dice.number() as u8;
        }
        let Ok(record) = RelayRecord::read(&bytes) else { continue };
        let mut again = [0; RelayRecord::MAX_LENGTH];
        let written = record.write(&mut again);
        assert_eq!(again[..written], bytes);
        let mut takes = relay();
        if takes.import(NOW, &record).is_ok() {
            imported += 1;
            let _ = takes.answer(NOW, FIRST, sent.port, &mut sent.answer());
            let now = NOW + SECOND_LATER;
            while takes.poll(now, &mut out).is_some() {}
            assert!(takes.is_empty(), "round {round}");
        }
    }
    assert!(imported > 1_000, "{imported}");
}
