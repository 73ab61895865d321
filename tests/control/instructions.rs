//! What instructions do: each of them, several at once, again, and those that are refused.

use core::time::Duration;

use crate::support::*;
use byway::control::{Code, Instruction, Kinds, Outcome, Request, Rights, Rule, counter_name};
use byway::{Config, Divert, DropReason, Event, Match, Prefix, Protocol, Redivert, Target, Timeouts, Weighted};
use byway_testing::*;

type Effects = Vec<(Outcome, u16, u32)>;

/// The code of a refusal with its place, or the effects; and the generation.
fn result(
    house: &mut House,
    client: &mut byway::control::Client,
    request: &Request,
) -> (Result<Effects, (Code, u8)>, u32) {
    house.ask(client, peer(1), request, |answer| {
        let effects = answer.effects().map(|e| (e.outcome, e.servers, e.connections)).collect();
        (answer.refused().map_or(Ok(effects), |r| Err((r.code.unwrap(), r.instruction))), answer.generation())
    })
}

fn redivert(from: &str, to: &str, how: Redivert) -> Instruction {
    Instruction::Redivert { from: at(from).into(), to: at(to).into(), how }
}

#[test]
fn rules_come_change_and_go() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let original = at("100.1.1.1:80");
    let mut one = |instruction| {
        let (effects, generation) = result(&mut house, &mut admin, &Request::one(instruction));
        (effects.map(|e| e[0]), generation)
    };
    assert_eq!(one(divert(original, at("20.0.0.1:80"))), (Ok((Outcome::Inserted, 0, 0)), 1));
    assert_eq!(one(divert(original, at("20.0.0.1:80"))), (Ok((Outcome::Unchanged, 0, 0)), 1));
    assert_eq!(one(divert(original, at("20.0.0.2:80"))), (Ok((Outcome::Updated, 0, 0)), 2));
    assert_eq!(one(redivert("20.0.0.2:80", "20.0.0.3:80", Redivert::Switch)), (Ok((Outcome::Rediverted, 1, 0)), 3));
    assert_eq!(one(redivert("20.0.0.2:80", "20.0.0.3:80", Redivert::Switch)), (Ok((Outcome::Unchanged, 0, 0)), 3));
    assert_eq!(one(Instruction::Remove(original.into())), (Ok((Outcome::Removed, 0, 0)), 4));
    assert_eq!(one(Instruction::Remove(original.into())), (Ok((Outcome::Absent, 0, 0)), 4));
    assert_eq!(house.byway.diverts().count(), 0);
}

#[test]
fn traffic_follows_instructions_and_is_counted() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    result(&mut house, &mut admin, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")))).0.unwrap();
    for port in 1..=5 {
        let packet = udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"), b"hello");
        assert_eq!(ends(&there(&mut house.byway, s(2), &packet)).1, at("20.0.0.1:80"));
    }
    let moving = Request::one(redivert("20.0.0.1:80", "20.0.0.2:80", Redivert::Switch));
    let (effects, generation) = result(&mut house, &mut admin, &moving.dry_run());
    assert_eq!((effects, generation), (Ok(vec![(Outcome::Rediverted, 1, 5)]), 1), "a dry run tells, and does nothing");
    assert_eq!(result(&mut house, &mut admin, &moving), (Ok(vec![(Outcome::Rediverted, 1, 5)]), 2));
    let packet = udp(at("1.2.3.4:1"), at("100.1.1.1:80"), b"hello");
    assert_eq!(ends(&there(&mut house.byway, s(2), &packet)).1, at("20.0.0.2:80"));
}

#[test]
fn settings_are_set_and_read() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let timeouts = Timeouts { udp: Duration::from_millis(123_456), ..Timeouts::RECOMMENDED };
    let both = Request::one(Instruction::SetTimeouts(timeouts)).and(Instruction::SetClientLimit(77)).unwrap();
    assert_eq!(result(&mut house, &mut admin, &both).0.unwrap(), [(Outcome::Set, 0, 0), (Outcome::Set, 0, 0)]);
    assert_eq!(result(&mut house, &mut admin, &both).0.unwrap()[0].0, Outcome::Unchanged);
    assert_eq!((house.byway.timeouts(), house.byway.client_limit()), (timeouts, 77));
    let settings = house.ask(&mut admin, peer(1), &Request::one(Instruction::Settings), |a| a.settings().unwrap());
    assert_eq!((settings.timeouts, settings.client_limit, settings.capacity), (timeouts, 77, 1000));
    assert_eq!((settings.rules, settings.slots_in_use, settings.rights), (0, 0, Rights::All));
    let mut tenant = house.open(TENANT, peer(1));
    let settings = house.ask(&mut tenant, peer(1), &Request::one(Instruction::Settings), |a| a.settings().unwrap());
    assert_eq!(settings.rights, Rights::Divert(Prefix::new(ip("100.0.0.0"), 8).unwrap()));

    let short = Timeouts { icmp: Duration::from_secs(1), ..timeouts };
    let long = Timeouts { hold: Duration::from_secs(1 << 21), ..timeouts };
    for (timeouts, code, place) in [(short, Code::TimeoutTooShort, 3), (long, Code::TimeoutTooLong, 5)] {
        let request = Request::one(Instruction::SetTimeouts(timeouts));
        let refused = house.ask(&mut admin, peer(1), &request, |a| a.refused().unwrap());
        assert_eq!((refused.code, refused.detail), (Some(code), place));
    }
    let request = Request::one(Instruction::SetClientLimit(65_535));
    assert_eq!(result(&mut house, &mut admin, &request).0, Err((Code::ClientLimit, 0)));
    assert_eq!((house.byway.timeouts(), house.byway.client_limit()), (timeouts, 77));
}

#[test]
fn a_transaction_takes_effect_at_once_or_not_at_all() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let first = divert(at("100.1.1.1:80"), at("20.0.0.1:80"));
    let good = Request::one(first)
        .and(divert(at("100.1.1.2:80"), at("20.0.0.2:80")))
        .unwrap()
        .and(Instruction::SetClientLimit(5))
        .unwrap()
        .and(redivert("20.0.0.1:80", "20.0.0.9:80", Redivert::Drain))
        .unwrap();
    let (effects, generation) = result(&mut house, &mut admin, &good);
    let outcomes: Vec<_> = effects.unwrap().iter().map(|e| e.0).collect();
    assert_eq!(outcomes, [Outcome::Inserted, Outcome::Inserted, Outcome::Set, Outcome::Rediverted]);
    assert_eq!(generation, 3);

    let before = house.table();
    let bad_ends = [
        (divert(at("100.1.1.3:80"), at("100.1.1.3:80")), Code::ToItself),
        (divert(at("100.1.1.3:0"), at("20.0.0.1:80")), Code::PortZero),
        (divert(at("100.1.1.3:80"), at("127.0.0.1:80")), Code::MartianTarget),
        (divert(at("100.1.1.7:80"), at("20.0.0.2:80")), Code::BadTransaction), // the same match again
        (redivert("20.0.0.2:80", "20.0.0.2:80", Redivert::Switch), Code::SameServer),
        (redivert("20.0.0.2:80", "10.10.10.10:80", Redivert::Switch), Code::OwnTarget),
        (Instruction::Redivert { from: Target::Same, to: ip("20.0.0.1").into(), how: Redivert::Reset }, Code::NoServer),
        (Instruction::SetClientLimit(70_000), Code::ClientLimit),
        (Instruction::Counters, Code::BadTransaction),
        (Instruction::Close, Code::BadTransaction),
    ];
    for (bad, code) in bad_ends {
        let request = Request::one(divert(at("100.1.1.7:80"), at("20.0.0.1:80")))
            .and(Instruction::Remove(at("100.1.1.1:80").into()))
            .unwrap()
            .and(bad)
            .unwrap();
        assert_eq!(result(&mut house, &mut admin, &request), (Err((code, 2)), generation), "{bad:?}");
        assert_eq!(house.table(), before, "{bad:?} has left something half done");
    }
    // A rule after a re-divert would make the order matter.
    let request = Request::one(redivert("20.0.0.2:80", "20.0.0.3:80", Redivert::Switch)).and(first).unwrap();
    assert_eq!(result(&mut house, &mut admin, &request), (Err((Code::BadTransaction, 1)), generation));
    assert_eq!(result(&mut house, &mut admin, &Request::new()), (Err((Code::InstructionCount, 0)), generation));
    assert_eq!(house.table(), before);
}

#[test]
fn what_does_not_fit_leaves_nothing_half_done() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let port = |port| core::net::SocketAddrV4::new(ip("100.1.1.1"), port);
    for first in (1..=90).step_by(10) {
        let request =
            (first..first + 10).try_fold(Request::new(), |r, p| r.and(divert(port(p), at("20.0.0.1:80")))).unwrap();
        result(&mut house, &mut admin, &request).0.unwrap();
    }
    let before = house.table();
    let eleven = (91..=101).try_fold(Request::new(), |r, p| r.and(divert(port(p), at("20.0.0.1:80")))).unwrap();
    assert_eq!(result(&mut house, &mut admin, &eleven).0, Err((Code::TableFull, 10)));
    let group = [Weighted::new(ip("20.0.0.1"), 1), Weighted::new(ip("20.0.0.2"), 1)];
    let wide = |p| Instruction::Divert(Rule::new(&Divert::new(port(p)).to_group(&group)).unwrap());
    let six = (91..=96).try_fold(Request::new(), |r, p| r.and(wide(p))).unwrap();
    assert_eq!(result(&mut house, &mut admin, &six).0, Err((Code::ServersFull, 5)));
    assert_eq!(house.table(), before);
    // One goes, one comes: that fits.
    let swap = (91..=100)
        .try_fold(Request::one(Instruction::Remove(port(1).into())), |r, p| r.and(divert(port(p), at("20.0.0.1:80"))));
    let swap = swap.unwrap().and(divert(port(101), at("20.0.0.1:80"))).unwrap();
    assert!(result(&mut house, &mut admin, &swap).0.is_ok());
    assert_eq!(house.byway.diverts().count(), 100);
}

#[test]
fn only_if_nothing_has_changed_since() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let first = Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80"))).only_if(0);
    assert_eq!(result(&mut house, &mut admin, &first).1, 1);
    house.byway.divert(Divert::new(at("100.1.1.2:80")).to(at("20.0.0.1:80"))).unwrap();
    let second = Request::one(Instruction::Remove(at("100.1.1.1:80").into()));
    assert_eq!(result(&mut house, &mut admin, &second.only_if(1)), (Err((Code::Generation, 0)), 2));
    assert_eq!(result(&mut house, &mut admin, &second.only_if(2)).1, 3);
}

#[test]
fn loops_and_own_addresses_are_refused() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    for (original, target) in [("100.0.0.1:80", "100.0.0.2:80"), ("100.0.0.3:80", "100.0.0.4:80")] {
        result(&mut house, &mut admin, &Request::one(divert(at(original), at(target)))).0.unwrap();
    }
    let before = house.table();
    let network = Prefix::new(ip("10.0.0.0"), 8).unwrap();
    let tcp_only = |i: Match| i.protocol(Protocol::Tcp);
    let chain = Request::one(divert(at("100.0.0.2:80"), at("100.0.0.3:80")))
        .and(divert(at("100.0.0.4:80"), at("100.0.0.1:80")))
        .unwrap();
    for (request, expected) in [
        // A to B to A, by address and by endpoint, and for one of two protocols.
        (Request::one(divert(at("100.0.0.2:80"), at("100.0.0.1:80"))), Code::Loop),
        (Request::one(divert(ip("100.0.0.2"), ip("100.0.0.1"))), Code::Loop),
        (Request::one(divert(tcp_only(at("100.0.0.2:80").into()), at("100.0.0.1:80"))), Code::Loop),
        // A to B to C to D to A, within one transaction.
        (chain, Code::Loop),
        (Request::one(divert(at("100.0.0.9:80"), at("100.0.0.9:80"))), Code::ToItself),
        (Request::one(divert(at("100.0.0.9:80"), ip("100.0.0.9"))), Code::ToItself),
        (Request::one(divert(at("100.0.0.9:80"), at("10.10.10.10:80"))), Code::OwnTarget),
        (Request::one(divert(at("100.0.0.9:80"), at("10.0.0.1:80"))), Code::OwnTarget),
        // The port of the instructions, as original and as target.
        (Request::one(divert(at("10.0.0.1:5213"), at("20.0.0.1:80"))), Code::ControlPort),
        (Request::one(divert(ip("10.0.0.1"), ip("20.0.0.1"))), Code::ControlPort),
        (Request::one(divert(network, ip("20.0.0.1"))), Code::ControlPort),
        (Request::one(divert(at("100.0.0.9:80"), at("10.0.0.1:5213"))), Code::ControlPort),
        (Request::one(redivert("100.0.0.2:80", "10.0.0.1:5213", Redivert::Switch)), Code::ControlPort),
    ] {
        let (refused, _) = result(&mut house, &mut admin, &request);
        assert_eq!(refused.map_err(|e| e.0), Err(expected), "{request:?}");
        assert_eq!(house.table(), before);
    }
    // A -> B, C -> D: moving what stands on D to A makes C -> A -> B, a chain; but what stands on B to C, then D
    // to A, closes the circle A -> C -> A.
    let open_chain = Request::one(redivert("100.0.0.2:80", "100.0.0.3:80", Redivert::Switch));
    result(&mut house, &mut admin, &open_chain).0.unwrap();
    let closing = Request::one(redivert("100.0.0.4:80", "100.0.0.1:80", Redivert::Switch));
    assert_eq!(result(&mut house, &mut admin, &closing).0, Err((Code::Loop, 0)));
    // What is no loop is not taken for one.
    for fine in [
        divert(at("100.0.0.3:80"), at("20.0.0.1:80")),  // breaks the chain
        divert(Match::from(Prefix::ALL), Target::Same), // masquerades whatever there is
        divert(tcp_only(at("10.0.0.1:5213").into()), at("20.0.0.1:80")), // instructions come over UDP
        divert(at("10.0.0.1:80"), at("20.0.0.1:80")),   // a port forward
        redivert("100.0.0.3:80", "100.0.0.1:80", Redivert::Switch), // back to the original server
    ] {
        assert!(result(&mut house, &mut admin, &Request::one(fine)).0.is_ok(), "{fine:?}");
    }
}

#[test]
fn rights_end_where_they_end() {
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let mut reader = house.open(READER, peer(1));
    let mut tenant = house.open(TENANT, peer(1));
    result(&mut house, &mut admin, &Request::one(divert(at("50.0.0.1:80"), at("20.0.0.1:80")))).0.unwrap();
    let denied = |code| Err((code, 0));
    let mine = divert(at("100.0.0.1:80"), at("20.0.0.2:80"));
    for instruction in [
        mine,
        Instruction::Remove(at("50.0.0.1:80").into()),
        redivert("20.0.0.1:80", "20.0.0.2:80", Redivert::Switch),
        Instruction::SetClientLimit(1),
        Instruction::SetTimeouts(Timeouts::RECOMMENDED),
    ] {
        let request = Request::one(instruction);
        assert_eq!(result(&mut house, &mut reader, &request).0, denied(Code::NotPermitted), "{instruction:?}");
        if instruction != mine {
            assert_eq!(result(&mut house, &mut tenant, &request).0, denied(Code::NotPermitted), "{instruction:?}");
        }
    }
    assert!(result(&mut house, &mut tenant, &Request::one(mine)).0.is_ok());
    let wider = divert(Prefix::new(ip("100.0.0.0"), 7).unwrap(), ip("20.0.0.2"));
    assert_eq!(result(&mut house, &mut tenant, &Request::one(wider)).0, denied(Code::NotPermitted));
    // Its own server it may move, as long as nobody else's rule points there.
    let moving = Request::one(redivert("20.0.0.2:80", "20.0.0.3:80", Redivert::Switch));
    assert!(result(&mut house, &mut tenant, &moving).0.is_ok());
    // Connections of rules that are gone might be anybody's.
    there(&mut house.byway, s(2), &udp(at("1.2.3.4:5"), at("50.0.0.1:80"), b""));
    result(&mut house, &mut admin, &Request::one(Instruction::Remove(at("50.0.0.1:80").into()))).0.unwrap();
    let moving = Request::one(redivert("20.0.0.1:80", "20.0.0.3:80", Redivert::Switch));
    assert_eq!(result(&mut house, &mut tenant, &moving).0, denied(Code::OthersStandThere));
    assert!(result(&mut house, &mut admin, &moving).0.is_ok());
    // A masquerade brings connections anywhere, also outside of the prefix.
    result(&mut house, &mut admin, &Request::one(divert(Prefix::ALL, Target::Same))).0.unwrap();
    let moving = Request::one(redivert("20.0.0.3:80", "20.0.0.4:80", Redivert::Switch));
    assert_eq!(result(&mut house, &mut tenant, &moving).0, denied(Code::NotPermitted));
    // All may read.
    for client in [&mut reader, &mut tenant] {
        for instruction in [Instruction::Counters, Instruction::ListRules(0), Instruction::ListConnections(0)] {
            let request = Request::one(instruction);
            assert_eq!(house.ask(client, peer(1), &request, |a| a.refused()), None);
        }
    }
}

#[test]
fn rules_are_listed_in_pages() {
    let mut house = House::new();
    let group: Vec<_> = (1..=3).map(|i| Weighted::new(ip(&format!("20.0.0.{i}")), i)).collect();
    let network = Prefix::new(ip("100.2.0.0"), 16).unwrap();
    let matches = Match::from((network, 53)).protocol(Protocol::Udp).clients(Prefix::host(ip("1.2.3.4")));
    house.byway.divert(Divert::new(matches).to_group(&group).replies_from_any_port()).unwrap();
    for port in 1..=60 {
        house.byway.divert(Divert::new(at(&format!("100.1.1.1:{port}"))).to(at("20.0.0.1:80"))).unwrap();
    }
    for port in 1..=10 {
        there(&mut house.byway, s(2), &udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:7"), b""));
    }
    let mut reader = house.open(READER, peer(1));
    let (mut listed, mut position, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(first) = position {
        let request = Request::one(Instruction::ListRules(first)).only_if(61);
        position = house.ask(&mut reader, peer(1), &request, |answer| {
            let (rules, next) = answer.rules();
            listed.extend(rules.map(|r| {
                assert_eq!(usize::from(r.servers_in_all()), r.servers().count());
                (r.matches(), r.keeps_source(), r.takes_replies_from_any_port(), r.servers().collect::<Vec<_>>())
            }));
            next
        });
        pages += 1;
    }
    let expected: Vec<_> = house
        .byway
        .diverts()
        .map(|e| (e.matches(), e.keeps_source(), e.takes_replies_from_any_port(), e.servers().collect::<Vec<_>>()))
        .collect();
    assert_eq!(listed, expected);
    assert!(pages > 1);
}

#[test]
fn connections_are_listed_in_pages_with_their_measurements() {
    let mut house = House::new();
    house.byway.divert(Divert::new(Prefix::ALL)).unwrap();
    for port in 1..=50 {
        let (client, original) = (at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"));
        let seen = there(&mut house.byway, s(u64::from(port as u16)), &udp(client, original, b"question"));
        let (source, server) = ends(&seen);
        back(&mut house.byway, s(u64::from(port as u16)), &udp(server, source, b"the answer"));
    }
    let mut reader = house.open(READER, peer(1));
    let (mut listed, mut position, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(first) = position {
        position = house.ask(&mut reader, peer(1), &Request::one(Instruction::ListConnections(first)), |answer| {
            assert_eq!(answer.translator_time(), s(50));
            let (connections, next) = answer.connections();
            listed.extend(connections);
            next
        });
        pages += 1;
    }
    let mut all = house.byway.connections();
    let expected: Vec<_> = core::iter::from_fn(|| all.next_measured()).collect();
    assert_eq!(listed, expected);
    assert_eq!(listed.len(), 50);
    assert!(pages > 1 && listed[7].1.unwrap().to_client.bytes == 38);
}

#[test]
fn counters_are_those_of_the_translator_and_of_the_agent() {
    let mut house = House::new();
    let _ = run(&mut house.byway, s(1), &udp(at("1.2.3.4:5"), at("10.10.10.10:5000"), b""));
    assert!(house.give(peer(9), &[0; 64]).is_err());
    let mut reader = house.open(READER, peer(1));
    let counters: Vec<_> = house.ask(&mut reader, peer(1), &Request::one(Instruction::Counters), |a| {
        a.counters().map(|(number, value)| (counter_name(number).unwrap(), value)).collect()
    });
    let of = |name| counters.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(of(DropReason::NoConnection.name()), 1);
    assert_eq!(of("foreign"), 1);
    assert_eq!((of("passed"), of("bad_tag")), (0, 0));
    assert_eq!(counters.len(), 17 + DropReason::COUNT + byway::control::Refused::ALL.len());
}

#[test]
fn events_come_until_the_subscription_ends() {
    let mut house = House::new();
    house.byway.divert(Divert::new(at("100.1.1.1:80")).to(at("20.0.0.1:80"))).unwrap();
    let (mut all, mut few) = (house.open(READER, peer(1)), house.open(ADMIN, peer(2)));
    let mut subscribe = |client: &mut _, from, seconds, kinds| {
        let request = Request::one(Instruction::Subscribe { seconds, kinds });
        assert_eq!(house.ask(client, from, &request, |a| a.refused()), None);
    };
    subscribe(&mut all, peer(1), 60, Kinds::ALL);
    subscribe(&mut few, peer(2), 60, Kinds::MOVED.and(Kinds::CLOSED));

    let round = |house: &mut House, now| {
        while house.agent.has_room()
            && let Some(event) = house.byway.poll_event()
        {
            house.agent.tell(now, &event);
        }
        let (mut datagrams, mut buffer) = (Vec::new(), [0; byway::control::MAX_ANSWER]);
        while let Some((to, length)) = house.agent.poll_transmit(now, &mut buffer) {
            datagrams.push((to, buffer[..length].to_vec()));
        }
        datagrams
    };
    let packet = udp(at("1.2.3.4:5"), at("100.1.1.1:80"), b"");
    there(&mut house.byway, s(2), &packet);
    house.byway.redivert(at("20.0.0.1:80"), at("20.0.0.2:80"), Redivert::Switch).unwrap();
    there(&mut house.byway, s(2), &packet);
    let told = round(&mut house, s(2));
    assert_eq!(told.iter().map(|t| t.0).collect::<Vec<_>>(), [peer(1), peer(2)]);
    let connection = house.byway.connections().next().unwrap();
    let events = |client: &mut byway::control::Client, datagram: &[u8]| match client.handle(s(2), datagram) {
        Ok(byway::control::Incoming::Events(e)) => Ok((e.datagrams_missed(), e.lost(), e.events().collect::<Vec<_>>())),
        other => Err(format!("{other:?}")),
    };
    let moved = Event::Moved { connection, from: at("20.0.0.1:80") };
    let (_, _, first) = events(&mut all, &told[0].1).unwrap();
    assert_eq!((first.len(), first[1]), (2, moved));
    assert!(matches!(first[0], Event::Opened(_)));
    assert_eq!(events(&mut few, &told[1].1), Ok((0, 0, vec![moved])));
    // Not twice, and not to the other one.
    assert!(events(&mut few, &told[1].1).is_err() && events(&mut few, &told[0].1).is_err());

    // What is lost on the way shows in the next one.
    for port in [6, 7] {
        there(&mut house.byway, s(3), &udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"), b""));
        let told = round(&mut house, s(3));
        assert_eq!(told.len(), 1, "nobody else wants to know");
        if port == 7 {
            assert_eq!(events(&mut all, &told[0].1).map(|(missed, _, events)| (missed, events.len())), Ok((1, 1)));
        }
    }
    // It ends by time, or when it is ended.
    let mut subscribe = |client: &mut _, from, seconds, kinds| {
        let request = Request::one(Instruction::Subscribe { seconds, kinds });
        assert_eq!(house.ask(client, from, &request, |a| a.refused()), None);
    };
    subscribe(&mut few, peer(2), 0, Kinds::ALL);
    there(&mut house.byway, s(62), &udp(at("1.2.3.4:8"), at("100.1.1.1:80"), b""));
    assert_eq!(round(&mut house, s(62)), []);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut house = House::new();
    house.byway.divert(Divert::new(at("100.1.1.1:80")).to(at("20.0.0.1:80"))).unwrap();
    let mut reader = house.open(READER, peer(1));
    let request = Request::one(Instruction::Subscribe { seconds: 60, kinds: Kinds::ALL });
    house.ask(&mut reader, peer(1), &request, |_| ());
    for port in 1..=20 {
        there(&mut house.byway, s(2), &udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"), b""));
    }
    // A caller that does not ask whether there is room.
    while let Some(event) = house.byway.poll_event() {
        house.agent.tell(s(2), &event);
    }
    let mut buffer = [0; byway::control::MAX_ANSWER];
    let (_, length) = house.agent.poll_transmit(s(2), &mut buffer).unwrap();
    let Ok(byway::control::Incoming::Events(events)) = reader.handle(s(2), &buffer[..length]) else {
        panic!("no events");
    };
    assert_eq!((events.lost(), events.events().count()), (4, 16));
}

#[test]
fn a_translator_without_alternative_addresses_says_so() {
    let mut house = House::with(Config::new([1; 32]), [2; 32]);
    let mut admin = house.open(ADMIN, peer(1));
    let request = Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")));
    assert_eq!(result(&mut house, &mut admin, &request).0, Err((Code::NoAlternative, 0)));
    let group = [Weighted::new(ip("20.0.0.1"), 0), Weighted::new(ip("20.0.0.2"), 0)];
    let rule =
        |group: &[Weighted]| Instruction::Divert(Rule::new(&Divert::new(ip("100.1.1.1")).to_group(group)).unwrap());
    assert_eq!(result(&mut house, &mut admin, &Request::one(rule(&group))).0, Err((Code::EmptyGroup, 0)));
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    let twice = [Weighted::new(ip("20.0.0.1"), 1); 2];
    assert_eq!(result(&mut house, &mut admin, &Request::one(rule(&twice))).0, Err((Code::DuplicateServer, 0)));
}
