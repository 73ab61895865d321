//! The resource that both servers have, and how one asks for it.
//!
//! Requests and answers are HTTP with byte ranges (RFC 9110, section 14), over TCP as usual, and over UDP one in each
//! datagram. A request says everything, so that any server can answer it, and a download can be resumed anywhere. The
//! server gives its name in the answer; nothing else tells the client who it was.

use core::ops::Range;

/// Bytes of the resource.
pub(crate) const SIZE: usize = 2 * 1024 * 1024;

/// The most bytes of the resource in one datagram.
pub(crate) const CHUNK: usize = 1024;

/// No request, and no answer before its content, is longer.
pub(crate) const LONGEST_HEAD: usize = 256;

/// The resource: a sequence in which no part repeats, so that a byte in the wrong place is noticed.
pub(crate) fn resource() -> Vec<u8> {
    // xorshift64* (Vigna 2016) from an arbitrary seed.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = core::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.flat_map(u64::to_le_bytes).take(SIZE).collect()
}

/// Asks for a part of the resource.
pub(crate) fn request(part: &Range<usize>) -> String {
    let (first, last) = (part.start, part.end - 1);
    format!("GET /resource HTTP/1.1\r\nHost: service1.xyz.com\r\nRange: bytes={first}-{last}\r\n\r\n")
}

/// What comes before the bytes of an answer.
pub(crate) fn heading(server: char, part: &Range<usize>) -> String {
    let (first, last, length) = (part.start, part.end - 1, part.len());
    format!(
        "HTTP/1.1 206 Partial Content\r\nServer: {server}\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
}

/// The part that a request asks for. `None` if it is none, or not whole yet.
pub(crate) fn read_request(data: &[u8]) -> Option<Range<usize>> {
    let (head, _) = split(data)?;
    let (first, last) = field(head.strip_prefix("GET ")?, "Range: bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SIZE).then_some(first..last + 1)
}

/// Who answers, where the answer begins in the resource, and its first bytes. `None` if the heading is not whole yet.
pub(crate) fn read_heading(data: &[u8]) -> Option<(char, usize, &[u8])> {
    let (head, content) = split(data)?;
    let (first, _) = field(head, "Content-Range: bytes ")?.split_once('-')?;
    Some((field(head, "Server: ")?.parse().ok()?, first.parse().ok()?, content))
}

fn split(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.windows(4).take(LONGEST_HEAD).position(|bytes| bytes == b"\r\n\r\n")?;
    Some((core::str::from_utf8(&data[..end]).ok()?, &data[end + 4..]))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name))
}
