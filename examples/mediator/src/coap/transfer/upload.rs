//! The body of a request, on its way to the server.

use core::net::SocketAddrV4;

use smoltcp::phy;

use super::{Body, Failure, Phase, Step, Transfer};
use crate::coap::block::Block;
use crate::coap::message::{Code, Message, option};
use crate::counters::{Counters, Reason};
use crate::far::{Far, Place};

/// How often a body that is to be sent begins again, at most.
const REPLAYS: u32 = 64;

impl Transfer {
    /// Before the beginning of the body is forgotten: from now on it cannot begin again elsewhere, so it stays at the server
    /// that has the beginning. If an instruction has come since, it is not known where that will be: it begins again now.
    ///
    /// The response to a request that has changed something is at the server that it has changed.
    pub(super) fn settle<D: phy::Device>(&mut self, body: &Body, far: &mut Far<D>) -> Result<(), Failure> {
        let (way, may_stay) = (self.way(), self.place.is_none());
        if let Phase::Download { servers: [Some(server), _], .. } = self.phase
            && may_stay
            && self.request.method != Code::GET
            && let Some(place) = far.place(way)
        {
            // An instruction may have come since, and byway have followed it; the port is the same.
            let place = Place { server, generation: self.asked, ..place };
            far.stay(place, way);
            self.place = Some(place);
        }
        let Phase::Upload { offset, size, server, generation, .. } = &mut self.phase else {
            return Ok(());
        };
        if !may_stay || !body.is_whole() || !body.will_forget(*offset, (16 << *size) + 1) {
            return Ok(());
        }
        let place = far.place(way).filter(|place| place.generation == *generation && Some(place.server) == *server);
        if let Some(place) = place {
            far.stay(place, way);
            self.place = Some(place);
            return Ok(());
        }
        self.replays += 1;
        if self.replays > REPLAYS {
            return Err(Failure::Restless);
        }
        (*offset, *server) = (0, None);
        Ok(())
    }

    /// Takes the answer to a block of the body.
    pub(super) fn judge_upload<'a>(
        &mut self,
        message: Message<'a>,
        block2: Option<Block>,
        server: Option<SocketAddrV4>,
        body: &Body,
        counters: &mut Counters,
    ) -> Result<Step<'a>, Reason> {
        let Phase::Upload { offset, size, sending, server: first, .. } = &mut self.phase else {
            return Ok(Step::Nothing);
        };
        let block1 = match message.option(option::BLOCK1) {
            None => None,
            Some(value) => Some(Block::parse(value).ok_or(Reason::BadBlock)?),
        };
        let was_last = body.is_complete && body.from(*offset).len() <= *sending;
        let has_moved = *offset != 0 && *first != server;
        if message.code == Code::REQUEST_ENTITY_INCOMPLETE && *offset != 0
            || (has_moved && message.code.class() == 2 && !was_last)
        {
            self.replays += 1;
            if !body.is_whole() || self.replays > REPLAYS {
                return Err(Reason::NotReplayable);
            }
            counters.count(Reason::Replays);
            (*offset, *first) = (0, None);
            return Ok(Step::Nothing);
        }
        let smaller = block1.map(|block| block.size).filter(|smaller| smaller < size);
        if message.code == Code::REQUEST_ENTITY_TOO_LARGE
            && *offset == 0
            && let Some(smaller) = smaller
        {
            *size = smaller;
            return Ok(Step::Nothing);
        }
        if was_last || message.code.class() != 2 {
            return self.begin(message, block2, server);
        }
        // 2.31, or for a server that keeps each block by itself any success.
        let sent = Block::at(*offset, true, *size);
        let Some(block1) = block1.filter(|block| sent.is_some_and(|sent| sent.number == block.number)) else {
            return Err(Reason::BlockNumber);
        };
        if *offset == 0 {
            *first = server;
        }
        *offset += *sending as u64;
        *size = block1.size.min(*size);
        Ok(Step::Nothing)
    }
}
