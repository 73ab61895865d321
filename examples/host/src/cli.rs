//! The command line.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};
use tracing::Level;

use crate::config::{Answer, Config};
use crate::{ctl, lab, monitor, privileges, run, snapshot};

const USAGE: &str = "\
Moves clients' traffic from the server they asked for to another one, even in mid-connection.

  byway run --config FILE      translate what is routed to a TUN device
  byway check FILE             say what is wrong with a configuration, and change nothing
  byway lab [--shell]          see it work: a client, a proxy and two mirrors, without root; or a shell in the client
  byway monitor ...            change how connections are shared, by what is measured; see byway monitor --help
  byway ctl ...                tell a running byway what to divert where; see byway ctl --help

  Without a file, to try it out:
  byway run --address ADDRESS --alternative RANGE --divert RULE... [--control ADDRESS:PORT --key FILE]
      --address ADDRESS        what its own ICMP messages come from
      --alternative RANGE      what servers see instead of clients: FIRST[-LAST][:LOW-HIGH]
      --divert RULE            like \"100.100.100.100:80 to 20.0.0.1:80\"
      --control ADDRESS:PORT   where instructions come to, and --key FILE with their key

  --hand-over SOCKET
                  take over from the byway that listens there, without losing a packet; then listen there
  --log LEVEL     error, warn, info (default), debug or trace
  --log-json      an object a line

  SIGTERM ends it, with a snapshot where the configuration names one; SIGHUP reads the configuration anew.
  Exit code: 0 done, 1 it did not work, 2 wrong arguments or configuration.
";

/// Why the program fails: wrong arguments, or an error while it carries them out.
enum Failure {
    Asked(String),
    Done(String),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let command = words.first().and_then(|word| word.to_str()).unwrap_or_default().to_string();
    let rest = words.get(1..).unwrap_or_default().to_vec();
    let done = match command.as_str() {
        "ctl" => return ctl::run(rest),
        "run" => run(rest),
        "check" => check(rest),
        "monitor" => monitor::main(rest, log).map_err(|(code, text)| {
            if code == 2 { Failure::Asked(text) } else { Failure::Done(text) }
        }),
        "lab" => match lab(&rest) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        "--help" | "-h" | "help" => say(USAGE),
        "--version" | "-V" => say(concat!("byway ", env!("CARGO_PKG_VERSION"), "\n")),
        "" => Err(Failure::Asked("a command is missing; --help shows them".into())),
        other => Err(Failure::Asked(format!("no such command: {other}; --help shows them"))),
    };
    let (code, text) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Asked(text)) => (2, text),
        Err(Failure::Done(text)) => (1, text),
    };
    let _ = writeln!(std::io::stderr(), "byway: {text}");
    ExitCode::from(code)
}

fn say(text: &str) -> Result<(), Failure> {
    // The reader may close the pipe before the end.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn check(words: Vec<OsString>) -> Result<(), Failure> {
    let [file] = &words[..] else {
        return Err(Failure::Asked("check takes a file".into()));
    };
    if file == "--help" {
        return say(USAGE);
    }
    let config = Config::read(Path::new(file)).map_err(|error| Failure::Asked(error.to_string()))?;
    let pooled = config.names.as_ref().map_or(0, |names| names.pooled.len());
    let config = config.draw(None).map_err(|error| Failure::Asked(error.to_string()))?;
    let queues = config.device.queues;
    let mut text = format!("{}: good: {} rules, {queues} queues\n", config.file().display(), config.rules.len());
    // Entries whose originals were drawn come last.
    let entries = config.entries();
    for entry in &entries[entries.len().saturating_sub(pooled)..] {
        if let Answer::Rule(rule) = entry.answer {
            text += &format!("{}: {rule} unless it has an original already\n", entry.pattern);
        }
    }
    // The file may be meant for another machine.
    let user = config.privileges.user.as_deref().map_or(Ok(()), |name| privileges::user(name).map(drop));
    let snapshot = config.snapshot.as_deref().map_or(Ok(()), snapshot::check_file);
    // Only root can find out what another user may.
    let is_known = config.privileges.user.is_none() || rustix::process::geteuid().is_root();
    let folder = if user.is_ok() && is_known { privileges::check(&config) } else { Ok(()) };
    for missing in [user, snapshot, folder].into_iter().filter_map(Result::err) {
        text += &format!("not on this machine: {missing}\n");
    }
    say(&text)
}

fn lab(words: &[OsString]) -> Result<ExitCode, Failure> {
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let shell = match words[..] {
        [] => false,
        ["--shell"] => true,
        ["--help"] => return say(USAGE).map(|()| ExitCode::SUCCESS),
        _ => return Err(Failure::Asked("lab takes --shell or nothing".into())),
    };
    lab::run(shell).map_err(|text| Failure::Done(format!("lab: {text}")))
}

#[derive(Default, PartialEq)]
struct TryOut {
    address: Option<String>,
    alternatives: Vec<String>,
    diverts: Vec<String>,
    control: Option<String>,
    key: Option<PathBuf>,
}

fn run(words: Vec<OsString>) -> Result<(), Failure> {
    let wrong = |error: lexopt::Error| Failure::Asked(error.to_string());
    let mut parser = Parser::from_args(words);
    let (mut file, mut hand_over, mut tried, mut level, mut json) = (None, None, TryOut::default(), Level::INFO, false);
    while let Some(argument) = parser.next().map_err(wrong)? {
        let text = |parser: &mut Parser| parser.value().and_then(|value| value.string()).map_err(wrong);
        match argument {
            Arg::Long("config") => file = Some(PathBuf::from(parser.value().map_err(wrong)?)),
            Arg::Long("hand-over") => hand_over = Some(PathBuf::from(parser.value().map_err(wrong)?)),
            Arg::Long("address") => tried.address = Some(text(&mut parser)?),
            Arg::Long("alternative") => tried.alternatives.push(text(&mut parser)?),
            Arg::Long("divert") => tried.diverts.push(text(&mut parser)?),
            Arg::Long("control") => tried.control = Some(text(&mut parser)?),
            Arg::Long("key") => tried.key = Some(parser.value().map_err(wrong)?.into()),
            Arg::Long("log") => level = parser.value().and_then(|value| value.parse()).map_err(wrong)?,
            Arg::Long("log-json") => json = true,
            Arg::Long("help") | Arg::Short('h') => return say(USAGE),
            other => return Err(wrong(other.unexpected())),
        }
    }
    let read = match &file {
        Some(_) if !tried.is_empty() => {
            return Err(Failure::Asked("--config FILE says everything: of the other arguments only --hand-over, --log and --log-json go with it".into()));
        }
        Some(file) => Config::read(file),
        None => Config::parse(Path::new("(arguments)"), tried.text()?),
    };
    let config = read.map_err(|error| Failure::Asked(error.to_string()))?;
    log(level, json);
    run::run(config, file.as_deref(), hand_over.as_deref()).map_err(Failure::Done)
}

impl TryOut {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The text of the configuration file that is equivalent to these arguments.
    fn text(&self) -> Result<String, Failure> {
        let missing = |what: &str| Failure::Asked(format!("{what} is missing, or --config FILE"));
        let address = self.address.as_ref().ok_or_else(|| missing("--address"))?;
        if self.alternatives.is_empty() {
            return Err(missing("--alternative"));
        }
        let quoted = |text: &str| format!("{text:?}");
        let alternatives: Vec<_> = self.alternatives.iter().map(|text| quoted(text)).collect();
        let mut text = format!("router.address = {}\nnat.alternatives = [{}]\n", quoted(address), alternatives.join(", "));
        for divert in &self.diverts {
            let (matches, to) = divert.split_once(" to ").or_else(|| divert.split_once('=')).ok_or_else(|| {
                Failure::Asked(format!("--divert {divert}: it must be like \"100.100.100.100:80 to 20.0.0.1:80\""))
            })?;
            let servers: Vec<_> = to.split(',').map(|server| quoted(server.trim())).collect();
            text += &format!("[[rule]]\ndivert = {}\nto = [{}]\n", quoted(matches), servers.join(", "));
        }
        match (&self.control, &self.key) {
            (None, None) => {}
            (Some(control), Some(key)) => {
                let key = key.to_string_lossy();
                text += &format!("[control]\nlisten = {}\nkey = [{{ file = {} }}]\n", quoted(control), quoted(&key));
            }
            _ => return Err(Failure::Asked("--control and --key belong together".into())),
        }
        Ok(text)
    }
}

fn log(level: Level, json: bool) {
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    if json { log.json().init() } else { log.with_ansi(false).init() }
}
