//! The README's program and the crate documentation's share one loop. The latter's runs a connection through it, and checks
//! that a `Reset` is said to both ends.

/// From the loop's first line to the end of the function.
fn turn(text: &str) -> String {
    let start = text.find("/// One turn of the machine's loop").expect("the loop is there");
    let (function, _) = text[start..].split_once("\n}\n").expect("it ends");
    function.to_owned()
}

#[test]
fn the_readme_has_the_whole_loop_of_the_crate_documentation() {
    let readme = turn(include_str!("../README.md"));
    let source: String = include_str!("../src/lib.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    assert_eq!(readme, turn(&source));
    for call in ["translate(", "poll_at(", "poll(", "poll_transmit("] {
        assert!(readme.contains(&format!("byway.{call}")), "{call}");
    }
}
