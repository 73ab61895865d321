//! Requests and their responses at the message layer (RFC 7252, sections 4 and 5.2 and 5.3).
//!
//! Every request is confirmable. It is retransmitted with exponential back-off until it is acknowledged, and at most
//! [`Settings::nstart`] requests to one origin are outstanding; the others wait their turn, first come, first served. An
//! origin that has stopped answering is sent no more than `PROBING_RATE` allows (section 4.7), and those that wait for it fail.
//!
//! The exchanges see only origins, as any CoAP client would. What they know of byway is its
//! [generation](Far::generation): when an instruction has changed it, what is in flight is sent again at once, since the
//! server that has it may be the old one.

mod receive;
mod send;
mod timers;

use core::hash::Hasher;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use byway::Instant;
use siphasher::sip::SipHasher13;
use smoltcp::phy;

use super::congestion::Origin;
pub use super::congestion::Settings;
use super::message::{self, Code, Kind, Message, ToSend, Token};
use crate::counters::{Counters, Reason};
use crate::far::{Far, Lane, Place, Way};

/// How many confirmable responses are remembered, to acknowledge their repetitions.
const REMEMBERED: usize = 256;

/// A request.
#[derive(Debug)]
pub struct Ask<'a, 'b> {
    /// The owner, which gets the response.
    pub owner: usize,
    /// The transfer's lane; another is taken, and returned here, if this one has no message identifiers left.
    pub lane: Lane,
    /// The resource that no other transfer may fetch or store in that lane.
    pub resource: Option<u64>,
    /// The HTTP client's address.
    pub client: Ipv4Addr,
    /// The origin.
    pub origin: SocketAddrV4,
    /// The method.
    pub code: Code,
    /// The options, in any order.
    pub options: &'a mut [ToSend<'b>],
    /// The body, or a block of it.
    pub payload: &'a [u8],
    /// Whether it may be executed twice.
    pub is_idempotent: bool,
    /// Where it goes to, wherever byway leads its origin's requests.
    pub place: Option<Place>,
    /// Whether its token stays, for notifications, until it is [cancelled](Exchanges::cancel).
    pub observes: bool,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was none in time.
    TimedOut,
    /// The server has reset the request.
    Reset,
    /// The origin was silent before, and may not be asked again yet.
    Silent,
    /// Two servers may get it, or one as if it were two requests, and it must not be executed twice.
    Ambiguous,
    /// No message identifier may be used just now: it is to be tried again.
    Exhausted,
    /// There is no number for its next block.
    TooLong,
    /// Its server was exchanged too often for it to begin again.
    Restless,
}

/// The request that an owner waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId(u64);

#[derive(Clone, Copy, Debug)]
enum State {
    /// Its turn has not come.
    Queued,
    /// Sent; to be sent again at this time.
    Sent { again: Instant, timeout: Duration, times: u8 },
    /// Acknowledged; the response comes by itself.
    Acknowledged { until: Instant },
    /// Answered; notifications follow. It registers again at this time, unless there is one before (RFC 7641, section 3.3.1),
    /// and when nothing was heard for so long that byway would soon forget the connection.
    Observing { until: Instant, heard: Instant },
}

/// Who takes requests in turns: an origin, or the server of a transfer that stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Origin(SocketAddrV4),
    Server(SocketAddrV4),
}

/// The identifier of a message, and the alternative endpoint whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MessageId {
    at: SocketAddrV4,
    id: u16,
}

#[derive(Debug)]
struct Exchange {
    owner: usize,
    way: Way,
    place: Option<Place>,
    /// The peer whose turns it takes.
    peer: Peer,
    /// Its identifier, from when it is first sent.
    id: Option<MessageId>,
    /// Whether it gets another identifier when it is next sent.
    is_renewed: bool,
    bytes: Vec<u8>,
    state: State,
    is_idempotent: bool,
    observes: bool,
    /// byway's generation when it was last sent.
    generation: u32,
    /// When it was sent first, since an instruction or since it registers again.
    first: Instant,
}

impl Exchange {
    /// Whether a message from there may be for it: one that has come past byway is for those that stay at its server.
    fn hears(&self, source: Source) -> bool {
        source.place.is_none_or(|from| self.place.is_some_and(|place| place.is_at(&from)))
    }
}

/// Where a message came from. Servers behind one origin have message identifiers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its addresses, as the stack sees them.
    pub way: Way,
    /// The server that it is from.
    pub server: Option<SocketAddrV4>,
    /// The alternative endpoint that it was sent to.
    pub alternative: Option<SocketAddrV4>,
    /// Whether it came past byway, from a server that only some transfers stay at.
    pub place: Option<Place>,
}

/// A response, and what it answers.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The owner of the request.
    pub owner: usize,
    /// The server that it came from.
    pub server: Option<SocketAddrV4>,
    /// The message.
    pub message: Message<'a>,
}

/// All requests in flight.
#[derive(Debug)]
pub struct Exchanges {
    settings: Settings,
    exchanges: HashMap<u64, Exchange>,
    by_id: HashMap<MessageId, u64>,
    origins: HashMap<Peer, Origin>,
    remembered: VecDeque<(Instant, Source, u16, Token)>,
    failed: VecDeque<(usize, Failure)>,
    generation: u32,
    /// How long an observer waits for a notification at most before it registers again.
    silence: Duration,
    key: (u64, u64),
    tokens: u64,
    /// Acknowledgements and resets to send.
    replies: VecDeque<(Source, Vec<u8>)>,
    /// The earliest timer, as far as is known.
    earliest: Option<Instant>,
    /// Whether a request may be started.
    is_due: bool,
}

impl Exchanges {
    /// None in flight. `key` makes tokens unpredictable to whoever is not on the path (RFC 7252, section 11.4).
    #[must_use]
    pub fn new(settings: Settings, key: (u64, u64)) -> Self {
        Self {
            settings,
            exchanges: HashMap::new(),
            by_id: HashMap::new(),
            origins: HashMap::new(),
            remembered: VecDeque::new(),
            failed: VecDeque::new(),
            generation: 0,
            silence: Duration::MAX,
            key,
            tokens: 0,
            replies: VecDeque::new(),
            earliest: None,
            is_due: false,
        }
    }

    /// Sends a request when its turn comes. The lane may be replaced.
    ///
    /// # Errors
    /// [`Failure::Silent`] or [`Failure::Exhausted`]: it is not sent.
    pub fn start<D: phy::Device>(
        &mut self,
        now: Instant,
        far: &mut Far<D>,
        ask: &mut Ask<'_, '_>,
    ) -> Result<ExchangeId, Failure> {
        let peer = match ask.place {
            Some(place) if place.generation != far.generation() => Peer::Server(place.server),
            _ => Peer::Origin(ask.origin),
        };
        let origin = self.origins.entry(peer).or_default();
        // After an instruction it may be another server.
        let is_same = far.generation() == self.generation;
        if is_same && origin.must_wait(now) {
            return Err(Failure::Silent);
        }
        let mut way = Way { lane: ask.lane, client: ask.client, origin: ask.origin };
        match ask.place {
            // To that server another lane is another client.
            Some(place) if !far.has_ids_at(now, place.alternative) => return Err(Failure::Exhausted),
            None if !far.has_ids(now, way) => {
                let lane = far.lease(now, ask.client, ask.origin, ask.resource).ok_or(Failure::Exhausted)?;
                far.release(ask.lane, ask.resource);
                (ask.lane, way.lane) = (lane, lane);
            }
            _ => {}
        }
        let number = self.token();
        let token = Token::new(number.to_be_bytes());
        // Its identifier follows when it is sent.
        let bytes = message::write(Kind::Confirmable, ask.code, 0, token, ask.options, ask.payload);
        let (owner, is_idempotent, observes) = (ask.owner, ask.is_idempotent, ask.observes);
        let (state, generation) = (State::Queued, far.generation());
        let (first, place, id, is_renewed) = (now, ask.place, None, false);
        let exchange = Exchange {
            owner,
            way,
            place,
            peer,
            id,
            is_renewed,
            bytes,
            state,
            is_idempotent,
            observes,
            generation,
            first,
        };
        self.exchanges.insert(number, exchange);
        self.origins.entry(peer).or_default().queue.push_back(number);
        self.is_due = true;
        Ok(ExchangeId(number))
    }

    /// Ends a request: what still comes for it is foreign. An observed server learns it from the reset that its next
    /// notification gets (RFC 7641, section 3.6).
    pub fn cancel(&mut self, id: ExchangeId) {
        self.end(id.0);
    }

    /// Sends what is due, and starts the requests whose turn has come.
    pub fn poll<D: phy::Device>(&mut self, now: Instant, far: &mut Far<D>, counters: &mut Counters) {
        while let Some((source, reply)) = self.replies.pop_front() {
            // One that is lost is asked for again.
            match source.place {
                Some(place) => far.send_from(place, source.way, &reply),
                None => far.send(source.way, &reply),
            };
        }
        self.heed(now, far.translator().timeouts().udp);
        if far.generation() != self.generation {
            self.generation = far.generation();
            self.send_again(now, far, counters);
        }
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.work(now, far, counters);
        }
        self.is_due = false;
        let (mut ready, mut hopeless) = (Vec::new(), Vec::new());
        for origin in self.origins.values_mut() {
            while origin.outstanding < self.settings.nstart
                && let Some(number) = origin.queue.pop_front()
            {
                // A request that has ended takes no turn.
                let Some(exchange) = self.exchanges.get(&number) else {
                    continue;
                };
                if origin.must_wait(now) {
                    hopeless.push(number);
                    continue;
                }
                origin.outstanding += 1;
                origin.sent(now, exchange.bytes.len());
                ready.push(number);
            }
        }
        for number in hopeless {
            self.fail(number, Failure::Silent);
        }
        let mut failed = Vec::new();
        for number in ready {
            let timeout = self.first_timeout(number);
            let Some(exchange) = self.exchanges.get_mut(&number) else {
                continue;
            };
            let again = now + timeout;
            exchange.state = State::Sent { again, timeout, times: 0 };
            (exchange.generation, exchange.first) = (far.generation(), now);
            let sent = exchange.send(now, number, &mut self.by_id, far).unwrap_or_else(|why| {
                failed.push((number, why));
                true
            });
            self.earliest = Some(self.earliest.map_or(again, |earliest| earliest.min(again)));
            if !sent {
                // No room in the stack: as if it were lost, but noticed at once.
                let soon = now + Duration::from_millis(1);
                exchange.state = State::Sent { again: soon, timeout, times: 0 };
                self.earliest = self.earliest.map(|earliest| earliest.min(soon));
            }
        }
        for (number, why) in failed {
            self.give_up(number, why, counters);
        }
    }

    /// When to poll again, although nothing has come.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        if self.is_due { Some(Instant::ZERO) } else { self.earliest }
    }

    /// The next request that has failed: its owner, and why.
    pub fn failed(&mut self) -> Option<(usize, Failure)> {
        self.failed.pop_front()
    }

    /// How many requests are in flight or wait for their turn.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// How many requests are neither acknowledged nor answered, at all origins together. None, when none is
    /// [in flight](Self::in_flight).
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.origins.values().map(|origin| origin.outstanding).sum()
    }

    /// Gives a request another message identifier: it is a new message, not a repetition, which a server that has seen the
    /// old one would answer from memory. It keeps the old one if there is none left. What answers it may come from a server
    /// that has started again, with identifiers that are known.
    fn renew_id(&mut self, number: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.is_renewed = true;
            let token = Token::new(number.to_be_bytes());
            self.remembered.retain(|(.., known)| *known != token);
        }
    }

    fn token(&mut self) -> u64 {
        loop {
            self.tokens = self.tokens.wrapping_add(1);
            let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
            hasher.write_u64(self.tokens);
            let token = hasher.finish();
            if !self.exchanges.contains_key(&token) {
                return token;
            }
        }
    }

    /// Fails, for a reason that is counted here.
    fn give_up(&mut self, number: u64, why: Failure, counters: &mut Counters) {
        match why {
            Failure::Ambiguous => counters.count(Reason::Ambiguous),
            Failure::TimedOut => counters.count(Reason::TimedOut),
            // Counted by its owner.
            _ => {}
        }
        self.fail(number, why);
    }

    fn fail(&mut self, number: u64, why: Failure) {
        if let Some(exchange) = self.exchanges.get(&number) {
            self.failed.push_back((exchange.owner, why));
        }
        self.end(number);
    }

    fn end(&mut self, number: u64) {
        self.leave_turn(number);
        if let Some(id) = self.exchanges.remove(&number).and_then(|exchange| exchange.id) {
            self.forget_id(id, number);
        }
    }

    /// An identifier may be a later request's by now.
    fn forget_id(&mut self, id: MessageId, number: u64) {
        if self.by_id.get(&id) == Some(&number) {
            self.by_id.remove(&id);
        }
    }

    /// It waits for no turn any more, and another request to this origin may start, if this one was outstanding.
    fn leave_turn(&mut self, number: u64) {
        let Some(exchange) = self.exchanges.get(&number) else {
            return;
        };
        let (peer, is_out) = (exchange.peer, matches!(exchange.state, State::Sent { .. }));
        if let Some(origin) = self.origins.get_mut(&peer) {
            origin.queue.retain(|queued| *queued != number);
        }
        if is_out {
            self.give_turn(peer);
        }
    }

    fn give_turn(&mut self, peer: Peer) {
        if let Some(origin) = self.origins.get_mut(&peer) {
            origin.outstanding = origin.outstanding.saturating_sub(1);
            self.is_due |= !origin.queue.is_empty();
        }
    }
}
