//! Domain names and the patterns that entries are made of.

use core::fmt;
use core::str::FromStr;

use crate::error::ParseError;

/// The longest name in bytes, in its wire form: lengths and the root's zero included (RFC 1035, section 2.3.4).
pub(super) const MAX_NAME: usize = 255;

/// The longest label in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// A domain name (RFC 1035, section 3.1). Upper and lower case are the same (RFC 4343): it is kept in lower case.
///
/// Its text is labels with dots between them, with or without a final dot; `.` is the root. `\.` is a dot within a label,
/// `\\` a backslash, and `\DDD` the byte with that decimal number.
///
/// ```
/// use byway::naming::Name;
///
/// let name: Name = "WWW.bt.com".parse()?;
/// assert_eq!(name, "www.BT.com.".parse()?);
/// assert_eq!((name.to_string().as_str(), name.as_wire()), ("www.bt.com", &b"\x03www\x02bt\x03com\0"[..]));
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    length: u8,
}

impl Name {
    /// The root. A constant would be 256 bytes of flash.
    const fn root() -> Self {
        Self { bytes: [0; MAX_NAME], length: 1 }
    }

    /// The bytes that DNS messages carry, in lower case: each label after its length, and a zero.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// From its bytes in a datagram; `None` unless they are exactly one name in lower case, so that each name has one
    /// form.
    #[cfg(feature = "control")]
    pub(crate) fn from_exact_wire(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while let (length @ 1.., tail) = rest.split_first()? {
            (_, rest) = tail.split_at_checked(usize::from(*length)).filter(|_| usize::from(*length) <= MAX_LABEL)?;
        }
        let is_one = rest.len() == 1 && bytes.len() <= MAX_NAME && !bytes.iter().any(u8::is_ascii_uppercase);
        is_one.then(|| Self::from_wire(bytes))
    }

    /// From bytes that are known to be a name.
    pub(super) fn from_wire(bytes: &[u8]) -> Self {
        let mut name = Self { bytes: [0; MAX_NAME], length: bytes.len().min(MAX_NAME) as u8 };
        for (to, from) in name.bytes.iter_mut().zip(bytes) {
            *to = from.to_ascii_lowercase();
        }
        name
    }

    /// The labels, the leftmost first, without the root.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.as_wire();
        core::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(usize::from(*length)).filter(|_| *length != 0)?;
            rest = tail;
            Some(label)
        })
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length <= 1 {
            return f.write_str(".");
        }
        for (number, label) in self.labels().enumerate() {
            if number != 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    // A star that stands alone at the start would read as a pattern.
                    b'*' if number == 0 && label.len() == 1 => f.write_str("\\042")?,
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Name {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]:a}", self.as_wire());
    }
}

impl FromStr for Name {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text).map_err(|expected| ParseError::new("name", text, expected))
    }
}

/// Parses a name. The error is what was expected.
#[cfg_attr(not(target_pointer_width = "64"), inline(never))]
fn parse(text: &str) -> Result<Name, &'static str> {
    const TOO_LONG: &str = "at most 253 bytes long";
    let mut name = Name::root();
    if text == "." {
        return Ok(name);
    }
    // Where the length of the current label goes, and where its next byte goes.
    let (mut start, mut at) = (0, 1);
    let mut bytes = text.bytes();
    loop {
        let byte = match bytes.next() {
            Some(b'\\') => escaped(&mut bytes).ok_or("a name with \\. or \\DDD as escapes")?,
            end @ (None | Some(b'.')) => {
                let length = at - start - 1;
                if length > MAX_LABEL {
                    return Err("labels of at most 63 bytes");
                }
                *name.bytes.get_mut(start).ok_or(TOO_LONG)? = length as u8;
                // An empty label at the end is the root.
                match (length, end) {
                    (0, Some(_)) => return Err("labels with one dot between them"),
                    (0, None) if start == 0 => return Err("labels with one dot between them"),
                    (0, None) => {}
                    _ => (start, at) = (at, at + 1),
                }
                if end.is_some() {
                    continue;
                }
                // The zero is there already, if there is room for it.
                if start >= MAX_NAME {
                    return Err(TOO_LONG);
                }
                name.length = start as u8 + 1;
                return Ok(name);
            }
            Some(byte @ 0x21..=0x7e) => byte,
            Some(_) => return Err("a name without spaces, with other bytes than ASCII as \\DDD"),
        };
        *name.bytes.get_mut(at).ok_or(TOO_LONG)? = byte.to_ascii_lowercase();
        at += 1;
    }
}

/// What follows a backslash.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut number = u32::from(first - b'0');
    for _ in 0..2 {
        number = number * 10 + char::from(bytes.next()?).to_digit(10)?;
    }
    u8::try_from(number).ok()
}

/// Which names an entry is for: one name, or all names below one (`*.xyz.com`, which `xyz.com` itself is not).
///
/// The most specific pattern applies: the name itself, then the longest suffix. Unlike a wildcard of a zone (RFC 4592) a
/// suffix also covers names below those that have an entry of their own.
///
/// ```
/// use byway::naming::Pattern;
///
/// let below: Pattern = "*.XYZ.com".parse()?;
/// assert_eq!((below.is_suffix(), below.to_string().as_str()), (true, "*.xyz.com"));
/// assert_eq!(below, Pattern::below("xyz.com".parse()?));
/// # Ok::<(), byway::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pattern {
    name: Name,
    suffix: bool,
}

impl Pattern {
    /// This name and no other.
    #[must_use]
    pub const fn exact(name: Name) -> Self {
        Self { name, suffix: false }
    }

    /// All names below this one.
    #[must_use]
    pub const fn below(name: Name) -> Self {
        Self { name, suffix: true }
    }

    /// The name, or what the names end with.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it is for the names below [`name`](Self::name).
    #[must_use]
    pub const fn is_suffix(&self) -> bool {
        self.suffix
    }

    /// Whether each name of the other pattern is one of this pattern, too.
    ///
    /// ```
    /// use byway::naming::Pattern;
    ///
    /// let [below, name, deeper]: [Pattern; 3] = ["*.xyz.com", "www.xyz.com", "*.www.xyz.com"].map(|t| t.parse().unwrap());
    /// assert!(below.covers(&name) && below.covers(&deeper) && below.covers(&below));
    /// assert!(!below.covers(&"xyz.com".parse()?) && !below.covers(&"*.com".parse()?) && !name.covers(&deeper));
    /// # Ok::<(), byway::ParseError>(())
    /// ```
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (own, others) = (self.name.as_wire(), other.name.as_wire());
        if own == others {
            return self.suffix == other.suffix;
        }
        if !self.suffix {
            return false;
        }
        // Label by label, since a label may contain bytes that look like another one.
        let mut rest = others;
        while let Some((length @ 1.., tail)) = rest.split_first() {
            rest = tail.get(usize::from(*length)..).unwrap_or_default();
            if rest == own {
                return true;
            }
        }
        false
    }
}

impl From<Name> for Pattern {
    fn from(name: Name) -> Self {
        Self::exact(name)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.suffix, self.name.length) {
            (false, _) => write!(f, "{}", self.name),
            (true, 0..=1) => f.write_str("*"),
            (true, _) => write!(f, "*.{}", self.name),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, suffix) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None if text == "*" => (".", true),
            None => (text, false),
        };
        Ok(Self { name: name.parse()?, suffix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<Name, ParseError> {
        text.parse()
    }

    #[test]
    fn texts_are_names_and_back() {
        for (text, wire) in [
            ("a", &b"\x01a\0"[..]),
            ("a.b", b"\x01a\x01b\0"),
            (".", b"\0"),
            ("a\\.b.c", b"\x03a.b\x01c\0"),
            ("a\\\\b", b"\x03a\\b\0"),
            ("\\000\\255.x", b"\x02\x00\xff\x01x\0"),
        ] {
            let parsed = name(text).unwrap();
            assert_eq!((parsed.as_wire(), parsed.to_string().as_str()), (wire, text));
        }
        assert_eq!(name("A.b.").unwrap().as_wire(), b"\x01a\x01b\0");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for text in ["", "..", ".a", "a..b", "a..", "a b", "\u{e9}", "a\\", "a\\25", "a\\256", "a\\2x5", &long] {
            assert!(name(text).is_err(), "{text:?}");
        }
        assert!(name(&"a".repeat(63)).is_ok());
        // 255 bytes on the wire are 253 of text.
        let text = [&*"a".repeat(63), &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
        assert_eq!(name(&text).unwrap().as_wire().len(), MAX_NAME);
        assert_eq!(name(&format!("{text}.")).unwrap().as_wire().len(), MAX_NAME);
        assert!(name(&format!("{text}d")).is_err());
        assert!(name(&format!("{}.e", &text[1..])).is_err());
        assert_eq!(name(&"a.".repeat(127)).unwrap().as_wire().len(), MAX_NAME);
        assert!(name(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn stars() {
        let pattern = |text: &str| text.parse::<Pattern>();
        assert_eq!(pattern("*").unwrap().to_string(), "*");
        assert_eq!(pattern("*.a").unwrap().to_string(), "*.a");
        assert!(!pattern("a.*.b").unwrap().is_suffix());
        // A name can start with a star of its own, and stays that name.
        for text in [r"\042.a.b", r"\042", r"*.\042.a", r"*.\042", "*a.b", "a.*", "*", "*.*a"] {
            let read = pattern(text).unwrap();
            assert_eq!((read.is_suffix(), read.to_string().as_str()), (text == "*" || text.starts_with("*."), text));
            assert_eq!(pattern(&read.to_string()).unwrap(), read);
        }
        assert_eq!(pattern(r"\*.a.b").unwrap(), pattern(r"\042.a.b").unwrap());
        assert_eq!(pattern(r"\*.a.b").unwrap().name().as_wire(), b"\x01*\x01a\x01b\0");
        assert!(pattern("*.").is_err());
    }
}
