//! What handshakes look like beside the textbook. Fault classes: ironcore-dev/dpservice#628 (repeated SYN and SYN+ACK
//! count as established), projectcalico/felix#2675 (a SYN that comes again goes to another server), cilium/cilium#11742 (a
//! refused connection keeps its entry), smoltcp-rs/smoltcp#1001 (simultaneous open), google/gvisor#7619 and
//! cilium/cilium#45863 (challenge, RST, SYN again), cloudnativelabs/kube-router#544 and kubernetes/kubernetes#81775 (the
//! first SYN on a port in TIME-WAIT is lost), kubernetes/kubernetes#107249 (one client port, two addresses, one server).

use byway::{Divert, InexactReset, State, Verdict, Weighted};
use byway_testing::talk::*;
use byway_testing::*;

const C: u32 = CLIENT_START + 1;
const V: u32 = SERVER_START + 1;

fn client(flags: u8, q: u32, a: u32, data: &[u8]) -> Vec<u8> {
    tcp(at(CLIENT), at(ORIGINAL), (flags, q, a), data)
}

#[test]
fn repeated_handshakes_establish_nothing() {
    let mut t = diverting(config());
    for second in 0..60 {
        let (alternative, server) = ends(&there(&mut t, s(second), &client(SYN, CLIENT_START, 0, b"")));
        back(&mut t, s(second), &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
        assert_eq!(tcp_state(&t), Some(State::Opened));
    }
    for second in (60..400).step_by(5) {
        t.poll(s(second));
    }
    assert_eq!(tcp_state(&t), None, "4 minutes are all it gets");
}

/// The SYN comes again after each change of the group; all copies go to one server.
#[test]
fn a_syn_that_comes_again_goes_to_the_same_server() {
    let mut t = translator(config());
    let all: Vec<_> = (1..=20).map(|n| Weighted::new(at(&format!("198.51.100.{n}:80")), 10)).collect();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&all)).unwrap();
    let first = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
    for turn in 1..15 {
        let rest: Vec<_> = all.iter().filter(|w| w.target != first.1.into()).skip(turn).copied().collect();
        t.divert(Divert::new(at(ORIGINAL)).to_group(&rest)).unwrap();
        assert_eq!(ends(&there(&mut t, s(turn as u64), &client(SYN, CLIENT_START, 0, b""))), first);
    }
}

#[test]
fn a_refused_connection_is_gone_soon_and_may_try_again_at_once() {
    let mut t = diverting(config());
    for turn in 0..50_u32 {
        let isn = turn.wrapping_mul(0x1234_5678);
        let now = s(u64::from(turn));
        let (alternative, server) = ends(&there(&mut t, now, &client(SYN, isn, 0, b"")));
        back(&mut t, now, &tcp(server, alternative, (RST | ACK, 0, isn.wrapping_add(1)), b""));
        assert_eq!(tcp_state(&t), Some(State::TimeWait), "{turn}");
    }
    for second in (50..300).step_by(5) {
        t.poll(s(second));
    }
    assert_eq!(t.slots_in_use(), 0);
}

#[test]
fn both_open_at_once_and_both_repeat_themselves() {
    let mut t = diverting(config());
    let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
    let said = |f, q, a| tcp(server, alternative, (f, q, a), b"");
    back(&mut t, s(0), &said(SYN, SERVER_START, 0));
    there(&mut t, s(1), &client(SYN, CLIENT_START, 0, b""));
    back(&mut t, s(1), &said(SYN, SERVER_START, 0));
    there(&mut t, s(1), &client(SYN | ACK, CLIENT_START, V, b""));
    back(&mut t, s(2), &said(SYN | ACK, SERVER_START, C));
    there(&mut t, s(2), &client(ACK, C, V, b""));
    assert_eq!(tcp_state(&t), Some(State::Established));
    back(&mut t, s(3), &said(RST, V, 0));
    assert_eq!(tcp_state(&t), Some(State::TimeWait));
}

/// The server still holds an older connection on the same alternative port (it was not restarted when we were, or its
/// time-out is longer): it challenges the SYN, the client answers with the RST that the server expects, and the next SYN
/// opens. Dropping that RST would lock the client out for as long as the server remembers.
#[test]
fn the_reset_that_answers_a_challenge_passes() {
    for policy in [InexactReset::Pass, InexactReset::Drop] {
        for remembered in [0x7000_0000_u32, 0xf000_0000, C + 500, C - 500] {
            let mut t = diverting(config().inexact_reset(policy));
            let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
            back(&mut t, s(0), &tcp(server, alternative, (ACK, 0x3333_3333, remembered), b""));
            let reset = verdict(&mut t, s(0), &client(RST, remembered, 0, b""));
            assert_eq!(reset, Verdict::ToServer, "{policy:?} {remembered:#x}");
            // It may have got another alternative port by now.
            let (alternative, server) = ends(&there(&mut t, s(1), &client(SYN, CLIENT_START, 0, b"")));
            back(&mut t, s(1), &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
            there(&mut t, s(1), &client(ACK, C, V, b""));
            assert_eq!(tcp_state(&t), Some(State::Established), "{policy:?} {remembered:#x}");
        }
    }
}

/// A SYN+ACK that answers somebody else's SYN (an old copy): the client's RST for it must arrive, too.
#[test]
fn the_reset_that_refuses_an_old_answer_passes() {
    for policy in [InexactReset::Pass, InexactReset::Drop] {
        let mut t = diverting(config().inexact_reset(policy));
        let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, b"")));
        back(&mut t, s(0), &tcp(server, alternative, (SYN | ACK, 77, 0x6000_0000), b""));
        assert_eq!(verdict(&mut t, s(0), &client(RST, 0x6000_0000, 0, b"")), Verdict::ToServer, "{policy:?}");
    }
}

/// A load generator uses its ports again at once: no SYN is lost, and each connection gets a port that the server does not
/// remember.
#[test]
fn ports_in_time_wait_are_used_again_at_once() {
    let mut t = diverting(config());
    let mut last = None;
    for turn in 0..200_u32 {
        let isn = turn * 100_000 + 5;
        let now = s(u64::from(turn / 10));
        let (alternative, server) = ends(&there(&mut t, now, &client(SYN, isn, 0, b"")));
        assert_ne!(last.replace(alternative), Some(alternative));
        let said = |f, q, a| tcp(server, alternative, (f, q, a), b"");
        back(&mut t, now, &said(SYN | ACK, isn + 9, isn + 1));
        there(&mut t, now, &client(ACK, isn + 1, isn + 10, b""));
        back(&mut t, now, &said(FIN | ACK, isn + 10, isn + 1));
        there(&mut t, now, &client(FIN | ACK, isn + 1, isn + 11, b""));
        back(&mut t, now, &said(ACK, isn + 11, isn + 2));
        assert_eq!(tcp_state(&t), Some(State::TimeWait), "{turn}");
    }
}

/// One port of a client towards two addresses that lead to the same server: their answers are not mixed up. Where the source
/// is kept they cannot be told apart, and the second is refused.
#[test]
fn one_port_two_addresses_one_server() {
    for keep in [false, true] {
        let mut t = translator(config());
        for original in ["100.100.100.100:80", "100.100.100.101:80"] {
            let rule = Divert::new(at(original)).to(at(SERVER));
            t.divert(if keep { rule.keep_source() } else { rule }).unwrap();
        }
        let first = ends(&there(&mut t, s(0), &udp(at(CLIENT), at("100.100.100.100:80"), b"1")));
        let (verdict, second) = run(&mut t, s(0), &udp(at(CLIENT), at("100.100.100.101:80"), b"2"));
        if keep {
            assert_eq!(verdict, Verdict::Drop(byway::DropReason::NoPort));
        } else {
            let second = ends(&second);
            assert_ne!(first.0, second.0);
            assert_eq!(ends(&back(&mut t, s(0), &udp(second.1, second.0, b"b"))).0, at("100.100.100.101:80"));
        }
        assert_eq!(ends(&back(&mut t, s(0), &udp(first.1, first.0, b"a"))).0, at("100.100.100.100:80"));
    }
}
