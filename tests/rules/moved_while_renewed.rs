//! A rule that moves to another place while a pass renews the filters.

use byway::{Config, Divert, Heap, Instant, Match, Protocol, Translator, Verdict};
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

/// The private servers of a port forward stay hidden at every moment of the pass.
#[test]
fn a_hiding_rule_that_moves_hides_its_server_still() {
    let own = Ipv4Addr::new(203, 0, 113, 1);
    let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own(own);
    let mut t = Translator::new(config, Heap::new(64, 2048)).unwrap();
    let server = |n: u16| SocketAddrV4::new(Ipv4Addr::new(192, 168, (n >> 8) as u8, n as u8), 80);
    let matches = |n: u16| Match::from(SocketAddrV4::new(own, 1000 + n)).protocol(Protocol::Tcp);
    for n in 0..400 {
        t.divert(Divert::new(matches(n)).to(server(n)).keep_source()).unwrap();
    }
    let packet = tcp(server(399), at("8.8.8.8:5555"), (ACK, 5, 6), b"x");
    let hidden = |t: &mut Translator<Heap>, now| {
        let verdict = t.translate(Instant::from_millis(now), &mut packet.clone());
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?} at {now} ms");
    };
    hidden(&mut t, 0);
    // A rule that comes and goes makes a pass necessary.
    t.divert(Divert::new(at("9.9.9.9:99")).to(at("20.0.0.1:80"))).unwrap();
    t.poll(Instant::from_millis(10));
    t.remove(at("9.9.9.9:99")).unwrap();
    t.poll(Instant::from_millis(9_000));
    t.poll(Instant::from_millis(9_001));
    // The last rule moves to the first place, which the pass has already examined.
    t.remove(matches(0)).unwrap();
    for step in 0..3_000 {
        t.poll(Instant::from_millis(9_002 + 10 * step));
        hidden(&mut t, 9_002 + 10 * step);
    }
}
