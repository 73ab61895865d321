use core::net::Ipv4Addr;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use byway::{Config, Divert, Heap, Target, Translator, Weighted};

use super::*;
use crate::counters::Counters;
use crate::packet::tests::udp;
use crate::router::Settings;
use crate::vnet::VnetHeader;

const OWN: [u8; 4] = [10, 9, 9, 9];

/// Two shards whose queues are sockets, and the other ends of those.
fn two() -> (Vec<Shard>, Vec<UnixDatagram>) {
    let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own(OWN.into());
    let sharding = Sharding::new(&config, 2).unwrap();
    let (mut parts, mut far) = (Vec::new(), Vec::new());
    for shard in 0..2 {
        let mut translator = Translator::new(sharding.config(&config, shard).unwrap(), Heap::new(64, 16)).unwrap();
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse("100.1.1.1 to 20.0.0.1", &mut room).unwrap()).unwrap();
        let settings =
            Settings { address: OWN.into(), mtu: 1500, errors_per_second: 10, held: 4, resumable: None, early: None };
        let (near, other) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        parts.push((Queue::new(near.into(), true), Box::new(Router::new(translator, settings))));
        far.push(other);
    }
    let shards = shards(parts, &Listeners::default(), sharding, Clock::new(Instant::from_secs(10))).unwrap();
    (shards.into_iter().map(|(shard, _)| shard).collect(), far)
}

/// What other shards have handed over is not lost when a shard has ended before it took it.
#[test]
fn what_waits_when_all_end_is_routed() {
    let (mut shards, far) = two();
    let mut frame = vec![0; FRAME].into_boxed_slice();
    let frame: &mut [u8; FRAME] = frame.as_mut_array().unwrap();
    const CLIENTS: u8 = 100;
    for client in 0..CLIENTS {
        let packet = udp([1, 2, 3, client], [100, 1, 1, 1], b"question");
        far[0].send(&[&VnetHeader::NONE.to_bytes(), &packet[..]].concat()).unwrap();
        shards[0].read(frame).unwrap();
    }
    // The other one has ended without looking.
    let counters: Vec<_> = shards.into_iter().map(|shard| shard.finish().1.counters).collect();
    let handed_over = counters[0].handed_over;
    assert!(handed_over > 20 && handed_over < 80, "{handed_over}");
    let mut sent = [0; 2];
    for (sent, far) in sent.iter_mut().zip(&far) {
        while let Ok(length) = far.recv(&mut frame[..]) {
            let server: [u8; 4] = frame[LENGTH + 16..LENGTH + 20].try_into().unwrap();
            assert_eq!((Ipv4Addr::from(server), length > LENGTH + 28), ([20, 0, 0, 1].into(), true));
            *sent += 1;
        }
        assert_eq!(far.recv(&mut frame[..]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(sent, [u64::from(CLIENTS) - handed_over, handed_over]);
}

const SERVER: [u8; 4] = [20, 0, 0, 1];

/// Everything that is waiting is routed, in both shards; returns what came out of each.
fn route_all(shards: &mut [Shard], far: &[UnixDatagram]) -> Vec<Vec<Vec<u8>>> {
    let mut frame = vec![0; FRAME].into_boxed_slice();
    let frame: &mut [u8; FRAME] = frame.as_mut_array().unwrap();
    for shard in &mut *shards {
        shard.read(frame).unwrap();
    }
    for shard in &mut *shards {
        shard.take_handed_over();
    }
    let all = far.iter().map(|far| {
        let mut all = Vec::new();
        while let Ok(length) = far.recv(&mut frame[..]) {
            all.push(frame[LENGTH..length].to_vec());
        }
        all
    });
    all.collect()
}

fn give(far: &UnixDatagram, packet: &[u8]) {
    far.send(&[&VnetHeader::NONE.to_bytes(), packet].concat()).unwrap();
}

/// A client of each shard, and what its server got from it.
fn a_client_each(shards: &mut [Shard], far: &[UnixDatagram]) -> Vec<([u8; 4], Vec<u8>)> {
    let of = |number| {
        let is_its = |last: &u8| shards[0].sharding.shard_of_client([1, 2, 3, *last].into()) == number;
        [1, 2, 3, (1..).find(is_its).unwrap()]
    };
    let clients = [of(0), of(1)];
    let with_question = |client| {
        give(&far[0], &udp(client, [100, 1, 1, 1], b"question"));
        let out = route_all(shards, far).concat();
        (client, out[0].clone())
    };
    clients.into_iter().map(with_question).collect()
}

/// A reply in two fragments, with this identification, and full of this byte.
fn fragments(question: &[u8], identification: u16, byte: u8) -> [Vec<u8>; 2] {
    let mut whole = udp(SERVER, question[12..16].try_into().unwrap(), &[byte; 24]);
    whole[20..22].copy_from_slice(&question[22..24]);
    whole[22..24].copy_from_slice(&question[20..22]);
    packet::put(&mut whole, 26, 0);
    [(0, 0x2000), (16, 2)].map(|(from, field)| {
        let mut part = [&whole[..20], &whole[20 + from..36 + from]].concat();
        packet::put(&mut part, 2, 36);
        packet::put(&mut part, 4, identification);
        packet::put(&mut part, 6, field);
        packet::seal(&mut part);
        part
    })
}

fn has(packet: &[u8], client: [u8; 4], byte: u8) -> bool {
    packet[16..20] == client && packet[if packet[7] == 0 { 28 } else { 20 }..].iter().all(|b| *b == byte)
}

/// Shards share the only alternative address, so that a later fragment shows nothing of whose it is; but its first has passed.
#[test]
fn fragments_follow_their_first() {
    let (mut shards, far) = two();
    let clients = a_client_each(&mut shards, &far);
    let (a, b) = (&clients[0], &clients[1]);
    for identification in 0..100 {
        for part in fragments(&a.1, identification, b'A') {
            give(&far[0], &part);
            let out = route_all(&mut shards, &far).concat();
            assert!(out.len() == 1 && has(&out[0], a.0, b'A'), "{identification}: {out:?}");
        }
    }
    // The server begins again with its identifications.
    for identification in [2, 50, 98] {
        for part in fragments(&b.1, identification, b'B') {
            give(&far[0], &part);
            let out = route_all(&mut shards, &far).concat();
            assert!(out.len() == 1 && has(&out[0], b.0, b'B'), "{identification}: {out:?}");
        }
    }
    for Shard { router, .. } in &shards {
        let Counters { fragments_kept, fragments_refused, .. } = router.counters;
        assert_eq!((router.held(), fragments_kept, fragments_refused), (0, 0, 0));
    }
}

/// The first fragment has come out of another queue: every shard gets a copy of those behind it, but not for long.
#[test]
fn copies_for_every_shard_are_kept_briefly_and_apart() {
    let (mut shards, far) = two();
    let clients = a_client_each(&mut shards, &far);
    let (a, b) = (&clients[0], &clients[1]);
    for identification in 0..100 {
        for (part, far_end) in fragments(&a.1, identification, b'A').iter().zip(&far) {
            give(far_end, part);
            let out = route_all(&mut shards, &far).concat();
            assert!(out.len() == 1 && has(&out[0], a.0, b'A'), "{identification}: {out:?}");
        }
    }
    // B's shard waits for a first fragment of its own: copies have not taken its room.
    let [first, later] = fragments(&b.1, 1000, b'B');
    shards[1].route(&mut [&VnetHeader::NONE.to_bytes(), &later[..]].concat(), Given::Alone);
    assert!(shards[1].router.held() <= 8, "there is room for 4 of each");
    std::thread::sleep(Duration::from_millis(250));
    for shard in &mut shards {
        let now = shard.clock.now();
        shard.router.poll(now, &mut shard.queue);
    }
    assert_eq!([0, 1].map(|shard| shards[shard].router.held()), [0, 1]);
    give(&far[0], &first);
    let out = route_all(&mut shards, &far).concat();
    assert!(out.len() == 2 && out.iter().all(|packet| has(packet, b.0, b'B')), "{out:?}");
    // The server begins again with its identifications.
    for identification in [2, 98] {
        for part in fragments(&b.1, identification, b'B') {
            give(&far[0], &part);
            let out = route_all(&mut shards, &far).concat();
            assert!(out.len() == 1 && has(&out[0], b.0, b'B'), "{identification}: {out:?}");
        }
    }
    for Shard { router, .. } in &shards {
        let Counters { fragments_kept, fragments_refused, fragments_expired, .. } = router.counters;
        assert_eq!((router.held(), fragments_refused, fragments_expired), (0, 0, 0));
        assert!(fragments_kept <= 1);
    }
}
