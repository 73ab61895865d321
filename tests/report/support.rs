//! A collector by the book: what RFC 7011, 5103 and 5610 say of messages, sets, templates and records. None of it is taken
//! from the library.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use core::net::Ipv4Addr;
use std::collections::HashMap;

/// The private enterprise number of the tests.
pub const OWN: u32 = 32_473;
/// RFC 5103, section 6.1.
pub const REVERSE: u32 = 29_305;

/// An element: its enterprise number, zero for IANA's, and its number.
pub type Element = (u32, u16);

/// A data record: the set's number, and values by element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub template: u16,
    pub fields: Vec<(Element, Vec<u8>)>,
}

impl Record {
    /// The value of an element, which must be there once.
    #[track_caller]
    pub fn bytes(&self, element: Element) -> &[u8] {
        let mut found = self.fields.iter().filter(|(e, _)| *e == element);
        let value = &found.next().unwrap_or_else(|| panic!("no element {element:?} in {self:?}")).1;
        assert!(found.next().is_none(), "element {element:?} is there twice");
        value
    }

    #[track_caller]
    pub fn number(&self, element: Element) -> u64 {
        let bytes = self.bytes(element);
        assert!(matches!(bytes.len(), 1 | 2 | 4 | 8), "{element:?} has {} bytes", bytes.len());
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    #[track_caller]
    pub fn address(&self, element: Element) -> Ipv4Addr {
        <[u8; 4]>::try_from(self.bytes(element)).expect("four bytes").into()
    }

    #[track_caller]
    pub fn text(&self, element: Element) -> &str {
        core::str::from_utf8(self.bytes(element)).expect("UTF-8")
    }

    pub fn has(&self, element: Element) -> bool {
        self.fields.iter().any(|(e, _)| *e == element)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    scope: usize,
    fields: Vec<(Element, u16)>,
}

/// What a collector knows of an exporter over one transport session.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    templates: HashMap<(u32, u16), Template>,
    /// The sequence number that comes next, for each observation domain.
    next: HashMap<u32, u32>,
    /// How often the sequence number was another one.
    pub gaps: u32,
    /// Data records that it had no template for: their set's number.
    pub unknown: Vec<u16>,
    /// Names of our own elements by their numbers, from type records.
    pub names: HashMap<Element, String>,
    /// Sets of templates that have come.
    pub template_sets: u32,
}

fn number(bytes: &mut &[u8], count: usize) -> u64 {
    let value = take(bytes, count);
    value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    assert!(bytes.len() >= count, "cut short: {} of {count} bytes are left", bytes.len());
    let (value, rest) = bytes.split_at(count);
    *bytes = rest;
    value
}

impl Collector {
    /// Reads one message. Panics where it is not what RFC 7011 says.
    pub fn read(&mut self, message: &[u8]) -> Vec<Record> {
        let rest = &mut &message[..];
        assert_eq!(number(rest, 2), 10, "the version");
        assert_eq!(number(rest, 2) as usize, message.len(), "the length");
        let _export_time = number(rest, 4);
        let sequence = number(rest, 4) as u32;
        let domain = number(rest, 4) as u32;
        if self.next.get(&domain).is_some_and(|next| *next != sequence) {
            self.gaps += 1;
        }
        let mut records = Vec::new();
        let mut count = 0_u32;
        assert!(!rest.is_empty(), "a message without a set");
        while !rest.is_empty() {
            let set = number(rest, 2) as u16;
            let length = number(rest, 2) as usize;
            let mut body = take(rest, length.checked_sub(4).expect("a set's length counts its header"));
            assert!(!body.is_empty(), "an empty set");
            match set {
                2 | 3 => self.read_templates(domain, set == 3, &mut body),
                256.. => {
                    let Some(template) = self.templates.get(&(domain, set)).cloned() else {
                        self.unknown.push(set);
                        continue;
                    };
                    while !body.is_empty() {
                        let record = read_record(set, &template, &mut body);
                        self.learn(&record);
                        records.push(record);
                        count += 1;
                    }
                }
                _ => panic!("set {set}"),
            }
        }
        // With a set unknown, its records cannot be counted.
        if self.unknown.is_empty() {
            self.next.insert(domain, sequence.wrapping_add(count));
        } else {
            self.next.remove(&domain);
        }
        records
    }

    fn read_templates(&mut self, domain: u32, options: bool, body: &mut &[u8]) {
        self.template_sets += 1;
        while !body.is_empty() {
            let id = number(body, 2) as u16;
            let count = number(body, 2) as usize;
            assert!(id >= 256 && count > 0, "template {id} with {count} fields");
            let scope = if options { number(body, 2) as usize } else { 0 };
            assert!(!options || (1..=count).contains(&scope), "a scope of {scope} of {count} fields");
            let fields = (0..count).map(|_| {
                let element = number(body, 2) as u16;
                let length = number(body, 2) as u16;
                let enterprise = if element & 0x8000 == 0 { 0 } else { number(body, 4) as u32 };
                ((enterprise, element & 0x7fff), length)
            });
            let template = Template { scope, fields: fields.collect() };
            let before = self.templates.insert((domain, id), template.clone());
            assert!(before.is_none_or(|before| before == template), "template {id} has changed in a session");
        }
    }

    /// RFC 5610, section 3.9.
    fn learn(&mut self, record: &Record) {
        if record.has((0, 341)) {
            let element = (record.number((0, 346)) as u32, record.number((0, 303)) as u16);
            self.names.insert(element, record.text((0, 341)).to_owned());
        }
    }

    /// Our own element of this name, as the type records say.
    #[track_caller]
    pub fn own(&self, name: &str) -> Element {
        let mut found = self.names.iter().filter(|(_, n)| *n == name);
        *found.next().unwrap_or_else(|| panic!("no type record says {name}")).0
    }
}

fn read_record(set: u16, template: &Template, body: &mut &[u8]) -> Record {
    let fields = template.fields.iter().map(|(element, length)| {
        let bytes = match *length {
            65_535 => match number(body, 1) {
                255 => number(body, 2) as usize,
                short => short as usize,
            },
            length => usize::from(length),
        };
        (*element, take(body, bytes).to_vec())
    });
    Record { template: set, fields: fields.collect() }
}

impl Collector {
    /// The elements of this enterprise that templates use, with their lengths.
    pub fn lengths(&self, enterprise: u32) -> Vec<(u16, u16)> {
        let fields = self.templates.values().flat_map(|template| &template.fields);
        fields.filter(|((owner, _), _)| *owner == enterprise).map(|((_, number), length)| (*number, *length)).collect()
    }
}
