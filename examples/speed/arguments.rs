//! The command line.

use std::path::PathBuf;

use crate::labels::{Call, Direction, Limit, Measure, Protocol};
use crate::workload::MOST_FLOWS;

pub(crate) const HELP: &str = "\
Measures the limits of this machine and byway beside them, over the same packets.

usage: speed [--flows N,N,...] [--pass N] [--json] [--cores N]
       speed --rules [--json]
       speed --captures FOLDER [--pass N] [--json]
       speed --row ROW [--protocol P] [--call C] [--direction D] [--flows N] [--chunks N]

  --flows N,N,...   numbers of connections [1,1000,100000,1000000]
  --pass N          passes; the report shows the medians [5]
  --json            an array of objects instead of a table
  --cores N         instead, bursts on N threads with a shard each, against one of them alone

  --rules           instead, what rules, groups and start-up cost, and the longest single calls
  --captures FOLDER instead, the packets of real traffic, such as those of tests/captures

  --row ROW         run one row alone, for a tool that counts instructions under `timed_chunk`;
                    prints how many packets went through it
  --protocol P      udp or tcp [udp]
  --call C          single, burst, export, import or import_burst [any]
  --direction D     to_server or to_client [any]
  --chunks N        chunks of 256 packets [20]
";

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) flows: Vec<u32>,
    pub(crate) passes: u32,
    pub(crate) json: bool,
    pub(crate) cores: u32,
    pub(crate) rules: bool,
    pub(crate) captures: Option<PathBuf>,
    pub(crate) count: Option<Count>,
}

/// One row, to be counted.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) row: RowName,
    pub(crate) protocol: Protocol,
    pub(crate) call: Option<Call>,
    pub(crate) direction: Option<Direction>,
    pub(crate) chunks: u32,
}

/// A row of byway, or one of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowName {
    Measure(Measure),
    Limit(Limit),
}

/// `None`: help was asked for.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut arguments = Arguments {
        flows: vec![1, 1_000, 100_000, 1_000_000],
        passes: 5,
        json: false,
        cores: 1,
        rules: false,
        captures: None,
        count: None,
    };
    let mut flows_given = false;
    let mut row = None;
    let mut of_count = None;
    let (mut protocol, mut call, mut direction, mut chunks) = (Protocol::Udp, None, None, 20);
    let mut words = words;
    while let Some(word) = words.next() {
        let option = word.as_str();
        let mut value = || words.next().ok_or_else(|| format!("{option}: a value is missing"));
        match option {
            "--help" | "-h" => return Ok(None),
            "--json" => arguments.json = true,
            "--rules" => arguments.rules = true,
            "--captures" => arguments.captures = Some(value()?.into()),
            "--flows" => {
                arguments.flows = value()?
                    .split(',')
                    .map(|number| parse_number(option, number, MOST_FLOWS))
                    .collect::<Result<_, _>>()?;
                flows_given = true;
            }
            "--pass" => arguments.passes = parse_number(option, &value()?, 1_000)?,
            "--cores" => arguments.cores = parse_number(option, &value()?, 256)?,
            "--row" => row = Some(parse_row(&value()?)?),
            "--protocol" => {
                protocol = choose(option, &value()?, &[Protocol::Udp, Protocol::Tcp], |p| p.name())?;
                of_count = Some("--protocol");
            }
            "--call" => {
                call = Some(choose(option, &value()?, Call::ALL, |c| c.name())?);
                of_count = Some("--call");
            }
            "--direction" => {
                let all = [Direction::ToServer, Direction::ToClient];
                direction = Some(choose(option, &value()?, &all, |d| d.name())?);
                of_count = Some("--direction");
            }
            "--chunks" => {
                chunks = parse_number(option, &value()?, 1_000_000)?;
                of_count = Some("--chunks");
            }
            _ => return Err(format!("{option}: no such option; --help lists them")),
        }
    }
    if let Some(row) = row {
        arguments.count = Some(Count { row, protocol, call, direction, chunks });
        if !flows_given {
            arguments.flows = vec![1_000];
        }
        if arguments.flows.len() != 1 {
            return Err("--flows: --row takes one number".into());
        }
    } else if let Some(option) = of_count {
        return Err(format!("{option}: only together with --row"));
    }
    Ok(Some(arguments))
}

fn parse_number(option: &str, text: &str, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{option}: {text:?} is no number from 1 to {most}")),
    }
}

fn parse_row(text: &str) -> Result<RowName, String> {
    let measures = Measure::ALL.iter().copied().map(RowName::Measure);
    let limits = Limit::ALL.iter().copied().map(RowName::Limit);
    let all: Vec<RowName> = measures.chain(limits).collect();
    choose("--row", text, &all, |row| match row {
        RowName::Measure(measure) => measure.name(),
        RowName::Limit(limit) => limit.name(),
    })
}

fn choose<T: Copy>(option: &str, text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|&one| name(one) == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&one| name(one)).collect();
        format!("{option}: {text:?} is none of {}", names.join(", "))
    })
}
