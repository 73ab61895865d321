//! Exporting connections as records, for a snapshot or another portion, and importing them.

use crate::connection::{Connection, Direction};
use crate::event::Closed;
use crate::table::connection::{Entry, RESUMABLE, SERVER_COUNTED, SOURCE_KEPT};
use crate::table::event_queue::EventKind;
use crate::table::hash::Key;
use crate::table::redivert_log::DONE;
use crate::table::server;
use crate::table::storage::Storage;
use crate::time::{Instant, Tick};
use crate::track::claims::Claims;
use crate::track::phase::Phase;
use crate::track::resume::{AWAITED, ResumeSlot, SPLICED};
use crate::track::tcp::Tcp;
use crate::translator::Translator;
use crate::translator::state::{Beginning, Followed, Table};
use crate::translator::sync::record::{HANDED_OVER, Record, RecordError};
use crate::verdict::DropReason;
use crate::wire::ipv4::TCP;
use crate::wire::tcp::is_behind;

/// The result of importing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Imported {
    /// The connection was not known before.
    New,
    /// The connection was known; it was updated with what the record knew better.
    Updated,
}

impl<S: Storage> Translator<S> {
    /// A snapshot: a record of each current connection that another translator can carry on. Quarantined connections
    /// and those that are being reset are left out. Those that can be handed over have a second record after the first
    /// ([`records_of`](Self::records_of)).
    ///
    /// A record contains how long its connection has been idle, up to the time passed to the latest call. Call
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
    /// // After the restart: first the rules, then the records, then packets. The clock starts at the snapshot.
    /// // after.divert(...)?;
    /// for bytes in &snapshot {
    ///     after.import(Instant::ZERO, &Record::from_bytes(bytes)?)?;
    /// }
    /// after.poll(restarted); // the present time on that clock: connections that have timed out since are closed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let view = self.storage.view();
        let state = &self.state;
        let fresh = view.connections.get(..state.fresh as usize).unwrap_or(view.connections);
        let (connections, resumable) = (view.connections, view.resumable);
        let mut all = (0..).zip(fresh).filter(|(_, c)| !state.is_dead(&c.0));
        // The slot whose second record is next.
        let mut pending = None;
        core::iter::from_fn(move || {
            if let Some(slot) = pending.take() {
                return second_record(&connections.get(slot as usize)?.0, resumable, slot);
            }
            loop {
                let (slot, connection) = all.next()?;
                let first = self.record_in(slot, &connection.0, resumable);
                if first.is_some() {
                    pending = resume_of(&connection.0, resumable, slot).map(|_| slot);
                    return first;
                }
            }
        })
    }

    /// The record of the connection in a slot. `None` if it cannot be carried on elsewhere.
    #[inline]
    fn record_in(&self, slot: u32, connection: &Entry, resumable: &[ResumeSlot]) -> Option<Record> {
        let mut handed_over = 0;
        if let Some(resume) = resume_of(connection, resumable, slot) {
            // A connection whose own second record has not arrived yet has nothing to export.
            if resume.has(AWAITED) {
                return None;
            }
            handed_over = if resume.has(SPLICED) { HANDED_OVER } else { 0 };
        }
        Record::of(connection, self.claims_of(slot), handed_over, self.state.tick)
    }

    /// The record of one connection, to be sent to another portion.
    ///
    /// One that can be handed over has a second record too: see [`records_of`](Self::records_of).
    #[must_use]
    pub fn record(&self, connection: &Connection) -> Option<Record> {
        self.records_of(connection).next()
    }

    /// The record of one connection and, if it can be handed over ([`Divert::resumable`](crate::Divert::resumable)), a
    /// second one with the numbering of its server. The first must be imported first; from then on no packet of a
    /// connection that was handed over passes until the second is imported, so that none passes with wrong numbers.
    pub fn records_of(&self, connection: &Connection) -> impl Iterator<Item = Record> + use<S> {
        let (near, far) = (connection.client_side.source, connection.client_side.destination);
        let slot = self.find(&Key::new(connection.protocol.number(), near.into(), far.into()));
        let view = self.storage.view();
        let found = slot.and_then(|slot| Some((slot, &view.connections.get(slot as usize)?.0)));
        let first = found.and_then(|(slot, found)| self.record_in(slot, found, view.resumable));
        let second = found.and_then(|(slot, found)| second_record(found, view.resumable, slot));
        let second = second.filter(|_| first.is_some());
        first.into_iter().chain(second)
    }

    fn claims_of(&self, slot: u32) -> Claims {
        let words = self.state.layout.claims_of(self.storage.view().index, slot);
        Claims::from_words(words.copied().unwrap_or_default())
    }

    /// Imports the connection of a record. If it is already known, it is updated with whatever the record knows better:
    /// a later state, higher sequence numbers, a later last packet, another server.
    ///
    /// # The order, and `now`
    ///
    /// Add the rules first, then import the records, then pass packets. A packet of a connection whose record has not
    /// arrived yet may open another connection in its place. Records that arrive before their rules are carried on all
    /// the same. They are counted with the rule's server once the rule is added: a share of them at once, the others by
    /// [`poll`](Self::poll).
    ///
    /// `now` is the time at which the record was made, on this translator's clock: a connection that had been idle for
    /// 200 s then had its last packet 200 s before `now`. After a restart, start the clock at the snapshot (with zero
    /// or any other value), import the records at that time, and continue with the present time on that clock. Passing
    /// the time of the restart instead would prolong each connection's life by the length of the outage. A `now`
    /// earlier than that of an earlier call is treated as equal to it.
    ///
    /// # Errors
    /// [`RecordError`] says why the record was not imported.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// // One portion handles the forward direction, another the reply direction.
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
    ///         let bytes: [u8; RECORD_LENGTH] = *record.as_bytes(); // sent to the other portion
    ///         assert_eq!(back.import(Instant::ZERO, &Record::from_bytes(&bytes)?)?, Imported::New);
    ///     }
    /// }
    /// let alternative = back.connections().next().expect("the imported connection").server_side.source;
    /// let mut answer = udp(server, alternative);
    /// assert_eq!(back.translate(Instant::ZERO, &mut answer), Verdict::ToClient);
    /// assert_eq!(answer[12..20], [100, 100, 100, 100, 1, 2, 3, 4]); // from the original to the client
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn import(&mut self, now: Instant, record: &Record) -> Result<Imported, RecordError> {
        self.begin(now);
        if !S::RESUMES && (record.is_second() || record.is_handed_over()) {
            return Err(RecordError::NotResumable);
        }
        if S::RESUMES && record.is_second() {
            return self.table().import_second(record);
        }
        self.table().import(record, S::RESUMES && record.is_handed_over())
    }
}

/// The hand-over state of a connection, if it can be handed over.
#[inline]
fn resume_of<'a>(connection: &Entry, resumable: &'a [ResumeSlot], slot: u32) -> Option<&'a ResumeSlot> {
    if connection.has(RESUMABLE) { resumable.get(slot as usize) } else { None }
}

/// The second record of a connection that can be handed over.
#[cold]
#[inline(never)]
fn second_record(connection: &Entry, resumable: &[ResumeSlot], slot: u32) -> Option<Record> {
    resume_of(connection, resumable, slot).map(|resume| Record::second(connection, resume))
}

impl Table<'_> {
    fn import(&mut self, record: &Record, is_handed_over: bool) -> Result<Imported, RecordError> {
        let mut new = record.slot()?;
        if is_handed_over {
            if self.state.for_resumable.is_none() {
                return Err(RecordError::NotResumable);
            }
            new.flags |= RESUMABLE;
        }
        let tcp = (new.protocol == TCP).then(|| record.tcp(new.phase, new.sequences));
        if let Some(tcp) = &tcp {
            (new.phase, new.sequences) = (new.stored(tcp.phase), tcp.sequences);
        }
        let idle = record.since();
        new.last = Tick(self.state.tick.0.wrapping_sub(Tick::count(&idle)));
        if self.state.timers.is_dead(new.phase, new.last, self.state.tick) {
            return Err(RecordError::Expired { idle });
        }
        if new.flags & SOURCE_KEPT == 0 && !self.state.gives_away(new.alternative_endpoint()) {
            let alternative = new.alternative_endpoint().socket();
            return Err(RecordError::ForeignAlternative { alternative });
        }
        if self.state.is_own(new.server) {
            return Err(RecordError::Endpoint { name: "server", value: new.server_endpoint().socket() });
        }
        self.tidy();
        let known = self.find_forward(&new.forward_key()).filter(|known| !self.close_if_dead(*known));
        if let Some(known) = known.filter(|known| self.slot(*known).is_some_and(|old| !starts_again(old, &new))) {
            self.update(known, &new, is_handed_over, tcp.as_ref())?;
            return Ok(Imported::Updated);
        }
        new.member = self.entry_for(&new);
        let server = new.server_endpoint();
        // The record was written before a re-divert and arrived after it. No rule leads to its server any more.
        if new.member == server::NONE && self.state.redivert_log.leads_away(self.memory.moves, server, new.protocol) {
            return Err(outdated(&new));
        }
        if let Some(known) = known {
            if self.slot(known).is_some_and(|old| old.reply_key() != new.reply_key()) {
                self.free_endpoint(&new)?;
            }
            self.quarantine(known, Closed::Finished);
        }
        self.free_endpoint(&new)?;
        self.note_stray(new.member);
        new.set_deltas(self.state.config.checksums);
        let slot = self.install(&new).map_err(|_: DropReason| self.no_room())?;
        if let Some(measured) = self.state.for_measured {
            (measured.start)(self, slot, Beginning::Imported);
        }
        if is_handed_over {
            self.await_second(slot);
        }
        if let Some(tcp) = &tcp {
            self.set_claims(slot, tcp.claims);
        }
        self.note_orphan(new.original);
        if new.phase.is_over() {
            self.notify(slot, EventKind::Opened);
            self.count_closed(Closed::Finished);
            self.notify(slot, EventKind::Closed(Closed::Finished));
        }
        self.state.counters.imported = self.state.counters.imported.wrapping_add(1);
        Ok(Imported::New)
    }

    /// Frees the alternative endpoint of a record from a dead or quarantined connection: it was quarantined for this
    /// same connection, or for one long gone.
    fn free_endpoint(&mut self, new: &Entry) -> Result<(), RecordError> {
        self.free_if_dead(&new.reply_key());
        let Some(taken) = self.find_reply(&new.reply_key()) else {
            return Ok(());
        };
        match self.slot(taken).map(|c| c.phase) {
            Some(Phase::Quarantined) => self.release(taken),
            Some(Phase::Free) | None => {}
            Some(_) => return Err(endpoint_taken(new)),
        }
        Ok(())
    }

    /// Updates a known connection with what its record knows better.
    fn update(
        &mut self,
        slot: u32,
        new: &Entry,
        is_handed_over: bool,
        theirs: Option<&Tcp>,
    ) -> Result<(), RecordError> {
        match self.follow_rediverts(slot) {
            Followed::Stayed | Followed::Moved | Followed::Reset => {}
            Followed::Stranded => return Err(endpoint_taken(new)),
            Followed::Home => return Err(outdated(new)),
        }
        let Some(&old) = self.slot(slot) else {
            return Err(self.no_room());
        };
        // The record was written before the client reused its port, and arrived after that.
        if is_ending(new.phase) && !is_ending(old.phase) && is_elsewhere_on_the_server(&old, new) {
            return Err(outdated(new));
        }
        // A record that was written before a re-divert and arrived after it does not reflect it.
        let left = |server| self.state.redivert_log.left(self.memory.moves, server);
        if left(new.server_endpoint()) && !left(old.server_endpoint()) {
            return Err(outdated(new));
        }
        let is_moved = old.reply_key() != new.reply_key();
        let counts_otherwise =
            old.has(RESUMABLE) && self.resume(slot).is_some_and(|resume| resume.has(SPLICED | AWAITED));
        // A hand-over leaves no trace in the log of re-diverts. But it begins at the client's latest acknowledgement,
        // so a record from before it cannot show a later one.
        let acknowledged = |c: &Entry| {
            let [_, _, acknowledged, _] = c.sequences.to_words();
            acknowledged
        };
        if counts_otherwise && (!is_handed_over || is_moved && is_behind(acknowledged(new), acknowledged(&old))) {
            return Err(outdated(new));
        }
        if is_moved {
            self.free_endpoint(new)?;
            self.remember(slot);
            self.unlist_reply(slot);
            let checksums = self.state.config.checksums;
            let mut moved = old;
            // Copy only what the record says: freeing the endpoint may have changed this connection's neighbours in its
            // age list.
            if let Some(c) = self.slot_mut(slot) {
                c.set_alternative(new.alternative_endpoint());
                c.set_server(new.server_endpoint());
                c.flags = old.flags & !SOURCE_KEPT | new.flags & SOURCE_KEPT;
                c.set_deltas(checksums);
                moved = *c;
            }
            self.state.kept -= u32::from(old.has(SOURCE_KEPT));
            self.state.rebuilding.stale |= old.has(SOURCE_KEPT);
            if moved.has(SOURCE_KEPT) {
                self.keep_source(&moved);
            }
            if !self.list_reply(slot) {
                self.close_stranded(slot, true);
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
            #[cfg(feature = "report")]
            self.keep_move(slot, Some(old.alternative_endpoint()), crate::event::Moving::Record);
            self.notify(slot, EventKind::Moved(old.server_endpoint()));
        }
        if is_handed_over && (is_moved || !counts_otherwise) {
            self.await_second(slot);
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

    /// Records that there may be a connection that no server's entry counts, if `member` is [`server::NONE`].
    fn note_stray(&mut self, member: u16) {
        if member == server::NONE {
            self.state.adopt = Some(adopt);
            self.state.strays = true;
        }
    }
}

/// Examines the next `slots` slots, and counts connections that no server's entry counts yet with the servers of rules
/// that were added since.
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
        // It may have to follow re-diverts to another server first.
        table.follow_rediverts(slot);
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
    RecordError::AlternativeTaken { alternative: new.alternative_endpoint().socket() }
}

pub(super) const fn outdated(new: &Entry) -> RecordError {
    RecordError::Outdated { server: new.server_endpoint().socket() }
}

/// Whether a client that reuses its port ends a connection in this phase.
const fn is_ending(phase: Phase) -> bool {
    matches!(phase, Phase::Closing | Phase::TimeWait | Phase::Resetting)
}

/// Whether the record shows the connection on the same server with another alternative endpoint, which no re-divert
/// causes.
fn is_elsewhere_on_the_server(old: &Entry, new: &Entry) -> bool {
    let place = |c: &Entry| (c.server_endpoint(), c.alternative_endpoint());
    place(old).0 == place(new).0 && place(old).1 != place(new).1
}

/// Whether a record is of a new connection between the same endpoints, while the known one is ending: the client has
/// reused its port.
fn starts_again(old: &Entry, new: &Entry) -> bool {
    if !is_ending(old.phase) || is_ending(new.phase) {
        return false;
    }
    // A finished connection is no longer moved by a re-divert.
    let elsewhere = old.phase.is_over() && old.reply_key() != new.reply_key();
    let sent = |c: &Entry| c.sequences.sent(Direction::ToServer).unwrap_or(0);
    let ahead = sent(new).wrapping_sub(sent(old)).cast_signed() > 0;
    elsewhere || is_elsewhere_on_the_server(old, new) || (new.phase == Phase::Opening && ahead)
}

/// Whether the server of a UDP or ICMP connection has answered.
const fn is_answered(phase: Phase) -> bool {
    matches!(phase, Phase::UdpAnswered | Phase::IcmpAnswered)
}
