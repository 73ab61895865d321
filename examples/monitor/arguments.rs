//! What the operator has typed.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ffi::OsString;
use std::net::ToSocketAddrs;
use std::path::PathBuf;

use byway::control::{Instruction, Rule};
use byway::{Divert, Match, Prefix, Protocol, Redivert, Target, Weighted};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Tells a translator what to divert where, and shows what it does.

  monitor --agent HOST:PORT --key FILE [OPTIONS] COMMAND

  divert ORIGINAL TARGET...    divert ORIGINAL to TARGET, or share it among several
      --protocol tcp|udp|icmp  only this protocol
      --clients NETWORK        only these clients
      --keep-source            leave the client's address as it is
      --any-port               answers from any port of the server belong to the client
  redivert FROM TO             move what stands on FROM to TO, in the middle of connections
      --drain                  only new connections; the others stay until they end
      --reset                  and end TCP connections on both sides
  restore ORIGINAL             remove the rule (with --protocol and --clients if it has them)
  list                         the rules
  connections [--watch]        the current connections, once or every second
  counters                     what has happened so far
  events [--seconds N]         what happens, as it happens
  settings                     time-outs, limits, and what the key may do
  limit N                      how many connections a client may have; 0 for no limit

  --only-if N     only if the table's generation is N
  --dry-run       only say what it would do
  --json          an object a line instead of words
  --count N       with --watch: end after N times

  ORIGINAL is ADDRESS[/LENGTH][:PORT]; FROM and TO are ADDRESS[:PORT]; TARGET is ADDRESS[:PORT], or `same` for the
  original itself, with *WEIGHT behind it in a group. FILE holds the key's number and 64 hexadecimal digits.

  Exit code: 0 done, 1 refused, 2 wrong arguments or key file, 3 no answer.
";

/// What to do.
pub(crate) enum Command {
    Change(Instruction),
    List,
    Connections { watch: bool, count: u64 },
    Counters,
    Events { seconds: u64 },
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
    protocol: Option<Protocol>,
    clients: Option<Prefix>,
    keep_source: bool,
    any_port: bool,
    how: Option<Redivert>,
    watch: bool,
    count: Option<u64>,
    seconds: Option<u64>,
    help: bool,
}

/// Reads the arguments, of which the first is the name of the program.
///
/// # Errors
/// Says in one line what is wrong.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parser = Parser::from_iter(arguments);
    let mut options = Options::default();
    let mut words: Vec<String> = Vec::new();
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        let error = |e: lexopt::Error| e.to_string();
        match argument {
            Arg::Value(word) => words.push(word.string().map_err(error)?),
            Arg::Long("agent") => options.agent = Some(text(&mut parser)?),
            Arg::Long("key") => options.key = Some(parser.value().map_err(error)?.into()),
            Arg::Long("json") => options.json = true,
            Arg::Long("dry-run") => options.dry_run = true,
            Arg::Long("only-if") => options.only_if = Some(number(&mut parser)?),
            Arg::Long("protocol") => options.protocol = Some(protocol(&text(&mut parser)?)?),
            Arg::Long("clients") => options.clients = Some(prefix(&text(&mut parser)?)?),
            Arg::Long("keep-source") => options.keep_source = true,
            Arg::Long("any-port") => options.any_port = true,
            Arg::Long("drain") => options.how = Some(Redivert::Drain),
            Arg::Long("reset") => options.how = Some(Redivert::Reset),
            Arg::Long("watch") => options.watch = true,
            Arg::Long("count") => options.count = Some(number(&mut parser)?),
            Arg::Long("seconds") => options.seconds = Some(number(&mut parser)?),
            Arg::Long("help") | Arg::Short('h') => options.help = true,
            other => return Err(error(other.unexpected())),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = if options.help { Command::Help } else { command(&words, &options)? };
    let help = matches!(command, Command::Help);
    let agent = match &options.agent {
        _ if help => ([127, 0, 0, 1], 0).into(),
        Some(agent) => {
            let mut found = agent.to_socket_addrs().map_err(|e| format!("--agent {agent}: {e}"))?;
            found.next().ok_or_else(|| format!("--agent {agent}: no such host"))?
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
    let matches = |original: &str| -> Result<Match, String> {
        let matches = original_of(original)?.clients(options.clients.unwrap_or(Prefix::ALL));
        Ok(options.protocol.map_or(matches, |p| matches.protocol(p)))
    };
    Ok(match *words {
        [] => return Err("a command is missing; --help shows them".into()),
        ["divert", original, ref targets @ ..] if !targets.is_empty() => {
            let group = targets.iter().map(|t| weighted(t)).collect::<Result<Vec<_>, _>>()?;
            let mut divert = Divert::new(matches(original)?).to_group(&group);
            if options.keep_source {
                divert = divert.keep_source();
            }
            if options.any_port {
                divert = divert.replies_from_any_port();
            }
            let rule = Rule::new(&divert).ok_or("a rule names at most 16 servers")?;
            Command::Change(Instruction::Divert(rule))
        }
        ["divert", ..] => return Err("divert takes ORIGINAL and TARGET".into()),
        ["redivert", from, to] => {
            let (from, to) = (target(from)?, target(to)?);
            Command::Change(Instruction::Redivert { from, to, how: options.how.unwrap_or(Redivert::Switch) })
        }
        ["redivert", ..] => return Err("redivert takes FROM and TO".into()),
        ["restore", original] => Command::Change(Instruction::Remove(matches(original)?)),
        ["restore", ..] => return Err("restore takes ORIGINAL".into()),
        ["limit", n] => Command::Change(Instruction::SetClientLimit(
            n.parse().map_err(|_| format!("limit {n}: it must be a number"))?,
        )),
        ["limit", ..] => return Err("limit takes a number".into()),
        ["list"] => Command::List,
        ["connections"] => Command::Connections { watch: options.watch, count: options.count.unwrap_or(u64::MAX) },
        ["counters"] => Command::Counters,
        ["events"] => Command::Events { seconds: options.seconds.unwrap_or(u64::MAX) },
        ["settings"] => Command::Settings,
        [known @ ("list" | "connections" | "counters" | "events" | "settings"), ..] => {
            return Err(format!("{known} takes no arguments"));
        }
        [unknown, ..] => return Err(format!("no such command: {unknown}; --help shows them")),
    })
}

fn text(parser: &mut Parser) -> Result<String, String> {
    parser.value().and_then(|value| value.string()).map_err(|e| e.to_string())
}

fn number<T: core::str::FromStr<Err: core::error::Error + Send + Sync + 'static>>(
    parser: &mut Parser,
) -> Result<T, String> {
    parser.value().and_then(|value| value.parse()).map_err(|e| e.to_string())
}

fn protocol(word: &str) -> Result<Protocol, String> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        _ => Err(format!("--protocol {word}: it must be tcp, udp or icmp")),
    }
}

fn prefix(word: &str) -> Result<Prefix, String> {
    let wrong = || format!("{word}: it must be ADDRESS or ADDRESS/LENGTH");
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let (address, length) = (address.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
    Prefix::new(address, length).ok_or_else(wrong)
}

fn original_of(word: &str) -> Result<Match, String> {
    let wrong = |_| format!("{word}: the port must be a number from 1 to 65535");
    match word.split_once(':') {
        None => Ok(prefix(word)?.into()),
        Some((network, port)) => Ok((prefix(network)?, port.parse::<u16>().map_err(wrong)?).into()),
    }
}

fn target(word: &str) -> Result<Target, String> {
    if word == "same" {
        return Ok(Target::Same);
    }
    let endpoint = word.parse::<SocketAddrV4>().map(Target::from);
    let address = || word.parse::<Ipv4Addr>().map(Target::from);
    endpoint.or_else(|_| address()).map_err(|_| format!("{word}: it must be ADDRESS or ADDRESS:PORT"))
}

fn weighted(word: &str) -> Result<Weighted, String> {
    let (name, weight) = word.split_once('*').unwrap_or((word, "1"));
    let weight = weight.parse().map_err(|_| format!("{word}: the weight must be a number from 0 to 65535"))?;
    Ok(Weighted::new(target(name)?, weight))
}
