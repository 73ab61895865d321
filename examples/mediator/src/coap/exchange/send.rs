//! A request on its way out.

use std::collections::HashMap;

use byway::Instant;
use smoltcp::phy;

use super::{Exchange, Failure, MessageId};
use crate::coap::message;
use crate::far::Far;

impl Exchange {
    /// Sends it, or sends it again. False if there is no room.
    ///
    /// Only byway knows from which alternative endpoint it goes, so it gets an identifier of that endpoint after byway has
    /// translated it. It keeps the one that it has if the endpoint is the same as before: then it is a repetition.
    ///
    /// # Errors
    /// - [`Failure::Exhausted`]: that endpoint has no identifiers left.
    /// - [`Failure::Ambiguous`]: it would come from another endpoint than before, so that no server could take it for a
    ///   repetition, and it must not be executed twice.
    pub(super) fn send<D: phy::Device>(
        &mut self,
        now: Instant,
        number: u64,
        by_id: &mut HashMap<MessageId, u64>,
        far: &mut Far<D>,
    ) -> Result<bool, Failure> {
        let stays = self.place.filter(|place| place.generation != far.generation());
        let Some(place) = stays.or_else(|| far.route(self.way, &self.bytes)) else {
            // As if it were lost. byway has counted why.
            return Ok(true);
        };
        let kept = self.id.filter(|id| id.at == place.alternative);
        if self.id.is_some() && kept.is_none() && !self.is_idempotent {
            return Err(Failure::Ambiguous);
        }
        if kept.is_none() || self.is_renewed {
            match far.next_id(now, place.alternative) {
                Some(id) => self.set_id(MessageId { at: place.alternative, id }, number, by_id),
                None if kept.is_some() => {}
                None => return Err(Failure::Exhausted),
            }
        }
        self.is_renewed = false;
        Ok(far.send_to(place, &self.bytes))
    }

    fn set_id(&mut self, id: MessageId, number: u64, by_id: &mut HashMap<MessageId, u64>) {
        if let Some(old) = self.id.replace(id)
            && by_id.get(&old) == Some(&number)
        {
            by_id.remove(&old);
        }
        by_id.insert(id, number);
        message::set_id(&mut self.bytes, id.id);
    }
}
