//! What two portions tell each other, between two translators in memory.
#![cfg(target_os = "linux")]

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::path::PathBuf;

use byway::{Config, Divert, Heap, Instant, Redivert, Translator};
use byway_mediator::far::carrier::packet;
use byway_mediator::far::link::Link;
use byway_mediator::far::{Far, Place, STACK, Way};
use byway_mediator::portion::{Exchange, Role};

const ORIGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5683);
const SERVERS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5683), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5683)];
const NOW: Instant = Instant::from_secs(9);

/// The proxy's half and the other one.
struct Both {
    folder: PathBuf,
    proxy: Exchange,
    far: Far<Link>,
    way: Way,
    portion: (Exchange, Translator<Heap>),
}

impl Both {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("byway-exchange-{name}-{}", std::process::id()));
        let translator = || {
            let config = Config::new([7; 32]).alternative(Ipv4Addr::new(198, 51, 100, 4), 40_000..=40_063);
            Translator::new(config, Heap::new(64, 4)).unwrap()
        };
        let (mut byway, portion) = (translator(), translator());
        byway.divert(Divert::new(ORIGIN).to(SERVERS[0])).unwrap();
        let mut far = Far::new(Link::new(Duration::from_millis(5), 0, 1), byway, 7, NOW);
        let way = Way { lane: far.lease(NOW, STACK, ORIGIN, None).unwrap(), client: STACK, origin: ORIGIN };
        let end = |role| Exchange::open(&folder, role).unwrap();
        let (proxy, portion) = (end(Role::ToServer), (end(Role::ToClient), portion));
        let mut both = Self { folder, proxy, far, way, portion };
        both.turn();
        both
    }

    /// Lets each take what the other one has sent. What the proxy has got for its stack.
    fn turn(&mut self) -> Vec<(Place, Vec<u8>)> {
        let mut received = Vec::new();
        for _ in 0..4 {
            received.extend(self.turn_of_proxy());
            let (exchange, translator) = &mut self.portion;
            exchange.mark_ready();
            exchange.receive(NOW, translator, |_, _| panic!("a packet for the portion"));
            exchange.poll(NOW, translator);
        }
        received.extend(self.turn_of_proxy());
        received
    }

    fn turn_of_proxy(&mut self) -> Vec<(Place, Vec<u8>)> {
        let (far, mut packets, mut received) = (&mut self.far, Vec::new(), Vec::new());
        self.proxy.mark_ready();
        self.proxy.receive(NOW, far.translator_mut(), |ends, packet| packets.push((ends, packet.to_vec())));
        for ((server, alternative), packet) in packets {
            if !far.hand_in(server, alternative, &packet) {
                self.proxy.refuse();
            }
        }
        while let Some(event) = far.translator_mut().poll_event() {
            self.proxy.report(far.translator(), &event);
        }
        self.proxy.poll(NOW, far.translator());
        let mut datagram = Vec::new();
        while let Some((way, place)) = far.receive_past(&mut datagram) {
            assert_eq!(way, self.way);
            received.push((place, datagram.clone()));
        }
        received
    }

    /// The stack sends something. Where byway has it go.
    fn send(&mut self) -> Place {
        assert!(self.far.send(self.way, b"request"));
        self.far.poll(NOW);
        self.far.place(self.way).unwrap()
    }

    /// A server sends something, which the portion hands on as it can.
    fn answer(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<(Place, Vec<u8>)> {
        self.portion.0.carry(NOW, &mut self.portion.1, &mut packet(from, to, payload));
        self.turn()
    }

    fn redivert(&mut self, from: usize) {
        self.far.translator_mut().redivert(SERVERS[from], SERVERS[1 - from], Redivert::Switch).unwrap();
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn an_answer_is_translated_by_the_portion_and_given_to_the_proxy() {
    let mut both = Both::new("answer");
    let place = both.send();
    assert_eq!(both.turn(), []);
    assert_eq!(both.answer(SERVERS[0], place.alternative, b"answer"), [(place, b"answer".to_vec())]);
    // From nowhere, and to nobody.
    assert_eq!(both.answer(SERVERS[1], place.alternative, b"forged"), []);
    let other = SocketAddrV4::new(*place.alternative.ip(), 40_000 + (place.alternative.port() + 1) % 64);
    assert_eq!(both.answer(SERVERS[0], other, b"forged"), []);
    let counters = both.portion.0.counters();
    assert_eq!((counters.translated, counters.passed, counters.dropped), (1, 0, 2));
}

/// What a server that was left sends late must not pass for what the new one sends, because the portion has not heard of
/// the move.
#[test]
fn an_answer_is_from_the_server_that_has_sent_it() {
    let mut both = Both::new("late");
    let before = both.send();
    both.turn();
    both.redivert(0);
    let after = both.send();
    // The record of the move is not sent yet.
    let (late, answer) = (b"late".to_vec(), b"answer".to_vec());
    let [(place, payload)] = &both.answer(SERVERS[0], before.alternative, &late)[..] else { panic!() };
    assert!(place.is_at(&before) && !place.is_at(&after) && *payload == late);
    assert_eq!(both.answer(SERVERS[1], after.alternative, &answer), [(after, answer)]);
    assert_eq!(both.answer(SERVERS[0], before.alternative, &late), []);
    // A damaged one is for nobody.
    let mut damaged = packet(SERVERS[1], after.alternative, b"answer");
    *damaged.last_mut().unwrap() ^= 1;
    both.portion.0.carry(NOW, &mut both.portion.1, &mut damaged);
    assert_eq!((both.turn(), both.proxy.counters().refused), (Vec::new(), 1));
}

/// What comes for a transfer that stays is nothing to the portion's byway, and reaches the proxy as it was sent.
#[test]
fn what_comes_from_where_a_transfer_stays_is_handed_on_as_it_is() {
    let mut both = Both::new("stays");
    let before = both.send();
    both.far.stay(before, both.way);
    both.proxy.stay(&[(before.server, before.alternative)]);
    both.turn();
    both.redivert(0);
    let after = both.send();
    // Before the portion has heard of the move, and after it.
    for number in 0..2 {
        let [(place, payload)] = &both.answer(SERVERS[0], before.alternative, b"it")[..] else { panic!("{number}") };
        assert!(place.is_at(&before) && payload == b"it");
        assert_eq!(both.portion.0.counters().passed, number);
    }
    assert_eq!(both.answer(SERVERS[1], after.alternative, b"answer"), [(after, b"answer".to_vec())]);
    // A portion that is new learns it.
    std::fs::remove_file(both.folder.join("to-client")).unwrap();
    both.portion.0 = Exchange::open(&both.folder, Role::ToClient).unwrap();
    both.portion.1.forget();
    both.turn();
    assert_eq!(both.answer(SERVERS[0], before.alternative, b"it"), [(before, b"it".to_vec())]);
    // And that it is over.
    both.proxy.stay(&[]);
    both.turn();
    assert_eq!(both.answer(SERVERS[0], before.alternative, b"it"), []);
}

#[test]
fn what_says_nothing_is_counted_and_changes_nothing() {
    let mut both = Both::new("garbage");
    assert!(Exchange::open(&both.folder, Role::ToClient).unwrap_err().contains("another process"));
    both.send();
    both.turn();
    assert_eq!((both.portion.1.connections().count(), both.portion.0.counters().refused), (1, 0));
    let stranger = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let there = both.far.translator();
    let record = *there.record(&there.connections().next().unwrap()).unwrap().as_bytes();
    let damaged = record.map(|byte| byte ^ 0x55);
    let garbage: [&[u8]; 11] = [
        &[],
        &[9],
        &[1; 57],
        &[&[1], &damaged[..]].concat(),
        &[2; 18],
        &[3, 1, 2],
        &[4, 4],
        &[&[1], &record[..40]].concat(),
        &[5, 1, 2],
        &[6; 12],
        &[5; 26],
    ];
    stranger.connect(both.folder.join("to-client")).unwrap();
    for (number, datagram) in (1..).zip(garbage) {
        stranger.send(datagram).unwrap();
        both.turn();
        assert_eq!(both.portion.0.counters().refused, number, "{datagram:?}");
    }
    // Packets that are none, and what only the proxy says.
    stranger.connect(both.folder.join("to-server")).unwrap();
    for (number, datagram) in (1..).zip([&[3][..], &[3; 12], &[3; 60], &[2; 19], &[4], &[5; 13], &[6; 13]]) {
        stranger.send(datagram).unwrap();
        assert_eq!((both.turn(), both.proxy.counters().refused), (Vec::new(), number), "{datagram:?}");
    }
    // Of a connection with another alternative port, and of none: neither ends the one that there is.
    stranger.connect(both.folder.join("to-client")).unwrap();
    for end in [[0; 18], [2; 18]] {
        stranger.send(&[&[2], &end[..]].concat()).unwrap();
    }
    both.turn();
    assert_eq!(both.portion.1.connections().count(), 1);
    // What ends there ends here.
    let connection = both.far.translator().connections().next().unwrap();
    both.far.translator_mut().close(&connection);
    both.turn();
    assert_eq!(both.portion.1.connections().count(), 0);
}
