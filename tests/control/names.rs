//! Instructions about names: each of them, together with those about rules, and those that are refused.

use std::collections::BTreeMap;

use crate::support::*;
use byway::control::{
    Answer, Client, Code, Instruction, NameRights, NamedEntry, Outcome, Request, Rule, Translators, WithNames,
    counter_name,
};
use byway::naming::{
    FixedNames, HeapNames, NameEntry, NameStorage, NameTable, Names, NamesConfig, Pattern, WeightedAddress,
};
use byway::{Divert, Heap, Match, Prefix, Redivert, Translator};
use byway_testing::*;

/// Translators with names, which a test owns.
struct Both<N = FixedNames<20, 1>> {
    shards: Vec<Translator<Heap>>,
    names: Names<N>,
    rights: Vec<NameRights>,
}

impl<N: NameStorage> Translators for Both<N> {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.shards.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        self.shards.get_mut(number)
    }

    fn names(&mut self) -> Option<&mut dyn NameTable> {
        Some(&mut self.names)
    }

    fn may_name(&self, key: u16, pattern: &Pattern) -> bool {
        self.rights.iter().any(|right| right.key == key && right.pattern.covers(pattern))
    }
}

fn house_of<N: NameStorage>(shards: usize, names: N) -> House<Both<N>> {
    let sharding = byway::Sharding::new(&config().own("10.0.0.1".parse().unwrap()), shards).unwrap();
    let shard = |number| {
        let config = sharding.config(&config().own("10.0.0.1".parse().unwrap()), number).unwrap();
        Translator::new(config, Heap::new(100, 12)).unwrap()
    };
    let rights = vec![NameRights { key: TENANT.0, pattern: pattern("*.xyz.com") }];
    let names = Names::new(NamesConfig::new([9; 32]), names);
    House::of(Both { shards: (0..shards).map(shard).collect(), names, rights }, [0xb0; 32])
}

fn house() -> House<Both> {
    house_of(1, FixedNames::new())
}

impl<N: NameStorage> Both<N> {
    /// All that instructions can change.
    fn seen(&self) -> String {
        let mut names: Vec<_> = self
            .names
            .entries()
            .map(|e| {
                let addresses: Vec<_> = e.addresses().map(|a| (a.address, a.weight)).collect();
                format!(
                    "{} {} {} {addresses:?} {:?} {}\n",
                    e.pattern(),
                    e.clients(),
                    e.ttl(),
                    e.rule(),
                    e.is_suspended()
                )
            })
            .collect();
        names.sort();
        let rules: Vec<_> = self.shards.iter().map(table).collect();
        format!("{} {names:?} {rules:?}", self.names.generation())
    }
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn to(text: &str, address: &str) -> Instruction {
    Instruction::Name(NamedEntry::new(&NameEntry::new(pattern(text)).to(ip(address))).unwrap())
}

fn tied(text: &str, rule: impl Into<Match>) -> Instruction {
    Instruction::Name(NamedEntry::tied(pattern(text), rule.into()))
}

fn remove(text: &str) -> Instruction {
    Instruction::RemoveName { pattern: pattern(text), clients: Prefix::ALL }
}

fn request(instructions: &[Instruction]) -> Request {
    instructions.iter().fold(Request::new(), |request, instruction| request.and(*instruction).unwrap())
}

type Refused = (Code, u8, u32);

/// What was done, or code, place and detail of a refusal, after which nothing has changed.
#[track_caller]
fn ask<N: NameStorage>(
    house: &mut House<Both<N>>,
    client: &mut Client,
    instructions: &[Instruction],
) -> Result<Vec<Outcome>, Refused> {
    let read = |answer: &Answer<'_>| match answer.refused() {
        Some(by) => Err((by.code.unwrap(), by.instruction, by.detail)),
        None => Ok(answer.effects().map(|effect| effect.outcome).collect()),
    };
    let before = house.byway.seen();
    // What would be done is what then is done, and a dry run does nothing.
    let planned = house.ask(client, peer(1), &request(instructions).dry_run(), read);
    assert_eq!(house.byway.seen(), before);
    let done = house.ask(client, peer(1), &request(instructions), read);
    assert_eq!(planned, done);
    if done.is_err() {
        assert_eq!(house.byway.seen(), before);
    }
    done
}

#[test]
fn names_come_change_and_go() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    assert_eq!(ask(&mut house, admin, &[to("www.bt.com", "203.0.113.1")]), Ok(vec![Outcome::Inserted]));
    assert_eq!(ask(&mut house, admin, &[to("www.bt.com", "203.0.113.1")]), Ok(vec![Outcome::Unchanged]));
    assert_eq!(house.byway.names.generation(), 1);
    assert_eq!(ask(&mut house, admin, &[to("WWW.bt.COM", "203.0.113.2")]), Ok(vec![Outcome::Updated]));
    let entry = house.byway.names.find(&pattern("www.bt.com"), Prefix::ALL).unwrap();
    assert_eq!(entry.addresses().map(|a| a.address).collect::<Vec<_>>(), [ip("203.0.113.2")]);
    assert_eq!(ask(&mut house, admin, &[remove("*.bt.com")]), Ok(vec![Outcome::Absent]));
    assert_eq!(ask(&mut house, admin, &[remove("www.bt.com")]), Ok(vec![Outcome::Removed]));
    assert!(house.byway.names.is_empty());
}

/// The generation counts changes of rules and of names, and a request can demand it.
#[test]
fn one_generation_is_of_both() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let rule = divert(at("100.1.1.1:80"), at("20.0.0.1:80"));
    let generation = |house: &mut House<Both>, admin: &mut Client, request: &Request| {
        house.ask(admin, peer(1), request, |answer| (answer.refused().map(|by| by.code.unwrap()), answer.generation()))
    };
    let one = Request::one;
    assert_eq!(generation(&mut house, admin, &one(rule)), (None, 1));
    assert_eq!(generation(&mut house, admin, &one(to("a", "1.1.1.1"))), (None, 2));
    assert_eq!(generation(&mut house, admin, &one(to("b", "1.1.1.1")).only_if(1)), (Some(Code::Generation), 2));
    assert_eq!(generation(&mut house, admin, &one(to("b", "1.1.1.1")).only_if(2)), (None, 3));
    assert_eq!(generation(&mut house, admin, &one(Instruction::ListNames(0)).only_if(2)), (Some(Code::Generation), 3));
    assert_eq!(generation(&mut house, admin, &one(Instruction::ListNames(0)).only_if(3)), (None, 3));
}

/// The document's exchange: a name and the rule for its original, then another server.
#[test]
fn a_rule_and_its_entry_live_together() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let original = ip("100.1.1.1");
    let rule = divert(original, ip("20.0.0.1"));
    let gone = Instruction::Remove(original.into());
    assert_eq!(ask(&mut house, admin, &[tied("www.bt.com", original)]), Err((Code::NoRule, 0, 0)));
    // Whichever is said first.
    let both = [Outcome::Inserted, Outcome::Inserted];
    assert_eq!(ask(&mut house, admin, &[tied("www.bt.com", original), rule]).as_deref(), Ok(&both[..]));
    assert_eq!(ask(&mut house, admin, &[tied("*.bt.com", original)]), Ok(vec![Outcome::Inserted]));
    let entry = house.byway.names.find(&pattern("www.bt.com"), Prefix::ALL).unwrap();
    assert_eq!(entry.rule(), Some(original.into()));
    assert_eq!(entry.addresses().map(|a| a.address).collect::<Vec<_>>(), [original]);

    // Its server changes, and the entry needs no change.
    let moved = Instruction::Redivert { from: ip("20.0.0.1").into(), to: ip("20.0.0.2").into(), how: Redivert::Switch };
    assert_eq!(ask(&mut house, admin, &[moved]), Ok(vec![Outcome::Rediverted]));
    assert_eq!(ask(&mut house, admin, &[tied("www.bt.com", original)]), Ok(vec![Outcome::Unchanged]));

    // The rule stays while an entry needs it.
    assert_eq!(ask(&mut house, admin, &[gone]), Err((Code::EntriesTied, 0, 2)));
    assert_eq!(ask(&mut house, admin, &[remove("www.bt.com"), gone]), Err((Code::EntriesTied, 1, 1)));
    assert_eq!(ask(&mut house, admin, &[gone, tied("www.bt.com", original)]).unwrap_err().0, Code::EntriesTied);
    let all = [remove("www.bt.com"), gone, to("*.bt.com", "203.0.113.9")];
    let done = [Outcome::Removed, Outcome::Removed, Outcome::Updated];
    assert_eq!(ask(&mut house, admin, &all).as_deref(), Ok(&done[..]));
    assert_eq!(house.byway.shards[0].diverts().count(), 0);
    let entry = house.byway.names.find(&pattern("*.bt.com"), Prefix::ALL).unwrap();
    assert_eq!(entry.rule(), None);
}

/// An entry whose rule was removed without it is answered again when the rule is there again.
#[test]
fn a_suspended_entry_goes_on_with_its_rule() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let original = ip("100.1.1.1");
    let rule = divert(original, ip("20.0.0.1"));
    ask(&mut house, admin, &[rule, tied("a", original)]).unwrap();
    let Both { shards, names, .. } = &mut house.byway;
    shards[0].remove(original);
    assert_eq!(names.check_rules(&shards[0]), 1);
    let suspended = house.ask(admin, peer(1), &Request::one(Instruction::ListNames(0)), |answer| {
        answer.names().0.map(|entry| entry.is_suspended()).collect::<Vec<_>>()
    });
    assert_eq!(suspended, [true]);
    ask(&mut house, admin, &[rule]).unwrap();
    assert!(house.byway.names.entries().all(|entry| !entry.is_suspended()));
    let Both { shards, names, .. } = &mut house.byway;
    assert_eq!(names.check_rules(&shards[0]), 0);
    // Or when the monitor says so, and somebody else has entered the rule again.
    shards[0].remove(original);
    assert_eq!(names.check_rules(&shards[0]), 1);
    assert_eq!(ask(&mut house, admin, &[tied("a", original)]), Err((Code::NoRule, 0, 0)));
    house.byway.shards[0].divert(Divert::new(original).to(ip("20.0.0.1"))).unwrap();
    assert_eq!(ask(&mut house, admin, &[tied("a", original)]), Ok(vec![Outcome::Updated]));
    assert_eq!(ask(&mut house, admin, &[tied("a", original)]), Ok(vec![Outcome::Unchanged]));
    assert!(house.byway.names.entries().all(|entry| !entry.is_suspended()));
}

#[test]
fn nothing_changes_unless_all_does() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let itself = divert(ip("100.1.1.1"), ip("100.1.1.1"));
    let good = divert(ip("100.1.1.2"), ip("20.0.0.1"));
    assert_eq!(ask(&mut house, admin, &[to("a", "1.1.1.1"), itself]), Err((Code::ToItself, 1, 0)));
    assert_eq!(ask(&mut house, admin, &[good, to("a", "1.1.1.1"), to("b", "127.0.0.1")]).unwrap_err().1, 2);
    // The table of rules is full, that of names is not; and the other way round.
    for number in 0..11 {
        ask(&mut house, admin, &[divert(ip(&format!("100.2.0.{number}")), ip("20.0.0.1"))]).unwrap();
    }
    let more = divert(ip("100.1.1.3"), ip("20.0.0.1"));
    assert_eq!(ask(&mut house, admin, &[to("a", "1.1.1.1"), good, more]), Err((Code::TableFull, 2, 12)));
    for number in 0..19 {
        ask(&mut house, admin, &[to(&format!("n{number}"), "1.1.1.1")]).unwrap();
    }
    assert_eq!(ask(&mut house, admin, &[good, to("a", "1.1.1.1"), to("b", "1.1.1.1")]), Err((Code::NamesFull, 2, 20)));
    // Unless the request makes room.
    let swap = [to("a", "1.1.1.1"), remove("n3"), to("b", "1.1.1.1"), good];
    let done = [Outcome::Inserted, Outcome::Removed, Outcome::Inserted, Outcome::Inserted];
    assert_eq!(ask(&mut house, admin, &swap).as_deref(), Ok(&done[..]));
    assert_eq!(house.byway.names.len(), 20);
}

#[test]
fn refusals_say_why() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let entry = |entry: NameEntry<'_>| Instruction::Name(NamedEntry::new(&entry).unwrap());
    let a = || NameEntry::new(pattern("a"));
    let address = |text: &str, weight| WeightedAddress { address: ip(text), weight };
    let one = |house: &mut House<Both>, admin: &mut Client, instruction| ask(house, admin, &[instruction]).unwrap_err();
    let twice = [address("1.1.1.1", 1), address("1.1.1.1", 2)];
    assert_eq!(one(&mut house, admin, entry(a().to_group(&twice))), (Code::DuplicateAddress, 0, 0));
    assert_eq!(one(&mut house, admin, entry(a().to_group(&[address("1.1.1.1", 0)]))), (Code::NoAddress, 0, 0));
    assert_eq!(one(&mut house, admin, entry(a())), (Code::NoAddress, 0, 0));
    assert_eq!(one(&mut house, admin, to("a", "127.0.0.1")), (Code::MartianAddress, 0, 0x7f00_0001));
    assert_eq!(one(&mut house, admin, entry(a().to(ip("1.1.1.1")).ttl(1 << 31))), (Code::TtlTooLong, 0, 0));
    assert!(NamedEntry::new(&a().to_group(&[address("1.1.1.1", 1); 9])).is_none());

    let network = Prefix::new(ip("100.1.0.0"), 16).unwrap();
    let narrow = Match::from(ip("100.1.1.1")).clients(Prefix::new(ip("10.0.0.0"), 8).unwrap());
    let rules = [Divert::new(network).to(ip("20.0.0.1")), Divert::new(narrow).to(ip("20.0.0.1"))];
    ask(&mut house, admin, &rules.map(|rule| Instruction::Divert(Rule::new(&rule).unwrap()))).unwrap();
    assert_eq!(one(&mut house, admin, tied("a", network)), (Code::ManyOriginals, 0, 16));
    assert_eq!(one(&mut house, admin, tied("a", narrow)), (Code::OtherClients, 0, 0));
    let within = NamedEntry::tied(pattern("a"), narrow).clients(Prefix::new(ip("10.1.0.0"), 16).unwrap());
    ask(&mut house, admin, &[Instruction::Name(within)]).unwrap();

    // One name has entries for 16 client prefixes at most: the one above, and 15 more.
    let of = |number: u8| entry(a().to(ip("1.1.1.1")).clients(Prefix::host(ip(&format!("10.9.9.{number}")))));
    for number in 0..15 {
        ask(&mut house, admin, &[of(number)]).unwrap();
    }
    assert_eq!(one(&mut house, admin, of(15)), (Code::TooManyClientPrefixes, 0, 16));
    let gone = Instruction::RemoveName { pattern: pattern("a"), clients: Prefix::host(ip("10.9.9.3")) };
    ask(&mut house, admin, &[gone, of(15)]).unwrap();

    // What cannot be one request.
    let redivert = Instruction::Redivert { from: ip("1.1.1.1").into(), to: ip("1.1.1.2").into(), how: Redivert::Drain };
    for together in [
        [to("b", "1.1.1.1"), to("B", "1.1.1.2")],
        [to("b", "1.1.1.1"), remove("b")],
        [to("b", "1.1.1.1"), Instruction::ListNames(0)],
        [redivert, to("b", "1.1.1.1")],
    ] {
        assert_eq!(ask(&mut house, admin, &together), Err((Code::BadTransaction, 1, 0)), "{together:?}");
    }
    ask(&mut house, admin, &[to("b", "1.1.1.1"), to("*.b", "1.1.1.1"), redivert]).unwrap();
}

#[test]
fn a_key_has_its_names() {
    let mut house = house();
    let (admin, tenant, reader) =
        (&mut house.open(ADMIN, peer(1)), &mut house.open(TENANT, peer(1)), &mut house.open(READER, peer(1)));
    let refused = Err((Code::NotPermitted, 0, 0));
    for text in ["www.xyz.com", "*.www.xyz.com", "*.xyz.com"] {
        assert_eq!(ask(&mut house, tenant, &[to(text, "1.1.1.1")]), Ok(vec![Outcome::Inserted]), "{text}");
        assert_eq!(ask(&mut house, reader, &[to(text, "1.1.1.1")]), refused, "{text}");
        assert_eq!(ask(&mut house, reader, &[remove(text)]), refused, "{text}");
        assert_eq!(ask(&mut house, tenant, &[remove(text)]), Ok(vec![Outcome::Removed]), "{text}");
    }
    // A name that only ends with the same bytes is another one.
    for text in ["xyz.com", "*.com", "*", "axyz.com", "www.bt.com", r"\003xyz.com", r"a.\003xyz\003com"] {
        assert_eq!(ask(&mut house, tenant, &[to(text, "1.1.1.1")]), refused, "{text}");
        assert_eq!(ask(&mut house, tenant, &[remove(text)]), refused, "{text}");
        assert_eq!(ask(&mut house, admin, &[remove(text)]), Ok(vec![Outcome::Absent]), "{text}");
    }
    // Nor can it keep a rule from being removed that it could not remove itself.
    for original in ["100.1.1.1", "101.1.1.1"] {
        ask(&mut house, admin, &[divert(ip(original), ip("20.0.0.1"))]).unwrap();
    }
    assert_eq!(ask(&mut house, tenant, &[tied("www.xyz.com", ip("101.1.1.1"))]), refused);
    assert_eq!(ask(&mut house, tenant, &[tied("www.xyz.com", ip("100.1.1.1"))]), Ok(vec![Outcome::Inserted]));
    // And reading is everybody's.
    let listed = house.ask(reader, peer(1), &Request::one(Instruction::ListNames(0)), |a| a.names().0.count());
    assert_eq!(listed, 1);
}

/// An agent that speaks for no names does not know these instructions.
#[test]
fn without_names_they_are_unknown() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    for (number, instruction) in [(7, to("a", "1.1.1.1")), (8, remove("a")), (21, Instruction::ListNames(0))] {
        let refused = house.ask(&mut admin, peer(1), &Request::one(instruction), |a| a.refused().unwrap());
        assert_eq!((refused.code, refused.detail), (Some(Code::UnknownInstruction), number));
    }
    let rule = divert(at("100.1.1.1:80"), at("20.0.0.1:80"));
    let both = request(&[rule, to("a", "1.1.1.1")]);
    let refused = house.ask(&mut admin, peer(1), &both, |a| a.refused().unwrap());
    assert_eq!((refused.code, refused.instruction), (Some(Code::UnknownInstruction), 1));
    assert_eq!(house.byway.diverts().count(), 0);
}

#[test]
fn names_are_listed_in_pages() {
    let mut house = house_of(1, HeapNames::new(5000, 1));
    let admin = &mut house.open(ADMIN, peer(1));
    let mut expected = BTreeMap::new();
    for number in 0..3000_u16 {
        let text = format!("{}.n{number}.example", "x".repeat(usize::from(number % 60)).trim_end_matches('.'));
        let text = text.trim_start_matches('.').to_owned();
        let group = [0, 1, 2].map(|n| WeightedAddress {
            address: core::net::Ipv4Addr::from_bits(0xcb00_7100 + u32::from(number) * 3 + n),
            weight: n as u16 + number % 3,
        });
        house.byway.names.insert(NameEntry::new(pattern(&text)).to_group(&group).ttl(number.into())).unwrap();
        expected.insert(text, (u32::from(number), group.to_vec()));
    }
    // Most of the first are gone: a page of unused places is empty, and has a next one.
    for number in 0..1500 {
        let text = expected.iter().find(|(_, (ttl, _))| *ttl == number).map(|(text, _)| text.clone()).unwrap();
        house.byway.names.remove(&pattern(&text), Prefix::ALL).unwrap();
        expected.remove(&text);
    }
    let (mut listed, mut pages, mut empty) = (BTreeMap::new(), 0, 0);
    let mut position = Some(0);
    while let Some(at) = position {
        position = house.ask(admin, peer(1), &Request::one(Instruction::ListNames(at)), |answer| {
            let sizes = answer.name_sizes().unwrap();
            assert_eq!((sizes.entries, sizes.capacity), (1500, 5000));
            let (entries, next) = answer.names();
            let before = listed.len();
            for entry in entries {
                let told = (entry.ttl(), entry.addresses().collect::<Vec<_>>());
                assert!(listed.insert(entry.pattern().to_string(), told).is_none(), "listed twice");
            }
            empty += usize::from(listed.len() == before);
            next
        });
        pages += 1;
    }
    assert_eq!(listed, expected);
    assert!(empty > 0 && pages < 400, "{pages} pages, {empty} empty");
    // Behind the end there is nothing.
    for position in [5000, u32::MAX] {
        let request = Request::one(Instruction::ListNames(position));
        assert_eq!(house.ask(admin, peer(1), &request, |a| (a.names().0.count(), a.names().1)), (0, None));
    }
}

/// The longest entries fill pages, and none is too long for one.
#[test]
fn the_longest_entries_are_listed() {
    let mut house = house_of(1, HeapNames::new(40, 1));
    let admin = &mut house.open(ADMIN, peer(1));
    let group: Vec<_> = (1..=8).map(|n| WeightedAddress { address: [203, 0, 113, n].into(), weight: 1 }).collect();
    for number in 10..40 {
        let text = format!("{number}{}.{2}.{2}.{}", "a".repeat(61), "b".repeat(61), "c".repeat(63));
        let entry = NamedEntry::new(&NameEntry::new(pattern(&text)).to_group(&group)).unwrap();
        assert_eq!(pattern(&text).name().as_wire().len(), 255);
        assert_eq!(ask(&mut house, admin, &[Instruction::Name(entry)]), Ok(vec![Outcome::Inserted]));
    }
    let (mut listed, mut pages, mut position) = (0, 0, Some(0));
    while let Some(at) = position {
        position = house.ask(admin, peer(1), &Request::one(Instruction::ListNames(at)), |answer| {
            let (entries, next) = answer.names();
            listed += entries.filter(|entry| entry.addresses().count() == 8).count();
            next
        });
        pages += 1;
    }
    // As many as fit: three in 1200 bytes.
    assert_eq!((listed, pages), (30, 10));
}

/// Shards have rules each, and one table of names.
#[test]
fn shards_share_the_names() {
    let mut house = house_of(3, FixedNames::<20, 1>::new());
    let admin = &mut house.open(ADMIN, peer(1));
    let original = ip("100.1.1.1");
    let both = [divert(original, ip("20.0.0.1")), tied("www.bt.com", original)];
    assert_eq!(ask(&mut house, admin, &both), Ok(vec![Outcome::Inserted, Outcome::Inserted]));
    assert!(house.byway.shards.iter().all(|shard| shard.diverts().count() == 1));
    // One shard alone has no room: no shard changes, nor do the names.
    for number in 0..11 {
        house.byway.shards[2].divert(Divert::new(ip(&format!("100.2.0.{number}"))).to(ip("20.0.0.1"))).unwrap();
    }
    let more = [to("a", "1.1.1.1"), divert(ip("100.3.0.1"), ip("20.0.0.1"))];
    assert_eq!(ask(&mut house, admin, &more), Err((Code::TableFull, 1, 12)));
}

/// Alone, one translator with names may keep sources, as it may without.
#[test]
fn one_translator_keeps_sources() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    let kept = Divert::new(ip("100.1.1.1")).to(ip("20.0.0.1")).keep_source();
    assert_eq!(ask(&mut house, admin, &[Instruction::Divert(Rule::new(&kept).unwrap())]), Ok(vec![Outcome::Inserted]));
}

#[test]
fn counters_tell_of_queries() {
    let mut house = house();
    let admin = &mut house.open(ADMIN, peer(1));
    ask(&mut house, admin, &[to("www.bt.com", "1.1.1.1")]).unwrap();
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x02bt\x03com\0\0\x01\0\x01";
    let mut answer = [0; 600];
    let _ = house.byway.names.answer(s(1), ip("10.0.0.1"), byway::naming::Transport::Tcp, query, &mut answer);
    let counters: BTreeMap<u16, u64> =
        house.ask(admin, peer(1), &Request::one(Instruction::Counters), |answer| answer.counters().collect());
    let by_name: BTreeMap<_, _> =
        counters.iter().map(|(number, count)| (counter_name(*number).unwrap(), *count)).collect();
    assert_eq!(by_name.len(), counters.len());
    assert_eq!((counters[&768], by_name["names_address"], by_name["names_proven"]), (1, 1, 0));
}

/// What a program has that owns both.
#[test]
fn both_can_be_passed_together() {
    let mut byway = Translator::new(config(), Heap::new(10, 4)).unwrap();
    let mut names = Names::new(NamesConfig::new([9; 32]), FixedNames::<4, 1>::new());
    let rights = [NameRights { key: 5, pattern: pattern("*.a") }];
    let mut both = WithNames::new(&mut byway, &mut names).rights(&rights);
    assert!(
        both.may_name(5, &pattern("b.a")) && !both.may_name(5, &pattern("a")) && !both.may_name(4, &pattern("b.a"))
    );
    assert!(both.names().is_some() && both.count() == 1 && both.shard(0).is_some() && both.shard(1).is_none());
}
