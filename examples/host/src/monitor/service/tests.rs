//! Changes of one service.

use super::*;

/// A service with so many servers, whose open connections stay where they are.
pub(in crate::monitor) fn service(name: &str, servers: usize) -> Service {
    Service {
        name: name.into(),
        matches: "100.100.100.100:80 tcp".parse().unwrap(),
        servers: (1..=servers).map(|n| format!("20.0.0.{n}:80").parse().unwrap()).collect(),
        open_connections: Redivert::Drain,
        rebalance: false,
        slow: 0,
        most_moved: 20,
        dwell: Duration::from_secs(3),
    }
}

/// Three servers that have been equally fast for five seconds, with five open connections each.
fn state(open_connections: Redivert, rebalance: bool) -> (State, u64) {
    let service = Service { open_connections, rebalance, slow: 4, ..service("web", 3) };
    let mut state = State::new(service, 0, Pins::default());
    let (mut weights, mut connections) = (Each::default(), Each::default());
    weights[..3].fill(10_000);
    connections[..3].fill(5);
    state.adopt(&weights);
    state.connections = connections;
    state.demand(Timestamp::UNIX_EPOCH, &[]);
    let changes = (0..20).filter_map(|quarter| tick(&mut state, quarter, FAST)).count();
    assert_eq!(changes, 0);
    (state, 20)
}

const FAST: Observation = Observation { answered: 30, response: Duration::from_millis(300), ..Observation::NONE };
const SLOW: Observation = Observation { answered: 3, response: Duration::from_millis(900), ..Observation::NONE };
const HANGING: Observation =
    Observation { waiting: 5, waited: Duration::from_secs(2), silent: Duration::from_millis(400), ..Observation::NONE };

/// A quarter of a second in which this was seen of the first server.
fn tick(state: &mut State, quarter: u64, first: Observation) -> Option<Change> {
    let mut seen = [Observation::NONE; MAX_SERVERS];
    (seen[0], seen[1], seen[2]) = (first, FAST, FAST);
    state.tick(Instant::from_millis(1_000 + 250 * quarter), &seen)
}

/// The next change that takes all from the first server.
fn emptied(state: &mut State, from: u64, first: Observation) -> Change {
    let change = (from..from + 40).filter_map(|quarter| tick(state, quarter, first)).find(|change| change.weights[0] == 0);
    change.expect("it is ejected")
}

#[test]
fn connections_of_a_slow_server_go_where_the_rule_says_or_to_the_best() {
    let (mut state, now) = state(Redivert::HandOver, true);
    let change = emptied(&mut state, now, SLOW);
    assert_eq!((change.falling, change.moves), (vec![0], vec![]));
    let (mut state, now) = self::state(Redivert::Reset, false);
    let change = emptied(&mut state, now, SLOW);
    assert!(change.falling.is_empty() && matches!(change.moves[..], [(0, 1 | 2)]), "{change:?}");
    let (mut state, now) = self::state(Redivert::Drain, false);
    let change = emptied(&mut state, now, SLOW);
    assert!(change.falling.is_empty() && change.moves.is_empty(), "{change:?}");
}

/// A server that has failed and gets nothing new, because nobody opens a connection, is tried with open ones at last.
#[test]
fn a_server_that_nobody_new_comes_to_gets_open_connections() {
    let (mut state, now) = state(Redivert::HandOver, true);
    let change = emptied(&mut state, now, HANGING);
    assert!(change.falling.is_empty(), "{change:?}");
    let tries: Vec<_> = (now + 1..now + 60).filter_map(|quarter| tick(&mut state, quarter, Observation::NONE)).collect();
    let opens = tries.iter().position(|change| !change.falling.is_empty()).expect("open ones at last");
    assert!(opens > 1 && tries[opens].falling == [1, 2] && tries.len() < 10, "{tries:?}");
}

/// A hand-over for sharing anew would take back that connections which cannot be handed over are reset.
#[test]
fn connections_move_in_one_way() {
    let (mut state, now) = state(Redivert::HandOverOrReset, true);
    let change = emptied(&mut state, now, HANGING);
    assert!(change.falling.is_empty() && matches!(change.moves[..], [(0, 1 | 2)]), "{change:?}");
}

#[test]
fn a_server_that_an_operator_drains_keeps_its_connections() {
    let (mut state, _) = state(Redivert::HandOver, true);
    state.pins.drained[0] = true;
    state.demand(Timestamp::UNIX_EPOCH, &[]);
    let change = state.apply("the operator", "drained").unwrap();
    assert_eq!((change.weights[0], change.falling, change.moves), (0, vec![], vec![]));
}

/// What one server may not have, another has to take, however slow it is.
#[test]
fn nothing_is_ejected_for_slowness_beside_a_pinned_share() {
    let (mut state, now) = state(Redivert::HandOver, true);
    state.pins.share[1] = Some(20);
    state.demand(Timestamp::UNIX_EPOCH, &[]);
    state.apply("the operator", "pinned");
    for quarter in now..now + 60 {
        let change = tick(&mut state, quarter, SLOW);
        assert!(change.is_none_or(|change| change.weights[0] != 0), "{quarter}");
    }
}

/// While another monitor acts, this one's decisions are dropped. When it takes over, a server that it would have ejected, and
/// that still gets requests and answers none, loses its open connections as soon as one that begins to hang.
#[test]
fn who_takes_over_moves_the_connections_of_a_server_that_hangs() {
    let (mut state, now) = state(Redivert::Reset, false);
    let weights = state.in_force.unwrap();
    for quarter in now..now + 7 {
        if tick(&mut state, quarter, HANGING).is_some() {
            state.follow(&weights);
        }
    }
    state.in_force = None;
    state.follow(&weights);
    let change = (now + 7..now + 10).find_map(|quarter| tick(&mut state, quarter, HANGING)).expect("a change");
    assert!(change.weights[0] == 0 && matches!(change.moves[..], [(0, 1 | 2)]), "{change:?}");
    // It comes back when it is well, as after any ejection.
    let back = (now + 10..now + 60).filter_map(|quarter| tick(&mut state, quarter, FAST)).last().expect("a change");
    assert!(back.weights[0] != 0 && back.moves.is_empty(), "{back:?}");
}

/// But not the connections of one that the other monitor has taken back, and that answers.
#[test]
fn who_takes_over_leaves_a_server_alone_that_answers() {
    let (mut state, now) = state(Redivert::Reset, false);
    let weights = state.in_force.unwrap();
    if tick(&mut state, now, HANGING).is_some() {
        state.follow(&weights);
    }
    for quarter in now + 1..now + 40 {
        let change = tick(&mut state, quarter, FAST);
        assert!(change.as_ref().is_none_or(|change| change.moves.is_empty() && change.weights[0] != 0), "{change:?}");
        if change.is_some() {
            state.follow(&weights);
        }
    }
    assert!(!state.model.ejected()[0]);
}

/// The monitor that acted has taken a server's weight, and died before it could move its connections.
#[test]
fn who_takes_over_moves_what_was_left_behind() {
    let (mut state, now) = state(Redivert::Reset, false);
    assert!(tick(&mut state, now, HANGING).is_some());
    let mut weights = state.in_force.unwrap();
    weights[0] = 0;
    state.in_force = None;
    state.follow(&weights);
    assert_eq!(state.revive(&weights), None, "it is known to have failed");
    assert!(matches!(state.left_behind(&weights)[..], [(0, 1 | 2)]));
    state.connections[0] = 0;
    assert!(state.left_behind(&weights).is_empty());
    // Whoever has seen nothing gives it a small weight.
    let fresh = State::new(state.service.clone(), 0, Pins::default());
    assert!(fresh.revive(&weights).is_some_and(|revived| revived[0] != 0) && fresh.left_behind(&weights).is_empty());
}

/// Of two servers on trial that hang both lose the connections that they got, though a decision names one.
#[test]
fn trials_that_fail_together_all_lose_their_connections() {
    let (mut state, now) = state(Redivert::Reset, false);
    let both = |state: &mut State, quarter: u64, two: Observation| {
        let mut seen = [Observation::NONE; MAX_SERVERS];
        (seen[0], seen[1], seen[2]) = (two, two, FAST);
        state.tick(Instant::from_millis(1_000 + 250 * quarter), &seen)
    };
    let mut quarter = now;
    let mut moved = |state: &mut State, two: Observation| {
        for _ in 0..40 {
            quarter += 1;
            if let Some(change) = both(state, quarter, two) {
                return change;
            }
        }
        panic!("no change");
    };
    assert_eq!(moved(&mut state, HANGING).moves.len(), 2);
    let tried = moved(&mut state, Observation::NONE);
    assert!(tried.weights[0] != 0 && tried.weights[1] != 0, "{tried:?}");
    let failed = moved(&mut state, HANGING);
    assert_eq!((failed.weights[0], failed.weights[1], failed.moves.len()), (0, 0, 2), "{failed:?}");
}
