//! What the user asks for.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::ffi::OsString;

use byway::{Match, Midstream, ParseError, Prefix, Target};
use lexopt::{Arg, Parser, ValueExt};

pub(crate) const HELP: &str = "\
Replays a capture through a translator, and checks the way back byte for byte.

replay IN [OUT] --alternative ADDRESS:LOW-HIGH --divert ORIGINAL=TARGET...

  IN                         a pcap or pcapng file: Ethernet, raw IP, Linux cooked, BSD loopback, PPP, PPPoE,
                             Cisco HDLC, IP over FireWire; VLAN tags are skipped, packets of other links are counted
  OUT                        a pcap file (raw IP) for the packets that the translator sent
  --alternative ADDRESS:LOW-HIGH
                             the translator's own address, and the ports of it that it uses; may be repeated
  --divert ORIGINAL=TARGET   diverts the destination ORIGINAL to TARGET; may be repeated
                             ORIGINAL: address, address:port, prefix/length or prefix/length:port, and perhaps, in
                             quotes, a protocol and \"from CLIENTS\"
                             TARGET: address (the port is kept), address:port, or \"same\" for a masquerade
  --divert-all TARGET        diverts every destination that no --divert speaks of
  --replies-from-any-port    servers may answer a UDP client from another port, as TFTP servers do
  --midstream pass|adopt|drop
                             what becomes of TCP connections that began before the capture; default: they pass
  --connections NUMBER       room for this many connections at once; default: 131072
  --json                     prints the summary as one JSON object

Who sends the first packet of a connection that a rule matches is the client. Equal captures and arguments give equal
output. The exit code is 0 if no round trip differed, 1 if one did or a file cannot be read or written, and 2 if the
arguments are wrong.
";

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Wanted {
    Help,
    Replay(Arguments),
}

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) input: OsString,
    pub(crate) output: Option<OsString>,
    pub(crate) alternatives: Vec<(Ipv4Addr, RangeInclusive<u16>)>,
    pub(crate) diverts: Vec<(Match, Target)>,
    pub(crate) replies_from_any_port: bool,
    pub(crate) midstream: Option<Midstream>,
    pub(crate) connections: usize,
    pub(crate) json: bool,
}

/// Reads the arguments, the program's name left out.
///
/// # Errors
/// One line that says what is wrong.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wanted, String> {
    let mut files = Vec::new();
    let mut wanted = Arguments {
        input: OsString::new(),
        output: None,
        alternatives: Vec::new(),
        diverts: Vec::new(),
        replies_from_any_port: false,
        midstream: None,
        connections: 131_072,
        json: false,
    };
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Wanted::Help),
            Arg::Long("alternative") => wanted.alternatives.push(value(&mut parser, "--alternative", alternative)?),
            Arg::Long("divert") => wanted.diverts.push(value(&mut parser, "--divert", divert)?),
            Arg::Long("divert-all") => {
                wanted.diverts.push((Prefix::ALL.into(), value(&mut parser, "--divert-all", target)?));
            }
            Arg::Long("replies-from-any-port") => wanted.replies_from_any_port = true,
            Arg::Long("midstream") => wanted.midstream = Some(value(&mut parser, "--midstream", midstream)?),
            Arg::Long("connections") => wanted.connections = value(&mut parser, "--connections", connections)?,
            Arg::Long("json") => wanted.json = true,
            Arg::Value(file) => files.push(file),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let mut files = files.into_iter();
    wanted.input = files.next().ok_or("no capture to read; --help shows how to name it")?;
    wanted.output = files.next();
    if let Some(third) = files.next() {
        return Err(format!("a third file: {}", third.display()));
    }
    if wanted.alternatives.is_empty() {
        return Err("no --alternative, for example 10.10.10.10:1024-65535".into());
    }
    if wanted.diverts.is_empty() {
        return Err("nothing to divert: neither --divert nor --divert-all".into());
    }
    Ok(Wanted::Replay(wanted))
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
}

/// The value of an option, read with `read`.
fn value<T>(parser: &mut Parser, option: &str, read: fn(&str) -> Result<T, String>) -> Result<T, String> {
    let value = parser.value().and_then(|value| value.string()).map_err(text)?;
    read(&value).map_err(|error| format!("{option} {value}: {error}"))
}

/// `10.10.10.10:1024-65535`
fn alternative(text: &str) -> Result<(Ipv4Addr, RangeInclusive<u16>), String> {
    let (address, ports) = text.split_once(':').ok_or("it should be ADDRESS:LOW-HIGH")?;
    let (low, high) = ports.split_once('-').ok_or("the ports should be LOW-HIGH")?;
    let (low, high) = (port(low)?, port(high)?);
    if low > high {
        return Err(format!("the range of ports is empty: {low} is above {high}"));
    }
    Ok((as_address(address)?, low..=high))
}

/// `ORIGINAL=TARGET`
fn divert(text: &str) -> Result<(Match, Target), String> {
    let (from, to) = text.split_once('=').ok_or("it should be ORIGINAL=TARGET")?;
    Ok((original(from)?, target(to)?))
}

/// An address or a prefix, with or without a port.
fn original(text: &str) -> Result<Match, String> {
    let matches: Match = text.parse().map_err(|wrong| said(&wrong))?;
    if matches.port() == Some(0) { Err("a port is 1 to 65535, not \"0\"".into()) } else { Ok(matches) }
}

/// An address with or without a port, or `same`.
fn target(text: &str) -> Result<Target, String> {
    match text.parse().map_err(|wrong| said(&wrong))? {
        Target::Endpoint(endpoint) if endpoint.port() == 0 => Err("a port is 1 to 65535, not \"0\"".into()),
        target => Ok(target),
    }
}

fn midstream(text: &str) -> Result<Midstream, String> {
    text.parse().map_err(|wrong: ParseError| format!("it should be {}", wrong.expected()))
}

/// What is wrong, in this program's words.
fn said(wrong: &ParseError) -> String {
    let text = wrong.text();
    match wrong.field() {
        "port" => format!("a port is 1 to 65535, not {text:?}"),
        "prefix length" => format!("a prefix length is 0 to 32, not {text:?}"),
        "address" | "target" => format!("{text:?} is no IPv4 address"),
        _ => wrong.to_string(),
    }
}

fn as_address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("a port is 1 to 65535, not {text:?}")),
        Ok(port) => Ok(port),
    }
}

/// A number that the library takes and that leaves room for others in memory: each takes about 100 bytes.
fn connections(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (8..=1 << 24).contains(number));
    number.ok_or_else(|| format!("there can be 8 to {}", 1 << 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Wanted::Replay(arguments) => Ok(arguments),
            Wanted::Help => Err("help".into()),
        }
    }

    #[test]
    fn every_form_of_rule() {
        let line = "in.pcap out.pcap --alternative 10.10.10.10:1024-65535 --alternative=10.10.10.11:5-5 --json \
                    --divert 1.2.3.4=5.6.7.8 --divert 1.2.3.4:80=5.6.7.8:8080 --divert 1.2.0.0/16=5.6.7.8 \
                    --divert 1.2.3.0/24:53=5.6.7.8:5353 --divert-all 9.9.9.9 --midstream adopt";
        let arguments = parsed(line).unwrap();
        let rules: Vec<String> = arguments.diverts.iter().map(|(from, to)| format!("{from}={to}")).collect();
        let expected = [
            "1.2.3.4=5.6.7.8",
            "1.2.3.4:80=5.6.7.8:8080",
            "1.2.0.0/16=5.6.7.8",
            "1.2.3.0/24:53=5.6.7.8:5353",
            "0.0.0.0/0=9.9.9.9",
        ];
        assert_eq!(rules, expected);
        let alternatives = [(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535), (Ipv4Addr::new(10, 10, 10, 11), 5..=5)];
        assert_eq!(arguments.alternatives, alternatives);
        assert_eq!((arguments.input, arguments.output), ("in.pcap".into(), Some("out.pcap".into())));
        assert_eq!((arguments.json, arguments.midstream), (true, Some(Midstream::Adopt)));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let good = "--alternative 10.10.10.10:1-2 --divert 1.1.1.1=2.2.2.2";
        for (line, error) in [
            ("", "no capture to read; --help shows how to name it"),
            ("a", "no --alternative, for example 10.10.10.10:1024-65535"),
            ("a --alternative 10.10.10.10:1-2", "nothing to divert: neither --divert nor --divert-all"),
            (&format!("a b c {good}"), "a third file: c"),
            ("a --alternative", "missing argument for option '--alternative'"),
            ("a --alternative 10.10.10.10", "--alternative 10.10.10.10: it should be ADDRESS:LOW-HIGH"),
            ("a --alternative 1.1.1.1:9", "--alternative 1.1.1.1:9: the ports should be LOW-HIGH"),
            ("a --alternative 1.1.1.1:9-7", "--alternative 1.1.1.1:9-7: the range of ports is empty: 9 is above 7"),
            ("a --alternative 1.1.1.1:0-7", "--alternative 1.1.1.1:0-7: a port is 1 to 65535, not \"0\""),
            ("a --alternative 1.1.1:1-7", "--alternative 1.1.1:1-7: \"1.1.1\" is no IPv4 address"),
            ("a --divert 1.1.1.1", "--divert 1.1.1.1: it should be ORIGINAL=TARGET"),
            ("a --divert 1.1.1.1/33=2.2.2.2", "--divert 1.1.1.1/33=2.2.2.2: a prefix length is 0 to 32, not \"33\""),
            ("a --divert 1.1.1.1:x=2.2.2.2", "--divert 1.1.1.1:x=2.2.2.2: a port is 1 to 65535, not \"x\""),
            ("a --divert-all host", "--divert-all host: \"host\" is no IPv4 address"),
            ("a --midstream maybe", "--midstream maybe: it should be pass, adopt or drop"),
            ("a --connections 7", "--connections 7: there can be 8 to 16777216"),
            ("a --connections many", "--connections many: there can be 8 to 16777216"),
            ("a --jsom", "invalid option '--jsom'"),
            ("a --json=yes", "unexpected argument for option '--json': \"yes\""),
        ] {
            assert_eq!(parsed(line).unwrap_err(), error, "{line}");
        }
        assert!(parsed(&format!("a {good}")).is_ok());
        assert!(matches!(parse(["--help".into()]), Ok(Wanted::Help)));
    }
}
