//! Loads that servers report themselves: which are believed, and how far they change what the monitor thinks. Reports that lie,
//! age, or are missing.

use byway::Instant;
use byway::monitor::{Load, LoadDistrust, LoadKind, LoadReading, LoadSample, Monitor, Observation, Settings};
use core::time::Duration;
use proptest::prelude::*;

fn sample(millis: u64, value: f64) -> LoadSample {
    LoadSample { at: Instant::from_millis(millis), value, series: 2, stamp: None }
}

fn stamped(millis: u64, value: f64, stamp: i64) -> LoadSample {
    LoadSample { stamp: Some(stamp), ..sample(millis, value) }
}

fn reading(kind: LoadKind) -> LoadReading {
    LoadReading::new(kind, 1.0).unwrap()
}

/// The load that the last of some reports shows.
fn last(kind: LoadKind, samples: &[LoadSample]) -> Result<Option<f64>, LoadDistrust> {
    let mut reading = reading(kind);
    let taken = samples.iter().map(|sample| reading.take(sample)).last().unwrap();
    taken.map(|load| load.map(|load| load.share()))
}

#[test]
fn what_reports_mean() {
    use LoadKind::{Busy, Gauge, Idle};
    // The mean of two series.
    assert_eq!(last(Gauge, &[sample(1_000, 1.5)]), Ok(Some(0.75)));
    assert_eq!(last(Gauge, &[sample(1_000, 2.01)]), Ok(Some(1.0)));
    // Of two processors half a second each, in a second.
    assert_eq!(last(Busy, &[sample(1_000, 7.0)]), Ok(None));
    assert_eq!(last(Busy, &[sample(1_000, 7.0), sample(2_000, 8.0)]), Ok(Some(0.5)));
    assert_eq!(last(Idle, &[sample(1_000, 7.0), sample(2_000, 7.5)]), Ok(Some(0.75)));
    // A little more than there is, since it was read a little later than thought.
    assert_eq!(last(Busy, &[sample(1_000, 7.0), sample(2_000, 9.2)]), Ok(Some(1.0)));
    assert_eq!(last(Idle, &[sample(1_000, 7.0), sample(2_000, 9.2)]), Ok(Some(0.0)));
    // The server's own clock says how much time has passed, and whether any has.
    assert_eq!(last(Busy, &[stamped(1_000, 7.0, 5_000), stamped(2_000, 8.0, 7_000)]), Ok(Some(0.25)));
    assert_eq!(last(Busy, &[stamped(1_000, 7.0, 5_000), stamped(2_000, 7.0, 5_000)]), Ok(None));
    assert_eq!(last(Gauge, &[stamped(1_000, 1.0, 5_000), stamped(2_000, 1.0, 5_000)]), Ok(None));
    // Another processor has come, nothing was read for long, or the report is that of before.
    assert_eq!(last(Busy, &[sample(1_000, 7.0), LoadSample { series: 3, ..sample(2_000, 8.0) }]), Ok(None));
    assert_eq!(last(Busy, &[sample(1_000, 7.0), sample(32_000, 8.0)]), Ok(None));
    assert_eq!(last(Busy, &[sample(1_000, 7.0), sample(1_000, 8.0)]), Ok(None));
}

#[test]
fn each_lie_has_a_name() {
    use LoadDistrust::{AboveFull, Backwards, Negative, NotFinite, TimeBackwards, TooFast};
    use LoadKind::{Busy, Gauge, Idle};
    let lies: [(LoadKind, &[LoadSample], LoadDistrust); 10] = [
        (Gauge, &[sample(1_000, f64::NAN)], NotFinite),
        (Busy, &[sample(1_000, f64::INFINITY)], NotFinite),
        (Gauge, &[sample(1_000, -0.1)], Negative),
        (Idle, &[sample(1_000, f64::NEG_INFINITY)], NotFinite),
        (Gauge, &[sample(1_000, 83.0)], AboveFull),
        (Gauge, &[sample(1_000, f64::MAX)], AboveFull),
        (Busy, &[sample(1_000, 7.0), sample(2_000, 9.6)], TooFast),
        (Idle, &[sample(1_000, 7.0), sample(2_000, f64::MAX)], TooFast),
        (Busy, &[sample(1_000, 7.0), sample(2_000, 6.9)], Backwards),
        (Gauge, &[stamped(1_000, 1.0, 5_000), stamped(2_000, 1.0, 4_999)], TimeBackwards),
    ];
    for (kind, samples, lie) in lies {
        assert_eq!(last(kind, samples), Err(lie), "{kind:?} {samples:?}");
    }
    assert!(LoadDistrust::ALL.iter().all(|lie| lies.iter().any(|(.., other)| lie == other)));
    for full in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(LoadReading::new(Gauge, full), None);
    }
}

/// What comes after a lie is compared with what can be believed.
#[test]
fn one_lie_is_no_end() {
    let mut reading = reading(LoadKind::Busy);
    assert_eq!(reading.take(&sample(1_000, 7.0)), Ok(None));
    assert_eq!(reading.take(&sample(2_000, f64::NAN)), Err(LoadDistrust::NotFinite));
    assert_eq!(reading.take(&sample(3_000, 9.0)).unwrap().unwrap().share(), 0.5);
    // Restarted.
    assert_eq!(reading.take(&sample(4_000, 0.1)), Err(LoadDistrust::Backwards));
    assert_eq!(reading.take(&sample(5_000, 1.1)).unwrap().unwrap().share(), 0.5);
}

/// A monitor of three servers that answer alike, so many requests in each quarter of a second, each in 20 ms, and report a load
/// every second.
struct Run {
    monitor: Monitor<3>,
    quarters: u64,
    answered: u32,
}

impl Run {
    fn new(answered: u32) -> Self {
        Self { monitor: Monitor::new(Settings::default(), [10_000; 3]), quarters: 0, answered }
    }

    fn go(&mut self, seconds: u64, loads: [Option<f64>; 3]) {
        let answered = self.answered;
        let seen = Observation { answered, response: Duration::from_millis(20) * answered, ..Observation::NONE };
        for _ in 0..seconds * 4 {
            self.quarters += 1;
            let now = Instant::from_millis(250 * self.quarters);
            self.monitor.observe(now, &[seen; 3]);
            if self.quarters.is_multiple_of(4) {
                for (server, load) in loads.iter().enumerate() {
                    if let Some(load) = load {
                        assert!(self.monitor.report_load(server, Load::new(*load, now).unwrap()));
                    }
                }
            }
        }
    }

    fn capacities(&self) -> [f64; 3] {
        self.monitor.estimates().map(|estimate| estimate.capacity)
    }
}

/// Who answers in the same time, and has to do more for it, can carry less. 1000 requests a second at 40 % and at 80 %.
#[test]
fn a_load_corrects_what_response_times_cannot_show() {
    let mut run = Run::new(250);
    run.go(20, [Some(0.4), Some(0.4), Some(0.8)]);
    let [a, b, busy] = run.capacities();
    // Half of a factor of two, on a logarithmic scale, within a quarter.
    assert!((a / b - 1.0).abs() < 1e-9 && (busy / a - 0.8).abs() < 0.05, "{a} {b} {busy}");
    let reported = run.monitor.reported();
    let [Some(one), _, Some(last)] = reported else { panic!("{reported:?}") };
    assert_eq!((one.share, last.share), (0.4, 0.8));
    assert!((one.capacity - 2_500.0).abs() < 1.0 && (last.capacity - 1_250.0).abs() < 1.0, "{reported:?}");
}

/// Where weights change, they follow what loads have told.
#[test]
fn weights_follow_reports() {
    let weak = |share: Option<f64>| {
        let mut monitor = Monitor::<3>::new(Settings::default(), [10_000; 3]);
        let seen = |answered, millis| Observation {
            answered,
            response: Duration::from_millis(millis) * answered,
            ..Observation::NONE
        };
        for quarter in 1..=60 {
            let now = Instant::from_millis(250 * quarter);
            monitor.observe(now, &[seen(100, 20), seen(100, 20), seen(30, 60)]);
            for (server, share) in [Some(0.5), Some(0.5), share].into_iter().enumerate() {
                share.map(|share| monitor.report_load(server, Load::new(share, now).unwrap()));
            }
        }
        assert!(monitor.decisions().count() > 0 && monitor.decisions().all(|decision| decision.can_be_replayed()));
        let text = monitor.decisions().next().map(ToString::to_string).unwrap();
        assert!(text.contains("servers report") || share.is_none(), "{text}");
        let [a, b, weak] = monitor.weights();
        assert_eq!(a, b);
        f64::from(weak) / f64::from(a)
    };
    let (busy, unknown, idle) = (weak(Some(0.9)), weak(None), weak(Some(0.1)));
    assert!(busy < unknown && unknown < 0.9 * idle, "{busy} {unknown} {idle}");
}

#[test]
fn an_old_report_counts_nothing() {
    let mut run = Run::new(250);
    run.go(20, [None; 3]);
    let before = run.capacities();
    run.go(3, [Some(0.4), Some(0.4), Some(0.6)]);
    let fresh = run.capacities();
    assert!(fresh[2] < 0.85 * before[2], "{fresh:?} {before:?}");
    run.go(5, [None; 3]);
    let [_, _, older] = run.capacities();
    assert!(fresh[2] < older && older < before[2], "{older}");
    run.go(6, [None; 3]);
    assert_eq!((run.monitor.reported(), run.capacities()), ([None; 3], before));
}

/// A unit that was chosen badly, a resource that no report is about, and a single report say nothing about who is stronger.
#[test]
fn what_reports_have_in_common_cancels_out() {
    for loads in [[Some(0.9); 3], [Some(0.06); 3], [None, Some(0.9), None], [None; 3]] {
        let mut run = Run::new(250);
        run.go(20, loads);
        let [a, b, c] = run.capacities();
        assert!((a / b - 1.0).abs() < 1e-9 && (b / c - 1.0).abs() < 1e-9, "{loads:?}: {a} {b} {c}");
        assert_eq!(run.monitor.weights(), [10_000; 3], "{loads:?}");
    }
}

#[test]
fn unknown_servers_and_old_news_are_not_taken() {
    let mut run = Run::new(250);
    let load = |seconds| Load::new(0.5, Instant::from_secs(seconds)).unwrap();
    assert!(!run.monitor.report_load(3, load(5)));
    assert!(run.monitor.report_load(2, load(5)));
    assert!(!run.monitor.report_load(2, load(5)) && !run.monitor.report_load(2, load(4)));
    assert!(run.monitor.report_load(2, load(6)));
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Load::new(share, Instant::ZERO), None, "{share}");
    }
}

fn any_sample() -> impl Strategy<Value = LoadSample> {
    let value = prop_oneof![any::<f64>(), 0.0_f64..2.0, Just(f64::NAN), Just(f64::MAX)];
    (any::<u32>(), value, prop_oneof![0_u32..4, any::<u32>()], any::<Option<i64>>())
        .prop_map(|(at, value, series, stamp)| LoadSample { at: Instant::from_millis(at.into()), value, series, stamp })
}

proptest! {
    /// Whatever a server says, what is believed is a load.
    #[test]
    fn whatever_is_believed_is_a_load(
        kind in prop_oneof![Just(LoadKind::Gauge), Just(LoadKind::Busy), Just(LoadKind::Idle)],
        full in prop_oneof![any::<f64>(), 0.1_f64..10.0],
        samples in prop::collection::vec(any_sample(), 1..40),
    ) {
        let Some(mut reading) = LoadReading::new(kind, full) else { return Ok(()) };
        for sample in samples {
            if let Ok(Some(load)) = reading.take(&sample) {
                prop_assert!((0.0..=1.0).contains(&load.share()));
            }
        }
    }

    /// Whatever is reported, whenever: it changes what is thought of a server by a quarter at most, ejects none, and what was
    /// decided can be decided again.
    #[test]
    fn lies_change_little(
        steps in prop::collection::vec(([0_u32..80, 0..80, 0..80], [0_u64..200, 0..200, 0..200], 0_usize..4, 0.0_f64..=1.0, 0_u64..400), 1..120)
    ) {
        let mut with = Monitor::<3>::new(Settings::default(), [10_000; 3]);
        let mut without = with.clone();
        for (step, (answered, millis, server, share, late)) in steps.into_iter().enumerate() {
            let now = 250 * (step as u64 + 1);
            let seen: [_; 3] = core::array::from_fn(|n| Observation {
                answered: answered[n],
                response: Duration::from_millis(millis[n]) * answered[n],
                ..Observation::NONE
            });
            let decision = with.observe(Instant::from_millis(now), &seen).copied();
            without.observe(Instant::from_millis(now), &seen);
            prop_assert!(decision.is_none_or(|decision| decision.can_be_replayed()));
            let _ = with.report_load(server, Load::new(share, Instant::from_millis((now + 200).saturating_sub(late))).unwrap());
            for (one, other) in with.estimates().iter().zip(without.estimates()) {
                prop_assert!(one.capacity <= other.capacity * 1.2501 && one.capacity >= other.capacity / 1.2501);
                prop_assert!(one.capacity.is_finite());
            }
            prop_assert_eq!(with.ejected(), without.ejected());
            prop_assert!(with.weights().iter().all(|weight| *weight != 0));
        }
    }
}
