//! Which alternative endpoint a new connection gets (RFC 6056, RFC 4787 section 4.2).
//!
//! A port is free towards a server if the reply index has no entry for it: there is no second list of ports in use that
//! could disagree. Candidates come from the keyed pseudo-random function of the client, the server and a number that
//! never repeats, so that neither the client nor the server can predict the next one. An attempt examines at most
//! [`ATTEMPTS`] of them, however full the range is. With three quarters of a range in use an attempt fails once in
//! 10^16; with 99 of 100 in use it succeeds three times in four, and the client's next packet is another attempt.

use crate::config::{Alternative, List, PortChoice};
use crate::endpoint::Endpoint;
use crate::table::hash::{Keys, Label, reduce};

/// How many candidates are examined for one new connection.
const ATTEMPTS: u32 = 128;

/// How many addresses are tried, one after the other.
const TURNS: u32 = 4;

/// What an alternative endpoint is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    /// A number that was not used before.
    pub(crate) serial: u64,
}

impl Wanted {
    /// The serial number alone makes these words unique. The endpoints add to what an attacker would have to know.
    #[inline(always)]
    const fn words(&self) -> [u64; 2] {
        let client = (self.client.address as u64) << 16 | self.client.port as u64;
        let server = (self.server.address as u64) << 16 | self.server.port as u64;
        [client ^ server.rotate_left(32), self.serial << 8]
    }
}

/// Unpredictable numbers, four from each value of the pseudo-random function: a client that learns some of its bits
/// from its port learns nothing about the others.
#[derive(Clone, Copy)]
pub(crate) struct RandomPool {
    /// The value that was last drawn from, rotated.
    bits: u64,
    left: u8,
}

impl core::fmt::Debug for RandomPool {
    /// Without the bits, which determine the next numbers.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RandomPool")
    }
}

impl RandomPool {
    pub(crate) const NONE: Self = Self { bits: 0, left: 0 };

    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn next(&mut self, keys: &Keys, words: [u64; 2], attempt: u32) -> u16 {
        if self.left == 0 {
            // Where one value serves several connections, the previous value adds to what an attacker would have to
            // know, even if another translator has the same secret.
            let before = if cfg!(target_pointer_width = "64") { self.bits } else { 0 };
            let words = [words[0] ^ before, words[1] | u64::from(attempt)];
            *self = Self { bits: keys.choose(Label::Port, words), left: 4 };
        }
        self.left -= 1;
        self.bits = self.bits.rotate_right(16);
        self.bits as u16
    }
}

/// Draws candidates until `is_free` accepts one. Its second argument says whether half of the attempts are used up.
#[cfg_attr(target_pointer_width = "64", inline(always))]
pub(crate) fn choose(
    keys: &Keys,
    random_pool: &mut RandomPool,
    alternatives: &List<Alternative>,
    choice: PortChoice,
    wanted: Wanted,
    mut is_free: impl FnMut(Endpoint, bool) -> bool,
) -> Option<Endpoint> {
    let addresses = count(alternatives);
    // A client keeps to one address as long as a quarter of the attempts finds a port there (RFC 4787, REQ-2).
    let mut place = match addresses {
        0 => return None,
        1 => 0,
        _ => preferred(keys, wanted.client.address, addresses),
    };
    let words = wanted.words();
    for attempt in 0..ATTEMPTS {
        let (address, mut range) = nth(alternatives, place)?;
        if attempt % (ATTEMPTS / TURNS) == ATTEMPTS / TURNS - 1 {
            place = if place + 1 < addresses { place + 1 } else { 0 };
        }
        let late = attempt >= ATTEMPTS / 2;
        if choice != PortChoice::Random && !late {
            range = narrow(range, wanted.client.port);
        }
        let port = if choice == PortChoice::Keep && attempt == 0 && within(range, wanted.client.port) {
            wanted.client.port
        } else {
            port_of(range, random_pool.next(keys, words, attempt))
        };
        let candidate = Endpoint::new(address, port);
        if is_free(candidate, late) {
            return Some(candidate);
        }
    }
    None
}

/// The next candidate of [`choose`], if it is an early one, all alternative addresses have the same ports, and any of
/// those ports will do.
#[cfg(target_pointer_width = "64")]
#[inline(always)]
pub(crate) fn early(
    keys: &Keys,
    random_pool: &mut RandomPool,
    range: &Alternative,
    wanted: &Wanted,
    attempt: u32,
) -> Option<Endpoint> {
    let last = range.last - range.first;
    let place = if last == 0 { 0 } else { preferred(keys, wanted.client.address, last.saturating_add(1)) };
    let ports = range.ports;
    range
        .has_ports()
        .then(|| Endpoint::new(range.first + place, port_of(ports, random_pool.next(keys, wanted.words(), attempt))))
}

/// The first alternative address that a client gets ports of, with its ports, as a range for [`early`].
#[cfg(target_pointer_width = "64")]
#[inline(never)]
pub(crate) fn preferred_range(keys: &Keys, alternatives: &List<Alternative>, client: u32) -> Option<Alternative> {
    let addresses = count(alternatives);
    let place = if addresses > 1 { preferred(keys, client, addresses) } else { 0 };
    let (address, ports) = nth(alternatives, place)?;
    Some(Alternative { first: address, last: address, ports })
}

/// The position of a client's preferred address among this many.
#[inline(always)]
fn preferred(keys: &Keys, client: u32, addresses: u32) -> u32 {
    reduce(keys.choose(Label::Alternative, [u64::from(client), 0]) as u32, addresses)
}

/// The port of a range that a random number selects.
#[inline(always)]
fn port_of(range: (u16, u16), draw: u16) -> u16 {
    let span = u32::from(range.1 - range.0) + 1;
    range.0 + ((u32::from(draw) * span) >> 16) as u16
}

/// The ranges that have ports for connections.
fn given(alternatives: &List<Alternative>) -> impl Iterator<Item = &Alternative> {
    alternatives.iter().filter(|a| a.has_ports())
}

/// How many addresses these ranges have.
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

/// The part of the range on the same side of 1024 as the client's port (RFC 4787, REQ-3a); all of it if that part is
/// empty.
fn narrow(range: (u16, u16), port: u16) -> (u16, u16) {
    let part = if port < 1024 { (range.0, range.1.min(1023)) } else { (range.0.max(1024), range.1) };
    if part.0 <= part.1 { part } else { range }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn early_candidates_are_those_that_are_looked_at_first() {
        let keys = Keys::new(&[7; 32]);
        for addresses in [1, 2, 16, 1_000] {
            let range = Alternative { first: 0x0a0a_0a0a, last: 0x0a0a_0a09 + addresses, ports: (1_000, 60_000) };
            let mut alternatives = List::new(Alternative::NONE);
            assert!(alternatives.push(range));
            let (mut random_pool, mut same) = (RandomPool::NONE, RandomPool::NONE);
            let mut seen = std::collections::HashSet::new();
            for serial in 1..1_000 {
                let wanted =
                    Wanted { client: Endpoint::new(serial as u32 % 9, 5), server: Endpoint::new(1, 2), serial };
                let mut looked_at = Vec::new();
                let taken = |candidate, _| {
                    looked_at.push(candidate);
                    looked_at.len() as u64 == 1 + serial % 8
                };
                let chosen = choose(&keys, &mut random_pool, &alternatives, PortChoice::Random, wanted, taken);
                let early = (0..).map_while(|n| early(&keys, &mut same, &range, &wanted, n));
                assert_eq!(early.take(looked_at.len()).collect::<Vec<_>>(), looked_at);
                seen.insert(chosen.map(Endpoint::socket));
            }
            assert!(seen.len() > 980, "{} different endpoints in 999 draws", seen.len());
        }
    }
}
