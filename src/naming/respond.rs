//! The answer to a query: what it says, and how it is written.

use core::net::Ipv4Addr;

use super::cookie::{self, COOKIES};
use super::counters::Outcome;
use super::index::Candidates;
use super::question::{Asked, Edns, HEADER, Header, IN, OPT, PAYLOAD, Question, code, edns, flag, kind};
use super::storage::NameStorage;
use super::table::Names;
use crate::time::Instant;

/// The longest answer in bytes: header, question with the longest name, SOA record, OPT record with a cookie.
pub const MAX_ANSWER: usize = HEADER + 255 + 4 + SOA + OPT + COOKIE_OPTION;

/// What a datagram can take without EDNS (RFC 1035, section 4.2.1).
const PLAIN: usize = 512;

/// Lengths in bytes of the records that answers have.
const SOA: usize = 2 + 10 + 23;
const COOKIE_OPTION: usize = 4 + COOKIES;

/// REFRESH, RETRY and EXPIRE of the SOA record: an hour, ten minutes and a day. Nobody transfers this zone.
const SOA_TIMES: [[u8; 4]; 3] = [3600_u32.to_be_bytes(), 600_u32.to_be_bytes(), 86_400_u32.to_be_bytes()];

/// How a query arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Transport {
    /// In a datagram, whose source anyone can forge.
    Udp,
    /// In a connection, so its source is real.
    Tcp,
}

/// What to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Answered {
    /// It is not ours: it goes on to the DNS server, untouched.
    Pass,
    /// The first `length` bytes of the buffer are the answer. The query goes no further.
    Answer {
        /// How many bytes.
        length: usize,
    },
    /// It gets no answer and goes no further; the reason is counted.
    Drop(Outcome),
}

/// A query, and what is known of it before an entry is looked at.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    client: Ipv4Addr,
    transport: Transport,
    message: &'a [u8],
    /// The message from its question's name on.
    name: &'a [u8],
    header: Header<'a>,
    /// That name, or the outcome of the query if it does not depend on the table.
    pub(super) asked: Result<Asked, Outcome>,
    pub(super) candidates: Candidates,
}

impl<'a> Query<'a> {
    /// Reads what a message asks; the candidates are still to be looked for.
    #[inline]
    pub(super) fn read(client: Ipv4Addr, transport: Transport, message: &'a [u8]) -> Self {
        let name = message.get(HEADER..).unwrap_or_default();
        let header = Header::read(message);
        let asked = header.ok_or(Outcome::NoHeader).and_then(|header| read(transport, header, name));
        let header = header.unwrap_or(Header::NONE);
        Self { client, transport, message, name, header, asked, candidates: Candidates::NONE }
    }
}

/// What an answer says.
struct Reply<'a> {
    outcome: Outcome,
    /// How much of the query is repeated: its header and question, or the header alone if that cannot be read.
    end: usize,
    records: Records,
    edns: Option<Edns<'a>>,
}

/// The record of an answer, with the byte at which its owner's name starts in the message.
#[derive(Clone, Copy)]
enum Records {
    None,
    Address {
        address: u32,
        ttl: u32,
    },
    /// The SOA record of the pattern: as an answer, or as the authority for there being none.
    Soa {
        owner: u16,
        is_answer: bool,
    },
}

impl<N: NameStorage> Names<N> {
    /// Answers a DNS message (RFC 1035) that came to a socket of the caller, into `out`: [`MAX_ANSWER`] bytes are always
    /// enough. `client` is where it came from.
    ///
    /// [`Answered::Pass`] says that it is for another name; the caller asks the DNS server, or refuses.
    ///
    /// ```
    /// use byway::Instant;
    /// use byway::naming::{Answered, FixedNames, MAX_ANSWER, NameEntry, Names, NamesConfig, Pattern, Transport};
    ///
    /// let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<4>::new());
    /// names.insert(NameEntry::new("www.bt.com".parse::<Pattern>()?).to([203, 0, 113, 7].into()))?;
    ///
    /// let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x02bt\x03cOm\0\0\x01\0\x01";
    /// let mut out = [0; MAX_ANSWER];
    /// let answered = names.answer(Instant::ZERO, [192, 0, 2, 1].into(), Transport::Udp, query, &mut out);
    /// let Answered::Answer { length } = answered else { panic!("{answered:?}") };
    /// assert_eq!(out[12..28], query[12..], "the question, letter by letter");
    /// assert_eq!(out[length - 4..length], [203, 0, 113, 7]);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn answer(
        &mut self,
        now: Instant,
        client: Ipv4Addr,
        transport: Transport,
        query: &[u8],
        out: &mut [u8],
    ) -> Answered {
        let query = self.examine(client, transport, query);
        self.respond(now, &query, out)
    }

    /// Reads what a query asks, and begins to prefetch the entry that it may be for.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn examine<'a>(&self, client: Ipv4Addr, transport: Transport, message: &'a [u8]) -> Query<'a> {
        let mut query = Query::read(client, transport, message);
        if let Ok(asked) = query.asked {
            query.candidates = self.candidates(self.hash_of(message, asked));
        }
        query
    }

    /// Answers a query that was examined.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn respond(&mut self, now: Instant, query: &Query<'_>, out: &mut [u8]) -> Answered {
        self.state.now = self.state.now.max(now);
        let (outcome, length) = match query.asked {
            // Nearly all queries for other names.
            Ok(_) if !self.may_have(query.candidates) => (Outcome::Passed, 0),
            Err(outcome) if outcome.code().is_none() => (outcome, 0),
            _ => self.respond_to_own(query, out),
        };
        self.state.counters.count(outcome);
        match outcome {
            Outcome::Passed | Outcome::Suspended => Answered::Pass,
            _ if length == 0 => Answered::Drop(outcome),
            _ => Answered::Answer { length },
        }
    }

    /// Answers a query that may be for a name of the table. Returns the length of the answer, too; zero if there is none.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn respond_to_own(&mut self, query: &Query<'_>, out: &mut [u8]) -> (Outcome, usize) {
        let mut reply = Reply { outcome: Outcome::Passed, end: HEADER, records: Records::None, edns: None };
        reply.outcome = match query.asked {
            Ok(asked) => self.find_reply(query, asked, &mut reply),
            Err(outcome) => outcome,
        };
        match reply.outcome {
            outcome @ (Outcome::Passed | Outcome::Suspended) => (outcome, 0),
            _ => self.send(query, &mut reply, out),
        }
    }

    /// What to answer to a query with one question.
    #[inline]
    fn find_reply<'a>(&self, query: &Query<'a>, asked: Asked, reply: &mut Reply<'a>) -> Outcome {
        let header = query.header;
        let found = self.look_up(query.name, asked, query.candidates, query.client);
        let question = Question::read(query.message, asked.length);
        let (Some((slot, start)), Some(question)) = (found, question) else {
            return Outcome::Passed;
        };
        if slot.is_suspended() {
            return Outcome::Suspended;
        }
        reply.end = question.end;
        let read;
        (reply.edns, read) = edns(query.message.get(question.end..).unwrap_or_default(), header.records());
        if !header.is_query() {
            return Outcome::NotImplemented;
        }
        // A query for changes of a zone has an SOA record in its authority section (RFC 1995, section 3).
        if header.has_answers() && question.kind != kind::IXFR {
            return Outcome::Answers;
        }
        if let Err(fault) = read {
            return fault;
        }
        if reply.edns.is_some_and(|edns| edns.version != 0) {
            return Outcome::BadVersion;
        }
        if question.class != IN {
            return Outcome::Refused;
        }
        let owner = (HEADER + start) as u16;
        match question.kind {
            kind::OPT => Outcome::Edns,
            kind::IXFR | kind::AXFR => Outcome::Refused,
            // For ANY, one of the types that exist (RFC 8482, section 4.1).
            kind::A | kind::ANY => {
                let Some(address) = self.address_for(slot, query.client) else {
                    return Outcome::Passed;
                };
                reply.records = Records::Address { address, ttl: slot.ttl };
                Outcome::Address
            }
            // The SOA record of the name itself, if it has an entry of its own.
            kind::SOA if start == 0 && !slot.is_suffix() => {
                reply.records = Records::Soa { owner, is_answer: true };
                Outcome::Authority
            }
            _ => {
                reply.records = Records::Soa { owner, is_answer: false };
                Outcome::NoData
            }
        }
    }

    /// Writes an answer, or a shorter one or none if the client's network has had too many.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn send(&mut self, query: &Query<'_>, reply: &mut Reply<'_>, out: &mut [u8]) -> (Outcome, usize) {
        let Query { client, transport, .. } = *query;
        let mut truncated = false;
        if transport == Transport::Udp {
            if self.is_proven(client, reply.edns.as_ref()) {
                self.state.counters.proven = self.state.counters.proven.wrapping_add(1);
            } else if !self.may_answer(client) {
                // Answer at most every second query, and briefly: at least half of a flood stays unanswered, and a real
                // client soon gets through.
                let limited = [Outcome::LimitedDropped, Outcome::LimitedCookie, Outcome::LimitedTruncated];
                let so_far = limited.iter().fold(0, |odd, outcome| odd ^ self.state.counters.of(*outcome));
                if so_far & 1 == 0 || reply.outcome.code() != Some(code::NONE) {
                    return (Outcome::LimitedDropped, 0);
                }
                reply.records = Records::None;
                if reply.edns.is_some_and(|edns| edns.cookies.is_some()) {
                    reply.outcome = Outcome::LimitedCookie;
                } else {
                    (reply.outcome, truncated) = (Outcome::LimitedTruncated, true);
                }
            }
        }
        let payload = match (transport, reply.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            // Lower values count as 512 (RFC 6891, section 6.2.3).
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.min(PAYLOAD)).max(PLAIN),
        };
        let room = out.len().min(payload);
        let out = out.get_mut(..room).unwrap_or_default();
        if let Some(length) = self.write(query, reply, truncated, out) {
            return (reply.outcome, length);
        }
        // It did not fit: try without the record (RFC 2181, section 9), and then without the OPT record too.
        reply.records = Records::None;
        let length = self.write(query, reply, true, out).or_else(|| {
            reply.edns = None;
            self.write(query, reply, true, out)
        });
        length.map_or((Outcome::NoRoom, 0), |length| (Outcome::Truncated, length))
    }

    /// Whether a query's cookies show that its source is real.
    fn is_proven(&self, client: Ipv4Addr, edns: Option<&Edns<'_>>) -> bool {
        let seconds = self.state.now.seconds();
        let cookies = edns.and_then(|edns| edns.cookies);
        cookies.is_some_and(|cookies| cookie::is_valid(self.state.cookie_key, client, cookies, seconds))
    }

    /// Writes an answer. `None` if there is no room for it.
    fn write(&self, query: &Query<'_>, reply: &Reply<'_>, truncated: bool, out: &mut [u8]) -> Option<usize> {
        let (header, code) = (query.header, u16::from(reply.outcome.code()?));
        let mut out = Writer { out, at: 0 };
        // Echoed: the opcode, RD and CD (RFC 4035, section 3.1.6). The others are not: no signature was checked here.
        let kept = flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED;
        let mut flags = header.flags() & kept | flag::RESPONSE | (code & 0xf);
        if code == u16::from(code::NONE) {
            flags |= flag::AUTHORITATIVE;
        }
        if self.state.config.recursion {
            flags |= flag::RECURSION_AVAILABLE;
        }
        if truncated {
            flags |= flag::TRUNCATED;
        }
        let is_answer = matches!(reply.records, Records::Address { .. } | Records::Soa { is_answer: true, .. });
        let is_authority = matches!(reply.records, Records::Soa { is_answer: false, .. });
        let has_question = reply.end > HEADER;
        let (questions, additional) = (u16::from(has_question), u16::from(reply.edns.is_some()));
        out.words(&[header.id(), flags, questions, is_answer.into(), is_authority.into(), additional]);
        out.put(query.message.get(HEADER..reply.end)?);
        let Self { state, .. } = self;
        match reply.records {
            Records::None => {}
            Records::Address { address, ttl } => {
                out.record(HEADER as u16, kind::A, ttl, 4);
                out.number(address);
            }
            Records::Soa { owner, .. } => {
                let ttl = state.config.negative_ttl;
                out.record(owner, kind::SOA, ttl, 23);
                // MNAME is the name itself, and RNAME the root, which means no mailbox.
                out.words(&[POINTER | owner]);
                out.put(&[0]);
                out.number(state.generation);
                out.put(SOA_TIMES.as_flattened());
                out.number(ttl);
            }
        }
        if let Some(edns) = reply.edns {
            let own = edns.cookies.and_then(<[u8]>::first_chunk);
            let options = if own.is_some() { COOKIE_OPTION as u8 } else { 0 };
            let [p0, p1] = PAYLOAD.to_be_bytes();
            let (extended, dnssec) = ((code >> 4) as u8, u8::from(edns.wants_dnssec) << 7);
            out.put(&[0, 0, kind::OPT as u8, p0, p1, extended, 0, dnssec, 0, 0, options]);
            if let Some(own) = own {
                let seconds = state.now.seconds();
                out.put(&[0, 10, 0, COOKIES as u8]);
                out.put(cookie::create(state.cookie_key, query.client, *own, seconds).as_flattened());
            }
        }
        out.length()
    }
}

/// Reads the name that a message with this header asks for, which `name` starts with. The error is the outcome of the
/// query.
#[inline]
fn read(transport: Transport, header: Header<'_>, name: &[u8]) -> Result<Asked, Outcome> {
    if header.is_response() {
        return Err(Outcome::Response);
    }
    // Tunnels use port 53 too, and their packets pass: a DNS query in a datagram has few records.
    let is_dns = header.is_query() && (transport == Transport::Tcp || header.has_few_records());
    let read = match header.questions() {
        // No name, so not ours: a client may ask the server for a cookie in this way (RFC 7873, section 5.4).
        0 => Err(Outcome::Passed),
        // A server might answer the question that is not examined here (RFC 9619).
        2.. if is_dns => Err(Outcome::Questions),
        1 => Asked::read(name),
        // Whatever it is, it is none of ours.
        2.. => Err(Outcome::Passed),
    };
    read.map_err(|fault| if is_dns { fault } else { Outcome::Passed })
}

/// A compression pointer (RFC 1035, section 4.1.4).
const POINTER: u16 = 0xc000;

impl Outcome {
    /// The response code of this outcome; `None` if there is no response.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    const fn code(self) -> Option<u8> {
        match self {
            Self::Address | Self::NoData | Self::Authority | Self::Truncated | Self::LimitedTruncated => {
                Some(code::NONE)
            }
            Self::QuestionLabel
            | Self::QuestionLength
            | Self::Questions
            | Self::Answers
            | Self::Record
            | Self::Trailing
            | Self::Edns
            | Self::CookieLength
            | Self::Signed => Some(code::FORMERR),
            Self::BadVersion => Some(code::BADVERS),
            Self::NotImplemented => Some(code::NOTIMP),
            Self::Refused => Some(code::REFUSED),
            Self::LimitedCookie => Some(code::BADCOOKIE),
            Self::Passed | Self::Suspended | Self::LimitedDropped | Self::Response | Self::NoHeader | Self::NoRoom => {
                None
            }
        }
    }
}

/// Writes from the front. What does not fit is left out, and counted: see [`Writer::length`].
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(to) = self.out.get_mut(self.at..end) {
            to.copy_from_slice(bytes);
        }
        self.at = end;
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn words(&mut self, words: &[u16]) {
        let end = self.at + words.len() * 2;
        if let Some(to) = self.out.get_mut(self.at..end) {
            for (to, word) in to.as_chunks_mut().0.iter_mut().zip(words) {
                *to = word.to_be_bytes();
            }
        }
        self.at = end;
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn number(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    /// The fixed part of a record whose owner's name starts at this byte of the message.
    fn record(&mut self, owner: u16, kind: u16, ttl: u32, length: u16) {
        self.words(&[POINTER | owner, kind, IN, (ttl >> 16) as u16, ttl as u16, length]);
    }

    /// How much was written; `None` if something did not fit.
    const fn length(&self) -> Option<usize> {
        if self.at <= self.out.len() { Some(self.at) } else { None }
    }
}
