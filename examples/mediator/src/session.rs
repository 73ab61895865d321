//! One connection of an HTTP client: its requests one after the other, in bounded memory.
//!
//! The next block is asked for when at most one block waits to be sent, so a client that reads slowly slows its server.
//! What a session holds is at most: [`HEAD`] bytes of input, [`BODY`] bytes of a request's body, [`OUTPUT`] bytes of
//! output, and one CoAP message in flight.

mod pace;
mod request;
mod respond;
mod transport;
mod watch;

use core::net::{Ipv4Addr, SocketAddrV4};
use std::io::{self, Read, Write};

use byway::Instant;
use smoltcp::phy;

use crate::clients::Holder;
use crate::coap::exchange::{Answer, Exchanges, Failure};
use crate::coap::transfer::{Body, Request, Transfer};
use crate::counters::{Counters, Reason};
use crate::far::Far;
use crate::http::answer::{self, Ending};
use crate::http::body::Decoder;
use crate::http::head::Framing;
use crate::http::host::Hosts;
use crate::map::uri::Origin;
use pace::Clock;
pub use pace::Pace;
use watch::Stage;

/// The longest head of a request, and the most input that waits, in bytes.
pub const HEAD: usize = 6144;
/// How much of a request's body is kept, in bytes: a body that fits survives a move of its server.
pub const BODY: usize = 4096;
/// The most output that waits, in bytes: a block that waits, another one, and a head.
pub const OUTPUT: usize = 3584;
/// The next block is asked for when no more output than this waits, in bytes.
const LOW: usize = 1100;

/// What HTTP connections are served over.
pub trait Stream: Read + Write {
    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The connection is gone.
    fn finish(&mut self) -> io::Result<()>;

    /// Makes closing an error for the client, which must not take what it has for the whole.
    fn abort(&mut self);
}

/// What sessions share.
#[derive(Debug)]
pub struct Shared<D> {
    /// The side of the servers.
    pub far: Far<D>,
    /// CoAP requests in flight.
    pub exchanges: Exchanges,
    /// What was counted.
    pub counters: Counters,
    /// Where requests may go.
    pub origins: Vec<Origin>,
    /// The service's own names.
    pub hosts: Hosts,
    /// The exponent of the largest block.
    pub block: u8,
    /// How slow clients may be.
    pub pace: Pace,
    /// How many requests have begun to wait for a lane.
    pub tickets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request's head is due.
    Head,
    /// A request is being answered.
    Working,
    /// What is in the output is still sent.
    Closing,
    /// All is sent; input is thrown away until the client closes.
    Lingering { left: usize, until: Instant },
    /// Nothing is to be done any more.
    Closed,
}

/// The response to the current request.
#[derive(Clone, Debug)]
struct Response {
    keep_alive: bool,
    is_1_1: bool,
    head_only: bool,
    is_get: bool,
    ending: Ending,
    is_begun: bool,
    locations: Option<String>,
    /// The last notification: its number, when it came, and from which server.
    notified: Option<(u32, Instant, Option<SocketAddrV4>)>,
    /// What the client was told last, as a number.
    told: Option<u64>,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    holder: Holder,
    client: Ipv4Addr,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    state: State,
    decoder: Decoder,
    body: Body,
    transfer: Option<Transfer>,
    /// A request that waits for a lane, and how many have waited before it.
    waiting: Option<(u64, Request)>,
    response: Response,
    /// How many bytes of empty lines have come before a request.
    skipped: usize,
    /// When something last went in or out.
    active: Instant,
    /// How far the client is behind.
    clock: Clock,
    stage: Stage,
    /// Since when a request waits for a lane, as far as was noticed.
    since: Option<Instant>,
    is_readable: bool,
    is_writable: bool,
    has_ended: bool,
}

impl Session {
    /// A new connection of this holder, which the stack knows by the address `client`.
    #[must_use]
    pub const fn new(holder: Holder, client: Ipv4Addr, now: Instant) -> Self {
        Self {
            holder,
            client,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            state: State::Head,
            decoder: Decoder::new(Framing::None),
            body: Body::new(BODY),
            transfer: None,
            waiting: None,
            response: Response {
                keep_alive: false,
                is_1_1: true,
                head_only: false,
                is_get: false,
                ending: Ending::None,
                is_begun: false,
                locations: None,
                notified: None,
                told: None,
            },
            skipped: 0,
            active: now,
            clock: Clock::new(now),
            stage: Stage::Idle,
            since: None,
            is_readable: true,
            is_writable: true,
            has_ended: false,
        }
    }

    /// The stream may have something, or take something.
    pub const fn is_ready(&mut self, readable: bool, writable: bool) {
        self.is_readable |= readable;
        self.is_writable |= writable;
    }

    /// Whether it is over, so that the stream can be closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whose it is.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// When something was last heard of it, if no request is being answered.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        (self.state == State::Head && self.sent == self.output.len()).then_some(self.active)
    }

    /// The request that is being answered.
    #[must_use]
    pub const fn transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref()
    }

    /// How many bytes it holds in buffers.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.input.capacity() + self.output.capacity() + BODY - self.body.room()
    }

    /// Reads, works and writes as far as possible.
    pub fn drive<D: phy::Device>(
        &mut self,
        now: Instant,
        number: usize,
        stream: &mut impl Stream,
        shared: &mut Shared<D>,
    ) {
        self.clock.read(now);
        loop {
            let has_read = self.read(now, stream, shared);
            let has_worked = self.work(now, number, shared);
            if self.has_ended && !has_worked {
                self.input_ended(&mut shared.counters);
            }
            let has_written = self.write(now, stream, shared);
            if self.state == State::Closed {
                self.end(shared);
                return;
            }
            if !(has_read || has_worked || has_written) {
                break;
            }
        }
        self.note_turn(now);
    }

    fn end<D: phy::Device>(&mut self, shared: &mut Shared<D>) {
        self.waiting = None;
        if let Some(mut transfer) = self.transfer.take() {
            transfer.end(&mut shared.far, &mut shared.exchanges);
        }
    }

    /// Whether there may be another request after this one: all that has come was not the last.
    const fn may_go_on(&self) -> bool {
        !self.has_ended || !self.input.is_empty()
    }

    /// Whether so little output waits that there is room for the next block.
    const fn has_room(&self) -> bool {
        self.output.len() - self.sent <= LOW
    }

    fn is_observing(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.request().observes)
    }

    fn work<D: phy::Device>(&mut self, now: Instant, number: usize, shared: &mut Shared<D>) -> bool {
        match self.state {
            // One response after the other.
            State::Head if self.has_room() => self.begin(now, shared),
            State::Working => {
                let has_decoded = self.decode(shared);
                self.proceed(now, number, shared);
                has_decoded || self.state != State::Working
            }
            _ => false,
        }
    }

    /// Moves what has come of the request's body into its buffer.
    fn decode<D>(&mut self, shared: &mut Shared<D>) -> bool {
        if self.decoder.is_done() || self.input.is_empty() {
            return false;
        }
        let (room, body) = (self.body.room(), &mut self.body);
        match self.decoder.decode(&self.input, room, |bytes| body.push(bytes)) {
            Ok(used) => {
                self.input.drain(..used);
                if self.decoder.is_done() {
                    self.body.complete();
                }
                used != 0
            }
            Err(_) => {
                self.refuse(400, Reason::BadRequest, "malformed chunks", shared);
                true
            }
        }
    }

    /// Asks for the next block if there is room for it.
    fn proceed<D: phy::Device>(&mut self, now: Instant, number: usize, shared: &mut Shared<D>) {
        if self.state != State::Working || !self.has_room() {
            return;
        }
        self.lease(now, shared);
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        let was_starved = transfer.is_starved();
        let (far, exchanges) = (&mut shared.far, &mut shared.exchanges);
        if let Err(why) = transfer.proceed(now, number, &mut self.body, far, exchanges) {
            self.failed(why, shared);
        } else if !was_starved && transfer.is_starved() {
            shared.counters.count(Reason::NoIdentifiers);
        }
    }

    /// Begins the transfer as soon as there is a lane for it.
    fn lease<D: phy::Device>(&mut self, now: Instant, shared: &mut Shared<D>) {
        let Some((ticket, request)) = self.waiting.take() else {
            return;
        };
        match shared.far.lease(now, request.client, request.origin, request.resource()) {
            Some(lane) => self.transfer = Some(Transfer::new(request, lane)),
            None => self.waiting = Some((ticket, request)),
        }
    }

    /// Its place among those that wait for a lane, and for which resource, as a number.
    #[must_use]
    pub fn awaited(&self) -> Option<(u64, u64)> {
        self.waiting.as_ref().map(|(ticket, request)| (*ticket, request.resource().unwrap_or(0)))
    }

    /// Whether a transfer waits for a message identifier: [`drive`](Self::drive) it from time to time.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.transfer.as_ref().is_some_and(Transfer::is_starved)
    }

    /// Whether it waits for a lane.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes an answer to what this session has asked for.
    pub fn receive<D: phy::Device>(&mut self, now: Instant, answer: &Answer<'_>, shared: &mut Shared<D>) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        let step = transfer.receive(answer.message, answer.server, &self.body, &mut shared.counters);
        self.step(now, answer.server, step, shared);
    }

    /// A request of this session gets no answer.
    pub fn failed<D: phy::Device>(&mut self, why: Failure, shared: &mut Shared<D>) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        match why {
            Failure::Silent => shared.counters.count(Reason::Silent),
            Failure::TooLong => shared.counters.count(Reason::TooLong),
            Failure::Restless => shared.counters.count(Reason::NotReplayable),
            Failure::Exhausted => shared.counters.count(Reason::NoIdentifiers),
            // Counted where they were noticed.
            Failure::TimedOut | Failure::Reset | Failure::Ambiguous => {}
        }
        let step = transfer.failed(why);
        self.step(self.active, None, step, shared);
    }

    /// Makes room for output, at once for all of it: it is not doubled when it grows.
    fn make_room(&mut self) {
        self.output.reserve_exact(OUTPUT.saturating_sub(self.output.len()));
    }

    /// Answers with an error, and closes.
    fn refuse<D>(&mut self, status: u16, reason: Reason, why: &str, shared: &mut Shared<D>) {
        shared.counters.count(reason);
        self.make_room();
        if !self.response.is_begun {
            answer::error(&mut self.output, status, false, self.response.head_only, why);
        }
        self.response.keep_alive = false;
        self.state = State::Closing;
    }
}
