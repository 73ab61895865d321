//! More connections than there may be: whoever holds most and does nothing makes room.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::IpAddr;
use core::time::Duration;

use byway_mediator::counters::Reason;
use byway_mediator::server::Resource;
use support::{Client, Network, World, content};

const GET: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n";

fn world(connections: usize) -> World {
    let mut world = World::new(Network { connections, ..Network::default() });
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.put("big", &Resource::new(content(100_000), None));
    world
}

fn from(last: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, last])
}

fn connect(world: &mut World, last: u8) -> Client {
    let client = world.connect_from(from(last));
    world.close();
    // Each comes a little later than the one before.
    world.now = world.now + Duration::from_millis(1);
    client
}

#[test]
fn connections_that_say_nothing_lock_nobody_out() {
    let mut world = world(16);
    let mut guest = connect(&mut world, 1);
    // One address takes all that is left, half of it with heads that never end.
    let mut hogs: Vec<_> = (0..15).map(|_| connect(&mut world, 66)).collect();
    for hog in hogs.iter_mut().step_by(2) {
        hog.send(&mut world, b"GET /light HTTP/1.1\r\nA: ");
    }
    for last in 2..8 {
        let mut client = connect(&mut world, last);
        client.send(&mut world, GET);
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on", "{last}");
    }
    // Those made room that had been silent for longest, and nobody else did.
    assert_eq!((world.count(Reason::Displaced), world.count(Reason::TooMany)), (6, 0));
    assert_eq!(hogs.iter().filter(|hog| hog.is_over()).count(), 6);
    guest.send(&mut world, GET);
    assert_eq!(guest.response(&mut world, false).unwrap().body, b"on");
    assert_eq!(world.mediator.connections().count(), 16);
}

#[test]
fn what_is_being_answered_is_not_broken_off_for_another() {
    let mut world = world(8);
    let mut busy: Vec<_> = (0..8).map(|_| connect(&mut world, 66)).collect();
    for client in &mut busy {
        client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert!(world.refuses(from(1)));
    assert_eq!((world.count(Reason::Displaced), world.count(Reason::TooMany)), (0, 1));
    for client in &mut busy {
        assert_eq!(client.response(&mut world, false).unwrap().body, content(100_000)[..]);
    }
    // Whoever holds least is the last to make room.
    let mut last = connect(&mut world, 1);
    for _ in 0..20 {
        connect(&mut world, 66);
    }
    last.send(&mut world, GET);
    assert_eq!(last.response(&mut world, false).unwrap().body, b"on");
}

/// Event streams never end by themselves.
#[test]
fn one_client_takes_no_more_than_its_share() {
    let mut world = World::new(Network { connections: 16, per_client: 4, ..Network::default() });
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    let mut streams: Vec<_> = (0..4).map(|_| connect(&mut world, 66)).collect();
    for stream in &mut streams {
        stream.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
        assert_eq!(stream.head(&mut world).unwrap().status, 200);
    }
    assert!((0..3).all(|_| world.refuses(from(66))));
    assert_eq!((world.count(Reason::TooManyOfClient), world.count(Reason::Displaced)), (3, 0));
    // Others do not notice it.
    for last in 1..4 {
        let mut client = connect(&mut world, last);
        client.send(&mut world, GET);
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on");
    }
    // What it ends, or does nothing with, is its own room.
    streams.pop().unwrap().finish(&mut world);
    let mut idle = connect(&mut world, 66);
    idle.send(&mut world, GET);
    idle.response(&mut world, false).unwrap();
    let mut next = connect(&mut world, 66);
    next.send(&mut world, GET);
    assert_eq!(next.response(&mut world, false).unwrap().body, b"on");
    assert!(idle.is_over());
    assert_eq!((world.count(Reason::TooManyOfClient), world.count(Reason::Displaced)), (3, 1));
    for stream in &streams {
        assert!(!stream.is_over());
    }
    // All of a network of IPv6 are one.
    let of_v6 = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, last, 0, 0, last]);
    let mut clients: Vec<_> = (0..4).map(|last| world.connect_from(of_v6(last))).collect();
    for client in &mut clients {
        client.send(&mut world, b"GET /light HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    }
    assert!(world.refuses(of_v6(4)));
    assert!(!world.refuses([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1].into()));
}
