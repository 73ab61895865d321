//! The body of a request, as its framing has it (RFC 9112, sections 6 and 7.1).

use super::head::Framing;

/// The longest line of a chunk's size and extensions, or of a trailer, in bytes.
const MAX_LINE: u16 = 256;
/// How many bytes of trailers there may be.
const MAX_TRAILERS: u16 = 1024;

/// Why a body is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of data are left.
    Data(u64),
    /// In the digits of a chunk's size: what they are so far, and how many.
    Size {
        size: u64,
        digits: u8,
    },
    /// In the blanks behind the digits.
    Blank {
        size: u64,
        length: u16,
    },
    /// Behind the semicolon, with so many bytes so far.
    Extension {
        size: u64,
        length: u16,
    },
    /// The line feed of the line with the size.
    SizeEnd {
        size: u64,
    },
    /// The end of a chunk's data.
    DataCr,
    DataLf,
    /// At the beginning of a trailer's line, with so many bytes of trailers so far.
    Trailer(u16),
    /// In its name, and in its value.
    TrailerName(u16),
    InTrailer(u16),
    TrailerLf(u16),
    TrailersEnd,
    Done,
}

/// Finds the data in what a client sends.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    state: State,
    is_chunked: bool,
}

impl Decoder {
    /// For a body framed like this.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self { state: State::Done, is_chunked: false },
            Framing::Length(length) => Self { state: State::Data(length), is_chunked: false },
            Framing::Chunked => Self { state: State::Size { size: 0, digits: 0 }, is_chunked: true },
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes from `input` and gives at most `room` bytes of data to `take`. Returns how many bytes of the input
    /// are done with.
    ///
    /// # Errors
    /// [`BadChunk`]: the chunks are malformed.
    pub fn decode(&mut self, input: &[u8], mut room: usize, mut take: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if let State::Data(left) = self.state {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(room);
                let data = rest.get(..most.min(rest.len())).unwrap_or(rest);
                if data.is_empty() {
                    break;
                }
                take(data);
                (at, room) = (at + data.len(), room - data.len());
                self.state = match left - data.len() as u64 {
                    0 if self.is_chunked => State::DataCr,
                    0 => State::Done,
                    left => State::Data(left),
                };
                continue;
            }
            let Some(&byte) = rest.first().filter(|_| self.state != State::Done) else {
                break;
            };
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&self, byte: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16).ok_or(BadChunk)?);
                // Fifteen digits cannot overflow.
                if digits == 15 {
                    return Err(BadChunk);
                }
                State::Size { size: size * 16 + digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BadChunk),
            (State::Size { size, .. } | State::Blank { size, .. } | State::Extension { size, .. }, b'\r') => {
                State::SizeEnd { size }
            }
            (State::Size { size, .. } | State::Blank { size, .. }, b';') => State::Extension { size, length: 0 },
            (State::Size { size, .. }, b' ' | b'\t') => State::Blank { size, length: 0 },
            (State::Blank { size, length }, b' ' | b'\t') if length < MAX_LINE => {
                State::Blank { size, length: length + 1 }
            }
            (State::Extension { size, length }, _) if is_text(byte) && length < MAX_LINE => {
                State::Extension { size, length: length + 1 }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer(0),
            (State::SizeEnd { size }, b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer(_), b'\r') => State::TrailersEnd,
            (State::InTrailer(length), b'\r') => State::TrailerLf(length),
            (State::TrailerLf(length), b'\n') => State::Trailer(length),
            // They are not used, but a reader that parses them otherwise finds the end elsewhere (RFC 9112, section 7.1.2).
            (State::Trailer(length) | State::TrailerName(length), _) if length < MAX_TRAILERS && is_of_name(byte) => {
                State::TrailerName(length + 1)
            }
            (State::TrailerName(length), b':') => State::InTrailer(length + 1),
            (State::InTrailer(length), _) if length < MAX_TRAILERS && is_text(byte) => State::InTrailer(length + 1),
            (State::TrailersEnd, b'\n') => State::Done,
            _ => return Err(BadChunk),
        })
    }
}

/// Whether a field's name may have it: `tchar` (RFC 9110, section 5.6.2).
const fn is_of_name(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// Whether a field's value may have it (RFC 9110, section 5.5).
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &[u8], step: usize, room: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let (mut decoder, mut data, mut at) = (Decoder::new(Framing::Chunked), Vec::new(), 0);
        let mut end = 0;
        while end < text.len() || at < end {
            end = (end + step).min(text.len());
            let used = decoder.decode(&text[at..end], room, |bytes| data.extend_from_slice(bytes))?;
            at += used;
            if decoder.is_done() || (used == 0 && end == text.len()) {
                break;
            }
        }
        Ok((data, at, decoder.is_done()))
    }

    #[test]
    fn chunks_are_joined_however_they_come() {
        let text = b"4\r\nWiki\r\n6 ;a=\"b\"\r\npedia \r\n00A\r\nin\r\nchunks\r\n0\r\nX: y\r\n\r\nnext";
        for step in 1..text.len() {
            for room in 1..12 {
                let (data, at, is_done) = decode(text, step, room).unwrap();
                assert_eq!(
                    (data.as_slice(), &text[at..], is_done),
                    (&b"Wikipedia in\r\nchunks"[..], &b"next"[..], true)
                );
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "4\r\nWikix",
            "4\nWiki",
            "4 5\r\nWiki",
            "4 \nWiki",
            "4;\rx\n",
            "-1\r\n",
            "1000000000000000\r\n",
            " 4\r\n",
            "0\r\nX\n",
            // What is no field is no trailer; nothing is folded.
            "0\r\nX\r\n\r\n",
            "0\r\n1\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\n\t\r\n\r\n",
            "0\r\nX: y\r\n z\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "4;\0\r\nWiki",
            "4;\x0b\r\nWiki",
        ] {
            assert_eq!(decode(text.as_bytes(), 100, 100), Err(BadChunk), "{text:?}");
        }
        let long = format!("4;{}\r\nWiki", "x".repeat(1000));
        assert_eq!(decode(long.as_bytes(), 100, 100), Err(BadChunk));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(1000));
        assert_eq!(decode(trailers.as_bytes(), 100, 100), Err(BadChunk));
    }
}
