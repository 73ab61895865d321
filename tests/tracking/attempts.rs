//! Attempts and refusals: rules of `docs/tcp.md` that the model of TCP (`testing/src/targets/model/tcp/`) found broken, or
//! about which there was a doubt. Each test is settled by what the two ends do.

use byway::{Event, InexactReset, State};
use byway_testing::talk::*;
use byway_testing::*;

use super::segments::{C, C2, Talk, V, V2, client};

/// The server challenges a SYN, a SYN of the server without ACK comes on top (forged, since such a server sends none), and
/// the client refuses the challenge. The SYN still counts, since the client has answered it, and no other RST has a number
/// that the client expects.
#[test]
fn a_reset_for_a_refused_answer_ends_nothing() {
    let mut talk = Talk::opening();
    talk.server(ACK, 0x3333_3333, 0x7777, b"");
    talk.server(SYN, 0x5555_5555, 0, b"");
    talk.is(State::Opened);
    talk.client(RST, 0x7777, 0, b"");
    talk.is(State::Opened);
    // Not about the client's SYN: the client ignores it (RFC 9293, section 3.10.7.3).
    talk.server(RST | ACK, 0, 0x7777, b"");
    talk.server(RST, 0, 0, b"");
    talk.is(State::Opened);
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(ACK, C, V, b"");
    talk.is(State::Established);
}

/// A server has answered a client that begins anew, and then opens itself: both open at once, as if the client had sent no
/// other SYN.
#[test]
fn a_simultaneous_open_with_a_client_that_begins_anew() {
    let begun = || {
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, SERVER_START, C, b"");
        talk.client(SYN, C2 - 1, 0, b"");
        talk.is(State::Opening);
        talk.server(SYN, V2 - 1, 0, b"");
        talk.is(State::Opened);
        talk
    };
    let mut talk = begun();
    talk.client(SYN | ACK, C2 - 1, V2, b"");
    talk.is(State::Opened);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.is(State::Established);
    talk.client(ACK, C2, V2, b"ask");
    talk.server(ACK, V2, C2 + 3, b"say");
    assert_eq!(talk.numbers(), [C2 + 3, V2 + 3, V2, C2 + 3]);
    // One of the client's SYNs has overtaken the other, so that the server has answered the older one only after both.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.server(SYN, V2 - 1, 0, b"");
    talk.client(RST, C, 0, b"");
    talk.is(State::Opened);
    talk.client(SYN | ACK, C2 - 1, V2, b"");
    talk.server(ACK, V2, C2, b"");
    talk.is(State::Established);
    assert_eq!(talk.numbers(), [C2, V2, V2, C2]);
    // The client's SYNs had overtaken each other, and the server's SYNs were forged.
    let mut talk = begun();
    talk.server(SYN, 0x5555_5555, 0, b"");
    talk.client(ACK, C, V, b"");
    talk.is(State::Established);
    talk.server(ACK, V, C, b"say");
    talk.client(ACK, C, V + 3, b"");
    assert_eq!(talk.numbers(), [C, V + 3, V + 3, C]);
    // Nor do they hide the answer to the latest attempt.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    for forged in [0x5555_5555, 0x6666_6666] {
        talk.server(SYN, forged, 0, b"");
    }
    talk.is_completed_with(C2, V2);
}

/// A client gives its first SYN up with a RST, and its second one overtakes both: that one is still answered.
#[test]
fn a_reset_of_one_attempt_leaves_the_other() {
    let given_up = || {
        let mut talk = Talk::opening();
        talk.client(SYN, C2 - 1, 0, b"");
        talk.client(RST | ACK, C2, 0, b"");
        talk.is(State::TimeWait);
        talk
    };
    let mut talk = given_up();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.is(State::Opened);
    talk.is_completed_with(C, V);
    assert_eq!(talk.t.counters().opened, 2, "it had ended, and is open again");
    // The answer to what it has given up opens nothing.
    let mut talk = given_up();
    talk.server(SYN | ACK, SERVER_START, C2, b"");
    talk.is(State::TimeWait);
    talk.client(RST, C2, 0, b"");
    talk.server(SYN | ACK, SERVER_START, 0, b"");
    talk.is(State::TimeWait);
    // Nor does anything where there was no other attempt.
    let mut talk = Talk::opening();
    talk.client(RST | ACK, C, 0, b"");
    for number in [C, 0] {
        talk.server(SYN | ACK, SERVER_START, number, b"");
        talk.is(State::TimeWait);
    }
}

/// The SYN of a client that begins anew overtakes the segment that completed the attempt before, and then the server resets
/// that: the SYN has yet to be answered.
#[test]
fn a_syn_outlives_the_attempt_that_it_has_overtaken() {
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(SYN, C2 - 1, 0, b"");
    talk.client(ACK, C, V, b"");
    talk.is(State::Established);
    talk.server(RST | ACK, V, C, b"");
    talk.is(State::TimeWait);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.is(State::Opened);
    talk.is_completed_with(C2, V2);
}

/// The server has given up the attempt that a late segment completes, and answered the next one. That is completed all the
/// same, and a RST about the one before does not end it.
#[test]
fn an_answered_attempt_outlives_the_late_end_of_the_one_before() {
    for refused in [false, true] {
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, SERVER_START, C, b"");
        talk.client(SYN, C2 - 1, 0, b"");
        talk.server(SYN | ACK, V2 - 1, C2, b"");
        talk.client(ACK, C, V, b"");
        if refused {
            talk.server(RST, V, 0, b"");
            talk.is(State::TimeWait);
        }
        talk.is_completed_with(C2, V2);
        talk.server(RST, V, 0, b"");
        talk.is(State::Established);
    }
}

/// Segments in the client's name that fit nothing, forged or late, hide neither the SYN of a client that has started again nor
/// an answer that it has yet to acknowledge.
#[test]
fn an_attempt_outlives_segments_that_fit_nothing() {
    let forge = |talk: &mut Talk, times| {
        for number in 0..times {
            talk.client(ACK, 0x1111_1111 * (number + 1), 0x9999_9999, b"x");
        }
    };
    // Before the answer, and after it.
    for (before, after) in [(3, 0), (0, 3), (1, 2)] {
        let mut talk = Talk::attempted();
        forge(&mut talk, before);
        talk.server(SYN | ACK, V2 - 1, C2, b"");
        forge(&mut talk, after);
        talk.is_completed_with(C2, V2);
    }
    // The answer to the attempt after the one that a late segment has completed.
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(ACK, C, V, b"");
    forge(&mut talk, 3);
    talk.is_completed_with(C2, V2);
    // A SYN that was forged itself gives way to what both ends say.
    let mut talk = Talk::attempted();
    forge(&mut talk, 4);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(ACK, C, V, b"");
    talk.is(State::Established);
    assert_eq!(talk.numbers(), [C, V, V, C]);
}

/// A forged SYN of the client, and a RST that gives it up, after the server has answered the client's own: the answer stands.
#[test]
fn a_reset_of_the_latest_attempt_leaves_what_was_answered() {
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(SYN, C2 - 1, 0, b"");
    talk.client(RST, C2, 0, b"");
    talk.is(State::TimeWait);
    talk.is_completed_with(C, V);
}

/// Whatever is forged beside an answer of the server, its client goes on: it alone knows the answer's number.
#[test]
fn forged_syns_do_not_hide_an_answer() {
    const FORGED: u32 = 0x5555_5555;
    // A client that begins anew, and whose SYN carries data.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, &[7; 100]);
    talk.server(SYN | ACK, V2 - 1, C2 + 100, b"");
    talk.server(SYN, FORGED, 0, b"");
    talk.is_completed_with(C2 + 100, V2);
    // SYNs in the client's name, one of them perhaps a late copy.
    for forged in [&[C2][..], &[C2, C], &[C2, 0x6666_6666]] {
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, SERVER_START, C, b"");
        for number in forged {
            talk.client(SYN, number - 1, 0, b"");
        }
        talk.server(SYN, FORGED, 0, b"");
        talk.client(ACK, C, V, b"");
        talk.is(State::Established);
        assert_eq!(talk.numbers(), [C, V, V, C], "{forged:x?}");
    }
    // A RST about the forged SYN ends that.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.server(SYN, FORGED - 1, 0, b"");
    talk.server(RST, FORGED, 0, b"");
    talk.is_completed_with(C2, V2);
    // A client that has acknowledged a SYN accepts no other.
    let mut talk = Talk::opening();
    talk.server(SYN, SERVER_START, 0, b"");
    talk.client(SYN | ACK, CLIENT_START, V, b"");
    talk.server(SYN, FORGED, 0, b"");
    talk.server(ACK, V, C, b"");
    talk.is(State::Established);
    talk.client(ACK, C, V, b"");
    assert_eq!(talk.numbers(), [C, V, V, C]);
}

/// A client refuses the answer to an attempt of which nothing is known any more: also where inexact RSTs are dropped.
#[test]
fn a_client_may_refuse_what_answers_an_old_attempt() {
    let mut talk = Talk::opening_with(config().inexact_reset(InexactReset::Drop));
    talk.server(SYN | ACK, SERVER_START, C, b"");
    for number in [C2, 0x1111_1112, 0x2222_2223] {
        talk.client(SYN, number - 1, 0, b"");
    }
    // It answers the first of these, and its SYN+ACK went past us.
    talk.server(ACK, V2, C2, b"");
    talk.client(RST, C2, 0, b"");
    talk.is(State::Opening);
}

/// The SYN of a client that has lost its state overtakes the segment that completes its attempt before.
#[test]
fn a_syn_outlives_the_attempt_that_it_has_overtaken_in_a_conversation() {
    const C3: u32 = 0x2222_2223;
    let mut talk = Talk::attempted();
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(SYN, C3 - 1, 0, b"");
    talk.client(ACK, C2, V2, b"");
    assert_eq!(talk.numbers(), [C2, V2, V2, C2]);
    talk.server(RST, V2, 0, b"");
    talk.is(State::TimeWait);
    talk.server(SYN | ACK, 0x3333_3332, C3, b"");
    talk.is(State::Opened);
    talk.is_completed_with(C3, 0x3333_3333);
}

/// Without an answer there is nothing to acknowledge.
#[test]
fn a_refused_answer_is_not_completed() {
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, 0x7777, b"");
    talk.client(RST, 0x7777, 0, b"");
    for acknowledgment in [0, V] {
        talk.client(ACK, 0x7777, acknowledgment, b"");
        talk.is(State::Opening);
    }
}

/// TCP Fast Open by a client that has lost its state, whose SYN is repeated while the answer is on its way.
#[test]
fn the_syn_of_an_answered_attempt_may_come_again() {
    for (data, again, acknowledged) in [(40, 40, 40), (40, 0, 40), (40, 40, 13), (40, 40, 0), (0, 0, 0)] {
        let mut talk = Talk::established();
        talk.client(SYN, C2 - 1, 0, &vec![1; data]);
        talk.server(SYN | ACK, V2 - 1, C2 + acknowledged, b"");
        talk.client(SYN, C2 - 1, 0, &vec![1; again]);
        talk.server(SYN | ACK, V2 - 1, C2 + acknowledged, b"");
        talk.client(ACK, C2 + acknowledged, V2, b"");
        assert_eq!(talk.numbers(), [C2 + acknowledged, V2, V2, C2 + acknowledged], "{data} {again} {acknowledged}");
    }
}

/// A SYN with another number is forged, and the server that has only the client's own in SYN-RECEIVED takes it. The client
/// refuses that answer. Its own attempt is the older one, and goes on with its next SYN.
#[test]
fn an_older_attempt_goes_on_when_the_later_one_is_reset() {
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(RST, C2, 0, b"");
    talk.is(State::Opening);
    talk.client(SYN, CLIENT_START, 0, b"");
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.is_completed_with(C, V);
    // If it was not forged, the client is gone, and nothing more comes: 4 minutes are all it gets.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(RST, C2, 0, b"");
    for second in (1..250).step_by(5) {
        talk.t.poll(s(second));
    }
    assert_eq!(tcp_state(&talk.t), None);
}

/// A client gives up an attempt that the server has answered. The server's challenge about that attempt comes after the
/// client's RST, and then a late segment of the attempt: it completes nothing.
#[test]
fn an_attempt_that_was_given_up_is_not_completed() {
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(SYN, C2 - 1, 0, b"");
    talk.client(RST, C, 0, b"");
    talk.server(ACK, V, C, b"");
    talk.client(ACK, C, V, b"late");
    talk.is(State::Opening);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.is(State::Opened);
    talk.is_completed_with(C2, V2);
}

/// The server has answered two copies of a SYN differently, and the RST about one of them comes after the answer to the other: a
/// client that has acknowledged the answer already does not obey it. A RST with the answer's own number is obeyed.
#[test]
fn an_answer_outlives_the_reset_of_another_one() {
    for sequence in [0, V, V2 - 1, V2 + 1, V2] {
        let reset = |talk: &mut Talk, acknowledgment| talk.server(RST | ACK, sequence, acknowledgment, b"");
        let goes_on = |mut talk: Talk, client| {
            if sequence != V2 {
                talk.is_completed_with(client, V2);
            } else {
                let before = tcp_state(&talk.t);
                talk.client(ACK, client, V2, b"");
                assert_eq!(tcp_state(&talk.t), before);
            }
        };
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, V2 - 1, C, b"");
        reset(&mut talk, C);
        talk.is(State::TimeWait);
        goes_on(talk, C);
        // One of three was answered before.
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, SERVER_START, C, b"");
        talk.server(SYN | ACK, V2 - 1, C, b"");
        reset(&mut talk, C);
        goes_on(talk, C);
        // The client has sent its latest SYN before the answer came. What refuses that has no number, or another one.
        if sequence != V2 {
            let mut talk = Talk::opening();
            talk.server(SYN | ACK, V2 - 1, C, b"");
            talk.client(SYN, C2 - 1, 0, b"");
            reset(&mut talk, C2);
            talk.is_completed_with(C, V2);
        }
    }
}

/// Forged in the server's name by somebody who sees no number: it takes the place of no answer that the client may have.
#[test]
fn a_forged_answer_displaces_none_when_a_handshake_is_reset() {
    const FORGED: u32 = 0x1234_5678;
    // The client refuses the answer to the attempt that it has given up.
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.server(SYN, FORGED, 0, b"");
    talk.client(RST, C, 0, b"");
    talk.is_completed_with(C2, V2);
    // The server refuses it.
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.server(SYN, FORGED, 0, b"");
    talk.server(RST | ACK, 0, C, b"");
    talk.is_completed_with(C2, V2);
}

/// Both attempts are answered, and a late refusal of the one says nothing about the answer to the other.
#[test]
fn the_answer_to_the_other_attempt_outlives_a_refusal() {
    let mut talk = Talk::opening();
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.server(RST | ACK, 0, C, b"");
    talk.is_completed_with(C2, V2);
}

/// A RST after early data is about the answer that the data came after.
#[test]
fn a_reset_after_early_data_is_about_its_own_answer() {
    for early in [0, 1, 19, 20] {
        let mut talk = Talk::opening();
        talk.server(SYN | ACK, SERVER_START, C, b"");
        talk.server(ACK, V, C, &[7; 20]);
        talk.server(RST | ACK, V + early, C, b"");
        talk.is(State::TimeWait);
        talk.client(ACK, C, V, b"");
        talk.is(State::TimeWait);
    }
}

/// A SYN reaches a server that does not listen yet, and a copy of it one that does. Its refusal is lost behind the translator,
/// or comes to a client that has gone on already, and both ends are established.
#[test]
fn a_server_may_answer_a_syn_that_it_has_refused() {
    for data in [&b""[..], b"and data"] {
        let mut t = diverting(config());
        let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, data)));
        let mut talk = Talk { t, alternative, server };
        talk.client(SYN, CLIENT_START, 0, data);
        talk.server(RST | ACK, 0, C, b"");
        talk.is(State::TimeWait);
        let _ = events(&mut talk.t);
        // Not an answer to it: nobody accepts that.
        talk.server(SYN | ACK, SERVER_START, C - 1, b"");
        talk.is(State::TimeWait);
        talk.server(SYN | ACK, SERVER_START, C + data.len() as u32, b"");
        talk.is(State::Opened);
        assert!(matches!(events(&mut talk.t)[..], [Event::Opened(_)]));
        talk.is_completed_with(C + data.len() as u32, V);
    }
    // A server that has answered, and resets that before the copy comes.
    let mut talk = Talk::opening();
    talk.server(SYN | ACK, V2 - 1, C, b"");
    talk.server(RST, V2, 0, b"");
    talk.is(State::TimeWait);
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.is_completed_with(C, V);
    // A client that has given up accepts nothing.
    let mut talk = Talk::opening();
    talk.client(RST, C, 0, b"");
    talk.server(SYN | ACK, SERVER_START, C, b"");
    talk.is(State::TimeWait);
}
