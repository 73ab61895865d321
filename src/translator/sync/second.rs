//! The second record of a connection that can be handed over: how its server counts.

use crate::table::connection::RESUMABLE;
use crate::table::hash::Key;
use crate::track::resume::{AWAITED, ResumeSlot};
use crate::translator::state::Table;
use crate::translator::sync::import::Imported;
use crate::translator::sync::record::{Record, RecordError};
use crate::wire::ipv4::TCP;

impl Table<'_> {
    /// Has nothing of a connection pass until its second record is there.
    pub(super) fn await_second(&mut self, slot: u32) {
        self.make_resumable(slot, ResumeSlot::AWAITED);
    }

    /// Imports a second record, or what it knows better if there was one before.
    pub(super) fn import_second(&mut self, record: &Record) -> Result<Imported, RecordError> {
        if self.state.for_resumable.is_none() {
            return Err(RecordError::NotResumable);
        }
        let ([client, original], theirs) = record.resumption()?;
        let slot = self.find_forward(&Key::new(TCP, client, original)).filter(|slot| !self.is_dead(*slot));
        let Some((slot, entry)) = slot.and_then(|slot| Some((slot, *self.slot(slot)?))) else {
            return Err(RecordError::NoConnection);
        };
        let ours = self.resume(slot).copied().filter(|ours| entry.has(RESUMABLE) && !ours.has(AWAITED));
        match ours {
            None => self.make_resumable(slot, theirs),
            Some(ours) if ours.counts_like(&theirs) => {
                if let Some(resume) = self.resume_mut(slot) {
                    resume.join(&theirs);
                }
            }
            // One of both is of a server before, and the connection's own record says which.
            Some(_) => return Err(super::import::outdated(&entry)),
        }
        Ok(if ours.is_some() { Imported::Updated } else { Imported::New })
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
