//! An agent that speaks for several shards: an instruction takes effect on all of them or on none, and what the agent
//! reports covers all of them.

mod sequences;

use core::net::SocketAddrV4;
use std::sync::{Mutex, MutexGuard};

use crate::support::*;
use byway::control::{Answer, Client, Code, Instruction, Kinds, Outcome, Request, Rights, Rule, Translators};
use byway::{
    Config, Connection, Divert, Heap, Prefix, Redivert, Sharded, Sharding, Storage, Target, Timeouts, Translator,
    Verdict,
};
use byway_testing::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SHARDS: usize = 3;

fn config() -> Config {
    let alternatives = (ip("10.10.10.10"), ip("10.10.10.15"));
    Config::new([0x42; 32]).alternatives(alternatives.0, alternatives.1, 1024..=65535).own(ip("10.0.0.1"))
}

fn room() -> Heap {
    Heap::new(1000, 40).measured().events(64)
}

fn several() -> House<Sharded<Heap>> {
    House::of(Sharded::new(config(), [(); SHARDS].map(|()| room())).unwrap(), [0xb0; 32])
}

/// What is said about a request, with what does not depend on who has which connection.
#[track_caller]
fn said<T: Translators>(house: &mut House<T>, client: &mut Client, request: &Request) -> String {
    house.ask(client, peer(1), request, |answer| {
        let effects: Vec<_> = answer.effects().collect();
        let refused = answer.refused().map(|r| (r.code.unwrap(), r.instruction, r.detail));
        format!("{refused:?} {} {} {effects:?}", answer.generation(), answer.is_dry_run())
    })
}

#[track_caller]
fn effects<T: Translators>(house: &mut House<T>, client: &mut Client, request: &Request) -> Vec<(Outcome, u16, u32)> {
    house.ask(client, peer(1), request, |answer| {
        assert_eq!(answer.refused(), None);
        answer.effects().map(|e| (e.outcome, e.servers, e.connections)).collect()
    })
}

#[track_caller]
fn refusal<T: Translators>(house: &mut House<T>, client: &mut Client, request: &Request) -> (Code, u8) {
    house.ask(client, peer(1), request, |answer| {
        let refused = answer.refused().expect("it is refused");
        (refused.code.unwrap(), refused.instruction)
    })
}

fn redivert(from: &str, to: &str, how: Redivert) -> Instruction {
    Instruction::Redivert { from: at(from).into(), to: at(to).into(), how }
}

fn both(first: Instruction, second: Instruction) -> Request {
    Request::one(first).and(second).unwrap()
}

/// A client of this shard.
fn client_of(sharding: &Sharding, shard: usize, number: u16) -> SocketAddrV4 {
    let original = at("100.1.1.1:80");
    let all = (1..=255).map(|n| at(&format!("1.2.3.{n}:{number}")));
    let is_there = |client: &SocketAddrV4| sharding.owner(&udp(*client, original, b"")).includes(shard);
    all.into_iter().find(is_there).expect("one of 255 clients is there")
}

/// The server that a client's packet goes to.
#[track_caller]
fn server(set: &mut Sharded<Heap>, client: SocketAddrV4, original: &str) -> SocketAddrV4 {
    let mut packet = udp(client, at(original), b"hello");
    assert_eq!(set.translate(s(2), &mut packet), Verdict::ToServer);
    ends(&packet).1
}

fn generations(set: &Sharded<Heap>) -> Vec<u32> {
    set.shards().map(Translator::generation).collect()
}

fn tables(set: &Sharded<Heap>) -> Vec<String> {
    set.shards().map(table).collect()
}

/// All connections, page by page.
fn connections<T: Translators>(house: &mut House<T>, client: &mut Client) -> Vec<Connection> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(position) = next {
        next = house.ask(client, peer(1), &Request::one(Instruction::ListConnections(position)), |answer| {
            let (entries, next) = answer.connections();
            all.extend(entries.map(|(connection, measured)| {
                assert!(measured.is_some_and(|m| m.to_server.packets > 0 && m.last == answer.translator_time()));
                connection
            }));
            next
        });
    }
    all
}

/// Rules with the connections of their servers, page by page.
fn rules<T: Translators>(house: &mut House<T>, client: &mut Client) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(position) = next {
        next = house.ask(client, peer(1), &Request::one(Instruction::ListRules(position)), |answer| {
            let (entries, next) = answer.rules();
            all.extend(entries.map(|rule| {
                let servers: Vec<_> = rule.servers().collect();
                format!("{} {} {servers:?}", rule.matches(), rule.servers_in_all())
            }));
            next
        });
    }
    all
}

#[test]
fn a_rule_acts_on_every_shard_and_a_redivert_moves_the_connections_of_all() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    let rule = Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")));
    assert_eq!(effects(&mut house, &mut admin, &rule), [(Outcome::Inserted, 0, 0)]);
    let sharding = house.byway.sharding();
    let clients: Vec<_> = (0..SHARDS).flat_map(|n| [1, 2].map(|port| client_of(&sharding, n, port))).collect();
    for client in &clients {
        assert_eq!(server(&mut house.byway, *client, "100.1.1.1:80"), at("20.0.0.1:80"));
    }
    assert!(house.byway.shards().all(|shard| shard.connections().count() == 2), "each has its clients");
    let moving = Request::one(redivert("20.0.0.1:80", "20.0.0.2:80", Redivert::Switch));
    assert_eq!(effects(&mut house, &mut admin, &moving.dry_run()), [(Outcome::Rediverted, 1, 6)]);
    assert_eq!(server(&mut house.byway, clients[0], "100.1.1.1:80"), at("20.0.0.1:80"), "nothing has changed yet");
    assert_eq!(effects(&mut house, &mut admin, &moving), [(Outcome::Rediverted, 1, 6)]);
    for client in &clients {
        assert_eq!(server(&mut house.byway, *client, "100.1.1.1:80"), at("20.0.0.2:80"));
    }
    assert_eq!(generations(&house.byway), [2; SHARDS]);
    let settings = house.ask(&mut admin, peer(1), &Request::one(Instruction::Settings), |a| a.settings().unwrap());
    assert_eq!((settings.rules, settings.capacity, settings.slots_in_use), (1, 3000, 6));
    let opened = house.ask(&mut admin, peer(1), &Request::one(Instruction::Counters), |a| {
        a.counters().find(|(number, _)| byway::control::counter_name(*number) == Some("opened")).unwrap().1
    });
    assert_eq!(opened, 6);
    let forgotten = effects(&mut house, &mut admin, &Request::one(Instruction::Forget));
    assert_eq!(forgotten, [(Outcome::Forgotten, 0, 6)]);
    assert!(house.byway.shards().all(|shard| shard.connections().count() == 0));
}

/// Each drain of a server with connections takes one more entry of the shard that has them, and of no other.
#[test]
fn what_one_shard_has_no_room_for_changes_nothing_on_any() {
    for full in 0..SHARDS {
        let set = Sharded::new(config(), [(); SHARDS].map(|()| Heap::new(100, 10).servers(4))).unwrap();
        let mut house = House::of(set, [0xb0; 32]);
        let mut admin = house.open(ADMIN, peer(1));
        let rule = Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")));
        effects(&mut house, &mut admin, &rule);
        let client = |port| client_of(&house.byway.sharding(), full, port);
        let clients = [1, 2, 3, 4].map(client);
        let names: Vec<_> = (1..=5).map(|n| format!("20.0.0.{n}:80")).collect();
        for (way, client) in names.windows(2).zip(clients).take(3) {
            server(&mut house.byway, client, "100.1.1.1:80");
            effects(&mut house, &mut admin, &Request::one(redivert(&way[0], &way[1], Redivert::Drain)));
        }
        server(&mut house.byway, clients[3], "100.1.1.1:80");
        let (before, generation) = (tables(&house.byway), generations(&house.byway));
        assert_eq!(generation, [4; SHARDS]);
        let set_limit = Instruction::SetClientLimit(7);
        for bad_end in [redivert(&names[3], &names[4], Redivert::Drain), divert(at("100.9.9.9:80"), at("20.9.9.9:80"))]
        {
            let request = both(set_limit, bad_end);
            for request in [request.dry_run(), request] {
                assert_eq!(refusal(&mut house, &mut admin, &request), (Code::ServersFull, 1), "shard {full}");
                assert_eq!(tables(&house.byway), before, "shard {full} has no room, and nothing has changed");
                assert_eq!(generations(&house.byway), generation);
            }
        }
        // Each of the others by itself would have accepted it.
        for (number, shard) in house.byway.shards_mut().enumerate() {
            let planned = shard.plan().divert(&Divert::new(at("100.9.9.9:80")).to(at("20.9.9.9:80"))).is_ok();
            assert_eq!(planned, number != full);
        }
    }
}

#[test]
fn a_repeated_request_is_answered_the_same_and_applied_once() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    admin.send(house.now, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")))).unwrap();
    let request = sent(&mut admin, house.now);
    let first = house.give(peer(1), &request).unwrap();
    assert_eq!(house.give(peer(1), &request).unwrap(), first);
    assert_eq!(generations(&house.byway), [1; SHARDS]);
}

/// A connection of a rule without a target may stand anywhere, so a re-divert concerns the shard that has one, and only
/// that.
#[test]
fn a_redivert_that_concerns_one_shard_counts_as_applied_on_all() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    let all = Rule::new(&Divert::new(Prefix::ALL)).unwrap();
    effects(&mut house, &mut admin, &Request::one(Instruction::Divert(all)));
    let moving = Request::one(redivert("50.0.0.1:80", "50.0.0.2:80", Redivert::Switch));
    assert_eq!(effects(&mut house, &mut admin, &moving), [(Outcome::Unchanged, 0, 0)], "there is nothing to move");
    assert_eq!(generations(&house.byway), [1; SHARDS]);
    let client = client_of(&house.byway.sharding(), 1, 7);
    assert_eq!(server(&mut house.byway, client, "50.0.0.1:80"), at("50.0.0.1:80"));
    effects(&mut house, &mut admin, &moving);
    assert_eq!(generations(&house.byway), [2; SHARDS], "the shards without the connection count it too");
    assert_eq!(server(&mut house.byway, client, "50.0.0.1:80"), at("50.0.0.2:80"));
    let condition = Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80"))).only_if(2);
    effects(&mut house, &mut admin, &condition);
}

#[test]
fn a_shard_that_was_changed_alone_is_noticed() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    let rule = divert(at("100.1.1.1:80"), at("20.0.0.1:80"));
    effects(&mut house, &mut admin, &Request::one(rule));
    let alone = house.byway.shards_mut().nth(2).unwrap();
    alone.divert(Divert::new(at("100.2.2.2:80")).to(at("20.0.0.2:80"))).unwrap();
    let request = Request::one(divert(at("100.3.3.3:80"), at("20.0.0.3:80")));
    for demanded in [1, 2] {
        assert_eq!(refusal(&mut house, &mut admin, &request.only_if(demanded)), (Code::Generation, 0));
    }
    // What is inserted on two of three is inserted.
    let repair = Request::one(divert(at("100.2.2.2:80"), at("20.0.0.2:80")));
    assert_eq!(effects(&mut house, &mut admin, &repair), [(Outcome::Inserted, 0, 0)]);
    assert!(house.byway.shards().all(|shard| shard.diverts().count() == 2));
}

#[test]
fn several_shards_keep_no_source_and_a_key_does_what_it_may() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    let kept = Rule::new(&Divert::new(at("100.1.1.1:80")).to(at("20.0.0.1:80")).keep_source()).unwrap();
    let request = both(Instruction::SetClientLimit(9), Instruction::Divert(kept));
    assert_eq!(refusal(&mut house, &mut admin, &request), (Code::KeptSource, 1));
    assert!(house.byway.shards().all(|shard| shard.client_limit() == 0 && shard.diverts().count() == 0));
    // An exception from other rules has no server, and its packets pass.
    let exception = Rule::new(&Divert::new(at("100.1.1.1:80")).keep_source()).unwrap();
    effects(&mut house, &mut admin, &Request::one(Instruction::Divert(exception)));
    let mut tenant = house.open(TENANT, peer(1));
    let foreign = Request::one(divert(at("99.1.1.1:80"), at("20.0.0.1:80")));
    assert_eq!(refusal(&mut house, &mut tenant, &foreign), (Code::NotPermitted, 0));
    let settings = house.ask(&mut tenant, peer(1), &Request::one(Instruction::Settings), |a| a.settings().unwrap());
    assert!(matches!(settings.rights, Rights::Divert(_)));
}

/// Translators that get packets to 100.1.0.0/16 only.
struct Routed(Vec<Translator<Heap>>, fn(&Rule) -> bool);

impl Translators for Routed {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        self.0.get_mut(number)
    }

    fn comes_here(&self) -> Option<&dyn Fn(&Rule) -> bool> {
        Some(&self.1)
    }
}

/// Whether there is one translator or several: its packets would leave untranslated.
#[test]
fn a_rule_about_what_does_not_come_here_is_refused() {
    for shards in [1, 3] {
        let sharding = Sharding::new(&config(), shards).unwrap();
        let shard = |number| Translator::new(sharding.config(&config(), number).unwrap(), room()).unwrap();
        let comes = |rule: &Rule| rule.matches().destination().network().octets()[..2] == [100, 1];
        let mut house = House::of(Routed((0..shards).map(shard).collect(), comes), [0xb0; 32]);
        let mut admin = house.open(ADMIN, peer(1));
        let [here, elsewhere] =
            ["100.1.1.1:80", "100.2.1.1:80"].map(|original| divert(at(original), at("20.0.0.1:80")));
        for request in [both(here, elsewhere), both(here, elsewhere).dry_run()] {
            assert_eq!(refusal(&mut house, &mut admin, &request), (Code::NotRouted, 1), "{shards}");
        }
        assert!(house.byway.0.iter().all(|shard| shard.diverts().count() == 0 && shard.generation() == 0));
        assert_eq!(effects(&mut house, &mut admin, &Request::one(here)), [(Outcome::Inserted, 0, 0)]);
        // What a key may not do is not said to be unrouted.
        let mut tenant = house.open(TENANT, peer(1));
        let foreign = Request::one(divert(at("99.1.1.1:80"), at("20.0.0.1:80")));
        assert_eq!(refusal(&mut house, &mut tenant, &foreign), (Code::NotPermitted, 0));
    }
}

/// A page examines 1024 slots of all shards together, and holds fewer than 20 connections with their measurements.
#[test]
fn a_list_of_connections_goes_from_shard_to_shard() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    effects(&mut house, &mut admin, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80"))));
    assert_eq!(connections(&mut house, &mut admin), []);
    let sharding = house.byway.sharding();
    let mut expected = Vec::new();
    // None in the first, one in the second, and several pages in the third.
    for (shard, count) in [(1, 1), (2, 70)] {
        for port in 1..=count {
            let client = client_of(&sharding, shard, port);
            server(&mut house.byway, client, "100.1.1.1:80");
            expected.push(client);
        }
    }
    // The others have seen a packet at the same time.
    for shard in house.byway.shards_mut() {
        shard.poll(s(2));
    }
    let clients = |all: Vec<Connection>| all.iter().map(|c| c.client_side.source).collect::<Vec<_>>();
    assert_eq!(clients(connections(&mut house, &mut admin)), expected);
    // Positions that no page gives lead nowhere, and not astray.
    for position in [2999, 3000, 3001, u32::MAX - 1, u32::MAX] {
        let request = Request::one(Instruction::ListConnections(position));
        house.ask(&mut admin, peer(1), &request, |answer| {
            let (entries, next) = answer.connections();
            assert_eq!((entries.count(), next), (0, None), "{position}");
        });
    }
}

/// However many shards there are, the work for one page is that for 1024 slots.
#[test]
fn a_page_examines_no_more_slots_of_several_shards_than_of_one() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    effects(&mut house, &mut admin, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80"))));
    let sharding = house.byway.sharding();
    for shard in 0..2 {
        for port in 1..=800 {
            server(&mut house.byway, client_of(&sharding, shard, port), "100.1.1.1:80");
        }
    }
    effects(&mut house, &mut admin, &Request::one(Instruction::Forget));
    for step in 3..200 {
        house.byway.poll(s(step));
    }
    assert!(house.byway.shards().all(|shard| shard.slots_in_use() == 0), "800 slots of two shards are empty");
    let mut page = |position| {
        house.ask(&mut admin, peer(1), &Request::one(Instruction::ListConnections(position)), |answer| {
            let (entries, next) = answer.connections();
            assert_eq!(entries.count(), 0);
            next
        })
    };
    // 800 slots of the first, which has room for 1000, and 224 of the second.
    assert_eq!(page(0), Some(1224));
    assert_eq!(page(1224), None);
}

#[test]
fn subscribers_hear_of_every_shard() {
    let mut house = several();
    let mut admin = house.open(ADMIN, peer(1));
    assert!(!house.agent.wants_events(house.now));
    effects(&mut house, &mut admin, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80"))));
    let subscribe = Request::one(Instruction::Subscribe { seconds: 100, kinds: Kinds::ALL });
    house.ask(&mut admin, peer(1), &subscribe, |answer| assert_eq!(answer.refused(), None));
    assert!(house.agent.wants_events(house.now) && !house.agent.wants_events(s(200)));
    let sharding = house.byway.sharding();
    let mut expected: Vec<_> = (0..SHARDS).map(|shard| client_of(&sharding, shard, 1)).collect();
    for client in &expected {
        server(&mut house.byway, *client, "100.1.1.1:80");
    }
    while let Some(event) = house.byway.poll_event() {
        assert!(house.agent.has_room());
        house.agent.tell(house.now, &event);
    }
    let mut datagram = [0; byway::control::MAX_ANSWER];
    let (to, length) = house.agent.poll_transmit(house.now, &mut datagram).expect("there are events");
    assert_eq!(to, peer(1));
    let Ok(byway::control::Incoming::Events(events)) = admin.handle(house.now, &datagram[..length]) else {
        panic!("these are events");
    };
    let heard = events.events().map(|event| match event {
        byway::Event::Opened(connection) => connection.client_side.source,
        other => panic!("{other:?}"),
    });
    let mut heard: Vec<_> = heard.collect();
    heard.sort();
    expected.sort();
    assert_eq!(heard, expected);
}

/// Translators that are locked when the agent first needs one.
struct Locked<'a> {
    all: &'a [Mutex<Translator<Heap>>],
    guards: Vec<MutexGuard<'a, Translator<Heap>>>,
}

impl Translators for Locked<'_> {
    type Storage = Heap;

    fn count(&self) -> usize {
        self.all.len()
    }

    fn shard(&mut self, number: usize) -> Option<&mut Translator<Heap>> {
        if self.guards.is_empty() {
            self.guards = self.all.iter().map(Mutex::lock).collect::<Result<_, _>>().ok()?;
        }
        self.guards.get_mut(number).map(|guard| &mut **guard)
    }
}

#[test]
fn no_forged_datagram_locks_a_translator() {
    let shards = Sharded::new(config(), [(); SHARDS].map(|()| room())).unwrap().into_shards();
    let all: Vec<_> = shards.map(Mutex::new).collect();
    let mut house = House::of(Locked { all: &all, guards: Vec::new() }, [0xb0; 32]);
    let is_locked = |house: &mut House<Locked<'_>>| {
        let any = !house.byway.guards.is_empty();
        house.byway.guards.clear();
        any
    };
    let mut admin = house.client(ADMIN);
    let challenge = house.give(peer(1), &sent(&mut admin, house.now)).unwrap();
    assert!(!is_locked(&mut house), "a challenge needs none");
    admin.handle(house.now, &challenge).unwrap();
    let open = sent(&mut admin, house.now);
    let forge = |datagram: &[u8]| {
        let mut forged = datagram.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        forged
    };
    house.give(peer(1), &forge(&open)).unwrap_err();
    assert!(!is_locked(&mut house));
    let opened = house.give(peer(1), &open).unwrap();
    assert!(is_locked(&mut house), "the answer has the generation");
    admin.handle(house.now, &opened).unwrap();
    admin.send(house.now, &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")))).unwrap();
    let request = sent(&mut admin, house.now);
    for (from, datagram) in [(peer(1), forge(&request)), (peer(2), request.clone()), (peer(1), open)] {
        let _ = house.give(from, &datagram);
        if datagram != request {
            assert_eq!(all[0].try_lock().map(|t| t.generation()).unwrap_or(0), 0);
        }
    }
    is_locked(&mut house);
    house.give(peer(1), &request).unwrap();
    assert!(is_locked(&mut house));
    assert!(all.iter().all(|shard| shard.lock().unwrap().generation() == 1), "on all of them");
    // It repeats the last one: it is answered, and needs no translator.
    house.give(peer(1), &request).unwrap();
    assert!(!is_locked(&mut house));
}

#[test]
fn a_translator_that_cannot_be_had_is_a_refusal_and_changes_nothing() {
    let shards = Sharded::new(config(), [(); SHARDS].map(|()| room())).unwrap().into_shards();
    let all: Vec<_> = shards.map(Mutex::new).collect();
    let mut house = House::of(Locked { all: &all, guards: Vec::new() }, [0xb0; 32]);
    let mut admin = house.open(ADMIN, peer(1));
    house.byway.guards.clear();
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _guard = all[1].lock();
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
    });
    for instruction in [divert(at("100.1.1.1:80"), at("20.0.0.1:80")), Instruction::Settings, Instruction::Counters] {
        assert_eq!(refusal(&mut house, &mut admin, &Request::one(instruction)), (Code::Other, 0));
    }
    drop(house);
    assert_eq!(all[0].lock().unwrap().generation(), 0);
}

#[test]
fn a_slice_of_translators_is_a_set() {
    let config = config();
    let sharding = Sharding::new(&config, 2).unwrap();
    let new = |core| Translator::new(sharding.config(&config, core).unwrap(), room()).unwrap();
    let (mut one, mut other) = (new(0), new(1));
    let mut agent = byway::control::Agent::<1, 1>::new([1; 32]);
    agent.add_key(byway::control::Key::new(1, ADMIN.1, Rights::All)).unwrap();
    let mut client = Client::new(s(1), 1, ADMIN.1, [2; 16]);
    // HELLO, OPEN, REQUEST.
    for step in 0..3 {
        if step == 2 {
            client.send(s(1), &Request::one(divert(at("100.1.1.1:80"), at("20.0.0.1:80")))).unwrap();
        }
        let datagram = sent(&mut client, s(1));
        let mut answer = [0; byway::control::MAX_ANSWER];
        let mut set = [&mut one, &mut other];
        let length = agent.handle(s(1), &mut set[..], peer(1), &datagram, &mut answer).unwrap();
        client.handle(s(1), &answer[..length]).unwrap();
    }
    assert_eq!((one.generation(), other.generation()), (1, 1));
}
