//! TCP hand-over: a client's one connection moves from server to server, in the middle of a download and between requests.
//!
//! Everything happens in this process and in simulated time: a client and three web servers, each with a TCP stack of its
//! own (smoltcp), its own clock, window and sequence numbers, and the translator between them. The client checks every byte.
//! Witnesses on all sides fail the run if a segment arrives that one TCP could not have sent.
//!
//!     cargo run --release --example handover
//!     cargo run --release --example handover -- --pcap folder    # what each side saw, for Wireshark

mod arguments;
mod capture;

use core::time::Duration;
use std::process::ExitCode;

use byway::{AtRest, HttpGet, Kept, Outcome};
use sha2::{Digest, Sha256};

use byway_testing::moving::net::{Net, Plan, client, original, server};
use byway_testing::moving::web::{byte, length};
use capture::Captures;

/// The download, and then requests that each server answers in turn.
const FILM: &str = "/film/8000000";
const PAGES: [&str; 6] = ["/1/1000", "/2/2000", "/3/3000", "/4/4000", "/5/5000", "/6/6000"];
const QUIET: Duration = Duration::from_millis(150);

type World = Net<HttpGet<4>>;

fn main() -> ExitCode {
    let folder = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments::Asked::Run(folder)) => folder,
        Ok(arguments::Asked::Help) => {
            print!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("handover: {error} (--help shows what is possible)");
            return ExitCode::from(2);
        }
    };
    match run(folder.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: Option<&std::path::Path>) -> Result<(), String> {
    let captures = folder.map(Captures::create).transpose()?;
    let paths: Vec<_> = core::iter::once(FILM).chain(PAGES).collect();
    let mut net = World::new(Plan::new(1), HttpGet::new(AtRest::after(QUIET)), &paths);
    net.asking.bodies = Some(Vec::new());
    if let Some(captures) = &captures {
        net.tap = Some(captures.tap());
    }

    println!("The client {} asks {} for {FILM}.", client(), original());
    println!("It knows nothing of the servers: A {}, B {}, C {}.\n", server(0), server(1), server(2));
    net.connect();
    println!(
        "{:>9}  {:<6} {:>11} {:>9} {:>8} {:>8}  {:>11} {:>11}",
        "time", "move", "at byte", "gap", "replayed", "dropped", "numbers +", "clock +"
    );
    for (number, to) in [1, 2, 0, 1, 2].into_iter().enumerate() {
        let place = (number as u64 + 1) * 1_300_000;
        if !net.until(Duration::from_secs(60), |net| net.asking.received >= place) {
            return Err(format!("the download stands at byte {}", net.asking.received));
        }
        hand_over(&mut net, to)?;
    }
    if !net.until(Duration::from_secs(60), |net| net.asking.done >= 1) {
        return Err(format!("the download stands at byte {}", net.asking.received));
    }
    println!("\nThe download is complete. Now each page comes from another server:\n");
    for number in 1..=PAGES.len() as u64 {
        net.asking.paused = true;
        net.pass(2 * QUIET);
        let to = (net.stands_on().unwrap_or(0) + 1) % 3;
        hand_over(&mut net, to)?;
        net.asking.paused = false;
        if !net.until(Duration::from_secs(10), |net| net.asking.done > number) {
            return Err(format!("page {number} stands at byte {}", net.asking.received));
        }
    }
    net.tap = None;
    if let Some(captures) = captures {
        captures.finish()?;
    }
    conclude(&net)
}

/// Moves the connection, and says how.
fn hand_over(net: &mut World, to: usize) -> Result<(), String> {
    let from = net.stands_on().ok_or("the connection is gone")?;
    let at = net.asking.received;
    let mut begun = Err(Kept::NotNow);
    for _ in 0..500 {
        begun = net.hand_over(to);
        if !matches!(begun, Err(Kept::NotNow | Kept::Unacknowledged)) {
            break;
        }
        net.pass(Duration::from_millis(1));
    }
    begun.map_err(|why| format!("the connection stays: {why}"))?;
    net.outcomes.clear();
    net.until(Duration::from_secs(5), |net| !net.outcomes.is_empty());
    let name = |n: usize| ["A", "B", "C"].get(n).copied().unwrap_or("?");
    match net.outcome() {
        Some(Outcome::Moved { gap, replayed, dropped, offsets: (numbers, clock), .. }) => {
            let (time, gap) = (net.now as f64 / 1e6 - 1.0, gap.as_secs_f64() * 1e3);
            let way = format!("{} -> {}", name(from), name(to));
            println!(
                "{time:>7.3} s  {way:<6} {at:>11} {gap:>6.1} ms {replayed:>8} {dropped:>8}  {numbers:>11} {clock:>11}"
            );
            Ok(())
        }
        other => Err(format!("the connection was not moved: {other:?}")),
    }
}

/// Holds what the client got against what it should have got.
fn conclude(net: &World) -> Result<(), String> {
    let got = net.asking.bodies.as_deref().unwrap_or_default();
    let all = core::iter::once(FILM).chain(PAGES);
    let expected: Vec<u8> = all.flat_map(|path| (0..length(path)).map(move |place| byte(path, place))).collect();
    let [got_hash, expected_hash] = [got, &expected]
        .map(|bytes| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    println!("\nSHA-256 of what the client got    {got_hash}");
    println!("SHA-256 of what it should have got {expected_hash}");
    let sees = &net.client_sees;
    println!(
        "\nThe client had {} connection, from which it saw {} segments, all of them from {}; resets: {}.",
        sees.connections(),
        sees.segments,
        original(),
        sees.resets
    );
    println!(
        "Its longest wait for data was {:.1} ms; the way to a server and back takes 20 ms.",
        net.longest_wait as f64 / 1e3
    );
    if got_hash != expected_hash || sees.resets != 0 || sees.connections() != 1 {
        return Err("the client noticed".to_owned());
    }
    println!("The client noticed nothing.");
    Ok(())
}
