//! The example of the document, Figure 3, byte for byte: what the client sends in event 1 arrives at the server as in
//! event 4, and what the server answers arrives at the client as in event 7.

use byway::{Config, Divert, Instant, Protocol, Translator, Verdict};
use byway_testing::*;

const CLIENT: &str = "1.2.3.4:3456";
const ORIGINAL: &str = "100.100.100.100:80";
/// The proxy's own address; the document's output port is 513.
const ALTERNATIVE: &str = "10.10.10.10:513";
/// The document prints `123.456.789:80`, which is no address.
const SERVER: &str = "123.45.67.89:80";

fn proxy() -> Translator<byway::Fixed<16, 4>> {
    let config = Config::new([7; 32]).alternative(ip("10.10.10.10"), 513..=513);
    let mut proxy = Translator::new(config, byway::Fixed::<16, 4>::new()).unwrap();
    proxy.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    proxy
}

#[test]
fn tcp_byte_for_byte() {
    let mut proxy = proxy();
    let mut packet = tcp(at(CLIENT), at(ORIGINAL), (SYN, 1000, 0), b"");
    assert_eq!(proxy.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    assert_eq!(packet, tcp(at(ALTERNATIVE), at(SERVER), (SYN, 1000, 0), b""));

    let mut reply = tcp(at(SERVER), at(ALTERNATIVE), (SYN | ACK, 5000, 1001), b"");
    assert_eq!(proxy.translate(Instant::ZERO, &mut reply), Verdict::ToClient);
    assert_eq!(reply, tcp(at(ORIGINAL), at(CLIENT), (SYN | ACK, 5000, 1001), b""));

    let mut data = tcp(at(CLIENT), at(ORIGINAL), (ACK, 1001, 5001), b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(proxy.translate(Instant::ZERO, &mut data), Verdict::ToServer);
    assert_eq!(data, tcp(at(ALTERNATIVE), at(SERVER), (ACK, 1001, 5001), b"GET / HTTP/1.0\r\n\r\n"));
}

#[test]
fn udp_byte_for_byte() {
    let mut proxy = proxy();
    let mut packet = udp(at(CLIENT), at(ORIGINAL), b"question");
    assert_eq!(proxy.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    assert_eq!(packet, udp(at(ALTERNATIVE), at(SERVER), b"question"));

    let mut reply = udp(at(SERVER), at(ALTERNATIVE), b"answer");
    assert_eq!(proxy.translate(Instant::ZERO, &mut reply), Verdict::ToClient);
    assert_eq!(reply, udp(at(ORIGINAL), at(CLIENT), b"answer"));
}

/// `(1.2.3.4:3456, 100.100.100.100:80), (10.10.10.10:513, 123.45.67.89:80)`, as the document stores it.
#[test]
fn the_pair_of_pairs() {
    let mut proxy = proxy();
    let mut packet = udp(at(CLIENT), at(ORIGINAL), b"");
    assert_eq!(proxy.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    let (connection, _) = proxy.connection(Protocol::Udp, at(CLIENT), at(ORIGINAL)).unwrap();
    assert_eq!(connection.to_string(), "(1.2.3.4:3456, 100.100.100.100:80), (10.10.10.10:513, 123.45.67.89:80)");
    assert_eq!(proxy.connections().count(), 1);
}

#[test]
fn what_no_rule_speaks_of_passes() {
    let mut proxy = proxy();
    for packet in [
        udp(at(CLIENT), at("100.100.100.100:81"), b"other port"),
        udp(at(CLIENT), at("100.100.100.101:80"), b"other host"),
        udp(at(CLIENT), at("10.10.10.10:53"), b"for the proxy itself"),
    ] {
        assert_eq!(run(&mut proxy, Instant::ZERO, &packet).0, Verdict::Pass);
    }
    assert_eq!(proxy.counters().passed, 3);
    assert_eq!(proxy.connections().count(), 0);
}
