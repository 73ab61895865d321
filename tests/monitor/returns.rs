//! Servers that come back after an ejection or an exclusion, where little is known of what servers can carry, and what
//! becomes of the others' weights meanwhile.

use byway::Instant;
use byway::monitor::{Action, Monitor, Observation, Settings};
use core::time::Duration;

/// A quarter of a second in which a server has answered so many requests, each in so many milliseconds.
fn seen(answered: u32, millis: u64) -> Observation {
    Observation { answered, response: Duration::from_millis(millis) * answered, ..Observation::NONE }
}

const FAILING: Observation = Observation { failures: 3, unanswered: 3, ..Observation::NONE };

struct Run<const N: usize> {
    monitor: Monitor<N>,
    quarters: u64,
}

impl<const N: usize> Run<N> {
    fn new(holds_connections: bool, weights: [u16; N]) -> Self {
        let mut settings = Settings::default();
        settings.holds_connections = holds_connections;
        Self { monitor: Monitor::new(settings, weights), quarters: 0 }
    }

    /// A quarter of a second in which each server that has a weight has done this, and the others nothing.
    fn step(&mut self, each: [Observation; N]) -> Option<Action> {
        self.quarters += 1;
        let weights = self.monitor.weights();
        let given = core::array::from_fn(|server| if weights[server] == 0 { Observation::NONE } else { each[server] });
        let decision = self.monitor.observe(Instant::from_millis(250 * self.quarters), &given)?;
        assert!(decision.can_be_replayed(), "{decision}");
        Some(decision.action)
    }

    fn go(&mut self, quarters: u64, each: [Observation; N]) -> Vec<Action> {
        (0..quarters).filter_map(|_| self.step(each)).collect()
    }

    /// Goes on with this until that is done, for ten minutes at most.
    #[track_caller]
    fn until(&mut self, each: [Observation; N], action: Action) {
        assert!((0..2_400).any(|_| self.step(each) == Some(action)), "{action:?} never comes: {:?}", self.monitor);
    }
}

const TRY: Action = Action::Try { server: 0, open: false };
const RETURN: Action = Action::Return { server: 0 };

/// Four answers a second say nothing about what a server can carry, and are enough to see that it is well.
#[test]
fn who_has_few_requests_comes_back() {
    for holds_connections in [false, true] {
        // The weights are what somebody has set, and in relation to one another they are so again.
        let mut run = Run::new(holds_connections, [20_000, 10_000]);
        let few = seen(1, 10);
        assert_eq!(run.go(40, [few; 2]), []);
        assert!(matches!(run.step([FAILING, few]), Some(Action::EjectFailing { server: 0, .. })));
        assert_eq!(run.monitor.weights(), [0, 20_000]);
        run.until([few; 2], TRY);
        let [tried, other] = run.monitor.weights();
        assert!(tried != 0 && tried <= other, "{tried} {other}");
        run.until([few; 2], RETURN);
        assert_eq!(run.go(40, [few; 2]), []);
        assert_eq!((run.monitor.weights(), run.monitor.ejected()), ([20_000, 10_000], [false; 2]));
    }
}

/// The same where something is known of some servers, and nothing of others.
#[test]
fn a_trial_is_as_large_whoever_is_known() {
    let tried = |known: usize| {
        let mut run = Run::new(true, [10_000; 5]);
        let mut each = [seen(1, 10); 5];
        each[1..=known].fill(seen(20, 10));
        run.go(20, each);
        each[0] = FAILING;
        run.step(each);
        run.until(each, TRY);
        let weights = run.monitor.weights().map(f64::from);
        weights[0] / weights.iter().sum::<f64>()
    };
    for known in 0..=4 {
        let share = tried(known);
        assert!((share - 0.0123).abs() < 0.001, "{known} are known: {share}");
    }
}

/// Where all have failed, the last one keeps its weight. The first one is tried beside it all the same, and does not
/// wait for it.
#[test]
fn who_is_well_again_comes_back_though_nobody_else_is_well() {
    let mut run = Run::new(false, [10_000; 2]);
    let (well, half) = (seen(20, 10), Observation { failures: 10, unanswered: 10, ..seen(10, 10) });
    run.go(20, [well; 2]);
    run.step([FAILING, well]);
    run.step([well, half]);
    assert_eq!(run.monitor.ejected(), [true; 2]);
    let back = (0..80).find(|_| {
        run.step([well, half]);
        !run.monitor.ejected()[0]
    });
    assert!(back.is_some(), "{:?}", run.monitor);
    // Beside one that is well, the other one gets no more than a trial.
    let little = (0..80).filter(|_| {
        run.step([well, half]);
        run.monitor.weights()[1] != 0
    });
    assert!(little.count() < 10);
}

fn ratio(weights: [u16; 3]) -> f64 {
    f64::from(weights[0]) / f64::from(weights[1])
}

/// Whatever becomes of one server, the others keep what they have in relation to one another: more is moved step by
/// step, if that is worth it.
#[test]
fn others_keep_their_weights_beside_a_trial() {
    let last = |server| [Action::Try { server, open: false }, Action::Return { server }];
    for (holds_connections, each) in
        [(false, seen(1, 10)), (true, seen(1, 10)), (false, seen(50, 10)), (true, seen(50, 10))]
    {
        let mut run = Run::new(holds_connections, [10_000; 3]);
        let all = [each; 3];
        run.go(19, all);
        assert!(matches!(run.step([each, each, FAILING]), Some(Action::EjectFailing { server: 2, .. })));
        run.monitor.adopt([20_000, 1_000, 0]);
        let mut seen = Vec::new();
        for _ in 0..200 {
            let before = run.monitor.weights();
            let Some(action) = run.step(all) else { continue };
            if last(2).contains(&action) {
                let after = run.monitor.weights();
                assert!(
                    (ratio(after) / ratio(before) - 1.0).abs() < 0.01,
                    "{action:?}: {after:?} instead of {before:?}"
                );
                seen.push(action);
            }
            if action == last(2)[1] {
                break;
            }
        }
        assert!(last(2).iter().all(|action| seen.contains(action)), "{seen:?}");
    }
    // Late measurements end a trial for a while.
    let mut run = Run::new(false, [10_000; 3]);
    let all = [seen(50, 10); 3];
    run.go(19, all);
    run.step([all[0], all[1], FAILING]);
    run.monitor.adopt([20_000, 1_000, 0]);
    run.until(all, last(2)[0]);
    let before = ratio(run.monitor.weights());
    assert!(before > 2.0);
    for _ in 0..8 {
        run.quarters += 1;
        let now = Instant::from_millis(250 * run.quarters);
        let paused = run.monitor.observe_late(now, &[all[0], all[1], Observation::NONE], false);
        assert!(paused.is_none_or(|decision| decision.action == Action::Pause { server: 2 }));
    }
    let after = run.monitor.weights();
    assert!(after[2] == 0 && (ratio(after) / before - 1.0).abs() < 0.001, "{before} {after:?}");
}

/// Where nothing waits at the others, a larger weight than theirs would attract all that comes, which is lost if the
/// server fails at once.
#[test]
fn who_is_tried_is_not_preferred() {
    for quick in [seen(1, 10), seen(50, 1)] {
        let mut run = Run::new(false, [10_000; 3]);
        run.go(19, [quick; 3]);
        run.step([FAILING, quick, quick]);
        run.until([quick; 3], TRY);
        assert_eq!(run.monitor.weights(), [20_000; 3]);
        // It gets more beside those that differ, if nobody comes, and never more than the largest.
        run.step([FAILING, quick, quick]);
        run.monitor.adopt([0, 20_000, 2_000]);
        run.until([Observation::NONE; 3], TRY);
        assert_eq!(run.monitor.weights(), [11_000, 20_000, 2_000]);
        run.go(40, [Observation::NONE; 3]);
        assert_eq!(run.monitor.weights(), [20_000, 20_000, 2_000]);
    }
}

/// Two that come back at once both get their weights, though a decision names one.
#[test]
fn two_come_back_at_once() {
    let mut run = Run::new(true, [10_000; 3]);
    let each = [seen(50, 10); 3];
    run.go(19, each);
    run.step([FAILING, FAILING, each[2]]);
    run.until(each, Action::Try { server: 1, open: false });
    assert!(run.go(10, each).iter().any(|action| matches!(action, Action::Return { .. })));
    let [one, other, third] = run.monitor.weights();
    assert!(one == other && f64::from(one) > 0.3 * f64::from(third), "{one} {other} {third}");
}

/// Whoever is excluded has no weight at once, and whoever is included again has one at once, whatever there is to do.
#[test]
fn who_is_excluded_has_no_weight() {
    for each in [Observation::NONE, seen(1, 10), seen(10, 10), seen(50, 10)] {
        let mut run = Run::new(false, [10_000; 3]);
        assert!(run.monitor.exclude(0, true) && !run.monitor.exclude(0, true));
        assert_eq!(run.monitor.weights(), [0, 20_000, 20_000]);
        run.go(40, [each; 3]);
        assert_eq!(run.monitor.weights()[0], 0);
        assert!(run.monitor.exclude(0, false) && !run.monitor.exclude(0, false));
        let [back, other, _] = run.monitor.weights();
        assert!(back != 0 && back <= other, "{back} {other}");
        // One that is in use comes back with six tenths of what it could carry.
        let mut run = Run::new(false, [10_000; 3]);
        run.go(40, [each; 3]);
        run.monitor.exclude(0, true);
        run.go(8, [each; 3]);
        run.monitor.exclude(0, false);
        let [back, other, _] = run.monitor.weights().map(f64::from);
        let expected = if each.answered < 2 { 1.0 } else { 0.6 };
        assert!((back / other - expected).abs() < 0.05, "{}: {back} {other}", each.answered);
    }
}

/// Somebody always serves, also if all are excluded, one after the other.
#[test]
fn the_last_one_keeps_its_weight() {
    let mut run = Run::new(false, [10_000; 2]);
    run.monitor.exclude(0, true);
    run.monitor.exclude(1, true);
    assert_eq!(run.monitor.weights(), [0, 20_000]);
    run.monitor.exclude(0, false);
    assert_eq!(run.monitor.weights(), [20_000, 0]);
    assert!(!run.monitor.exclude(2, true));
}
