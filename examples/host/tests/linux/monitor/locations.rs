//! Rules for clients by where they are, from a CSV file and from a database, down to the translators.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::watched::*;
use byway_testing::udp;

/// The rules for some clients that a translator has: their prefixes, and the one server of each.
fn for_clients(served: &udp::Served) -> BTreeMap<String, String> {
    let byway = served.byway.lock().unwrap();
    let some = byway.diverts().filter(|rule| rule.matches().from_clients().length() != 0);
    some.map(|rule| {
        let servers: Vec<_> = rule.servers().map(|(server, _)| server.target.to_string()).collect();
        (rule.matches().from_clients().to_string(), servers.join(" "))
    })
    .collect()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

const DE: &str = "[[rule]]\nname = \"germany\"\nservers = \"20.0.0.2:80\"\nonly = true\nlocation = \"de\"\n";

/// Prefixes of which no two are neighbours.
fn apart(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("10.{}.{}.0/25", n / 256, n % 256)).collect()
}

/// Hundreds of prefixes become rules; the file is read again as a whole with the configuration, and a wrong one changes nothing.
#[test]
fn clients_in_a_location_have_their_servers() {
    let csv = file("locations.csv");
    let text = |prefixes: &[String]| prefixes.iter().map(|prefix| format!("{prefix},DE\n")).collect::<String>();
    let many = apart(600);
    std::fs::write(&csv, text(&many) + "192.0.2.0/24,fr\n").unwrap();
    let served = translator_with_room(anywhere(), true, 1_000);
    let head = format!("locations = \"{}\"\nclient_rules = 600\n", csv.display());
    let monitor = Monitor::configured("locations", &[served.at], &head, DE);
    let expected = |prefixes: &[String]| -> BTreeMap<String, String> {
        prefixes.iter().map(|prefix| (prefix.clone(), "20.0.0.2:80".into())).collect()
    };
    wait("all rules are there", || for_clients(&served) == expected(&many));
    let said = monitor.says(&format!("check {}", monitor.folder.join("monitor.toml").display()));
    assert!(said.contains("good: 1 translators, 1 services, 1 rules\n"), "{said}");
    assert!(said.contains("  rule \"germany\" (line 13): 600 prefixes in de\n"), "{said}");
    // Nothing of it is sent again with each change of weights.
    let generation = || served.byway.lock().unwrap().generation();
    std::thread::sleep(core::time::Duration::from_secs(3));
    let before = generation();
    assert!(monitor.says("pin web 20.0.0.1:80 10").contains("decision"));
    wait("it is pinned", || weights(&served)[0] < weights(&served)[1]);
    std::thread::sleep(core::time::Duration::from_secs(3));
    assert!(generation() - before < 20, "{before} {}", generation());

    // One line is wrong, or there are too many: nothing changes, and the line is named.
    let few = vec!["10.0.0.0/24".to_string(), "11.0.0.0/8".to_string()];
    let wrong = [
        (
            text(&few) + "12.0.0.0/8;de\n",
            format!("{}:3: \"12.0.0.0/8;de\" found: expected PREFIX,LOCATION", csv.display()),
        ),
        (text(&apart(601)), "rule \"germany\" (line 13) is 601 rules for some clients by ".to_string()),
        ("192.0.2.0/24,fr\n".to_string(), "has no location \"de\"".to_string()),
        ("0.0.0.0/0,de\n".to_string(), "all clients of \"web\" are there: the rule needs no location".to_string()),
    ];
    for (n, (wrong, expected_words)) in (1..).zip(wrong) {
        std::fs::write(&csv, wrong).unwrap();
        let said = monitor.says(&format!("check {}", monitor.folder.join("monitor.toml").display()));
        assert!(said.contains(&expected_words), "{said}");
        monitor.set_rules(DE);
        // Signals that come together may be one reload.
        wait("it was refused", || monitor.state().contains(&format!("\"refused_reloads\":{n}")));
    }
    assert_eq!(for_clients(&served), expected(&many));

    std::fs::write(&csv, text(&few)).unwrap();
    monitor.set_rules(DE);
    wait("the rules are those of the file", || for_clients(&served) == expected(&few));
    monitor.set_rules("");
    wait("none is left", || for_clients(&served).is_empty());
}

#[test]
fn a_database_says_where_clients_are() {
    let database = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locations/locations.mmdb");
    let served = translator(anywhere(), true);
    let head = format!("locations = \"{}\"\n", database.display());
    let rules = DE.to_string() + "[[rule]]\nservers = \"20.0.0.3:80\"\nonly = true\nlocation = [\"fr\"]\n";
    let _monitor = Monitor::configured("database", &[served.at], &head, &rules);
    let expected = [
        ("192.0.2.0/25", "20.0.0.2:80"),
        ("192.0.2.128/26", "20.0.0.2:80"),
        ("198.51.100.0/24", "20.0.0.2:80"),
        ("192.0.2.192/26", "20.0.0.3:80"),
        ("203.0.113.0/24", "20.0.0.3:80"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(prefix, server)| (prefix.to_string(), server.to_string())).into();
    wait("the rules are there", || for_clients(&served) == expected);
}

/// A file of locations may be slow to read, or gone: the monitor goes on deciding, and commands need no such file.
#[test]
fn a_reload_that_takes_long_holds_nothing_up() {
    let csv = file("slow.csv");
    let _ = std::fs::remove_file(&csv);
    std::fs::write(&csv, "10.0.0.0/24,DE\n").unwrap();
    let served = translator(anywhere(), true);
    let monitor = Monitor::configured("slow", &[served.at], &format!("locations = \"{}\"\n", csv.display()), DE);
    let expected = |prefix: &str| BTreeMap::from([(prefix.to_string(), "20.0.0.2:80".to_string())]);
    wait("the rule is there", || for_clients(&served) == expected("10.0.0.0/24"));

    std::fs::remove_file(&csv).unwrap();
    assert!(monitor.says("show").contains("web"));
    assert!(monitor.says("log").contains("web"));

    // Whoever opens a pipe waits for who writes to it.
    let pipe = file("slow.pipe");
    let _ = std::fs::remove_file(&pipe);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::os::unix::fs::symlink(&pipe, &csv).unwrap();
    monitor.set_rules(DE);
    for share in [10, 80] {
        assert!(monitor.says(&format!("pin web 20.0.0.1:80 {share}")).contains("decision"));
    }
    wait("it is pinned", || weights(&served)[0] > weights(&served)[1]);
    assert_eq!(for_clients(&served), expected("10.0.0.0/24"));
    // What the file has become meanwhile is read afterwards.
    let mut slow = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let new = file("slow.new");
    std::fs::write(&new, "12.0.0.0/24,DE\n").unwrap();
    std::fs::rename(&new, &csv).unwrap();
    monitor.set_rules(DE);
    // A command is answered by the thread that the signal wakes.
    assert!(monitor.says("pin web 20.0.0.1:80 70").contains("decision"));
    slow.write_all(b"11.0.0.0/24,DE\n").unwrap();
    drop(slow);
    wait("the rule is that of the file", || for_clients(&served) == expected("12.0.0.0/24"));
}
