//! An echo that is larger than the link's MTU goes both ways in fragments, as `ping -s 2000` sends it.

use byway::{Divert, Verdict};
use byway_testing::*;

const CLIENT: &str = "1.2.3.4";
const ORIGINAL: &str = "100.100.100.100";
const ALTERNATIVE: &str = "10.10.10.10";
const SERVER: &str = "123.45.67.89";

/// The two fragments of an echo whose data has 2000 bytes, the first of which has 1480 behind the IP header.
fn fragments(packet: &[u8]) -> [Vec<u8>; 2] {
    const FIRST: usize = 1480;
    let fragment = |payload: &[u8], flags_and_offset: u16| {
        let mut fragment = [&packet[..20], payload].concat();
        let total = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&total.to_be_bytes());
        fragment[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        fragment[10..12].fill(0);
        let checksum = !sum(&[&fragment[..20]]);
        fragment[10..12].copy_from_slice(&checksum.to_be_bytes());
        fragment
    };
    [fragment(&packet[20..20 + FIRST], 0x2000), fragment(&packet[20 + FIRST..], FIRST as u16 / 8)]
}

#[test]
fn a_fragmented_echo_goes_to_the_server_and_back() {
    let mut t = translator(config());
    t.divert(Divert::new(ip(ORIGINAL)).to(ip(SERVER))).unwrap();
    let data: Vec<u8> = (0..2000_u16).map(|i| i as u8).collect();

    let request = fragments(&echo(8, ip(CLIENT), ip(ORIGINAL), 0x0707, &data));
    let seen = request.map(|fragment| there(&mut t, s(0), &fragment));
    let identifier = u16::from_be_bytes([seen[0][24], seen[0][25]]);
    assert_eq!(seen, fragments(&echo(8, ip(ALTERNATIVE), ip(SERVER), identifier, &data)));

    let reply = fragments(&echo(0, ip(SERVER), ip(ALTERNATIVE), identifier, &data));
    let seen = reply.map(|fragment| back(&mut t, s(0), &fragment));
    assert_eq!(seen, fragments(&echo(0, ip(ORIGINAL), ip(CLIENT), 0x0707, &data)));

    assert_eq!(t.connections().count(), 1);
    assert_eq!((t.counters().to_server, t.counters().to_client, t.counters().passed), (2, 2, 0));
}

#[test]
fn a_fragment_of_an_icmp_error_is_not_looked_into() {
    let mut t = translator(config());
    t.divert(Divert::new(ip(ORIGINAL)).to(ip(SERVER))).unwrap();
    let about = udp(at("100.100.100.100:53"), at("1.2.3.4:5000"), &[0; 1990]);
    let error = fragments(&icmp_error(3, 3, ip(CLIENT), &about, 2000));
    for fragment in error {
        assert_eq!(run(&mut t, s(0), &fragment).0, Verdict::Pass);
    }
    assert_eq!(t.connections().count(), 0);
}
