//! RSTs, and what comes after the end.

use super::attempts::attempted;
use super::*;

#[test]
fn a_reset_of_the_server_in_a_handshake() {
    let mut tcp = opening_with(10);
    assert!(tcp.client(SYN, C0 + 50, 0, 0));
    for (number, is) in [
        (C + 50, Reset::Exact),
        (C + 60, Reset::Exact),
        (C + 61, Reset::Elsewhere),
        (C, Reset::Elsewhere),
        (C + 10, Reset::Elsewhere),
        (C + 11, Reset::Elsewhere),
    ] {
        assert_eq!(tcp.server_refuses(number), is, "{number}");
    }
    // Without ACK it says nothing to a client that has sent a SYN.
    assert_eq!(tcp.judge_reset(ToClient, &segment(RST, 0, C + 50, 0)), Reset::Elsewhere);
    let mut tcp = opened();
    assert!(tcp.server(ACK, V, C, 20));
    for (number, is) in [(V, Reset::Exact), (V + 1, Reset::InFlight), (V + 20, Reset::InFlight)] {
        assert_eq!(tcp.server_resets(number), is, "{number}");
    }
    assert_eq!([V - 1, V + 21].map(|number| tcp.server_resets(number)), [Reset::Elsewhere; 2]);
}

#[test]
fn a_reset_of_the_client_in_a_handshake() {
    let mut tcp = opening_with(10);
    assert!(tcp.client(SYN, C0 + 50, 0, 0));
    assert!(!tcp.server(ACK, V, C + 999, 0));
    for (number, is) in [
        (C + 50, Reset::Exact),
        (C + 60, Reset::Exact),
        (C + 999, Reset::Refused),
        (C, Reset::Elsewhere),
        (C + 10, Reset::Elsewhere),
        // An earlier attempt, whose answer was not seen here.
        (C + 11, Reset::Elsewhere),
    ] {
        assert_eq!(tcp.client_resets(number), is, "{number}");
    }
    assert!(tcp.server(SYN | ACK, V0, C + 55, 0));
    for (number, is) in [
        // The previous attempt may still be answered.
        (C + 55, Reset::Replaced),
        (C + 56, Reset::InFlight),
        (C + 60, Reset::InFlight),
        (C + 50, Reset::Elsewhere),
        (C + 61, Reset::Elsewhere),
    ] {
        assert_eq!(tcp.client_resets(number), is, "{number}");
    }
}

#[test]
fn a_reset_in_a_conversation() {
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 30) && tcp.server(ACK, V, C, 40));
    for (number, is) in [
        (0, Reset::Exact),
        (1, Reset::InFlight),
        (30, Reset::InFlight),
        (31, Reset::Inexact),
        (1_u32.wrapping_neg(), Reset::Inexact),
    ] {
        assert_eq!(tcp.client_resets(C.wrapping_add(number)), is, "{number}");
    }
    assert_eq!([V, V + 40, V + 41].map(|number| tcp.server_resets(number)), {
        [Reset::Exact, Reset::InFlight, Reset::Inexact]
    });
    // It acknowledges no attempt, and so its acknowledgement means nothing.
    assert_eq!(tcp.server_refuses(C), Reset::Inexact);
}

/// The RST of a server that knows nothing of the connection: its client accepts it.
#[test]
fn a_reset_of_an_adopted_connection() {
    assert_eq!([V, V + 1].map(|number| adopted().server_resets(number)), [Reset::Exact, Reset::Elsewhere]);
    assert_eq!([C, C + 10, C + 11].map(|number| adopted().client_resets(number)), {
        [Reset::InFlight, Reset::InFlight, Reset::Elsewhere]
    });
}

#[test]
fn a_reset_of_an_attempt_on_a_half_closed_connection() {
    let mut tcp = established();
    assert!(tcp.server(FIN | ACK, V, C, 0) && tcp.client(ACK, C, V + 1, 0) && !tcp.client(SYN, C2 - 1, 0, 5));
    assert_eq!(tcp.phase, Phase::ServerClosed);
    for (number, is) in [
        (C2 - 2, Reset::Elsewhere),
        (C2 - 1, Reset::InFlight),
        (C2, Reset::InFlight),
        (C2 + 5, Reset::InFlight),
        (C2 + 6, Reset::Elsewhere),
    ] {
        assert_eq!(tcp.client_resets(number), is, "{number}");
    }
}

#[test]
fn after_the_end_only_a_repeated_fin_is_a_sign_of_life() {
    let mut tcp = established();
    assert!(tcp.client(FIN | ACK, C, V, 0) && tcp.server(FIN | ACK, V, C + 1, 0) && tcp.client(ACK, C + 1, V + 1, 0));
    assert_eq!(tcp.phase, Phase::TimeWait);
    assert!(tcp.server(FIN | ACK, V, C + 1, 0) && tcp.client(ACK, C + 1, V + 1, 0) && tcp.client(FIN | ACK, C, V, 0));
    for (flags, sequence) in [(ACK, V), (ACK, V + 2), (FIN | ACK, V + 1), (FIN, V), (SYN | ACK, V), (0, V + 1)] {
        // A number that does not fit is claimed, and the other end would have to agree with it.
        let mut other = tcp;
        assert!(!other.follow(ToClient, &segment(flags, sequence, C + 1, 0), true));
        assert_eq!((other.phase, other.sequences), (tcp.phase, tcp.sequences));
    }
    // After a RST, while not both ends go on, nothing.
    for before in [opening(), opened(), established(), adopted()] {
        let tcp = Tcp { phase: Phase::TimeWait, ..before };
        for acknowledgment in [0, C, C + 1] {
            let mut repeated = tcp;
            for _ in 0..10 {
                assert!(!repeated.server(FIN | ACK, V, acknowledgment, 0));
                // A SYN+ACK that answers no attempt may be remembered, and means nothing here.
                assert!(!repeated.server(SYN | ACK, V0, acknowledgment, 0));
                assert_ne!(repeated.claims.attempt(), Attempt::SynAck);
            }
            assert_eq!((repeated.phase, repeated.sequences), (tcp.phase, tcp.sequences));
        }
        let mut repeated = tcp;
        for acknowledgment in [0, V, V + 1, 1 << 20, V] {
            assert!(!repeated.client(ACK, C, acknowledgment, 0));
        }
        assert_eq!((repeated.phase, repeated.sequences), (tcp.phase, tcp.sequences));
    }
}

/// Both go on with numbers that the translator does not know, because the RST was about something else.
#[test]
fn ends_that_go_on_after_a_reset_open_again() {
    for (client, server) in [(C2, V2), (C2, V)] {
        let mut tcp = established();
        assert!(tcp.client(FIN | ACK, C, V, 0) && tcp.server(ACK, V, C + 1, 0));
        tcp.phase = Phase::TimeWait;
        let mut segments = 0;
        while tcp.phase == Phase::TimeWait {
            assert!(segments < 8, "{client:x} {server:x}");
            tcp.server(ACK, server + segments, client, 1);
            tcp.client(ACK, client, server + segments + 1, 0);
            segments += 1;
        }
        assert_eq!(segments, 3);
        for segment in segments..segments + 4 {
            tcp.server(ACK, server + segment, client, 1);
            assert!(tcp.client(ACK, client, server + segment + 1, 0));
        }
        let server = server + segments + 4;
        assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [client, server, server, client]));
        assert_eq!(tcp.fins(), [Fin::None; 2]);
    }
}

/// Whoever can forge the segments of one side does not open it again, whatever the other side says to them.
#[test]
fn one_end_alone_does_not_open_again() {
    let tcp = Tcp { phase: Phase::TimeWait, ..established() };
    // A server in TIME-WAIT challenges what does not fit.
    let mut attacked = tcp;
    for number in 0..1_000_u32 {
        let random = |n: u32| (number + n).wrapping_mul(0x9e37_79b9);
        attacked.client(ACK, random(1), random(2), 10);
        assert!(!attacked.server(ACK, V + 1, C + 1, 0));
    }
    assert_eq!(attacked.phase, Phase::TimeWait);
    // Nor does one that finds out which number it has to have.
    let mut attacked = tcp;
    for place in 0..4_096_u32 {
        for _ in 0..5 {
            attacked.client(ACK, place << 20, 0x1234_5678, 1);
            attacked.server(ACK, V, C, 0);
        }
    }
    assert_eq!((attacked.phase, attacked.numbers()), (Phase::TimeWait, tcp.numbers()));
    // A client that is gone says nothing.
    let mut attacked = tcp;
    for number in 0..1_000_u32 {
        attacked.server(ACK, V + number, C, 10);
    }
    assert_eq!(attacked.phase, Phase::TimeWait);
}

/// One end aborts while the other sends. Its RST has overtaken some of its acknowledgements, and what those acknowledge
/// was sent before. Nor do late segments make the client's other attempt forgotten.
#[test]
fn what_a_reset_has_overtaken_does_not_open_again() {
    let mut uploading = established();
    let mut downloading = established();
    for sent in [0, 1_000, 2_000, 3_000] {
        assert!(uploading.client(ACK, C + sent, V, 1_000));
        assert!(downloading.server(ACK, V + sent, C, 1_000));
    }
    assert!(!uploading.client(SYN, C2 - 1, 0, 0) && !downloading.client(SYN, C2 - 1, 0, 0));
    assert_eq!((uploading.server_resets(V), downloading.client_resets(C)), (Reset::Exact, Reset::Exact));
    (uploading.phase, downloading.phase) = (Phase::TimeWait, Phase::TimeWait);
    for late in [0, 1_000, 2_000, 3_000, 4_000, 5_000] {
        for (segment, direction) in
            [(segment(ACK, C + 4_000 + late, V, 1_000), ToServer), (segment(ACK, V, C + late.min(4_000), 0), ToClient)]
        {
            changes_nothing(&uploading, direction, segment);
        }
        for (segment, direction) in
            [(segment(ACK, V + 4_000 + late, C, 1_000), ToClient), (segment(ACK, C, V + late.min(4_000), 0), ToServer)]
        {
            changes_nothing(&downloading, direction, segment);
        }
    }
    for mut ended in [uploading, downloading] {
        assert!(ended.server(SYN | ACK, V2 - 1, C2, 0), "the server answers the attempt");
    }
}

/// With the third agreement the connection is open, and what else its segment brings counts.
#[test]
fn a_fin_may_come_with_the_agreement_that_opens_again() {
    let mut tcp = Tcp { phase: Phase::TimeWait, ..established() };
    for sent in 0..3 {
        tcp.server(ACK, V2 + sent, C2, 1);
        assert_eq!(tcp.phase, Phase::TimeWait);
        tcp.client(if sent == 2 { FIN | ACK } else { ACK }, C2, V2 + sent + 1, 0);
    }
    assert_eq!(tcp.phase, Phase::Established);
    for _ in 0..4 {
        tcp.server(ACK, V2 + 3, C2 + 1, 0);
        tcp.client(ACK, C2 + 1, V2 + 3, 0);
    }
    assert_eq!(tcp.numbers(), [C2 + 1, V2 + 3, V2 + 3, C2 + 1]);
}

/// The client's SYN came before the RST, and its answer comes after it.
#[test]
fn the_answer_to_an_attempt_that_waits_opens_again() {
    let mut tcp = Tcp { phase: Phase::TimeWait, ..attempted(0) };
    assert!(!{ tcp }.server(SYN | ACK, V2 - 1, C2 + 1, 0), "it answers something else");
    assert!(tcp.server(SYN | ACK, V2 - 1, C2, 0));
    assert_eq!(tcp.claims.attempt(), Attempt::SynAck);
    tcp.replace();
    assert!(tcp.client(ACK, C2, V2, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C2, V2, V2, C2]));
}

#[test]
fn whoever_goes_on_is_no_longer_doubtful() {
    let mut tcp = Tcp { phase: Phase::Doubtful, ..established() };
    changes_nothing(&tcp, ToServer, segment(FIN, C, V, 0));
    assert!(!tcp.client(ACK, C2, V, 0));
    assert_eq!(tcp.phase, Phase::Doubtful);
    assert!(tcp.server(ACK, V, C, 1));
    assert_eq!(tcp.phase, Phase::Established);
}

#[test]
fn what_a_reset_of_our_own_says() {
    let expected = |mut tcp: Tcp| {
        tcp.expect_resets();
        [tcp.sequences.end(ToServer), tcp.sequences.end(ToClient)]
    };
    let [client, _] = expected(opening_with(10));
    assert_eq!(client, C, "the attempt's number, without its data");
    let mut tcp = opening_with(10);
    assert!(tcp.server(SYN | ACK, V0, C + 4, 0) && tcp.server(ACK, V, C + 4, 20));
    assert_eq!(expected(tcp), [C + 4, V + 20]);
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 30));
    assert_eq!(expected(tcp), [C, V], "what was not acknowledged may not have arrived");
    let mut after = tcp;
    after.expect_resets();
    assert!(after.expects_otherwise(ToServer) && !after.expects_otherwise(ToClient));
    assert_eq!(after.sequences.end(ToServer), C + 30, "or it has");
    // Unless one side's segments go another way.
    tcp.claims.set_heard(ToClient, false);
    assert_eq!(expected(tcp), [C + 30, V]);
}

/// `note_plain` notes the same as `follow`, for all edge values of all numbers.
#[test]
fn what_is_noted_plainly_is_what_would_be_followed() {
    const AHEAD: u32 = 1 << 31;
    const EDGES: [u32; 10] = [0, 1, 1_000, W - 1, W, AHEAD - 1, AHEAD, AHEAD + 1, u32::MAX - 1, u32::MAX];
    let mut claims = established().claims;
    claims.numbers = [C2, V2];
    let mut plainly = 0;
    for known in 0..10_000 {
        let words = [known % 10, known / 10 % 10, known / 100 % 10, known / 1_000].map(|edge| EDGES[edge]);
        let [by_client, by_server, of_client, of_server] = words;
        if by_client.wrapping_sub(of_server) >= AHEAD || by_server.wrapping_sub(of_client) >= AHEAD {
            // No conversation has more acknowledged than was sent.
            continue;
        }
        let before = Tcp { phase: Phase::Established, sequences: Sequences::from_words(words), claims };
        for (sequence, acknowledgment) in EDGES.iter().flat_map(|s| EDGES.map(|a| (*s, a))) {
            for (direction, data) in [(ToServer, 0), (ToServer, 1), (ToClient, 0), (ToClient, 1)] {
                let segment = segment(ACK, sequence, acknowledgment, data);
                let (mut plain, mut usual) = (before.sequences, before);
                if plain.note_plain(direction, &segment) {
                    plainly += 1;
                    assert!(usual.follow(direction, &segment, true), "{words:x?}, {direction:?}, {segment:x?}");
                    assert_eq!((usual.phase, usual.claims), (Phase::Established, claims));
                }
                let noted = if plain == before.sequences { before.sequences } else { usual.sequences };
                assert_eq!(plain, noted, "{words:x?}, {direction:?}, {segment:x?}");
            }
        }
    }
    assert!(plainly > 50_000, "{plainly}");
}
