//! What the closed loop must reach, with fixed seeds: the ratios of medians over five runs on the same arrivals.

use std::sync::OnceLock;
use std::thread;

use byway::monitor::Action;

use crate::hearing::Hearing;
use crate::servers::Health;
use crate::world::{PHASES, Phase, Policy, Seen, World, run, summary};

const SEEDS: &[u64] = &[1, 2, 3, 4, 5];
/// Length of a phase in seconds.
const SECONDS: f64 = 60.0;

struct Runs {
    of: Vec<(Policy, Vec<Seen>)>,
}

impl Runs {
    fn make<const P: usize>(policies: [Policy; P], hearing: Hearing) -> Self {
        let of = thread::scope(|scope| {
            let each = policies.map(|policy| {
                let runs = move || SEEDS.iter().map(|seed| run(policy, *seed, SECONDS, hearing)).collect();
                (policy, scope.spawn(runs))
            });
            each.map(|(policy, runs)| (policy, runs.join().expect("no panic"))).into()
        });
        Self { of }
    }

    fn of(&self, policy: Policy) -> &[Seen] {
        &self.of.iter().find(|(of, _)| *of == policy).expect("it was run").1
    }

    /// The median over all seeds of the p99 in milliseconds and of the failures in per cent, in a time.
    fn median(&self, policy: Policy, from: f64, to: f64) -> (f64, f64) {
        let mut values: Vec<_> = self.of(policy).iter().map(|seen| summary(seen, from, to, 99.0)).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let p99 = values[values.len() / 2].0;
        values.sort_by(|a, b| a.1.total_cmp(&b.1));
        (p99, values[values.len() / 2].1)
    }
}

/// All runs, made once.
fn runs() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| {
        use Policy::{Alone, Clairvoyant, LeastConnections, Loads, Monitor, Static};
        Runs::make([Static, LeastConnections, Alone, Monitor, Loads, Clairvoyant], Hearing::GOOD)
    })
}

/// The same in a phase.
fn median(policy: Policy, phase: usize) -> (f64, f64) {
    let from = phase as f64 * SECONDS;
    runs().median(policy, from, from + SECONDS)
}

fn monitored() -> &'static [Seen] {
    runs().of(Policy::Monitor)
}

#[track_caller]
fn at_most(what: &str, phase: usize, mine: f64, theirs: f64, ratio: f64) {
    let name = PHASES[phase].name;
    assert!(mine <= theirs * ratio, "{what}, {name}: {mine:.2} against {theirs:.2}, which is above {ratio}");
}

#[test]
fn response_times_against_least_connections() {
    for (phase, ratio) in [(0, 0.65), (1, 0.95), (3, 0.65)] {
        at_most("p99", phase, median(Policy::Monitor, phase).0, median(Policy::LeastConnections, phase).0, ratio);
    }
}

#[test]
fn failures_against_least_connections() {
    for (phase, ratio) in [(2, 0.1), (4, 1.0 / 3.0)] {
        let theirs = median(Policy::LeastConnections, phase).1;
        assert!(theirs > 0.3, "nothing fails: {theirs}");
        at_most("failed", phase, median(Policy::Monitor, phase).1, theirs, ratio);
    }
}

/// Static weights lose a third of all requests; what they lose counts as two seconds each, so that no ratio of times can
/// be larger than that of two seconds.
#[test]
fn static_weights_break_down_where_one_server_slows() {
    let (mine, theirs) = (median(Policy::Monitor, 1), median(Policy::Static, 1));
    assert!(theirs.0 >= 1_999.0 && theirs.1 > 20.0, "{theirs:?}");
    at_most("p99", 1, mine.0, theirs.0, 0.1);
    at_most("failed", 1, mine.1, theirs.1, 0.01);
}

#[test]
fn response_times_against_whoever_knows_all() {
    for phase in [0, 1, 3, 4, 5] {
        at_most("p99", phase, median(Policy::Monitor, phase).0, median(Policy::Clairvoyant, phase).0, 1.3);
    }
}

/// At 75 % load no server is out any more after ten seconds.
#[test]
fn a_server_that_is_well_again_comes_back_soon() {
    for seen in monitored() {
        let end = SECONDS * PHASES.len() as f64;
        let (p99, failed) = summary(seen, end - SECONDS + 12.0, end, 99.0);
        assert!(p99 < 150.0 && failed < 0.01, "{p99} ms, {failed} % failed");
    }
}

#[test]
fn equal_servers_are_left_alone() {
    let steady = Phase { name: "equal", load: 0.6, wrong: None };
    let p99 = |policy| {
        let mut all: Vec<f64> = SEEDS
            .iter()
            .map(|seed| {
                let mut world = World::new(policy, *seed, true);
                world.run(&steady, SECONDS);
                summary(&world.into_seen(), 0.0, SECONDS, 99.0).0
            })
            .collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (mine, theirs) = (p99(Policy::Monitor), p99(Policy::LeastConnections));
    assert!(mine <= theirs * 1.05, "{mine} against {theirs}");
}

/// Whoever kills the monitor leaves the translator with the last weights.
#[test]
fn without_its_monitor_everything_goes_on() {
    let steady = Phase { name: "steady", load: 0.6, wrong: None };
    let p99 = |dies: f64| {
        let mut world = World::new(Policy::Monitor, 5, false);
        world.kill_monitor_at(dies);
        world.run(&steady, 60.0);
        summary(&world.into_seen(), 20.0, 60.0, 99.0).0
    };
    let (killed, alive) = (p99(20.0), p99(f64::INFINITY));
    assert!(killed <= alive * 1.1, "{killed} against {alive}");
}

/// Weights rest where nothing changes.
#[test]
fn little_is_moved_where_nothing_happens() {
    for seen in monitored() {
        for phase in [0, 3] {
            let (from, to) = (phase as f64 * SECONDS + 15.0, (phase + 1) as f64 * SECONDS);
            let moved: f64 = seen.moved.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, moved)| moved).sum();
            let a_minute = moved * 60.0 / (to - from);
            assert!(a_minute <= 0.2, "{a_minute} in phase {phase}");
        }
    }
}

/// Nothing that has made it worse stands; every decision can be made again from what is stored with it, and is explained in
/// one sentence.
#[test]
fn decisions_are_kept_explained_and_undone() {
    for seen in monitored() {
        assert!(seen.decisions.len() > 5);
        let mut judged = 0;
        for (place, decision) in seen.decisions.iter().enumerate() {
            assert!(decision.can_be_replayed(), "{decision}");
            let sentence = decision.to_string();
            assert!(
                sentence.starts_with(&format!("{} at ", decision.number)) && !sentence.contains('\n'),
                "{sentence}"
            );
            if let Some(outcome) = decision.outcome {
                judged += u32::from(outcome.realised_share().is_some());
                if outcome.is_worse() {
                    let undone =
                        seen.decisions[place..].iter().any(|d| d.action == Action::Undo { of: decision.number });
                    assert!(undone, "{decision} stands");
                }
            }
        }
        assert!(judged >= 2, "{judged}");
    }
}

/// All that was promised and can be judged, against all that came of it.
#[test]
fn promises_are_kept() {
    let (mut promised, mut realised) = (0.0, 0.0);
    for decision in monitored().iter().flat_map(|seen| &seen.decisions) {
        if let Some(outcome) = decision.outcome.filter(|outcome| outcome.realised_share().is_some()) {
            promised += 1.0 - outcome.promised;
            realised += 1.0 - outcome.response[1] / outcome.response[0];
        }
    }
    let share = realised / promised;
    assert!((0.5..=2.0).contains(&share), "{share}");
}

#[test]
fn a_server_that_fails_is_ejected_within_half_a_second() {
    for (phase, wrong) in PHASES.iter().enumerate().filter_map(|(n, phase)| Some((n, phase.wrong?))) {
        if wrong.2 == Health::Well {
            continue;
        }
        for seen in monitored() {
            let begun = phase as f64 * SECONDS;
            let ejected = seen.decisions.iter().find(|decision| {
                let at = decision.inputs.at.as_micros() as f64 / 1e6;
                at > begun && decision.weights[wrong.0] == 0
            });
            let at = ejected.expect("it is ejected").inputs.at.as_micros() as f64 / 1e6;
            assert!(at - begun <= 0.6, "{} s", at - begun);
        }
    }
}

/// Where there is little to do, a server that refuses all at once is no more attractive for that: while it is tried,
/// every four seconds, it gets a few requests. It comes back when it is well.
#[test]
fn a_server_that_fails_fast_attracts_few_at_low_load() {
    for (equal, wrong) in [(false, 0), (false, 1), (true, 0), (true, 5)] {
        let phase = |wrong| Phase { name: "5 % load", load: 0.05, wrong };
        let each = SEEDS.iter().map(|seed| {
            let mut world = World::new(Policy::Monitor, *seed, equal);
            world.run(&phase(None), SECONDS / 2.0);
            world.run(&phase(Some((wrong, 1.0, Health::Fails(1.0)))), SECONDS);
            world.run(&phase(None), SECONDS / 4.0);
            let seen = world.into_seen();
            let is_back = |decision: &byway::monitor::Decision<6>| decision.weights[wrong] != 0;
            assert!(seen.decisions.last().is_some_and(is_back), "it is out of use");
            summary(&seen, SECONDS / 2.0, 1.5 * SECONDS, 99.0).1
        });
        let mut failed: Vec<f64> = each.collect();
        failed.sort_by(f64::total_cmp);
        assert!(failed[failed.len() / 2] < 2.5, "{failed:?}");
    }
}

/// Without any monitor: what fails fast attracts nobody, and what hangs neither.
#[test]
fn a_translator_alone_ejects_what_fails() {
    for (phase, ratio) in [(2, 0.05), (4, 0.1)] {
        let theirs = median(Policy::LeastConnections, phase).1;
        at_most("failed", phase, median(Policy::Alone, phase).1, theirs, ratio);
    }
    // What it costs where nothing fails.
    for phase in [0, 1, 3, 5] {
        at_most("p99", phase, median(Policy::Alone, phase).0, median(Policy::LeastConnections, phase).0, 1.1);
    }
}

/// Loads that servers report: no worse anywhere, and better at 75 %.
#[test]
fn loads_that_servers_report_help() {
    for (phase, ratio) in [(0, 1.1), (1, 1.05), (2, 1.1), (3, 1.1), (4, 1.15), (5, 0.95)] {
        at_most("p99", phase, median(Policy::Loads, phase).0, median(Policy::Monitor, phase).0, ratio);
        at_most("p99", phase, median(Policy::Loads, phase).0, median(Policy::Clairvoyant, phase).0, 1.15);
    }
    at_most("p99", 5, median(Policy::Loads, 5).0, median(Policy::LeastConnections, 5).0, 0.68);
}

/// A server that says that it has nothing to do, or that it can do no more, gains or loses a little.
#[test]
fn a_load_that_lies_costs_little() {
    for (server, share) in [(3, 1.0), (5, 0.0), (0, 0.0)] {
        let phase = Phase { name: "a lie", load: 0.75, wrong: None };
        let p99 = |policy, liar| {
            let mut world = World::heard(policy, 3, false, Hearing { liar, ..Hearing::GOOD });
            world.run(&phase, SECONDS);
            summary(&world.into_seen(), 10.0, SECONDS, 99.0).0
        };
        let (with, least) = (p99(Policy::Loads, Some((server, share))), p99(Policy::LeastConnections, None));
        assert!(with <= 0.9 * least, "{server} says {share}: {with} against {least}");
    }
}

/// Measurements five seconds late, a tenth of them lost, clocks a second apart. Whoever hears nothing does not care.
fn adverse() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| Runs::make([Policy::Monitor], Hearing::BAD))
}

/// A server that fails fast gets what probing takes, once that can be known.
#[test]
fn whoever_fails_fast_gets_a_probing_share_though_reports_are_late() {
    let (from, to) = (2.0 * SECONDS + 6.0, 3.0 * SECONDS);
    for seen in adverse().of(Policy::Monitor) {
        let (mut all, mut probes) = (0, 0);
        for (_, _, _, server) in seen.requests.iter().filter(|(begun, ..)| (from..to).contains(begun)) {
            (all, probes) = (all + 1, probes + u32::from(*server == 1));
        }
        let share = f64::from(probes) / f64::from(all);
        assert!(probes > 0 && share < 0.01, "{probes} of {all}");
    }
}

/// No phase is worse than with static weights; nor, once the monitor can have seen what has changed, than with the same rule left
/// alone; nor all in all.
#[test]
fn late_reports_make_nothing_worse_than_doing_nothing() {
    let (all, first) = (SECONDS * PHASES.len() as f64, 25.0);
    for (phase, at) in PHASES.iter().enumerate().map(|(phase, _)| (phase, phase as f64 * SECONDS)) {
        let of = |runs: &Runs, policy, from| runs.median(policy, at + from, at + SECONDS);
        let (mine, fixed) = (of(adverse(), Policy::Monitor, 0.0), of(runs(), Policy::Static, 0.0));
        at_most("p99 against static weights", phase, mine.0, fixed.0, 1.0);
        at_most("failed against static weights", phase, mine.1, fixed.1 + 0.02, 1.0);
        let (mine, alone) = (of(adverse(), Policy::Monitor, first), of(runs(), Policy::LeastConnections, first));
        at_most("p99 against doing nothing", phase, mine.0, alone.0, 1.0);
        at_most("failed against doing nothing", phase, mine.1, alone.1 + 0.02, 1.0);
    }
    let mine = adverse().median(Policy::Monitor, 0.0, all);
    let alone = runs().median(Policy::LeastConnections, 0.0, all);
    assert!(mine.0 < 0.2 * alone.0 && mine.1 < 0.2 * alone.1, "{mine:?} {alone:?}");
}

/// Late reports are no reason to go to and fro.
#[test]
fn late_reports_do_not_make_weights_oscillate() {
    for seen in adverse().of(Policy::Monitor) {
        assert!(seen.decisions.iter().all(|decision| decision.can_be_replayed()));
        let moves = seen.decisions.iter().filter(|decision| matches!(decision.action, Action::Reweigh)).count();
        assert!((3..=25).contains(&moves), "{moves}");
        for phase in [0, 3] {
            let (from, to) = (phase as f64 * SECONDS + 25.0, (phase + 1) as f64 * SECONDS);
            let moved: f64 = seen.moved.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, moved)| moved).sum();
            let a_minute = moved * 60.0 / (to - from);
            assert!(a_minute <= 0.4, "{a_minute} in phase {phase}");
        }
    }
}
