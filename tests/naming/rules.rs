//! Names that are tied to rules: one instruction moves a name, and with it every client that has cached its address.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::support::{A, pattern, query};
use byway::naming::{
    Answered, EntryError, FixedNames, MAX_ANSWER, NameEntry, Names, NamesConfig, Outcome, Pattern, TieError, Transport,
};
use byway::{
    Divert, DivertError, Fixed, Heap, Instant, Match, Prefix, Protocol, Redivert, RedivertError, Target, Translator,
    Verdict, Weighted,
};
use byway_testing::*;

type Byway = Translator<Heap>;
type Table = Names<FixedNames<6, 0>>;

const WEB: u16 = 80;

fn original() -> Ipv4Addr {
    ip("100.100.100.100")
}

fn server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(123, 45, 67, number)
}

fn www() -> Pattern {
    pattern("www.bt.com")
}

/// `www.bt.com`, tied to a rule to the first server.
fn tied() -> (Table, Byway) {
    let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::new());
    let mut byway = translator(config());
    let done = names
        .divert(&mut byway, NameEntry::new(www()).ttl(86_400), Divert::new(original()).to(server(1)))
        .expect("both are good");
    assert!(!done.entry.updated && !done.rule.updated);
    (names, byway)
}

fn resolve(names: &mut Table, name: &str) -> Option<Ipv4Addr> {
    let mut out = [0; MAX_ANSWER];
    match names.answer(Instant::ZERO, ip("1.2.3.4"), Transport::Tcp, &query(name, A), &mut out) {
        Answered::Answer { length } => {
            let found = out[..length].last_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes));
            // Whatever happens, no server's address is in it.
            assert!((1..10).all(|n| !out[..length].windows(4).any(|w| w == server(n).octets())));
            found
        }
        Answered::Pass => None,
        Answered::Drop(outcome) => panic!("{outcome:?}"),
    }
}

/// Where a client's packet to this address goes.
fn lands(byway: &mut Byway, client: SocketAddrV4, to: Ipv4Addr) -> Ipv4Addr {
    *ends(&there(byway, s(1), &udp(client, SocketAddrV4::new(to, WEB), b"data"))).1.ip()
}

#[test]
fn every_client_that_has_cached_the_name_follows_at_once() {
    let (mut names, mut byway) = tied();
    let cached = resolve(&mut names, "www.bt.com").unwrap();
    assert_eq!(cached, original());
    let clients: Vec<_> = (1..=100).map(|n| SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, n), 4000)).collect();
    for client in &clients {
        assert_eq!(lands(&mut byway, *client, cached), server(1));
    }
    let done = names.redivert(&mut byway, &www(), Prefix::ALL, server(2), Redivert::Switch).unwrap();
    assert_eq!((done.servers, done.connections), (1, 100));
    // Those in the middle of a connection; those that have cached the address and connect anew; those that ask again.
    for client in &clients {
        assert_eq!(lands(&mut byway, *client, cached), server(2));
        assert_eq!(lands(&mut byway, SocketAddrV4::new(*client.ip(), 5000), cached), server(2));
    }
    assert_eq!(resolve(&mut names, "www.bt.com"), Some(cached));
    // Drained: those stay, and new connections go.
    names.redivert(&mut byway, &www(), Prefix::ALL, server(3), Redivert::Drain).unwrap();
    assert_eq!(lands(&mut byway, clients[0], cached), server(2));
    assert_eq!(lands(&mut byway, SocketAddrV4::new(*clients[0].ip(), 6000), cached), server(3));
    // And moved again, while the old ones are still drained.
    names.redivert(&mut byway, &www(), Prefix::ALL, server(4), Redivert::Switch).unwrap();
    assert_eq!(lands(&mut byway, clients[0], cached), server(2));
    assert_eq!(lands(&mut byway, SocketAddrV4::new(*clients[0].ip(), 6000), cached), server(4));
}

/// With a reset both ends of an open TCP connection are told, so that a silent client connects anew.
#[test]
fn a_reset_tells_both_ends() {
    let (mut names, mut byway) = tied();
    let (client, to) = (at("1.2.3.4:3456"), SocketAddrV4::new(original(), WEB));
    let sent = there(&mut byway, s(0), &tcp(client, to, (SYN, 100, 0), b""));
    let (alternative, far) = ends(&sent);
    back(&mut byway, s(0), &tcp(far, alternative, (SYN | ACK, 500, 101), b""));
    there(&mut byway, s(0), &tcp(client, to, (ACK, 101, 501), b""));
    names.redivert(&mut byway, &www(), Prefix::ALL, server(2), Redivert::Reset).unwrap();
    let told = talk::say(&mut byway, s(1));
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|packet| ends(packet) == (to, client)));
}

#[test]
fn entry_and_rule_change_together_or_not_at_all() {
    let (mut names, mut byway) = tied();
    let rule = Match::from(original());
    let before = (names.generation(), byway.generation());
    // The entry alone.
    let tied = Err(EntryError::Tied { rule });
    assert_eq!(names.insert(NameEntry::new(www()).to(server(9))).map(|_| ()), tied);
    assert_eq!(names.remove(&www(), Prefix::ALL).map(|_| ()), tied);
    // A rule that is refused, an entry that is, and an entry of another rule.
    let (other, to) = (ip("100.100.100.101"), NameEntry::new(pattern("other.test")));
    for (entry, divert, error) in [
        (
            to,
            Divert::new(other).to(ip("224.0.0.1")),
            TieError::Divert(DivertError::MartianTarget { target: ip("224.0.0.1").into() }),
        ),
        (
            to.ttl(u32::MAX),
            Divert::new(other).to(server(1)),
            TieError::Entry(EntryError::TtlTooLong { seconds: u32::MAX }),
        ),
        (NameEntry::new(www()), Divert::new(other).to(server(1)), TieError::OtherRule { rule: Some(rule) }),
        (
            to,
            Divert::new("100.100.100.0/24".parse::<Prefix>().unwrap()).to(server(1)),
            TieError::ManyOriginals { destination: "100.100.100.0/24".parse().unwrap() },
        ),
        (
            to,
            Divert::new(other).to(server(1)).clients("10.0.0.0/8".parse().unwrap()),
            TieError::OtherClients { entry: Prefix::ALL, rule: "10.0.0.0/8".parse().unwrap() },
        ),
        (
            to.clients("11.0.0.0/16".parse().unwrap()),
            Divert::new(other).to(server(1)).clients("10.0.0.0/8".parse().unwrap()),
            TieError::OtherClients { entry: "11.0.0.0/16".parse().unwrap(), rule: "10.0.0.0/8".parse().unwrap() },
        ),
    ] {
        assert_eq!(names.divert(&mut byway, entry, divert).map(|_| ()), Err(error), "{error}");
    }
    // Moves that are refused.
    let mut go =
        |names: &mut Table, to: Target, how| names.redivert(&mut byway, &www(), Prefix::ALL, to, how).map(|_| ());
    let same = RedivertError::SameServer { target: server(1).into() };
    assert_eq!(go(&mut names, server(1).into(), Redivert::Switch), Err(TieError::Redivert(same)));
    let none = RedivertError::NoServer { name: "to" };
    assert_eq!(go(&mut names, Target::Same, Redivert::Switch), Err(TieError::Redivert(none)));
    assert_eq!((names.generation(), byway.generation()), before);
    assert_eq!((names.len(), byway.diverts().count()), (1, 1));
    // Names that are not there, or not tied.
    names.insert(NameEntry::new(pattern("plain.test")).to(server(9))).unwrap();
    for (name, error) in [("plain.test", TieError::NotTied), ("none.test", TieError::NoEntry)] {
        let name = pattern(name);
        let moved = names.redivert(&mut byway, &name, Prefix::ALL, server(2), Redivert::Switch);
        assert_eq!(moved.map(|_| ()), Err(error));
        assert_eq!(names.remove_both(&mut byway, &name, Prefix::ALL).map(|_| ()), Err(error));
        assert_eq!(names.untie(&name, Prefix::ALL).map(|_| ()), Err(error));
    }
    let plain = NameEntry::new(pattern("plain.test"));
    let error = Err(TieError::OtherRule { rule: None });
    assert_eq!(names.divert(&mut byway, plain, Divert::new(other).to(server(1))).map(|_| ()), error);
}

#[test]
fn a_full_table_of_either_side_leaves_the_other_alone() {
    let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::<1>::new());
    let mut byway = Translator::new(config(), Fixed::<16, 1>::new()).unwrap();
    names.divert(&mut byway, NameEntry::new(www()), Divert::new(original()).to(server(1))).unwrap();
    let other = NameEntry::new(pattern("other.test"));
    let divert = Divert::new(ip("100.100.100.101")).to(server(2));
    let full = names.divert(&mut byway, other, divert).map(|_| ());
    assert_eq!(full, Err(TieError::Divert(DivertError::TableFull { capacity: 1 })));
    let mut roomy = translator(config());
    let full = names.divert(&mut roomy, other, divert).map(|_| ());
    assert_eq!(full, Err(TieError::Entry(EntryError::TableFull { capacity: 1 })));
    assert_eq!((names.len(), byway.diverts().count(), roomy.diverts().count()), (1, 1, 0));
}

#[test]
fn a_shared_server_is_not_moved_from_under_another_name() {
    let (mut names, mut byway) = tied();
    let second = ip("100.100.100.101");
    let wider = Divert::new(second).to(SocketAddrV4::new(server(1), WEB)).protocol(Protocol::Udp).keep_source();
    names.divert(&mut byway, NameEntry::new(pattern("other.test")), wider).unwrap();
    let (one, two) = (at("1.2.3.4:1000"), at("1.2.3.4:2000"));
    assert_eq!((lands(&mut byway, one, original()), lands(&mut byway, two, second)), (server(1), server(1)));
    for how in [Redivert::Switch, Redivert::Reset] {
        let moved = names.redivert(&mut byway, &www(), Prefix::ALL, server(2), how);
        let rule = Match::from(second).protocol(Protocol::Udp);
        assert_eq!(moved.map(|_| ()), Err(TieError::SharedServer { target: server(1).into(), rule }));
    }
    // Draining needs to move no connection, and leaves the rest of the rule as it is.
    names.redivert(&mut byway, &pattern("other.test"), Prefix::ALL, server(3), Redivert::Drain).unwrap();
    assert_eq!((lands(&mut byway, one, original()), lands(&mut byway, two, second)), (server(1), server(1)));
    let rule = byway.find_divert(Match::from(second).protocol(Protocol::Udp)).unwrap();
    assert!(rule.keeps_source());
    assert_eq!(rule.servers().next().unwrap().0.target, server(3).into());
    assert_eq!(lands(&mut byway, at("1.2.3.5:1"), second), server(3));
    assert_eq!(lands(&mut byway, at("1.2.3.5:2"), original()), server(1));
}

/// Whatever the rule asks for, it asks for it with its next server too.
#[test]
fn a_rule_that_is_drained_keeps_its_options() {
    for options in [
        "keep-source",
        "any-port",
        "resumable",
        "least-loaded",
        "eject",
        "midstream drop",
        "keep-source any-port resumable least-loaded eject midstream adopt",
    ] {
        let storage = Heap::new(64, 8).resumable().measured();
        let mut byway = Translator::new(config(), storage).unwrap();
        let mut names = Table::new(NamesConfig::new([7; 32]), FixedNames::new());
        let mut room = [Weighted::new(Target::Same, 0); 1];
        let [before, after] = [1, 2].map(|n| format!("100.100.100.100 to 123.45.67.{n} {options}"));
        let rule = Divert::parse(&before, &mut room).unwrap();
        names.divert(&mut byway, NameEntry::new(www()), rule).unwrap();
        byway.divert(Divert::new(ip("100.100.100.101")).to(server(1))).unwrap();
        names.redivert(&mut byway, &www(), Prefix::ALL, server(2), Redivert::Drain).unwrap();
        assert_eq!(byway.find_divert(original()).unwrap().to_string(), after);
    }
}

#[test]
fn a_group_says_which_server_is_left() {
    let (mut names, mut byway) = tied();
    let group = [Weighted::new(server(1), 1), Weighted::new(server(2), 1)];
    let done = names.divert(&mut byway, NameEntry::new(www()), Divert::new(original()).to_group(&group)).unwrap();
    assert!(done.entry.updated && done.rule.updated);
    let moved = names.redivert(&mut byway, &www(), Prefix::ALL, server(3), Redivert::Switch);
    assert_eq!(moved.map(|_| ()), Err(TieError::Group { servers: 2 }));
}

#[test]
fn aliases_share_a_rule_until_the_last_one_goes() {
    let (mut names, mut byway) = tied();
    let below = pattern("*.bt.com");
    names.divert(&mut byway, NameEntry::new(below), Divert::new(original()).to(server(1))).unwrap();
    assert_eq!((names.len(), byway.diverts().count()), (2, 1));
    names.redivert(&mut byway, &below, Prefix::ALL, server(2), Redivert::Switch).unwrap();
    assert_eq!(lands(&mut byway, at("1.2.3.4:1000"), resolve(&mut names, "www.bt.com").unwrap()), server(2));
    assert_eq!(names.remove_both(&mut byway, &www(), Prefix::ALL), Ok(None));
    // Now the suffix answers.
    assert_eq!((resolve(&mut names, "www.bt.com"), byway.diverts().count()), (Some(original()), 1));
    assert!(names.remove_both(&mut byway, &below, Prefix::ALL).unwrap().is_some());
    assert_eq!((resolve(&mut names, "www.bt.com"), names.len(), byway.diverts().count()), (None, 0, 0));
}

#[test]
fn a_rule_that_is_removed_alone_suspends_its_names() {
    let (mut names, mut byway) = tied();
    assert_eq!(names.check_rules(&byway), 0);
    let rule = byway.remove(original());
    assert!(rule.is_some());
    assert_eq!(names.check_rules(&byway), 1);
    assert_eq!(names.check_rules(&byway), 1);
    assert!(names.find(&www(), Prefix::ALL).unwrap().is_suspended());
    // The DNS server's answer is better than an address that leads nowhere.
    assert_eq!(resolve(&mut names, "www.bt.com"), None);
    assert_eq!(names.counters().of(Outcome::Suspended), 1);
    let moved = names.redivert(&mut byway, &www(), Prefix::ALL, server(2), Redivert::Switch);
    assert_eq!(moved.map(|_| ()), Err(TieError::RuleGone { rule: original().into() }));
    // It is there again, entered by someone else.
    byway.divert(Divert::new(original()).to(server(2))).unwrap();
    assert_eq!(names.check_rules(&byway), 0);
    assert_eq!(resolve(&mut names, "www.bt.com"), Some(original()));
    // Gone again, and entered together with the name.
    byway.remove(original());
    assert_eq!(names.check_rules(&byway), 1);
    names.divert(&mut byway, NameEntry::new(www()), Divert::new(original()).to(server(1))).unwrap();
    assert_eq!(resolve(&mut names, "www.bt.com"), Some(original()));
    byway.remove(original());
    assert_eq!(names.check_rules(&byway), 1);
    assert_eq!(names.remove_both(&mut byway, &www(), Prefix::ALL), Ok(None));
    assert_eq!((names.check_rules(&byway), names.len()), (0, 0));
}

#[test]
fn untied_both_stay() {
    let (mut names, mut byway) = tied();
    assert_eq!(names.untie(&www(), Prefix::ALL), Ok(original().into()));
    assert_eq!(resolve(&mut names, "www.bt.com"), Some(original()));
    assert_eq!(lands(&mut byway, at("1.2.3.4:1"), original()), server(1));
    // The name first, its rule when the caches have run out.
    assert_eq!(names.remove(&www(), Prefix::ALL), Ok(true));
    assert_eq!(lands(&mut byway, at("1.2.3.4:2"), original()), server(1));
    assert!(byway.remove(original()).is_some());
    assert_eq!(names.check_rules(&byway), 0);
    let packet = udp(at("1.2.3.4:3"), SocketAddrV4::new(original(), WEB), b"");
    assert_eq!(run(&mut byway, s(2), &packet).0, Verdict::Pass);
}

/// An entry can be tied to a rule that somebody else has entered.
#[test]
fn an_entry_is_tied_to_a_rule_that_is_there() {
    let mut byway = Translator::new(config(), Heap::new(16, 4)).unwrap();
    let mut names = Names::new(NamesConfig::new([9; 32]), FixedNames::<4>::new());
    let www: Pattern = "www.bt.com".parse().unwrap();
    let original = ip("100.100.100.100");
    let rule = Match::from(original);
    let tie = |names: &mut Names<FixedNames<4>>, byway: &Translator<Heap>, rule| {
        names.tie_to(byway, NameEntry::new(www).ttl(5), rule)
    };
    assert_eq!(tie(&mut names, &byway, rule), Err(TieError::NoRule { rule }));
    byway.divert(Divert::new(original).to(ip("20.0.0.1"))).unwrap();
    let network = Prefix::new(ip("100.0.0.0"), 8).unwrap();
    assert_eq!(tie(&mut names, &byway, network.into()), Err(TieError::ManyOriginals { destination: network }));
    assert!(names.is_empty());
    names.insert(NameEntry::new(www).to(ip("203.0.113.1"))).unwrap();
    assert!(tie(&mut names, &byway, rule).unwrap().updated);
    let entry = names.find(&www, Prefix::ALL).unwrap();
    assert_eq!((entry.rule(), entry.addresses().next().unwrap().address), (Some(rule), original));
    assert_eq!(names.untie(&www, Prefix::ALL), Ok(rule));
}
