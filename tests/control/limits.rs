//! Where somebody's power ends who has a key, or sees what one who has it says: what lies outside of his rights, what a
//! whole request would make of the rules, and where answers go.

use crate::support::*;
use byway::control::{Client, Code, Incoming, Instruction, Kinds, Refused, Request, Rule};
use byway::{Divert, Imported, Match, Prefix, Redivert, Target, Translator, Weighted};
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};

fn code(house: &mut House, client: &mut Client, request: &Request) -> Option<Code> {
    house.ask(client, peer(1), request, |answer| answer.refused().map(|r| r.code.unwrap()))
}

fn redivert(from: impl Into<Target>, to: impl Into<Target>) -> Instruction {
    Instruction::Redivert { from: from.into(), to: to.into(), how: Redivert::Switch }
}

/// Connections that another portion handed over may belong to a rule that only that one has.
#[test]
fn connections_that_were_taken_over_are_not_moved_by_who_may_only_divert_within_a_prefix() {
    let mut other = Translator::new(config(), byway::Heap::new(100, 10)).unwrap();
    other.divert(Divert::new(at("50.0.0.1:80")).to(at("20.0.0.2:80"))).unwrap();
    there(&mut other, s(1), &udp(at("1.2.3.4:5"), at("50.0.0.1:80"), b""));
    let record = other.records().next().unwrap();

    let mut house = House::new();
    let (mut admin, mut tenant) = (house.open(ADMIN, peer(1)), house.open(TENANT, peer(1)));
    assert_eq!(code(&mut house, &mut tenant, &Request::one(divert(at("100.0.0.1:80"), at("20.0.0.2:80")))), None);
    let moving = |n: u8| Request::one(redivert(at(&format!("20.0.0.{n}:80")), at(&format!("20.0.0.{}:80", n + 1))));
    assert_eq!(house.byway.import(s(1), &record), Ok(Imported::New));
    assert_eq!(code(&mut house, &mut tenant, &moving(2).dry_run()), Some(Code::OthersStandThere));
    assert_eq!(code(&mut house, &mut tenant, &moving(2)), Some(Code::OthersStandThere));
    there(&mut house.byway, s(2), &udp(at("1.2.3.4:5"), at("50.0.0.1:80"), b""));
    let server = house.byway.connections().next().unwrap().server();
    assert_eq!(server, at("20.0.0.2:80"), "it was moved by somebody who has no right to");
    assert_eq!(code(&mut house, &mut admin, &moving(2)), None);
    // Once that one is gone, the tenant may move his own again.
    for seconds in [10_000, 20_000] {
        house.now = s(seconds);
        house.byway.poll(house.now);
    }
    assert_eq!(house.byway.slots_in_use(), 0);
    let mut tenant = house.open(TENANT, peer(1));
    assert_eq!(code(&mut house, &mut tenant, &moving(3)), None);
}

/// A re-divert that is still being followed brings connections to a server that no count tells of yet.
#[test]
fn connections_that_are_on_their_way_are_not_moved_either() {
    let mut house = House::new();
    let (mut admin, mut tenant) = (house.open(ADMIN, peer(1)), house.open(TENANT, peer(1)));
    // The rule names the address alone, so that its count does not say how many stand on port 80.
    house.byway.divert(Divert::new(ip("50.0.0.1")).to(ip("20.0.0.1"))).unwrap();
    let packet = udp(at("1.2.3.4:5"), at("50.0.0.1:80"), b"");
    there(&mut house.byway, s(1), &packet);
    assert_eq!(code(&mut house, &mut tenant, &Request::one(divert(at("100.0.0.1:80"), at("20.0.0.2:80")))), None);
    assert_eq!(code(&mut house, &mut admin, &Request::one(redivert(at("20.0.0.1:80"), at("20.0.0.2:80")))), None);
    let moving = Request::one(redivert(at("20.0.0.2:80"), at("20.0.0.3:80")));
    assert_eq!(code(&mut house, &mut tenant, &moving), Some(Code::OthersStandThere));
    there(&mut house.byway, s(1), &packet);
    assert_eq!(house.byway.connections().next().unwrap().server(), at("20.0.0.2:80"));
    assert_eq!(code(&mut house, &mut tenant, &moving), Some(Code::OthersStandThere));
}

/// An echo has no port, whatever port its rule's server has: port zero would be all echoes of an address.
#[test]
fn echoes_are_not_moved_by_port_zero() {
    let mut house = House::new();
    let mut tenant = house.open(TENANT, peer(1));
    house.byway.divert(Divert::new(ip("50.0.0.1")).to(at("20.0.0.1:80"))).unwrap();
    let packet = echo(8, ip("1.2.3.4"), ip("50.0.0.1"), 7, b"");
    there(&mut house.byway, s(1), &packet);
    let moving = redivert(at("20.0.0.1:0"), ip("20.0.0.9"));
    let own = divert(at("100.0.0.1:80"), at("20.0.0.2:80"));
    for request in [Request::one(moving), Request::one(own).and(moving).unwrap()] {
        assert_eq!(code(&mut house, &mut tenant, &request), Some(Code::PortZero));
    }
    there(&mut house.byway, s(2), &packet);
    assert_eq!(*house.byway.connections().next().unwrap().server().ip(), ip("20.0.0.1"));
}

/// Whatever a key with a prefix says, and however it says it: what lies outside stays as it is, and so do the settings.
#[test]
fn a_prefix_ends_where_it_ends_however_it_is_said() {
    let mut house = House::new();
    let mut tenant = house.open(TENANT, peer(1));
    let network = |address, length| Prefix::new(ip(address), length).unwrap();
    let group = [Weighted::new(at("20.0.0.1:80"), 1), Weighted::new(at("20.0.0.2:80"), 1)];
    house.byway.divert(Divert::new(at("50.0.0.1:80")).to_group(&group)).unwrap();
    house.byway.divert(Divert::new(network("100.0.0.0", 7)).to(ip("20.0.0.3"))).unwrap();
    let own = divert(at("100.0.0.1:80"), at("20.0.0.9:80"));
    assert_eq!(code(&mut house, &mut tenant, &Request::one(own)), None);
    for number in 1..=5 {
        let from = udp(at(&format!("1.2.3.{number}:5")), at("50.0.0.1:80"), b"");
        there(&mut house.byway, s(1), &from);
    }
    let before = house.table();
    let rule = |matches: Match| Instruction::Divert(Rule::new(&Divert::new(matches).to_group(&group)).unwrap());
    let from_my_clients = Match::from(at("50.0.0.1:80")).clients(network("100.0.0.0", 8));
    for bad in [
        // Update in place, a closer match for some clients or one protocol, and a wider network, itself among it.
        rule(at("50.0.0.1:80").into()),
        rule(from_my_clients),
        rule(Match::from(at("50.0.0.1:80")).protocol(byway::Protocol::Udp)),
        rule(network("100.0.0.0", 7).into()),
        rule(Prefix::ALL.into()),
        Instruction::Remove(network("100.0.0.0", 7).into()),
        Instruction::Remove(Prefix::ALL.into()), // one that is not there
        // A member of another's group, by endpoint and by address; and what a wider rule may have brought somewhere.
        redivert(at("20.0.0.2:80"), at("20.0.0.9:80")),
        redivert(ip("20.0.0.1"), at("20.0.0.9:80")),
        redivert(at("20.0.0.3:80"), at("20.0.0.9:80")),
        Instruction::SetClientLimit(1),
        Instruction::SetTimeouts(byway::Timeouts::RECOMMENDED),
    ] {
        for request in [
            Request::one(bad),
            Request::one(bad).dry_run(),
            Request::one(bad).only_if(house.byway.generation()),
            Request::one(divert(at("100.0.0.2:80"), at("20.0.0.9:80"))).and(bad).unwrap(),
        ] {
            assert_eq!(code(&mut house, &mut tenant, &request), Some(Code::NotPermitted), "{bad:?}");
            assert_eq!(house.table(), before, "{bad:?}");
        }
    }
    // His own he may move onto another's server, but not away from it again.
    let there_and_back = |from, to| Request::one(redivert(at(from), at(to)));
    assert_eq!(code(&mut house, &mut tenant, &there_and_back("20.0.0.9:80", "20.0.0.1:80")), None);
    let back_again = there_and_back("20.0.0.1:80", "20.0.0.9:80");
    assert_eq!(code(&mut house, &mut tenant, &back_again), Some(Code::NotPermitted));
    assert_eq!(code(&mut house, &mut tenant, &Request::one(own)), None);
}

/// The answer to a request was lost, and before it is asked for again the table has become another: it was carried out
/// once, and what is told is what happened then. A clock that runs backwards changes nothing of that.
#[test]
fn a_lost_answer_is_the_same_however_the_table_has_changed() {
    let mut house = House::new();
    let mut client = house.open(ADMIN, peer(1));
    let rule = divert(at("100.0.0.1:80"), at("20.0.0.1:80"));
    client.send(house.now, &Request::one(rule).only_if(0)).unwrap();
    let datagram = sent(&mut client, house.now);
    let lost = house.give(peer(1), &datagram).unwrap();
    house.byway.remove(at("100.0.0.1:80")).unwrap();
    house.byway.divert(Divert::new(at("100.0.0.2:80")).to(at("20.0.0.2:80"))).unwrap();
    let before = house.table();
    house.now = byway::Instant::ZERO;
    for _ in 0..3 {
        assert_eq!(house.give(peer(1), &datagram).unwrap(), lost);
    }
    assert_eq!(house.table(), before);
    assert!(matches!(client.handle(house.now, &lost), Ok(Incoming::Answer(a)) if a.generation() == 1));
    // A page of a list that is no longer the same list is refused, and refused again.
    let page = Request::one(Instruction::ListRules(0)).only_if(3);
    client.send(s(2), &page).unwrap();
    let datagram = sent(&mut client, s(2));
    assert!(house.give(peer(1), &datagram).unwrap().len() > 60);
    house.byway.remove(at("100.0.0.2:80")).unwrap();
    for _ in 0..2 {
        let answer = house.give(peer(1), &datagram).unwrap();
        assert_eq!((answer.len(), answer[17]), (44, 5));
    }
}

/// Connections that stay are told once, whatever comes and goes between two pages.
#[test]
fn pages_hold_while_the_table_changes() {
    let mut house = House::new();
    let mut client = house.open(READER, peer(1));
    house.byway.divert(Divert::new(at("100.1.1.1:80")).to(at("20.0.0.1:80"))).unwrap();
    let packet = |port: u16| udp(at(&format!("1.2.3.4:{port}")), at("100.1.1.1:80"), b"");
    // Half of them will be dead by the second page.
    for (first, seconds) in [(2, 1), (1, 200)] {
        house.now = s(seconds);
        for port in (first..=200).step_by(2) {
            there(&mut house.byway, house.now, &packet(port));
        }
    }
    let (mut told, mut next, mut newer) = (Vec::new(), Some(0), 1000..);
    while let Some(position) = next {
        next = house.ask(&mut client, peer(1), &Request::one(Instruction::ListConnections(position)), |answer| {
            let (entries, next) = answer.connections();
            told.extend(entries.map(|(c, _)| c.client_side.source.port()));
            next
        });
        house.now = s(350);
        house.byway.poll(house.now);
        for port in newer.by_ref().take(5) {
            there(&mut house.byway, house.now, &packet(port));
        }
    }
    for port in (1..=200).step_by(2) {
        assert_eq!(told.iter().filter(|told| **told == port).count(), 1, "{port}");
    }
    assert!(told.iter().filter(|port| **port <= 200).count() < 200, "some died unseen");
    let all = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), all, "none twice");
    for position in [u32::MAX, u32::MAX - 1, 1 << 31] {
        for instruction in [Instruction::ListConnections(position), Instruction::ListRules(position)] {
            let seen = house.ask(&mut client, peer(1), &Request::one(instruction), |answer| {
                (answer.refused(), answer.rules().0.count(), answer.rules().1)
            });
            assert_eq!(seen, (None, 0, None), "{instruction:?}");
        }
    }
}

/// What none of its instructions would close, all of them together must not close either.
#[test]
fn a_request_closes_no_loop_by_halves() {
    let (a, b) = (at("100.0.0.1:80"), at("100.0.0.2:80"));
    let (x, y) = (at("20.0.0.1:80"), at("20.0.0.2:80"));
    let halves = [
        // A to X and B to Y: X becomes B, and Y becomes A.
        (vec![(a, x), (b, y)], Request::one(redivert(x, b)).and(redivert(y, a)).unwrap()),
        // B to A is there; A to X is new, and X becomes B.
        (vec![(b, a)], Request::one(divert(a, x)).and(redivert(x, b)).unwrap()),
        // The same over two steps, and by addresses.
        (vec![(b, a)], Request::one(divert(a, x)).and(redivert(x, y)).unwrap().and(redivert(y, b)).unwrap()),
        (vec![(b, a)], Request::one(divert(a, x)).and(redivert(*x.ip(), *b.ip())).unwrap()),
    ];
    for (rules, request) in halves {
        let mut house = House::new();
        let mut admin = house.open(ADMIN, peer(1));
        for (original, server) in rules {
            house.byway.divert(Divert::new(original).to(server)).unwrap();
        }
        let before = house.table();
        assert_eq!(code(&mut house, &mut admin, &request), Some(Code::Loop), "{}", house.table());
        assert_eq!(house.table(), before);
    }
    // What is a loop only half-way through a request is none.
    let mut house = House::new();
    let mut admin = house.open(ADMIN, peer(1));
    house.byway.divert(Divert::new(b).to(x)).unwrap();
    let past = Request::one(redivert(x, a)).and(redivert(a, y)).unwrap();
    assert_eq!(code(&mut house, &mut admin, &past), None);
    let fine = Request::one(divert(a, b)).and(redivert(b, y)).unwrap();
    assert_eq!(code(&mut house, &mut admin, &fine), None);
}

/// An address alone keeps the port, and so can be just the port of the instructions.
#[test]
fn nothing_is_diverted_to_the_control_port_by_its_address_alone() {
    let mut house = House::with(config(), [0xb0; 32]);
    let mut admin = house.open(ADMIN, peer(1));
    let (same_port, control) = (at("100.0.0.1:5213"), ip("10.0.0.1"));
    let request = Request::one(divert(same_port, control));
    assert_eq!(code(&mut house, &mut admin, &request), Some(Code::ControlPort));
    assert_eq!(code(&mut house, &mut admin, &Request::one(divert(same_port, at("20.0.0.1:5213")))), None);
    for from in [Target::from(ip("20.0.0.1")), at("20.0.0.1:5213").into()] {
        let request = Request::one(redivert(from, control));
        assert_eq!(code(&mut house, &mut admin, &request), Some(Code::ControlPort), "{from}");
    }
    // Another port of the same machine is a server like any other.
    assert_eq!(code(&mut house, &mut admin, &Request::one(divert(at("100.0.0.1:80"), control))), None);
}

/// Who repeats what he saw is no sign of life: a session that its monitor has left ends all the same.
#[test]
fn a_repetition_keeps_no_session_alive() {
    let mut house = House::new();
    let mut client = house.open(ADMIN, peer(1));
    client.send(house.now, &Request::one(Instruction::Counters)).unwrap();
    let datagram = sent(&mut client, house.now);
    house.give(peer(1), &datagram).unwrap();
    for minutes in [20, 40, 59] {
        house.now = s(1 + minutes * 60);
        assert!(house.give(peer(1), &datagram).is_ok(), "a late repetition is answered");
    }
    house.now = s(3602);
    assert_eq!(house.give(peer(1), &datagram), Err(Refused::UnknownSession));
}

/// Somebody on the monitor's side of the path who puts another's address on its datagrams cannot have answers and
/// events sent there: the challenge goes to whom it would be about.
#[test]
fn a_session_is_opened_from_where_the_challenge_went() {
    let mut house = House::new();
    let mut client = house.client(ADMIN);
    let challenge = house.give(peer(1), &sent(&mut client, house.now)).unwrap();
    assert!(matches!(client.handle(house.now, &challenge), Ok(Incoming::Challenged)));
    let open = sent(&mut client, house.now);
    let mut port = peer(1);
    port.set_port(9);
    let v6 = "[2001:db8::1]:40000".parse().unwrap();
    for victim in [peer(2), port, v6] {
        assert_eq!(house.give(victim, &open), Err(Refused::Stale), "{victim}");
    }
    let opened = house.give(peer(1), &open).unwrap();
    assert!(matches!(client.handle(house.now, &opened), Ok(Incoming::Opened(_))));
    let subscribe = Request::one(Instruction::Subscribe { seconds: 60, kinds: Kinds::ALL });
    house.ask(&mut client, peer(1), &subscribe, |_| ());
    house.byway.divert(Divert::new(Match::from(at("100.1.1.1:80"))).to(at("20.0.0.1:80"))).unwrap();
    there(&mut house.byway, s(1), &udp(at("1.2.3.4:5"), at("100.1.1.1:80"), b""));
    let event = house.byway.poll_event().unwrap();
    house.agent.tell(s(1), &event);
    let (to, _) = house.agent.poll_transmit(s(1), &mut [0; byway::control::MAX_ANSWER]).unwrap();
    assert_eq!(to, peer(1));
    // And over IPv6, whose addresses are longer.
    let mut client = house.client(ADMIN);
    for _ in 0..2 {
        let answer = house.give(v6, &sent(&mut client, house.now)).unwrap();
        client.handle(house.now, &answer).unwrap();
    }
    assert!(client.is_ready());
}

/// With room for many rules they are found by an index, also where a request is judged; a small table looks through all.
#[test]
fn a_large_table_judges_as_a_small_one_does() {
    let mut dice = Dice(0x5eed_0123_4567_89ab);
    let mut refused = 0;
    for _ in 0..60 {
        let mut houses = [100, 2_000].map(House::with_room);
        let mut clients = [ADMIN, TENANT].map(|key| [0, 1].map(|n: usize| houses[n].open(key, peer(1))));
        let place = |dice: &mut Dice| {
            let address = Ipv4Addr::new(100, 0, 0, 1 + dice.below(5) as u8);
            match dice.below(3) {
                0 => Target::Address(address),
                _ => Target::Endpoint(SocketAddrV4::new(address, 80 + dice.below(2) as u16)),
            }
        };
        for _ in 0..60 {
            let mut request = Request::new();
            for _ in 0..=dice.below(3) {
                let (from, to) = (place(&mut dice), place(&mut dice));
                let to = if dice.below(20) == 0 { Target::from(at("10.0.0.1:5213")) } else { to };
                let instruction = match (from, dice.below(6)) {
                    (_, 0) => redivert(from, to),
                    (Target::Endpoint(original), 1) => Instruction::Remove(original.into()),
                    (_, 2) => divert(Prefix::new(ip("100.0.0.0"), 8 + 21 * dice.below(2) as u8).unwrap(), to),
                    (Target::Endpoint(original), 3) => {
                        divert(Match::from(original).clients(Prefix::new(ip("1.2.3.0"), 24).unwrap()), to)
                    }
                    (Target::Endpoint(original), _) => divert(original, to),
                    (Target::Address(original), _) => divert(original, to),
                    (Target::Same, _) => unreachable!("no place"),
                };
                request = request.and(instruction).unwrap();
            }
            let who = &mut clients[usize::from(dice.below(4) == 0)];
            let codes = [0, 1].map(|n| code(&mut houses[n], &mut who[n], &request));
            assert_eq!(codes[0], codes[1], "{request:?} of {}", houses[0].table());
            refused += u32::from(codes[0].is_some());
            for house in &mut houses {
                house.byway.poll(house.now);
            }
        }
        let [mut small, mut large] = houses.map(|house| house.table().lines().map(String::from).collect::<Vec<_>>());
        small.sort();
        large.sort();
        assert_eq!(small, large);
    }
    assert!(refused > 500, "{refused} requests were refused");
}

/// However many rules lead to a server, one instruction moves it at once. That took a look at all rules for each of them.
#[test]
fn a_server_of_many_rules_is_moved_by_one_instruction() {
    // Small machines have no index, because they have no need of so many rules.
    const RULES: u32 = if cfg!(target_pointer_width = "64") { 60_000 } else { 2_000 };
    let mut house = House::with_room(RULES as usize);
    let original = |n: u32| SocketAddrV4::new(Ipv4Addr::from_bits(0x6400_0000 + n), 80);
    for n in 0..RULES {
        house.byway.divert(Divert::new(original(n)).to(at("20.0.0.1:80"))).unwrap();
    }
    let (mut admin, mut tenant) = (house.open(ADMIN, peer(1)), house.open(TENANT, peer(1)));
    let moving = |n: u8| Request::one(redivert(at(&format!("20.0.0.{n}:80")), at(&format!("20.0.0.{}:80", n + 1))));
    assert_eq!(code(&mut house, &mut admin, &moving(1)), None);
    assert_eq!(code(&mut house, &mut tenant, &moving(2)), None);
    // One of them is none of the tenant's.
    house.byway.divert(Divert::new(at("50.0.0.1:80")).to(at("20.0.0.3:80"))).unwrap_err();
    assert!(house.byway.remove(original(7)).is_some());
    house.byway.divert(Divert::new(at("50.0.0.1:80")).to(at("20.0.0.3:80"))).unwrap();
    assert_eq!(code(&mut house, &mut tenant, &moving(3)), Some(Code::NotPermitted));
    // Nor do they lead in a circle.
    assert!(house.byway.remove(original(8)).is_some());
    house.byway.divert(Divert::new(at("50.0.0.2:80")).to(original(9))).unwrap();
    let back = Request::one(redivert(at("20.0.0.3:80"), at("50.0.0.2:80")));
    assert_eq!(code(&mut house, &mut admin, &back), Some(Code::Loop));
    assert_eq!(code(&mut house, &mut admin, &moving(3)), None);
    assert_eq!(
        house.byway.find_divert(original(RULES - 1)).unwrap().servers().next().unwrap().0.target,
        at("20.0.0.4:80").into()
    );
}
