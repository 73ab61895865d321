//! One request of an HTTP client as a sequence of CoAP requests, one for each block (RFC 7959).
//!
//! Every block is asked of the origin anew, so between two blocks the server may be another one. What makes the body one
//! body is checked with each block:
//!
//! - **To the client**: the block's number is the one asked for, no byte is missing, and ETag, format and size are those
//!   of the first block. Without an ETag, the server must be the same as for the first block: byway says which it is.
//! - **To the server**: a server that took the first block takes all of them. If another one answers, the body begins
//!   again, provided that it is still whole in the buffer. Once it is not, the transfer stays where it is, whatever
//!   instructions come.
//!
//! Whatever fails a check ends the transfer. It is never continued with bytes of another representation.

mod upload;

use core::hash::{Hash, Hasher};
use core::net::{Ipv4Addr, SocketAddrV4};

use byway::Instant;
use smoltcp::phy;

use super::block::{Block, MAX_SIZE};
pub use super::body::Body;
use super::exchange::{Ask, ExchangeId, Exchanges, Failure};
use super::message::{Code, Message, ToSend, Uint, option};
use crate::counters::{Counters, Reason};
use crate::far::{Far, Lane, Place, Way};

/// How often a block in the middle of a body is asked for again after all its transmissions were in vain.
const ATTEMPTS: u32 = 1;

/// What is asked of the origin.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Code,
    /// The origin.
    pub origin: SocketAddrV4,
    /// The HTTP client's address.
    pub client: Ipv4Addr,
    /// The options, except those for blocks and for observing.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Whether it has a body.
    pub has_body: bool,
    /// Whether only the first, smallest block of the response is of interest.
    pub head_only: bool,
    /// Whether notifications are wanted.
    pub observes: bool,
    /// The exponent of the largest block, at most [`MAX_SIZE`].
    pub block: u8,
}

impl Request {
    /// A number for the resource and the client, for [`Far::lease`]. `None` if others may ask for it at the same time:
    /// observations are told apart by their tokens (RFC 7641, section 3.1).
    #[must_use]
    pub fn resource(&self) -> Option<u64> {
        let mut hasher = std::hash::DefaultHasher::new();
        let of_key = |number: &u16| matches!(*number, option::URI_HOST | option::URI_PATH | option::URI_QUERY);
        (self.client, self.origin).hash(&mut hasher);
        self.options.iter().filter(|(number, _)| of_key(number)).for_each(|option| option.hash(&mut hasher));
        (!self.observes).then(|| hasher.finish())
    }
}

/// An ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Etag {
    bytes: [u8; 8],
    length: usize,
}

impl Etag {
    fn of(message: &Message<'_>) -> Option<Self> {
        let value = message.option(option::ETAG).filter(|value| (1..=8).contains(&value.len()))?;
        let mut bytes = [0; 8];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(Self { bytes, length: value.len() })
    }
}

#[derive(Debug)]
enum Phase {
    /// Sending the body: how far it is, in blocks of this exponent.
    Upload {
        offset: u64,
        size: u8,
        sending: usize,
        server: Option<SocketAddrV4>,
        /// The rules' generation when the first block was sent.
        generation: u32,
    },
    /// Waiting for the first block of the response.
    First,
    /// In the middle of the response.
    Download {
        offset: u64,
        size: u8,
        etag: Option<Etag>,
        format: Option<u32>,
        length: Option<u32>,
        code: Code,
        /// The server of the first block, and of the last one.
        servers: [Option<SocketAddrV4>; 2],
    },
    Done,
}

/// What an answer means to the HTTP client.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing yet.
    Nothing,
    /// The response has begun: its first bytes, and whether more follow.
    Begin {
        /// With code, format and the rest.
        message: Message<'a>,
        /// Whether more follow.
        more: bool,
    },
    /// More of the response.
    Data {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether more follow.
        more: bool,
    },
    /// The resource has changed.
    Notification(Message<'a>),
    /// There is no response, or no more of it.
    Failed(Trouble),
}

/// Why there is no response, or no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer.
    Unanswered(Failure),
    /// An answer that must not be used.
    Refused(Reason),
}

/// A request and how far it is.
#[derive(Debug)]
pub struct Transfer {
    request: Request,
    lane: Lane,
    resource: Option<u64>,
    phase: Phase,
    exchange: Option<ExchangeId>,
    replays: u32,
    attempts: u32,
    observing: Option<ExchangeId>,
    /// Where it stays, since it could not begin again elsewhere any more.
    place: Option<Place>,
    /// The rules' generation when it last asked for something.
    asked: u32,
    /// Whether it waits for a message identifier.
    is_starved: bool,
}

impl Transfer {
    /// Begins one in this lane, which was leased for the request's [resource](Request::resource).
    #[must_use]
    pub fn new(request: Request, lane: Lane) -> Self {
        let resource = request.resource();
        let phase = if request.has_body {
            Phase::Upload { offset: 0, size: request.block, sending: 0, server: None, generation: 0 }
        } else {
            Phase::First
        };
        Self {
            request,
            lane,
            resource,
            phase,
            exchange: None,
            replays: 0,
            attempts: 0,
            observing: None,
            place: None,
            asked: 0,
            is_starved: false,
        }
    }

    /// What is asked for.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// The server of the last block.
    #[must_use]
    pub const fn server(&self) -> Option<SocketAddrV4> {
        match self.phase {
            Phase::Download { servers, .. } => servers[1],
            _ => None,
        }
    }

    /// Whether a block is on its way, or there is nothing to ask for.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.exchange.is_some() || matches!(self.phase, Phase::Done)
    }

    /// Whether its next block waits for a message identifier: have it [proceed](Self::proceed) from time to time.
    #[must_use]
    pub const fn is_starved(&self) -> bool {
        self.is_starved
    }

    /// Gives everything back. Notifications end.
    pub fn end<D: phy::Device>(&mut self, far: &mut Far<D>, exchanges: &mut Exchanges) {
        for exchange in [self.exchange.take(), self.observing.take()].into_iter().flatten() {
            exchanges.cancel(exchange);
        }
        if let Some(place) = self.place.take() {
            far.leave(place, self.way());
        }
        far.release(self.lane, self.resource);
    }

    const fn way(&self) -> Way {
        Way { lane: self.lane, client: self.request.client, origin: self.request.origin }
    }

    /// Asks for the next block, or sends it. `owner` gets the answer.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn proceed<D: phy::Device>(
        &mut self,
        now: Instant,
        owner: usize,
        body: &mut Body,
        far: &mut Far<D>,
        exchanges: &mut Exchanges,
    ) -> Result<(), Failure> {
        if self.is_busy() {
            return Ok(());
        }
        self.settle(body, far)?;
        let (block1, block2, size1, mut payload): (Option<Block>, Option<Block>, _, &[u8]) = match &mut self.phase {
            Phase::Done => return Ok(()),
            Phase::Upload { offset, size, sending, generation, .. } => {
                if *offset == 0 {
                    *generation = far.generation();
                }
                let length = 16 << *size;
                body.make_room(*offset, length + 1);
                let left = body.from(*offset);
                let more = left.len() > length || !body.is_complete;
                if more && left.len() <= length {
                    // The rest, or at least a byte behind this block, is still to come.
                    return Ok(());
                }
                let payload = left.get(..length).unwrap_or(left);
                *sending = payload.len();
                let block = Block::at(*offset, more, *size).ok_or(Failure::TooLong)?;
                let is_single = *offset == 0 && !more;
                let size1 = (*offset == 0 && more && body.is_complete).then_some(left.len() as u32);
                ((!is_single).then_some(block), None, size1, payload)
            }
            Phase::First => {
                let size = if self.request.head_only { 0 } else { self.request.block };
                (None, Block::at(0, false, size), None, &[])
            }
            Phase::Download { offset, size, .. } => {
                (None, Some(Block::at(*offset, false, *size).ok_or(Failure::TooLong)?), None, &[])
            }
        };
        let is_later = matches!(self.phase, Phase::Download { .. });
        let values = [block1.map(Block::value), block2.map(Block::value), size1].map(|value| value.map(Uint::new));
        let mut options: Vec<ToSend<'_>> = Vec::with_capacity(self.request.options.len() + 3);
        let wanted = |number: &u16| {
            // Conditions were decided with the first block, and its body is not sent again.
            let of_first = [option::ETAG, option::IF_MATCH, option::IF_NONE_MATCH, option::CONTENT_FORMAT];
            !is_later || !of_first.contains(number)
        };
        for (number, value) in self.request.options.iter().filter(|(number, _)| wanted(number)) {
            options.push((*number, value.as_slice()));
        }
        let numbers = [option::BLOCK1, option::BLOCK2, option::SIZE1];
        options
            .extend(numbers.into_iter().zip(&values).filter_map(|(number, v)| Some((number, v.as_ref()?.as_bytes()))));
        let observes = self.request.observes && matches!(self.phase, Phase::First);
        if observes {
            options.push((option::OBSERVE, &[]));
        }
        if is_later {
            payload = &[];
        }
        let is_last = block1.is_none_or(|block| !block.more);
        let mut ask = Ask {
            owner,
            lane: self.lane,
            resource: self.resource,
            client: self.request.client,
            origin: self.request.origin,
            code: self.request.method,
            options: &mut options,
            payload,
            is_idempotent: is_later || !is_last || !matches!(self.request.method, Code::POST | Code::PATCH),
            place: self.place,
            observes,
        };
        let started = exchanges.start(now, far, &mut ask);
        self.asked = far.generation();
        self.lane = ask.lane;
        self.is_starved = started == Err(Failure::Exhausted);
        if self.is_starved {
            return Ok(());
        }
        let exchange = started?;
        if observes {
            self.observing = Some(exchange);
        }
        self.exchange = Some(exchange);
        Ok(())
    }

    /// The request in flight has failed. Nothing, if it is worth another attempt, at once or when there are identifiers.
    pub fn failed<'a>(&mut self, why: Failure) -> Step<'a> {
        self.exchange = None;
        if why == Failure::Exhausted && !matches!(self.phase, Phase::Done) {
            self.is_starved = true;
            return Step::Nothing;
        }
        let is_begun = matches!(self.phase, Phase::Download { .. });
        if is_begun && why == Failure::TimedOut && self.attempts < ATTEMPTS {
            self.attempts += 1;
            return Step::Nothing;
        }
        self.phase = Phase::Done;
        self.observing = None;
        Step::Failed(Trouble::Unanswered(why))
    }

    /// Takes the answer to the last request, or a notification, from this server.
    pub fn receive<'a>(
        &mut self,
        message: Message<'a>,
        server: Option<SocketAddrV4>,
        body: &Body,
        counters: &mut Counters,
    ) -> Step<'a> {
        self.exchange = None;
        self.attempts = 0;
        let step = self.judge(message, server, body, counters);
        match step {
            Ok(step) => step,
            Err(reason) => {
                counters.count(reason);
                self.phase = Phase::Done;
                Step::Failed(Trouble::Refused(reason))
            }
        }
    }

    fn judge<'a>(
        &mut self,
        message: Message<'a>,
        server: Option<SocketAddrV4>,
        body: &Body,
        counters: &mut Counters,
    ) -> Result<Step<'a>, Reason> {
        const KNOWN: [u16; 2] = [option::BLOCK1, option::BLOCK2];
        if message.options().any(|(number, _)| number % 2 == 1 && !KNOWN.contains(&number)) {
            return Err(Reason::CriticalOption);
        }
        // An option that is there more often than it may be counts as unknown (section 5.4.5).
        if KNOWN.iter().any(|known| message.options().filter(|(number, _)| number == known).count() > 1) {
            return Err(Reason::CriticalOption);
        }
        if message.code == Code::VALID && !self.is_known(&message) {
            return Err(Reason::ForeignValid);
        }
        let block2 = match message.option(option::BLOCK2) {
            None => None,
            Some(value) => Some(Block::parse(value).ok_or(Reason::BadBlock)?),
        };
        match &self.phase {
            Phase::Upload { .. } => self.judge_upload(message, block2, server, body, counters),
            Phase::First => self.begin(message, block2, server),
            Phase::Download { .. } => self.judge_download(message, block2, server, counters),
            Phase::Done if self.observing.is_some() => Ok(Step::Notification(message)),
            Phase::Done => Ok(Step::Nothing),
        }
    }

    /// Whether the client has said that it has what this message calls valid (RFC 7252, section 5.9.1.3).
    fn is_known(&self, message: &Message<'_>) -> bool {
        let has = |etag| self.request.options.iter().any(|(number, had)| *number == option::ETAG && had == etag);
        message.option(option::ETAG).is_some_and(has)
    }

    fn begin<'a>(
        &mut self,
        message: Message<'a>,
        block2: Option<Block>,
        server: Option<SocketAddrV4>,
    ) -> Result<Step<'a>, Reason> {
        let block = block2.unwrap_or(Block { number: 0, more: false, size: MAX_SIZE });
        // To be continued: but nothing is left to be sent.
        if block.number != 0 || message.code == Code::CONTINUE {
            return Err(Reason::BlockNumber);
        }
        // If only the head is of interest, no next block is asked for.
        let is_partial = message.payload.len() != block.length() || block.size > self.request.block;
        if block.more && is_partial && !self.request.head_only {
            return Err(Reason::BadBlock);
        }
        if block2.is_some() && message.payload.len() > block.length() {
            return Err(Reason::BadBlock);
        }
        let is_whole = self.request.head_only || self.request.observes || message.code.class() != 2;
        let more = block.more && !is_whole;
        self.phase = if more {
            Phase::Download {
                offset: message.payload.len() as u64,
                size: block.size,
                etag: Etag::of(&message),
                format: message.uint(option::CONTENT_FORMAT, 2),
                length: message.uint(option::SIZE2, 4),
                code: message.code,
                servers: [server; 2],
            }
        } else {
            Phase::Done
        };
        Ok(Step::Begin { message, more: block.more })
    }

    fn judge_download<'a>(
        &mut self,
        message: Message<'a>,
        block2: Option<Block>,
        server: Option<SocketAddrV4>,
        counters: &mut Counters,
    ) -> Result<Step<'a>, Reason> {
        let Phase::Download { offset, size, etag, format, length, code, servers } = &mut self.phase else {
            return Ok(Step::Nothing);
        };
        if message.code != *code {
            return Err(Reason::ErrorInBody);
        }
        if Etag::of(&message) != *etag {
            return Err(Reason::EtagChanged);
        }
        if etag.is_none() && server != servers[0] {
            return Err(Reason::NoEtag);
        }
        let size2 = message.uint(option::SIZE2, 4);
        let is_resized = length.is_some() && size2.is_some() && size2 != *length;
        if message.uint(option::CONTENT_FORMAT, 2) != *format || is_resized {
            return Err(Reason::RepresentationChanged);
        }
        let block = block2.ok_or(Reason::BlockNumber)?;
        if block.offset() != *offset {
            return Err(Reason::BlockNumber);
        }
        let bytes = message.payload;
        let is_full = bytes.len() == block.length();
        if block.size > *size || bytes.len() > block.length() || (block.more && !is_full) {
            return Err(Reason::BadBlock);
        }
        if servers[1] != server {
            counters.count(Reason::Moves);
            servers[1] = server;
        }
        (*offset, *size) = (*offset + bytes.len() as u64, block.size);
        let end = *offset;
        if !block.more {
            if length.is_some_and(|length| u64::from(length) != end) {
                return Err(Reason::RepresentationChanged);
            }
            self.phase = Phase::Done;
        }
        Ok(Step::Data { bytes, more: block.more })
    }
}
