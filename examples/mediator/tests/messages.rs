//! CoAP's message layer and observation, with servers that start again, repeat, forget, or say too much.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::{Instant, Redivert};
use byway_mediator::coap::message::{Code, Kind, Message, Uint, empty, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::server::{Resource, Server};
use byway_mediator::session::OUTPUT;
use support::{Client, Network, Response, SERVERS, World};

const EVENTS: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";

fn world() -> World {
    let mut world = World::new(Network::default());
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world
}

/// An event stream on which the first event has come.
fn events(world: &mut World) -> (Client, Response) {
    let mut client = world.connect();
    client.send(world, EVENTS);
    let mut response = client.head(world).unwrap();
    assert_eq!(response.field("Content-Type"), Some("text/event-stream"));
    assert!(client.chunk(world, &mut response).unwrap());
    (client, response)
}

/// A server changes the resource, and tells its observers.
fn notify(world: &mut World, server: usize, text: &str) {
    let resource = Resource::new(text.as_bytes(), Some(0));
    let sent = world.servers[server].lock().unwrap().change("light", resource);
    assert!(!sent.is_empty(), "nobody observes it");
    for (to, datagram) in sent {
        let now = world.now;
        world.mediator.device_mut().inject(now, SERVERS[server], to, &datagram);
    }
}

fn wait(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.step();
    }
}

/// A server that starts again before each request counts its messages anew: the same identifier, another token.
#[test]
fn a_server_that_has_started_again_is_heard_although_its_identifiers_are_known() {
    let mut world = world();
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        if request.code == Code::EMPTY {
            return Vec::new();
        }
        let answer = write(Kind::Confirmable, Code::CONTENT, 7, request.token, &mut [], b"on");
        // And once more, as if its acknowledgement were lost.
        vec![empty(Kind::Acknowledgement, request.id), answer.clone(), answer]
    });
    for round in 1..=5 {
        let asked = world.now;
        assert_eq!(world.get("/light").body, b"on");
        assert!(world.now.duration_since(asked) < Duration::from_millis(20));
        assert_eq!(world.count(Reason::Duplicates), round);
    }
}

#[test]
fn what_a_server_says_stays_data_whatever_ends_its_lines() {
    let mut world = world();
    let (mut client, mut response) = events(&mut world);
    notify(&mut world, 0, "a\rdata: b\revent: changed\r\nid: 9\n\nretry: 1");
    let before = response.body.len();
    assert!(client.chunk(&mut world, &mut response).unwrap());
    let event = String::from_utf8_lossy(&response.body[before..]).into_owned();
    // A client ends a line at each of these (WHATWG HTML, section 9.2.5).
    let fields: Vec<_> = event.split(['\r', '\n']).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["id", "data", "data", "data", "data", "data", "data", "", ""], "{event:?}");
}

#[test]
fn a_server_that_has_forgotten_its_observers_is_told_again() {
    let mut world = world();
    let light = Resource { max_age: Some(30), ..Resource::new(&b"on"[..], Some(0)) };
    world.servers[0].lock().unwrap().resources.insert("light".into(), light.clone());
    let (mut client, mut response) = events(&mut world);
    let start = world.now;
    // It starts again, with the resource but without observers, and with lower numbers for its notifications.
    notify(&mut world, 0, "off");
    assert!(client.chunk(&mut world, &mut response).unwrap());
    let mut started = Server::default();
    started.resources.insert("light".into(), light);
    *world.servers[0].lock().unwrap() = started;
    while world.servers[0].lock().unwrap().observers() == 0 {
        assert!(world.now < start + Duration::from_secs(300));
        world.step();
    }
    assert_eq!(world.count(Reason::RegisteredAgain), 1);
    let before = response.body.len();
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert_eq!(response.body[before..], *b"id: 1\ndata: on\n\n");
    notify(&mut world, 0, "again");
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert!(response.body.ends_with(b"data: again\n\n"));
    // One that goes on telling is not asked.
    for _ in 0..10 {
        wait(&mut world, Duration::from_secs(20));
        notify(&mut world, 0, "still");
        assert!(client.chunk(&mut world, &mut response).unwrap());
    }
    client.finish(&mut world);
    wait(&mut world, Duration::from_secs(200));
    assert_eq!((world.count(Reason::RegisteredAgain), world.mediator.in_flight()), (1, 0));
}

/// byway forgets a connection on which nothing passes for five minutes, and with it the way of the next notification.
#[test]
fn a_notification_is_heard_however_long_the_last_one_is_fresh() {
    let mut world = world();
    let light = Resource { max_age: Some(86_400), ..Resource::new(&b"on"[..], Some(0)) };
    world.servers[0].lock().unwrap().resources.insert("light".into(), light);
    let (mut client, mut response) = events(&mut world);
    let timeout = world.mediator.translator().timeouts().udp;
    for round in 1..=3 {
        wait(&mut world, timeout * 5 / 2);
        // What it has not changed meanwhile is no event, although it was asked for again.
        assert_eq!(client.take(&mut world, usize::MAX), 0, "{:?}", String::from_utf8_lossy(&client.received));
        notify(&mut world, 0, &format!("round {round}"));
        assert!(client.chunk(&mut world, &mut response).unwrap());
        assert!(response.body.ends_with(format!("data: round {round}\n\n").as_bytes()));
        // The notification was fresh for a minute; what it is asked for then is so for a day.
        let light = Resource { max_age: Some(86_400), ..Resource::new(format!("round {round}").into_bytes(), Some(0)) };
        world.servers[0].lock().unwrap().resources.insert("light".into(), light);
    }
    // A monitor may make it shorter while the stream is open.
    let shorter = byway::Timeouts { udp: timeout / 2, ..world.mediator.translator().timeouts() };
    world.mediator.translator_mut().set_timeouts(shorter).unwrap();
    wait(&mut world, timeout);
    notify(&mut world, 0, "shorter");
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert!(response.body.ends_with(b"data: shorter\n\n"));
    assert_eq!(world.mediator.translator().counters().dropped_in_all(), 0);
}

#[test]
fn the_stream_of_a_server_that_is_gone_ends() {
    let mut world = world();
    let (mut client, mut response) = events(&mut world);
    world.mediator.device_mut().remove(SERVERS[0]);
    // Max-Age, at most 15 s, and all retransmissions.
    let until = world.now + Duration::from_secs(60 + 15 + 93 + 1);
    assert!(client.chunk(&mut world, &mut response).is_err());
    assert!(world.now <= until);
    assert_eq!(world.count(Reason::TimedOut), 1);
}

/// While one of them registers again, the others wait for their turn, for longer than until they are due again.
#[test]
fn the_streams_of_a_server_that_is_gone_leave_its_origin_free() {
    for leaves in [false, true] {
        let mut world = world();
        let mut streams: Vec<_> = (0..3).map(|_| events(&mut world)).collect();
        world.mediator.device_mut().remove(SERVERS[0]);
        // One is out, the others have waited for more than a minute, and their clients leave one after the other.
        wait(&mut world, Duration::from_secs(138));
        for (client, _) in streams.iter_mut().filter(|_| leaves) {
            client.finish(&mut world);
            wait(&mut world, Duration::from_secs(1));
        }
        wait(&mut world, Duration::from_secs(600));
        for (client, response) in &mut streams {
            assert!(client.chunk(&mut world, response).is_err(), "it has ended");
        }
        assert_eq!((world.mediator.in_flight(), world.mediator.outstanding()), (0, 0));
        let server = world.servers[0].clone();
        world.mediator.device_mut().add(SERVERS[0], server);
        wait(&mut world, Duration::from_secs(600));
        assert_eq!(world.get("/light").body, b"on");
        assert_eq!(world.mediator.outstanding(), 0);
    }
}

/// The first server has seen the registration's identifier less than EXCHANGE_LIFETIME ago. If it came again, it would
/// answer from memory, and register nobody.
#[test]
fn an_event_stream_comes_back_to_a_server_that_has_known_it() {
    let mut world = world();
    let (mut client, mut response) = events(&mut world);
    for round in 1..=6 {
        world.redivert((round + 1) % 2, Redivert::Switch);
        let server = round % 2;
        // The old one has learnt from a reset, or from silence, that nobody listens there any more.
        world.servers[1 - server].lock().unwrap().forget_observers();
        assert!(client.chunk(&mut world, &mut response).unwrap());
        assert_eq!(world.servers[server].lock().unwrap().observers(), 1, "{round}");
        let text = format!("round {round}");
        notify(&mut world, server, &text);
        assert!(client.chunk(&mut world, &mut response).unwrap());
        assert!(response.body.ends_with(format!("data: {text}\n\n").as_bytes()));
    }
}

#[test]
fn a_flood_of_notifications_costs_a_client_that_does_not_read_nothing_but_the_older_ones() {
    let mut world = world();
    let (mut client, _) = events(&mut world);
    let mut sent = 0;
    for round in 0..40 {
        for burst in 0..10 {
            notify(&mut world, 0, &format!("{}{}", "x".repeat(1000), round * 10 + burst));
            sent += 1;
        }
        wait(&mut world, Duration::from_millis(10));
        let (_, session) = world.mediator.connections().next().unwrap();
        assert!(session.buffered() <= OUTPUT + EVENTS.len(), "{}", session.buffered());
    }
    // What did not fit into the stack's socket was dropped there, as a network would.
    assert!(world.count(Reason::NotificationsSkipped) >= 300, "{} of {sent}", world.mediator.counters());
    let skipped = world.count(Reason::NotificationsSkipped);
    // It reads: the next one comes, with the newest state.
    while client.take(&mut world, usize::MAX) != 0 {}
    client.received.clear();
    notify(&mut world, 0, "last");
    client.more(&mut world).unwrap();
    while !client.received.ends_with(b"data: last\n\n\r\n") {
        client.more(&mut world).unwrap();
    }
    assert_eq!(world.count(Reason::NotificationsSkipped), skipped);
}

/// Each pair of bytes is the identifier and the token of nobody; and real answers, much too often.
#[test]
fn a_storm_of_answers_is_counted_and_one_of_them_is_taken() {
    let mut world = world();
    world.mediator.device_mut().add(SERVERS[0], move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        if request.code == Code::EMPTY {
            return Vec::new();
        }
        let number = Uint::new(0);
        let mut storm = vec![write(
            Kind::Acknowledgement,
            Code::CONTENT,
            request.id,
            request.token,
            &mut [(option::OBSERVE, number.as_bytes())],
            b"on",
        )];
        // The same answer again and again: duplicates, not events.
        storm.resize(12, storm[0].clone());
        storm
    });
    let (mut client, mut response) = events(&mut world);
    assert_eq!(response.body, b"id: 0\ndata: on\n\n");
    wait(&mut world, Duration::from_secs(1));
    assert_eq!(world.count(Reason::Duplicates), 11);
    client.finish(&mut world);
    assert!(client.chunk(&mut world, &mut response).is_err());
    // Without observation the token is gone after the first.
    assert_eq!(world.get("/light").body, b"on");
    wait(&mut world, Duration::from_secs(1));
    assert_eq!(world.count(Reason::ForeignToken), 11);
}

#[test]
fn an_event_whose_lines_make_it_too_large_says_only_that_something_has_changed() {
    let mut world = world();
    let (mut client, mut response) = events(&mut world);
    notify(&mut world, 0, &"\n".repeat(1024));
    let before = response.body.len();
    assert!(client.chunk(&mut world, &mut response).unwrap());
    assert_eq!(response.body[before..], *b"id: 2\nevent: changed\ndata: \n\n");
}
