//! The house keeps its layers: each file imports from its own layer or from one below, and no files import each other in a
//! circle. What only tests import does not count.

use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The layers, the lowest first, each with the modules in it. A module that is not named belongs to the first layer.
const LAYERS: [(&str, &[&str]); 7] = [
    ("ideas", &[]),
    ("wire", &["wire"]),
    ("settings", &["config", "divert", "measurements"]),
    ("track", &["track"]),
    ("table", &["table"]),
    ("translator", &["translator"]),
    ("around it", &["control", "naming", "monitor", "report", "device", "sharding", "sharded", "formats"]),
];

/// The files of the library by module, such as `table::index`, and the modules that each of them imports from.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, "", &mut sources);
    let modules: BTreeSet<String> = sources.keys().cloned().collect();
    sources
        .into_iter()
        .map(|(module, source)| {
            let used = paths(&module, &source).into_iter().filter_map(|path| deepest(&modules, &path));
            let used = used.filter(|other| *other != module).collect();
            (module, used)
        })
        .collect()
}

/// Reads the files of a folder, without what is for tests and without comments.
fn read(folder: &Path, module: &str, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = if module.is_empty() { name.clone() } else { format!("{module}::{name}") };
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            read(&path, &inner, sources);
        } else if name != "lib" && name != "consistency" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let code = code.split("#[cfg(all(test").next().unwrap_or_default();
            let code: Vec<_> = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
            sources.insert(if name == "mod" { module.to_owned() } else { inner }, code.join("\n"));
        }
    }
}

/// All paths that begin at the crate, in a file's code: `use` with braces, and paths in the middle of code.
fn paths(module: &str, code: &str) -> Vec<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let code = code.replace("super::", &format!("crate::{parent}::")).replace("crate::::", "crate::");
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        expand(rest, "", &mut found);
    }
    found
}

/// Takes a path apart at its braces. Returns how much of the text it was.
fn expand(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    if !text[end..].starts_with('{') {
        found.push(path.trim_end_matches("::").to_owned());
        return end;
    }
    let mut at = end + 1;
    loop {
        at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
        if text[at..].starts_with('}') || at >= text.len() {
            return at + 1;
        }
        let taken = expand(&text[at..], &path, found);
        at += taken.max(1);
    }
}

/// The file that a path leads into.
fn deepest(modules: &BTreeSet<String>, path: &str) -> Option<String> {
    let mut path = path;
    loop {
        if modules.contains(path) {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn layer(module: &str) -> usize {
    let top = module.split("::").next().unwrap_or_default();
    LAYERS.iter().position(|(_, modules)| modules.contains(&top)).unwrap_or(0)
}

#[test]
fn no_arrow_runs_up() {
    let upward: Vec<_> = imports()
        .iter()
        .flat_map(|(module, used)| used.iter().map(move |other| (module.clone(), other.clone())))
        .filter(|(module, other)| layer(other) > layer(module))
        .map(|(module, other)| format!("{module} imports {other}, which is above it"))
        .collect();
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn no_arrows_run_in_a_circle() {
    let mut left = imports();
    // A folder's own file names what is in it.
    for (module, used) in &mut left {
        let inside = format!("{module}::");
        used.retain(|other| !other.starts_with(&inside));
    }
    loop {
        let free: Vec<_> = left.iter().filter(|(_, used)| used.is_empty()).map(|(module, _)| module.clone()).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|module, _| !free.contains(module));
        left.values_mut().for_each(|used| used.retain(|other| !free.contains(other)));
    }
    // What is only above a circle is not in it.
    loop {
        let used: BTreeSet<_> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|module, _| used.contains(module));
        if left.len() == before {
            break;
        }
    }
    let circles: Vec<_> = left.iter().map(|(module, used)| format!("{module} imports {used:?}")).collect();
    assert!(circles.is_empty(), "in a circle:\n{}", circles.join("\n"));
}

/// The picture in the docs is the one that the files make.
#[test]
fn the_picture_of_the_layers_is_true() {
    let mut picture = String::from("```text\n");
    let modules = imports();
    for (number, (name, _)) in LAYERS.iter().enumerate().rev() {
        let inside: BTreeSet<_> = modules.keys().filter(|m| layer(m) == number).collect();
        let folders: BTreeSet<_> = inside.iter().map(|m| m.rsplit_once("::").map_or(m.as_str(), |(f, _)| f)).collect();
        writeln!(picture, "{name}").unwrap();
        for folder in folders {
            let files = inside.iter().filter(|m| m.rsplit_once("::").is_some_and(|(f, _)| f == folder));
            let files: Vec<_> = files.filter_map(|m| m.rsplit_once("::")).map(|(_, file)| file).collect();
            if files.is_empty() && inside.iter().any(|m| m.starts_with(&format!("{folder}::"))) {
                continue;
            }
            writeln!(picture, "  {folder}{}{}", if files.is_empty() { "" } else { ": " }, files.join(" ")).unwrap();
        }
    }
    picture.push_str("```\n");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/layers.md")).unwrap_or_default();
    assert!(page.contains(&picture), "docs/layers.md should hold\n{picture}");
}
