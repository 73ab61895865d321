//! What is made of TCP: RFC 5382, RFC 5961, RFC 7857, RFC 9293.

use byway::{Closed, Config, DropReason, Event, Heap, InexactReset, Instant, Midstream, Protocol, State, Translator};
use byway::{Verdict, Verdict::Drop};
use byway_testing::talk::*;
use byway_testing::*;

/// What the client says next, and what the server says next, after [`connect`].
const C: u32 = CLIENT_START + 1;
const V: u32 = SERVER_START + 1;

/// One connection, and short words for what its ends say.
struct Talk {
    t: Translator<Heap>,
    alternative: core::net::SocketAddrV4,
    server: core::net::SocketAddrV4,
    now: Instant,
}

impl Talk {
    /// Only the client's SYN has been seen.
    fn opening(config: Config) -> Self {
        let mut t = diverting(config);
        let seen = there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (SYN, CLIENT_START, 0), b""));
        let (alternative, server) = ends(&seen);
        Self { t, alternative, server, now: s(0) }
    }

    fn established(config: Config) -> Self {
        let mut talk = Self::opening(config);
        talk.server((SYN | ACK, SERVER_START, C), b"");
        talk.client((ACK, C, V), b"");
        talk.is(State::Established);
        talk
    }

    #[track_caller]
    fn client(&mut self, segment: (u8, u32, u32), data: &[u8]) {
        let seen = there(&mut self.t, self.now, &tcp(at(CLIENT), at(ORIGINAL), segment, data));
        assert_eq!(seen, tcp(self.alternative, self.server, segment, data), "all but the addresses stays as it is");
    }

    #[track_caller]
    fn server(&mut self, segment: (u8, u32, u32), data: &[u8]) {
        let seen = back(&mut self.t, self.now, &tcp(self.server, self.alternative, segment, data));
        assert_eq!(seen, tcp(at(ORIGINAL), at(CLIENT), segment, data), "all but the addresses stays as it is");
    }

    fn verdict_on_server(&mut self, segment: (u8, u32, u32)) -> Verdict {
        verdict(&mut self.t, self.now, &tcp(self.server, self.alternative, segment, b""))
    }

    #[track_caller]
    fn is(&self, state: State) {
        assert_eq!(tcp_state(&self.t), Some(state));
    }
}

/// RFC 5382, REQ-2: the handshake in three steps.
#[test]
fn a_handshake() {
    let mut talk = Talk::opening(config());
    talk.is(State::Opening);
    // A SYN that was lost comes again.
    talk.client((SYN, CLIENT_START, 0), b"");
    talk.is(State::Opening);
    talk.server((SYN | ACK, SERVER_START, C), b"");
    talk.is(State::Opened);
    talk.server((SYN | ACK, SERVER_START, C), b"");
    talk.is(State::Opened);
    talk.client((ACK, C, V), b"");
    talk.is(State::Established);
    // Late copies change nothing.
    talk.server((SYN | ACK, SERVER_START, C), b"");
    talk.client((ACK, C, V), b"");
    talk.is(State::Established);
    assert_eq!((talk.t.connections().count(), talk.t.counters().opened), (1, 1));
}

/// RFC 5382, REQ-2a: both ends open at once.
#[test]
fn a_simultaneous_open() {
    let mut talk = Talk::opening(config());
    talk.server((SYN, SERVER_START, 0), b"");
    talk.is(State::Opened);
    talk.client((SYN | ACK, CLIENT_START, V), b"");
    talk.server((SYN | ACK, SERVER_START, C), b"");
    talk.client((ACK, C, V), b"");
    talk.is(State::Established);
    assert_eq!(talk.t.connections().count(), 1);
}

/// One side may go on sending for long after the other has said good-bye (RFC 5382, REQ-2).
#[test]
fn half_closed_for_two_hours() {
    for client_first in [true, false] {
        let mut talk = Talk::established(config());
        let (mut c, mut v) = (C, V);
        if client_first {
            talk.client((FIN | ACK, c, v), b"");
            c += 1;
            talk.server((ACK, v, c), b"");
            talk.is(State::ClientClosed);
        } else {
            talk.server((FIN | ACK, v, c), b"");
            v += 1;
            talk.client((ACK, c, v), b"");
            talk.is(State::ServerClosed);
        }
        for turn in 1..=3 {
            talk.now = s(7_400 * turn);
            if client_first {
                talk.server((ACK, v, c), &[1; 500]);
                v += 500;
                talk.client((ACK, c, v), b"");
            } else {
                talk.client((ACK, c, v), &[1; 500]);
                c += 500;
                talk.server((ACK, v, c), b"");
            }
        }
        if client_first {
            talk.server((FIN | ACK, v, c), b"");
            talk.is(State::Closing);
            talk.client((ACK, c, v + 1), b"");
        } else {
            talk.client((FIN | ACK, c, v), b"");
            talk.is(State::Closing);
            talk.server((ACK, v, c + 1), b"");
        }
        talk.is(State::TimeWait);
        assert_eq!((talk.t.counters().closed, talk.t.connections_on(at(SERVER))), (1, 0));
    }
}

/// Both FINs cross on the way; FINs come twice; an ACK for half of it ends nothing.
#[test]
fn a_simultaneous_close_with_repetitions() {
    let mut talk = Talk::established(config());
    talk.client((FIN | ACK, C, V), b"last words");
    talk.server((FIN | ACK, V, C), b"");
    talk.is(State::Closing);
    talk.server((FIN | ACK, V, C), b"");
    talk.client((FIN | ACK, C, V), b"last words");
    talk.is(State::Closing);
    talk.server((ACK, V + 1, C + 10), b"");
    talk.client((ACK, C + 11, V + 1), b"");
    talk.is(State::Closing);
    talk.server((ACK, V + 1, C + 11), b"");
    talk.is(State::TimeWait);
    // Stragglers are still seen to, and end nothing twice.
    talk.server((FIN | ACK, V, C), b"");
    talk.client((ACK, C + 11, V + 1), b"");
    talk.is(State::TimeWait);
    assert_eq!(talk.t.counters().closed, 1);
}

/// Sequence numbers wrap within a connection as they like.
#[test]
fn numbers_wrap_and_zero_is_a_number_too() {
    for start in [u32::MAX, u32::MAX - 1, u32::MAX - 2, u32::MAX - 500, 0x7fff_fff0] {
        let mut t = diverting(config());
        let client = |f, q: u32, a: u32| tcp(at(CLIENT), at(ORIGINAL), (f, q, a), b"");
        let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, start, 0)));
        let said = |f, q: u32, a: u32, data: &[u8]| tcp(server, alternative, (f, q, a), data);
        let c = start.wrapping_add(1);
        let mut v = start.wrapping_add(1);
        back(&mut t, s(0), &said(SYN | ACK, start, c, b""));
        there(&mut t, s(0), &client(ACK, c, v));
        assert_eq!(tcp_state(&t), Some(State::Established), "{start}");
        for _ in 0..5 {
            back(&mut t, s(0), &said(ACK, v, c, &[0; 300]));
            v = v.wrapping_add(300);
            there(&mut t, s(0), &client(ACK, c, v));
        }
        there(&mut t, s(0), &client(FIN | ACK, c, v));
        back(&mut t, s(0), &said(FIN | ACK, v, c.wrapping_add(1), b""));
        there(&mut t, s(0), &client(ACK, c.wrapping_add(1), v.wrapping_add(1)));
        // A number of exactly zero is not told from an unknown one: the connection then ends by its time-out.
        if ![c.wrapping_add(1), v.wrapping_add(1)].contains(&0) {
            assert_eq!(tcp_state(&t), Some(State::TimeWait), "{start}");
        }
    }
}

/// RFC 5961, section 3, and RFC 7857, section 2.2: only the RST with exactly the expected number ends a connection.
#[test]
fn only_the_exact_reset_ends_a_connection() {
    for policy in [InexactReset::Pass, InexactReset::Drop] {
        for (sequence, exact) in [
            (V, true),
            (V - 1, false),
            (V + 1, false),
            (0, false),
            (42, false),
            (1_000_000, false),
            (V + 65_535, false),
            (V.wrapping_add(0x8000_0000), false),
            (u32::MAX, false),
        ] {
            for flags in [RST, RST | ACK] {
                let mut talk = Talk::established(config().inexact_reset(policy));
                let got = talk.verdict_on_server((flags, sequence, C));
                let due = match policy {
                    InexactReset::Drop if !exact => Drop(DropReason::InexactReset),
                    _ => Verdict::ToClient,
                };
                assert_eq!(got, due, "{policy:?} {sequence}");
                if exact {
                    talk.is(State::TimeWait);
                    assert_eq!((talk.t.counters().reset, talk.t.connections_on(at(SERVER))), (1, 0));
                    continue;
                }
                talk.is(State::Established);
                assert_eq!((talk.t.counters().reset, talk.t.connections_on(at(SERVER))), (0, 1));
                talk.now = s(200);
                talk.client((ACK, C, V), b"still alive");
                talk.is(State::Established);
                talk.now = s(7_600);
                talk.server((ACK, V, C + 11), b"so am I");
            }
        }
    }
}

#[test]
fn a_clients_reset_is_judged_in_the_same_way() {
    for (sequence, state) in [(C, State::TimeWait), (C + 1, State::Established), (C - 1, State::Established)] {
        let mut talk = Talk::established(config());
        talk.client((RST, sequence, 0), b"");
        talk.is(state);
    }
    // What was sent and not acknowledged is not what the server surely expects.
    let mut talk = Talk::established(config());
    talk.client((ACK, C, V), &[1; 100]);
    talk.client((RST, C + 100, 0), b"");
    talk.is(State::Doubtful);
    talk.server((ACK, V, C + 100), b"");
    talk.is(State::Established);
    talk.client((RST, C + 100, 0), b"");
    talk.is(State::TimeWait);
}

/// A RST ends half-closed connections as well; one that is over is over.
#[test]
fn a_reset_in_every_state() {
    let mut talk = Talk::established(config());
    talk.client((FIN | ACK, C, V), b"");
    talk.server((ACK, V, C + 1), b"");
    talk.server((RST, V + 5, 0), b"");
    talk.is(State::ClientClosed);
    talk.server((RST, V, 0), b"");
    talk.is(State::TimeWait);
    talk.server((RST, V, 0), b"");
    talk.client((RST, C + 1, 0), b"");
    talk.is(State::TimeWait);
    assert_eq!(talk.t.counters().reset, 1);
    let told = events(&mut talk.t);
    assert_eq!(told.iter().filter(|e| matches!(e, Event::Closed { why: Closed::Reset, .. })).count(), 1);
}

/// A refused connection (RFC 9293, section 3.10.7.3): the RST must acknowledge the SYN.
#[test]
fn a_refusal() {
    let mut talk = Talk::opening(config());
    talk.server((RST | ACK, 0, C + 1), b"");
    talk.server((RST | ACK, 0, CLIENT_START), b"");
    talk.server((RST, C, 0), b"");
    talk.is(State::Opening);
    talk.server((RST | ACK, 0, C), b"");
    talk.is(State::TimeWait);
    // The client tries again at once, from the same port.
    talk.alternative = ends(&there(&mut talk.t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 9, 0), b""))).0;
    talk.is(State::Opening);
    assert_eq!((talk.t.counters().opened, talk.t.counters().reset), (2, 1));
    // The client itself may give up.
    talk.client((RST, 10, 0), b"");
    talk.is(State::TimeWait);
}

/// The challenge ACK and what follows it (RFC 5961, section 4): a client that lost its state begins anew on a port
/// that the server still knows.
#[test]
fn a_fresh_syn_on_a_connection_that_the_server_still_knows() {
    let mut talk = Talk::established(config());
    talk.client((SYN, 0x7000_0000, 0), b"");
    talk.is(State::Established);
    // The server challenges with what it expects; the client says RST with exactly that.
    talk.server((ACK, V, C), b"");
    talk.is(State::Established);
    talk.client((RST, C, 0), b"");
    talk.is(State::TimeWait);
    // The SYN comes again, and opens a connection.
    let seen = there(&mut talk.t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 0x7000_0000, 0), b""));
    talk.alternative = ends(&seen).0;
    talk.server((SYN | ACK, 0x2000_0000, 0x7000_0001), b"");
    talk.client((ACK, 0x7000_0001, 0x2000_0001), b"");
    talk.is(State::Established);
    talk.server((RST, 0x2000_0001, 0), b"");
    talk.is(State::TimeWait);
}

/// A SYN that a stranger forges changes nothing.
#[test]
fn a_syn_in_the_middle_changes_nothing() {
    for sequence in [0, C, C + 1_000, 0x7000_0000, 0xf000_0000] {
        let mut talk = Talk::established(config());
        talk.client((SYN, sequence, 0), b"");
        talk.server((ACK, V, C), b"");
        talk.is(State::Established);
        talk.client((ACK, C, V), b"data");
        talk.server((ACK, V, C + 4), b"");
        talk.server((RST, V, 0), b"");
        talk.is(State::TimeWait);
    }
}

/// After TIME-WAIT a lone late segment revives nothing; a SYN of the client does (RFC 9293, section 3.6.1).
#[test]
fn only_the_clients_syn_begins_anew_after_the_end() {
    let mut talk = Talk::established(config());
    talk.client((FIN | ACK, C, V), b"");
    talk.server((FIN | ACK, V, C + 1), b"");
    talk.client((ACK, C + 1, V + 1), b"");
    talk.is(State::TimeWait);
    for segment in [(ACK, V, C + 1), (SYN, 77, 0), (SYN | ACK, 77, C + 1), (FIN | ACK, V, C + 1)] {
        talk.server(segment, b"");
        talk.is(State::TimeWait);
    }
    talk.client((ACK, C + 1, V + 1), b"");
    talk.is(State::TimeWait);
    there(&mut talk.t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, 99, 0), b""));
    talk.is(State::Opening);
    assert_eq!((talk.t.connections().count(), talk.t.counters().opened), (1, 2));
}

/// RFC 5382, REQ-4, and a known fault of a widely used tracker: what comes from the server's side first never makes an
/// entry, and never the wrong way round.
#[test]
fn the_server_cannot_open_a_connection() {
    let mut t = diverting(config().midstream(Midstream::Adopt));
    for port in [1024, 40_000, 65_535] {
        let own = core::net::SocketAddrV4::new(ip(ALTERNATIVE), port);
        for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST, 0] {
            let segment = tcp(at(SERVER), own, (flags, 1, 1), b"");
            assert_eq!(verdict(&mut t, s(0), &segment), Drop(DropReason::NoConnection), "{flags}");
        }
    }
    // Towards the client itself it is none of ours.
    let direct = tcp(at(SERVER), at(CLIENT), (ACK, 1, 1), b"");
    assert_eq!(verdict(&mut t, s(0), &direct), Verdict::Pass);
    assert_eq!((t.slots_in_use(), t.counters().opened), (0, 0));
    assert!(say(&mut t, s(0)).is_empty(), "it is dropped in silence");
    // The state is lost while both go on: the server's segment comes first, then the client's is adopted.
    let seen = there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (ACK, C, V), b"go on"));
    assert_eq!(ends(&seen).1, at(SERVER));
    assert_eq!(tcp_state(&t), Some(State::Established));
    let found = t.connections().next().unwrap();
    assert_eq!((found.client_side.source, found.original()), (at(CLIENT), at(ORIGINAL)));
}

#[test]
fn a_segment_from_the_middle_is_treated_as_configured() {
    let segments = [(ACK, 7, 7), (FIN | ACK, 7, 7), (SYN | ACK, 7, 7), (RST, 7, 0), (RST | ACK, 7, 7), (0, 7, 7)];
    for (policy, due) in [
        (Midstream::Pass, [Verdict::Pass; 6]),
        (Midstream::Drop, [Drop(DropReason::Midstream); 6]),
        // What is no part of a conversation begins none.
        (Midstream::Adopt, {
            let mut due = [Verdict::Pass; 6];
            due[0] = Verdict::ToServer;
            due[1] = Verdict::ToServer;
            due
        }),
    ] {
        for (segment, due) in segments.into_iter().zip(due) {
            let mut t = diverting(config().midstream(policy));
            let packet = tcp(at(CLIENT), at(ORIGINAL), segment, b"");
            assert_eq!(verdict(&mut t, s(0), &packet), due, "{policy:?} {segment:?}");
            assert_eq!(t.connections().count(), usize::from(due == Verdict::ToServer));
        }
    }
}

/// The same port to three destinations: three mappings, one client (RFC 5382, REQ-1 and REQ-7; RFC 7857, section 5:
/// TCP and UDP are apart).
#[test]
fn one_client_port_to_many_destinations_and_two_protocols() {
    let mut t = translator(config());
    t.divert(byway::Divert::new(byway::Prefix::ALL)).unwrap();
    let originals = ["8.8.8.8:53", "8.8.8.8:80", "9.9.9.9:53"].map(at);
    let mut seen = Vec::new();
    for original in originals {
        seen.push((6, connect(&mut t, s(0), at(CLIENT), original)));
        seen.push((17, ask_and_answer(&mut t, s(0), at(CLIENT), original)));
    }
    let all: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(all.len(), 6);
    assert_eq!(t.connections().count(), 6);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(t.connections().filter(|c| c.protocol == protocol).count(), 3);
    }
}

/// Options, urgent data, and all flags there are pass as they are.
#[test]
fn what_is_not_looked_at_stays() {
    let mut talk = Talk::established(config());
    for flags in 0..=255_u8 {
        if flags & (SYN | FIN | RST) == 0 {
            talk.client((flags, C, V), b"x");
            talk.server((flags, V, C), b"");
        }
    }
    let mut with_options = tcp(at(CLIENT), at(ORIGINAL), (ACK, C, V), &[1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7, 9, 9]);
    with_options[32] = 8 << 4;
    fill_checksums(&mut with_options);
    let seen = there(&mut talk.t, s(0), &with_options);
    assert_eq!((&seen[24..36], &seen[38..]), (&with_options[24..36], &with_options[38..]));
    assert_eq!(checksums(&seen), BOTH);
    talk.is(State::Established);
}
