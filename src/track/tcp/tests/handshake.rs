//! Handshakes, and what only looks like one.

use super::*;

#[test]
fn a_syn_again_is_no_new_attempt() {
    let mut tcp = opening();
    assert!(tcp.client(SYN, C0, 0, 0));
    assert_eq!(tcp.claims.numbers, [0; 2]);
    assert!(tcp.client(SYN, C0 + 50, 0, 0));
    assert_eq!((tcp.after_syn(), tcp.claims.numbers[0]), (C + 50, C));
}

#[test]
fn an_answer_chooses_the_attempt() {
    let mut tcp = opening();
    assert!(tcp.client(SYN, C0 + 50, 0, 0));
    // The previous attempt is answered, and becomes the latest.
    assert!(tcp.server(SYN | ACK, V0, C, 0));
    assert_eq!((tcp.phase, tcp.after_syn(), tcp.claims.numbers[0]), (Phase::Opened, C, C + 50));
    changes_nothing(&tcp, ToServer, segment(ACK, C + 50, V + 1, 0));
    assert!(tcp.client(ACK, C, V, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
}

#[test]
fn a_syn_after_the_answer_keeps_the_answer() {
    let mut tcp = opened();
    assert!(tcp.client(SYN, C0 + 50, 0, 0));
    assert_eq!((tcp.phase, tcp.after_syn(), tcp.claims.numbers[0]), (Phase::Opening, C + 50, C));
    assert_eq!([C + 50, C].map(|number| tcp.server_refuses(number)), [Reset::Exact, Reset::Elsewhere]);
    // The client may still complete the previous attempt with its answer: then the new SYN was forged, or a late copy.
    let mut before = tcp;
    assert!(before.client(ACK, C, V, 0));
    assert_eq!((before.phase, before.numbers()), (Phase::Established, [C, V, V, C]));
    // Or it refuses that answer, which is forgotten.
    let mut refused = tcp;
    assert_eq!(refused.client_resets(C), Reset::Refused);
    refused.forget_answer();
    for acknowledgment in [V, 0] {
        changes_nothing(&refused, ToServer, segment(ACK, C, acknowledgment, 0));
    }
    assert_eq!((refused.phase, refused.after_syn()), (Phase::Opening, C + 50));
    // Once answered, the new attempt is the latest; the previous one is over, and a late refusal of it means nothing.
    assert!(tcp.server(SYN | ACK, V0 + 9, C + 50, 0));
    assert_eq!((tcp.after_syn(), tcp.server_refuses(C)), (C + 50, Reset::Elsewhere));
    assert!(tcp.client(ACK, C + 50, V + 9, 0));
    assert_eq!(tcp.numbers(), [C + 50, V + 9, V + 9, C + 50]);
}

/// The server has answered both attempts, and the client completes the first one. Its numbers may look like data of the
/// second one.
#[test]
fn the_first_of_two_answered_attempts_is_completed() {
    for second in [C - 1, C - 1_000, C - W + 1, C - W, C + 1, C + 1_000, C + W, C2] {
        let mut both = opened();
        assert!(both.client(SYN, second - 1, 0, 0));
        // The server was restarted.
        assert!(both.server(SYN | ACK, V2 - 1, second, 0));
        for data in [0, 3] {
            let mut tcp = both;
            assert!(tcp.client(ACK, C, V, data));
            assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C + data, V, V, C]), "{second}");
            assert_eq!((tcp.claims.attempt(), tcp.claims.numbers), (Attempt::Syn, [second, V2]));
        }
        // A late copy of the first SYN makes that attempt the latest again.
        let mut tcp = both;
        assert!(tcp.client(SYN, C0, 0, 0) && tcp.client(ACK, C, V, 3));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C + 3, V, V, C]), "{second}");
        // Data of the second one, once the server's answer to it is acknowledged.
        let mut tcp = both;
        assert!(tcp.client(ACK, second + 5, V2, 3));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [second + 8, V2, V2, second]));
    }
}

#[test]
fn an_answer_to_neither_attempt() {
    let mut tcp = opening();
    assert!(!tcp.server(SYN | ACK, V0, C + 7, 0));
    assert_eq!((tcp.phase, tcp.client_resets(C + 7)), (Phase::Opening, Reset::Refused));
    // Its numbers have to be confirmed to the byte.
    for (sequence, acknowledgment) in [(C + 8, V), (C + 6, V), (C + 7, V + 1), (C + 7, V - 1), (0, 0)] {
        changes_nothing(&tcp, ToServer, segment(ACK, sequence, acknowledgment, 0));
    }
    assert!(tcp.client(ACK, C + 7, V, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::EstablishedPending, [C + 7, V, V, C + 7]));
    // Once there is an answer to the attempt, others change nothing.
    changes_nothing(&opened(), ToClient, segment(SYN | ACK, V0, C + 7, 0));
}

#[test]
fn without_an_answer_nothing_completes() {
    for (sequence, acknowledgment) in [(C, V), (C, 0), (0, 0), (0, V)] {
        changes_nothing(&opening(), ToServer, segment(ACK, sequence, acknowledgment, 0));
    }
    // A SYN of the server without ACK acknowledges nothing.
    let mut tcp = opening();
    assert!(tcp.server(SYN, V0, 0, 0));
    for sequence in [0, C] {
        changes_nothing(&tcp, ToServer, segment(ACK, sequence, V, 0));
    }
}

#[test]
fn a_challenge_before_the_handshake() {
    let mut tcp = opening();
    assert!(!tcp.server(ACK, V, C + 70, 0));
    assert_eq!((tcp.phase, tcp.client_resets(C + 70), tcp.client_resets(C + 71)), {
        (Phase::Opening, Reset::Refused, Reset::Elsewhere)
    });
    assert!(tcp.client(SYN, C0, 0, 0) && tcp.server(SYN | ACK, V0 + 500, C, 0) && tcp.client(ACK, C, V + 500, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V + 500, V + 500, C]));
}

#[test]
fn data_with_a_syn_is_acknowledged_in_part() {
    for acknowledged in [C, C + 1, C + 99, C + 100] {
        let mut tcp = opening_with(100);
        // Repeated without its data (RFC 7413, section 4.1.3).
        assert!(tcp.client(SYN, C0, 0, 0));
        assert!(tcp.server(SYN | ACK, V0, acknowledged, 0));
        assert!(tcp.client(ACK, acknowledged, V, 100));
        assert_eq!((tcp.phase, tcp.numbers()), { (Phase::Established, [acknowledged + 100, V, V, acknowledged]) });
    }
    for acknowledged in [C - 1, C + 101] {
        let mut tcp = opening_with(100);
        assert!(!tcp.server(SYN | ACK, V0, acknowledged, 0));
        assert_eq!(tcp.phase, Phase::Opening);
    }
}

#[test]
fn early_data() {
    let mut tcp = opened();
    assert!(tcp.server(ACK, V, C, 1_000));
    assert!(tcp.server(ACK, V + 1_000, C, EARLY - 1_000));
    // Too much, for another attempt, without ACK, before the SYN.
    for (flags, sequence, acknowledgment) in [(ACK, V + EARLY, C), (ACK, V, C + 1), (0, V, C), (ACK, V - 3, C)] {
        changes_nothing(&tcp, ToClient, segment(flags, sequence, acknowledgment, 1));
    }
    for acknowledged in [V, V + 77, V + EARLY] {
        let mut tcp = tcp;
        assert!(tcp.client(ACK, C, acknowledged, 0));
        assert_eq!(tcp.numbers(), [C, V + EARLY, acknowledged, C]);
    }
    for acknowledged in [V - 1, V + EARLY + 1] {
        changes_nothing(&tcp, ToServer, segment(ACK, C, acknowledged, 0));
    }
}

#[test]
fn an_early_fin() {
    let mut tcp = opened();
    assert!(tcp.server(FIN | ACK, V, C, 10));
    assert_eq!(tcp.fins(), [Fin::None, Fin::Sent]);
    let mut all = tcp;
    assert!(all.client(ACK, C, V + 11, 0));
    assert_eq!(all.phase, Phase::ServerClosed);
    assert!(tcp.client(ACK, C, V, 0));
    assert_eq!(tcp.phase, Phase::EstablishedPending);
    // Data after it: it was forged.
    let mut tcp = opened();
    assert!(tcp.server(FIN | ACK, V, C, 10) && tcp.server(ACK, V, C, 50) && tcp.client(ACK, C, V + 50, 0));
    assert_eq!((tcp.phase, tcp.fins()), (Phase::Established, [Fin::None; 2]));
}

/// A server that was started again answers the same SYN once more: its early FIN is not that of the second answer.
#[test]
fn an_early_fin_belongs_to_its_answer() {
    let mut answered_twice = opened();
    assert!(answered_twice.server(FIN | ACK, V, C, 10) && answered_twice.server(SYN | ACK, V0 + 900, C, 0));
    for acknowledged in [V + 900, V] {
        let mut tcp = answered_twice;
        assert!(tcp.client(ACK, C, acknowledged, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, acknowledged, acknowledged, C]));
    }
}

#[test]
fn one_syn_and_two_answers() {
    for acknowledged in [V, V + 900] {
        let mut tcp = opened();
        assert!(tcp.server(SYN | ACK, V0 + 900, C, 0));
        assert_eq!((tcp.server_resets(V), tcp.server_resets(V + 900)), (Reset::Elsewhere, Reset::Exact));
        changes_nothing(&tcp, ToServer, segment(ACK, C, V + 1, 0));
        assert!(tcp.client(ACK, C, acknowledged, 5));
        assert_eq!(tcp.numbers(), [C + 5, acknowledged, acknowledged, C]);
    }
}

#[test]
fn the_answer_before_and_the_other_attempt() {
    let mut tcp = opened();
    assert!(tcp.client(SYN, C0 + 50_000_000, 0, 0));
    assert!(tcp.server(SYN | ACK, V0 + 900, C + 50_000_000, 0));
    // The client had the first answer, and its ACK comes late.
    changes_nothing(&tcp, ToServer, segment(ACK, C, V + 900, 0));
    // Or what it has sent after that ACK comes first: only the client knows the number of that answer.
    for number in [C, C + 1] {
        let mut tcp = tcp;
        assert!(tcp.client(ACK, number, V, 0));
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [number, V, V, number]));
    }
}

#[test]
fn a_handshake_may_be_completed_a_window_later() {
    for (beyond, completes) in [(0, true), (W - 1, true), (W, false), (1_u32.wrapping_neg(), false)] {
        let mut tcp = opened();
        assert_eq!(tcp.client(ACK, C.wrapping_add(beyond), V, 0), completes, "{beyond}");
        assert_eq!(tcp.phase == Phase::Established, completes, "{beyond}");
    }
}

#[test]
fn both_open_at_once() {
    for server_first in [true, false] {
        let mut tcp = opening();
        assert!(tcp.server(SYN, V0, 0, 0));
        assert_eq!(tcp.phase, Phase::Opened);
        changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, V + 1, 0));
        changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, V - 1, 0));
        let (by_client, by_server) = ((SYN | ACK, C0, V), (SYN | ACK, V0, C));
        if server_first {
            assert!(tcp.server(by_server.0, by_server.1, by_server.2, 0));
            assert_eq!(tcp.phase, Phase::Opened);
            changes_nothing(&tcp, ToClient, segment(SYN, V0, 0, 0));
            assert!(tcp.client(by_client.0, by_client.1, by_client.2, 0));
        } else {
            assert!(tcp.client(by_client.0, by_client.1, by_client.2, 0));
            assert_eq!(tcp.phase, Phase::Opened);
            assert!(tcp.server(by_server.0, by_server.1, by_server.2, 0));
        }
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    }
}

/// Only the client knows the server's number: its SYN+ACK says which attempt is the latest.
#[test]
fn a_syn_ack_of_the_client_says_what_its_attempt_is() {
    let mut tcp = opening();
    assert!(tcp.server(SYN, V0, 0, 0) && tcp.client(SYN | ACK, C0 + 50, V, 0));
    assert_eq!((tcp.phase, tcp.after_syn()), (Phase::Opened, C + 50));
    // The same in `Opening`, once a segment of the server is remembered.
    let mut tcp = opening();
    changes_nothing(&tcp, ToServer, segment(SYN | ACK, C0, 0, 0));
    assert!(!tcp.server(SYN | ACK, V0, C + 7, 0) && tcp.client(SYN | ACK, C0, V, 0));
    assert_eq!(tcp.phase, Phase::Opened);
    // The client cannot change what the server has acknowledged before.
    let mut tcp = opened();
    assert!(tcp.client(SYN | ACK, C0 + 50, V, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
}

#[test]
fn an_early_acknowledgement_when_both_open_at_once() {
    let mut tcp = opening();
    assert!(tcp.server(SYN, V0, 0, 0));
    changes_nothing(&tcp, ToClient, segment(ACK, V, C + 1, 0));
    assert!(tcp.server(ACK, V, C, 0));
    assert_eq!(tcp.phase, Phase::Opened);
    assert!(tcp.client(SYN | ACK, C0, V, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
}

/// What the client has acknowledged is the server's SYN that it has seen, not the next one with another number.
#[test]
fn another_syn_of_the_server_has_to_be_acknowledged_anew() {
    let mut tcp = opening();
    assert!(tcp.server(SYN, V0, 0, 0) && tcp.client(SYN | ACK, C0, V, 0) && tcp.server(SYN | ACK, V0 + 900, C, 0));
    assert_eq!(tcp.phase, Phase::Opened);
    assert!(tcp.client(SYN | ACK, C0, V + 900, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V + 900, V + 900, C]));
}
