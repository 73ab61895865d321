//! The table of names beside a stupid model: a list that is searched from front to back.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use crate::support::*;
use byway::naming::{
    Answered, BorrowedNames, EntryError, FixedNames, MAX_ADDRESSES, MAX_ANSWER, MAX_CLIENT_PREFIXES, MAX_TTL,
    NAME_INDEX_WORDS, NameEntry, NameSlot, Names, NamesConfig, Pattern, RateSlot, Transport, WeightedAddress,
};
use byway::{Instant, Prefix};
use proptest::prelude::*;

const NAMES: [&str; 8] =
    ["a", "b.a", "c.b.a", "d.c.b.a", "B", "a.b", "x.a.b", "long-label-of-more-than-eight-bytes.b.a"];

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMES[..])
}

fn prefix() -> impl Strategy<Value = Prefix> {
    const ALL: [&str; 6] = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.168.0.0/16"];
    proptest::sample::select(&ALL[..]).prop_map(|text| text.parse().unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Pattern, Prefix, Ipv4Addr),
    Remove(Pattern, Prefix),
    Ask(&'static str, Ipv4Addr),
}

fn a_pattern() -> impl Strategy<Value = Pattern> {
    (name(), any::<bool>()).prop_map(|(name, suffix)| {
        let name = name.parse().unwrap();
        if suffix { Pattern::below(name) } else { Pattern::exact(name) }
    })
}

fn step() -> impl Strategy<Value = Step> {
    const CLIENTS: [&str; 6] = ["10.1.2.3", "10.1.2.4", "10.1.3.1", "10.9.9.9", "192.168.1.1", "1.2.3.4"];
    let client = proptest::sample::select(&CLIENTS[..]).prop_map(|text| text.parse().unwrap());
    prop_oneof![
        3 => (a_pattern(), prefix(), 1..250_u8)
            .prop_map(|(pattern, prefix, n)| Step::Insert(pattern, prefix, Ipv4Addr::new(203, 0, 113, n))),
        1 => (a_pattern(), prefix()).prop_map(|(pattern, prefix)| Step::Remove(pattern, prefix)),
        3 => (name(), client).prop_map(|(name, client)| Step::Ask(name, client)),
    ]
}

type Model = BTreeMap<(String, Prefix), Ipv4Addr>;

/// What the model says: the name itself before its suffixes, longer ones first, and of each the longest prefix.
fn expected(model: &Model, name: &str, client: Ipv4Addr) -> Option<Ipv4Addr> {
    let name = name.to_ascii_lowercase();
    let labels: Vec<&str> = name.split('.').collect();
    let suffixes = (1..labels.len()).map(|n| format!("*.{}", labels[n..].join(".")));
    core::iter::once(name.clone()).chain(suffixes).find_map(|pattern| {
        let matching = model.iter().filter(|((p, clients), _)| *p == pattern && clients.contains(client));
        matching.max_by_key(|((_, clients), _)| clients.length()).map(|(_, address)| *address)
    })
}

/// `None` if the query passes.
fn asked<N: byway::naming::NameStorage>(names: &mut Names<N>, name: &str, client: Ipv4Addr) -> Option<Ipv4Addr> {
    let mut out = [0; MAX_ANSWER];
    match names.answer(Instant::ZERO, client, Transport::Tcp, &query(name, A), &mut out) {
        Answered::Pass => None,
        Answered::Answer { length } => out[..length].last_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes)),
        Answered::Drop(outcome) => panic!("{outcome:?}"),
    }
}

fn follows_the_model<N: byway::naming::NameStorage>(names: &mut Names<N>, capacity: usize, steps: Vec<Step>) {
    let mut model = Model::new();
    for step in steps {
        let generation = names.generation();
        match step {
            Step::Insert(pattern, clients, address) => {
                let key = (pattern.to_string(), clients);
                let is_there = model.contains_key(&key);
                match names.insert(NameEntry::new(pattern).clients(clients).to(address)) {
                    Ok(done) => {
                        assert_eq!((done.updated, done.generation), (is_there, generation + 1));
                        model.insert(key, address);
                    }
                    Err(error) => {
                        assert_eq!(error, EntryError::TableFull { capacity });
                        assert!(!is_there && model.len() == capacity);
                        assert_eq!(names.generation(), generation);
                    }
                }
            }
            Step::Remove(pattern, clients) => {
                let was_there = model.remove(&(pattern.to_string(), clients)).is_some();
                assert_eq!(names.remove(&pattern, clients), Ok(was_there));
                assert_eq!(names.generation(), generation + u32::from(was_there));
            }
            Step::Ask(name, client) => {
                assert_eq!(asked(names, name, client), expected(&model, name, client), "{name} {client} {model:?}");
            }
        }
        let listed: Model = names
            .entries()
            .map(|e| ((e.pattern().to_string(), e.clients()), e.addresses().next().unwrap().address))
            .collect();
        assert_eq!((&listed, names.len(), names.is_empty()), (&model, model.len(), model.is_empty()));
    }
}

fn config() -> NamesConfig {
    NamesConfig::new([7; 32])
}

proptest! {
    #[test]
    fn as_the_model(steps in prop::collection::vec(step(), 1..120)) {
        follows_the_model(&mut Names::new(config(), FixedNames::<40>::new()), 40, steps.clone());
        follows_the_model(&mut Names::new(config(), FixedNames::<3>::new()), 3, steps.clone());
        follows_the_model(&mut Names::new(config(), FixedNames::<1, 0>::new()), 1, steps.clone());
        follows_the_model(&mut Names::new(config(), FixedNames::<0>::new()), 0, steps.clone());
        // With dirty memory, and more entries than the index has words for.
        let mut dirty = NameSlot::EMPTY;
        Names::new(config(), BorrowedNames {
            names: core::slice::from_mut(&mut dirty), index: &mut [9; NAME_INDEX_WORDS], rates: &mut [],
        }).insert(NameEntry::new(pattern("dirty")).to(ADDRESS)).unwrap();
        let memory = BorrowedNames {
            names: &mut vec![dirty; 9],
            index: &mut [u32::MAX; 5 * NAME_INDEX_WORDS + 3],
            rates: &mut [RateSlot::EMPTY],
        };
        follows_the_model(&mut Names::new(config(), memory), 5, steps);
    }

    /// No message makes it panic, whatever is in it; what it says is always a message; and it is little longer than what
    /// it answers, so that a forged source gains nothing.
    #[test]
    fn any_bytes(
        start in prop_oneof![
            Just(Vec::new()),
            Just(query("www.bt.com", A)),
            Just(query_with("q.xyz.com", ANY, &opt(1232, 0, true, &cookie_option(&[1; 24])))),
        ],
        keep in 0..80_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        tcp in any::<bool>(),
    ) {
        let mut asked = start;
        asked.truncate(keep);
        asked.extend(tail);
        for (at, byte) in changes {
            if !asked.is_empty() {
                let at = at.index(asked.len());
                asked[at] = byte;
            }
        }
        let mut names = names();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Ok(answer) = ask(&mut names, transport, &asked) {
            read(&answer);
            prop_assert!(answer.len() <= asked.len() + 35 + 16, "{} to {}", answer.len(), asked.len());
        }
        prop_assert_eq!(names.counters().in_all(), 1);
    }
}

/// Names of every length, of one label and of many, are found whatever their letters' case, and by nothing else. Each suffix is, too.
#[test]
fn names_of_every_length_are_found_in_any_case() {
    let mut names = Names::new(config(), FixedNames::<1, 0>::new());
    let client = Ipv4Addr::new(192, 0, 2, 1);
    for length in 1..=253 {
        for label in [1, 7, 8, 15, 63] {
            let letters = ('a'..='z').cycle().take(length);
            let name: String =
                letters.enumerate().map(|(at, letter)| if at % (label + 1) == label { '.' } else { letter }).collect();
            if name.ends_with('.') {
                continue;
            }
            let mut other = name.clone().into_bytes();
            other[length / 2] = if other[length / 2] == b'.' { continue } else { b'-' };
            let other = String::from_utf8(other).unwrap();
            for pattern in [name.clone(), format!("*.{name}")] {
                let pattern: Pattern = pattern.parse().unwrap();
                names.insert(NameEntry::new(pattern).to(ADDRESS)).unwrap();
                let asked_for = |name: &str| if pattern.is_suffix() { format!("x.{name}") } else { name.to_string() };
                if asked_for(&name).len() <= 253 {
                    assert_eq!(asked(&mut names, &asked_for(&name), client), Some(ADDRESS), "{name}");
                    assert_eq!(asked(&mut names, &asked_for(&name).to_uppercase(), client), Some(ADDRESS), "{name}");
                    assert_eq!(asked(&mut names, &asked_for(&other), client), None, "{other}");
                }
                assert_eq!(names.remove(&pattern, Prefix::ALL), Ok(true));
            }
        }
    }
}

#[test]
fn a_bad_entry_is_refused_and_nothing_changes() {
    let mut names = names();
    let before = names.generation();
    let at = pattern("www.bt.com");
    let many: Vec<_> =
        (1..=9).map(|n| WeightedAddress { address: Ipv4Addr::new(198, 51, 100, n), weight: 1 }).collect();
    let twice = [many[0], many[1], many[0]];
    let none = many[..2].iter().map(|a| WeightedAddress { weight: 0, ..*a }).collect::<Vec<_>>();
    let martian = Ipv4Addr::new(224, 0, 0, 1);
    for (entry, error, text) in [
        (
            NameEntry::new(at).to_group(&many),
            EntryError::TooManyAddresses { addresses: 9 },
            "9 addresses: an entry has room for 8",
        ),
        (
            NameEntry::new(at).to_group(&none),
            EntryError::NoAddress { addresses: 2 },
            "none of the 2 addresses has a weight above zero",
        ),
        (
            NameEntry::new(at).to_group(&[]),
            EntryError::NoAddress { addresses: 0 },
            "none of the 0 addresses has a weight above zero",
        ),
        (NameEntry::new(at), EntryError::NoAddress { addresses: 1 }, "none of the 1 addresses has a weight above zero"),
        (
            NameEntry::new(at).to_group(&twice),
            EntryError::DuplicateAddress { address: many[0].address },
            "the entry has address 198.51.100.1 twice",
        ),
        (
            NameEntry::new(at).to(martian),
            EntryError::MartianAddress { address: martian },
            "address 224.0.0.1: no host can have this address",
        ),
        (
            NameEntry::new(at).to(ADDRESS).ttl(MAX_TTL + 1),
            EntryError::TtlTooLong { seconds: MAX_TTL + 1 },
            "ttl of 2147483648 s is above 2147483647",
        ),
    ] {
        assert_eq!(names.insert(entry), Err(error));
        assert_eq!(error.to_string(), text);
    }
    assert!(names.insert(NameEntry::new(at).to_group(&many[..MAX_ADDRESSES]).ttl(MAX_TTL)).is_ok());
    assert_eq!(names.generation(), before + 1);
}

#[test]
fn a_pattern_has_so_many_client_prefixes_and_no_more() {
    let mut names = Names::new(config(), FixedNames::<40>::new());
    let entry = |length: usize| {
        let prefix = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), length as u8).unwrap();
        NameEntry::new(pattern("a")).clients(prefix).to(Ipv4Addr::new(203, 0, 113, length as u8 + 1))
    };
    for length in 0..MAX_CLIENT_PREFIXES {
        names.insert(entry(length)).unwrap();
    }
    let clients = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), MAX_CLIENT_PREFIXES as u8).unwrap();
    assert_eq!(names.insert(entry(MAX_CLIENT_PREFIXES)), Err(EntryError::TooManyClientPrefixes { clients }));
    // An update is none too many, and all of them are found.
    assert!(names.insert(entry(0)).unwrap().updated);
    for length in 0..MAX_CLIENT_PREFIXES {
        // Differs from the address of all longer prefixes at the bit behind this one.
        let client = Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 2, 3).to_bits() ^ (1 << (31 - length)));
        assert_eq!(asked(&mut names, "a", client), Some(Ipv4Addr::new(203, 0, 113, length as u8 + 1)));
    }
}

/// A hundred thousand names in a table of as many, all found, and removed in another order.
#[cfg(feature = "alloc")]
#[test]
fn a_hundred_thousand_names() {
    const COUNT: u32 = 100_000;
    let mut names = Names::new(config(), byway::naming::HeapNames::new(COUNT as usize, 0));
    let name = |n: u32| format!("host-{n}.customers-{}.example", n % 7);
    let address = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 + n);
    for n in 0..COUNT {
        names.insert(NameEntry::new(pattern(&name(n))).to(address(n))).unwrap();
    }
    let full = names.insert(NameEntry::new(pattern("one.more")).to(address(1)));
    assert_eq!(full, Err(EntryError::TableFull { capacity: COUNT as usize }));
    let client = Ipv4Addr::new(1, 2, 3, 4);
    for n in (0..COUNT).step_by(3) {
        assert_eq!(asked(&mut names, &name(n), client), Some(address(n)));
        assert_eq!(asked(&mut names, &format!("x{}", name(n)), client), None);
    }
    for n in (0..COUNT).rev().step_by(2) {
        assert_eq!(names.remove(&pattern(&name(n)), Prefix::ALL), Ok(true));
    }
    for n in (0..COUNT).step_by(5) {
        assert_eq!(asked(&mut names, &name(n), client), (n % 2 == 0).then(|| address(n)));
    }
    assert_eq!(names.len(), COUNT as usize / 2);
}
