//! `byway ctl`, the command line of a human operator: tells a translator what to divert where, over its control port.

mod arguments;
mod changes;
mod json;
mod link;
#[cfg(unix)]
mod pcap;
mod show;

use core::time::Duration;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Arguments, Command, USAGE};
use byway::Timeouts;
use byway::control::{Answer, Code, Effect, Instruction, Kinds, RefusedBy, Request};
use changes::{Change, Line};

use json::Json;
use link::{Link, LinkError};

/// How long a subscription is asked for; it is renewed at half of that.
const SUBSCRIPTION: u16 = 60;

/// Why it did not work.
enum Failure {
    Refused(RefusedBy),
    /// The same, with the line of the file that caused it.
    RefusedLine(RefusedBy, Option<usize>),
    Arguments(String),
    Link(LinkError),
    /// The reader of the output has gone, as `head` does.
    Unheard,
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// Says a line.
fn say(line: impl core::fmt::Display) -> Result<(), Failure> {
    said(writeln!(std::io::stdout().lock(), "{line}"))
}

fn said(written: std::io::Result<()>) -> Result<(), Failure> {
    let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    written.map_err(|e| if gone(&e) { Failure::Unheard } else { LinkError::Socket(e).into() })
}

/// Runs the command in the arguments after `ctl`.
#[must_use]
pub fn run(words: Vec<OsString>) -> ExitCode {
    #[cfg(unix)]
    if words.first().is_some_and(|word| word == "pcap") {
        return match pcap::run(words.into_iter().skip(1).collect()) {
            Ok(()) => ExitCode::SUCCESS,
            Err((code, text)) => {
                let _ = writeln!(std::io::stderr(), "byway ctl: {text}");
                ExitCode::from(code)
            }
        };
    }
    let json = words.iter().any(|word| word == "--json");
    let arguments = match arguments::read(words) {
        Ok(arguments) => arguments,
        Err(wrong) => return fail(Failure::Arguments(wrong), json),
    };
    if matches!(arguments.command, Command::Help) {
        let _ = write!(std::io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    match byway_key_file::read(&arguments.key).map_err(Failure::Arguments).and_then(|key| carry_out(&arguments, key)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(failure, arguments.json),
    }
}

fn fail(failure: Failure, json: bool) -> ExitCode {
    let error = |text: String| (Json::Object(vec![("error", text.clone().into())]), text);
    let refused = |why, line| (show::refusal_json(why, line), show::refusal(why, line));
    let (code, (object, text)) = match failure {
        Failure::Refused(why) | Failure::Link(LinkError::Refused(why)) => (1, refused(why, None)),
        Failure::RefusedLine(why, line) => (1, refused(why, line)),
        Failure::Arguments(wrong) => (2, error(wrong)),
        Failure::Link(LinkError::NoAnswer) => {
            (3, error("no answer: wrong address, wrong key, or the translator is not there".into()))
        }
        Failure::Link(LinkError::Socket(wrong)) => (3, error(wrong.to_string())),
        Failure::Unheard => return ExitCode::SUCCESS,
    };
    if json {
        let _ = writeln!(std::io::stdout(), "{object}");
    }
    let _ = writeln!(std::io::stderr(), "byway ctl: {text}");
    ExitCode::from(code)
}

fn carry_out(arguments: &Arguments, key: (u16, [u8; 32])) -> Result<(), Failure> {
    let mut link = Link::open(arguments.agent, key)?;
    let done = obey(&mut link, arguments);
    // Frees the session's place, also if something was refused.
    link.close();
    done
}

fn obey(link: &mut Link, arguments: &Arguments) -> Result<(), Failure> {
    let json = arguments.json;
    match &arguments.command {
        Command::Change(what) => change(link, arguments, what)?,
        Command::Apply(lines) => apply(link, arguments, lines)?,
        Command::List => list(link, arguments)?,
        Command::Names => names(link, arguments)?,
        Command::Connections { watch, count } => {
            each_second(*watch, *count, || connections(link, arguments, *watch))?;
        }
        Command::Counters { watch, count } => {
            let mut before: Option<Vec<(u16, u64)>> = None;
            each_second(*watch, *count, || {
                let now: Vec<_> = ask(link, arguments, Instruction::Counters, |a| a.counters().collect())?;
                if json || !*watch {
                    say(show::counters(&now, json))?;
                } else {
                    show_live(&show::rates(&now, before.as_ref().unwrap_or(&now)))?;
                }
                before = Some(now);
                Ok(())
            })?;
        }
        Command::Settings => {
            if let Some(settings) = ask(link, arguments, Instruction::Settings, |a| a.settings())? {
                say(show::settings(&settings, json))?;
            }
        }
        Command::Events { seconds } => events(link, arguments, *seconds)?,
        Command::Help => {}
    }
    Ok(())
}

/// Calls `show` once, or with `watch` `count` times, with a second in between.
fn each_second(watch: bool, count: u64, mut show: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let times = if watch { count } else { 1 };
    for time in 0..times {
        show()?;
        if time + 1 < times {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(())
}

/// Shows a text in the place of the one before, cut to the size of the terminal; without a terminal, below it.
fn show_live(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = match console::Term::stdout().size_checked() {
        Some((rows, columns)) => {
            // Cursor to the top left, and clear. The cursor needs a line too.
            let lines = text.lines().take(usize::from(rows).saturating_sub(1));
            let lines = lines.map(|line| line.chars().take(columns.into()).chain(['\n']).collect::<String>());
            write!(out, "\x1b[H\x1b[J{}", lines.collect::<String>())
        }
        None => writeln!(out, "{text}"),
    };
    said(written.and_then(|()| out.flush()))
}

/// Adds the conditions that all requests have in common.
fn conditions(arguments: &Arguments, request: Request) -> Request {
    let request = if arguments.dry_run { request.dry_run() } else { request };
    arguments.only_if.map_or(request, |generation| request.only_if(generation))
}

fn ask<R>(
    link: &mut Link,
    arguments: &Arguments,
    instruction: Instruction,
    read: impl Fn(&Answer<'_>) -> R,
) -> Result<R, Failure> {
    ask_all(link, conditions(arguments, Request::one(instruction)), read)?.map_err(Failure::Refused)
}

fn ask_all<R>(
    link: &mut Link,
    request: Request,
    read: impl Fn(&Answer<'_>) -> R,
) -> Result<Result<R, RefusedBy>, Failure> {
    Ok(link.ask(&request, |answer| answer.refused().map_or_else(|| Ok(read(answer)), Err))?)
}

/// The current time-outs, if they are needed for one of these changes.
fn timeouts<'a>(link: &mut Link, changes: impl IntoIterator<Item = &'a Change>) -> Result<Timeouts, Failure> {
    if !changes.into_iter().any(|change| matches!(change, Change::Timeouts(_))) {
        return Ok(Timeouts::RECOMMENDED);
    }
    let settings = ask_all(link, Request::one(Instruction::Settings), |a| a.settings())?.map_err(Failure::Refused)?;
    let unreadable = || Failure::Link(LinkError::Socket(std::io::Error::other("the settings cannot be read")));
    settings.map(|settings| settings.timeouts).ok_or_else(unreadable)
}

fn effects(answer: &Answer<'_>) -> (Vec<Effect>, u32) {
    (answer.effects().collect(), answer.generation())
}

fn change(link: &mut Link, arguments: &Arguments, change: &Change) -> Result<(), Failure> {
    let instruction = change.instruction(timeouts(link, [change])?);
    let (effects, generation) = ask(link, arguments, instruction, effects)?;
    for effect in effects {
        if arguments.json {
            let effect = show::effect_json(effect, None);
            say(done_json(generation, arguments, ("effect", effect)))?;
        } else {
            say(format_args!(
                "{}; generation {generation}",
                show::effect(effect, change.is_of_name(), arguments.dry_run)
            ))?;
        }
    }
    Ok(())
}

fn done_json(generation: u32, arguments: &Arguments, what: (&'static str, Json)) -> Json {
    let generation = u64::from(generation).into();
    Json::Object(vec![("generation", generation), ("dry_run", arguments.dry_run.into()), what])
}

/// Carries out several changes at once.
fn apply(link: &mut Link, arguments: &Arguments, lines: &[Line]) -> Result<(), Failure> {
    let now = timeouts(link, lines.iter().map(|line| &line.change))?;
    let mut request = Request::new();
    for Line { number, change } in lines {
        let too_long = |wrong| Failure::Arguments(format!("line {number}: {wrong}"));
        request = request.and(change.instruction(now)).map_err(too_long)?;
    }
    let (effects, generation) = ask_all(link, conditions(arguments, request), effects)?.map_err(|why| {
        // Some reasons are about the request as a whole.
        let whole = matches!(why.code, Some(Code::Generation | Code::InstructionCount));
        let line = lines.get(usize::from(why.instruction)).filter(|_| !whole);
        Failure::RefusedLine(why, line.map(|line| line.number))
    })?;
    let each = lines.iter().zip(effects);
    if arguments.json {
        let each = each.map(|(line, effect)| show::effect_json(effect, Some(line.number))).collect();
        return say(done_json(generation, arguments, ("effects", Json::List(each))));
    }
    for (line, effect) in each {
        let effect = show::effect(effect, line.change.is_of_name(), arguments.dry_run);
        say(format_args!("line {}: {effect}", line.number))?;
    }
    say(format_args!("generation {generation}"))
}

fn list(link: &mut Link, arguments: &Arguments) -> Result<(), Failure> {
    // The table may change between two pages; then the list begins anew, a few times.
    let mut attempt = 0;
    let (rules, generation) = 'again: loop {
        let (mut rules, mut position, mut seen) = (Vec::new(), Some(0), arguments.only_if);
        while let Some(first) = position {
            let request = Request::one(Instruction::ListRules(first));
            let request = seen.map_or(request, |generation| request.only_if(generation));
            let read = |answer: &Answer<'_>| match answer.refused() {
                Some(why) => Err(why),
                None => Ok((show::rules(answer), answer.generation())),
            };
            match link.ask(&request, read)? {
                Ok(((page, next), generation)) => {
                    rules.extend(page);
                    (position, seen) = (next, Some(generation));
                }
                Err(_) if attempt < 5 && arguments.only_if.is_none() && first != 0 => {
                    attempt += 1;
                    continue 'again;
                }
                Err(why) => return Err(Failure::Refused(why)),
            }
        }
        break (rules, seen.unwrap_or(0));
    };
    if arguments.json {
        let all = rules.iter().map(show::Rule::json).collect();
        let fields = vec![("generation", u64::from(generation).into()), ("rules", Json::List(all))];
        return say(Json::Object(fields));
    }
    for rule in &rules {
        say(rule.line())?;
    }
    say(format_args!("{} rules, generation {generation}; in brackets: connections", rules.len()))
}

fn names(link: &mut Link, arguments: &Arguments) -> Result<(), Failure> {
    let (mut all, mut sizes, mut position) = (Vec::new(), None, Some(0));
    while let Some(first) = position {
        let (page, told, next) = ask(link, arguments, Instruction::ListNames(first), show::names)?;
        all.extend(page);
        (sizes, position) = (told, next);
    }
    all.sort_by_cached_key(show::Name::order);
    let (entries, room) = sizes.map_or((0, 0), |sizes| (sizes.entries, sizes.capacity));
    if arguments.json {
        let list = Json::List(all.iter().map(show::Name::json).collect());
        return say(Json::Object(vec![("names", list), ("room", u64::from(room).into())]));
    }
    for name in &all {
        say(name.line())?;
    }
    say(format_args!("{entries} names, room for {room}"))
}

fn connections(link: &mut Link, arguments: &Arguments, watch: bool) -> Result<(), Failure> {
    let (mut all, mut position) = (Vec::new(), Some(0));
    while let Some(first) = position {
        let page = |answer: &Answer<'_>| {
            let (entries, next) = answer.connections();
            (entries.collect::<Vec<_>>(), next)
        };
        let (entries, next) = ask(link, arguments, Instruction::ListConnections(first), page)?;
        all.extend(entries);
        position = next;
    }
    if arguments.json {
        let list = Json::List(all.iter().map(show::connection_json).collect());
        return say(Json::Object(vec![("connections", list)]));
    }
    if watch && let Some((rows, _)) = console::Term::stdout().size_checked() {
        // The lines above and below the table, and the cursor, need room too.
        let table = show::connections(&mut all, usize::from(rows).saturating_sub(4));
        return show_live(&format!("{} connections\n{table}", all.len()));
    }
    let mut out = std::io::stdout().lock();
    said(write!(out, "{}", show::connections(&mut all, usize::MAX)).and_then(|()| out.flush()))
}

fn events(link: &mut Link, arguments: &Arguments, seconds: u64) -> Result<(), Failure> {
    let end = Instant::now().checked_add(Duration::from_secs(seconds));
    let (mut lost, mut heard) = (None, Ok(()));
    loop {
        let subscribe = Instruction::Subscribe { seconds: SUBSCRIPTION, kinds: Kinds::ALL };
        ask(link, arguments, subscribe, |_| ())?;
        let renew = Instant::now() + Duration::from_secs(u64::from(SUBSCRIPTION / 2));
        link.listen(end.map_or(renew, |end| end.min(renew)), |events| {
            let missing = lost.is_some_and(|before| before != events.lost) || events.missed != 0;
            lost = Some(events.lost);
            if missing {
                let _ = writeln!(std::io::stderr(), "byway ctl: some events were lost");
            }
            for event in &events.events {
                let line = if arguments.json { show::event_json(event).to_string() } else { show::event(event) };
                heard = say(line);
                if heard.is_err() {
                    return false;
                }
            }
            true
        })?;
        core::mem::replace(&mut heard, Ok(()))?;
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(());
        }
    }
}
