//! Windows of servers that count them in other units than the client was told.

use byway::Verdict;
use byway_testing::moving::witness::read;
use byway_testing::*;

use super::segments::{
    CLIENT, MINE, NEW, NEW_CLOCK, NEWS, NEXT, OLD, OLD_CLOCK, OLDS, ORIGINAL, REST, at_rest, at_rest_told, segment,
    translator, with_scale, with_window,
};

/// A server without window scaling takes the client's windows for bytes (RFC 7323, section 2.2).
#[test]
fn a_server_that_does_not_scale_is_shown_bytes() {
    let mut net = at_rest::<_, 0>(REST);
    net.begun();
    let answer = segment(NEW, net.alternative, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.carry(with_scale(answer, None));
    let own = net.own();
    let ack = own.iter().find(|own| own.destination == at(NEW)).expect("an acknowledgement");
    assert_eq!((net.mover.moved(), ack.window), (1, 65_535), "the client has offered 1 MiB");
    // It goes on like that, also in a translator that takes over.
    for again in [false, true] {
        if again {
            let mut other = translator();
            for record in net.byway.records() {
                other.import(net.now, &record).expect("a good record");
            }
            net.byway = other;
        }
        // The client counts in units of 128 bytes, and may have got more from the old server than the new one has sent:
        // then the right edge stays.
        for (window, more, shown) in
            [(100, 0, 12_800), (0, 0, 0), (512, 0, 65_535), (100, 130, 12_930), (511, 130, 65_535)]
        {
            if again && more != 0 {
                // It has yet to see what the new server sends.
                continue;
            }
            let packet = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT + more), (1_200, OLD_CLOCK + 30), b"");
            let (verdict, packet) = net.carry(with_window(packet, window));
            let seen = read(&packet);
            assert_eq!((verdict, seen.acknowledgment), (Verdict::ToServer, NEWS.wrapping_add(1)));
            assert_eq!(seen.window, shown, "{window} {more} {again}");
        }
    }
    // Its own windows are in bytes too: 8192 of them are 64 units.
    let answer = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 9), (NEW_CLOCK, 60), b"answer");
    assert_eq!(read(&answer.1).window, 64);
    // The next server scales again.
    net.there((ACK, MINE + 9, NEXT + 6), (1_300, OLD_CLOCK + 30), b"");
    net.pass(1_000);
    assert_eq!(net.begin_to(OLD), Ok(()));
    let [syn] = net.own()[..] else { panic!("one SYN") };
    assert_eq!(syn.scale, Some(7));
    net.alternative = syn.source;
    let _ = net.back(OLD, (SYN | ACK, OLDS, MINE + 9), (OLD_CLOCK, 1_300), b"");
    let own = net.own();
    let ack = own.iter().find(|own| own.destination == at(OLD)).expect("an acknowledgement");
    assert_eq!((net.mover.moved(), ack.window), (2, 8_192));
    let packet = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT + 6), (1_400, OLD_CLOCK + 30), b"");
    assert_eq!(read(&net.carry(with_window(packet, 100)).1).window, 100);
}

/// A client that counts in units of 16 KiB may send to a server that never has as much room.
#[test]
fn a_small_window_in_large_units_is_never_closed() {
    let mut net = at_rest_told::<_, 0>(REST, 14);
    net.begun();
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    let first = NEWS.wrapping_add(1);
    // What the old server has offered is used up: 4 units.
    let mut sent = MINE + 9;
    for length in [40_000_u32, 25_536] {
        net.there((ACK, sent, NEXT), (1_200, OLD_CLOCK + 30), &vec![1; length as usize]);
        sent += length;
    }
    // The new server counts in units of 4 bytes.
    for (window, shown) in [(2_048, 1), (1, 1), (0, 0), (4_095, 1), (4_096, 1)] {
        let packet = segment(NEW, net.alternative, (ACK, first, sent), (NEW_CLOCK, 1_200), b"");
        let (verdict, packet) = net.carry(with_window(packet, window));
        assert_eq!(verdict, Verdict::ToClient);
        if window == 0 {
            // The right edge never moves back, and the client probes when it has got there.
            net.there((ACK, sent, NEXT), (1_200, OLD_CLOCK + 30), &vec![1; 16_384]);
            sent += 16_384;
            let packet = segment(NEW, net.alternative, (ACK, first, sent), (NEW_CLOCK, 1_200), b"");
            assert_eq!(read(&net.carry(with_window(packet, window)).1).window, shown);
        } else {
            assert_eq!(read(&packet).window, shown, "{window}");
        }
    }
}
