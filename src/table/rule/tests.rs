//! Tests of `rule.rs`.

use super::*;
#[cfg(target_pointer_width = "64")]
use crate::table::rule_index::RuleIndexMut;
use crate::table::rules::Diverts;
use core::net::SocketAddrV4;

/// Lends rules without an index.
fn with_rules<T>(slots: &mut [DivertSlot], length: usize, run: impl FnOnce(&mut Diverts<'_>) -> T) -> T {
    #[cfg(target_pointer_width = "64")]
    let (mut directory, keys) =
        (crate::table::rule_index::Directory::new(&[]), crate::table::hash::Keys::new(&[7; 32]));
    run(&mut Diverts {
        slots,
        length,
        #[cfg(target_pointer_width = "64")]
        index: RuleIndexMut { directory: &mut directory, words: &mut [], filter: &mut [], keys: &keys },
    })
}

fn table(matches: &[Match]) -> Vec<DivertSlot> {
    let mut slots = vec![DivertSlot::EMPTY; matches.len()];
    with_rules(&mut slots, 0, |table| {
        for (i, m) in matches.iter().enumerate() {
            let place = table.place(m).unwrap_err();
            table.insert(place, DivertSlot::new(&Divert::new(*m), i as u16, false));
        }
    });
    slots
}

#[test]
fn the_most_specific_rule_decides() {
    let host = Ipv4Addr::new(192, 0, 2, 9);
    let clients = Prefix::new(Ipv4Addr::new(10, 1, 0, 0), 16).unwrap();
    let closer = Prefix::new(Ipv4Addr::new(10, 1, 2, 0), 24).unwrap();
    let matches = [
        Match::from(Prefix::ALL),
        Match::from(Prefix::new(host, 24).unwrap()),
        Match::from((Prefix::new(host, 24).unwrap(), 53)),
        Match::from(host),
        Match::from(SocketAddrV4::new(host, 80)),
        Match::from(SocketAddrV4::new(host, 80)).protocol(Protocol::Udp),
        Match::from(SocketAddrV4::new(host, 80)).clients(clients),
        Match::from(SocketAddrV4::new(host, 80)).clients(closer),
        Match::from(Prefix::ALL).protocol(Protocol::Icmp),
        Match::from(SocketAddrV4::new(host, 79)),
    ];
    let mut reversed = matches;
    reversed.reverse();
    let bits = |a, b, c, d| Ipv4Addr::new(a, b, c, d).to_bits();
    for order in [matches, reversed] {
        let rules = table(&order);
        for (protocol, client, destination, expected) in [
            (6, bits(9, 9, 9, 9), (bits(8, 8, 8, 8), 80), 0),
            (1, bits(9, 9, 9, 9), (bits(8, 8, 8, 8), 0), 8),
            (6, bits(9, 9, 9, 9), (bits(192, 0, 2, 1), 80), 1),
            (6, bits(9, 9, 9, 9), (bits(192, 0, 2, 1), 53), 2),
            (6, bits(9, 9, 9, 9), (host.to_bits(), 443), 3),
            (1, bits(9, 9, 9, 9), (host.to_bits(), 0), 3),
            (6, bits(9, 9, 9, 9), (host.to_bits(), 80), 4),
            (17, bits(10, 1, 2, 3), (host.to_bits(), 80), 5),
            (6, bits(10, 1, 9, 9), (host.to_bits(), 80), 6),
            (6, bits(10, 1, 2, 3), (host.to_bits(), 80), 7),
            (6, bits(10, 1, 2, 3), (host.to_bits(), 79), 9),
        ] {
            let destination = Endpoint::new(destination.0, destination.1);
            let found = find(&rules, protocol, client, destination).unwrap();
            assert_eq!(found.matches(), matches[expected], "{protocol} {destination:?}");
            #[cfg(target_pointer_width = "64")]
            if protocol != 1 {
                let quickly = find_host(&rules, protocol, client, destination).map(DivertSlot::matches);
                assert!(quickly.is_none_or(|m| m == matches[expected]), "{protocol} {destination:?}");
                assert!(quickly.is_some() || ![3, 5, 9].contains(&expected), "{protocol} {destination:?}");
            }
        }
    }
}

#[test]
fn rules_are_found_and_removed_again() {
    let matches: Vec<Match> =
        (0..40_u8).map(|i| Match::from(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, i % 7), u16::from(i)))).collect();
    let mut slots = table(&matches);
    let length = slots.len();
    with_rules(&mut slots, length, |table| {
        for (i, m) in matches.iter().enumerate() {
            let place = table.place(m).unwrap();
            assert_eq!(table.rules()[place].servers, i as u16);
            table.remove(place);
            assert!(table.place(m).is_err());
        }
        assert!(table.rules().is_empty());
    });
}
