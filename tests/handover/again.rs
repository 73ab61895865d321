//! A re-divert from a server to its own address, its port kept: the rules stay as they are, and each of its connections goes
//! where its rule would send it now.

use byway::{Divert, Fixed, HttpGet, Redivert, Target, Translator, Weighted};
use byway_testing::moving::net::{Net, Plan, original, server};
use byway_testing::moving::{http, secs};
use byway_testing::talk::*;
use byway_testing::*;

fn group(weights: [u16; 2]) -> [Weighted; 2] {
    [Weighted::new(server(0), weights[0]), Weighted::new(server(1), weights[1])]
}

fn own_address() -> Target {
    (*server(0).ip()).into()
}

/// A download on server 0, whose rule has these weights by now.
fn downloading(weights: [u16; 2]) -> Net<HttpGet<4>> {
    let mut net = Net::new(Plan::new(1), http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 50_000));
    net.byway
        .divert(Divert::new(original()).to_group(&group(weights)).least_loaded().resumable())
        .expect("there is room");
    assert_eq!(net.byway.connections_on(server(0)), 1);
    net
}

#[test]
fn a_connection_goes_where_there_is_more_room_for_its_weight() {
    for (weights, is_moved) in [([1, 1], false), ([9, 1], false), ([1, 9], true), ([0, 1], true)] {
        for how in [Redivert::HandOver, Redivert::HandOverOrReset] {
            let mut net = downloading(weights);
            let done = net.byway.redivert(server(0), own_address(), how).expect("there is room");
            assert_eq!((done.servers, done.connections), (0, 1), "no rule leads elsewhere");
            assert_eq!(net.until(secs(3), |net| net.stands_on() == Some(1)), is_moved, "{weights:?} {how}");
            let stands_on = usize::from(is_moved);
            assert_eq!(
                [0, 1].map(|n| net.byway.connections_on(server(n))),
                [1 - stands_on, stands_on].map(|n| n as u32)
            );
            net.complete(secs(60));
            assert_eq!((net.stands_on(), net.client_sees.resets), (Some(stands_on), 0), "{weights:?} {how}");
            assert_eq!(net.outcomes.len(), stands_on, "{:?}", net.outcomes);
        }
    }
}

/// What is handed over that way leaves rules and counts alone, so that new connections go where there is room.
#[test]
fn counts_stay_with_their_servers() {
    for how in [Redivert::HandOver, Redivert::HandOverOrReset] {
        // Rules without room for another server.
        let storage = Fixed::<64, 4, 8, 2, 0, 64>::sized();
        let mut byway = Translator::new(config(), storage).expect("a good configuration");
        byway.divert(Divert::new(original()).to_group(&group([1, 1])).least_loaded()).expect("there is room");
        for n in 0..20 {
            ask(&mut byway, s(1), client(n), original());
        }
        assert_eq!([0, 1].map(|n| byway.connections_on(server(n))), [10, 10]);
        let planned = byway.plan().redivert(server(0), own_address(), how).expect("there is room");
        let done = byway.redivert(server(0), own_address(), how).expect("there is room");
        assert_eq!((planned, done.servers, done.connections), (done, 0, 10));
        (0..200).for_each(|_| byway.poll(s(2)));
        for n in 20..40 {
            ask(&mut byway, s(3), client(n), original());
        }
        assert_eq!([0, 1].map(|n| byway.connections_on(server(n))), [20, 20], "{how}");
    }
}
