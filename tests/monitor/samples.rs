//! How much has to be seen before the monitor judges: neither one request that is out of the ordinary, nor a good mean of the few
//! that were answered.

use byway::monitor::{Action, Monitor, Observation, Settings};
use byway::{Instant, Measurements, Target};
use byway_testing::random::Dice;
use core::time::Duration;

/// Answers that took these seconds, as a translator reports them.
fn answers(times: impl IntoIterator<Item = f64>) -> Observation {
    let mut measured = Measurements::none(Target::Same, Instant::ZERO);
    times.into_iter().for_each(|seconds| measured.response.add(Duration::from_secs_f64(seconds)));
    Observation::of(&measured)
}

/// A quarter of a second in which a server has answered so many requests, each in so many milliseconds.
fn seen(answered: u32, millis: u64) -> Observation {
    let each = f64::from(u32::try_from(millis).unwrap()) / 1e3;
    Observation { waiting: (u64::from(answered) * 4 * millis / 1_000) as u32, ..answers((0..answered).map(|_| each)) }
}

/// So many requests wait, each for so long, and nothing was answered meanwhile.
fn waiting(count: u32, seconds: f64) -> Observation {
    let each = Duration::from_secs_f64(seconds);
    Observation { waiting: count, waited: each * count, silent: each, ..Observation::NONE }
}

struct Run {
    monitor: Monitor<3>,
    quarters: u64,
}

impl Run {
    fn new(settings: Settings) -> Self {
        Self { monitor: Monitor::new(settings, [10_000; 3]), quarters: 0 }
    }

    /// Where connections stay open, and servers that are four times as slow as the others are ejected.
    fn holding() -> Self {
        let mut settings = Settings::default();
        (settings.holds_connections, settings.slow) = (true, 4.0);
        Self::new(settings)
    }

    /// A quarter of a second.
    fn step(&mut self, each: [Observation; 3]) -> Option<Action> {
        self.quarters += 1;
        let decision = self.monitor.observe(Instant::from_millis(250 * self.quarters), &each)?;
        assert!(decision.can_be_replayed() && !decision.to_string().contains('\n'), "{decision}");
        Some(decision.action)
    }

    /// So many quarters of a second.
    fn go(&mut self, quarters: u64, each: [Observation; 3]) -> Vec<Action> {
        (0..quarters).filter_map(|_| self.step(each)).collect()
    }

    /// How many quarters pass with this until the first server is ejected or not any more; 400 at most.
    fn until(&mut self, ejected: bool, each: [Observation; 3]) -> u64 {
        let from = self.quarters;
        while self.monitor.ejected()[0] != ejected && self.quarters < from + 400 {
            self.step(each);
        }
        self.quarters - from
    }

    /// Goes on until the first server is on trial.
    #[track_caller]
    fn tried(&mut self, first: Observation, others: Observation) {
        let is_tried = |action: Option<Action>| matches!(action, Some(Action::Try { server: 0, .. }));
        assert!((0..300).any(|_| is_tried(self.step([first, others, others]))), "it is never tried");
    }
}

const FAILING: Observation = Observation { failures: 30, unanswered: 30, ..Observation::NONE };

/// A server that was slow and is as well as the others now: its response times are spread as theirs are. How often a trial of it
/// fails all the same.
fn failed_trials(draw: fn(&mut Dice) -> f64) -> f64 {
    let (mut failed, mut passed) = (0, 0);
    let mut dice = Dice(7);
    for _ in 0..200 {
        let mut some = |count: u32| answers((0..count).map(|_| draw(&mut dice)));
        let mut run = Run::holding();
        for _ in 0..20 {
            run.step([some(40), some(40), some(40)]);
        }
        assert!(run.until(true, [Observation { waiting: 5, ..seen(3, 1_000) }, some(40), some(40)]) < 60);
        run.tried(Observation::NONE, some(40));
        // It gets a request in each quarter until that is enough.
        while run.monitor.ejected()[0] {
            let is_out = matches!(run.step([some(1), some(40), some(40)]), Some(Action::EjectSlow { server: 0, .. }));
            if is_out {
                break;
            }
        }
        if run.monitor.ejected()[0] { failed += 1 } else { passed += 1 }
    }
    f64::from(failed) / f64::from(failed + passed)
}

/// One request in a hundred that takes ten times as long, one in ten that takes twenty times as long, or a long tail: that is how
/// servers are that are well.
#[test]
fn an_ordinary_tail_of_response_times_fails_no_trial() {
    let one_in_a_hundred = failed_trials(|dice| if dice.unit() < 0.01 { 0.1 } else { 0.01 });
    let one_in_ten = failed_trials(|dice| if dice.unit() < 0.1 { 0.2 } else { 0.01 });
    // Log-normal, with a mean of 10 ms and a standard deviation of three times that.
    let long = failed_trials(|dice| {
        let normal = (-2.0 * dice.unit().ln()).sqrt() * (core::f64::consts::TAU * dice.unit()).cos();
        0.01 * (1.5 * normal - 1.125).exp()
    });
    println!("trials that fail: {one_in_a_hundred} {one_in_ten} {long}");
    assert!(one_in_a_hundred <= 0.02 && one_in_ten <= 0.05 && long <= 0.05, "{one_in_a_hundred} {one_in_ten} {long}");
}

/// A server that is as slow as before is out again with its second answer.
#[test]
fn two_slow_answers_end_a_trial() {
    let fast = seen(30, 10);
    let on_trial = || {
        let mut run = Run::holding();
        run.go(20, [fast; 3]);
        run.go(16, [Observation { waiting: 5, ..seen(3, 300) }, fast, fast]);
        run.tried(Observation::NONE, fast);
        run
    };
    let is_out = |action| matches!(action, Some(Action::EjectSlow { server: 0, response, .. }) if response > 0.25);
    assert!(is_out(on_trial().step([seen(2, 300), fast, fast])));
    let mut run = on_trial();
    assert_eq!(run.step([seen(1, 300), fast, fast]), None, "one is not enough");
    assert!(is_out(run.step([seen(1, 300), fast, fast])));
    // The second one need not have been answered: it has waited for too long already.
    let mut run = on_trial();
    let [young, old] = [0.02, 0.26].map(|seconds| Observation { waiting: 1, ..waiting(1, seconds) });
    let and = |waits: Observation| Observation { waiting: 1, waited: waits.waited, ..seen(1, 300) };
    assert_eq!(run.step([and(young), fast, fast]), None, "it has only just come");
    assert!(is_out(run.step([old, fast, fast])));
    assert!(is_out(on_trial().step([and(old), fast, fast])));
}

/// Requests usually take two seconds. A server that hung is tried, and hangs: who is sent there to try it does not wait for twenty
/// seconds.
#[test]
fn silence_on_trial_is_noticed_in_time() {
    let usual = seen(5, 2_000);
    let ejected_after = |count: u32| {
        let mut run = Run::new(Settings::default());
        run.go(40, [usual; 3]);
        run.step([FAILING, usual, usual]);
        run.tried(Observation::NONE, usual);
        (1..120_u32).find(|quarter| {
            let silent = waiting(count, f64::from(*quarter) / 4.0);
            matches!(run.step([silent, usual, usual]), Some(Action::EjectHanging { server: 0, .. }))
        })
    };
    let [one, two] = [1, 2].map(|count| f64::from(ejected_after(count).unwrap_or(1_000)) / 4.0);
    println!("ejected after {one} s with one that waits, {two} s with two");
    // One may be out of the ordinary.
    assert!((19.0..22.0).contains(&one) && (7.0..=9.0).contains(&two), "{one} {two}");
    // Where requests are fast, nothing is sooner than it was: a server that comes back has a queue to serve.
    let usual = seen(50, 80);
    let mut run = Run::new(Settings::default());
    run.go(40, [usual; 3]);
    run.step([FAILING, usual, usual]);
    run.tried(Observation::NONE, usual);
    assert_eq!(run.step([waiting(2, 0.7), usual, usual]), None);
    assert!(matches!(run.step([waiting(2, 0.9), usual, usual]), Some(Action::EjectHanging { server: 0, .. })));
}

/// Requests that wait since before a trial have waited for long, which says nothing about how soon a new one is answered.
#[test]
fn a_new_request_has_its_usual_time_beside_old_ones() {
    let usual = seen(5, 2_000);
    let mut run = Run::new(Settings::default());
    run.go(40, [usual; 3]);
    run.step([waiting(8, 21.0), usual, usual]);
    assert!(run.monitor.ejected()[0]);
    run.tried(waiting(8, 25.0), usual);
    for quarter in 0..8 {
        let old_and_new = Observation { waiting: 9, ..waiting(8, 26.0) };
        let action = run.step([old_and_new, usual, usual]);
        assert!(!action.is_some_and(|action| matches!(action, Action::EjectHanging { .. })), "{quarter}: {action:?}");
    }
    assert_eq!(run.until(false, [Observation { waiting: 8, ..seen(2, 2_000) }, usual, usual]), 5);
}

/// Nobody knows what is usual before there was an answer, and two a second are few.
#[test]
fn a_service_that_takes_its_time_is_not_silent() {
    let mut run = Run::new(Settings::default());
    let mut each = |first: Observation| {
        run.step([first; 3]);
        assert_eq!((run.monitor.ejected(), run.monitor.weights()), ([false; 3], [10_000; 3]), "{}", run.quarters);
    };
    for quarter in 1..=8_u32 {
        each(waiting(quarter.div_ceil(2), f64::from(quarter) / 8.0));
    }
    for _ in 0..100 {
        each(Observation { waiting: 4, waited: Duration::from_secs(4), ..answers([2.0]) });
        each(Observation { silent: Duration::from_millis(400), ..waiting(4, 1.0) });
    }
}

/// But a server that has never answered beside others that have is silent.
#[test]
fn a_server_that_hangs_from_the_start_is_ejected() {
    let mut run = Run::new(Settings::default());
    let fast = seen(50, 20);
    let took = (1..20_u32).find(|quarter| {
        run.step([waiting(quarter * 5, f64::from(*quarter) / 8.0), fast, fast]);
        run.monitor.ejected()[0]
    });
    assert!(took.is_some_and(|quarters| quarters <= 6), "{took:?}");
}

/// Requests that wait, each for half as long as it goes on, while a few others are answered at once.
fn stalled(answered: u32, count: u32, quarter: u32) -> Observation {
    let each = Duration::from_millis(125) * quarter;
    Observation { waiting: count, waited: each * count, silent: Duration::from_millis(100), ..seen(answered, 5) }
}

/// A server that answers one request in fifty at once, and has a hundred that wait, is as bad as one that hangs.
#[test]
fn a_good_mean_of_a_few_hides_no_hundred_that_wait() {
    for holds_connections in [false, true] {
        let mut settings = Settings::default();
        settings.holds_connections = holds_connections;
        let mut run = Run::new(settings);
        let fast = seen(50, 10);
        run.go(20, [fast; 3]);
        let took = (1..40).find(|quarter| {
            run.step([stalled(1, 100, *quarter), fast, fast]);
            run.monitor.ejected()[0]
        });
        let said = run.monitor.decisions().next().unwrap().to_string();
        println!("after {took:?} quarters: {said}");
        assert!(took.is_some_and(|quarters| quarters <= 10) && run.monitor.weights()[0] == 0, "{took:?} {said}");
        assert!(said.contains("server 0 gets nothing more") && said.contains("100 requests wait"), "{said}");
        // On trial it is not taken back for ten good answers while others wait.
        run.tried(Observation::NONE, fast);
        let actions: Vec<_> = (1..12).filter_map(|quarter| run.step([stalled(2, 3, quarter), fast, fast])).collect();
        assert!(run.monitor.ejected()[0] && !actions.contains(&Action::Return { server: 0 }), "{actions:?}");
        // When nothing waits any more it comes back.
        assert!(run.until(false, [seen(5, 10), fast, fast]) <= 40);
    }
}

/// The same where there is little to do: less than five answers a second say nothing by their mean, but what waits does.
#[test]
fn what_waits_counts_where_few_are_answered() {
    let mut run = Run::new(Settings::default());
    run.go(20, [seen(3, 10); 3]);
    for quarter in 1..=16 {
        // Two answers a second, where it had twelve: more than a tenth.
        run.step([stalled(quarter % 2, 20, quarter), seen(5, 10), seen(5, 10)]);
    }
    let [mine, other, _] = run.monitor.weights();
    assert!(mine < other / 2 && !run.monitor.ejected()[0], "{mine} {other} {:?}", run.monitor.estimates());
}

/// Not a burst, not what always waits there, and not where all are like that.
#[test]
fn what_waits_for_other_reasons_is_no_stall() {
    let is_stalled = |run: &mut Run, each| {
        run.step(each);
        run.monitor.ejected()[0]
    };
    // A hundred have come in the last few milliseconds, while nobody else has asked.
    let fast = seen(50, 10);
    let mut run = Run::new(Settings::default());
    run.go(20, [fast; 3]);
    let burst = Observation { waited: Duration::from_millis(500), waiting: 100, ..seen(1, 10) };
    assert!(!(0..20).any(|_| is_stalled(&mut run, [burst, fast, fast])));
    // Each server has a hundred clients who wait for news; the others are restarted, and get all new requests.
    let waits = |quarter: u32| Observation { waiting: 100, waited: Duration::from_secs(25) * quarter, ..fast };
    let mut run = Run::new(Settings::default());
    (1..120).for_each(|quarter| assert_eq!(run.step([waits(quarter); 3]), None));
    let alone = |quarter| Observation {
        answered: 0,
        response: Duration::ZERO,
        silent: Duration::from_millis(90),
        ..waits(quarter)
    };
    assert!(!(120..160).any(|quarter| is_stalled(&mut run, [alone(quarter), seen(80, 10), seen(80, 10)])));
    // Nor does that keep a server out: those who wait for news are there on trial, too.
    let mut run = Run::new(Settings::default());
    (1..120).for_each(|quarter| assert_eq!(run.step([waits(quarter); 3]), None));
    run.step([FAILING, fast, fast]);
    run.tried(Observation::NONE, fast);
    let news = (1..20).map(|quarter| stalled(2, 4, quarter)).find_map(|seen| run.step([seen, fast, fast]));
    assert_eq!(news, Some(Action::Return { server: 0 }));
    // All are stalled: that is no reason to eject one after the other.
    let mut run = Run::new(Settings::default());
    run.go(20, [fast; 3]);
    for quarter in 1..60 {
        run.step([stalled(1, 100, quarter); 3]);
        assert_eq!(run.monitor.ejected(), [false; 3], "{quarter}");
    }
}
