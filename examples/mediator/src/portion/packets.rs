//! Packets of servers, from the process that translates them to the proxy.
//!
//! With each it says which server has sent it, and to which alternative endpoint: for a moment after each move the two know
//! different things, and what a server that was left sends late must not pass for what the new one sends. A transfer that
//! [stays](crate::far::bypass) at its server is known to the proxy alone; its packets are handed on as they are.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::BTreeSet;

use byway::{Heap, Instant, Translator, Verdict};

use super::exchange::{Exchange, LEAVE, MAX, PACKET, STAY};
use crate::far::carrier::datagram;

/// A server, and the alternative endpoint that it sends to.
pub type Ends = (SocketAddrV4, SocketAddrV4);

/// How many bytes they take in a datagram.
const ENDS: usize = 12;

impl Exchange {
    /// Translates what a server has sent, and hands it to the proxy.
    pub fn carry(&mut self, now: Instant, translator: &mut Translator<Heap>, packet: &mut [u8]) {
        let ends = datagram(packet).map(|(from, to, _)| (from, to));
        let is_translated = translator.translate(now, packet) == Verdict::ToClient;
        let Some(ends) = ends.filter(|ends| is_translated || self.stays.contains(ends)) else {
            self.counters.dropped += 1;
            return;
        };
        *(if is_translated { &mut self.counters.translated } else { &mut self.counters.passed }) += 1;
        self.send([&[PACKET], &write(&ends)[..], packet].concat());
    }

    /// Tells the other process where transfers stay, if that has changed.
    pub fn stay(&mut self, stays: &[Ends]) {
        let stays: BTreeSet<_> = stays.iter().copied().collect();
        let before = core::mem::replace(&mut self.stays, stays);
        let (new, old): (Vec<_>, Vec<_>) = {
            let now = &self.stays;
            (now.difference(&before).copied().collect(), before.difference(now).copied().collect())
        };
        self.send_ends(STAY, &new);
        self.send_ends(LEAVE, &old);
    }

    /// Tells all of it, to one that knows nothing.
    pub(super) fn send_stays(&mut self) {
        let stays: Vec<_> = self.stays.iter().copied().collect();
        self.send_ends(STAY, &stays);
    }

    fn send_ends(&mut self, what: u8, ends: &[Ends]) {
        for some in ends.chunks((MAX - 1) / ENDS) {
            let ends = some.iter().flat_map(write);
            self.send(core::iter::once(what).chain(ends).collect());
        }
    }

    /// Takes over where transfers stay, or stay no more. False if it says nothing.
    pub(super) fn take_ends(&mut self, stay: bool, bytes: &[u8]) -> bool {
        let (ends, rest) = bytes.as_chunks::<ENDS>();
        if ends.is_empty() || !rest.is_empty() {
            return false;
        }
        for ends in ends.iter().map(read) {
            if stay {
                self.stays.insert(ends)
            } else {
                self.stays.remove(&ends)
            };
        }
        true
    }
}

/// Where a packet that was handed on comes from, and the packet. `None` if it says nothing.
pub(super) fn split(bytes: &[u8]) -> Option<(Ends, &[u8])> {
    bytes.split_first_chunk::<ENDS>().map(|(ends, packet)| (read(ends), packet))
}

fn write((server, alternative): &Ends) -> [u8; ENDS] {
    let mut bytes = [0; ENDS];
    for (place, end) in bytes.as_chunks_mut::<6>().0.iter_mut().zip([server, alternative]) {
        let ([a, b, c, d], [high, low]) = (end.ip().octets(), end.port().to_be_bytes());
        *place = [a, b, c, d, high, low];
    }
    bytes
}

fn read(bytes: &[u8; ENDS]) -> Ends {
    let [a, b, c, d, high, low, e, f, g, h, upper, lower] = *bytes;
    let end = |address: [u8; 4], port| SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes(port));
    (end([a, b, c, d], [high, low]), end([e, f, g, h], [upper, lower]))
}
