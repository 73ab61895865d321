//! Moving servers in the middle of connections.

mod support;

use byway::{Divert, DropReason, Event, Heap, Protocol, Redivert, State, Target, Translator, Verdict, Weighted};
use support::talk::*;
use support::*;

/// The second entry of a connection that takes replies from any port names the server's address alone: a move to
/// another port of the same address finds its own entry there.
#[test]
fn a_move_to_another_port_of_the_same_server_keeps_the_alternative_port() {
    for keep in [false, true] {
        let mut t = translator(config());
        let rule = Divert::new(at(ORIGINAL)).to(at("9.9.9.9:69")).replies_from_any_port();
        t.divert(if keep { rule.keep_source() } else { rule }).unwrap();
        let (alternative, _) = ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        t.redivert(at("9.9.9.9:69"), at("9.9.9.9:70"), Redivert::Switch).unwrap();
        assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)), (alternative, at("9.9.9.9:70")));
        let sibling = back(&mut t, s(1), &udp(at("9.9.9.9:4000"), alternative, b""));
        assert_eq!(ends(&sibling), (at("100.100.100.100:4000"), at(CLIENT)));
        assert_eq!((t.counters().moved, t.counters().stranded), (1, 0));
    }
}

/// A connection that follows two moves at once is counted where it ends up, also if only the first of them needed an
/// entry of its own for it.
#[test]
fn a_chain_of_moves_counts_a_connection_where_it_ends_up() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(ip("9.9.9.9"))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at("9.9.9.9:80"), at(SERVER), Redivert::Switch).unwrap();
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
    let on = [at("9.9.9.9:80"), at(SERVER), at(OTHER)].map(|server| t.connections_on(server));
    assert_eq!(on, [0, 0, 1]);
    assert_eq!(t.connections_on(ip("9.9.9.9")), 0);
    for _ in 0..100 {
        t.poll(s(1));
    }
    assert_eq!(t.connections_on(at(OTHER)), 1);
}

/// What is done is told of rules alone: the entries that the moves keep for themselves are nobody's servers.
#[test]
fn only_servers_of_rules_are_told_of() {
    let mut t = translator(config());
    t.divert(Divert::new(at(ORIGINAL)).to(ip("9.9.9.9"))).unwrap();
    t.divert(Divert::new(at("100.100.100.101:80")).to(at(SERVER))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!(t.redivert(at("9.9.9.9:80"), at(SERVER), Redivert::Switch).unwrap().servers, 0);
    assert_eq!(t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap().servers, 1);
}

/// A client that keeps its address would take late packets of the original server, which it was moved away from, for
/// packets of the new one: they bear the very same addresses.
#[test]
fn late_packets_of_the_original_server_do_not_reach_a_client_that_keeps_its_address() {
    let mut t = translator(config());
    let group = [Weighted::new(at(ORIGINAL), 1), Weighted::new(at(SERVER), 0)];
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group).keep_source()).unwrap();
    let (source, server) = ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    assert_eq!((source, server), (at(CLIENT), at(ORIGINAL)));
    t.redivert(at(ORIGINAL), at(SERVER), Redivert::Switch).unwrap();
    let late = udp(at(ORIGINAL), at(CLIENT), b"late");
    for _ in 0..3 {
        assert_eq!(verdict(&mut t, s(1), &late), Verdict::Drop(DropReason::OldServer));
    }
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL)), (at(CLIENT), at(SERVER)));
    // Other traffic of that server is nobody's business.
    assert_eq!(verdict(&mut t, s(1), &udp(at(ORIGINAL), client(9), b"")), Verdict::Pass);
}

/// RSTs that are owed and cannot be said any more are counted.
#[test]
fn a_rst_that_nobody_fetches_is_counted_as_lost() {
    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    // The client begins anew at once, before the RSTs are fetched.
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 90_000, 0), b""));
    assert_eq!((t.counters().reset, t.counters().transmit_lost), (1, 2));
    assert!(say(&mut t, s(1)).is_empty());

    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    t.poll(s(1));
    t.poll(s(200));
    assert_eq!((t.slots_in_use(), t.counters().transmit_lost), (0, 2));
}
