//! The outer form of a datagram: kind, session, and the tag at its end.

use super::authentication::{NONCE, Nonce, Secret, TAG};
use super::wire::{Reader, Writer};

/// `BW`: the first two bytes of each datagram.
const MAGIC: u16 = 0x4257;

/// The protocol version that is implemented here.
pub const VERSION: u8 = 1;

/// The longest datagram that a monitor sends, in bytes. It limits what refusing one can cost.
pub const MAX_REQUEST: usize = 512;

/// The longest datagram that an agent sends, in bytes: every path carries it without fragmentation, tunnels included
/// (an IPv6 packet of 1280 bytes less both headers leaves 1232).
pub const MAX_ANSWER: usize = 1200;

/// Length in bytes of each datagram that opens a session, from either side.
pub(super) const HANDSHAKE: usize = 64;

/// Length in bytes of the header of a session's datagram.
pub(super) const HEADER: usize = 16;

/// In the head of a page: there is no next one.
pub(super) const END: u32 = u32::MAX;

/// The kinds of datagrams.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const CHALLENGE: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const REQUEST: u8 = 4;
    pub(crate) const ANSWER: u8 = 5;
    pub(crate) const EVENTS: u8 = 6;
    pub(crate) const REFUSAL: u8 = 7;
    pub(crate) const REPORT: u8 = 8;
}

/// The first four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) version: u8,
    pub(super) kind: u8,
}

impl Start {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let magic = reader.u16()?;
        let (version, kind) = (reader.u8()?, reader.u8()?);
        (magic == MAGIC).then_some(Self { version, kind })
    }
}

fn start(out: &mut Writer<'_>, version: u8, kind: u8) {
    out.u16(MAGIC);
    out.u8(version);
    out.u8(kind);
}

/// A request for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) key: u16,
    pub(super) nonce: Nonce,
}

impl Hello {
    pub(super) fn write(&self, version: u8, secret: &Secret, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        start(&mut out, version, kind::HELLO);
        self.put(&mut out);
        seal_handshake(out, secret)
    }

    fn put(&self, out: &mut Writer<'_>) {
        out.u16(self.key);
        out.u16(0);
        out.put(&self.nonce);
    }

    /// Reads what follows the first four bytes.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let key = reader.u16()?;
        reader.zeros(2)?;
        Some(Self { key, nonce: reader.array()? })
    }
}

/// The translator's answer to [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) hello: Hello,
    /// The translator's nonce; its first half identifies the session.
    pub(super) nonce: Nonce,
    /// The number of the session, counted since the translator's start.
    pub(super) number: u32,
}

impl Challenge {
    pub(super) fn write(&self, secret: &Secret, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        start(&mut out, VERSION, kind::CHALLENGE);
        self.hello.put(&mut out);
        out.put(&self.nonce);
        out.u32(self.number);
        seal_handshake(out, secret)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { hello: Hello::read(reader)?, nonce: reader.array()?, number: reader.u32()? })
    }
}

/// The session that a challenge with this nonce is for.
pub(super) const fn session_of(nonce: &Nonce) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *nonce;
    [a, b, c, d, e, f, g, h]
}

/// The translator's refusal of a [`Hello`]: a code and its detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusing {
    pub(super) hello: Hello,
    pub(super) code: u16,
    pub(super) detail: u32,
}

impl Refusing {
    pub(super) fn write(&self, secret: &Secret, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        start(&mut out, VERSION, kind::REFUSAL);
        self.hello.put(&mut out);
        out.u16(self.code);
        out.u16(0);
        out.u32(self.detail);
        seal_handshake(out, secret)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (hello, code) = (Hello::read(reader)?, reader.u16()?);
        reader.zeros(2)?;
        Some(Self { hello, code, detail: reader.u32()? })
    }
}

/// The contents of the datagram that opens a session, after its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) key: u16,
    pub(super) number: u32,
    pub(super) nonce: Nonce,
}

impl Open {
    pub(super) fn write(&self, session: [u8; 8], secret: &Secret, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        Header { kind: kind::OPEN, sequence: 0, session }.write(&mut out);
        out.u16(self.key);
        out.u16(0);
        out.u32(self.number);
        out.put(&self.nonce);
        seal_handshake(out, secret)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let key = reader.u16()?;
        reader.zeros(2)?;
        Some(Self { key, number: reader.u32()?, nonce: reader.array()? })
    }
}

/// The header of a datagram within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) sequence: u32,
    pub(super) session: [u8; 8],
}

impl Header {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        start(out, VERSION, self.kind);
        out.u32(self.sequence);
        out.put(&self.session);
    }

    /// Reads what follows the first four bytes.
    pub(super) fn read(start: Start, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { kind: start.kind, sequence: reader.u32()?, session: reader.array()? })
    }
}

/// Appends the tag; returns the whole length.
#[inline(never)]
pub(super) fn seal(mut out: Writer<'_>, secret: &Secret) -> Option<usize> {
    let tag = secret.tag(out.bytes());
    out.put(&tag);
    out.length()
}

/// Like [`seal`], for a datagram that opens a session: all of those are padded to the same size.
fn seal_handshake(mut out: Writer<'_>, secret: &Secret) -> Option<usize> {
    out.zeros((HANDSHAKE - TAG).saturating_sub(out.bytes().len()));
    seal(out, secret)
}

const _: () = assert!(TAG == NONCE, "a nonce is the first half of a hash, as a tag is");
