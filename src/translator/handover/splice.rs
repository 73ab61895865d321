//! What a hand-over reads of a connection in the table, and what it changes there.

use crate::connection::Direction;
use crate::endpoint::{Endpoint, Pair};
use crate::table::connection::{ConnectionSlot, Entry, IndexKey, RESUMABLE};
use crate::table::event_queue::EventKind;
use crate::table::hash::Key;
use crate::track::phase::Phase;
use crate::track::resume::{BARRED, FROZEN, HANDSHAKE, Offsets, ResumeSlot, WANTED};
use crate::track::sequence::Sequences;
use crate::translator::handover::resumption::Kept;
use crate::translator::state::Table;
use crate::wire::ipv4::TCP;

/// The client of a connection, and the original destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) client: Endpoint,
    pub(super) original: Endpoint,
}

impl Ends {
    pub(super) const NONE: Self = Self { client: Endpoint::NONE, original: Endpoint::NONE };

    pub(super) const fn of(connection: &Entry) -> Self {
        Self { client: connection.client_endpoint(), original: connection.original_endpoint() }
    }

    /// Their public form.
    pub(super) const fn pair(&self) -> Pair {
        Pair { source: self.client.socket(), destination: self.original.socket() }
    }
}

/// A server, and the alternative endpoint towards it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    pub(super) to: Endpoint,
    pub(super) alternative: Endpoint,
}

impl Leg {
    pub(super) const NONE: Self = Self { to: Endpoint::NONE, alternative: Endpoint::NONE };

    /// The key that finds it for a packet of the server.
    const fn key(&self) -> Key {
        Key::new(TCP, self.alternative, self.to)
    }

    const fn write(&self, connection: &mut Entry) {
        connection.set_server(self.to);
        connection.set_alternative(self.alternative);
    }
}

/// The current state of a connection that can be handed over. Sequence numbers are those that the client knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Its slot.
    pub(super) slot: u32,
    pub(super) entry: Entry,
    pub(super) resume: ResumeSlot,
    /// How long nothing has arrived, in ticks.
    pub(super) silence: u32,
}

impl Standing {
    pub(super) const NONE: Self = Self { slot: 0, entry: Entry::EMPTY, resume: ResumeSlot::EMPTY, silence: 0 };

    /// The connection to look for.
    pub(super) fn set_ends(&mut self, ends: &Ends) {
        let entry = &mut self.entry;
        (entry.client, entry.client_port) = (ends.client.address, ends.client.port);
        (entry.original, entry.original_port) = (ends.original.address, ends.original.port);
        entry.protocol = TCP;
    }

    /// Its current server.
    pub(super) const fn server(&self) -> Endpoint {
        self.entry.server_endpoint()
    }

    /// The sequence number of the client's next byte.
    pub(super) const fn client_next(&self) -> u32 {
        self.entry.sequences.end(Direction::ToServer)
    }

    /// The sequence number of the byte that the client expects from the server.
    pub(super) const fn position(&self) -> u32 {
        self.entry.sequences.unacknowledged(Direction::ToClient).0
    }

    /// Whether all that this side has sent is acknowledged.
    pub(super) const fn is_acknowledged(&self, side: Direction) -> bool {
        let (acknowledged, sent) = self.entry.sequences.unacknowledged(side);
        acknowledged == sent
    }
}

impl Table<'_> {
    /// Finds the slot of the connection with the client and original destination of this one, if it can be handed over.
    pub(super) fn find_standing(&mut self, standing: &mut Standing) -> Result<(), Kept> {
        let slot = self.find_forward(&standing.entry.forward_key()).ok_or(Kept::NoConnection)?;
        if self.is_dead(slot) {
            return Err(Kept::NoConnection);
        }
        self.follow_rediverts(slot);
        let (Some(entry), Some(resume)) = (self.slot(slot), self.resume(slot)) else {
            return Err(Kept::NotResumable);
        };
        if !entry.has(RESUMABLE) {
            return Err(Kept::NotResumable);
        }
        if entry.phase != Phase::EstablishedResumable {
            return Err(if entry.phase.is_over() { Kept::NoConnection } else { Kept::NotEstablished });
        }
        if !resume.has(HANDSHAKE) || resume.has(BARRED) {
            return Err(Kept::NotResumable);
        }
        standing.slot = slot;
        Ok(())
    }

    /// Finds such a connection, and copies its state.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn read_standing(&mut self, standing: &mut Standing) -> Result<(), Kept> {
        self.find_standing(standing)?;
        if let (Some(entry), Some(resume)) = (self.slot(standing.slot), self.resume(standing.slot)) {
            (standing.entry, standing.resume) = (*entry, *resume);
            standing.silence = self.state.tick.since(entry.last);
        }
        Ok(())
    }

    /// Whether a connection that a re-divert wants handed over must go to a server other than `to` by now.
    fn leads_elsewhere(&mut self, slot: u32, to: Endpoint) -> bool {
        self.resume(slot).is_some_and(|resume| resume.has(WANTED))
            && self.server_for(slot).is_some_and(|server| server != to)
    }

    /// Reserves an alternative endpoint for a second leg of this connection, towards the server `to`. The leg takes a
    /// slot that only the reply index finds, like that of a quarantined connection.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn reserve_leg(&mut self, of: &Entry, reserved: &mut Leg) -> Result<(), Kept> {
        let to = reserved.to;
        let here = of.alternative_endpoint();
        self.state.serial = self.state.serial.wrapping_add(1);
        // The server may still get segments of an earlier leg from this endpoint.
        let fresh = !self.state.recent.may_hold(here, to.address) && self.is_free(of, to, here);
        let alternative = if fresh { Some(here) } else { self.choose_alternative(of, to) };
        let alternative = alternative.ok_or(Kept::NoPort)?;
        reserved.alternative = alternative;
        self.reclaim(reserved.key());
        let slot = self.allocate().ok_or(Kept::TableFull)?;
        if let Some(ConnectionSlot(leg)) = self.memory.connections.get_mut(slot as usize) {
            *leg = *of;
            reserved.write(leg);
            (leg.phase, leg.flags, leg.last) = (Phase::Quarantined, 0, self.state.tick);
            leg.epoch = self.state.redivert_log.epoch;
        }
        if !self.enter(slot, IndexKey::Reply) {
            self.give_back(slot);
            return Err(Kept::TableFull);
        }
        self.enqueue(slot);
        Ok(())
    }

    /// Releases a reserved endpoint.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn release_leg(&mut self, leg: &Leg) {
        self.state.recent.add(leg.alternative, leg.to.address);
        self.reclaim(leg.key());
    }

    /// Lets no segment of the connection pass, or lets them pass again.
    pub(super) fn freeze(&mut self, slot: u32, frozen: bool) {
        if let Some(resume) = self.resume_mut(slot) {
            resume.flags = resume.flags & !FROZEN | if frozen { FROZEN } else { 0 };
        }
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot).filter(|_| frozen) {
            connection.last = tick;
        }
    }

    /// Moves a connection to the leg that was reserved for it.
    ///
    /// # Errors
    /// [`Kept::NotNow`] if another re-divert has come in the meantime, so that it must go where its rule leads now;
    /// [`Kept::NoPort`] if the endpoint is not free any more. Nothing has changed then.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn splice(&mut self, slot: u32, leg: &Leg, offsets: &Offsets, position: u32) -> Result<(), Kept> {
        if self.leads_elsewhere(slot, leg.to) {
            return Err(Kept::NotNow);
        }
        let Some(old) = self.slot(slot) else {
            return Err(Kept::NoConnection);
        };
        let old = Leg { alternative: old.alternative_endpoint(), to: old.server_endpoint() };
        self.reclaim(leg.key());
        if self.find_reply(&leg.key()).is_some() {
            return Err(Kept::NoPort);
        }
        self.remember(slot);
        self.leave(slot, IndexKey::Reply);
        self.set_leg(slot, leg);
        if !self.enter(slot, IndexKey::Reply) {
            self.set_leg(slot, &old);
            if !self.enter(slot, IndexKey::Reply) {
                // Its place in the index was taken in between: it cannot return to its server.
                self.close_stranded(slot, true);
                return Err(Kept::NoConnection);
            }
            return Err(Kept::TableFull);
        }
        if let Some(resume) = self.resume_mut(slot) {
            resume.splice(offsets);
        }
        let entry = self.entry_of(slot);
        self.recount(slot, entry);
        let tick = self.state.tick;
        if let Some(connection) = self.slot_mut(slot) {
            let [client_next, ..] = connection.sequences.to_words();
            connection.sequences = Sequences::from_words([client_next, position, position, client_next]);
            connection.last = tick;
        }
        self.state.counters.moved = self.state.counters.moved.wrapping_add(1);
        #[cfg(feature = "report")]
        self.keep_move(slot, Some(old.alternative), crate::event::Moving::HandOver);
        self.notify(slot, EventKind::Moved(old.to));
        Ok(())
    }

    fn set_leg(&mut self, slot: u32, leg: &Leg) {
        let checksums = self.state.config.checksums;
        if let Some(connection) = self.slot_mut(slot) {
            leg.write(connection);
            connection.set_deltas(checksums);
        }
    }
}

/// The numbers of a RST that a connection's server accepts: those that it expects next, as it numbers them itself.
pub(super) fn farewell(standing: &Standing) -> (u32, u32) {
    standing.resume.for_receiver(Direction::ToServer, (standing.client_next(), standing.position()))
}
