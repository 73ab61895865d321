//! Two real TCP stacks (smoltcp) around a translator, over lines that lose, reorder, repeat and delay. Applications
//! abort, restart, close halfway and begin again on the same port; an attacker forges packets; rules and translators
//! change under way. What both ends know is the oracle (`testing/src/truth.rs`): no model of the tracker can share its
//! mistakes.
//!
//! `BYWAY_SEEDS` says how many runs of each kind there are, `BYWAY_FIRST_SEED` where they begin, `BYWAY_SEED` names a
//! single one. With `BYWAY_CHECK_TRUTH=1` the test checks itself: what the segments show to somebody who knows the forged
//! ones against what both ends say.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::stacks::world::{Checked, Plan, Violation, World};

/// Runs of each kind where nothing else is said, such that all of them take some seconds without optimisation.
const SEEDS: u64 = 45;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn run(plan: Plan, checked: &Mutex<Checked>) -> Result<(), Violation> {
    let mut world = World::new(Plan { check_shown: variable("BYWAY_CHECK_TRUTH").is_some(), ..plan });
    let mut result = Ok(());
    for _ in 0..plan.steps {
        result = world.step();
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = world.finish();
    }
    checked.lock().expect("nobody panics").add(&world.checked);
    result
}

/// Runs all seeds of one kind, on all processors.
#[track_caller]
fn hold(plan: impl Fn(u64) -> Plan + Sync) -> Checked {
    let seeds = match variable("BYWAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = variable("BYWAY_FIRST_SEED").unwrap_or(0);
            first..first + variable("BYWAY_SEEDS").unwrap_or(SEEDS)
        }
    };
    let left = Mutex::new(seeds.clone());
    let checked = Mutex::new(Checked::default());
    let faults = Mutex::new(BTreeMap::<String, (u64, String)>::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let Some(seed) = left.lock().expect("nobody panics").next() else {
                        return;
                    };
                    if let Err(violation) = run(plan(seed), &checked) {
                        let mut faults = faults.lock().expect("nobody panics");
                        let story = || format!("BYWAY_SEED={seed}\n{}", violation.story);
                        faults.entry(violation.rule).or_insert_with(|| (0, story())).0 += 1;
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().expect("nobody panics");
    println!("{:?}", checked.lock().expect("nobody panics"));
    for (rule, (count, first)) in &faults {
        println!("{count} x {rule}\n{first}");
    }
    let rules: Vec<_> = faults.iter().map(|(rule, (count, _))| format!("{count} x {rule}")).collect();
    assert!(faults.is_empty(), "of {} runs:\n{}", seeds.end - seeds.start, rules.join("\n"));
    checked.into_inner().expect("nobody panics")
}

const QUIET: Plan = Plan {
    seed: 0,
    steps: 120,
    clean: true,
    attacked: false,
    idle: false,
    moved: false,
    restarted: false,
    check_shown: false,
};

/// A run that checked nothing would prove nothing.
#[track_caller]
fn at_least(counts: &[(&str, u64)]) {
    if variable("BYWAY_SEED").is_none() && variable("BYWAY_SEEDS").is_none_or(|seeds| seeds >= SEEDS) {
        for (name, count) in counts {
            assert!(*count >= SEEDS / 6, "{name}: {counts:?}");
        }
    }
}

#[test]
fn over_good_lines() {
    let c = hold(|seed| Plan { seed, ..QUIET });
    at_least(&[
        ("established", c.established),
        ("half-closed", c.closing),
        ("gone", c.gone),
        ("numbers", c.numbers),
        ("exact RSTs", c.exact_resets),
        ("simultaneous open", c.simultaneous),
    ]);
}

#[test]
fn over_bad_lines() {
    let c = hold(|seed| Plan { seed, clean: false, ..QUIET });
    at_least(&[("established", c.established), ("gone", c.gone), ("numbers", c.numbers)]);
}

#[test]
fn over_hours() {
    let c = hold(|seed| Plan { seed, idle: true, clean: seed % 2 == 0, ..QUIET });
    at_least(&[("established", c.established), ("numbers", c.numbers)]);
}

#[test]
fn under_attack() {
    let c = hold(|seed| Plan { seed, attacked: true, clean: seed % 2 == 0, idle: seed % 5 == 0, ..QUIET });
    at_least(&[("established", c.established), ("numbers", c.numbers)]);
}

#[test]
fn while_rules_change() {
    let c = hold(|seed| Plan { seed, moved: true, clean: seed % 3 != 0, attacked: seed % 4 == 0, ..QUIET });
    at_least(&[("established", c.established), ("told", c.told)]);
}

#[test]
fn while_the_translator_restarts() {
    let c = hold(|seed| Plan { seed, restarted: true, clean: seed % 3 != 0, attacked: seed % 4 == 0, ..QUIET });
    at_least(&[("established", c.established), ("numbers", c.numbers)]);
}

#[test]
fn all_at_once() {
    let c = hold(|seed| Plan {
        seed,
        clean: seed % 4 == 0,
        attacked: true,
        idle: seed % 3 == 0,
        moved: true,
        restarted: true,
        ..QUIET
    });
    at_least(&[("established", c.established)]);
}
