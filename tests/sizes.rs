//! How much memory everything takes: the table that stands in the README, and the budgets that it must keep.
//!
//! `cargo test --features alloc --test sizes -- --nocapture` prints it.

mod support;

use byway::{Borrowed, Config, Divert, Fixed, INDEX_WORDS, RECORD_LENGTH, TRANSMIT_BUFFER, Translator, slots};
use core::net::SocketAddrV4;
use std::sync::Mutex;

use support::talk::*;
use support::*;

/// So much has a small router to give: what lwIP's address table for 512 connections takes, 16.5 KiB, and 2.5 KiB for
/// what that does not have: TCP as both ends see it, fragments in any order, and a filter that forgets.
const SMALL_ROUTER: usize = 19_456;

/// What a large processor has more in its filter of destinations, where it buys time; a small one has no use for it.
/// (`scripts/budget.sh --check` holds the images of microcontrollers to the budget.)
const LARGE_FILTER: usize = if cfg!(target_pointer_width = "64") { 4 * (1_024 - 32) + 4 * (1_056 - 16) } else { 0 };

/// A table for that: 170 connections, 4 rules, 8 datagrams in fragments, 8 events.
type Small = Fixed<170, 4>;

/// The whole translator without its tables.
const WITHOUT_TABLES: usize = size_of::<Translator<Borrowed<'_>>>() - size_of::<Borrowed<'_>>();

const SLOT: usize = size_of::<slots::Connection>();
const INDEX: usize = (INDEX_WORDS - 4) * size_of::<u32>();
const CLIENTS: usize = size_of::<u32>();
const CLAIMS: usize = 3 * size_of::<u32>();
/// A connection with everything that belongs to it.
const CONNECTION: usize = SLOT + INDEX_WORDS * size_of::<u32>();
const MEASURED: usize = size_of::<slots::Measure>();

#[test]
fn the_size_of_everything_is_within_its_budget() {
    let rows = [
        ("a connection: its slot, one cache line", SLOT),
        ("a connection: its share of the two indexes", INDEX),
        ("a connection: its share of the clients' counts", CLIENTS),
        ("a connection: what its sides claim, for TCP", CLAIMS),
        ("**a connection**", CONNECTION),
        ("a connection: its measurements, if they are wanted", MEASURED),
        ("**a connection, measured**", CONNECTION + MEASURED),
        ("a connection: what another server needs to take it over, if that is wanted", size_of::<slots::Resume>()),
        ("a rule", size_of::<slots::Divert>()),
        ("a server of a rule", size_of::<slots::Server>()),
        ("a server of a rule: its measurements, if they are wanted", size_of::<slots::MeasuredServer>()),
        ("a re-divert under way", size_of::<slots::Move>()),
        ("a datagram under way in fragments", size_of::<slots::Fragment>()),
        ("an event", size_of::<slots::Event>()),
        ("a record, as it is sent or stored", RECORD_LENGTH),
        ("the buffer for `poll_transmit`", TRANSMIT_BUFFER),
        ("**a translator without its tables**", WITHOUT_TABLES),
        ("`Translator<Fixed<16, 4>>`", size_of::<Translator<Fixed<16, 4>>>()),
        ("`Translator<Fixed<170, 4>>`", size_of::<Translator<Small>>()),
        ("`Translator<Fixed<1024, 64>>`", size_of::<Translator<Fixed<1_024, 64>>>()),
        ("`Translator<Fixed<1024, 64, 8, 8, 1024>>`, measured", size_of::<Translator<Fixed<1_024, 64, 8, 8, 1_024>>>()),
        ("`Translator<Fixed<65536, 64>>`", size_of::<Translator<Fixed<65_536, 64>>>()),
    ];
    println!("| what | bytes |\n| --- | ---: |");
    let rows = rows.map(|(what, bytes)| (what, format!("| {what} | {bytes} |")));
    rows.iter().for_each(|(_, row)| println!("{row}"));
    for (what, row) in rows {
        // The README's table is of a 64-bit machine; the budgets below hold everywhere.
        let is_of_readme = cfg!(target_pointer_width = "64");
        assert!(
            !is_of_readme || include_str!("../README.md").contains(&row),
            "the README says something else about {what}"
        );
    }
    assert_eq!(SLOT, 64, "a connection's own part is exactly one cache line");
    const { assert!(SLOT + INDEX + CLIENTS + CLAIMS == CONNECTION) };
    const { assert!(CONNECTION <= 96) };
    const { assert!(CONNECTION + MEASURED <= 168) };
    assert_eq!(align_of::<slots::Connection>(), 64);
}

#[test]
fn a_small_router_holds_170_connections() {
    let whole = size_of::<Translator<Small>>();
    assert!(whole - LARGE_FILTER <= SMALL_ROUTER, "{whole} bytes; {WITHOUT_TABLES} of them without any table");
    let mut t = Translator::new(config(), Small::sized()).unwrap();
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    for n in 0..170 {
        ask_and_answer(&mut t, s(0), client(n), at(ORIGINAL));
    }
    assert_eq!((t.capacity(), t.connections().count()), (170, 170));
    for n in 0..170 {
        ask_and_answer(&mut t, s(1), client(n), at(ORIGINAL));
    }
}

/// The three owners of memory do the same with it.
#[test]
fn fixed_borrowed_and_heap_behave_alike() {
    type Told = (Vec<(byway::Verdict, Vec<u8>)>, byway::Counters, Vec<byway::Event>);
    fn story<S: byway::Storage>(storage: S) -> Told {
        let mut t = Translator::new(config(), storage).unwrap();
        t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
        let mut seen = Vec::new();
        for n in 0..100 {
            let now = s(u64::from(n) * 7);
            for packet in [
                udp(client(n), at(ORIGINAL), b"question"),
                tcp(SocketAddrV4::new(*client(n / 3).ip(), 7), at(ORIGINAL), (SYN, 1, 0), b""),
                fragment(&udp(client(n), at(ORIGINAL), &[1; 64]), n as u16, 0, true, &[0, 9, 0, 80, 0, 72, 0, 0]),
            ] {
                seen.push(run(&mut t, now, &packet));
                t.poll(now);
            }
            seen.extend(say(&mut t, now).into_iter().map(|packet| (byway::Verdict::Pass, packet)));
        }
        let told = events(&mut t);
        (seen, *t.counters(), told)
    }
    let fixed = story(Fixed::<32, 4, 4, 8>::sized());
    let heap = story(byway::Heap::new(32, 4).fragments(4).events(8));
    let mut connections = [slots::Connection::EMPTY; 32];
    let mut index = [0; 32 * INDEX_WORDS];
    let mut diverts = [slots::Divert::EMPTY; 4];
    let mut servers = [slots::Server::EMPTY; 4];
    let mut moves = [slots::Move::EMPTY; 4];
    let mut fragments = [slots::Fragment::EMPTY; 4];
    let mut events = [slots::Event::EMPTY; 8];
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves)
        .fragments(&mut fragments)
        .events(&mut events);
    let borrowed = story(borrowed);
    assert_eq!(fixed, heap);
    assert_eq!(fixed, borrowed);
    let mut boxed = Box::new(Fixed::<32, 4, 4, 8>::sized());
    assert_eq!(fixed, story(&mut *boxed));
    // What was in the memory before does not matter.
    assert_eq!(fixed, story(&mut *boxed));
}

/// Storage that does not fit together is refused by name.
#[test]
fn storage_that_does_not_fit_is_refused() {
    use byway::ConfigError::{Capacity, MismatchedStorage};
    for connections in 0..8 {
        let error = Translator::new(Config::new([1; 32]), byway::Heap::new(connections, 1)).unwrap_err();
        assert_eq!(error, Capacity { connections });
    }
    let mut slots_of = [slots::Connection::EMPTY; 16];
    let mut short = [0; 16 * INDEX_WORDS - 1];
    let storage = Borrowed::new(&mut slots_of, &mut short, &mut [], &mut [], &mut []);
    let error = Translator::new(Config::new([1; 32]), storage).unwrap_err();
    assert_eq!(error, MismatchedStorage { name: "index", length: 16 * INDEX_WORDS - 1, expected: 16 * INDEX_WORDS });
    let error = Translator::new(Config::new([1; 32]), Fixed::<16, 1, 1, 1, 15>::sized()).unwrap_err();
    assert_eq!(error, MismatchedStorage { name: "measured", length: 15, expected: 16 });
}

/// Without rules, servers, moves, fragments and events there is little to do, and nothing goes wrong.
#[test]
fn storage_without_anything_but_connections_is_no_trap() {
    let mut t = Translator::new(config(), Fixed::<8, 0, 0, 0>::sized()).unwrap();
    assert_eq!(t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))), Err(byway::DivertError::TableFull { capacity: 0 }));
    assert_eq!(
        t.redivert(at(SERVER), at(OTHER), byway::Redivert::Switch),
        Err(byway::RedivertError::Busy { capacity: 0 })
    );
    assert_eq!(verdict(&mut t, s(0), &udp(at(CLIENT), at(ORIGINAL), b"")), byway::Verdict::Pass);
    assert_eq!(t.remove(at(ORIGINAL)), None);
    t.poll(s(0));
    assert_eq!((t.poll_at(), t.poll_event()), (None, None));
}

/// 34 MB, and 46 MB for what is measured and what can be handed over, that would stand in this program's file if they were
/// not all zeros, and stand in `.bss`, which takes no room in it, if they are.
static LARGE: Mutex<Fixed<400_000, 100, 100, 100, 400_000, 400_000, 100>> = Mutex::new(Fixed::sized());

#[test]
fn a_static_table_takes_no_room_in_the_program() {
    let mut storage = LARGE.lock().expect("nobody else has it");
    let mut t = Translator::new(config(), &mut *storage).expect("the configuration is good");
    t.divert(Divert::new(at(ORIGINAL)).to(at(SERVER))).unwrap();
    ask_and_answer(&mut t, s(0), at(CLIENT), at(ORIGINAL));
    let program = std::env::current_exe().and_then(std::fs::metadata).map(|m| m.len());
    let program = program.expect("this program has a file");
    assert!(program < size_of_val(&LARGE) as u64, "{program} bytes: the table stands in the program's file");
}
