//! Fragments without reassembly: RFC 4787 REQ-14, RFC 1858, RFC 3128.

use byway::{Divert, DropReason, Heap, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// Identifications come round again: what was forgotten long ago is no overlap.
#[test]
fn an_identification_can_be_used_again_after_the_time_out() {
    let mut t = diverting(config());
    let datagram = udp(at(CLIENT), at(ORIGINAL), &[7; 2_000]);
    for now in [0, 31, 100, 1_000] {
        for piece in fragments(&datagram, 77, 1_000) {
            there(&mut t, s(now), &piece);
        }
    }
    assert_eq!(t.counters().dropped_in_all(), 0);
}

/// RFC 1858, section 3: a first fragment holds the whole transport header, TCP options included.
#[test]
fn a_first_fragment_that_cuts_the_tcp_options_is_tiny() {
    let mut t = diverting(config());
    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    t.remove(at(ORIGINAL));
    for (from, to) in [(at(CLIENT), at(ORIGINAL)), (server, alternative)] {
        let mut whole = tcp(from, to, (ACK, CLIENT_START + 1, SERVER_START + 1), &[1; 40]);
        whole[32] = 8 << 4;
        let cut = fragment(&whole, 5, 0, true, &whole[20..44]);
        assert_eq!(verdict(&mut t, s(0), &cut), Verdict::Drop(DropReason::TinyFragment));
        whole[32] = 4 << 4;
        let contradicting = fragment(&whole, 6, 0, true, &whole[20..44]);
        assert_eq!(verdict(&mut t, s(0), &contradicting), Verdict::Drop(DropReason::MalformedTransport));
    }
}

/// A UDP datagram large enough for many fragments.
fn large(length: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
    udp(at(CLIENT), at(ORIGINAL), &data)
}

/// Offers fragments in this order; those that are to be held are offered again after each one that went through.
/// Returns what the other side gets, in the order in which it leaves.
fn deliver(t: &mut Translator<Heap>, now: byway::Instant, pieces: &[Vec<u8>], due: Verdict) -> Vec<Vec<u8>> {
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut out = Vec::new();
    for piece in pieces {
        let mut waiting = vec![piece.clone()];
        while let Some(piece) = waiting.pop() {
            let (verdict, packet) = run(t, now, &piece);
            if verdict == Verdict::Hold {
                held.push(piece);
            } else {
                assert_eq!(verdict, due);
                out.push(packet);
                waiting.append(&mut held);
            }
        }
    }
    assert!(held.is_empty(), "{} fragments were held for ever", held.len());
    out
}

/// RFC 4787, REQ-14: in order, reversed, and shuffled; both ways.
#[test]
fn fragments_in_any_order_arrive_translated() {
    let whole = large(4_000);
    let mut t = diverting(config());
    let due_there = there(&mut t, s(0), &whole);
    let (alternative, server) = ends(&due_there);
    let answer = udp(server, alternative, &[9; 3_333]);
    let due_back = back(&mut t, s(0), &answer);
    let mut id = 100;
    for size in [8, 64, 1_000, 1_480, 2_048] {
        for order in 0..6 {
            for (packet, due, verdict) in
                [(&whole, &due_there, Verdict::ToServer), (&answer, &due_back, Verdict::ToClient)]
            {
                id += 1;
                let mut pieces = fragments(packet, id, size);
                match order {
                    0 => {}
                    1 => pieces.reverse(),
                    2 => pieces[1..].reverse(),
                    // At most a few pieces apart: what a network does.
                    n if size >= 1_000 => {
                        let by = (n - 2) % pieces.len();
                        pieces.rotate_left(by);
                    }
                    _ => pieces.swap(0, 1),
                }
                let scattered = size < 1_000 && order == 2;
                if scattered {
                    continue;
                }
                let out = deliver(&mut t, s(1), &pieces, verdict);
                assert_eq!(out.len(), pieces.len());
                for piece in &out {
                    assert_eq!(sum(&[&piece[..20]]), 0xffff, "the header checksum of a fragment");
                    assert_eq!(piece[4..6], id.to_be_bytes());
                }
                let mut together = reassemble(&out);
                assert_eq!(checksums(&together), BOTH);
                together[4..8].copy_from_slice(&due[4..8]);
                header_checksum(&mut together);
                assert_eq!(&together, due);
            }
        }
    }
    assert_eq!((t.connections().count(), t.counters().dropped_in_all()), (1, 0));
    assert!(t.counters().held > 0);
}

/// Two clients use the same identification at the same time.
#[test]
fn interleaved_datagrams_of_several_clients_do_not_mix() {
    let mut t = diverting(config());
    let all: Vec<Vec<u8>> = (0..10).map(|n| udp(client(n), at(ORIGINAL), &[n as u8; 2_500])).collect();
    let pieces: Vec<Vec<Vec<u8>>> = all.iter().map(|packet| fragments(packet, 7, 800)).collect();
    let mut out = vec![Vec::new(); 10];
    for i in 0..pieces[0].len() {
        for (n, pieces) in pieces.iter().enumerate() {
            out[n].push(there(&mut t, s(0), &pieces[i]));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (n, pieces) in out.iter().enumerate() {
        let whole = reassemble(pieces);
        assert_eq!((checksums(&whole), whole[28]), (BOTH, n as u8));
        assert!(seen.insert(ends(&whole).0));
    }
}

/// RFC 7857, section 10; RFC 6864: with the same identification behind one address, the server would mix the two.
#[test]
fn rewritten_identifications_are_different_for_each_datagram_and_equal_within_one() {
    let mut t = diverting(config().rewrite_identification(true));
    let mut used = std::collections::HashSet::new();
    for n in 0..60 {
        let whole = udp(client(n % 6), at(ORIGINAL), &[n as u8; 2_500]);
        let mut pieces = fragments(&whole, 7, 800);
        if n % 2 == 1 {
            pieces[1..].reverse();
        }
        let out: Vec<_> = pieces.iter().map(|piece| there(&mut t, s(u64::from(n) * 31), piece)).collect();
        let id = [out[0][4], out[0][5]];
        assert!(out.iter().all(|piece| piece[4..6] == id && sum(&[&piece[..20]]) == 0xffff));
        assert_eq!(checksums(&reassemble(&out)), BOTH);
        assert!(used.insert(id), "an identification was used twice");
        // A whole packet that may be fragmented later gets its own, too; one that may not keeps its.
        let mut may = udp(client(n % 6), at(ORIGINAL), b"small");
        let must_not = there(&mut t, s(u64::from(n) * 31), &may);
        assert_eq!(must_not[4..6], [0x12, 0x34]);
        may[6] = 0;
        header_checksum(&mut may);
        let seen = there(&mut t, s(u64::from(n) * 31), &may);
        assert_eq!(checksums(&seen), BOTH);
        assert!(used.insert([seen[4], seen[5]]));
    }
}

/// An error comes from an address that it shares with others once it is translated, as any other packet does.
#[test]
fn errors_that_may_be_fragmented_get_an_identification_too() {
    let mut t = diverting(config().rewrite_identification(true));
    let question = udp(at(CLIENT), at(ORIGINAL), b"question");
    let asked = there(&mut t, s(0), &question);
    let answer = back(&mut t, s(0), &udp(at(SERVER), ends(&asked).0, b"answer"));
    let mut used = std::collections::HashSet::from([0x1234]);
    for atomic in [false, true, false] {
        let mut to_client = icmp_error(3, 3, *at(SERVER).ip(), &asked, 28);
        let mut to_server = icmp_error(3, 3, *at(CLIENT).ip(), &answer, 28);
        for error in [&mut to_client, &mut to_server] {
            error[6] = if atomic { 0x40 } else { 0 };
            header_checksum(error);
        }
        for seen in [back(&mut t, s(0), &to_client), there(&mut t, s(0), &to_server)] {
            assert_eq!(checksums(&seen), BOTH);
            let new = used.insert(u16::from_be_bytes([seen[4], seen[5]]));
            assert_eq!(new, !atomic, "an identification of its own if it may be fragmented, else the one that it had");
        }
    }
}

/// All 65 536 come before any comes again.
#[test]
fn identifications_do_not_repeat_before_all_were_used() {
    let mut t = diverting(config().rewrite_identification(true));
    let mut may = udp(at(CLIENT), at(ORIGINAL), b"");
    may[6] = 0;
    header_checksum(&mut may);
    let mut used = vec![false; 65_536];
    let mut steps = std::collections::HashMap::<u16, u32>::new();
    let mut last = 0_u16;
    for _ in 0..65_536 {
        let seen = there(&mut t, s(0), &may);
        let id = u16::from_be_bytes([seen[4], seen[5]]);
        assert!(!core::mem::replace(&mut used[usize::from(id)], true));
        *steps.entry(id.wrapping_sub(last)).or_default() += 1;
        last = id;
    }
    assert!(*steps.values().max().unwrap() < 40, "they can be foretold");
}

/// What overlaps is dropped, whatever it says (RFC 1858, RFC 5722's reasons).
#[test]
fn overlaps_and_duplicates_are_dropped() {
    let whole = large(3_000);
    let part = |offset: u16, more, length: usize| {
        let start = 20 + usize::from(offset) * 8;
        fragment(&whole, 3, offset, more, &whole[start..start + length])
    };
    let mut t = diverting(config());
    there(&mut t, s(0), &part(0, true, 800));
    there(&mut t, s(0), &part(200, true, 800));
    let overlapping = Verdict::Drop(DropReason::OverlappingFragment);
    for (offset, length) in [(0, 800), (0, 8), (99, 8), (99, 16), (50, 400), (199, 16), (200, 8), (299, 8), (90, 1_000)]
    {
        assert_eq!(verdict(&mut t, s(0), &part(offset, true, length)), overlapping, "{offset} {length}");
    }
    there(&mut t, s(0), &part(100, true, 800));
    there(&mut t, s(0), &part(300, false, 608));
    assert_eq!(verdict(&mut t, s(0), &part(100, true, 800)), overlapping);
    assert_eq!(t.counters().dropped(DropReason::OverlappingFragment), 10);
    // Pieces in more disjoint places than are kept in mind.
    let mut scattered = diverting(config());
    there(&mut scattered, s(0), &part(0, true, 80));
    let verdicts: Vec<_> = (1..16).map(|n| verdict(&mut scattered, s(0), &part(n * 20, true, 8))).collect();
    assert_eq!(verdicts[..11], [Verdict::ToServer; 11]);
    assert_eq!(verdicts[11..], [Verdict::Drop(DropReason::ScatteredFragment); 4]);
}

/// RFC 1858, RFC 3128: what could hide the ports or flags from us, or write over them later.
#[test]
fn tiny_first_fragments_and_fragments_into_the_header_are_dropped() {
    let segment = tcp(at(CLIENT), at(ORIGINAL), (SYN, 1, 0), &[0; 100]);
    let datagram = large(100);
    let ping = echo(8, *at(CLIENT).ip(), *at(ORIGINAL).ip(), 7, &[0; 100]);
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(at(SERVER))).unwrap();
    for (packet, needed) in [(&segment, 20), (&datagram, 8), (&ping, 8)] {
        for length in 1..needed {
            for more in [true, false] {
                let cut = fragment(packet, 1, 0, more, &packet[20..20 + length]);
                let due = if more { DropReason::TinyFragment } else { DropReason::MalformedTransport };
                assert_eq!(verdict(&mut t, s(0), &cut), Verdict::Drop(due), "{length} {more}");
            }
        }
    }
    let first = fragment(&segment, 9, 0, true, &segment[20..44]);
    there(&mut t, s(0), &first);
    for offset in 1..3 {
        let into_header = fragment(&segment, 9, offset, true, &segment[28..36]);
        assert_eq!(verdict(&mut t, s(0), &into_header), Verdict::Drop(DropReason::OverlappingFragment));
        // Also before the first: it would be held otherwise, and offered again.
        let alone = fragment(&segment, 10, offset, true, &segment[28..36]);
        let due = if offset == 1 { Verdict::Drop(DropReason::OverlappingFragment) } else { Verdict::Hold };
        assert_eq!(verdict(&mut t, s(0), &alone), due);
    }
    // For UDP the second unit is data.
    there(&mut t, s(0), &fragment(&datagram, 11, 0, true, &datagram[20..28]));
    there(&mut t, s(0), &fragment(&datagram, 11, 1, true, &datagram[28..36]));
}

/// A fragment that contradicts itself: empty, ragged, or beyond the largest datagram.
#[test]
fn malformed_fragments_are_dropped() {
    let whole = large(3_000);
    let mut t = diverting(config());
    there(&mut t, s(0), &fragment(&whole, 1, 0, true, &whole[20..820]));
    for (offset, more, length) in [(100, true, 0), (100, false, 0), (100, true, 7), (100, true, 9), (8_191, false, 100)]
    {
        let malformed = fragment(&whole, 1, offset, more, &whole[20..20 + length]);
        assert_eq!(verdict(&mut t, s(0), &malformed), Verdict::Drop(DropReason::MalformedIpv4), "{offset} {length}");
    }
    let ragged_first = fragment(&whole, 2, 0, true, &whole[20..829]);
    assert_eq!(verdict(&mut t, s(0), &ragged_first), Verdict::Drop(DropReason::MalformedIpv4));
    // The last one may be ragged, and may reach the very end.
    there(&mut t, s(0), &fragment(&whole, 1, 100, false, &whole[20..27]));
    there(&mut t, s(0), &fragment(&whole, 3, 0, true, &whole[20..820]));
    there(&mut t, s(0), &fragment(&whole, 3, 8_180, false, &[1; 75]));
}

/// A hundred thousand later fragments without a first one (RFC 4787, REQ-14): nothing grows, and others do not suffer.
#[test]
fn a_flood_of_headless_fragments_is_bounded() {
    let whole = large(2_000);
    let mut t = diverting(config());
    let first = ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL));
    let pieces = fragments(&whole, 77, 1_000);
    there(&mut t, s(0), &pieces[0]);
    let mut flood = fragment(&whole, 0, 100, true, &[0; 64]);
    for n in 0..100_000_u32 {
        flood[4..6].copy_from_slice(&(n as u16).to_be_bytes());
        flood[15] = 100 + (n >> 16) as u8;
        assert_eq!(t.translate(s(0), &mut flood), Verdict::Hold);
    }
    assert_eq!((t.counters().held, t.slots_in_use()), (100_000, 2));
    there(&mut t, s(0), &pieces[1]);
    assert_eq!(ask_and_answer(&mut t, s(0), client(1), at(ORIGINAL)), first);
}

/// First fragments do take room: the oldest notes give way, and are counted.
#[test]
fn a_flood_of_first_fragments_evicts_the_oldest_notes() {
    let whole = large(2_000);
    let mut t = Translator::new(config(), Heap::new(16, 4).fragments(4)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for id in 0..10 {
        there(&mut t, s(u64::from(id)), &fragments(&whole, id, 1_000)[0]);
    }
    assert_eq!(t.counters().fragments_evicted, 6);
    let later = |id| fragments(&whole, id, 1_000)[1].clone();
    assert_eq!(verdict(&mut t, s(10), &later(5)), Verdict::Hold);
    for id in 6..10 {
        there(&mut t, s(10), &later(id));
    }
    // Those whose time has passed give way without being missed.
    for id in 20..24 {
        there(&mut t, s(100), &fragments(&whole, id, 1_000)[0]);
    }
    assert_eq!(t.counters().fragments_evicted, 6);
    assert_eq!(verdict(&mut t, s(131), &later(20)), Verdict::Hold, "30 s have passed");
}

/// Without room for notes every later fragment is held.
#[test]
fn without_room_later_fragments_are_held() {
    let mut t = Translator::new(config(), Heap::new(16, 4).fragments(0)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let pieces = fragments(&large(2_000), 5, 1_000);
    there(&mut t, s(0), &pieces[0]);
    assert_eq!(verdict(&mut t, s(0), &pieces[1]), Verdict::Hold);
}

/// What became of the first becomes of all: passed with it, or never let through.
#[test]
fn later_fragments_share_the_fate_of_the_first() {
    let mut t = diverting(config());
    let other_port = udp(at(CLIENT), at("100.100.100.100:81"), &[0; 2_000]);
    for piece in fragments(&other_port, 5, 800) {
        assert_eq!(verdict(&mut t, s(0), &piece), Verdict::Pass);
    }
    let spoofed = udp(at("127.0.0.1:9"), at(ORIGINAL), &[0; 2_000]);
    let pieces = fragments(&spoofed, 5, 800);
    assert_eq!(verdict(&mut t, s(0), &pieces[0]), Verdict::Drop(DropReason::MartianSource));
    assert_eq!(verdict(&mut t, s(0), &pieces[1]), Verdict::Hold);
    // Protocols without ports pass as they come.
    let mut gre = ipv4(47, *at(CLIENT).ip(), *at(ORIGINAL).ip(), &[0; 2_000]);
    gre[6] = 0;
    for piece in fragments(&gre, 6, 800) {
        assert_eq!(verdict(&mut t, s(0), &piece), Verdict::Pass);
    }
    // Fragments of what is no concern of ours are not even looked at.
    let foreign = fragments(&udp(at(CLIENT), at("8.8.8.8:53"), &[0; 2_000]), 5, 800);
    assert_eq!(verdict(&mut t, s(0), &foreign[1]), Verdict::Pass);
    assert_eq!(t.slots_in_use(), 0);
}

/// A re-divert between two fragments of a datagram: the rest goes where the first went, or the datagram is lost.
#[test]
fn a_switch_in_the_middle_of_a_datagram_does_not_split_it() {
    let mut t = diverting(config());
    let pieces = fragments(&large(2_000), 5, 800);
    let first = there(&mut t, s(0), &pieces[0]);
    t.redivert(at(SERVER), at(OTHER), byway::Redivert::Switch).unwrap();
    let rest: Vec<_> = pieces[1..].iter().map(|piece| there(&mut t, s(0), piece)).collect();
    let together = reassemble(&[vec![first], rest].concat());
    assert_eq!((ends(&together).1, checksums(&together)), (at(SERVER), BOTH));
    let after = fragments(&large(2_000), 6, 800);
    assert_eq!(address(&there(&mut t, s(0), &after[0]), 16), *at(OTHER).ip());
    assert_eq!(address(&there(&mut t, s(0), &after[1]), 16), *at(OTHER).ip());
}

/// A fragmented echo of 3000 bytes, and TCP in fragments.
#[test]
fn echo_and_tcp_in_fragments() {
    let mut t = translator(config());
    t.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
    let ping = echo(8, *at(CLIENT).ip(), ip("100.100.100.100"), 7, &[3; 3_000]);
    let seen = reassemble(&fragments(&ping, 1, 1_480).iter().map(|p| there(&mut t, s(0), p)).collect::<Vec<_>>());
    assert_eq!(checksums(&seen), BOTH);
    let id = u16::from_be_bytes([seen[24], seen[25]]);
    let pong = echo(0, ip("123.45.67.89"), ip(ALTERNATIVE), id, &[3; 3_000]);
    let seen = reassemble(&fragments(&pong, 2, 1_480).iter().map(|p| back(&mut t, s(0), p)).collect::<Vec<_>>());
    assert_eq!((checksums(&seen), address(&seen, 12)), (BOTH, ip("100.100.100.100")));

    let (alternative, server) = connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let data = tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), &[4; 3_000]);
    let seen = reassemble(&fragments(&data, 3, 1_480).iter().map(|p| there(&mut t, s(0), p)).collect::<Vec<_>>());
    assert_eq!((checksums(&seen), ends(&seen)), (BOTH, (alternative, server)));
    let answer = tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 3_001), b"");
    assert_eq!(checksums(&back(&mut t, s(0), &answer)), BOTH);
}
