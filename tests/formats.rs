//! `src/formats.rs` lists the public types, and the compiler checks there that each has `defmt::Format`. Here it is
//! checked that the list names all of them.

const LIST: &str = include_str!("../src/formats.rs");

/// The modules that are public; `slots` stands in the first.
const MODULES: [&str; 6] = [
    include_str!("../src/lib.rs"),
    include_str!("../src/control/mod.rs"),
    include_str!("../src/device/mod.rs"),
    include_str!("../src/monitor/mod.rs"),
    include_str!("../src/naming/mod.rs"),
    include_str!("../src/report/mod.rs"),
];

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The types that a module makes public: those that it shows from elsewhere, and those that it defines.
fn public_types(module: &str) -> Vec<&str> {
    let shown = module.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let shown = shown.flat_map(|names| names.split(['{', '}', ',']));
    // Of `a::Type` and of `Type as Name` the last word.
    let shown = shown.filter_map(|name| name.trim().rsplit(|c| !is_of_name(c)).next());
    let definitions = ["pub struct ", "pub enum "].into_iter().flat_map(|kind| module.split(kind).skip(1));
    let defined = definitions.filter_map(|rest| rest.split(|c| !is_of_name(c)).next());
    let is_type = |name: &&str| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
    shown.chain(defined).filter(is_type).collect()
}

#[test]
fn every_public_type_is_in_the_list() {
    let listed: Vec<&str> =
        LIST.split("has_format::<").skip(1).filter_map(|rest| rest.split(['<', '>']).next()).collect();
    let listed: Vec<&str> = listed.iter().filter_map(|path| path.rsplit("::").next()).collect();
    assert_eq!(MODULES[0].matches("pub mod ").count(), MODULES.len(), "a public module is not read here");
    let public: Vec<&str> = MODULES.iter().flat_map(|module| public_types(module)).collect();
    assert!(public.len() > 60 && public.contains(&"Translator") && public.contains(&"TooLong"), "{public:?}");
    for name in public {
        // A trait has no values to show.
        assert!(
            matches!(
                name,
                "Mover" | "NameStorage" | "NameTable" | "RelayStorage" | "Storage" | "Resumption" | "Translators"
            ) || listed.contains(&name),
            "{name} is not in src/formats.rs"
        );
    }
}
