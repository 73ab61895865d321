//! Fragments in any order, and identifications that come again. Fault classes: cilium/cilium#25709, cilium/cilium#13349,
//! zephyrproject-rtos/zephyr#56317 (order), mullvad/gotatun#174 (the protocol belongs to the identity),
//! OpenFastPath/ofp#170 and eclipse-ecal/ecal#342 (identifications that come again soon).

use byway::{Checksums, Config, DatagramId, Divert, DropReason, Heap, Instant, Prefix, Storage, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

fn the_translator(config: Config) -> Translator<Heap> {
    let mut t = translator(config);
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    t
}

fn datagram(number: u8, length: usize) -> Vec<u8> {
    udp(at(CLIENT), at("100.100.100.100:2049"), &vec![number; length])
}

const OVERLAPPING: Verdict = Verdict::Drop(DropReason::OverlappingFragment);

/// Offers packets, and those that are held again after each that is not and that has the same identity. All must get
/// this verdict in the end.
fn carry<S: Storage>(t: &mut Translator<S>, now: Instant, pieces: &[Vec<u8>], due: Verdict) -> Vec<Vec<u8>> {
    let mut held: Vec<(DatagramId, &Vec<u8>)> = Vec::new();
    let mut out = Vec::new();
    for piece in pieces {
        let id = DatagramId::of_fragment(piece).expect("it is a fragment");
        let mut offered = vec![piece];
        while let Some(piece) = offered.pop() {
            match run(t, now, piece) {
                (Verdict::Hold, _) => held.push((id, piece)),
                (verdict, packet) => {
                    assert_eq!(verdict, due);
                    out.push(packet);
                    offered.extend(held.extract_if(.., |(of, _)| *of == id).map(|(_, piece)| piece));
                }
            }
        }
    }
    assert!(held.is_empty(), "{} are held for ever", held.len());
    out
}

fn shuffle<T>(dice: &mut Dice, items: &mut [T]) {
    for n in (1..items.len()).rev() {
        items.swap(n, dice.below(n as u64 + 1) as usize);
    }
}

#[test]
fn any_order_of_four_pieces() {
    let pieces = fragments(&datagram(9, 1_000), 77, 256);
    assert_eq!(pieces.len(), 4);
    let mut orders = vec![];
    for order in 0..256 {
        let order = [order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6];
        if (0..4).all(|n| order.contains(&n)) {
            orders.push(order);
        }
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        let mut t = the_translator(config());
        let shuffled: Vec<_> = order.iter().map(|n| pieces[*n].clone()).collect();
        let whole = reassemble(&carry(&mut t, s(0), &shuffled, Verdict::ToServer));
        assert_eq!(checksums(&whole), BOTH, "{order:?}");
        assert_eq!(ends(&whole).1, at("123.45.67.89:2049"));
    }
}

/// 24 fragments, shuffled and in the worst order, of any sizes: both ways, for a client that keeps its address, for
/// hardware that computes checksums, and for what passes. Every copy of one that was seen is dropped.
#[test]
fn up_to_24_fragments_arrive_in_any_order() {
    let mut dice = Dice(24);
    for (kept, checksums_by) in
        [(false, Checksums::Software), (true, Checksums::Software), (false, Checksums::Hardware)]
    {
        let config = config().checksums(checksums_by);
        let mut t = Translator::new(config, Heap::new(16, 4).fragments(4)).unwrap();
        let rule = Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"));
        t.divert(if kept { rule.keep_source() } else { rule }).unwrap();
        let (alternative, server) = ends(&there(&mut t, s(0), &udp(at(CLIENT), at("100.100.100.100:2049"), b"")));
        for round in 0..60_u64 {
            let count = if round < 20 { 24 } else { 2 + dice.below(23) as usize };
            let to_server = udp(at(CLIENT), at("100.100.100.100:2049"), &vec![round as u8; count * 64 - 8]);
            let to_client = udp(server, alternative, &vec![round as u8; count * 64 - 8]);
            let passing = ipv4(47, *at(CLIENT).ip(), ip("100.100.100.100"), &vec![round as u8; count * 64]);
            for (packet, due) in
                [(to_server, Verdict::ToServer), (to_client, Verdict::ToClient), (passing, Verdict::Pass)]
            {
                let mut pieces = cut(&packet, &sizes(&mut dice, count), round as u16);
                if round == 0 {
                    pieces = pieces.iter().step_by(2).chain(pieces.iter().skip(1).step_by(2)).cloned().collect();
                } else if round % 2 == 0 {
                    shuffle(&mut dice, &mut pieces[1..]);
                } else {
                    shuffle(&mut dice, &mut pieces);
                }
                let now = s(round);
                let out = carry(&mut t, now, &pieces, due);
                let whole = reassemble(&out);
                if due == Verdict::Pass {
                    assert_eq!(whole[20..], packet[20..]);
                } else {
                    // No hardware computes that of a datagram in fragments.
                    assert_eq!(checksums(&whole).transport, BOTH.transport, "{round}");
                }
                for piece in pieces.iter().filter(|piece| piece[6] & 0x1f != 0 || piece[7] != 0) {
                    assert_eq!(verdict(&mut t, now, piece), OVERLAPPING, "a copy behind the last one");
                }
            }
        }
        let counters = t.counters();
        assert_eq!((counters.dropped(DropReason::ScatteredFragment), counters.fragments_evicted), (0, 0));
    }
}

/// Sizes of so many fragments, in units of 8 bytes, 8 on an average.
fn sizes(dice: &mut Dice, count: usize) -> Vec<usize> {
    let mut sizes = vec![8; count];
    for _ in 0..count {
        let (from, to) = (dice.below(count as u64) as usize, dice.below(count as u64) as usize);
        let by = dice.below(6) as usize;
        // The first one holds the whole header.
        if sizes[from] > by + 3 {
            sizes[from] -= by;
            sizes[to] += by;
        }
    }
    sizes
}

/// Cuts a packet into fragments of these sizes, in units of 8 bytes.
fn cut(packet: &[u8], sizes: &[usize], identification: u16) -> Vec<Vec<u8>> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let part = &packet[20 + 8 * start..20 + 8 * (start + size)];
        pieces.push(fragment(packet, identification, start as u16, n + 1 < sizes.len(), part));
        start += size;
    }
    assert_eq!(20 + 8 * start, packet.len());
    pieces
}

/// The same addresses and the same identification, TCP and UDP and ICMP, their pieces mixed.
#[test]
fn protocols_are_told_apart() {
    let mut t = the_translator(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at("100.100.100.100:80"));
    let segment = tcp(at(CLIENT), at("100.100.100.100:80"), (ACK, CLIENT_START + 1, SERVER_START + 1), &[5; 600]);
    let echo = echo(8, ip("192.168.7.7"), ip("100.100.100.100"), 3, &[6; 600]);
    let parts: Vec<_> = [&segment, &datagram(9, 600), &echo].map(|p| fragments(p, 4242, 320)).into();
    let mut out = vec![vec![]; 3];
    for n in 0..2 {
        for (k, part) in parts.iter().enumerate() {
            out[k].push(there(&mut t, s(0), &part[n]));
        }
    }
    for whole in out.iter().map(|o| reassemble(o)) {
        assert_eq!(checksums(&whole), BOTH);
    }
    assert_eq!(ends(&reassemble(&out[0])), (alternative, server));
}

/// A sender whose identifications come again soon (one counter of few bits, zero always, or random numbers): each datagram
/// is complete before the next begins, so a receiver reassembles all of them, and a router carries all of them.
#[test]
fn an_identification_may_come_again_when_its_datagram_is_complete() {
    let mut t = the_translator(config());
    for number in 0..20 {
        for now in [s(u64::from(number)), s(u64::from(number))] {
            for piece in fragments(&datagram(number, 1_000), 0, 512) {
                there(&mut t, now, &piece);
            }
        }
    }
    // And in other sizes, which fit no gap of the one before.
    for length in [3_000, 520, 1_000, 2_000] {
        for piece in fragments(&datagram(1, length), 0, 512) {
            there(&mut t, s(20), &piece);
        }
    }
    assert_eq!(t.counters().dropped_in_all(), 0);
}

/// The same where a later fragment comes first: it is held as soon as it cannot be a copy of one that was seen.
#[test]
fn an_identification_may_come_again_out_of_order() {
    let mut t = the_translator(config());
    let mut dice = Dice(3);
    for number in 0..50_u8 {
        let mut pieces = fragments(&datagram(number, 2_000), 0, 512);
        shuffle(&mut dice, &mut pieces);
        let now = Instant::from_millis(200 * u64::from(number));
        let whole = reassemble(&carry(&mut t, now, &pieces, Verdict::ToServer));
        assert_eq!((checksums(&whole), whole[28]), (BOTH, number));
    }
    assert_eq!(t.counters().dropped_in_all(), 0);
}

/// 1000 fragmented datagrams a second with random identifications, as some stacks choose them.
#[test]
fn random_identifications_lose_nothing() {
    for rewritten in [false, true] {
        let config = config().rewrite_identification(rewritten);
        let mut t = Translator::new(config, Heap::new(1000, 10).fragments(1024)).unwrap();
        t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        let mut dice = Dice(1);
        for number in 0..10_000_u64 {
            let identification = dice.below(65_536) as u16;
            let now = Instant::from_millis(number);
            for piece in fragments(&datagram(1, 1_000), identification, 512) {
                assert_eq!(verdict(&mut t, now, &piece), Verdict::ToServer);
            }
        }
        assert_eq!(t.counters().fragments_evicted, 0, "what is complete is not missed");
    }
}

/// A fragment is lost, and the identification comes again while its datagram is not complete. The new datagram is
/// carried over, whole, and not mixed with the old one (RFC 6864, section 4.3, and RFC 4963 say why it can happen).
#[test]
fn a_lost_fragment_costs_its_own_datagram_and_no_other() {
    let mut t = the_translator(config().rewrite_identification(true));
    let mut dice = Dice(7);
    let mut lost_before = false;
    for number in 0..60_u8 {
        let length = 600 + dice.below(3_000) as usize;
        let mut pieces = fragments(&datagram(number, length), 0, 512);
        let lost = dice.below(3) == 0;
        if lost {
            let place = 1 + dice.below(pieces.len() as u64 - 1) as usize;
            pieces.remove(place);
        }
        let out = carry(&mut t, Instant::from_millis(500 * u64::from(number)), &pieces, Verdict::ToServer);
        assert!(out.windows(2).all(|pair| pair[0][4..6] == pair[1][4..6]));
        if !lost {
            assert_eq!(checksums(&reassemble(&out)), BOTH, "{number}, {lost_before}");
        }
        lost_before = lost;
    }
    assert_eq!(t.counters().dropped_in_all(), 0);
}

/// The first fragment of a new datagram is dropped: those behind it must not follow the first one of the old datagram.
#[test]
fn fragments_of_a_dropped_datagram_do_not_follow_an_older_one() {
    let mut t = Translator::new(config().client_limit(1), Heap::new(16, 4).fragments(4)).unwrap();
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let old = fragments(&datagram(1, 2_000), 0, 512);
    there(&mut t, s(0), &old[0]);
    let refused = udp(at("192.168.7.7:41000"), at("100.100.100.100:2049"), &[2; 2_000]);
    let new = fragments(&refused, 0, 512);
    assert_eq!(verdict(&mut t, s(1), &new[0]), Verdict::Drop(DropReason::ClientLimit));
    for piece in &new[1..] {
        assert_eq!(verdict(&mut t, s(1), piece), Verdict::Hold);
    }
}

/// Overlaps within one datagram are dropped all the same, also behind its last piece.
#[test]
fn an_overlap_is_still_dropped() {
    let pieces = fragments(&datagram(9, 1_000), 77, 512);
    let mut t = the_translator(config());
    there(&mut t, s(0), &pieces[0]);
    assert_eq!(verdict(&mut t, s(0), &pieces[0]), OVERLAPPING);
    there(&mut t, s(0), &pieces[1]);
    assert_eq!(verdict(&mut t, s(0), &pieces[1]), OVERLAPPING);
}

/// A datagram has one end: nothing lies behind it, and there is no second one.
#[test]
fn what_lies_behind_the_last_fragment_is_dropped() {
    let whole = datagram(9, 3_000);
    let part = |offset: u16, more, length: usize| {
        let start = 20 + usize::from(offset) * 8;
        fragment(&whole, 3, offset, more, &whole[start..start + length])
    };
    let mut t = the_translator(config());
    there(&mut t, s(0), &part(0, true, 80));
    there(&mut t, s(0), &part(100, false, 80));
    for (offset, more, length) in [(110, true, 8), (110, false, 8), (200, true, 800), (50, false, 8), (90, false, 80)] {
        assert_eq!(verdict(&mut t, s(0), &part(offset, more, length)), OVERLAPPING, "{offset}");
    }
    there(&mut t, s(0), &part(10, true, 720));
    let mut t = the_translator(config());
    there(&mut t, s(0), &part(0, true, 80));
    there(&mut t, s(0), &part(100, true, 80));
    assert_eq!(verdict(&mut t, s(0), &part(50, false, 8)), OVERLAPPING);
}

/// More than a note can remember: 12 disjoint parts.
#[test]
fn a_thirteenth_disjoint_part_is_dropped_until_a_gap_closes() {
    let whole = datagram(9, 3_000);
    let part = |offset: u16| {
        let start = 20 + usize::from(offset) * 8;
        fragment(&whole, 3, offset, true, &whole[start..start + 80])
    };
    let mut t = the_translator(config());
    for n in 0..12 {
        there(&mut t, s(0), &part(20 * n));
    }
    assert_eq!(verdict(&mut t, s(0), &part(240)), Verdict::Drop(DropReason::ScatteredFragment));
    there(&mut t, s(0), &part(10));
    there(&mut t, s(0), &part(240));
    assert_eq!(verdict(&mut t, s(0), &part(260)), Verdict::Drop(DropReason::ScatteredFragment));
}

/// `DatagramId` is the same for all fragments of one datagram, and for no other packets; `hold_until` follows the
/// time-out.
#[test]
fn the_identity_of_a_datagram() {
    let id = |packet: &[u8]| DatagramId::of_fragment(packet);
    let pieces = fragments(&datagram(9, 1_000), 77, 256);
    let expected =
        DatagramId { source: *at(CLIENT).ip(), destination: ip("100.100.100.100"), protocol: 17, identification: 77 };
    assert!(pieces.iter().all(|piece| id(piece) == Some(expected)));
    for other in [
        fragments(&datagram(9, 1_000), 78, 256),
        fragments(&udp(client(3), at("100.100.100.100:2049"), &[9; 1_000]), 77, 256),
        fragments(&udp(at(CLIENT), at("100.100.100.101:2049"), &[9; 1_000]), 77, 256),
        fragments(&echo(8, *at(CLIENT).ip(), ip("100.100.100.100"), 3, &[6; 600]), 77, 256),
    ] {
        assert!(id(&other[1]).is_some_and(|other| other != expected));
    }
    assert_eq!(id(&datagram(9, 100)), None, "it is whole");
    assert_eq!(id(&pieces[0][..19]), None, "it is cut short");
    let mut version_6 = pieces[1].clone();
    version_6[0] = 0x60;
    assert_eq!((id(&version_6), id(&[])), (None, None));

    let mut t = translator(config());
    t.divert(Divert::new(Prefix::ALL)).unwrap();
    assert_eq!(t.hold_until(s(5)), s(35));
    let mut timeouts = t.timeouts();
    timeouts.fragment = core::time::Duration::from_secs(3);
    t.set_timeouts(timeouts).unwrap();
    assert_eq!(t.hold_until(s(5)), s(8));
    assert!(t.hold_until(Instant::from_micros(u64::MAX)) <= Instant::from_micros(u64::MAX));
}
