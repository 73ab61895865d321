//! What the relay reads in a client's query, what it changes in it, and what it answers itself.

use super::RelayOutcome;
use crate::naming::counters::Outcome;
use crate::naming::question::{Asked, Edns, HEADER, Header, OPT, PAYLOAD, Question, code, edns, flag, kind};
use crate::table::hash::{Keys, Label};

/// The number of the first draw for letters among the draws of an attempt: after those for its identifier and ports.
const LETTERS: u64 = 64;

/// A query that can be relayed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readable {
    /// How long the question's name is.
    pub(super) name: usize,
    /// Whether it is signed: what the signature covers must stay as it is, except for the identifier, which the signature
    /// carries itself (RFC 8945, section 4.2).
    pub(super) is_signed: bool,
}

/// Why a query is not relayed, and with which code its client is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) outcome: RelayOutcome,
    pub(super) code: u8,
    /// How much of the query is repeated: up to its question's end, or the header alone.
    pub(super) end: usize,
}

/// Reads a query.
pub(super) fn read(header: Header<'_>, message: &[u8]) -> Result<Readable, Refusal> {
    let refuse = |outcome, code, end| Err(Refusal { outcome, code, end });
    if !header.is_query() {
        return refuse(RelayOutcome::NotImplemented, code::NOTIMP, HEADER);
    }
    let asked = Asked::read(message.get(HEADER..).unwrap_or_default()).ok();
    let question = asked.and_then(|asked| Some((asked.length, Question::read(message, asked.length)?)));
    let (Some((name, question)), 1) = (question, header.questions()) else {
        return refuse(RelayOutcome::Malformed, code::FORMERR, HEADER);
    };
    if matches!(question.kind, kind::AXFR | kind::IXFR) {
        return refuse(RelayOutcome::Transfer, code::REFUSED, question.end);
    }
    let (_, read) = edns(message.get(question.end..).unwrap_or_default(), header.records());
    let is_signed = read == Err(Outcome::Signed);
    if header.has_answers() || (read.is_err() && !is_signed) {
        return refuse(RelayOutcome::Malformed, code::FORMERR, question.end);
    }
    Ok(Readable { name, is_signed })
}

/// Limits how long an answer a query asks for, if it has an OPT record.
pub(super) fn limit_payload(message: &mut [u8], name: usize, most: u16) {
    let records = Header::read(message).map_or(0, Header::records);
    let mut at = HEADER + name + 4;
    for _ in 0..records {
        at = after_name(message, at);
        let Some(fixed) = message.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<10>()) else { return };
        let [k0, k1, c0, c1, _, _, _, _, l0, l1] = fixed;
        if u16::from_be_bytes([*k0, *k1]) == kind::OPT {
            [*c0, *c1] = u16::from_be_bytes([*c0, *c1]).min(most).to_be_bytes();
            return;
        }
        at += 10 + usize::from(u16::from_be_bytes([*l0, *l1]));
    }
}

/// Where the name that starts here ends, in a message whose records were read before.
fn after_name(message: &[u8], mut at: usize) -> usize {
    loop {
        match message.get(at) {
            Some(length @ 1..=63) => at += 1 + usize::from(*length),
            // The root, or a pointer.
            Some(0) => return at + 1,
            _ => return at + 2,
        }
    }
}

/// Gives the letters of a name random case. Lengths of labels are below 64, so they are not letters.
pub(super) fn mix_case(keys: &Keys, nonce: u64, name: &mut [u8]) {
    let (mut bits, mut left, mut next) = (0, 0_u32, LETTERS);
    for byte in name.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
        if left == 0 {
            (bits, left) = (keys.choose(Label::Relay, [nonce, next]), u64::BITS);
            next += 1;
        }
        *byte = if bits & 1 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
        (bits, left) = (bits >> 1, left - 1);
    }
}

/// Writes an answer of our own to a query into `out`: its header and question up to `end`, a code, and an OPT record if
/// the query has one (RFC 6891, section 6.1.1). Returns its length, at most that of the query.
pub(super) fn answer(query: &[u8], end: usize, code: u8, is_truncated: bool, out: &mut [u8]) -> Option<usize> {
    let header = Header::read(query)?;
    let has_question = end > HEADER;
    let opt = if has_question { edns(query.get(end..)?, header.records()).0 } else { None };
    let copied = header.flags() & (flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    let truncated = if is_truncated { flag::TRUNCATED } else { 0 };
    let flags = flag::RESPONSE | copied | flag::RECURSION_AVAILABLE | truncated | u16::from(code);
    out.get_mut(..end)?.copy_from_slice(query.get(..end)?);
    let [_, _, f0, f1, counts @ ..] = out.first_chunk_mut::<HEADER>()?;
    [*f0, *f1] = flags.to_be_bytes();
    *counts = [0, u8::from(has_question), 0, 0, 0, 0, 0, u8::from(opt.is_some())];
    let Some(Edns { wants_dnssec, .. }) = opt else { return Some(end) };
    let [p0, p1] = PAYLOAD.to_be_bytes();
    let record = [0, 0, kind::OPT as u8, p0, p1, 0, 0, u8::from(wants_dnssec) << 7, 0, 0, 0];
    out.get_mut(end..end + OPT)?.copy_from_slice(&record);
    Some(end + OPT)
}
