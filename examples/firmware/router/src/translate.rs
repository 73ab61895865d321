//! The place where byway sits: between the checks and the routing table.

use smoltcp::time::Instant;

/// What became of a packet that was shown to the translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None of its business: the bytes are as they were.
    Untouched,
    /// Rewritten: to be routed by the destination that it has now.
    Translated,
    /// Not to be decided yet.
    Hold,
    /// Not to be forwarded; the translator has counted why.
    Drop,
}

/// What is asked about every IPv4 packet that came in and passed the checks.
pub trait Translate {
    /// Decides on a packet that begins with its IPv4 header and is as long as that says. The checksum of the header is
    /// right, and the source is an address that a packet may come from.
    fn translate(&mut self, now: Instant, packet: &mut [u8]) -> Verdict;
}

/// No translation: a plain router.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Translate for Plain {
    fn translate(&mut self, _now: Instant, _packet: &mut [u8]) -> Verdict {
        Verdict::Untouched
    }
}
