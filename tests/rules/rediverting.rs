//! Moving servers in the middle of connections.

mod resets;

use byway::{Divert, DropReason, Event, Heap, Protocol, Redivert, State, Target, Translator, Verdict, Weighted};
use byway_testing::talk::*;
use byway_testing::*;

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

/// The same if the moves lead back to where it was, although the rule's own server leads elsewhere now.
#[test]
fn moves_that_lead_back_count_a_connection_where_it_is() {
    for rules in [8, 2_000] {
        let mut t = Translator::new(config(), Heap::new(64, rules)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(ip("9.9.9.9"))).unwrap();
        ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        t.redivert(ip("9.9.9.9"), ip("8.8.8.8"), Redivert::Switch).unwrap();
        t.redivert(at("8.8.8.8:80"), at("9.9.9.9:80"), Redivert::Switch).unwrap();
        assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at("9.9.9.9:80"));
        assert_eq!([ip("9.9.9.9"), ip("8.8.8.8")].map(|server| t.connections_on(server)), [1, 0]);
        sweep(&mut t, s(1));
        assert_eq!([ip("9.9.9.9"), ip("8.8.8.8")].map(|server| t.connections_on(server)), [1, 0]);
        // Closed there, it is counted nowhere.
        t.poll(s(1_000));
        assert_eq!(t.connections_on(ip("9.9.9.9")), 0);
    }
}

/// The same if the second move leads away from one port of the address that the first one leads to, where nobody is yet.
#[test]
fn a_move_from_a_port_that_another_leads_to_counts_a_connection_where_it_ends_up() {
    for rules in [8, 2_000] {
        let mut t = Translator::new(config(), Heap::new(64, rules)).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(ip("9.9.9.9"))).unwrap();
        ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        t.redivert(at("9.9.9.9:80"), ip("8.8.8.8"), Redivert::Switch).unwrap();
        t.redivert(at("8.8.8.8:80"), at("7.7.7.7:81"), Redivert::Switch).unwrap();
        assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at("7.7.7.7:81"));
        let on = |t: &Translator<Heap>| ["9.9.9.9", "8.8.8.8", "7.7.7.7"].map(|server| t.connections_on(ip(server)));
        assert_eq!(on(&t), [0, 0, 1]);
        sweep(&mut t, s(1));
        assert_eq!(on(&t), [0, 0, 1]);
    }
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

/// A client that begins anew at once, before the RSTs are fetched: its old server is told all the same.
#[test]
fn a_rst_is_said_although_the_client_began_anew() {
    let mut t = diverting(config());
    let (old, _) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 90_000, 0), b""));
    let said = say(&mut t, s(1));
    assert_eq!(said.iter().map(|p| ends(p)).collect::<Vec<_>>(), [(at(ORIGINAL), at(CLIENT)), (old, at(SERVER))]);
    // The one for the client bears the old connection's numbers: it acknowledges no SYN that the client has sent since,
    // and is not obeyed (RFC 9293, section 3.10.7.3).
    let numbers = [(RST | ACK, SERVER_START + 1, CLIENT_START + 1), (RST | ACK, CLIENT_START + 1, SERVER_START + 1)];
    assert_eq!(said.iter().map(|p| segment(p)).collect::<Vec<_>>(), numbers);
    assert_eq!((t.counters().reset, t.counters().transmit_lost), (1, 0));
}

/// RSTs that are owed and cannot be said any more are counted.
#[test]
fn a_rst_that_nobody_fetches_is_counted_as_lost() {
    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    t.poll(s(1));
    t.poll(s(200));
    assert_eq!((t.slots_in_use(), t.counters().transmit_lost), (0, 2));
}

const THIRD: &str = "123.45.67.91:80";

/// How many connections stand on each of the three servers.
fn on(t: &Translator<Heap>) -> [u32; 3] {
    [SERVER, OTHER, THIRD].map(|server| t.connections_on(at(server)))
}

/// Polls until there is nothing left to do at this time; returns how often.
fn sweep(t: &mut Translator<Heap>, now: byway::Instant) -> usize {
    let mut polls = 0;
    while t.poll_at().is_some_and(|at| at <= now) {
        t.poll(now);
        polls += 1;
        assert!(polls < 10_000, "it never comes to an end");
    }
    polls
}

#[test]
fn switch_moves_a_connection_with_its_next_packet() {
    let mut t = diverting(config());
    let (alternative, server) = ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    connect(&mut t, s(0), client(1), at(ORIGINAL));
    assert_eq!(on(&t), [2, 0, 0]);
    events(&mut t);
    let done = t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!((done.generation, done.servers, done.connections), (2, 1, 2));
    assert_eq!(on(&t), [0, 2, 0]);
    assert_eq!(t.find_divert(at(ORIGINAL)).unwrap().servers().next(), Some((Weighted::new(at(OTHER), 1), 2)));

    // The old server's packets are dropped from now on, even before the client has said anything.
    for _ in 0..3 {
        let late = udp(server, alternative, b"late");
        assert_eq!(verdict(&mut t, s(1), &late), Verdict::Drop(DropReason::OldServer));
    }
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL)), (alternative, at(OTHER)));
    let late = tcp(server, alternative, (ACK, 1, 1), b"late");
    assert_eq!(verdict(&mut t, s(1), &late), Verdict::Drop(DropReason::OldServer));
    let side = t.connection(Protocol::Tcp, client(1), at(ORIGINAL)).unwrap().0.server_side;
    assert_eq!(side.destination, at(SERVER), "it has not followed yet");
    let data = tcp(client(1), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"data");
    let seen = there(&mut t, s(1), &data);
    assert_eq!((ends(&seen), checksums(&seen)), ((side.source, at(OTHER)), BOTH));

    assert_eq!((t.counters().moved, t.counters().dropped(DropReason::OldServer)), (2, 4));
    let moved = events(&mut t);
    assert_eq!(moved.len(), 2);
    for event in moved {
        let Event::Moved { connection, from } = event else { panic!("{event:?}") };
        assert_eq!((connection.server(), from), (at(OTHER), at(SERVER)));
    }
}

#[test]
fn drain_leaves_connections_and_turns_new_ones() {
    let mut t = diverting(config());
    ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let done = t.redivert(at(SERVER), at(OTHER), Redivert::Drain).unwrap();
    assert_eq!((done.servers, done.connections), (1, 1));
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(SERVER));
    assert_eq!(ask_and_answer(&mut t, s(1), client(1), at(ORIGINAL)).1, at(OTHER));
    assert_eq!(on(&t), [1, 1, 0]);
    // The last one to leave turns off the light.
    sweep(&mut t, s(302));
    assert_eq!(on(&t), [0, 0, 0]);
    assert_eq!((t.counters().moved, t.counters().dropped(DropReason::OldServer)), (0, 0));
    assert_eq!(ask_and_answer(&mut t, s(700), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
}

#[test]
fn chains_of_moves_lead_to_their_end_in_one_step() {
    let mut t = diverting(config());
    let (alternative, _) = ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    // One follows in between, the other does not.
    assert_eq!(ask_and_answer(&mut t, s(1), client(1), at(ORIGINAL)).1, at(OTHER));
    t.redivert(at(OTHER), at(THIRD), Redivert::Switch).unwrap();
    assert_eq!(on(&t), [0, 0, 2]);
    assert_eq!(ask_and_answer(&mut t, s(2), at(CLIENT), at(ORIGINAL)), (alternative, at(THIRD)));
    assert_eq!(ask_and_answer(&mut t, s(2), client(1), at(ORIGINAL)).1, at(THIRD));
    assert_eq!(t.counters().moved, 3);
    for old in [SERVER, OTHER] {
        assert_eq!(verdict(&mut t, s(2), &udp(at(old), alternative, b"")), Verdict::Drop(DropReason::OldServer));
    }
}

#[test]
fn there_and_back_again_leaves_a_connection_where_it_was() {
    let mut t = diverting(config());
    let (alternative, server) = ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (second, _) = ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!(ask_and_answer(&mut t, s(1), client(1), at(ORIGINAL)), (second, at(OTHER)));
    t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    // The one that never followed is where it was, and its server's packets are no late ones.
    back(&mut t, s(2), &udp(server, alternative, b"still yours"));
    assert_eq!(ask_and_answer(&mut t, s(2), at(CLIENT), at(ORIGINAL)), (alternative, at(SERVER)));
    assert_eq!(ask_and_answer(&mut t, s(2), client(1), at(ORIGINAL)), (second, at(SERVER)));
    assert_eq!((on(&t), t.counters().moved), ([2, 0, 0], 2));
    // Many times over, within one sweep and with sweeps in between.
    for turn in 0..300 {
        let (from, to) = if turn % 2 == 0 { (SERVER, OTHER) } else { (OTHER, SERVER) };
        t.redivert(at(from), at(to), Redivert::Switch).unwrap();
        if turn % 7 == 0 {
            sweep(&mut t, s(3));
        }
        if turn % 3 == 0 {
            assert_eq!(ask_and_answer(&mut t, s(3), at(CLIENT), at(ORIGINAL)).1, at(to));
        }
    }
    assert_eq!(on(&t), [2, 0, 0]);
    sweep(&mut t, s(3));
    assert_eq!(t.connections().filter(|c| c.server() == at(SERVER)).count(), 2);
}

/// Two connections with the same alternative port towards different servers meet on one server: one of them gets
/// another port, and no packet of the one ever reaches the client of the other.
#[test]
fn a_merge_gives_colliding_connections_ports_of_their_own() {
    let eight_ports = byway::Config::new([3; 32]).alternative(ip(ALTERNATIVE), 4_000..=4_007);
    let mut t = translator(eight_ports);
    let (first, second) = (at("100.0.0.1:80"), at("100.0.0.2:80"));
    t.divert(Divert::new(first).to(at(SERVER))).unwrap();
    t.divert(Divert::new(second).to(at(OTHER))).unwrap();
    for n in 0..4 {
        ask_and_answer(&mut t, s(0), client(n), first);
        ask_and_answer(&mut t, s(0), client(n), second);
    }
    t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    assert_eq!(on(&t), [8, 0, 0]);
    sweep(&mut t, s(1));
    assert_eq!((t.counters().moved, t.counters().stranded), (4, 0));
    let mut ports = std::collections::HashSet::new();
    for n in 0..4 {
        for original in [first, second] {
            let (alternative, server) = ask_and_answer(&mut t, s(1), client(n), original);
            assert_eq!(server, at(SERVER));
            assert!(ports.insert(alternative));
        }
    }
    assert_eq!((ports.len(), on(&t)), (8, [8, 0, 0]));

    // A ninth finds no port: it is ended, told and counted, and the others stay.
    let third = at("100.0.0.3:80");
    t.divert(Divert::new(third).to(at(THIRD))).unwrap();
    connect(&mut t, s(1), client(9), third);
    events(&mut t);
    t.redivert(at(THIRD), at(SERVER), Redivert::Switch).unwrap();
    let data = tcp(client(9), third, (ACK, CLIENT_START + 1, SERVER_START + 1), b"");
    // TCP and UDP have ports apart from each other.
    assert_eq!(verdict(&mut t, s(1), &data), Verdict::ToServer);
    for n in 0..8 {
        let original = core::net::SocketAddrV4::new(ip("100.0.0.4"), 80 + n);
        t.divert(Divert::new(original).to(at(THIRD))).unwrap();
        ask(&mut t, s(1), client(20), original);
    }
    events(&mut t);
    t.redivert(at(THIRD), at(SERVER), Redivert::Switch).unwrap();
    let stranded = udp(client(20), core::net::SocketAddrV4::new(ip("100.0.0.4"), 80), b"");
    assert_eq!(verdict(&mut t, s(1), &stranded), Verdict::Drop(DropReason::NoPort));
    sweep(&mut t, s(1));
    assert_eq!((t.counters().stranded, on(&t)), (8, [9, 0, 0]));
    let closed = events(&mut t);
    let told = |e: &&Event| matches!(e, Event::Closed { why: byway::Closed::Stranded, .. });
    assert_eq!(closed.iter().filter(told).count(), 8);
    for n in 0..4 {
        ask_and_answer(&mut t, s(1), client(n), first);
        ask_and_answer(&mut t, s(1), client(n), second);
    }
    assert_eq!(t.slots_in_use(), 9);
}

/// A TCP connection that is stranded is told so: its client would wait for ever.
#[test]
fn a_stranded_tcp_connection_gets_resets() {
    let mut t = translator(byway::Config::new([3; 32]).alternative(ip(ALTERNATIVE), 4_000..=4_000));
    let (first, second) = (at("100.0.0.1:80"), at("100.0.0.2:80"));
    t.divert(Divert::new(first).to(at(SERVER))).unwrap();
    t.divert(Divert::new(second).to(at(OTHER))).unwrap();
    connect(&mut t, s(0), client(1), first);
    connect(&mut t, s(0), client(2), second);
    t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    t.poll(s(1));
    let said = say(&mut t, s(1));
    let told: Vec<_> = said.iter().map(|p| (ends(p), segment(p))).collect();
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    assert!(told.contains(&((second, client(2)), (RST | ACK, v, c))), "{told:?}");
    assert!(told.contains(&((at("10.10.10.10:4000"), at(OTHER)), (RST | ACK, c, v))), "{told:?}");
    assert_eq!((told.len(), t.counters().stranded, t.slots_in_use()), (2, 1, 1));
}

#[test]
fn silent_connections_follow_when_poll_comes_by() {
    const COUNT: u32 = 500;
    let mut t = diverting(config());
    for n in 0..COUNT {
        ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert!(t.connections().all(|c| c.server() == at(SERVER)));
    assert_eq!(t.poll_at(), Some(s(0)));
    let polls = sweep(&mut t, s(0));
    assert!((5..20).contains(&polls), "{polls} polls: a bounded share each");
    assert!(t.connections().all(|c| c.server() == at(OTHER)));
    assert_eq!((t.counters().moved, on(&t)), (u64::from(COUNT), [0, COUNT, 0]));
}

/// A rule without a target of its own brought the connection to its server: that server can be left all the same.
#[test]
fn masqueraded_connections_move_too() {
    let mut t = translator(config());
    t.divert(Divert::new(byway::Prefix::ALL)).unwrap();
    ask_and_answer(&mut t, s(0), at(CLIENT), at(SERVER));
    ask_and_answer(&mut t, s(0), at(CLIENT), at(THIRD));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let (alternative, server) = ask(&mut t, s(1), at(CLIENT), at(SERVER));
    assert_eq!(server, at(OTHER));
    let seen = back(&mut t, s(1), &udp(at(OTHER), alternative, b""));
    assert_eq!(ends(&seen), (at(SERVER), at(CLIENT)));
    assert_eq!(on(&t), [0, 1, 0]);
    assert_eq!(ask_and_answer(&mut t, s(1), at(CLIENT), at(THIRD)).1, at(THIRD));
    // What begins now goes where the rule says: to the destination itself.
    assert_eq!(ask_and_answer(&mut t, s(1), client(2), at(SERVER)).1, at(SERVER));
    sweep(&mut t, s(1));
    // By address alone, the port is kept; ICMP goes along.
    let ping = there(&mut t, s(1), &echo(8, *client(3).ip(), ip("123.45.67.91"), 9, b""));
    let identifier = u16::from_be_bytes([ping[24], ping[25]]);
    t.redivert(ip("123.45.67.91"), ip("9.9.9.9"), Redivert::Switch).unwrap();
    assert_eq!(ask(&mut t, s(2), at(CLIENT), at(THIRD)).1, at("9.9.9.9:80"));
    let ping = there(&mut t, s(2), &echo(8, *client(3).ip(), ip("123.45.67.91"), 9, b""));
    assert_eq!(address(&ping, 16), ip("9.9.9.9"));
    let pong = back(&mut t, s(2), &echo(0, ip("9.9.9.9"), ip(ALTERNATIVE), identifier, b""));
    assert_eq!((address(&pong, 12), address(&pong, 16)), (ip("123.45.67.91"), *client(3).ip()));
    assert_eq!(t.connections_on(ip("9.9.9.9")), 2);
}

#[test]
fn too_many_moves_at_once_are_refused_until_somebody_polls() {
    let mut t = Translator::new(config(), Heap::new(100, 3)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    for (from, to) in [(SERVER, OTHER), (OTHER, THIRD), (THIRD, SERVER)] {
        t.redivert(at(from), at(to), Redivert::Switch).unwrap();
    }
    let busy = Err(byway::RedivertError::Busy { capacity: 3 });
    assert_eq!(t.redivert(at(SERVER), at(OTHER), Redivert::Switch), busy);
    assert_eq!(t.redivert(at(SERVER), at(OTHER), Redivert::Reset), busy);
    assert_eq!((t.generation(), on(&t)), (4, [1, 0, 0]));
    sweep(&mut t, s(0));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    assert_eq!(ask(&mut t, s(0), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
}

/// A handshake that is cut in two by a switch: the client's SYN comes again, and goes to the new server.
#[test]
fn a_connection_that_opens_moves_like_any_other() {
    let mut t = diverting(config());
    let syn = tcp(at(CLIENT), at(ORIGINAL), (SYN, CLIENT_START, 0), b"");
    let (alternative, _) = ends(&there(&mut t, s(0), &syn));
    t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let answer = |from| tcp(at(from), alternative, (SYN | ACK, SERVER_START, CLIENT_START + 1), b"");
    assert_eq!(verdict(&mut t, s(1), &answer(SERVER)), Verdict::Drop(DropReason::OldServer));
    assert_eq!(ends(&there(&mut t, s(1), &syn)), (alternative, at(OTHER)));
    back(&mut t, s(1), &answer(OTHER));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b""));
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// What is said of a server by address and port, and by address alone.
#[test]
fn counts_by_address_and_by_port() {
    let mut t = translator(config());
    t.divert(Divert::new(at("100.0.0.1:80")).to(at("9.9.9.9:80"))).unwrap();
    t.divert(Divert::new(at("100.0.0.1:443")).to(at("9.9.9.9:443"))).unwrap();
    t.divert(Divert::new(ip("100.0.0.2")).to(ip("9.9.9.9"))).unwrap();
    for original in ["100.0.0.1:80", "100.0.0.1:443", "100.0.0.2:22"] {
        ask(&mut t, s(0), at(CLIENT), at(original));
    }
    assert_eq!(t.connections_on(ip("9.9.9.9")), 3);
    assert_eq!((t.connections_on(at("9.9.9.9:80")), t.connections_on(at("9.9.9.9:443"))), (1, 1));
    assert_eq!(t.connections_on(Target::Same), 0);
    let done = t.redivert(ip("9.9.9.9"), ip("8.8.8.8"), Redivert::Switch).unwrap();
    assert_eq!((done.servers, done.connections), (3, 3));
    for (original, server) in
        [("100.0.0.1:80", "8.8.8.8:80"), ("100.0.0.1:443", "8.8.8.8:443"), ("100.0.0.2:22", "8.8.8.8:22")]
    {
        assert_eq!(ask(&mut t, s(0), at(CLIENT), at(original)).1, at(server));
    }
    assert_eq!((t.connections_on(ip("9.9.9.9")), t.connections_on(ip("8.8.8.8"))), (0, 3));
}

/// RSTs for the connections of the old server name the old server, wherever the rules point by now.
#[test]
fn a_reset_within_a_chain_ends_the_connection() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    t.redivert(at(OTHER), at(SERVER), Redivert::Switch).unwrap();
    let said = say(&mut t, s(0));
    assert_eq!(said.len(), 2);
    assert!(said.iter().any(|p| ends(p) == (alternative, server)));
    assert!(said.iter().any(|p| ends(p) == (at(ORIGINAL), at(CLIENT))));
    assert_eq!((t.counters().reset, t.counters().moved), (1, 0));
}
