//! Runs a capture of real traffic through a translator, and checks that what comes back is what the client saw.
//!
//! ```sh
//! cargo run --release --example replay -- tests/captures/http.pcap out.pcap \
//!     --alternative 10.10.10.10:1024-65535 --divert 100.100.100.100:80=123.45.67.89:8080
//! ```
//!
//! Each packet of a client that a rule diverts is translated. Each packet of the original server is turned into what
//! the new server would have sent (`mirror.rs`), translated back, and compared with the capture byte for byte.

mod arguments;
mod output;
mod replay;
mod report;

use core::fmt::Display;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use byway_examples::capture::Capture;
use indicatif::{ProgressBar, ProgressStyle};

use arguments::{Arguments, Wanted};
use output::Output;
use replay::Replay;
use report::Summary;

/// Below this many bytes a capture is replayed before anybody could read a progress bar.
const LONG: u64 = 8 << 20;

/// Why there is no summary, in one line.
enum Failure {
    /// The arguments are wrong.
    Arguments(String),
    /// A file cannot be read or written.
    File(String),
}

fn main() -> ExitCode {
    let failed = |error: &str, code| {
        eprintln!("replay: {error}");
        ExitCode::from(code)
    };
    let arguments = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Wanted::Replay(arguments)) => arguments,
        Ok(Wanted::Help) => return print(arguments::HELP),
        Err(error) => return failed(&error, 2),
    };
    let (summary, damage) = match run(&arguments) {
        Ok(result) => result,
        Err(Failure::Arguments(error)) => return failed(&error, 2),
        Err(Failure::File(error)) => return failed(&error, 1),
    };
    let code = print(&if arguments.json { format!("{}\n", summary.json()) } else { summary.text() });
    match damage {
        Some(error) => failed(&error, 1),
        None if summary.round_trips.differed > 0 => ExitCode::FAILURE,
        None => code,
    }
}

/// Replays the capture. One that is damaged somewhere has a summary of what is before that, and the second value says
/// what is wrong.
fn run(arguments: &Arguments) -> Result<(Summary, Option<String>), Failure> {
    let about = |path: &OsString, error: &dyn Display| format!("{}: {error}", Path::new(path).display());
    let (input, output) = (&arguments.input, arguments.output.as_ref());
    if let Some(path) = output.filter(|path| is_same_file(input, path)) {
        return Err(Failure::Arguments(about(path, &"it is the capture itself, and would be overwritten")));
    }
    let translator = replay::translator(arguments).map_err(Failure::Arguments)?;

    let unreadable = |error: &dyn Display| Failure::File(about(input, error));
    let file = File::open(input).map_err(|e| unreadable(&e))?;
    let progress = progress(file.metadata().map_err(|e| unreadable(&e))?.len());
    let mut capture = Capture::open(progress.wrap_read(file)).map_err(|e| unreadable(&e))?;

    let unwritable = |error: io::Error| Failure::File(output.map_or(error.to_string(), |path| about(path, &error)));
    let sink: Box<dyn Write> = match output {
        Some(path) => Box::new(BufWriter::new(File::create(path).map_err(unwritable)?)),
        None => Box::new(io::sink()),
    };
    let mut replay = Replay::new(arguments, translator, Output::new(sink).map_err(unwritable)?);
    let damage = loop {
        match capture.next_record() {
            Ok(Some(record)) => replay.record(record).map_err(unwritable)?,
            Ok(None) => break None,
            Err(error) => break Some(about(input, &error)),
        }
    };
    let summary = replay.finish().map_err(unwritable)?;
    progress.finish_and_clear();
    Ok((summary, damage))
}

/// A bar on standard error, if that is a terminal and the capture is long.
fn progress(length: u64) -> ProgressBar {
    if length < LONG {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn is_same_file(one: &OsString, other: &OsString) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// Prints to standard output, where nobody may be listening any more.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
