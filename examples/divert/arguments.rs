//! What the user asked for.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
A download moves to another server half-way, and the client never notices.

Usage: cargo run --release --example divert [-- OPTIONS]

Options:
  --pcap DIR   write what the proxy saw to DIR/client-side.pcap and DIR/server-side.pcap
  -h, --help   show this
";

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The folder for the captures.
    pub(crate) pcap: Option<PathBuf>,
}

impl Arguments {
    /// Reads the arguments; `None` if the user asked for help.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let mut this = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("pcap") => this.pcap = Some(parser.value()?.parse()?),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(this))
    }
}
