//! The translator's side.

mod handshake;

use super::answer::{HEAD, Head};
use super::apply::Terms;
use super::authentication::{Key, KeyError, Keys, Rights, Secret, TAG};
use super::code::{Code, Effect, Refusal};
use super::datagram::{HANDSHAKE, HEADER, Header, MAX_ANSWER, MAX_REQUEST, Start, VERSION, kind, seal};
use super::event_sender::EventSender;
use super::instruction::{Instruction, Kinds};
use super::refused::Refused;
use super::request::Received;
use super::session::{Budget, DEFAULT_HASHES, Order, Session, Sessions, Subscription};
use super::several::{Several, is_unrouted};
use super::subject::Subject;
use super::subscriber::{Subscriber, asks_for_measurements};
use super::translators::Translators;
use super::wire::{Reader, Writer};
use super::{MAX_INSTRUCTIONS, pages};
use core::net::{SocketAddr, SocketAddrV4};

use crate::event::Event;
use crate::table::storage::Storage;
use crate::time::Instant;

/// The translator's side: takes a datagram, changes or reads the translator, and writes the answer.
///
/// It holds up to `KEYS` keys and up to `SESSIONS` monitors at once; with as many sessions as keys, no key can lock
/// another out. It has no socket: pass it the datagrams that arrive on the control port, and send what it writes.
///
/// ```
/// use byway::control::{Agent, Key, MAX_ANSWER, Rights};
/// use byway::{Config, Fixed, Instant, Translator};
/// # let entropy = [1; 32];
/// # let secret = [2; 32];
/// let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
/// let mut agent = Agent::<2, 4>::new(entropy); // 32 bytes of the machine's randomness, new at each start
/// agent.add_key(Key::new(1, secret, Rights::All))?;
///
/// # let (now, from, received) = (Instant::ZERO, "192.0.2.1:5213".parse().unwrap(), [0_u8; 64]);
/// let mut answer = [0; MAX_ANSWER];
/// if let Ok(length) = agent.handle(now, &mut byway, from, &received, &mut answer) {
///     // send answer[..length] to `from`
/// # let _ = length;
/// }
/// // Periodically:
/// while agent.has_room() && let Some(event) = byway.poll_event() {
///     agent.tell(now, &event);
/// }
/// while let Some((to, length)) = agent.poll_transmit(now, &mut answer) {
///     // send answer[..length] to `to`
/// # let _ = (to, length);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Agent<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize = 0> {
    keys: Keys<KEYS>,
    pub(super) sessions: Sessions<SESSIONS>,
    boot: Secret,
    /// How many sessions were opened since the start.
    opened: u32,
    pub(super) now: Instant,
    control: Option<SocketAddrV4>,
    /// How far the limit of hashes is above the default, modulo 2^32: zero unless it was changed, so that an agent in a
    /// `static` takes no flash.
    hashes_above: u32,
    /// Hashes spent on HELLO and OPEN; and, once these are used up, further ones for OPEN alone.
    handshakes: Budget,
    openings: Budget,
    refused: [u64; Refused::ALL.len()],
    /// The function that writes measurements; `None` if the storage has no room for them.
    write_measured: Option<pages::WriteMeasured>,
    events: EventSender,
    pub(super) reports: [Subscriber; REPORTS],
}

#[cfg(feature = "defmt")]
impl<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize> defmt::Format for Agent<KEYS, SESSIONS, REPORTS> {
    /// Its capacities, and how many sessions were opened; nothing about the keys.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Agent {{ keys: {}, sessions: {}, opened: {} }}", KEYS, SESSIONS, self.opened);
    }
}

impl<const KEYS: usize, const SESSIONS: usize> Agent<KEYS, SESSIONS> {
    /// An agent without keys, which refuses everything.
    ///
    /// `entropy` must come from the machine's source of randomness and be new at each start: that makes a recorded
    /// session worthless after a restart.
    #[must_use]
    pub const fn new(entropy: [u8; 32]) -> Self {
        Self::sized(entropy)
    }
}

impl<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize> Agent<KEYS, SESSIONS, REPORTS> {
    /// The same as [`Agent::new`], with room for `REPORTS` monitors that get reports of measurements
    /// ([`poll_report`](Self::poll_report)).
    #[must_use]
    pub const fn sized(entropy: [u8; 32]) -> Self {
        Self {
            keys: Keys::NONE,
            sessions: Sessions::NONE,
            boot: Secret(entropy),
            opened: 0,
            now: Instant::ZERO,
            control: None,
            hashes_above: 0,
            handshakes: Budget::NEW,
            openings: Budget::NEW,
            refused: [0; Refused::ALL.len()],
            write_measured: None,
            events: EventSender::EMPTY,
            reports: [Subscriber::NONE; REPORTS],
        }
    }

    /// Sets the endpoint that instructions arrive at, so that no rule can divert it.
    #[must_use]
    pub const fn listening_on(mut self, control: SocketAddrV4) -> Self {
        self.control = Some(control);
        self
    }

    /// How many datagrams per second may cost a hash in vain. Default: 100.
    ///
    /// A datagram that is refused before a hash costs nothing: an unknown key, session or number, another peer, an old
    /// request. Datagrams beyond the limit are refused without being examined ([`Refused::Flooded`]), so that a flood
    /// leaves the processor to the traffic. The limit applies separately to each of these, so that a flood of one
    /// blocks nothing else:
    ///
    /// - attempts to open a session: HELLO and OPEN together;
    /// - OPEN alone, once that is used up: a flood of HELLOs does not stop a monitor that has its challenge;
    /// - in each session: requests with wrong tags or that cannot be parsed;
    /// - in each session: repetitions of its last request.
    ///
    /// One attack remains: an attacker who knows a key's number can prevent *new* sessions from being opened while he
    /// sends more than this (only a hash distinguishes his HELLO from a good one). Open sessions continue, unless he
    /// sees their identifiers and addresses. A monitor that must get through keeps its session open.
    #[must_use]
    pub const fn hashes_per_second(mut self, limit: u32) -> Self {
        self.hashes_above = limit.wrapping_sub(DEFAULT_HASHES);
        self
    }

    const fn hashes(&self) -> u32 {
        self.hashes_above.wrapping_add(DEFAULT_HASHES)
    }

    /// Adds a key. To change keys without a gap, add the new one, switch the monitors over, and remove the old one.
    ///
    /// # Errors
    /// [`KeyError`] if its number is taken or there is no room.
    pub fn add_key(&mut self, key: Key) -> Result<(), KeyError> {
        let id = key.id;
        if self.keys.get(id).is_some() {
            return Err(KeyError::Taken { id });
        }
        if self.keys.push(key) { Ok(()) } else { Err(KeyError::Full { id, capacity: KEYS }) }
    }

    /// Removes a key and ends its sessions. False if there was no such key.
    pub fn remove_key(&mut self, id: u16) -> bool {
        self.sessions.end_those_of(id);
        self.keys.remove(id)
    }

    /// How many datagrams got no answer for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or(0)
    }

    /// Takes a datagram that came from `from`, applies the instructions in it, and writes the answer into `answer`;
    /// returns the answer's length. The answer goes back to `from`.
    ///
    /// A datagram that is not authentic costs a table lookup, or a few blocks of hash if its sender can see the traffic
    /// or knows a key's number. It never changes anything.
    ///
    /// # Errors
    /// [`Refused`] if there is no answer. It is counted.
    pub fn handle<T: Translators + ?Sized>(
        &mut self,
        now: Instant,
        translators: &mut T,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        self.now = self.now.max(now);
        self.write_measured = write_measured::<T::Storage>();
        let handled = self.dispatch(translators, from, datagram, answer);
        if let Err(reason) = handled
            && let Some(count) = self.refused.get_mut(reason as usize)
        {
            *count = count.wrapping_add(1);
        }
        handled
    }

    /// Whether a monitor has subscribed to events. While none has, [`Agent::tell`] ignores events, so a program need
    /// not fetch them from its other threads.
    #[must_use]
    pub fn wants_events(&self, now: Instant) -> bool {
        self.sessions.have_subscriber(now)
    }

    /// Whether there is room for another event ([`Agent::tell`]).
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.events.has_room()
    }

    /// Queues an event for its subscribers, to be sent by the next [`Agent::poll_transmit`]. An event without
    /// subscribers is ignored. An event that does not fit is counted as lost, and the subscribers are sent that count.
    pub fn tell(&mut self, now: Instant, event: &Event) {
        self.now = self.now.max(now);
        self.events.push(&mut self.sessions, self.now, event);
    }

    /// Writes the next datagram of events into `buffer`; returns its destination and its length. Call it until it
    /// returns `None`, after each round of [`Agent::tell`].
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8; MAX_ANSWER]) -> Option<(SocketAddr, usize)> {
        self.now = self.now.max(now);
        self.events.next(&mut self.sessions, self.now, buffer)
    }

    #[inline(never)]
    fn dispatch<T: Translators + ?Sized>(
        &mut self,
        translators: &mut T,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let mut reader = Reader(datagram);
        if !(HEADER + TAG..=MAX_REQUEST).contains(&datagram.len()) {
            return Err(Refused::Foreign);
        }
        let start = Start::read(&mut reader).ok_or(Refused::Foreign)?;
        let handshake = datagram.len() == HANDSHAKE;
        match start.kind {
            kind::HELLO if handshake => self.hello(start.version, reader, &from, datagram, answer),
            _ if start.version != VERSION => Err(Refused::Version),
            kind::OPEN if handshake => self.open(start, reader, translators, from, datagram, answer),
            kind::REQUEST => self.request(start, reader, translators, from, datagram, answer),
            kind::HELLO | kind::OPEN => Err(Refused::Foreign),
            _ => Err(Refused::Kind),
        }
    }

    fn request<T: Translators + ?Sized>(
        &mut self,
        start: Start,
        mut reader: Reader<'_>,
        translators: &mut T,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let header = Header::read(start, &mut reader).ok_or(Refused::Foreign)?;
        let (now, limit) = (self.now, self.hashes());
        let (body, tag) = reader.0.split_last_chunk::<TAG>().ok_or(Refused::Foreign)?;
        let session = self.sessions.find(header.session).ok_or(Refused::UnknownSession)?;
        if session.is_idle(now) {
            *session = Session::NONE;
            return Err(Refused::UnknownSession);
        }
        // A request that cannot be new needs no hash.
        let order = match session.order(header.sequence, tag) {
            Order::Old => return Err(Refused::Old),
            Order::Conflicting => return Err(Refused::Conflicting),
            order @ (Order::New | Order::Again) => order,
        };
        session.authenticate(limit, now, order == Order::Again, &from, datagram)?;
        let Some(received) = Received::read(body) else {
            session.was_in_vain();
            return Err(Refused::Malformed);
        };
        if order == Order::New {
            session.begin(header.sequence, tag, now);
        }
        let mut out = Writer::new(answer);
        Header { kind: kind::ANSWER, ..header }.write(&mut out);
        if let Some(kept) = session.kept() {
            out.put(kept);
            return seal(out, &session.secret).ok_or(Refused::Malformed);
        }
        let rights = self.keys.get(session.key).map_or(Rights::Read, |key| key.rights);
        #[cfg(feature = "naming")]
        let names = translators.names().is_some();
        #[cfg(not(feature = "naming"))]
        let names = false;
        let from = Asking {
            session: header.session,
            #[cfg(feature = "naming")]
            key: session.key,
            #[cfg(feature = "naming")]
            names,
        };
        let done = if asks_for_measurements::<T>(&received) {
            self.report_to(translators, header.session, &rights, &received, &mut out)
        } else if translators.count() == 1
            && !names
            // That is refused, by the one that asks all of them.
            && !is_unrouted(translators, &received, &mut 0)
            && let Some(only) = translators.shard(0)
        {
            self.answer_request(&mut only.table(), from, &rights, &received, &mut out)
        } else {
            self.answer_request(&mut Several(translators), from, &rights, &received, &mut out)
        };
        let session = self.sessions.find(header.session).ok_or(Refused::UnknownSession)?;
        if done != Done::Read {
            session.keep(out.bytes().get(HEADER..).unwrap_or_default());
        }
        let sealed = seal(out, &session.secret);
        if done == Done::Close {
            *session = Session::NONE;
        }
        sealed.ok_or(Refused::Malformed)
    }

    /// Applies an authentic request, and writes the answer's body.
    #[inline(never)]
    fn answer_request<T: Subject>(
        &mut self,
        subject: &mut T,
        from: Asking,
        rights: &Rights,
        request: &Received<'_>,
        out: &mut Writer<'_>,
    ) -> Done {
        out.zeros(HEAD);
        let mut place = 0;
        let done = self.apply(subject, from, rights, request, &mut place, out);
        // The head is written last. A refusal consists of a head alone.
        let end = out.go_to(HEADER);
        let refusal = done.err().map(|refusal| (refusal, place));
        let dry_run = request.dry_run && matches!(done, Ok(Done::Change) | Err(_));
        Head { refusal, dry_run, generation: subject.generation() }.write(out);
        if done.is_ok() {
            out.go_to(end);
        }
        done.unwrap_or(Done::Change)
    }

    fn apply<T: Subject>(
        &mut self,
        subject: &mut T,
        from: Asking,
        rights: &Rights,
        request: &Received<'_>,
        place: &mut u8,
        out: &mut Writer<'_>,
    ) -> Result<Done, Refusal> {
        if !(1..=MAX_INSTRUCTIONS).contains(&usize::from(request.count)) {
            return Err(Refusal { code: Code::InstructionCount, detail: u32::from(request.count) });
        }
        if request.demanded.is_some_and(|demanded| !subject.has_generation(demanded)) {
            return Err(Code::Generation.into());
        }
        let mut first = Instruction::Close;
        let terms = Terms {
            request,
            rights,
            control: &self.control,
            #[cfg(feature = "naming")]
            key: from.key,
            #[cfg(feature = "naming")]
            names: from.names,
        };
        subject.apply(terms, place, &mut first, out)?;
        if first.is_change() {
            return Ok(Done::Change);
        }
        out.go_to(HEADER + HEAD);
        match first {
            Instruction::ListRules(position) => subject.list_rules(position, out),
            Instruction::ListConnections(position) => subject.list_connections(position, self.write_measured, out),
            #[cfg(feature = "naming")]
            Instruction::ListNames(position) => subject.list_names(position, out),
            Instruction::Counters => subject.list_counters(&self.refused, out),
            Instruction::Settings => subject.list_settings(*rights, out),
            Instruction::Subscribe { seconds, kinds } => {
                self.subscribe(from.session, seconds, kinds);
                return Ok(Done::Session);
            }
            _ => return Ok(Done::Close),
        }
        Ok(Done::Read)
    }

    fn subscribe(&mut self, id: [u8; 8], seconds: u16, kinds: Kinds) {
        let until = Instant::from_micros(self.now.as_micros().saturating_add(u64::from(seconds) * 1_000_000));
        if let Some(session) = self.sessions.find(id) {
            session.subscription = Subscription { until, kinds, ..session.subscription };
        }
    }
}

/// The session and the key of a request, and whether it can be about names.
#[derive(Clone, Copy, Debug)]
struct Asking {
    session: [u8; 8],
    /// The number of the session's key.
    #[cfg(feature = "naming")]
    key: u16,
    /// Whether the agent speaks for a naming server.
    #[cfg(feature = "naming")]
    names: bool,
}

/// The function that writes measurements; `None` if the storage has no room for them.
const fn write_measured<S: Storage>() -> Option<pages::WriteMeasured> {
    if S::MEASURES { Some(pages::measured) } else { None }
}

/// What kind of request was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// A read: if it is repeated, it is read again.
    Read,
    /// A change, or a refusal. Its answer is kept: a repetition changes nothing.
    Change,
    /// An instruction about the session. Its answer is kept too.
    Session,
    /// The session is closed.
    Close,
}

const _: () = assert!(HEADER + HEAD + MAX_INSTRUCTIONS * Effect::LENGTH + TAG <= MAX_ANSWER, "effects fit");
