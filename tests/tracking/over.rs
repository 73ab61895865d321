//! FINs, and what is over: rules of `docs/tcp.md` that the model of TCP (`testing/src/targets/model/tcp/`) found broken, or about
//! which there was a doubt. Each test is settled by what the two ends do.

use byway::{Divert, Event, Heap, Imported, Midstream, Protocol, Redivert, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

use super::segments::{C, C2, Talk, V, V2, client};

/// Nothing comes behind a FIN that was acknowledged. Where one way leads past the translator an acknowledgement is believed
/// to cover what went there; but not that of a segment which its receiver does not accept.
#[test]
fn what_comes_behind_a_fin_moves_no_number() {
    let mut t = diverting(config().midstream(Midstream::Adopt));
    let (alternative, server) = ends(&there(&mut t, s(0), &client(FIN | ACK, C, V, b"")));
    let mut talk = Talk { t, alternative, server };
    let before = talk.numbers();
    talk.client(ACK, C + 1, V + 5_000, b"behind the FIN");
    assert_eq!(talk.numbers(), before);
    // What ends at the FIN tells of more.
    talk.client(ACK, C + 1, V + 5_000, b"");
    assert_eq!(talk.numbers(), [C + 1, V + 5_000, V + 5_000, C]);
}

/// The RST that ends the connection overtakes the answer to the client's new SYN. It is told as what it is now.
#[test]
fn a_connection_that_opens_again_is_told_to_be_opened() {
    let mut talk = Talk::attempted();
    talk.client(RST, C, 0, b"");
    talk.is(State::TimeWait);
    let opened = talk.t.counters().opened;
    let _ = events(&mut talk.t);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    let told = events(&mut talk.t);
    assert!(matches!(told.as_slice(), [Event::Opened(c)] if c.state == State::Opened), "{told:?}");
    assert_eq!(talk.t.counters().opened, opened + 1);
    talk.is_completed_with(C2, V2);
}

/// The entry of its server may be another server's by then: what it says from now on is measured of nobody.
#[test]
fn a_connection_that_opens_again_is_measured_of_no_other_server() {
    let mut t = Translator::new(config(), Heap::new(64, 8).measured()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let mut talk = Talk { t, alternative, server };
    talk.client(SYN, C2 - 1, 0, b"");
    talk.client(RST, C, 0, b"");
    talk.is(State::TimeWait);
    talk.t.remove(at(ORIGINAL)).unwrap();
    talk.t.divert(Divert::new(at("100.100.100.101:80")).to(at(OTHER))).unwrap();
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(ACK, C2, V2, b"");
    talk.server(ACK, V2, C2, b"data");
    talk.is(State::Established);
    let other = talk.t.measurements_of(at(OTHER)).unwrap();
    assert_eq!([other.to_server, other.to_client].map(|t| t.packets), [0, 0]);
    assert_eq!((other.connections, other.established, other.response.count()), (0, 0, 0));
    let opened = talk.t.connections().next_measured().unwrap().1.unwrap();
    assert_eq!(opened.to_client.packets, 3);
}

/// A connection that is over is not moved by a re-divert. Opened again it would go on where nobody wants it.
#[test]
fn a_connection_that_is_left_behind_does_not_open_again() {
    let mut talk = Talk::attempted();
    talk.client(RST, C, 0, b"");
    talk.t.redivert(at(SERVER), at(OTHER), Redivert::Switch).unwrap();
    let _ = events(&mut talk.t);
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.is(State::TimeWait);
    assert_eq!(events(&mut talk.t), []);
    // The client's next SYN opens where the rule leads now.
    let sent = there(&mut talk.t, s(2), &client(SYN, C2 - 1, 0, b""));
    assert_eq!(ends(&sent).1, at(OTHER));
}

/// Both FINs are acknowledged while an attempt waits.
fn finished_with_an_attempt() -> Talk {
    let mut talk = Talk::attempted();
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(FIN | ACK, C, V, b"");
    talk.server(FIN | ACK, V, C + 1, b"");
    talk.client(ACK, C + 1, V + 1, b"");
    talk.is(State::TimeWait);
    talk
}

/// A FIN that comes again is about the connection that is over: whoever sends it is in LAST-ACK or CLOSING.
#[test]
fn a_repeated_fin_does_not_open_again() {
    let mut talk = finished_with_an_attempt();
    talk.server(FIN | ACK, V, C + 1, b"");
    talk.client(FIN | ACK, C, V + 1, b"");
    talk.is(State::TimeWait);
}

/// A server that repeats its SYN+ACK behind both FINs is in SYN-RECEIVED (it may take a SYN in TIME-WAIT, RFC 9293, section
/// 3.10.7.4), and waits for the client.
#[test]
fn a_repeated_syn_ack_opens_again_what_both_have_closed() {
    let mut talk = finished_with_an_attempt();
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.is(State::Opened);
    talk.client(ACK, C2, V2, b"");
    talk.is(State::Established);
}

/// What the server says after the end and nobody has asked for is of no use: nothing of the client completes it, its next
/// SYN opens as ever, and the end comes in time.
#[test]
fn a_syn_ack_after_the_end_that_answers_nothing_changes_nothing() {
    let mut talk = Talk::established();
    talk.client(RST, C, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.client(ACK, C2, V2, b"");
    talk.is(State::TimeWait);
    let (alternative, server) = ends(&there(&mut talk.t, s(2), &client(SYN, C2 - 1, 0, b"")));
    back(&mut talk.t, s(2), &tcp(server, alternative, (SYN | ACK, V2 - 1, C2), b""));
    there(&mut talk.t, s(2), &client(ACK, C2, V2, b""));
    talk.is(State::Established);
    // And one that stays alone.
    let mut talk = Talk::established();
    talk.client(RST, C, 0, b"");
    for second in 2..400 {
        let syn_ack = tcp(talk.server, talk.alternative, (SYN | ACK, V2 - 1, C2), b"");
        let _ = verdict(&mut talk.t, s(second), &syn_ack);
        talk.t.poll(s(second));
    }
    assert_eq!(tcp_state(&talk.t), None, "nothing of it is a sign of life");
}

/// Two portions, each of which sees one way. The client's sees that the server's FIN is acknowledged, and the client's own FIN,
/// but nothing that acknowledges that: it is as sure as a RST, and what is left is transitory, but it is not over.
#[test]
fn the_second_fin_that_portions_see_is_as_in_order() {
    let mut one = diverting(config());
    let mut two = diverting(config());
    let tell = |from: &Translator<Heap>, to: &mut Translator<Heap>, how: Imported| {
        let record = from.record(&connection(from, Protocol::Tcp)).unwrap();
        assert_eq!(to.import(s(1), &record), Ok(how));
    };
    let (alternative, server) = ends(&there(&mut one, s(1), &client(SYN, CLIENT_START, 0, b"")));
    tell(&one, &mut two, Imported::New);
    back(&mut two, s(1), &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
    tell(&two, &mut one, Imported::Updated);
    there(&mut one, s(1), &client(ACK, C, V, b""));
    tell(&one, &mut two, Imported::Updated);
    assert_eq!([tcp_state(&one), tcp_state(&two)], [Some(State::Established); 2]);

    back(&mut two, s(1), &tcp(server, alternative, (FIN | ACK, V, C), b""));
    tell(&two, &mut one, Imported::Updated);
    there(&mut one, s(1), &client(ACK, C, V + 1, b""));
    assert_eq!(tcp_state(&one), Some(State::ServerClosed));
    there(&mut one, s(1), &client(FIN | ACK, C, V + 1, b""));
    assert_eq!(tcp_state(&one), Some(State::Closing), "not over yet");
    tell(&one, &mut two, Imported::Updated);
    assert_eq!(tcp_state(&two), Some(State::Closing));
    // The server's last ACK shows its portion that the client's has arrived.
    let last = verdict(&mut two, s(1), &tcp(server, alternative, (ACK, V + 1, C + 1), b""));
    assert_eq!((last, tcp_state(&two)), (Verdict::ToClient, Some(State::TimeWait)));
}

/// The client has aborted one attempt over a half-closed connection and begun another. Both SYNs arrive in the wrong
/// order, and both are answered. The client's RST about the first answer ends what the translator knows; the second one
/// goes on, and is known once both ends have agreed.
#[test]
fn ends_that_go_on_after_the_reset_of_another_attempt_are_known_again() {
    let mut talk = Talk::established();
    talk.client(FIN | ACK, C, V, b"");
    talk.server(ACK, V, C + 1, b"");
    talk.is(State::ClientClosed);
    let (late, late_answer) = (C2 + (1 << 28), V2 + (1 << 28));
    talk.client(SYN, C2 - 1, 0, b"");
    talk.client(SYN, late - 1, 0, b"");
    talk.server(SYN | ACK, late_answer - 1, late, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    let _ = events(&mut talk.t);
    talk.client(RST, late, 0, b"");
    talk.is(State::TimeWait);
    let opened = talk.t.counters().opened;
    for sent in 0..8 {
        talk.client(ACK, C2, V2 + sent, b"");
        talk.server(ACK, V2 + sent, C2, b"x");
    }
    talk.is(State::Established);
    assert_eq!(talk.numbers(), [C2, V2 + 8, V2 + 7, C2]);
    assert_eq!(talk.t.counters().opened, opened + 1);
    let told = events(&mut talk.t);
    assert!(told.iter().any(|event| matches!(event, Event::Opened(_))), "{told:?}");
}

/// The client aborts behind its FIN and begins anew, and the server answers that. Only then arrives what the server had said
/// before: it acknowledges the FIN of the old connection, the last one of both. What the client completes now looks like
/// something late; but the ends of the new connection agree on their numbers, and then it is known.
#[test]
fn ends_that_go_on_after_both_fins_of_another_connection_are_known_again() {
    let mut talk = Talk::established();
    talk.server(FIN | ACK, V, C, b"");
    talk.client(ACK, C, V + 1, b"");
    // Its last data, and a RST behind it.
    talk.client(FIN | ACK, C + 100, V + 1, b"last");
    talk.client(ACK, C, V + 1, &[7; 100]);
    talk.client(RST | ACK, C + 105, V + 1, b"");
    talk.is(State::Doubtful);
    talk.client(SYN, C2 - 1, 0, b"");
    talk.server(SYN | ACK, V2 - 1, C2, b"");
    talk.server(ACK, V + 1, C + 105, b"");
    talk.is(State::TimeWait);
    talk.client(ACK, C2, V2, b"");
    let (mut client_next, mut server_next) = (C2, V2);
    for _ in 0..12 {
        talk.client(ACK, client_next, server_next, &[7; 100]);
        client_next += 100;
        talk.server(ACK, server_next, client_next, &[7; 100]);
        server_next += 100;
    }
    talk.client(ACK, client_next, server_next, b"");
    talk.is(State::Established);
    assert_eq!(talk.numbers(), [client_next, server_next, server_next, client_next]);
    assert_eq!((talk.t.counters().opened, talk.t.counters().closed), (2, 1));
    // What comes late of the old one, or again, is none of it.
    let mut over = Talk::established();
    over.client(FIN | ACK, C, V, b"");
    over.server(FIN | ACK, V, C + 1, b"");
    over.client(ACK, C + 1, V + 1, b"");
    for _ in 0..12 {
        over.client(ACK, C, V, b"");
        over.server(ACK, V, C, b"");
        over.client(FIN | ACK, C, V, b"");
        over.server(FIN | ACK, V, C + 1, b"");
    }
    over.is(State::TimeWait);
}
