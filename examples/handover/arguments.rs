//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Moves one TCP connection from server to server, in simulated time.

    cargo run --release --example handover -- [--pcap FOLDER]

    --pcap FOLDER   writes client-side.pcap and server-side.pcap
";

pub(crate) enum Asked {
    Run(Option<PathBuf>),
    Help,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut folder = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("pcap") => folder = Some(parser.value()?.into()),
            Long("help") | Short('h') => return Ok(Asked::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Asked::Run(folder))
}
