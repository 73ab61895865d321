//! Several monitors for the same translators: one acts, the others watch, and one of them takes over.

use core::time::Duration;

use crate::watched::*;
use byway_testing::udp;

/// Whether it says of itself that it acts somewhere.
fn acts(monitor: &Monitor) -> bool {
    let show = monitor.says("show");
    show.contains("service web") && !show.starts_with("watching: ") && !show.starts_with("no translator")
}

fn watches(monitor: &Monitor) -> bool {
    monitor.says("show").starts_with("watching: the monitor of rank ")
}

/// The share of a server.
fn share(served: &udp::Served, server: usize) -> f64 {
    let all = weights(served);
    f64::from(all[server]) / all.iter().map(|weight| f64::from(*weight)).sum::<f64>().max(1.0)
}

fn generation(served: &udp::Served) -> u32 {
    served.byway.lock().unwrap().generation()
}

fn journal(monitor: &Monitor) -> String {
    std::fs::read_to_string(monitor.folder.join("decisions.jsonl")).unwrap_or_default()
}

/// Two monitors see both translators: the older one acts. It is killed; the other one takes over what it finds, with what
/// operators have set. The old one comes back, and watches.
#[test]
fn one_of_two_acts_and_the_other_takes_over() {
    let (first, second) = (translator(anywhere(), true), translator(anywhere(), true));
    let both = [first.at, second.at];
    let mut old = Monitor::start("several-old", &both);
    wait("the first one acts", || acts(&old));
    std::thread::sleep(Duration::from_millis(1_100));
    let new = Monitor::start("several-new", &both);
    wait("the second one watches", || watches(&new));
    let traffic = [Traffic::start(&first, [5, 5, 60]), Traffic::start(&second, [5, 5, 60])];
    wait("the slow server has less on both", || {
        let (one, other) = (weights(&first), weights(&second));
        one == other && u32::from(one[2]) * 2 < u32::from(one[0])
    });
    // Only the one that acts has decided and sent anything; the other knows what holds.
    assert!(old.says("log").contains("the model expects requests to take"));
    assert!(new.says("log").is_empty() && !journal(&new).contains("sent_of"), "{}", new.says("log"));
    let refused = new.says("drain web 20.0.0.1:80");
    assert!(refused.contains("watching: the monitor of rank 100 started "), "{refused}");
    assert!(journal(&new).is_empty() && watches(&new));

    // What an operator sets where it can be set is known to the other.
    let pinned = old.says("pin web 20.0.0.1:80 30");
    assert!(pinned.contains("decision"), "{pinned}");
    wait("the other knows the pin", || journal(&new).contains("\"share\":{\"20.0.0.1:80\":30}"));
    let is_pinned = |served: &udp::Served| (share(served, 0) - 0.3).abs() < 0.01;
    wait("it holds on both", || is_pinned(&first) && is_pinned(&second));

    old.kill();
    // Until the other one acts, the network stays as it is.
    std::thread::sleep(Duration::from_millis(300));
    let held = weights(&first);
    assert_eq!(weights(&second), held);
    let killed = std::time::Instant::now();
    wait("the other one takes over", || !watches(&new));
    println!("taken over {:?} after the kill", killed.elapsed() + Duration::from_millis(300));
    wait("the other one acts", || acts(&new));
    // Another server becomes slow, which it notices; what was pinned stays pinned.
    for traffic in &traffic {
        *traffic.takes.lock().unwrap() = [5, 60, 5];
    }
    wait("the other slow server has less", || {
        let (one, other) = (weights(&first), weights(&second));
        one == other && u32::from(one[1]) < u32::from(one[2])
    });
    assert!(is_pinned(&first) && is_pinned(&second), "{:?}", weights(&first));
    // It began with what it had found: until its first decision nothing was changed.
    let journal = journal(&new);
    let first_decision = journal.lines().find(|line| line.contains("\"decision\":")).expect("it has decided");
    let first_decision: serde_json::Value = serde_json::from_str(first_decision).unwrap();
    let before = SERVERS.map(|server| first_decision["before"][server].as_u64().unwrap() as u16);
    assert_eq!(before[..], held[..], "{first_decision}");
    assert!(journal.contains("sent_of"));

    // The old one comes back. It is the younger one now.
    let decided = old.says("log").lines().count();
    old.start_again();
    wait("it watches", || watches(&old));
    let until = std::time::Instant::now() + Duration::from_secs(8);
    while std::time::Instant::now() < until {
        assert!(!watches(&new) && !acts(&old));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(old.says("log").lines().count(), decided);
    drop(traffic);
}

/// The one with the lower rank acts wherever it can be heard, also if it comes later; when it is stopped the other acts at once.
#[test]
fn the_lower_rank_takes_over_when_it_comes() {
    let served = translator(anywhere(), true);
    let high = Monitor::configured("rank-2", &[served.at], "rank = 2\n", "");
    wait("it acts while it is alone", || acts(&high));
    let mut low = Monitor::configured("rank-1", &[served.at], "rank = 1\n", "");
    wait("the lower rank acts, and the other watches", || {
        acts(&low) && high.says("show").starts_with("watching: the monitor of rank 1 started")
    });
    let drained = low.says("drain web 20.0.0.3:80");
    assert!(drained.contains("decision"), "{drained}");
    wait("it is drained", || weights(&served)[2] == 0);
    wait("the other knows it", || journal(&high).contains("\"drained\":[\"20.0.0.3:80\"]"));
    low.stop();
    wait("the other acts", || acts(&high));
    // A server that an operator has drained stays so.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(weights(&served)[2], 0);
    low.start_again();
    wait("it comes back", || acts(&low) && watches(&high));
    assert_eq!(weights(&served)[2], 0);
}

/// One monitor sees one translator only, the other one sees both: each acts where it leads, and leaves the rest alone.
#[test]
fn each_acts_where_it_alone_is_heard() {
    let (first, second) = (translator(anywhere(), true), translator(anywhere(), true));
    let mut near = Monitor::configured("partition-near", &[first.at], "rank = 1\n", "");
    wait("it acts", || acts(&near));
    let far = Monitor::configured("partition-far", &[first.at, second.at], "rank = 2\n", "");
    let split = || {
        let show = far.says("show");
        let line = |name: &str| show.lines().find(|line| line.contains(name)).unwrap_or_default().to_string();
        line("edge-1").contains("; watching: the monitor of rank 1 ")
            && !line("edge-2").contains("watching")
            && acts(&far)
    };
    wait("the other one acts at the other translator only", split);
    let before = generation(&first);
    let traffic = Traffic::start(&second, [5, 5, 60]);
    wait("the slow server has less there", || {
        let all = weights(&second);
        u32::from(all[2]) * 2 < u32::from(all[0])
    });
    // What an operator says to either reaches its own part.
    let drained = far.says("drain web 20.0.0.2:80");
    assert!(drained.contains("decision"), "{drained}");
    wait("it is drained there", || weights(&second)[1] == 0);
    let until = std::time::Instant::now() + Duration::from_secs(8);
    while std::time::Instant::now() < until {
        assert!(split() && acts(&near));
        assert_eq!((weights(&first), generation(&first)), (vec![1, 1, 1], before));
        std::thread::sleep(Duration::from_millis(200));
    }
    near.kill();
    wait("what the other one knows holds on both", || weights(&first) == weights(&second) && weights(&first)[1] == 0);
    drop(traffic);
}

/// A server begins to hang, and the monitor that acts dies before it can have seen that. The other one has seen it while it
/// watched: it takes the server's weight and moves its open connections once it acts.
#[test]
fn who_takes_over_moves_the_connections_of_a_server_that_hangs() {
    let served = translator(anywhere(), true);
    let moving = "open_connections = \"switch\"\n";
    let mut old = Monitor::with("hanging-old", &[served.at], moving);
    wait("the first one acts", || acts(&old));
    std::thread::sleep(Duration::from_millis(1_100));
    let new = Monitor::with("hanging-new", &[served.at], moving);
    wait("the second one watches", || watches(&new));
    let traffic = Traffic::start(&served, [5, 5, 5]);
    std::thread::sleep(Duration::from_secs(3));
    old.kill();
    *traffic.takes.lock().unwrap() = [5, 5, 0];
    wait("the other one acts", || acts(&new));
    let acted = std::time::Instant::now();
    wait("its connections move", || new.says("log").contains("open connections of 20.0.0.3:80 go to 20.0.0."));
    println!("moved {:?} after it began to act", acted.elapsed());
    let log = new.says("log");
    let moved: Vec<_> = log.lines().filter(|line| line.contains("open connections of 20.0.0.3:80 go to")).collect();
    assert!(matches!(moved[..], [line] if line.contains("it has answered none for")), "{log}");
    drop(traffic);
}
