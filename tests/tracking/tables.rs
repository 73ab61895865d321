//! Tables of segments from public knowledge: what the suites of Linux's connection tracking (six scenarios of
//! `tools/testing/selftests/net/netfilter/packetdrill`) and of NPF (`npf_state_test`) hold a tracker to, in segments and
//! states of ours. Each table is walked with several initial sequence numbers, across the wrap too, with both policies
//! for inexact RSTs, and on the ways through the library: the plain one, that of measured storage, and the long one, which
//! a new identification takes.

use byway::{Divert, Heap, InexactReset, Protocol, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::truth::{PSH, is_long_lived, numbers_of};
use byway_testing::*;

use Actor::{Client, Server};
use State::{ClientClosed, Closing, Doubtful, Established, Opened, Opening, ServerClosed, TimeWait};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Client,
    Server,
    /// Nobody says anything for so many seconds.
    Silence,
}

/// Who sends what: flags, sequence number and acknowledgement as distances from the sender's and the other's initial
/// sequence number, bytes of data; and the states that are right after it. An acknowledgement without the flag ACK is
/// not looked at. None: the connection is forgotten.
type Row = (Actor, u8, i64, i64, usize, &'static [State]);

const fn silence(seconds: i64, states: &'static [State]) -> Row {
    (Actor::Silence, 0, seconds, 0, 0, states)
}

const A: u8 = ACK;
const P: u8 = PSH | ACK;
const F: u8 = FIN | ACK;
const SA: u8 = SYN | ACK;
const R: u8 = RST;
const RA: u8 = RST | ACK;

const SYN_SENT: Row = (Client, SYN, 0, 0, 0, &[Opening]);
const SYN_ANSWERED: Row = (Server, SA, 0, 1, 0, &[Opened]);
const COMPLETE: Row = (Client, A, 1, 1, 0, &[Established]);

/// Beyond any window that there can be (RFC 7323, section 2.3: below 2^30).
const FAR: i64 = 0x5000_0000;
const LIVES: &[State] = &[Established];

/// Walks a table; `numbers` are what client and server have sent and acknowledged in the end, from their initial
/// sequence numbers.
#[track_caller]
fn walk(rows: &[Row], numbers: Option<[u32; 4]>) {
    for (client_start, server_start) in
        [(1_000, 5_000), (u32::MAX - 5, 0x7fff_fffe), (0xffff_f000, u32::MAX), (0x8000_0000, 1)]
    {
        for policy in [InexactReset::Pass, InexactReset::Drop] {
            for (measured, long) in [(false, false), (true, false), (false, true)] {
                let about = format!(
                    "from {client_start:#x} and {server_start:#x}, {policy:?}, measured: {measured}, long: {long}"
                );
                let heap = Heap::new(16, 4);
                let heap = if measured { heap.measured() } else { heap };
                let mut t = Translator::new(config().inexact_reset(policy).rewrite_identification(long), heap).unwrap();
                t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
                walk_once(&mut t, rows, numbers, (client_start, server_start), &about);
            }
        }
    }
}

#[track_caller]
fn walk_once(t: &mut Translator<Heap>, rows: &[Row], numbers: Option<[u32; 4]>, starts: (u32, u32), about: &str) {
    let mut millis = 0;
    for (line, &(from, flags, sequence, acknowledgment, length, states)) in rows.iter().enumerate() {
        let about = format!("row {line}, {from:?} {flags:#x} {sequence} {acknowledgment} +{length}, {about}");
        millis += 10;
        if from == Actor::Silence {
            for _ in 0..sequence {
                millis += 1_000;
                t.poll(byway::Instant::from_millis(millis));
            }
        } else {
            let now = byway::Instant::from_millis(millis);
            let (own, other) = if from == Client { starts } else { (starts.1, starts.0) };
            let sequence = own.wrapping_add(sequence as u32);
            let acknowledgment = if flags & ACK == 0 { 0 } else { other.wrapping_add(acknowledgment as u32) };
            let numbers = (flags, sequence, acknowledgment);
            let data = vec![0x77; length];
            let packet = match from {
                Client => tcp(at(CLIENT), at(ORIGINAL), numbers, &data),
                _ => {
                    let (connection, _) =
                        t.connection(Protocol::Tcp, at(CLIENT), at(ORIGINAL)).expect("somebody began");
                    tcp(connection.server(), connection.server_side.source, numbers, &data)
                }
            };
            let (verdict, _) = run(t, now, &packet);
            let way = if from == Client { Verdict::ToServer } else { Verdict::ToClient };
            // Only a RST that a live connection's end would not obey may be dropped.
            let dropped =
                flags & RST != 0 && matches!(verdict, Verdict::Drop(_)) && states.iter().all(|s| is_long_lived(*s));
            assert!(verdict == way || dropped, "{about}: {verdict:?}");
        }
        match (tcp_state(t), states) {
            (None, []) => {}
            (Some(state), states) if states.contains(&state) => {}
            (state, states) => panic!("{about}: {state:?}, not of {states:?}"),
        }
    }
    if let Some(wanted) = numbers {
        let record = t.record(&connection(t, Protocol::Tcp)).expect("the connection is alive");
        let starts = [starts.0, starts.1, starts.1, starts.0];
        let found = numbers_of(&record);
        let wanted: Vec<u32> = wanted.iter().zip(starts).map(|(n, start)| start.wrapping_add(*n)).collect();
        assert_eq!(found[..], wanted, "numbers, {about}");
    }
}

// --- Linux's connection tracking ---

/// A RST that is not the expected one, first while data is in flight, then in a half-closed connection.
#[test]
fn inexact_reset() {
    // The client has unread data when it closes, behind the server's FIN: the RST is exact.
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Server, A, 1, 1, 1_000, LIVES),
            (Server, A, 1_001, 1, 1_000, LIVES),
            (Server, A, 2_001, 1, 1_000, LIVES),
            (Client, A, 1, 1_001, 0, LIVES),
            (Client, A, 1, 2_001, 0, LIVES),
            (Client, A, 1, 3_001, 0, LIVES),
            (Client, P, 1, 3_001, 1_000, LIVES),
            (Server, F, 3_001, 1_001, 0, LIVES),
            (Client, A, 1_001, 3_002, 0, &[ServerClosed]),
            (Client, RA, 1_001, 3_002, 0, &[TimeWait]),
            silence(245, &[]),
        ],
        None,
    );
    // Data and RST are in flight together: in doubt for four minutes, in each state.
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, P, 1, 1, 1_000, LIVES),
            (Client, R, 1_001, 0, 0, &[Doubtful]),
            silence(230, &[Doubtful]),
            silence(15, &[]),
        ],
        None,
    );
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Server, F, 1, 1, 0, LIVES),
            (Client, A, 1, 2, 0, &[ServerClosed]),
            (Client, P, 1, 2, 1_000, &[ServerClosed]),
            (Client, RA, 1_001, 2, 0, &[Doubtful]),
            silence(245, &[]),
        ],
        None,
    );
    // The server goes on: it has not obeyed.
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, P, 1, 1, 1_000, LIVES),
            (Client, R, 1_001, 0, 0, &[Doubtful]),
            (Server, A, 1, 1, 100, LIVES),
            (Server, A, 101, 1_001, 100, LIVES),
            (Client, A, 1_001, 201, 0, LIVES),
            silence(7_000, LIVES),
        ],
        Some([1_001, 201, 201, 1_001]),
    );
}

/// Four RSTs that nobody obeys, and one that its receiver does (RFC 5961, section 3.2).
#[test]
fn invalid_reset() {
    for (from, other) in [(Server, Client), (Client, Server)] {
        walk(
            &[
                SYN_SENT,
                SYN_ANSWERED,
                COMPLETE,
                (from, P, 1, 1, 10, LIVES),
                (other, A, 1, 11, 0, LIVES),
                (from, R, FAR, 0, 0, LIVES),
                (from, R, 50_000_000, 0, 0, LIVES),
                (from, R, 1_000_000, 0, 0, LIVES),
                (from, R, -1_000, 0, 0, LIVES),
                (from, R, 10, 0, 0, LIVES),
                silence(7_000, LIVES),
                (from, R, 11, 0, 0, &[TimeWait]),
                silence(245, &[]),
            ],
            None,
        );
    }
}

/// The server remembers an older connection on the port: it challenges the SYN, and the client's RST is what it expects.
#[test]
fn challenge_ack() {
    for remembered in [0x2000_0000, FAR, 500, -500] {
        walk(
            &[
                SYN_SENT,
                (Server, A, 0x3333_3333, remembered, 0, &[Opening]),
                (Client, SYN, 0, 0, 0, &[Opening]),
                (Server, A, 0x3333_3333, remembered, 0, &[Opening]),
            ],
            None,
        );
        for policy in [InexactReset::Pass, InexactReset::Drop] {
            let mut t = diverting(config().inexact_reset(policy));
            let start = 0x1000_0000_u32;
            let (alternative, server) =
                ends(&there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (SYN, start, 0), b"")));
            let number = start.wrapping_add(remembered as u32);
            back(&mut t, s(0), &tcp(server, alternative, (ACK, 77, number), b""));
            there(&mut t, s(0), &tcp(at(CLIENT), at(ORIGINAL), (RST, number, 0), b""));
            let (alternative, server) =
                ends(&there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (SYN, start, 0), b"")));
            back(&mut t, s(1), &tcp(server, alternative, (SYN | ACK, 9_000, start + 1), b""));
            assert_eq!(tcp_state(&t), Some(Opened));
            there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (ACK, start + 1, 9_001), b""));
            assert_eq!(tcp_state(&t), Some(Established), "{policy:?} {remembered:#x}");
        }
    }
}

/// A SYN+ACK of an older attempt comes first. The client refuses it with a RST; the right one opens all the same.
#[test]
fn old_syn_ack() {
    walk(
        &[
            SYN_SENT,
            (Server, SA, FAR, -600, 0, &[Opening, Opened]),
            (Client, R, -600, 0, 0, &[Opening, Opened]),
            (Client, SYN, 0, 0, 0, &[Opening, Opened]),
            SYN_ANSWERED,
            COMPLETE,
            (Client, P, 1, 1, 100, LIVES),
            (Server, A, 1, 101, 200, LIVES),
            (Client, A, 101, 201, 0, LIVES),
            silence(7_000, LIVES),
        ],
        Some([101, 201, 201, 101]),
    );
}

/// A port is used again: after both have closed, after a RST, after a refusal, and while the first attempt is still
/// unanswered.
#[test]
fn syn_reuse() {
    const AGAIN: i64 = 0x0345_6789;
    let again = |before: &[Row]| {
        let after: &[Row] = &[
            (Client, SYN, AGAIN, 0, 0, &[Opening]),
            (Server, SA, 2 * AGAIN, AGAIN + 1, 0, &[Opened]),
            (Client, A, AGAIN + 1, 2 * AGAIN + 1, 0, LIVES),
            (Client, P, AGAIN + 1, 2 * AGAIN + 1, 300, LIVES),
            (Server, A, 2 * AGAIN + 1, AGAIN + 301, 0, LIVES),
            silence(7_000, LIVES),
        ];
        let (client, server) = (AGAIN as u32 + 301, 2 * AGAIN as u32 + 1);
        walk(&[before, after].concat(), Some([client, server, server, client]));
    };
    let opened = [SYN_SENT, SYN_ANSWERED, COMPLETE];
    let closed: &[Row] = &[
        (Client, F, 1, 1, 0, LIVES),
        (Server, A, 1, 2, 0, &[ClientClosed]),
        (Server, F, 1, 2, 0, &[ClientClosed, Closing]),
        (Client, A, 2, 2, 0, &[TimeWait]),
    ];
    again(&[&opened[..], closed].concat());
    again(&[&opened[..], &[(Server, R, 1, 0, 0, &[TimeWait])]].concat());
    again(&[SYN_SENT, (Server, RA, 0, 1, 0, &[TimeWait])]);
    again(&[SYN_SENT]);
    again(&[SYN_SENT, SYN_ANSWERED]);
}

/// All acknowledgements are lost for a while: the data comes again, is acknowledged at once, and the connection goes on.
#[test]
fn ack_loss_stall() {
    for (from, other) in [(Server, Client), (Client, Server)] {
        walk(
            &[
                SYN_SENT,
                SYN_ANSWERED,
                COMPLETE,
                (from, A, 1, 1, 1_000, LIVES),
                (from, A, 1_001, 1, 1_000, LIVES),
                (from, A, 2_001, 1, 1_000, LIVES),
                (from, A, 1, 1, 1_000, LIVES),
                (from, A, 1, 1, 1_000, LIVES),
                silence(60, LIVES),
                (from, A, 1, 1, 1_000, LIVES),
                (other, A, 1, 3_001, 0, LIVES),
                (from, A, 3_001, 1, 1_000, LIVES),
                (other, A, 1, 4_001, 0, LIVES),
                silence(7_000, LIVES),
                (from, R, 4_001, 0, 0, &[TimeWait]),
            ],
            None,
        );
    }
}

// --- NPF ---

/// Acknowledgements overtake each other.
#[test]
fn acknowledgements_out_of_order() {
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, A, 1, 1, 20, LIVES),
            (Client, A, 21, 1, 20, LIVES),
            (Client, A, 41, 1, 20, LIVES),
            (Server, A, 1, 61, 0, LIVES),
            (Server, A, 1, 21, 0, LIVES),
            (Server, A, 1, 41, 0, LIVES),
            (Server, A, 1, 61, 50, LIVES),
            (Client, A, 61, 51, 0, LIVES),
            (Client, A, 61, 1, 0, LIVES),
        ],
        Some([61, 51, 51, 61]),
    );
}

/// Data comes again and out of order, larger and smaller than before.
#[test]
fn retransmissions() {
    walk(
        &[
            SYN_SENT,
            (Client, SYN, 0, 0, 0, &[Opening]),
            SYN_ANSWERED,
            SYN_ANSWERED,
            COMPLETE,
            COMPLETE,
            (Server, SA, 0, 1, 0, LIVES),
            COMPLETE,
            (Server, A, 101, 1, 100, LIVES),
            (Client, A, 1, 1, 0, LIVES),
            (Server, A, 1, 1, 150, LIVES),
            (Server, A, 1, 1, 100, LIVES),
            (Client, A, 1, 201, 0, LIVES),
            (Server, A, 101, 1, 50, LIVES),
            (Client, A, 1, 201, 0, LIVES),
            // Keep-alives: a byte that was sent before, or none.
            (Client, A, 0, 201, 1, LIVES),
            (Server, A, 201, 1, 0, LIVES),
            (Server, A, 200, 1, 0, LIVES),
            (Client, A, 1, 201, 0, LIVES),
        ],
        Some([1, 201, 201, 1]),
    );
}

/// FINs come again, before and after they are acknowledged, with data before them that is missing.
#[test]
fn fin_retransmissions() {
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, F, 101, 1, 0, LIVES),
            (Server, A, 1, 1, 0, LIVES),
            (Client, F, 101, 1, 0, LIVES),
            (Client, A, 1, 1, 100, LIVES),
            (Server, A, 1, 101, 0, LIVES),
            (Client, F, 101, 1, 0, LIVES),
            (Server, A, 1, 102, 0, &[ClientClosed]),
            (Client, F, 101, 1, 0, &[ClientClosed]),
            (Server, A, 1, 102, 500, &[ClientClosed]),
            (Client, A, 102, 501, 0, &[ClientClosed]),
            silence(7_000, &[ClientClosed]),
            (Server, F, 501, 102, 0, &[ClientClosed, Closing]),
            (Server, F, 501, 102, 0, &[ClientClosed, Closing]),
            (Client, A, 102, 501, 0, &[ClientClosed, Closing]),
            (Client, A, 102, 502, 0, &[TimeWait]),
            (Server, F, 501, 102, 0, &[TimeWait]),
            (Client, A, 102, 502, 0, &[TimeWait]),
            silence(245, &[]),
        ],
        None,
    );
    // The same from the other side, and both at once.
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Server, F, 1, 1, 10, LIVES),
            (Client, A, 1, 11, 0, LIVES),
            (Client, A, 1, 12, 0, &[ServerClosed]),
            silence(7_000, &[ServerClosed]),
            (Client, P, 1, 12, 10, &[ServerClosed]),
            (Server, A, 12, 11, 0, &[ServerClosed]),
        ],
        Some([11, 12, 12, 11]),
    );
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, F, 1, 1, 0, LIVES),
            (Server, F, 1, 1, 0, &[Established, Closing]),
            (Client, A, 2, 2, 0, &[ServerClosed, Closing]),
            (Server, A, 2, 2, 0, &[TimeWait]),
        ],
        None,
    );
}

/// What lies beyond every window, or is older than anything that is in flight, changes nothing: NPF calls it an error.
#[test]
fn out_of_window() {
    let mut rows = vec![SYN_SENT, SYN_ANSWERED, COMPLETE];
    // What comes from one side does not fit what comes from the other: whoever forges both in agreement is an end.
    for (from, shift) in [(Client, 0), (Server, 0x0555_5555)] {
        for flags in [A, P, F, FIN, SYN, SA, R, RA, FIN | PSH | ACK] {
            for distance in [FAR, -FAR, 0x2fff_ffff, -0x2fff_ffff] {
                for acknowledgment in [FAR, -FAR, 1] {
                    let length = if flags & PSH == 0 { 0 } else { 9 };
                    rows.push((from, flags, distance + shift, acknowledgment - shift, length, LIVES));
                }
            }
        }
    }
    rows.extend([
        (Client, P, 1, 1, 100, LIVES),
        (Server, A, 1, 101, 0, LIVES),
        (Server, P, 1, 101, 100, LIVES),
        (Client, A, 101, 101, 0, LIVES),
        silence(7_000, LIVES),
    ]);
    walk(&rows, Some([101, 101, 101, 101]));
    // And a number that is right with an acknowledgement for what was never sent (RFC 5961, section 5.2).
    walk(
        &[
            SYN_SENT,
            SYN_ANSWERED,
            COMPLETE,
            (Client, F, 1, FAR, 0, LIVES),
            (Server, F, 1, FAR, 0, LIVES),
            (Server, A, 1, FAR, 0, LIVES),
            (Client, A, 1, FAR, 0, LIVES),
            silence(7_000, LIVES),
        ],
        None,
    );
}

/// Nothing that an attacker says on one side or on both makes a half-closed connection short-lived, either.
#[test]
fn forged_segments_in_a_half_closed_connection() {
    for by_client in [true, false] {
        let (one, other, half): (_, _, &[State]) =
            if by_client { (Client, Server, &[ClientClosed]) } else { (Server, Client, &[ServerClosed]) };
        let mut rows = vec![SYN_SENT, SYN_ANSWERED, COMPLETE, (one, F, 1, 1, 0, LIVES), (other, A, 1, 2, 0, half)];
        for from in [Client, Server] {
            for flags in [A, F, FIN, SYN, SA, R, RA] {
                for distance in [FAR, -FAR] {
                    // A client's SYN and a RST in agreement with it are the end of a client that had begun anew.
                    let distance = if flags & RST == 0 { distance } else { distance / 3 };
                    rows.push((from, flags, distance, FAR / 3, 0, half));
                }
            }
        }
        rows.extend([(other, P, 1, 2, 50, half), (one, A, 2, 51, 0, half), silence(7_000, half)]);
        walk(&rows, None);
    }
}
