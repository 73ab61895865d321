//! Originals that are drawn from a pool: a name gets an address that nothing else has, and keeps it.

use core::net::Ipv4Addr;
use std::collections::BTreeSet;

use crate::support::{A, pattern, query};
use byway::naming::{Answered, HeapNames, MAX_ANSWER, NameEntry, Names, NamesConfig, TieError, Transport};
use byway::{Config, Divert, Heap, Instant, Prefix, Redivert, Translator, Verdict};
use byway_testing::*;

fn pool(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn both(config: Config) -> (Names<HeapNames>, Translator<Heap>) {
    let names = Names::new(NamesConfig::new([7; 32]), HeapNames::new(100, 0));
    (names, Translator::new(config, Heap::new(64, 100)).unwrap())
}

/// Enters a name with what is drawn for it.
fn enter(
    names: &mut Names<HeapNames>,
    byway: &mut Translator<Heap>,
    name: &str,
    from: &str,
) -> Result<Ipv4Addr, TieError> {
    let name = pattern(name);
    let original = names.draw_original(byway, &name, Prefix::ALL, pool(from))?;
    names.divert(byway, NameEntry::new(name), Divert::new(original).to(ip("123.45.67.89"))).unwrap();
    Ok(original)
}

#[test]
fn names_get_addresses_of_their_own_until_none_is_left() {
    let (mut names, mut byway) = both(config());
    let mut drawn = BTreeSet::new();
    for n in 0..32 {
        let original = enter(&mut names, &mut byway, &format!("n{n}.test"), "100.64.0.0/27").unwrap();
        assert!(pool("100.64.0.0/27").contains(original));
        assert!(drawn.insert(original), "{original} again");
        // Who asks gets it, and what is sent there goes to the server.
        let mut out = [0; MAX_ANSWER];
        let asked =
            names.answer(Instant::ZERO, ip("1.2.3.4"), Transport::Tcp, &query(&format!("n{n}.test"), A), &mut out);
        let Answered::Answer { length } = asked else { panic!("{asked:?}") };
        assert_eq!(out[..length].last_chunk(), Some(&original.octets()));
        let mut packet = udp(at(&format!("1.2.3.4:{}", 5_000 + n)), at(&format!("{original}:80")), b"to the name");
        assert_eq!(byway.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
        assert_eq!(packet[16..20], ip("123.45.67.89").octets());
    }
    let refused = enter(&mut names, &mut byway, "one-more.test", "100.64.0.0/27").unwrap_err();
    assert_eq!(refused, TieError::PoolUsedUp { pool: pool("100.64.0.0/27") });
    assert_eq!(refused.to_string(), "pool 100.64.0.0/27: no address that was looked at is free");
    // One that goes makes room.
    names.remove_both(&mut byway, &pattern("n7.test"), Prefix::ALL).unwrap();
    enter(&mut names, &mut byway, "one-more.test", "100.64.0.0/27").unwrap();
}

/// Clients may have cached it for a day.
#[test]
fn a_name_keeps_what_was_drawn() {
    let (mut names, mut byway) = both(config());
    for n in 0..20 {
        enter(&mut names, &mut byway, &format!("n{n}.test"), "100.64.0.0/10").unwrap();
    }
    let www = enter(&mut names, &mut byway, "www.test", "100.64.0.0/10").unwrap();
    names.redivert(&mut byway, &pattern("n3.test"), Prefix::ALL, ip("123.45.67.90"), Redivert::Drain).unwrap();
    assert_eq!(names.draw_original(&byway, &pattern("www.test"), Prefix::ALL, pool("100.64.0.0/10")), Ok(www));
    // Another pool, another address.
    let other = names.draw_original(&byway, &pattern("www.test"), Prefix::ALL, pool("100.128.0.0/10")).unwrap();
    assert!(pool("100.128.0.0/10").contains(other));
    // The same names and secret draw the same again, as after a restart.
    let (mut names, mut byway) = both(config());
    for n in 0..20 {
        enter(&mut names, &mut byway, &format!("n{n}.test"), "100.64.0.0/10").unwrap();
    }
    assert_eq!(enter(&mut names, &mut byway, "www.test", "100.64.0.0/10"), Ok(www));
}

/// Not what rules are about already, whoever made them; nor this machine's own addresses; nor what no host can have; nor what
/// an entry without its rule would be answered with.
#[test]
fn what_is_taken_is_not_drawn() {
    let config = config().own(ip("100.64.0.1"));
    for n in 0..50 {
        let (mut names, mut byway) = both(config.clone());
        byway.divert(Divert::new(pool("100.64.0.4/30")).to(ip("20.0.0.1"))).unwrap();
        byway.divert(Divert::new(at("100.64.0.2:443")).to(ip("20.0.0.1"))).unwrap();
        names.insert(NameEntry::new(pattern("fixed.test")).to(ip("100.64.0.3"))).unwrap();
        let original = enter(&mut names, &mut byway, &format!("n{n}.test"), "100.64.0.0/29").unwrap();
        assert_eq!(original, ip("100.64.0.0"), "n{n}");
        // A rule that is gone leaves an entry, whose clients still have the address.
        byway.remove(original);
        assert_eq!(names.check_rules(&byway), 1);
        enter(&mut names, &mut byway, "other.test", "100.64.0.0/29").unwrap_err();
    }
    let (names, byway) = both(config);
    let loopback = names.draw_original(&byway, &pattern("n.test"), Prefix::ALL, pool("127.0.0.0/8"));
    assert_eq!(loopback, Err(TieError::PoolUsedUp { pool: pool("127.0.0.0/8") }));
    // A pool of one address, and of all.
    assert_eq!(names.draw_original(&byway, &pattern("n.test"), Prefix::ALL, pool("9.9.9.9/32")), Ok(ip("9.9.9.9")));
    assert!(names.draw_original(&byway, &pattern("n.test"), Prefix::ALL, Prefix::ALL).is_ok());
}

/// For a caller that draws many at once.
#[test]
fn originals_are_all_of_the_pool_in_the_order_of_draws() {
    let (mut names, mut byway) = both(config());
    for (from, count) in [("100.64.0.0/25", 128), ("9.9.9.9/32", 1), ("127.0.0.0/30", 0), ("0.0.0.0/7", 1 << 24)] {
        let order: Vec<_> = names.originals(&pattern("www.test"), pool(from)).collect();
        assert!(order.iter().all(|one| pool(from).contains(*one)));
        // 0.0.0.0/8 has no hosts.
        assert_eq!((order.len(), order.iter().collect::<BTreeSet<_>>().len()), (count, count), "{from}");
    }
    let order: Vec<_> = names.originals(&pattern("www.test"), pool("100.64.0.0/25")).take(20).collect();
    for expected in order {
        assert_eq!(enter(&mut names, &mut byway, "www.test", "100.64.0.0/25"), Ok(expected));
        // It is not kept once it is tied to no rule, and the rule is there.
        names.untie(&pattern("www.test"), Prefix::ALL).unwrap();
        assert!(names.remove(&pattern("www.test"), Prefix::ALL).unwrap());
    }
}
