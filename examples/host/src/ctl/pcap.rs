//! `byway ctl pcap`: one rule's packets on both sides, from the byway that listens at a UNIX socket of this machine.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use super::arguments::USAGE;

/// Runs the command. `words` are the arguments after `pcap`.
///
/// # Errors
/// Says in one line what is wrong: with the arguments, or with doing it.
pub(super) fn run(words: Vec<OsString>) -> Result<(), (u8, String)> {
    let wrong = |error: lexopt::Error| (2, error.to_string());
    let (mut socket, mut seconds, mut matches) = (None, 10_u64, Vec::new());
    let mut parser = Parser::from_args(words);
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Long("socket") => socket = Some(PathBuf::from(parser.value().map_err(wrong)?)),
            Arg::Long("seconds") => seconds = parser.value().and_then(|value| value.parse()).map_err(wrong)?,
            Arg::Long("help") | Arg::Short('h') => {
                // The reader may close the pipe before the end.
                let _ = std::io::stdout().write_all(USAGE.as_bytes());
                return Ok(());
            }
            Arg::Value(word) => matches.push(word.string().map_err(wrong)?),
            other => return Err(wrong(other.unexpected())),
        }
    }
    let socket = socket.ok_or((2, "--socket FILE is missing: that of byway run --hand-over".to_string()))?;
    let matches = matches.join(" ");
    if let Err(error) = matches.parse::<byway::Match>() {
        return Err((2, error.to_string()));
    }
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        return Err((2, "a capture is not for a terminal: say > FILE, or | wireshark -k -i -".into()));
    }
    let failed = |error: std::io::Error| (3, format!("{}: {error}", socket.display()));
    let mut stream = UnixStream::connect(&socket).map_err(failed)?;
    writeln!(stream, "byway pcap 1 {seconds} {matches}").map_err(failed)?;
    let (mut buffer, mut is_capture) = ([0; 65_536], None);
    loop {
        match stream.read(&mut buffer).map_err(failed)? {
            0 => return is_capture.map_or(Err((3, "byway says nothing: is it an older one?".into())), |_| Ok(())),
            // A capture begins with a block of its own; anything else is a reason.
            length if *is_capture.get_or_insert(buffer[0] == 0x0a) => {
                // The reader may have closed the pipe.
                if out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_err() {
                    return Ok(());
                }
            }
            length => return Err((1, String::from_utf8_lossy(&buffer[..length]).trim_end().into())),
        }
    }
}
