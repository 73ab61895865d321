//! From the samples of all passes to the table and the JSON.

use core::fmt::Write as _;

use crate::cores::Scaling;
use crate::labels::{Call, Direction, Label, Limit, Measure};

/// The medians of one row.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: Label,
    pub(crate) connections: u32,
    pub(crate) nanoseconds: f64,
    /// The limit of the row, and the median of the ratios to it within one pass.
    pub(crate) against: Option<(Limit, f64)>,
}

/// The lines of rows that were measured side by side; `samples[row][pass]` are nanoseconds.
pub(crate) fn summarize(labels: &[Label], samples: &[Vec<f64>], connections: u32) -> Vec<Line> {
    let samples_of = |limit| labels.iter().position(|label| label.limit == Some(limit)).map(|row| &samples[row]);
    labels
        .iter()
        .zip(samples)
        .map(|(&label, times)| {
            let against = label.yardstick(connections).and_then(|limit| {
                let ratios = times.iter().zip(samples_of(limit)?);
                Some((limit, median(ratios.map(|(time, least)| time / least))))
            });
            Line { label, connections, nanoseconds: median(times.iter().copied()), against }
        })
        .collect()
}

/// The middle value; of an even number, the mean of the two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// A table for people.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:>11}  {:<8} {:<10} {:<7} {:<10} {:>10}  {:<6} {:>6} {:>8}\n",
        "connections", "protocol", "row", "call", "direction", "ns", "limit", "ratio", "at most"
    );
    for line in lines {
        let Label { measure, call, direction, protocol, limit } = line.label;
        let limit = limit.or(line.against.map(|(limit, _)| limit));
        let ratio = line.against.map(|(_, ratio)| format!("{ratio:.2}"));
        let at_most = measure.at_most(call, line.connections);
        let _ = writeln!(
            text,
            "{:>11}  {:<8} {:<10} {:<7} {:<10} {:>10.2}  {:<6} {:>6} {:>8}",
            line.connections,
            protocol.name(),
            measure.name(),
            call.map_or("", Call::name),
            direction.map_or("", Direction::name),
            line.nanoseconds,
            limit.map_or("", Limit::name),
            ratio.unwrap_or_default(),
            at_most.map(|ratio| format!("{ratio:.1}")).unwrap_or_default(),
        );
    }
    text
}

/// What `--cores` adds to the table.
pub(crate) fn scaling_table(scaling: &[Scaling]) -> String {
    let mut text = String::new();
    for line in scaling {
        let _ = writeln!(
            text,
            "{:>11}  {} cores: {:.2} ns a packet, {:.2} times the packets of one core ({})",
            line.connections,
            line.cores,
            line.nanoseconds,
            line.speedup,
            line.label.limit.map_or(line.label.measure.name(), Limit::name),
        );
    }
    text
}

/// An array of objects, one a line.
///
/// Only those of `--cores` have `cores` and `speedup`.
pub(crate) fn json(lines: &[Line], scaling: &[Scaling]) -> String {
    let one_core = lines.iter().map(|line| {
        let limit = line.label.limit.or(line.against.map(|(limit, _)| limit));
        let ratio = line.against.map(|(_, ratio)| ratio);
        let members = members(line.label, line.connections, line.nanoseconds, limit, ratio);
        format!("  {{{members}}}")
    });
    let more_cores = scaling.iter().map(|line| {
        let limit = line.label.limit;
        let members = members(line.label, line.connections, line.nanoseconds, limit, None);
        let speedup = number(Some(line.speedup));
        format!("  {{{members}, \"cores\": {}, \"speedup\": {speedup}}}", line.cores)
    });
    let objects: Vec<String> = one_core.chain(more_cores).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

fn members(label: Label, connections: u32, nanoseconds: f64, limit: Option<Limit>, ratio: Option<f64>) -> String {
    format!(
        "\"row\": {}, \"call\": {}, \"direction\": {}, \"protocol\": {}, \"connections\": {connections}, \
         \"nanoseconds\": {}, \"limit\": {}, \"ratio\": {}",
        string(Some(label.measure.name())),
        string(label.call.map(Call::name)),
        string(label.direction.map(Direction::name)),
        string(Some(label.protocol.name())),
        number(Some(nanoseconds)),
        string(limit.map(Limit::name)),
        number(ratio),
    )
}

/// The names need no escape.
fn string(text: Option<&str>) -> String {
    text.map_or_else(|| "null".into(), |text| format!("\"{text}\""))
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.3}"),
        _ => "null".into(),
    }
}

impl Measure {
    /// What the project demands of the ratio.
    fn at_most(self, _call: Option<Call>, _connections: u32) -> Option<f64> {
        match self {
            Self::Limit => None,
        }
    }
}
