//! Rules and their parts as text: what is written is read again as the same, what a person may write is read, whatever is
//! wrong is named, and no text makes it panic.

use core::fmt::{Debug, Display};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use byway::{
    Config, Divert, Heap, Match, Midstream, ParseError, Prefix, Protocol, Redivert, Target, Translator, Weighted,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const NOTHING: Weighted = Weighted { target: Target::Same, weight: 0 };

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Icmp), Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn midstreams() -> impl Strategy<Value = Midstream> {
    prop_oneof![Just(Midstream::Pass), Just(Midstream::Adopt), Just(Midstream::Drop)]
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| Prefix::new(Ipv4Addr::from_bits(bits), length).unwrap())
}

fn matches() -> impl Strategy<Value = Match> {
    let parts = (prefixes(), option::of(any::<u16>()), option::of(protocols()), option::of(prefixes()));
    parts.prop_map(|(destination, port, protocol, clients)| {
        let matches = port.map_or(Match::from(destination), |port| Match::from((destination, port)));
        let matches = protocol.map_or(matches, |protocol| matches.protocol(protocol));
        clients.map_or(matches, |clients| matches.clients(clients))
    })
}

fn targets() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Same),
        any::<u32>().prop_map(|bits| Target::Address(Ipv4Addr::from_bits(bits))),
        (any::<u32>(), any::<u16>())
            .prop_map(|(bits, port)| Target::Endpoint(SocketAddrV4::new(Ipv4Addr::from_bits(bits), port))),
    ]
}

fn servers() -> impl Strategy<Value = Weighted> {
    (targets(), any::<u16>()).prop_map(|(target, weight)| Weighted::new(target, weight))
}

#[track_caller]
fn comes_back<T: Display + FromStr<Err = ParseError> + PartialEq + Debug>(value: T) {
    let text = value.to_string();
    assert_eq!(text.parse(), Ok(value), "{text:?}");
}

/// What nearly looks like a rule.
fn nearly() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        Just("to"),
        Just("="),
        Just("from"),
        Just("same"),
        Just("tcp"),
        Just("udp"),
        Just("icmp"),
        Just("midstream"),
        Just("drop"),
        Just("keep-source"),
        Just("any-port"),
        Just(","),
        Just("*"),
        Just(":"),
        Just("/"),
        Just(" "),
        Just("10.0.0.1"),
        Just("10.0.0.0/8"),
        Just("80"),
        Just("65536"),
        Just("-1"),
        Just("+1"),
        Just("ü"),
        Just("\t"),
    ];
    vec(words, 0..12).prop_flat_map(|words| prop_oneof![Just(words.join(" ")), Just(words.concat())])
}

/// Reads it as everything. Errors name a piece of the text, cut at 32 bytes.
fn reads(text: &str) {
    let mut room = [NOTHING; 3];
    let errors = [
        text.parse::<Prefix>().err(),
        text.parse::<Protocol>().err(),
        text.parse::<Match>().err(),
        text.parse::<Target>().err(),
        text.parse::<Weighted>().err(),
        text.parse::<Redivert>().err(),
        text.parse::<Midstream>().err(),
        Divert::parse(text, &mut room).err(),
        Divert::parse(text, &mut []).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(text.contains(error.text()) && error.text().len() <= 32, "{text:?}: {error}");
        assert!(!error.field().is_empty() && !error.expected().is_empty());
        let said = error.to_string();
        assert!(said.contains(error.field()) && said.contains(error.expected()), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: byway_testing::cases(2_000), ..ProptestConfig::default() })]

    #[test]
    fn parts_come_back(matches in matches(), server in servers(), prefix in prefixes()) {
        comes_back(matches);
        comes_back(server);
        comes_back(server.target);
        comes_back(prefix);
    }

    #[test]
    fn rules_come_back(
        matches in matches(),
        servers in vec(servers(), 1..5),
        (keep_source, any_port) in any::<(bool, bool)>(),
        midstream in option::of(midstreams()),
    ) {
        let mut divert = Divert::new(matches).to_group(&servers);
        if keep_source {
            divert = divert.keep_source();
        }
        if any_port {
            divert = divert.replies_from_any_port();
        }
        if let Some(midstream) = midstream {
            divert = divert.midstream(midstream);
        }
        let text = divert.to_string();
        let mut room = [NOTHING; 5];
        prop_assert_eq!(Divert::parse(&text, &mut room), Ok(divert), "{:?}", text);
        let single = Divert::parse(&text, &mut []);
        prop_assert_eq!(single.is_ok(), servers.len() == 1, "one server needs no room");
        // What is otherwise is not the same.
        prop_assert_ne!(divert, Divert::new(matches).to_group(&[]));

        #[cfg(feature = "control")]
        {
            let rule: byway::control::Rule = text.parse().unwrap();
            prop_assert_eq!(rule.divert(), divert);
            prop_assert_eq!(rule.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}", nearly in nearly()) {
        reads(&text);
        reads(&nearly);
    }
}

#[test]
fn words_come_back() {
    [Protocol::Icmp, Protocol::Tcp, Protocol::Udp].into_iter().for_each(comes_back);
    use Redivert::{Drain, HandOver, HandOverOrReset, Reset, Switch};
    [Switch, Drain, Reset, HandOver, HandOverOrReset].into_iter().for_each(comes_back);
    [Midstream::Pass, Midstream::Adopt, Midstream::Drop].into_iter().for_each(comes_back);
    comes_back(Target::Same);
}

/// What people write, and how it is written back.
#[test]
fn what_people_write() {
    let mut room = [NOTHING; 4];
    for (text, rule) in [
        ("1.2.3.4=5.6.7.8", "1.2.3.4 to 5.6.7.8"),
        ("1.2.3.4:80=5.6.7.8:8080", "1.2.3.4:80 to 5.6.7.8:8080"),
        ("1.2.3.9/24:53 udp = 5.6.7.8:5353, 5.6.7.9", "1.2.3.0/24:53 udp to 5.6.7.8:5353, 5.6.7.9"),
        ("  1.2.3.4\t to\t5.6.7.8 *2 ", "-"),
        ("1.2.3.4 to 5.6.7.8*2 5.6.7.9*1\n", "1.2.3.4 to 5.6.7.8*2, 5.6.7.9"),
        ("1.2.3.4/32 to same", "1.2.3.4 to same"),
        ("0.0.0.0/0 from 10.0.0.0/8 to same", "0.0.0.0/0 from 10.0.0.0/8 to same"),
        ("0.0.0.0/0 tcp from 10.1.2.3 to same", "0.0.0.0/0 tcp from 10.1.2.3/32 to same"),
        ("0.0.0.0/0 from 0.0.0.0/0 to same", "0.0.0.0/0 to same"),
        (
            "1.2.3.4 to 5.6.7.8 midstream adopt any-port keep-source",
            "1.2.3.4 to 5.6.7.8 keep-source any-port midstream adopt",
        ),
    ] {
        let read = Divert::parse(text, &mut room).map_or("-".to_owned(), |divert| divert.to_string());
        assert_eq!(read, rule, "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut room = [NOTHING; 2];
    for (text, wrong) in [
        ("", "rule \"\": it must be MATCH to TARGET"),
        ("1.2.3.4", "rule \"1.2.3.4\": it must be MATCH to TARGET"),
        ("1.2.3.4 5.6.7.8", "rule \"1.2.3.4 5.6.7.8\": it must be MATCH to TARGET"),
        ("=5.6.7.8", "address \"\": it must be an IPv4 address"),
        ("1.2.3=5.6.7.8", "address \"1.2.3\": it must be an IPv4 address"),
        ("01.2.3.4=5.6.7.8", "address \"01.2.3.4\": it must be an IPv4 address"),
        ("1.2.3.4/33=5.6.7.8", "prefix length \"33\": it must be a number from 0 to 32"),
        ("1.2.3.4/+8=5.6.7.8", "prefix length \"+8\": it must be a number from 0 to 32"),
        ("1.2.3.4:65536=5.6.7.8", "port \"65536\": it must be a number from 0 to 65535"),
        ("1.2.3.4: to 5.6.7.8", "port \"\": it must be a number from 0 to 65535"),
        ("1.2.3.4 sctp to 5.6.7.8", "protocol \"sctp\": it must be tcp, udp or icmp"),
        ("1.2.3.4 tcp udp to 5.6.7.8", "match \"udp\": it must be \"from\" and the clients' prefix"),
        ("1.2.3.4 from to 5.6.7.8", "address \"\": it must be an IPv4 address"),
        (
            "1.2.3.4 from 1.0.0.0/8 tcp to 5.6.7.8",
            "match \"tcp\": it must be left out: nothing follows the clients' prefix",
        ),
        ("1.2.3.4 to", "target \"\": it must be \"same\" or an IPv4 address"),
        ("1.2.3.4 to keep-source", "target \"keep-source\": it must be \"same\" or an IPv4 address"),
        ("1.2.3.4 to host", "target \"host\": it must be \"same\" or an IPv4 address"),
        ("1.2.3.4 to 5.6.7.8:http", "port \"http\": it must be a number from 0 to 65535"),
        ("1.2.3.4 to 5.6.7.8*-1", "weight \"-1\": it must be a number from 0 to 65535"),
        ("1.2.3.4 to 5.6.7.8 midstream", "midstream \"\": it must be pass, adopt or drop"),
        ("1.2.3.4 to 5.6.7.8 midstream=drop", "target \"midstream=drop\": it must be \"same\" or an IPv4 address"),
        (
            "1.2.3.4 to 5.6.7.8 any-port 5.6.7.9",
            "rule \"5.6.7.9\": it must be keep-source, any-port, resumable, least-loaded, eject, or midstream and pass, adopt or drop",
        ),
        (
            "1.2.3.4 to 1.1.1.1, 1.1.1.2, 1.1.1.3",
            "target \"1.1.1.3\": it must be left out: there is no room for so many",
        ),
        (
            "1.2.3.4 to a-name-that-is-longer-than-thirty-two-bytes",
            "target \"a-name-that-is-longer-than-thirt\": it must be \"same\" or an IPv4 address",
        ),
    ] {
        assert_eq!(Divert::parse(text, &mut room).unwrap_err().to_string(), wrong, "{text:?}");
    }
    let expected = "how \"now\": it must be switch, drain, reset, hand-over or hand-over-or-reset";
    assert_eq!("now".parse::<Redivert>().unwrap_err().to_string(), expected);
}

/// A table can be written down and read again.
#[test]
fn a_table_comes_back() {
    let new = || Translator::new(Config::new([1; 32]).alternative([10, 10, 10, 10].into(), 1..=9), Heap::new(16, 8));
    let (mut first, mut second) = (new().unwrap(), new().unwrap());
    let mut room = [NOTHING; 4];
    let rules = [
        "100.0.0.1:80 to 20.0.0.1*3, 20.0.0.2:8080",
        "100.0.0.2:69 udp to 20.0.0.3 any-port",
        "10.10.10.10:443 tcp from 198.51.100.0/24 to 20.0.0.4:443 keep-source midstream pass",
        "0.0.0.0/0 from 192.168.0.0/16 to same midstream drop",
    ];
    for rule in rules {
        first.divert(Divert::parse(rule, &mut room).unwrap()).unwrap();
    }
    let listed: Vec<String> = first.diverts().map(|rule| rule.to_string()).collect();
    for rule in rules {
        assert!(listed.iter().any(|line| line == rule), "{rule} is not in {listed:?}");
    }
    for line in &listed {
        second.divert(Divert::parse(line, &mut room).unwrap()).unwrap();
    }
    assert!(second.diverts().map(|rule| rule.to_string()).eq(listed));
}
