//! Queries as bytes, and answers as the crate `domain` reads them.

#![allow(dead_code, unreachable_pub, clippy::std_instead_of_core, reason = "each test takes a part of it")]

use core::net::Ipv4Addr;

use byway::Instant;
use byway::naming::{Answered, FixedNames, MAX_ANSWER, NameEntry, Names, NamesConfig, Pattern, Transport};
use domain::base::Message;

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// What `*.xyz.com` is answered with.
pub const BELOW: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

pub const A: u16 = 1;
pub const SOA: u16 = 6;
pub const AAAA: u16 = 28;
pub const ANY: u16 = 255;

pub type Table = Names<FixedNames<8, 16>>;

pub fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

/// `www.bt.com` and `*.xyz.com`, without a limit of the rate.
pub fn names() -> Table {
    with(NamesConfig::new([7; 32]).answers_per_second(0))
}

pub fn with(config: NamesConfig) -> Table {
    let mut names = Names::new(config, FixedNames::new());
    names.insert(NameEntry::new(pattern("www.bt.com")).to(ADDRESS).ttl(86_400)).expect("there is room");
    names.insert(NameEntry::new(pattern("*.xyz.com")).to(BELOW)).expect("there is room");
    names
}

/// The wire form of a name, its letters as they are.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

/// A message: header with these flags and counts, and what follows.
pub fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let words = [0xbeef, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).chain(parts.concat()).collect()
}

/// A question in class IN.
pub fn question(name: &str, kind: u16) -> Vec<u8> {
    [&wire(name)[..], &kind.to_be_bytes(), &[0, 1]].concat()
}

/// A query that wants recursion.
pub fn query(name: &str, kind: u16) -> Vec<u8> {
    message(0x0100, [1, 0, 0, 0], &[&question(name, kind)])
}

/// An OPT record.
pub fn opt(payload: u16, version: u8, dnssec: bool, options: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 41];
    record.extend(payload.to_be_bytes());
    record.extend([0, version, u8::from(dnssec) << 7, 0]);
    record.extend((options.len() as u16).to_be_bytes());
    record.extend(options);
    record
}

/// A query with this record behind it.
pub fn query_with(name: &str, kind: u16, record: &[u8]) -> Vec<u8> {
    message(0x0100, [1, 0, 0, 1], &[&question(name, kind), record])
}

pub fn cookie_option(bytes: &[u8]) -> Vec<u8> {
    [&[0, 10][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// What is answered; panics if nothing is.
pub fn answer(names: &mut Table, transport: Transport, query: &[u8]) -> Vec<u8> {
    match ask(names, transport, query) {
        Ok(answer) => answer,
        Err(other) => panic!("{other:?} instead of an answer to {query:?}"),
    }
}

pub fn ask(names: &mut Table, transport: Transport, query: &[u8]) -> Result<Vec<u8>, Answered> {
    let mut out = [0xaa; MAX_ANSWER];
    match names.answer(Instant::from_secs(1_000), CLIENT, transport, query, &mut out) {
        Answered::Answer { length } => Ok(out[..length].to_vec()),
        other => Err(other),
    }
}

pub fn udp(names: &mut Table, query: &[u8]) -> Vec<u8> {
    answer(names, Transport::Udp, query)
}

/// The answer as `domain` reads it; all of it must be readable, down to the last byte.
pub fn read(answer: &[u8]) -> Message<&[u8]> {
    let message = Message::from_octets(answer).expect("a header");
    assert!(message.header().qr(), "a response");
    assert!(message.question().all(|question| question.is_ok()));
    let [an, ns, ar] = [message.answer(), message.authority(), message.additional()].map(|section| {
        let section = section.expect("a section");
        section.inspect(|record| assert!(record.is_ok())).count()
    });
    let counts = message.header_counts();
    assert_eq!([an, ns, ar], [counts.ancount(), counts.nscount(), counts.arcount()].map(usize::from));
    message
}
