//! Re-diverts by address and port, and the connections of that server's rules that have another port: ICMP echoes, and
//! replies from another port. They stay, and are counted where they are or nowhere.

use byway::{Divert, Heap, Redivert, Translator};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::Ipv4Addr;

/// Connections on the servers before and after.
fn on(t: &Translator<Heap>) -> [u32; 2] {
    ["9.9.9.9", "8.8.8.8"].map(|server| t.connections_on(ip(server)))
}

/// How many connections are listed with these servers.
fn listed(t: &Translator<Heap>) -> [usize; 2] {
    ["9.9.9.9", "8.8.8.8"].map(|server| t.connections().filter(|c| *c.server().ip() == ip(server)).count())
}

fn sweep(t: &mut Translator<Heap>, seconds: u64) {
    (0..100).for_each(|_| t.poll(s(seconds)));
}

#[test]
fn a_ping_stays_on_its_server_and_is_not_counted_on_another() {
    for rules in [8, 2_000] {
        let mut t = Translator::new(config(), Heap::new(64, rules)).unwrap();
        let original: Ipv4Addr = *at(ORIGINAL).ip();
        t.divert(Divert::new(original).to(at("9.9.9.9:80"))).unwrap();
        let ping = echo(8, *at(CLIENT).ip(), original, 9, b"");
        assert_eq!(address(&there(&mut t, s(0), &ping), 16), ip("9.9.9.9"));
        ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        assert_eq!(on(&t), [2, 0]);
        t.redivert(at("9.9.9.9:80"), at("8.8.8.8:80"), Redivert::Switch).unwrap();
        sweep(&mut t, 1);
        assert_eq!(address(&there(&mut t, s(1), &ping), 16), ip("9.9.9.9"));
        assert_eq!((listed(&t), on(&t)), ([1, 1], [0, 1]));
        // One that begins now goes where the rule leads, and the old one's end takes nothing from the count there.
        let another = echo(8, *at(CLIENT).ip(), original, 10, b"");
        assert_eq!(address(&there(&mut t, s(2), &another), 16), ip("8.8.8.8"));
        assert_eq!(on(&t), [0, 2]);
        (40..=100).step_by(20).for_each(|now| drop(there(&mut t, s(now), &another)));
        sweep(&mut t, 100);
        assert_eq!((listed(&t), on(&t)), ([0, 2], [0, 2]));
        // By address alone it moves.
        t.redivert(ip("8.8.8.8"), ip("9.9.9.9"), Redivert::Switch).unwrap();
        assert_eq!(address(&there(&mut t, s(101), &another), 16), ip("9.9.9.9"));
        assert_eq!(on(&t), [2, 0]);
    }
}

#[test]
fn replies_from_another_port_stay_and_are_not_counted_on_another_server() {
    for rules in [8, 2_000] {
        let mut t = Translator::new(config(), Heap::new(64, rules)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at("9.9.9.9:69")).replies_from_any_port()).unwrap();
        let (alternative, _) = ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        back(&mut t, s(0), &udp(at("9.9.9.9:4000"), alternative, b""));
        assert_eq!(on(&t), [2, 0]);
        // One that does not concern them: both are counted as before.
        t.redivert(at("9.9.9.1:69"), at("9.9.9.2:69"), Redivert::Switch).unwrap();
        sweep(&mut t, 1);
        assert_eq!(on(&t), [2, 0]);
        t.redivert(at("9.9.9.9:69"), at("8.8.8.8:69"), Redivert::Switch).unwrap();
        sweep(&mut t, 1);
        let sibling = there(&mut t, s(1), &udp(at(CLIENT), at("100.100.100.100:4000"), b""));
        assert_eq!(ends(&sibling), (alternative, at("9.9.9.9:4000")));
        assert_eq!((listed(&t), on(&t)), ([1, 1], [0, 1]));
        // By address alone it moves, and nobody's entry is for it.
        t.redivert(ip("9.9.9.9"), ip("8.8.8.8"), Redivert::Switch).unwrap();
        sweep(&mut t, 2);
        assert_eq!((listed(&t), on(&t)), ([0, 2], [0, 1]));
        t.poll(s(1_000));
        sweep(&mut t, 1_000);
        assert_eq!((listed(&t), on(&t)), ([0, 0], [0, 0]));
    }
}
