//! What the operator has typed.

use core::net::SocketAddr;
use std::ffi::OsString;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use super::changes::{self, Change, Line};

pub(crate) const USAGE: &str = "\
Tells a translator what to divert where, and shows what it does.

  byway ctl --agent HOST:PORT --key FILE [OPTIONS] COMMAND

  divert ORIGINAL TARGET...    divert ORIGINAL to TARGET, or share it among several
      --protocol tcp|udp|icmp  only this protocol
      --clients NETWORK        only these clients
      --keep-source            leave the client's address as it is
      --any-port               answers from any port of the server belong to the client
      --resumable              its TCP connections can be handed over, see redivert
      --least-loaded           a new connection goes to the server with the fewest for its weight
      --eject                  servers that fail get no new connections until they are well again
      --midstream pass|adopt|drop
                               what becomes of TCP segments of connections that are not known
  redivert FROM TO             move what stands on FROM to TO, in the middle of connections
      --drain                  only new connections; the others stay until they end
      --reset                  and end TCP connections on both sides
      --hand-over              TCP connections of resumable rules change servers while their clients keep them; others
                               stay until they end
      --hand-over-or-reset     the same, and TCP connections that cannot are ended on both sides
  restore ORIGINAL             remove the rule (with --protocol and --clients if it has them)
  list                         the rules
  name add NAME ADDRESS[*WEIGHT]...
                               answer NAME, or *.NAME for all names below it, with ADDRESS, or share clients among several
      --rule RULE              instead of an address: the original of this rule, which stays while the name is tied to it
      --ttl TIME               how long clients may keep the answer: 30s unless said
      --clients NETWORK        only these clients
  name remove NAME             let the DNS server answer it (with --clients if it has them)
  names                        the names that are answered, and with what
  connections [--watch]        the current connections, once or every second
  counters [--watch]           what has happened so far, and every second how much of it in that second
  events [--seconds N]         what happens, as it happens
  settings                     time-outs, limits, and what the key may do
  limit N                      how many connections a client may have; 0 for no limit
  timeouts NAME=TIME...        how long connections live without a packet; the other time-outs stay
  timeouts recommended         all of them as the RFCs say
  forget                       end all connections; rules stay, and nobody is told
  apply FILE|-                 the instructions in FILE, or of standard input: all at once, or none

  byway ctl pcap --socket FILE [--seconds N] ORIGINAL [PROTOCOL] [from NETWORK] > FILE
                               what a rule is about, on both sides, with the verdict as a comment (pcapng)

  --only-if N     only if the table's generation is N
  --dry-run       only say what it would do
  --json          an object a line instead of words, also of what went wrong
  --count N       with --watch: end after N times

  ORIGINAL is ADDRESS[/LENGTH][:PORT]; FROM and TO are ADDRESS[:PORT]; TARGET is ADDRESS[:PORT], or `same` for the
  original itself, with *WEIGHT behind it in a group. The key FILE holds a number and 64 hexadecimal digits.

  NAME is tcp_established, tcp_transitory, udp, icmp, fragment or hold; TIME is like 2h4m, 300s or 500ms.

  A file for `apply` has one instruction a line: divert, redivert, restore, name, limit, timeouts or forget, as above and with
  the options that belong to them; what is behind a # is skipped. One transaction holds 16 instructions. With --dry-run it
  tells what they would do together, and with --only-if N the table has not changed since somebody looked:

    divert 100.1.1.1:80 20.0.0.9:80             # the new server for new clients
    redivert 20.0.0.1:80 20.0.0.9:80 --reset    # and for those who are there
    limit 500

  Exit code: 0 done, 1 refused, 2 wrong arguments or key file, 3 no answer.
";

/// What to do.
#[expect(clippy::large_enum_variant, reason = "there is one for each run of the program")]
pub(crate) enum Command {
    Change(Change),
    /// Several changes at once.
    Apply(Vec<Line>),
    List,
    Names,
    Connections {
        watch: bool,
        count: u64,
    },
    Counters {
        watch: bool,
        count: u64,
    },
    Events {
        seconds: u64,
    },
    Settings,
    Help,
}

pub(crate) struct Arguments {
    pub(crate) agent: SocketAddr,
    pub(crate) key: PathBuf,
    pub(crate) json: bool,
    pub(crate) dry_run: bool,
    pub(crate) only_if: Option<u32>,
    pub(crate) command: Command,
}

#[derive(Default)]
struct Options {
    agent: Option<String>,
    key: Option<PathBuf>,
    json: bool,
    dry_run: bool,
    only_if: Option<u32>,
    change: changes::Options,
    watch: bool,
    count: Option<u64>,
    seconds: Option<u64>,
    help: bool,
}

/// Reads the arguments, without the names of the program and of the command.
///
/// # Errors
/// Says in one line what is wrong.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parser = Parser::from_args(arguments);
    let mut options = Options::default();
    let mut words: Vec<String> = Vec::new();
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        let error = |e: lexopt::Error| e.to_string();
        if let Arg::Long(name @ ("dry-run" | "watch" | "count" | "seconds")) = argument {
            options.change.note(name);
        }
        match argument {
            Arg::Value(word) => words.push(word.string().map_err(error)?),
            Arg::Long("agent") => options.agent = Some(text(&mut parser)?),
            Arg::Long("key") => options.key = Some(parser.value().map_err(error)?.into()),
            Arg::Long("json") => options.json = true,
            Arg::Long("dry-run") => options.dry_run = true,
            Arg::Long("only-if") => options.only_if = Some(number(&mut parser)?),
            Arg::Long("watch") => options.watch = true,
            Arg::Long("count") => options.count = Some(number(&mut parser)?),
            Arg::Long("seconds") => options.seconds = Some(number(&mut parser)?),
            Arg::Long("help") | Arg::Short('h') => options.help = true,
            Arg::Long(name) => {
                let name = name.to_string();
                if !options.change.take(&name, &mut parser)? {
                    return Err(error(Arg::Long(&name).unexpected()));
                }
            }
            other => return Err(error(other.unexpected())),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = if options.help { Command::Help } else { command(&words, &options)? };
    let help = matches!(command, Command::Help);
    let agent = match &options.agent {
        _ if help => ([127, 0, 0, 1], 0).into(),
        Some(agent) => {
            let found: Vec<_> = agent.to_socket_addrs().map_err(|e| format!("--agent {agent}: {e}"))?.collect();
            // Translators use IPv4, but `localhost` is often an IPv6 address first.
            let best = found.iter().find(|at| at.is_ipv4()).or(found.first());
            *best.ok_or_else(|| format!("--agent {agent}: no such host"))?
        }
        None => return Err("--agent HOST:PORT is missing".into()),
    };
    let key = match options.key {
        None if !help => return Err("--key FILE is missing".into()),
        key => key.unwrap_or_default(),
    };
    let Options { json, dry_run, only_if, .. } = options;
    Ok(Arguments { agent, key, json, dry_run, only_if, command })
}

fn command(words: &[&str], options: &Options) -> Result<Command, String> {
    let words = if words == ["stats"] { &["counters"] } else { words };
    if let Some(change) = changes::read(words, &options.change)? {
        options.change.check(words[0])?;
        return Ok(Command::Change(change));
    }
    let command = command_of(words, options)?;
    options.change.check(words[0])?;
    Ok(command)
}

fn command_of(words: &[&str], options: &Options) -> Result<Command, String> {
    Ok(match *words {
        [] => return Err("a command is missing; --help shows them".into()),
        ["apply", file] => Command::Apply(lines(file)?),
        ["apply", ..] => return Err("apply takes a file, or - for standard input".into()),
        ["list"] => Command::List,
        ["names"] => Command::Names,
        ["connections" | "counters"] if options.count.is_some() && !options.watch => {
            return Err("--count belongs to --watch".into());
        }
        ["connections"] => Command::Connections { watch: options.watch, count: options.count.unwrap_or(u64::MAX) },
        ["counters"] => Command::Counters { watch: options.watch, count: options.count.unwrap_or(u64::MAX) },
        ["events"] => Command::Events { seconds: options.seconds.unwrap_or(u64::MAX) },
        ["settings"] => Command::Settings,
        [known @ ("list" | "names" | "connections" | "counters" | "events" | "settings"), ..] => {
            return Err(format!("{known} takes no arguments"));
        }
        [unknown, ..] => return Err(format!("no such command: {unknown}; --help shows them")),
    })
}

/// The instructions in a file.
fn lines(file: &str) -> Result<Vec<Line>, String> {
    // Far more than fits into one transaction.
    const MOST: u64 = 1 << 20;
    let text = match file {
        "-" => byway_key_file::text_of(std::io::stdin(), MOST),
        file => byway_key_file::text(Path::new(file), MOST),
    };
    let text = text.map_err(|e| format!("{file}: {e}"))?;
    changes::read_lines(&text).map_err(|wrong| format!("{file}: {wrong}"))
}

fn text(parser: &mut Parser) -> Result<String, String> {
    parser.value().and_then(|value| value.string()).map_err(|e| e.to_string())
}

fn number<T: core::str::FromStr<Err: core::error::Error + Send + Sync + 'static>>(
    parser: &mut Parser,
) -> Result<T, String> {
    parser.value().and_then(|value| value.parse()).map_err(|e| e.to_string())
}
