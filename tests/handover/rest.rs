//! When a connection is at rest, segment by segment.

use byway::{AtRest, Kept, Verdict};
use byway_testing::*;

use super::segments::{CLIENT, MINE, NEXT, Net, OLD_CLOCK, ORIGINAL, REST, at_rest, segment, with_window};

/// No segment takes the fast path.
const SLOW: usize = 16;

/// The client acknowledges all, with this window in units of 128 bytes.
fn acknowledge<const M: usize>(net: &mut Net<AtRest, M>, clock: u32, window: u16) {
    let packet = segment(CLIENT, at(ORIGINAL), (ACK, MINE + 9, NEXT), (clock, OLD_CLOCK + 30), b"");
    assert_eq!(net.carry(with_window(packet, window)).0, Verdict::ToServer);
    net.pass(1_000);
}

#[test]
fn a_closed_window_is_no_rest() {
    closes::<0>();
    closes::<SLOW>();
}

/// A server that has more to say is silent while the client's window is closed, and also while it has less room than a segment
/// needs (RFC 9293, section 3.8.6.2.1).
fn closes<const M: usize>() {
    let mut net = at_rest::<_, M>(REST);
    // The client's segments have up to 1460 bytes.
    for (step, window) in [0, 1, 11].into_iter().enumerate() {
        acknowledge(&mut net, 100 + step as u32, window);
        assert_eq!(net.begin(), Err(Kept::NotNow), "{window}");
    }
    acknowledge(&mut net, 200, 12);
    assert_eq!(net.begin(), Ok(()));
}
