//! Tests that run again as root of namespaces of their own.

use std::process::Command;

/// Set where a test runs in namespaces of its own.
const INSIDE: &str = "BYWAY_IN_NAMESPACE";

/// Whether this is the run in namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs a test as root of a user and a network namespace of its own; `name` is the test's. Where the kernel refuses, it prints
/// why.
pub fn in_namespace(name: &str, test: impl FnOnce()) {
    if is_inside() { test() } else { run_inside(&[], name) }
}

/// Runs the test `name` of this program again, as root of a user and a network namespace and of what `options` of `unshare`
/// add. Where the kernel refuses, it prints why.
pub fn run_inside(options: &[&str], name: &str) {
    let unshare = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).args(options).args(words).env(INSIDE, "1").output()
    };
    match unshare(&["ip", "tuntap", "add", "dev", "probe", "mode", "tun"]) {
        Err(error) => return println!("SKIPPED: unshare: {error}"),
        Ok(output) if !output.status.success() => {
            return println!("SKIPPED: no TUN device: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(_) => {}
    }
    let program = std::env::current_exe().expect("this program has a name");
    let program = program.to_str().expect("its name is text");
    let output = unshare(&[program, name, "--exact", "--nocapture"]).expect("it ran a moment ago");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" 1 passed"), "no test is called {name}");
}
