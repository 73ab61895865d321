//! TCP hand-over between real stacks (smoltcp): the client's one connection changes servers, every byte of every body is
//! right, and witnesses on both sides see nothing that one TCP could not have sent.

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;

use byway::{Checked, Direction, HttpGet, Kept, Observed, Outcome, Position, Resumed, Resumption};
use byway_testing::SYN;
use byway_testing::moving;
use byway_testing::moving::net::{Net, Plan, client as client_of};
use byway_testing::moving::web::Fault;
use byway_testing::moving::witness;
use byway_testing::moving::{REST, http, secs};

/// Between two requests nothing has to be replayed.
#[test]
fn a_kept_alive_connection_changes_servers_between_requests() {
    let mut net = Net::new(Plan::new(1), REST, &["/a/1000", "/b/3000", "/c/5000"]);
    net.connect();
    for (count, to) in [(1, 1), (2, 2)] {
        assert!(net.until(secs(5), |net| net.asking.done == count), "{:?}", net.outcomes);
        net.asking.paused = true;
        net.pass(Duration::from_millis(500));
        assert_eq!(net.hand_over(to), Ok(()));
        assert!(net.until(secs(5), |net| !net.outcomes.is_empty()), "no outcome");
        let outcome = net.outcomes.pop();
        assert!(matches!(outcome, Some(Outcome::Moved { replayed: 0, dropped: 0, .. })), "{outcome:?}");
        assert_eq!(net.stands_on(), Some(to));
        net.asking.paused = false;
    }
    assert!(net.until(secs(5), |net| net.asking.is_done()), "{:?}", net.byway.counters());
    assert_eq!((net.asking.done, net.client_sees.resets, net.moved_events), (3, 0, 2));
}

/// A client that does not read closes its window in mid-body, and acknowledges all that it was sent. Its server is silent for
/// longer and longer.
#[test]
fn a_client_that_does_not_read_keeps_its_server() {
    let mut plan = Plan::new(20);
    plan.client_receive = 12_000;
    let mut net = Net::new(plan, REST, &["/a/300000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(5), |net| net.asking.received > 20_000));
    net.asking.deaf = true;
    for _ in 0..100 {
        net.pass(Duration::from_millis(200));
        assert_eq!(net.hand_over(1), Err(Kept::NotNow));
    }
    net.asking.deaf = false;
    net.complete(secs(120));
    assert_eq!(net.stands_on(), Some(0));
}

/// The rest of a body is asked for with a range.
#[test]
fn a_download_changes_servers_in_mid_body() {
    let mut net = Net::new(Plan::new(2), http(), &["/large/3000000"]);
    net.connect();
    assert!(net.until(secs(5), |net| net.asking.received > 500_000));
    assert_eq!(net.hand_over(1), Ok(()));
    assert!(net.until(secs(5), |net| !net.outcomes.is_empty()), "no outcome");
    assert!(matches!(net.outcome(), Some(Outcome::Moved { .. })), "{:?}", net.outcomes);
    assert!(net.until(secs(5), |net| net.asking.received > 1_500_000), "{}", net.asking.received);
    assert_eq!(net.hand_over(2), Ok(()));
    assert!(net.until(secs(20), |net| net.asking.is_done()), "{} {:?}", net.asking.received, net.outcomes);
    assert_eq!((net.outcomes.len(), net.client_sees.resets), (2, 0));
    assert_eq!(net.stands_on(), Some(2));
}

/// A body whose tag is weak need not be the same elsewhere: the connection stays until the body has ended, and moves then.
#[test]
fn a_body_that_may_be_another_elsewhere_is_waited_for() {
    let mut net = Net::new(Plan::new(13), http(), &["/weak/3000000", "/b/1000"]);
    net.connect();
    for part in 1..5 {
        assert!(net.until(secs(5), |net| net.asking.received > part * 500_000));
        assert_eq!(net.hand_over(1), Err(Kept::NotNow));
    }
    assert!(net.until(secs(5), |net| net.asking.done == 1));
    net.asking.paused = true;
    net.pass(Duration::from_millis(500));
    assert_eq!(net.hand_over(1), Ok(()));
    assert!(net.until(secs(5), |net| !net.outcomes.is_empty()));
    net.asking.paused = false;
    assert!(net.until(secs(5), |net| net.asking.is_done()), "{:?}", net.outcomes);
    assert_eq!((net.stands_on(), net.client_sees.resets), (Some(1), 0));
}

/// Any server to any other, many times over, in one connection.
fn wander(plan: Plan, moves: usize, resets: bool) -> Net<HttpGet<4>> {
    let seed = plan.seed;
    let mut net = Net::new(plan, http(), &["/large/900000000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received > 100), "seed {seed}");
    let mut done = 0;
    let mut on = 0;
    let mut tries = 0;
    while done < moves {
        tries += 1;
        assert!(tries < moves * 100, "seed {seed}, move {done}: it never can be begun");
        let to = (on + 1) % 3;
        net.outcomes.clear();
        let before = net.asking.received;
        match net.hand_over(to) {
            Ok(()) => {}
            Err(Kept::Unacknowledged | Kept::NotNow) => {
                net.pass(Duration::from_millis(7));
                continue;
            }
            Err(why) => panic!("seed {seed}, move {done}: {why}"),
        }
        assert!(net.until(secs(10), |net| !net.outcomes.is_empty()), "seed {seed}, move {done}: no outcome");
        if matches!(net.outcome(), Some(Outcome::Moved { .. })) {
            done += 1;
            on = to;
            assert_eq!(net.stands_on(), Some(on));
        } else {
            assert!(resets || net.plan.client.lost != 0, "seed {seed}, move {done}: {:?}", net.outcome());
        }
        let further = net.until(secs(300), |net| net.asking.received > before + 20_000);
        assert!(
            further,
            "seed {seed}, move {done} from {before}: stands at {} {:?}",
            net.asking.received, net.outcomes
        );
    }
    assert_eq!(net.client_sees.resets, 0);
    net
}

#[test]
fn a_download_wanders_from_server_to_server() {
    let net = wander(Plan::new(3), 60, false);
    assert!(net.longest_wait < 100_000, "it waited for {} µs", net.longest_wait);
}

#[test]
fn over_lines_that_lose_packets() {
    for seed in 0..6 {
        wander(Plan::new(100 + seed).lines(10, 0, 0), 20, true);
        wander(Plan::new(200 + seed).lines(50, 10, 50), 10, true);
    }
}

/// Begins a move when the client has got so many bytes of its download, or a little later: until the client has
/// acknowledged the head of the response, nothing can be asked for.
fn begin_at(net: &mut Net<HttpGet<4>>, place: u64, to: usize) -> Result<(), Kept> {
    let there = net.until(secs(30), |net| net.asking.bytes > 0 && net.asking.received >= place);
    assert!(there, "stands at {}", net.asking.received);
    for _ in 0..400 {
        let begun = net.hand_over(to);
        if !matches!(begun, Err(Kept::NotNow | Kept::Unacknowledged)) {
            return begun;
        }
        net.pass(Duration::from_millis(1));
    }
    Err(Kept::NotNow)
}

/// One move in the middle of a download, and whether it came about.
fn move_at(plan: Plan, place: u64, to: usize) -> (Net<HttpGet<4>>, Result<(), Kept>) {
    let mut net = Net::new(plan, http(), &["/a/300000", "/b/1000"]);
    net.connect();
    let mut begun = begin_at(&mut net, place, to);
    if begun.is_ok() {
        assert!(net.until(secs(10), |net| !net.outcomes.is_empty()), "no outcome");
        if let Some(Outcome::Kept { why, .. }) = net.outcome() {
            begun = Err(*why);
        }
    }
    (net, begun)
}

/// A server that will not or cannot take over changes nothing: the old one goes on.
#[test]
fn a_server_that_does_not_take_over_changes_nothing() {
    for (fault, expected) in [
        (Fault::OtherTag, Kept::WrongAnswer),
        (Fault::Whole, Kept::WrongAnswer),
        (Fault::Garbage, Kept::WrongAnswer),
        (Fault::Aborts, Kept::Refused),
        (Fault::Mute, Kept::Silent),
    ] {
        let mut plan = Plan::new(4);
        plan.faults[1] = fault;
        let (mut net, begun) = move_at(plan, 50_000, 1);
        assert_eq!(begun, Err(expected), "{fault:?}");
        assert_eq!((net.stands_on(), net.mover.kept(expected)), (Some(0), 1), "{fault:?}");
        net.complete(secs(120));
    }
    // Nobody listens, and nobody is there.
    let mut net = Net::new(Plan::new(4), http(), &["/a/300000", "/b/1000"]);
    net.alive.remove(&1);
    net.connect();
    assert_eq!(begin_at(&mut net, 50_000, 1), Ok(()));
    assert!(net.until(secs(10), |net| !net.outcomes.is_empty()));
    assert!(matches!(net.outcome(), Some(Outcome::Kept { why: Kept::Silent, .. })), "{:?}", net.outcomes);
    // Meanwhile the old server has gone on.
    assert!(net.longest_wait < 100_000, "{}", net.longest_wait);
    net.complete(secs(120));
}

/// The old server has died, and its connections with it but for this.
#[test]
fn a_server_takes_over_from_a_dead_one() {
    let mut net = Net::new(Plan::new(5), http(), &["/a/300000", "/b/1000"]);
    net.connect();
    assert!(net.until(secs(30), |net| net.asking.received >= 50_000));
    net.alive.remove(&0);
    net.pass(secs(3));
    let stood = net.asking.received;
    assert_eq!(net.hand_over(2), Ok(()));
    assert!(net.until(secs(5), |net| net.asking.received > stood));
    net.complete(secs(120));
    assert!(matches!(net.outcome(), Some(Outcome::Moved { .. })), "{:?}", net.outcomes);
}

/// A server that has accepted a request and says nothing loses it to another, before any byte has come.
#[test]
fn a_request_that_nothing_was_answered_to_is_asked_again() {
    let mut plan = Plan::new(6);
    plan.faults[0] = Fault::Mute;
    let mut net = Net::new(plan, http(), &["/a/300000", "/b/1000"]);
    net.connect();
    net.pass(secs(1));
    assert_eq!(net.asking.bytes, 0);
    assert_eq!(net.hand_over(1), Ok(()));
    net.complete(secs(120));
    assert!(matches!(net.outcome(), Some(Outcome::Moved { dropped: 0, .. })), "{:?}", net.outcomes);
}

/// The client ends the connection while it stands still: its server hears it.
#[test]
fn a_client_that_aborts_meanwhile_is_heard() {
    let mut plan = Plan::new(7);
    plan.faults[1] = Fault::Mute;
    let mut net = Net::new(plan, http(), &["/a/3000000"]);
    net.connect();
    assert_eq!(begin_at(&mut net, 50_000, 1), Ok(()));
    net.pass(Duration::from_millis(50));
    net.client.socket(0).abort();
    net.pass(secs(1));
    assert!(matches!(net.outcome(), Some(Outcome::Kept { why: Kept::Closing, .. })), "{:?}", net.outcomes);
    assert!(net.servers_see[0].resets > 0);
}

/// Every option on and off on each host, windows in all units, packets of all sizes.
#[test]
fn whatever_the_hosts_agree_on() {
    let clocks = [None, Some(5), Some(u32::MAX - 30), Some(1 << 31)];
    let windows = [4_000, 1 << 16, 1 << 20, 1 << 24];
    let sizes = [576, 1_280, 1_500, 8_960];
    let mut moved = 0;
    for seed in 0..48 {
        let mut dice = byway_testing::Dice(seed);
        let mut pick = |count: usize| dice.below(count as u64) as usize;
        let mut plan = Plan::new(1_000 + seed);
        plan.client_clock = clocks[pick(4)];
        plan.client_receive = windows[pick(4)];
        plan.client_mtu = sizes[pick(3)];
        for n in 0..3 {
            plan.server_clocks[n] = clocks[pick(4)];
            plan.server_receive[n] = windows[pick(4)];
            plan.server_mtu[n] = sizes[pick(4)];
        }
        let needs_clock = plan.client_clock.is_some() && plan.server_clocks[0].is_some();
        let has_none = plan.server_clocks[1].is_none();
        let story = format!("{plan:?}");
        let (mut net, begun) = move_at(plan, 20_000, 1);
        if needs_clock && has_none {
            assert_eq!(begun, Err(Kept::NoTimestamps), "{story}");
        } else {
            assert_eq!(begun, Ok(()), "{story}");
            moved += 1;
        }
        net.complete(secs(120));
    }
    assert!(moved > 24, "{moved}");
}

/// At every place of a response: in its head, at the first byte of its body, in the middle, at the last and behind it.
#[test]
fn at_every_place() {
    for place in [0, 1, 2, 1_447, 1_448, 1_449, 150_000, 299_998, 299_999, 300_000] {
        let (mut net, begun) = move_at(Plan::new(8), place, 1);
        // Near the end the client has asked for the next page when the new server is ready.
        let too_late = place > 200_000 && begun == Err(Kept::Unacknowledged);
        assert!(begun.is_ok() || too_late, "{place}: {begun:?}");
        net.complete(secs(120));
    }
}

/// Asks the new server for something that nobody wants before it takes over, and notes what it is shown of the client.
struct WarmUp(Rc<RefCell<Vec<u8>>>);

const WARM_UP: &[u8] = b"GET /warm/10 HTTP/1.1\r\n\r\n";

impl Resumption for WarmUp {
    const OBSERVES: bool = true;

    fn observe(&mut self, observed: &Observed<'_>) {
        if observed.direction == Direction::ToServer {
            self.0.borrow_mut().extend_from_slice(observed.data);
        }
    }

    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed {
        buffer[..WARM_UP.len()].copy_from_slice(WARM_UP);
        if position.all_acknowledged { Resumed::Write(WARM_UP.len()) } else { Resumed::Refuse }
    }

    fn check(&mut self, _: &Position, received: &[u8]) -> Checked {
        match received.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(head) if received.len() >= head + 14 => Checked::Accept { dropped: head + 14 },
            _ => Checked::More,
        }
    }
}

/// The client asks again while the connection stands still: what it sends is kept and goes to whichever server it is.
#[test]
fn what_the_client_sends_meanwhile_is_not_lost() {
    for fault in [Fault::None, Fault::Mute] {
        let mut plan = Plan::new(9);
        plan.faults[1] = fault;
        // The answer takes its time.
        plan.servers[1].delay = 100_000;
        let shown = Rc::new(RefCell::new(Vec::new()));
        let mut net = Net::new(plan, WarmUp(shown.clone()), &["/a/100000", "/b/1000", "/c/2000"]);
        net.connect();
        assert!(net.until(secs(30), |net| net.asking.done == 1));
        net.asking.paused = true;
        net.pass(Duration::from_millis(100));
        assert_eq!(net.hand_over(1), Ok(()));
        net.pass(Duration::from_millis(250));
        assert!(net.outcomes.is_empty(), "it is not over yet");
        net.asking.paused = false;
        let (asked, since) = (net.asking.done, net.now);
        assert!(net.until(secs(30), |net| net.asking.done > asked), "{:?}", net.outcomes);
        let moved = matches!(net.outcome(), Some(Outcome::Moved { .. }));
        assert_eq!(moved, fault == Fault::None);
        // Nothing had to be sent again for it: the answer came as soon as it could.
        assert!(!moved || net.now - since < 400_000, "{}", net.now - since);
        assert!(net.until(secs(120), |net| net.asking.is_done()), "{:?}", net.outcomes);
        assert_eq!((net.asking.done, net.client_sees.resets), (3, 0));
        // The request that was kept was shown too.
        let shown = String::from_utf8(shown.borrow().clone()).expect("text");
        for path in ["GET /a/", "GET /b/", "GET /c/"] {
            assert!(shown.contains(path), "{path} in {shown}");
        }
    }
}

/// Both packets that a hand-over sends and those that it waits for are lost, one at a time.
#[test]
fn with_every_single_loss() {
    let mut plan = Plan::new(10);
    plan.client_receive = 6_000;
    let (clean, begun) = move_at(plan.clone(), 3_000, 1);
    assert_eq!(begun, Ok(()));
    let all = clean.packets();
    let mut moved = 0;
    for lost in 0..all + 60 {
        let mut plan = plan.clone();
        plan.losses = vec![lost];
        let (mut net, begun) = move_at(plan, 3_000, 1);
        moved += u64::from(begun.is_ok());
        net.complete(secs(120));
    }
    assert!(moved * 100 >= (all + 60) * 95, "{moved} of {}", all + 60);
}

/// What the new server is offered before it takes over is in units of the client's window scale, whatever its own is.
#[test]
fn the_window_meanwhile_is_in_the_clients_units() {
    for (client, server) in [(1 << 20, 4_000), (12_000, 1 << 20), (1 << 20, 1 << 18), (12_000, 4_000)] {
        let mut plan = Plan::new(12);
        plan.client_receive = client;
        plan.server_receive[1] = server;
        let mut net = Net::new(plan, http(), &["/a/3000000"]);
        let seen = Rc::new(RefCell::new((0, None)));
        let taps = seen.clone();
        net.tap = Some(Box::new(move |_, packet| {
            let segment = witness::read(packet);
            let (scale, first) = &mut *taps.borrow_mut();
            if segment.flags & SYN != 0 && segment.source == client_of() {
                *scale = segment.scale.unwrap_or(0);
            }
            if segment.destination == moving::net::server(1) && segment.flags & SYN == 0 && first.is_none() {
                *first = Some(u32::from(segment.window) << *scale);
            }
        }));
        net.connect();
        assert_eq!(begin_at(&mut net, 50_000, 1), Ok(()));
        assert!(net.until(secs(10), |net| !net.outcomes.is_empty()));
        let (scale, first) = *seen.borrow();
        let first: u32 = first.expect("a segment after the SYN");
        // Half of each share of the buffer is for the answer, less what a unit rounds off.
        let room = 8_192;
        assert!(first <= room && first + (1 << scale) > room, "{client} {server}: {first}");
    }
}
