//! What two relays tell each other, of which one asks the servers and the other takes their answers.

use core::fmt;
use core::net::SocketAddrV4;

use super::MAX_RELAY_QUERY;
use super::storage::{RelaySlot, flag};
use crate::endpoint::Endpoint;
use crate::naming::question::HEADER;

const MAGIC: [u8; 2] = *b"bq";
const VERSION: u8 = 1;
/// How many bytes come before the query.
const FIXED: usize = 36;
/// The flags of a slot that a record has.
const FLAGS: u8 = flag::MIXED | flag::PLAIN | flag::SIGNED;

/// A query that waits for its answer, for the [`Relay`](super::Relay) of another machine, to which the answer comes. See
/// [`Relay::record`](super::Relay::record).
#[derive(Clone, PartialEq, Eq)]
pub struct RelayRecord {
    pub(super) flags: u8,
    pub(super) nonce: u64,
    pub(super) client: Endpoint,
    pub(super) asked: Endpoint,
    pub(super) server: Endpoint,
    pub(super) port: u16,
    pub(super) id: u16,
    length: u16,
    query: [u8; MAX_RELAY_QUERY],
}

impl RelayRecord {
    /// The most bytes that a record takes.
    pub const MAX_LENGTH: usize = FIXED + MAX_RELAY_QUERY;

    pub(super) fn of(slot: &RelaySlot, server: Endpoint) -> Self {
        let RelaySlot { nonce, client, asked, port, id, length, message, .. } = *slot;
        Self { flags: slot.flags & FLAGS, nonce, client, asked, server, port, id, length, query: message }
    }

    /// The port that the answer comes to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn query(&self) -> &[u8] {
        self.query.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Writes the record into `out`, and returns how many bytes it takes. All numbers are big-endian:
    ///
    /// | bytes | |
    /// | ---: | --- |
    /// | 2 | `bq` |
    /// | 1 | version: 1 |
    /// | 1 | flags: 1, the name was sent in random case; 2, it is not to be sent so again; 8, the query is signed |
    /// | 8 | the number with which identifier and case were drawn |
    /// | 6 | the client: address and port |
    /// | 6 | the endpoint that it has asked |
    /// | 6 | the DNS server |
    /// | 2 | the port that the answer comes to |
    /// | 2 | the identifier of the query at the server |
    /// | 2 | length of the query, 12 to 512 |
    /// | | the query as the client wrote it |
    pub fn write(&self, out: &mut [u8; Self::MAX_LENGTH]) -> usize {
        let ends = [self.client, self.asked, self.server].into_iter().flat_map(bytes_of);
        let words = [self.port, self.id, self.length].into_iter().flat_map(u16::to_be_bytes);
        let start = MAGIC.into_iter().chain([VERSION, self.flags]).chain(self.nonce.to_be_bytes());
        let bytes = start.chain(ends).chain(words).chain(self.query().iter().copied());
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        FIXED + usize::from(self.length)
    }

    /// Reads a record, which is all of `bytes`. What it says is checked by [`Relay::import`](super::Relay::import).
    ///
    /// # Errors
    /// [`RelayRecordError::Length`], [`NoRecord`](RelayRecordError::NoRecord) or
    /// [`Version`](RelayRecordError::Version).
    pub fn read(bytes: &[u8]) -> Result<Self, RelayRecordError> {
        let wrong = RelayRecordError::Length { bytes: bytes.len() };
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(wrong)?;
        let mut fixed = Fields(fixed);
        if fixed.take() != MAGIC {
            return Err(RelayRecordError::NoRecord);
        }
        let [version, flags] = fixed.take();
        if version != VERSION {
            return Err(RelayRecordError::Version { version });
        }
        let mut record = Self {
            flags,
            nonce: u64::from_be_bytes(fixed.take()),
            client: end_of(fixed.take()),
            asked: end_of(fixed.take()),
            server: end_of(fixed.take()),
            port: u16::from_be_bytes(fixed.take()),
            id: u16::from_be_bytes(fixed.take()),
            length: u16::from_be_bytes(fixed.take()),
            query: [0; MAX_RELAY_QUERY],
        };
        if rest.len() != usize::from(record.length) || !(HEADER..=MAX_RELAY_QUERY).contains(&rest.len()) {
            return Err(wrong);
        }
        for (to, from) in record.query.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(record)
    }

    /// Whether it has flags that no record has.
    pub(super) const fn has_other_flags(&self) -> bool {
        self.flags & !FLAGS != 0
    }
}

impl fmt::Debug for RelayRecord {
    /// Without identifier, port and query, which a forger would have to guess.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [client, server] = [self.client, self.server].map(Endpoint::socket);
        f.debug_struct("RelayRecord").field("client", &client).field("server", &server).finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for RelayRecord {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "RelayRecord {{ length: {} }}", self.length);
    }
}

/// Fields of fixed lengths, from the front; zeros after the end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

fn bytes_of(end: Endpoint) -> [u8; 6] {
    let ([a, b, c, d], [high, low]) = (end.address.to_be_bytes(), end.port.to_be_bytes());
    [a, b, c, d, high, low]
}

fn end_of([a, b, c, d, high, low]: [u8; 6]) -> Endpoint {
    Endpoint::new(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([high, low]))
}

/// Why a record was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RelayRecordError {
    /// It does not have the length that it should have.
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
    /// It does not begin as a record does.
    NoRecord,
    /// It is of another version.
    Version {
        /// Its version. This library reads 1.
        version: u8,
    },
    /// Client, port, flags or query are such as no relay sends.
    NoQuery,
    /// It is about a server that this relay does not have.
    UnknownServer {
        /// The server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
    },
    /// There is no room for it. If an earlier attempt of the query was here, it is forgotten.
    Full {
        /// For how many queries there is room.
        capacity: usize,
    },
}

impl fmt::Display for RelayRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(f, "{bytes} bytes are no record of a query: its length is wrong"),
            Self::NoRecord => f.write_str("it does not begin as the record of a query does"),
            Self::Version { version } => write!(f, "version {version}; this library reads {VERSION}"),
            Self::NoQuery => f.write_str("no relay sends such a query"),
            Self::UnknownServer { server } => write!(f, "server {server}: this relay does not have it"),
            Self::Full { capacity } => write!(f, "no room for it among {capacity} queries"),
        }
    }
}

impl core::error::Error for RelayRecordError {}

/// What the relay that takes answers tells the one that asks. See [`Relay::take_notice`](super::Relay::take_notice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RelayNotice {
    pub(super) port: u16,
    pub(super) id: u16,
    pub(super) what: Noticed,
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum Noticed {
    /// The answer.
    Answer,
    /// The answer, with as many letters in their case as show that the server keeps it.
    CaseKept,
    /// An answer that is right but for the case.
    CaseLost,
}

impl RelayNotice {
    /// How many bytes it takes.
    pub const LENGTH: usize = 5;

    /// Its bytes: port and identifier (2 bytes each, big-endian), and 1 for an answer, 2 for one that shows that the server
    /// keeps the case of names, 3 for one in another case.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LENGTH] {
        let ([p0, p1], [i0, i1]) = (self.port.to_be_bytes(), self.id.to_be_bytes());
        [p0, p1, i0, i1, self.what as u8 + 1]
    }

    /// From its bytes; `None` if they are not what [`to_bytes`](Self::to_bytes) writes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let [p0, p1, i0, i1, what] = bytes;
        let what = match what {
            1 => Noticed::Answer,
            2 => Noticed::CaseKept,
            3 => Noticed::CaseLost,
            _ => return None,
        };
        Some(Self { port: u16::from_be_bytes([p0, p1]), id: u16::from_be_bytes([i0, i1]), what })
    }
}
