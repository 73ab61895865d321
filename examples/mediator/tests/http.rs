//! What HTTP clients see: methods, codes, fields, formats, connections, memory and flow.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::{IpAddr, SocketAddrV4};
use core::time::Duration;

use std::collections::HashMap;

use byway::{Divert, Heap, Instant, Weighted};
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Uint, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use byway_mediator::session::{BODY, HEAD, OUTPUT};
use support::{Network, ORIGIN, SERVERS, World, content};

fn world() -> World {
    let mut world = World::new(Network::default());
    world.put("light", &Resource { max_age: Some(7), ..Resource::new(&b"on"[..], Some(0)) });
    world.put("sensors/temp c", &Resource::new(&b"{\"t\":1}"[..], Some(50)));
    world
}

#[test]
fn a_get_has_the_representation_and_what_is_known_about_it() {
    let mut world = world();
    let response = world.get("/light");
    assert_eq!((response.status, response.body.as_slice()), (200, &b"on"[..]));
    assert_eq!(response.field("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(response.field("Cache-Control"), Some("max-age=7"));
    assert_eq!(response.field("Content-Length"), Some("2"));
    let etag = response.field("ETag").unwrap().to_owned();
    let known = world.ask(&format!("GET /light HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"00\", {etag}\r\n\r\n"));
    assert_eq!((known.status, known.field("ETag"), known.body.len()), (304, Some(etag.as_str()), 0));
    let other = world.get("/sensors/temp%20c?unit=k");
    assert_eq!((other.status, other.field("Content-Type")), (200, Some("application/json")));
    assert_eq!(other.field("Cache-Control"), Some("max-age=60"));
    // What a cache has for one Accept is not for another (RFC 9111, section 4.1).
    assert_eq!(other.field("Vary"), Some("Accept"));
    let hosted = world.get(&format!("/hc/coap://{ORIGIN}/light"));
    assert_eq!(hosted.body, b"on");
    let hosted = world.get("/hc/coap%3A%2F%2F100.100.100.100%2Flight");
    assert_eq!(hosted.body, b"on");
}

#[test]
fn head_is_a_get_without_the_body_of_which_one_small_block_is_fetched() {
    let mut world = world();
    world.put("big", &Resource::new(content(100_000), Some(42)));
    let response = world.ask("HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((response.status, response.field("Content-Type")), (200, Some("application/octet-stream")));
    assert!(response.field("ETag").is_some());
    assert_eq!(world.requests(), [1, 0]);
    let response = world.ask("HEAD /light HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(response.field("Content-Length"), Some("2"));
    // The fields are those of a GET (RFC 9110, section 9.3.2).
    assert_eq!(response.head, world.get("/light").head);
}

#[test]
fn put_post_and_delete_reach_the_server() {
    let mut world = world();
    let put = |body: &str| {
        let length = body.len();
        format!(
            "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    assert_eq!(world.ask(&put("[1]")).status, 201);
    assert_eq!(world.ask(&put("[2]")).status, 204);
    assert_eq!(world.get("/a").body, b"[2]");
    assert_eq!(world.get("/a").field("Content-Type"), Some("application/json"));
    let post = "POST /log HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let response = world.ask(post);
    assert_eq!((response.status, response.body.as_slice()), (201, &b"abcde"[..]));
    assert_eq!(response.field("Location"), Some("/log/1"));
    assert_eq!(world.ask("DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n").status, 204);
    let missing = world.get("/a");
    assert_eq!((missing.status, missing.body.as_slice()), (404, &b"there is nothing"[..]));
    assert_eq!(missing.field("Content-Type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn large_bodies_go_in_both_directions_block_by_block() {
    let mut world = world();
    for length in [0, 1, 1023, 1024, 1025, BODY - 1, BODY, BODY + 1, 100_000] {
        let body = content(length);
        let mut client = world.connect();
        let head = format!("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        client.send(&mut world, head.as_bytes());
        if length != 0 {
            assert_eq!(client.head(&mut world).unwrap().status, 100);
        }
        client.send(&mut world, &body);
        let response = client.response(&mut world, false).unwrap();
        assert_eq!((response.status, response.body == body[..]), (201, true), "{length}");
    }
    assert_eq!(world.servers[0].lock().unwrap().posts, 9);
}

#[test]
fn one_connection_serves_many_requests_also_when_they_come_at_once() {
    let mut world = world();
    let mut client = world.connect();
    let get = "GET /light HTTP/1.1\r\nHost: x\r\n\r\n";
    let put = "PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let last = "GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    client.send(&mut world, [get, "\r\n", put, get, last].concat().as_bytes());
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(client.response(&mut world, false).unwrap().body);
    }
    assert_eq!(bodies, [&b"on"[..], b"", b"on", b"abc"]);
    assert!(client.more(&mut world).is_err());
    assert_eq!(world.count(Reason::Responses), 4);
}

#[test]
fn a_separate_response_is_acknowledged_and_waited_for() {
    // Without loss: this server sends its responses once.
    let mut world = World::new(Network::default());
    let body = content(20_000);
    world.put("big", &Resource::new(body.clone(), None));
    world.servers[0].lock().unwrap().separate = true;
    assert_eq!(world.get("/big").body, body[..]);
    assert_eq!(world.servers[0].lock().unwrap().requests, 20);
}

#[test]
fn the_first_byte_comes_before_the_last_block_is_asked_for_and_a_slow_client_slows_the_server() {
    let mut world = world();
    let body = content(8 << 20);
    world.put("big", &Resource::new(body.clone(), None));
    let mut client = world.connect();
    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    // The client reads nothing: its socket takes 8 KiB, and the session as much as it may.
    for _ in 0..10_000 {
        if world.now.as_micros() > 1_030_000_000 {
            break;
        }
        world.step();
    }
    assert!(client.waiting() > 0);
    let requests = world.requests()[0];
    assert!((8..=12).contains(&requests), "{requests} of 8192");
    let mut response = client.head(&mut world).unwrap();
    let mut largest = 0;
    while client.chunk(&mut world, &mut response).unwrap() {
        let (_, session) = world.mediator.connections().next().unwrap();
        largest = largest.max(session.buffered());
    }
    assert!(response.body == body[..]);
    // Its request has taken less than 64 bytes.
    assert!(largest <= OUTPUT + 64, "{largest}");
    const { assert!(HEAD + BODY + OUTPUT + 1500 <= 16 << 10) };
}

#[test]
fn a_client_that_says_nothing_and_one_that_takes_nothing_are_let_go() {
    let mut world = world();
    world.put("big", &Resource::new(content(100_000), None));
    let mut idle = world.connect();
    let mut slow = world.connect();
    slow.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut half = world.connect();
    half.send(&mut world, b"GET /big HTTP/1.1\r\nHo");
    let until = world.now + Duration::from_secs(65);
    while world.now < until {
        world.step();
    }
    assert!(idle.more(&mut world).is_err());
    assert_eq!(half.response(&mut world, false).unwrap().status, 408);
    assert!(slow.wire.borrow().is_closed && slow.wire.borrow().is_aborted);
    assert_eq!(world.count(Reason::ClientIdle), 2);
    assert_eq!(world.mediator.connections().count(), 0);
}

#[test]
fn an_origin_that_is_silent_gets_no_more_than_probes() {
    let mut world = world();
    world.mediator.device_mut().remove(SERVERS[0]);
    let start = world.now;
    let response = world.get("/light");
    assert_eq!(response.status, 504);
    // MAX_TRANSMIT_WAIT is 93 s (RFC 7252, section 4.8.2); the least is 62 s.
    let took = world.now.duration_since(start).as_secs();
    assert!((62..=93).contains(&took), "{took}");
    assert_eq!(world.mediator.device().sent(), 5);
    assert_eq!(world.get("/light").status, 504);
    assert_eq!((world.count(Reason::Silent), world.mediator.device().sent()), (1, 5));
    // Another server is another matter.
    world.redivert(0, byway::Redivert::Switch);
    assert_eq!(world.get("/light").body, b"on");
}

/// What clients send that say at once that nothing more comes, as `nc -N` does (RFC 9112, section 9.6).
#[test]
fn what_has_come_with_the_end_of_the_input_is_answered() {
    let mut world = world();
    let get = "GET /light HTTP/1.1\r\nHost: x\r\n\r\n";
    let send = |world: &mut World, text: &[u8]| {
        let mut client = world.connect();
        client.wire.borrow_mut().client_has_finished = true;
        client.send(world, text);
        client
    };
    let mut one = send(&mut world, get.as_bytes());
    let response = one.response(&mut world, false).unwrap();
    assert_eq!((&response.body[..], response.field("Connection")), (&b"on"[..], Some("close")));
    assert!(one.head(&mut world).is_err() && one.is_over());
    // More than the output has room for, and the last one is not whole.
    let mut many = send(&mut world, (get.repeat(100) + "GET /light HTTP/1.1\r\nHos").as_bytes());
    for _ in 0..100 {
        let response = many.response(&mut world, false).unwrap();
        assert_eq!((response.status, &response.body[..]), (200, &b"on"[..]));
    }
    assert!(many.head(&mut world).is_err() && many.is_over());
    // A body is taken to its end, also one that is longer than all buffers.
    for length in [10, 30_000] {
        let body = content(length);
        let put = format!("PUT /new-{length} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let mut put = send(&mut world, &[put.as_bytes(), &body[..]].concat());
        assert_eq!(put.response(&mut world, false).unwrap().status, 201);
        assert_eq!(world.get(&format!("/new-{length}")).body, body[..]);
    }
    // What is not whole, or is nothing, is no request.
    let (requests, gone) = (world.count(Reason::Requests), world.count(Reason::ClientGone));
    let open = world.mediator.connections().count();
    for text in ["", "\r\n\r\n", "GET /light HTTP/1.1\r\nHost: x\r\n"] {
        let client = send(&mut world, text.as_bytes());
        world.close();
        assert!(client.is_over(), "{text:?}");
    }
    assert_eq!(world.count(Reason::Requests), requests);
    let cut = send(&mut world, b"PUT /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345678");
    world.close();
    assert!(cut.is_over() && !world.servers[0].lock().unwrap().resources.contains_key("cut"));
    assert_eq!((world.count(Reason::ClientGone), world.mediator.connections().count()), (gone + 1, open));
}

/// A server that keeps a block-wise transfer for each endpoint and resource, as libcoap does: whoever asks for the first
/// block begins a new one, and its blocks have an ETag of their own.
#[test]
fn downloads_of_one_resource_at_once_are_of_different_endpoints() {
    let mut world = World::new(Network { nstart: 16, ..Network::default() });
    let (mut transfers, mut last) = (HashMap::new(), 0_u32);
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, from: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        let block = Block::parse(request.option(option::BLOCK2).unwrap()).unwrap();
        if block.number == 0 {
            last += 1;
            transfers.insert(from, last);
        }
        let etag = transfers[&from].to_be_bytes();
        let value = Uint::new(Block { more: block.number < 9, ..block }.value());
        let mut options = [(option::ETAG, &etag[..]), (option::BLOCK2, value.as_bytes())];
        vec![write(Kind::Acknowledgement, Code::CONTENT, request.id, request.token, &mut options, &[7; 1024])]
    });
    let mut clients: Vec<_> = (0..200).map(|_| world.connect_from(IpAddr::from([127, 0, 0, 1]))).collect();
    for client in &mut clients {
        client.send(&mut world, b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response(&mut world, false).unwrap().body, [7; 10_240]);
    }
    assert_eq!(world.count(Reason::EtagChanged), 0);
}

#[test]
fn requests_to_one_origin_take_turns() {
    for nstart in [1, 4] {
        let mut world = World::new(Network { nstart, ..Network::default() });
        world.put("light", &Resource::new(&b"on"[..], None));
        let mut clients: Vec<_> = (0..8).map(|_| world.connect()).collect();
        for client in &mut clients {
            client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        let start = world.now;
        for client in &mut clients {
            assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
        }
        let round_trips = world.now.duration_since(start).as_millis() / 10;
        assert_eq!(round_trips, 8 / nstart as u128);
    }
}

#[test]
fn clients_keep_to_their_servers_of_a_group() {
    let mut world = world();
    let group = SERVERS.map(|server| Weighted::new(server, 1));
    world.mediator.translator_mut().divert(Divert::new(ORIGIN).to_group(&group)).unwrap();
    let mut served = [0, 0];
    for client in 1..=32 {
        let mut before = world.requests();
        for round in 0..3 {
            let mut client = world.connect_from(IpAddr::from([198, 51, 100, client]));
            client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(client.response(&mut world, false).unwrap().status, 200);
            let after = world.requests();
            let by = usize::from(after[1] != before[1]);
            if round == 0 {
                served[by] += 1;
                before = after;
            } else {
                assert_eq!(after[1] != before[1], after[0] == before[0]);
            }
        }
        let spread = world.requests();
        assert!(spread[0] == before[0] || spread[1] == before[1], "a client was served by both");
    }
    assert!(served.iter().all(|clients| *clients >= 8), "{served:?}");
    let _: &byway::Translator<Heap> = world.mediator.translator();
}

#[test]
fn events_are_notifications_and_follow_a_move() {
    let mut world = world();
    let mut client = world.connect();
    client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    let mut response = client.head(&mut world).unwrap();
    assert_eq!((response.status, response.field("Content-Type")), (200, Some("text/event-stream")));
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert_eq!(response.body, b"id: 1\ndata: on\n\n");
    let from = world.mediator.translator().connections().next().unwrap().server_side.source;
    let notify = |world: &mut World, server: usize, text: &str| {
        let resource = Resource::new(text.as_bytes(), Some(0));
        let sent = world.servers[server].lock().unwrap().change("light", resource);
        for (to, datagram) in sent {
            let now = world.now;
            world.mediator.device_mut().inject(now, SERVERS[server], to, &datagram);
        }
    };
    notify(&mut world, 0, "off\nand on");
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert!(response.body.ends_with(b"id: 2\ndata: off\ndata: and on\n\n"), "{:?}", response.body);
    // The new server does not know the observer until it registers, which it does at once.
    world.redivert(0, byway::Redivert::Switch);
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert_eq!(world.servers[1].lock().unwrap().observers(), 1);
    notify(&mut world, 1, "there");
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert!(String::from_utf8_lossy(&response.body).ends_with("data: there\n\n"));
    // A client that has gone: the next notification is reset, and the server forgets the observer.
    client.finish(&mut world);
    notify(&mut world, 1, "nobody");
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(world.servers[1].lock().unwrap().observers(), 0);
    assert!(world.count(Reason::ForeignToken) >= 1, "{from}");
}

/// To byway it is a client with its own address, if that is one that a client of byway can have.
#[test]
fn a_client_is_served_whatever_its_address_is() {
    let mut world = world();
    let server = SERVERS[0].ip().to_string();
    let origin = ORIGIN.ip().to_string();
    // The first is what servers see: the proxy's own, if its sockets are bound to one.
    for from in
        ["10.10.10.10", &origin, &server, "192.0.0.8", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1"]
    {
        let mut client = world.connect_from(from.parse().unwrap());
        client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on", "{from}: {}", world.mediator.counters());
    }
}
