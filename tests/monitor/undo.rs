//! Changes that are taken back, and response times that rise for reasons of their own.

use byway::Instant;
use byway::monitor::{Action, Decision, Monitor, Observation, Settings};
use core::time::Duration;

/// A quarter of a second in which a server has answered so many requests, each in so many milliseconds.
fn seen(answered: u32, millis: f64) -> Observation {
    Observation {
        answered,
        response: Duration::from_secs_f64(millis / 1e3) * answered,
        waiting: (f64::from(answered) * 4.0 * millis / 1_000.0) as u32,
        ..Observation::NONE
    }
}

/// Two servers, of which one is worth more. From the first change on response times grow by this factor in a quarter of
/// a second. What is done in so many quarters of a second.
fn rising(holds_connections: bool, factor: f64, quarters: u64) -> (Monitor<2>, Vec<Decision<2>>) {
    let mut settings = Settings::default();
    settings.holds_connections = holds_connections;
    let mut monitor = Monitor::new(settings, [10_000; 2]);
    let (mut times, mut decisions) = (1.0, Vec::new());
    for quarter in 1..=quarters {
        let each = [seen(60, 15.0 * times), seen(40, 30.0 * times)];
        decisions.extend(monitor.observe(Instant::from_millis(250 * quarter), &each).copied());
        times *= if decisions.is_empty() { 1.0 } else { factor };
    }
    assert!(decisions.iter().all(Decision::can_be_replayed));
    (monitor, decisions)
}

fn is_undo(decision: &&Decision<2>) -> bool {
    matches!(decision.action, Action::Undo { .. })
}

/// That requests become slower after a change is undone shows that the change was not to blame. It is no reason to make
/// the change again.
#[test]
fn an_undo_is_not_undone() {
    let (monitor, decisions) = rising(false, 1.08, 110);
    let actions: Vec<Action> = decisions.iter().map(|decision| decision.action).collect();
    assert_eq!(actions, [Action::Reweigh, Action::Undo { of: 1 }]);
    assert_eq!(monitor.weights(), [10_000; 2]);
}

/// Where the model insists, it waits for longer each time, or for far more to gain.
#[test]
fn after_an_undo_a_change_waits_for_longer() {
    let (_, decisions) = rising(true, 1.08, 110);
    let told: Vec<String> = decisions.iter().map(ToString::to_string).collect();
    assert!(decisions.iter().filter(is_undo).count() <= 2, "{told:#?}");
    for pair in decisions.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert!(!(is_undo(&before) && is_undo(&after)), "{told:#?}");
        if is_undo(&before) {
            // Twice as much before the dwell time of three seconds is over, and as many times more as it has grown.
            let waited = after.inputs.at.duration_since(before.inputs.at).as_secs_f64();
            assert!(after.inputs.dwell > 3.0, "{told:#?}");
            let patience = if waited < after.inputs.dwell { 2.0 * after.inputs.dwell / 3.0 } else { 1.0 };
            assert!(after.threshold() > 0.1 * patience && after.promise() > after.threshold(), "{told:#?}");
        }
    }
}

/// What is undone stays known: the dwell time is as usual again only after a change that has made nothing worse.
#[test]
fn an_undo_that_helps_does_not_end_the_dwell_time() {
    let mut monitor = Monitor::<3>::new(Settings::default(), [10_000; 3]);
    let mut quarter = 0;
    let mut step = |each: [Observation; 3]| {
        quarter += 1;
        monitor.observe(Instant::from_millis(250 * quarter), &each).copied()
    };
    let good = [seen(100, 20.0), seen(100, 20.0), seen(30, 90.0)];
    let bad = [seen(98, 60.0), seen(98, 60.0), seen(30, 150.0)];
    assert!((0..6).filter_map(|_| step(good)).any(|decision| decision.action == Action::Reweigh));
    assert!((0..12).filter_map(|_| step(bad)).any(|decision| matches!(decision.action, Action::Undo { .. })));
    // Nothing is worth a change until the outcome of the undoing can be seen.
    let equal = [seen(76, 20.0); 3];
    assert!((0..12).all(|_| step(equal).is_none()));
    let next = (0..80).find_map(|_| step(good)).expect("it tries again");
    assert_eq!((next.action, next.inputs.dwell), (Action::Reweigh, 6.0));
}
