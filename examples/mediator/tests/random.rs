//! Random moves, changes, losses and slow clients: whatever happens, a response that is whole is one representation.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use byway::Redivert;
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{Aborted, Client, Network, SERVERS, World, content};

#[derive(Clone, Debug)]
enum Action {
    /// Time passes, in steps of the network.
    Step(u16),
    /// A client connects, and asks.
    Ask,
    /// A client takes so much of what has come.
    Take(prop::sample::Index, u16),
    /// A client goes away.
    Leave(prop::sample::Index),
    Move(bool, bool),
    /// A server gets this version of the resource, with or without an ETag.
    Change(bool, u8, bool),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        8 => (1..60_u16).prop_map(Action::Step),
        2 => Just(Action::Ask),
        8 => (any::<prop::sample::Index>(), 1..6000_u16).prop_map(|(client, most)| Action::Take(client, most)),
        1 => any::<prop::sample::Index>().prop_map(Action::Leave),
        3 => any::<(bool, bool)>().prop_map(|(from, drain)| Action::Move(from, drain)),
        1 => (any::<bool>(), 0..4_u8, prop::bool::weighted(0.8)).prop_map(|(at, v, etag)| Action::Change(at, v, etag)),
    ];
    vec(action, 1..120)
}

/// Versions of the resource, of different lengths, with most bytes alike.
fn version(number: u8) -> Vec<u8> {
    let mut body = content(17_000 + usize::from(number / 2) * 1024).to_vec();
    let end = body.len() - 5;
    body[end] = number;
    body[9000] = number;
    body
}

fn resource(number: u8, etag: bool) -> Resource {
    let mut resource = Resource::new(version(number), Some(42));
    if !etag {
        resource.etag.clear();
    }
    resource
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_whole_response_is_one_representation(actions in actions(), loss in 0..60_000_u32, seed: u64, nstart in 1..5_usize) {
        let mut world = World::new(Network { loss, seed, nstart, ..Network::default() });
        world.put("big", &resource(0, true));
        let mut clients: Vec<Client> = Vec::new();
        for action in actions {
            match action {
                Action::Step(steps) => (0..steps).for_each(|_| world.step()),
                Action::Ask if clients.len() < 12 => {
                    let mut client = world.connect();
                    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                    clients.push(client);
                }
                Action::Ask => {}
                Action::Take(client, most) if !clients.is_empty() => {
                    let client = client.index(clients.len());
                    clients[client].take(&mut world, usize::from(most));
                }
                Action::Leave(client) if !clients.is_empty() => {
                    let mut client = clients.swap_remove(client.index(clients.len()));
                    client.finish(&mut world);
                }
                Action::Take(..) | Action::Leave(_) => {}
                Action::Move(from, drain) => {
                    let how = if drain { Redivert::Drain } else { Redivert::Switch };
                    let (from, to) = (SERVERS[usize::from(from)], SERVERS[usize::from(!from)]);
                    // It may be refused when too many are under way.
                    let _ = world.mediator.translator_mut().redivert(from, to, how);
                }
                Action::Change(at, number, etag) => {
                    // Without an ETag, a change on one server cannot be seen (RFC 7959, section 2.4): one version only.
                    let number = if etag { number } else { 2 };
                    let mut server = world.servers[usize::from(at)].lock().unwrap();
                    server.resources.insert("big".into(), resource(number, etag));
                }
            }
        }
        for client in &mut clients {
            match client.response(&mut world, false) {
                Err(Aborted) => {}
                Ok(response) if response.status == 200 => {
                    prop_assert!((0..4).any(|number| response.body == version(number)), "{}", world.mediator.counters());
                }
                Ok(response) => prop_assert!(matches!(response.status, 502 | 504), "{response:?}"),
            }
        }
        let refused = [Reason::BadBlock, Reason::CriticalOption, Reason::ForeignEndpoint, Reason::MalformedMessage];
        prop_assert!(refused.iter().all(|reason| world.count(*reason) == 0), "{}", world.mediator.counters());
        // All is given back: once the clients are gone, nothing is in flight.
        for client in &mut clients {
            client.finish(&mut world);
        }
        (0..400).for_each(|_| world.step());
        prop_assert_eq!(world.mediator.connections().count(), 0);
        prop_assert_eq!(world.mediator.in_flight(), 0);
        prop_assert_eq!(world.mediator.outstanding(), 0);
    }

    /// However long it is and whatever moves on the way: what a server has stored is the whole body, and a POST was executed
    /// once at most.
    #[test]
    fn a_stored_upload_is_whole(
        length in 0..24_000_usize,
        moves in vec((any::<bool>(), any::<bool>(), 0..12_u16), 0..30),
        is_post: bool,
        loss in 0..60_000_u32,
        seed: u64,
        nstart in 1..3_usize,
    ) {
        let mut world = World::new(Network { loss, seed, nstart, ..Network::default() });
        let body = content(length);
        let mut client = world.connect();
        let method = if is_post { "POST" } else { "PUT" };
        client.send(&mut world, format!("{method} /up HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let mut moves = moves.into_iter();
        for piece in body.chunks(900) {
            client.send(&mut world, piece);
            if let Some((from, drain, steps)) = moves.next() {
                (0..steps).for_each(|_| world.step());
                let how = if drain { Redivert::Drain } else { Redivert::Switch };
                let (from, to) = (SERVERS[usize::from(from)], SERVERS[usize::from(!from)]);
                let _ = world.mediator.translator_mut().redivert(from, to, how);
                world.mediator.poll(world.now);
            }
        }
        let response = client.response(&mut world, false).expect("it is answered in any case");
        let stored = [0, 1].map(|at| world.servers[at].lock().unwrap().resources.get("up").map(|found| found.body.to_vec()));
        let posts: u64 = world.servers.iter().map(|server| server.lock().unwrap().posts).sum();
        prop_assert!(stored.iter().flatten().all(|stored| *stored == body[..]), "{}", world.mediator.counters());
        match response.status {
            201 if is_post => prop_assert!(posts == 1 && response.body == body[..], "{posts} {}", world.mediator.counters()),
            201 | 204 => prop_assert!(stored.iter().flatten().count() >= 1, "{}", world.mediator.counters()),
            status => prop_assert!(matches!(status, 502..=504) && posts <= 1, "{status} {}", world.mediator.counters()),
        }
        client.finish(&mut world);
        (0..400).for_each(|_| world.step());
        prop_assert_eq!((world.mediator.in_flight(), world.mediator.outstanding()), (0, 0));
    }
}
