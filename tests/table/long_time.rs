//! Translators that run for years: the units in which the tables keep time wrap around after 8.9 years.

use byway::{Divert, Instant, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

const DAY: u64 = 86_400;

/// Polls until nothing is due within an hour. When the next call is due after that, if at all.
fn settle<S: byway::Storage>(t: &mut Translator<S>, now: &mut u64) -> Option<Instant> {
    for _ in 0..1_000 {
        match t.poll_at() {
            Some(due) if due <= s(*now + 3_600) => *now = (*now).max(due.as_micros() / 1_000_000 + 1),
            due => return due,
        }
        t.poll(s(*now));
    }
    panic!("it is never done");
}

/// After 4.5 years without a pass over the filter, the next pass is due at once rather than 4.4 years later.
#[test]
fn the_filter_is_rebuilt_after_years() {
    let mut t = diverting(config());
    let kept = at("100.100.100.101:53");
    t.divert(Divert::new(kept).to(at(SERVER)).keep_source()).unwrap();
    let mut now = 1;
    there(&mut t, s(now), &udp(client(1), kept, b""));
    assert_eq!(settle(&mut t, &mut now), None);
    for _ in 0..412 {
        now += 4 * DAY;
        t.poll(s(now));
    }
    there(&mut t, s(now), &udp(client(2), kept, b""));
    assert_eq!(settle(&mut t, &mut now), None);
    assert_eq!(t.slots_in_use(), 0);
}

/// A first fragment that came 4.5 years ago says nothing about a fragment of now.
#[test]
fn a_fragment_of_years_ago_is_forgotten() {
    let mut t = diverting(config());
    let parts = fragments(&udp(client(1), at(ORIGINAL), &[7; 64]), 77, 24);
    assert_eq!(verdict(&mut t, s(1), &parts[0]), Verdict::ToServer);
    let late = verdict(&mut t, s(100), &parts[1]);
    assert_ne!(late, Verdict::ToServer);
    let mut now = 100;
    for _ in 0..412 {
        now += 4 * DAY;
        t.poll(s(now));
    }
    assert_eq!(verdict(&mut t, s(now), &parts[1]), late);
}
