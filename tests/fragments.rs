//! Fragments without reassembly: RFC 4787 REQ-14, RFC 1858, RFC 3128.

mod support;

use byway::{DropReason, Verdict};
use support::talk::*;
use support::*;

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
