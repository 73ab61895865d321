//! Figure 5 as a user runs it.

use std::path::Path;
use std::process::Command;

#[test]
fn the_name_moves_and_every_client_with_it() {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let output = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["run", "--quiet", "--profile", profile, "--example", "names"])
        .output()
        .expect("cargo runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.ends_with("\nThe name moved, and every client with it.\n"), "{printed}");
    for line in [
        "client: www.bt.com is 100.100.100.100, by the naming server",
        "client: www.example.org is 198.51.100.80, by the DNS server",
        "client: 50 of 100 blocks have come",
        "monitor: www.bt.com goes to 123.45.67.90; 1 connection moves",
        "client: a new transfer by the cached address came from there too",
        "client: all 100 blocks are there, none lost and none wrong",
        "client: saw the address of no mirror",
    ] {
        assert!(printed.lines().any(|printed| printed.ends_with(line)), "no line {line:?} in:\n{printed}");
    }
    // The goal is a second; it takes a packet there and one back.
    let millis = printed.lines().find_map(|line| line.split_once("came from 123.45.67.90 in ")).expect("it came").1;
    let millis: u32 = millis.trim_end_matches(" ms").parse().expect("a number");
    assert!(millis <= 20, "{printed}");
}
