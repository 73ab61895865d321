//! TCP hand-over between real stacks (smoltcp): the client's one connection changes servers, every byte of every body is
//! right, and witnesses on both sides see nothing that one TCP could not have sent.

mod moving;
mod support;

use core::time::Duration;

use byway::{AtRest, HttpGet, Kept, Outcome};
use moving::net::{Net, Plan};

const REST: AtRest = AtRest::after(Duration::from_millis(130));

fn http() -> HttpGet<4> {
    HttpGet::new(REST)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

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
    let _ = Kept::ALL;
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
