//! When a connection is at rest, segment by segment.

use byway::{AtRest, Kept, Verdict};
use byway_testing::*;

use super::segments::{
    CLIENT, MINE, NEW, NEXT, Net, OLD, OLD_CLOCK, OLDS, ORIGINAL, REST, at_rest, segment, with_window,
};

/// No segment takes the fast path.
const SLOW: usize = 16;

/// The client acknowledges all, with this window in units of 128 bytes.
fn acknowledge<const M: usize>(net: &mut Net<AtRest, M>, clock: u32, window: u16) {
    let packet = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT), (clock, OLD_CLOCK + 30), b"");
    assert_eq!(net.carry(with_window(packet, window)).0, Verdict::ToServer);
    net.pass(1_000);
}

#[test]
fn a_closed_window_is_no_rest() {
    closes::<0>();
    closes::<SLOW>();
}

/// A server that has more to say is silent while the client's window is closed, and also while it has less room than a
/// segment needs (RFC 9293, section 3.8.6.2.1).
fn closes<const M: usize>() {
    let mut net = at_rest::<_, M>(REST);
    // The client's segments have up to 1460 bytes.
    for (step, window) in [0, 1, 11].into_iter().enumerate() {
        acknowledge(&mut net, 100 + step as u32, window);
        assert_eq!(net.begin(), Err(Kept::NotNow), "{window}");
    }
    acknowledge(&mut net, 200, 12);
    assert_eq!(net.begin(), Ok(()));
}

#[test]
fn a_copy_of_an_answer_answers_nothing() {
    copies::<0>();
    copies::<SLOW>();
}

/// The server's copy of its last answer passes after the next request, which has acknowledged it. Then the server
/// acknowledges the request, and works on it.
fn copies<const M: usize>() {
    let mut net = at_rest::<_, M>(REST);
    net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 30), b"question");
    let copy = (ACK, OLDS + 101, MINE + 9);
    assert_eq!(net.back(OLD, copy, (OLD_CLOCK + 1_150, 60), &[7; 100]).0, Verdict::ToClient);
    assert_eq!(net.back(OLD, (ACK, NEXT, MINE + 17), (OLD_CLOCK + 1_151, 1_100), b"").0, Verdict::ToClient);
    net.pass(1_000);
    assert_eq!(net.begin(), Err(Kept::NotNow), "it waits for an answer");
    let copy = (ACK, OLDS + 101, MINE + 17);
    assert_eq!(net.back(OLD, copy, (OLD_CLOCK + 2_150, 1_100), &[7; 100]).0, Verdict::ToClient);
    net.pass(1_000);
    assert_eq!(net.begin(), Err(Kept::NotNow), "it still does");
    let answer = net.back(OLD, (ACK, NEXT, MINE + 17), (OLD_CLOCK + 3_151, 1_100), b"answer");
    assert_eq!(answer.0, Verdict::ToClient);
    net.there((ACK, MINE + 17, NEXT + 6), (3_100, OLD_CLOCK + 3_151), b"");
    net.pass(1_000);
    assert_eq!(net.begin(), Ok(()));
}

#[test]
fn what_was_on_its_way_answers_nothing() {
    crosses::<0>();
    crosses::<SLOW>();
}

/// The last segment of an answer crosses the next request.
fn crosses<const M: usize>() {
    let mut net = at_rest::<_, M>(REST);
    net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 30), b"question");
    assert_eq!(net.back(OLD, (ACK, NEXT, MINE + 9), (OLD_CLOCK + 1_100, 60), b"more").0, Verdict::ToClient);
    net.there((ACK, MINE + 17, NEXT + 4), (1_110, OLD_CLOCK + 1_100), b"");
    assert_eq!(net.back(OLD, (ACK, NEXT + 4, MINE + 17), (OLD_CLOCK + 1_151, 1_100), b"").0, Verdict::ToClient);
    net.pass(1_000);
    assert_eq!(net.begin(), Err(Kept::NotNow));
}

#[test]
fn what_the_client_repeats_asks_for_nothing() {
    repeats::<0>();
    repeats::<SLOW>();
}

/// A late copy of the client's request, and a keep-alive with a byte of garbage (RFC 9293, section 3.8.4).
fn repeats<const M: usize>() {
    for (sequence, data) in [(MINE + 1, &b"question"[..]), (MINE + 8, b"\0")] {
        let mut net = at_rest::<_, M>(REST);
        net.there((ACK, sequence, NEXT), (1_100, OLD_CLOCK + 30), data);
        assert_eq!(net.back(OLD, (ACK, NEXT, MINE + 9), (OLD_CLOCK + 1_150, 1_100), b"").0, Verdict::ToClient);
        net.pass(1_000);
        let syn = net.begun();
        assert_eq!(syn.destination, at(NEW));
    }
}
