//! The operator's command line against a real agent over a real socket: what each command prints and returns.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use byway::control::{Agent, Key, Rights};
use byway::{Config, Heap, Timeouts, Translator, Verdict};
use byway_testing::programs;
use byway_testing::udp::Served;

const SECRET: [u8; 32] = [0x5a; 32];

fn serve() -> Served {
    let mut agent = Agent::sized([9; 32]).listening_on("10.0.0.1:5213".parse().unwrap());
    agent.add_key(Key::new(1, SECRET, Rights::All)).unwrap();
    agent.add_key(Key::new(2, SECRET, Rights::Read)).unwrap();
    let config = Config::new([3; 32]).alternative("10.10.10.10".parse().unwrap(), 1024..=65535);
    let byway = Translator::new(config, Heap::new(1000, 200).measured().events(64)).unwrap();
    Served::new(agent, byway, 1)
}

fn key_file(name: &str, id: u16) -> PathBuf {
    programs::key_file(env!("CARGO_TARGET_TMPDIR"), name, id, &SECRET)
}

struct Operator {
    at: String,
    key: PathBuf,
}

impl Operator {
    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_byway"));
        command.args(["ctl", "--agent", &self.at, "--key"]).arg(&self.key).args(words.split(' '));
        command
    }

    fn output(&self, words: &str) -> Output {
        self.command(words).output().expect("the program runs")
    }

    /// What it says; it must return this code.
    #[track_caller]
    fn says(&self, words: &str, code: i32) -> String {
        let output = self.output(words);
        let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{words}: {out}{error}");
        if code == 0 {
            assert_eq!(error, "", "{words}");
            out.trim_end().to_string()
        } else {
            assert_eq!(error.lines().count(), 1, "{words}: one line says what is wrong: {error}");
            format!("{out}{error}").trim_end().to_string()
        }
    }
}

/// A UDP packet from 1.2.3.4 to 100.1.1.1:80, with a checksum of zero.
fn packet(port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 1, 1, 1];
    let sum: u32 = packet.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 80, 0, 16, 0, 0]);
    packet.extend(*b"question");
    packet
}

#[test]
fn every_command_says_what_it_did() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("all.key", 1) };
    let says = |words| operator.says(words, 0);
    assert_eq!(says("divert 100.1.1.1:80 20.0.0.1:80"), "inserted; generation 1");
    assert_eq!(says("divert 100.1.1.1:80 20.0.0.1:80"), "nothing to change; generation 1");
    assert_eq!(
        says("--json divert 100.2.0.0/16:53 20.0.0.2*1 20.0.0.3:5353*2 --protocol udp --clients 1.0.0.0/8 --any-port"),
        r#"{"generation":2,"dry_run":false,"effect":{"outcome":"inserted","servers":0,"connections":0}}"#
    );
    for port in [5000, 5001] {
        let verdict = served.byway.lock().unwrap().translate(served.now(), &mut packet(port));
        assert_eq!(verdict, Verdict::ToServer);
    }
    assert_eq!(
        says("--dry-run redivert 20.0.0.1:80 20.0.0.9:80"),
        "would be re-diverted; rules' servers: 1, connections: 2; generation 2"
    );
    assert_eq!(
        says("--only-if 2 redivert 20.0.0.1:80 20.0.0.9:80 --drain"),
        "re-diverted; rules' servers: 1, connections: 2; generation 3"
    );
    assert_eq!(
        says("list"),
        "100.1.1.1:80 -> 20.0.0.9:80 (0)\n\
         100.2.0.0/16:53 udp from 1.0.0.0/8 -> 20.0.0.2*1 (0), 20.0.0.3:5353*2 (0), answers from any port\n\
         2 rules, generation 3; in brackets: connections"
    );
    let list = says("--json list");
    assert!(list.starts_with(r#"{"generation":3,"rules":[{"destination":"100.1.1.1/32","port":80,"protocol":null,"#));
    let connections = says("connections --watch --count 2");
    assert_eq!(connections.matches("1.2.3.4:5000").count(), 2, "{connections}");
    assert!(connections.contains("20.0.0.1:80") && connections.contains("unanswered") && connections.contains("36"));
    let connections = says("--json connections");
    assert!(
        connections.contains(r#""server":"20.0.0.1:80","state":"unanswered","to_server":{"packets":1,"bytes":36,"#)
    );
    assert!(says("counters").contains("opened                             2"));
    assert!(says("--json counters").contains(r#""opened":2,"imported":0"#));
    assert_eq!(says("limit 50"), "set; generation 3");
    assert!(says("settings").contains("client_limit                   50"));
    assert!(says("--json settings").ends_with(r#""slots_in_use":2,"rights":"all"}"#));
    assert_eq!(says("restore 100.1.1.1:80"), "removed; connections that stay until they end: 0; generation 4");
    assert_eq!(says("restore 100.1.1.1:80"), "there is no such rule; generation 4");
    assert_eq!(served.byway.lock().unwrap().diverts().count(), 1);
    assert_eq!(served.byway.lock().unwrap().connections().count(), 2);
    let forgotten = says("forget");
    assert!(forgotten.starts_with("forgotten; connections: ") && forgotten.ends_with("; generation 4"), "{forgotten}");
    let left = served.byway.lock().unwrap();
    assert_eq!((left.diverts().count(), left.connections().count()), (1, 0));
}

/// A file for `apply`.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().expect("the path is text").to_string()
}

#[test]
fn a_transaction_takes_effect_at_once_or_not_at_all() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("apply.key", 1) };
    let says = |words: &str| operator.says(words, 0);
    let rules = || served.byway.lock().unwrap().diverts().count();
    let set_up = file(
        "set-up",
        "# Two services.\n\
         divert 100.1.1.1:80 20.0.0.1:80\n\
         \n\
         divert 100.2.0.0/16:53 20.0.0.2*1 20.0.0.3*2 --protocol udp --clients 1.0.0.0/8  # shared\n\
         limit 50\n\
         timeouts udp=4m\n",
    );
    assert_eq!(
        says(&format!("--dry-run apply {set_up}")),
        "line 2: would be inserted\nline 4: would be inserted\nline 5: would be set\nline 6: would be set\n\
         generation 0"
    );
    assert_eq!(rules(), 0);
    assert_eq!(
        says(&format!("--only-if 0 apply {set_up}")),
        "line 2: inserted\nline 4: inserted\nline 5: set\nline 6: set\ngeneration 2"
    );
    assert_eq!(rules(), 2);
    let settings = says("settings");
    assert!(
        settings.contains("client_limit                   50")
            && settings.contains("udp_ms                     240000")
    );
    // The same once more changes nothing.
    let again = says(&format!("--json apply {set_up}"));
    let unchanged = |line| format!(r#"{{"line":{line},"outcome":"unchanged","servers":0,"connections":0}}"#);
    let lines = [2, 4, 5, 6].map(unchanged).join(",");
    assert_eq!(again, format!(r#"{{"generation":2,"dry_run":false,"effects":[{lines}]}}"#));

    let _ = served.byway.lock().unwrap().translate(served.now(), &mut packet(7000));
    let _ = served.byway.lock().unwrap().translate(served.now(), &mut packet(7001));
    let moving =
        "restore 100.2.0.0/16:53 --protocol udp --clients 1.0.0.0/8\nredivert 20.0.0.1:80 20.0.0.9:80 --drain\n";
    // Somebody has changed something since; then nothing of it is done.
    let moving = file("moving", moving);
    assert_eq!(
        operator.says(&format!("--only-if 1 apply {moving}"), 1),
        "byway ctl: refused: the table has changed since"
    );
    assert_eq!(rules(), 2);
    assert_eq!(
        says(&format!("--only-if 2 apply {moving}")),
        "line 1: removed; connections that stay until they end: 0\n\
         line 2: re-diverted; rules' servers: 1, connections: 2\ngeneration 4"
    );

    // The first of these could be done; the second cannot.
    let bad = file("bad", "restore 100.1.1.1:80\n\ndivert 100.3.3.3:80 10.0.0.1:5213\n");
    let why = "byway ctl: refused, line 3: this is the port that instructions come to";
    assert_eq!(operator.says(&format!("apply {bad}"), 1), why);
    let json = operator.says(&format!("--json apply {bad}"), 1);
    assert!(json.starts_with(r#"{"refused":"this is the port that instructions come to","code":"#), "{json}");
    assert!(json.ends_with(&format!(",\"detail\":0,\"line\":3}}\n{why}")), "{json}");
    assert_eq!(rules(), 1);

    let many = file("many", &"limit 5\n".repeat(17));
    let refused = operator.says(&format!("apply {many}"), 2);
    assert!(refused.starts_with("byway ctl: line 17: a request holds 16 instructions"), "{refused}");
    for (text, why) in [
        ("", "there is no instruction in it"),
        ("# nothing\n", "there is no instruction in it"),
        ("limit 5\njump\n", "line 2: jump: it must be one of divert, redivert, restore, limit, timeouts, forget, name"),
        ("list\n", "line 1: list: it must be one of divert, redivert, restore, limit, timeouts, forget, name"),
        ("limit 5 --json\n", "line 1: --json does not belong behind an instruction"),
        ("redivert 20.0.0.1\n", "line 1: redivert takes FROM and TO"),
        ("timeouts udp=5\n", "line 1: udp=5: the time must be like 2h4m, 300s or 500ms"),
    ] {
        let path = file("wrong", text);
        assert_eq!(operator.says(&format!("apply {path}"), 2), format!("byway ctl: {path}: {why}"));
    }
    assert!(operator.says("apply /nowhere/file", 2).starts_with("byway ctl: /nowhere/file: No such file"));
    assert_eq!(operator.says("apply", 2), "byway ctl: apply takes a file, or - for standard input");
}

#[test]
fn a_transaction_can_come_from_standard_input() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("stdin.key", 1) };
    let mut command = operator.command("apply -");
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(b"divert 100.1.1.1:80 20.0.0.1:80\nlimit 7\n").unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "line 1: inserted\nline 2: set\ngeneration 1\n");
    assert_eq!(served.byway.lock().unwrap().client_limit(), 7);
    // What has no end fills no memory.
    assert_eq!(operator.says("apply /dev/zero", 2), "byway ctl: /dev/zero: it is longer than 1048576 bytes");
}

#[test]
fn some_time_outs_are_set_and_the_others_stay() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("timeouts.key", 1) };
    let timeouts = || served.byway.lock().unwrap().timeouts();
    assert_eq!(operator.says("timeouts udp=3m tcp-established=3h30m", 0), "set; generation 0");
    let seconds = core::time::Duration::from_secs;
    let expected = Timeouts { udp: seconds(180), tcp_established: seconds(12_600), ..Timeouts::RECOMMENDED };
    assert_eq!(timeouts(), expected);
    assert_eq!(
        operator.says("--json --dry-run timeouts hold=200s", 0),
        r#"{"generation":0,"dry_run":true,"effect":{"outcome":"set","servers":0,"connections":0}}"#
    );
    assert_eq!(timeouts(), expected);
    let refused = operator.says("timeouts icmp=2m tcp_transitory=10s", 1);
    assert_eq!(refused, "byway ctl: refused: the time-out is below the floor of the RFCs (tcp_transitory)");
    assert!(
        operator
            .says("--json timeouts fragment=1s", 1)
            .starts_with(r#"{"refused":"the time-out is below the floor of the RFCs","code":48,"detail":4}"#)
    );
    assert_eq!(timeouts(), expected);
    assert_eq!(operator.says("--only-if 0 timeouts recommended", 0), "set; generation 0");
    assert_eq!(timeouts(), Timeouts::RECOMMENDED);
    assert_eq!(operator.says("timeouts recommended", 0), "nothing to change; generation 0");
}

#[test]
fn long_lists_come_in_pages() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("pages.key", 2) };
    {
        let mut byway = served.byway.lock().unwrap();
        for host in 0..150 {
            let original = core::net::Ipv4Addr::new(100, 1, 2, host);
            byway.divert(byway::Divert::new(original).to(core::net::Ipv4Addr::new(20, 0, 0, 1))).unwrap();
        }
    }
    let list = operator.says("list", 0);
    assert_eq!(list.lines().count(), 151);
    assert!(list.ends_with("150 rules, generation 150; in brackets: connections"));
}

/// As with `head`: what it was told to do is done, and that nobody reads on is no error.
#[cfg(unix)]
#[test]
fn nobody_has_to_read_to_the_end() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("unread.key", 1) };
    let file = file("unread", "divert 100.1.1.1:80 20.0.0.1:80\nlimit 5\n");
    let apply = format!("apply {file}");
    for words in
        [&*apply, "list", "--json list", "connections --watch", "counters", "settings", "divert 1.1.1.1 2.2.2.2"]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = operator.command(words).stdout(writer).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{words}");
    }
    assert_eq!(served.byway.lock().unwrap().diverts().count(), 2);
}

/// A live table that is larger than the terminal would push its own beginning out of sight.
#[cfg(target_os = "linux")]
#[test]
fn a_live_table_fits_its_terminal() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("watch.key", 1) };
    operator.says("divert 100.1.1.1:80 20.0.0.1:80", 0);
    for port in 5000..5030 {
        let _ = served.byway.lock().unwrap().translate(served.now(), &mut packet(port));
    }
    let command = operator.command("connections --watch --count 2");
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words = words.join(std::ffi::OsStr::new("' '"));
    let line = format!("stty rows 12 cols 60; '{}'", words.to_str().unwrap());
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap().replace('\r', "");
    let screens: Vec<Vec<&str>> = shown.split("\x1b[H\x1b[J").skip(1).map(|screen| screen.lines().collect()).collect();
    assert_eq!(screens.len(), 2, "{shown}");
    for screen in screens {
        assert_eq!((screen.len(), screen[0], screen[10]), (11, "30 connections", "and 22 more"), "{shown}");
        assert!(screen[1].trim_start().starts_with("client") && screen[2].contains("1.2.3.4:50"), "{shown}");
        assert!(screen.iter().all(|line| line.len() <= 60), "{shown}");
    }
}

#[test]
fn counters_are_watched_as_rates() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("rates.key", 1) };
    operator.says("divert 100.1.1.1:80 20.0.0.1:80", 0);
    let mut watches = operator.command("counters --watch --count 2").stdout(Stdio::piped()).spawn().unwrap();
    let mut output = watches.stdout.take().unwrap();
    // Once it has counted for the first time.
    let mut first = [0; 512];
    let length = output.read(&mut first).unwrap();
    for port in 5000..5007 {
        let _ = served.byway.lock().unwrap().translate(served.now(), &mut packet(port));
    }
    let mut shown = String::from_utf8(first[..length].to_vec()).unwrap();
    output.read_to_string(&mut shown).unwrap();
    assert!(watches.wait().unwrap().success());
    // The first time nothing is known of the second before.
    let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["opened", "7", "7"]), "{shown}");
    assert_eq!(lines.iter().filter(|line| line.contains(&"second")).count(), 2, "{shown}");
    let json = operator.says("--json counters --watch --count 2", 0);
    assert_eq!(json.lines().filter(|line| line.starts_with(r#"{"to_server":7,"#)).count(), 2, "{json}");
}

#[test]
fn events_are_told_as_they_happen() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("events.key", 1) };
    operator.says("divert 100.1.1.1:80 20.0.0.1:80", 0);
    let output = std::thread::scope(|scope| {
        let told =
            scope.spawn(|| (operator.says("events --seconds 3", 0), operator.says("--json events --seconds 3", 0)));
        for port in 6000.. {
            let _ = served.byway.lock().unwrap().translate(served.now(), &mut packet(port));
            std::thread::sleep(core::time::Duration::from_millis(100));
            if told.is_finished() {
                break;
            }
        }
        told.join().unwrap()
    });
    assert!(output.0.contains("opened  udp (1.2.3.4:60"), "{output:?}");
    assert!(output.1.contains(r#"{"event":"opened","protocol":"udp","client":"1.2.3.4:60"#), "{output:?}");
}

#[test]
fn what_is_wrong_is_said_in_a_line_and_a_code() {
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("wrong.key", 1) };
    let reader = Operator { at: served.at.to_string(), key: key_file("reader.key", 2) };
    let refused = operator.says("divert 100.1.1.1:80 10.0.0.1:5213", 1);
    assert_eq!(refused, "byway ctl: refused: this is the port that instructions come to");
    assert_eq!(operator.says("--only-if 7 restore 100.1.1.1", 1), "byway ctl: refused: the table has changed since");
    assert_eq!(reader.says("limit 5", 1), "byway ctl: refused: the key does not permit it");
    let json = reader.says("--json limit 5", 1);
    assert!(json.starts_with(r#"{"refused":"the key does not permit it","code":4,"detail":0}"#), "{json}");
    for (words, why) in [
        ("jump", "no such command: jump; --help shows them"),
        ("divert 100.1.1.1", "divert takes ORIGINAL and TARGET"),
        ("divert 100.1.1.1:x 20.0.0.1", "100.1.1.1:x: the port must be a number from 1 to 65535"),
        ("divert 100.1.1.1/33 20.0.0.1", "100.1.1.1/33: it must be ADDRESS or ADDRESS/LENGTH"),
        ("redivert 20.0.0.1 nowhere", "nowhere: it must be ADDRESS or ADDRESS:PORT"),
        ("--protocol sctp list", "--protocol sctp: it must be tcp, udp or icmp"),
        ("timeouts", "timeouts takes NAME=TIME, or recommended"),
        ("timeouts tcp=5m", "tcp: it must be one of tcp_established, tcp_transitory, udp, icmp, fragment, hold"),
        ("timeouts udp", "udp: it must be NAME=TIME"),
        ("limit many", "limit many: it must be a number"),
        ("list --what", "invalid option '--what'"),
        ("list --watch", "--watch does not belong to list"),
        ("list --dry-run", "--dry-run does not belong to list"),
        ("connections --drain", "--drain does not belong to connections"),
        ("connections --count 3", "--count belongs to --watch"),
        ("counters --seconds 3", "--seconds does not belong to counters"),
        ("restore 100.1.1.1 --reset", "--reset does not belong to restore"),
        ("redivert 20.0.0.1 20.0.0.2 --protocol udp", "--protocol does not belong to redivert"),
        ("redivert 20.0.0.1 20.0.0.2 --drain --reset", "--drain and --reset exclude each other"),
        ("redivert 20.0.0.1 20.0.0.2 --hand-over --reset", "--hand-over and --reset exclude each other"),
        ("divert 20.0.0.1 20.0.0.2 --hand-over", "--hand-over does not belong to divert"),
        ("--key /nowhere/key list", "key file /nowhere/key: No such file or directory (os error 2)"),
    ] {
        assert_eq!(operator.says(words, 2), format!("byway ctl: {why}"));
    }
    let json = operator.says("--json limit many", 2);
    let why = "limit many: it must be a number";
    assert_eq!(json, format!("{{\"error\":\"{why}\"}}\nbyway ctl: {why}"));
    // Nobody is there; and nobody who knows the key.
    let start = std::time::Instant::now();
    let nobody = Operator { at: "127.0.0.1:9".into(), key: operator.key.clone() };
    assert!(nobody.says("--json list", 3).starts_with(r#"{"error":"no answer: "#));
    assert!(start.elapsed().as_secs() < 20);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let served = serve();
    let operator = Operator { at: served.at.to_string(), key: key_file("open.key", 1) };
    std::fs::set_permissions(&operator.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = operator.output("list");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("warning: others can read the key file"));
}

/// Behind every command, `--help` says what there is. The list of what a file for `apply` may hold is whole.
#[test]
fn help_is_said_behind_every_command() {
    let help = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_byway")).arg("ctl").args(words).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let usage = help(&["--help"]);
    assert!(usage.contains("one instruction a line: divert, redivert, restore, name, limit, timeouts or forget"));
    for command in
        ["divert", "redivert", "restore", "list", "names", "name", "connections", "counters", "events", "settings"]
    {
        assert_eq!(help(&[command, "--help"]), usage);
    }
    for command in ["limit", "timeouts", "forget", "apply", "pcap"] {
        assert_eq!(help(&[command, "--help"]), usage);
        assert_eq!(help(&[command, "-h"]), usage);
    }
}
