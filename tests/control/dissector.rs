//! The Wireshark dissector beside the document, on a capture made of the test vectors: it says instructions in words,
//! and whether the tags are right when it is given the key.

use std::path::{Path, PathBuf};
use std::process::Command;

use byway_testing::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The datagrams of the vectors, in their order: name and bytes.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/control-vectors.txt")).unwrap();
    let lines = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(" = "));
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let datagrams = lines.filter(|(name, _)| !["key.", "nonce.", "session."].iter().any(|p| name.starts_with(p)));
    datagrams.map(|(name, hex)| (name.to_string(), bytes(hex))).collect()
}

/// Writes a capture of raw IPv4 packets, those of the monitor towards port 5213.
fn capture(name: &str, datagrams: &[(String, Vec<u8>)]) -> PathBuf {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 101] {
        file.extend(if word == 0x0002_0004 { [2, 0, 4, 0] } else { word.to_le_bytes() });
    }
    for (number, (name, datagram)) in (0_u32..).zip(datagrams) {
        let (monitor, agent) = (at("192.0.2.1:40000"), at("10.0.0.1:5213"));
        let up = ["hello", "open", "request", "names.request"].iter().any(|p| name.starts_with(p));
        let packet = if up { udp(monitor, agent, datagram) } else { udp(agent, monitor, datagram) };
        let length = packet.len() as u32;
        for word in [number, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, file).unwrap();
    path
}

/// What tshark says about each datagram: is the tag right, and the line in its list of packets. `None` without tshark.
fn tshark(capture: &Path, key: Option<&str>) -> Option<Vec<(String, String)>> {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("SKIPPED: there is no tshark");
        return None;
    }
    let script = format!("lua_script:{ROOT}/docs/byway-control.lua");
    let mut command = Command::new("tshark");
    command.args(["-X", &script, "-o", "byway.port:5213"]);
    if let Some(key) = key {
        command.args(["-o", &format!("byway.keys:{key}")]);
    }
    command
        .args(["-T", "fields", "-e", "byway.tag_status", "-e", "_ws.lua.error", "-e", "_ws.col.Info", "-r"])
        .arg(capture);
    let output = command.output().unwrap();
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && !error.to_lowercase().contains("lua"), "{error}");
    let lines = out.lines().map(|line| {
        let mut fields = line.split('\t');
        let (status, error) = (fields.next().unwrap(), fields.next().unwrap());
        let info = fields.next().unwrap();
        // It holds 1 where the script has failed.
        assert_eq!(error, "", "{info}");
        (status.to_string(), info.to_string())
    });
    Some(lines.collect())
}

#[test]
fn it_says_instructions_in_words_and_checks_tags() {
    let mut datagrams = vectors();
    let secret: String = (0..32).map(|i| format!("{i:02x}")).collect();
    let path = capture("control.pcap", &datagrams);
    let Some(lines) = tshark(&path, Some(&format!("1:{secret}"))) else {
        return;
    };
    assert_eq!(lines.len(), datagrams.len());
    for ((name, _), (status, info)) in datagrams.iter().zip(&lines) {
        assert_eq!(status, "right", "{name}: {info}");
    }
    let all: Vec<&str> = lines.iter().map(|(_, info)| info.as_str()).collect();
    for expected in [
        "HELLO key 1",
        "CHALLENGE key 1",
        "OPEN key 1",
        "ANSWER 0: done, generation 0",
        "REQUEST 1: divert 100.100.100.100:80 to 123.45.67.89:80",
        "ANSWER 1: done, generation 1; inserted, connections: 0",
        "REQUEST 2: only if 1: divert 100.2.0.0/16:53 udp from 1.2.3.4/32 to 20.0.0.1*1, 20.0.0.2:5353*3, answers from \
         any port; set client limit 500; redivert 123.45.67.89:80 to 123.45.67.90:80 (drain)",
        "REQUEST 4: dry run: redivert 123.45.67.89:80 to 123.45.67.90:80 (switch)",
        "REQUEST 5: list rules from 0",
        "ANSWER 8: loop, generation 4",
        "REQUEST 9: subscribe for 60 s",
        "EVENTS 1: opened udp (1.2.3.4:3456, 100.100.100.100:80), (10.10.10.10:513, 123.45.67.89:80), unanswered",
        "ANSWER 4: done, generation 4; dry run: re-diverted, connections: 1",
        "REQUEST 11: set timeouts tcp_established 7440000 ms, tcp_transitory 240000 ms, udp 360000 ms, icmp 60000 ms, \
         fragment 30000 ms, hold 120000 ms",
        "REQUEST 12: counters",
        "REQUEST 13: dry run: divert 0.0.0.0/0 from 192.168.0.0/16 to same, midstream drop",
        "REQUEST 14: forget",
        "ANSWER 14: done, generation 5; forgotten, connections: 1",
        "REQUEST 15: measurements from 0",
        "REQUEST 16: report every 250 ms for 60 s",
        "REPORT 1: report 1; 20.0.0.2:5353*3: connections 1, started 1, answered 1, waiting 0; 20.0.0.1*1: connections 0, \
         started 0, answered 0, waiting 0",
        "REQUEST 17: lead as monitor 258 for 5000 ms, note of 6 bytes",
        "ANSWER 17: done, generation 5",
        "REQUEST 19: divert 100.3.0.1 to 20.0.0.1*2, 20.0.0.2*1, least loaded, ejects",
        "ANSWER 19: done, generation 6; inserted, connections: 0",
        "REQUEST 20: close",
        "REFUSAL key 1: unknown version",
        "REQUEST 1: divert 100.100.100.100 to 123.45.67.89; name www.bt.com to the original of 100.100.100.100, 86400 s",
        "ANSWER 1: done, generation 2; inserted, connections: 0; inserted, connections: 0",
        "REQUEST 2: only if 2: name *.xyz.com from 192.168.0.0/16 to 203.0.113.1*3, 203.0.113.2*1, 20 s",
        "ANSWER 3: entries are tied to the rule, generation 3",
        "REQUEST 4: list names from 0",
        "REQUEST 6: remove 100.100.100.100; remove name www.bt.com",
        "ANSWER 6: done, generation 5; removed, connections: 0; removed, connections: 0",
    ] {
        assert!(all.contains(&expected), "{expected} is not in {all:#?}");
    }

    // Without the key nobody can tell; with another key all are wrong, and so is what was changed.
    let unknown = tshark(&path, None).unwrap();
    assert!(unknown.iter().all(|(status, _)| status == "unknown"));
    let request = datagrams.iter_mut().find(|(name, _)| name == "request.1").unwrap();
    request.1[40] ^= 1;
    let changed = tshark(&capture("control-changed.pcap", &datagrams), Some(&format!("1:{secret}"))).unwrap();
    let wrong: Vec<_> = changed.iter().filter(|(status, _)| status == "wrong").collect();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].1.starts_with("REQUEST 1: ") && wrong[0].1.ends_with("[wrong tag]"));
}

#[test]
fn it_survives_what_is_cut_short() {
    let mut datagrams = Vec::new();
    for (name, datagram) in vectors() {
        for length in (0..datagram.len()).step_by(3) {
            datagrams.push((name.clone(), datagram[..length].to_vec()));
        }
    }
    let secret: String = (0..32).map(|i| format!("{i:02x}")).collect();
    if let Some(lines) = tshark(&capture("control-short.pcap", &datagrams), Some(&format!("1:{secret}"))) {
        assert_eq!(lines.len(), datagrams.len());
        assert!(lines.iter().all(|(status, _)| status != "right"));
    }
}
