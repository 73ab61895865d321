//! New attempts within a conversation.

use super::*;

/// The client has sent a SYN with this much data.
pub(super) fn attempted(data: u32) -> Tcp {
    let mut tcp = established();
    assert!(!tcp.client(SYN, C2 - 1, 0, data));
    assert_eq!((tcp.phase, tcp.numbers(), tcp.claims.attempt()), (Phase::Established, [C, V, V, C], Attempt::Syn));
    tcp
}

#[test]
fn an_attempt_is_completed() {
    for (sequence, acknowledgment, completes) in [
        (C2, V2, true),
        (C2 + AT_ONCE - 1, V2 + EARLY, true),
        (C2 + AT_ONCE, V2, false),
        (C2 - 1, V2, false),
        (C2, V2 - 1, false),
        (C2, V2 + EARLY + 1, false),
    ] {
        let mut tcp = attempted(0);
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::EstablishedPending, [C, V, V, C]));
        assert_eq!(tcp.client(ACK, sequence, acknowledgment, 3), completes, "{sequence} {acknowledgment}");
        let new = [sequence + 3, acknowledgment, acknowledgment, C2];
        assert_eq!(tcp.numbers(), if completes { new } else { [C, V, V, C] });
        let attempt = if completes { Attempt::None } else { Attempt::SynAck };
        assert_eq!(tcp.claims.attempt(), attempt, "completed, or not given up yet");
    }
}

/// A server that was restarted may begin with the same number, and its client with one that is near: then the segment
/// that completes the attempt looks like part of the previous conversation.
#[test]
fn an_attempt_with_near_numbers_is_completed() {
    for start in [C, C + 7, C + (1 << 24) - 2, C.wrapping_sub(1_000), C + (1 << 31)] {
        let mut tcp = established();
        assert!(!tcp.client(SYN, start, 0, 0));
        assert!(tcp.server(SYN | ACK, V - 1, start.wrapping_add(1), 0));
        assert_eq!(tcp.phase, Phase::EstablishedPending);
        // The server's old number is no sign that the conversation goes on.
        assert!(tcp.client(ACK, start.wrapping_add(1), V, 3));
        let sent = start.wrapping_add(4);
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [sent, V, V, start.wrapping_add(1)]));
    }
}

/// The numbers in the translator's own RSTs while an attempt is answered but not complete: those of the attempt, unless
/// both SYNs may be late copies.
#[test]
fn resets_of_an_answered_attempt() {
    for (client, server, expected) in [
        (C2 - 1, V2 - 1, [C2, V2]),
        (C.wrapping_sub(1_000), V2 - 1, [C.wrapping_sub(999), V2]),
        (C2 - 1, V.wrapping_sub(1_000), [C2, V.wrapping_sub(999)]),
        (C.wrapping_sub(1_000), V.wrapping_sub(1_000), [C, V]),
    ] {
        let mut tcp = established();
        tcp.client(SYN, client, 0, 0);
        tcp.server(SYN | ACK, server, client.wrapping_add(1), 0);
        tcp.expect_resets();
        let [sent, other, ..] = tcp.numbers();
        assert_eq!([sent, other], expected);
        assert!(!tcp.expects_otherwise(ToServer) && !tcp.expects_otherwise(ToClient));
    }
}

/// One forged segment must not cancel the client's answered attempt.
#[test]
fn an_answered_attempt_outlives_three_misfits() {
    let mut tcp = attempted(0);
    assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
    for _ in 0..3 {
        assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
        assert_eq!((tcp.claims.attempt(), tcp.claims.numbers), (Attempt::SynAck, [C2, V2]));
    }
    let mut completed = tcp;
    assert!(completed.client(ACK, C2, V2, 0));
    assert_eq!(completed.numbers(), [C2, V2, V2, C2]);
    assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
    assert_eq!(tcp.claims.attempt(), Attempt::None);
}

#[test]
fn a_repeated_syn_keeps_its_attempt() {
    let mut tcp = attempted(0);
    changes_nothing(&tcp, ToServer, segment(SYN, C2 - 1, 0, 0));
    assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
    changes_nothing(&tcp, ToServer, segment(SYN, C2 - 1, 0, 0));
    assert!(!tcp.client(SYN, C2 + 4, 0, 0));
    assert_eq!((tcp.claims.attempt(), tcp.claims.numbers), (Attempt::Syn, [C2 + 5, V2]));
}

/// While an attempt waits, an answer to another one does not take its place: it may be forged.
#[test]
fn an_unasked_answer_does_not_replace_an_attempt() {
    let mut waits = attempted(0);
    assert!(!waits.server(SYN | ACK, V2 + 9, C2 + 9, 0));
    assert_eq!((waits.phase, waits.claims.attempt(), waits.claims.numbers[0]), (Phase::Established, Attempt::Syn, C2));
    assert!(waits.server(SYN | ACK, V2 - 1, C2, 0) && waits.client(ACK, C2, V2, 0));
    assert_eq!(waits.numbers(), [C2, V2, V2, C2]);
    let mut answered = attempted(0);
    assert!(answered.server(SYN | ACK, V2 - 1, C2, 0));
    changes_nothing(&answered, ToClient, segment(SYN | ACK, V2 + 9, C2 + 9, 0));
}

#[test]
fn an_answered_attempt_goes_on_after_a_reset() {
    let mut tcp = attempted(0);
    assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
    assert_eq!([tcp.client_resets(C), tcp.server_resets(V)], [Reset::Replaced; 2]);
    // A RST with the attempt's own numbers ends it.
    assert_eq!([tcp.client_resets(C2), tcp.server_resets(V2), tcp.server_refuses(C2)], [Reset::Exact; 3]);
    tcp.replace();
    assert_eq!((tcp.phase, tcp.after_syn()), (Phase::Opened, C2));
    assert!(tcp.client(ACK, C2, V2, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C2, V2, V2, C2]));
}

#[test]
fn the_other_attempt_goes_on_after_a_reset() {
    let mut tcp = opening();
    assert!(tcp.client(SYN, C0 + 50, 0, 0) && tcp.server(SYN | ACK, V0, C, 0));
    assert_eq!([tcp.client_resets(C), tcp.server_resets(V), tcp.server_refuses(C)], [Reset::Replaced; 3]);
    tcp.replace();
    assert_eq!((tcp.phase, tcp.after_syn()), (Phase::Opening, C + 50));
    // The RST again.
    assert_eq!([tcp.client_resets(C), tcp.server_refuses(C)], [Reset::Elsewhere; 2]);
    assert!(tcp.server(SYN | ACK, V0 + 9, C + 50, 0) && tcp.client(ACK, C + 50, V + 9, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C + 50, V + 9, V + 9, C + 50]));
}

#[test]
fn an_attempt_with_data_is_answered_in_part() {
    for acknowledged in [C2, C2 + 40] {
        let mut tcp = attempted(40);
        assert!(tcp.server(SYN | ACK, V2 - 1, acknowledged, 0) && tcp.client(ACK, acknowledged, V2, 0));
        assert_eq!(tcp.numbers(), [acknowledged, V2, V2, acknowledged]);
    }
    for acknowledged in [C2 - 1, C2 + 41] {
        assert!(!attempted(40).server(SYN | ACK, V2 - 1, acknowledged, 0));
        assert_eq!(attempted(40).server_refuses(acknowledged), Reset::Inexact);
    }
    assert_eq!([C2, C2 + 40].map(|number| attempted(40).server_refuses(number)), [Reset::Exact; 2]);
}

#[test]
fn an_attempt_is_refused_or_challenged() {
    assert_eq!(attempted(0).server_refuses(C2), Reset::Exact);
    let mut tcp = attempted(0);
    assert!(tcp.server(ACK, V, C, 0), "a challenge fits");
    assert_eq!((tcp.client_resets(C), tcp.client_resets(C2)), (Reset::Exact, Reset::Elsewhere));
}

#[test]
fn an_attempt_is_forgotten_when_the_client_goes_on() {
    let mut tcp = attempted(0);
    // Segments of the server that do not fit change nothing.
    changes_nothing(&tcp, ToClient, segment(ACK, V2, C2, 0));
    assert!(tcp.client(ACK, C, V, 10));
    assert_eq!(tcp.claims.attempt(), Attempt::Syn, "one that fits leaves it alone");
    for _ in 0..3 {
        assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
        assert_eq!((tcp.claims.attempt(), tcp.server_refuses(C2)), (Attempt::Syn, Reset::Exact), "it may be late");
    }
    assert!(!tcp.client(ACK, C + (1 << 30), V, 0));
    assert_eq!((tcp.claims.attempt(), tcp.server_refuses(C2)), (Attempt::None, Reset::Inexact));
}

#[test]
fn a_syn_ack_that_nobody_asked_for() {
    // It fits: a late copy.
    changes_nothing(&established(), ToClient, segment(SYN | ACK, V0, C, 0));
    // It does not fit: the SYN was not seen here.
    let mut tcp = established();
    assert!(!tcp.server(SYN | ACK, V2 - 1, C2, 0));
    assert!(tcp.client(ACK, C2, V2, 0));
    assert_eq!(tcp.numbers(), [C2, V2, V2, C2]);
    // The other two segments that have SYN.
    changes_nothing(&established(), ToClient, segment(SYN, V2, 0, 0));
    changes_nothing(&established(), ToServer, segment(SYN | ACK, C0, V, 0));
}

#[test]
fn late_copies_of_a_handshake_begin_nothing() {
    changes_nothing(&established(), ToServer, segment(SYN, C0, 0, 0));
    changes_nothing(&established(), ToClient, segment(SYN | ACK, V0, C, 0));
    // Once more data is acknowledged, a late SYN looks like an attempt. Segments that continue the conversation do not
    // complete it.
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 10) && tcp.server(ACK, V, C + 10, 10) && tcp.client(ACK, C + 10, V + 10, 0));
    assert!(!tcp.client(SYN, C0, 0, 0) && tcp.server(SYN | ACK, V0, C, 0));
    assert!(tcp.client(ACK, C + 10, V + 10, 100));
    let numbers = [C + 110, V + 10, V + 10, C + 10];
    assert_eq!((tcp.numbers(), tcp.claims.attempt()), (numbers, Attempt::SynAck));
}

/// The SYN of an attempt that was given up is overtaken by that of the next one, and arrives after that has been
/// answered: the client still completes the answered attempt.
#[test]
fn a_late_syn_takes_no_answer_away() {
    let late = |tcp: &mut Tcp| {
        assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert!(!tcp.client(SYN, C2 + 99_999, 0, 0));
        // The server challenges it, about the attempt that it has answered.
        assert!(!tcp.server(ACK, V2, C2, 0));
    };
    for (acknowledgment, completes) in [(V2, true), (V2 - 1, false), (V2 + 1, false), (0, false)] {
        let mut tcp = attempted(0);
        late(&mut tcp);
        assert_eq!(tcp.client(ACK, C2, acknowledgment, 3), completes, "{acknowledgment}");
        assert_eq!(tcp.numbers(), if completes { [C2 + 3, V2, V2, C2] } else { [C, V, V, C] });
    }
    // Or the late SYN is the client's latest after all, and the server answers, or refuses, that one.
    let mut tcp = attempted(0);
    late(&mut tcp);
    assert_eq!(tcp.server_refuses(C2 + 100_000), Reset::Exact);
    assert!(tcp.server(SYN | ACK, V2 + 77, C2 + 100_000, 0));
    assert!(tcp.client(ACK, C2 + 100_000, V2 + 78, 0));
    assert_eq!(tcp.numbers(), [C2 + 100_000, V2 + 78, V2 + 78, C2 + 100_000]);
    // The old conversation goes on, and its client acknowledges what happens to be the number of that answer.
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 0) && tcp.server(ACK, V, C, 500));
    assert!(!tcp.client(SYN, C2 - 1, 0, 0) && tcp.server(SYN | ACK, V + 99, C2, 0));
    assert!(!tcp.client(SYN, C - 100_000, 0, 0));
    assert!(tcp.client(ACK, C, V + 100, 0));
    assert_eq!(tcp.numbers(), [C, V + 500, V + 100, C]);
}

/// Two SYNs, of which one has overtaken the other, are on their way to the server, which answers, or refuses, them in turn. The
/// client has given up one of them, and completes the other.
#[test]
fn either_of_two_attempts_is_completed() {
    for latest_first in [true, false] {
        let mut both = attempted(0);
        assert!(!both.client(SYN, C2 + 99_999, 0, 0));
        let later = C2 + 100_000;
        let answer = |tcp: &mut Tcp, latest: bool| match latest {
            true => tcp.server(SYN | ACK, V2 + 99, later, 0),
            false => tcp.server(SYN | ACK, V2 - 1, C2, 0),
        };
        // Only the latest is known, but only the client knows the server's answer to the other one.
        assert_eq!(answer(&mut both, latest_first), latest_first);
        let mut one = both;
        let (client, server) = if latest_first { (later, V2 + 100) } else { (C2, V2) };
        assert!(!one.client(ACK, client, server + 1 + EARLY, 3));
        let mut one = both;
        assert!(one.client(ACK, client, server, 3));
        assert_eq!((one.phase, one.numbers()), (Phase::Established, [client + 3, server, server, client]));
        // The client gave up the first one: it refuses that answer.
        answer(&mut both, !latest_first);
        assert_eq!(both.client_resets(C2), Reset::Elsewhere);
        assert!(both.client(ACK, later, V2 + 100, 3));
        assert_eq!(both.numbers(), [later + 3, V2 + 100, V2 + 100, later]);
    }
}

/// The same after the old conversation has been reset, and after a refusal.
#[test]
fn either_of_two_attempts_is_completed_after_the_end() {
    let mut reset = attempted(0);
    assert!(!reset.client(SYN, C2 + 99_999, 0, 0));
    assert_eq!(reset.client_resets(C), Reset::Exact);
    let mut refused = opening();
    refused.client(SYN, C2 - 1, 0, 0);
    refused.client(SYN, C2 + 99_999, 0, 0);
    assert_eq!(refused.server_refuses(C2 + 100_000), Reset::Exact);
    refused.await_another_answer(ToClient, 0);
    for mut tcp in [reset, refused] {
        tcp.phase = Phase::TimeWait;
        assert!(!tcp.client(ACK, C2, 0, 0) && !tcp.client(ACK, C2, V2, 0), "nothing was answered");
        assert!(!tcp.server(SYN | ACK, V2 - 1, C2, 0));
        assert!(!tcp.client(ACK, C2, V2 + 1, 0) && !tcp.server(ACK, V2, C2, 0));
        assert_eq!(tcp.phase, Phase::TimeWait);
        assert!(tcp.client(ACK, C2, V2, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C2, V2, V2, C2]));
    }
}
