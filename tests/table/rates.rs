//! `Config::transmit_rates`: what the translator says itself comes at the rate that was set, however often the caller
//! comes for it.

use byway::{Divert, DropReason, Heap, Instant, Redivert, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

const SECOND: u64 = 1_000_000;

/// A translator that owes more RSTs than it may say, its bucket spent at `start`.
fn owing(rate: u16, connections: u32, start: u64) -> Translator<Heap> {
    let mut t = Translator::new(config().transmit_rates(rate, rate), Heap::new(connections as usize + 16, 8)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let begin = Instant::from_micros(start);
    for n in 0..connections {
        connect(&mut t, begin, client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let mut first = 0;
    while fetch(&mut t, start) {
        first += 1;
    }
    assert!(first <= u32::from(rate), "a burst of {first} at {rate} a second");
    t
}

fn fetch(t: &mut Translator<Heap>, micros: u64) -> bool {
    let now = Instant::from_micros(micros);
    t.poll(now);
    t.poll_transmit(now, &mut [0; byway::TRANSMIT_BUFFER]).is_some()
}

/// How many are said within `span`, by a caller that comes every `interval`.
fn said(t: &mut Translator<Heap>, start: u64, span: u64, interval: u64) -> u64 {
    let mut count = 0;
    let mut now = start;
    while now + interval <= start + span {
        now += interval;
        while fetch(t, now) {
            count += 1;
        }
    }
    count
}

#[test]
fn any_rate_is_met_at_any_interval() {
    for (rate, connections) in [(1, 40), (3, 40), (7, 60), (999, 1_600), (10_000, 15_500)] {
        for interval in [37, 190, 1_000, 65_537, 333_333, 999_999, SECOND] {
            let span = if rate < 10 { 10 * SECOND } else { SECOND };
            if span / interval > 300_000 {
                continue;
            }
            let start = 77 * SECOND + 13;
            let mut t = owing(rate, connections, start);
            let came = span / interval * interval;
            let due = u64::from(rate) * came / SECOND;
            let got = said(&mut t, start, span, interval);
            let tolerance = due / 100 + 1;
            assert!(got.abs_diff(due) <= tolerance, "{got} of {due} at {rate} a second, every {interval} us");
        }
    }
}

/// ICMP errors have a rate of their own: while packets are refused all the time, as many are said as were set, and a
/// second's worth at first.
#[test]
fn errors_are_said_at_their_own_rate() {
    for (rate, interval, span) in
        [(1_u16, 1_000, 20 * SECOND), (7, 1_000, 20 * SECOND), (999, 37, SECOND), (10_000, 37, SECOND)]
    {
        let mut t = Translator::new(config().client_limit(1).transmit_rates(rate, 1), Heap::new(16, 4)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        let second = udp("192.168.7.7:41000".parse().unwrap(), at(ORIGINAL), b"one connection too many");
        let start = 10 * SECOND;
        let mut said = 0_u64;
        for time in (start..start + span).step_by(interval) {
            let refused = verdict(&mut t, Instant::from_micros(time), &second);
            assert_eq!(refused, Verdict::Drop(DropReason::ClientLimit));
            while fetch(&mut t, time) {
                said += 1;
            }
        }
        let due = u64::from(rate) * (span / SECOND + 1);
        assert!(said.abs_diff(due) <= due / 100 + 1, "{said} of {due} at {rate} a second");
    }
}

#[test]
fn a_caller_that_comes_every_microsecond_gets_no_less() {
    for rate in [1_000, 65_535] {
        let mut t = owing(rate, u32::from(rate).min(50_000), 5 * SECOND);
        let got = said(&mut t, 5 * SECOND, SECOND / 10, 1);
        let due = u64::from(rate) / 10;
        assert!(got.abs_diff(due) <= due / 100 + 1, "{got} of {due}");
    }
}

/// It sleeps until `poll_at` and comes just then: each time there is something to fetch.
#[test]
fn poll_at_says_when_the_next_one_may_be_said() {
    for rate in [1_u16, 3, 7, 1_000, 30_000] {
        let start = 9 * SECOND;
        let mut t = owing(rate, u32::from(rate) + 40, start);
        let mut now = start;
        for n in 1..=30_u64 {
            while !fetch(&mut t, now) {
                let next = t.poll_at().expect("there is more to say").as_micros();
                assert!(next > now, "{rate}: it wants to be called at once, and has nothing to say");
                now = next;
            }
            let due = (n * SECOND).div_ceil(rate.into());
            assert!((due..=due + 1).contains(&(now - start)), "{rate}: the {n}th after {}", now - start);
        }
    }
}

/// However long nobody came: no more than a second's worth at once.
#[test]
fn a_burst_is_what_a_second_allows() {
    for silence in [SECOND, 3 * SECOND, 60 * SECOND] {
        let mut t = owing(50, 400, SECOND);
        assert_eq!(said(&mut t, SECOND, silence, silence), 50);
    }
    let mut t = owing(0, 5, SECOND);
    assert_eq!(said(&mut t, SECOND, 10 * SECOND, SECOND), 0, "none may be said");
}
