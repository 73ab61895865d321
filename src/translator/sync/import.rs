//! Records of connections: written for a snapshot or another portion, and taken over from there.

use crate::connection::{Connection, Direction};
use crate::endpoint::endpoint;
use crate::event::Closed;
use crate::table::connection::{Entry, SERVER_COUNTED, SOURCE_KEPT};
use crate::table::event_queue::News;
use crate::table::redivert_log::DONE;
use crate::table::rule::servers_of;
use crate::table::server;
use crate::table::storage::Storage;
use crate::time::{Instant, Tick};
use crate::track::claims::Claims;
use crate::track::phase::Phase;
use crate::track::tcp::Tcp;
use crate::translator::Translator;
use crate::translator::redivert::follow::CaughtUp;
use crate::translator::sync::record::{Record, RecordError};
use crate::translator::table::Table;
use crate::verdict::DropReason;
use crate::wire::flow::{ICMP, TCP};

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

impl<S: Storage> Translator<S> {
    /// A record of each current connection that can be carried on elsewhere: a snapshot. What only holds its
    /// alternative endpoint, and what is being reset, is left out.
    ///
    /// A record says for how long its connection has been idle, up to the time of the latest call that was told one.
    /// [`poll`](Self::poll) first if the last packet came a while ago.
    ///
    /// ```
    /// # use byway::*;
    /// # let config = Config::new([7; 32]);
    /// # let before = Translator::new(config.clone(), Fixed::<64, 4>::new())?;
    /// # let mut before = before;
    /// # let mut after = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let (now, restarted) = (Instant::ZERO, Instant::ZERO);
    /// before.poll(now);
    /// let snapshot: Vec<[u8; RECORD_LENGTH]> = before.records().map(|r| *r.as_bytes()).collect();
    ///
    /// // After the restart: first the rules, then the records, then packets. The clock begins when the snapshot was made.
    /// // after.divert(...)?;
    /// for bytes in &snapshot {
    ///     after.import(Instant::ZERO, &Record::from_bytes(bytes)?)?;
    /// }
    /// after.poll(restarted); // so long after the snapshot: what has died in the meantime ends
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let view = self.storage.view();
        let state = &self.state;
        let fresh = view.connections.get(..state.fresh as usize).unwrap_or(view.connections);
        let all = (0..).zip(fresh).map(|(slot, c)| (slot, &c.0)).filter(|(_, c)| !state.is_dead(c));
        all.filter_map(|(slot, c)| Record::of(c, self.claims_of(slot), state.tick))
    }

    /// The record of one connection, to be sent to another portion.
    #[must_use]
    pub fn record(&self, connection: &Connection) -> Option<Record> {
        let (near, far) = (connection.client_side.source, connection.client_side.destination);
        let near = (near.ip().to_bits(), near.port());
        let far = (far.ip().to_bits(), far.port());
        let slot = self.find(&crate::table::hash::Key::new(connection.protocol.number(), near, far))?;
        let connection = &self.storage.view().connections.get(slot as usize)?.0;
        Record::of(connection, self.claims_of(slot), self.state.tick)
    }

    fn claims_of(&self, slot: u32) -> Claims {
        let words = self.state.layout.claims_of(self.storage.view().index, slot);
        Claims::from_words(words.copied().unwrap_or_default())
    }

    /// Takes over the connection of a record. If it is known already, whatever the record knows better is taken over:
    /// a later state, higher sequence numbers, a later last packet, another server.
    ///
    /// # The order, and `now`
    ///
    /// Enter the rules first, then the records, then let packets come. A packet of a connection whose record has not come
    /// yet may open another in its place. Records that come before their rules are carried on all the same; they are
    /// counted with the rule's server once it comes, a share of them at once and the others by [`poll`](Self::poll).
    ///
    /// `now` is the moment at which the record was made, on this translator's clock: a connection that was idle for 200 s
    /// then had its last packet 200 s before `now`. After a restart let the clock begin with the snapshot, at zero or
    /// anywhere, take over the records at that time, and go on with the time that it is by then. Who passes the time at
    /// which it came up again gives each connection as much longer to live as the restart took. A `now` before that of an
    /// earlier call is taken to be as late as that.
    ///
    /// # Errors
    /// [`RecordError`] says why it was not taken over.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    /// #     let mut packet = [0; 28];
    /// #     (packet[0], packet[3], packet[8], packet[9], packet[25]) = (0x45, 28, 64, 17, 8);
    /// #     packet[12..16].copy_from_slice(&from.ip().octets());
    /// #     packet[16..20].copy_from_slice(&to.ip().octets());
    /// #     packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    /// #     packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    /// #     packet
    /// # }
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// // One portion does the way there, and another the way back.
    /// let mut there = Translator::new(config.clone(), Fixed::<64, 4>::new())?;
    /// let mut back = Translator::new(config, Fixed::<64, 4>::new())?;
    /// there.divert(Divert::new(original).to(server))?;
    ///
    /// let mut question = udp(client, original);
    /// assert_eq!(there.translate(Instant::ZERO, &mut question), Verdict::ToServer);
    /// while let Some(event) = there.poll_event() {
    ///     if let Event::Opened(connection) = event
    ///         && let Some(record) = there.record(&connection)
    ///     {
    ///         let bytes: [u8; RECORD_LENGTH] = *record.as_bytes(); // sent over to the other one
    ///         assert_eq!(back.import(Instant::ZERO, &Record::from_bytes(&bytes)?)?, Imported::New);
    ///     }
    /// }
    /// let alternative = back.connections().next().expect("it is there").server_side.source;
    /// let mut answer = udp(server, alternative);
    /// assert_eq!(back.translate(Instant::ZERO, &mut answer), Verdict::ToClient);
    /// assert_eq!(answer[12..20], [100, 100, 100, 100, 1, 2, 3, 4]); // from the original to the client
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn import(&mut self, now: Instant, record: &Record) -> Result<Imported, RecordError> {
        self.begin(now);
        self.table().import(record)
    }
}

impl Table<'_> {
    fn import(&mut self, record: &Record) -> Result<Imported, RecordError> {
        let mut new = record.slot()?;
        let tcp = (new.protocol == TCP).then(|| record.tcp(new.phase, new.sequences));
        if let Some(tcp) = &tcp {
            (new.phase, new.sequences) = (tcp.phase, tcp.sequences);
        }
        let idle = record.idle();
        new.last = Tick(self.state.tick.0.wrapping_sub(Tick::count(idle)));
        if self.state.timers.is_dead(new.phase, new.last, self.state.tick) {
            return Err(RecordError::Expired { idle });
        }
        if new.flags & SOURCE_KEPT == 0 && !self.state.gives_away((new.alternative, new.alternative_port)) {
            let alternative = endpoint(new.alternative, new.alternative_port);
            return Err(RecordError::ForeignAlternative { alternative });
        }
        if self.state.is_own(new.server) {
            return Err(RecordError::Endpoint { name: "server", value: endpoint(new.server, new.server_port) });
        }
        self.tidy();
        let mut known = self.find_there(&new.key_there());
        if let Some(dead) = known.filter(|known| self.is_dead(*known)) {
            self.bury(dead);
            known = None;
        }
        if let Some(known) = known.filter(|known| self.slot(*known).is_some_and(|old| !begins_anew(old, &new))) {
            self.update(known, &new, tcp.as_ref())?;
            return Ok(Imported::Updated);
        }
        new.member = self.entry_for(&new);
        let server = (new.server, new.server_port);
        // It was written before a re-divert and comes after it. No rule leads there any more.
        if new.member == server::NONE && self.state.moves.leads_away(self.memory.moves, server, new.protocol == ICMP) {
            return Err(outdated(&new));
        }
        if let Some(known) = known {
            if self.slot(known).is_some_and(|old| old.key_back() != new.key_back()) {
                self.vacate(&new)?;
            }
            self.hold(known, Closed::Finished);
        }
        self.vacate(&new)?;
        self.note_stray(new.member);
        new.set_deltas(self.state.config.checksums);
        let slot = self.install(&new).map_err(|_: DropReason| self.no_room())?;
        if let Some(tcp) = &tcp {
            self.set_claims(slot, tcp.claims);
        }
        self.note_orphan(new.original);
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
        self.unseat_dead(&new.key_back());
        let Some(taken) = self.find_back(&new.key_back()) else {
            return Ok(());
        };
        match self.slot(taken).map(|c| c.phase) {
            Some(Phase::Held) => self.release(taken),
            Some(Phase::Free) | None => {}
            Some(_) => return Err(endpoint_taken(new)),
        }
        Ok(())
    }

    /// Takes over what a record of a connection that is known knows better.
    fn update(&mut self, slot: u32, new: &Entry, theirs: Option<&Tcp>) -> Result<(), RecordError> {
        match self.catch_up(slot) {
            CaughtUp::Stayed | CaughtUp::Moved | CaughtUp::Reset => {}
            CaughtUp::Stranded => return Err(endpoint_taken(new)),
            CaughtUp::Home => return Err(outdated(new)),
        }
        let Some(&old) = self.slot(slot) else {
            return Err(self.no_room());
        };
        // One that was written before the client began anew, and comes after it.
        if is_ending(new.phase) && !is_ending(old.phase) && is_elsewhere_on_the_server(&old, new) {
            return Err(outdated(new));
        }
        // A record that was written before a re-divert and comes after it knows nothing of it.
        let left = |server| self.state.moves.left(self.memory.moves, server);
        if left((new.server, new.server_port)) && !left((old.server, old.server_port)) {
            return Err(outdated(new));
        }
        if old.key_back() != new.key_back() {
            self.vacate(new)?;
            self.remember(slot);
            self.unlist_back(slot);
            let checksums = self.state.config.checksums;
            let mut moved = old;
            // Only what the record says: whoever had the endpoint may have been this connection's neighbour in its list.
            if let Some(c) = self.slot_mut(slot) {
                (c.alternative, c.alternative_port) = (new.alternative, new.alternative_port);
                (c.server, c.server_port) = (new.server, new.server_port);
                c.flags = old.flags & !SOURCE_KEPT | new.flags & SOURCE_KEPT;
                c.set_deltas(checksums);
                moved = *c;
            }
            self.state.kept -= u32::from(old.has(SOURCE_KEPT));
            self.state.rebuilding.stale |= old.has(SOURCE_KEPT);
            if moved.has(SOURCE_KEPT) {
                self.keep_source(&moved);
            }
            if !self.list_back(slot) {
                self.strand(slot, true);
                return Err(self.no_room());
            }
            if old.has(SERVER_COUNTED) {
                self.discount(old.member);
                let member = self.entry_for(&moved);
                self.note_stray(member);
                let counted = server::count(self.memory.servers, member);
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
        if tick.since(new.last) < tick.since(connection.last) {
            connection.last = new.last;
        }
        let (before, mut next) = (connection.phase, connection.phase);
        match (theirs, self.tcp(slot)) {
            (Some(theirs), Some(mut tcp)) => {
                tcp.join(theirs);
                self.set_tcp(slot, &tcp);
                next = tcp.phase;
            }
            _ if is_answered(new.phase) => next = new.phase,
            _ => {}
        }
        if next != before {
            if next == Phase::TimeWait {
                self.finish(slot, Closed::Finished);
            }
            self.set_phase(slot, next);
        }
        Ok(())
    }

    const fn no_room(&self) -> RecordError {
        RecordError::TableFull { capacity: self.memory.connections.len() }
    }

    /// Takes note of a connection that no server's entry counts, if this one is such.
    fn note_stray(&mut self, member: u16) {
        if member == server::NONE {
            self.state.adopt = Some(adopt);
            self.state.strays = true;
        }
    }

    /// The entry of the rule that this connection could have been opened by, if it names its server.
    fn entry_for(&mut self, new: &Entry) -> u16 {
        let original = (new.original, new.original_port);
        let Some(rule) = self.find_rule(new.protocol, new.client, original).copied() else {
            return server::NONE;
        };
        let servers = &*self.memory.servers;
        let names = |entry: &u16| {
            let resolved = servers.get(usize::from(*entry)).map(|s| s.resolve(original));
            resolved.is_some_and(|r| r.0 == new.server && (r.1 == new.server_port || new.protocol == ICMP))
        };
        servers_of(servers, rule.servers).find(names).unwrap_or(server::NONE)
    }
}

/// Goes on through the slots, so many of them, and counts connections that no server's entry counts with those of rules
/// that have come since.
fn adopt(table: &mut Table<'_>, slots: usize) {
    for _ in 0..slots {
        let slot = table.state.adopting;
        if slot >= table.state.fresh {
            table.state.adopting = DONE;
            table.state.adopt = table.state.adopt.filter(|_| table.state.strays);
            return;
        }
        table.state.adopting = slot + 1;
        let is_stray = |c: &Entry| !c.phase.is_over() && !c.has(SERVER_COUNTED);
        if table.is_dead(slot) || !table.slot(slot).is_some_and(is_stray) {
            continue;
        }
        // Where it stands after the re-diverts that it has not followed yet.
        table.catch_up(slot);
        let Some(&connection) = table.slot(slot).filter(|c| is_stray(c)) else {
            continue;
        };
        let member = table.entry_for(&connection);
        if server::count(table.memory.servers, member) {
            if let Some(connection) = table.slot_mut(slot) {
                connection.member = member;
                connection.flags |= SERVER_COUNTED;
            }
        } else {
            table.state.strays = true;
        }
    }
}

const fn endpoint_taken(new: &Entry) -> RecordError {
    RecordError::AlternativeTaken { alternative: endpoint(new.alternative, new.alternative_port) }
}

const fn outdated(new: &Entry) -> RecordError {
    RecordError::Outdated { server: endpoint(new.server, new.server_port) }
}

/// Whether a client that begins anew on its port ends a connection in this phase.
const fn is_ending(phase: Phase) -> bool {
    matches!(phase, Phase::Closing | Phase::TimeWait | Phase::Resetting)
}

/// Whether a connection is shown on the same server with another alternative endpoint, which no re-divert does.
fn is_elsewhere_on_the_server(old: &Entry, new: &Entry) -> bool {
    let place = |c: &Entry| ((c.server, c.server_port), (c.alternative, c.alternative_port));
    place(old).0 == place(new).0 && place(old).1 != place(new).1
}

/// Whether a record tells of another connection than the one that is known and at its end, between the same endpoints:
/// the client has begun anew on its port.
fn begins_anew(old: &Entry, new: &Entry) -> bool {
    if !is_ending(old.phase) || is_ending(new.phase) {
        return false;
    }
    // What is over is not moved by a re-divert any more.
    let elsewhere = old.phase.is_over() && old.key_back() != new.key_back();
    let sent = |c: &Entry| c.sequences.sent(Direction::ToServer).unwrap_or(0);
    let ahead = sent(new).wrapping_sub(sent(old)).cast_signed() > 0;
    elsewhere || is_elsewhere_on_the_server(old, new) || (new.phase == Phase::Opening && ahead)
}

/// Whether a UDP or ICMP connection's server has answered.
const fn is_answered(phase: Phase) -> bool {
    matches!(phase, Phase::UdpAnswered | Phase::IcmpAnswered)
}
