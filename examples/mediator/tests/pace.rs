//! A client keeps a connection for as long as something is to be done for it, and not for as long as it likes.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;
use std::sync::{Arc, Mutex};

use byway::Instant;
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Uint, empty, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use support::{Aborted, Client, Network, SERVERS, World, content};

const LIGHT: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n";
const EVENTS: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";

fn world_at(min_rate: u32) -> World {
    let mut world = World::new(Network { min_rate, ..Network::default() });
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.put("big", &Resource::new(content(300_000), Some(42)));
    world
}

fn world() -> World {
    world_at(240)
}

fn wait(world: &mut World, seconds: u64) {
    let until = world.now + Duration::from_secs(seconds);
    while world.now < until {
        world.step();
    }
}

/// Does something every so many seconds, until the client is let go. After how many seconds that was, if within a day.
fn lasts(
    world: &mut World,
    client: &mut Client,
    every: u64,
    mut act: impl FnMut(&mut World, &mut Client),
) -> Option<u64> {
    let start = world.now;
    let gone = |world: &World, client: &Client| world.mediator.connections().all(|(id, _)| id != client.id);
    while world.now.duration_since(start) < Duration::from_secs(86_400) {
        act(world, client);
        wait(world, every);
        if gone(world, client) {
            return Some(world.now.duration_since(start).as_secs());
        }
    }
    None
}

#[test]
fn a_body_that_comes_byte_by_byte_has_an_end() {
    for (fields, piece) in [("Content-Length: 100000", "x"), ("Transfer-Encoding: chunked", "1\r\nx\r\n")] {
        for before in [0, 3000] {
            let mut world = world();
            let mut client = world.connect();
            client.send(&mut world, format!("PUT /up HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n").as_bytes());
            (0..before / piece.len()).for_each(|_| client.send(&mut world, piece.as_bytes()));
            let lasted = lasts(&mut world, &mut client, 5, |world, client| client.send(world, piece.as_bytes()));
            assert!(lasted.is_some_and(|lasted| (55..=75).contains(&lasted)), "{fields} {before}: {lasted:?}");
            assert_eq!(client.response(&mut world, false).unwrap().status, 408);
            assert_eq!((world.count(Reason::ClientSlow), world.count(Reason::ClientIdle)), (1, 0));
            assert!(!world.servers[0].lock().unwrap().resources.contains_key("up"));
            assert_eq!(world.mediator.in_flight(), 0);
        }
    }
}

/// Also one that has read fast before; and a client of HTTP/1.0 must not take what it has for the whole.
#[test]
fn a_response_that_is_read_byte_by_byte_has_an_end() {
    for head in ["GET /big HTTP/1.1\r\nHost: x\r\n\r\n", "GET /big HTTP/1.0\r\nHost: x\r\n\r\n"] {
        for before in [0, 200_000] {
            let mut world = world();
            let mut client = world.connect();
            client.send(&mut world, head.as_bytes());
            while client.received.len() < before {
                client.more(&mut world).unwrap();
            }
            let lasted = lasts(&mut world, &mut client, 5, |world, client| {
                client.take(world, 1);
            });
            assert!(lasted.is_some_and(|lasted| (55..=70).contains(&lasted)), "{head} {before}: {lasted:?}");
            assert!(client.wire.borrow().is_aborted);
            assert_eq!((world.count(Reason::ClientSlow), world.count(Reason::Responses)), (1, 0));
            assert_eq!((world.mediator.in_flight(), world.mediator.connections().count()), (0, 0));
        }
    }
}

/// Also the rest of a response that is ready as a whole.
#[test]
fn what_is_left_of_a_response_must_be_read() {
    let mut world = world();
    world.put("page", &Resource::new(content(1000), None));
    let mut client = world.connect();
    client.wire.borrow_mut().capacity = 100;
    client.send(&mut world, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
    let lasted = lasts(&mut world, &mut client, 5, |world, client| {
        client.take(world, 1);
    });
    assert!(lasted.is_some_and(|lasted| (55..=70).contains(&lasted)), "{lasted:?}");
    assert_eq!((world.count(Reason::Responses), world.count(Reason::ClientSlow)), (1, 1));
}

#[test]
fn whoever_keeps_the_rate_may_take_as_long_as_it_takes() {
    // 300 kB at 300 bytes a second: a quarter of an hour.
    let mut world = world();
    let mut client = world.connect();
    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let lasted = lasts(&mut world, &mut client, 10, |world, client| {
        client.take(world, 3000);
    });
    assert!(lasted.is_some_and(|lasted| lasted > 900), "{lasted:?}");
    let body = client.response(&mut world, false).unwrap().body;
    assert!(body == content(300_000)[..]);
    // And the other way.
    let mut client = world.connect();
    client.send(&mut world, b"PUT /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n");
    let mut pieces = body.chunks(3000);
    let lasted = lasts(&mut world, &mut client, 10, |world, client| {
        pieces.next().into_iter().for_each(|piece| client.send(world, piece));
    });
    assert!(lasted.is_some_and(|lasted| lasted > 900), "{lasted:?}");
    assert_eq!(client.response(&mut world, false).unwrap().status, 201);
    assert_eq!((world.count(Reason::ClientSlow), world.count(Reason::ClientIdle)), (0, 0));
    // Who is slower is let go, although it would have come to an end.
    let mut client = world.connect();
    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    let lasted = lasts(&mut world, &mut client, 10, |world, client| {
        client.take(world, 2000);
    });
    assert!(lasted.is_some_and(|lasted| (250..600).contains(&lasted)), "{lasted:?}");
    assert_eq!((client.response(&mut world, false), world.count(Reason::ClientSlow)), (Err(Aborted), 1));
}

#[test]
fn without_a_rate_anything_that_moves_will_do() {
    let mut world = world_at(0);
    let (mut reader, mut writer) = (world.connect(), world.connect());
    reader.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    writer.send(&mut world, b"PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
    wait(&mut world, 1);
    for _ in 0..100 {
        assert_eq!(reader.take(&mut world, 1), 1);
        writer.send(&mut world, b"x");
        wait(&mut world, 50);
    }
    assert_eq!(world.mediator.connections().count(), 2);
    wait(&mut world, 70);
    assert_eq!((world.count(Reason::ClientIdle), world.mediator.connections().count()), (2, 0));
}

#[test]
fn an_event_stream_stays_as_long_as_its_client_reads_what_there_is() {
    let mut world = world();
    let mut client = world.connect();
    client.send(&mut world, EVENTS);
    let notify = |world: &mut World, number: u32| {
        let text = format!("{number}{}", "x".repeat(900));
        let (server, now) = (world.servers[0].clone(), world.now);
        for (to, datagram) in server.lock().unwrap().change("light", Resource::new(text.into_bytes(), Some(0))) {
            world.mediator.device_mut().inject(now, SERVERS[0], to, &datagram);
        }
    };
    // Hours without an event, and one every minute for an hour.
    wait(&mut world, 4 * 3600);
    for number in 0..60 {
        notify(&mut world, number);
        wait(&mut world, 60);
        while client.take(&mut world, usize::MAX) != 0 {}
    }
    assert!(client.received.windows(8).any(|bytes| bytes == b"data: 59"));
    assert_eq!((world.count(Reason::ClientIdle), world.count(Reason::ClientSlow)), (0, 0));
    // It reads a byte now and then, and much happens.
    let mut number = 100;
    let lasted = lasts(&mut world, &mut client, 5, |world, client| {
        client.take(world, 1);
        number += 1;
        notify(world, number);
    });
    assert!(lasted.is_some_and(|lasted| lasted <= 150), "{lasted:?}");
    assert_eq!((world.count(Reason::ClientSlow), client.wire.borrow().is_aborted), (1, true));
}

/// Each block of an upload, and of the response, takes its server 80 s; its client waits for it.
#[test]
fn a_slow_server_is_not_the_clients_fault() {
    let mut world = world();
    let asked = Arc::new(Mutex::new((0, None)));
    let by_server = asked.clone();
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, from: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        if request.code == Code::EMPTY {
            return Vec::new();
        }
        let mut asked = by_server.lock().unwrap();
        asked.0 += 1;
        if asked.0 % 5 != 0 {
            return Vec::new();
        }
        // What was asked for the fifth time is acknowledged, and answered by the test.
        asked.1 = Some((from, datagram.to_vec()));
        vec![empty(Kind::Acknowledgement, request.id)]
    });
    let body = content(8 * 1024);
    let mut client = world.connect();
    client.send(&mut world, b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 8192\r\n\r\n");
    client.send(&mut world, &body);
    let start = world.now;
    while !client.received.ends_with(b"0\r\n\r\n") {
        assert!(world.now < start + Duration::from_secs(7200), "{}", world.mediator.counters());
        let taken = asked.lock().unwrap().1.take();
        if let Some((to, datagram)) = taken {
            wait(&mut world, 50);
            let request = Message::parse(&datagram).unwrap();
            let of = |number| request.option(number).and_then(Block::parse);
            let (code, number, block) = match (of(option::BLOCK1), of(option::BLOCK2)) {
                (Some(block), _) if block.more => (Code::CONTINUE, option::BLOCK1, block),
                (Some(_), _) => (Code::CREATED, option::BLOCK2, Block { number: 0, more: true, size: 6 }),
                (None, Some(block)) => (Code::CREATED, option::BLOCK2, Block { more: block.number < 3, ..block }),
                (None, None) => unreachable!(),
            };
            let value = Uint::new(block.value());
            let mut options = [(number, value.as_bytes())];
            let bytes: &[u8] = if number == option::BLOCK2 { &[7; 1024] } else { &[] };
            let answer = write(Kind::NonConfirmable, code, 1, request.token, &mut options, bytes);
            let now = world.now;
            world.mediator.device_mut().inject(now, SERVERS[0], to, &answer);
        }
        world.step();
        client.take(&mut world, usize::MAX);
    }
    let response = client.response(&mut world, false).unwrap();
    assert_eq!((response.status, response.body), (201, vec![7; 4096]), "{}", world.mediator.counters());
    assert!(world.now.duration_since(start) > Duration::from_secs(11 * 80), "{:?}", world.now.duration_since(start));
    assert_eq!((world.count(Reason::ClientSlow), world.count(Reason::ClientIdle)), (0, 0));
}

/// Empty lines before a request are no request.
#[test]
fn empty_lines_now_and_then_keep_no_connection() {
    let mut world = world();
    let mut client = world.connect();
    client.send(&mut world, LIGHT);
    assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
    let lasted = lasts(&mut world, &mut client, 5, |world, client| client.send(world, b"\r\n"));
    assert!(lasted.is_some_and(|lasted| (55..=75).contains(&lasted)), "{lasted:?}");
}
