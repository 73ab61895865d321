//! The README shows the lines of the documentation of `far`, which are a test.

/// The first program in a text, without the lines that rustdoc hides.
fn program(text: &str, start: &str) -> String {
    let (_, rest) = text.split_once(start).expect("it begins");
    let (program, _) = rest.split_once("\n```").expect("it ends");
    program.lines().filter(|line| !line.starts_with("# ")).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn the_readme_has_the_lines_of_the_documentation() {
    let source: String = include_str!("../src/far/mod.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let (_, readme) = include_str!("../../../README.md").split_once("## In your own proxy").expect("it is there");
    let shown = program(readme, "```rust,ignore\n");
    assert_eq!(shown, program(&source, "```\n"));
    assert!(shown.lines().count() <= 32, "{shown}");
}
