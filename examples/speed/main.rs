//! How far from the limit of this machine is a translation? Run it with `--help`.
//!
//! `workload` and `packet` say what is translated, `timed` how the time is taken, `limits` (with `tables` and `touch`)
//! what the machine could do, `baseline` what a ready-made hash table does, `byway`, `episodes` and `moves` (with
//! `subject`) what byway does, `names` what its naming server does, `rows` what is measured, `demands` what is demanded,
//! `report` what is printed; `rules` and `steps` are a table of their own, and
//! `captures` runs real traffic. All rows of one size take turns, so that a change of the clock's speed meets all of them.

mod arguments;
mod baseline;
mod byway;
mod captures;
mod cores;
mod demands;
mod episodes;
mod labels;
mod limits;
mod moves;
mod names;
mod packet;
mod prefetch;
mod report;
mod rows;
mod rules;
mod rules_report;
mod steps;
mod subject;
mod tables;
mod timed;
mod touch;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use crate::arguments::{Arguments, Count, RowName};
use crate::labels::{Measure, Protocol};
use crate::timed::{Effort, Row};

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return print(arguments::HELP),
        Err(error) => {
            eprintln!("speed: {error}");
            return ExitCode::from(2);
        }
    };
    let result = match &arguments.count {
        Some(count) => count_row(count, arguments.flows[0]),
        None => measure(&arguments).map(Some),
    };
    match result {
        Ok(Some(text)) => print(&text),
        Ok(None) => {
            eprintln!("speed: --row: there is none with this protocol, call and direction");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All rows at all sizes, or what rules cost, or what more cores bring.
fn measure(arguments: &Arguments) -> Result<String, String> {
    if let Some(folder) = &arguments.captures {
        let looped = captures::measure(folder, arguments.passes)?;
        return Ok(if arguments.json { looped.json() } else { looped.text() });
    }
    if arguments.rules {
        let table = rules::measure()?;
        return Ok(if arguments.json { table.json() } else { table.text() });
    }
    if arguments.cores > 1 {
        let scaling = cores::measure(arguments.cores, &arguments.flows, arguments.passes)?;
        return Ok(if arguments.json { report::json(&[], &scaling) } else { report::scaling_table(&scaling) });
    }
    let mut lines = Vec::new();
    for &connections in &arguments.flows {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            eprintln!("{connections} connections, {}", protocol.name());
            let mut rows = rows::all(connections, protocol, None)?;
            let labels: Vec<_> = rows.iter().map(|row| row.label()).collect();
            let mut samples = vec![Vec::new(); rows.len()];
            for _ in 0..arguments.passes {
                for (row, samples) in rows.iter_mut().zip(&mut samples) {
                    let timed = row.pass(Effort::USUAL)?;
                    samples.push(timed.nanoseconds_per_item);
                }
            }
            rows.iter().try_for_each(|row| row.finish())?;
            lines.extend(report::summarize(&labels, &samples, connections));
        }
    }
    Ok(if arguments.json { report::json(&lines, &[]) } else { report::table(&lines) })
}

/// One row alone, for a tool that counts; `None` if there is none like it.
fn count_row(count: &Count, connections: u32) -> Result<Option<String>, String> {
    let wanted = |row: &dyn Row| {
        let label = row.label();
        let name = match label.limit {
            Some(limit) => RowName::Limit(limit),
            None => RowName::Measure(label.measure),
        };
        name == count.row
            && (count.call.is_none() || count.call == label.call)
            && (count.direction.is_none() || count.direction == label.direction)
    };
    let only = match count.row {
        RowName::Measure(measure) => measure,
        RowName::Limit(_) => Measure::Limit,
    };
    let mut rows = rows::all(connections, count.protocol, Some(only))?.into_iter();
    let Some(mut row) = rows.find(|row| wanted(row.as_ref())) else {
        return Ok(None);
    };
    let timed = row.pass(Effort { warm_up: 0, chunks: count.chunks })?;
    row.finish()?;
    Ok(Some(format!("{}\n", timed.items)))
}

/// A reader that has gone away is no error.
fn print(text: &str) -> ExitCode {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    ExitCode::SUCCESS
}
