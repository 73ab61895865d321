//! `Redivert::Reset`: which RSTs are sent, how fast, and when the connection is gone.

use super::*;

/// The document's client waits in silence for data that never come; the RST tells it at once (RFC 5961).
#[test]
fn reset_tells_both_ends_with_exactly_the_numbers_that_they_expect() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c, v), &[1; 100]));
    back(&mut t, s(1), &tcp(server, alternative, (ACK, v, c + 100), &[2; 1_000]));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, c + 100, v + 1_000), b""));
    // A UDP connection on the same server is switched.
    ask(&mut t, s(1), at(CLIENT), at(ORIGINAL));
    events(&mut t);
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    assert_eq!(t.poll_at(), Some(s(1)), "there is something to do at once");

    let said = say(&mut t, s(1));
    assert_eq!(said.len(), 2);
    let to_client = said.iter().find(|p| ends(p).1 == at(CLIENT)).expect("the client is told");
    assert_eq!(ends(to_client).0, at(ORIGINAL));
    assert_eq!(segment(to_client), (RST | ACK, v + 1_000, c + 100));
    let to_server = said.iter().find(|p| ends(p).1 == server).expect("the old server is told");
    assert_eq!(ends(to_server).0, alternative);
    assert_eq!(segment(to_server), (RST | ACK, c + 100, v + 1_000));
    assert_eq!((t.counters().reset, t.counters().transmitted, t.counters().transmit_lost), (1, 2, 0));
    assert_eq!(tcp_state(&t), Some(State::Resetting));
    assert!(events(&mut t).iter().any(|e| matches!(e, Event::Closed { why: byway::Closed::Rediverted, .. })));
    sweep(&mut t, s(1));
    assert_eq!(on(&t), [0, 1, 0], "the UDP connection");

    // The client connects anew on the same port, and gets the new server.
    let syn = there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 70_000, 0), b""));
    assert_eq!(ends(&syn).1, at(OTHER));
    assert_eq!(ask(&mut t, s(1), at(CLIENT), at(ORIGINAL)).1, at(OTHER));
}

/// What was lost on the way leaves an end expecting less than we saw. It challenges (RFC 5961, section 3.2), and what
/// it says is answered with the number that it names.
#[test]
fn a_challenge_is_answered_with_the_exact_reset() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let (c, v) = (CLIENT_START + 1, SERVER_START + 1);
    back(&mut t, s(1), &tcp(server, alternative, (ACK, v, c), &[2; 1_000]));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let said = say(&mut t, s(1));
    // The client may have got the first half of the data, and expects neither number.
    let to_client: Vec<_> = said.iter().filter(|p| ends(p).1 == at(CLIENT)).map(|p| segment(p).1).collect();
    assert_eq!(to_client, [v, v + 1_000], "as if nothing had arrived, and as if everything had");

    for (from, to, answer_to, challenge) in [
        (at(CLIENT), at(ORIGINAL), (at(ORIGINAL), at(CLIENT)), (ACK, c, v)),
        (server, alternative, (alternative, server), (ACK, v + 1_000, c)),
        (at(CLIENT), at(ORIGINAL), (at(ORIGINAL), at(CLIENT)), (ACK | FIN, c, v + 500)),
    ] {
        let drop = Verdict::Drop(DropReason::Resetting);
        assert_eq!(verdict(&mut t, s(2), &tcp(from, to, challenge, b"")), drop);
        let answers = say(&mut t, s(2));
        assert_eq!(answers.len(), 1);
        assert_eq!(ends(&answers[0]), answer_to);
        let (flags, sequence, acknowledgment) = challenge;
        let span = u32::from(flags & FIN != 0);
        assert_eq!(segment(&answers[0]), (RST | ACK, acknowledgment, sequence + span));
    }
    // A RST is not answered.
    assert_eq!(
        verdict(&mut t, s(2), &tcp(at(CLIENT), at(ORIGINAL), (RST, c, 0), b"")),
        Verdict::Drop(DropReason::Resetting)
    );
    assert!(say(&mut t, s(2)).is_empty());
    // After the hold there is nothing left.
    sweep(&mut t, s(2));
    sweep(&mut t, s(125));
    assert_eq!((t.slots_in_use(), t.connections().count()), (0, 0));
}

#[test]
fn a_reset_of_many_connections_tells_each_end_of_each_once() {
    const COUNT: u32 = 700;
    let mut t = Translator::new(config(), Heap::new(1_000, 4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..COUNT {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let mut told = std::collections::HashMap::new();
    let mut rounds = 0;
    while t.poll_at().is_some_and(|at| at <= s(0)) {
        for packet in say(&mut t, s(0)) {
            assert!(told.insert(ends(&packet), segment(&packet)).is_none(), "told twice");
        }
        t.poll(s(0));
        rounds += 1;
        assert!(rounds < 1_000);
    }
    assert_eq!(told.len(), 2 * COUNT as usize);
    for n in 0..COUNT {
        assert_eq!(told[&(at(ORIGINAL), client(n))], (RST | ACK, SERVER_START + 1, CLIENT_START + 1));
    }
    assert_eq!((t.counters().reset, t.counters().transmitted), (u64::from(COUNT), 2 * u64::from(COUNT)));
    assert_eq!(on(&t), [0, 0, 0]);
}

#[test]
fn a_configuration_that_silences_resets_still_comes_to_an_end() {
    let mut t = diverting(config().transmit_rates(0, 0));
    for n in 0..10 {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    assert!(say(&mut t, s(0)).is_empty());
    sweep(&mut t, s(0));
    assert_eq!((t.counters().reset, t.counters().transmit_lost), (10, 20));
}

/// A connection that was silent for longer than a reset one stays is there for all of that time.
#[test]
fn a_silenced_reset_stays_as_long_as_any_other() {
    let mut t = diverting(config().transmit_rates(0, 0));
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    let data = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"data");
    for now in [s(1_000), s(1_119)] {
        assert_eq!(run(&mut t, now, &data).0, Verdict::Drop(DropReason::Resetting));
    }
    t.poll(s(1_122));
    assert_eq!(t.slots_in_use(), 0);
}

#[test]
fn resets_come_no_faster_than_they_may() {
    let mut t = diverting(config().transmit_rates(100, 10));
    for n in 0..20 {
        connect(&mut t, s(0), client(n), at(ORIGINAL));
    }
    t.redivert(at(SERVER), at(OTHER), Redivert::Reset).unwrap();
    assert_eq!(say(&mut t, s(0)).len(), 10);
    t.poll(s(0));
    let next = t.poll_at().unwrap();
    assert!(next > s(0) && next <= byway::Instant::from_millis(101), "it does not ask for the impossible: {next:?}");
    assert_eq!(say(&mut t, next).len(), 1);
    assert_eq!(say(&mut t, byway::Instant::from_millis(501)).len(), 4);
    let rest: usize = (1..10).map(|now| say(&mut t, s(now)).len()).sum();
    assert_eq!((rest, t.counters().transmitted, t.counters().transmit_lost), (25, 40, 0));
}
