//! A set of shards by itself: who owns what, and what becomes of instructions, records and counters.

use super::*;

/// Each address and port is exactly one shard's, and an answer to it goes there.
#[test]
fn alternative_endpoints_are_shared_out_without_rest() {
    for (config, shards) in settings() {
        let sharding = Sharding::new(&config, shards).unwrap();
        let whole = Sharding::new(&config, 1).unwrap();
        let of = |s: &Sharding, shard| s.alternatives(shard).collect::<Vec<_>>();
        let holders = |address: Ipv4Addr, port| -> Vec<usize> {
            let holds = |shard: &usize| {
                of(&sharding, *shard).iter().any(|(f, l, p)| (f..=l).contains(&&address) && p.contains(&port))
            };
            (0..shards).filter(holds).collect()
        };
        for (first, last, ports) in of(&whole, 0) {
            for address in (first.to_bits()..=last.to_bits()).map(Ipv4Addr::from_bits) {
                let near_the_ends = |port: &u16| port.abs_diff(*ports.start()) < 5 || port.abs_diff(*ports.end()) < 5;
                for port in ports.clone().filter(|port| port.is_multiple_of(97) || near_the_ends(port)) {
                    let [holder] = holders(address, port)[..] else {
                        panic!("{address}:{port} has {:?}", holders(address, port))
                    };
                    let answer = udp(at(SERVER), SocketAddrV4::new(address, port), b"");
                    assert_eq!(sharding.owner(&answer), Owner::One(holder));
                }
            }
        }
        for shard in 0..shards {
            let usable = |(f, l, p): &(Ipv4Addr, Ipv4Addr, core::ops::RangeInclusive<u16>)| f <= l && *p.end() > 0;
            assert!(of(&sharding, shard).iter().any(usable), "shard {shard} has nothing");
        }
        assert!(of(&sharding, shards).is_empty() && sharding.config(&config, shards).is_none());
    }
}

/// The hard case: a later fragment to an address that shards share. One shard translates it; no other forwards it.
#[test]
fn a_later_fragment_to_a_shared_address_is_translated_once() {
    let mut set = Sharded::new(config(), (0..4).map(|_| Heap::new(100, 4))).unwrap();
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let sharding = set.sharding();
    for number in 0..50 {
        let mut question = udp(client(number), at(ORIGINAL), b"question");
        assert_eq!(set.translate(s(1), &mut question), Verdict::ToServer);
        let (alternative, server) = ends(&question);
        let whole = udp(server, alternative, &[number as u8; 100]);
        let Owner::One(owner) = sharding.owner(&whole) else { panic!("a whole packet has one owner") };
        let pieces = fragments(&whole, number as u16, 40);
        assert_eq!(sharding.owner(&pieces[0]), Owner::One(owner));

        let mut offer =
            |piece: &Vec<u8>| -> Vec<Verdict> { set.shards_mut().map(|shard| run(shard, s(1), piece).0).collect() };
        for early in &pieces[1..] {
            assert_eq!(sharding.owner(early), Owner::Every);
            assert_eq!(offer(early), [Verdict::Hold; 4], "nobody has seen the first");
        }
        let shard = set.shards_mut().nth(owner).unwrap();
        let mut out = vec![back(shard, s(1), &pieces[0])];
        for late in pieces[1..].iter().rev() {
            for (number, shard) in set.shards_mut().enumerate() {
                let (verdict, bytes) = run(shard, s(1), late);
                assert_eq!(verdict, if number == owner { Verdict::ToClient } else { Verdict::Hold });
                if number == owner {
                    out.push(bytes);
                }
            }
        }
        let together = reassemble(&out);
        assert_eq!((ends(&together), checksums(&together)), ((at(ORIGINAL), client(number)), BOTH));
    }
}

/// With an address for each shard there is no hard case.
#[test]
fn with_enough_addresses_every_packet_has_one_owner() {
    let config = Config::new([7; 32]).alternatives(ip("10.10.10.10"), ip("10.10.10.13"), RANGE);
    let sharding = Sharding::new(&config, 4).unwrap();
    assert!(sharding.has_whole_addresses());
    for n in 0..4 {
        let alternative = SocketAddrV4::new(Ipv4Addr::new(10, 10, 10, 10 + n), 5_000);
        for piece in fragments(&udp(at(SERVER), alternative, &[0; 100]), 1, 40) {
            assert_eq!(sharding.owner(&piece), Owner::One(usize::from(n)));
        }
    }
}

/// An ICMP error in fragments is not looked into, so that those that follow pass where the first has passed.
#[test]
fn a_fragment_that_claims_to_be_an_error_goes_with_those_that_follow() {
    let sharding = Sharding::new(&config(), 8).unwrap();
    let router = ip("172.16.5.5");
    let quoting = |number| icmp_error(3, 1, router, &udp(at(ORIGINAL), client(number), &[0; 80]), 100);
    let errors: Vec<Vec<u8>> = (0..20).map(quoting).collect();
    for error in &errors {
        let (first, later) = (fragment(error, 7, 0, true, &error[20..]), fragment(error, 7, 16, false, &[0; 8]));
        assert_eq!(sharding.owner(&first), Owner::One(sharding.shard_of_client(router)));
        assert_eq!(sharding.owner(&first), sharding.owner(&later));
    }
    let owners: Vec<Owner> = errors.iter().map(|error| sharding.owner(error)).collect();
    assert!(owners.iter().any(|owner| *owner != owners[0]), "a whole one goes where its client is");
}

/// All that a client sends goes to one shard, and clients are spread evenly, but as nobody can foresee.
#[test]
fn clients_are_spread_by_a_keyed_hash() {
    let spread = |secret| -> Vec<usize> {
        let sharding = Sharding::new(&Config::new(secret), 4).unwrap();
        let shard = |number| {
            let one = sharding.owner(&udp(client(number), at(ORIGINAL), b""));
            let other = sharding.owner(&echo(8, *client(number).ip(), ip("9.9.9.9"), 5, b""));
            assert_eq!((one, other), (Owner::One(sharding.shard_of_client(*client(number).ip())), one));
            sharding.shard_of_client(*client(number).ip())
        };
        (0..20_000).map(shard).collect()
    };
    let (one, other) = (spread([1; 32]), spread([2; 32]));
    for shard in 0..4 {
        let share = one.iter().filter(|s| **s == shard).count();
        assert!((4_700..5_300).contains(&share), "shard {shard} has {share} of 20000");
    }
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!((4_700..5_300).contains(&same), "{same} of 20000 clients are in the same shard by another secret");
}

/// As a program in the kernel would: by the documentation alone.
#[test]
fn a_program_with_the_key_finds_the_same_shard() {
    let sharding = Sharding::new(&config(), 7).unwrap();
    let (k0, k1) = sharding.client_key();
    for number in 0..1_000 {
        let client = *client(number).ip();
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&client.to_bits().to_le_bytes());
        let hash = siphasher::sip::SipHasher13::new_with_keys(k0, k1).hash(&bytes);
        assert_eq!(sharding.shard_of_client(client), (((hash >> 32) * 7) >> 32) as usize);
    }
}

/// An instruction that one shard cannot carry out is carried out by none.
#[test]
fn an_instruction_is_carried_out_by_all_or_by_none() {
    let mut set = Sharded::new(config(), (0..3).map(|_| Heap::new(100, 3).servers(4))).unwrap();
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    // A rule that the last shard alone has, so that it has less room than the others.
    set.shards_mut().nth(2).unwrap().divert(Divert::new(at("9.9.9.9:9")).to(at(SERVER))).unwrap();
    let state = |set: &Sharded<Heap>| -> Vec<(u32, usize)> {
        set.shards().map(|t| (t.generation(), t.diverts().count())).collect()
    };
    let before = state(&set);
    let group: Vec<Weighted> = (1..4).map(|n| Weighted::new(Ipv4Addr::new(9, 9, 9, n), 1)).collect();
    let refused = set.divert(Divert::new(at("8.8.8.8:8")).to_group(&group));
    assert_eq!(refused, Err(ShardingError::Divert(byway::DivertError::ServersFull { capacity: 4 })));
    assert_eq!(state(&set), before);

    // The last shard is still following as many re-diverts as it can.
    for _ in 0..3 {
        let last = set.shards_mut().nth(2).unwrap();
        last.redivert(at(SERVER), at(OTHER), Redivert::Switch)
            .or_else(|_| last.redivert(at(OTHER), at(SERVER), Redivert::Switch))
            .unwrap();
    }
    let before = state(&set);
    let busy = set.redivert(at(SERVER), at("9.9.9.1:80"), Redivert::Switch);
    assert_eq!(busy, Err(byway::RedivertError::Busy { capacity: 3 }));
    assert_eq!(state(&set), before);

    // Where all can, all do.
    set.poll(s(1));
    assert!(set.redivert(at(SERVER), at("9.9.9.1:80"), Redivert::Switch).is_ok());
    let removed = set.remove(at(ORIGINAL)).unwrap();
    assert_eq!(removed.left_behind, 0);
    assert_eq!(state(&set).iter().map(|(_, rules)| *rules).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(set.remove(at(ORIGINAL)), None);
}

#[test]
fn what_cannot_be_shared_is_named() {
    let new = || Config::new([7; 32]);
    let shared = |config: Config, shards| Sharding::new(&config, shards).map(|_| ()).unwrap_err();
    let a = ip("10.10.10.10");
    assert_eq!(shared(new(), 0), ShardingError::Shards { value: 0 });
    assert_eq!(shared(new(), 65_536), ShardingError::Shards { value: 65_536 });
    let overlapping = new().alternatives(ip("10.10.10.9"), a, 1..=2_000).alternative(a, 2_000..=3_000);
    assert_eq!(shared(overlapping.clone(), 2), ShardingError::Overlapping { address: a, port: 2_000 });
    assert!(Sharding::new(&overlapping, 1).is_ok());
    let few = ShardingError::TooFewPorts { first: a, last: a, ports: (0, 2), shards: 3 };
    assert_eq!(shared(new().alternative(a, 0..=2), 3), few);
    assert!(Sharding::new(&new().alternative(a, 0..=3), 3).is_ok());
    let rewriting = new().alternative(a, RANGE).rewrite_identification(true);
    assert_eq!(shared(rewriting.clone(), 2), ShardingError::SharedIdentification);
    assert!(Sharding::new(&rewriting.alternative(ip("10.10.10.11"), RANGE), 2).is_ok());
    let eight = (0..8_u8)
        .fold(new(), |config, n| config.alternatives(Ipv4Addr::new(10, 10, n, 0), Ipv4Addr::new(10, 10, n, 9), RANGE));
    assert_eq!(shared(eight.clone(), 3), ShardingError::TooManyPieces);
    assert!(Sharding::new(&eight, 4).is_ok());
    let bad = new().alternative(Ipv4Addr::LOCALHOST, RANGE);
    assert!(matches!(shared(bad, 1), ShardingError::Config(_)));
    let small = Sharded::new(new(), [Heap::new(1_000, 4), Heap::new(7, 4)]).map(|_| ()).unwrap_err();
    assert_eq!(small, ShardingError::Config(byway::ConfigError::Capacity { connections: 7 }));

    // A packet back to a client's own address does not show on which side it is.
    let mut set = Sharded::new(config(), [Heap::new(100, 4), Heap::new(100, 4)]).unwrap();
    let kept = Divert::new(at(ORIGINAL)).keep_source();
    assert_eq!(set.divert(kept.to(at(SERVER))), Err(ShardingError::KeptSource));
    assert!(set.divert(kept).is_ok(), "an exception is no translation");
    let mut one = Sharded::new(config(), [Heap::new(100, 4)]).unwrap();
    assert!(one.divert(kept.to(at(SERVER))).is_ok());
}

/// What another set has sent, or this one before it started anew.
#[test]
fn records_are_taken_over_by_the_shard_that_their_packets_come_to() {
    let new = |secret, shards| {
        let config = Config::new([secret; 32]).alternative(ip(ALTERNATIVE), RANGE);
        let mut set = Sharded::new(config, (0..shards).map(|_| Heap::new(200, 4))).unwrap();
        set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        set
    };
    let mut before = new(1, 3);
    for number in 0..100 {
        let mut packet = udp(client(number), at(ORIGINAL), b"question");
        assert_eq!(before.translate(s(1), &mut packet), Verdict::ToServer);
    }
    let mut after = new(1, 3);
    for record in before.records() {
        assert_eq!(after.import(s(1), &record), Ok(byway::Imported::New));
    }
    for connection in before.shards().flat_map(|t| t.connections()) {
        let (near, far) = (connection.server_side.source, connection.server_side.destination);
        let mut answer = udp(far, near, b"answer");
        assert_eq!(after.translate(s(2), &mut answer), Verdict::ToClient);
        assert_eq!(ends(&answer), (at(ORIGINAL), connection.client_side.source));
    }
    assert_eq!(after.counters().imported, 100);

    let mut other = new(2, 3);
    let taken = before.records().filter(|record| other.import(s(1), record).is_ok()).count();
    assert!((10..60).contains(&taken), "{taken} of 100: a third by chance");
    let kept: usize = other.shards().map(|t| t.connections().count()).sum();
    assert_eq!(kept, taken);
}

/// What a set says of itself is what its shards say.
#[test]
fn counters_are_summed_and_the_earliest_time_counts() {
    let mut set = Sharded::new(config(), (0..4).map(|_| Heap::new(100, 4))).unwrap();
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    assert_eq!(set.poll_at(), None);
    for number in 0..40 {
        let mut packet = udp(client(number), at(ORIGINAL), b"question");
        assert_eq!(set.translate(s(u64::from(number)), &mut packet), Verdict::ToServer);
    }
    let mut stray = udp(at("7.7.7.7:7"), at("10.10.10.10:9999"), b"");
    assert_eq!(set.translate(s(40), &mut stray), Verdict::Drop(DropReason::NoConnection));
    let counters = set.counters();
    assert_eq!((counters.to_server, counters.opened, counters.dropped(DropReason::NoConnection)), (40, 40, 1));
    assert!(set.shards().all(|shard| shard.counters().opened > 0));
    let earliest = set.shards_mut().filter_map(|shard| shard.poll_at()).min();
    assert_eq!(set.poll_at(), earliest);
    assert!(earliest.is_some());
}

/// Threads that share nothing: one that receives, and one for each shard.
#[test]
fn shards_work_in_threads_of_their_own() {
    use std::sync::mpsc;

    fn owned<T: Send + 'static>(value: T) -> T {
        value
    }

    let config = Config::new([7; 32]).alternatives(ip("10.10.10.10"), ip("10.10.10.12"), RANGE);
    let mut set = owned(Sharded::new(config, (0..3).map(|_| Heap::new(1_000, 4))).unwrap());
    set.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    let sharding = set.sharding();
    let (outbound, sent) = mpsc::channel::<(usize, Verdict, Vec<u8>)>();
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for (number, mut shard) in set.into_shards().enumerate() {
        let (queue, packets) = mpsc::channel::<Vec<u8>>();
        let outbound = outbound.clone();
        queues.push(queue);
        threads.push(std::thread::spawn(move || {
            for mut packet in packets {
                let verdict = shard.translate(s(1), &mut packet);
                outbound.send((number, verdict, packet)).expect("the main thread listens");
            }
            shard
        }));
    }
    drop(outbound);
    let give = |packet: &[u8]| match sharding.owner(packet) {
        Owner::One(shard) => queues[shard].send(packet.to_vec()).expect("the thread listens"),
        Owner::Every => panic!("each shard has its own address"),
    };
    (0..600).for_each(|number| give(&udp(client(number), at(ORIGINAL), b"question")));
    let questions: Vec<_> = sent.iter().take(600).collect();
    for (number, verdict, packet) in questions {
        assert_eq!(verdict, Verdict::ToServer);
        let answer = udp(at(SERVER), ends(&packet).0, b"answer");
        assert_eq!(sharding.owner(&answer), Owner::One(number));
        give(&answer);
    }
    for _ in 0..600 {
        assert_eq!(sent.recv().expect("the threads are there").1, Verdict::ToClient);
    }
    drop(queues);
    let shards: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    let all: Counters = shards.iter().map(Translator::counters).sum();
    assert_eq!((all.to_server, all.to_client, all.dropped_in_all()), (600, 600, 0));
    assert!(shards.iter().all(|shard| shard.counters().to_server > 150));
}
