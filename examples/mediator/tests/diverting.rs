//! The server changes in the middle of a body.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;
use std::sync::{Arc, Mutex};

use byway::{Instant, Redivert};
use byway_mediator::coap::message::{Code, Kind, Message, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::far::carrier::packet;
use byway_mediator::server::Resource;
use support::{Aborted, Client, Network, Response, SERVERS, World, content};

const GET: &[u8] = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n";

/// Downloads `/big`, and moves it each time that so many bytes have come. Gives the body and the number of moves.
fn download(world: &mut World, every: usize) -> (Result<Response, Aborted>, u32) {
    let mut client = world.connect();
    client.send(world, GET);
    let (mut at, mut moves) = (0, 0);
    let result = client.head(world).and_then(|mut response| {
        let mut due = every;
        while client.chunk(world, &mut response)? {
            if response.body.len() >= due {
                world.redivert(at, Redivert::Switch);
                world.mediator.poll(world.now);
                (at, moves, due) = (1 - at, moves + 1, due + every);
            }
        }
        Ok(response)
    });
    (result, moves)
}

#[test]
fn a_body_moves_a_thousand_times_and_the_client_gets_every_byte_once() {
    let body = content(8 << 20);
    for (loss, seed) in [(0, 1), (10_000, 2), (50_000, 3)] {
        let mut world = World::new(Network { loss, seed, ..Network::default() });
        world.put("big", &Resource::new(body.clone(), Some(42)));
        let (response, moves) = download(&mut world, (8 << 20) / 1001);
        let response = response.unwrap();
        assert!(response.body == body[..], "{loss}");
        assert_eq!((response.status, response.field("Content-Type")), (200, Some("application/octet-stream")));
        assert!(moves >= 1000, "{moves}");
        // The last one may come when all has been asked for.
        assert!(world.count(Reason::Moves) >= 999, "{}", world.mediator.counters());
        let requests = world.requests();
        assert!(requests.iter().all(|requests| *requests >= 4000), "{requests:?}");
        assert_eq!(world.count(Reason::Retransmissions) != 0, loss != 0);
        assert_eq!((world.count(Reason::Requests), world.count(Reason::Responses)), (1, 1));
    }
}

#[test]
fn moves_cost_at_most_two_round_trips_each() {
    let body = content(1 << 20);
    let time = |every| {
        let mut world = World::new(Network::default());
        world.put("big", &Resource::new(body.clone(), None));
        let start = world.now;
        let (response, moves) = download(&mut world, every);
        assert_eq!(response.unwrap().body, body[..]);
        (world.now.duration_since(start), moves)
    };
    let (undisturbed, none) = time(usize::MAX);
    let (moved, moves) = time(8192);
    assert_eq!(none, 0);
    assert!(moves >= 100);
    let round_trip = Duration::from_millis(10);
    assert!(moved <= undisturbed + 2 * round_trip * moves, "{moved:?} for {moves}, {undisturbed:?} without");
    // 1024 blocks, one round trip each.
    assert!(undisturbed <= round_trip * 1024 * 100 / 95, "{undisturbed:?}");
}

#[test]
fn no_gap_is_longer_than_two_round_trips_whenever_the_move_comes() {
    let body = content(400_000);
    let round_trip = Duration::from_millis(10);
    let mut longest = Duration::ZERO;
    // The move comes so long after a block: before its request is at the server, and while its answer is on the way.
    for phase in 0..10 {
        let mut world = World::new(Network::default());
        world.put("big", &Resource::new(body.clone(), None));
        let mut client = world.connect();
        client.send(&mut world, GET);
        let mut response = client.head(&mut world).unwrap();
        let (mut moves, mut last) = (0, world.now);
        while client.chunk(&mut world, &mut response).unwrap() {
            longest = longest.max(world.now.duration_since(last));
            last = world.now;
            if response.body.len() >= (moves + 1) * 4096 {
                world.now = world.now + Duration::from_millis(phase);
                world.redivert(moves % 2, Redivert::Switch);
                world.mediator.poll(world.now);
                moves += 1;
            }
        }
        assert!(response.body == body[..]);
        assert!(moves >= 90 && world.count(Reason::Moves) >= 89, "{moves}");
    }
    assert!(longest > round_trip && longest <= 2 * round_trip, "{longest:?}");
}

#[test]
fn a_dead_server_is_left_as_soon_as_the_instruction_comes() {
    let mut world = World::new(Network::default());
    let body = content(100_000);
    world.put("big", &Resource::new(body.clone(), None));
    let mut client = world.connect();
    client.send(&mut world, GET);
    let mut response = client.head(&mut world).unwrap();
    while response.body.len() < 50_000 {
        assert!(client.chunk(&mut world, &mut response).unwrap());
    }
    world.mediator.device_mut().remove(SERVERS[0]);
    // The client has nothing for ten seconds: the next retransmission would be late in them.
    let until = world.now + Duration::from_secs(10);
    while world.now < until {
        world.step();
    }
    world.redivert(0, Redivert::Switch);
    world.mediator.poll(world.now);
    let start = world.now;
    let before = response.body.len();
    while response.body.len() <= before + 4096 {
        assert!(client.chunk(&mut world, &mut response).unwrap());
    }
    assert!(world.now.duration_since(start) <= Duration::from_millis(60), "{:?}", world.now.duration_since(start));
    client.body(&mut world, &mut response, false).unwrap();
    assert_eq!(response.body, body[..]);
}

#[test]
fn a_representation_that_has_changed_is_never_mixed_in() {
    for etag in [true, false] {
        let mut world = World::new(Network::default());
        let old = content(50_000);
        let mut new = old.to_vec();
        new[49_999] ^= 1;
        let resource = |body: &[u8]| {
            let mut resource = Resource::new(body, None);
            if !etag {
                resource.etag.clear();
            }
            resource
        };
        world.servers[0].lock().unwrap().resources.insert("big".into(), resource(&old));
        world.servers[1].lock().unwrap().resources.insert("big".into(), resource(&new));
        let (result, moves) = download(&mut world, 20_000);
        assert_eq!((result, moves), (Err(Aborted), 1));
        assert_eq!(world.count(if etag { Reason::EtagChanged } else { Reason::NoEtag }), 1);
        // The next request gets the new one, whole.
        assert_eq!(world.get("/big").body, new);
    }
}

/// What another process has translated by what it knew before the move.
#[test]
fn a_late_answer_of_the_old_server_does_not_pass_for_the_new_ones() {
    let mut world = World::new(Network::default());
    let mut resource = Resource::new(content(5000), None);
    resource.etag.clear();
    world.put("big", &resource);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        seen.lock().unwrap().push(datagram.to_vec());
        Vec::new()
    });
    let mut client = world.connect();
    client.send(&mut world, GET);
    while asked.lock().unwrap().is_empty() {
        world.step();
    }
    let before = world.mediator.translator().connections().next().unwrap();
    world.redivert(0, Redivert::Switch);
    world.mediator.poll(world.now);
    let request = asked.lock().unwrap()[0].clone();
    let request = Message::parse(&request).unwrap();
    let mut options: [(u16, &[u8]); 1] = [(option::BLOCK2, &[0x0e])];
    let late = write(Kind::Acknowledgement, Code::CONTENT, request.id, request.token, &mut options, &[66; 1024]);
    let translated = packet(before.client_side.destination, before.client_side.source, &late);
    let (server, alternative) = (before.server_side.destination, before.server_side.source);
    let dropped = world.mediator.translator().counters().dropped_in_all();
    assert!(world.mediator.far_mut().hand_in(server, alternative, &translated));
    world.mediator.poll(world.now);
    assert_eq!(world.mediator.translator().counters().dropped_in_all(), dropped + 1);
    let response = client.response(&mut world, false).unwrap();
    assert!(response.body == content(5000)[..]);
}

#[test]
fn the_same_bytes_without_an_etag_are_not_trusted_but_go_on_when_nothing_moves() {
    let mut world = World::new(Network::default());
    let mut resource = Resource::new(content(50_000), None);
    resource.etag.clear();
    world.put("big", &resource);
    assert_eq!(world.get("/big").body, resource.body[..]);
    assert_eq!(download(&mut world, 20_000).0, Err(Aborted));
    assert_eq!(world.count(Reason::NoEtag), 1);
}

#[test]
fn drained_transfers_stay_and_new_ones_move() {
    let mut world = World::new(Network::default());
    let body = content(60_000);
    world.put("big", &Resource::new(body.clone(), None));
    let mut client = world.connect();
    client.send(&mut world, GET);
    let mut response = client.head(&mut world).unwrap();
    world.redivert(0, Redivert::Drain);
    let [first, _] = world.requests();
    let other = world.get("/big");
    assert_eq!(other.body, body[..]);
    client.body(&mut world, &mut response, false).unwrap();
    assert_eq!(response.body, body[..]);
    let [old, new] = world.requests();
    assert_eq!((old, new), (59, 59), "{first}");
    assert_eq!(world.count(Reason::Moves), 0);
}

#[test]
fn http_1_0_sees_an_abort_as_an_error_too() {
    let mut world = World::new(Network::default());
    let body = content(50_000);
    world.put("big", &Resource::new(body.clone(), None));
    let request = b"GET /big HTTP/1.0\r\n\r\n";
    let mut client = world.connect();
    client.send(&mut world, request);
    let response = client.response(&mut world, false).unwrap();
    assert_eq!((response.field("Transfer-Encoding"), response.body.len()), (None, 50_000));
    let mut client = world.connect();
    client.send(&mut world, request);
    let mut response = client.head(&mut world).unwrap();
    world.servers[0].lock().unwrap().resources.insert("big".into(), Resource::new(content(49_000), None));
    assert_eq!(client.body(&mut world, &mut response, false), Err(Aborted));
    assert!(client.wire.borrow().is_aborted);
}

fn upload(client: &mut Client, world: &mut World, method: &str, body: &[u8]) {
    let head = format!("{method} /up HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(world, head.as_bytes());
}

#[test]
fn an_upload_that_is_still_whole_begins_again_at_the_new_server() {
    let mut world = World::new(Network::default());
    let body = content(4000);
    let mut client = world.connect();
    upload(&mut client, &mut world, "PUT", &body);
    client.send(&mut world, &body[..3000]);
    for _ in 0..4 {
        world.step();
    }
    assert_eq!(world.requests()[1], 0);
    world.redivert(0, Redivert::Switch);
    client.send(&mut world, &body[3000..]);
    assert_eq!(client.response(&mut world, false).unwrap().status, 201);
    assert_eq!(world.servers[1].lock().unwrap().resources["up"].body, body[..].into());
    assert!(!world.servers[0].lock().unwrap().resources.contains_key("up"));
    assert_eq!(world.count(Reason::Replays), 1);
}

#[test]
fn a_post_is_not_repeated_at_another_server() {
    let mut world = World::new(Network::default());
    let mut client = world.connect();
    upload(&mut client, &mut world, "POST", b"once");
    // It has been executed, and its answer is on the way when the server is exchanged.
    world.mediator.poll(world.now);
    assert_eq!(world.servers[0].lock().unwrap().posts, 0);
    client.send(&mut world, b"once");
    world.mediator.poll(world.now);
    assert_eq!(world.servers[0].lock().unwrap().posts, 1);
    world.redivert(0, Redivert::Switch);
    // Whatever sends a packet of this connection now makes it follow; the answer finds it gone or not.
    let response = client.response(&mut world, false).unwrap();
    let posts = [0, 1].map(|at| world.servers[at].lock().unwrap().posts);
    assert_eq!(posts, [1, 0]);
    assert!(matches!(response.status, 201 | 504), "{response:?}");
}

#[test]
fn a_post_without_an_answer_is_not_sent_to_another_server() {
    let mut world = World::new(Network::default());
    world.mediator.device_mut().remove(SERVERS[0]);
    let mut client = world.connect();
    upload(&mut client, &mut world, "POST", b"once");
    client.send(&mut world, b"once");
    world.mediator.poll(world.now);
    world.redivert(0, Redivert::Switch);
    // The old server may have executed it, for all that is known.
    assert_eq!(client.response(&mut world, false).unwrap().status, 504);
    assert_eq!((world.count(Reason::Ambiguous), world.requests()), (1, [0, 0]));
    // A PUT may be repeated.
    world.redivert(1, Redivert::Switch);
    let mut client = world.connect();
    upload(&mut client, &mut world, "PUT", b"often");
    client.send(&mut world, b"often");
    world.mediator.poll(world.now);
    world.redivert(0, Redivert::Switch);
    assert_eq!(client.response(&mut world, false).unwrap().status, 201);
    assert_eq!(world.requests(), [0, 1]);
}
