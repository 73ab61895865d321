//! Contract 7: with fixed and with borrowed storage nothing is ever allocated, and with storage from the heap nothing
//! after construction. An allocator counts.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::alloc::System;

use byway::{
    Borrowed, Divert, Fixed, Heap, Instant, Prefix, Protocol, RECORD_LENGTH, Record, Redivert, Sharded, Storage,
    TRANSMIT_BUFFER, Translator, Verdict, Weighted, slots,
};

mod support;
use support::*;

struct Counting;

thread_local! {
    /// Allocations of this thread; the test harness has threads of its own.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|c| c.set(c.get() + 1));
}

// SAFETY: every call goes to the system's allocator, unchanged; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations `what` makes.
fn allocations<T>(what: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let value = what();
    (COUNT.with(Cell::get) - before, value)
}

/// Every kind of packet. More connections than there is room for, so that some are given up.
fn packets() -> Vec<Vec<u8>> {
    let original = at("100.100.100.100:80");
    let mut packets = Vec::new();
    for n in 0..40_u16 {
        let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, n as u8), 1000 + n);
        packets.push(tcp(client, original, (SYN, 100, 0), b""));
        packets.push(udp(client, at("100.100.100.101:69"), b"read"));
        packets.push(echo(8, *client.ip(), *original.ip(), n, b"ping"));
        packets.push(udp(client, at("9.9.9.9:53"), b"passes"));
        let mut first = udp(client, original, &[0; 16]);
        first[6..8].copy_from_slice(&[0x20, 0]);
        let mut later = first.clone();
        later[6..8].copy_from_slice(&[0, 3]);
        packets.extend([later, first]);
        packets.push(tcp(client, original, (ACK, 101, 501), b"in the middle"));
        packets.push(tcp(client, original, (RST, 7, 7), b""));
        packets.push(udp(client, original, b"cut")[..27].to_vec());
        packets.push(vec![n as u8; usize::from(n)]);
    }
    packets
}

/// What the server answers, and what routers say about it.
fn answers(sent: &[u8]) -> Vec<Vec<u8>> {
    let error = icmp_error(11, 0, ip("5.6.7.8"), sent, 28);
    let (near, far) = ends(sent);
    match sent[9] {
        6 => vec![tcp(far, near, (SYN | ACK, 500, 101), b""), error, tcp(far, near, (RST, 9, 9), b"")],
        17 => vec![udp(far, near, b"answer"), udp(at("123.45.67.90:4000"), near, b"from another port"), error],
        _ => vec![
            echo(0, address(sent, 16), address(sent, 12), u16::from_be_bytes([sent[24], sent[25]]), b"ping"),
            error,
        ],
    }
}

/// Calls everything that there is to call, and counts what that allocates.
fn exercise<S: Storage>(byway: &mut Translator<S>) -> usize {
    let servers = ["123.45.67.89:80", "123.45.67.90:80"].map(at);
    let group = servers.map(|s| Weighted::new(s, 1));
    let (mut sum, _) = allocations(|| {
        byway.divert(Divert::new(at("100.100.100.100:80")).to(servers[0])).unwrap();
        byway.divert(Divert::new(at("100.100.100.100:80")).to_group(&group)).unwrap();
        byway.divert(Divert::new(ip("100.100.100.100")).protocol(Protocol::Icmp)).unwrap();
        byway.divert(Divert::new(ip("100.100.100.101")).to(ip("123.45.67.90")).replies_from_any_port()).unwrap();
        byway.divert(Divert::new(ip("100.100.100.102")).to(servers[1]).keep_source()).unwrap();
        byway.divert(Divert::new(Prefix::new(ip("100.100.0.0"), 16).unwrap())).unwrap();
        assert!(byway.divert(Divert::new(ip("100.100.100.103")).to(ip("127.0.0.1"))).is_err());
    });
    let mut now = Instant::ZERO;
    let mut translated = 0;
    for how in [Redivert::Switch, Redivert::Reset, Redivert::Drain] {
        for mut packet in packets() {
            now = now + core::time::Duration::from_millis(200);
            let (count, verdict) = allocations(|| byway.translate(now, &mut packet));
            sum += count;
            if verdict == Verdict::ToServer && packet[6] & 0x3f == 0 {
                translated += 1;
                let mut burst = answers(&packet);
                let mut verdicts = [Verdict::Pass; 3];
                sum += allocations(|| byway.translate_burst(now, &mut burst, &mut verdicts)).0;
            }
        }
        let mut buffer = [0; TRANSMIT_BUFFER];
        let (count, records) = allocations(|| {
            let mut records = [[0; RECORD_LENGTH]; 4];
            for (place, record) in records.iter_mut().zip(byway.records()) {
                *place = *record.as_bytes();
            }
            byway.redivert(servers[0], servers[1], how).unwrap();
            byway.poll(now);
            let _ = byway.poll_at();
            while byway.poll_transmit(now, &mut buffer).is_some() {}
            while byway.poll_event().is_some() {}
            byway.divert(Divert::new(at("100.100.100.100:80")).to_group(&group)).unwrap();
            records
        });
        sum += count;
        let (count, listed) = allocations(|| {
            for bytes in &records {
                let _ = Record::from_bytes(bytes).and_then(|record| byway.import(now, &record));
            }
            let _ = Record::from_bytes(&[0; 100]);
            let listed = byway.connections().count();
            let measured = core::iter::from_fn({
                let mut all = byway.connections();
                move || all.next_measured()
            });
            assert_eq!(measured.count(), listed);
            let servers = byway.diverts().map(|d| d.servers().count()).sum::<usize>();
            assert!(servers > 0 && byway.find_divert(ip("100.100.100.101")).is_some());
            if let Some(first) = byway.connections().next() {
                let _ = byway.record(&first);
                let (client, original) = (first.client_side.source, first.client_side.destination);
                assert!(byway.connection(first.protocol, client, original).is_some());
            }
            let _ = (byway.counters().dropped_in_all(), byway.connections_on(servers_of_rules()), byway.slots_in_use());
            listed
        });
        sum += count;
        assert!(listed > 4, "{listed} connections at the end of a round");
    }
    let (count, ()) = allocations(|| {
        byway.remove(ip("100.100.100.101")).unwrap();
        byway.poll(now + core::time::Duration::from_secs(100_000));
    });
    assert!(translated > 50, "{translated} packets were translated");
    assert!(byway.counters().evicted > 0 && byway.counters().expired > 0 && byway.counters().moved > 0);
    sum + count
}

fn servers_of_rules() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 90), 80)
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| Box::new(1)).0, 1);
    assert_eq!(allocations(|| Vec::<u8>::with_capacity(9)).0, 1);
}

#[test]
fn fixed_storage_never_allocates() {
    let (count, mut byway) = allocations(|| Translator::new(config(), Fixed::<16, 16, 4, 16, 16>::sized()).unwrap());
    assert_eq!(count, 0);
    assert_eq!(exercise(&mut byway), 0);
}

#[test]
fn borrowed_storage_never_allocates() {
    let mut connections = [slots::Connection::EMPTY; 16];
    let mut index = [0; 16 * byway::INDEX_WORDS];
    let mut diverts = [slots::Divert::EMPTY; 16];
    let mut servers = [slots::Server::EMPTY; 16];
    let mut moves = [slots::Move::EMPTY; 16];
    let mut fragments = [slots::Fragment::EMPTY; 4];
    let mut events = [slots::Event::EMPTY; 16];
    let mut measured = [slots::Measure::EMPTY; 16];
    let (count, mut byway) = allocations(|| {
        let storage = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves)
            .fragments(&mut fragments)
            .events(&mut events)
            .measured(&mut measured);
        Translator::new(config(), storage).unwrap()
    });
    assert_eq!(count, 0);
    assert_eq!(exercise(&mut byway), 0);
}

#[test]
fn storage_from_the_heap_allocates_when_it_is_made_and_never_again() {
    let storage = Heap::new(16, 16).fragments(4).events(16).measured();
    let (count, mut byway) = allocations(|| Translator::new(config(), storage).unwrap());
    assert_eq!(count, 0);
    assert_eq!(exercise(&mut byway), 0);
}

/// A set of shards on one thread, whatever is sent to it.
#[test]
fn a_set_of_shards_allocates_when_it_is_made_and_never_again() {
    let mut set = Sharded::new(config(), (0..3).map(|_| Heap::new(16, 16))).unwrap();
    let (original, server) = (at("100.100.100.100:80"), at("123.45.67.89:80"));
    let (mut sum, _) = allocations(|| set.divert(Divert::new(ip("100.100.100.100")).to(*server.ip())).unwrap());
    let mut translated = 0;
    for mut packet in packets() {
        let (count, verdict) = allocations(|| set.translate(Instant::ZERO, &mut packet));
        sum += count;
        if verdict == Verdict::ToServer && packet[6] & 0x3f == 0 {
            translated += 1;
            for mut answer in answers(&packet) {
                sum += allocations(|| set.translate(Instant::ZERO, &mut answer)).0;
            }
        }
    }
    let (count, ()) = allocations(|| {
        set.redivert(*server.ip(), ip("123.45.67.90"), Redivert::Reset).unwrap();
        let mut buffer = [0; TRANSMIT_BUFFER];
        set.poll(Instant::ZERO);
        while set.poll_transmit(Instant::ZERO, &mut buffer).is_some() {}
        while set.poll_event().is_some() {}
        let records = set.records().count();
        assert!(set.poll_at().is_some() && records > 0 && set.counters().to_server > 0);
        assert_eq!(set.remove(original), None);
        assert!(set.remove(ip("100.100.100.100")).is_some());
    });
    assert!(translated > 50, "{translated} packets were translated");
    assert_eq!(sum + count, 0);
}
