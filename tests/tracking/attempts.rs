//! Attempts, refusals and what is over: rules of `docs/tcp.md` that the model of TCP (`testing/src/targets/model/tcp/`) found broken, or
//! about which there was a doubt. Each test is settled by what the two ends do.

use core::net::SocketAddrV4;

use byway::{Config, Event, Heap, Imported, InexactReset, Midstream, Protocol, Redivert, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// The numbers behind the SYNs, and those of an attempt within the conversation.
const C: u32 = CLIENT_START + 1;
const V: u32 = SERVER_START + 1;
const C2: u32 = 0x4000_0001;
const V2: u32 = 0x7000_0001;

struct Talk {
    t: Translator<Heap>,
    alternative: SocketAddrV4,
    server: SocketAddrV4,
}

impl Talk {
    /// Nothing but the client's SYN.
    fn opening() -> Self {
        Self::opening_with(config())
    }

    fn opening_with(config: Config) -> Self {
        let mut t = diverting(config);
        let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
        Self { t, alternative, server }
    }

    fn established() -> Self {
        let mut t = diverting(config());
        let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        Self { t, alternative, server }
    }

    /// Established, and the client has lost its state and sends a SYN.
    fn attempted() -> Self {
        let mut talk = Self::established();
        talk.client(SYN, C2 - 1, 0, b"");
        let _ = events(&mut talk.t);
        talk
    }

    #[track_caller]
    fn client(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) {
        there(&mut self.t, s(1), &client(flags, sequence, acknowledgment, data));
    }

    #[track_caller]
    fn server(&mut self, flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) {
        back(&mut self.t, s(1), &tcp(self.server, self.alternative, (flags, sequence, acknowledgment), data));
    }

    #[track_caller]
    fn is(&self, state: State) {
        assert_eq!(tcp_state(&self.t), Some(state));
    }

    /// The client acknowledges the server's SYN, and with these numbers both go on.
    #[track_caller]
    fn is_completed_with(&mut self, client: u32, server: u32) {
        self.client(ACK, client, server, b"");
        self.is(State::Established);
        assert_eq!(self.numbers(), [client, server, server, client]);
    }

    /// Sent by client and server, acknowledged by client and server.
    fn numbers(&self) -> [u32; 4] {
        let record = self.t.record(&connection(&self.t, Protocol::Tcp)).unwrap();
        [36, 40, 44, 48].map(|at| u32::from_be_bytes(record.as_bytes()[at..at + 4].try_into().unwrap()))
    }
}

fn client(flags: u8, sequence: u32, acknowledgment: u32, data: &[u8]) -> Vec<u8> {
    tcp(at(CLIENT), at(ORIGINAL), (flags, sequence, acknowledgment), data)
}

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
