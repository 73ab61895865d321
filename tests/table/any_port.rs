//! Rules with replies from any port: their connections take two places in the reply index.

use byway::{Config, Divert, DropReason, Heap, Protocol, Redivert, Translator, Verdict};
use byway_testing::talk::*;
use byway_testing::*;

const TFTP: &str = "100.100.100.100:69";
const WEB: &str = "100.0.0.1:80";

/// A table of this many slots with a rule with any-port replies and one without.
fn mixed(size: usize, config: Config) -> Translator<Heap> {
    let mut t = Translator::new(config, Heap::new(size, 8).events(10_000)).unwrap();
    t.divert(Divert::new(at(TFTP)).to(at("20.0.0.1:69")).replies_from_any_port()).unwrap();
    t.divert(Divert::new(at(WEB)).to(at("20.0.0.9:80"))).unwrap();
    t
}

/// Each such connection takes two places in the reply index, which is full before the slots are: then connections are
/// evicted as when all slots are in use.
#[test]
fn a_full_reply_index_is_a_full_table() {
    for size in [16, 23, 64, 1_024, 4_096] {
        // Eleven of the twelve places of each bucket.
        let most = size * 2 / 16 * 11 / 2;
        let mut t = mixed(size, config());
        for n in 0..2 * size as u32 {
            assert_eq!(verdict(&mut t, s(0), &udp(client(n), at(TFTP), b"")), Verdict::ToServer, "{n} of {size}");
        }
        let held = t.connections().count();
        assert!(held >= most, "{held} of {size}");
        // Another client's connections of the other rule, with and without the shortest way to open one.
        for n in 0..size as u32 / 4 {
            let syn = tcp(client(100_000 + n), at(WEB), (SYN, 1, 0), b"");
            assert_eq!(verdict(&mut t, s(1), &syn), Verdict::ToServer, "{n} of {size}");
            let tftp = udp(client(200_000 + n), at(TFTP), b"");
            assert_eq!(verdict(&mut t, s(1), &tftp), Verdict::ToServer, "{n} of {size}");
        }
        assert!(t.counters().evicted > 0);
        assert_eq!(t.counters().dropped(DropReason::TableFull), 0);
        // What is answered is never evicted for them, and is refused when nothing else is left.
        let mut t = mixed(size, config());
        let mut answered = 0;
        while verdict(&mut t, s(0), &udp(client(answered), at(TFTP), b"")) == Verdict::ToServer {
            ask_and_answer(&mut t, s(0), client(answered), at(TFTP));
            answered += 1;
        }
        assert!(answered as usize >= most, "{answered} of {size}");
        assert_eq!((t.connections().count(), t.counters().evicted), (answered as usize, 0));
    }
}

/// Records are imported into such a table as well.
#[test]
fn a_full_reply_index_takes_records() {
    let mut other = mixed(64, config());
    ask_and_answer(&mut other, s(0), client(9_999), at(WEB));
    let record = other.records().next().expect("one");
    let mut t = mixed(64, config());
    for n in 0..128 {
        ask(&mut t, s(0), client(n), at(TFTP));
    }
    t.import(s(0), &record).unwrap();
    assert!(t.connection(Protocol::Udp, client(9_999), at(WEB)).is_some());
}

/// A re-divert takes no more places in the index than there were before, so it strands no connection, however full the
/// index is.
#[test]
fn a_re_divert_strands_nothing_for_lack_of_places_in_the_index() {
    for size in [16, 64, 1_024, 4_096] {
        let mut t = mixed(size, config());
        for n in 0..2 * size as u32 {
            ask(&mut t, s(0), client(n), at(TFTP));
        }
        let held = t.connections().count() as u64;
        t.redivert(at("20.0.0.1:69"), at("20.0.0.2:69"), Redivert::Switch).unwrap();
        for _ in 0..size {
            t.poll(s(1));
        }
        assert_eq!((t.counters().moved, t.counters().stranded), (held, 0), "{size}");
    }
}
