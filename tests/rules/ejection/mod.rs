//! Rules that eject failing servers, with made-up servers in simulated time: who gets the connections of which clients.

mod instructions;
mod world;

use core::net::Ipv4Addr;
use core::time::Duration;

use byway::{Protocol, State};
use byway_testing::talk::*;
use byway_testing::*;

use world::*;

/// Whatever a server does instead of serving, it is ejected within 2 s, gets a probe now and then, and comes back when it is
/// well.
#[test]
fn a_failing_server_goes_and_comes_back() {
    let each_way = |choice| [Refuses, Hangs, Vanished, Resets, Closes, RefusesOneIn(2)].map(|how| (choice, how));
    for (choice, how) in sample(BOTH_CHOICES.into_iter().flat_map(each_way)) {
        let mut world = World::new(&[Well; 4], choice);
        let before = world.run(10);
        assert!(before.iter().all(|n| *n > 150), "{choice:?}: {before:?}");
        world.servers[1] = how;
        let mut until = 0;
        while !world.measured(1).ejected {
            world.run(1);
            until += 1;
            assert!(until <= if how == RefusesOneIn(2) { 20 } else { 2 }, "{choice:?}: {how:?} stays");
        }
        let (probes, failed) = (world.run(60), world.measured(1));
        assert_eq!(failed.ejections, if how == RefusesOneIn(2) { failed.ejections } else { 1 });
        if how != RefusesOneIn(2) {
            // 6000 connections have come.
            assert!((2..=8).contains(&probes[1]), "{choice:?} {how:?}: {probes:?}");
            assert_eq!(world.ejected(), [false, true, false, false]);
        }
        world.servers[1] = Well;
        // Requests that nobody answers any more are given up by their clients.
        let next = if how == Vanished { 2 } else { 10 };
        for client in core::mem::take(&mut world.open) {
            let _ = run(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (RST, next, 0), b""));
        }
        world.run(90);
        let after = world.run(20);
        assert!(after.iter().all(|n| *n > 300), "{choice:?} {how:?}: {after:?}");
    }
}

/// A server with a few failures stays, as does one whose failures are those of single clients.
#[test]
fn few_failures_are_no_reason() {
    let each_way = |choice| [RefusesOneIn(100), RefusesOneIn(20)].map(|how| (choice, how));
    for (choice, how) in sample(BOTH_CHOICES.into_iter().flat_map(each_way)) {
        let mut world = World::new(&[how; 3], choice);
        world.run(100);
        assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?} {how:?}");
    }
}

/// One client cannot eject a server that serves others: neither if the server bans it, nor with requests that it
/// never ends, nor with SYNs that it takes back, however many.
#[test]
fn a_client_cannot_eject_a_server_for_others() {
    let attacker = Ipv4Addr::from_bits(0xc0a8_ffff);
    for choice in BOTH_CHOICES {
        for how in [Bans(attacker), HearsHalf(attacker)] {
            let mut world = World::new(&[how; 3], choice);
            world.run(5);
            for _ in 0..300 {
                for _ in 0..10 {
                    world.go(0xffff);
                }
                let client = world.dice.below(100) as u32;
                world.go(client);
                world.pass(Duration::from_millis(100));
            }
            assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?} {how:?}");
        }
        let mut world = World::new(&[Well; 3], choice);
        world.run(5);
        for n in 0..3_000 {
            // Forged sources, and a RST right behind each SYN, as a client sends that has changed its mind.
            let client = world.client(0x1_0000 + n);
            there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
            there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (RST, 2, 0), b""));
            world.pass(Duration::from_millis(5));
        }
        // And from forged sources, answered by the server, and never completed: a SYN flood.
        for n in 0..3_000 {
            let client = world.client(0x1_0000 + n);
            let seen = there(&mut world.t, world.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
            let (alternative, to) = ends(&seen);
            back(&mut world.t, world.now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
            world.pass(Duration::from_millis(5));
        }
        assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0, "{choice:?}");
    }
}

/// What a host off the path can forge ejects nothing: a RST that does not acknowledge the SYN, a RST with a wrong sequence
/// number, an ICMP error that quotes what it could guess.
#[test]
fn what_can_be_forged_does_not_count() {
    let mut world = World::new(&[Well; 3], Choice::Sticky);
    world.run(5);
    for n in 0..200 {
        let client = world.client(n);
        let (now, t) = (world.now, &mut world.t);
        let syn = there(t, now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
        let (alternative, to) = ends(&syn);
        let _ = run(t, now, &tcp(to, alternative, (RST | ACK, 0, 77), b""));
        let _ = run(t, now, &tcp(to, alternative, (RST, 99, 0), b""));
        let _ = run(t, now, &icmp_error(3, 1, ip("20.0.0.99"), &syn, 28));
        back(t, now, &tcp(to, alternative, (SYN | ACK, 50, 2), b""));
        there(t, now, &tcp(client, at(ORIGINAL), (ACK, 2, 51), b""));
        let _ = run(t, now, &tcp(to, alternative, (RST, 5_000, 0), b""));
        there(t, now, &tcp(client, at(ORIGINAL), (RST, 2, 0), b""));
        world.pass(Duration::from_millis(10));
    }
    assert_eq!((0..3).map(|n| world.measured(n).ejections).sum::<u32>(), 0);
}

/// If all fail, at most half are out, never the last one, and the others keep their clients.
#[test]
fn some_stay_whatever_happens() {
    let groups = [(Choice::Sticky, 1), (Choice::Sticky, 3), (Choice::LeastLoaded, 2), (Choice::LeastLoaded, 5)];
    let each_way = |group| [Refuses, Hangs, Vanished, Resets, Closes].map(|how| (group, how));
    for ((choice, many), how) in sample(groups.into_iter().flat_map(each_way)) {
        let mut world = World::new(&vec![how; many], choice);
        let got = world.run(60);
        let out = world.ejected().iter().filter(|out| **out).count();
        assert!(out <= many.div_ceil(2).min(many - 1), "{choice:?} {how:?}: {out} of {many}");
        assert!(many == 1 || out > 0);
        assert_eq!(got.iter().sum::<u32>(), 6_000);
        // They all return when they are well again.
        world.servers.fill(Well);
        world.run(90);
        assert_eq!(world.ejected(), vec![false; many], "{choice:?} {how:?} {many}");
    }
}

/// An ejection moves the server's own clients and nobody else's, and they come back to it; open connections stay.
#[test]
fn clients_stick_to_their_servers() {
    let mut world = World::new(&[Well; 5], Choice::Sticky);
    let before: Vec<usize> = (0..500).map(|client| world.go(client)).collect();
    let open = world.client(before.iter().position(|n| *n == 2).unwrap() as u32);
    let (_, to) = connect(&mut world.t, world.now, open, at(ORIGINAL));
    assert_eq!(to, server(2));
    world.servers[2] = Refuses;
    world.run(1);
    assert!(world.measured(2).ejected);
    for client in 0..500 {
        let now = world.go(client);
        let was = before[client as usize];
        assert!(if was == 2 { now != 2 } else { now == was }, "{client}: {was}, then {now}");
    }
    let seen =
        there(&mut world.t, world.now, &tcp(open, at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"more"));
    assert_eq!(ends(&seen).1, server(2));
    world.servers[2] = Well;
    // On its way back it has a part of its clients, more and more, and never somebody else's.
    let mut shares = Vec::new();
    for _ in 0..30 {
        world.run(1);
        let mut share = 0;
        for client in 0..500 {
            let (now, was) = (world.go(client), before[client as usize]);
            assert!(now == was || was == 2, "{client}: {was}, then {now}");
            share += usize::from(now == 2);
        }
        shares.push(share);
    }
    let all = before.iter().filter(|n| **n == 2).count();
    assert!(shares.is_sorted() && shares.last() == Some(&all), "{shares:?} of {all}");
    assert!(shares.iter().any(|share| *share > all / 20 && *share < all / 2), "at once: {shares:?} of {all}");
}

/// A portion that only gets records of connections has seen no SYN that waits, and what it takes over later was served before.
#[test]
fn whoever_gets_records_ejects_nobody() {
    let mut active = World::new(&[Well; 2], Choice::Sticky);
    let mut standby = World::new(&[Well; 2], Choice::Sticky);
    let mut open = Vec::new();
    for n in 0..60 {
        let client = active.client(n);
        let seen = there(&mut active.t, active.now, &tcp(client, at(ORIGINAL), (SYN, 1, 0), b""));
        let (alternative, server) = ends(&seen);
        let copy = |active: &World, standby: &mut World| {
            let (connection, _) = active.t.connection(Protocol::Tcp, client, at(ORIGINAL)).unwrap();
            standby.t.import(standby.now, &active.t.record(&connection).unwrap()).unwrap();
        };
        copy(&active, &mut standby);
        active.now = active.now + Duration::from_millis(200);
        standby.now = active.now;
        back(&mut active.t, active.now, &tcp(server, alternative, (SYN | ACK, 1, 2), b""));
        there(&mut active.t, active.now, &tcp(client, at(ORIGINAL), (ACK, 2, 2), b""));
        copy(&active, &mut standby);
        open.push((client, alternative, server));
    }
    for number in 0..2 {
        let measured = standby.measured(number);
        assert!(!measured.ejected && measured.ejections == 0 && measured.connecting.count == 0, "{measured:?}");
    }
    // Now its packets come here, and the servers end what is idle.
    for (client, alternative, server) in open {
        back(&mut standby.t, standby.now, &tcp(server, alternative, (RST | ACK, 2, 2), b""));
        let (connection, _) = standby.t.connection(Protocol::Tcp, client, at(ORIGINAL)).unwrap();
        assert_eq!(connection.state, State::TimeWait);
    }
    assert!((0..2).all(|number| standby.measured(number).ejections == 0));
}

/// A probe whose client asks late is not the server's failure, and neither is one that ends after nobody has looked for a while.
#[test]
fn a_probe_is_judged_by_its_server() {
    let mut world = World::new(&[Refuses, Well, Well], Choice::LeastLoaded);
    world.run(10);
    world.servers[0] = Well;
    let original = at(ORIGINAL);
    // The next connection to the server is its probe: it is open for long before its client asks.
    let (client, alternative) = loop {
        world.now = world.now + Duration::from_millis(100);
        let client = world.client(7);
        let seen = there(&mut world.t, world.now, &tcp(client, original, (SYN, 1, 0), b""));
        let (alternative, to) = ends(&seen);
        back(&mut world.t, world.now, &tcp(to, alternative, (SYN | ACK, 1, 2), b""));
        there(&mut world.t, world.now, &tcp(client, original, (ACK, 2, 2), b""));
        if to == server(0) {
            break (client, alternative);
        }
        there(&mut world.t, world.now, &tcp(client, original, (RST, 2, 0), b""));
    };
    let ejections = world.measured(0).ejections;
    world.now = world.now + Duration::from_millis(4_990);
    there(&mut world.t, world.now, &tcp(client, original, (ACK, 2, 2), b"question"));
    world.now = world.now + Duration::from_millis(20);
    back(&mut world.t, world.now, &tcp(server(0), alternative, (ACK, 2, 10), b"answer"));
    // The probe has succeeded: the next ones follow at once, without another rest.
    world.run(2);
    assert!(!world.measured(0).ejected && world.measured(0).ejections == ejections, "{:?}", world.measured(0));
}

/// Where many connections come, a probe more costs next to nothing, while a server that is well again is missed: the others carry
/// its load. Where few come, a probe that fails is one client in few.
#[test]
fn a_busy_group_looks_for_its_servers_more_often() {
    let each_way = |choice| [Refuses, Hangs].map(|how| (choice, how));
    for (choice, how) in sample(BOTH_CHOICES.into_iter().flat_map(each_way)) {
        let dead = |rate, seconds| {
            let mut world = World::new(&[Well; 3], choice);
            world.run_at(rate, 4);
            world.servers[0] = how;
            while !world.measured(0).ejected {
                world.run_at(rate, 1);
            }
            let probes = world.run_at(rate, seconds)[0];
            world.servers[0] = Well;
            let before = world.now;
            while world.measured(0).ejected {
                world.run_at(rate, 1);
            }
            (probes, (world.now.as_micros() - before.as_micros()) / 1_000_000)
        };
        let (probes, missed) = dead(500, 16);
        assert!((4..=8).contains(&probes) && missed <= 4, "{choice:?} {how:?}: {probes} probes, {missed} s");
        let (probes, _) = dead(10, 100);
        assert!(probes <= 6, "{choice:?} {how:?}: {probes} probes");
    }
}

/// Rests double while a server flaps, and one that held out for long begins anew.
#[test]
fn a_flapping_server_rests_longer_and_longer() {
    let mut world = World::new(&[Well; 3], Choice::LeastLoaded);
    let mut rests = Vec::new();
    for _ in 0..5 {
        world.servers[0] = Refuses;
        while !world.measured(0).ejected {
            world.run(1);
        }
        world.servers[0] = Well;
        let before = world.now;
        while world.measured(0).ejected {
            world.run(1);
        }
        rests.push((world.now.as_micros() - before.as_micros()) / 1_000_000);
    }
    assert!(rests.windows(2).all(|two| two[1] > two[0]) && rests[4] >= 30 && rests[4] <= 40, "{rests:?}");
    world.run(120);
    world.servers[0] = Refuses;
    world.run(2);
    world.servers[0] = Well;
    world.run(5);
    assert!(!world.measured(0).ejected);
}

/// UDP: a server that answers nobody is ejected, and one that serves others is not, whatever one client sends it.
#[test]
fn datagrams_without_answers() {
    let mut world = World::new(&[Well; 3], Choice::Sticky);
    for n in 0..2_000 {
        let client = world.client(n % 300);
        let now = world.now;
        let (alternative, to) = ask(&mut world.t, now, client, at(ORIGINAL));
        if to != server(0) || n < 500 {
            back(&mut world.t, now, &udp(to, alternative, b"answer"));
        }
        // One client asks server 1 for what it does not know.
        let odd = world.client(0xffff);
        ask(&mut world.t, now, odd, at(ORIGINAL));
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.ejected(), [true, false, false]);
}
