//! Reading an answer, on the monitor's side.

use super::authentication::Rights;
use super::code::{Code, Effect, Refusal};
use super::datagram::END;
#[cfg(feature = "naming")]
use super::entry::{ListedEntry, NameSizes};
use super::forms::{exact_prefix, read_match, read_server};
use super::instruction::{options_in, read_timeouts};
use super::measured::ServerPage;
use super::names::{closed_from, state_from};
use super::standing::Lead;
use super::wire::{Reader, Writer};
use core::net::SocketAddrV4;
use core::time::Duration;

use crate::config::Midstream;
use crate::connection::{Connection, Measured, Volume};
use crate::divert::DivertOptions;
use crate::endpoint::{Pair, Protocol};
use crate::event::Event;
use crate::table::rule::{Match, Weighted};
use crate::time::Instant;
use crate::timeouts::Timeouts;

/// Bytes before the contents of an answer.
pub(super) const HEAD: usize = 12;

const DRY_RUN: u8 = 1;

/// The head of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) refusal: Option<(Refusal, u8)>,
    pub(super) dry_run: bool,
    pub(super) generation: u32,
}

impl Head {
    pub(super) fn write(&self, out: &mut Writer<'_>) {
        let (code, index, detail) = self.refusal.map_or((0, 0, 0), |(r, index)| (r.code.number(), index, r.detail));
        out.u16(code);
        out.u8(index);
        out.u8(if self.dry_run { DRY_RUN } else { 0 });
        out.u32(self.generation);
        out.u32(detail);
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct RefusedBy {
    /// Why; `None` if the translator gave a reason that this version does not know.
    pub code: Option<Code>,
    /// The reason's number.
    pub number: u16,
    /// Which of the request's instructions was refused, from zero.
    pub instruction: u8,
    /// The detail; its meaning is described at the [`Code`].
    pub detail: u32,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    refused: Option<RefusedBy>,
    dry_run: bool,
    generation: u32,
    body: &'a [u8],
}

#[cfg(feature = "defmt")]
impl defmt::Format for Answer<'_> {
    /// Whether it was applied, not all of its contents.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Answer {{ refused: {}, dry_run: {}, generation: {} }}",
            self.refused,
            self.dry_run,
            self.generation
        );
    }
}

impl<'a> Answer<'a> {
    /// Reads an answer's body.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (number, instruction, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
        let (generation, detail) = (reader.u32()?, reader.u32()?);
        let refused = RefusedBy { code: Code::from_number(number), number, instruction, detail };
        Some(Self {
            refused: (number != 0).then_some(refused),
            dry_run: flags & DRY_RUN != 0,
            generation,
            body: reader.0,
        })
    }

    /// Why nothing was done; `None` if the request was applied.
    #[must_use]
    pub const fn refused(&self) -> Option<RefusedBy> {
        self.refused
    }

    /// Whether it answers a dry run, and so describes what would be done.
    #[must_use]
    pub const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The table's generation after the request.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// What each change of the request has done.
    pub fn effects(&self) -> impl Iterator<Item = Effect> + use<'a> {
        let mut reader = Reader(self.body);
        core::iter::from_fn(move || reader.array().and_then(Effect::from_bytes))
    }

    /// The answer to [`Instruction::ListRules`](super::Instruction::ListRules): the rules, and the position of the next
    /// page, if there is one.
    pub fn rules(&self) -> (impl Iterator<Item = ListedRule<'a>> + use<'a>, Option<u32>) {
        let (reader, count, next) = self.page();
        let mut reader = reader;
        let entries = core::iter::from_fn(move || ListedRule::read(&mut reader)).take(count);
        (entries, next)
    }

    /// The answer to [`Instruction::ListNames`](super::Instruction::ListNames): entries of the naming server, and the
    /// position of the next page, if there is one.
    #[cfg(feature = "naming")]
    pub fn names(&self) -> (impl Iterator<Item = ListedEntry<'a>> + use<'a>, Option<u32>) {
        let (mut reader, count, next) = self.page();
        // How many there are; `name_sizes` returns it.
        let _ = reader.u64();
        (core::iter::from_fn(move || ListedEntry::read(&mut reader)).take(count), next)
    }

    /// The answer to [`Instruction::ListNames`](super::Instruction::ListNames): how many entries there are, and how many
    /// there is room for.
    #[cfg(feature = "naming")]
    #[must_use]
    pub fn name_sizes(&self) -> Option<NameSizes> {
        let mut reader = self.page().0;
        Some(NameSizes { entries: reader.u32()?, capacity: reader.u32()? })
    }

    /// The answer to [`Instruction::ListConnections`](super::Instruction::ListConnections): connections with their
    /// measurements, and the position of the next page, if there is one.
    pub fn connections(&self) -> (impl Iterator<Item = (Connection, Option<Measured>)> + use<'a>, Option<u32>) {
        let (mut reader, count, next) = self.page();
        // The translator's time, which entries refer to; `translator_time` returns it.
        let _ = reader.u64();
        (core::iter::from_fn(move || read_connection(&mut reader)).take(count), next)
    }

    /// The answer to [`Instruction::ListConnections`](super::Instruction::ListConnections): the translator's time when
    /// it answered, on the clock of [`Measured::first`] and [`Measured::last`].
    #[must_use]
    pub fn translator_time(&self) -> Instant {
        Instant::from_micros(self.page().0.u64().unwrap_or(0))
    }

    /// The answer to [`Instruction::Measurements`](super::Instruction::Measurements): what was measured of servers.
    #[must_use]
    pub fn measurements(&self) -> ServerPage<'a> {
        ServerPage::read(self.body)
    }

    /// The answer to [`Instruction::Lead`](super::Instruction::Lead): who leads. `None` if it cannot be read.
    #[must_use]
    pub fn lead(&self) -> Option<Lead> {
        Lead::read(self.body)
    }

    /// The answer to [`Instruction::Counters`](super::Instruction::Counters): numbers that
    /// [`counter_name`](super::counter_name) names, and their counts.
    pub fn counters(&self) -> impl Iterator<Item = (u16, u64)> + use<'a> {
        let mut reader = Reader(self.body);
        let count = reader.u16().unwrap_or(0);
        let _ = reader.u16();
        core::iter::from_fn(move || Some((reader.u16()?, reader.u64()?))).take(usize::from(count))
    }

    /// The answer to [`Instruction::Settings`](super::Instruction::Settings).
    #[must_use]
    pub fn settings(&self) -> Option<Settings> {
        let mut reader = Reader(self.body);
        Some(Settings {
            timeouts: read_timeouts(&mut reader)?,
            client_limit: reader.u32()?,
            rules: reader.u32()?,
            capacity: reader.u32()?,
            slots_in_use: reader.u32()?,
            rights: {
                let (kind, length) = (reader.u8()?, reader.u8()?);
                reader.zeros(2)?;
                Rights::from_parts(kind, exact_prefix(reader.address()?, length)?)?
            },
        })
    }

    /// The entries of a page, their number, and the position of the next page.
    fn page(&self) -> (Reader<'a>, usize, Option<u32>) {
        let mut reader = Reader(self.body);
        let head = |r: &mut Reader<'_>| Some((r.u32()?, r.u16()?, r.u16()?));
        match head(&mut reader) {
            Some((next, count, _)) => (reader, usize::from(count), (next != END).then_some(next)),
            None => (reader, 0, None),
        }
    }
}

/// A translator's settings, and the rights of the key that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Settings {
    /// The time-outs, in whole milliseconds.
    pub timeouts: Timeouts,
    /// How many connections a client may have; zero means no limit.
    pub client_limit: u32,
    /// How many rules there are.
    pub rules: u32,
    /// How many connections there is room for.
    pub capacity: u32,
    /// How many of those slots are in use.
    pub slots_in_use: u32,
    /// The rights of this session's key.
    pub rights: Rights,
}

/// A rule as listed in an answer.
#[derive(Clone, Copy, Debug)]
pub struct ListedRule<'a> {
    matches: Match,
    flags: u8,
    total: u16,
    servers: &'a [u8],
}

#[cfg(feature = "defmt")]
impl defmt::Format for ListedRule<'_> {
    /// What it matches, and how many servers it has.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "ListedRule {{ matches: {}, servers: {} }}", self.matches, self.total);
    }
}

impl<'a> ListedRule<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let matches = read_match(reader)?;
        let (flags, listed, total) = (reader.u8()?, reader.u8()?, reader.u16()?);
        Some(Self { matches, flags, total, servers: reader.take(usize::from(listed) * LISTED_SERVER)? })
    }

    /// What it matches.
    #[must_use]
    pub const fn matches(&self) -> Match {
        self.matches
    }

    /// Its options.
    #[must_use]
    pub const fn options(&self) -> DivertOptions {
        options_in(self.flags)
    }

    /// Whether the source is kept: the server sees the client's address.
    #[must_use]
    pub const fn keeps_source(&self) -> bool {
        self.options().keep_source
    }

    /// Whether replies from the server's other ports belong to the client.
    #[must_use]
    pub const fn takes_replies_from_any_port(&self) -> bool {
        self.options().any_port_replies
    }

    /// Whether another server can take over its TCP connections ([`Divert::resumable`](crate::Divert::resumable)).
    #[must_use]
    pub const fn is_resumable(&self) -> bool {
        self.options().resumable
    }

    /// Whether a new connection goes to the server with the fewest for its weight
    /// ([`Divert::least_loaded`](crate::Divert::least_loaded)).
    #[must_use]
    pub const fn is_least_loaded(&self) -> bool {
        self.options().least_loaded
    }

    /// Whether servers that fail are ejected ([`Divert::ejecting`](crate::Divert::ejecting)).
    #[must_use]
    pub const fn is_ejecting(&self) -> bool {
        self.options().ejecting
    }

    /// What happens to segments in the middle of unknown connections, if the rule itself says so
    /// ([`Divert::midstream`](crate::Divert::midstream)).
    #[must_use]
    pub const fn midstream(&self) -> Option<Midstream> {
        self.options().midstream
    }

    /// Its servers, and how many connections each has through this rule.
    pub fn servers(&self) -> impl Iterator<Item = (Weighted, u32)> + use<'a> {
        let mut reader = Reader(self.servers);
        core::iter::from_fn(move || Some((read_server(&mut reader)?, reader.u32()?)))
    }

    /// How many servers it has; an answer lists the first [`MAX_LISTED_SERVERS`].
    #[must_use]
    pub const fn servers_in_all(&self) -> u16 {
        self.total
    }
}

/// How many servers of one rule an answer lists.
pub const MAX_LISTED_SERVERS: usize = 64;

/// Length in bytes of a server in a listed rule.
pub(super) const LISTED_SERVER: usize = 14;

/// Length in bytes of a connection, and of its measurements.
pub(super) const LISTED_CONNECTION: usize = 28;
pub(super) const LISTED_MEASURED: usize = 74;

/// Length in bytes of an event.
pub(super) const LISTED_EVENT: usize = 36;

fn read_pairs(reader: &mut Reader<'_>) -> Option<(Pair, Pair)> {
    let mut pair = || Some(Pair { source: reader.endpoint()?, destination: reader.endpoint()? });
    Some((pair()?, pair()?))
}

fn read_connection(reader: &mut Reader<'_>) -> Option<(Connection, Option<Measured>)> {
    let (protocol, state, measured) = (reader.u8()?, reader.u8()?, reader.u8()?);
    reader.zeros(1)?;
    let (client_side, server_side) = read_pairs(reader)?;
    let protocol = Protocol::from_number(protocol)?;
    let connection = Connection { protocol, client_side, server_side, state: state_from(state)? };
    let measured = if measured & 1 != 0 { Some(read_measured(reader)?) } else { None };
    Some((connection, measured))
}

fn read_measured(reader: &mut Reader<'_>) -> Option<Measured> {
    let mut volume = || {
        let (packets, bytes) = (reader.u64()?, reader.u64()?);
        Some(Volume { packets, bytes, smallest: reader.u16()?, largest: reader.u16()? })
    };
    let (to_server, to_client) = (volume()?, volume()?);
    let mut instant = || reader.u64().map(Instant::from_micros);
    let (first, last) = (instant()?, instant()?);
    let mut duration = || {
        let micros = reader.u32()?;
        Some((micros != u32::MAX).then(|| Duration::from_micros(u64::from(micros))))
    };
    let (server_handshake, client_handshake, round_trip) = (duration()?, duration()?, duration()?);
    Some(Measured {
        to_server,
        to_client,
        first,
        last,
        server_handshake,
        client_handshake,
        round_trip,
        retransmissions: reader.u16()?,
        resets: reader.u16()?,
        icmp_errors: reader.u16()?,
    })
}

/// Events that were subscribed to.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    missed: u32,
    lost: u32,
    count: u16,
    body: &'a [u8],
}

#[cfg(feature = "defmt")]
impl defmt::Format for Events<'_> {
    /// How many, not each.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Events {{ missed: {}, lost: {}, count: {} }}", self.missed, self.lost, self.count);
    }
}

impl<'a> Events<'a> {
    pub(super) fn read(body: &'a [u8], missed: u32) -> Option<Self> {
        let mut reader = Reader(body);
        let (lost, count) = (reader.u32()?, reader.u16()?);
        reader.zeros(2)?;
        Some(Self { missed, lost, count, body: reader.0 })
    }

    /// How many datagrams of events were lost in transit since the last one that arrived. One that arrives late is
    /// counted here and then ignored.
    #[must_use]
    pub const fn datagrams_missed(&self) -> u32 {
        self.missed
    }

    /// How many events were lost since the agent's start because it had no room, modulo 2^32.
    #[must_use]
    pub const fn lost(&self) -> u32 {
        self.lost
    }

    /// The events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<'a> {
        let mut reader = Reader(self.body);
        core::iter::from_fn(move || read_event(&mut reader)).take(usize::from(self.count))
    }
}

fn read_event(reader: &mut Reader<'_>) -> Option<Event> {
    let (kind, protocol, state, why) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let (client_side, server_side) = read_pairs(reader)?;
    let from: SocketAddrV4 = reader.endpoint()?;
    reader.zeros(2)?;
    let protocol = Protocol::from_number(protocol)?;
    let connection = Connection { protocol, client_side, server_side, state: state_from(state)? };
    Some(match kind {
        1 => Event::Opened(connection),
        2 => Event::Changed(connection),
        3 => Event::Moved { connection, from },
        4 => Event::Closed { connection, why: closed_from(why)? },
        _ => return None,
    })
}
