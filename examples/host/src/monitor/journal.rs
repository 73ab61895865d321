//! What was decided, why, and what became of it: one JSON object in a line, in a file that only grows.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde_json::{Value, json};

/// How many decisions are kept in memory.
const KEPT: usize = 1_000;

/// The decisions, and the file where they are stored.
#[derive(Debug)]
pub struct Journal {
    file: Option<File>,
    entries: BTreeMap<u64, Value>,
    /// What operators have set last, by service.
    pins: BTreeMap<String, Value>,
    next: u64,
    /// Lines that could not be read, and entries that could not be written.
    pub damaged: u64,
    /// See `damaged`.
    pub unwritten: u64,
    /// Whether the last line in the file has no end.
    is_cut: bool,
}

impl Journal {
    /// A journal without a file.
    #[must_use]
    pub const fn new() -> Self {
        Self { file: None, entries: BTreeMap::new(), pins: BTreeMap::new(), next: 1, damaged: 0, unwritten: 0, is_cut: false }
    }

    /// Reads what the file has, which may not be there yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut journal = Self::new();
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(journal),
            Err(error) => Err(error),
            Ok(file) => {
                let mut lines = BufReader::new(file);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line)? != 0 {
                    // The last line is cut short where the machine went down.
                    journal.is_cut = line.pop_if(|last| *last == b'\n').is_none();
                    match serde_json::from_slice::<Value>(&line) {
                        Ok(entry) => journal.take(entry),
                        // An empty line separates a line that was cut short from the next one.
                        Err(_) if line.is_empty() => {}
                        Err(_) => journal.damaged += 1,
                    }
                    line.clear();
                }
                Ok(journal)
            }
        }
    }

    /// Reads what the file has, and appends to it from now on.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut journal = Self::read(path)?;
        journal.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        Ok(journal)
    }

    fn take(&mut self, entry: Value) {
        if let Some(number) = entry["decision"].as_u64() {
            self.next = self.next.max(number.saturating_add(1));
            self.entries.insert(number, entry);
            while self.entries.len() > KEPT {
                self.entries.pop_first();
            }
        } else if let Some(number) = entry["outcome_of"].as_u64() {
            if let Some(Value::Object(fields)) = self.entries.get_mut(&number) {
                fields.insert("outcome".into(), entry["outcome"].clone());
            }
        } else if let Some(number) = entry["sent_of"].as_u64() {
            if let Some(Value::Object(fields)) = self.entries.get_mut(&number) {
                fields.insert("sent".into(), entry["sent"].clone());
            }
        } else if let Some(service) = entry["pins_of"].as_str() {
            self.pins.insert(service.into(), entry["pins"].clone());
        } else {
            self.damaged += 1;
        }
    }

    fn write(&mut self, entry: Value) {
        if let Some(file) = &mut self.file {
            // A line that was cut short must not swallow this one.
            let line = format!("{}{entry}\n", if self.is_cut { "\n" } else { "" });
            self.is_cut = file.write_all(line.as_bytes()).is_err();
            self.unwritten += u64::from(self.is_cut);
        }
        self.take(entry);
    }

    /// Stores a decision; returns its number.
    pub fn decide(&mut self, mut entry: Value) -> u64 {
        let number = self.next;
        if let Value::Object(fields) = &mut entry {
            fields.insert("decision".into(), number.into());
        }
        self.write(entry);
        number
    }

    /// Stores what has become of a decision.
    pub fn note_outcome(&mut self, number: u64, outcome: Value) {
        self.write(json!({ "outcome_of": number, "outcome": outcome }));
    }

    /// Stores what translators have answered to a decision.
    pub fn note_sent(&mut self, number: u64, results: &[String]) {
        self.write(json!({ "sent_of": number, "sent": results }));
    }

    /// Stores what operators have set for a service.
    pub fn note_pins(&mut self, service: &str, pins: Value) {
        self.write(json!({ "pins_of": service, "pins": pins }));
    }

    /// What operators have set for a service.
    #[must_use]
    pub fn pins(&self, service: &str) -> Option<&Value> {
        self.pins.get(service)
    }

    /// A decision.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Value> {
        self.entries.get(&number)
    }

    /// The newest decisions, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Value> {
        self.entries.values().rev()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// A decision in words: what was done, why, what was expected and what came of it, and what it was made from.
#[must_use]
pub fn explain(entry: &Value) -> String {
    let text = |field: &str| entry[field].as_str().unwrap_or_default();
    let mut said = format!("{} {}: {}\n", entry["decision"], text("time"), text("text"));
    if entry["dry_run"] == true {
        said += "  dry run: nothing was sent\n";
    }
    said += &format!("  because of: {}\n", text("cause"));
    for (name, field) in [("before", "before"), ("after", "after")] {
        let weights = entry[field].as_object().into_iter().flatten();
        let weights: Vec<_> = weights.map(|(server, weight)| format!("{server} {weight}")).collect();
        said += &format!("  weights {name}: {}\n", weights.join(", "));
    }
    for result in entry["sent"].as_array().into_iter().flatten() {
        said += &format!("  sent to: {}\n", result.as_str().unwrap_or_default());
    }
    match entry["promise"].as_f64() {
        Some(promise) if promise > 0.0 => {
            said += &format!("  promised: {promise:.2} s of waiting less in 10 s\n");
            said += &match entry["outcome"].as_object() {
                None => "  outcome: not known yet\n".to_string(),
                Some(outcome) => {
                    let number = |field: &str| outcome.get(field).and_then(Value::as_f64);
                    let time = |field: &str| number(field).unwrap_or_default() * 1e3;
                    let realised = match number("realised") {
                        Some(share) => format!("{:.0} % of what was promised", share * 100.0),
                        None => "not comparable, since something else has changed too".into(),
                    };
                    format!("  outcome: {:.1} ms instead of {:.1} ms: {realised}\n", time("after"), time("before"))
                }
            };
        }
        _ => {}
    }
    for input in entry["inputs"].as_array().into_iter().flatten() {
        let number = |field: &str| input[field].as_f64().unwrap_or_default();
        said += &format!(
            "  seen of {}: {} answered in {:.1} ms each, {} failed, {} wait; capacity thought to be {:.0} a second\n",
            input["server"].as_str().unwrap_or_default(),
            input["answered"],
            number("mean") * 1e3,
            input["failed"],
            input["waiting"],
            number("capacity")
        );
        if number("others") > 0.0 {
            let (others, part) = (number("others"), number("part") * 100.0);
            said += &format!("    {others:.0} requests a second there are of others, beside whom {part:.0} % of it are for this service\n");
        }
        let reported = |field: &str| input["reported"][field].as_f64();
        if let (Some(load), Some(age), Some(correction)) = (reported("load"), reported("age"), reported("correction")) {
            let (load, change) = (load * 100.0, (correction - 1.0) * 100.0);
            said += &format!("    it reported a load of {load:.0} % {age:.1} s before, which changed that by {change:+.0} %\n");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let path = std::env::temp_dir().join(format!("byway-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.decide(json!({ "text": "one", "promise": 2.0 })), 1);
        assert_eq!(journal.decide(json!({ "text": "two" })), 2);
        journal.note_outcome(1, json!({ "before": 0.020, "after": 0.010, "realised": 0.9 }));
        journal.note_pins("web", json!({ "drained": ["20.0.0.1"] }));
        drop(journal);
        // The last line is cut short.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"decision\": 3, \"te").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.damaged, journal.newest().count()), (1, 2));
        assert_eq!(journal.pins("web").unwrap()["drained"][0], "20.0.0.1");
        assert_eq!(journal.decide(json!({ "text": "three" })), 3);
        drop(journal);
        // The empty line between them is no damage, however often it is read.
        let journal = Journal::read(&path).unwrap();
        assert_eq!((journal.damaged, journal.newest().count()), (1, 3));
        assert_eq!(journal.get(3).unwrap()["text"], "three");
        // The last line is whole but for its end.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes.strip_suffix(b"\n").unwrap()).unwrap();
        let mut cut = Journal::open(&path).unwrap();
        assert_eq!(cut.decide(json!({ "text": "four" })), 4);
        drop(cut);
        let read = Journal::read(&path).unwrap();
        assert_eq!((read.damaged, read.newest().count()), (1, 4));
        let said = explain(journal.get(1).unwrap());
        assert!(said.contains("10.0 ms instead of 20.0 ms: 90 % of what was promised"), "{said}");
        std::fs::remove_file(&path).unwrap();
    }
}
