//! Several services on the same servers, and clients of several places that may not have the same servers: against the shares
//! that are best for all together, with fixed seeds.
//!
//! `cargo run --release --example monitor -- --services` prints them.

use crate::hearing::Hearing;
use crate::offers::{Offer, Scene};
use crate::servers::Health;
use crate::world::{N, Phase, Policy, World, summary};

const SEEDS: &[u64] = if cfg!(debug_assertions) { &[1] } else { &[1, 2, 3] };
/// The monitors learn for so many seconds, and so many are counted after that.
const LEARNS: f64 = 10.0;
const COUNTED: f64 = 60.0;

struct Case {
    scene: Scene,
    load: f64,
    /// By how many times the third server, the one that both have, is slower after the first seconds.
    slower: f64,
}

fn offer(share: f64, servers: &[usize], millis: [f64; N], monitor: usize) -> Offer {
    Offer {
        share,
        servers: core::array::from_fn(|server| servers.contains(&server)),
        floors: millis.map(|ms| ms / 1e3),
        monitor,
    }
}

const EQUAL: [f64; N] = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0];
const MIXED: [f64; N] = [1.0, 0.5, 2.0, 1.0, 0.5, 0.0];

/// Two services; the first has this share of all requests. Both have the third of five servers.
fn services(name: &'static str, speeds: [f64; N], share: f64, load: f64, slower: f64) -> Case {
    let millis = [2.0, 5.0, 10.0, 5.0, 20.0, 0.0];
    let offers = vec![offer(share, &[0, 1, 2], millis, 0), offer(1.0 - share, &[2, 3, 4], millis, 1)];
    Case { scene: Scene { name, speeds, offers }, load, slower }
}

/// Clients of two places, who have other ways to the third of four servers, which both have.
fn places(name: &'static str, share: f64, load: f64) -> Case {
    let [here, there] = [[2.0, 5.0, 30.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 20.0, 0.0, 0.0]];
    let offers = vec![offer(share, &[0, 1, 2], here, 0), offer(1.0 - share, &[2, 3], there, 1)];
    Case { scene: Scene { name, speeds: [1.0, 1.0, 1.0, 1.0, 0.0, 0.0], offers }, load, slower: 1.0 }
}

fn cases() -> Vec<Case> {
    vec![
        services("60 %", EQUAL, 0.65, 0.6, 1.0),
        services("80 %", EQUAL, 0.65, 0.8, 1.0),
        services("60 %, one at 90 % of its own", EQUAL, 0.9, 0.6, 1.0),
        services("80 %, one at 90 % of its own", EQUAL, 0.675, 0.8, 1.0),
        services("60 %, other speeds", MIXED, 0.6, 0.6, 1.0),
        services("80 %, other speeds", MIXED, 0.6, 0.8, 1.0),
        places("two places, 60 %", 0.6, 0.6),
        places("two places, 80 %", 0.55, 0.8),
        services("60 %, the shared one at a third", EQUAL, 0.65, 0.6, 3.0),
        services("75 %, the shared one at a third", EQUAL, 0.6, 0.75, 3.0),
        services("60 %, other speeds, the shared one at a third", MIXED, 0.5, 0.6, 3.0),
    ]
}

/// The medians of the mean and of the p99 in milliseconds, and of the failures in per cent.
fn figures(case: &Case, policy: Policy, hearing: Hearing) -> [f64; 3] {
    let mut each = [const { [0.0; SEEDS.len()] }; 3];
    for (place, seed) in SEEDS.iter().enumerate() {
        let mut world = World::in_scene(policy, *seed, case.scene.clone(), hearing);
        world.run(&Phase { name: "well", load: case.load, wrong: None }, LEARNS);
        let wrong = Some((2, case.slower, Health::Well));
        world.run(&Phase { name: case.scene.name, load: case.load, wrong }, COUNTED);
        let seen = world.into_seen();
        let times = seen.requests.iter().filter(|(begun, ..)| *begun >= LEARNS).map(|(_, took, ..)| took);
        (each[1][place], each[2][place]) = summary(&seen, LEARNS, LEARNS + COUNTED, 99.0);
        each[0][place] = times.clone().sum::<f64>() / times.count() as f64 * 1e3;
    }
    each.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[SEEDS.len() / 2]
    })
}

/// Prints them: static weights, monitors that take all requests of a server for their own, monitors that do not, and the best
/// shares of all services together, known at once.
pub(crate) fn table(hearing: Hearing) {
    println!("mean / p99 in ms / failed in %\n");
    println!("| | static weights | apart | byway's monitors | the best |\n| --- | ---: | ---: | ---: | ---: |");
    for case in cases() {
        let all = [Policy::Static, Policy::Apart, Policy::Monitor, Policy::Joint]
            .map(|policy| figures(&case, policy, hearing));
        let words = all.map(|[mean, p99, failed]| format!("{mean:.1} / {p99:.0} / {failed:.0}"));
        println!("| {} | {} |", case.scene.name, words.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The monitors of several services, each on top of what the others have, against the best shares of all, which are known at
    /// once there, and against monitors that take all requests of a server for their own.
    #[test]
    fn several_services_against_the_best_shares_of_all() {
        // Mean and p99, at most; where a server slows, nobody knows it at once.
        let most = [
            ("80 %", [1.15, 1.1]),
            ("80 %, one at 90 % of its own", [1.2, 1.15]),
            ("two places, 80 %", [1.12, 1.1]),
            ("75 %, the shared one at a third", [1.6, 1.35]),
        ];
        for (name, ratios) in most {
            let case = cases().into_iter().find(|case| case.scene.name == name).expect("it is one of them");
            let [apart, mine, best] =
                [Policy::Apart, Policy::Monitor, Policy::Joint].map(|policy| figures(&case, policy, Hearing::GOOD));
            assert!(mine[2] < 0.01, "{name}: {} % failed", mine[2]);
            for (n, ratio) in ratios.into_iter().enumerate() {
                assert!(mine[n] <= ratio * best[n], "{name}: {mine:?} against {best:?}");
                assert!(mine[n] <= 0.93 * apart[n], "{name}: {mine:?} against {apart:?}");
            }
        }
    }
}
