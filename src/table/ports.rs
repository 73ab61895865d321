//! Which alternative endpoint a new connection gets (RFC 6056, RFC 4787 section 4.2).
//!
//! A port is free towards a server if the index of the way back has no entry for it: there is no other list of ports
//! in use that could disagree. Candidates come from the keyed pseudo-random function of the client, the server and a
//! number that never repeats, so that neither the client nor the server can foresee the next one, and an attempt looks
//! at no more than [`ATTEMPTS`] of them, however full the range is. With three quarters of a range in use an attempt
//! fails once in 10^16; with 99 of 100 in use three times in four it succeeds, and the client's next packet draws anew.

use super::hash::{Keys, Label, reduce};
use crate::config::{Alternative, List, PortChoice};

/// How many candidates are looked at for one new connection.
pub(crate) const ATTEMPTS: u32 = 128;

/// What an alternative endpoint is sought for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) client: (u32, u16),
    pub(crate) server: (u32, u16),
    /// A number that was not used before.
    pub(crate) serial: u64,
}

/// Draws candidates until `is_free` takes one; it is told which attempt it is.
pub(crate) fn choose(
    keys: &Keys,
    alternatives: &List<Alternative>,
    choice: PortChoice,
    wanted: Wanted,
    mut is_free: impl FnMut((u32, u16), u32) -> bool,
) -> Option<(u32, u16)> {
    let addresses = given(alternatives).fold(0_u32, |sum, a| sum.saturating_add(a.last - a.first).saturating_add(1));
    // A client keeps to one address as long as a quarter of the attempts finds a port there (RFC 4787, REQ-2).
    let preferred = match addresses {
        0 => return None,
        1 => 0,
        _ => reduce(keys.choose(Label::Alternative, [u64::from(wanted.client.0), 0]) as u32, addresses),
    };
    let client = u64::from(wanted.client.0) << 16 | u64::from(wanted.client.1);
    let server = u64::from(wanted.server.0) << 16 | u64::from(wanted.server.1);
    let mut bits = 0;
    for attempt in 0..ATTEMPTS {
        if attempt.is_multiple_of(4) {
            // The serial number alone makes the words differ from all others; the endpoints only add to what a stranger
            // would have to know. Four candidates come from each.
            let count = wanted.serial << 8 | u64::from(attempt / 4);
            bits = keys.choose(Label::Port, [client ^ server.rotate_left(32), count]);
        }
        let draw = bits as u16;
        bits >>= 16;
        let mut place = preferred.saturating_add(attempt / (ATTEMPTS / 4));
        while place >= addresses {
            place -= addresses;
        }
        let (address, mut range) = nth(alternatives, place)?;
        if choice != PortChoice::Random && attempt < ATTEMPTS / 2 {
            range = narrow(range, wanted.client.1);
        }
        let port = if choice == PortChoice::Keep && attempt == 0 && within(range, wanted.client.1) {
            wanted.client.1
        } else {
            let span = u32::from(range.1 - range.0) + 1;
            range.0 + ((u32::from(draw) * span) >> 16) as u16
        };
        if is_free((address, port), attempt) {
            return Some((address, port));
        }
    }
    None
}

/// The ranges that connections get ports of.
fn given(alternatives: &List<Alternative>) -> impl Iterator<Item = &Alternative> {
    alternatives.iter().filter(|a| a.ports.0 <= a.ports.1)
}

fn nth(alternatives: &List<Alternative>, mut n: u32) -> Option<(u32, (u16, u16))> {
    for alternative in given(alternatives) {
        let last = alternative.last - alternative.first;
        if n <= last {
            return Some((alternative.first + n, alternative.ports));
        }
        n -= last + 1;
    }
    None
}

const fn within(range: (u16, u16), port: u16) -> bool {
    range.0 <= port && port <= range.1
}

/// The part of the range on the same side of 1024 as the client's port (RFC 4787, REQ-3a); all of it if that is empty.
fn narrow(range: (u16, u16), port: u16) -> (u16, u16) {
    let part = if port < 1024 { (range.0, range.1.min(1023)) } else { (range.0.max(1024), range.1) };
    if part.0 <= part.1 { part } else { range }
}
