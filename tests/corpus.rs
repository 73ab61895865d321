//! Replays the fuzzers' corpora, and each input that ever made one fail, without libFuzzer.
//!
//! `fuzz/corpus/TARGET.bin` holds the minimised corpus of a target: a length of four bytes (network byte order) and so
//! many bytes, again and again. `cargo run --bin corpus -- pack` in `fuzz/` writes it.

use std::path::Path;
use std::{fs, panic};

use byway_testing::targets;

/// Runs a target on its whole corpus and on its regressions; panics with the name of what failed.
fn replay(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = Vec::new();
    let archive = fs::read(fuzz.join("corpus").join(format!("{target}.bin"))).expect("a corpus");
    for (number, input) in targets::archive::unpack(&archive).enumerate() {
        inputs.push((format!("{target} {number}"), input.to_vec()));
    }
    assert!(inputs.len() > 40, "{target}: a corpus of {} inputs is none", inputs.len());
    if let Ok(folder) = fs::read_dir(fuzz.join("regressions").join(target)) {
        for entry in folder {
            let path = entry.expect("a readable folder").path();
            inputs.push((path.display().to_string(), fs::read(&path).expect("a readable file")));
        }
    }
    for (name, input) in inputs {
        if panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{name} fails");
        }
    }
}

#[test]
fn translate() {
    replay("translate", targets::translate::run);
}

#[test]
fn operations() {
    replay("operations", targets::operations::run);
}

#[test]
fn handover() {
    replay("handover", targets::handover::run);
}

#[test]
fn records() {
    replay("records", targets::records::run);
}

#[cfg(feature = "control")]
#[test]
fn control_parsers() {
    replay("control_parsers", targets::control::parsers);
}

#[cfg(feature = "control")]
#[test]
fn control_answers() {
    replay("control_answers", targets::control::answers);
}

#[cfg(feature = "control")]
#[test]
fn control_session() {
    replay("control_session", targets::control::session);
}

#[cfg(feature = "naming")]
#[test]
fn names() {
    replay("names", targets::names::run);
}

#[cfg(feature = "naming")]
#[test]
fn relay() {
    replay("relay", targets::relay::run);
}
