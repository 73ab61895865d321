//! A RST behind a FIN that is not acknowledged yet: the client shuts down and closes at once, or the server does. Fault
//! class of NICMx/Jool#212 and FDio/vpp#2958 (VPP-1494): no shorter time-out for a RST in the half-closed states;
//! projectcalico/calico#13526: a connection that was reset holds its entry for the time of an established one. Public
//! captures that end so: OISF/suricata-verify tests/ssl_version_negated (five TLS clients answer the server's FIN with an alert and
//! a RST), tests/rfb-rules 00-vnc-openwall-3.7 and tests/bug-7842-01 (server: FIN, RST), tests/http-sticky-start (client: FIN,
//! RST), ntop/nDPI webex.pcap and skype.pcap (the peer has vanished: data comes again and again, then RST).

use byway::{Divert, DropReason, Fixed, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

const C: u32 = CLIENT_START + 1;
const V: u32 = SERVER_START + 1;

/// In each case nobody says a word after the RST, and its receiver has obeyed it. 4 minutes later it must be gone
/// (RFC 7857, section 2.2), as it is where there was no FIN before.
#[test]
fn a_reset_behind_a_fin_shortens_the_life() {
    // (who says FIN, data with it, RST's number)
    for (by_client, data) in [(true, 0), (true, 100), (false, 0), (false, 100)] {
        let mut t = diverting(config());
        let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        let said = vec![7; data as usize];
        if by_client {
            there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, C, V), &said));
            there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (RST | ACK, C + data + 1, V), b""));
        } else {
            back(&mut t, s(1), &tcp(server, alternative, (FIN | ACK, V, C), &said));
            back(&mut t, s(1), &tcp(server, alternative, (RST | ACK, V + data + 1, C), b""));
        }
        for second in (2..1000).step_by(10) {
            t.poll(s(second));
        }
        assert_eq!(tcp_state(&t), None, "FIN and RST of the client: {by_client}, with {data} bytes");
    }
}

/// The other side has said FIN; this one says something more, to which there is no answer any more, and then RST.
#[test]
fn a_reset_behind_data_after_the_others_fin_shortens_the_life() {
    for by_client in [true, false] {
        let mut t = diverting(config());
        let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
        let of_client = |f, q, a, data: &[u8]| tcp(at(CLIENT), at(ORIGINAL), (f, q, a), data);
        let of_server = |f, q, a, data: &[u8]| tcp(server, alternative, (f, q, a), data);
        if by_client {
            back(&mut t, s(1), &of_server(FIN | ACK, V, C, b""));
            there(&mut t, s(1), &of_client(ACK, C, V + 1, b""));
            for second in [1, 3, 7, 15, 30] {
                there(&mut t, s(second), &of_client(ACK, C, V + 1, &[0x15; 37]));
            }
            there(&mut t, s(31), &of_client(RST, C + 37, V + 1, b""));
        } else {
            there(&mut t, s(1), &of_client(FIN | ACK, C, V, b""));
            back(&mut t, s(1), &of_server(ACK, V, C + 1, b""));
            for second in [1, 3, 7, 15, 30] {
                back(&mut t, s(second), &of_server(ACK, V, C + 1, &[0x15; 37]));
            }
            back(&mut t, s(31), &of_server(RST, V + 37, C + 1, b""));
        }
        for second in (32..1000).step_by(10) {
            t.poll(s(second));
        }
        assert_eq!(tcp_state(&t), None, "the RST is the client's: {by_client}");
    }
}

/// What is the same without the FIN, for comparison.
#[test]
fn a_reset_behind_data_shortens_the_life() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    back(&mut t, s(1), &tcp(server, alternative, (ACK, V, C), &[7; 100]));
    back(&mut t, s(1), &tcp(server, alternative, (RST | ACK, V + 100, C), b""));
    assert_eq!(tcp_state(&t), Some(State::Doubtful));
    for second in (2..2400).step_by(10) {
        t.poll(s(second));
    }
    assert_eq!(tcp_state(&t), None);
}

/// Whoever goes on talking shows that the RST was forged, and the connection stays half-closed for as long as before.
#[test]
fn who_goes_on_talking_stays() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (FIN | ACK, C, V), b""));
    there(&mut t, s(1), &tcp(at(CLIENT), at(ORIGINAL), (RST, C + 1, 0), b""));
    back(&mut t, s(2), &tcp(server, alternative, (ACK, V, C + 1), b"a long answer"));
    assert_eq!(tcp_state(&t), Some(State::ClientClosed));
    t.poll(s(7_000));
    back(&mut t, s(7_000), &tcp(server, alternative, (ACK, V + 13, C + 1), b"and more"));
}

/// Health checks that connect, shut down and close at once must not fill a small table for two hours: none of these
/// connections may be given up for a new one, since they count as established.
#[test]
fn health_checks_do_not_fill_the_table() {
    let mut t = Translator::new(config(), Fixed::<64, 4>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    // One check every 5 seconds for an hour.
    for number in 0..720_u32 {
        let now = s(u64::from(number) * 5);
        t.poll(now);
        let checker = core::net::SocketAddrV4::new(ip("192.168.9.9"), 10_000 + number as u16);
        let open = tcp(checker, at(ORIGINAL), (SYN, CLIENT_START, 0), b"");
        let (verdict, seen) = run(&mut t, now, &open);
        assert_ne!(verdict, Verdict::Drop(DropReason::TableFull), "check {number}, after {} s", number * 5);
        let (alternative, server) = ends(&seen);
        back(&mut t, now, &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
        there(&mut t, now, &tcp(checker, at(ORIGINAL), (ACK, C, V), b""));
        there(&mut t, now, &tcp(checker, at(ORIGINAL), (FIN | ACK, C, V), b""));
        there(&mut t, now, &tcp(checker, at(ORIGINAL), (RST | ACK, C + 1, V), b""));
    }
}
