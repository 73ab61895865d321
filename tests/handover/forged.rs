//! Segments of somebody who knows both endpoints of a connection, and none of its numbers: they reach the ends, which
//! do not believe them, and change nothing that a hand-over relies on.

use byway::{Greeted, Kept, Resumption, Verdict};
use byway_testing::moving::witness::read;
use byway_testing::*;

use super::segments::{
    CLIENT, MINE, NEW, NEW_CLOCK, NEWS, NEXT, Net, OLD, OLD_CLOCK, ORIGINAL, REST, at_rest, segment, with_window,
};

/// Far from everything.
const FAR: u32 = 1 << 30;

/// What the forged numbers of the server are further away: if those of both sides agreed with each other, they would be
/// believed after a while.
const FURTHER: u32 = 1 << 28;

/// Segments of both sides with wrong numbers, late clocks and large windows: `server` is the present one, with the
/// numbers that it sends next and that it expects, and its clock.
fn forge<R: Resumption, const M: usize>(net: &mut Net<R, M>, server: &str, [next, expected]: [u32; 2], clock: u32) {
    for data in [&b""[..], b"x"] {
        for far in [FAR, 0_u32.wrapping_sub(FAR)] {
            let [sequence, acknowledgment] = [MINE + 9, NEXT].map(|number| number.wrapping_add(far));
            for numbers in [(sequence, acknowledgment), (sequence, NEXT), (MINE + 9, acknowledgment)] {
                let packet = segment(CLIENT, at(ORIGINAL), (ACK, numbers.0, numbers.1), (FAR, OLD_CLOCK + FAR), data);
                assert_eq!(net.carry(with_window(packet, 60_000)).0, Verdict::ToServer);
            }
            let [sequence, acknowledgment] = [next, expected].map(|number| number.wrapping_add(far + FURTHER));
            for numbers in [(sequence, acknowledgment), (sequence, expected), (next, acknowledgment)] {
                let clocks = (clock.wrapping_add(FAR), FAR);
                let packet = segment(server, net.alternative, (ACK, numbers.0, numbers.1), clocks, data);
                assert_eq!(net.carry(with_window(packet, 60_000)).0, Verdict::ToClient);
            }
        }
    }
    for flags in [SYN, SYN | ACK] {
        let packet = segment(CLIENT, at(ORIGINAL), (flags, MINE + FAR, NEXT + FAR), (FAR, 0), b"");
        assert_eq!(net.carry(with_window(packet, 60_000)).0, Verdict::ToServer);
    }
    let clocks = (clock.wrapping_add(FAR), FAR);
    let packet = segment(server, net.alternative, (SYN | ACK, next.wrapping_add(FAR), expected), clocks, b"");
    let _ = net.carry(with_window(packet, 60_000));
    net.pass(1_000);
}

#[test]
fn forged_segments_before_a_move_change_nothing() {
    before::<0>();
    before::<16>();
}

fn before<const M: usize>() {
    let mut net = at_rest::<_, M>(REST);
    forge(&mut net, OLD, [NEXT, MINE + 9], OLD_CLOCK);
    let syn = net.begun();
    assert_eq!((syn.sequence, syn.clocks), (MINE + 8, Some((60, 0))));
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let own = net.own();
    let ack = own.iter().find(|own| own.destination == at(NEW)).expect("an acknowledgement");
    assert_eq!((ack.window, ack.clocks), (8_192, Some((60, NEW_CLOCK))));
    net.there((ACK, MINE + 9, NEXT), (1_200, OLD_CLOCK + 30), b"next question");
    let later = NEW_CLOCK.wrapping_add(90);
    let (_, packet) = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 22), (later, 1_200), b"answer");
    let seen = read(&packet);
    assert_eq!((seen.sequence, seen.window, seen.clocks), (NEXT, 256, Some((OLD_CLOCK + 30 + 90, 1_200))));
}

/// A forged byte of the server does not answer what the client has asked.
#[test]
fn forged_segments_answer_nothing() {
    let mut net = at_rest::<_, 0>(REST);
    net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 30), b"");
    net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 30), b"question");
    assert_eq!(net.back(OLD, (ACK, NEXT, MINE + 17), (OLD_CLOCK + 1_151, 1_100), b"").0, Verdict::ToClient);
    for far in [FAR, 0_u32.wrapping_sub(FAR)] {
        let numbers = (ACK, NEXT.wrapping_add(far), MINE + 17);
        assert_eq!(net.back(OLD, numbers, (OLD_CLOCK + 1_151, 1_100), b"x").0, Verdict::ToClient);
    }
    net.pass(1_000);
    assert_eq!(net.begin(), Err(Kept::NotNow));
}

/// A damaged segment is not kept while the connection stands still, in the place of what its sender will repeat.
#[test]
fn a_damaged_segment_takes_no_room() {
    let mut net = at_rest::<_, 0>(Greeted { at_rest: REST, greeting: 5 });
    net.begun();
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    let good = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 10), b"next question");
    for place in [36, 45, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[place] ^= 4;
        let verdict = net.mover.translate(net.now, &mut net.byway, &mut damaged);
        assert_eq!(verdict, Verdict::Drop(byway::DropReason::HandingOver));
    }
    assert_eq!(net.carry(good).0, Verdict::Drop(byway::DropReason::HandingOver));
    let _ = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 9), (NEW_CLOCK.wrapping_add(9), 60), b"hello");
    let own = net.own();
    let sent = own.iter().find(|own| own.length != 0).expect("the request");
    assert_eq!((sent.destination, sent.sequence, sent.length), (at(NEW), MINE + 9, 13));
}

/// While the connection stands still, there is room for one packet of the client: its own.
#[test]
fn forged_segments_during_a_move_take_no_room() {
    let mut net = at_rest::<_, 0>(Greeted { at_rest: REST, greeting: 5 });
    net.begun();
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    let mut drop = |numbers, data: &[u8]| {
        let (verdict, _) = net.carry(segment(CLIENT, at(ORIGINAL), numbers, (1_100, OLD_CLOCK + 10), data));
        assert_eq!(verdict, Verdict::Drop(byway::DropReason::HandingOver));
    };
    for (sequence, acknowledgment) in [(MINE + 9 + FAR, NEXT), (MINE + 9, NEXT + FAR), (MINE + 9 + FAR, NEXT + FAR)] {
        drop((ACK, sequence, acknowledgment), b"");
        drop((ACK, sequence, acknowledgment), b"garbage");
    }
    // Nor do a copy of the last request, and a keep-alive.
    drop((ACK, MINE + 1, NEXT), b"question");
    drop((ACK, MINE + 8, NEXT), b"\0");
    drop((ACK, MINE + 9, NEXT), b"next question");
    let _ = net.back(NEW, (ACK, NEWS.wrapping_add(1), MINE + 9), (NEW_CLOCK.wrapping_add(9), 60), b"hello");
    let own = net.own();
    let sent = own.iter().find(|own| own.length != 0).expect("the request");
    assert_eq!((sent.destination, sent.sequence, sent.length), (at(NEW), MINE + 9, 13));
}

#[test]
fn forged_segments_after_a_move_change_nothing() {
    let mut net = at_rest::<_, 0>(REST);
    net.begun();
    let _ = net.back(NEW, (SYN | ACK, NEWS, MINE + 9), (NEW_CLOCK, 60), b"");
    let _ = net.own();
    let first = NEWS.wrapping_add(1);
    forge(&mut net, NEW, [first, MINE + 9], NEW_CLOCK);
    // The new server has not said anything yet: it gets the time of its handshake.
    let seen = net.there((ACK, MINE + 9, NEXT), (1_200, OLD_CLOCK + 30), b"next question");
    assert_eq!((seen.acknowledgment, seen.window, seen.clocks), (first, 8_192, Some((1_200, NEW_CLOCK))));
    forge(&mut net, NEW, [first, MINE + 22], NEW_CLOCK);
    assert_eq!(net.back(NEW, (ACK, first, MINE + 22), (NEW_CLOCK, 1_200), b"").0, Verdict::ToClient);
    forge(&mut net, NEW, [first, MINE + 22], NEW_CLOCK);
    assert_eq!(net.begin_to(OLD), Err(Kept::NotNow), "it waits for an answer");
    let later = NEW_CLOCK.wrapping_add(90);
    let (_, packet) = net.back(NEW, (ACK, first, MINE + 22), (later, 1_200), b"answer");
    let seen = read(&packet);
    assert_eq!((seen.sequence, seen.window, seen.clocks), (NEXT, 256, Some((OLD_CLOCK + 30 + 90, 1_200))));
    let seen = net.there((ACK, MINE + 22, NEXT + 6), (1_300, OLD_CLOCK + 120), b"");
    assert_eq!((seen.acknowledgment, seen.clocks), (first.wrapping_add(6), Some((1_300, later))));
    forge(&mut net, NEW, [first.wrapping_add(6), MINE + 22], NEW_CLOCK);
    assert_eq!(net.begin_to(OLD), Ok(()));
    let [syn] = net.own()[..] else { panic!("one SYN") };
    assert_eq!((syn.sequence, syn.clocks), (MINE + 21, Some((1_300, 0))));
}
