//! Connections as bytes: for another portion of the same translator, and for the time after a restart.
//!
//! The document lets the way there and the way back be provided separately; what the two share is the current
//! connections, which they exchange in this form. The same records, kept over a restart, are a snapshot.
//!
//! ```text
//! offset  octets  field (numbers in network byte order)
//!      0       2  "bw"
//!      2       1  version, 1
//!      3       1  protocol number
//!      4       1  state, as listed at `PHASES`
//!      5       1  flags: 1 source kept, 2 answers from other ports of the server
//!      6       2  zero
//!      8       6  client address and port
//!     14       6  original destination and port
//!     20       6  alternative address and port
//!     26       6  server and port
//!     32       4  milliseconds since its last packet
//!     36       8  TCP: sequence number behind the last that client and server have used (zero: not known)
//!     44       8  TCP: highest that client and server have acknowledged (zero: not known)
//!     52       4  CRC-32 (ISO-HDLC) of all before it
//! ```

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc};

use super::Translator;
use super::moving::CaughtUp;
use super::state::Table;
use crate::connection::Connection;
use crate::event::Closed;
use crate::table::connection::{Entry, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT};
use crate::table::divert::{self, servers_of};
use crate::table::events::News;
use crate::table::server::{self, Servers};
use crate::table::storage::Storage;
use crate::time::{Instant, Tick};
use crate::track::phase::Phase;
use crate::track::sequence::Sequences;
use crate::verdict::DropReason;
use crate::wire::flow::{ICMP, TCP, UDP};

/// Octets in a [`Record`].
pub const RECORD_LENGTH: usize = 56;

const MAGIC: [u8; 2] = *b"bw";
const VERSION: u8 = 1;
const CHECKED: usize = RECORD_LENGTH - 4;
const CRC: Crc<u32, crc::NoTable> = Crc::<u32, crc::NoTable>::new(&CRC_32_ISO_HDLC);

/// The states that a record can tell of, by their number in it.
const PHASES: [(u8, Phase); 12] = [
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
    (11, Phase::IcmpUnanswered),
    (12, Phase::IcmpAnswered),
];

/// One connection in a stable byte form: all that another translator needs to carry it on.
///
/// The layout stands at the head of `src/translator/records.rs`. What comes from elsewhere is checked when it is read:
/// a `Record` that exists is well-formed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record([u8; RECORD_LENGTH]);

impl Record {
    /// Reads a record from the front of `bytes`.
    ///
    /// # Errors
    /// [`RecordError`] names what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let octets = bytes.first_chunk::<RECORD_LENGTH>().ok_or(RecordError::Truncated { length: bytes.len() })?;
        let record = Self(*octets);
        if record.octets(0) != MAGIC {
            return Err(RecordError::NoRecord);
        }
        let [version] = record.octets(2);
        if version != VERSION {
            return Err(RecordError::Version { found: version });
        }
        let computed = CRC.checksum(octets.get(..CHECKED).unwrap_or_default());
        let found = u32::from_be_bytes(record.octets(CHECKED));
        if computed != found {
            return Err(RecordError::Checksum { found, computed });
        }
        record.slot()?;
        Ok(record)
    }

    /// The record's octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; RECORD_LENGTH] {
        &self.0
    }

    /// The connection that it tells of.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        self.slot().ok()?.view()
    }

    fn octets<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
    }

    fn endpoint(&self, at: usize) -> (u32, u16) {
        (u32::from_be_bytes(self.octets(at)), u16::from_be_bytes(self.octets(at + 4)))
    }

    fn idle_millis(&self) -> u32 {
        u32::from_be_bytes(self.octets(32))
    }

    /// The slot that the record describes, less what depends on the translator.
    fn slot(&self) -> Result<Entry, RecordError> {
        let [protocol, state, flags] = self.octets(3);
        let refuse = |name, value: u8| Err(RecordError::Field { name, value: u32::from(value) });
        let Some((_, phase)) = PHASES.into_iter().find(|(number, _)| *number == state) else {
            return refuse("state", state);
        };
        let fits = match protocol {
            TCP => matches!(state, 1..=8),
            UDP => matches!(state, 9..=10),
            ICMP => matches!(state, 11..=12),
            _ => return refuse("protocol", protocol),
        };
        if !fits {
            return refuse("state", state);
        }
        if flags & !(SOURCE_KEPT | SIBLINGS) != 0 || (flags & SIBLINGS != 0 && protocol != UDP) {
            return refuse("flags", flags);
        }
        let [client, original, alternative, server] = [8, 14, 20, 26].map(|at| self.endpoint(at));
        for (name, (address, port)) in
            [("client", client), ("original", original), ("alternative", alternative), ("server", server)]
        {
            if crate::wire::ipv4::is_martian(address) {
                return Err(RecordError::Field { name, value: address });
            }
            let identifier = protocol == ICMP && matches!(name, "client" | "alternative");
            if protocol == ICMP && !identifier && port != 0 {
                return Err(RecordError::Field { name, value: u32::from(port) });
            }
        }
        if flags & SOURCE_KEPT != 0 && client != alternative {
            return Err(RecordError::Field { name: "alternative", value: alternative.0 });
        }
        let sequences: [[u8; 4]; 4] = [36, 40, 44, 48].map(|at| self.octets(at));
        Ok(Entry {
            client: client.0,
            client_port: client.1,
            original: original.0,
            original_port: original.1,
            alternative: alternative.0,
            alternative_port: alternative.1,
            server: server.0,
            server_port: server.1,
            sequences: Sequences::from_words(sequences.map(u32::from_be_bytes)),
            protocol,
            phase,
            flags,
            ..Entry::EMPTY
        })
    }

    /// The record of a connection. `None` if it is one that cannot be carried on elsewhere: being reset, or over.
    fn of(slot: &Entry, now: Tick) -> Option<Self> {
        let (state, _) = PHASES.into_iter().find(|(_, phase)| *phase == slot.phase)?;
        let mut octets = [0; RECORD_LENGTH];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(field) = octets.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&MAGIC);
        put(&[VERSION, slot.protocol, state, slot.flags & (SOURCE_KEPT | SIBLINGS), 0, 0]);
        for (address, port) in [
            (slot.client, slot.client_port),
            (slot.original, slot.original_port),
            (slot.alternative, slot.alternative_port),
            (slot.server, slot.server_port),
        ] {
            put(&address.to_be_bytes());
            put(&port.to_be_bytes());
        }
        let idle = (u64::from(now.since(slot.last)) << 16) / 1_000;
        put(&u32::try_from(idle).unwrap_or(u32::MAX).to_be_bytes());
        for word in slot.sequences.to_words() {
            put(&word.to_be_bytes());
        }
        let checksum = CRC.checksum(octets.get(..CHECKED).unwrap_or_default());
        if let Some(field) = octets.get_mut(CHECKED..) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        Some(Self(octets))
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

/// What taking over a record has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Imported {
    /// The connection was not known, and is now.
    New,
    /// The connection was known; what the record knew better was taken over.
    Updated,
}

/// Why a record was not read, or not taken over. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer octets than [`RECORD_LENGTH`].
    Truncated {
        /// How many there are.
        length: usize,
    },
    /// It does not begin as a record does.
    NoRecord,
    /// It is of another version than this library writes.
    Version {
        /// Which.
        found: u8,
    },
    /// Its checksum is wrong: it was damaged.
    Checksum {
        /// What stands in it.
        found: u32,
        /// What its octets give.
        computed: u32,
    },
    /// A field has a value that no connection can have.
    Field {
        /// Which field.
        name: &'static str,
        /// Its value; for an endpoint, its address as a number.
        value: u32,
    },
    /// Its alternative endpoint is none of ours.
    ForeignAlternative,
    /// Its alternative endpoint is taken by another connection with the same server.
    AlternativeTaken,
    /// Its time-out has passed.
    Expired,
    /// It shows the connection on a server that it has been moved away from since.
    Outdated,
    /// There is no room for it.
    TableFull,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => {
                write!(f, "{length} octets are no record of {RECORD_LENGTH}")
            }
            Self::NoRecord => f.write_str("it does not begin as a record does"),
            Self::Version { found } => write!(f, "version {found}; this library reads {VERSION}"),
            Self::Checksum { found, computed } => {
                write!(f, "checksum {found:#010x} instead of {computed:#010x}")
            }
            Self::Field { name, value } => write!(f, "field {name} with the value {value}"),
            Self::ForeignAlternative => f.write_str("its alternative endpoint is none of ours"),
            Self::AlternativeTaken => f.write_str("its alternative endpoint is taken by another connection"),
            Self::Expired => f.write_str("its time-out has passed"),
            Self::Outdated => f.write_str("the connection has been moved away from its server"),
            Self::TableFull => f.write_str("there is no room for it"),
        }
    }
}

impl core::error::Error for RecordError {}

impl<S: Storage> Translator<S> {
    /// A record of each current connection that can be carried on elsewhere: a snapshot. What only holds its
    /// alternative endpoint, and what is being reset, is left out.
    ///
    /// ```
    /// # use byway::*;
    /// # let config = Config::new([7; 32]);
    /// # let before = Translator::new(config.clone(), Fixed::<64, 4>::new())?;
    /// # let mut after = Translator::new(config, Fixed::<64, 4>::new())?;
    /// let snapshot: Vec<[u8; RECORD_LENGTH]> = before.records().map(|r| *r.as_bytes()).collect();
    /// // ... after the restart:
    /// for bytes in &snapshot {
    ///     after.import(Instant::ZERO, &Record::from_bytes(bytes)?)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let view = self.storage.view();
        let (timers, now) = (&self.state.timers, self.state.tick);
        let fresh = view.connections.get(..self.state.fresh as usize).unwrap_or(view.connections);
        let alive = fresh.iter().map(|c| &c.0).filter(move |c| !timers.is_dead(c.phase, c.last, now));
        alive.filter_map(move |c| Record::of(c, now))
    }

    /// The record of one connection, to be sent to another portion.
    #[must_use]
    pub fn record(&self, connection: &Connection) -> Option<Record> {
        let (near, far) = (connection.client_side.source, connection.client_side.destination);
        let near = (near.ip().to_bits(), near.port());
        let far = (far.ip().to_bits(), far.port());
        let slot = self.find(&crate::table::hash::Key::new(connection.protocol.number(), near, far))?;
        Record::of(&self.storage.view().connections.get(slot as usize)?.0, self.state.tick)
    }

    /// Takes over the connection of a record. If it is known already, whatever the record knows better is taken over:
    /// a later state, higher sequence numbers, a later last packet, another server.
    ///
    /// # Errors
    /// [`RecordError`] says why it was not taken over.
    pub fn import(&mut self, now: Instant, record: &Record) -> Result<Imported, RecordError> {
        self.state.advance(now);
        self.table().import(record)
    }
}

impl Table<'_> {
    fn import(&mut self, record: &Record) -> Result<Imported, RecordError> {
        let mut new = record.slot()?;
        let idle = core::time::Duration::from_millis(u64::from(record.idle_millis()));
        new.last = Tick(self.state.tick.0.wrapping_sub(Tick::count(idle)));
        if self.state.timers.is_dead(new.phase, new.last, self.state.tick) {
            return Err(RecordError::Expired);
        }
        if new.flags & SOURCE_KEPT == 0 && !self.state.gives_away((new.alternative, new.alternative_port)) {
            return Err(RecordError::ForeignAlternative);
        }
        if self.state.is_own(new.server) {
            return Err(RecordError::Field { name: "server", value: new.server });
        }
        self.tidy();
        let known = self.find_there(&new.key_there());
        if let Some(known) = known
            && !self.is_dead(known)
        {
            self.update(known, &new)?;
            return Ok(Imported::Updated);
        }
        if let Some(dead) = known {
            self.bury(dead);
        }
        self.vacate(&new)?;
        new.member = self.member_of(&new);
        new.set_deltas(self.state.config.checksums);
        let slot = self.install(&new).map_err(|_: DropReason| RecordError::TableFull)?;
        if new.phase.is_over() {
            self.tell(slot, News::Opened);
            self.count_closed(Closed::Finished);
            self.tell(slot, News::Closed(Closed::Finished));
        }
        self.state.counters.imported = self.state.counters.imported.wrapping_add(1);
        Ok(Imported::New)
    }

    /// Frees the alternative endpoint of a record from what is dead or only holds it: it was held for this very
    /// connection, or for one long gone.
    fn vacate(&mut self, new: &Entry) -> Result<(), RecordError> {
        let Some(taken) = self.find_back(&new.key_back()) else {
            return Ok(());
        };
        if self.is_dead(taken) {
            self.bury(taken);
        }
        match self.slot(taken).map(|c| c.phase) {
            Some(Phase::Held) => self.release(taken),
            Some(Phase::Free) | None => {}
            Some(_) => return Err(RecordError::AlternativeTaken),
        }
        Ok(())
    }

    /// Takes over what a record of a connection that is known knows better.
    fn update(&mut self, slot: u32, new: &Entry) -> Result<(), RecordError> {
        match self.catch_up(slot) {
            CaughtUp::Stayed | CaughtUp::Moved | CaughtUp::Reset => {}
            CaughtUp::Stranded => return Err(RecordError::AlternativeTaken),
            CaughtUp::Home => return Err(RecordError::Expired),
        }
        let Some(&old) = self.slot(slot) else {
            return Err(RecordError::TableFull);
        };
        // A record that was written before a re-divert and comes after it knows nothing of it.
        let left = |server| self.state.moves.left(self.memory.moves, server);
        let outdated = left((new.server, new.server_port)) && !left((old.server, old.server_port));
        if outdated {
            return Err(RecordError::Outdated);
        }
        if old.key_back() != new.key_back() {
            self.vacate(new)?;
            self.unlist_back(slot);
            let mut moved = Entry {
                alternative: new.alternative,
                alternative_port: new.alternative_port,
                server: new.server,
                server_port: new.server_port,
                flags: old.flags & !SOURCE_KEPT | new.flags & SOURCE_KEPT,
                ..old
            };
            self.state.kept += u32::from(moved.has(SOURCE_KEPT));
            self.state.kept -= u32::from(old.has(SOURCE_KEPT));
            moved.set_deltas(self.state.config.checksums);
            if let Some(c) = self.slot_mut(slot) {
                *c = moved;
            }
            if !self.list_back(slot) {
                self.strand(slot, true);
                return Err(RecordError::TableFull);
            }
            if old.has(SERVER_COUNTED) {
                self.servers().discount(old.member);
                let member = self.member_of(&moved);
                let counted = self.servers().count(member);
                if let Some(c) = self.slot_mut(slot) {
                    c.member = member;
                    c.flags = c.flags & !SERVER_COUNTED | if counted { SERVER_COUNTED } else { 0 };
                }
            }
            self.tell(slot, News::Moved((old.server, old.server_port)));
        }
        let tick = self.state.tick;
        let Some(connection) = self.slot_mut(slot) else {
            return Ok(());
        };
        connection.sequences.merge(new.sequences);
        if tick.since(new.last) < tick.since(connection.last) {
            connection.last = new.last;
        }
        let next = joined(connection.phase, new.phase, connection.sequences.both_acknowledged());
        if next != connection.phase {
            if next == Phase::TimeWait {
                self.finish(slot, Closed::Finished);
            }
            self.set_phase(slot, next);
        }
        Ok(())
    }

    /// The entry of the rule that this connection could have been opened by, if it names its server.
    fn member_of(&mut self, new: &Entry) -> u16 {
        let original = (new.original, new.original_port);
        let Some(rule) = divert::find(self.rules(), new.protocol, new.client, original) else {
            return server::NONE;
        };
        let servers = Servers(self.memory.servers);
        let names = |entry: &u16| {
            let resolved = servers.get(*entry).map(|s| s.resolve(original));
            resolved.is_some_and(|r| r.0 == new.server && (r.1 == new.server_port || new.protocol == ICMP))
        };
        servers_of(&servers, rule.servers).find(names).unwrap_or(server::NONE)
    }
}

/// What a connection is doing of which two portions have seen a half each.
fn joined(mine: Phase, theirs: Phase, both_acknowledged: bool) -> Phase {
    let rank = |phase| match phase {
        Phase::Opening | Phase::UdpUnanswered | Phase::IcmpUnanswered => 0,
        Phase::Opened | Phase::UdpAnswered | Phase::IcmpAnswered => 1,
        Phase::Doubtful => 2,
        Phase::Established => 3,
        Phase::ClientClosed | Phase::ServerClosed => 4,
        Phase::Closing => 5,
        Phase::TimeWait => 6,
        Phase::Resetting | Phase::Held | Phase::Free => 7,
    };
    let joined = match (mine, theirs) {
        (Phase::ClientClosed, Phase::ServerClosed) | (Phase::ServerClosed, Phase::ClientClosed) => Phase::Closing,
        _ if rank(theirs) > rank(mine) => theirs,
        _ => mine,
    };
    if joined == Phase::Closing && both_acknowledged { Phase::TimeWait } else { joined }
}
