//! `byway-mediator`: see `--help`.

use core::fmt::Display;
use core::str::FromStr;
use core::sync::atomic::AtomicBool;
use std::path::PathBuf;
use std::process::ExitCode;

use byway_mediator::demo;
use byway_mediator::service::Service;
use byway_mediator::settings::{Settings, USAGE};
use lexopt::{Arg, Parser, ValueExt};

/// The longest body of the demonstration, in MiB.
const MOST_MIB: usize = 512;

enum Command {
    Help,
    Serve(Settings),
    Demo { moves: u32, mib: usize },
    Portion(Settings),
}

fn main() -> ExitCode {
    let result = arguments().map_err(|error| format!("{error}; --help lists the options")).and_then(run);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("byway-mediator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Command::Demo { moves, mib } => {
            let report = demo::run(mib << 20, moves, &mut std::io::stdout()).map_err(|error| error.to_string())?;
            if report.is_intact { Ok(()) } else { Err("the client did not get what the servers have".into()) }
        }
        Command::Serve(settings) => serve(&settings),
        Command::Portion(settings) => portion(&settings),
    }
}

fn serve(settings: &Settings) -> Result<(), String> {
    let mut service = Service::open(settings)?;
    for at in service.addresses().map_err(|error| error.to_string())? {
        println!("HTTP on {at}");
    }
    if let Some(at) = service.control_address() {
        println!("instructions on {at}");
    }
    for rule in service.mediator().translator().diverts() {
        let servers: Vec<_> = rule.servers().map(|(server, _)| server.to_string()).collect();
        println!("{} to {}", rule.matches(), servers.join(", "));
    }
    service.run(&AtomicBool::new(false)).map_err(|error| error.to_string())
}

#[cfg(target_os = "linux")]
fn portion(settings: &Settings) -> Result<(), String> {
    let mut portion = byway_mediator::portion::Portion::open(settings)?;
    portion.run(&AtomicBool::new(false)).map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn portion(_: &Settings) -> Result<(), String> {
    Err("portion: only on Linux".into())
}

/// The options that each command has, besides `--help`. The proxy has all others.
const OF_DEMO: [&str; 2] = ["moves", "mib"];
const OF_PORTION: [&str; 5] = ["config", "tun", "alternative", "portion", "counters"];

fn arguments() -> Result<Command, String> {
    let mut parser = Parser::from_env();
    let text = |error: lexopt::Error| error.to_string();
    // The file first, wherever it is named: what else is written on the command line counts more, or is added.
    let (mut file, mut options) = (None, Vec::new());
    let (mut command, mut moves, mut mib) = (None, 100, 8);
    while let Some(arg) = parser.next().map_err(text)? {
        let name = match arg {
            Arg::Short('h') => return Ok(Command::Help),
            Arg::Value(word) if command.is_none() && (word == "demo" || word == "portion") => {
                command = word.into_string().ok();
                continue;
            }
            Arg::Long(name) => name.to_owned(),
            other => {
                let before = command.map(|command| format!("{command}: ")).unwrap_or_default();
                return Err(format!("{before}{}", other.unexpected()));
            }
        };
        if name == "help" {
            return Ok(Command::Help);
        }
        let value = parser.value().and_then(|value| value.string()).map_err(|error| format!("--{name}: {error}"))?;
        match name.as_str() {
            "config" if file.is_some() => return Err(format!("--config {value}: there is another one")),
            "config" => file = Some(PathBuf::from(value.clone())),
            _ => {}
        }
        options.push((name, value));
    }
    let command = command.as_deref();
    for (name, value) in &options {
        let name = name.as_str();
        match command {
            Some("demo") if !OF_DEMO.contains(&name) => return Err(format!("--{name} {value}: not for demo")),
            Some("portion") if !OF_PORTION.contains(&name) => {
                return Err(format!("--{name} {value}: not for portion, which has no rules and no clients"));
            }
            None if OF_DEMO.contains(&name) => return Err(format!("--{name} {value}: only for demo")),
            _ => {}
        }
    }
    let mut settings = file.map_or_else(|| Ok(Settings::default()), |file| Settings::read(&file))?;
    for (name, value) in options {
        match name.as_str() {
            "listen" => settings.listen.push(read(&name, &value)?),
            "origin" => settings.origins.push(value),
            "host" => settings.hosts.push(value),
            "divert" => settings.diverts.push(value),
            "control" => settings.control = Some(read(&name, &value)?),
            "key" => settings.keys.push(value.into()),
            "alternative" => settings.alternative = Some(value),
            "bind" => settings.bind = read(&name, &value)?,
            "ports" => settings.ports = read(&name, &value)?,
            "tun" => settings.tun = Some(value),
            "portion" => settings.portion = Some(value.into()),
            "block" => settings.block = read(&name, &value)?,
            "nstart" => settings.nstart = read(&name, &value)?,
            "counters" => settings.counters = read(&name, &value)?,
            "connections" => settings.connections = read(&name, &value)?,
            "per-client" => settings.per_client = Some(read(&name, &value)?),
            "patience" => settings.patience = read(&name, &value)?,
            "min-rate" => settings.min_rate = read(&name, &value)?,
            "moves" => moves = read(&name, &value)?,
            "mib" => mib = read(&name, &value)?,
            "config" => {}
            _ => return Err(format!("--{name}: there is no such option")),
        }
    }
    Ok(match command {
        Some("demo") => {
            if !(1..=MOST_MIB).contains(&mib) {
                return Err(format!("--mib {mib}: expected 1 to {MOST_MIB}"));
            }
            // Two blocks for each.
            let most = mib as u32 * 512;
            if moves > most {
                return Err(format!("--moves {moves}: expected at most {most}, one for 2048 bytes"));
            }
            Command::Demo { moves, mib }
        }
        Some(_) => Command::Portion(settings),
        None => Command::Serve(settings),
    })
}

fn read<T: FromStr<Err: Display>>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("--{name} {value}: {error}"))
}
