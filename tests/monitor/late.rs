//! Measurements that arrive late: a monitor that is told so does not take what it sees for what its last change has done.

use byway::Instant;
use byway::monitor::{Action, Monitor, Observation, Settings};
use core::time::Duration;

/// A quarter of a second in which a server has answered so many requests, each in so many milliseconds.
fn seen(answered: u32, millis: u64) -> Observation {
    Observation { answered, response: Duration::from_millis(millis) * answered, ..Observation::NONE }
}

const WELL: Observation = Observation { answered: 50, response: Duration::from_millis(1_000), ..Observation::NONE };
const FAILING: Observation = Observation { failures: 30, unanswered: 30, ..WELL };

struct Run {
    monitor: Monitor<3>,
    quarters: u64,
}

impl Run {
    fn new() -> Self {
        Self { monitor: Monitor::new(Settings::default(), [10_000; 3]), quarters: 0 }
    }

    /// Goes on for so many quarters of a second, and returns what was decided, with the quarter.
    fn go(&mut self, quarters: u64, each: [Observation; 3], is_current: bool) -> Vec<(u64, Action)> {
        let mut actions = Vec::new();
        for quarter in 1..=quarters {
            self.quarters += 1;
            let now = Instant::from_millis(250 * self.quarters);
            if let Some(decision) = self.monitor.observe_late(now, &each, is_current) {
                assert!(decision.can_be_replayed());
                actions.push((quarter, decision.action));
            }
        }
        actions
    }
}

fn reweighed(actions: &[(u64, Action)]) -> Vec<u64> {
    actions.iter().filter(|(_, action)| *action == Action::Reweigh).map(|(quarter, _)| *quarter).collect()
}

/// Two servers can carry a fraction of what the first one can, which is more than one step; what is seen of it stays the same, as it does while
/// measurements are late.
#[test]
fn one_step_at_a_time() {
    let slow = [seen(200, 10), seen(20, 150), seen(20, 150)];
    // A step until the dwell time is over, or another that is twice as good.
    let mut run = Run::new();
    let at_once = run.go(60, slow, true);
    assert!(reweighed(&at_once).len() >= 2, "{at_once:?}");
    // Late: one step, and nothing until something was measured under it.
    let mut run = Run::new();
    let first = run.go(5, slow, true);
    assert_eq!(first.last(), Some(&(5, Action::Reweigh)), "{first:?}");
    assert_eq!(run.go(40, slow, false), []);
    assert!(run.monitor.decisions().next().is_some_and(|decision| decision.outcome.is_none()));
    // Then a second step, an interval later at the earliest.
    let weights = run.monitor.weights();
    let second = run.go(4, slow, true);
    assert!(reweighed(&second).iter().all(|quarter| *quarter == 4), "{second:?}");
    let more = run.go(8, slow, true);
    assert!(run.monitor.weights() != weights, "{second:?} {more:?}");
}

/// Weights that are never seen, as when somebody else has changed them, are not waited for without end.
#[test]
fn nothing_is_awaited_for_ever() {
    let slow = [seen(200, 10), seen(20, 150), seen(20, 150)];
    let mut run = Run::new();
    run.go(5, slow, true);
    let later = reweighed(&run.go(80, slow, false));
    let first = *later.first().expect("a second step");
    assert!((60..=66).contains(&first), "{later:?}");
}

#[test]
fn ejection_does_not_wait() {
    let mut run = Run::new();
    run.go(20, [WELL; 3], true);
    let actions = run.go(1, [WELL, FAILING, WELL], false);
    assert!(matches!(actions[..], [(1, Action::EjectFailing { server: 1, .. })]), "{actions:?}");
    assert_eq!(run.monitor.weights()[1], 0);
}

/// What a server did before it was ejected arrives while it rests, and says nothing about how it does when it is tried.
#[test]
fn what_a_server_did_before_is_not_held_against_it() {
    let mut run = Run::new();
    run.go(20, [WELL; 3], true);
    run.go(1, [WELL, FAILING, WELL], true);
    assert_eq!(run.go(20, [WELL, FAILING, WELL], false), []);
    // The ejection is seen; it rests, and is tried.
    let actions = run.go(12, [WELL, Observation::NONE, WELL], true);
    let [(rested, Action::Try { server: 1, open: false }), ..] = actions[..] else { panic!("{actions:?}") };
    assert!(rested >= 8, "{actions:?}");
}

/// A server on trial gets a few requests, and no more before it is known what has become of them.
#[test]
fn a_trial_pauses_until_its_outcome_is_known() {
    let mut run = Run::new();
    run.go(20, [WELL; 3], true);
    run.go(1, [WELL, FAILING, WELL], true);
    let quiet = [WELL, Observation::NONE, WELL];
    let tried = (0..12).find(|_| matches!(run.go(1, quiet, true)[..], [(1, Action::Try { server: 1, open: false })]));
    assert!(tried.is_some() && run.monitor.weights()[1] > 0);
    let before = run.monitor.decisions().nth(1).unwrap().weights;
    assert_eq!(run.go(19, quiet, false), [(1, Action::Pause { server: 1 })]);
    // The same shares as before the trial, and other numbers: reports of that time may still be on their way.
    let paused = run.monitor.weights();
    assert!(paused[1] == 0 && paused != before && paused[0] == paused[2], "{before:?} {paused:?}");
    // Failures: it is out again, which changes no weight.
    let mut other = Run { monitor: run.monitor.clone(), quarters: run.quarters };
    assert_eq!(other.go(1, [WELL, Observation { failures: 1, ..Observation::NONE }, WELL], false), []);
    assert_eq!((other.monitor.weights()[1], other.monitor.ejected()[1]), (0, true));
    assert!(!other.go(8, quiet, true).iter().any(|(_, action)| matches!(action, Action::Try { .. })));
    // What the others have to do counts as it did when it was tried first: it gets as little again.
    let mut busy = Run::new();
    let carrying = Observation { waiting: 20, ..WELL };
    busy.go(20, [carrying; 3], true);
    busy.go(1, [carrying, FAILING, carrying], true);
    let quiet_beside = [carrying, Observation::NONE, carrying];
    let tried =
        (0..12).find(|_| matches!(busy.go(1, quiet_beside, true)[..], [(1, Action::Try { server: 1, open: false })]));
    let first = busy.monitor.weights();
    assert!(tried.is_some() && first[1] > 0 && first[1] < first[0] / 4, "{first:?}");
    assert_eq!(busy.go(19, quiet_beside, false), [(1, Action::Pause { server: 1 })]);
    assert_eq!(busy.go(1, [carrying, seen(6, 20), carrying], true), [(1, Action::Try { server: 1, open: false })]);
    assert_eq!(busy.monitor.weights()[1], first[1], "{first:?} {:?}", busy.monitor.weights());
    // Answers: it is tried again, and comes back.
    assert_eq!(run.go(1, [WELL, seen(6, 20), WELL], true), [(1, Action::Try { server: 1, open: false })]);
    assert!(run.monitor.weights()[1] > 0);
    assert_eq!(run.go(1, [WELL, seen(6, 20), WELL], false), [(1, Action::Return { server: 1 })]);
}

/// Requests that still wait since before a server was ejected, as datagrams that nobody has given up, do not eject it again.
#[test]
fn what_still_waits_is_not_held_against_a_trial() {
    let mut run = Run::new();
    run.go(20, [WELL; 3], true);
    let silent = |millis, waiting| Observation { waiting, silent: Duration::from_millis(millis), ..Observation::NONE };
    let actions = run.go(1, [WELL, silent(500, 80), WELL], true);
    assert!(matches!(actions[..], [(1, Action::EjectHanging { server: 1, .. })]), "{actions:?}");
    let stuck = [WELL, silent(9_000, 80), WELL];
    let tried = (0..12).find(|_| matches!(run.go(1, stuck, true)[..], [(1, Action::Try { server: 1, open: false })]));
    assert!(tried.is_some());
    let mut late = Run { monitor: run.monitor.clone(), quarters: run.quarters };
    // It is given more where nothing has come to it yet, and those that wait longer say that it still hangs.
    let actions = run.go(6, stuck, true);
    assert!(actions.iter().all(|(_, action)| matches!(action, Action::Try { .. })), "{actions:?}");
    let actions = run.go(2, [WELL, silent(10_000, 82), WELL], true);
    assert!(matches!(actions[..], [.., (_, Action::EjectHanging { server: 1, .. })]), "{actions:?}");
    // The same where it is known late.
    assert_eq!(late.go(19, stuck, false), [(1, Action::Pause { server: 1 })]);
    assert_eq!(
        late.go(1, [WELL, Observation { answered: 12, ..silent(10, 80) }, WELL], false),
        [(1, Action::Return { server: 1 })]
    );
}
