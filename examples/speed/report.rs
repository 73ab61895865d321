//! From the samples of all passes to the table and the JSON.

use core::fmt::Write as _;

use crate::cores::Scaling;
use crate::demands::Demand;
use crate::labels::{Call, Direction, Label, Limit, Measure};

/// The medians of one row.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: Label,
    pub(crate) connections: u32,
    pub(crate) nanoseconds: f64,
    /// How far the passes lie apart, as a share of the median: of the ratio, or of the time where there is none.
    pub(crate) spread: f64,
    /// The limit of the row, and the median of the ratios to it within one pass.
    pub(crate) against: Option<(Limit, f64)>,
    pub(crate) beside: Option<Beside>,
}

/// How a row compares with the row of byway that it is held against as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) measure: Measure,
    /// The median of the ratios to it within one pass.
    pub(crate) times: f64,
    /// The median of the differences to it within one pass, in nanoseconds.
    pub(crate) more: f64,
}

/// The lines of rows that were measured side by side; `samples[row][pass]` are nanoseconds.
pub(crate) fn summarize(labels: &[Label], samples: &[Vec<f64>], connections: u32) -> Vec<Line> {
    let samples_of = |is_it: &dyn Fn(&Label) -> bool| Some(&samples[labels.iter().position(is_it)?]);
    labels
        .iter()
        .zip(samples)
        .map(|(&label, times)| {
            let limit = label.yardstick();
            let ratios = limit.and_then(|limit| {
                let pairs = times.iter().zip(samples_of(&|other| other.limit == Some(limit))?);
                Some(pairs.map(|(time, least)| time / least).collect::<Vec<f64>>())
            });
            let beside = label.beside().and_then(|beside| {
                let pairs = times.iter().zip(samples_of(&|other| *other == beside)?);
                Some(Beside {
                    measure: beside.measure,
                    times: median(pairs.clone().map(|(time, other)| time / other)),
                    more: median(pairs.map(|(time, other)| time - other)),
                })
            });
            Line {
                label,
                connections,
                nanoseconds: median(times.iter().copied()),
                spread: spread(ratios.as_deref().unwrap_or(times)),
                against: limit.zip(ratios.map(|ratios| median(ratios.into_iter()))),
                beside,
            }
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

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    (most - least) / median(values.iter().copied())
}

/// A table for people. What is over the project's demand has a `!` behind it.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:>11}  {:<8} {:<9} {:<6} {:<9} {:>10}  {:<5} {:>6} {:>6} {:>10} {:>12}\n",
        "connections", "protocol", "row", "call", "direction", "ns", "limit", "ratio", "spread", "beside", "at most"
    );
    for line in lines {
        let Label { measure, call, direction, protocol, limit } = line.label;
        let limit = limit.or(line.against.map(|(limit, _)| limit));
        let ratio = line.against.map(|(_, ratio)| format!("{ratio:.2}"));
        let beside = line.beside.map(|beside| format!("{:.2} {}", beside.times, beside.measure.name()));
        let row = format!(
            "{:>11}  {:<8} {:<9} {:<6} {:<9} {:>10.2}  {:<5} {:>6} {:>5.0}% {:>10} {:>12}",
            line.connections,
            protocol.name(),
            measure.name(),
            call.map_or("", Call::name),
            direction.map_or("", Direction::name),
            line.nanoseconds,
            limit.map_or("", Limit::name),
            ratio.unwrap_or_default(),
            line.spread * 100.0,
            beside.unwrap_or_default(),
            line.demand().map(|demand| shown(demand, line)).unwrap_or_default(),
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

fn shown(demand: Demand, line: &Line) -> String {
    let (most, unit) = demand.most();
    format!("{most}{unit}{}", if demand.is_met(line) { "" } else { " !" })
}

/// What `--cores` adds to the table.
pub(crate) fn scaling_table(scaling: &[Scaling]) -> String {
    let mut text = String::new();
    for line in scaling {
        let _ = writeln!(
            text,
            "{:>11}  {} cores: {:.2} ns a packet, {:.2} times the packets of one core (best pass {:.2}); \
             its owner: {:.2} ns",
            line.connections, line.cores, line.nanoseconds, line.speedup, line.best, line.owner,
        );
    }
    text
}

/// An array of objects, one a line.
///
/// Those of `--cores` have `cores`, `speedup` (the median of the passes, and the `best` of them) and `owner` (nanoseconds
/// to tell whose a packet is) instead of `spread`, and only those that are held against another row of byway have
/// `beside` and `times`.
pub(crate) fn json(lines: &[Line], scaling: &[Scaling]) -> String {
    let one_core = lines.iter().map(|line| {
        let limit = line.label.limit.or(line.against.map(|(limit, _)| limit));
        let ratio = line.against.map(|(_, ratio)| ratio);
        let members = members(line.label, line.connections, line.nanoseconds, limit, ratio);
        let beside = line.beside.map(|Beside { measure, times, more }| {
            let [times, more] = [times, more].map(|value| number(Some(value)));
            format!(", \"beside\": {}, \"times\": {times}, \"more\": {more}", string(Some(measure.name())))
        });
        let spread = number(Some(line.spread));
        let demand = line.demand().map(|demand| {
            let (most, unit) = demand.most();
            format!(", \"at_most\": \"{most}{unit}\", \"met\": {}", demand.is_met(line))
        });
        format!("  {{{members}, \"spread\": {spread}{}{}}}", beside.unwrap_or_default(), demand.unwrap_or_default())
    });
    let more_cores = scaling.iter().map(|line| {
        let limit = line.label.limit;
        let members = members(line.label, line.connections, line.nanoseconds, limit, None);
        let [speedup, best, owner] = [line.speedup, line.best, line.owner].map(|value| number(Some(value)));
        format!(
            "  {{{members}, \"cores\": {}, \"speedup\": {speedup}, \"best\": {best}, \"owner\": {owner}}}",
            line.cores
        )
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
