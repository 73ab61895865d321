//! An echo reply of nothing but zeros (identifier 0, sequence number 0, no data or zeros) has the only checksum that
//! must be written 0xFFFF: 0x0000 would be wrong. The same fault was found in others: firezone/firezone#14110,
//! tabascoeye/lwip#17, apache/nuttx#18812; the capture `tests/detect-vlan-id/input.pcap` of OISF/suricata-verify has such
//! a pair.
//!
//! The oracle sums up all bytes, as a receiver does. Where anything is not zero a receiver takes 0x0000 and 0xFFFF alike,
//! and what is expected is what a host writes: 0x0000.

use byway::{Checksums, Config, Divert, PortChoice, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// An echo message of type `kind` with sequence number 0 and `zeros` bytes of zeros.
fn zero_echo(kind: u8, from: &str, to: &str, identifier: u16, zeros: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, (identifier >> 8) as u8, identifier as u8, 0, 0];
    message.extend(vec![0; zeros]);
    ipv4(1, ip(from), ip(to), &message)
}

fn there_and_back(config: Config, keep_source: bool, zeros: usize) {
    let mut t = translator(config);
    let mut rule = Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"));
    if keep_source {
        rule = rule.keep_source();
    }
    t.divert(rule).unwrap();
    let seen = there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, zeros));
    let identifier = u16::from_be_bytes([seen[24], seen[25]]);
    let alternative = address(&seen, 12);
    let answer = zero_echo(0, "123.45.67.89", &alternative.to_string(), identifier, zeros);
    assert_eq!(checksums(&answer), BOTH);
    let restored = back(&mut t, s(0), &answer);
    let due = zero_echo(0, "100.100.100.100", "192.168.7.7", 0, zeros);
    assert_eq!(due[22..24], [0xff, 0xff]);
    assert_eq!(restored[20..], due[20..], "{zeros} zeros, keep_source {keep_source}");
    assert_eq!(checksums(&restored), BOTH);
}

#[test]
fn the_reply_of_all_zeros_stays_valid() {
    for zeros in [0, 1, 2, 32, 56, 1000] {
        there_and_back(config(), false, zeros);
    }
}

#[test]
fn also_where_the_source_is_kept() {
    there_and_back(config(), true, 0);
}

#[test]
fn also_where_the_identifier_may_be_kept() {
    let config = Config::new([1; 32]).alternative(ip(ALTERNATIVE), 0..=65535).port_choice(PortChoice::Keep);
    there_and_back(config, false, 0);
}

#[test]
fn also_for_hardware() {
    let mut t = translator(config().checksums(Checksums::Hardware));
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let seen = there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, 0));
    let answer = zero_echo(0, "123.45.67.89", ALTERNATIVE, u16::from_be_bytes([seen[24], seen[25]]), 0);
    let restored = back(&mut t, s(0), &answer);
    assert_eq!(restored[20..28], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
}

/// All other replies come back as they were, those whose checksum is 0x0000 included.
#[test]
fn replies_that_are_not_all_zeros_come_back_as_they_were() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    for identifier in [0_u16, 1, 0x1234, 0xffff] {
        for word in [1_u16, 0xffff, 0xfffe, !identifier, 0x8000] {
            let message = |id: u16, kind: u8| {
                let mut m = vec![kind, 0, 0, 0, (id >> 8) as u8, id as u8, 0, 0];
                m.extend(word.to_be_bytes());
                m
            };
            let asked = ipv4(1, ip("192.168.7.7"), ip("100.100.100.100"), &message(identifier, 8));
            let (verdict, seen) = run(&mut t, s(0), &asked);
            assert_eq!(verdict, Verdict::ToServer);
            let id = u16::from_be_bytes([seen[24], seen[25]]);
            let answer = ipv4(1, ip("123.45.67.89"), address(&seen, 12), &message(id, 0));
            let restored = back(&mut t, s(0), &answer);
            assert_eq!(checksums(&restored), BOTH, "{identifier:#x} {word:#x}");
            assert_eq!(restored, ipv4(1, ip("100.100.100.100"), ip("192.168.7.7"), &message(identifier, 0)));
        }
    }
}

/// In fragments the translator does not see all of it at once: whatever it writes in place of 0x0000 has to be valid.
#[test]
fn also_in_fragments() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let seen = there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, 0));
    let identifier = u16::from_be_bytes([seen[24], seen[25]]);
    let answer = zero_echo(0, "123.45.67.89", ALTERNATIVE, identifier, 3_000);
    let parts: Vec<_> = fragments(&answer, 7, 1_480).iter().map(|p| back(&mut t, s(0), p)).collect();
    assert_eq!(checksums(&reassemble(&parts)), BOTH);
}

/// The first fragment is all zeros, and the rest is not: its bytes decide what is right.
#[test]
fn a_first_fragment_of_zeros_is_right_whatever_the_rest_holds() {
    for config in [config(), config().checksums(Checksums::Hardware)] {
        let mut t = translator(config);
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        let seen = there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, 0));
        let identifier = u16::from_be_bytes([seen[24], seen[25]]);
        let ends = [0, 1, 0x7fff, 0xfffe, 0xffff, !identifier].map(u16::to_be_bytes);
        for (number, end) in (1..).zip(ends) {
            let mut message = vec![0; 2_000];
            message[4..6].copy_from_slice(&identifier.to_be_bytes());
            message[1_998..].copy_from_slice(&end);
            let answer = ipv4(1, ip("123.45.67.89"), ip(ALTERNATIVE), &message);
            let pieces = fragments(&answer, number, 1_480);
            // The hardware leaves the headers to whoever sends them.
            let mut parts: Vec<_> = pieces.iter().map(|piece| back(&mut t, s(0), piece)).collect();
            parts.iter_mut().for_each(|part| header_checksum(part));
            assert_eq!(parts[0][24..], [0; 1_476]);
            assert_eq!(checksums(&reassemble(&parts)), BOTH, "{end:x?}");
        }
    }
}

/// Whoever gets an error looks for its own packet in it, and a host that sends nothing but zeros writes 0xFFFF.
#[test]
fn also_in_what_an_error_quotes() {
    let quoted_by = |t: &mut byway::Translator<byway::Heap>, about: &[u8]| {
        let error = icmp_error(3, 3, ip("192.168.7.7"), about, 64);
        let seen = there(t, s(0), &error);
        assert_eq!(checksums(&seen), BOTH);
        assert!(sum(&[&seen[28..48]]) == 0xffff);
        seen[28..].to_vec()
    };
    for zeros in [0, 1, 2, 32] {
        // The client's identifier is 0, and then the alternative one is not: the client tells of what it got.
        let mut t = translator(config());
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        let seen = there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, zeros));
        let identifier = u16::from_be_bytes([seen[24], seen[25]]);
        let answer = zero_echo(0, "123.45.67.89", ALTERNATIVE, identifier, zeros);
        let restored = back(&mut t, s(0), &answer);
        assert_eq!(quoted_by(&mut t, &restored), answer);
        // With its source kept.
        let mut t = translator(config());
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89")).keep_source()).unwrap();
        there(&mut t, s(0), &zero_echo(8, "192.168.7.7", "100.100.100.100", 0, zeros));
        let answer = zero_echo(0, "123.45.67.89", "192.168.7.7", 0, zeros);
        let restored = back(&mut t, s(0), &answer);
        assert_eq!(quoted_by(&mut t, &restored), answer);
    }
}

/// Every identifier, with every kind of sequence number and data beside it, and checksums that are right and wrong: the
/// reply that comes back is exactly the one that the server would have sent to the client itself.
#[test]
fn every_identifier_comes_back_with_the_checksum_that_a_host_writes() {
    for keep_source in [false, true] {
        let mut t = translator(Config::new([3; 32]).alternative(ip(ALTERNATIVE), 1..=65535));
        let rule = Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"));
        t.divert(if keep_source { rule.keep_source() } else { rule }).unwrap();
        for identifier in (0..=0xffff_u16).filter(|i| *i < 20 || *i > 0xfff0 || i % 997 == 0) {
            let asked = zero_echo(8, "192.168.7.7", "100.100.100.100", identifier, 0);
            let (_, seen) = run(&mut t, s(u64::from(identifier)), &asked);
            let there = u16::from_be_bytes([seen[24], seen[25]]);
            for rest in [[0, 0], [0, 1], [1, 0], [0, 0xffff], [!identifier, 0], [!there, 0], [0x8000, 0x7fff]] {
                let message = |identifier: u16| {
                    let words = [0, 0, identifier, rest[0], rest[1]];
                    words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>()
                };
                let answer = ipv4(1, ip("123.45.67.89"), address(&seen, 12), &message(there));
                let due = ipv4(1, ip("100.100.100.100"), ip("192.168.7.7"), &message(identifier));
                let restored = back(&mut t, s(u64::from(identifier)), &answer);
                assert_eq!(restored, due, "{identifier:#x} {there:#x} {rest:x?}");
                // A wrong one stays wrong, and where nothing changes it stays as it is.
                for off in [1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfffe, 0xffff] {
                    let mut wrong = answer.clone();
                    let field = u16::from_be_bytes([wrong[22], wrong[23]]).wrapping_add(off);
                    wrong[22..24].copy_from_slice(&field.to_be_bytes());
                    let right = checksums(&wrong).transport;
                    let restored = back(&mut t, s(u64::from(identifier)), &wrong);
                    assert_eq!(checksums(&restored).transport, right, "{identifier:#x} {rest:x?} {field:#x}");
                    assert!(there != identifier || restored[20..] == wrong[20..]);
                }
            }
        }
    }
}
