//! What passes through and is none of ours. Fault class: what is gone is still taken for ours, so that fragments between
//! strangers are held: after a rule for a prefix was removed, or one for a host; after the connections of a removed rule
//! have ended, or the clients that kept their address are gone. And its opposite: what is still there is taken for a
//! stranger's while the filter of destinations is built anew.

use byway::{Divert, Heap, Instant, Prefix, Storage, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// A later fragment to this address. It is held exactly if the translator takes the address for one of its own.
fn stray(to: &str) -> Vec<u8> {
    fragments(&udp(at("172.16.0.1:1"), at(&format!("{to}:2")), &[7; 3000]), 77, 1480).remove(1)
}

/// Lets time go on, polling when that is due, until nothing is due any more.
fn run_out<S: Storage>(t: &mut Translator<S>) -> Instant {
    let mut now = Instant::ZERO;
    let mut polls = 0;
    while let Some(due) = t.poll_at() {
        now = due;
        t.poll(due);
        polls += 1;
        assert!(polls < 10_000, "there is no end to it");
    }
    now
}

/// A rule for all addresses was there and is gone; so, a day later, is the connection that it opened.
fn after_a_rule_for_all() -> Translator<Heap> {
    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    there(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b"x"));
    t.remove(Prefix::ALL).unwrap();
    for n in 0..200 {
        t.poll(s(86_400 + n));
    }
    t
}

/// A rule for all addresses was there for a minute and is gone; no connection is left, and no rule.
#[test]
fn transit_fragments_pass_when_no_rule_speaks_of_them() {
    let mut t = after_a_rule_for_all();
    assert_eq!((t.slots_in_use(), t.diverts().count()), (0, 0));
    for to in ["8.8.8.8", "100.100.100.100"] {
        assert_eq!(verdict(&mut t, s(90_000), &stray(to)), Verdict::Pass);
    }
}

/// The same in order, with more datagrams at once than there are notes (Fixed's default is 8, Heap's 64).
#[test]
fn many_transit_fragments_pass_when_no_rule_speaks_of_them() {
    let mut t = after_a_rule_for_all();
    let datagram = udp(at("172.16.0.1:1"), at("8.8.8.8:2"), &[7; 3000]);
    let pieces: Vec<_> = (0..100).map(|n| fragments(&datagram, n, 1480)).collect();
    for part in 0..2 {
        for (n, p) in pieces.iter().enumerate() {
            assert_eq!(verdict(&mut t, s(90_000), &p[part]), Verdict::Pass, "datagram {n} part {part}");
        }
    }
}

/// A rule for one host is removed: at once if it has no connections, and when they have ended if it has some. The
/// neighbours go on.
#[test]
fn a_removed_rule_and_its_connections_are_forgotten() {
    let mut t = diverting(config());
    t.divert(Divert::new(ip("100.100.100.101")).to(at(SERVER))).unwrap();
    t.divert(Divert::new(ip("100.100.100.102")).to(at(SERVER))).unwrap();
    ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL));
    t.remove(ip("100.100.100.102")).unwrap();
    t.remove(at(ORIGINAL)).unwrap();
    while t.poll_at() == Some(s(0)) {
        t.poll(s(0));
    }
    assert_eq!(verdict(&mut t, s(0), &stray("100.100.100.102")), Verdict::Pass);
    assert_eq!(verdict(&mut t, s(0), &stray("100.100.100.100")), Verdict::Hold, "its connection lives");
    ask_and_answer(&mut t, s(1), client(1), at(ORIGINAL));
    let now = run_out(&mut t);
    assert_eq!(t.slots_in_use(), 0);
    assert_eq!(verdict(&mut t, now, &stray("100.100.100.100")), Verdict::Pass);
    assert_eq!(verdict(&mut t, now, &stray("100.100.100.101")), Verdict::Hold);
}

/// The same where other connections come and go all the time, so that the table is never empty.
#[test]
fn connections_of_a_removed_rule_are_forgotten_though_others_go_on() {
    let mut t = diverting(config());
    t.divert(Divert::new(ip("100.100.100.101")).to(at(SERVER))).unwrap();
    ask_and_answer(&mut t, s(0), client(1), at("100.100.100.101:80"));
    t.remove(ip("100.100.100.101")).unwrap();
    let mut held_until = 0;
    for second in 0..600 {
        ask_and_answer(&mut t, s(second), client(2 + second as u32 % 50), at(ORIGINAL));
        t.poll(s(second));
        match verdict(&mut t, s(second), &stray("100.100.100.101")) {
            Verdict::Hold => held_until = second,
            other => assert_eq!(other, Verdict::Pass),
        }
        assert_eq!(verdict(&mut t, s(second), &stray("100.100.100.100")), Verdict::Hold);
    }
    // Five minutes of silence, two in which its endpoint is kept, and a few seconds.
    assert!((420..440).contains(&held_until), "{held_until}");
}

/// Clients that keep their address and have gone are strangers, also when others are still there.
#[test]
fn clients_that_kept_their_address_are_forgotten() {
    for others in [false, true] {
        let mut t = translator(config());
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)).keep_source()).unwrap();
        t.divert(Divert::new(ip("100.100.100.101")).to(at(SERVER)).keep_source()).unwrap();
        // So many that the filter is full of them.
        for n in 0..900 {
            ask(&mut t, s(0), client(n), at(ORIGINAL));
        }
        let gone = |t: &mut Translator<Heap>, now| {
            let passed = |n: &u32| verdict(t, now, &stray(&client(*n).ip().to_string())) == Verdict::Pass;
            (1..900).filter(passed).count()
        };
        assert_eq!(gone(&mut t, s(0)), 0);
        for second in 0..600 {
            if others {
                ask(&mut t, s(second), client(2_000), at(ORIGINAL));
            }
            t.poll(s(second));
        }
        assert_eq!(t.slots_in_use(), u32::from(others));
        let now = s(599);
        assert!(gone(&mut t, now) >= 895, "{}", gone(&mut t, now));
        if others {
            assert_eq!(verdict(&mut t, now, &stray(&client(2_000).ip().to_string())), Verdict::Hold);
        }
    }
}

/// Rules are replaced thousands of times, with connections that go on all the while: those are never taken for
/// strangers', and all others are when it is over.
#[test]
fn rules_can_be_replaced_for_ever() {
    let mut t = Translator::new(config(), Heap::new(4_000, 800)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..500 {
        ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
    }
    let rule = |n: u32| core::net::Ipv4Addr::from_bits(0x6565_0000 + n);
    for n in 0..5_000 {
        let now = Instant::from_millis(u64::from(n) * 20);
        t.divert(Divert::new(rule(n)).to(at(SERVER))).unwrap();
        if n % 10 == 0 {
            ask_and_answer(&mut t, now, client(1_000 + n), core::net::SocketAddrV4::new(rule(n), 80));
        }
        if n >= 3 {
            t.remove(rule(n - 3)).unwrap();
        }
        if n % 3 == 0 {
            t.poll(now);
        }
        assert_eq!(verdict(&mut t, now, &stray("100.100.100.100")), Verdict::Hold, "{n}");
        assert_eq!(verdict(&mut t, now, &stray(&rule(n).to_string())), Verdict::Hold, "{n}");
        assert_eq!(verdict(&mut t, now, &stray(&rule(n - n % 10).to_string())), Verdict::Hold, "a connection, {n}");
    }
    let now = run_out(&mut t);
    let passed = (0..4_900).filter(|n| verdict(&mut t, now, &stray(&rule(*n).to_string())) == Verdict::Pass).count();
    assert!(passed > 4_800, "{passed} of 4900");
}

/// While the filter is built anew, in steps, what is in the table is found by packets and by fragments; and so is what
/// comes meanwhile, on either side of where the work has come to.
#[test]
fn nothing_is_missed_while_the_filter_is_built_anew() {
    let original = |n: u32| core::net::SocketAddrV4::new(core::net::Ipv4Addr::from_bits(0x0808_0000 + n), 53);
    for removed_early in [false, true] {
        let mut t = Translator::new(config(), Heap::new(4_000, 1_200).fragments(200)).unwrap();
        t.divert(Divert::new(Prefix::ALL)).unwrap();
        for n in 0..3_000 {
            ask(&mut t, s(0), client(n), original(n));
        }
        // A datagram is under way.
        let pieces = fragments(&udp(client(5), original(5), &[1; 2_000]), 5, 1_000);
        there(&mut t, s(0), &pieces[0]);
        t.remove(Prefix::ALL).unwrap();
        let mut steps = 0;
        while t.poll_at() == Some(s(0)) {
            t.poll(s(0));
            // Rules come and go, and their connections come.
            let new = 10_000 + steps;
            t.divert(Divert::new(*original(new).ip()).to(at(SERVER))).unwrap();
            ask(&mut t, s(0), client(new), original(new));
            if removed_early {
                t.remove(*original(new).ip()).unwrap();
            } else if steps >= 8 {
                t.remove(*original(new - 8).ip()).unwrap();
            }
            for n in (0..3_000).step_by(97).chain(10_000..=new) {
                assert_eq!(
                    verdict(&mut t, s(0), &stray(&original(n).ip().to_string())),
                    Verdict::Hold,
                    "{n} at {steps}"
                );
                ask(&mut t, s(0), client(n), original(n));
            }
            steps += 1;
            assert!(steps < 1_000, "there is no end to it");
        }
        assert!(steps > 20, "{steps}: it was not done in steps");
        there(&mut t, s(0), &pieces[1]);
        let strange = (0..2_000).filter(|n| {
            let to = core::net::Ipv4Addr::from_bits(0x0909_0000 + n).to_string();
            verdict(&mut t, s(0), &stray(&to)) == Verdict::Hold
        });
        let most = if cfg!(target_pointer_width = "64") { 300 } else { 2_000 };
        let strange = strange.count();
        assert!(strange <= most, "{strange} of 2000 strangers");
        t.poll(s(9));
        for n in (0..3_000).chain(10_000..10_000 + steps) {
            ask(&mut t, s(9), client(n), original(n));
        }
    }
}

/// The rest of a datagram follows its first fragment though rule and connection are gone since.
#[test]
fn the_rest_of_a_datagram_follows_it_without_rule_and_connection() {
    let mut t = Translator::new(config(), Heap::new(8, 4)).unwrap();
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    let pieces = fragments(&udp(client(1), at("8.8.8.8:53"), &[1; 2_000]), 5, 800);
    let first = there(&mut t, s(0), &pieces[0]);
    for n in 2..40 {
        ask(&mut t, s(0), client(n), at("9.9.9.9:53"));
    }
    t.remove(Prefix::ALL).unwrap();
    assert!(t.connections().all(|c| c.client_side.source != client(1)), "it had to go");
    for n in 0..20 {
        t.poll(s(n));
    }
    let second = there(&mut t, s(20), &pieces[1]);
    let third = there(&mut t, s(20), &pieces[2]);
    assert_eq!(checksums(&reassemble(&[first, second, third])), BOTH);
    let now = run_out(&mut t);
    assert_eq!(verdict(&mut t, now, &stray("8.8.8.8")), Verdict::Pass);
}
