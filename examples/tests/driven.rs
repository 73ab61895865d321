//! Two programs and a real socket between them: one downloads, and the other says in the middle of it where from.

mod programs;

use core::time::Duration;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

use programs::key_file;

/// No line of a program is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A download that is under way. It is ended if the test is.
struct Download {
    program: Child,
    lines: Receiver<String>,
    at: String,
    key: PathBuf,
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Download {
    fn start(protocol: &str) -> Self {
        let key = key_file(&format!("driven-{protocol}.key"), 7, &[0x3c; 32]);
        let mut program = Command::new(program(&["byway-examples", "--example", "divert"]))
            .args(["--control", "127.0.0.1:0", "--protocol", protocol, "--seconds", "8", "--key"])
            .arg(&key)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let (told, lines) = channel();
        let out = BufReader::new(program.stdout.take().expect("it is piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let mut this = Self { program, lines, at: String::new(), key };
        let greeting = this.until("Waiting for instructions on ");
        let (_, at) = greeting.split_once(" on ").expect("it says where");
        this.at = at.split_once(". ").expect("a sentence ends").0.to_string();
        this.until("where nobody is");
        this.until("");
        this
    }

    /// Reads on to the line that has this in it.
    #[track_caller]
    fn until(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it never says: {part}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Nothing happens for a while.
    #[track_caller]
    fn nothing_changes(&self) {
        assert_eq!(self.lines.recv_timeout(Duration::from_millis(400)).ok(), None);
    }

    /// What the operator's program answers.
    #[track_caller]
    fn monitor(&self, words: &str) -> String {
        let mut command = Command::new(program(&["byway-host", "--bin", "byway"]));
        command.args(["ctl", "--agent", &self.at, "--key"]).arg(&self.key).args(words.split(' '));
        let output = command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("it is text");
        assert!(output.status.success(), "{words}: {}", text(output.stderr));
        text(output.stdout).trim_end().to_string()
    }

    /// The rest of what it says, once it has ended well.
    fn end(mut self) -> String {
        let rest: Vec<String> = core::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).collect();
        let rest = rest.join("\n");
        assert!(self.program.wait().expect("it was started").success(), "{rest}");
        rest
    }
}

/// A program; built by one test at a time.
fn program(program: &'static [&'static str]) -> PathBuf {
    static BUILT: Mutex<Vec<(&[&str], PathBuf)>> = Mutex::new(Vec::new());
    let mut all = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, path)) = all.iter().find(|(name, _)| *name == program) {
        return path.clone();
    }
    let path = byway_testing::programs::built(program);
    all.push((program, path.clone()));
    path
}

/// The number in the row of the table that has this name.
fn row(output: &str, name: &str) -> usize {
    let row = output.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let row = row.unwrap_or_else(|| panic!("no row {name} in:\n{output}"));
    row.replace(' ', "").parse().expect("a number")
}

/// Diverts a download from outside, moves it from outside, and looks who delivered what.
fn drive(protocol: &str, how: &str) {
    program(&["byway-host", "--bin", "byway"]);
    let download = Download::start(protocol);
    download.nothing_changes();
    assert_eq!(download.monitor("list"), "0 rules, generation 0; in brackets: connections");
    assert_eq!(download.monitor("divert 100.100.100.100:80 123.45.67.89:80"), "inserted; generation 1");
    download.until("instruction, generation 1: 100.100.100.100:80 -> 123.45.67.89:80");
    download.until("server A delivers");
    download.nothing_changes();
    let connections = download.monitor("connections");
    assert!(connections.contains(protocol) && connections.contains(" 123.45.67.89:80 "), "{connections}");
    let dry = download.monitor(&format!("--dry-run redivert 123.45.67.89:80 123.45.67.90:80{how}"));
    assert_eq!(dry, "would be re-diverted; rules' servers: 1, connections: 1; generation 1");
    download.nothing_changes();
    let moved = download.monitor(&format!("--only-if 1 redivert 123.45.67.89:80 123.45.67.90:80{how}"));
    assert_eq!(moved, "re-diverted; rules' servers: 1, connections: 1; generation 2");
    download.until("instruction, generation 2: 100.100.100.100:80 -> 123.45.67.90:80");
    download.until("server B delivers");

    let printed = download.end();
    assert!(!printed.contains("instruction") && !printed.contains(" delivers"), "{printed}");
    let delivered = ["A", "B"].map(|server| row(&printed, &format!("server {server} delivered")));
    assert!(delivered.iter().all(|bytes| *bytes > 100_000), "{printed}");
    assert_eq!(delivered.iter().sum::<usize>(), 2 << 20);
    assert!(row(&printed, "client saw packets of 100.100.100.100") > 1000, "{printed}");
    assert_eq!(printed.matches("of anybody else                                  0").count(), 2, "{printed}");
    assert!(printed.contains("  right\n"), "{printed}");
    assert!(printed.ends_with("\nAll of it came, from two servers, and the client saw one."), "{printed}");
}

#[test]
fn a_download_over_udp_is_moved_from_outside() {
    drive("udp", "");
}

#[test]
fn a_download_over_tcp_is_moved_from_outside() {
    drive("tcp", " --reset");
}
