use std::os::unix::net::UnixDatagram;

use byway::{Config, Divert, Heap, Target, Translator, Weighted};

use super::*;
use crate::all_routers::AllRouters;
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

/// A packet leaves where it came, whichever router has translated it.
#[test]
fn a_packet_leaves_where_it_came() {
    let (mut shards, far) = two();
    const CLIENTS: u8 = 100;
    let mut out = [Vec::new(), Vec::new()];
    for client in 0..CLIENTS {
        give(&far[0], &udp([1, 2, 3, client], [100, 1, 1, 1], b"question"));
        out.iter_mut().zip(route_all(&mut shards, &far)).for_each(|(out, more)| out.extend(more));
    }
    assert_eq!((out[0].len(), out[1].len()), (CLIENTS.into(), 0));
    assert!(out[0].iter().all(|packet| packet[16..20] == SERVER && packet.len() > 28));
    let open: Vec<_> = shards.iter().map(|shard| shard.own.ask(|router| router.translator.connections().count()).unwrap()).collect();
    assert!(open.iter().all(|open| *open > 20) && open.iter().sum::<usize>() == usize::from(CLIENTS), "{open:?}");
    let counters: Vec<_> = shards.into_iter().map(|shard| shard.finish().unwrap().1.counters).collect();
    assert_eq!(counters.iter().map(|counters| counters.sent).collect::<Vec<_>>(), [CLIENTS.into(), 0]);
    assert_eq!((counters[0].other_queue, counters[1].other_queue), (open[1] as u64, 0));
    assert_eq!(counters[1].received, open[1] as u64);
}

/// A packet at another queue makes something due in a shard whose thread sleeps: it is woken, but not for each packet.
#[test]
fn a_sleeping_shard_learns_what_is_due() {
    let (mut shards, far) = two();
    let client = client_of(&shards, 1);
    let is_woken = |shard: &Shard| {
        let mut fds = [PollFd::new(shard.own.waker(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    };
    for is_first in [true, false] {
        let now = shards[1].clock.now();
        let until = shards[1].own.will_sleep(now);
        assert_eq!(until.is_none(), is_first, "nothing is due before there is a connection");
        give(&far[0], &udp(client, [100, 1, 1, 1], b"question"));
        assert_eq!(route_all(&mut shards, &far)[0].len(), 1);
        // It is not its own thread that looks after it here.
        let now = shards[0].clock.now();
        shards[0].attend(now);
        assert_eq!(is_woken(&shards[1]), is_first);
        shards[1].own.is_awake();
        assert!(!is_woken(&shards[1]));
    }
}

/// Both threads have packets of all clients, and others lock all routers in between: every packet leaves once, and nobody waits
/// for ever.
#[test]
fn threads_take_turns() {
    const PACKETS: u16 = 2000;
    let (shards, far) = two();
    let handles: Vec<_> = shards.iter().map(|shard| shard.own.clone()).collect();
    let threads: Vec<_> = shards.into_iter().map(|shard| std::thread::spawn(|| shard.run().unwrap())).collect();
    let through: usize = std::thread::scope(|scope| {
        let ends = far.iter().enumerate().map(|(number, far)| {
            far.set_nonblocking(false).unwrap();
            scope.spawn(move || {
                let mut buffer = [0; 100];
                let answered = (0..PACKETS).filter(|packet| {
                    let client = [1, 2, number as u8, *packet as u8 % 16];
                    give(far, &udp(client, [100, 1, 1, 1], &packet.to_be_bytes()));
                    let length = far.recv(&mut buffer).unwrap();
                    length == LENGTH + 30 && buffer[LENGTH + 28..length] == packet.to_be_bytes()
                });
                answered.count()
            })
        });
        let ends: Vec<_> = ends.collect();
        let lock = || (0..200).filter(|_| AllRouters::of(&handles).lock().is_some_and(|all| all.count() == 2)).count();
        let others: Vec<_> = (0..2).map(|_| scope.spawn(lock)).collect();
        assert!(others.into_iter().all(|other| other.join().unwrap() == 200));
        ends.into_iter().map(|end| end.join().unwrap()).sum()
    });
    assert_eq!(through, 2 * usize::from(PACKETS));
    handles.iter().for_each(Handle::stop);
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let parts: Vec<_> = ended.into_iter().filter_map(Shard::finish).collect();
    let sum = |count: fn(&Router) -> u64| parts.iter().map(|(_, router)| count(router)).sum::<u64>();
    assert_eq!(sum(|router| router.translator.connections().count() as u64), 32);
    for counted in [sum(|router| router.counters.received), sum(|router| router.counters.sent)] {
        assert_eq!(counted, 2 * u64::from(PACKETS));
    }
    assert!(sum(|router| router.counters.other_queue) > 0);
    assert!(AllRouters::of(&handles).lock().is_none() && handles[0].ask(|_| ()).is_none(), "they have ended");
}

const SERVER: [u8; 4] = [20, 0, 0, 1];

/// Everything that is waiting is routed, in both shards; returns what came out of each.
fn route_all(shards: &mut [Shard], far: &[UnixDatagram]) -> Vec<Vec<Vec<u8>>> {
    let mut frame = vec![0; FRAME].into_boxed_slice();
    let frame: &mut [u8; FRAME] = frame.as_mut_array().unwrap();
    for shard in &mut *shards {
        shard.read(frame).unwrap();
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

/// A client of this shard.
fn client_of(shards: &[Shard], number: usize) -> [u8; 4] {
    let is_its = |last: &u8| shards[0].sharding.shard_of_client([1, 2, 3, *last].into()) == number;
    [1, 2, 3, (1..).find(is_its).unwrap()]
}

/// A client of each shard, and what its server got from it.
fn a_client_each(shards: &mut [Shard], far: &[UnixDatagram]) -> Vec<([u8; 4], Vec<u8>)> {
    let clients = [0, 1].map(|number| client_of(shards, number));
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
    for shard in shards {
        let router = shard.finish().unwrap().1;
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
    shards[1].route(1, &mut [&VnetHeader::NONE.to_bytes(), &later[..]].concat(), Given::Alone);
    let held = |shard: &Shard| shard.own.with(|router| router.held()).unwrap();
    assert!(held(&shards[1]) <= 8, "there is room for 4 of each");
    std::thread::sleep(Duration::from_millis(250));
    for shard in &mut shards {
        let now = shard.clock.now();
        shard.attend(now);
    }
    assert_eq!([0, 1].map(|shard| held(&shards[shard])), [0, 1]);
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
    for shard in shards {
        let router = shard.finish().unwrap().1;
        let Counters { fragments_kept, fragments_refused, fragments_expired, .. } = router.counters;
        assert_eq!((router.held(), fragments_refused, fragments_expired), (0, 0, 0));
        assert!(fragments_kept <= 1);
    }
}
