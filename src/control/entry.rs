//! Entries of the naming server, in the forms of instructions and answers.

use super::forms::{MATCH, exact_prefix, match_bytes, read_match};
use super::wire::{Reader, Writer};
use core::net::Ipv4Addr;

use crate::divert::Match;
use crate::endpoint::Prefix;
use crate::naming::{ListedName, MAX_ADDRESSES, Name, NameEntry, Pattern, WeightedAddress, one_address};

/// Flag: the entry is tied to a rule, whose match follows.
const TIED: u8 = 1;
/// Flag: the rule of the entry is gone. Only in lists.
const SUSPENDED: u8 = 2;

/// Length in bytes of the key of an entry before its name.
const KEY_HEAD: usize = 7;

/// The most bytes that a listed entry takes.
pub(super) const MAX_LISTED: usize = KEY_HEAD + 255 + 6 + MAX_ADDRESSES * 6 + MATCH;

/// An entry in an instruction: like a [`NameEntry`], with room for its addresses; or one that is tied to a rule.
///
/// ```
/// use byway::Divert;
/// use byway::control::{Instruction, NamedEntry, Request, Rule};
/// use byway::naming::{NameEntry, Pattern};
/// use core::net::Ipv4Addr;
///
/// let www: Pattern = "www.bt.com".parse()?;
/// // Answered with the original that a rule diverts; rule and entry are entered together or not at all.
/// let rule = Divert::new(Ipv4Addr::new(100, 100, 100, 100)).to(Ipv4Addr::new(123, 45, 67, 89));
/// let entry = NamedEntry::tied(www, rule.matches()).ttl(86_400);
/// let request = Request::one(Instruction::Divert(Rule::new(&rule).unwrap())).and(Instruction::Name(entry))?;
///
/// // Answered with addresses of its own.
/// let other = NamedEntry::new(&NameEntry::new(www).to(Ipv4Addr::new(203, 0, 113, 1))).unwrap();
/// # let _ = (request, other);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NamedEntry {
    pattern: Pattern,
    clients: Prefix,
    ttl: u32,
    addresses: [WeightedAddress; MAX_ADDRESSES],
    count: u8,
    rule: Option<Match>,
}

const NO_ADDRESSES: [WeightedAddress; MAX_ADDRESSES] =
    [WeightedAddress { address: Ipv4Addr::UNSPECIFIED, weight: 0 }; MAX_ADDRESSES];

impl NamedEntry {
    /// Copies an entry. `None` if it has more than [`MAX_ADDRESSES`] addresses.
    #[must_use]
    pub fn new(entry: &NameEntry<'_>) -> Option<Self> {
        let mut addresses = NO_ADDRESSES;
        let own = entry.addresses();
        addresses.get_mut(..own.len())?.copy_from_slice(own);
        let NameEntry { pattern, clients, ttl, .. } = *entry;
        Some(Self { pattern, clients, ttl, addresses, count: own.len() as u8, rule: None })
    }

    /// An entry for these names that is answered with the original destination of a rule. The rule must be for a single
    /// address, and must exist or be inserted by the same request. While the entry is tied to it, the rule cannot be
    /// removed.
    #[must_use]
    pub fn tied(pattern: impl Into<Pattern>, rule: Match) -> Self {
        Self {
            pattern: pattern.into(),
            clients: Prefix::ALL,
            ttl: NameEntry::DEFAULT_TTL,
            addresses: NO_ADDRESSES,
            count: 0,
            rule: Some(rule),
        }
    }

    /// Limits the entry to clients within this prefix ([`NameEntry::clients`]).
    #[must_use]
    pub const fn clients(mut self, prefix: Prefix) -> Self {
        self.clients = prefix;
        self
    }

    /// How long clients may keep the answer, in seconds; [`NameEntry::DEFAULT_TTL`] unless set.
    #[must_use]
    pub const fn ttl(mut self, seconds: u32) -> Self {
        self.ttl = seconds;
        self
    }

    /// Which names it is for.
    #[must_use]
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Which clients it is for.
    #[must_use]
    pub const fn from_clients(&self) -> Prefix {
        self.clients
    }

    /// The match of the rule that it is tied to, if any.
    #[must_use]
    pub const fn rule(&self) -> Option<Match> {
        self.rule
    }

    /// The entry in the naming server's form. If it is tied to a rule, its address is the rule's original.
    #[must_use]
    pub fn entry(&self) -> NameEntry<'_> {
        let entry = NameEntry::new(self.pattern).clients(self.clients).ttl(self.ttl);
        match self.rule {
            Some(rule) => entry.to(one_address(rule.destination()).unwrap_or(Ipv4Addr::UNSPECIFIED)),
            None => entry.to_group(self.addresses.get(..usize::from(self.count)).unwrap_or_default()),
        }
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        write_key(out, &self.pattern, self.clients);
        let flags = if self.rule.is_some() { TIED } else { 0 };
        let own = self.addresses.iter().take(self.count.into()).copied();
        write_answer(out, self.ttl, flags, self.count, own, self.rule);
    }

    pub(super) fn read(body: &mut Reader<'_>) -> Option<Self> {
        let (pattern, clients) = read_key(body)?;
        let ttl = body.u32()?;
        let [flags @ 0..=TIED, count] = body.array()? else {
            return None;
        };
        let mut addresses = NO_ADDRESSES;
        for address in addresses.get_mut(..usize::from(count))? {
            *address = read_address(body)?;
        }
        let is_tied = flags & TIED != 0;
        let rule = if is_tied { Some(read_match(body)?) } else { None };
        (!is_tied || count == 0).then_some(Self { pattern, clients, ttl, addresses, count, rule })
    }
}

impl PartialEq for NamedEntry {
    fn eq(&self, other: &Self) -> bool {
        let all = |e: &Self| (e.pattern, e.clients, e.ttl, e.count, e.rule);
        all(self) == all(other) && self.addresses.iter().eq(other.addresses.iter())
    }
}

impl Eq for NamedEntry {}

/// Writes the key of an entry, which is unique: names and clients.
pub(super) fn write_key(out: &mut Writer<'_>, pattern: &Pattern, clients: Prefix) {
    let name = pattern.name().as_wire();
    out.u8(u8::from(pattern.is_suffix()));
    out.u8(clients.length());
    out.u32(clients.bits());
    out.u8(name.len() as u8);
    out.put(name);
}

pub(super) fn read_key(body: &mut Reader<'_>) -> Option<(Pattern, Prefix)> {
    let [suffix @ 0..=1, prefix, c0, c1, c2, c3, length] = body.array::<KEY_HEAD>()? else {
        return None;
    };
    let clients = exact_prefix(Ipv4Addr::new(c0, c1, c2, c3), prefix)?;
    let name = Name::from_exact_wire(body.take(length.into())?)?;
    Some((if suffix == 1 { Pattern::below(name) } else { Pattern::exact(name) }, clients))
}

/// The key at the beginning of a body, as bytes. Each key has one form, so equal bytes mean equal keys.
pub(super) fn key_bytes(body: &[u8]) -> Option<&[u8]> {
    let length = *body.get(KEY_HEAD - 1)?;
    body.get(..KEY_HEAD + usize::from(length))
}

fn write_answer(
    out: &mut Writer<'_>,
    ttl: u32,
    flags: u8,
    count: u8,
    addresses: impl Iterator<Item = WeightedAddress>,
    rule: Option<Match>,
) {
    out.u32(ttl);
    out.u8(flags);
    out.u8(count);
    for WeightedAddress { address, weight } in addresses {
        out.u32(address.to_bits());
        out.u16(weight);
    }
    if let Some(rule) = rule {
        out.put(&match_bytes(&rule));
    }
}

fn read_address(reader: &mut Reader<'_>) -> Option<WeightedAddress> {
    Some(WeightedAddress { address: reader.address()?, weight: reader.u16()? })
}

/// Writes an entry in the form of a list.
pub(super) fn write_listed(out: &mut Writer<'_>, entry: &ListedName<'_>) {
    let rule = entry.rule();
    let flags = if rule.is_some() { TIED } else { 0 } | if entry.is_suspended() { SUSPENDED } else { 0 };
    write_key(out, &entry.pattern(), entry.clients());
    write_answer(out, entry.ttl(), flags, entry.addresses().count() as u8, entry.addresses(), rule);
}

/// An entry as listed in an answer.
#[derive(Clone, Copy, Debug)]
pub struct ListedEntry<'a> {
    pattern: Pattern,
    clients: Prefix,
    ttl: u32,
    flags: u8,
    addresses: &'a [u8],
    rule: Option<Match>,
}

#[cfg(feature = "defmt")]
impl defmt::Format for ListedEntry<'_> {
    /// Its names and its rule.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "ListedEntry {{ pattern: {}, rule: {} }}", self.pattern, self.rule);
    }
}

impl<'a> ListedEntry<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let (pattern, clients) = read_key(reader)?;
        let (ttl, flags, count) = (reader.u32()?, reader.u8()?, reader.u8()?);
        let addresses = reader.take(usize::from(count) * 6)?;
        let rule = if flags & TIED != 0 { Some(read_match(reader)?) } else { None };
        Some(Self { pattern, clients, ttl, flags, addresses, rule })
    }

    /// Which names it is for.
    #[must_use]
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Which clients it is for.
    #[must_use]
    pub const fn clients(&self) -> Prefix {
        self.clients
    }

    /// How long clients may keep the answer, in seconds.
    #[must_use]
    pub const fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The addresses that it is answered with.
    pub fn addresses(&self) -> impl Iterator<Item = WeightedAddress> + use<'a> {
        let mut reader = Reader(self.addresses);
        core::iter::from_fn(move || read_address(&mut reader))
    }

    /// The match of the rule that it is tied to, if any.
    #[must_use]
    pub const fn rule(&self) -> Option<Match> {
        self.rule
    }

    /// Whether its rule is gone, so that its names are not answered.
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.flags & SUSPENDED != 0
    }
}

/// How many entries a naming server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct NameSizes {
    /// How many there are.
    pub entries: u32,
    /// How many there is room for.
    pub capacity: u32,
}
