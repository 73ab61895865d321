//! A plan tells beforehand what instructions will do: what it accepts is accepted, with the same effects; alone, an
//! instruction is accepted by a plan if and only if the translator accepts it.

use core::net::SocketAddrV4;

use byway::{Divert, Fixed, Match, Redivert, Target, Translator, Weighted};
use byway_testing::*;

#[derive(Clone, Debug)]
enum Step {
    Divert(Match, Vec<Weighted>),
    Remove(Match),
    Redivert(Target, Target, Redivert),
}

fn target(dice: &mut Dice) -> Target {
    let address = ip(&format!("20.0.0.{}", 1 + dice.below(4)));
    match dice.below(8) {
        0 => Target::Same,
        1 | 2 => Target::Address(address),
        n => Target::Endpoint(SocketAddrV4::new(address, 80 + n as u16 % 2)),
    }
}

fn original(dice: &mut Dice) -> Match {
    Match::from(SocketAddrV4::new(ip("100.0.0.1"), 80 + dice.below(5) as u16))
}

fn step(dice: &mut Dice) -> Step {
    match dice.below(8) {
        0..=3 => {
            let count = 1 + dice.below(3);
            Step::Divert(original(dice), (0..count).map(|_| Weighted::new(target(dice), 1)).collect())
        }
        4 => Step::Remove(original(dice)),
        n => Step::Redivert(
            target(dice),
            target(dice),
            [Redivert::Switch, Redivert::Drain, Redivert::Reset][n as usize - 5],
        ),
    }
}

type Small = Translator<Fixed<64, 4>>;

/// What a step does, in words; the generation is the last.
fn carry_out(t: &mut Small, step: &Step) -> Result<(String, u32), String> {
    match step {
        Step::Divert(matches, group) => match t.divert(Divert::new(*matches).to_group(group)) {
            Ok(done) => Ok((format!("{} {}", done.updated, done.left_behind), done.generation)),
            Err(error) => Err(format!("{error:?}")),
        },
        Step::Remove(matches) => {
            let done = t.remove(*matches);
            Ok((format!("{:?}", done.map(|d| d.left_behind)), t.generation()))
        }
        Step::Redivert(from, to, how) => match t.redivert(*from, *to, *how) {
            Ok(done) => Ok((format!("{} {}", done.servers, done.connections), done.generation)),
            Err(error) => Err(format!("{error:?}")),
        },
    }
}

fn plan(t: &mut Small, steps: &[Step]) -> Vec<Result<(String, u32), String>> {
    let mut plan = t.plan();
    let one = |step: &Step| match step {
        Step::Divert(matches, group) => match plan.divert(&Divert::new(*matches).to_group(group)) {
            Ok(done) => Ok((format!("{} {}", done.updated, done.left_behind), done.generation)),
            Err(error) => Err(format!("{error:?}")),
        },
        Step::Remove(matches) => {
            let done = plan.remove(*matches);
            Ok((format!("{:?}", done.map(|d| d.left_behind)), plan.generation()))
        }
        Step::Redivert(from, to, how) => match plan.redivert(*from, *to, *how) {
            Ok(done) => Ok((format!("{} {}", done.servers, done.connections), done.generation)),
            Err(error) => Err(format!("{error:?}")),
        },
    };
    steps.iter().map(one).collect()
}

/// What can be seen of the tables.
fn table(t: &Small) -> Vec<String> {
    let rules = t.diverts().map(|e| format!("{} {:?}", e.matches(), e.servers().collect::<Vec<_>>()));
    rules.chain([t.generation().to_string()]).collect()
}

#[test]
fn what_a_plan_accepts_is_accepted() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..4_000 {
        let mut dice = Dice(seed);
        let mut t = Translator::new(config(), Fixed::<64, 4>::new()).unwrap();
        for i in 0..dice.below(12) {
            let _ = carry_out(&mut t, &step(&mut dice));
            let client = SocketAddrV4::new(ip("1.2.3.4"), 1000 + i as u16);
            let to = SocketAddrV4::new(ip("100.0.0.1"), 80 + dice.below(5) as u16);
            let _ = run(&mut t, s(i), &udp(client, to, b""));
            if dice.below(4) == 0 {
                t.poll(s(i));
            }
        }
        let before = table(&t);
        let mut steps: Vec<Step> = (0..1 + dice.below(4)).map(|_| step(&mut dice)).collect();
        // Re-diverts last, each match once.
        steps.sort_by_key(|s| matches!(s, Step::Redivert(..)));
        let mut seen = Vec::new();
        steps.retain(|s| match s {
            Step::Divert(m, _) | Step::Remove(m) => {
                !seen.contains(m) && {
                    seen.push(*m);
                    true
                }
            }
            Step::Redivert(..) => true,
        });
        let planned = plan(&mut t, &steps);
        assert_eq!(table(&t), before, "seed {seed}: a plan changes nothing");
        if planned.iter().all(Result::is_ok) {
            accepted += 1;
            for (place, (step, planned)) in steps.iter().zip(planned).enumerate() {
                let done = carry_out(&mut t, step);
                // What a re-divert affects is counted before the instructions that precede it.
                if place != 0 && matches!(step, Step::Redivert(..)) {
                    assert_eq!(done.unwrap().1, planned.unwrap().1, "seed {seed}: {step:?} of {steps:?}");
                } else {
                    assert_eq!(done, planned, "seed {seed}: {step:?} of {steps:?}");
                }
            }
        } else if let [step] = &steps[..] {
            refused += 1;
            assert_eq!(carry_out(&mut t, step), planned[0], "seed {seed}: {step:?}");
            assert_eq!(table(&t), before, "seed {seed}: what is refused changes nothing");
        }
    }
    // Both happen, often enough to mean something.
    assert!(accepted > 500 && refused > 100, "{accepted} {refused}");
}
