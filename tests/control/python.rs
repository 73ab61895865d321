//! The document is enough to write a second monitor from: `client.py` was, and speaks with the real agent over
//! a real socket.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::support::udp::Served;
use crate::support::*;
use byway::Protocol;
use byway_testing::*;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control/client.py");

/// Whether there is a Python; else says that the test is skipped.
fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("SKIPPED: there is no python3");
    }
    found
}

#[test]
fn it_agrees_on_the_vectors() {
    if !has_python() {
        return;
    }
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/control-vectors.txt");
    let output = Command::new("python3").args([CLIENT, "--check", vectors]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "60 datagrams are right\n");
}

#[test]
fn it_can_do_everything() {
    if !has_python() {
        return;
    }
    let House { agent, byway, .. } = House::new();
    let served = Served::new(agent, byway, 1);
    let key: String = ADMIN.1.iter().map(|o| format!("{o:02x}")).collect();
    let mut client = Command::new("python3")
        .args([CLIENT, &served.at.to_string(), "1", &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (client.stdin.take().unwrap(), BufReader::new(client.stdout.take().unwrap()));
    let mut ask = |line: &str| {
        writeln!(to, "{line}").unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        answer
    };
    let has = |answer: &str, parts: &[&str]| {
        for part in parts {
            assert!(answer.contains(part), "{part} is not in {answer}");
        }
    };

    let answer = ask(r#"{"do": [["divert", "100.1.1.1:80", ["20.0.0.1:80"]]]}"#);
    has(&answer, &[r#""code": 0"#, r#""generation": 1"#, r#""outcome": "inserted""#]);
    has(&ask(r#"{"do": [["subscribe", 60, 15]]}"#), &[r#""code": 0"#]);
    let packet = udp(at("1.2.3.4:5000"), at("100.1.1.1:80"), b"question");
    {
        let mut byway = served.byway.lock().unwrap();
        let (source, server) = ends(&there(&mut byway, served.now(), &packet));
        back(&mut byway, served.now(), &udp(server, source, b"the answer"));
    }
    let answer = ask(r#"{"wait": 1}"#);
    has(&answer, &[r#""event": "opened""#, r#""client": "1.2.3.4:5000""#, r#""server": "20.0.0.1:80""#]);

    let answer = ask(
        r#"{"only_if": 1, "do": [["divert", {"to": "100.2.0.0/16:53", "protocol": "udp", "clients": "1.0.0.0/8"},
            [["20.0.0.2", 1], ["20.0.0.3:5353", 2]], 14], ["limit", 9], ["redivert", "20.0.0.1:80", "20.0.0.4:80", "switch"]]}"#
            .replace('\n', " ")
            .as_str(),
    );
    has(&answer, &[r#""generation": 3"#, r#""outcome": "set""#]);
    has(&answer, &[r#"{"outcome": "rediverted", "servers": 1, "connections": 1}"#]);
    {
        let mut byway = served.byway.lock().unwrap();
        assert_eq!(ends(&there(&mut byway, served.now(), &packet)).1, at("20.0.0.4:80"));
        assert_eq!(byway.client_limit(), 9);
        let rule = byway.diverts().find(|e| e.matches().limited_to() == Some(Protocol::Udp)).unwrap();
        assert_eq!(rule.matches().to_string(), "100.2.0.0/16:53 udp from 1.0.0.0/8");
        assert!(rule.takes_replies_from_any_port() && rule.servers().count() == 2);
        assert_eq!(rule.midstream(), Some(byway::Midstream::Drop));
    }
    has(&ask(r#"{"wait": 1}"#), &[r#""event": "moved""#, r#""before": "20.0.0.1:80""#]);
    let answer = ask(r#"{"do": [["rules", 0]]}"#);
    has(&answer, &[r#""next": null"#, r#""to": "100.1.1.1/32:80""#, r#"["20.0.0.4:80", 1, 1]"#]);
    has(&answer, &[r#"{"to": "100.2.0.0/16:53", "protocol": "udp", "clients": "1.0.0.0/8"}"#]);
    has(&answer, &[r#""flags": 14, "midstream": "drop""#, r#""flags": 0, "midstream": null"#]);
    let answer = ask(r#"{"do": [["connections", 0]]}"#);
    has(&answer, &[r#""state": "answered""#, r#""server": "20.0.0.4:80""#]);
    has(&answer, &[r#""to_server": {"packets": 2, "bytes": 72, "smallest": 36, "largest": 36}"#]);
    has(&ask(r#"{"do": [["counters"]]}"#), &[r#""1": 2, "2": 1"#]);
    has(&ask(r#"{"do": [["settings"]]}"#), &[r#""client_limit": 9"#, r#""rights": "all""#]);
    let answer = ask(r#"{"dry_run": true, "do": [["remove", "100.1.1.1:80"]]}"#);
    has(&answer, &[r#""dry_run": true"#, r#""generation": 3"#, r#""connections": 1"#]);
    has(&ask(r#"{"do": [["divert", "20.0.0.4:80", ["100.1.1.1:80"]]]}"#), &[r#""code": 26"#]);
    has(&ask(r#"{"only_if": 1, "do": [["remove", "100.1.1.1:80"]]}"#), &[r#""code": 5"#]);
    let timeouts = r#"{"do": [["timeouts", [7440000, 240000, 300000, 1000, 30000, 120000]]]}"#;
    has(&ask(timeouts), &[r#""code": 48"#, r#""detail": 3"#]);
    let answer = ask(r#"{"do": [["measurements", 0]]}"#);
    has(&answer, &[r#""next": null"#, r#""server": ["20.0.0.4:80", 1]"#, r#""started": 0"#, r#""connections": 1"#]);
    has(&ask(r#"{"do": [["report", 60, 99]]}"#), &[r#""code": 3"#]);
    has(&ask(r#"{"do": [["report", 60, 100]]}"#), &[r#""code": 0"#]);
    has(&ask(r#"{"do": [["lead", 7, 999, "x"]]}"#), &[r#""code": 3"#]);
    let led = ask(r#"{"do": [["lead", 7, 1000, "pins"]]}"#);
    has(&led, &[r#""lease": 1000, "standing": 1, "leader": 7, "note": "pins""#]);
    has(&ask(r#"{"do": [["lead", 7, 0, ""]]}"#), &[r#""lease": 0, "standing": 0, "leader": null, "note": """#]);
    {
        let mut byway = served.byway.lock().unwrap();
        let (source, server) = ends(&there(&mut byway, served.now(), &packet));
        let later = served.now() + core::time::Duration::from_millis(20);
        back(&mut byway, later, &udp(server, source, b"the answer"));
    }
    let answer = ask(r#"{"wait": 0.6}"#);
    // The question was asked before already.
    has(&answer, &[r#""round": 3"#, r#""silent": null"#, r#""missed": 0"#, r#""waiting": {"count": 1"#]);
    has(&answer, &[r#""to_client": {"packets": 1, "bytes": 38}"#, r#""response": [["#]);
    let answer = ask(r#"{"do": [["forget"]]}"#);
    has(&answer, &[r#"{"outcome": "forgotten", "servers": 0, "connections": 1}"#]);
    has(&ask(r#"{"wait": 1}"#), &[r#""event": "closed""#, r#""why": 7"#]);
    assert_eq!(served.byway.lock().unwrap().connections().count(), 0);
    has(&ask(r#"{"do": [["close"]]}"#), &[r#""code": 0"#]);
    drop(to);
    assert!(client.wait().unwrap().success());
}
