//! Instructions that change something, in an operator's words: on the command line, or one a line in a file.

use core::time::Duration;

use byway::control::{Instruction, NamedEntry, Rule};
use byway::naming::{NameEntry, Pattern, WeightedAddress};
use byway::{
    Divert, DivertOptions, Match, Midstream, ParseError, Prefix, Protocol, Redivert, Target, Timeouts, Weighted,
};
use lexopt::{Arg, Parser, ValueExt};

use crate::units;

/// The commands that change something.
const COMMANDS: [&str; 7] = ["divert", "redivert", "restore", "limit", "timeouts", "forget", "name"];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there are as many as lines of a request")]
pub(crate) enum Change {
    Instruction(Instruction),
    /// Some time-outs; the current values of the others have to be asked for first.
    Timeouts(Vec<(Field, Duration)>),
}

/// A time-out, by its place in [`FIELDS`].
type Field = usize;

/// The names of the time-outs, in the order of their numbers in the protocol.
pub(crate) const FIELDS: [&str; 6] = ["tcp_established", "tcp_transitory", "udp", "icmp", "fragment", "hold"];

impl Change {
    /// Whether it is about a name, and not about a rule.
    pub(crate) const fn is_of_name(&self) -> bool {
        matches!(self, Self::Instruction(Instruction::Name(_) | Instruction::RemoveName { .. }))
    }

    /// The instruction. `now` are the current time-outs.
    pub(crate) fn instruction(&self, now: Timeouts) -> Instruction {
        match self {
            Self::Instruction(instruction) => *instruction,
            Self::Timeouts(changes) => {
                let mut all = now;
                for (field, value) in changes {
                    let place = match field {
                        0 => &mut all.tcp_established,
                        1 => &mut all.tcp_transitory,
                        2 => &mut all.udp,
                        3 => &mut all.icmp,
                        4 => &mut all.fragment,
                        _ => &mut all.hold,
                    };
                    *place = *value;
                }
                Instruction::SetTimeouts(all)
            }
        }
    }
}

/// The options of a change.
#[derive(Default)]
pub(crate) struct Options {
    protocol: Option<Protocol>,
    clients: Option<Prefix>,
    /// Of a rule.
    divert: DivertOptions,
    how: Option<Redivert>,
    ttl: Option<u32>,
    rule: Option<Match>,
    /// The names of all that were given, those of [`super::arguments`] too.
    given: Vec<String>,
}

/// What `redivert` does with connections, by option.
const HOW: [(&str, Redivert); 4] = [
    ("drain", Redivert::Drain),
    ("reset", Redivert::Reset),
    ("hand-over", Redivert::HandOver),
    ("hand-over-or-reset", Redivert::HandOverOrReset),
];

/// Whether a command takes an option.
fn belongs(option: &str, command: &str) -> bool {
    match option {
        "protocol" => matches!(command, "divert" | "restore"),
        "clients" => matches!(command, "divert" | "restore" | "name"),
        "ttl" | "rule" => command == "name",
        "keep-source" | "any-port" | "midstream" | "resumable" | "least-loaded" | "eject" => command == "divert",
        option if HOW.iter().any(|(name, _)| *name == option) => command == "redivert",
        "watch" | "count" => matches!(command, "connections" | "counters"),
        "seconds" => command == "events",
        "dry-run" => command == "apply" || COMMANDS.contains(&command),
        _ => true,
    }
}

impl Options {
    /// Notes that an option was given.
    pub(crate) fn note(&mut self, name: &str) {
        self.given.push(name.into());
    }

    /// Refuses options that the command would ignore.
    pub(crate) fn check(&self, command: &str) -> Result<(), String> {
        match self.given.iter().find(|option| !belongs(option, command)) {
            Some(option) => Err(format!("--{option} does not belong to {command}")),
            None => Ok(()),
        }
    }

    /// Takes an option if it is one of these; its value is the parser's next argument.
    pub(crate) fn take(&mut self, name: &str, parser: &mut Parser) -> Result<bool, String> {
        if let Some((_, how)) = HOW.iter().find(|(option, _)| *option == name) {
            let is_other = |given: &&String| *given != name && HOW.iter().any(|(option, _)| given == option);
            if let Some(other) = self.given.iter().find(is_other) {
                return Err(format!("--{other} and --{name} exclude each other"));
            }
            self.how = Some(*how);
            self.note(name);
            return Ok(true);
        }
        match name {
            "protocol" => self.protocol = Some(protocol(&text(parser)?)?),
            "clients" => self.clients = Some(prefix(&text(parser)?)?),
            "keep-source" => self.divert.keep_source = true,
            "any-port" => self.divert.any_port_replies = true,
            "midstream" => self.divert.midstream = Some(midstream(&text(parser)?)?),
            "resumable" => self.divert.resumable = true,
            "least-loaded" => self.divert.least_loaded = true,
            "eject" => self.divert.ejecting = true,
            "ttl" => self.ttl = Some(ttl(&text(parser)?)?),
            "rule" => self.rule = Some(rule(&text(parser)?)?),
            _ => return Ok(false),
        }
        self.note(name);
        Ok(true)
    }

    fn matches(&self, original: &str) -> Result<Match, String> {
        let matches = original_of(original)?.clients(self.clients.unwrap_or(Prefix::ALL));
        Ok(self.protocol.map_or(matches, |p| matches.protocol(p)))
    }
}

/// Reads a change; `None` if these words are another command.
pub(crate) fn read(words: &[&str], options: &Options) -> Result<Option<Change>, String> {
    Ok(Some(Change::Instruction(match *words {
        ["divert", original, ref targets @ ..] if !targets.is_empty() => {
            let group = targets.iter().map(|t| weighted(t)).collect::<Result<Vec<_>, _>>()?;
            let divert = Divert::new(options.matches(original)?).to_group(&group).with_options(options.divert);
            Instruction::Divert(Rule::new(&divert).ok_or("a rule names at most 16 servers")?)
        }
        ["divert", ..] => return Err("divert takes ORIGINAL and TARGET".into()),
        ["redivert", from, to] => {
            let (from, to) = (target(from)?, target(to)?);
            Instruction::Redivert { from, to, how: options.how.unwrap_or(Redivert::Switch) }
        }
        ["redivert", ..] => return Err("redivert takes FROM and TO".into()),
        ["restore", original] => Instruction::Remove(options.matches(original)?),
        ["restore", ..] => return Err("restore takes ORIGINAL".into()),
        ["name", "add", name, ref addresses @ ..] => {
            let (pattern, clients) = (pattern(name)?, options.clients.unwrap_or(Prefix::ALL));
            let ttl = options.ttl.unwrap_or(NameEntry::DEFAULT_TTL);
            Instruction::Name(match (options.rule, addresses) {
                (Some(rule), []) => NamedEntry::tied(pattern, rule).clients(clients).ttl(ttl),
                (None, [_, ..]) => {
                    let group = addresses.iter().map(|a| weighted_address(a)).collect::<Result<Vec<_>, _>>()?;
                    let entry = NameEntry::new(pattern).clients(clients).ttl(ttl).to_group(&group);
                    NamedEntry::new(&entry).ok_or("a name has at most 8 addresses")?
                }
                _ => return Err("name add takes NAME and either ADDRESS... or --rule RULE".into()),
            })
        }
        ["name", "remove", name] if options.rule.is_none() && options.ttl.is_none() => {
            Instruction::RemoveName { pattern: pattern(name)?, clients: options.clients.unwrap_or(Prefix::ALL) }
        }
        ["name", "remove", _] => return Err("name remove takes no option but --clients".into()),
        ["name", ..] => return Err("name takes add NAME ADDRESS..., or remove NAME".into()),
        ["limit", n] => Instruction::SetClientLimit(n.parse().map_err(|_| format!("limit {n}: it must be a number"))?),
        ["limit", ..] => return Err("limit takes a number".into()),
        ["timeouts", "recommended"] => Instruction::SetTimeouts(Timeouts::RECOMMENDED),
        ["timeouts", ref changes @ ..] if !changes.is_empty() => {
            let changes = changes.iter().map(|c| timeout(c)).collect::<Result<Vec<_>, _>>()?;
            return Ok(Some(Change::Timeouts(changes)));
        }
        ["timeouts", ..] => return Err("timeouts takes NAME=TIME, or recommended".into()),
        ["forget"] => Instruction::Forget,
        ["forget", ..] => return Err("forget takes nothing".into()),
        _ => return Ok(None),
    })))
}

/// A change that stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) change: Change,
}

/// Reads the lines of a transaction. A `#` begins a comment.
///
/// # Errors
/// Says in one line what is wrong, and in which line.
pub(crate) fn read_lines(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        if !line.trim().is_empty() {
            let change = read_line(line).map_err(|wrong| format!("line {number}: {wrong}"))?;
            lines.push(Line { number, change });
        }
    }
    if lines.is_empty() { Err("there is no instruction in it".into()) } else { Ok(lines) }
}

fn read_line(line: &str) -> Result<Change, String> {
    let mut parser = Parser::from_args(line.split_whitespace());
    let (mut options, mut words) = (Options::default(), Vec::new());
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Arg::Value(word) => words.push(word.string().map_err(|e| e.to_string())?),
            Arg::Long(name) => {
                let name = name.to_string();
                if !options.take(&name, &mut parser)? {
                    return Err(format!("--{name} does not belong behind an instruction"));
                }
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    options.check(words.first().unwrap_or(&""))?;
    read(&words, &options)?.ok_or_else(|| format!("{}: it must be one of {}", words.join(" "), COMMANDS.join(", ")))
}

fn text(parser: &mut Parser) -> Result<String, String> {
    parser.value().and_then(|value| value.string()).map_err(|e| e.to_string())
}

fn timeout(word: &str) -> Result<(Field, Duration), String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("{word}: it must be NAME=TIME"))?;
    let name = name.replace('-', "_");
    let field = FIELDS.iter().position(|field| *field == name);
    let field = field.ok_or_else(|| format!("{name}: it must be one of {}", FIELDS.join(", ")))?;
    let value = units::duration(value).ok_or_else(|| format!("{word}: the time must be like 2h4m, 300s or 500ms"))?;
    Ok((field, value))
}

fn protocol(word: &str) -> Result<Protocol, String> {
    word.parse().map_err(|e: ParseError| format!("--protocol {word}: it must be {}", e.expected()))
}

fn midstream(word: &str) -> Result<Midstream, String> {
    word.parse().map_err(|e: ParseError| format!("--midstream {word}: it must be {}", e.expected()))
}

fn prefix(word: &str) -> Result<Prefix, String> {
    word.parse().map_err(|_: ParseError| format!("{word}: it must be ADDRESS or ADDRESS/LENGTH"))
}

fn original_of(word: &str) -> Result<Match, String> {
    word.parse().map_err(|wrong: ParseError| match wrong.field() {
        "port" => format!("{word}: the port must be a number from 1 to 65535"),
        _ => format!("{word}: it must be ADDRESS or ADDRESS/LENGTH"),
    })
}

fn pattern(word: &str) -> Result<Pattern, String> {
    word.parse().map_err(|wrong: ParseError| format!("{word}: it must be {}", wrong.expected()))
}

fn weighted_address(word: &str) -> Result<WeightedAddress, String> {
    let (address, weight) = word.split_once('*').unwrap_or((word, "1"));
    let wrong = || format!("{word}: it must be ADDRESS or ADDRESS*WEIGHT");
    let (address, weight) = (address.parse().map_err(|_| wrong())?, weight.parse().map_err(|_| wrong())?);
    Ok(WeightedAddress { address, weight })
}

fn ttl(word: &str) -> Result<u32, String> {
    // Zero means that no answer is kept (RFC 1035, section 3.2.1).
    let time = units::duration_or_zero(word).filter(|time| time.subsec_nanos() == 0);
    let seconds = time.and_then(|time| u32::try_from(time.as_secs()).ok());
    seconds.ok_or_else(|| format!("--ttl {word}: it must be a time in whole seconds, like 30s or 1h"))
}

fn rule(word: &str) -> Result<Match, String> {
    word.parse().map_err(|wrong: ParseError| format!("--rule {word}: it must be {}", wrong.expected()))
}

fn target(word: &str) -> Result<Target, String> {
    word.parse().map_err(|_: ParseError| format!("{word}: it must be ADDRESS or ADDRESS:PORT"))
}

fn weighted(word: &str) -> Result<Weighted, String> {
    word.parse().map_err(|wrong: ParseError| match wrong.field() {
        "weight" => format!("{word}: the weight must be {}", wrong.expected()),
        _ => format!("{word}: it must be ADDRESS or ADDRESS:PORT"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_time_outs_change_and_the_others_stay() {
        let all = FIELDS.map(|name| format!("{name}=10m"));
        for (place, one) in all.iter().enumerate() {
            let change = read(&["timeouts", one], &Options::default()).unwrap().unwrap();
            let Instruction::SetTimeouts(t) = change.instruction(Timeouts::RECOMMENDED) else { panic!("{change:?}") };
            let r = Timeouts::RECOMMENDED;
            let both = [
                (t.tcp_established, r.tcp_established),
                (t.tcp_transitory, r.tcp_transitory),
                (t.udp, r.udp),
                (t.icmp, r.icmp),
                (t.fragment, r.fragment),
                (t.hold, r.hold),
            ];
            for (at, (new, old)) in both.into_iter().enumerate() {
                assert_eq!(new, if at == place { Duration::from_secs(600) } else { old }, "{one}");
            }
        }
    }

    #[test]
    fn a_ttl_is_whole_seconds_or_zero() {
        let given = ["0s", "30s", "1h", "1500ms", "", "30", "99999999999s"].map(|word| ttl(word).ok());
        assert_eq!(given, [Some(0), Some(30), Some(3600), None, None, None, None]);
    }

    #[test]
    fn lines_are_numbered_as_they_stand() {
        let text = "# move\n\nlimit 5\n  redivert 1.1.1.1 2.2.2.2 --reset # now\nrestore 3.3.3.3:80 --protocol udp\n";
        let lines = read_lines(text).unwrap();
        assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(lines[0].change, Change::Instruction(Instruction::SetClientLimit(5)));
        assert!(matches!(lines[1].change, Change::Instruction(Instruction::Redivert { how: Redivert::Reset, .. })));
    }
}
