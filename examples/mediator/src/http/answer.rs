//! Responses as bytes.

use std::io::Write;

use crate::map::code::phrase;

/// How the end of a response's body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The body has this many bytes.
    Length(usize),
    /// Each piece is a chunk.
    Chunks,
    /// The connection ends (HTTP/1.0).
    Close,
    /// There is none, and no field about one: 204, 304, and a response to HEAD of unknown length.
    None,
}

/// Writes the head of a response. `fields` are complete lines, each with its end.
pub fn head(out: &mut Vec<u8>, status: u16, ending: Ending, keep_alive: bool, fields: &str) {
    // A Vec takes everything.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n{fields}", phrase(status));
    let _ = match ending {
        Ending::Length(length) => write!(out, "Content-Length: {length}\r\n"),
        Ending::Chunks => write!(out, "Transfer-Encoding: chunked\r\n"),
        Ending::Close | Ending::None => Ok(()),
    };
    if !keep_alive || ending == Ending::Close {
        let _ = write!(out, "Connection: close\r\n");
    }
    let _ = write!(out, "\r\n");
}

/// Writes a piece of a body.
pub fn data(out: &mut Vec<u8>, ending: Ending, bytes: &[u8]) {
    if ending == Ending::Chunks {
        // An empty chunk would be the end.
        if bytes.is_empty() {
            return;
        }
        let _ = write!(out, "{:x}\r\n", bytes.len());
    }
    out.extend_from_slice(bytes);
    if ending == Ending::Chunks {
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes the end of a body.
pub fn end(out: &mut Vec<u8>, ending: Ending) {
    if ending == Ending::Chunks {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Writes a response of the proxy's own: a line that says what is wrong.
pub fn error(out: &mut Vec<u8>, status: u16, keep_alive: bool, head_only: bool, why: &str) {
    let body = format!("{status} {}: {why}\n", phrase(status));
    let fields = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n";
    head(out, status, Ending::Length(body.len()), keep_alive, fields);
    if !head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

/// An event (WHATWG HTML, section 9.2.6): its number, its name unless it is `message`, and its data, a line each.
#[must_use]
pub fn event(number: Option<u32>, name: Option<&str>, text: &str) -> Vec<u8> {
    let mut event = Vec::with_capacity(text.len() + 48);
    if let Some(number) = number {
        let _ = writeln!(event, "id: {number}");
    }
    if let Some(name) = name {
        let _ = writeln!(event, "event: {name}");
    }
    // Each of these ends a line there, so whatever the text is, it stays data.
    for line in text.replace("\r\n", "\n").split(['\r', '\n']) {
        let _ = writeln!(event, "data: {line}");
    }
    event.push(b'\n');
    event
}
