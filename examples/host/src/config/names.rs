//! The names that are answered here rather than by a DNS server.

use core::net::Ipv4Addr;
use core::time::Duration;

use byway::naming::{
    HeapNames, ListedName, MAX_ADDRESSES, NameEntry, Names, NamesConfig, Pattern, WeightedAddress,
};
use byway::{Match, ParseError, Prefix, Target};

use super::ADDRESS;
use super::document::{Fault, Table, Value};
use super::nat::Nat;
use super::pool::Pooled;
use super::relay::{self, RelaySection};
use super::rules::{self, Groups, Rule};
use crate::packet;

/// The section `[names]`.
#[derive(Clone, Debug)]
pub struct NamesSection {
    /// The DNS servers to which queries are intercepted.
    pub servers: Prefix,
    /// The source address of relayed queries; `router.address` if `None`.
    pub address: Option<Ipv4Addr>,
    /// How many entries there is room for.
    pub capacity: usize,
    answers_per_second: u32,
    negative_ttl: u32,
    recursion: bool,
    /// The prefix that originals are drawn from.
    pub pool: Option<Prefix>,
    /// The entries, in the file's order, followed by those whose originals were drawn.
    pub entries: Vec<Entry>,
    /// The entries whose originals are to be drawn.
    pub pooled: Vec<Pooled>,
    /// How queries that clients send to this machine itself are relayed.
    pub relay: Option<RelaySection>,
}

/// An entry as it stands in a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which names it is for.
    pub pattern: Pattern,
    /// Which clients it is for.
    pub clients: Prefix,
    /// How long clients may keep the answer, in seconds.
    pub ttl: u32,
    /// What it is answered with.
    pub answer: Answer,
    pub(super) place: Fault,
}

/// What an entry is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of these addresses.
    Addresses(Vec<WeightedAddress>),
    /// The original of the rule with this match.
    Rule(Match),
}

impl PartialEq for Entry {
    /// The place in the file does not matter.
    fn eq(&self, other: &Self) -> bool {
        (self.key(), self.ttl, &self.answer) == (other.key(), other.ttl, &other.answer)
    }
}

impl Entry {
    /// An entry as it stands in a table.
    #[must_use]
    pub fn of(listed: &ListedName<'_>) -> Self {
        let answer = match listed.rule() {
            Some(rule) => Answer::Rule(rule),
            None => Answer::Addresses(listed.addresses().collect()),
        };
        let (pattern, clients) = (listed.pattern(), listed.clients());
        Self { pattern, clients, ttl: listed.ttl(), answer, place: Fault::default() }
    }

    /// Parses what [`Display`](core::fmt::Display) has written. `None` if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let (pattern, clients, ttl) = (words.next()?, words.next()?, words.next()?);
        let rest = words.next()?;
        let answer = match rest.strip_prefix("rule ") {
            Some(rule) => Answer::Rule(rule.parse().ok()?),
            None => Answer::Addresses(rest.split(' ').map(address).collect::<Option<_>>()?),
        };
        let (pattern, clients, ttl) = (pattern.parse().ok()?, clients.parse().ok()?, ttl.parse().ok()?);
        Some(Self { pattern, clients, ttl, answer, place: Fault::default() })
    }

    /// The key, which no other entry has.
    #[must_use]
    pub const fn key(&self) -> (Pattern, Prefix) {
        (self.pattern, self.clients)
    }

    /// The entry in the library's form; one that is tied to a rule has no address.
    #[must_use]
    pub fn entry(&self) -> NameEntry<'_> {
        let entry = NameEntry::new(self.pattern).clients(self.clients).ttl(self.ttl);
        match &self.answer {
            Answer::Addresses(addresses) => entry.to_group(addresses),
            Answer::Rule(_) => entry,
        }
    }
}

impl core::fmt::Display for Entry {
    /// One line: names, clients, seconds, and addresses or a rule.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {} {}", self.pattern, self.clients, self.ttl)?;
        match &self.answer {
            Answer::Rule(rule) => write!(f, " rule {rule}"),
            Answer::Addresses(all) => {
                all.iter().try_for_each(|WeightedAddress { address, weight }| write!(f, " {address}*{weight}"))
            }
        }
    }
}

impl NamesSection {
    /// The library's settings, with this secret.
    #[must_use]
    pub fn config(&self, secret: [u8; 32]) -> NamesConfig {
        NamesConfig::new(secret)
            .servers(self.servers)
            .recursion_available(self.recursion)
            .negative_ttl(self.negative_ttl)
            .answers_per_second(self.answers_per_second)
    }

    /// Enters everything into a temporary table, so that what it refuses is reported with its place.
    pub(super) fn try_out(&self) -> Result<(), Fault> {
        let mut names = Names::new(self.config([0; 32]), HeapNames::new(self.capacity, 1));
        for entry in &self.entries {
            try_one(&mut names, entry).map_err(|problem| Fault { problem, ..entry.place.clone() })?;
        }
        Ok(())
    }
}

fn try_one(names: &mut Names<HeapNames>, entry: &Entry) -> Result<(), String> {
    let inserted = match &entry.answer {
        Answer::Addresses(_) => names.insert(entry.entry()).map_err(|error| error.to_string())?,
        Answer::Rule(rule) => {
            let destination = rule.destination();
            if destination.length() != 32 {
                return Err(format!("the rule is for {destination}: a name is answered with one address"));
            }
            let wide = rule.from_clients();
            if entry.clients.length() < wide.length() || !wide.contains(entry.clients.network()) {
                return Err(format!("the entry is for clients in {}, and the rule for {wide} alone", entry.clients));
            }
            names.insert(entry.entry().to(destination.network())).map_err(|error| error.to_string())?
        }
    };
    if inserted.updated {
        return Err(format!("another entry is for {} and the same clients", entry.pattern));
    }
    Ok(())
}

/// Reads a pattern of names.
pub(super) fn pattern(value: &Value<'_>) -> Result<Pattern, Fault> {
    const EXPECTED: &str = "a name like \"www.bt.com\", or \"*.xyz.com\" for all names below one";
    value.text(EXPECTED)?.parse().map_err(|error: ParseError| value.fault(error))
}

pub(super) fn read(
    root: &Table<'_>,
    nat: &Nat,
    rules: &[Rule],
    groups: &Groups<'_>,
) -> Result<Option<NamesSection>, Fault> {
    let Some(table) = root.table("names")? else {
        return Ok(None);
    };
    const PREFIX: &str = "a prefix like \"192.0.2.0/24\"";
    let mut section = NamesSection {
        servers: table.or("servers", Prefix::ALL, |v| v.read(PREFIX))?,
        address: table.or("address", None, |v| relay_address(v, nat).map(Some))?,
        capacity: table.or("capacity", 4096_u32, |v| v.number(1..=1_048_575))? as usize,
        answers_per_second: table
            .or("answers_per_second", NamesConfig::DEFAULT_RATE, |v| v.number(0..=1_000_000))?,
        negative_ttl: table.or("negative_ttl", 60, ttl)?,
        recursion: table.or("recursion_available", true, Value::boolean)?,
        pool: table.or("pool", None, |v| pool(v).map(Some))?,
        entries: Vec::new(),
        pooled: Vec::new(),
        relay: None,
    };
    if section.address.is_none() && nat.own.first().is_some_and(|router| nat.is_alternative(*router)) {
        let expected = "an address that is none of nat.alternatives, since router.address is one";
        return Err(table.need("address", expected).err().unwrap_or_else(|| table.fault("")));
    }
    if let Some(table) = table.table("relay")? {
        section.relay = Some(relay::read(&table, nat, section.address, section.servers)?);
    }
    if let Some(listed) = table.get("entry") {
        for value in listed.list("a list of tables: [[names.entry]]")? {
            entry(&value.table()?, rules, groups, &mut section)?;
        }
    }
    table.finish()?;
    Ok(Some(section))
}

/// The source address of relayed queries: an address of this machine that is not an alternative address.
fn relay_address(value: &Value<'_>, nat: &Nat) -> Result<Ipv4Addr, Fault> {
    let address = value.read(ADDRESS)?;
    match nat.is_alternative(address) {
        true => Err(value.fault(format!("{address} is an alternative address: expected another one"))),
        false => Ok(address),
    }
}

/// Reads an entry into the section.
fn entry(table: &Table<'_>, rules: &[Rule], groups: &Groups<'_>, section: &mut NamesSection) -> Result<(), Fault> {
    let name = table.need("name", "a name, or \"*.\" and a name")?;
    let clients = table.or("clients", Prefix::ALL, |v| v.read("a prefix like \"192.168.0.0/16\""))?;
    let said: Vec<_> = ["to", "rule", "servers", "group"].into_iter().filter_map(|field| table.get(field)).collect();
    let [said] = &said[..] else {
        return Err(match said.get(1) {
            Some(second) => second.fault("the entry says already what it is answered with: leave out one of to, rule, servers and group"),
            None => {
                let expected = "an address, or a list of addresses; or rule, for the original of a [[rule]]; or \
                                servers or group, for an original from names.pool";
                table.need("to", expected).err().unwrap_or_else(|| table.fault(""))
            }
        });
    };
    let ttl = table.or("ttl", NameEntry::DEFAULT_TTL, ttl)?;
    let (pattern, place) = (pattern(&name)?, name.fault(""));
    let field = said.field().rsplit('.').next().unwrap_or_default();
    let answer = match field {
        "to" => Answer::Addresses(addresses(said)?),
        "rule" => Answer::Rule(rule_of(said, rules)?),
        field => {
            let servers = if field == "group" { rules::group(said, groups)? } else { rules::servers(said)? };
            let Some(pool) = section.pool else {
                return Err(said.fault("an original is drawn from names.pool, which is missing: expected a prefix there"));
            };
            if servers.iter().any(|server| server.target == Target::Same) {
                return Err(said.fault("\"same\" found: expected servers, since no host has the original"));
            }
            let rule = rules::with_servers(table, pool.into(), servers, said.fault(""))?;
            table.finish()?;
            section.pooled.push(Pooled { pattern, clients, ttl, rule, place });
            return Ok(());
        }
    };
    table.finish()?;
    section.entries.push(Entry { pattern, clients, ttl, answer, place });
    Ok(())
}

/// A prefix to draw originals from, all of which is routed to this machine.
fn pool(value: &Value<'_>) -> Result<Prefix, Fault> {
    const EXPECTED: &str = "a prefix of 8 to 32 bits whose addresses no host has, like \"100.64.0.0/16\"";
    let pool: Prefix = value.read(EXPECTED)?;
    let last = pool.network().to_bits() | u32::MAX.checked_shr(pool.length().into()).unwrap_or(0);
    let is_usable = [pool.network(), Ipv4Addr::from_bits(last)].iter().all(|end| packet::may_be_source(*end));
    if pool.length() < 8 || !is_usable {
        return Err(value.fault(format!("{pool} found: expected {EXPECTED}")));
    }
    Ok(pool)
}

/// A time in whole seconds, up to the largest TTL of DNS.
fn ttl(value: &Value<'_>) -> Result<u32, Fault> {
    const EXPECTED: &str = "whole seconds, at most 2147483647";
    // Zero means that no answer is kept (RFC 1035, section 3.2.1).
    let time: Duration = value.duration_or_zero()?;
    let seconds = u32::try_from(time.as_secs()).ok().filter(|s| *s <= byway::naming::MAX_TTL && time.subsec_nanos() == 0);
    seconds.ok_or_else(|| value.fault(format!("expected {EXPECTED}")))
}

fn addresses(value: &Value<'_>) -> Result<Vec<WeightedAddress>, Fault> {
    const EXPECTED: &str = "an address: ADDRESS[*WEIGHT], like \"203.0.113.1\" or \"203.0.113.1*3\"";
    let mut addresses = Vec::new();
    for value in value.one_or_more() {
        let text = value.text(EXPECTED)?;
        match address(text) {
            Some(address) => addresses.push(address),
            None => return Err(value.fault(format!("\"{text}\" found: expected {EXPECTED}"))),
        }
    }
    match addresses.len() {
        1..=MAX_ADDRESSES => Ok(addresses),
        count => Err(value.fault(format!("{count} addresses found: expected 1 to {MAX_ADDRESSES}"))),
    }
}

fn address(text: &str) -> Option<WeightedAddress> {
    let (address, weight) = text.split_once('*').unwrap_or((text, "1"));
    Some(WeightedAddress { address: address.parse().ok()?, weight: weight.parse().ok()? })
}

fn rule_of(value: &Value<'_>, rules: &[Rule]) -> Result<Match, Fault> {
    const EXPECTED: &str = "what a [[rule]] diverts, like \"100.100.100.100\"";
    let matches: Match = value.text(EXPECTED)?.parse().map_err(|error: ParseError| value.fault(error))?;
    if rules.iter().any(|rule| rule.matches == matches) {
        return Ok(matches);
    }
    let all: Vec<_> = rules.iter().map(|rule| rule.matches.to_string()).collect();
    let all = if all.is_empty() { "there is none".into() } else { all.join("; ") };
    Err(value.fault(format!("\"{matches}\" found: expected what a [[rule]] diverts: {all}")))
}
