//! What a query says: header, question, and the records after it (RFC 1035, section 4; RFC 6891).
//!
//! Nothing here follows a pointer, and each step takes at least one byte of the message. So no count, length or pointer
//! can make it loop, whatever an attacker writes (RFC 9267).

use super::counters::Outcome;
use super::name::MAX_NAME;

/// Length in bytes of the header (RFC 1035, section 4.1.1).
pub(super) const HEADER: usize = 12;

/// The fields of a header's second word.
pub(super) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const OPCODE: u16 = 0x7800;
}

/// Types of records and of questions.
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const SIG: u16 = 24;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// Codes of responses (RFC 6895, section 2.3).
pub(super) mod code {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const FORMERR: u8 = 1;
    pub(crate) const SERVFAIL: u8 = 2;
    pub(crate) const NOTIMP: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
    pub(crate) const BADVERS: u8 = 16;
    pub(crate) const BADCOOKIE: u8 = 23;
}

/// How long a datagram to us may be with EDNS (RFC 6891, section 6.2.5): what every path carries (DNS flag day 2020).
pub(super) const PAYLOAD: u16 = 1232;
/// How long an OPT record without options is.
pub(super) const OPT: usize = 11;

/// The Internet class.
pub(super) const IN: u16 = 1;

/// The header of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a>(&'a [[u8; 2]; HEADER / 2]);

impl<'a> Header<'a> {
    /// For a message without a header.
    pub(super) const NONE: Self = Self(&[[0; 2]; HEADER / 2]);

    #[inline]
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let (words, _) = message.as_chunks();
        words.first_chunk().map(Self)
    }

    pub(super) const fn id(self) -> u16 {
        u16::from_be_bytes(self.0[0])
    }

    pub(super) const fn flags(self) -> u16 {
        u16::from_be_bytes(self.0[1])
    }

    pub(super) const fn is_response(self) -> bool {
        self.flags() & flag::RESPONSE != 0
    }

    /// Whether its operation is a query, not a notification or an update, for example.
    pub(super) const fn is_query(self) -> bool {
        self.flags() & flag::OPCODE == 0
    }

    pub(super) const fn questions(self) -> u16 {
        u16::from_be_bytes(self.0[2])
    }

    /// Whether it has records where no query has any.
    pub(super) const fn has_answers(self) -> bool {
        u16::from_be_bytes(self.0[3]) | u16::from_be_bytes(self.0[4]) != 0
    }

    /// Whether each of its four counts is below 256, as in every DNS query that comes in a datagram.
    pub(super) const fn has_few_records(self) -> bool {
        let [.., questions, answers, authorities, additional] = self.0;
        questions[0] | answers[0] | authorities[0] | additional[0] == 0
    }

    /// How many records it has after its questions.
    pub(super) fn records(self) -> u32 {
        let [_, _, _, answers, authorities, additional] = *self.0;
        let count = |bytes| u32::from(u16::from_be_bytes(bytes));
        count(answers) + count(authorities) + count(additional)
    }
}

/// The name of a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// How many bytes it takes in the message.
    pub(super) length: usize,
    /// How many labels it has, without the root.
    pub(super) labels: usize,
}

impl Asked {
    /// Reads the name at the start of `bytes`. The error says what becomes of the query.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Outcome> {
        let (mut at, mut labels) = (0, 0);
        loop {
            match bytes.get(at) {
                // No server can find a name in a message that ends here.
                None => return Err(Outcome::Passed),
                Some(0) => return Ok(Self { length: at + 1, labels }),
                Some(length @ 1..=63) => at += 1 + usize::from(*length),
                // A server that follows pointers might find a name.
                Some(_) => return Err(Outcome::QuestionLabel),
            }
            // The root's zero still has to follow.
            if at >= MAX_NAME {
                return Err(Outcome::QuestionLength);
            }
            labels += 1;
        }
    }
}

/// What follows the name of the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) kind: u16,
    pub(super) class: u16,
    /// Where it ends in the message.
    pub(super) end: usize,
}

impl Question {
    /// Reads it, in a message whose question's name has this length.
    pub(super) fn read(message: &[u8], name: usize) -> Option<Self> {
        let start = HEADER + name;
        let [a, b, c, d] = *message.get(start..)?.first_chunk()?;
        Some(Self { kind: u16::from_be_bytes([a, b]), class: u16::from_be_bytes([c, d]), end: start + 4 })
    }
}

/// What the OPT record of a query says (RFC 6891, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns<'a> {
    /// How many bytes the client takes in a datagram.
    pub(super) payload: u16,
    pub(super) version: u8,
    /// Whether it wants signatures (RFC 3225).
    pub(super) wants_dnssec: bool,
    /// The client's cookie, of 8 bytes, and then the server's, of zero or 8 to 32 bytes (RFC 7873, section 4).
    pub(super) cookies: Option<&'a [u8]>,
}

/// Reads the records after the question: `count` of them are all of `bytes`. Returns the OPT record, which an answer has to
/// have too even if something else is wrong (RFC 6891, section 6.1.1), and what is wrong.
pub(super) fn edns(bytes: &[u8], count: u32) -> (Option<Edns<'_>>, Result<(), Outcome>) {
    let mut found = None;
    let read = read_records(bytes, count, &mut found);
    (found, read)
}

#[inline]
fn read_records<'a>(mut bytes: &'a [u8], count: u32, found: &mut Option<Edns<'a>>) -> Result<(), Outcome> {
    for _ in 0..count {
        let (name, rest) = skip_name(bytes).ok_or(Outcome::Record)?;
        let (fixed, rest) = rest.split_first_chunk::<10>().ok_or(Outcome::Record)?;
        let [k0, k1, c0, c1, extended, version, f0, _, l0, l1] = *fixed;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (data, rest) = rest.split_at_checked(length).ok_or(Outcome::Record)?;
        bytes = rest;
        // The upper bits of a code have no meaning in a query.
        let _ = extended;
        match u16::from_be_bytes([k0, k1]) {
            kind::OPT => {
                if found.is_some() || name != [0] {
                    return Err(Outcome::Edns);
                }
                let payload = u16::from_be_bytes([c0, c1]);
                let edns = found.insert(Edns { payload, version, wants_dnssec: f0 & 0x80 != 0, cookies: None });
                // Another version may have other options.
                if version == 0 {
                    edns.cookies = cookies(data)?;
                }
            }
            // A server that does not check signatures must not answer as if it did (RFC 8945, section 5.1).
            kind::TSIG | kind::SIG => return Err(Outcome::Signed),
            _ => {}
        }
    }
    if bytes.is_empty() { Ok(()) } else { Err(Outcome::Trailing) }
}

/// The name of a record and what follows it. A pointer ends it, and is not followed.
fn skip_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return bytes.split_at_checked(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return bytes.split_at_checked(at + 2),
            _ => return None,
        }
        if at >= MAX_NAME {
            return None;
        }
    }
}

/// The cookies among these options; the first ones count (RFC 7873, section 5.2).
fn cookies(mut options: &[u8]) -> Result<Option<&[u8]>, Outcome> {
    const COOKIE: u16 = 10;
    let mut found = None;
    while !options.is_empty() {
        let (&[k0, k1, l0, l1], rest) = options.split_first_chunk::<4>().ok_or(Outcome::Edns)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (data, rest) = rest.split_at_checked(length).ok_or(Outcome::Edns)?;
        options = rest;
        if u16::from_be_bytes([k0, k1]) == COOKIE && found.is_none() {
            if !matches!(length, 8 | 16..=40) {
                return Err(Outcome::CookieLength);
            }
            found = Some(data);
        }
    }
    Ok(found)
}
