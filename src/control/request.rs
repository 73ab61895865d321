//! Several instructions as one request.

use super::MAX_INSTRUCTIONS;
use super::authentication::TAG;
use super::code::{Code, Refusal};
use super::datagram::{HEADER, MAX_REQUEST};
use super::forms::{MATCH, read_server};
use super::instruction::{Instruction, code};
use super::wire::{Reader, Writer};

use crate::table::rule::Target;

/// The most bytes of instructions in a request.
const ROOM: usize = MAX_REQUEST - HEADER - TAG - HEAD;

/// Bytes before the instructions.
const HEAD: usize = 8;

const DRY_RUN: u8 = 1;
const DEMANDS: u8 = 2;

/// The contents of one datagram of a monitor: one instruction of any kind, or several changes that take effect at once
/// or not at all.
///
/// ```
/// use byway::control::{Instruction, Request, Rule};
/// use byway::{Divert, Redivert, Target};
/// use core::net::{Ipv4Addr, SocketAddrV4};
///
/// let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 80);
/// let (old, new) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
/// let rule = Rule::new(&Divert::new(original).to(new)).unwrap();
///
/// let request = Request::new()
///     .and(Instruction::Divert(rule))?
///     .and(Instruction::Redivert { from: Target::Address(old), to: Target::Address(new), how: Redivert::Switch })?
///     .only_if(17); // only if the table's generation is 17
/// # let _ = request;
/// # Ok::<(), byway::control::TooLong>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request {
    bytes: [u8; ROOM],
    length: u16,
    count: u8,
    dry_run: bool,
    demanded: Option<u32>,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Request {
    /// How many instructions it has, not which.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Request {{ instructions: {}, bytes: {}, dry_run: {}, demanded: {} }}",
            self.count,
            self.length,
            self.dry_run,
            self.demanded
        );
    }
}

/// A request has no room for this instruction: there are too many, or they are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct TooLong {
    /// The number of the instruction that does not fit, from one.
    pub instruction: usize,
    /// How many bytes the instructions before it take.
    pub bytes: usize,
}

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { instruction, bytes } = self;
        if *instruction > MAX_INSTRUCTIONS {
            return write!(f, "a request holds {MAX_INSTRUCTIONS} instructions, and this is instruction {instruction}");
        }
        write!(f, "instruction {instruction} does not fit after {bytes} of {ROOM} bytes")
    }
}

impl core::error::Error for TooLong {}

impl Request {
    /// A request without instructions, which would be refused.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; ROOM], length: 0, count: 0, dry_run: false, demanded: None }
    }

    /// A request of one instruction; every instruction fits.
    #[must_use]
    pub fn one(instruction: Instruction) -> Self {
        Self::new().and(instruction).unwrap_or_default()
    }

    /// Adds an instruction.
    ///
    /// # Errors
    /// [`TooLong`] if it does not fit.
    pub fn and(mut self, instruction: Instruction) -> Result<Self, TooLong> {
        let too_long = TooLong { instruction: usize::from(self.count) + 1, bytes: usize::from(self.length) };
        if usize::from(self.count) >= MAX_INSTRUCTIONS {
            return Err(too_long);
        }
        let free = self.bytes.get_mut(usize::from(self.length)..).ok_or(too_long)?;
        let mut out = Writer::new(free);
        instruction.write(&mut out);
        let length = out.length().and_then(|l| u16::try_from(l).ok()).ok_or(too_long)?;
        self.length += length;
        self.count += 1;
        Ok(self)
    }

    /// Demands that the table has this generation; otherwise nothing is done ([`Code::Generation`]).
    ///
    /// [`Code::Generation`]: super::Code::Generation
    #[must_use]
    pub const fn only_if(mut self, generation: u32) -> Self {
        self.demanded = Some(generation);
        self
    }

    /// Asks what the changes would do, without applying them.
    #[must_use]
    pub const fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        let flag = |set, flag| if set { flag } else { 0 };
        out.u8(flag(self.dry_run, DRY_RUN) | flag(self.demanded.is_some(), DEMANDS));
        out.u8(self.count);
        out.u16(0);
        out.u32(self.demanded.unwrap_or(0));
        out.put(self.bytes.get(..usize::from(self.length)).unwrap_or_default());
    }
}

impl Default for Request {
    fn default() -> Self {
        Self::new()
    }
}

/// A received request. Its instructions are parsed again in each pass, which needs no memory; only then does it show
/// whether they are valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'a> {
    pub(super) dry_run: bool,
    pub(super) demanded: Option<u32>,
    pub(super) count: u8,
    instructions: &'a [u8],
}

impl<'a> Received<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let (flags, count) = (reader.u8()?, reader.u8()?);
        reader.zeros(2)?;
        let demanded = reader.u32()?;
        if flags & !(DRY_RUN | DEMANDS) != 0 || (flags & DEMANDS == 0 && demanded != 0) {
            return None;
        }
        let demanded = (flags & DEMANDS != 0).then_some(demanded);
        Some(Self { dry_run: flags & DRY_RUN != 0, demanded, count, instructions: reader.0 })
    }

    /// The instructions, as many as the request says it has; then an invalid one if anything is left over.
    pub(super) const fn instructions(&self) -> Instructions<'a> {
        Instructions { reader: Reader(self.instructions), left: self.count }
    }
}

/// An instruction in the form that it has in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a> {
    code: u8,
    /// `None` if the request ends before it, or continues after the last one.
    body: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    /// Parses it into `into`.
    pub(super) fn read(self, into: &mut Instruction) -> Result<(), Refusal> {
        if self.body.and_then(|body| into.read(self.code, body)).is_some() {
            return Ok(());
        }
        let unknown = self.body.is_some() && !code::is_known(self.code);
        let detail = u32::from(self.code);
        Err(if unknown { Refusal { code: Code::UnknownInstruction, detail } } else { Code::Malformed.into() })
    }

    /// The match of the rule that it inserts, updates or removes.
    #[inline(never)]
    pub(super) fn named(self) -> Option<&'a [u8; MATCH]> {
        if matches!(self.code, code::DIVERT | code::REMOVE) { self.body?.first_chunk() } else { None }
    }

    /// The old and the new server of a re-divert.
    #[inline(never)]
    pub(super) fn rediverted(self) -> Option<(Target, Target)> {
        if self.code != code::REDIVERT {
            return None;
        }
        let mut servers = Reader(self.body?.get(2..)?);
        Some((read_server(&mut servers)?.target, read_server(&mut servers)?.target))
    }

    /// Its number and its body.
    pub(super) const fn parts(self) -> (u8, Option<&'a [u8]>) {
        (self.code, self.body)
    }

    /// Refuses an instruction about names as unknown if the agent speaks for no naming server.
    #[cfg(feature = "naming")]
    pub(super) fn check_subject(self, names: bool) -> Result<(), Refusal> {
        let is_about_names = matches!(self.code, code::NAME | code::REMOVE_NAME | code::LIST_NAMES);
        if is_about_names && self.body.is_some() && !names {
            return Err(Refusal { code: Code::UnknownInstruction, detail: u32::from(self.code) });
        }
        Ok(())
    }

    /// The pattern and clients of the entry that it inserts, updates or removes, as bytes; equal bytes mean the same
    /// entry.
    #[cfg(feature = "naming")]
    pub(super) fn named_entry(self) -> Option<&'a [u8]> {
        if matches!(self.code, code::NAME | code::REMOVE_NAME) { super::entry::key_bytes(self.body?) } else { None }
    }

    #[cfg(feature = "naming")]
    fn is_change_of_names(self) -> bool {
        self.named_entry().is_some()
    }

    #[cfg(not(feature = "naming"))]
    #[inline]
    const fn is_change_of_names(self) -> bool {
        false
    }

    /// If it changes an entry: whether `later` changes the same one, which is not allowed. `None` otherwise.
    #[cfg(feature = "naming")]
    fn names_the_same(self, later: Self) -> Option<bool> {
        let key = self.named_entry()?;
        Some(later.named_entry() == Some(key))
    }

    #[cfg(not(feature = "naming"))]
    #[inline]
    const fn names_the_same(self, _: Self) -> Option<bool> {
        None
    }

    /// Whether both can be changes of one request, with `later` after this one: none may undo an earlier one, and
    /// re-diverts come last.
    pub(super) fn can_precede(self, later: Self) -> bool {
        let undone = match self.named() {
            Some(matches) => later.named() == Some(matches),
            None if self.code == code::REDIVERT => later.named().is_some() || later.is_change_of_names(),
            None => self.names_the_same(later).unwrap_or(self.code == later.code),
        };
        code::is_change(self.code) && code::is_change(later.code) && !undone
    }
}

/// Iterates over the instructions of a request.
#[derive(Clone, Debug)]
pub(super) struct Instructions<'a> {
    reader: Reader<'a>,
    left: u8,
}

impl<'a> Iterator for Instructions<'a> {
    type Item = Raw<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Raw<'a>> {
        const CUT_SHORT: Raw<'_> = Raw { code: 0, body: None };
        // There is nothing after an error.
        let Self { mut reader, left } = core::mem::replace(self, Self { reader: Reader(&[]), left: 0 });
        let Some(left) = left.checked_sub(1) else {
            return (!reader.is_empty()).then_some(CUT_SHORT);
        };
        let Some([code, 0, l0, l1]) = reader.array() else {
            return Some(CUT_SHORT);
        };
        let body = reader.take(usize::from(u16::from_be_bytes([l0, l1])));
        if body.is_some() {
            *self = Self { reader, left };
        }
        Some(Raw { code, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Divert, Match, Prefix, Protocol, Redivert, Target, Timeouts, Weighted, control::*};
    use core::net::{Ipv4Addr, SocketAddrV4};
    use std::vec::Vec;

    fn every_instruction() -> Vec<Instruction> {
        let host = Ipv4Addr::new(192, 0, 2, 7);
        let endpoint = SocketAddrV4::new(host, 8080);
        let network = Prefix::new(Ipv4Addr::new(10, 1, 0, 0), 16).unwrap();
        let matches = Match::from((network, 53)).protocol(Protocol::Udp).clients(Prefix::host(host));
        let group: Vec<_> = (0..16).map(|i| Weighted::new(SocketAddrV4::new(host, 1 + i), i)).collect();
        std::vec![
            Instruction::Divert(Rule::new(&Divert::new(matches).to_group(&group).keep_source()).unwrap()),
            Instruction::Divert(Rule::new(&Divert::new(endpoint).to(host).replies_from_any_port()).unwrap()),
            Instruction::Divert(Rule::new(&Divert::new(Prefix::ALL)).unwrap()),
            Instruction::Remove(matches),
            Instruction::Redivert { from: Target::Address(host), to: Target::Endpoint(endpoint), how: Redivert::Drain },
            Instruction::Redivert { from: Target::Same, to: Target::Address(host), how: Redivert::Reset },
            Instruction::SetTimeouts(Timeouts::RECOMMENDED),
            Instruction::SetClientLimit(500),
            Instruction::Forget,
            Instruction::ListRules(3),
            Instruction::ListConnections(u32::MAX),
            Instruction::Counters,
            Instruction::Settings,
            Instruction::Subscribe { seconds: 60, kinds: Kinds::MOVED.and(Kinds::CLOSED) },
            Instruction::Close,
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for instruction in every_instruction() {
            let request = Request::one(instruction).only_if(7).dry_run();
            let mut buffer = [0; MAX_REQUEST];
            let mut out = Writer::new(&mut buffer);
            request.write(&mut out);
            let length = out.length().unwrap();
            let received = Received::read(&buffer[..length]).unwrap();
            assert_eq!((received.dry_run, received.demanded, received.count), (true, Some(7), 1));
            let read = |received: Received<'_>| {
                let mut into = Instruction::Close;
                received.instructions().map(|i| i.read(&mut into).map(|()| into)).collect::<Vec<_>>()
            };
            assert_eq!(read(received), [Ok(instruction)]);
            // A request that is truncated, or has something after its end, is malformed.
            for cut in 8..length {
                let received = Received::read(&buffer[..cut]).unwrap();
                assert_eq!(read(received)[0], Err(Code::Malformed.into()), "{instruction:?} {cut}");
            }
            let received = Received::read(&buffer[..length + 1]).unwrap();
            assert_eq!(read(received), [Ok(instruction), Err(Code::Malformed.into())]);
        }
    }

    #[test]
    fn a_request_ends_somewhere() {
        let mut request = Request::new();
        for _ in 0..MAX_INSTRUCTIONS {
            request = request.and(Instruction::SetClientLimit(1)).unwrap();
        }
        assert_eq!(request.and(Instruction::SetClientLimit(1)).err(), Some(TooLong { instruction: 17, bytes: 16 * 8 }));
        let largest = every_instruction()[0];
        let two = Request::one(largest).and(largest).unwrap();
        assert!(matches!(two.and(largest), Err(TooLong { instruction: 3, bytes: 1.. })));
    }
}
