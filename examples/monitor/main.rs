//! The network monitor's closed loop, in one process and in simulated time.
//!
//! `cargo run --release --example monitor [-- --seconds 60] [--seed 1] [--adverse] [--services] [--svg docs/monitor.svg]`

mod chart;
mod hearing;
mod joint;
mod offers;
mod packets;
mod servers;
mod several;
#[cfg(test)]
mod tests;
mod world;

use hearing::Hearing;
use world::{PHASES, Policy, run, summary};

const POLICIES: [(Policy, &str); 6] = [
    (Policy::Static, "static weights, nominal"),
    (Policy::LeastConnections, "least connections"),
    (Policy::Alone, "translator alone"),
    (Policy::Monitor, "byway's monitor"),
    (Policy::Loads, "byway's, with loads"),
    (Policy::Clairvoyant, "clairvoyant"),
];

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let (mut seconds, mut seed, mut svg, mut hearing, mut services) = (60.0, 1, None, Hearing::GOOD, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        use lexopt::prelude::*;
        match argument {
            Long("seconds") => seconds = arguments.value()?.parse()?,
            Long("seed") => seed = arguments.value()?.parse()?,
            // The monitor hears two translators badly: late, with losses, and with other clocks.
            Long("adverse") => hearing = Hearing::BAD,
            // Several services on the same servers instead.
            Long("services") => services = true,
            Long("svg") => svg = Some(arguments.value()?),
            _ => return Err(argument.unexpected().into()),
        }
    }
    if services {
        several::table(hearing);
        return Ok(());
    }
    println!("Six servers, six phases of {seconds} s, every request a TCP connection through a real translator.\n");
    let runs: Vec<_> = POLICIES.iter().map(|(policy, name)| (*name, run(*policy, seed, seconds, hearing))).collect();
    for (name, seen) in &runs {
        for decision in &seen.decisions {
            println!("{decision}.");
        }
        if !seen.decisions.is_empty() {
            let replayed = seen.decisions.iter().all(|decision| decision.can_be_replayed());
            println!("\n{name}: {} decisions, all can be replayed: {replayed}\n", seen.decisions.len());
        }
    }
    println!("p99 in ms / failed in %\n");
    print!("| |");
    PHASES.iter().for_each(|phase| print!(" {} |", phase.name));
    println!("\n| --- |{}", " ---: |".repeat(PHASES.len()));
    for (name, seen) in &runs {
        print!("| {name} |");
        for n in 0..PHASES.len() {
            let (p99, failed) = summary(seen, n as f64 * seconds, (n + 1) as f64 * seconds, 99.0);
            print!(" {p99:.0} / {failed:.2} |");
        }
        println!();
    }
    if let Some(path) = svg {
        std::fs::write(path, chart::draw(&runs, seconds))?;
    }
    Ok(())
}
