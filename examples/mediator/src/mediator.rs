//! The proxy without sockets and without a clock: HTTP connections on one side, a device with byway on the other.

use core::cmp::Reverse;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{HashMap, HashSet};

use byway::{Heap, Instant, Translator};
use smoltcp::phy;

use crate::clients::{Holder, Holders};
use crate::coap::exchange::{Exchanges, Failure, Settings, Source};
use crate::counters::{Counters, Reason};
use crate::far::{Far, STACK, carrier};
use crate::http::host::Hosts;
use crate::map::uri::Origin;
use crate::session::{Pace, Session, Shared, Stream};

/// How often slow clients are looked for.
const CHECKED: Duration = Duration::from_secs(1);

/// How often further packets are looked for before clients and instructions have their turn.
const ROUNDS: usize = 64;

/// What a mediator needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests may go.
    pub origins: Vec<Origin>,
    /// The service's own names. Default: addresses and `localhost` alone.
    pub hosts: Hosts,
    /// CoAP's parameters.
    pub coap: Settings,
    /// The exponent of the largest block: it has `2^(block + 4)` bytes. Default 6, 1024 bytes.
    pub block: u8,
    /// The most HTTP connections at once. Default 4096.
    pub connections: usize,
    /// The most of them that one client has, by its address. Default 1024.
    pub per_client: usize,
    /// How slow an HTTP client may be when it is its turn. Default 240 bytes a second in the long run, and 60 s behind that.
    pub pace: Pace,
    /// 32 bytes of randomness, for tokens, ports and identifiers.
    pub entropy: [u8; 32],
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(origins: Vec<Origin>, entropy: [u8; 32]) -> Self {
        let pace = Pace { patience: Duration::from_secs(60), min_rate: 240 };
        let (hosts, coap) = (Hosts::default(), Settings::default());
        Self { origins, hosts, coap, block: 6, connections: 4096, per_client: 1024, pace, entropy }
    }
}

/// An HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub usize);

/// The proxy.
///
/// Its caller accepts connections ([`accept`](Self::accept)), says when they are [`ready`](Self::ready), and calls
/// [`poll`](Self::poll) when something has come to the device and when [`poll_at`](Self::poll_at) says.
#[derive(Debug)]
pub struct Mediator<D, T> {
    shared: Shared<D>,
    sessions: HashMap<usize, (Session, T)>,
    holders: Holders,
    next: usize,
    limit: usize,
    per_client: usize,
    checked: Instant,
    /// Whether there was more to do when clients and instructions had to have their turn.
    is_busy: bool,
    datagram: Vec<u8>,
    closed: Vec<(ConnectionId, T)>,
}

impl<D: phy::Device, T: Stream> Mediator<D, T> {
    /// A proxy over `device`, with byway between it and the stack.
    pub fn new(config: Config, device: D, translator: Translator<Heap>, now: Instant) -> Self {
        let word = |at: usize| {
            let bytes = config.entropy.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let far = Far::new(device, translator, word(0), now);
        let shared = Shared {
            far,
            exchanges: Exchanges::new(config.coap, (word(8), word(16))),
            counters: Counters::default(),
            origins: config.origins,
            hosts: config.hosts,
            block: config.block,
            pace: config.pace,
            tickets: 0,
        };
        Self {
            shared,
            sessions: HashMap::new(),
            holders: Holders::default(),
            next: 0,
            limit: config.connections,
            per_client: config.per_client,
            checked: now,
            is_busy: false,
            datagram: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// byway, for instructions and for what it counts.
    pub const fn translator(&self) -> &Translator<Heap> {
        self.shared.far.translator()
    }

    /// byway, for instructions: call [`poll`](Self::poll) after them.
    pub const fn translator_mut(&mut self) -> &mut Translator<Heap> {
        self.shared.far.translator_mut()
    }

    /// The device below byway.
    pub const fn device(&self) -> &D {
        self.shared.far.device()
    }

    /// The device below byway.
    pub const fn device_mut(&mut self) -> &mut D {
        self.shared.far.device_mut()
    }

    /// The side of the servers.
    pub const fn far(&self) -> &Far<D> {
        &self.shared.far
    }

    /// byway, and what takes packets that have not come by the device ([`Far::hand_in`]).
    pub const fn far_mut(&mut self) -> &mut Far<D> {
        &mut self.shared.far
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// How many CoAP requests are in flight or wait for their turn.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.exchanges.in_flight()
    }

    /// How many CoAP requests are neither acknowledged nor answered. None, when none is [in flight](Self::in_flight).
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.shared.exchanges.outstanding()
    }

    /// The connections that are open.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Session)> {
        self.sessions.iter().map(|(number, (session, _))| (ConnectionId(*number), session))
    }

    /// Takes a connection of an HTTP client. Gives the stream back if there are as many as allowed, in all or of this client,
    /// and each is being used.
    ///
    /// # Errors
    /// The stream, and why.
    pub fn accept(&mut self, now: Instant, from: IpAddr, stream: T) -> Result<ConnectionId, (T, Reason)> {
        let holder = Holder::of(from);
        if self.holders.held(holder) >= self.per_client && !self.make_room(Some(holder)) {
            self.shared.counters.count(Reason::TooManyOfClient);
            return Err((stream, Reason::TooManyOfClient));
        }
        if self.sessions.len() >= self.limit && !self.make_room(None) {
            self.shared.counters.count(Reason::TooMany);
            return Err((stream, Reason::TooMany));
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.holders.add(holder);
        let client = carrier::client(from);
        // A packet from byway's own address would be its own, and is not diverted.
        let client = if self.translator().is_own(client) { STACK } else { client };
        self.sessions.insert(number, (Session::new(holder, client, now), stream));
        Ok(ConnectionId(number))
    }

    /// Closes a connection on which no request is being answered: the one that has been silent for longest, of the client that
    /// has most, or of this one. False if there is none: requests are not broken off.
    fn make_room(&mut self, of: Option<Holder>) -> bool {
        let Self { sessions, holders, .. } = self;
        let idle = sessions.iter().filter_map(|(number, (session, _))| {
            let holder = session.holder();
            let since = session.idle_since().filter(|_| of.is_none_or(|of| of == holder))?;
            Some((Reverse(holders.held(holder)), since, *number))
        });
        let Some((.., number)) = idle.min() else {
            return false;
        };
        self.shared.counters.count(Reason::Displaced);
        self.remove(number);
        true
    }

    /// The stream of a connection, to register it.
    pub fn stream_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        self.sessions.get_mut(&id.0).map(|(_, stream)| stream)
    }

    /// A connection may have something to read, or room to write.
    pub fn ready(&mut self, now: Instant, id: ConnectionId, readable: bool, writable: bool) {
        if let Some((session, _)) = self.sessions.get_mut(&id.0) {
            session.is_ready(readable, writable);
        }
        self.drive(now, id.0);
    }

    /// A connection that is over, and its stream, to close it. Call until there is none.
    pub fn closed(&mut self) -> Option<(ConnectionId, T)> {
        self.closed.pop()
    }

    /// Does what is due, and takes what has come to the device: not all of it, if it does not end. Call it again as long as
    /// the device has something.
    pub fn poll(&mut self, now: Instant) {
        self.is_busy = true;
        for _ in 0..ROUNDS {
            self.shared.far.poll(now);
            let mut any = false;
            let mut datagram = core::mem::take(&mut self.datagram);
            while let Some(source) = self.receive(&mut datagram) {
                any = true;
                let Shared { exchanges, counters, .. } = &mut self.shared;
                let Some(answer) = exchanges.receive(now, source, &datagram, counters) else {
                    continue;
                };
                let number = answer.owner;
                if let Some((session, _)) = self.sessions.get_mut(&number) {
                    session.receive(now, &answer, &mut self.shared);
                    self.drive(now, number);
                }
            }
            self.datagram = datagram;
            any |= self.shared.far.has_returned();
            let Shared { exchanges, far, counters, .. } = &mut self.shared;
            exchanges.poll(now, far, counters);
            while let Some((number, why)) = self.shared.exchanges.failed() {
                any = true;
                if let Some((session, _)) = self.sessions.get_mut(&number) {
                    session.failed(why, &mut self.shared);
                    // One that has found no identifier waits for the next check.
                    if why != Failure::Exhausted {
                        self.drive(now, number);
                    }
                }
            }
            if self.shared.far.take_released() {
                any |= self.drive_waiting(now);
            }
            if !any {
                self.is_busy = false;
                break;
            }
        }
        // What was started is sent now.
        self.shared.far.poll(now);
        if self.checked + CHECKED <= now {
            self.checked = now;
            self.check(now);
            // Message identifiers may have become free.
            self.drive_waiting(now);
        }
    }

    /// Takes a datagram that has come into `datagram`.
    fn receive(&mut self, datagram: &mut Vec<u8>) -> Option<Source> {
        let far = &mut self.shared.far;
        if let Some(way) = far.receive(datagram) {
            let here = far.place(way);
            let (server, alternative) = (here.map(|here| here.server), here.map(|here| here.alternative));
            return Some(Source { way, server, alternative, place: None });
        }
        while let Some((way, place)) = far.receive_past(datagram) {
            // If byway leads its connection there, it may be for any transfer.
            let is_there = far.place(way).is_some_and(|now| now.is_at(&place));
            let (server, alternative) = (Some(place.server), Some(place.alternative));
            let source = Source { way, server, alternative, place: (!is_there).then_some(place) };
            if is_there || self.shared.exchanges.expects(source, datagram) {
                return Some(source);
            }
            far.give_back(place, datagram);
        }
        None
    }

    /// When to call [`poll`](Self::poll) although nothing has come.
    pub fn poll_at(&mut self, now: Instant) -> Instant {
        if self.is_busy {
            return now;
        }
        let check = self.checked + CHECKED;
        let due = [self.shared.exchanges.poll_at(), self.shared.far.poll_at(now)];
        due.into_iter().flatten().fold(check, Instant::min)
    }

    fn drive(&mut self, now: Instant, number: usize) {
        let Some((session, stream)) = self.sessions.get_mut(&number) else {
            return;
        };
        session.drive(now, number, stream, &mut self.shared);
        if session.is_closed() {
            self.remove(number);
        }
    }

    /// Lets requests begin that wait for a lane. Whether any has.
    fn drive_waiting(&mut self, now: Instant) -> bool {
        let waiting = self.sessions.iter().filter_map(|(number, (session, _))| Some((session.awaited()?, *number)));
        let mut waiting: Vec<_> = waiting.collect();
        // First come, first served.
        waiting.sort_unstable();
        let (mut any, mut taken) = (false, HashSet::new());
        for ((_, resource), number) in waiting {
            // A later request for the same resource does not get one either.
            if taken.contains(&resource) {
                continue;
            }
            self.drive(now, number);
            if self.sessions.get(&number).is_some_and(|(session, _)| session.is_waiting()) {
                taken.insert(resource);
            } else {
                any = true;
            }
        }
        any
    }

    fn check(&mut self, now: Instant) {
        let mut changed = Vec::new();
        for (number, (session, stream)) in &mut self.sessions {
            if session.check(now, stream, &mut self.shared) {
                changed.push(*number);
            }
        }
        for number in changed {
            if self.sessions.get(&number).is_some_and(|(session, _)| session.is_closed()) {
                self.remove(number);
            } else {
                // It was refused, and is told so; or there may be identifiers again.
                self.drive(now, number);
            }
        }
    }

    fn remove(&mut self, number: usize) {
        if let Some((session, stream)) = self.sessions.remove(&number) {
            self.holders.remove(session.holder());
            self.closed.push((ConnectionId(number), stream));
        }
    }
}
