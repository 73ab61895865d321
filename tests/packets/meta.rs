//! What a driver knows of a packet besides its bytes: partial checksums, and super-packets that hardware splits.
//!
//! The oracle is a network card that completes and splits packets. Translating first and leaving the rest to the card must
//! give the same packets as the card's work first and translating what comes out of it.

use byway::{ChecksumState, Checksums, Config, Divert, Fixed, Heap, PacketMeta, Sharded, Storage, Translator, Verdict};
use byway_testing::packet::{TCP, UDP, long, same_sum, word};
use byway_testing::talk::*;
use byway_testing::*;

const PARTIAL: PacketMeta = PacketMeta::new().checksum(ChecksumState::Partial);

/// Where the transport header and its checksum lie.
fn places(packet: &[u8]) -> (usize, usize) {
    let start = usize::from(packet[0] & 15) * 4;
    (start, start + if packet[9] == TCP { 16 } else { 6 })
}

/// The sum of the pseudo-header, as it stands in the checksum field of a packet that needs completing.
fn pseudo_header(packet: &[u8]) -> u16 {
    let length = (packet.len() - places(packet).0) as u16;
    sum(&[&packet[12..20], &[0, packet[9]], &length.to_be_bytes()])
}

/// The packet as a host leaves it to its card: the sum of the pseudo-header in place of the checksum, `off` by so much.
fn left_to_the_card(packet: &[u8], off: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let field = places(&packet).1;
    let partial = sum(&[&pseudo_header(&packet).to_be_bytes(), &off.to_be_bytes()]);
    packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
    packet
}

/// The card adds the segment to what the checksum field holds (virtio 1.2, section 5.1.6.2).
fn complete(packet: &mut [u8]) {
    let (start, field) = places(packet);
    let checksum = !sum(&[&packet[start..]]);
    let written = if packet[9] == UDP && checksum == 0 { 0xffff } else { checksum };
    packet[field..field + 2].copy_from_slice(&written.to_be_bytes());
}

/// The card makes segments with at most `size` bytes of data each, numbered upwards, from a packet whose checksum is
/// partial: it takes the packet's length out of the partial sum and puts the segment's in.
fn split(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (start, field) = places(packet);
    let data_at = start + if packet[9] == TCP { usize::from(packet[start + 12] >> 4) * 4 } else { 8 };
    let pieces: Vec<_> = packet[data_at..].chunks(size).collect();
    let segment = |(number, data): (usize, &&[u8])| {
        let mut new = [&packet[..data_at], data].concat();
        let total = new.len() as u16;
        new[2..4].copy_from_slice(&total.to_be_bytes());
        new[4..6].copy_from_slice(&word(packet, 4).wrapping_add(number as u16).to_be_bytes());
        header_checksum(&mut new);
        let length = total - start as u16;
        if packet[9] == TCP {
            let sequence = long(packet, start + 4).wrapping_add((number * size) as u32);
            new[start + 4..start + 8].copy_from_slice(&sequence.to_be_bytes());
            if number + 1 < pieces.len() {
                new[start + 13] &= !(FIN | 8);
            }
        } else {
            new[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
        }
        let long_one = (packet.len() - start) as u16;
        let partial = sum(&[&packet[field..field + 2], &(!long_one).to_be_bytes(), &length.to_be_bytes()]);
        new[field..field + 2].copy_from_slice(&partial.to_be_bytes());
        complete(&mut new);
        new
    };
    pieces.iter().enumerate().map(segment).collect()
}

/// With IP options in front of the transport header.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut new = [&packet[..20], &[1, 1, 1, 0], &packet[20..]].concat();
    new[0] = 0x46;
    let total = new.len() as u16;
    new[2..4].copy_from_slice(&total.to_be_bytes());
    fill_checksums(&mut new);
    new
}

fn may_be_fragmented(packet: &mut [u8]) {
    packet[6] = 0;
    header_checksum(packet);
}

fn translated<S: Storage>(t: &mut Translator<S>, packet: &[u8], meta: PacketMeta) -> Vec<u8> {
    let mut new = packet.to_vec();
    let verdict = t.translate_with(s(0), &mut new, meta);
    assert!(matches!(verdict, Verdict::ToServer | Verdict::ToClient), "{verdict:?}");
    new
}

/// Sends packets of all kinds both ways, once with the card behind the translator and once with the card in front of it.
fn card_before_and_behind<S: Storage>(mut make: impl FnMut() -> Translator<S>, hardware: bool, own_numbers: bool) {
    let (mut behind, mut before) = (make(), make());
    let handshakes = [&mut behind, &mut before].map(|t| {
        let tcp = connect(t, s(0), at(CLIENT), at(ORIGINAL));
        (tcp, ask(t, s(0), at(CLIENT), at(ORIGINAL)))
    });
    assert_eq!(handshakes[0], handshakes[1]);
    let ((alternative, server), (udp_alternative, udp_server)) = handshakes[0];
    let (mut up, mut down) = (CLIENT_START + 1, SERVER_START + 1);
    let mut dice = Dice(7);
    for round in 0..200_u64 {
        let data: Vec<u8> = (0..1 + dice.below(5_000)).map(|_| dice.below(256) as u8).collect();
        let size = 1 + dice.below(1_460) as usize;
        let (size, data) = if dice.below(4) == 0 { (data.len(), data) } else { (size.max(100), data) };
        let to_server = dice.below(2) == 0;
        let mut packet = match (round % 2, to_server) {
            (0, true) => udp(at(CLIENT), at(ORIGINAL), &data),
            (0, false) => udp(udp_server, udp_alternative, &data),
            (_, true) => tcp(at(CLIENT), at(ORIGINAL), (ACK | 8, up, down), &data),
            (_, false) => tcp(server, alternative, (ACK | 8, down, up), &data),
        };
        if round % 2 == 1 {
            *(if to_server { &mut up } else { &mut down }) += data.len() as u32;
        }
        if dice.below(4) == 0 {
            packet = with_options(&packet);
        }
        if dice.below(2) == 0 {
            may_be_fragmented(&mut packet);
        }
        // Now and then the host's sum is wrong, and what comes out is as wrong.
        let off = if dice.below(4) == 0 { dice.below(0x1_0000) as u16 } else { 0 };
        let packet = left_to_the_card(&packet, off);
        let count = data.len().div_ceil(size);
        let meta = PARTIAL.segments(count as u16);

        let first = translated(&mut behind, &packet, meta);
        let field = places(&first).1;
        let partial = sum(&[&pseudo_header(&first).to_be_bytes(), &off.to_be_bytes()]);
        assert!(same_sum(word(&first, field), partial), "not the sum of the new pseudo-header");
        let first = split(&first, size);
        let mut second: Vec<_> =
            split(&packet, size).iter().map(|p| translated(&mut before, p, PacketMeta::new())).collect();
        assert_eq!(first.len(), count);
        for (number, (first, second)) in first.iter().zip(&mut second).enumerate() {
            if hardware {
                // In front of the translator the card has done its work already, and behind it it does it once more.
                let right = left_to_the_card(second, off);
                second.copy_from_slice(&right);
                header_checksum(second);
                complete(second);
            }
            if own_numbers && second[6] == 0 {
                second[4..6].copy_from_slice(&first[4..6]);
                header_checksum(second);
            }
            assert_eq!(first, second, "segment {number} of {count}, round {round}");
            if off == 0 {
                assert_eq!(checksums(first), BOTH);
            }
        }
    }
}

fn with_rule<S: Storage>(config: Config, storage: S, keep_source: bool) -> Translator<S> {
    let mut t = Translator::new(config, storage).unwrap();
    let rule = Divert::new(at(ORIGINAL)).to(at(SERVER));
    t.divert(if keep_source { rule.keep_source() } else { rule }).unwrap();
    t
}

/// Both protocols, both ways, all kinds of settings, on the short ways and on the long one.
#[test]
fn a_card_behind_the_translator_sends_what_one_before_it_would_have() {
    for hardware in [false, true] {
        for own_numbers in [false, true] {
            for keep_source in [false, true] {
                let how = if hardware { Checksums::Hardware } else { Checksums::Software };
                let config = || config().checksums(how).rewrite_identification(own_numbers);
                card_before_and_behind(|| with_rule(config(), Heap::new(10, 4), keep_source), hardware, own_numbers);
                card_before_and_behind(
                    || with_rule(config(), Fixed::<8, 4>::new(), keep_source),
                    hardware,
                    own_numbers,
                );
            }
        }
    }
}

/// The sums that come out as 0x0000 or 0xFFFF on either side: the card completes them all.
#[test]
fn every_partial_sum_of_udp_is_completed_rightly() {
    let mut t = diverting(config());
    let (alternative, server) = ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let mut ones = 0;
    for data in 0..=u16::MAX {
        for packet in
            [udp(at(CLIENT), at(ORIGINAL), &data.to_be_bytes()), udp(server, alternative, &data.to_be_bytes())]
        {
            let mut seen = translated(&mut t, &left_to_the_card(&packet, 0), PARTIAL);
            assert_eq!(word(&seen, 26), pseudo_header(&seen));
            complete(&mut seen);
            let mut due = seen.clone();
            fill_checksums(&mut due);
            assert_eq!(seen, due);
            ones += u32::from(seen[26..28] == [0xff, 0xff]);
        }
    }
    assert_eq!(ones, 2, "one datagram each way has the checksum 0xFFFF");
}

/// Whatever the partial sum is, zero included, it changes by what the addresses change.
#[test]
fn any_partial_sum_follows_the_addresses_alone() {
    let mut t = diverting(config());
    connect(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    ask(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    for packet in [
        udp(at(CLIENT), at(ORIGINAL), b"data"),
        tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"data"),
    ] {
        let field = places(&packet).1;
        for partial in 0..=u16::MAX {
            let mut packet = packet.clone();
            packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
            let seen = translated(&mut t, &packet, PARTIAL);
            let due = sum(&[&partial.to_be_bytes(), &(!sum(&[&packet[12..20]])).to_be_bytes(), &seen[12..20]]);
            assert!(same_sum(word(&seen, field), due), "{partial:#x}: {:#x}, not {due:#x}", word(&seen, field));
        }
    }
}

/// A fragment and an ICMP message have no partial checksum that hardware completes: what `translate` does is done, whatever
/// the driver says. So it is where the driver says nothing.
#[test]
fn what_cannot_be_partial_is_taken_for_complete() {
    for config in [config(), config().checksums(Checksums::Hardware), config().rewrite_identification(true)] {
        let (mut with, mut without) = (diverting(config.clone()), diverting(config));
        with.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        without.divert(Divert::new(ip("100.100.100.100")).to(ip("123.45.67.89"))).unwrap();
        let whole = udp(at(CLIENT), at(ORIGINAL), &[7; 3_000]);
        let asked = udp(at(CLIENT), at(ORIGINAL), b"question");
        let mut packets = fragments(&whole, 7, 1_480);
        packets.push(echo(8, *at(CLIENT).ip(), ip("100.100.100.100"), 5, b"ping"));
        packets.push(asked.clone());
        for (number, packet) in packets.iter().enumerate() {
            let meta = if number + 1 == packets.len() { PacketMeta::default() } else { PARTIAL.segments(9) };
            let mut seen = packet.clone();
            let verdict = with.translate_with(s(0), &mut seen, meta);
            assert_eq!((verdict, seen), run(&mut without, s(0), packet));
            assert_eq!(verdict, Verdict::ToServer);
        }
        let mut seen = there(&mut without, s(0), &asked);
        fill_checksums(&mut seen);
        translated(&mut with, &asked, PacketMeta::new());
        let mut error = icmp_error(3, 3, *at(SERVER).ip(), &seen, 28);
        let due = back(&mut without, s(0), &error);
        assert_eq!(with.translate_with(s(0), &mut error, PARTIAL), Verdict::ToClient);
        assert_eq!(error, due);
        assert_eq!(with.counters(), without.counters());
    }
}

/// Any bytes: no panic, the verdict of `translate`, and no change to what is not translated.
#[test]
fn any_bytes_have_the_same_verdict_as_without() {
    let mut dice = Dice(1);
    let (mut with, mut without) = (diverting(config()), diverting(config()));
    let (alternative, server) = connect(&mut with, s(0), at(CLIENT), at(ORIGINAL));
    connect(&mut without, s(0), at(CLIENT), at(ORIGINAL));
    for _ in 0..50_000 {
        let mut packet = match dice.below(4) {
            0 => udp(at(CLIENT), at(ORIGINAL), b"data"),
            1 => tcp(at(CLIENT), at(ORIGINAL), (ACK, CLIENT_START + 1, SERVER_START + 1), b"data"),
            2 => tcp(server, alternative, (ACK, SERVER_START + 1, CLIENT_START + 1), b"data"),
            _ => udp(at("9.9.9.9:9"), at("8.8.8.8:8"), b"none of ours"),
        };
        packet.truncate(packet.len().saturating_sub((dice.below(40) * dice.below(2)) as usize));
        for _ in 0..if packet.is_empty() { 0 } else { dice.below(4) } {
            let place = dice.below(packet.len() as u64) as usize;
            packet[place] = dice.below(256) as u8;
        }
        let mut seen = packet.clone();
        let verdict = with.translate_with(s(0), &mut seen, PARTIAL.segments(dice.below(0x1_0000) as u16));
        let (due, mut bytes) = run(&mut without, s(0), &packet);
        assert_eq!(verdict, due);
        if matches!(verdict, Verdict::ToServer | Verdict::ToClient) && bytes[9] != 1 && word(&bytes, 6) & 0x3fff == 0 {
            // All but the checksum.
            let field = places(&bytes).1;
            bytes[field..field + 2].copy_from_slice(&seen[field..field + 2]);
        }
        assert_eq!(seen, bytes);
    }
    assert!(with.counters().to_server > 1_000 && with.counters().to_client > 1_000);
    assert_eq!(with.counters(), without.counters());
}

/// The longest run that the test asks for.
const LONGEST: u32 = 300;

/// Single packets and super-packets in any order: none of a super-packet's identifications, which go up one by one, was
/// given to another packet within the last 16 384, less what is left out at the ends.
#[test]
fn identifications_in_a_row_are_not_those_of_any_other_packet_of_late() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let mut t = diverting(config().rewrite_identification(true));
        let mut packet = udp(at(CLIENT), at(ORIGINAL), b"data");
        may_be_fragmented(&mut packet);
        // When each was last given.
        let mut given = vec![None; 0x1_0000];
        let (mut now, mut least) = (0_u32, u32::MAX);
        while now < 200_000 {
            let count = match (seed, dice.below(3)) {
                (0, _) | (_, 0) => 1,
                (1, _) => 44,
                _ => 1 + dice.below(u64::from(LONGEST)) as u32,
            };
            let seen = translated(&mut t, &packet, PacketMeta::new().segments(count as u16));
            assert_eq!(checksums(&seen), BOTH);
            let first = word(&seen, 4);
            for number in 0..count {
                let id = (u32::from(first) + number) as usize;
                assert!(id <= 0xffff, "the row goes on at zero");
                if let Some(last) = given[id].replace(now) {
                    least = least.min(now - last);
                }
                now += 1;
            }
        }
        let due = if seed == 0 { 3 * 16_384 } else { 16_384 - 2 * LONGEST };
        assert!(least > due, "one came again after {least} others");
    }
}

/// As many as anybody can ask for: at most 8192 are in a row, and the packets behind it get others.
#[test]
fn very_long_rows_are_reserved_up_to_8192() {
    let mut t = diverting(config().rewrite_identification(true));
    let mut packet = udp(at(CLIENT), at(ORIGINAL), b"data");
    may_be_fragmented(&mut packet);
    for count in [8_192, 8_193, u16::MAX, 5_000, 0, 1, 8_192, 2] {
        for _ in 0..20 {
            let first = usize::from(word(&translated(&mut t, &packet, PacketMeta::new().segments(count)), 4));
            let row = first..first + usize::from(count).clamp(1, 8_192);
            assert!(row.end <= 0x1_0000);
            for _ in 0..20 {
                let single = translated(&mut t, &packet, PacketMeta::new());
                assert!(!row.contains(&usize::from(word(&single, 4))));
            }
        }
    }
}

/// What must not be fragmented keeps its identification, and the single packets behind it get what they would have got.
#[test]
fn nothing_is_reserved_for_what_needs_no_identification() {
    let config = || config().rewrite_identification(true);
    let (mut with, mut without) = (diverting(config()), diverting(config()));
    let atomic = udp(at(CLIENT), at(ORIGINAL), b"data");
    let mut may = atomic.clone();
    may_be_fragmented(&mut may);
    for _ in 0..100 {
        assert_eq!(translated(&mut with, &atomic, PacketMeta::new().segments(44))[4..6], atomic[4..6]);
        there(&mut without, s(0), &atomic);
        assert_eq!(translated(&mut with, &may, PacketMeta::new()), there(&mut without, s(0), &may));
    }
    let mut kept = diverting(byway_testing::config());
    assert_eq!(translated(&mut kept, &may, PacketMeta::new().segments(44))[4..6], may[4..6]);
}

/// A set of translators does the same.
#[test]
fn a_set_of_translators_takes_what_the_driver_knows_too() {
    let config = Config::new([9; 32]).alternatives(ip("10.10.10.10"), ip("10.10.10.11"), 1024..=65535);
    let mut set = Sharded::new(config, [Heap::new(100, 4), Heap::new(100, 4)]).unwrap();
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for number in 0..50 {
        let mut packet = left_to_the_card(&udp(client(number), at(ORIGINAL), b"data"), 0);
        assert_eq!(set.translate_with(s(0), &mut packet, PARTIAL), Verdict::ToServer);
        assert_eq!(word(&packet, 26), pseudo_header(&packet));
        let pieces = fragments(&udp(client(number), at(ORIGINAL), &[1; 3_000]), 3, 1_480);
        let seen: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let mut piece = piece.clone();
                assert_eq!(set.translate_with(s(0), &mut piece, PARTIAL), Verdict::ToServer);
                piece
            })
            .collect();
        assert_eq!(checksums(&reassemble(&seen)), BOTH);
    }
}
