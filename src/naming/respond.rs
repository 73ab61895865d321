//! The answer to a query: what it says, and how it is written.

use core::net::Ipv4Addr;

use super::cookie;
use super::counters::Outcome;
use super::lookup::Found;
use super::question::{
    Asked, Edns, HEADER, Header, IN, NameFault, OPT, PAYLOAD, Question, RecordFault, code, edns, flag, kind,
};
use super::storage::NameStorage;
use super::table::Names;
use crate::time::Instant;

/// The longest answer in bytes: header, question with the longest name, SOA record, OPT record with a cookie.
pub const MAX_ANSWER: usize = HEADER + 255 + 4 + SOA + OPT + COOKIE_OPTION;

/// What a datagram can take without EDNS (RFC 1035, section 4.2.1).
const PLAIN: usize = 512;

/// Lengths in bytes of the records that answers have.
const SOA: usize = 2 + 10 + 23;
const COOKIE_OPTION: usize = 4 + 8 + cookie::COOKIE;

/// How a query came.
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
    /// It is not ours: it goes on its way, untouched.
    Pass,
    /// The first so many bytes of the buffer are the answer. The query goes no further.
    Answer {
        /// How many bytes.
        length: usize,
    },
    /// It gets no answer and goes no further; the reason is counted.
    Drop(Outcome),
}

/// What an answer says.
struct Reply<'a> {
    outcome: Outcome,
    code: u16,
    /// How much of the query is repeated behind the header: its question, or nothing if that cannot be read.
    question: usize,
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
        self.state.now = self.state.now.max(now);
        let (outcome, answered) = match self.examine(client, transport, query) {
            Ok(reply) => self.send(client, transport, query, reply, out),
            Err(outcome @ (Outcome::Passed | Outcome::Suspended)) => (outcome, Answered::Pass),
            Err(outcome) => (outcome, Answered::Drop(outcome)),
        };
        self.state.counters.count(outcome);
        answered
    }

    /// What to answer. The error says why nothing is.
    #[inline]
    fn examine<'a>(&self, client: Ipv4Addr, transport: Transport, query: &'a [u8]) -> Result<Reply<'a>, Outcome> {
        let header = Header::read(query).ok_or(Outcome::NoHeader)?;
        if header.is_response() {
            return Err(Outcome::Response);
        }
        // Tunnels use port 53 too, and their packets pass: a DNS query in a datagram has few records.
        let is_dns = header.is_query() && (transport == Transport::Tcp || header.has_few_records());
        let malformed = |outcome| match is_dns {
            true => Ok(Reply::error(outcome, code::FORMERR, HEADER)),
            false => Err(Outcome::Passed),
        };
        match header.questions() {
            // No name, so not ours: a client may ask the server for a cookie so (RFC 7873, section 5.4).
            0 => return Err(Outcome::Passed),
            1 => {}
            // A server might answer the one that we do not look at (RFC 9619).
            _ if is_dns => return malformed(Outcome::Questions),
            _ => {}
        }
        let mut asked = Asked::EMPTY;
        match asked.read(query.get(HEADER..).unwrap_or_default()) {
            Ok(()) => {}
            // No server can find a name in it.
            Err(NameFault::Short) => return Err(Outcome::Passed),
            // A server that follows pointers might.
            Err(NameFault::Label) => return malformed(Outcome::QuestionLabel),
            Err(NameFault::Long) => return malformed(Outcome::QuestionLength),
        }
        let Some(found) = self.look_up(&asked, client) else {
            return Err(Outcome::Passed);
        };
        let question = Question::read(query, asked.length()).ok_or(Outcome::Passed)?;
        self.reply(client, query, header, found, question)
    }

    /// What to answer to a query for a name in the table.
    fn reply<'a>(
        &self,
        client: Ipv4Addr,
        query: &'a [u8],
        header: Header,
        found: Found,
        question: Question,
    ) -> Result<Reply<'a>, Outcome> {
        let slot = self.slot(found.number).ok_or(Outcome::Passed)?;
        if slot.is_suspended() {
            return Err(Outcome::Suspended);
        }
        let end = question.end;
        if !header.is_query() {
            return Ok(Reply::error(Outcome::NotImplemented, code::NOTIMP, end));
        }
        if header.has_answers() {
            return Ok(Reply::error(Outcome::Answers, code::FORMERR, end));
        }
        let edns = match edns(query.get(end..).unwrap_or_default(), header.additional()) {
            Ok(edns) => edns,
            Err(fault) => return Ok(Reply::error(fault.outcome(), code::FORMERR, end)),
        };
        let error = |outcome, code| Ok(Reply { edns, ..Reply::error(outcome, code, end) });
        if edns.is_some_and(|edns| edns.version != 0) {
            return error(Outcome::BadVersion, code::BADVERS);
        }
        if question.class != IN {
            return error(Outcome::Refused, code::REFUSED);
        }
        let owner = (HEADER + found.start) as u16;
        let is_own = found.start == 0 && !slot.is_suffix();
        let (outcome, records) = match question.kind {
            kind::OPT => return error(Outcome::Edns, code::FORMERR),
            kind::IXFR | kind::AXFR => return error(Outcome::Refused, code::REFUSED),
            // Of all types one that exists (RFC 8482, section 4.1).
            kind::A | kind::ANY => {
                let address = self.address_for(slot, client).ok_or(Outcome::Passed)?;
                (Outcome::Address, Records::Address { address, ttl: slot.ttl })
            }
            kind::SOA if is_own => (Outcome::Authority, Records::Soa { owner, is_answer: true }),
            _ => (Outcome::NoData, Records::Soa { owner, is_answer: false }),
        };
        Ok(Reply { outcome, code: code::NONE, question: end, records, edns })
    }

    /// Writes an answer, or a shorter one where the client's network has had too many.
    fn send(
        &mut self,
        client: Ipv4Addr,
        transport: Transport,
        query: &[u8],
        mut reply: Reply<'_>,
        out: &mut [u8],
    ) -> (Outcome, Answered) {
        let mut truncated = false;
        if transport == Transport::Udp {
            if self.is_proven(client, reply.edns) {
                self.state.counters.proven = self.state.counters.proven.wrapping_add(1);
            } else if !self.may_answer(client) {
                // Every second one, so that most of a flood stays unanswered and a real client soon gets through.
                let limited = [Outcome::LimitedDropped, Outcome::LimitedCookie, Outcome::LimitedTruncated];
                let so_far: u64 = limited.iter().map(|outcome| self.state.counters.of(*outcome)).sum();
                if so_far.is_multiple_of(2) || reply.code != code::NONE {
                    return (Outcome::LimitedDropped, Answered::Drop(Outcome::LimitedDropped));
                }
                reply.records = Records::None;
                if reply.edns.is_some_and(|edns| edns.cookie.is_some()) {
                    (reply.outcome, reply.code) = (Outcome::LimitedCookie, code::BADCOOKIE);
                } else {
                    (reply.outcome, reply.code, truncated) = (Outcome::LimitedTruncated, code::NONE, true);
                }
            }
        }
        let payload = match (transport, reply.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN,
            // Less counts as 512 (RFC 6891, section 6.2.3).
            (Transport::Udp, Some(edns)) => usize::from(edns.payload.min(PAYLOAD)).max(PLAIN),
        };
        let room = out.len().min(payload);
        let out = out.get_mut(..room).unwrap_or_default();
        if let Some(length) = self.write(client, query, &reply, truncated, out) {
            return (reply.outcome, Answered::Answer { length });
        }
        // Without the record (RFC 2181, section 9), and at last without the options.
        reply.records = Records::None;
        let length = self.write(client, query, &reply, true, out).or_else(|| {
            reply.edns = None;
            self.write(client, query, &reply, true, out)
        });
        match length {
            Some(length) => (Outcome::Truncated, Answered::Answer { length }),
            None => (Outcome::NoRoom, Answered::Drop(Outcome::NoRoom)),
        }
    }

    /// Whether a query's cookies show that its source is real.
    fn is_proven(&self, client: Ipv4Addr, edns: Option<Edns<'_>>) -> bool {
        let Some((own, server)) = edns.and_then(|edns| edns.cookie) else {
            return false;
        };
        let seconds = cookie::seconds(self.state.now);
        cookie::is_valid(self.state.cookie_key, client, own, server, seconds)
    }

    /// Writes an answer. `None` if there is no room for it.
    fn write(
        &self,
        client: Ipv4Addr,
        query: &[u8],
        reply: &Reply<'_>,
        truncated: bool,
        out: &mut [u8],
    ) -> Option<usize> {
        let header = Header::read(query)?;
        let mut out = Writer { out, at: 0 };
        // Echoed: the operation, what recursion is asked for, and that signatures are not to be checked (RFC 4035, section
        // 3.1.6). Not the others: no signature was checked here.
        let kept = flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED;
        let mut flags = header.flags() & kept | flag::RESPONSE | (reply.code & 0xf);
        if reply.code == code::NONE {
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
        let [id, ..] = header.0;
        let has_question = reply.question > HEADER;
        let counts = [has_question, is_answer, is_authority, reply.edns.is_some()].map(u16::from);
        for word in [id, flags].into_iter().chain(counts) {
            out.u16(word);
        }
        out.put(query.get(HEADER..reply.question)?);
        let Self { state, .. } = self;
        match reply.records {
            Records::None => {}
            Records::Address { address, ttl } => {
                record(&mut out, HEADER as u16, kind::A, ttl, 4);
                out.u32(address);
            }
            Records::Soa { owner, .. } => {
                let ttl = state.config.negative_ttl;
                record(&mut out, owner, kind::SOA, ttl, 23);
                // The server is the name itself, and no mailbox is responsible.
                out.u16(POINTER | owner);
                out.put(&[0]);
                for number in [state.generation, 3600, 600, 86_400, ttl] {
                    out.u32(number);
                }
            }
        }
        if let Some(edns) = reply.edns {
            out.put(&[0]);
            out.u16(kind::OPT);
            out.u16(PAYLOAD);
            out.put(&[(reply.code >> 4) as u8, 0, u8::from(edns.wants_dnssec) << 7, 0]);
            match edns.cookie {
                None => out.u16(0),
                Some((own, _)) => {
                    out.u16(COOKIE_OPTION as u16);
                    out.u16(10);
                    out.u16(8 + cookie::COOKIE as u16);
                    out.put(&own);
                    out.put(&self.cookie_for(client, own));
                }
            }
        }
        out.length()
    }
}

/// A compression pointer (RFC 1035, section 4.1.4).
const POINTER: u16 = 0xc000;

/// The fixed part of a record whose owner's name starts at this byte of the message.
fn record(out: &mut Writer<'_>, owner: u16, kind: u16, ttl: u32, length: u16) {
    for word in [POINTER | owner, kind, IN] {
        out.u16(word);
    }
    out.u32(ttl);
    out.u16(length);
}

impl Reply<'_> {
    const fn error(outcome: Outcome, code: u16, question: usize) -> Self {
        Self { outcome, code, question, records: Records::None, edns: None }
    }
}

impl RecordFault {
    const fn outcome(self) -> Outcome {
        match self {
            Self::Record => Outcome::Record,
            Self::Trailing => Outcome::Trailing,
            Self::Edns => Outcome::Edns,
            Self::Cookie => Outcome::CookieLength,
            Self::Signed => Outcome::Signed,
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
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// How much was written; `None` if something did not fit.
    const fn length(&self) -> Option<usize> {
        if self.at <= self.out.len() { Some(self.at) } else { None }
    }
}
