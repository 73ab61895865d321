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

/// So many addresses are tried one after the other.
const TURNS: u32 = 4;

/// What an alternative endpoint is sought for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) client: (u32, u16),
    pub(crate) server: (u32, u16),
    /// A number that was not used before.
    pub(crate) serial: u64,
}

/// Unforeseeable numbers, four from each value of the pseudo-random function: who learns some of its bits by the port
/// that he gets learns nothing of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draws {
    /// The value that was drawn from last, turned.
    bits: u64,
    left: u8,
}

impl Draws {
    pub(crate) const NONE: Self = Self { bits: 0, left: 0 };

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn next(&mut self, keys: &Keys, words: [u64; 2], attempt: u32) -> u16 {
        if self.left == 0 {
            // The value before adds to what a stranger would have to know, even if another translator has the same secret.
            let words = [words[0] ^ self.bits, words[1] | u64::from(attempt)];
            *self = Self { bits: keys.choose(Label::Port, words), left: 4 };
        }
        self.left -= 1;
        self.bits = self.bits.rotate_right(16);
        self.bits as u16
    }
}

/// Draws candidates until `is_free` takes one; it is told whether half of them have been drawn already.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) fn choose(
    keys: &Keys,
    draws: &mut Draws,
    alternatives: &List<Alternative>,
    choice: PortChoice,
    wanted: Wanted,
    mut is_free: impl FnMut((u32, u16), bool) -> bool,
) -> Option<(u32, u16)> {
    let addresses = count(alternatives);
    // A client keeps to one address as long as a quarter of the attempts finds a port there (RFC 4787, REQ-2).
    let mut place = match addresses {
        0 => return None,
        1 => 0,
        _ => reduce(keys.choose(Label::Alternative, [u64::from(wanted.client.0), 0]) as u32, addresses),
    };
    // The serial number alone makes the words differ from all others. The endpoints add to what a stranger would have to
    // know.
    let client = u64::from(wanted.client.0) << 16 | u64::from(wanted.client.1);
    let server = u64::from(wanted.server.0) << 16 | u64::from(wanted.server.1);
    let words = [client ^ server.rotate_left(32), wanted.serial << 8];
    for attempt in 0..ATTEMPTS {
        let (address, mut range) = nth(alternatives, place)?;
        if attempt % (ATTEMPTS / TURNS) == ATTEMPTS / TURNS - 1 {
            place = if place + 1 < addresses { place + 1 } else { 0 };
        }
        let late = attempt >= ATTEMPTS / 2;
        if choice != PortChoice::Random && !late {
            range = narrow(range, wanted.client.1);
        }
        let port = if choice == PortChoice::Keep && attempt == 0 && within(range, wanted.client.1) {
            wanted.client.1
        } else {
            let span = u32::from(range.1 - range.0) + 1;
            range.0 + ((u32::from(draws.next(keys, words, attempt)) * span) >> 16) as u16
        };
        if is_free((address, port), late) {
            return Some((address, port));
        }
    }
    None
}

/// The ranges that connections get ports of.
fn given(alternatives: &List<Alternative>) -> impl Iterator<Item = &Alternative> {
    alternatives.iter().filter(|a| a.ports.0 <= a.ports.1)
}

/// How many addresses those are.
fn count(alternatives: &List<Alternative>) -> u32 {
    given(alternatives).fold(0, |sum, a| sum.saturating_add(a.last - a.first).saturating_add(1))
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
