//! TCP hand-over without a gap in what was tried: every byte of a small exchange with every single loss, and thousands of
//! moves over good and bad lines, with their gaps and what they cost.
//!
//! `BYWAY_EVERY=1` tries every loss in the small world (some minutes, optimised), `BYWAY_MOVES=10000` so many moves over each
//! line. Without them the tests take some seconds without optimisation.

use core::time::Duration;

use byway::{HttpGet, Kept, Outcome};
use byway_testing::moving::net::{Net, Plan};
use byway_testing::moving::web::Fault;
use byway_testing::moving::{http, secs};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The length of a body, and what it is asked for by.
const BODY: u64 = 12;
const PATH: &str = "/w/12";

/// A world in which each byte of a body is a segment of its own.
fn small_world(losses: Vec<u64>, new: Fault) -> Net<HttpGet<4>> {
    let mut plan = Plan::new(77);
    plan.faults = [Fault::Drips, new, Fault::Drips];
    plan.losses = losses;
    Net::new(plan, http(), &[PATH, PATH])
}

/// Begins a move once the client has got so many bytes, as soon as that is possible.
fn begin(net: &mut Net<HttpGet<4>>, bytes: u64) -> Result<(), Kept> {
    assert!(net.until(secs(60), |net| net.asking.bytes >= bytes), "stands at {}", net.asking.bytes);
    for _ in 0..4_000 {
        match net.hand_over(1) {
            Err(Kept::NotNow | Kept::Unacknowledged | Kept::NotEstablished | Kept::NoConnection) => {
                net.pass(Duration::from_millis(1))
            }
            begun => return begun,
        }
    }
    Err(Kept::NotNow)
}

/// What became of it: whether it moved.
fn explore(bytes: u64, losses: Vec<u64>, new: Fault) -> (bool, u64) {
    let story = format!("{bytes} bytes, {new:?}, without the packets {losses:?}");
    let mut net = small_world(losses, new);
    net.connect();
    assert!(net.until(secs(60), |net| !net.asking.is_idle()), "{story}");
    // Behind the body the client waits, so that the connection is at rest; but not for a server that would spoil it.
    let may_rest = new == Fault::Drips;
    net.asking.paused = may_rest;
    let begun = begin(&mut net, bytes);
    assert!(begun.is_ok() || !may_rest, "{story}: {begun:?}");
    assert!(begun.is_err() || net.until(secs(60), |net| !net.outcomes.is_empty()), "{story}: no outcome");
    if may_rest && matches!(net.outcome(), Some(Outcome::Kept { why: Kept::NotNow, .. })) {
        // It was between two requests, and not at rest yet.
        net.outcomes.clear();
        net.pass(Duration::from_millis(200));
        assert_eq!(begin(&mut net, bytes), Ok(()), "{story}");
        assert!(net.until(secs(60), |net| !net.outcomes.is_empty()), "{story}: no outcome");
    }
    net.asking.paused = false;
    let moved = matches!(net.outcome(), Some(Outcome::Moved { .. }));
    // Every byte is compared as it comes; both witnesses look at every segment.
    assert!(net.until(secs(300), |net| net.asking.is_done()), "{story}: stands at {}", net.asking.bytes);
    assert_eq!((net.asking.done, net.client_sees.resets), (2, 0), "{story}");
    assert_eq!(net.client_sees.connections(), 1, "{story}");
    if moved {
        assert_eq!(net.stands_on(), Some(1), "{story}");
    }
    (moved, net.packets())
}

/// From the first byte of the body to the last, and behind it.
#[test]
fn every_byte_of_a_small_exchange_with_every_loss() {
    let head = {
        let mut net = small_world(Vec::new(), Fault::Drips);
        net.connect();
        assert!(net.until(secs(60), |net| net.asking.received == 1));
        net.asking.bytes - 1
    };
    assert!(head > 50, "{head}");
    let every = variable("BYWAY_EVERY").unwrap_or(29) as usize;
    let (mut runs, mut moves) = (0_u64, 0_u64);
    for bytes in head..=head + BODY {
        let (moved, packets) = explore(bytes, Vec::new(), Fault::Drips);
        assert!(moved, "{bytes} of {head}");
        // Losses put more packets on the lines.
        for lost in (bytes % every as u64..packets + 40).step_by(every) {
            runs += 1;
            moves += u64::from(explore(bytes, vec![lost], Fault::Drips).0);
        }
    }
    println!("{runs} runs, {moves} moves");
    assert!(moves * 100 >= runs * 95, "{moves} of {runs}");
}

/// The same with a server that does not take over: the old one goes on from where it stood, whatever is lost.
#[test]
fn every_byte_with_a_server_that_refuses_and_every_loss() {
    let every = variable("BYWAY_EVERY").unwrap_or(61) as usize;
    let (mut runs, mut moves) = (0, 0);
    for new in [Fault::OtherTag, Fault::Whole, Fault::Garbage, Fault::Aborts, Fault::Mute] {
        // The first bytes of the body: from the head on every place is like the others.
        for bytes in [66, 67, 71] {
            let (moved, packets) = explore(bytes, Vec::new(), new);
            assert!(!moved, "{new:?}");
            for lost in (bytes % every as u64..packets + 40).step_by(every) {
                runs += 1;
                moves += u64::from(explore(bytes, vec![lost], new).0);
            }
        }
    }
    println!("{runs} runs, {moves} moves");
    // What could not be begun before the body had ended moves at rest.
    assert!(moves * 20 <= runs, "{moves} of {runs}");
}

/// What so many moves over these lines were like.
struct Figures {
    moves: usize,
    /// In microseconds, in order.
    gaps: Vec<u64>,
    attempts: usize,
}

impl Figures {
    fn percentile(&self, of_hundred: usize) -> u64 {
        self.gaps[(self.gaps.len() * of_hundred / 100).min(self.gaps.len() - 1)]
    }
}

/// Moves from server to server until there were so many, in connections with so many each.
fn wander(moves: usize, in_each: usize, lost: u64) -> Figures {
    let mut figures = Figures { moves: 0, gaps: Vec::new(), attempts: 0 };
    for seed in variable("BYWAY_FIRST_SEED").unwrap_or(0).. {
        let plan = Plan::new(5_000 + seed);
        let plan = if lost == 0 { plan } else { plan.lines(lost, lost / 5, lost) };
        let mut net = Net::new(plan, http(), &["/large/900000000"]);
        net.connect();
        assert!(net.until(secs(60), |net| net.asking.received > 100), "seed {seed}");
        let (mut done, mut on) = (0, 0);
        while done < in_each && figures.moves < moves {
            let to = (on + 1) % 3;
            net.outcomes.clear();
            let before = net.asking.received;
            match net.hand_over(to) {
                Ok(()) => figures.attempts += 1,
                Err(Kept::Unacknowledged | Kept::NotNow) => {
                    net.pass(Duration::from_millis(3));
                    continue;
                }
                Err(why) => panic!("seed {seed}, move {done}: {why}"),
            }
            assert!(net.until(secs(20), |net| !net.outcomes.is_empty()), "seed {seed}, move {done}: no outcome");
            match net.outcome() {
                Some(Outcome::Moved { gap, .. }) => {
                    figures.gaps.push(gap.as_micros() as u64);
                    (done, on, figures.moves) = (done + 1, to, figures.moves + 1);
                }
                Some(kept) => assert!(lost != 0, "seed {seed}, move {done}: {kept:?}"),
                None => unreachable!(),
            }
            let further = net.until(secs(600), |net| net.asking.received > before + 3_000);
            assert!(further, "seed {seed}, move {done} from {before}: stands at {}", net.asking.received);
        }
        assert_eq!((net.client_sees.resets, net.client_sees.connections()), (0, 1), "seed {seed}");
        if figures.moves >= moves {
            figures.gaps.sort_unstable();
            return figures;
        }
    }
    unreachable!()
}

/// All moves that were begun over good lines, in connections with a thousand each; the gap is the request's and its first
/// byte's way to the new server and back, and the handshake's last third.
#[test]
fn thousands_of_moves_over_good_lines() {
    let moves = variable("BYWAY_MOVES").unwrap_or(60) as usize;
    let figures = wander(moves, 1_000, 0);
    let (median, most) = (figures.percentile(50), figures.percentile(99));
    println!("{} of {} moves; gap: median {median} µs, p99 {most} µs", figures.moves, figures.attempts);
    assert_eq!(figures.moves, figures.attempts);
    // Two round trips to the new server, and a millisecond. Its first byte takes no time here.
    assert!(most <= 2 * 10_000 + 1_000, "{most}");
}

/// Over lines that lose one and five of a hundred, repeat and delay: none ends the connection or spoils a byte, and what
/// cannot be moved at once is tried again.
#[test]
fn thousands_of_moves_over_bad_lines() {
    let moves = variable("BYWAY_MOVES").unwrap_or(40) as usize;
    for lost in [10, 50] {
        let figures = wander(moves, 100, lost);
        let [median, most] = [50, 99].map(|part| figures.percentile(part));
        let attempts = figures.attempts;
        println!("{lost} of 1000 lost: {moves} moves in {attempts} attempts; gap: median {median} µs, p99 {most} µs");
    }
}

/// How long downloads take with a move each half second: these microseconds, and how many moves there were.
fn download(plan: Plan, path: &str, moves: bool) -> (u64, u64) {
    let mut net = Net::new(plan, http(), &[path]);
    net.connect();
    let (start, mut on, mut moved, mut next) = (net.now, 0, 0, net.now + 500_000);
    while !net.asking.is_done() {
        assert!(net.now < start + 6_000_000_000, "stands at {}", net.asking.received);
        net.pass(Duration::from_millis(5));
        if moves && net.now >= next && !net.asking.is_done() && net.hand_over((on + 1) % 3).is_ok() {
            net.outcomes.clear();
            assert!(net.until(secs(20), |net| !net.outcomes.is_empty()));
            if matches!(net.outcome(), Some(Outcome::Moved { .. })) {
                (on, moved) = ((on + 1) % 3, moved + 1);
            }
            next += 500_000;
        }
    }
    (net.now - start, moved)
}

/// The goodput with a move each half second is nearly that without, over good lines and over bad ones.
#[test]
fn moves_cost_little_of_the_goodput() {
    let ratio = |plan: &dyn Fn(u64) -> Plan, seeds: u64, path: &str| {
        let (mut without, mut with, mut moved) = (0, 0, 0);
        for seed in 0..seeds {
            without += download(plan(seed), path, false).0;
            let (time, moves) = download(plan(seed), path, true);
            (with, moved) = (with + time, moved + moves);
        }
        let goodput = without as f64 / with as f64;
        println!("{moved} moves in {} ms: {goodput:.3} of the goodput without", with / 1_000);
        (moved, goodput)
    };
    let (moved, goodput) = ratio(&|seed| Plan::new(9 + seed), 1, "/large/16000000");
    assert!(moved > 2 && goodput >= 0.95, "{moved} moves, {goodput}");
    // What is lost, and when, differs with and without moves: many downloads even that out.
    let seeds = variable("BYWAY_MOVES").map_or(2, |moves| moves / 50);
    for lost in [10, 50] {
        let (moved, goodput) = ratio(&|seed| Plan::new(900 + seed).lines(lost, 0, 0), seeds, "/large/1000000");
        assert!(moved > 2 && (seeds < 20 || goodput >= 0.95), "{lost}: {moved} moves, {goodput}");
    }
}
