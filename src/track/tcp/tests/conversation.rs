//! Numbers that fit and numbers that do not; FINs.

use super::*;

/// The table of phases by FINs, against its description in `docs/tcp.md`.
#[test]
fn every_cell_of_the_table_of_fins() {
    const FINS: [Fin; 4] = [Fin::None, Fin::Sent, Fin::InOrder, Fin::Acknowledged];
    for client in FINS {
        for server in FINS {
            let got = BY_FINS[client as usize][server as usize];
            let (client_done, server_done) = (client == Fin::Acknowledged, server == Fin::Acknowledged);
            let sure = |fin| fin == Fin::InOrder || fin == Fin::Acknowledged;
            let said = if client_done && server_done {
                Phase::TimeWait
            } else if sure(client) && sure(server) {
                Phase::Closing
            } else if client_done {
                Phase::ClientClosed
            } else if server_done {
                Phase::ServerClosed
            } else if client == Fin::None && server == Fin::None {
                Phase::Established
            } else {
                Phase::EstablishedPending
            };
            assert_eq!(got, said, "{client:?} {server:?}");
        }
    }
}

#[test]
fn where_a_segment_may_end() {
    for (end, fits) in [(C - W, true), (C - W - 1, false), (C + W - 1, true), (C + W, false), (C + (1 << 31), false)] {
        let mut tcp = established();
        assert_eq!(tcp.client(ACK, end, V, 0), fits, "{end}");
        assert_eq!(tcp.numbers()[0], if fits { end.max(C) } else { C }, "{end}");
        // And the server's.
        let mut tcp = established();
        let end = end.wrapping_sub(C).wrapping_add(V);
        assert_eq!(tcp.server(ACK, end, C, 0), fits, "{end}");
    }
}

#[test]
fn what_may_be_acknowledged() {
    const OVERTAKEN: u32 = 1 << 20;
    for (number, fits) in [(V, true), (V + 1, false), (V - OVERTAKEN, true), (V - OVERTAKEN - 1, false)] {
        let mut tcp = established();
        assert_eq!(tcp.client(ACK, C, number, 0), fits, "{number}");
        assert_eq!(tcp.numbers(), [C, V, V, C], "{number}");
    }
}

#[test]
fn without_ack_nothing_is_accepted() {
    for flags in [0, FIN] {
        changes_nothing(&established(), ToServer, segment(flags, C, V, 10));
        changes_nothing(&established(), ToClient, segment(flags, V, C, 10));
    }
}

#[test]
fn numbers_wrap() {
    // The client's numbers pass 2^32 within data, the server's with its SYN.
    let (client, server) = (0_u32.wrapping_sub(50), u32::MAX - 1);
    let mut tcp = Tcp { phase: Phase::Opening, sequences: Sequences::default(), claims: Claims::default() };
    assert!(tcp.client(SYN, client - 1, 0, 0) && tcp.server(SYN | ACK, server, client, 0));
    assert!(tcp.client(ACK, client, server.wrapping_add(1), 100));
    assert!(tcp.server(ACK, server.wrapping_add(1), 50, 100));
    assert_eq!(tcp.numbers(), [50, 99, server.wrapping_add(1), 50]);
    assert!(tcp.client(FIN | ACK, 50, 99, 0) && tcp.server(FIN | ACK, 99, 51, 0) && tcp.client(ACK, 51, 100, 0));
    assert_eq!(tcp.phase, Phase::TimeWait);
}

#[test]
fn a_fin_in_order_counts_when_it_is_acknowledged() {
    let mut tcp = established();
    assert!(tcp.client(FIN | ACK, C, V, 0));
    assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::InOrder, Fin::None]));
    assert!(tcp.server(ACK, V, C + 1, 0));
    assert_eq!(tcp.phase, Phase::ClientClosed);
    // Half-closed for as long as it lasts; in the end both are in order.
    assert!(tcp.server(ACK, V, C + 1, 1_000) && tcp.client(ACK, C + 1, V + 1_000, 0));
    assert!(tcp.server(FIN | ACK, V + 1_000, C + 1, 0));
    assert_eq!(tcp.phase, Phase::Closing);
    assert!(tcp.client(ACK, C + 1, V + 1_001, 0));
    assert_eq!(tcp.phase, Phase::TimeWait);
}

#[test]
fn the_server_closes_first() {
    let mut tcp = established();
    assert!(tcp.server(FIN | ACK, V, C, 0) && tcp.client(ACK, C, V + 1, 0));
    assert_eq!(tcp.phase, Phase::ServerClosed);
    assert!(tcp.client(FIN | ACK, C, V + 1, 0) && tcp.server(ACK, V + 1, C + 1, 0));
    assert_eq!(tcp.phase, Phase::TimeWait);
}

#[test]
fn both_close_at_once() {
    let mut tcp = established();
    assert!(tcp.client(FIN | ACK, C, V, 0) && tcp.server(FIN | ACK, V, C, 0));
    assert_eq!(tcp.phase, Phase::Closing);
    assert!(tcp.client(ACK, C + 1, V + 1, 0) && tcp.server(ACK, V + 1, C + 1, 0));
    assert_eq!(tcp.phase, Phase::TimeWait);
}

#[test]
fn a_fin_behind_unacknowledged_data_is_only_sent() {
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 100) && tcp.client(FIN | ACK, C + 100, V, 0));
    assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent, Fin::None]));
    // Two FINs that are only sent do not lead to `Closing`.
    assert!(tcp.server(ACK, V, C, 100) && tcp.server(FIN | ACK, V + 100, C, 0));
    assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent, Fin::Sent]));
    assert!(tcp.server(ACK, V + 101, C + 101, 0));
    assert_eq!(tcp.phase, Phase::ClientClosed);
    // Once acknowledged it stays, and nothing comes after it.
    assert!(!tcp.client(ACK, C + 101, V, 1));
    assert_eq!((tcp.phase, tcp.numbers()[0]), (Phase::ClientClosed, C + 101));
}

#[test]
fn a_fin_is_forgotten_when_more_comes() {
    let mut tcp = established();
    assert!(tcp.client(FIN | ACK, C + 500, V, 0));
    assert_eq!((tcp.fins()[0], tcp.numbers()[0]), (Fin::Sent, C + 501));
    assert!(tcp.client(ACK, C + 501, V, 1));
    assert_eq!((tcp.phase, tcp.fins()[0]), (Phase::Established, Fin::None));
    // A FIN in order says where its side ends, whatever was noted after it.
    assert!(tcp.client(FIN | ACK, C, V, 20));
    assert_eq!((tcp.fins()[0], tcp.numbers()[0]), (Fin::InOrder, C + 21));
    // A FIN within what was sent, neither in order nor at the end, means nothing.
    let mut tcp = established();
    assert!(tcp.client(ACK, C, V, 100) && tcp.client(FIN | ACK, C + 10, V, 10));
    assert_eq!(tcp.fins()[0], Fin::None);
}

#[test]
fn one_way_only() {
    // Nothing is heard of the server here, and no record confirms that it was heard elsewhere.
    let mut tcp = Tcp::resume(Phase::Opened, opened().sequences, [Fin::None; 2], false);
    assert!(tcp.client(ACK, C, V, 0));
    tcp.claims.set_heard(ToClient, false);
    assert!(tcp.client(ACK, C, V + W - 1, 0), "what went past us");
    assert_eq!(tcp.numbers()[1], V + W - 1);
    assert_eq!(tcp.phase, Phase::EstablishedPending);
    assert!(tcp.client(FIN | ACK, C, V + W - 1, 0));
    assert_eq!(tcp.phase, Phase::ClientClosed);
    let mut far = tcp;
    assert!(!far.client(ACK, C + 1, V + W - 1 + W, 0), "a window more is too far");
    // A record confirms that both sides were heard: a FIN counts when it is acknowledged.
    let mut tcp = Tcp::resume(Phase::Established, established().sequences, [Fin::None; 2], true);
    assert!(tcp.client(FIN | ACK, C, V, 0));
    assert_eq!(tcp.phase, Phase::EstablishedPending);
}

#[test]
fn a_record_tells_of_fins() {
    let resumed = |phase, fins| Tcp::resume(phase, established().sequences, fins, true).fins();
    // A record of an older version: as the phase says.
    assert_eq!(resumed(Phase::ClientClosed, [Fin::None; 2]), [Fin::Acknowledged, Fin::None]);
    assert_eq!(resumed(Phase::ServerClosed, [Fin::None; 2]), [Fin::None, Fin::Acknowledged]);
    // A FIN of a portion that sees one way only counts as acknowledged, as the phase says.
    let mut ahead = established();
    assert!(ahead.client(ACK, C, V, 100) && ahead.client(FIN | ACK, C + 100, V, 0));
    let tcp = Tcp::resume(Phase::ClientClosed, ahead.sequences, [Fin::Sent, Fin::None], false);
    assert_eq!((tcp.phase, tcp.fins()), (Phase::ClientClosed, [Fin::Acknowledged, Fin::None]));
}

/// A connection gets its own record while the server's FIN is in flight, after the number 0, which the client has
/// acknowledged: a zero is not always an unknown number.
#[test]
fn an_acknowledgement_of_zero_outlives_a_record() {
    let mut tcp = opening();
    assert!(tcp.server(SYN | ACK, u32::MAX, C, 0) && tcp.client(ACK, C, 0, 0));
    assert!(tcp.server(ACK, 0, C, 100) && tcp.server(FIN | ACK, 100, C, 0));
    let before = (tcp.phase, tcp.fins(), tcp.numbers());
    assert_eq!(before, (Phase::EstablishedPending, [Fin::None, Fin::Sent], [C, 101, 0, C]));
    let own = Tcp::resume(tcp.phase, tcp.sequences, tcp.fins(), true);
    tcp.join(&own);
    assert_eq!((tcp.phase, tcp.fins(), tcp.numbers()), before);
    // Where only one side was heard, zero means unknown.
    let half = Tcp::resume(tcp.phase, tcp.sequences, tcp.fins(), false);
    assert_eq!(half.numbers(), [C, 101, 101, C]);
}

/// A fragment with a forged FIN must not make the connection look as if only one side were seen.
#[test]
fn a_fragment_is_no_sign_of_another_way() {
    let mut tcp = established();
    for direction in [ToServer, ToClient] {
        let (mine, theirs) = if direction == ToServer { (C, V) } else { (V, C) };
        // Within the window, and after everything.
        assert!(tcp.follow(direction, &segment(FIN | ACK, mine + 5_000, theirs, 8), false));
    }
    assert_eq!((tcp.phase, tcp.fins()), (Phase::EstablishedPending, [Fin::Sent; 2]));
    // The rest of the fragmented segment may be acknowledged.
    let mut tcp = established();
    assert!(tcp.follow(ToServer, &segment(ACK, C, V, 8), false));
    assert!(tcp.server(ACK, V, C + 1_400, 0));
    assert_eq!(tcp.numbers()[0], C + 1_400);
}

#[test]
fn adopted_until_the_server_is_heard() {
    let mut tcp = adopted();
    assert!(tcp.client(FIN | ACK, C + 10, V, 0));
    assert_eq!(tcp.phase, Phase::Adopted);
    assert!(tcp.server(ACK, V, C + 11, 0));
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::ClientClosed, [C + 11, V, V, C + 11]));
    let mut tcp = adopted();
    assert!(tcp.server(ACK, V, C + 10, 50));
    assert_eq!(tcp.phase, Phase::Established);
}

/// The client continues at `far` (its segments end there), and the server acknowledges that, `times` times.
fn agree(tcp: &mut Tcp, times: u32, far: u32) {
    for time in 0..times {
        assert!(!tcp.client(ACK, far + time * 10, V + W + 5, 0));
        assert!(tcp.server(ACK, V, far + time * 10, 0), "{time}");
    }
}

#[test]
fn three_agreements_make_numbers_known() {
    let far = C + (1 << 30);
    let mut tcp = established();
    agree(&mut tcp, 2, far);
    assert_eq!(tcp.numbers(), [C, V, V, C]);
    agree(&mut tcp, 1, far + 100);
    assert_eq!(tcp.numbers(), [far + 100, V, V, far + 100]);
    assert_eq!((tcp.client_resets(far + 100), tcp.client_resets(C)), (Reset::Exact, Reset::Inexact));
}

#[test]
fn one_side_alone_agrees_with_nobody() {
    let mut tcp = established();
    for number in 0..100 {
        assert!(!tcp.client(FIN | ACK, C + (1 << 30) + number, V + (1 << 30), 10));
        assert!(!{ tcp }.server(ACK, V, C + (1 << 29), 0));
    }
    assert_eq!((tcp.phase, tcp.numbers()), (Phase::Established, [C, V, V, C]));
    assert_eq!([tcp.claims.agreed(ToServer), tcp.claims.agreed(ToClient)], [0; 2]);
}

#[test]
fn how_exactly_an_agreement_agrees() {
    let far = C + (1 << 30);
    // Whether it counts, whether it is a sign of life by itself, and whether the claim is left.
    for (number, agrees, alive, left) in [
        (far, true, true, false),
        (far + 1, true, true, false),
        (far + 2, true, false, false),
        (far + AT_ONCE - 1, true, false, false),
        (far + AT_ONCE, false, false, false),
        (far - 1, false, false, true),
        (far - W, false, false, true),
        (far - W - 1, false, false, false),
    ] {
        let mut tcp = established();
        agree(&mut tcp, 1, far - 100);
        assert!(!tcp.client(ACK, far, V + W + 5, 0));
        assert_eq!(tcp.server(ACK, V, number, 0), alive, "{number}");
        assert_eq!(tcp.claims.numbers[0] != 0, left, "{number}");
        // An acknowledgement that disagrees ends the series; one that has not got that far does not.
        assert_eq!(tcp.claims.agreed(ToServer), if agrees { 2 } else { u32::from(left) }, "{number}");
    }
    // The third one is a sign of life in any case.
    let mut tcp = established();
    agree(&mut tcp, 2, far - 100);
    assert!(!tcp.client(ACK, far, V + W + 5, 0));
    assert!(tcp.server(ACK, V, far + AT_ONCE - 1, 0));
}
