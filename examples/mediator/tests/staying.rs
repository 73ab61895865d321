//! An upload whose beginning is not kept any more stays at its server, whatever instructions come.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::time::Duration;

use byway::{Divert, Redivert};
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use support::{Client, Network, ORIGIN, Response, SERVERS, World, content};

fn world(network: Network) -> World {
    let mut world = World::new(network);
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world
}

fn begin(world: &mut World, method: &str, length: usize) -> Client {
    let mut client = world.connect();
    let head = format!("{method} /up HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    client.send(world, head.as_bytes());
    client
}

/// Sends the rest of a body piece by piece, and has something happen before each.
fn go_on(world: &mut World, client: &mut Client, body: &[u8], mut before: impl FnMut(&mut World, usize)) -> Response {
    for (number, piece) in body.chunks(1500).enumerate() {
        before(world, number);
        client.send(world, piece);
        (0..8).for_each(|_| world.step());
    }
    client.response(world, false).unwrap()
}

fn stored(world: &World, server: usize) -> Option<Vec<u8>> {
    world.servers[server].lock().unwrap().resources.get("up").map(|resource| resource.body.to_vec())
}

#[test]
fn a_long_upload_stays_where_it_is_while_all_else_moves() {
    let body = content(60_000);
    for how in [Redivert::Switch, Redivert::Drain] {
        for separate in [false, true] {
            let mut world = world(Network::default());
            world.servers[0].lock().unwrap().separate = separate;
            let mut client = begin(&mut world, "PUT", body.len());
            let (first, rest) = body.split_at(20_000);
            go_on_without_end(&mut world, &mut client, first);
            assert!(world.requests()[0] >= 15);
            world.redivert(0, how);
            let response = go_on(&mut world, &mut client, rest, |world, number| {
                if number % 8 == 3 {
                    // A client of the same address, in a lane that the upload has or in another.
                    let before = world.requests();
                    assert_eq!(world.get("/light").body, b"on");
                    assert!(world.requests()[1] > before[1], "what comes is for the new server");
                }
            });
            assert_eq!(response.status, 201, "{}", world.mediator.counters());
            assert_eq!((stored(&world, 0), stored(&world, 1)), (Some(body.to_vec()), None));
            assert_eq!((world.count(Reason::Replays), world.count(Reason::NotReplayable)), (0, 0));
        }
    }
}

fn go_on_without_end(world: &mut World, client: &mut Client, body: &[u8]) {
    for piece in body.chunks(1500) {
        client.send(world, piece);
        (0..8).for_each(|_| world.step());
    }
}

/// There and back again and again, with loss, and for each method; a download of the same client goes along with each move.
#[test]
fn it_stays_however_often_and_whenever_they_come() {
    let (body, big) = (content(50_000), content(300_000));
    for (method, loss, seed) in [("PUT", 0, 1), ("POST", 0, 2), ("PUT", 30_000, 3), ("POST", 50_000, 4)] {
        let mut world = world(Network { loss, seed, nstart: 2, ..Network::default() });
        world.put("big", &Resource::new(big.clone(), None));
        let mut download = world.connect();
        download.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut response = download.head(&mut world).unwrap();
        let mut client = begin(&mut world, method, body.len());
        let (first, rest) = body.split_at(16_000);
        go_on_without_end(&mut world, &mut client, first);
        let mut at = 0;
        let uploaded = go_on(&mut world, &mut client, rest, |world, _| {
            world.redivert(at, Redivert::Switch);
            at = 1 - at;
            download.take(world, usize::MAX);
        });
        assert_eq!(uploaded.status, 201, "{method} {loss}: {uploaded:?} {}", world.mediator.counters());
        let posts = [0, 1].map(|server| world.servers[server].lock().unwrap().posts);
        if method == "POST" {
            assert_eq!((posts, uploaded.body == body[..]), ([1, 0], true));
        } else {
            assert_eq!((stored(&world, 0), stored(&world, 1)), (Some(body.to_vec()), None));
        }
        download.body(&mut world, &mut response, false).unwrap();
        assert!(response.body == big[..]);
        assert!(world.count(Reason::Moves) >= 10, "{}", world.mediator.counters());
    }
}

/// What comes between its first block and the moment from which on it stays has it begin again, as its beginning is there.
#[test]
fn an_instruction_while_the_beginning_is_still_there_is_followed() {
    let body = content(30_000);
    for steps in 0..60 {
        let mut world = world(Network::default());
        let mut client = begin(&mut world, "PUT", body.len());
        client.send(&mut world, &body);
        (0..steps).for_each(|_| world.step());
        world.redivert(0, Redivert::Switch);
        world.mediator.poll(world.now);
        let response = client.response(&mut world, false).unwrap();
        assert_eq!(response.status, 201, "{steps}: {}", world.mediator.counters());
        let at = usize::from(stored(&world, 0).is_none());
        assert_eq!((stored(&world, at), stored(&world, 1 - at)), (Some(body.to_vec()), None), "{steps}");
        // Once it has followed it is all at the new server.
        assert!(at == 0 || steps < 20, "{steps}");
    }
}

/// The old server has died; the upload waits for it as long as RFC 7252 says, and nobody waits for the upload.
#[test]
fn a_dead_server_costs_only_those_that_stay_there() {
    let mut world = world(Network::default());
    let body = content(60_000);
    let mut client = begin(&mut world, "PUT", body.len());
    go_on_without_end(&mut world, &mut client, &body[..20_000]);
    world.mediator.device_mut().remove(SERVERS[0]);
    client.send(&mut world, &body[20_000..24_000]);
    (0..20).for_each(|_| world.step());
    world.redivert(0, Redivert::Switch);
    for _ in 0..20 {
        let asked = world.now;
        assert_eq!(world.get("/light").body, b"on");
        assert!(world.now.duration_since(asked) < Duration::from_secs(1), "{:?}", world.now.duration_since(asked));
        (0..20).for_each(|_| world.step());
    }
    let response = client.response(&mut world, false).unwrap();
    assert_eq!((response.status, response.field("Connection")), (504, Some("close")));
    assert_eq!(world.get("/light").body, b"on");
    // All is given back.
    (0..400).for_each(|_| world.step());
    assert_eq!((world.mediator.in_flight(), world.mediator.outstanding()), (0, 0));
}

/// An origin that serves itself is moved by a rule and an instruction.
#[test]
fn it_stays_at_an_origin_too() {
    let mut world = world(Network::default());
    let server = world.servers[0].clone();
    world.mediator.device_mut().add(ORIGIN, server);
    world.mediator.translator_mut().divert(Divert::new(ORIGIN)).unwrap();
    let body = content(40_000);
    let mut client = begin(&mut world, "PUT", body.len());
    go_on_without_end(&mut world, &mut client, &body[..20_000]);
    world.mediator.translator_mut().divert(Divert::new(ORIGIN).to(SERVERS[1])).unwrap();
    world.mediator.translator_mut().redivert(ORIGIN, SERVERS[1], Redivert::Switch).unwrap();
    let response = go_on(&mut world, &mut client, &body[20_000..], |_, _| {});
    assert_eq!(response.status, 201, "{}", world.mediator.counters());
    assert_eq!((stored(&world, 0), stored(&world, 1)), (Some(body.to_vec()), None));
}

/// What others send to the same port, or what is damaged on its way, is nothing to a transfer that stays.
#[test]
fn only_its_server_is_heard() {
    let mut world = world(Network::default());
    let body = content(40_000);
    let mut client = begin(&mut world, "PUT", body.len());
    go_on_without_end(&mut world, &mut client, &body[..20_000]);
    let at = world.mediator.translator().connections().next().unwrap().server_side.source;
    world.redivert(0, Redivert::Switch);
    let heard = |world: &World| (world.count(Reason::MalformedMessage), world.count(Reason::ForeignId));
    let dropped = |world: &World| world.mediator.translator().counters().dropped_in_all();
    let (before, dropped_before, mut sent) = (heard(&world), dropped(&world), 0);
    let response = go_on(&mut world, &mut client, &body[20_000..], |world, _| {
        let now = world.now;
        for from in [ORIGIN, "203.0.113.77:5683".parse().unwrap(), core::net::SocketAddrV4::new(*SERVERS[0].ip(), 1)] {
            world.mediator.device_mut().inject(now, from, at, b"junk");
        }
        // An acknowledgement of nothing, from the server itself.
        world.mediator.device_mut().inject(now, SERVERS[0], at, &[0x60, 0, 0, 0]);
        sent += 4;
    });
    assert_eq!((response.status, stored(&world, 0)), (201, Some(body.to_vec())));
    // It is byway's, which knows nothing of it.
    assert_eq!((heard(&world), dropped(&world)), (before, dropped_before + sent));
}

/// What a server answers to a request that it has executed is nowhere else, however short the request was.
#[test]
fn the_response_to_what_was_executed_stays() {
    for pause in 0..40 {
        let mut world = world(Network::default());
        let body = content(4000);
        let mut client = begin(&mut world, "POST", body.len());
        client.send(&mut world, &body);
        while world.servers[0].lock().unwrap().posts == 0 {
            world.step();
        }
        // Its answer is on the way, or has come, or some of the blocks behind it.
        (0..pause).for_each(|_| world.step());
        let is_answered = client.waiting() != 0;
        world.redivert(0, Redivert::Switch);
        world.mediator.poll(world.now);
        let response = client.response(&mut world, false).expect("it is not broken off");
        let posts = [0, 1].map(|server| world.servers[server].lock().unwrap().posts);
        assert_eq!(posts, [1, 0], "{pause}: {response:?}");
        if is_answered {
            assert_eq!((response.status, response.body == body[..]), (201, true), "{pause}");
        }
    }
}

/// byway does not know that an upload stays there. Minutes later it gives the upload's alternative endpoint to others.
#[test]
fn those_who_get_the_port_of_a_transfer_that_stays_are_answered() {
    let (mut shared, body) = (0, content(60_000));
    for ports in 2..10 {
        // It sends a few bytes a second.
        let mut world = world(Network { ports, min_rate: 0, ..Network::default() });
        let mut client = begin(&mut world, "PUT", body.len());
        go_on_without_end(&mut world, &mut client, &body[..20_000]);
        let at = world.mediator.translator().connections().next().unwrap().server_side;
        world.redivert(0, Redivert::Switch);
        for piece in body[20_000..30_000].chunks(700) {
            client.send(&mut world, piece);
            let until = world.now + Duration::from_secs(40);
            while world.now < until {
                world.step();
            }
        }
        world.redivert(1, Redivert::Switch);
        for last in 1..=ports as u8 {
            let mut other = world.connect_from([198, 51, 100, last].into());
            other.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n");
            let response = other.response(&mut world, false).unwrap();
            assert_eq!(response.body, b"on", "{ports} {last}: {}", world.mediator.counters());
        }
        shared += world.mediator.translator().connections().filter(|other| other.server_side == at).count();
        let response = go_on(&mut world, &mut client, &body[30_000..], |_, _| {});
        assert_eq!((response.status, stored(&world, 0)), (201, Some(body.to_vec())), "{}", world.mediator.counters());
        assert_eq!(world.count(Reason::ForeignEndpoint), 0);
    }
    assert!(shared >= 4, "{shared}");
}
