//! Records of connections that can be handed over, and of those that were: they survive a restart, and portions apart, without
//! a wrong number.

use core::time::Duration;

use byway::{
    DropReason, Fixed, HttpGet, Imported, Kept, Outcome, RECORD_LENGTH, Record, RecordError, Redivert, Translator,
};
use byway_testing::moving::net::{Net, Plan, server, translator};
use byway_testing::moving::{http, secs};
use byway_testing::*;

/// A download that was handed over to server 1 on its way.
fn moved(seed: u64) -> Net<HttpGet<4>> {
    let mut net = Net::new(Plan::new(seed), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 200_000));
    hand_over(&mut net, 1);
    net
}

#[track_caller]
fn hand_over(net: &mut Net<HttpGet<4>>, to: usize) {
    net.outcomes.clear();
    while let Err(why) = net.hand_over(to) {
        assert!(matches!(why, Kept::Unacknowledged | Kept::NotNow | Kept::NotEstablished), "{why}");
        net.pass(Duration::from_millis(7));
    }
    assert!(net.until(secs(10), |net| !net.outcomes.is_empty()));
    assert!(matches!(net.outcome(), Some(Outcome::Moved { .. })), "{:?}", net.outcomes);
}

fn records(byway: &Translator<byway::Heap>) -> Vec<[u8; RECORD_LENGTH]> {
    byway.records().map(|record| *record.as_bytes()).collect()
}

#[test]
fn a_connection_that_was_handed_over_survives_a_restart() {
    for seed in 0..4 {
        let mut net = moved(seed);
        net.byway.poll(net.instant());
        let kept = records(&net.byway);
        assert_eq!(kept.len(), 2);
        // The process is gone for a second, and packets with it.
        let (now, mut new) = (net.instant(), translator(1));
        for bytes in &kept {
            let record = Record::from_bytes(bytes).expect("a good record");
            assert_eq!(new.import(now, &record), Ok(Imported::New));
        }
        net.byway = new;
        assert!(net.until(secs(20), |net| net.asking.received > 1_000_000), "stands at {}", net.asking.received);
        assert_eq!(net.stands_on(), Some(1));
        // And it can move on.
        hand_over(&mut net, 2);
        hand_over(&mut net, 0);
        net.complete(secs(120));
    }
}

/// One that has not been handed over yet still can be, after a restart.
#[test]
fn a_connection_that_can_be_handed_over_still_can() {
    let mut net = Net::new(Plan::new(5), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 200_000));
    let mut new = translator(0);
    for record in net.byway.records() {
        assert_eq!(new.import(net.instant(), &record), Ok(Imported::New));
    }
    net.byway = new;
    hand_over(&mut net, 1);
    net.complete(secs(120));
}

/// The portions for the two directions are apart: each gets the same records.
#[test]
fn portions_apart_carry_it_on() {
    let mut net = moved(6);
    let now = net.instant();
    let [mut forward, mut replies] = [translator(1), translator(1)];
    for record in net.byway.records() {
        for portion in [&mut forward, &mut replies] {
            assert_eq!(portion.import(now, &record), Ok(Imported::New));
        }
    }
    (net.byway, net.replies) = (forward, Some(replies));
    net.complete(secs(120));
}

/// A second record that comes again, with what has changed since, says nothing new about numbers.
#[test]
fn portions_keep_each_other_up_to_date() {
    let mut net = moved(7);
    let mut other = translator(1);
    for _ in 0..20 {
        for record in net.byway.records() {
            assert!(other.import(net.instant(), &record).is_ok());
        }
        net.pass(Duration::from_millis(3));
    }
    let again: Vec<_> = net.byway.records().map(|record| other.import(net.instant(), &record)).collect();
    assert_eq!(again, [Ok(Imported::Updated), Ok(Imported::Updated)]);
    let stale = records(&other);
    net.byway = other;
    net.complete(secs(120));
    let connection = net.byway.connections().next().expect("it is there");
    assert_eq!(net.byway.records_of(&connection).count(), 2);
    let back = Record::from_bytes(&stale[1]).expect("a good record");
    assert_eq!(net.byway.import(net.instant(), &back), Ok(Imported::Updated));
}

/// Until the second record has come nothing passes, so that no end sees a wrong number.
#[test]
fn nothing_passes_before_the_second_record() {
    let mut net = moved(8);
    let [first, second] = records(&net.byway)[..] else { panic!("two records") };
    let [first, second] = [first, second].map(|bytes| Record::from_bytes(&bytes).expect("a good record"));
    let now = net.instant();
    let mut new = translator(1);
    assert_eq!(new.import(now, &second), Err(RecordError::NoConnection));
    assert_eq!(new.import(now, &first), Ok(Imported::New));
    assert_eq!(new.records().count(), 0, "it cannot be passed on like this");
    net.byway = new;
    let stood = net.asking.received;
    // For longer than any hand-over stops a connection.
    net.pass(secs(7));
    assert!(net.byway.counters().dropped(DropReason::HandingOver) > 0);
    assert!(net.asking.received < stood + 100_000, "what was on its way, and no more");
    let stood = net.asking.received;
    assert_eq!(net.byway.import(net.instant(), &second), Ok(Imported::New));
    assert!(net.until(secs(60), |net| net.asking.received > stood + 100_000), "it goes on");
    net.complete(secs(120));
}

/// Records of servers before arrive late: they take nothing back.
#[test]
fn late_records_take_nothing_back() {
    let mut net = Net::new(Plan::new(9), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 100_000));
    let before = records(&net.byway);
    hand_over(&mut net, 1);
    assert!(net.until(secs(30), |net| net.asking.received > 300_000));
    let between = records(&net.byway);
    hand_over(&mut net, 2);
    assert!(net.until(secs(30), |net| net.asking.received > 500_000));
    for late in before.iter().chain(&between) {
        let record = Record::from_bytes(late).expect("a good record");
        let refused = net.byway.import(net.instant(), &record);
        assert!(matches!(refused, Err(RecordError::Outdated { .. })), "{refused:?}");
    }
    assert_eq!(net.stands_on(), Some(2));
    net.complete(secs(120));
}

/// A portion that has missed a hand-over learns of it from the records, and drops the connection's packets in between.
#[test]
fn a_portion_follows_a_hand_over() {
    let mut net = moved(10);
    let now = net.instant();
    let mut other = translator(1);
    for record in net.byway.records() {
        other.import(now, &record).expect("it fits");
    }
    hand_over(&mut net, 2);
    assert!(net.until(secs(30), |net| net.asking.received > 500_000));
    let done: Vec<_> = net.byway.records().map(|record| other.import(net.instant(), &record)).collect();
    assert_eq!(done, [Ok(Imported::Updated), Ok(Imported::New)]);
    let on = other.connections().next().map(|connection| connection.server_side.destination);
    assert_eq!(on, Some(server(2)));
    net.byway = other;
    net.complete(secs(120));
}

/// Storage without room takes the records of connections on their first server, and refuses what it could not carry on.
#[test]
fn storage_without_room_refuses() {
    let net = moved(11);
    let mut small = Translator::new(config(), Fixed::<16, 4>::new()).expect("a good configuration");
    for record in net.byway.records() {
        assert_eq!(small.import(s(9), &record), Err(RecordError::NotResumable));
    }
    let mut roomless = byway_testing::translator(config());
    for record in net.byway.records() {
        assert_eq!(roomless.import(s(9), &record), Err(RecordError::NotResumable));
    }
    assert_eq!((small.connections().count(), roomless.connections().count()), (0, 0));
}

/// A second record counts only for the server that its connection stands on, and only if that one was handed over.
#[test]
fn second_records_of_other_servers_are_refused() {
    let mut net = Net::new(Plan::new(14), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 100_000));
    let mut all = records(&net.byway);
    for to in [1, 2] {
        hand_over(&mut net, to);
        all.extend(records(&net.byway));
    }
    let all: Vec<_> = all.iter().map(|bytes| Record::from_bytes(bytes).expect("a good record")).collect();
    let [first_plain, second_plain, first_on_1, second_on_1, first_on_2, second_on_2] = all[..] else { panic!("six") };
    let outdated =
        |done: Result<Imported, RecordError>| assert!(matches!(done, Err(RecordError::Outdated { .. })), "{done:?}");
    let now = net.instant();
    let mut new = translator(2);
    assert_eq!(new.import(now, &first_plain), Ok(Imported::New));
    outdated(new.import(now, &second_on_1));
    assert_eq!(new.import(now, &second_plain), Ok(Imported::New));
    assert_eq!(new.import(now, &first_on_1), Ok(Imported::Updated));
    outdated(new.import(now, &second_plain));
    outdated(new.import(now, &second_on_2));
    assert_eq!(new.import(now, &first_on_2), Ok(Imported::Updated));
    outdated(new.import(now, &second_on_1));
    assert_eq!(new.import(now, &second_on_2), Ok(Imported::New));
    net.byway = new;
    net.complete(secs(120));
}

/// What a re-divert has ordered goes on in the translator that takes over.
#[test]
fn an_order_survives_a_restart() {
    let mut net = Net::new(Plan::new(15), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 100_000));
    net.byway.redivert(server(0), server(1), Redivert::HandOver).expect("there is room");
    net.byway.poll(net.instant());
    let kept = records(&net.byway);
    let mut new = translator(1);
    for bytes in &kept {
        assert_eq!(new.import(net.instant(), &Record::from_bytes(bytes).expect("a good record")), Ok(Imported::New));
    }
    net.byway = new;
    assert!(net.until(secs(10), |net| net.stands_on() == Some(1)), "{:?}", net.outcomes);
    net.complete(secs(120));
}

/// Any byte of a second record that is wrong is noticed, also under a checksum that is right.
#[test]
fn damaged_second_records_are_refused() {
    let net = moved(12);
    let good = records(&net.byway)[1];
    assert!(Record::from_bytes(&good).is_ok_and(|record| record.is_second() && record.connection().is_none()));
    for place in 0..RECORD_LENGTH {
        let mut bad = good;
        bad[place] ^= 0x10;
        assert!(Record::from_bytes(&bad).is_err(), "byte {place}");
    }
    let forged = |place: usize, value: u8| {
        let mut bytes = good;
        bytes[place] = value;
        let sum = crc(&bytes[..RECORD_LENGTH - 4]);
        bytes[RECORD_LENGTH - 4..].copy_from_slice(&sum.to_be_bytes());
        Record::from_bytes(&bytes).map(|_| ())
    };
    let field = |name, value| Err(RecordError::Field { name, value });
    assert_eq!(forged(2, 3), Err(RecordError::Version { found: 3 }));
    assert_eq!(forged(3, 17), field("protocol", 17));
    assert!(matches!(forged(8, 127), Err(RecordError::Endpoint { name: "client", .. })));
    assert!(matches!(forged(14, 240), Err(RecordError::Endpoint { name: "original", .. })));
    assert_eq!(forged(48, 15), field("client scale", 15));
    assert_eq!(forged(49, 0xf0), field("server scales", 0xf0));
    assert_eq!(forged(50, 0x80), field("flags", 0x80));
    assert_eq!(forged(20, 9), Ok(()));
    assert_eq!(forged(50, 0x10), field("flags", 0x10), "what is only of this moment");
}
