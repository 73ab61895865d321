//! One monitor and several translators: they get the same weights, one that is restarted is noticed and gets them again.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use crate::watched::*;
use byway_testing::udp;

#[test]
fn translators_have_the_same_weights_also_after_a_restart() {
    // The second one has no rule yet.
    let (first, second) = (translator(anywhere(), true), translator(anywhere(), false));
    let addresses = [first.at, second.at];
    let monitor = Monitor::start("two-translators", &addresses);
    wait("the second one gets the rule", || weights(&second).len() == 3);
    let traffic = [Traffic::start(&first, [5, 5, 60]), Traffic::start(&second, [5, 5, 60])];
    wait("the slow server has less on both", || {
        let (one, other) = (weights(&first), weights(&second));
        one == other && u32::from(one[2]) * 2 < u32::from(one[0])
    });
    let log = monitor.says("log");
    assert!(log.contains("web: edge-2 has no rule for it, and gets one"), "{log}");
    assert!(log.contains("the model expects requests to take"), "{log}");
    let show = monitor.says("show");
    assert!(show.contains("edge-1 (") && show.contains("open, 0 reports lost"), "{show}");

    // The second one is restarted: its clock begins anew, its rule is the one of its configuration.
    let [one, other] = traffic;
    drop(other);
    drop(second);
    wait("it is away", || monitor.says("show").contains(&format!("edge-2 ({}): away", addresses[1])));
    let before = weights(&first);
    let second = translator(addresses[1], true);
    wait("it has the weights that the others have", || weights(&second) == weights(&first));
    // Its traffic is counted again, and what it says that cannot be is told.
    let other = Traffic::start(&second, [5, 5, 60]);
    wait("it was restarted", || {
        monitor.says("show").contains("not believed: its time has gone back: it was restarted")
    });
    let (now, held) = (weights(&first), weights(&second));
    assert!(u32::from(now[2]) * 2 < u32::from(now[0]) && now == held, "{before:?} {now:?} {held:?}");
    drop((one, other));

    // Both are restarted at the same time: what the monitor knows holds.
    std::thread::sleep(Duration::from_secs(2));
    let held = weights(&first);
    drop((first, second));
    wait("both are away", || monitor.says("show").matches("): away").count() == 2);
    let both = addresses.map(|at| translator(at, true));
    wait("they have what they had", || both.iter().all(|served| weights(served) == held));
}

/// What an operator changes with another tool is taken over, not fought.
#[test]
fn somebody_else_may_change_weights() {
    let served = translator(anywhere(), true);
    let monitor = Monitor::start("somebody-else", &[served.at]);
    wait("it has heard the translator", || monitor.says("log").contains("the fewest for its weight"));
    std::thread::sleep(Duration::from_secs(3));
    let key = monitor.folder.join("key");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_byway"));
    command.args(["ctl", "--agent", &served.at.to_string(), "--key"]).arg(key);
    command.args(["divert", SERVICE, "20.0.0.1:80*10", "20.0.0.2:80*20", "20.0.0.3:80*30"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait("the monitor takes them over", || monitor.says("show").contains("20.0.0.3:80           share  50 %"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(weights(&served), [10, 20, 30]);
}

/// Rules: a limit, some clients that have one server alone, and a server that no service names.
#[test]
fn rules_reach_the_translator() {
    let served = translator(anywhere(), true);
    {
        let stranger = byway::Divert::new(at("100.2.2.2:80")).to(at("30.0.0.1:80"));
        served.byway.lock().unwrap().divert(stranger).unwrap();
    }
    let rules = "[[rule]]\nservers = \"20.0.0.1:80\"\nmaximum = 10\n\
                 [[rule]]\nservers = \"20.0.0.2:80\"\nonly = true\nclients = \"9.9.9.0/24\"\n";
    let monitor = Monitor::with("rules", &[served.at], rules);
    let _traffic = Traffic::start(&served, [5, 5, 5]);
    let share = |served: &_| {
        let all = weights(served);
        f64::from(all[0]) / all.iter().map(|weight| f64::from(*weight)).sum::<f64>()
    };
    wait("the limit holds", || share(&served) < 0.101);
    let for_clients = |served: &udp::Served| for_clients(served, "9.9.9.0/24");
    wait("the rule for some clients is there", || for_clients(&served) == Some(vec!["20.0.0.2:80".into()]));
    let log = monitor.says("log");
    assert!(log.contains("since rule \"line 11\" (line 11) demands it"), "{log}");
    wait("the stranger is noticed", || monitor.says("show").contains("reports about servers that no service names"));
    assert!(served.byway.lock().unwrap().diverts().any(|rule| rule.matches() == at("100.2.2.2:80").into()));

    monitor.set_rules("");
    wait("the rule for some clients is gone", || for_clients(&served).is_none());
    wait("what the limit took comes back", || share(&served) > 0.2);
    // A window that is closed now: the rule waits.
    let zone = "from = \"00:00\"\nto = \"00:01\"\nzone = \"Pacific/Kiritimati\"\ndays = [\"mon\"]\n";
    monitor.set_rules(&format!("[[rule]]\nservers = \"20.0.0.2:80\"\nonly = true\nclients = \"9.9.9.0/24\"\n{zone}"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(for_clients(&served), None);
}

/// The servers of the rule for these clients.
fn for_clients(served: &udp::Served, clients: &str) -> Option<Vec<String>> {
    let byway = served.byway.lock().unwrap();
    let found = byway.diverts().find(|rule| {
        rule.matches().from_clients().to_string() == clients
            && rule.matches().destination().network() == *at(SERVICE).ip()
    });
    found.map(|rule| rule.servers().map(|(server, _)| server.target.to_string()).collect())
}

/// A rule that is there before the monitor.
fn insert(served: &udp::Served, clients: &str, server: &str, least_loaded: bool) {
    let matches = byway::Match::from(at(SERVICE)).clients(clients.parse().unwrap());
    let rule = byway::Divert::new(matches).to(at(server));
    let rule = if least_loaded { rule.least_loaded() } else { rule };
    served.byway.lock().unwrap().divert(rule).unwrap();
}

const FOR_SOME: &str = "[[rule]]\nservers = \"20.0.0.2:80\"\nonly = true\nclients = \"9.9.9.0/24\"\n";

/// A translator that comes late has the same rules for some clients, and what an earlier monitor left behind is removed: rules
/// in the form of a monitor, for servers of the service. What somebody else has set is not.
#[test]
fn rules_for_some_clients_are_the_same_on_translators_that_come_late() {
    let first = translator(anywhere(), true);
    let late = {
        let socket = UdpSocket::bind(anywhere()).unwrap();
        socket.local_addr().unwrap()
    };
    insert(&first, "8.8.8.0/24", "20.0.0.1:80", true);
    insert(&first, "7.7.7.0/24", "20.0.0.1:80", false);
    insert(&first, "6.6.6.0/24", "30.0.0.1:80", true);
    let monitor = Monitor::with("late", &[first.at, late], FOR_SOME);
    let expected = Some(vec!["20.0.0.2:80".to_string()]);
    wait("the first one has the rule", || for_clients(&first, "9.9.9.0/24") == expected);
    wait("what was left behind is gone", || for_clients(&first, "8.8.8.0/24").is_none());
    std::thread::sleep(Duration::from_secs(3));
    let second = translator(late, true);
    wait("the late one has the rule", || for_clients(&second, "9.9.9.0/24") == expected);
    for others in ["7.7.7.0/24", "6.6.6.0/24"] {
        assert!(for_clients(&first, others).is_some(), "{others}");
    }
    // Once all is as it should be, nothing more is sent.
    std::thread::sleep(Duration::from_secs(3));
    let generations = || [&first, &second].map(|served| served.byway.lock().unwrap().generation());
    let before = generations();
    let decided = monitor.says("log");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((generations(), monitor.says("log")), (before, decided));
}

/// What a translator refuses is asked for again, though nothing else happens meanwhile.
#[test]
fn what_was_refused_is_asked_for_again() {
    let served = translator_with_room(anywhere(), true, 4);
    {
        let filler = byway::Divert::new(at("100.9.9.9:80")).to(at("30.0.0.1:80"));
        served.byway.lock().unwrap().divert(filler).unwrap();
    }
    let monitor = Monitor::with("refused", &[served.at], FOR_SOME);
    wait("it was refused, and that is told", || {
        (1..6).any(|number| monitor.says(&format!("why {number}")).contains("no room for another server"))
    });
    served.byway.lock().unwrap().remove(at("100.9.9.9:80")).unwrap();
    wait("the rule is there", || for_clients(&served, "9.9.9.0/24").is_some());
}

/// A network that loses every fifth report and brings every third one twice, late: losses are told, and the monitor goes on.
#[test]
fn reports_may_be_lost_and_come_twice() {
    let served = translator(anywhere(), true);
    let (front, back) = (UdpSocket::bind(anywhere()).unwrap(), UdpSocket::bind(anywhere()).unwrap());
    back.connect(served.at).unwrap();
    let relay = front.local_addr().unwrap();
    let monitor_at = Arc::new(Mutex::new(None));
    let (front, back) = (Arc::new(front), Arc::new(back));
    let stop = Arc::new(AtomicBool::new(false));
    for socket in [&front, &back] {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    }
    let there = std::thread::spawn({
        let (front, back, monitor_at, stop) = (front.clone(), back.clone(), monitor_at.clone(), stop.clone());
        move || {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = front.recv_from(&mut buffer) {
                    *monitor_at.lock().unwrap() = Some(from);
                    back.send(&buffer[..length]).unwrap();
                }
            }
        }
    });
    let again = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let (mut buffer, mut reports) = ([0; 2048], 0);
            let mut late: Option<Vec<u8>> = None;
            while !stop.load(Ordering::Relaxed) {
                let (Ok(length), Some(to)) = (back.recv(&mut buffer), *monitor_at.lock().unwrap()) else { continue };
                reports += u32::from(buffer[3] == 8);
                if buffer[3] == 8 && reports % 5 == 0 {
                    continue;
                }
                front.send_to(&buffer[..length], to).unwrap();
                if let Some(late) = late.take() {
                    front.send_to(&late, to).unwrap();
                }
                late = (buffer[3] == 8 && reports % 3 == 0).then(|| buffer[..length].to_vec());
            }
        }
    });
    let monitor = Monitor::start("losses", &[relay]);
    let traffic = Traffic::start(&served, [5, 5, 60]);
    wait("the slow server has less", || {
        let all = weights(&served);
        u32::from(all[2]) * 2 < u32::from(all[0])
    });
    let lost = |show: &str| -> u64 {
        let before = show.split(" reports lost").next().unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    wait("losses are told", || lost(&monitor.says("show")) > 5);
    let show = monitor.says("show");
    assert!(show.contains(": open, ") && !show.contains("not believed"), "{show}");
    drop(traffic);
    stop.store(true, Ordering::Relaxed);
    there.join().unwrap();
    again.join().unwrap();
}

/// Two services have two servers in common. Each monitor counts the requests of the other one apart: the weights, which are made
/// different for that, show whose an entry is.
#[test]
fn services_with_the_same_servers_are_told_apart() {
    const OTHER: &str = "100.100.100.101:80";
    let served = translator(anywhere(), true);
    let other = format!("[[service]]\nname = \"mail\"\ndivert = \"{OTHER}\"\nservers = {:?}\n", &SERVERS[1..]);
    let monitor = Monitor::with("told-apart", &[served.at], &other);
    let _traffic = [Traffic::start(&served, [5; 3]), Traffic::of(&served, OTHER, [5; 3])];
    let of_other = || {
        let byway = served.byway.lock().unwrap();
        let rule = byway.diverts().find(|rule| rule.matches() == at(OTHER).into());
        rule.map_or(Vec::new(), |rule| rule.servers().map(|(server, _)| server.weight).collect::<Vec<_>>())
    };
    wait("the weights differ", || {
        let (web, mail) = (weights(&served), of_other());
        mail.len() == 2 && !mail.contains(&0) && web[1] != mail[0] && web[2] != mail[1]
    });
    wait("both are counted apart", || {
        let state = monitor.state();
        let Some(state) =
            state.find('{').and_then(|start| serde_json::from_str::<serde_json::Value>(&state[start..]).ok())
        else {
            return false;
        };
        let others = |service: usize, server: usize| {
            state["services"][service]["servers"][server]["others"].as_f64().unwrap_or(0.0)
        };
        others(0, 0) == 0.0
            && [(0, 1), (0, 2), (1, 0), (1, 1)].into_iter().all(|(service, server)| others(service, server) > 20.0)
    });
    assert!(monitor.says("log").contains("in other numbers"), "{}", monitor.says("log"));
}
