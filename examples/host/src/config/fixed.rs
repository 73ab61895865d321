//! What cannot change while the program runs.

use super::document::{Fault, Table};

/// A field that cannot change while the program runs.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    name: String,
    /// As it is written, for errors.
    text: String,
    /// What it says, however it is written: this is compared.
    value: String,
    place: Fault,
}

/// All such fields of a document with this text.
pub(super) fn all(root: &Table<'_>, text: &str) -> Vec<Fixed> {
    let mut fixed = Vec::new();
    for (name, section) in root.each() {
        if name == "resumable" {
            // There is room for hand-overs if it is there, whatever it says.
            let (name, text) = (name.into(), "there".to_owned());
            fixed.push(Fixed { name, value: text.clone(), text, place: section.fault("") });
        }
        section.leaves(text, &mut |leaf, said| {
            if !may_change(leaf.field()) {
                let (name, text, value) = (leaf.field().into(), said.into(), leaf.canonical());
                fixed.push(Fixed { name, text, value, place: leaf.fault("") });
            }
        });
    }
    fixed
}

/// The first field in which they differ.
pub(super) fn difference(old: &[Fixed], new: &[Fixed]) -> Option<Fault> {
    let find = |fields: &[Fixed], name: &str| fields.iter().position(|field| field.name == name);
    for field in new {
        let before = find(old, &field.name).and_then(|place| old.get(place));
        if before.is_none_or(|before| before.value != field.value) {
            let before = before.map_or_else(|| "it was not there".into(), |before| format!("it was {}", before.text));
            let problem = format!("it cannot change while byway runs ({before}): restart byway");
            return Some(Fault { problem, ..field.place.clone() });
        }
    }
    let gone = old.iter().find(|field| find(new, &field.name).is_none())?;
    let problem = format!("it cannot go away while byway runs (it was {}): restart byway", gone.text);
    Some(Fault { span: 0..0, field: gone.name.clone(), problem })
}

/// Whether a reload may change a field.
fn may_change(field: &str) -> bool {
    let within = ["rule[", "groups.", "timeouts.", "control.key[", "names.entry["];
    // A list without tables is a value of its own.
    let alone = ["rule", "names.entry", "nat.client_limit", "report.interval", "report.templates", "report.nat_events"];
    alone.contains(&field) || within.iter().any(|start| field.starts_with(start))
}
