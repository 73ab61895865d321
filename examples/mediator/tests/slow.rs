//! HTTP clients that take their time, want everything at once, or ask for what CoAP cannot keep.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::Instant;
use byway_mediator::coap::message::{Code, Kind, Message, empty, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use byway_mediator::session::{BODY, HEAD, OUTPUT};
use support::{Client, Network, SERVERS, World, content};

fn world() -> World {
    let mut world = World::new(Network::default());
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.put("big", &Resource::new(content(100_000), Some(42)));
    world
}

fn wait(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.step();
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_has_a_minute_in_all() {
    let mut world = world();
    let mut slow = world.connect();
    let start = world.now;
    for byte in b"GET /light HTTP/1.1\r\nA: ".iter().chain(b"b".iter().cycle()) {
        slow.send(&mut world, &[*byte]);
        wait(&mut world, Duration::from_secs(5));
        if slow.wire.borrow().is_closed {
            break;
        }
        assert!(world.now < start + Duration::from_secs(70), "it is still there");
    }
    assert_eq!((world.count(Reason::ClientSlow), world.mediator.connections().count()), (1, 0));
    assert_eq!(slow.response(&mut world, false).unwrap().status, 408);
    // One that needs half of it for each of its requests may go on for ever.
    let mut slow = world.connect();
    for _ in 0..5 {
        slow.send(&mut world, b"GET /light HTTP/1.1\r\n");
        wait(&mut world, Duration::from_secs(30));
        slow.send(&mut world, b"Host: x\r\n\r\n");
        assert_eq!(slow.response(&mut world, false).unwrap().body, b"on");
        wait(&mut world, Duration::from_secs(30));
    }
}

#[test]
fn a_request_behind_a_response_that_is_read_slowly_is_not_late() {
    let mut world = world();
    let mut client = world.connect();
    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /light HTTP/1.1\r\nHo");
    for _ in 0..15 {
        client.take(&mut world, 5000);
        wait(&mut world, Duration::from_secs(20));
    }
    let response = client.response(&mut world, false).unwrap();
    assert_eq!(response.body, content(100_000)[..]);
    client.send(&mut world, b"st: x\r\n\r\n");
    assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
}

#[test]
fn whoever_waits_too_long_for_others_of_the_same_resource_is_told() {
    let mut world = world();
    let get = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut slow: Vec<_> = (0..64).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send(&mut world, get);
    }
    let mut late = world.connect();
    late.send(&mut world, get);
    for _ in 0..8 {
        // They go on, but slowly.
        for client in &mut slow {
            client.take(&mut world, 3000);
        }
        wait(&mut world, Duration::from_secs(10));
    }
    assert_eq!(late.response(&mut world, false).unwrap().status, 503);
    assert_eq!((world.count(Reason::NoLane), world.mediator.connections().count()), (1, 64));
    // Another resource, and another client's address, do not wait.
    assert_eq!(world.get("/light").body, b"on");
    let mut other = world.connect_from([198, 51, 100, 8].into());
    other.send(&mut world, get);
    assert_eq!(other.response(&mut world, false).unwrap().body, content(100_000)[..]);
    // One of them ends, and the next one has its lane.
    slow.pop().unwrap().finish(&mut world);
    let mut next = world.connect();
    next.send(&mut world, get);
    assert_eq!(next.response(&mut world, false).unwrap().body, content(100_000)[..]);
}

#[test]
fn those_who_wait_for_a_lane_are_served_as_they_came() {
    let mut world = world();
    let get = b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut clients: Vec<_> = (0..200).map(|_| (world.connect(), 0)).collect();
    for (client, _) in &mut clients {
        client.send(&mut world, get);
    }
    // Each asks again as soon as it has its answer: those who were first must not be first again.
    for _ in 0..600 {
        world.step();
        for (client, answers) in &mut clients {
            if client.waiting() != 0 {
                assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
                *answers += 1;
                client.send(&mut world, get);
            }
        }
    }
    let answers = clients.iter().map(|(_, answers)| *answers);
    let (least, most) = (answers.clone().min().unwrap(), answers.max().unwrap());
    assert!(least >= 1 && most - least <= 1, "{least} to {most}");
}

#[test]
fn a_connection_holds_no_more_than_it_may_whatever_its_client_does() {
    let mut world = world();
    let requests = [
        // A body that nobody takes, since the server is silent.
        "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".to_owned() + &"x".repeat(100_000),
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned() + &"1\r\nx\r\n".repeat(20_000),
        "GET /big HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000),
        "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000),
        format!("GET /light HTTP/1.1\r\nA: {}", "b".repeat(100_000)),
        "A: b\r\n".repeat(10_000),
        "\r\n".repeat(50_000),
        "GET /light HTTP/1.1\r\nHost: x\r\n".to_owned() + &"A: b\r\n".repeat(10_000),
    ];
    let mut clients: Vec<_> = requests.iter().map(|_| world.connect()).collect();
    let mut largest = 0;
    for (client, request) in clients.iter_mut().zip(&requests) {
        client.send(&mut world, request.as_bytes());
    }
    for _ in 0..200 {
        world.step();
        largest = world.mediator.connections().map(|(_, session)| session.buffered()).max().unwrap_or(0).max(largest);
    }
    assert!(largest > HEAD, "{largest}");
    assert!(largest <= HEAD + BODY + OUTPUT, "{largest}");
}

/// Some come before a request (RFC 9112, section 2.2), and nobody sends them without end who means it.
#[test]
fn empty_lines_have_an_end() {
    let mut world = world();
    let mut client = world.connect();
    for _ in 0..3 {
        client.send(&mut world, "\r\n".repeat(2000).as_bytes());
        client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
    }
    client.send(&mut world, "\r\n".repeat(HEAD).as_bytes());
    let response = client.response(&mut world, false).unwrap();
    assert_eq!((response.status, world.count(Reason::BadRequest)), (400, 1));
}

#[test]
fn what_cannot_be_kept_is_not_stored_in_part_or_against_a_condition() {
    let mut world = world();
    let put = |fields: &str| format!("PUT /light HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n{fields}\r\noff");
    for (fields, status) in [
        ("Content-Range: bytes 0-2/9\r\n", 400),
        ("Content-Encoding: gzip\r\n", 415),
        ("If-None-Match: \"0a\"\r\n", 501),
        ("If-Match: W/\"0a\"\r\n", 412),
    ] {
        assert_eq!(world.ask(&put(fields)).status, status, "{fields}");
        assert_eq!(world.get("/light").body, b"on");
    }
    // A type without a body, or no coding at all, is no reason to refuse.
    let get = "GET /light HTTP/1.1\r\nHost: x\r\nContent-Type: text/html\r\n\r\n";
    assert_eq!(world.ask(get).status, 200);
    assert_eq!(world.ask(&put("Content-Encoding: identity\r\nIf-None-Match: \"no etag of CoAP\"\r\n")).status, 204);
    assert_eq!(world.get("/light").body, b"off");
}

/// MAX_TRANSMIT_WAIT is 93 s (RFC 7252, section 4.8.2).
const MAX_TRANSMIT_WAIT: Duration = Duration::from_secs(93);

const LIGHT: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n";

/// So many clients ask at once.
fn ask(world: &mut World, clients: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..clients).map(|_| world.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(world, LIGHT));
    clients
}

#[test]
fn whoever_waits_for_an_origin_that_is_silent_is_told_with_the_first() {
    let mut world = world();
    world.mediator.device_mut().remove(SERVERS[0]);
    let start = world.now;
    for client in &mut ask(&mut world, 20) {
        assert_eq!(client.response(&mut world, false).unwrap().status, 504);
    }
    assert!(world.now.duration_since(start) <= MAX_TRANSMIT_WAIT, "{:?}", world.now.duration_since(start));
    assert_eq!((world.count(Reason::TimedOut), world.count(Reason::Silent)), (1, 19));
    assert_eq!((world.mediator.device().sent(), world.mediator.outstanding()), (5, 0));
    // As soon as PROBING_RATE allows it, one of them is sent. Its client leaves, and none of the others may be.
    let (mut first, mut clients) = (world.connect(), Vec::new());
    while world.mediator.device().sent() == 5 {
        assert!(world.now.duration_since(start) < 10 * MAX_TRANSMIT_WAIT);
        wait(&mut world, Duration::from_secs(1));
        first = world.connect();
        first.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        clients = ask(&mut world, 5);
        world.mediator.poll(world.now);
    }
    first.finish(&mut world);
    assert!(first.is_over(), "it has left");
    let probed = world.now;
    for client in &mut clients {
        assert_eq!(client.response(&mut world, false).unwrap().status, 504);
    }
    assert!(world.now.duration_since(probed) <= Duration::from_secs(2), "{:?}", world.now.duration_since(probed));
    assert_eq!((world.mediator.device().sent(), world.mediator.in_flight(), world.mediator.outstanding()), (6, 0, 0));
    // It is back.
    let server = world.servers[0].clone();
    world.mediator.device_mut().add(SERVERS[0], server);
    wait(&mut world, 10 * MAX_TRANSMIT_WAIT);
    for client in &mut ask(&mut world, 5) {
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
    }
}

#[test]
fn an_origin_that_says_nothing_to_one_request_is_not_silent() {
    for acknowledges in [false, true] {
        let mut world = World::new(Network { nstart: 2, ..Network::default() });
        world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
            let request = Message::parse(datagram).unwrap();
            match request.option(option::URI_PATH) {
                Some(b"light") => {
                    vec![write(Kind::Acknowledgement, Code::CONTENT, request.id, request.token, &mut [], b"on")]
                }
                _ if acknowledges => vec![empty(Kind::Acknowledgement, request.id)],
                _ => Vec::new(),
            }
        });
        let mut hole = world.connect();
        hole.send(&mut world, b"GET /hole HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut others = ask(&mut world, 6);
        // Some always wait for their turn, also when the one without an answer times out.
        while hole.waiting() == 0 {
            for other in &mut others {
                assert_eq!(other.response(&mut world, false).unwrap().body, b"on");
                other.send(&mut world, LIGHT);
            }
        }
        assert_eq!(hole.response(&mut world, false).unwrap().status, 504);
        for other in &mut others {
            assert_eq!(other.response(&mut world, false).unwrap().body, b"on");
        }
        assert_eq!((world.count(Reason::TimedOut), world.count(Reason::Silent)), (1, 0));
    }
}
