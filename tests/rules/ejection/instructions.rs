//! Rules that eject, and what instructions make of them: weights, re-diverts, removals.

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::{Divert, DivertError, Heap, Redivert, Translator, Weighted};
use byway_testing::talk::*;
use byway_testing::*;
use proptest::prelude::*;

use super::world::*;

/// What was ejected is forgotten with the rule that ejects, and is not passed on to another server.
#[test]
fn a_rule_that_no_longer_ejects_forgets_who_failed() {
    let mut world = World::new(&[Refuses, Well, Well], Choice::Sticky);
    world.run(10);
    assert!(world.measured(0).ejected);
    let group: Vec<_> = (0..3).map(|n| Weighted::new(server(n), 1)).collect();
    world.t.divert(Divert::new(at(ORIGINAL)).to_group(&group)).unwrap();
    assert!(!world.measured(0).ejected);
    world.servers[0] = Well;
    world.run(1);
    world.divert();
    assert!(!world.measured(0).ejected);
    let before = world.measured(0).started;
    world.run(5);
    assert!(world.measured(0).started > before + 5, "it has its whole share at once");
}

/// Weights change in place, and a re-divert goes on as before: what is out stays out, what is new is in.
#[test]
fn instructions_keep_what_is_out() {
    for (choice, rules) in BOTH_CHOICES.into_iter().flat_map(|choice| [(choice, 10), (choice, 2_000)]) {
        let mut world = World::with_rules(rules, &[Well; 4], choice);
        world.run(5);
        world.servers[3] = Refuses;
        world.run(1);
        assert_eq!(world.ejected(), [false, false, false, true]);
        world.weights = vec![3, 2, 1, 40];
        world.divert();
        assert_eq!(world.ejected(), [false, false, false, true]);
        let got = world.run(1);
        assert!(got[3] <= 1, "{choice:?}: {got:?}");
        // A rule that is refused changes nothing.
        let twice = [Weighted::new(server(0), 1), Weighted::new(server(0), 1)];
        assert!(world.t.divert(Divert::new(at(ORIGINAL)).to_group(&twice)).is_err());
        let before = world.t.diverts().next().unwrap().to_string();
        assert!(before.contains("20.0.0.4:80*40") && before.ends_with("eject"), "{before}");
        assert!(world.measured(3).ejected);
        // Another server in its place is in, and has its weight.
        for how in [Redivert::Switch, Redivert::Drain] {
            let (old, new) = if how == Redivert::Switch { (3, 4) } else { (4, 5) };
            world.t.redivert(server(old), server(new), how).unwrap();
            world.servers.resize(6, Well);
            let text = world.t.diverts().next().unwrap().to_string();
            assert_eq!(text, before.replace("20.0.0.4:", &format!("20.0.0.{}:", new + 1)), "{choice:?} {how:?}");
            let got = world.run(2);
            assert!(got[new] > 100, "{choice:?} {how:?}: {got:?}");
        }
        // It ejects as the one before it did.
        world.servers[5] = Hangs;
        world.run(3);
        assert!(world.measured(5).ejected, "{choice:?}");
        // Where those that carried on leave, the one that is out has to do.
        let rest = [Weighted::new(server(5), 1)];
        world.t.divert(Divert::new(at(ORIGINAL)).to_group(&rest).ejecting()).unwrap();
        assert_eq!(world.go(1), 5);
        // Without the option nothing is ejected.
        let rest = [Weighted::new(server(5), 1), Weighted::new(server(0), 1)];
        world.t.divert(Divert::new(at(ORIGINAL)).to_group(&rest)).unwrap();
        world.run(3);
        assert!(!world.measured(5).ejected && !world.t.diverts().next().unwrap().is_ejecting());
        assert!(world.t.remove(at(ORIGINAL)).is_some());
    }
}

/// A large group, which chooses by clusters, ejects in the same way.
#[test]
fn a_large_group_ejects_too() {
    for choice in sample(BOTH_CHOICES) {
        let mut world = World::new(&[Well; 100], choice);
        world.run(20);
        world.servers[7] = Refuses;
        world.servers[8] = Vanished;
        world.run(60);
        let got = world.run(10);
        // The least loaded of two is seldom one on which a SYN waits already, so that two wait there at most.
        let by_load = choice == Choice::LeastLoaded;
        assert!(world.measured(7).ejected && (by_load || world.measured(8).ejected), "{choice:?}");
        assert!(got[7] <= 2 && got[8] <= 2, "{choice:?}: {got:?}");
        let out = world.ejected().iter().filter(|out| **out).count();
        assert!(out == 2 || by_load && out == 1, "{choice:?}: {out}");
        (world.servers[7], world.servers[8]) = (Well, Well);
        world.run(300);
        let got = world.run(60);
        assert!(got[7] > 20 && got[8] > 20, "{choice:?}: {got:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sample(0..8).count() as u32, failure_persistence: None, ..Default::default() })]

    /// Whatever happens in whatever order: no more than half of the group is out, listings say what was asked for, servers
    /// without a weight get nothing, and what is well gets its share in the end.
    #[test]
    fn no_order_of_things_confuses_it(
        size in prop_oneof![1_usize..6, Just(if is_emulated() { 6 } else { 70 })],
        rules in prop_oneof![Just(10), Just(if is_emulated() { 20 } else { 2_000 })],
        by_load in any::<bool>(),
        steps in prop::collection::vec((0_usize..80, 0_u8..14, 0_u16..5), 1..40),
    ) {
        let choice = if by_load { Choice::LeastLoaded } else { Choice::Sticky };
        let mut world = World::with_rules(rules, &vec![Well; size], choice);
        for (which, what, weight) in steps {
            let which = which % world.servers.len();
            match what {
                0 => world.servers[which] = Refuses,
                1 => world.servers[which] = Hangs,
                2 => world.servers[which] = Vanished,
                3 => world.servers[which] = RefusesOneIn(2),
                4 | 5 => world.servers[which] = Well,
                6 => {
                    let before = core::mem::replace(&mut world.weights[which], weight);
                    if world.weights.iter().all(|weight| *weight == 0) {
                        world.weights[which] = before.max(1);
                    }
                    world.divert();
                }
                7 | 8 => {
                    // Another server in its place, with a number of its own, and back again.
                    let how = if what == 7 { Redivert::Switch } else { Redivert::Drain };
                    let other = SocketAddrV4::new(ip("20.9.9.9"), 80);
                    world.redivert(server(which), other, how);
                    world.redivert(other, server(which), how);
                    world.served.clear();
                }
                9 => {
                    world.t.remove(at(ORIGINAL)).unwrap();
                    world.divert();
                }
                10 => world.pass(Duration::from_secs(u64::from(weight) * 20)),
                _ => {
                    world.run(u64::from(weight));
                }
            }
            let (members, out) = (world.weights.iter().filter(|weight| **weight != 0).count(), world.ejected());
            let out = (0..size).filter(|n| out[*n] && world.weights[*n] != 0).count();
            prop_assert!(out <= members.div_ceil(2).min(members - 1), "{out} of {members}");
            let text = world.t.diverts().next().unwrap().to_string();
            for (n, weight) in world.weights.iter().enumerate() {
                let name = Weighted::new(server(n), *weight).to_string();
                prop_assert!(text.replace(',', " ").split(' ').any(|word| word == name), "{name} is not in {text}");
            }
            let got = world.run(1);
            prop_assert!((0..size).all(|n| got[n] == 0 || world.weights[n] != 0), "{got:?} {:?}", world.weights);
        }
        // As many rests as there may be, with what was left open at an end.
        world.servers.fill(Well);
        world.served.clear();
        world.pass(Duration::from_secs(9_000));
        for _ in 0..40 {
            world.t.poll(world.now);
            world.pass(Duration::from_millis(10));
        }
        world.run(if size > 10 { 200 } else { 60 });
        prop_assert_eq!(world.ejected().iter().zip(&world.weights).filter(|(out, w)| **out && **w != 0).count(), 0);
    }
}

/// Storage that does not measure servers cannot eject.
#[test]
fn without_measurements_the_rule_is_refused() {
    let rule = Divert::new(at(ORIGINAL)).to(at(SERVER)).ejecting();
    let refused = Err(DivertError::NotMeasured { destination: rule.matches().destination() });
    let mut t = Translator::new(config(), Heap::new(100, 10)).unwrap();
    assert_eq!(t.plan().divert(&rule).map(|_| ()), refused);
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    assert_eq!((t.diverts().count(), t.generation()), (0, 0));
    let mut t = Translator::new(config(), byway::Fixed::<64, 4>::new()).unwrap();
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    // Connections alone are not enough.
    let mut t = Translator::new(config(), byway::Fixed::<64, 4, 8, 8, 64>::sized()).unwrap();
    assert_eq!(t.divert(rule).map(|_| ()), refused);
    let mut t = translator(config());
    assert!(t.plan().divert(&rule).is_ok());
    assert!(t.divert(rule).is_ok());
    assert_eq!(t.diverts().next().unwrap().to_string(), rule.to_string());
}

#[cfg(feature = "control")]
#[test]
fn an_instruction_carries_the_option() {
    let text = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2 eject";
    let rule: byway::control::Rule = text.parse().unwrap();
    assert!(rule.options().ejecting);
    assert_eq!(rule.to_string(), text);
    let without: byway::control::Rule = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2".parse().unwrap();
    assert_ne!(rule, without);
}
