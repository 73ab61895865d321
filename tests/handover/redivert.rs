//! Re-diverts that hand connections over: every connection of the old server, without a word from the caller about any of
//! them, and what becomes of those that cannot be.

use core::time::Duration;

use byway::{Divert, Event, Fixed, HttpGet, Kept, Outcome, Redivert, RedivertError, State, Target, Translator};
use byway_testing::moving;
use byway_testing::moving::net::{Net, Plan, server};
use byway_testing::moving::web::Fault;
use byway_testing::moving::{REST, http, secs};
use byway_testing::*;

use super::segments::{self, MINE, NEW, NEXT, OLD, OLD_CLOCK};

fn downloading(plan: Plan) -> Net<HttpGet<4>> {
    let mut net = Net::new(plan, http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 50_000));
    net
}

fn redivert(net: &mut Net<HttpGet<4>>, from: usize, to: usize, how: Redivert) {
    let done = net.byway.redivert(server(from), server(to), how).expect("there is room");
    assert_eq!((done.servers, done.connections), (1, 1));
}

#[test]
fn a_redivert_takes_a_download_along() {
    for how in [Redivert::HandOver, Redivert::HandOverOrReset] {
        let mut net = downloading(Plan::new(1));
        redivert(&mut net, 0, 1, how);
        assert_eq!(net.stands_on(), Some(0), "its server goes on until the new one has accepted");
        assert!(net.until(secs(5), |net| net.stands_on() == Some(1)), "{:?}", net.outcomes);
        assert!(matches!(net.outcome(), Some(Outcome::Moved { .. })), "{:?}", net.outcomes);
        assert!(net.byway.connections_on(server(0)) == 0 && net.byway.connections_on(server(1)) == 1);
        // And further, with the next instruction.
        redivert(&mut net, 1, 2, how);
        assert!(net.until(secs(5), |net| net.stands_on() == Some(2)), "{:?}", net.outcomes);
        net.complete(secs(60));
        net.pass(secs(1));
        assert_eq!((net.outcomes.len(), net.mover.poll_at(net.instant())), (2, None), "nothing is left to do");
    }
}

/// Of two instructions that follow one another at once the second counts: the connection goes where its rule leads.
#[test]
fn a_connection_goes_where_its_rule_leads_by_then() {
    let mut net = downloading(Plan::new(2));
    net.byway.redivert(server(0), server(1), Redivert::HandOver).expect("there is room");
    net.byway.redivert(server(1), server(2), Redivert::HandOver).expect("there is room");
    assert!(net.until(secs(5), |net| net.stands_on() == Some(2)), "{:?}", net.outcomes);
    net.complete(secs(60));
    assert!(net.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Moved { .. })), "{:?}", net.outcomes);
}

/// A connection that is back where its rule leads stays.
#[test]
fn there_and_back_before_anything_happened() {
    let mut net = downloading(Plan::new(3));
    net.byway.redivert(server(0), server(1), Redivert::HandOverOrReset).expect("there is room");
    net.byway.redivert(server(1), server(0), Redivert::HandOverOrReset).expect("there is room");
    net.complete(secs(60));
    assert_eq!((net.stands_on(), net.outcomes.len()), (Some(0), 0));
}

/// Between two requests it only has to be quiet long enough: it is tried again until it is.
#[test]
fn a_connection_at_rest_is_waited_for() {
    let mut net = Net::new(Plan::new(4), REST, &["/a/3000000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 50_000));
    net.byway.redivert(server(0), server(1), Redivert::HandOverOrReset).expect("there is room");
    assert!(net.until(secs(30), |net| net.asking.done == 1), "{}", net.asking.received);
    net.asking.paused = true;
    assert_eq!(net.stands_on(), Some(0));
    assert!(net.until(secs(5), |net| net.stands_on() == Some(1)), "{:?}", net.outcomes);
    net.asking.paused = false;
    assert!(net.until(secs(30), |net| net.asking.is_done()));
    assert_eq!((net.client_sees.resets, net.outcomes.len()), (0, 1));
}

/// The new server's answer is not what the old one would have sent: there is nothing to wait for.
#[test]
fn what_cannot_be_handed_over_is_drained_or_reset() {
    for (how, is_reset) in [(Redivert::HandOver, false), (Redivert::HandOverOrReset, true)] {
        let mut plan = Plan::new(5);
        plan.faults[1] = Fault::OtherTag;
        let mut net = downloading(plan);
        redivert(&mut net, 0, 1, how);
        assert!(net.until(secs(5), |net| net.mover.kept(Kept::WrongAnswer) == 1));
        net.pass(secs(1));
        assert_eq!((net.client_sees.resets > 0, net.servers_see[0].resets > 0), (is_reset, is_reset), "{how}");
        if is_reset {
            assert_eq!(net.byway.counters().reset, 1);
        } else {
            assert_eq!(net.stands_on(), Some(0));
            net.complete(secs(60));
        }
        assert_eq!(net.outcomes.len(), 1, "it is not tried again: {:?}", net.outcomes);
    }
}

/// The new server is not there. The old one goes on meanwhile, and the connection is tried for as long as was said.
#[test]
fn patience_ends() {
    for (how, is_reset) in [(Redivert::HandOver, false), (Redivert::HandOverOrReset, true)] {
        let mut plan = Plan::new(6);
        plan.client_receive = 6_000;
        let mut net = Net::new(plan, http(), &["/a/900000000"]);
        net.mover = byway::HandOvers::new(http(), Box::leak(vec![0; 32_768].into())).patience(secs(10));
        net.alive.remove(&1);
        net.connect();
        assert!(net.until(secs(30), |net| net.asking.received > 50_000));
        let since = net.now;
        redivert(&mut net, 0, 1, how);
        assert!(!net.until(secs(10), |net| net.client_sees.resets > 0), "too early");
        assert!(net.mover.kept(Kept::Silent) > 1, "it is tried more than once");
        let ended = net.until(secs(20), |net| net.mover.poll_at(net.instant()).is_none());
        assert!(ended, "after {} µs: {:?}", net.now - since, net.outcomes);
        net.pass(secs(1));
        assert_eq!(net.client_sees.resets > 0, is_reset);
        if !is_reset {
            // It is left in peace then.
            let (tries, received) = (net.mover.kept(Kept::Silent), net.asking.received);
            net.pass(secs(5));
            assert_eq!((net.mover.kept(Kept::Silent), net.stands_on()), (tries, Some(0)));
            assert!(net.asking.received > received);
        }
    }
}

/// The new server refuses, each time and at once: that ends after as long.
#[test]
fn patience_with_a_server_that_refuses_ends() {
    let mut plan = Plan::new(8);
    plan.client_receive = 6_000;
    plan.faults[1] = Fault::Aborts;
    let mut net = Net::new(plan, http(), &["/a/900000000"]);
    net.mover = byway::HandOvers::new(http(), Box::leak(vec![0; 32_768].into())).patience(secs(3));
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 50_000));
    redivert(&mut net, 0, 1, Redivert::HandOverOrReset);
    assert!(!net.until(secs(3), |net| net.client_sees.resets > 0), "too early");
    assert!(net.mover.kept(Kept::Refused) > 1, "it is tried more than once");
    assert!(net.until(secs(6), |net| net.client_sees.resets > 0), "{:?}", net.mover);
    net.pass(secs(2));
    assert_eq!(net.mover.poll_at(net.instant()), None);
}

/// The instruction comes while the client's handshake is under way.
#[test]
fn a_connection_that_is_being_opened_follows_too() {
    let mut plan = Plan::new(9);
    plan.servers[0].delay = 50_000;
    let mut net = Net::new(plan, http(), &["/a/3000000", "/b/1000"]);
    net.connect();
    net.pass(Duration::from_millis(20));
    redivert(&mut net, 0, 1, Redivert::HandOverOrReset);
    net.byway.poll(net.instant());
    assert!(net.until(secs(10), |net| net.stands_on() == Some(1)), "{:?}", net.outcomes);
    net.complete(secs(60));
}

/// A second instruction comes while the first is being carried out.
#[test]
fn a_second_instruction_counts_also_during_a_hand_over() {
    let mut plan = Plan::new(10);
    plan.servers[1].delay = 60_000;
    let mut net = downloading(plan);
    redivert(&mut net, 0, 1, Redivert::HandOver);
    assert!(net.until(secs(5), |net| net.mover.under_way() == 1));
    net.pass(Duration::from_millis(80));
    net.byway.redivert(server(1), server(2), Redivert::HandOver).expect("there is room");
    assert!(net.until(secs(10), |net| net.stands_on() == Some(2)), "{:?}", net.outcomes);
    let moved = net.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Moved { .. })).count();
    assert_eq!(moved, 1, "{:?}", net.outcomes);
    net.complete(secs(60));
}

/// The rule has gone: nothing says where to.
#[test]
fn without_a_rule_there_is_nowhere_to_go() {
    let mut net = downloading(Plan::new(7));
    net.byway.redivert(server(0), server(1), Redivert::HandOver).expect("there is room");
    net.byway.remove(Divert::new(moving::net::original()).matches()).expect("it is there");
    assert!(net.until(secs(5), |net| net.mover.kept(Kept::NoRule) == 1));
    net.complete(secs(60));
}

/// Of a rule that does not ask for it, TCP connections stay or are reset; those of other protocols stay.
#[test]
fn connections_of_other_rules() {
    let (original, client) = (moving::net::original(), at("1.2.3.4:5"));
    for (how, resets) in [(Redivert::HandOver, 0), (Redivert::HandOverOrReset, 1)] {
        let storage = Fixed::<16, 4, 8, 8, 0, 16>::sized();
        let mut byway = Translator::new(config(), storage).expect("a good configuration");
        byway.divert(Divert::new(original).to(server(0))).expect("there is room");
        there(&mut byway, s(0), &tcp(client, original, (SYN, 1, 0), b""));
        there(&mut byway, s(0), &udp(client, original, b"question"));
        let done = byway.redivert(server(0), server(1), how).expect("there is room");
        assert_eq!(done.connections, 2);
        for _ in 0..4 {
            byway.poll(s(1));
        }
        let closed = core::iter::from_fn(|| byway.poll_event()).filter(|e| matches!(e, Event::Closed { .. })).count();
        assert_eq!((closed, byway.counters().reset), (resets, resets as u64), "{how}");
        let mut buffer = [0; byway::TRANSMIT_BUFFER];
        let told = core::iter::from_fn(|| byway.poll_transmit(s(1), &mut buffer)).count();
        assert_eq!(told, 2 * resets, "both ends are told");
        let stays = there(&mut byway, s(2), &udp(client, original, b"question"));
        assert_eq!(ends(&stays).1, server(0));
        let new = there(&mut byway, s(2), &udp(at("1.2.3.4:7"), original, b"question"));
        assert_eq!(ends(&new).1, server(1));
    }
}

/// A storage without room for it says so, and nothing has changed; a plan says the same.
#[test]
fn storage_without_room_refuses() {
    let mut byway = Translator::new(config(), Fixed::<16, 4>::new()).expect("a good configuration");
    byway.divert(Divert::new(moving::net::original()).to(server(0))).expect("there is room");
    let expected = Err(RedivertError::NotResumable { target: Target::from(server(1)) });
    for how in [Redivert::HandOver, Redivert::HandOverOrReset] {
        let planned = byway.plan().redivert(server(0), server(1), how);
        assert_eq!((planned, byway.redivert(server(0), server(1), how)), (expected, expected));
    }
    assert_eq!(byway.generation(), 1);
}

/// A RST ends the connection while it waits to be handed over, and both ends go on with another attempt. Open again, it
/// follows the instruction as ever.
#[test]
fn a_connection_that_opens_again_still_follows() {
    let mut net = segments::at_rest::<_, 0>(segments::REST);
    net.there((ACK, MINE + 9, NEXT), (1_100, OLD_CLOCK + 30), b"question");
    let _ = net.back(OLD, (ACK, NEXT, MINE + 17), (OLD_CLOCK + 1_151, 1_100), b"");
    net.byway.redivert(at(OLD), at(NEW), Redivert::HandOverOrReset).expect("there is room");
    net.mover.poll(net.now, &mut net.byway);
    assert!(net.own().is_empty(), "its client waits for an answer");
    net.there((RST, MINE + 17, 0), (1_101, 0), b"");
    for _ in 0..4 {
        net.pass(300);
        net.mover.poll(net.now, &mut net.byway);
    }
    assert_eq!(tcp_states(&net.byway), [State::TimeWait]);
    let (mine, next) = (MINE + (1 << 30), NEXT + (1 << 30));
    for turn in 0..6 {
        net.there((ACK, mine, next + turn), (1_102, OLD_CLOCK + 1_151), b"");
        let _ = net.back(OLD, (ACK, next + turn, mine), (OLD_CLOCK + 1_200, 1_102), b"x");
    }
    assert_eq!(tcp_states(&net.byway), [State::Established]);
    let _ = net.back(OLD, (ACK, next + 6, mine), (OLD_CLOCK + 1_200, 1_102), b"answer");
    net.there((ACK, mine, next + 12), (1_103, OLD_CLOCK + 1_200), b"");
    net.pass(1_000);
    net.mover.poll(net.now, &mut net.byway);
    let own = net.own();
    assert!(own.iter().any(|syn| syn.destination == at(NEW) && syn.flags == SYN), "{own:?}");
}

fn tcp_states<const M: usize>(byway: &Translator<segments::Room<M>>) -> Vec<State> {
    byway.connections().map(|connection| connection.state).collect()
}
