//! The README shows the lines of the documentation of `far`, which are a test; and the configuration in `docs/mediator.md` is
//! one.

use byway_mediator::settings::Settings;

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
    assert!(shown.lines().count() <= 30, "{shown}");
}

#[test]
fn the_configuration_in_the_documentation_is_one() {
    let (_, shown) = include_str!("../../../docs/mediator.md").split_once("```toml\n").expect("it is there");
    let (shown, _) = shown.split_once("```").expect("it ends");
    // Also with what is only mentioned.
    let all: String = shown
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    for text in [shown, &all] {
        let settings: Settings = toml::from_str(text).expect("each setting is known");
        let (origins, alternative) = (settings.origins().unwrap(), settings.alternative().unwrap());
        let translator = settings.translator(&alternative, &origins, [1; 32]).unwrap();
        assert_eq!(translator.diverts().count(), 2);
        assert!(settings.mediator(origins, [1; 32]).is_ok());
    }
    let settings: Settings = toml::from_str(&all).unwrap();
    assert!(settings.tun.is_some() && settings.portion.is_some() && settings.alternative.is_some());
}
