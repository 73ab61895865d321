//! The second record of a connection that can be handed over: the numbering of its server.

use crate::table::connection::RESUMABLE;
use crate::table::hash::Key;
use crate::track::resume::{AWAITED, ResumeSlot, SPLICED, WANTED};
use crate::translator::state::Table;
use crate::translator::sync::import::{Imported, outdated};
use crate::translator::sync::record::{Record, RecordError};
use crate::wire::ipv4::TCP;

impl Table<'_> {
    /// Lets no packet of a connection pass until its second record has arrived.
    pub(super) fn await_second(&mut self, slot: u32) {
        self.make_resumable(slot, ResumeSlot::AWAITED);
    }

    /// Imports a second record, or takes over what it knows better if there was one before.
    pub(super) fn import_second(&mut self, record: &Record) -> Result<Imported, RecordError> {
        if self.state.for_resumable.is_none() {
            return Err(RecordError::NotResumable);
        }
        let ([client, original], theirs) = record.resumption()?;
        let slot = self.find_forward(&Key::new(TCP, client, original)).filter(|slot| !self.is_dead(*slot));
        let Some((slot, entry)) = slot.and_then(|slot| Some((slot, *self.slot(slot)?))) else {
            return Err(RecordError::NoConnection);
        };
        let ours = self.resume(slot).copied().filter(|_| entry.has(RESUMABLE));
        let is_awaited = ours.is_some_and(|ours| ours.has(AWAITED));
        let is_handed_over = theirs.has(SPLICED);
        self.state.hand_overs_wanted |= theirs.has(WANTED);
        match ours {
            // It is about another server. The connection's own record decides which server it is on.
            _ if record.server_of_second() != entry.server => return Err(outdated(&entry)),
            Some(ours) if !is_awaited && ours.counts_like(&theirs) => {
                if let Some(resume) = self.resume_mut(slot) {
                    resume.join(&theirs);
                }
                return Ok(Imported::Updated);
            }
            Some(_) if is_awaited && is_handed_over => {}
            None if !is_handed_over => {}
            _ => return Err(outdated(&entry)),
        }
        self.make_resumable(slot, theirs);
        Ok(Imported::New)
    }

    fn make_resumable(&mut self, slot: u32, state: ResumeSlot) {
        if let Some(resume) = self.resume_mut(slot) {
            *resume = state;
        }
        if let Some(connection) = self.slot_mut(slot) {
            connection.flags |= RESUMABLE;
            connection.phase = connection.stored(connection.phase);
        }
    }
}
