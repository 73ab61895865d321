//! What the monitor thinks and decides, of observations that are made up: lies, gaps, servers that fail in every way.

use byway::Instant;
use byway::monitor::{Action, KEPT, Monitor, Observation, Settings};
use core::time::Duration;
use proptest::prelude::*;

/// A quarter of a second in which a server has answered so many requests, each in so many milliseconds.
fn seen(answered: u32, millis: u64) -> Observation {
    Observation {
        answered,
        response: Duration::from_millis(millis) * answered,
        waiting: (u64::from(answered) * 4 * millis / 1_000) as u32,
        ..Observation::default()
    }
}

struct Run {
    monitor: Monitor<3>,
    quarters: u64,
}

impl Run {
    fn new() -> Self {
        Self { monitor: Monitor::new(Settings::default(), [10_000; 3]), quarters: 0 }
    }

    /// Goes on for so many quarters of a second, and returns what was decided.
    fn go(&mut self, quarters: u64, each: [Observation; 3]) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..quarters {
            self.quarters += 1;
            let now = Instant::from_millis(250 * self.quarters);
            actions.extend(self.monitor.observe(now, &each).map(|decision| decision.action));
        }
        actions
    }
}

const FAILING: Observation = Observation { answered: 20, failures: 30, unanswered: 30, ..Observation::NONE };

fn hanging() -> Observation {
    Observation { waiting: 9, waited: Duration::from_secs(3), silent: Duration::from_millis(400), ..Observation::NONE }
}

#[test]
fn equal_servers_are_left_alone() {
    let mut run = Run::new();
    assert_eq!(run.go(400, [seen(50, 20); 3]), []);
    assert_eq!(run.monitor.weights(), [10_000; 3]);
}

/// Reports are snapshots: a request that happens to wait in one of them says nothing about what a server can carry.
#[test]
fn a_request_that_waits_by_chance_says_nothing() {
    for (waiting, answered) in [(1, 6), (1, 25), (3, 25)] {
        let mut run = Run::new();
        let few = Observation { waiting, ..seen(answered, 8) };
        assert_eq!(run.go(8, [few, seen(27, 8), seen(27, 8)]), [], "{waiting} of {answered}");
        assert_eq!(run.monitor.weights(), [10_000; 3], "{waiting} of {answered}");
        let [few, many, _] = run.monitor.estimates();
        assert!(few.capacity > 0.5 * many.capacity, "{waiting} of {answered}: {} {}", few.capacity, many.capacity);
    }
}

/// But many that wait, while those that are answered are answered fast, are a queue.
#[test]
fn a_queue_counts_though_responses_are_fast() {
    let mut run = Run::new();
    let queue = Observation { waiting: 60, ..seen(25, 8) };
    let actions = run.go(12, [queue, seen(27, 8), seen(27, 8)]);
    assert!(actions.contains(&Action::Reweigh), "{actions:?}");
    let [queue, other, _] = run.monitor.weights();
    assert!(queue < other / 2, "{queue} {other}");
}

/// Where connections stay open, requests go where connections are: a server that is too slow for its share is too slow for it
/// however many wait there, and loses more of it until it has what it can carry.
#[test]
fn whoever_holds_connections_is_relieved_until_it_can_carry_them() {
    let weights_after = |holds_connections| {
        let mut settings = Settings::default();
        settings.holds_connections = holds_connections;
        let monitor = Monitor::<3>::new(settings, [10_000; 3]);
        let mut run = Run { monitor, quarters: 0 };
        run.go(20, [seen(30, 10); 3]);
        assert_eq!(run.monitor.weights(), [10_000; 3]);
        // Each of its forty clients waits for all the others, and asks again.
        for _ in 0..80 {
            let [slow, _, other] = run.monitor.weights().map(f64::from);
            let clients = (120.0 * slow / (slow + 2.0 * other)).max(1.0);
            let slow = Observation { waiting: clients as u32, ..seen(3, (clients / 13.0 * 1_000.0).max(300.0) as u64) };
            run.go(1, [slow, seen(44, 10), seen(44, 10)]);
        }
        let weights = run.monitor.weights().map(f64::from);
        weights[0] / weights.iter().sum::<f64>()
    };
    let [one_by_one, held] = [false, true].map(weights_after);
    assert!(held < 0.1 && held < one_by_one, "{held} {one_by_one}");
}

/// Goes on with this until that is done.
#[track_caller]
fn until(run: &mut Run, each: [Observation; 3], action: Action) {
    assert!((0..400).any(|_| run.go(1, each).contains(&action)), "{action:?} never comes");
}

fn holding(slow: f64) -> Run {
    let mut settings = Settings::default();
    (settings.holds_connections, settings.slow) = (true, slow);
    Run { monitor: Monitor::new(settings, [10_000; 3]), quarters: 0 }
}

/// Those who hold a connection to a server that has become much slower have nothing from a smaller weight: it is emptied. It is
/// tried with little, for twice as long a rest if it is as slow then, and comes back when it is not.
#[test]
fn whoever_is_much_slower_is_emptied_where_connections_are_held() {
    let fast = seen(30, 10);
    let slow = Observation { waiting: 5, waited: Duration::from_millis(800), ..seen(3, 300) };
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    let mut took = 0;
    let (response, others) = loop {
        took += 1;
        if let Some(Action::EjectSlow { server: 0, response, others }) = run.go(1, [slow, fast, fast]).last() {
            break (*response, *others);
        }
        assert!(took < 12, "{:?}", run.monitor.weights());
    };
    assert!(response > 0.25 && (others - 0.01).abs() < 1e-6, "{response} {others}");
    assert_eq!((run.monitor.weights()[0], run.monitor.ejected()), (0, [true, false, false]));
    let said = run.monitor.decisions().next().unwrap().to_string();
    assert!(
        said.contains("server 0 gets nothing more, since its requests take ") && said.contains("others 10.0"),
        "{said}"
    );
    assert!(run.monitor.decisions().next().unwrap().can_be_replayed());

    let none = Observation::NONE;
    let tried = |run: &mut Run| {
        (1..40).find(|_| run.go(1, [none, fast, fast]).contains(&Action::Try { server: 0, open: false }))
    };
    let first = tried(&mut run).expect("it is tried");
    let [little, other, _] = run.monitor.weights().map(f64::from);
    assert!((0.01..0.1).contains(&(little / other)), "{little} {other}");
    assert_eq!(run.go(1, [seen(1, 300), fast, fast]), [], "one answer may be out of the ordinary");
    let again = run.go(1, [seen(1, 300), fast, fast]);
    assert!(matches!(again[..], [Action::EjectSlow { server: 0, .. }]), "{again:?}");
    let second = tried(&mut run).expect("it is tried again");
    assert!((6..=10).contains(&first) && second >= first + 6, "{first} {second}");
    // As nobody new comes, more and more of those who are there are sent.
    let before = run.monitor.weights()[0];
    assert!(run.go(5, [none, fast, fast]).contains(&Action::Try { server: 0, open: true }));
    assert!(run.monitor.weights()[0] > before);
    until(&mut run, [seen(3, 10), fast, fast], Action::Return { server: 0 });
    // How slow it was before the trial counts no more: one bad moment is forgiven.
    let bad = run.go(4, [Observation { waiting: 3, ..seen(3, 60) }, fast, fast]);
    assert!(!bad.iter().any(|action| matches!(action, Action::EjectSlow { .. })), "{bad:?}");
    assert!(!run.go(80, [fast; 3]).iter().any(|action| matches!(action, Action::EjectSlow { .. })));
    assert_eq!(run.monitor.ejected(), [false; 3]);
}

/// Open connections go to a server that was slow with its second trial, and to one that has failed with its fifth.
#[test]
fn whoever_gets_nothing_new_is_tried_with_what_is_open() {
    let (fast, none) = (seen(30, 10), Observation::NONE);
    let slow = Observation { waiting: 5, waited: Duration::from_millis(800), ..seen(3, 300) };
    // The fourth trial of that one changes no weight, and is no decision.
    for (bad, quarters, first) in [(slow, 16, 2), (FAILING, 1, 4)] {
        let mut run = holding(4.0);
        run.go(20, [fast; 3]);
        run.go(quarters, [bad, fast, fast]);
        assert!(run.monitor.ejected()[0]);
        let tried = run.go(60, [none, fast, fast]).into_iter().filter_map(|action| match action {
            Action::Try { server: 0, open } => Some(open),
            _ => None,
        });
        assert_eq!(tried.take_while(|open| !open).count() + 1, first);
    }
}

/// But not if the others could not do without it, after one bad moment, or where nobody has asked for it.
#[test]
fn whoever_is_needed_or_slow_for_a_moment_is_kept() {
    let is_kept = |run: &mut Run, quarters, each| {
        run.go(quarters, each).iter().all(|action| !matches!(action, Action::EjectSlow { .. }))
    };
    let slow = Observation { waiting: 3, waited: Duration::from_millis(90), ..seen(3, 65) };
    // The others are at their limit: nearly all of the time of a request is spent in a queue.
    let busy = Observation { waiting: 4, ..seen(100, 10) };
    let mut run = holding(4.0);
    run.go(20, [busy; 3]);
    let heavy = Observation { waiting: 40, ..seen(100, 95) };
    assert!(is_kept(&mut run, 80, [Observation { waiting: 20, ..seen(10, 420) }, heavy, heavy]));
    let mut run = holding(4.0);
    // The first second of observations has only begun with the first of them.
    run.go(21, [seen(30, 10); 3]);
    assert!(is_kept(&mut run, 4, [slow, seen(30, 10), seen(30, 10)]));
    assert!(is_kept(&mut run, 40, [seen(30, 10); 3]));
    let mut run = holding(0.0);
    run.go(20, [seen(30, 10); 3]);
    assert!(is_kept(&mut run, 40, [seen(3, 300), seen(30, 10), seen(30, 10)]));
}

/// A server that has hung is judged by what it does on trial, not by how fast it was before.
#[test]
fn whoever_is_tried_must_not_be_slow() {
    let fast = seen(30, 10);
    let mut run = holding(4.0);
    run.go(21, [fast; 3]);
    let actions = run.go(1, [hanging(), fast, fast]);
    assert!(matches!(actions[..], [Action::EjectHanging { server: 0, .. }]), "{actions:?}");
    // A request that has waited since before says nothing.
    let stuck =
        Observation { waiting: 1, waited: Duration::from_secs(6), silent: Duration::from_secs(6), ..Observation::NONE };
    let tried = |run: &mut Run| {
        (0..60).any(|_| run.go(1, [stuck, fast, fast]).contains(&Action::Try { server: 0, open: false }))
    };
    assert!(tried(&mut run));
    let slow = Observation { answered: 2, response: Duration::from_millis(600), ..stuck };
    let actions = run.go(1, [slow, fast, fast]);
    assert!(matches!(actions[..], [Action::EjectSlow { server: 0, .. }]), "{actions:?}");
    assert!(tried(&mut run));
    assert_eq!(run.go(1, [stuck, fast, fast]), [], "what waits is no reason to eject it");
    let actions = run.go(8, [Observation { waiting: 0, ..seen(4, 10) }, fast, fast]);
    assert!(actions.contains(&Action::Return { server: 0 }), "{actions:?}");
}

/// Nobody is ejected for slowness where nobody else is left, or all are slow, or the others have only become faster; of two that are
/// slow each goes, and one is never hidden by what happens to another.
#[test]
fn who_is_slow_is_relative() {
    let (fast, slow) = (seen(30, 10), Observation { waiting: 5, waited: Duration::from_millis(800), ..seen(3, 300) });
    let ejects = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::EjectSlow { .. }));
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    assert!(!ejects(run.go(40, [slow; 3])));
    // Errors are fast.
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    assert!(!ejects(run.go(80, [fast, seen(300, 1), seen(300, 1)])));
    let mut run = holding(4.0);
    assert!(run.monitor.exclude(1, true) && run.monitor.exclude(2, true));
    run.go(20, [fast, Observation::NONE, Observation::NONE]);
    assert!(!ejects(run.go(40, [slow, Observation::NONE, Observation::NONE])));
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    let actions = run.go(16, [slow, slow, seen(80, 10)]);
    let place =
        |server: usize| actions.iter().position(|a| matches!(a, Action::EjectSlow { server: s, .. } if *s == server));
    assert!(place(0).is_some() && place(1).is_some(), "{actions:?}");
    assert_eq!(run.monitor.ejected(), [true, true, false]);
    // While one is tried in vain, again and again, another is still judged.
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    run.go(1, [hanging(), fast, fast]);
    let none = Observation::NONE;
    until(&mut run, [none, fast, fast], Action::Try { server: 0, open: false });
    assert!(ejects(run.go(16, [none, slow, fast])));
    // One that is slow again and again rests longer and longer, also if its trials go well.
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    let rest = |run: &mut Run| {
        until(run, [slow, fast, fast], Action::Try { server: 0, open: false });
        let ended = run.quarters;
        until(run, [seen(5, 10), fast, fast], Action::Return { server: 0 });
        ended
    };
    let times = [(); 4].map(|()| rest(&mut run));
    assert!(times[3] - times[2] > times[1] - times[0] + 20, "{times:?}");
    // A rule that sets shares turns it off.
    let mut run = holding(4.0);
    run.go(20, [fast; 3]);
    run.monitor.set_slow(0.0);
    assert!(!ejects(run.go(40, [slow, fast, fast])));
}

/// An array may have more places than there are servers: what one that is tried gets does not depend on that.
#[test]
fn places_without_a_server_do_not_count() {
    fn tried<const N: usize>(holds_connections: bool) -> f64 {
        let mut settings = Settings::default();
        settings.holds_connections = holds_connections;
        let (mut weights, mut each) = ([0; N], [Observation::NONE; N]);
        weights[..3].fill(10_000);
        each[..3].fill(seen(30, 10));
        let mut monitor = Monitor::<N>::new(settings, weights);
        let mut run = |quarter: u64, each: &[Observation; N]| {
            monitor
                .observe(Instant::from_millis(250 * quarter), each)
                .map(|decision| (decision.action, decision.weights))
        };
        (1..20).for_each(|quarter| assert!(run(quarter, &each).is_none()));
        each[0] = FAILING;
        assert!(run(20, &each).is_some());
        each[0] = Observation::NONE;
        let tried = (21..60).find_map(|quarter| run(quarter, &each)).expect("it is tried");
        assert_eq!(tried.0, Action::Try { server: 0, open: false });
        f64::from(tried.1[0]) / f64::from(tried.1[1])
    }
    for holds_connections in [false, true] {
        let [few, many] = [tried::<3>(holds_connections), tried::<16>(holds_connections)];
        assert!((few / many - 1.0).abs() < 0.01, "{few} {many}");
    }
}

/// A trial that goes badly is over, however late that is known: also if no more requests are given to it meanwhile.
#[test]
fn a_slow_trial_is_over_however_late_that_is_known() {
    let fast = seen(30, 10);
    let slow = Observation { waiting: 5, waited: Duration::from_millis(800), ..seen(3, 300) };
    for late in [1, 12] {
        let mut run = holding(4.0);
        run.go(20, [fast; 3]);
        run.go(16, [slow, fast, fast]);
        assert!(run.monitor.ejected()[0]);
        until(&mut run, [Observation::NONE, fast, fast], Action::Try { server: 0, open: false });
        let mut observe = |first: Observation| {
            run.quarters += 1;
            let now = Instant::from_millis(250 * run.quarters);
            run.monitor.observe_late(now, &[first, fast, fast], false).map(|decision| decision.action)
        };
        let paused = (1..late).any(|_| observe(Observation::NONE) == Some(Action::Pause { server: 0 }));
        assert_eq!(paused, late > 1);
        // Ten answers would end the trial if they were good ones.
        let ends = observe(seen(20, 300));
        assert!(ends.is_none() == paused && !matches!(ends, Some(Action::Return { .. })), "{ends:?}");
        assert_eq!(run.monitor.weights()[0], 0);
        assert!(!run.go(10, [Observation::NONE, fast, fast]).contains(&Action::Try { server: 0, open: false }));
    }
}

/// One that answers in the same time as before although it gets half as much is half as strong.
#[test]
fn weights_follow_what_servers_can_carry() {
    let mut run = Run::new();
    let actions = run.go(40, [seen(100, 20), seen(100, 20), seen(30, 90)]);
    assert!(actions.contains(&Action::Reweigh), "{actions:?}");
    let [a, b, weak] = run.monitor.weights();
    assert!(a == b && weak < a / 2, "{a} {b} {weak}");
    let estimates = run.monitor.estimates();
    assert!(estimates[0].capacity > 400.0 && estimates[2].capacity < estimates[0].capacity / 2.0, "{estimates:?}");
}

#[test]
fn whoever_fails_is_ejected_tried_and_taken_back() {
    for bad in [FAILING, hanging()] {
        let mut run = Run::new();
        run.go(20, [seen(50, 20); 3]);
        let actions = run.go(1, [seen(50, 20), bad, seen(50, 20)]);
        let ejected =
            matches!(actions[..], [Action::EjectFailing { server: 1, .. } | Action::EjectHanging { server: 1, .. }]);
        assert!(ejected, "{actions:?}");
        assert_eq!((run.monitor.weights()[1], run.monitor.ejected()), (0, [false, true, false]));
        // It rests, is tried, fails again, and rests for twice as long.
        let actions = run.go(9, [seen(50, 20), Observation::NONE, seen(50, 20)]);
        assert_eq!(actions.last(), Some(&Action::Try { server: 1, open: false }));
        let tried = run.monitor.weights();
        assert!(tried[1] > 0 && tried[1] < tried[0], "{tried:?}");
        run.go(1, [seen(50, 20), Observation { unanswered: 1, ..bad }, seen(50, 20)]);
        assert_eq!(run.monitor.weights()[1], 0);
        assert!(
            !run.go(15, [seen(50, 20), Observation::NONE, seen(50, 20)])
                .contains(&Action::Try { server: 1, open: false })
        );
        let actions = run.go(8, [seen(50, 20), seen(5, 20), seen(50, 20)]);
        let place = |wanted| actions.iter().position(|action| *action == wanted);
        let (tried, back) = (place(Action::Try { server: 1, open: false }), place(Action::Return { server: 1 }));
        assert!(tried.is_some() && tried < back, "{actions:?}");
        assert!(run.monitor.weights()[1] > 0);
    }
}

/// One that is tried while the others have much to do, and gets nothing when they have less, is given more.
#[test]
fn whoever_is_tried_is_not_forgotten() {
    let mut run = Run::new();
    let busy = Observation { waiting: 60, ..seen(50, 20) };
    run.go(20, [busy; 3]);
    run.go(1, [busy, FAILING, busy]);
    let actions = run.go(10, [busy, Observation::NONE, busy]);
    assert!(actions.contains(&Action::Try { server: 1, open: false }), "{actions:?}");
    let tried = run.monitor.weights()[1];
    let actions = run.go(8, [busy, Observation::NONE, busy]);
    assert!(actions.contains(&Action::Try { server: 1, open: false }), "{actions:?}");
    assert!(run.monitor.weights()[1] > tried, "{tried} {:?}", run.monitor.weights());
    // With something to do it is left alone.
    run.go(20, [seen(50, 20), Observation::NONE, seen(50, 20)]);
    let weights = run.monitor.weights();
    assert!(weights[1] >= weights[0], "{weights:?}");
}

/// Where all fail, ejecting all of them would help nobody.
#[test]
fn somebody_always_serves() {
    let mut run = Run::new();
    run.go(20, [seen(50, 20); 3]);
    for _ in 0..200 {
        run.go(1, [FAILING, hanging(), FAILING]);
        assert!(run.monitor.weights().iter().any(|weight| *weight != 0));
    }
}

/// A few failures, or a pause in which nobody asks, say nothing.
#[test]
fn a_little_is_not_enough() {
    let mut run = Run::new();
    run.go(20, [seen(50, 20); 3]);
    let few = Observation { failures: 2, unanswered: 2, ..Observation::NONE };
    assert_eq!(run.go(4, [seen(50, 20), few, Observation::NONE]), []);
}

/// A change after which everything is slower is taken back, and the next one has to wait for longer.
#[test]
fn what_makes_it_worse_is_undone() {
    let mut run = Run::new();
    let before = run.monitor.weights();
    let mut actions = run.go(6, [seen(100, 20), seen(100, 20), seen(30, 90)]);
    assert_eq!(actions, [Action::Reweigh]);
    let number = run.monitor.decisions().next().unwrap().number;
    actions.clear();
    for _ in 0..12 {
        actions.extend(run.go(1, [seen(98, 60), seen(98, 60), seen(30, 150)]));
        if actions.contains(&Action::Undo { of: number }) {
            break;
        }
    }
    assert!(actions.contains(&Action::Undo { of: number }), "{actions:?}");
    assert_eq!(run.monitor.weights(), before);
    let undone = run.monitor.decisions().find(|decision| decision.number == number).unwrap();
    assert!(undone.outcome.unwrap().is_worse() && undone.outcome.unwrap().realised_share().unwrap() < 0.0);
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let number = || prop_oneof![Just(0_u32), 0_u32..100, any::<u32>()];
    let micros = || prop_oneof![Just(0_u64), 0_u64..10_000_000, any::<u64>()].prop_map(Duration::from_micros);
    let time = || prop_oneof![8 => micros(), 1 => Just(Duration::MAX)];
    (number(), [time(), time()], number(), number(), time(), number(), time(), time()).prop_map(
        |(answered, [response, slowest], failures, unanswered, unanswered_waited, waiting, waited, silent)| {
            Observation {
                others: failures,
                answered,
                response,
                slowest,
                failures,
                unanswered,
                unanswered_waited,
                waiting,
                waited,
                silent,
            }
        },
    )
}

proptest! {
    /// Whatever is reported, whenever: nothing panics, weights stay weights, somebody serves, and each decision can be made
    /// again and explained.
    #[test]
    fn lies_are_bounded(reports in prop::collection::vec(([any_observation(), any_observation(), any_observation()], any::<u32>()), 1..80), slow: bool, forever: bool) {
        let mut settings = Settings::default();
        (settings.slow, settings.holds_connections) = (if slow { 4.0 } else { 0.0 }, slow);
        if forever {
            (settings.rest, settings.interval, settings.longest_dwell) = (Duration::MAX, Duration::MAX, Duration::MAX);
            (settings.dwell, settings.horizon, settings.hanging) = (Duration::MAX, Duration::MAX, Duration::MAX);
            (settings.oldest_load, settings.longest_delay) = (Duration::MAX, Duration::MAX);
        }
        let mut monitor = Monitor::<3>::new(settings, [1, 0, u16::MAX]);
        let mut now = 1_u64 << 20;
        for (seen, step) in reports {
            now = now.wrapping_add(u64::from(step)).wrapping_sub(1 << 20);
            if let Some(decision) = monitor.observe_late(Instant::from_micros(now), &seen, step % 3 != 0) {
                prop_assert!(decision.can_be_replayed());
                prop_assert!(!decision.to_string().contains("NaN"), "{}", decision);
            }
            prop_assert!(monitor.weights().iter().any(|weight| *weight != 0));
            prop_assert!(monitor.estimates().iter().all(|e| e.capacity.is_finite() && e.floor.is_finite()));
            prop_assert!(monitor.trust().is_finite());
            prop_assert!(monitor.decisions().count() <= KEPT);
        }
    }
}
