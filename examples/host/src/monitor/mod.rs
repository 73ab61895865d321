//! `byway monitor`, the document's network monitor: it hears what translators measure, keeps a model of each service, and
//! sends instructions when the model beats the network. `docs/monitor.md` describes it.
//!
//! ```text
//!   run        the loop: reports in, decisions out; send: instructions, results: what comes of them; orders: operators'
//!              commands; reload: the configuration read anew
//!   service    what is thought of one service, and what follows from it
//!   beside     servers that several services have: whose requests are whose
//!   rules      what stands above the model: limits, maintenance, operators' pins; window: when
//!   link       the session with one translator; listed: its rules; lead: which of several monitors acts there
//!   loads      what servers report of themselves; scrape: asks for it; exposition: reads it
//!   journal    what was decided, why, and what came of it
//!   page       the page and its API; shared: what they show
//!   client     the same API for the command line
//! ```

mod beside;
pub mod client;
mod entries;
pub mod exposition;
pub mod journal;
pub mod lead;
pub mod link;
pub mod listed;
pub mod loads;
mod orders;
pub mod page;
mod reload;
mod results;
pub mod rules;
pub mod run;
pub mod scrape;
mod send;
pub mod service;
pub mod shared;
pub mod window;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use lexopt::{Arg, Parser, ValueExt};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::Level;

use crate::config::monitor::{Monitor, Overrides};
use crate::waker::Waker;
use journal::Journal;
use run::{Run, Wanted};
use shared::Shared;

/// What `--help` says.
pub const USAGE: &str = "\
The network monitor: hears what translators measure, and changes how they share connections among servers.

  byway monitor --config FILE [--page ADDRESS:PORT] [--dry-run] [--log LEVEL] [--log-json]
                          work until SIGTERM; SIGHUP reads the rules anew; --dry-run decides and sends nothing
  byway monitor check FILE
                          say what is wrong with a configuration

  What was decided, from the journal, whether a monitor runs or not:
  byway monitor log --config FILE
  byway monitor why NUMBER --config FILE

  What a running monitor with a page is asked (of several, the one that acts: `show` says which); with --dry-run the translators say what it would do:
  byway monitor show --config FILE
  byway monitor drain SERVICE SERVER      nothing new for a server
  byway monitor only SERVICE SERVER       everything new for a server
  byway monitor pin SERVICE SERVER SHARE  this share, in per cent, whatever the model says
  byway monitor restore SERVICE SERVER    the model decides about it again
  byway monitor release SERVICE           the model decides about all again
  byway monitor move SERVICE FROM TO [--how KIND]
                          drain a server and move its open connections: switch, reset, hand-over, hand-over-or-reset
  byway monitor undo NUMBER               take a decision back
      [--dry-run] --config FILE [--page ADDRESS:PORT]

  Exit code: 0 done, 1 it did not work, 2 wrong arguments or configuration.
";

/// What is wrong: the exit code, and a line.
pub type Failure = (u8, String);

#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    config: Option<PathBuf>,
    page: Option<String>,
    how: Option<String>,
    dry_run: bool,
    level: Option<Level>,
    log_json: bool,
    help: bool,
}

fn arguments(words: Vec<OsString>) -> Result<Arguments, lexopt::Error> {
    let mut parser = Parser::from_args(words);
    let mut read = Arguments::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(word) => read.words.push(word.string()?),
            Arg::Long("config") => read.config = Some(parser.value()?.into()),
            Arg::Long("page") => read.page = Some(parser.value()?.string()?),
            Arg::Long("how") => read.how = Some(parser.value()?.string()?),
            Arg::Long("dry-run") => read.dry_run = true,
            Arg::Long("log") => read.level = Some(parser.value()?.parse()?),
            Arg::Long("log-json") => read.log_json = true,
            Arg::Long("help") | Arg::Short('h') => read.help = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok(read)
}

/// Runs the command in the arguments after `monitor`.
///
/// # Errors
/// The exit code, and a line that says what is wrong.
pub fn main(words: Vec<OsString>, log: impl FnOnce(Level, bool)) -> Result<(), Failure> {
    let arguments = arguments(words).map_err(|error| (2, error.to_string()))?;
    if arguments.help {
        return say(USAGE);
    }
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    if let ["check", file] = words[..] {
        let config = Monitor::read(file.as_ref()).map_err(|error| (2, error.to_string()))?;
        let (services, rules) = (config.services.len(), config.rules.len());
        let each = config.rules.iter().filter(|rule| !rule.locations.is_empty());
        let each = each.map(|rule| format!("  rule \"{}\" (line {}): {} prefixes in {}\n", rule.name, rule.line, rule.clients(), rule.locations.join(", ")));
        let each: String = each.collect();
        return say(&format!("{file}: good: {} translators, {services} services, {rules} rules\n{each}", config.translators.len()));
    }
    let file = arguments.config.clone().ok_or((2, "--config FILE is missing; --help says more".to_string()))?;
    let page = arguments.page.as_ref();
    let page = page.map(|page| page.parse().map_err(|_| (2, format!("--page {page}: expected ADDRESS:PORT"))));
    let overrides = Overrides { page: page.transpose()?, dry_run: arguments.dry_run && words.is_empty() };
    let read = if words.is_empty() { Monitor::read(&file) } else { Monitor::read_for_command(&file) };
    let config = read.map_err(|error| (2, error.to_string()))?.with(overrides);
    match words[..] {
        [] => {
            log(arguments.level.unwrap_or(Level::INFO), arguments.log_json);
            work(file, config).map_err(|why| (1, why))
        }
        ["log"] => {
            let journal = read_journal(&config)?;
            let line = |entry: &Value| format!("{} {}: {}\n", entry["decision"], text(entry, "time"), text(entry, "text"));
            say(&journal.newest().map(line).collect::<String>())
        }
        ["why", number] => {
            let number = number.parse().map_err(|_| (2, format!("why {number}: expected the number of a decision")))?;
            let journal = read_journal(&config)?;
            let entry = journal.get(number).ok_or((1, format!("the journal has no decision {number}")))?;
            say(&journal::explain(entry))
        }
        ["show"] => say(&client::show(&client::get(&config)?)),
        _ => {
            let mut command = command(&words)?;
            command["dry_run"] = arguments.dry_run.into();
            if let Some(how) = arguments.how {
                command["how"] = how.into();
            }
            say(&client::told(&client::post(&config, &command)?))
        }
    }
}

/// The command that these words mean.
fn command(words: &[&str]) -> Result<Value, Failure> {
    match *words {
        [what @ ("drain" | "only" | "restore"), service, server] => {
            Ok(json!({ "do": what, "service": service, "server": server }))
        }
        ["release", service] => Ok(json!({ "do": "release", "service": service })),
        ["pin", service, server, share] => {
            let share: u8 = share.parse().map_err(|_| (2, format!("pin {share}: expected a share from 0 to 100")))?;
            Ok(json!({ "do": "pin", "service": service, "server": server, "share": share }))
        }
        ["move", service, from, to] => Ok(json!({ "do": "move", "service": service, "server": from, "to": to })),
        ["undo", number] => {
            let number: u64 = number.parse().map_err(|_| (2, format!("undo {number}: expected a number")))?;
            Ok(json!({ "do": "undo", "decision": number }))
        }
        _ => Err((2, format!("no such command: {}; --help shows them", words.join(" ")))),
    }
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_default()
}

fn read_journal(config: &Monitor) -> Result<Journal, Failure> {
    Journal::read(&config.journal).map_err(|error| (1, format!("{}: {error}", config.journal.display())))
}

fn say(text: &str) -> Result<(), Failure> {
    // The reader may close the pipe before the end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn work(file: PathBuf, config: Monitor) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let (wanted, received) = channel();
    let waker = Arc::new(Waker::new().map_err(failed)?);
    let shared = Arc::new(Shared::default());
    if let Some(at) = config.page {
        let listener = page::open(at)?;
        let token = page::token(&config.token)?;
        let at = listener.local_addr().map_err(failed)?;
        tracing::info!("the page is http://{at}/#TOKEN, with the token in {}", config.token.display());
        let (shared, wanted, waker) = (shared.clone(), wanted.clone(), waker.clone());
        page::serve(listener, page::Page { shared, wanted, waker, token, at })?;
    }
    let run = Run::new(file, config, shared, (wanted.clone(), waker.clone()))?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(failed)?;
    let signalled = move || {
        for signal in signals.forever() {
            let said = wanted.send(if signal == SIGHUP { Wanted::Reload } else { Wanted::Stop });
            waker.wake();
            if said.is_err() || signal != SIGHUP {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(signalled).map_err(failed)?;
    tracing::info!("the monitor works");
    run.run(&received).map_err(failed)
}
