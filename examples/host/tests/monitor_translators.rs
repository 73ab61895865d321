//! One monitor and several translators: they get the same weights, one that is restarted is noticed and gets them again.
#![cfg(target_os = "linux")]

#[path = "../../../tests/control_support/udp.rs"]
mod udp;
mod watched;

use core::time::Duration;

use watched::*;

#[test]
fn translators_have_the_same_weights_also_after_a_restart() {
    // The second one has no rule yet.
    let (first, second) = (translator(anywhere(), true), translator(anywhere(), false));
    let addresses = [first.at, second.at];
    let monitor = Monitor::start("two-translators", &addresses);
    wait(10, "the second one gets the rule", || weights(&second).len() == 3);
    let traffic = [Traffic::start(&first, [5, 5, 60]), Traffic::start(&second, [5, 5, 60])];
    wait(25, "the slow server has less on both", || {
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
    wait(15, "it is away", || monitor.says("show").contains(&format!("edge-2 ({}): away", addresses[1])));
    let before = weights(&first);
    let second = translator(addresses[1], true);
    wait(15, "it has the weights that the others have", || weights(&second) == weights(&first));
    // Its traffic is counted again, and what it says that cannot be is told.
    let other = Traffic::start(&second, [5, 5, 60]);
    std::thread::sleep(Duration::from_secs(2));
    let show = monitor.says("show");
    assert!(show.contains("not believed: its time has gone back: it was restarted"), "{show}");
    let (now, held) = (weights(&first), weights(&second));
    assert!(u32::from(now[2]) * 2 < u32::from(now[0]) && now == held, "{before:?} {now:?} {held:?}");
    drop((one, other));
}

/// What an operator changes with another tool is taken over, not fought.
#[test]
fn somebody_else_may_change_weights() {
    let served = translator(anywhere(), true);
    let monitor = Monitor::start("somebody-else", &[served.at]);
    wait(10, "it has heard the translator", || monitor.says("log").contains("the fewest for its weight"));
    std::thread::sleep(Duration::from_secs(3));
    let key = monitor.folder.join("key");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_byway"));
    command.args(["ctl", "--agent", &served.at.to_string(), "--key"]).arg(key);
    command.args(["divert", SERVICE, "20.0.0.1:80*10", "20.0.0.2:80*20", "20.0.0.3:80*30"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(weights(&served), [10, 20, 30]);
    let show = monitor.says("show");
    assert!(show.contains("20.0.0.3:80           share  50 %"), "{show}");
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
    wait(10, "the limit holds", || share(&served) < 0.101);
    let for_clients = |served: &udp::Served| {
        let byway = served.byway.lock().unwrap();
        let found = byway.diverts().find(|rule| rule.matches().from_clients().to_string() == "9.9.9.0/24");
        found.map(|rule| rule.servers().map(|(server, _)| server.target.to_string()).collect::<Vec<_>>())
    };
    wait(10, "the rule for some clients is there", || for_clients(&served) == Some(vec!["20.0.0.2:80".into()]));
    let log = monitor.says("log");
    assert!(log.contains("since rule \"line 11\" (line 11) demands it"), "{log}");
    wait(5, "the stranger is noticed", || monitor.says("show").contains("reports about servers that no service names"));
    assert!(served.byway.lock().unwrap().diverts().any(|rule| rule.matches() == at("100.2.2.2:80").into()));

    monitor.set_rules("");
    wait(10, "the rule for some clients is gone", || for_clients(&served).is_none());
    wait(20, "what the limit took comes back", || share(&served) > 0.2);
    // A window that is closed now: the rule waits.
    let zone = "from = \"00:00\"\nto = \"00:01\"\nzone = \"Pacific/Kiritimati\"\ndays = [\"mon\"]\n";
    monitor.set_rules(&format!("[[rule]]\nservers = \"20.0.0.2:80\"\nonly = true\nclients = \"9.9.9.0/24\"\n{zone}"));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(for_clients(&served), None);
}
