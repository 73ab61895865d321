//! What the user asked for.

use core::net::SocketAddrV4;
use std::ffi::OsString;
use std::path::PathBuf;

use byway::Protocol;
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
A download moves to another server half-way, and the client never notices.

Usage: cargo run --release --example divert [-- OPTIONS]

Options:
  --pcap DIR   write what the proxy saw to DIR/client-side.pcap and DIR/server-side.pcap
  -h, --help   show this

With --control the program moves nothing by itself. One slow download goes on in real time, and whoever has the key
says over a UDP port what is diverted where, with `byway ctl`. In the end stands who delivered what.

  --control ADDRESS:PORT   the port for instructions, such as 127.0.0.1:5213; port 0 takes a free one
  --key FILE               the key: a number from 0 to 65535 and 64 hexadecimal digits, for example from
                           (umask 077; echo 1 $(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n') >control.key)
  --protocol tcp|udp       what the client downloads over (udp)
  --seconds N              how long the download takes at least (60)

Then, in another terminal, where AGENT stands for --agent ADDRESS:PORT --key FILE:

  cargo run -p byway-host -- ctl AGENT divert 100.100.100.100:80 123.45.67.89:80      server A delivers
  cargo run -p byway-host -- ctl AGENT redivert 123.45.67.89:80 123.45.67.90:80       server B goes on
  cargo run -p byway-host -- ctl AGENT connections                                    what the proxy knows of it
";

#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The folder for the captures.
    pub(crate) pcap: Option<PathBuf>,
    pub(crate) driven: Option<Driven>,
}

/// How to be driven from outside.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) control: SocketAddrV4,
    pub(crate) key: PathBuf,
    pub(crate) protocol: Protocol,
    pub(crate) seconds: u32,
}

impl Arguments {
    /// Reads the arguments; `None` if the user asked for help.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, lexopt::Error> {
        let mut parser = Parser::from_args(arguments);
        let (mut pcap, mut control, mut key, mut protocol, mut seconds) = (None, None, None, None, None);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("pcap") => pcap = Some(parser.value()?.parse()?),
                Arg::Long("control") => control = Some(parser.value()?.parse()?),
                Arg::Long("key") => key = Some(parser.value()?.parse()?),
                Arg::Long("protocol") => protocol = Some(parser.value()?.parse_with(transport)?),
                Arg::Long("seconds") => seconds = Some(parser.value()?.parse()?),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        let driven = match (control, key) {
            (Some(control), Some(key)) => {
                let (protocol, seconds) = (protocol.unwrap_or(Protocol::Udp), seconds.unwrap_or(60));
                Some(Driven { control, key, protocol, seconds })
            }
            (Some(_), None) => return Err("--control needs --key".into()),
            (None, Some(_)) => return Err("--key needs --control".into()),
            (None, None) if protocol.is_some() => return Err("--protocol needs --control".into()),
            (None, None) if seconds.is_some() => return Err("--seconds needs --control".into()),
            (None, None) => None,
        };
        Ok(Some(Self { pcap, driven }))
    }
}

fn transport(word: &str) -> Result<Protocol, &'static str> {
    match word.parse() {
        Ok(protocol @ (Protocol::Tcp | Protocol::Udp)) => Ok(protocol),
        _ => Err("it must be tcp or udp"),
    }
}
