//! A server answers a repetition from memory, and knows one by the alternative endpoint that it comes from and by its message
//! identifier: none is used for anything else for 247 s (RFC 7252, section 4.4), whoever gets the endpoint meanwhile.

#[expect(unreachable_pub, reason = "it is shared by several tests")]
mod support;

use core::net::SocketAddrV4;
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use byway::{Instant, Redivert};
use byway_mediator::coap::block::Block;
use byway_mediator::coap::message::{Code, Kind, Message, Uint, option, write};
use byway_mediator::counters::Reason;
use byway_mediator::far::identifiers::EXCHANGE_LIFETIME;
use byway_mediator::far::link::Host;
use byway_mediator::server::Resource;
use support::{Client, Network, SERVERS, World, content};

const LIGHT: &[u8] = b"GET /light HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server that remembers every message for as long as the RFC says.
struct Remembering<H> {
    server: H,
    known: HashMap<(SocketAddrV4, u16), Known>,
    seen: Arc<Mutex<Seen>>,
}

/// A message, and what was answered.
struct Known {
    came: Instant,
    token: Vec<u8>,
    answers: Vec<Vec<u8>>,
}

/// What servers have seen.
#[derive(Default)]
struct Seen {
    endpoints: HashSet<SocketAddrV4>,
    /// How many requests had the identifier of another one.
    confused: u64,
}

impl<H: Host> Host for Remembering<H> {
    fn receive(&mut self, now: Instant, from: SocketAddrV4, datagram: &[u8]) -> Vec<Vec<u8>> {
        let message = Message::parse(datagram).expect("it is the proxy's");
        if message.code.class() != 0 || message.code == Code::EMPTY {
            return self.server.receive(now, from, datagram);
        }
        let mut seen = self.seen.lock().unwrap();
        seen.endpoints.insert(from);
        let (id, token) = ((from, message.id), message.token.as_bytes().to_vec());
        if let Some(known) = self.known.get(&id).filter(|known| now < known.came + EXCHANGE_LIFETIME) {
            seen.confused += u64::from(known.token != token);
            return known.answers.clone();
        }
        let answers = self.server.receive(now, from, datagram);
        self.known.insert(id, Known { came: now, token, answers: answers.clone() });
        answers
    }
}

/// Puts a server that remembers in the place of one.
fn remember(world: &mut World, at: usize, server: impl Host + 'static, seen: &Arc<Mutex<Seen>>) {
    let server = Remembering { server, known: HashMap::new(), seen: seen.clone() };
    world.mediator.device_mut().add(SERVERS[at], server);
}

fn world(network: Network) -> (World, Arc<Mutex<Seen>>) {
    let mut world = World::new(network);
    world.put("light", &Resource::new(&b"on"[..], Some(0)));
    world.put("big", &Resource::new(content(60_000), None));
    let seen = Arc::default();
    for at in 0..2 {
        let server = world.servers[at].clone();
        remember(&mut world, at, server, &seen);
    }
    (world, seen)
}

fn wait(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.step();
    }
}

/// byway does not know of a transfer that stays, and gives its alternative endpoint to another lane's connection to the same
/// server.
#[test]
fn a_transfer_that_stays_and_those_who_get_its_port_are_told_apart() {
    let (mut world, seen) = world(Network { ports: 2, ..Network::default() });
    let body = content(700_000);
    let mut upload = world.connect();
    let head = format!("PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    upload.send(&mut world, head.as_bytes());
    let mut pieces = body.chunks(1024);
    let mut go_on = |world: &mut World, pieces: &mut dyn Iterator<Item = &[u8]>| {
        for piece in pieces {
            upload.send(world, piece);
            wait(world, Duration::from_secs(1));
        }
    };
    go_on(&mut world, &mut pieces.by_ref().take(20));
    world.redivert(0, Redivert::Switch);
    // Until byway has forgotten its connection, and that its port was in use.
    go_on(&mut world, &mut pieces.by_ref().take(500));
    world.redivert(1, Redivert::Switch);
    for round in 0..500 {
        for last in 1..=2 {
            let mut other = world.connect_from([198, 51, 100, last].into());
            other.send(&mut world, LIGHT);
            let response = other.response(&mut world, false).unwrap();
            assert_eq!(
                (response.status, &response.body[..]),
                (200, &b"on"[..]),
                "{round}: {}",
                world.mediator.counters()
            );
            other.finish(&mut world);
        }
    }
    go_on(&mut world, &mut pieces);
    assert_eq!(upload.response(&mut world, false).unwrap().status, 201, "{}", world.mediator.counters());
    assert_eq!(world.servers[0].lock().unwrap().resources["up"].body[..], body[..]);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.endpoints.len(), seen.confused), (2, 0));
}

/// Connections are moved and drained in turns, so that endpoints pass from one to the other, towards one server and another.
#[test]
fn no_endpoint_says_the_same_twice_however_connections_are_moved() {
    let mut whole = 0;
    for seed in 0..6_u64 {
        let (mut world, seen) = world(Network { ports: 12, seed, ..Network::default() });
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..400 {
            match random(5) {
                0 => {
                    let from = random(2) as usize;
                    let how = if random(2) == 0 { Redivert::Switch } else { Redivert::Drain };
                    // It may be refused when too many are under way.
                    let _ = world.mediator.translator_mut().redivert(SERVERS[from], SERVERS[1 - from], how);
                }
                1 => wait(&mut world, Duration::from_secs(random(60))),
                _ => {
                    let mut client = world.connect_from([198, 51, 100, random(3) as u8].into());
                    client.send(&mut world, b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                    clients.push(client);
                    for client in &mut clients {
                        client.take(&mut world, usize::MAX);
                    }
                    (0..random(60)).for_each(|_| world.step());
                }
            }
            clients.retain_mut(|client| {
                client.take(&mut world, usize::MAX);
                whole += u64::from(client.received.ends_with(b"\r\n0\r\n\r\n"));
                !client.is_over()
            });
        }
        assert_eq!(seen.lock().unwrap().confused, 0, "{seed}: {}", world.mediator.counters());
    }
    assert!(whole >= 100, "{whole}");
}

/// Answers with so many blocks of 16 bytes of these.
fn small_blocks(all: Arc<[u8]>) -> impl Host {
    move |_: Instant, _: SocketAddrV4, datagram: &[u8]| {
        let request = Message::parse(datagram).unwrap();
        let asked = request.option(option::BLOCK2).and_then(Block::parse).unwrap();
        let start = asked.offset() as usize;
        let more = start + 16 < all.len();
        let value = Uint::new(Block { number: (start / 16) as u32, more, size: 0 }.value());
        let mut options = [(option::ETAG, &b"e"[..]), (option::BLOCK2, value.as_bytes())];
        let bytes = &all[start..start + 16];
        vec![write(Kind::Acknowledgement, Code::CONTENT, request.id, request.token, &mut options, bytes)]
    }
}

/// A download goes on from another endpoint when the identifiers of its own are used up.
#[test]
fn a_download_of_more_blocks_than_an_endpoint_has_identifiers_takes_another() {
    let (mut world, seen) = world(Network { delay: Duration::from_micros(50), ..Network::default() });
    let body = content(40_000 * 16);
    remember(&mut world, 0, small_blocks(body.clone()), &seen);
    let response = world.get("/small/blocks");
    assert!(response.body == body[..], "{}", world.mediator.counters());
    let seen = seen.lock().unwrap();
    assert_eq!((seen.endpoints.len(), seen.confused, world.count(Reason::NoIdentifiers)), (2, 0, 0));
}

/// That an endpoint has none left may be known only when byway has given it to a connection.
#[test]
fn whoever_gets_an_endpoint_without_identifiers_takes_another() {
    let (mut world, seen) = world(Network { delay: Duration::from_micros(50), ports: 6, ..Network::default() });
    let body = content((1 << 15) * 16);
    remember(&mut world, 0, small_blocks(body.clone()), &seen);
    assert!(world.get("/small/blocks").body == body[..]);
    // It keeps its port, and others get that towards the other server.
    world.redivert(0, Redivert::Drain);
    for last in 1..=5 {
        let mut client = world.connect_from([198, 51, 100, last].into());
        client.send(&mut world, LIGHT);
        assert_eq!(client.response(&mut world, false).unwrap().body, b"on", "{last} {}", world.mediator.counters());
    }
    let seen = seen.lock().unwrap();
    assert_eq!((world.count(Reason::NoIdentifiers), seen.confused), (1, 0), "{}", world.mediator.counters());
}

/// From another endpoint it would be another request, which a server that has executed the first one executes, too.
#[test]
fn what_must_not_be_executed_twice_is_not_sent_again_from_another_endpoint() {
    for (method, status, executed) in [("POST", 504, 1), ("PUT", 204, 2)] {
        let (mut world, seen) = world(Network::default());
        let server = world.servers[0].clone();
        // Its first answer is lost.
        let mut asked = 0;
        let deaf = move |now: Instant, from: SocketAddrV4, datagram: &[u8]| {
            asked += 1;
            let answers = server.clone().receive(now, from, datagram);
            if asked == 1 { Vec::new() } else { answers }
        };
        remember(&mut world, 0, deaf, &seen);
        let mut client = world.connect();
        let request = format!("{method} /light HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noff");
        client.send(&mut world, request.as_bytes());
        wait(&mut world, Duration::from_secs(1));
        assert_eq!(world.requests(), [1, 0]);
        // An operator closes the connection; the next packet opens another one.
        let connection = world.mediator.translator().connections().next().unwrap();
        assert!(world.mediator.translator_mut().close(&connection));
        let response = client.response(&mut world, false).unwrap();
        assert_eq!((response.status, world.requests()), (status, [executed, 0]), "{}", world.mediator.counters());
        assert_eq!(world.count(Reason::Ambiguous), u64::from(method == "POST"));
    }
}
