//! The key file: one line with the key's number and its secret in hexadecimal.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No key file is longer.
const LONGEST: u64 = 4096;

/// Reads a key file.
///
/// # Errors
/// Says what is wrong with it.
pub fn read(path: &Path) -> Result<(u16, [u8; 32]), String> {
    let shown = path.display();
    let text = text(path, LONGEST).map_err(|e| format!("key file {shown}: {e}"))?;
    warn_if_others_can_read(path);
    parse(&text).ok_or_else(|| {
        format!("key file {shown}: it must hold one line, a number from 0 to 65535 and 64 hexadecimal digits")
    })
}

/// Reads a file as text, of so many bytes at most: so a device that has no end is refused, and fills no memory.
///
/// # Errors
/// Those of reading it, or that it is longer.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    text_of(File::open(path)?, most)
}

/// The same of what is open already.
///
/// # Errors
/// As [`text`].
pub fn text_of(open: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::other(format!("line {line} is no text in UTF-8"))
    })
}

fn parse(text: &str) -> Option<(u16, [u8; 32])> {
    let mut words = text.split_whitespace();
    let (id, digits) = (words.next()?.parse().ok()?, words.next()?);
    if words.next().is_some() || digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut secret = [0; 32];
    for (byte, place) in secret.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
    }
    Some((id, secret))
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
    if mode & 0o077 != 0 {
        eprintln!("warning: others can read the key file {}; chmod 600 would prevent that", path.display());
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_refused() {
        let why = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(why, "key file /dev/zero: it is longer than 4096 bytes");
        assert!(text(Path::new("/dev/null"), 0).unwrap().is_empty());
    }

    #[test]
    fn a_key_is_a_number_and_a_secret() {
        let digits = "0123456789abcdef".repeat(4);
        let (id, secret) = parse(&format!("7 {digits}\n")).unwrap();
        assert_eq!((id, secret[1], secret[31]), (7, 0x23, 0xef));
        let bad = [String::new(), "7".into(), format!("70000 {digits}"), format!("x {digits}"), format!("7 {digits}0")];
        for wrong in bad.into_iter().chain([format!("7 {digits} 8"), format!("7 {}", "0g".repeat(32))]) {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
