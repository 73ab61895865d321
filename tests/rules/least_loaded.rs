//! Rules that send each new connection to the least loaded server, against counting by hand.

use byway::{Config, Divert, DivertError, Heap, Match, PortChoice, Protocol, Target, Translator, Weighted};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};
use proptest::prelude::*;

fn server(number: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0x1400_0001 + number as u32), 80)
}

fn group(weights: &[u16]) -> Vec<Weighted> {
    weights.iter().enumerate().map(|(n, weight)| Weighted::new(server(n), *weight)).collect()
}

proptest! {
    /// Whatever the weights, on the way that new connections usually take and on the other one: no connection goes where
    /// another server would have been less loaded, weights of zero get nothing, and changing weights moves nothing.
    #[test]
    fn no_connection_goes_to_a_more_loaded_server(
        weights in prop::collection::vec(prop_oneof![Just(0_u16), 1_u16..5, 1_u16..=u16::MAX], 2..10),
        later in prop::collection::vec(0_u16..9, 10),
        slow in any::<bool>(),
    ) {
        prop_assume!(weights.iter().any(|w| *w != 0) && later[..weights.len()].iter().any(|w| *w != 0));
        let config = if slow { config().port_choice(PortChoice::SameRange) } else { config() };
        let mut t = translator(config);
        let mut counts = vec![0_u64; weights.len()];
        for (round, weights) in [weights.as_slice(), &later[..weights.len()]].into_iter().enumerate() {
            let group = group(weights);
            t.divert(Divert::new(at(ORIGINAL)).to_group(&group).least_loaded()).unwrap();
            for n in 0..60 {
                let from = SocketAddrV4::new(*client(n % 7).ip(), 1_000 + (round as u32 * 100 + n) as u16);
                let (_, chosen) = ask(&mut t, s(1), from, at(ORIGINAL));
                let chosen = (0..weights.len()).find(|n| server(*n) == chosen).unwrap();
                prop_assert!(weights[chosen] != 0);
                for other in (0..weights.len()).filter(|n| weights[*n] != 0) {
                    let [mine, its] = [chosen, other].map(|n| (counts[n] + 1, u64::from(weights[n])));
                    prop_assert!(mine.0 * its.1 <= its.0 * mine.1, "{chosen} instead of {other}: {counts:?} {weights:?}");
                }
                counts[chosen] += 1;
            }
            for (n, count) in counts.iter().enumerate() {
                prop_assert_eq!(u64::from(t.connections_on(server(n))), *count);
            }
        }
    }
}

/// Of equals no one is preferred by all clients.
#[test]
fn equal_servers_share_the_first_connections() {
    let mut firsts = [0; 3];
    for n in 0..300 {
        let mut t = translator(config());
        t.divert(Divert::new(at(ORIGINAL)).to_group(&group(&[5, 5, 5])).least_loaded()).unwrap();
        let (_, chosen) = ask(&mut t, s(1), client(n), at(ORIGINAL));
        firsts[usize::from(chosen.ip().octets()[3]) - 1] += 1;
    }
    assert!(firsts.iter().all(|count| *count > 30), "{firsts:?}");
}

/// Of many servers two are drawn, which keeps the fullest near the mean (two random choices).
#[test]
fn a_large_group_stays_even() {
    let mut t = Translator::new(config(), Heap::new(20_000, 2).servers(400)).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to_group(&group(&[1; 300])).least_loaded()).unwrap();
    for n in 0..9_000 {
        ask(&mut t, s(1), client(n), at(ORIGINAL));
    }
    let most = (0..300).map(|n| t.connections_on(server(n))).max().unwrap();
    // One random choice gives about 48 here.
    assert!(most <= 38, "{most}, and 30 on average");
}

/// The rule means the same in every form, with every protocol beside it: its bit lies among the protocol's.
#[test]
fn the_option_is_kept_with_every_protocol() {
    for protocol in [None, Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Icmp)] {
        for least_loaded in [false, true] {
            let destination: Match = ip("100.100.100.100").into();
            let matches = protocol.map_or(destination, |protocol| destination.protocol(protocol));
            let group = [Weighted::new(ip("20.0.0.1"), 2), Weighted::new(ip("20.0.0.2"), 1)];
            let divert = Divert::new(matches).to_group(&group).resumable();
            let divert = if least_loaded { divert.least_loaded() } else { divert };
            let mut t = Translator::new(Config::new([7; 32]).alternative(ip("10.10.10.10"), 1024..=65535), {
                Heap::new(100, 10).resumable()
            })
            .unwrap();
            t.divert(divert).unwrap();
            let entry = t.diverts().next().unwrap();
            assert_eq!((entry.matches(), entry.is_least_loaded()), (matches, least_loaded));
            assert!(entry.is_resumable());
            let text = divert.to_string();
            assert_eq!(entry.to_string(), text);
            let mut room = [Weighted::new(Target::Same, 0); 4];
            assert_eq!(Divert::parse(&text, &mut room).unwrap(), divert);
            // What another protocol sends is not matched.
            let udp = udp(at(CLIENT), at("100.100.100.100:53"), b"");
            let tcp = tcp(at(CLIENT), at(ORIGINAL), (SYN, 1, 0), b"");
            for (packet, number) in [(udp, Protocol::Udp), (tcp, Protocol::Tcp)] {
                let translated = verdict(&mut t, s(1), &packet) == byway::Verdict::ToServer;
                assert_eq!(translated, protocol.is_none_or(|p| p == number));
            }
        }
    }
}

/// Where the source is kept, packets to the original itself pass without a connection: nothing would count them, and
/// nearly all clients would get that server.
#[test]
fn a_group_that_keeps_the_source_cannot_count_the_original_itself() {
    let mut t = translator(config());
    let other = Target::from(at(SERVER));
    let original = ip("100.100.100.100");
    let prefix = byway::Prefix::new(ip("100.100.0.0"), 16).unwrap();
    let to_itself = |target| Err(DivertError::ToItself { target });
    for (matches, target, is_itself) in [
        (Match::from(at(ORIGINAL)), Target::from(at(ORIGINAL)), true),
        (Match::from(at(ORIGINAL)), original.into(), true),
        (Match::from(at(ORIGINAL)), Target::Same, true),
        (Match::from(at(ORIGINAL)), at("100.100.100.100:81").into(), false),
        (Match::from(at(ORIGINAL)), at("100.100.100.101:80").into(), false),
        (Match::from(original), at(ORIGINAL).into(), true),
        (Match::from(prefix), at("100.100.7.7:80").into(), true),
        (Match::from(prefix), ip("100.101.7.7").into(), false),
        (Match::from(prefix), Target::Same, true),
    ] {
        let group = [Weighted::new(other, 1), Weighted::new(target, 1)];
        let rule = Divert::new(matches).to_group(&group);
        let done = t.divert(rule.keep_source().least_loaded()).map(|_| ());
        assert_eq!(done, if is_itself { to_itself(target) } else { Ok(()) }, "{matches} {target}");
        // By hash of the client they can be: who gets the original passes.
        assert!(t.divert(rule.keep_source()).is_ok());
        assert!(t.divert(rule.least_loaded()).is_ok());
        let mut measured = Translator::new(config(), Heap::new(100, 10).measured()).unwrap();
        let done = measured.divert(rule.keep_source().ejecting()).map(|_| ());
        assert_eq!(done, if is_itself { to_itself(target) } else { Ok(()) }, "{matches} {target}");
    }
    // An exception has nothing to count.
    assert!(t.divert(Divert::new(prefix).keep_source().least_loaded()).is_ok());
}

#[cfg(feature = "control")]
#[test]
fn an_instruction_carries_the_option() {
    let rule: byway::control::Rule = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2 least-loaded".parse().unwrap();
    assert!(rule.to_string().ends_with("least-loaded"));
    let without: byway::control::Rule = "100.100.100.100:80 to 20.0.0.1*2, 20.0.0.2".parse().unwrap();
    assert_ne!(rule, without);
}
