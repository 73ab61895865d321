//! What a query says: header, question, and the records behind it (RFC 1035, section 4; RFC 6891).
//!
//! Nothing here follows a pointer, and each step takes at least one byte of the message. So no count, length or pointer
//! can make it loop, whatever a stranger writes (RFC 9267).

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
    pub(crate) const NONE: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BADVERS: u16 = 16;
    pub(crate) const BADCOOKIE: u16 = 23;
}

/// How long a datagram to us may be with EDNS (RFC 6891, section 6.2.5): what every path carries (DNS flag day 2020).
pub(super) const PAYLOAD: u16 = 1232;
/// How long an OPT record without options is.
pub(super) const OPT: usize = 11;

/// The Internet class.
pub(super) const IN: u16 = 1;

/// The header of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header(pub(super) [u16; HEADER / 2]);

impl Header {
    #[inline]
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let (words, _) = message.first_chunk::<HEADER>()?.as_chunks::<2>();
        let mut header = [0; HEADER / 2];
        for (to, word) in header.iter_mut().zip(words) {
            *to = u16::from_be_bytes(*word);
        }
        Some(Self(header))
    }

    pub(super) const fn id(self) -> u16 {
        self.0[0]
    }

    pub(super) const fn flags(self) -> u16 {
        self.0[1]
    }

    pub(super) const fn is_response(self) -> bool {
        self.flags() & flag::RESPONSE != 0
    }

    /// Whether it asks something, and is not a notification, an update or so.
    pub(super) const fn is_query(self) -> bool {
        self.flags() & flag::OPCODE == 0
    }

    pub(super) const fn questions(self) -> u16 {
        self.0[2]
    }

    /// Whether it has records where no query has any.
    pub(super) const fn has_answers(self) -> bool {
        self.0[3] | self.0[4] != 0
    }

    /// Whether each of its four counts is below 256, as of everything that fits into a datagram.
    pub(super) const fn has_few_records(self) -> bool {
        (self.0[2] | self.0[3] | self.0[4] | self.0[5]) < 256
    }

    pub(super) const fn additional(self) -> u16 {
        self.0[5]
    }
}

/// The name of a question.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// In lower case. What is behind its end is zero, and a word long at least.
    bytes: [u8; MAX_NAME + 1 + size_of::<u64>()],
    length: usize,
    /// Where its labels start, the leftmost first, without the root: 127 fit into a name.
    starts: [u8; 128],
    labels: usize,
}

/// Why a name cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameFault {
    /// The message ends within it.
    Short,
    /// It has a compression pointer, or a label of a type that was never assigned (RFC 6891, section 5).
    Label,
    /// It is longer than 255 bytes.
    Long,
}

impl Asked {
    /// To be [read](Self::read).
    pub(super) const EMPTY: Self =
        Self { bytes: [0; MAX_NAME + 1 + size_of::<u64>()], length: 0, starts: [0; 128], labels: 0 };

    /// Reads the name at the start of `bytes` into an empty one: in place, since it is too large to be moved for each query.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), NameFault> {
        let mut at = 0;
        loop {
            let length = *bytes.get(at).ok_or(NameFault::Short)?;
            if length == 0 {
                break;
            }
            if length > 63 {
                return Err(NameFault::Label);
            }
            let next = at + 1 + usize::from(length);
            // The root's zero is to come.
            if next >= MAX_NAME {
                return Err(NameFault::Long);
            }
            if let Some(start) = self.starts.get_mut(self.labels) {
                *start = at as u8;
            }
            self.labels += 1;
            at = next;
        }
        self.length = at + 1;
        for (to, from) in self.bytes.iter_mut().zip(bytes.get(..at).unwrap_or_default()) {
            // Lengths are below 64 and no letters.
            *to = from.to_ascii_lowercase();
        }
        Ok(())
    }

    /// How many bytes it takes in the message.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    pub(super) const fn labels(&self) -> usize {
        self.labels
    }

    /// Where the labels start, the leftmost first, without the root.
    pub(super) fn starts(&self) -> impl DoubleEndedIterator<Item = usize> {
        self.starts.get(..self.labels).unwrap_or_default().iter().map(|start| usize::from(*start))
    }

    /// The name from this byte on.
    pub(super) fn from(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.length).unwrap_or_default()
    }

    /// The bytes from `at` to `end`, eight at most, the first of them the lowest.
    #[inline]
    pub(super) fn word(&self, at: usize, end: usize) -> u64 {
        let word = self.bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let beyond = 8_usize.saturating_sub(end - at) as u32 * 8;
        word << beyond >> beyond
    }
}

/// What comes behind the name of the question.
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

/// The client's cookie, and the server's, of zero or 8 to 32 bytes (RFC 7873, section 4).
type Cookies<'a> = ([u8; 8], &'a [u8]);

/// What the OPT record of a query says (RFC 6891, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns<'a> {
    /// How many bytes the client takes in a datagram.
    pub(super) payload: u16,
    pub(super) version: u8,
    /// Whether it wants signatures (RFC 3225).
    pub(super) wants_dnssec: bool,
    /// Its own cookie, and ours if it has one (RFC 7873).
    pub(super) cookie: Option<Cookies<'a>>,
}

/// What is wrong with the records behind a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordFault {
    /// One ends behind the message, or has a name that cannot be.
    Record,
    /// Bytes follow the last one.
    Trailing,
    /// Two OPT records, one for another name than the root, or options that do not end with it.
    Edns,
    /// A cookie of a length that none has (RFC 7873, section 5.2.2).
    Cookie,
    /// It is signed: who does not check that must not answer as if he did (RFC 8945, section 5.1).
    Signed,
}

/// Reads the additional records: `count` of them are all of `bytes`.
pub(super) fn edns(mut bytes: &[u8], count: u16) -> Result<Option<Edns<'_>>, RecordFault> {
    let mut found = None;
    for _ in 0..count {
        let (name, rest) = skip_name(bytes).ok_or(RecordFault::Record)?;
        let (fixed, rest) = rest.split_first_chunk::<10>().ok_or(RecordFault::Record)?;
        let [k0, k1, c0, c1, extended, version, f0, _, l0, l1] = *fixed;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (data, rest) = rest.split_at_checked(length).ok_or(RecordFault::Record)?;
        bytes = rest;
        // The upper bits of a code have no meaning in a query.
        let _ = extended;
        match u16::from_be_bytes([k0, k1]) {
            kind::OPT => {
                if found.is_some() || name != [0] {
                    return Err(RecordFault::Edns);
                }
                found = Some(Edns {
                    payload: u16::from_be_bytes([c0, c1]),
                    version,
                    wants_dnssec: f0 & 0x80 != 0,
                    // Another version may have other options.
                    cookie: if version == 0 { cookie(data)? } else { None },
                });
            }
            kind::TSIG | kind::SIG => return Err(RecordFault::Signed),
            _ => {}
        }
    }
    if bytes.is_empty() { Ok(found) } else { Err(RecordFault::Trailing) }
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

/// The cookie among these options; the first one counts (RFC 7873, section 5.2).
fn cookie(mut options: &[u8]) -> Result<Option<Cookies<'_>>, RecordFault> {
    const COOKIE: u16 = 10;
    let mut found = None;
    while !options.is_empty() {
        let (&[k0, k1, l0, l1], rest) = options.split_first_chunk::<4>().ok_or(RecordFault::Edns)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (data, rest) = rest.split_at_checked(length).ok_or(RecordFault::Edns)?;
        options = rest;
        if u16::from_be_bytes([k0, k1]) == COOKIE && found.is_none() {
            if !matches!(length, 8 | 16..=40) {
                return Err(RecordFault::Cookie);
            }
            found = data.split_first_chunk::<8>().map(|(client, server)| (*client, server));
        }
    }
    Ok(found)
}
