//! How long things live, on a simulated clock.

mod support;

use byway::{Midstream, State, Verdict};
use support::talk::*;
use support::*;

/// A forged RST may cost an idle connection its long time-out, but not its life at once (RFC 5961, section 3).
#[test]
fn an_inexact_rst_on_an_idle_connection_does_not_end_it() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    back(&mut t, s(3_600), &tcp(server, alternative, (RST, SERVER_START + 7, 0), b""));
    assert_eq!(tcp_state(&t), Some(State::Doubtful));
    there(&mut t, s(3_600 + 239), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"."));
    assert_eq!(tcp_state(&t), Some(State::Established));

    back(&mut t, s(7_000), &tcp(server, alternative, (RST, SERVER_START + 7, 0), b""));
    // It is no sign of life: another one does not prolong the time.
    back(&mut t, s(7_100), &tcp(server, alternative, (RST, SERVER_START + 9, 0), b""));
    let late = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 2, SERVER_START + 1), b".");
    assert_eq!(verdict(&mut t, s(7_241), &late), Verdict::Pass);
    assert_eq!(t.counters().expired, 1);
}

/// A state with a shorter time-out begins with the packet that brought it, whether or not that packet refreshes.
#[test]
fn a_servers_fin_does_not_end_a_connection_that_its_packets_do_not_refresh() {
    let mut t = diverting(config().refresh_from_server(false).midstream(Midstream::Drop));
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, CLIENT_START + 1, SERVER_START + 1), b""));
    back(&mut t, s(600), &tcp(server, alternative, (FIN | ACK, SERVER_START + 1, CLIENT_START + 2), b""));
    there(&mut t, s(601), &tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 2, SERVER_START + 2), b""));
    assert_eq!(tcp_state(&t), Some(State::TimeWait));
    assert_eq!(t.counters().closed, 1);
}

#[test]
fn poll_at_is_never_in_the_past_not_even_at_the_end_of_time() {
    for last in [u64::MAX, u64::MAX - (1 << 16), u64::MAX - 1_000_000, u64::MAX - 100_000_000] {
        let now = byway::Instant::from_micros(last);
        let mut t = diverting(config());
        connect(&mut t, now, at(CLIENT), at(ORIGINAL));
        let wake = t.poll_at().unwrap();
        assert!(wake >= now, "{wake:?} is before {now:?}");
        t.poll(wake);
        let side = connection(&t, byway::Protocol::Tcp).server_side;
        let packet = tcp(side.destination, side.source, (ACK, SERVER_START + 1, CLIENT_START + 1), b"still here");
        back(&mut t, wake, &packet);
    }
}
