//! Rules with replies from any port.

use byway::{Divert, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

/// A rule that only changes the port and keeps the source: what the server sends from another port is not changed, and
/// so opens no connection.
#[test]
fn a_reply_that_would_not_change_passes() {
    let mut t = translator(config());
    let original = at("20.0.0.1:53");
    t.divert(Divert::new(original).to(at("20.0.0.1:80")).keep_source().replies_from_any_port()).unwrap();
    there(&mut t, s(0), &udp(at(CLIENT), original, b""));
    let other = at("20.0.0.1:5000");
    assert_eq!(run(&mut t, s(1), &udp(other, at(CLIENT), b"")).0, Verdict::Pass);
    assert_eq!(t.connections().count(), 1);
    // From the very port that the rule leads to it is a reply; to the original one it is as before.
    back(&mut t, s(1), &udp(at("20.0.0.1:80"), at(CLIENT), b""));
    there(&mut t, s(1), &udp(at(CLIENT), original, b""));
}
