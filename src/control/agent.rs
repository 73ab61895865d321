//! The translator's side.

use core::net::{SocketAddr, SocketAddrV4};

use super::answer::{HEAD, Head};
use super::apply::Change;
use super::authentication::{Key, Keys, Rights, Secret, TAG};
use super::code::{Code, Effect, Refusal};
use super::datagram::{
    Challenge, HANDSHAKE, HEADER, Header, Hello, MAX_ANSWER, MAX_REQUEST, Open, Refusing, Start, VERSION, kind, seal,
};
use super::instruction::{Instruction, Kinds};
use super::refused::Refused;
use super::request::Received;
use super::session::{Budget, DEFAULT_HASHES, Order, Session, Sessions, Subscription};
use super::telling::Telling;
use super::wire::{Reader, Writer};
use super::{MAX_INSTRUCTIONS, pages};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;

/// Why a key was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyError {
    /// There is another key with this number.
    Taken {
        /// The number.
        id: u16,
    },
    /// There is no room for another key.
    Full {
        /// How many keys there is room for.
        capacity: usize,
    },
}

impl core::fmt::Display for KeyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Taken { id } => write!(f, "there is another key {id}"),
            Self::Full { capacity } => write!(f, "no room for another key: there are {capacity}"),
        }
    }
}

impl core::error::Error for KeyError {}

/// The translator's side: takes a datagram, changes or reads the translator, and writes the answer.
///
/// It knows up to `KEYS` keys and up to `SESSIONS` monitors at once; with as many sessions as keys, no key can keep
/// another out. It has no socket: hand it what comes to the port for instructions, and send what it writes.
///
/// ```
/// use byway::control::{Agent, Key, MAX_ANSWER, Rights};
/// use byway::{Config, Fixed, Instant, Translator};
/// # let entropy = [1; 32];
/// # let secret = [2; 32];
/// let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
/// let mut agent = Agent::<2, 4>::new(entropy); // 32 octets of the machine's randomness, new at each start
/// agent.add_key(Key::new(1, secret, Rights::All))?;
///
/// # let (now, from, received) = (Instant::ZERO, "192.0.2.1:5213".parse().unwrap(), [0_u8; 64]);
/// let mut answer = [0; MAX_ANSWER];
/// if let Ok(length) = agent.handle(now, &mut byway, from, &received, &mut answer) {
///     // send answer[..length] to `from`
/// # let _ = length;
/// }
/// // From time to time:
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
pub struct Agent<const KEYS: usize, const SESSIONS: usize> {
    keys: Keys<KEYS>,
    pub(super) sessions: Sessions<SESSIONS>,
    boot: Secret,
    /// How many sessions were opened since the start.
    opened: u32,
    pub(super) now: Instant,
    control: Option<SocketAddrV4>,
    /// What may be hashed for those who have no session, and in vain within sessions.
    handshakes: Budget,
    failures: Budget,
    refused: [u64; Refused::ALL.len()],
    pub(super) telling: Telling,
}

impl<const KEYS: usize, const SESSIONS: usize> Agent<KEYS, SESSIONS> {
    /// An agent without keys, which refuses everything.
    ///
    /// `entropy` must come from the machine's source of randomness and be new at each start: that is what makes a
    /// recorded session worthless after a restart.
    #[must_use]
    pub const fn new(entropy: [u8; 32]) -> Self {
        Self {
            keys: Keys::NONE,
            sessions: Sessions::NONE,
            boot: Secret(entropy),
            opened: 0,
            now: Instant::ZERO,
            control: None,
            handshakes: Budget::new(DEFAULT_HASHES),
            failures: Budget::new(DEFAULT_HASHES),
            refused: [0; Refused::ALL.len()],
            telling: Telling::NOTHING,
        }
    }

    /// Says where instructions come to, so that no rule can divert just that.
    #[must_use]
    pub const fn listening_on(mut self, control: SocketAddrV4) -> Self {
        self.control = Some(control);
        self
    }

    /// How many datagrams in a second may cost a hash in vain. Default: 100.
    ///
    /// It holds for two kinds apart: attempts to open a session, and, within sessions, datagrams with wrong tags and
    /// repeated requests. What comes beyond is refused unseen ([`Refused::Flooded`]), so that a flood leaves the
    /// processor to the traffic. A flood by somebody who knows a key's number keeps new sessions from being opened
    /// meanwhile; those that are open go on, since their numbers are known only to who can see them.
    #[must_use]
    pub const fn hashes_per_second(mut self, limit: u32) -> Self {
        (self.handshakes, self.failures) = (Budget::new(limit), Budget::new(limit));
        self
    }

    /// Adds a key. To change keys without a gap add the new one, let the monitors change over, and remove the old one.
    ///
    /// # Errors
    /// [`KeyError`] if its number is taken or there is no room.
    pub fn add_key(&mut self, key: Key) -> Result<(), KeyError> {
        if self.keys.get(key.id).is_some() {
            return Err(KeyError::Taken { id: key.id });
        }
        if self.keys.push(key) { Ok(()) } else { Err(KeyError::Full { capacity: KEYS }) }
    }

    /// Removes a key and ends its sessions. Whether there was one.
    pub fn remove_key(&mut self, id: u16) -> bool {
        self.sessions.end(|s| s.key == id);
        self.keys.remove(id)
    }

    /// How many datagrams got no answer for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or(0)
    }

    /// Takes a datagram that came from `from`, carries out what it says, and writes the answer into `answer`; returns
    /// the answer's length. The answer goes back to `from`.
    ///
    /// What is not authentic costs a look at a table, or for one who can see the traffic or has heard a key's number
    /// a few blocks of hash; it never changes anything.
    ///
    /// # Errors
    /// [`Refused`] if there is nothing to answer. It is counted.
    pub fn handle<S: Storage>(
        &mut self,
        now: Instant,
        translator: &mut Translator<S>,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        self.now = self.now.max(now);
        let handled = self.dispatch(translator, from, datagram, answer);
        if let Err(reason) = handled
            && let Some(count) = self.refused.get_mut(reason as usize)
        {
            *count = count.wrapping_add(1);
        }
        handled
    }

    fn dispatch<S: Storage>(
        &mut self,
        translator: &mut Translator<S>,
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
            kind::HELLO if handshake => {
                self.begin_handshake()?;
                self.hello(start.version, reader, datagram, answer)
            }
            _ if start.version != VERSION => Err(Refused::Version),
            kind::OPEN if handshake => self.open(start, reader, translator.generation(), from, datagram, answer),
            kind::REQUEST => self.request(start, reader, translator, from, datagram, answer),
            kind::HELLO | kind::OPEN => Err(Refused::Foreign),
            _ => Err(Refused::Kind),
        }
    }

    /// Somebody wants a session. He gets a challenge, which costs no memory; it is authenticated and has the size of
    /// what he sent. The layout of this one datagram is the same in all versions.
    fn hello(
        &self,
        version: u8,
        mut reader: Reader<'_>,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let hello = Hello::read(&mut reader).ok_or(Refused::Foreign)?;
        let key = self.keys.get(hello.key).ok_or(Refused::UnknownKey)?;
        if !key.secret.verifies(datagram) {
            return Err(Refused::BadTag);
        }
        let written = if version != VERSION {
            let detail = u32::from(VERSION) << 8 | u32::from(VERSION);
            Refusing { hello, code: Code::UnknownVersion.number(), detail }.write(&key.secret, answer)
        } else {
            self.challenge(hello).ok_or(Refused::Stale)?.write(&key.secret, answer)
        };
        written.ok_or(Refused::Malformed)
    }

    /// Counts an attempt to open a session, before anything is hashed for it.
    fn begin_handshake(&mut self) -> Result<(), Refused> {
        if !self.handshakes.is_left(self.now) {
            return Err(Refused::Flooded);
        }
        self.handshakes.spend();
        Ok(())
    }

    /// The challenge for the next session. Each number opens one session at most; what two monitors get before either
    /// has used it bears the same number, and the slower one asks again. `None` after 2^32 sessions.
    fn challenge(&self, hello: Hello) -> Option<Challenge> {
        let number = self.opened.checked_add(1)?;
        Some(Challenge { hello, nonce: self.boot.challenge(hello.key, number, &hello.nonce), number })
    }

    fn open(
        &mut self,
        start: Start,
        mut reader: Reader<'_>,
        generation: u32,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let header = Header::read(start, &mut reader).ok_or(Refused::Foreign)?;
        let open = Open::read(&mut reader).ok_or(Refused::Foreign)?;
        let head = Head { refusal: None, dry_run: false, generation };
        if let Some(session) = self.sessions.find(header.session) {
            // It was opened already, and the answer was lost.
            if session.sequence != 0 {
                return Err(Refused::Old);
            }
            if !self.failures.is_left(self.now) {
                return Err(Refused::Flooded);
            }
            self.failures.spend();
            if !session.secret.verifies(datagram) {
                return Err(Refused::BadTag);
            }
            if session.peer != from {
                return Err(Refused::Peer);
            }
            return write_head(&session.secret, header, head, answer);
        }
        let key = self.keys.get(open.key).cloned().ok_or(Refused::UnknownKey)?;
        self.begin_handshake()?;
        let hello = Hello { key: open.key, nonce: open.nonce };
        let challenge = self.challenge(hello).ok_or(Refused::Stale)?;
        // The session's number is no secret: it was in the challenge.
        if challenge.number != open.number || challenge.session() != header.session {
            return Err(Refused::Stale);
        }
        let secret = key.secret.session(key.id, challenge.number, &open.nonce, &challenge.nonce);
        if !secret.verifies(datagram) {
            return Err(Refused::BadTag);
        }
        let session = Session::new(header.session, secret.clone(), key.id, from, self.now);
        if self.sessions.insert(session) {
            self.opened = challenge.number;
            write_head(&secret, header, head, answer)
        } else {
            let refusal = Some((Code::NoSession.into(), 0));
            write_head(&secret, header, Head { refusal, ..head }, answer)
        }
    }

    fn request<S: Storage>(
        &mut self,
        start: Start,
        mut reader: Reader<'_>,
        translator: &mut Translator<S>,
        from: SocketAddr,
        datagram: &[u8],
        answer: &mut [u8; MAX_ANSWER],
    ) -> Result<usize, Refused> {
        let header = Header::read(start, &mut reader).ok_or(Refused::Foreign)?;
        let now = self.now;
        let (body, tag) = reader.0.split_last_chunk::<TAG>().ok_or(Refused::Foreign)?;
        let failures_left = self.failures.is_left(now);
        let session = self.sessions.find(header.session).ok_or(Refused::UnknownSession)?;
        // What cannot be new needs no hash.
        let order = match session.order(header.sequence, tag) {
            Order::Old => return Err(Refused::Old),
            Order::Conflicting => return Err(Refused::Conflicting),
            order @ (Order::New | Order::Again) => order,
        };
        if !failures_left {
            return Err(Refused::Flooded);
        }
        if !session.secret.verifies(datagram) {
            self.failures.spend();
            return Err(Refused::BadTag);
        }
        if session.peer != from {
            self.failures.spend();
            return Err(Refused::Peer);
        }
        if order == Order::Again {
            self.failures.spend();
        }
        if session.is_idle(now) {
            self.sessions.end(|s| s.id == header.session);
            return Err(Refused::UnknownSession);
        }
        let received = Received::read(body).ok_or(Refused::Malformed)?;
        session.last = now;
        if order == Order::New {
            session.begin(header.sequence, tag);
        }
        let (id, key, secret) = (session.id, session.key, session.secret.clone());
        let answering = Header { kind: kind::ANSWER, ..header };
        if let Some(kept) = session.kept() {
            return write_body(&secret, answering, kept, answer);
        }

        let rights = self.keys.get(key).map_or(Rights::Read, |key| key.rights);
        let mut out = Writer::new(answer.get_mut(..MAX_ANSWER - TAG).unwrap_or_default());
        answering.write(&mut out);
        let done = self.obey(translator, id, rights, &received, &mut out);
        let length = out.length().ok_or(Refused::Malformed)?;
        if done == Done::Keep
            && let Some(session) = self.sessions.find(id)
        {
            session.keep(answer.get(HEADER..length).unwrap_or_default());
        }
        let (said, rest) = answer.split_at_mut_checked(length).ok_or(Refused::Malformed)?;
        *rest.first_chunk_mut().ok_or(Refused::Malformed)? = secret.tag(said);
        if done == Done::Close {
            self.sessions.end(|s| s.id == id);
        }
        Ok(length + TAG)
    }

    /// Does what an authentic request says, and writes the answer's body.
    fn obey<S: Storage>(
        &mut self,
        translator: &mut Translator<S>,
        id: [u8; 8],
        rights: Rights,
        request: &Received<'_>,
        out: &mut Writer<'_>,
    ) -> Done {
        let generation = translator.generation();
        let head = Head { refusal: None, dry_run: request.dry_run, generation };
        let refuse = |out: &mut Writer<'_>, refusal: Refusal, place: u8| {
            Head { refusal: Some((refusal, place)), ..head }.write(out);
            Done::Keep
        };
        if !(1..=MAX_INSTRUCTIONS).contains(&usize::from(request.count)) {
            let refusal = Refusal { code: Code::InstructionCount, detail: u32::from(request.count) };
            return refuse(out, refusal, 0);
        }
        if request.demanded.is_some_and(|demanded| demanded != generation) {
            return refuse(out, Code::Generation.into(), 0);
        }
        let mut instructions = request.instructions();
        let first = match instructions.next() {
            Some(Ok(first)) => first,
            Some(Err(unreadable)) => return refuse(out, unreadable.into(), 0),
            None => return refuse(out, Code::Malformed.into(), 0),
        };
        if first.is_change() {
            let control = self.control;
            return match (Change { translator, rights, control }).carry_out(request) {
                Ok(effects) => {
                    Head { generation: translator.generation(), ..head }.write(out);
                    effects.iter().for_each(|effect| out.put(&effect.octets()));
                    Done::Keep
                }
                Err((refusal, place)) => refuse(out, refusal, place),
            };
        }
        match instructions.next() {
            None => {}
            Some(Err(unreadable)) => return refuse(out, unreadable.into(), 1),
            Some(Ok(_)) => return refuse(out, Code::BadTransaction.into(), 1),
        }
        let head = Head { dry_run: false, ..head };
        head.write(out);
        match first {
            Instruction::ListRules(position) => pages::rules(translator, position, out),
            Instruction::ListConnections(position) => pages::connections(translator, position, out),
            Instruction::Counters => {
                let refused = self.refused;
                pages::counters(translator, |reason| refused.get(reason as usize).copied().unwrap_or(0), out);
            }
            Instruction::Settings => pages::settings(translator, rights, out),
            Instruction::Subscribe { seconds, kinds } => {
                self.subscribe(id, seconds, kinds);
                return Done::Keep;
            }
            _ => return Done::Close,
        }
        Done::Read
    }

    fn subscribe(&mut self, id: [u8; 8], seconds: u16, kinds: Kinds) {
        let until = self.now + core::time::Duration::from_secs(u64::from(seconds));
        if let Some(session) = self.sessions.find(id) {
            let sequence = session.subscription.map_or(0, |s| s.sequence);
            // A subscription that has ended is kept for its number, which must not be used twice in a session.
            session.subscription = Some(Subscription { until, kinds, sequence });
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It was a read: if it comes again, it is read again.
    Read,
    /// Its answer is kept: if it comes again, nothing is done.
    Keep,
    /// The session is over.
    Close,
}

fn write_head(secret: &Secret, header: Header, head: Head, answer: &mut [u8; MAX_ANSWER]) -> Result<usize, Refused> {
    let mut body = [0; HEAD];
    head.write(&mut Writer::new(&mut body));
    write_body(secret, Header { kind: kind::ANSWER, ..header }, &body, answer)
}

fn write_body(secret: &Secret, header: Header, body: &[u8], answer: &mut [u8; MAX_ANSWER]) -> Result<usize, Refused> {
    let mut out = Writer::new(answer);
    header.write(&mut out);
    out.put(body);
    seal(out, secret).ok_or(Refused::Malformed)
}

const _: () = assert!(HEADER + HEAD + MAX_INSTRUCTIONS * Effect::LENGTH + TAG <= MAX_ANSWER, "effects fit");
