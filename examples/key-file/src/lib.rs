//! The key file: one line with the key's number and its secret in hexadecimal.

use std::path::Path;

/// Reads a key file.
///
/// # Errors
/// Says what is wrong with it.
pub fn read(path: &Path) -> Result<(u16, [u8; 32]), String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("key file {shown}: {e}"))?;
    warn_if_others_can_read(path);
    parse(&text).ok_or_else(|| {
        format!("key file {shown}: it must hold one line, a number from 0 to 65535 and 64 hexadecimal digits")
    })
}

fn parse(text: &str) -> Option<(u16, [u8; 32])> {
    let mut words = text.split_whitespace();
    let (id, digits) = (words.next()?.parse().ok()?, words.next()?);
    if words.next().is_some() || digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut secret = [0; 32];
    for (octet, place) in secret.iter_mut().zip((0..).step_by(2)) {
        *octet = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
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
