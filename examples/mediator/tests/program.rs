//! The program as a newcomer meets it: what is wrong is said in one line that names it.

use std::path::PathBuf;
use std::process::Command;

/// What it says to these words, and whether it was content.
fn says(words: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_byway-mediator")).args(words).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let origin = ["--origin", "coap://192.0.2.1", "--listen", "127.0.0.1:0"];
    let cases: &[(&[&str], &[&str])] = &[
        (&["--listen", "127.0.0.1:0"], &["origins", "coap://HOST"]),
        (&["--listen", "8080"], &["--listen 8080"]),
        (&["--origin"], &["--origin"]),
        (&["--nonsense", "1"], &["--nonsense", "--help"]),
        (&["nonsense"], &["nonsense", "--help"]),
        (&["--origin", "http://192.0.2.1"], &["http://192.0.2.1", "coap://HOST"]),
        (&["--origin", "coap://[::1]"], &["coap://[::1]", "IPv4"]),
        (&["--origin", "coap://192.0.2.1", "--origin", "coap://192.0.2.2"], &["coap://192.0.2.2", "another one for /"]),
        (&["--host", "a:80"], &["host a:80", "without a port"]),
        (&["--divert", "nonsense"], &["divert nonsense"]),
        (&["--divert", "192.0.2.1:5683=127.0.0.1"], &["divert 192.0.2.1:5683=127.0.0.1", "198.18"]),
        (&["--block", "1000"], &["block 1000", "1024"]),
        (&["--nstart", "0"], &["nstart 0"]),
        (&["--connections", "0"], &["connections 0"]),
        (&["--ports", "0"], &["ports 0"]),
        (&["--control", "127.0.0.1:0"], &["control", "key"]),
        (&["--key", "none"], &["control"]),
        (&["--control", "127.0.0.1:0", "--key", "/none"], &["/none"]),
        (&["--alternative", "1.2.3.4"], &["alternative 1.2.3.4", "ADDRESS:LOW-HIGH"]),
        (&["--portion", "/tmp/none"], &["portion", "TUN"]),
        (&["--tun", "x"], &["tun x", "alternative"]),
        (&["--config", "/none"], &["/none"]),
        (&["--per-client", "0"], &["per-client 0"]),
        (&["--patience", "0"], &["patience 0"]),
        (&["--min-rate", "-1"], &["--min-rate -1"]),
        (&["--moves", "3"], &["--moves", "demo"]),
        (&["demo", "--mib", "0"], &["--mib 0", "1 to 512"]),
        (&["demo", "--mib", "513"], &["--mib 513", "1 to 512"]),
        (&["demo", "--moves", "513", "--mib", "1"], &["--moves 513", "512"]),
        (&["demo", "portion"], &["demo", "portion"]),
        (&["portion", "--nstart", "2"], &["--nstart", "portion"]),
    ];
    for (words, expected) in cases {
        let is_other = words.contains(&"demo") || words.contains(&"portion");
        let with_origin = !is_other && !words.contains(&"--origin") && words != &["--listen", "127.0.0.1:0"];
        let all: Vec<&str> = if with_origin { origin.iter().chain(*words).copied().collect() } else { words.to_vec() };
        let (is_content, said) = says(&all);
        assert!(!is_content, "{all:?}");
        assert_eq!(said.trim_end().lines().count(), 1, "{all:?}: {said}");
        assert!(expected.iter().all(|word| said.contains(word)), "{all:?}: {said}");
    }
    let (is_content, said) = says(&["--help"]);
    assert!(is_content && said.contains("--origin") && said.contains("--host"), "{said}");
}

/// What a newcomer types first says nothing that worries.
#[test]
fn the_demonstration_is_a_command() {
    let (is_content, said) = says(&["demo", "--mib", "1", "--moves", "20"]);
    assert!(is_content && said.contains("SHA-256 right") && !said.contains("warning"), "{said}");
}

/// What is given without its meaning anything is a mistake of whoever gives it.
#[test]
fn the_demonstration_takes_its_own_options_alone() {
    let (is_content, said) = says(&["demo", "--origin", "coap://192.0.2.1"]);
    assert!(!is_content && said.contains("--origin") && said.contains("demo"), "{said}");
}

/// Wherever the file is named, the command line counts more.
#[test]
fn a_file_does_not_undo_the_command_line() {
    let file: PathBuf = std::env::temp_dir().join(format!("byway-mediator-{}.toml", std::process::id()));
    std::fs::write(&file, "origins = [\"coap://192.0.2.1\"]\nlisten = [\"127.0.0.1:0\"]\nblock = 512\n").unwrap();
    let name = file.to_str().unwrap();
    for words in [["--block", "1000", "--config", name], ["--config", name, "--block", "1000"]] {
        let (is_content, said) = says(&words);
        assert!(!is_content && said.contains("block 1000"), "{words:?}: {said}");
    }
    std::fs::write(&file, "origins = [\"coap://192.0.2.1\"]\nnstart = -1\n").unwrap();
    let (_, said) = says(&["--config", name]);
    assert!(said.contains("line 2") && !said.contains("\n;"), "{said}");
    let (_, said) = says(&["--config", name, "--config", name]);
    assert!(said.contains("another one"), "{said}");
    std::fs::remove_file(&file).unwrap();
}
