//! Connections as bytes, for another portion of the same translator, and for use after a restart.
//!
//! The document allows the client-to-server and server-to-client portions to be provided separately. What they share is
//! the current connections, which they exchange in this form. The same records, kept over a restart, are a snapshot.

use core::fmt;
use core::net::SocketAddrV4;
use core::time::Duration;
use crc::{CRC_32_ISO_HDLC, Crc};

use crate::connection::{Connection, Direction};
use crate::endpoint::Endpoint;
use crate::table::connection::{ANY_PORT_REPLIES, Entry, SOURCE_KEPT};
#[cfg(target_pointer_width = "64")]
use crate::table::hash::Key;
use crate::time::Tick;
use crate::track::claims::{Claims, Fin};
use crate::track::phase::Phase;
use crate::track::resume::ResumeSlot;
use crate::track::sequence::Sequences;
use crate::track::tcp::{Tcp, implied_fins};
use crate::wire::ipv4::{ICMP, TCP, UDP};

/// Length of a [`Record`] in bytes.
pub const RECORD_LENGTH: usize = 56;

const MAGIC: [u8; 2] = *b"bw";
const VERSION: u8 = 1;
/// The version of the second record of a connection.
const SECOND: u8 = 2;
/// The flags for FINs.
const FINS: u8 = 0b11_1100;
/// Segments of only one side have been seen.
const ONE_HEARD: u8 = 64;
/// Another server has taken the connection over: its numbering is in a second record.
pub(super) const HANDED_OVER: u8 = 128;
const CHECKED: usize = RECORD_LENGTH - 4;
#[cfg(not(target_pointer_width = "64"))]
const CRC: Crc<u32, crc::NoTable> = Crc::<u32, crc::NoTable>::new(&CRC_32_ISO_HDLC);
#[cfg(target_pointer_width = "64")]
static CRC: Crc<u32, crc::Table<16>> = Crc::<u32, crc::Table<16>>::new(&CRC_32_ISO_HDLC);

/// The checksum of all bytes before the checksum field.
fn checksum(record: &[u8; RECORD_LENGTH]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(record.get(..CHECKED).unwrap_or_default());
    digest.finalize()
}

/// The states that a record can have, by their number in it. The layout is documented at [`Record`].
const PHASES: [(u8, Phase); 15] = [
    (1, Phase::Opening),
    (2, Phase::Opened),
    (3, Phase::Established),
    (4, Phase::ClientClosed),
    (5, Phase::ServerClosed),
    (6, Phase::Closing),
    (7, Phase::TimeWait),
    (8, Phase::Doubtful),
    (9, Phase::UdpUnanswered),
    (10, Phase::UdpAnswered),
    (14, Phase::UdpUnconfirmed),
    (11, Phase::IcmpUnanswered),
    (12, Phase::IcmpAnswered),
    (13, Phase::Adopted),
    // Reading takes the first entry with this number.
    (3, Phase::EstablishedPending),
];

/// One connection in a stable byte form: all that another translator needs to carry it on.
///
/// Bytes from elsewhere are checked when they are read: every `Record` is well-formed.
///
/// # Layout
///
/// 56 bytes, numbers in network byte order:
///
/// | offset | bytes | field |
/// | ---: | ---: | --- |
/// | 0 | 2 | `"bw"` |
/// | 2 | 1 | version: 1 |
/// | 3 | 1 | protocol number: 1 ICMP echo, 6 TCP, 17 UDP |
/// | 4 | 1 | state: 1 opening, 2 opened, 3 established, 4 client closed, 5 server closed, 6 closing, 7 time-wait, 8 doubtful, 13 adopted and not answered yet (TCP); 9 unanswered, 10 answered, 14 opened by a reply from another port that the client has not answered (UDP); 11 unanswered, 12 answered (ICMP) |
/// | 5 | 1 | flags: 1 the source is kept, 2 replies from other ports of the server belong to it; TCP: bits 2 and 3 the client's FIN, bits 4 and 5 the server's (0 what the state implies, 1 sent, 2 sent with the number expected, 3 acknowledged), 64 only one side has been seen, 128 another server has taken it over: how that one counts is in a second record |
/// | 6 | 2 | zero |
/// | 8 | 6 | client: address (4), port (2); for an ICMP echo the identifier, here and in the alternative |
/// | 14 | 6 | original destination; the port is zero for ICMP, here and in the server |
/// | 20 | 6 | alternative source |
/// | 26 | 6 | current server |
/// | 32 | 4 | milliseconds since its last packet, when the record was made |
/// | 36 | 4 | TCP: the sequence number after the last one that the client has used; zero if not known, here and below |
/// | 40 | 4 | the same for the server |
/// | 44 | 4 | TCP: the highest number that the client has acknowledged |
/// | 48 | 4 | the same for the server |
/// | 52 | 4 | CRC-32 (ISO-HDLC) of all bytes before it |
///
/// A TCP connection that can be handed over ([`Divert::resumable`](crate::Divert::resumable)) has a second record:
///
/// | offset | bytes | field |
/// | ---: | ---: | --- |
/// | 0 | 2 | `"bw"` |
/// | 2 | 1 | version: 2 |
/// | 3 | 1 | protocol number: 6 |
/// | 4 | 4 | the current server's address |
/// | 8 | 6 | client |
/// | 14 | 6 | original destination |
/// | 20 | 4 | what is added to the client's sequence numbers on the way to the server |
/// | 24 | 4 | the same for the server's on the way to the client |
/// | 28 | 4 | the same for the server's timestamps |
/// | 32 | 4 | the client's latest timestamp |
/// | 36 | 4 | the latest of the server's timestamps that the client was sent |
/// | 40 | 4 | the right edge of the window that the client was offered |
/// | 44 | 2 | the client's window, as its latest segment has it |
/// | 46 | 2 | the client's maximum segment size |
/// | 48 | 1 | the client's window scale |
/// | 49 | 1 | the server's window scale that the client knows, times 16, and its present server's |
/// | 50 | 2 | flags: 1 timestamps are agreed, 2 selective acknowledgements are, 4 both SYNs were seen, 8 the client has reported a hole, 32 another server has taken over, 64 that one knows no selective acknowledgements, 128 it cannot be handed over, 256 the client waits for an answer, 512 it is to be handed over, 1024 or else reset, 8192 the server that took over has not been heard |
/// | 52 | 4 | CRC-32 (ISO-HDLC) of all bytes before it |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record([u8; RECORD_LENGTH]);

impl Record {
    /// Reads a record from the start of `bytes`.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let whole = bytes.first_chunk::<RECORD_LENGTH>().ok_or(RecordError::Truncated { length: bytes.len() })?;
        let record = Self(*whole);
        if record.bytes(0) != MAGIC {
            return Err(RecordError::NoRecord { found: record.bytes(0) });
        }
        let [version] = record.bytes(2);
        if !matches!(version, VERSION | SECOND) {
            return Err(RecordError::Version { found: version });
        }
        let computed = checksum(whole);
        let found = u32::from_be_bytes(record.bytes(CHECKED));
        if computed != found {
            return Err(RecordError::Checksum { found, computed });
        }
        if version == SECOND {
            record.resumption()?;
        } else {
            record.slot()?;
        }
        Ok(record)
    }

    /// The record's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; RECORD_LENGTH] {
        &self.0
    }

    /// The connection that it describes. `None` for a second record, which only adds to another record.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        if self.is_second() { None } else { self.slot().ok()?.view() }
    }

    /// Whether it is a second record: it adds the server's numbering to a connection that another record describes.
    #[must_use]
    pub fn is_second(&self) -> bool {
        self.bytes(2) == [SECOND]
    }

    /// Whether another server has taken the connection over, so that a second record has the numbering of that server.
    pub(super) fn is_handed_over(&self) -> bool {
        let [protocol, _, flags] = self.bytes(3);
        protocol == TCP && flags & HANDED_OVER != 0
    }

    /// Client, original destination, and what a second record says.
    pub(super) fn resumption(&self) -> Result<([Endpoint; 2], ResumeSlot), RecordError> {
        let [protocol] = self.bytes(3);
        if protocol != TCP {
            return Err(RecordError::Field { name: "protocol", value: protocol });
        }
        let ends = [8, 14].map(|at| self.end(at));
        for (name, end) in ["client", "original"].into_iter().zip(ends) {
            if crate::wire::ipv4::is_martian(end.address) {
                return Err(RecordError::Endpoint { name, value: end.socket() });
            }
        }
        let resume = ResumeSlot::from_bytes(&self.bytes(20));
        Ok((ends, resume.map_err(|(name, value)| RecordError::Field { name, value })?))
    }

    /// The address of the server that a second record is about.
    pub(super) fn server_of_second(&self) -> u32 {
        u32::from_be_bytes(self.bytes(4))
    }

    /// The second record of a connection that can be handed over.
    pub(super) fn second(slot: &Entry, resume: &ResumeSlot) -> Self {
        let mut fields = Fields::new();
        fields.put(&MAGIC);
        fields.put(&[SECOND, TCP]);
        fields.put(&slot.server.to_be_bytes());
        fields.put_end(slot.client_endpoint());
        fields.put_end(slot.original_endpoint());
        fields.put(&resume.to_bytes());
        fields.seal()
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
    }

    fn end(&self, at: usize) -> Endpoint {
        Endpoint::new(u32::from_be_bytes(self.bytes(at)), u16::from_be_bytes(self.bytes(at + 4)))
    }

    /// The keys of its connection for a packet of the client and for one of the server; for a second record the latter has no
    /// meaning.
    #[cfg(target_pointer_width = "64")]
    pub(super) fn keys(&self) -> [Key; 2] {
        let [protocol] = self.bytes(3);
        let [client, original, alternative, server] = [8, 14, 20, 26].map(|at| self.end(at));
        [Key::new(protocol, client, original), Key::new(protocol, alternative, server)]
    }

    /// How long the connection had been without a packet when the record was made, to the millisecond. `None` for
    /// a [second](Self::is_second) record.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        (!self.is_second()).then(|| self.since())
    }

    /// Like [`idle`](Self::idle), for a first record.
    pub(super) fn since(&self) -> Duration {
        Duration::from_millis(u64::from(u32::from_be_bytes(self.bytes(32))))
    }

    /// The TCP state of the record's connection.
    pub(super) fn tcp(&self, phase: Phase, sequences: Sequences) -> Tcp {
        let [flags] = self.bytes(5);
        Tcp::resume(phase, sequences, [Fin::of(flags >> 2), Fin::of(flags >> 4)], flags & ONE_HEARD == 0)
    }

    /// The slot that the record describes, without what depends on the translator.
    pub(super) fn slot(&self) -> Result<Entry, RecordError> {
        let [protocol, state, flags] = self.bytes(3);
        let refuse = |name, value| Err(RecordError::Field { name, value });
        let Some((_, phase)) = PHASES.into_iter().find(|(number, _)| *number == state) else {
            return refuse("state", state);
        };
        let fits = match protocol {
            TCP => matches!(state, 1..=8 | 13),
            UDP => matches!(state, 9..=10 | 14),
            ICMP => matches!(state, 11..=12),
            _ => return refuse("protocol", protocol),
        };
        if !fits {
            return refuse("state", state);
        }
        let known = SOURCE_KEPT
            | match protocol {
                TCP => FINS | ONE_HEARD | HANDED_OVER,
                UDP => ANY_PORT_REPLIES,
                _ => 0,
            };
        if flags & !known != 0 {
            return refuse("flags", flags);
        }
        let [client, original, alternative, server] = [8, 14, 20, 26].map(|at| self.end(at));
        for (name, end) in
            [("client", client), ("original", original), ("alternative", alternative), ("server", server)]
        {
            let portless = protocol == ICMP && matches!(name, "original" | "server");
            if crate::wire::ipv4::is_martian(end.address) || (portless && end.port != 0) {
                return Err(RecordError::Endpoint { name, value: end.socket() });
            }
        }
        if flags & SOURCE_KEPT != 0 && client != alternative {
            return Err(RecordError::Endpoint { name: "alternative", value: alternative.socket() });
        }
        let sequences: [[u8; 4]; 4] = [36, 40, 44, 48].map(|at| self.bytes(at));
        Ok(Entry {
            client: client.address,
            client_port: client.port,
            original: original.address,
            original_port: original.port,
            alternative: alternative.address,
            alternative_port: alternative.port,
            server: server.address,
            server_port: server.port,
            sequences: Sequences::from_words(sequences.map(u32::from_be_bytes)),
            protocol,
            phase,
            flags: flags & !(FINS | ONE_HEARD | HANDED_OVER),
            ..Entry::EMPTY
        })
    }

    /// The record of a connection, with the flag [`HANDED_OVER`] or without it. `None` if it cannot be carried on
    /// elsewhere because it is being reset or finished.
    pub(super) fn of(slot: &Entry, claims: Claims, handed_over: u8, now: Tick) -> Option<Self> {
        let (state, _) = PHASES.into_iter().find(|(_, phase)| *phase == slot.phase.tracked())?;
        let mut fields = Fields::new();
        fields.put(&MAGIC);
        let mut flags = slot.flags & (SOURCE_KEPT | ANY_PORT_REPLIES) | handed_over;
        if slot.protocol == TCP {
            let sides = [(Direction::ToServer, 2), (Direction::ToClient, 4)];
            for ((side, shift), implied) in sides.into_iter().zip(implied_fins(slot.phase)) {
                let fin = claims.fin(side);
                flags |= if fin > implied { (fin as u8) << shift } else { 0 };
            }
            let handshake = matches!(slot.phase, Phase::Opening | Phase::Opened);
            flags |= if handshake || claims.known_both() { 0 } else { ONE_HEARD };
        }
        fields.put(&[VERSION, slot.protocol, state, flags, 0, 0]);
        fields.put_end(slot.client_endpoint());
        fields.put_end(slot.original_endpoint());
        fields.put_end(slot.alternative_endpoint());
        fields.put_end(slot.server_endpoint());
        let idle = (u64::from(now.since(slot.last)) << 16) / 1_000;
        fields.put(&u32::try_from(idle).unwrap_or(u32::MAX).to_be_bytes());
        // Of UDP they are slots of this table.
        let sequences = if slot.protocol == TCP { slot.sequences } else { Sequences::default() };
        for word in sequences.to_words() {
            fields.put(&word.to_be_bytes());
        }
        Some(fields.seal())
    }
}

/// A record under construction.
struct Fields {
    record: [u8; RECORD_LENGTH],
    at: usize,
}

impl Fields {
    const fn new() -> Self {
        Self { record: [0; RECORD_LENGTH], at: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(field) = self.record.get_mut(self.at..self.at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }

    fn put_end(&mut self, Endpoint { address, port }: Endpoint) {
        self.put(&address.to_be_bytes());
        self.put(&port.to_be_bytes());
    }

    fn seal(mut self) -> Record {
        let checksum = checksum(&self.record);
        if let Some(field) = self.record.get_mut(CHECKED..) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        Record(self.record)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.connection()).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Record {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Record({})", self.connection());
    }
}

/// Why a record could not be read or imported. Nothing of it was taken over then; but the connection that it is about may
/// have followed a re-divert, or been closed because it was dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes than [`RECORD_LENGTH`].
    Truncated {
        /// Its length in bytes.
        length: usize,
    },
    /// It does not start like a record.
    NoRecord {
        /// The bytes it starts with.
        found: [u8; 2],
    },
    /// It has a version that this library does not read.
    Version {
        /// The version found.
        found: u8,
    },
    /// Its checksum is wrong: the record is damaged.
    Checksum {
        /// The checksum in the record.
        found: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A field has a value that no connection can have.
    Field {
        /// Which field.
        name: &'static str,
        /// Its value.
        value: u8,
    },
    /// An endpoint has a value that no such connection can have.
    Endpoint {
        /// Which field.
        name: &'static str,
        /// Its value.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        value: SocketAddrV4,
    },
    /// Its alternative endpoint is not one of this translator's.
    ForeignAlternative {
        /// The alternative endpoint.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        alternative: SocketAddrV4,
    },
    /// Its alternative endpoint is taken by another connection with the same server.
    AlternativeTaken {
        /// The alternative endpoint.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        alternative: SocketAddrV4,
    },
    /// Its time-out has passed.
    Expired {
        /// How long ago its last packet was.
        idle: Duration,
    },
    /// It shows the connection on a server that it has since been moved away from, or as it ended before its client
    /// reused the port.
    Outdated {
        /// The server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
    },
    /// It is of a connection that can be handed over, and the storage has no room for what that needs
    /// ([`Borrowed::resumable`](crate::Borrowed::resumable), `Heap::resumable`).
    NotResumable,
    /// It is the second record of a connection that is not known.
    NoConnection,
    /// There is no room for it.
    TableFull {
        /// How many connections there is room for.
        capacity: usize,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => {
                write!(f, "{length} bytes are too few for a record of {RECORD_LENGTH}")
            }
            Self::NoRecord { found } => write!(f, "it begins with {found:?}, but a record begins with {MAGIC:?}"),
            Self::Version { found } => write!(f, "version {found}; this library reads {VERSION} and {SECOND}"),
            Self::Checksum { found, computed } => {
                write!(f, "checksum {found:#010x} instead of {computed:#010x}")
            }
            Self::Field { name, value } => write!(f, "field {name} has the invalid value {value}"),
            Self::Endpoint { name, value } => write!(f, "{name} {value}: no such connection can have this endpoint"),
            Self::ForeignAlternative { alternative } => {
                write!(f, "alternative {alternative} is not one of this translator's")
            }
            Self::AlternativeTaken { alternative } => {
                write!(f, "alternative {alternative} is taken by another connection with the same server")
            }
            Self::Expired { idle } => write!(f, "idle for {idle:?}: its time-out has passed"),
            Self::Outdated { server } => {
                write!(
                    f,
                    "server {server}: the connection has since moved away from it, or its client has reused the port"
                )
            }
            Self::NotResumable => f.write_str("the storage has no room for connections that can be handed over"),
            Self::NoConnection => f.write_str("unknown connection: its first record has to be imported first"),
            Self::TableFull { capacity } => write!(f, "no room for it among {capacity} connections"),
        }
    }
}

impl core::error::Error for RecordError {}
