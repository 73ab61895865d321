//! What is installed beside the program says what the program does.
use std::path::Path;
use std::process::Command;

fn byway(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_byway")).args(arguments).output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn dist(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_sample_configuration_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/byway.toml");
    let (code, said) = byway(&["check", file.to_str().unwrap()]);
    let lacks = said.strip_prefix(&format!("{}: good: 1 rules, 1 queues\n", file.display())).unwrap_or(&said);
    assert!(code == 0 && lacks.lines().all(|line| line.starts_with("not on this machine: state.snapshot: ")), "{said}");
}

/// The monitor's sample, as it is and with all that is commented out in it.
#[test]
fn the_sample_of_the_monitor_is_good() {
    let folder = std::env::temp_dir().join(format!("byway-monitor-dist-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("control.key"), format!("1 {}\n", "5a".repeat(32))).unwrap();
    std::fs::write(folder.join("countries.csv"), "192.0.2.0/24,de\n").unwrap();
    let sample = dist("monitor.toml");
    let field = |line: &&str| line.starts_with("# [") || (line.starts_with("# ") && line.contains(" = "));
    let whole: Vec<_> =
        sample.lines().map(|line| if field(&line) { line.trim_start_matches("# ") } else { line }).collect();
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitor.md")).unwrap();
    let shown = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    for (text, rules) in [(sample.clone(), 0), (whole.join("\n"), 2), (shown.into(), 4)] {
        let file = folder.join("monitor.toml");
        std::fs::write(&file, &text).unwrap();
        let (code, said) = byway(&["monitor", "check", file.to_str().unwrap()]);
        let good = format!("{}: good: 1 translators, 1 services, {rules} rules\n", file.display());
        assert!(code == 0 && said.contains(&good), "{said}\n{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// All that is commented out in it, and all that the guide shows.
#[test]
fn every_field_that_is_shown_is_one() {
    let folder = std::env::temp_dir().join(format!("byway-dist-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for key in ["control.key", "portion.key"] {
        std::fs::write(folder.join(key), format!("1 {}\n", "5a".repeat(32))).unwrap();
    }
    let sample = dist("byway.toml");
    let field = |line: &&str| line.starts_with("# [") || (line.starts_with("# ") && line.contains(" = "));
    let uncommented: Vec<_> =
        sample.lines().map(|line| if field(&line) { line.trim_start_matches("# ") } else { line }).collect();
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/host.md")).unwrap();
    let shown = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    // A hand-over needs both directions in one process, so no configuration has both of these.
    for (text, section) in [uncommented.join("\n"), shown.into()]
        .into_iter()
        .flat_map(|text| [(text.clone(), "resumable"), (text, "portion")])
    {
        let text = without(&text, section);
        let file = folder.join("byway.toml");
        std::fs::write(&file, &text).unwrap();
        let (code, said) = byway(&["check", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{said}\n{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// It may be meant for another one, so it is good.
#[test]
fn what_this_machine_lacks_is_said() {
    let folder = std::env::temp_dir().join(format!("byway-lacking-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("byway.toml");
    let text = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = \"10.10.10.10\"\n\
                [privileges]\nuser = \"nobody-like-this\"\n[state]\nsnapshot = \".\"\n";
    std::fs::write(&file, text).unwrap();
    let (code, said) = byway(&["check", file.to_str().unwrap()]);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{said}");
    assert!(
        lines[1].contains("not on this machine: privileges.user nobody-like-this: there is no such user"),
        "{said}"
    );
    assert!(lines[2].contains("not on this machine: snapshot ") && lines[2].ends_with("it is a folder"), "{said}");
    // Who is not root does not know what others may.
    if rustix::process::geteuid().is_root() {
        let user = text.replace("nobody-like-this", "nobody").replace("\".\"", "\"snapshot\"");
        std::fs::write(&file, user).unwrap();
        let (code, said) = byway(&["check", file.to_str().unwrap()]);
        let why = format!(
            "not on this machine: state.snapshot: the folder {}: Permission denied (os error 13)\n",
            folder.display()
        );
        assert!(code == 0 && said.ends_with(&why), "{said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What the guide says about two instances that take over from each other.
#[test]
fn the_unit_is_a_template() {
    let unit = dist("byway.service");
    for line in ["Restart=on-failure", "RuntimeDirectory=byway", "RuntimeDirectoryPreserve=yes", "NotifyAccess=main"] {
        assert!(unit.lines().any(|other| other == line), "{line}");
    }
    assert!(unit.contains(" --hand-over /run/byway/socket\n") && !unit.contains('%'), "{unit}");
}

/// A configuration without one of its sections.
fn without(text: &str, section: &str) -> String {
    let mut is_in = false;
    let of_others = text.lines().filter(|line| {
        if line.starts_with('[') {
            is_in = line.starts_with(&format!("[{section}]"));
        }
        !is_in
    });
    of_others.collect::<Vec<_>>().join("\n")
}

/// The options in a text.
fn options(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let mut all: Vec<_> = text.split(|c| !is_part(c)).filter(|word| word.starts_with("--") && word.len() > 3).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn every_option_is_completed_and_stands_in_the_manual() {
    let (completion, manual) = (dist("byway.bash"), dist("byway.8").replace("\\-", "-"));
    let (_, usage) = byway(&["--help"]);
    let (_, ctl) = byway(&["ctl", "--help"]);
    let (_, monitor) = byway(&["monitor", "--help"]);
    let (mut program, operator) = (options(&usage), options(&ctl));
    program.extend(options(&monitor));
    for command in ["log", "why", "show", "drain", "only", "pin", "restore", "release", "move", "undo"] {
        assert!(monitor.contains(command) && completion.contains(command) && manual.contains(command), "{command}");
    }
    assert!(program.len() > 8 && operator.len() > 12, "{program:?} {operator:?}");
    for option in program.iter().chain(&operator) {
        assert!(options(&completion).contains(option), "{option} is not completed");
    }
    for option in program {
        assert!(options(&manual).contains(&option), "{option} is not in the manual");
    }
    for command in ["divert", "redivert", "restore", "list", "connections", "counters", "events", "settings", "apply"] {
        assert!(ctl.contains(command) && completion.contains(command), "{command}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_a_code() {
    for (words, code, said) in [
        (&[][..], 2, "byway: a command is missing; --help shows them\n"),
        (&["jump"], 2, "byway: no such command: jump; --help shows them\n"),
        (&["check"], 2, "byway: check takes a file\n"),
        (&["check", "/nowhere"], 2, "byway: /nowhere: No such file or directory (os error 2)\n"),
        (&["lab", "--shel"], 2, "byway: lab takes --shell or nothing\n"),
        (&["run"], 2, "byway: --address is missing, or --config FILE\n"),
        (&["run", "--address", "10.9.9.9"], 2, "byway: --alternative is missing, or --config FILE\n"),
        (&["run", "--what"], 2, "byway: invalid option '--what'\n"),
        (
            &["run", "--log", "loud", "--config", "x"],
            2,
            "byway: cannot parse argument \"loud\": error parsing level: expected one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 1-5\n",
        ),
        (
            &["run", "--address", "10.9.9.9", "--alternative", "10.10.10.10", "--divert", "100.1.1.1"],
            2,
            "byway: --divert 100.1.1.1: it must be like \"100.100.100.100:80 to 20.0.0.1:80\"\n",
        ),
        (
            &["run", "--address", "10.9.9.9", "--alternative", "10.10.10.10", "--divert", "100.1.1.1=20.0.0.1:x"],
            2,
            "byway: (arguments):5:7: rule[1].to[1]: port \"x\": it must be a number from 0 to 65535\n",
        ),
    ] {
        assert_eq!(byway(words), (code, said.to_string()), "{words:?}");
    }
}
