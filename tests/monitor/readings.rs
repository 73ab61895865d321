//! What a monitor believes of what translators report: true reports of a real translator, and lies.

use byway::monitor::{Distrust, Monitor, Observation, Reading, Settings};
use byway::{Config, Divert, Heap, Instant, Measurements, Target, Translator};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use proptest::prelude::*;

use byway_testing::*;

fn s(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

fn server() -> Target {
    Target::Endpoint(SocketAddrV4::new(Ipv4Addr::new(20, 0, 0, 1), 80))
}

/// A report of a server that has answered so many requests in 20 ms each since second 1.
fn report(answered: u32) -> Measurements {
    let mut report = Measurements::none(server(), s(1));
    (report.started, report.established, report.connections) = (answered, answered, 10);
    (0..answered).for_each(|_| report.response.add(Duration::from_millis(20)));
    report
}

fn after(first: &Measurements, at: Instant, second: &Measurements) -> Result<Option<Observation>, Distrust> {
    let mut reading = Reading::default();
    assert_eq!(reading.take(s(10), first), Ok(None));
    reading.take(at, second)
}

/// Of a translator that says the truth, every report is believed, and the sum of all is what it has counted.
#[test]
fn the_truth_is_believed() {
    let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 1024..=65535);
    let mut byway = Translator::new(config, Heap::new(5_000, 10).measured()).unwrap();
    let original = at("100.1.1.1:53");
    byway.divert(Divert::new(original).to(at("20.0.0.1:53"))).unwrap();
    let (mut reading, mut sum, mut dice) = (Reading::default(), Observation::NONE, Dice(5));
    // Never counted, counted, and a rule that comes anew.
    for round in 0..400_u64 {
        let now = Instant::from_millis(1_000 + round * 250);
        for n in 0..10 {
            let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 5_000 + (round * 10 + n) as u16);
            if round > 2 && round < 300 {
                let (source, to) = ends(&there(&mut byway, now, &udp(client, original, b"question")));
                if dice.below(4) != 0 {
                    let later = now + Duration::from_micros(dice.below(200_000));
                    back(&mut byway, later, &udp(to, source, b"the answer"));
                }
            }
        }
        let now = now + Duration::from_millis(200);
        byway.poll(now);
        let said = byway.measurements().next().unwrap();
        let seen = reading.take(now, &said).unwrap_or_else(|why| panic!("{round}: {why}: {said:?}"));
        if let Some(seen) = seen {
            sum.merge(&seen);
        }
    }
    let said = byway.measurements().next().unwrap();
    assert!(said.response.count() > 1_000);
    assert_eq!(u64::from(sum.answered), said.response.count());
    assert_eq!(sum.response, said.response.total());
}

#[test]
fn lies_are_refused_with_the_reason() {
    let first = report(100);
    let good = report(150);
    let seen = after(&first, s(11), &good).unwrap().unwrap();
    assert_eq!((seen.answered, seen.response), (50, Duration::from_secs(1)));
    let because = |at, lie: &dyn Fn(&mut Measurements)| {
        let mut second = good;
        lie(&mut second);
        after(&first, at, &second)
    };
    assert_eq!(because(s(10), &|_| ()), Err(Distrust::Repeated));
    assert_eq!(after(&first, s(10), &first), Ok(None));
    assert_eq!(because(s(9), &|_| ()), Err(Distrust::Restarted));
    assert_eq!(because(s(11), &|m| m.since = s(12)), Err(Distrust::Future));
    assert_eq!(because(s(11), &|m| m.since = s(2)), Err(Distrust::Overlaps));
    assert_eq!(because(s(11), &|m| m.response = report(99).response), Err(Distrust::Backwards));
    assert_eq!(because(s(11), &|m| m.started -= 51), Err(Distrust::Backwards));
    assert_eq!(because(s(11), &|m| m.ends.refused = u32::MAX), Err(Distrust::Backwards));
    assert_eq!(because(s(11), &|m| m.to_client.bytes = 0_u64.wrapping_sub(1)), Err(Distrust::Backwards));
    assert_eq!(because(s(11), &|m| m.established += 1_000_000_000), Err(Distrust::TooMuch));
    // Of another server nothing can be said.
    assert_eq!(because(s(11), &|m| m.server = Target::Same), Ok(None));
    // Of one whose counters have begun anew everything counts.
    let anew = because(s(12), &|m| {
        *m = report(7);
        m.since = s(11);
    });
    assert_eq!(anew.unwrap().unwrap().answered, 7);
}

/// Sums that are not those of the buckets are lies: too small, negative, too large.
#[test]
fn a_sum_must_fit_into_its_buckets() {
    // A time of more than 67 s is in a bucket without an end; it is believed up to a day.
    for (time, believed) in [(20, true), (4_000_000, true), (100_000_000, false)] {
        let first = report(1);
        let mut second = first;
        second.response.add(Duration::from_millis(time));
        assert_eq!(after(&first, s(11), &second).is_ok(), believed, "{time} ms");
    }
    // As many times as before and one, but their sum is less than it was, or no more: a negative time, or none.
    let (mut first, mut second) = (report(0), report(0));
    [40, 40].into_iter().for_each(|millis| first.response.add(Duration::from_millis(millis)));
    [39, 40, 1].into_iter().for_each(|millis| second.response.add(Duration::from_millis(millis)));
    let same_bucket = |m: &Measurements| m.response.buckets().last().unwrap().2;
    assert_eq!((same_bucket(&first), same_bucket(&second)), (2, 2));
    assert_eq!(after(&first, s(11), &second), Err(Distrust::Inconsistent));
}

/// Whoever has lied, or was restarted, is believed again from the next report on.
#[test]
fn a_restart_is_noticed_once() {
    let mut reading = Reading::default();
    assert_eq!(reading.take(s(1_000), &report(100)), Ok(None));
    let mut anew = report(3);
    assert_eq!(reading.take(s(2), &anew), Err(Distrust::Restarted));
    anew = report(5);
    assert_eq!(reading.take(s(3), &anew).unwrap().unwrap().answered, 2);
}

fn any_measurements() -> impl Strategy<Value = Measurements> {
    let time = || prop_oneof![Just(0_u64), 0_u64..100_000_000, any::<u64>()].prop_map(Instant::from_micros);
    (time(), any::<[u32; 12]>(), any::<[u64; 6]>(), prop::option::of(any::<u64>())).prop_map(|(since, n, t, silent)| {
        let mut m = Measurements::none(server(), since);
        (m.connections, m.started, m.established, m.unreachable) = (n[0], n[1] >> 16, n[2] >> 16, n[3] >> 20);
        (m.ends.refused, m.ends.reset_before_data) = (n[4] >> 16, n[5] >> 16);
        (m.waiting.count, m.waiting.micros, m.connecting.count, m.connecting.micros) = (n[6], t[0], n[7], t[1]);
        (m.unanswered.count, m.unanswered.micros) = (n[8] >> 16, t[2]);
        (0..n[9] % 50).for_each(|_| m.response.add(Duration::from_micros(t[3] >> 20)));
        m.silent = silent.map(Duration::from_micros);
        m
    })
}

proptest! {
    /// Whatever is reported, what a monitor gets is bounded by the time that has passed, and it decides without harm.
    #[test]
    fn what_is_believed_is_bounded(reports in prop::collection::vec((any::<u32>(), any_measurements()), 1..60)) {
        let (mut reading, mut monitor) = (Reading::default(), Monitor::<2>::new(Settings::default(), [1, 1]));
        let mut at = 0_u64;
        for (n, (step, report)) in reports.iter().enumerate() {
            at = at.wrapping_add(u64::from(*step));
            if let Ok(Some(seen)) = reading.take(Instant::from_micros(at), report) {
                let age = Duration::from_micros(at) + Duration::from_secs(2);
                prop_assert!(seen.silent <= age, "{seen:?}");
                prop_assert!(seen.waited <= age.saturating_mul(seen.waiting), "{seen:?}");
                monitor.observe(s(n as u64 + 1), &[seen, Observation::NONE]);
                prop_assert!(monitor.weights().iter().any(|weight| *weight != 0));
            }
        }
    }
}

/// A server that was taken out gets nothing, the model leaves it alone, and it comes back weak.
#[test]
fn the_model_leaves_alone_what_is_excluded() {
    let seen = |answered, millis| Observation {
        answered,
        response: Duration::from_millis(millis) * answered,
        waiting: 2,
        ..Observation::NONE
    };
    let mut monitor = Monitor::<3>::new(Settings::default(), [10_000; 3]);
    let mut quarter = 0;
    let mut go = |monitor: &mut Monitor<3>, count, each: [Observation; 3]| {
        for _ in 0..count {
            quarter += 1;
            monitor.observe(Instant::from_millis(250 * quarter), &each);
        }
    };
    go(&mut monitor, 40, [seen(50, 20); 3]);
    assert!(monitor.exclude(1, true) && !monitor.exclude(1, true));
    monitor.adopt([10_000, 0, 10_000]);
    go(&mut monitor, 200, [seen(100, 20), Observation::NONE, seen(30, 90)]);
    let [first, out, slow] = monitor.weights();
    assert!(out == 0 && slow < first && slow > 0, "{:?}", monitor.weights());
    assert_eq!(monitor.ejected(), [false; 3]);
    let capacity = monitor.estimates()[1].capacity;
    assert!(monitor.exclude(1, false));
    assert!(monitor.estimates()[1].capacity < capacity);
    // What has become of a change is not told by what somebody else has changed after it.
    let mut monitor = Monitor::<3>::new(Settings::default(), [10_000; 3]);
    while monitor.decisions().next().is_none() {
        go(&mut monitor, 1, [seen(100, 20), seen(100, 20), seen(30, 90)]);
    }
    let number = monitor.decisions().next().unwrap().number;
    monitor.adopt([5, 5, 5]);
    assert_eq!(monitor.weights(), [5, 5, 5]);
    go(&mut monitor, 8, [seen(98, 60), seen(98, 60), seen(30, 150)]);
    let outcome = monitor.decisions().find(|decision| decision.number == number).unwrap().outcome.unwrap();
    assert!(!outcome.is_comparable && !outcome.is_worse(), "{outcome:?}");
}
