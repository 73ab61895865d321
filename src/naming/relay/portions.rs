//! Two relays: one asks the servers, and the answers come to the other (the document's client-to-server and
//! server-to-client portions).

use super::RelayOutcome;
use super::message;
use super::record::{Noticed, RelayNotice, RelayRecord, RelayRecordError};
use super::storage::{RelaySlot, flag};
use super::work::{Work, slot, slot_mut};
use crate::naming::index;
use crate::naming::question::Header;
use crate::naming::storage::NONE;
use crate::wire::ipv4;

impl Work<'_> {
    /// Takes a query over that another relay has asked, or its next attempt.
    pub(super) fn import(&mut self, record: &RelayRecord) -> Result<(), RelayRecordError> {
        let (header, server, name) = self.check(record)?;
        let (client, asked, query) = (record.client, record.asked, record.query());
        let full = RelayRecordError::Full { capacity: self.state.capacity };
        let of_client = self.state.of_client(client, asked, header);
        let number = self.find_same(of_client, client, asked, query);
        // Whose port it was has been answered or given up: the other relay uses no port twice.
        let old = self.waiting_at(record.port).filter(|old| Some(*old) != number);
        if let Some(old) = old {
            self.expire(old);
        }
        let number = match number {
            Some(number) => {
                self.unlink(number);
                self.leave_port(number);
                number
            }
            None => self.admit(of_client, client, asked, query).ok_or(full)?,
        };
        if !index::insert(self.parts.ports, self.state.of_port(record.port), number) {
            self.release(number);
            return Err(full);
        }
        let deadline = (self.state.now + self.state.config.patience).as_micros();
        if let Some(slot) = slot_mut(self.parts.slots, number) {
            (slot.server, slot.name) = (server, name);
            (slot.nonce, slot.port, slot.id) = (record.nonce, record.port, record.id);
            (slot.flags, slot.deadline) = (record.flags | flag::IMPORTED, deadline);
        }
        self.link_last(number);
        self.state.counters.count(RelayOutcome::Imported);
        Ok(())
    }

    /// The header of a record's query, the number of its server, and the length of its name.
    fn check<'a>(&self, record: &'a RelayRecord) -> Result<(Header<'a>, u8, u8), RelayRecordError> {
        let query = record.query();
        let header = Header::read(query).filter(|header| !header.is_response()).ok_or(RelayRecordError::NoQuery)?;
        let readable = message::read(header, query).map_err(|_| RelayRecordError::NoQuery)?;
        let is_client = ipv4::is_unicast(record.client.address) && record.client.port != 0;
        let is_signed = record.flags & flag::SIGNED != 0;
        if !is_client || record.port == 0 || record.has_other_flags() || is_signed != readable.is_signed {
            return Err(RelayRecordError::NoQuery);
        }
        let server = record.server.socket();
        let number = self.state.servers.number_of(server).ok_or(RelayRecordError::UnknownServer { server })?;
        Ok((header, number, readable.name as u8))
    }

    /// Forgets a query that was taken over: the relay that has asked for it goes on.
    pub(super) fn expire(&mut self, number: u32) {
        self.unlink(number);
        self.release(number);
        self.state.counters.count(RelayOutcome::ImportExpired);
    }

    /// What has come for a query that was taken over.
    pub(super) fn notice(&mut self, number: u32, what: Noticed) {
        if let Some(RelaySlot { port, id, .. }) = slot(self.parts.slots, number).filter(|slot| slot.is(flag::IMPORTED))
        {
            self.state.notice = Some(RelayNotice { port: *port, id: *id, what });
        }
    }

    /// Does what an answer would do that had come here. Returns whether a query waits for it.
    pub(super) fn apply(&mut self, notice: RelayNotice) -> bool {
        let waits = |number: &u32| {
            slot(self.parts.slots, *number).is_some_and(|slot| slot.id == notice.id && !slot.is(flag::IMPORTED))
        };
        let Some(number) = self.waiting_at(notice.port).filter(waits) else { return false };
        let server = slot(self.parts.slots, number).map_or(0, |slot| slot.server);
        match notice.what {
            Noticed::CaseLost => {
                self.state.counters.count(RelayOutcome::WrongCase);
                self.ask_again(number, server);
            }
            Noticed::Answer => self.end(number),
            Noticed::CaseKept => {
                self.state.servers.has_kept_case(server);
                self.end(number);
            }
        }
        true
    }

    /// Takes a query out of the index of ports.
    pub(super) fn leave_port(&mut self, number: u32) {
        let port = slot(self.parts.slots, number).map_or(0, |slot| slot.port);
        index::replace(self.parts.ports, self.state.of_port(port), number, NONE);
    }
}
