//! A SYN that carries data (RFC 9293, section 3.4; TCP Fast Open, RFC 7413). A server that does not take the data
//! acknowledges the SYN alone, and the client sends the data again. Fault class: zeek/zeek#664 (a SYN with data is not
//! followed as one without).

use byway::{Config, Divert, Fixed, InexactReset, State, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

const DATA: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const C: u32 = CLIENT_START + 1;
const V: u32 = SERVER_START + 1;

fn client(flags: u8, q: u32, a: u32, data: &[u8]) -> Vec<u8> {
    tcp(at(CLIENT), at(ORIGINAL), (flags, q, a), data)
}

/// The server takes as much of the data as `taken`.
fn established(config: Config, taken: u32) -> Translator<byway::Heap> {
    let mut t = diverting(config);
    let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, DATA)));
    back(&mut t, s(0), &tcp(server, alternative, (SYN | ACK, SERVER_START, C + taken), b""));
    there(&mut t, s(0), &client(ACK, C + taken, V, &DATA[taken as usize..]));
    back(&mut t, s(0), &tcp(server, alternative, (ACK, V, C + DATA.len() as u32), b"200"));
    there(&mut t, s(0), &client(ACK, C + DATA.len() as u32, V + 3, b""));
    t
}

#[test]
fn established_whether_the_server_takes_the_data_or_not() {
    for taken in [0, 1, 7, DATA.len() as u32] {
        let t = established(config(), taken);
        assert_eq!(tcp_state(&t), Some(State::Established), "{taken} bytes taken");
    }
}

#[test]
fn such_a_connection_outlives_ten_idle_minutes() {
    for taken in [0, DATA.len() as u32] {
        let mut t = established(config(), taken);
        t.poll(s(600));
        let (verdict, _) = run(&mut t, s(600), &client(ACK, C + DATA.len() as u32, V + 3, b"more"));
        assert_eq!(verdict, Verdict::ToServer, "{taken} bytes taken");
    }
}

/// The SYN comes again without data, as Linux and Apple's stacks do it, and is answered so.
#[test]
fn the_syn_comes_again_without_data() {
    let mut t = diverting(config());
    there(&mut t, s(0), &client(SYN, CLIENT_START, 0, DATA));
    let (alternative, server) = ends(&there(&mut t, s(1), &client(SYN, CLIENT_START, 0, b"")));
    back(&mut t, s(1), &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
    there(&mut t, s(1), &client(ACK, C, V, DATA));
    assert_eq!(tcp_state(&t), Some(State::Established));
}

/// A refusal acknowledges the SYN with its data, or the SYN that came again without.
#[test]
fn a_refusal_is_one_either_way() {
    for acknowledged in [C, C + DATA.len() as u32] {
        let mut t = diverting(config().inexact_reset(InexactReset::Drop));
        there(&mut t, s(0), &client(SYN, CLIENT_START, 0, DATA));
        let (alternative, server) = ends(&there(&mut t, s(1), &client(SYN, CLIENT_START, 0, b"")));
        let refusal = tcp(server, alternative, (RST | ACK, 0, acknowledged), b"");
        assert_eq!(verdict(&mut t, s(1), &refusal), Verdict::ToClient, "{acknowledged}");
        assert_eq!(tcp_state(&t), Some(State::TimeWait), "{acknowledged}");
    }
}

/// "An established TCP connection is never given up": a flood of SYNs of others does not push it out.
#[test]
fn a_flood_does_not_push_it_out() {
    let mut t = Translator::new(config(), Fixed::<64, 4>::new()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let (alternative, server) = ends(&there(&mut t, s(0), &client(SYN, CLIENT_START, 0, DATA)));
    back(&mut t, s(0), &tcp(server, alternative, (SYN | ACK, SERVER_START, C), b""));
    there(&mut t, s(0), &client(ACK, C, V, DATA));
    back(&mut t, s(0), &tcp(server, alternative, (ACK, V, C + DATA.len() as u32), b"200"));
    for number in 1..1_000 {
        let one = core::net::SocketAddrV4::new(core::net::Ipv4Addr::from_bits(0xc633_6400 + number), 1_000);
        let _ = run(&mut t, s(1), &tcp(one, at(ORIGINAL), (SYN, number, 0), b""));
    }
    let more = tcp(server, alternative, (ACK, V + 3, C + DATA.len() as u32), b"more");
    assert_eq!(verdict(&mut t, s(2), &more), Verdict::ToClient);
}
