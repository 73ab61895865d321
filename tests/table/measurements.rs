//! What is measured of each server, against what both ends of real TCP stacks did.

use core::time::Duration;

use crate::measured::{CLIENT_DELAY, Does, Net};
use byway::{Borrowed, Config, Divert, Fixed, Heap, Instant, Measurements, Redivert, Translator, slots};
use byway_testing::talk::*;
use byway_testing::*;

fn of(net: &Net, server: usize) -> Measurements {
    net.translator.measurements_of(Net::server(server)).expect("a rule names it")
}

/// Whether two times are within 5 % or 200 µs.
fn is_near(measured: Duration, truth: u64) -> bool {
    let (measured, truth) = (measured.as_micros() as f64, truth as f64);
    (measured - truth).abs() <= (truth * 0.05).max(200.0)
}

/// Response times, handshakes, connections, volume and ends of servers that answer, fast and slowly, near and far.
#[test]
fn a_server_is_measured_as_its_ends_know_it() {
    let servers = [
        (Does::Answer(0, 1_000, 100), 500),
        (Does::Answer(5_000, 40_000, 20_000), 2_000),
        (Does::Answer(300_000, 900_000, 3_000), 30_000),
    ];
    for seed in 1..=3 {
        let mut net = Net::new(seed, &servers);
        for n in 0..60 {
            net.client(n * 20_000, 5, 10_000, false);
        }
        net.run(20_000_000);
        for n in 0..servers.len() {
            let (measured, truth) = (of(&net, n), &net.servers[n].truth);
            assert!(truth.started > 5 && truth.responses.len() > 25, "{seed} {n} {truth:?}");
            assert_eq!((measured.started, measured.established), (truth.started, truth.established), "{seed} {n}");
            assert_eq!(measured.started, truth.established, "{seed} {n}");
            assert_eq!(measured.response.count(), truth.responses.len() as u64, "{seed} {n}");
            let mut times = truth.responses.clone();
            times.sort_unstable();
            let mean = times.iter().sum::<u64>() / times.len() as u64;
            assert!(is_near(measured.response.mean().unwrap(), mean), "{seed} {n}: {:?} {mean}", measured.response);
            for percent in [50.0, 90.0, 99.0] {
                let rank = ((times.len() as f64 * percent / 100.0).ceil() as usize).max(1);
                let (found, true_one) = (measured.response.percentile(percent).unwrap(), times[rank - 1] as f64);
                let error = (found.as_micros() as f64 / true_one - 1.0).abs();
                assert!(error < 0.09, "{seed} {n}: {percent} % at {found:?} instead of {true_one} us");
            }
            let delay = net.servers[n].delay;
            assert!(is_near(measured.server_handshake.mean().unwrap(), 2 * delay), "{seed} {n}");
            assert!(is_near(measured.client_handshake.mean().unwrap(), 2 * CLIENT_DELAY), "{seed} {n}");
            let volume = [measured.to_server, measured.to_client].map(|t| (t.packets, t.bytes));
            assert_eq!(volume, net.volume[n], "{seed} {n}");
            assert_eq!(measured.ends.finished, truth.established, "{seed} {n}");
            assert_eq!(measured.ends.total(), measured.ends.finished, "{seed} {n}");
            assert_eq!((measured.waiting.count, measured.connecting.count, measured.connections), (0, 0, 0));
            assert_eq!((measured.unanswered.count, measured.silent), (0, None));
        }
    }
}

/// Each server fails in a way of its own, and each shows as what it is.
#[test]
fn every_end_is_counted_by_its_cause() {
    let servers = [
        (Does::Answer(1_000, 1_000, 100), 1_000),
        (Does::Reset, 1_000),
        (Does::AnswerAndReset(2_000), 1_000),
        (Does::Close, 1_000),
        (Does::Refuse, 1_000),
        (Does::Vanish, 1_000),
    ];
    let mut net = Net::new(9, &servers);
    for n in 0..120 {
        net.client(n * 10_000, 3, 1_000, n % 3 == 0);
    }
    net.run(3_000_000);
    let all: Vec<_> = (0..servers.len()).map(|n| (of(&net, n), net.servers[n].truth.clone())).collect();
    for (n, (measured, truth)) in all.iter().enumerate() {
        assert!(truth.started > 8, "{n}: {truth:?}");
        assert_eq!(measured.started, truth.started, "{n}");
        assert_eq!(measured.established, truth.established, "{n}");
    }
    let aborted = net.clients.iter().filter(|c| c.on == 0 && c.abort).count() as u32;
    let [good, resets, late, closes, refuses, vanished] = all.as_slice() else { unreachable!() };
    assert_eq!(good.0.ends.aborted, aborted);
    assert_eq!(good.0.ends.finished + aborted, good.1.started);
    assert_eq!(good.0.ends.failures(), 0);
    assert_eq!(resets.0.ends.reset_before_data, resets.1.started);
    assert_eq!(resets.0.unanswered.count, resets.1.started, "each had a request");
    assert_eq!(late.0.ends.reset_after_data + late.0.ends.aborted, late.1.started);
    assert_eq!(late.0.response.count(), u64::from(late.1.started));
    assert_eq!((closes.0.unanswered.count, closes.0.response.count()), (closes.1.started, 0));
    assert_eq!(closes.0.ends.finished, closes.1.started);
    assert_eq!((refuses.0.ends.refused, refuses.0.established), (refuses.1.started, 0));
    // The one that vanished: nothing has ended, and each connection waits.
    assert_eq!((vanished.0.ends.total(), vanished.0.connecting.count), (0, vanished.1.started));
    let waited = vanished.0.connecting.mean().unwrap();
    assert!(waited > Duration::from_millis(1_500) && waited < Duration::from_secs(3), "{waited:?}");
    // When the clients have given up and time has run out, that is what they ended by.
    net.is_over = true;
    net.run(300_000_000);
    let vanished = of(&net, 5);
    assert_eq!(vanished.ends.handshake_timeouts, net.servers[5].truth.started);
    assert_eq!((vanished.connecting.count, vanished.connecting.micros), (0, 0));
}

/// A server that accepts and never answers shows within a second, although no connection to it ends; and when it goes on
/// it is seen to.
#[test]
fn a_server_that_hangs_shows_while_nothing_ends() {
    let mut net = Net::new(4, &[(Does::Answer(2_000, 2_000, 100), 1_000), (Does::Hang, 1_000)]);
    for n in 0..40 {
        net.client(n * 10_000, 1_000, 5_000, false);
    }
    net.run(1_000_000);
    let (good, hung) = (of(&net, 0), of(&net, 1));
    assert_eq!((hung.ends.total(), hung.response.count()), (0, 0));
    assert_eq!(hung.waiting.count, net.servers[1].truth.waiting);
    assert_eq!(hung.connections, hung.waiting.count);
    assert!(hung.silent.unwrap() > Duration::from_millis(800), "{:?}", hung.silent);
    assert!(hung.waiting.mean().unwrap() > Duration::from_millis(400));
    assert!(good.silent.is_none_or(|silent| silent < Duration::from_millis(10)));
    // Time goes on for those that wait, although no packet comes.
    net.run(1_000_000);
    assert!(of(&net, 1).waiting.mean().unwrap() > Duration::from_millis(1_400));
    assert!(of(&net, 1).between(&hung).response.count() == 0);
    assert!(of(&net, 0).between(&good).response.count() > 1_000);
}

/// Of a response that is on its way when the client asks again, the rest is no answer to what it asks.
#[test]
fn what_was_on_its_way_is_no_response() {
    let mut t = diverting(config());
    let ms = |ms: u64| Instant::from_millis(1_000 + ms);
    let (alternative, server) = connect(&mut t, ms(0), at(CLIENT), at(ORIGINAL));
    let mine = |sequence, acknowledgment, data: &[u8]| {
        tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + sequence, SERVER_START + acknowledgment), data)
    };
    let its = |sequence, acknowledgment, data: &[u8]| {
        tcp(server, alternative, (ACK, SERVER_START + sequence, CLIENT_START + acknowledgment), data)
    };
    there(&mut t, ms(10), &mine(1, 1, b"first"));
    back(&mut t, ms(30), &its(1, 6, &[1; 100]));
    // The next one is sent while the response is still coming.
    there(&mut t, ms(40), &mine(6, 101, b"second"));
    back(&mut t, ms(45), &its(101, 6, &[1; 100]));
    // A repetition of what was answered, an acknowledgement alone, and a repeated request are nothing either.
    back(&mut t, ms(50), &its(1, 6, &[1; 100]));
    back(&mut t, ms(55), &its(201, 12, b""));
    there(&mut t, ms(60), &mine(6, 201, b"second"));
    let measured = t.measurements_of(server).unwrap();
    assert_eq!((measured.response.count(), measured.response.total()), (1, Duration::from_millis(20)));
    assert_eq!((measured.waiting.count, measured.retransmissions), (1, 2));
    assert_eq!(measured.waiting.mean(), Some(Duration::from_millis(20)));
    back(&mut t, ms(140), &its(201, 12, &[1; 10]));
    let measured = t.measurements_of(server).unwrap();
    assert_eq!((measured.response.count(), measured.response.total()), (2, Duration::from_millis(120)));
    assert_eq!((measured.waiting.count, measured.silent), (0, None));
}

/// What is moved leaves nothing behind on its old server, and the new one begins from nothing.
#[test]
fn a_redivert_takes_along_what_waits() {
    for how in [Redivert::Switch, Redivert::Drain] {
        let mut t = diverting(config());
        t.divert(Divert::new(at("100.100.100.101:80")).to(at(OTHER))).unwrap();
        for n in 0..10 {
            ask(&mut t, s(1), client(n), at(ORIGINAL));
            ask_and_answer(&mut t, s(1), client(n), at("100.100.100.101:80"));
        }
        assert_eq!(t.measurements_of(at(SERVER)).unwrap().waiting.count, 10);
        t.redivert(at(SERVER), at(OTHER), how).unwrap();
        while t.poll_at().is_some_and(|due| due <= s(2)) {
            t.poll(s(2));
        }
        let other = t.measurements_of(at(OTHER)).unwrap();
        let old = t.measurements_of(at(SERVER));
        match how {
            Redivert::Drain => assert_eq!((old.unwrap().waiting.count, other.waiting.count), (10, 0)),
            _ => assert_eq!((old, other.waiting.count), (None, 0)),
        }
        for n in 0..10 {
            ask(&mut t, s(3), client(n), at(ORIGINAL));
        }
        let waiting = |server| t.measurements_of(at(server)).map_or(0, |m| m.waiting.count);
        assert_eq!(waiting(SERVER) + waiting(OTHER), 10);
        t.poll(s(900));
        for _ in 0..50 {
            t.poll(s(901));
        }
        for all in t.measurements() {
            assert_eq!((all.connections, all.waiting.count, all.waiting.micros), (0, 0, 0), "{how:?}");
        }
    }
}

/// An ICMP error about a first packet speaks of the server; one about a packet that is too large does not.
#[test]
fn unreachable_servers_are_counted_once_for_each_connection() {
    let mut t = diverting(config());
    let sent: Vec<_> = (0..4).map(|n| there(&mut t, s(1), &tcp(client(n), at(ORIGINAL), (SYN, 1, 0), b""))).collect();
    for (about, code) in [(0, 1), (0, 1), (1, 3), (2, 4)] {
        back(&mut t, s(1), &icmp_error(3, code, ip("123.45.67.1"), &sent[about], 28));
    }
    back(&mut t, s(1), &icmp_error(11, 0, ip("123.45.67.1"), &sent[3], 28));
    assert_eq!(t.measurements_of(at(SERVER)).unwrap().unreachable, 2);
}

/// Pages cover everything once, and each owner of memory measures the same.
#[test]
fn pages_and_all_kinds_of_storage() {
    fn story<S: byway::Storage>(storage: S) -> Vec<Measurements> {
        let mut t = Translator::new(config(), storage).unwrap();
        for n in 0..5_u8 {
            let original = core::net::SocketAddrV4::new([100, 100, 100, n].into(), 53);
            t.divert(Divert::new(original).to(core::net::SocketAddrV4::new([123, 45, 67, n].into(), 53))).unwrap();
            for m in 0..=u32::from(n) {
                ask_and_answer(&mut t, s(1), client(m), original);
            }
        }
        let mut pages = Vec::new();
        let mut first = 0;
        loop {
            let mut page = t.measurements_from(first);
            let two: Vec<_> = page.by_ref().take(2).collect();
            if two.is_empty() {
                break;
            }
            first = page.position();
            pages.extend(two);
        }
        assert_eq!(pages, t.measurements().collect::<Vec<_>>());
        pages
    }
    let heap = story(Heap::new(64, 8).measured());
    let started: Vec<_> = heap.iter().map(|m| m.started).collect();
    assert_eq!(started, [1, 2, 3, 4, 5]);
    assert_eq!(story(Fixed::<64, 8, 8, 8, 64, 0, 8>::sized()), heap);
    let mut connections = [slots::Connection::EMPTY; 64];
    let mut index = [0; 64 * byway::INDEX_WORDS + 16];
    let (mut diverts, mut servers, mut moves) =
        ([slots::Divert::EMPTY; 8], [slots::Server::EMPTY; 8], [slots::Move::EMPTY; 8]);
    let (mut measured, mut measured_servers) = ([slots::Measure::EMPTY; 64], [slots::MeasuredServer::EMPTY; 8]);
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves);
    assert_eq!(story(borrowed.measured(&mut measured).measured_servers(&mut measured_servers)), heap);
    // Without room for it there is nothing, and a translator of which only connections are measured works as before.
    assert!(story_is_empty(Heap::new(64, 8)));
    assert!(story_is_empty(Fixed::<64, 8, 8, 8, 64>::sized()));
    let wrong = Translator::new(Config::new([7; 32]), Fixed::<64, 8, 8, 8, 64, 0, 7>::sized());
    assert!(wrong.unwrap_err().to_string().contains("measured_servers"));
    let wrong = Translator::new(Config::new([7; 32]), Fixed::<64, 8, 8, 8, 0, 0, 8>::sized());
    assert!(wrong.unwrap_err().to_string().contains("measured"));
}

fn story_is_empty<S: byway::Storage>(storage: S) -> bool {
    let mut t = Translator::new(config(), storage).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    t.measurements().next().is_none() && t.measurements_of(at(SERVER)).is_none()
}
