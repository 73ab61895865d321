//! The table of what rules cost.

use core::fmt::Write as _;

/// Rows in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    nanoseconds: f64,
    demand: Option<Demand>,
}

/// The most nanoseconds that are allowed, and why so many if that follows from another row.
#[derive(Debug)]
struct Demand {
    most: f64,
    because: String,
}

impl Table {
    pub(crate) fn row(&mut self, what: impl Into<String>, nanoseconds: f64) {
        self.0.push(Row { what: what.into(), nanoseconds, demand: None });
    }

    /// A row that must not take longer than `most` nanoseconds.
    pub(crate) fn within(&mut self, what: impl Into<String>, nanoseconds: f64, most: f64, because: impl Into<String>) {
        let demand = Some(Demand { most, because: because.into() });
        self.0.push(Row { what: what.into(), nanoseconds, demand });
    }

    /// For people. What takes longer than is allowed has a `!` behind it.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{:<72} {:>12}  at most\n", "rules", "ns");
        for Row { what, nanoseconds, demand } in &self.0 {
            let demand = demand.as_ref().map(|Demand { most, because }| {
                let over = if nanoseconds > most { " !" } else { "" };
                let because = if because.is_empty() { String::new() } else { format!(" ({because})") };
                format!("{most:.0}{because}{over}")
            });
            let _ = writeln!(
                text,
                "{}",
                format!("{what:<72} {nanoseconds:>12.1}  {}", demand.unwrap_or_default()).trim_end()
            );
        }
        text
    }

    /// An array of objects, one a line. No text in them needs an escape.
    pub(crate) fn json(&self) -> String {
        let objects: Vec<String> = self
            .0
            .iter()
            .map(|Row { what, nanoseconds, demand }| {
                let demand = demand.as_ref().map(|Demand { most, because }| {
                    format!(", \"at_most\": {most:.3}, \"because\": \"{because}\", \"met\": {}", nanoseconds <= most)
                });
                let demand = demand.unwrap_or_default();
                format!("  {{\"row\": \"rules\", \"what\": \"{what}\", \"nanoseconds\": {nanoseconds:.3}{demand}}}")
            })
            .collect();
        format!("[\n{}\n]\n", objects.join(",\n"))
    }
}
