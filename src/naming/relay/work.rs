//! The table of queries that wait for their answers.
//!
//! A slot is in a list ordered by deadline, the earliest first (each attempt has the same patience, so what is sent
//! last is due last), and in two indexes: by the port that its answer comes to, which no other has, and by its client.

use core::net::SocketAddrV4;

use super::message::{self, Readable, Refusal};
use super::record::{Noticed, RelayNotice};
use super::servers::{self, Servers};
use super::storage::{RelayParts, RelaySlot, flag};
use super::{MAX_RELAY_QUERY, RelayConfig, RelayCounters, RelayOutcome, Relayed};
use crate::endpoint::{Endpoint, Pair};
use crate::naming::index::{self, Candidates};
use crate::naming::question::{HEADER, Header, code};
use crate::naming::storage::NONE;
use crate::table::hash::{Key, Keys, Label, reduce};
use crate::time::Instant;
use crate::wire::ipv4;

/// How often a port is drawn until one is free.
const DRAWS: u64 = 16;
/// What follows the name of a question: type and class.
const KIND: usize = 4;

/// The state beside the table.
#[derive(Clone)]
pub(super) struct State {
    pub(super) config: RelayConfig,
    pub(super) keys: Keys,
    pub(super) servers: Servers,
    pub(super) counters: RelayCounters,
    /// How many attempts there were: each draws with its own number.
    pub(super) nonce: u64,
    pub(super) now: Instant,
    pub(super) capacity: usize,
    pub(super) used: usize,
    /// Slots from here on were never used; the others that are unused are in the list `free`.
    pub(super) fresh: usize,
    pub(super) free: u32,
    /// The list of waiting queries.
    pub(super) first: u32,
    pub(super) last: u32,
    /// What is to be told to the relay that has asked.
    pub(super) notice: Option<RelayNotice>,
}

/// The state and the table, for one call.
pub(super) struct Work<'a> {
    pub(super) state: &'a mut State,
    pub(super) parts: RelayParts<'a>,
}

impl State {
    /// The query whose answer comes to this port.
    pub(super) fn waiting_at(&self, slots: &[RelaySlot], ports: &[u32], port: u16) -> Option<u32> {
        let waits = |number: &u32| slot(slots, *number).is_some_and(|slot| slot.length != 0 && slot.port == port);
        Candidates::of(ports, self.of_port(port)).numbers(ports).find(waits)
    }

    pub(super) fn of_port(&self, port: u16) -> u64 {
        self.keys.hash(&Key { addresses: port.into(), ports: u64::MAX })
    }

    pub(super) fn of_client(&self, client: Endpoint, asked: Endpoint, header: Header<'_>) -> u64 {
        let ports = u64::from(client.port) << 32 | u64::from(asked.port) << 16 | u64::from(header.id());
        self.keys.hash(&Key { addresses: u64::from(client.address) << 32 | u64::from(asked.address), ports })
    }
}

impl Work<'_> {
    pub(super) fn query(&mut self, client: Pair, query: &[u8], out: &mut [u8; MAX_RELAY_QUERY]) -> Relayed {
        let (source, asked) = (Endpoint::from(client.source), Endpoint::from(client.destination));
        let header = Header::read(query).filter(|header| !header.is_response());
        let Some(header) = header.filter(|_| ipv4::is_unicast(source.address) && source.port != 0) else {
            return self.drop(RelayOutcome::NoQuery);
        };
        let clients = &self.state.config.clients;
        if clients.len() != 0 && !clients.iter().any(|prefix| prefix.contains(*client.source.ip())) {
            let refusal = Refusal { outcome: RelayOutcome::NotAllowed, code: code::REFUSED, end: HEADER };
            return self.refuse(client, query, refusal, out);
        }
        let Readable { name, is_signed } = match message::read(header, query) {
            Ok(readable) => readable,
            Err(refusal) => return self.refuse(client, query, refusal, out),
        };
        if query.len() > MAX_RELAY_QUERY {
            let refusal = Refusal { outcome: RelayOutcome::TooLong, code: code::NONE, end: HEADER + name + KIND };
            return self.refuse(client, query, refusal, out);
        }
        let of_client = self.state.of_client(source, asked, header);
        if self.find_same(of_client, source, asked, query).is_some() {
            return self.drop(RelayOutcome::Repeated);
        }
        let limit = self.state.config.client_limit;
        let of_clients = slot(self.parts.slots, self.place_of(source)).map_or(0, |slot| slot.of_clients);
        if limit != 0 && of_clients >= limit {
            return self.drop(RelayOutcome::ClientLimit);
        }
        let Some(number) = self.admit(of_client, source, asked, query) else {
            return self.drop(RelayOutcome::Full);
        };
        let server = self.state.servers.take(self.state.now);
        if let Some(slot) = slot_mut(self.parts.slots, number) {
            (slot.server, slot.name) = (server, name as u8);
            slot.flags = if is_signed { flag::SIGNED } else { 0 };
        }
        match self.ask(number, out) {
            Some(asked) => {
                self.state.counters.count(RelayOutcome::Asked);
                asked
            }
            None => {
                self.release(number);
                self.drop(RelayOutcome::NoPort)
            }
        }
    }

    pub(super) fn answer(&mut self, from: SocketAddrV4, port: u16, message: &mut [u8]) -> Option<Pair> {
        match self.judge(from, port, message) {
            Ok(number) => {
                let slot = slot(self.parts.slots, number)?;
                let client = Pair { source: slot.client.socket(), destination: slot.asked.socket() };
                let end = HEADER + usize::from(slot.name);
                restore(message, slot.query(), 0..2);
                if !slot.is(flag::SIGNED) {
                    restore(message, slot.query(), HEADER..end);
                }
                self.end(number);
                Some(client)
            }
            Err(outcome) => {
                self.state.counters.count(outcome);
                None
            }
        }
    }

    /// A slot for a client's query, in no list and at no port. `None` if there is no room.
    pub(super) fn admit(&mut self, of_client: u64, client: Endpoint, asked: Endpoint, query: &[u8]) -> Option<u32> {
        let number = self.allocate()?;
        if !index::insert(self.parts.clients, of_client, number) {
            self.free(number);
            return None;
        }
        self.add_to_clients(client, 1);
        if let Some(slot) = slot_mut(self.parts.slots, number) {
            (slot.client, slot.asked, slot.length) = (client, asked, query.len() as u16);
            restore(&mut slot.message, query, 0..query.len());
        }
        Some(number)
    }

    /// Ends a query that its server has answered.
    pub(super) fn end(&mut self, number: u32) {
        self.state.servers.has_answered(slot(self.parts.slots, number).map_or(0, |slot| slot.server));
        self.unlink(number);
        self.release(number);
        self.state.counters.count(RelayOutcome::Answered);
    }

    /// The same query of the same client, if it waits already.
    pub(super) fn find_same(&self, of_client: u64, client: Endpoint, asked: Endpoint, query: &[u8]) -> Option<u32> {
        let slots = &*self.parts.slots;
        let is_same = |number: &u32| {
            slot(slots, *number).is_some_and(|s| s.client == client && s.asked == asked && s.query() == query)
        };
        Candidates::of(self.parts.clients, of_client).numbers(self.parts.clients).find(is_same)
    }

    /// The query that this message answers, or what is wrong with it.
    fn judge(&mut self, from: SocketAddrV4, port: u16, message: &[u8]) -> Result<u32, RelayOutcome> {
        let header = Header::read(message).filter(|header| header.is_response() && header.is_query());
        let header = header.ok_or(RelayOutcome::NoAnswer)?;
        let number = self.waiting_at(port).ok_or(RelayOutcome::WrongPort)?;
        let slot = slot(self.parts.slots, number).ok_or(RelayOutcome::WrongPort)?;
        let server = slot.server;
        if self.state.servers.endpoint(server) != Some(from) {
            return Err(RelayOutcome::WrongServer);
        }
        if header.id() != slot.id {
            return Err(RelayOutcome::WrongId);
        }
        let end = HEADER + usize::from(slot.name);
        let mut asked = slot.message;
        if slot.is(flag::MIXED) {
            message::mix_case(&self.state.keys, slot.nonce, asked.get_mut(HEADER..end).unwrap_or_default());
        }
        let [said, asked] = [message, &asked].map(|bytes| (bytes.get(HEADER..end), bytes.get(end..end + KIND)));
        let ((Some(name), Some(kind)), (Some(expected), Some(expected_kind))) = (said, asked) else {
            return Err(RelayOutcome::WrongQuestion);
        };
        if header.questions() != 1 || kind != expected_kind || !name.eq_ignore_ascii_case(expected) {
            return Err(RelayOutcome::WrongQuestion);
        }
        let mut what = Noticed::Answer;
        if slot.is(flag::MIXED) {
            if name != expected {
                self.ask_again(number, server);
                return Err(RelayOutcome::WrongCase);
            }
            if name.iter().filter(|byte| byte.is_ascii_alphabetic()).count() >= servers::LETTERS {
                self.state.servers.has_kept_case(server);
                what = Noticed::CaseKept;
            }
        }
        self.notice(number, what);
        Ok(number)
    }

    /// Marks a query to be sent again as its client wrote it, since its server may not keep the case. Only once for
    /// each query. One that was taken over ends here: the relay that it comes from sends it again, from another port, or
    /// gives it up.
    pub(super) fn ask_again(&mut self, number: u32, server: u8) {
        let Some(slot) = slot_mut(self.parts.slots, number).filter(|slot| !slot.is(flag::PLAIN)) else { return };
        if slot.is(flag::IMPORTED) {
            self.notice(number, Noticed::CaseLost);
            self.expire(number);
        } else {
            self.state.servers.has_lost_case(server);
            self.unlink(number);
            self.link_first(number);
            if let Some(slot) = slot_mut(self.parts.slots, number) {
                slot.flags |= flag::PLAIN | flag::AGAIN;
            }
        }
    }

    pub(super) fn poll(&mut self, out: &mut [u8; MAX_RELAY_QUERY]) -> Option<Relayed> {
        let number = self.state.first;
        let (now, slot) = (self.state.now, slot(self.parts.slots, number)?);
        let (is_again, server) = (slot.is(flag::AGAIN), slot.server);
        if !is_again && slot.deadline > now.as_micros() {
            return None;
        }
        if slot.is(flag::IMPORTED) {
            self.expire(number);
            return Some(Relayed::Drop(RelayOutcome::ImportExpired));
        }
        let has_attempts = slot.attempts < self.state.config.attempts;
        self.unlink(number);
        self.leave_port(number);
        if is_again {
            self.state.counters.count(RelayOutcome::CaseLost);
        } else {
            self.state.counters.count(RelayOutcome::TimedOut);
            self.state.servers.was_silent(server, now);
            if let Some(slot) = slot_mut(self.parts.slots, number) {
                slot.server = self.state.servers.after(server, now);
            }
        }
        if (is_again || has_attempts)
            && let Some(asked) = self.ask(number, out)
        {
            return Some(asked);
        }
        Some(self.give_up(number, out))
    }

    /// Answers the client with SERVFAIL, because no server has answered.
    fn give_up(&mut self, number: u32, out: &mut [u8; MAX_RELAY_QUERY]) -> Relayed {
        let Some(slot) = slot(self.parts.slots, number) else {
            return Relayed::Drop(RelayOutcome::Unanswered);
        };
        let client = Pair { source: slot.client.socket(), destination: slot.asked.socket() };
        let end = HEADER + usize::from(slot.name) + KIND;
        let length = message::answer(slot.query(), end, code::SERVFAIL, false, out);
        self.release(number);
        self.state.counters.count(RelayOutcome::Unanswered);
        // A query that was relayed can always be answered.
        length.map_or(Relayed::Drop(RelayOutcome::Unanswered), |length| Relayed::Answer { client, length })
    }

    /// Sends a query to its server, with a new identifier, port and case. `None` if no port is free: then the query
    /// waits at no port.
    fn ask(&mut self, number: u32, out: &mut [u8; MAX_RELAY_QUERY]) -> Option<Relayed> {
        let nonce = self.state.nonce;
        self.state.nonce = nonce.wrapping_add(1);
        let port = self.draw_port(nonce, number)?;
        let id = self.state.keys.choose(Label::Relay, [nonce, 0]) as u16;
        let State { config, servers, now, keys, .. } = &*self.state;
        let deadline = (*now + config.patience).as_micros();
        let slot = slot_mut(self.parts.slots, number)?;
        let is_free = slot.flags & (flag::PLAIN | flag::SIGNED) == 0;
        let is_mixed = is_free && config.mixes_case && !servers.is_caseless(slot.server);
        slot.attempts = slot.attempts.saturating_add(u8::from(!slot.is(flag::AGAIN)));
        slot.flags &= !(flag::AGAIN | flag::MIXED);
        slot.flags |= if is_mixed { flag::MIXED } else { 0 };
        (slot.nonce, slot.port, slot.id, slot.deadline) = (nonce, port, id, deadline);
        let (length, name) = (usize::from(slot.length), usize::from(slot.name));
        out.copy_from_slice(&slot.message);
        let query = out.get_mut(..length)?;
        restore(query, &id.to_be_bytes(), 0..2);
        if is_mixed {
            message::mix_case(keys, nonce, query.get_mut(HEADER..HEADER + name)?);
        }
        if !slot.is(flag::SIGNED) {
            message::limit_payload(query, name, config.payload);
        }
        let server = servers.endpoint(slot.server)?;
        self.link_last(number);
        Some(Relayed::Ask { server, port, length })
    }

    /// A port at which no other query waits, entered into the index.
    fn draw_port(&mut self, nonce: u64, number: u32) -> Option<u16> {
        let (first, last) = self.state.config.ports;
        let range = u32::from(last) - u32::from(first) + 1;
        for draw in 1..=DRAWS {
            let port = first + reduce((self.state.keys.choose(Label::Relay, [nonce, draw]) >> 32) as u32, range) as u16;
            if self.waiting_at(port).is_none() && index::insert(self.parts.ports, self.state.of_port(port), number) {
                return Some(port);
            }
        }
        None
    }

    pub(super) fn waiting_at(&self, port: u16) -> Option<u32> {
        self.state.waiting_at(self.parts.slots, self.parts.ports, port)
    }

    fn drop(&mut self, outcome: RelayOutcome) -> Relayed {
        self.state.counters.count(outcome);
        Relayed::Drop(outcome)
    }

    /// Answers a query that is not relayed.
    fn refuse(&mut self, client: Pair, query: &[u8], refusal: Refusal, out: &mut [u8; MAX_RELAY_QUERY]) -> Relayed {
        let Refusal { outcome, code, end } = refusal;
        self.state.counters.count(outcome);
        let length = message::answer(query, end, code, outcome == RelayOutcome::TooLong, out);
        length.map_or(Relayed::Drop(outcome), |length| Relayed::Answer { client, length })
    }

    /// An unused slot.
    fn allocate(&mut self) -> Option<u32> {
        let state = &mut *self.state;
        let number = match slot(self.parts.slots, state.free) {
            Some(slot) => core::mem::replace(&mut state.free, slot.next),
            None if state.fresh < state.capacity => {
                state.fresh += 1;
                state.fresh as u32
            }
            None => return None,
        };
        state.used += 1;
        let slot = slot_mut(self.parts.slots, number)?;
        *slot = RelaySlot { of_clients: slot.of_clients, ..RelaySlot::EMPTY };
        Some(number)
    }

    /// The slot that counts this client's waiting queries.
    fn place_of(&self, client: Endpoint) -> u32 {
        1 + reduce((self.state.keys.hash_client(client.address) >> 32) as u32, self.state.capacity as u32)
    }

    fn add_to_clients(&mut self, client: Endpoint, change: i32) {
        let place = self.place_of(client);
        if let Some(slot) = slot_mut(self.parts.slots, place) {
            slot.of_clients = slot.of_clients.saturating_add_signed(change);
        }
    }

    fn free(&mut self, number: u32) {
        if let Some(slot) = slot_mut(self.parts.slots, number) {
            slot.length = 0;
            slot.next = core::mem::replace(&mut self.state.free, number);
            self.state.used = self.state.used.saturating_sub(1);
        }
    }

    /// Ends a query that is not in the list.
    pub(super) fn release(&mut self, number: u32) {
        let Some(slot) = slot(self.parts.slots, number) else { return };
        let Some(header) = Header::read(slot.query()) else { return };
        let (client, of_client, of_port) =
            (slot.client, self.state.of_client(slot.client, slot.asked, header), self.state.of_port(slot.port));
        self.add_to_clients(client, -1);
        index::replace(self.parts.clients, of_client, number, NONE);
        index::replace(self.parts.ports, of_port, number, NONE);
        self.free(number);
    }

    fn link_first(&mut self, number: u32) {
        let first = core::mem::replace(&mut self.state.first, number);
        self.join(NONE, number);
        self.join(number, first);
    }

    pub(super) fn link_last(&mut self, number: u32) {
        let last = core::mem::replace(&mut self.state.last, number);
        self.join(last, number);
        self.join(number, NONE);
    }

    pub(super) fn unlink(&mut self, number: u32) {
        if let Some(&RelaySlot { previous, next, .. }) = slot(self.parts.slots, number) {
            self.join(previous, next);
        }
    }

    /// Makes two slots neighbours in the list; [`NONE`] is its end.
    fn join(&mut self, one: u32, other: u32) {
        match slot_mut(self.parts.slots, one) {
            Some(slot) => slot.next = other,
            None => self.state.first = other,
        }
        match slot_mut(self.parts.slots, other) {
            Some(slot) => slot.previous = one,
            None => self.state.last = one,
        }
    }
}

/// The slot with this number, counted from one.
pub(super) fn slot(slots: &[RelaySlot], number: u32) -> Option<&RelaySlot> {
    slots.get((number as usize).wrapping_sub(1))
}

pub(super) fn slot_mut(slots: &mut [RelaySlot], number: u32) -> Option<&mut RelaySlot> {
    slots.get_mut((number as usize).wrapping_sub(1))
}

/// Copies a range of one message into another.
fn restore(message: &mut [u8], from: &[u8], range: core::ops::Range<usize>) {
    if let (Some(to), Some(from)) = (message.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}
