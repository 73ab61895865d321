//! The monitor's side.

use super::answer::{Answer, Events, RefusedBy};
use super::authentication::{Nonce, Secret, TAG};
use super::code::Code;
use super::datagram::{
    Challenge, HANDSHAKE, HEADER, Header, Hello, MAX_ANSWER, MAX_REQUEST, Open, Refusing, Start, VERSION, kind, seal,
    session_of,
};
use super::report::Report;
use super::request::Request;
use super::wire::{Reader, Writer};
use core::fmt;
use core::time::Duration;

use crate::time::Instant;

/// The first wait for an answer, in milliseconds; each further one is twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: u64 = 250;

const LONGEST_WAIT: u64 = 2000;

/// How often a datagram is sent before giving up: over about 10 s (7 s to 12 s).
const ATTEMPTS: u8 = 7;

/// How often OPEN is sent before asking for another challenge: if another monitor has used the same session number
/// meanwhile, OPEN is never answered.
const OPENS: u8 = 2;

/// The monitor's side of one session: builds datagrams, says when to send them again, and reads the answers.
///
/// It opens its session by itself. One request is in progress at a time; a further one waits for its answer.
///
/// ```
/// use byway::Instant;
/// use byway::control::{Client, Incoming, Instruction, Request};
/// # let (secret, nonce, mut now) = ([1; 32], [2; 16], Instant::ZERO);
/// # fn send(_: &[u8]) {}
/// # fn receive(_until: Option<Instant>) -> Option<[u8; 64]> { None }
/// # let mut seconds = 0;
/// # let mut clock = || { seconds += 1; Instant::from_secs(seconds) };
/// // The nonce is 16 bytes of randomness, new for each session.
/// let mut client = Client::new(now, 1, secret, nonce);
/// let answered = loop {
///     match client.poll_transmit(now) {
///         Ok(Some(datagram)) => send(datagram),
///         Ok(None) => {}
///         Err(gave_up) => break Err(gave_up),
///     }
///     if let Some(datagram) = receive(client.poll_at()) {
///         match client.handle(now, &datagram) {
///             Ok(Incoming::Opened(_)) => client.send(now, &Request::one(Instruction::Counters)).unwrap(),
///             Ok(Incoming::Answer(answer)) => break Ok(answer.counters().count()),
///             _ => {}
///         }
///     }
///     now = clock();
/// };
/// # assert!(answered.is_err());
/// ```
#[derive(Clone)]
pub struct Client {
    hello: Hello,
    secret: Secret,
    state: State,
    session: [u8; 8],
    session_secret: Secret,
    sequence: u32,
    events: u32,
    reports: u32,
    /// The datagram in progress, until it is answered.
    buffer: [u8; MAX_REQUEST],
    length: u16,
    attempts: u8,
    /// How often OPEN was sent since the challenge.
    opens: u8,
    next: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum State {
    /// HELLO was sent.
    Greeting,
    /// OPEN was sent.
    Opening,
    /// Nothing is in progress.
    Idle,
    /// A request is in progress.
    Asking,
    /// There is no session: it was refused, or never answered.
    Over,
}

/// What the translator sent.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Incoming<'d> {
    /// The session is being opened; there is something to send ([`Client::poll_transmit`]).
    Challenged,
    /// The session is open. The answer contains the table's generation, or why there is no session.
    Opened(Answer<'d>),
    /// The answer to the request.
    Answer(Answer<'d>),
    /// Events that were subscribed to. They arrive until the subscription ends, also while a request is in progress.
    Events(Events<'d>),
    /// A page of a report of measurements that was subscribed to. They arrive as events do.
    Report(Report<'d>),
    /// The translator refuses to open a session.
    Refused(RefusedBy),
}

/// Why a datagram was ignored. Anyone can send one, so this is no reason to end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Ignored {
    /// It is not a datagram of this protocol, or not of this session.
    Foreign,
    /// Its tag is wrong.
    BadTag,
    /// It does not answer the datagram in progress: it is a duplicate, or late.
    NotAwaited,
    /// It is authentic, but cannot be parsed.
    Malformed,
}

/// There was no answer. It is not known whether the last request was applied: read the state, or ask again in a new
/// session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct GaveUp {
    /// The number of the request in its session; zero if no session was open yet.
    pub sequence: u32,
    /// How often it was sent.
    pub attempts: u8,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer to request {}, which was sent {} times", self.sequence, self.attempts)
    }
}

impl core::error::Error for GaveUp {}

/// Why a request cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SendError {
    /// The session is not open yet.
    NotOpen {
        /// The number of the key that it is being opened with.
        key: u16,
    },
    /// Another request is in progress.
    Busy {
        /// Its number in the session.
        sequence: u32,
    },
    /// There is no session, or it has used up its numbers: start a new one.
    Over {
        /// The number of its last request.
        sequence: u32,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen { key } => write!(f, "the session with key {key} is not open yet"),
            Self::Busy { sequence } => write!(f, "request {sequence} is still in progress"),
            Self::Over { sequence } => write!(f, "the session is over; its last request was {sequence}"),
        }
    }
}

impl core::error::Error for SendError {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Client");
        shown.field("key", &self.hello.key).field("state", &self.state).field("sequence", &self.sequence);
        shown.finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Client {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Client {{ key: {}, state: {}, sequence: {} }}", self.hello.key, self.state, self.sequence);
    }
}

fn greeting(hello: &Hello, secret: &Secret, buffer: &mut [u8; MAX_REQUEST]) -> u16 {
    let length = hello.write(VERSION, secret, buffer);
    length.map_or(0, |length| length as u16)
}

impl Client {
    /// Starts a session with the key `key`, whose secret is `secret`. `nonce` must come from a source of randomness and
    /// be new for each session: it proves to this side that the answers are fresh.
    #[must_use]
    pub fn new(now: Instant, key: u16, secret: [u8; 32], nonce: Nonce) -> Self {
        let mut client = Self {
            hello: Hello { key, nonce },
            secret: Secret(secret),
            state: State::Greeting,
            session: [0; 8],
            session_secret: Secret([0; 32]),
            sequence: 0,
            events: 0,
            reports: 0,
            buffer: [0; MAX_REQUEST],
            length: 0,
            attempts: 0,
            opens: 0,
            next: now,
        };
        client.length = greeting(&client.hello, &client.secret, &mut client.buffer);
        client
    }

    /// Whether a request can be sent now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Idle
    }

    /// Starts a request; [`Client::poll_transmit`] sends it.
    ///
    /// # Errors
    /// [`SendError`] if it cannot be sent now.
    pub fn send(&mut self, now: Instant, request: &Request) -> Result<(), SendError> {
        let sequence = self.sequence;
        match self.state {
            State::Idle => {}
            State::Over => return Err(SendError::Over { sequence }),
            State::Greeting | State::Opening => return Err(SendError::NotOpen { key: self.hello.key }),
            State::Asking => return Err(SendError::Busy { sequence }),
        }
        self.sequence = sequence.checked_add(1).ok_or(SendError::Over { sequence })?;
        let mut out = Writer::new(&mut self.buffer);
        Header { kind: kind::REQUEST, sequence: self.sequence, session: self.session }.write(&mut out);
        request.write(&mut out);
        let length = seal(out, &self.session_secret);
        self.begin(now, State::Asking, length);
        Ok(())
    }

    fn begin(&mut self, now: Instant, state: State, length: Option<usize>) {
        // Every datagram of this side is written by this module, and fits.
        self.length = length.and_then(|l| u16::try_from(l).ok()).unwrap_or(0);
        (self.state, self.attempts, self.next) = (state, 0, now);
    }

    /// The datagram to send now, if it is time. The same bytes are sent until they are answered.
    ///
    /// # Errors
    /// [`GaveUp`] once it has been sent seven times over seven to twelve seconds without an answer. A session that was
    /// being opened is over then; a request is abandoned, and the next one can be sent.
    pub fn poll_transmit(&mut self, now: Instant) -> Result<Option<&[u8]>, GaveUp> {
        let waiting = matches!(self.state, State::Greeting | State::Opening | State::Asking);
        if !waiting || now < self.next {
            return Ok(None);
        }
        if self.attempts >= ATTEMPTS {
            self.state = if self.state == State::Asking { State::Idle } else { State::Over };
            return Err(GaveUp { sequence: self.sequence, attempts: self.attempts });
        }
        let wait = (FIRST_WAIT << self.attempts).min(LONGEST_WAIT);
        // Randomly up to a quarter shorter or longer. Monitors that start at the same moment get the same challenge,
        // which only one of them can use; if they stayed in step, that would happen each time.
        let [chance, ..] = self.hello.nonce;
        let wait = wait - wait / 4 + ((wait * u64::from(chance)) >> 9);
        self.attempts += 1;
        self.next = now + Duration::from_millis(wait);
        if self.state == State::Opening {
            self.opens += 1;
            if self.opens > OPENS {
                self.length = greeting(&self.hello, &self.secret, &mut self.buffer);
                self.state = State::Greeting;
            }
        }
        Ok(self.buffer.get(..usize::from(self.length)))
    }

    /// When to call [`Client::poll_transmit`] next; `None` if nothing is in progress. Calling late sends late, calling
    /// early does nothing.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        matches!(self.state, State::Greeting | State::Opening | State::Asking).then_some(self.next)
    }

    /// Handles a datagram from the translator.
    ///
    /// # Errors
    /// [`Ignored`] says why it was ignored.
    pub fn handle<'d>(&mut self, now: Instant, datagram: &'d [u8]) -> Result<Incoming<'d>, Ignored> {
        if datagram.len() > MAX_ANSWER {
            return Err(Ignored::Foreign);
        }
        let mut reader = Reader(datagram);
        let start = Start::read(&mut reader).filter(|s| s.version == VERSION).ok_or(Ignored::Foreign)?;
        match start.kind {
            kind::CHALLENGE | kind::REFUSAL if datagram.len() == HANDSHAKE => {
                self.greeted(now, start.kind, reader, datagram)
            }
            kind::ANSWER => self.answered(start, reader, datagram),
            kind::EVENTS => self.events(start, reader, datagram),
            kind::REPORT => self.reported(start, reader, datagram),
            _ => Err(Ignored::Foreign),
        }
    }

    fn greeted<'d>(
        &mut self,
        now: Instant,
        which: u8,
        mut reader: Reader<'d>,
        datagram: &'d [u8],
    ) -> Result<Incoming<'d>, Ignored> {
        if self.state != State::Greeting {
            return Err(Ignored::NotAwaited);
        }
        if which == kind::REFUSAL {
            let refusing = Refusing::read(&mut reader).filter(|r| r.hello == self.hello).ok_or(Ignored::Foreign)?;
            if !self.secret.verifies(datagram) {
                return Err(Ignored::BadTag);
            }
            self.state = State::Over;
            let Refusing { code: number, detail, .. } = refusing;
            let code = Code::from_number(number);
            return Ok(Incoming::Refused(RefusedBy { code, number, instruction: 0, detail }));
        }
        let challenge = Challenge::read(&mut reader).filter(|c| c.hello == self.hello).ok_or(Ignored::Foreign)?;
        if !self.secret.verifies(datagram) {
            return Err(Ignored::BadTag);
        }
        let Hello { key, nonce } = self.hello;
        self.session = session_of(&challenge.nonce);
        self.session_secret = self.secret.session(key, challenge.number, &nonce, &challenge.nonce);
        let open = Open { key, number: challenge.number, nonce };
        let length = open.write(self.session, &self.session_secret, &mut self.buffer);
        // Earlier attempts count, so that this ends even if every challenge arrives too late.
        let attempts = self.attempts.saturating_sub(1);
        self.begin(now, State::Opening, length);
        (self.attempts, self.opens) = (attempts, 0);
        Ok(Incoming::Challenged)
    }

    /// Checks what the datagrams of a session have in common; returns header and body.
    fn session<'d>(
        &self,
        start: Start,
        mut reader: Reader<'d>,
        datagram: &[u8],
    ) -> Result<(Header, &'d [u8]), Ignored> {
        let header = Header::read(start, &mut reader).ok_or(Ignored::Foreign)?;
        let opened = !matches!(self.state, State::Greeting | State::Over);
        if header.session != self.session || !opened || datagram.len() < HEADER + TAG {
            return Err(Ignored::Foreign);
        }
        let (body, _) = reader.0.split_last_chunk::<TAG>().ok_or(Ignored::Foreign)?;
        if !self.session_secret.verifies(datagram) {
            return Err(Ignored::BadTag);
        }
        Ok((header, body))
    }

    fn answered<'d>(&mut self, start: Start, reader: Reader<'d>, datagram: &'d [u8]) -> Result<Incoming<'d>, Ignored> {
        let (header, body) = self.session(start, reader, datagram)?;
        if header.sequence != self.sequence || self.state == State::Idle {
            return Err(Ignored::NotAwaited);
        }
        let answer = Answer::read(body).ok_or(Ignored::Malformed)?;
        let opening = self.state == State::Opening;
        self.state = if opening && answer.refused().is_some() { State::Over } else { State::Idle };
        Ok(if opening { Incoming::Opened(answer) } else { Incoming::Answer(answer) })
    }

    fn events<'d>(&mut self, start: Start, reader: Reader<'d>, datagram: &'d [u8]) -> Result<Incoming<'d>, Ignored> {
        let (header, body) = self.session(start, reader, datagram)?;
        let missed = missed(self.events, header.sequence)?;
        let events = Events::read(body, missed).ok_or(Ignored::Malformed)?;
        self.events = header.sequence;
        Ok(Incoming::Events(events))
    }

    fn reported<'d>(&mut self, start: Start, reader: Reader<'d>, datagram: &'d [u8]) -> Result<Incoming<'d>, Ignored> {
        let (header, body) = self.session(start, reader, datagram)?;
        let missed = missed(self.reports, header.sequence)?;
        let report = Report::read(body, missed).ok_or(Ignored::Malformed)?;
        self.reports = header.sequence;
        Ok(Incoming::Report(report))
    }
}

/// How many datagrams are missing between the last one and this one, which must be a later one.
fn missed(last: u32, sequence: u32) -> Result<u32, Ignored> {
    sequence.checked_sub(last).and_then(|ahead| ahead.checked_sub(1)).ok_or(Ignored::NotAwaited)
}
