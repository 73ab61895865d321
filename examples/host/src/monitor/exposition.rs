//! The Prometheus text format (version 0.0.4), as far as the sum of a metric's series needs it. Strict: a report with a malformed
//! line is refused as a whole. Reads line by line, so that memory is bounded whatever a server sends.

use core::hash::BuildHasher;
use core::str::FromStr;
use std::collections::HashSet;
use std::hash::RandomState;
use std::io::{BufRead, ErrorKind, Read};

/// The longest report in bytes.
pub const MAX_REPORT: u64 = 8 << 20;
/// The longest line in bytes.
const MAX_LINE: u64 = 64 << 10;
/// The most labels of a series; each is compared with the others.
const MAX_LABELS: usize = 64;
/// The most series that are added up.
const MAX_SERIES: usize = 4_096;

/// What is wrong with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server cannot be reached, or was too slow.
    Unreachable(String),
    /// It answers with another status than 200.
    Status(u16),
    /// The report does not end.
    TooLong,
    /// A line is no line of the format; its number.
    Malformed(u64),
    /// It does not end with the end of a line: a part is missing.
    CutOff,
    /// The metric is not there.
    Missing,
    /// A series is there twice.
    Twice,
    /// There are too many series to add up.
    TooMany,
}

impl Fault {
    /// The kind of fault, to count by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "it cannot be reached, or was too slow",
            Self::Status(_) => "its answer has another status than 200",
            Self::TooLong => "the report does not end",
            Self::Malformed(_) => "a line is not in the exposition format",
            Self::CutOff => "the end of the report is missing",
            Self::Missing => "the metric is not there",
            Self::Twice => "a series is there twice",
            Self::TooMany => "the metric has too many series",
        }
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Unreachable(why) => write!(f, ": {why}"),
            Self::Status(status) => write!(f, ": {status}"),
            Self::Malformed(line) => write!(f, ": line {line}"),
            Self::TooLong | Self::CutOff | Self::Missing | Self::Twice | Self::TooMany => Ok(()),
        }
    }
}

/// Labels of a series, each with its value.
type Labels = Vec<(String, String)>;

/// Which series are added up: those of a metric that have these labels, whatever others they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    labels: Labels,
}

impl FromStr for Selector {
    type Err = ();

    /// Reads `NAME` or `NAME{LABEL="VALUE",...}`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, labels, rest) = series(text).ok_or(())?;
        rest.trim().is_empty().then(|| Self { name: name.into(), labels }).ok_or(())
    }
}

impl Selector {
    /// A label that is not there has an empty value.
    fn takes(&self, labels: &[(String, String)]) -> bool {
        self.labels.iter().all(|(name, value)| {
            let found = labels.iter().find(|(other, _)| other == name);
            found.map_or("", |(_, value)| value) == value
        })
    }
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// The sum of all series that a selector takes.
    pub value: f64,
    /// How many they are.
    pub series: u32,
    /// The time of the oldest in milliseconds, if each has one.
    pub stamp: Option<i64>,
}

/// Reads a report to its end.
///
/// # Errors
/// [`Fault`]: it is too long, not in the format, or does not have the metric.
pub fn read(mut report: impl BufRead, selector: &Selector) -> Result<Sum, Fault> {
    let mut sum = Sum { value: 0.0, series: 0, stamp: Some(i64::MAX) };
    let (mut read, mut number, mut line) = (0, 0, Vec::new());
    // 128-bit hashes of the series, by keys that nobody else knows. Their labels are not kept.
    let (mut known, keys) = (HashSet::new(), [RandomState::new(), RandomState::new()]);
    loop {
        line.clear();
        let result = (&mut report).take(MAX_LINE).read_until(b'\n', &mut line);
        let length = match result {
            Ok(length) => length as u64,
            // The connection ended before the promised length.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Fault::CutOff),
            Err(error) => return Err(Fault::Unreachable(error.to_string())),
        };
        if length == 0 {
            break;
        }
        read += length;
        number += 1;
        if read > MAX_REPORT {
            return Err(Fault::TooLong);
        }
        let Some((b'\n', text)) = line.split_last() else {
            return Err(if length < MAX_LINE { Fault::CutOff } else { Fault::Malformed(number) });
        };
        let malformed = Fault::Malformed(number);
        let text = core::str::from_utf8(text).map_err(|_| malformed.clone())?;
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.trim_start_matches(BLANKS).is_empty() || text.trim_start_matches(BLANKS).starts_with('#') {
            continue;
        }
        let (name, mut labels, value, stamp) = sample(text).ok_or(malformed)?;
        if name != selector.name || !selector.takes(&labels) {
            continue;
        }
        labels.sort();
        if known.len() >= MAX_SERIES {
            return Err(Fault::TooMany);
        }
        if !known.insert(keys.each_ref().map(|key| key.hash_one(&labels))) {
            return Err(Fault::Twice);
        }
        sum.value += value;
        sum.series += 1;
        sum.stamp = sum.stamp.zip(stamp).map(|(oldest, stamp)| oldest.min(stamp));
    }
    if sum.series == 0 { Err(Fault::Missing) } else { Ok(sum) }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// A line that is a sample: name, labels, value, and time in milliseconds.
fn sample(line: &str) -> Option<(&str, Labels, f64, Option<i64>)> {
    let (name, labels, rest) = series(line)?;
    let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
    // A name without labels must end before its value begins.
    let is_apart = rest.starts_with(BLANKS) || line.contains('{');
    let value = words.next().filter(|_| is_apart)?.parse().ok()?;
    let stamp = words.next().map(str::parse).transpose().ok()?;
    words.next().is_none().then_some((name, labels, value, stamp))
}

/// A name with its labels, and what comes after it.
fn series(text: &str) -> Option<(&str, Labels, &str)> {
    let (name, rest) = word(text.trim_start_matches(BLANKS), |c| c == ':')?;
    let mut labels = Vec::new();
    let Some(mut rest) = rest.trim_start_matches(BLANKS).strip_prefix('{') else { return Some((name, labels, rest)) };
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((name, labels, after));
        }
        let (label, after) = word(rest, |_| false)?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('=')?;
        let (value, after) = quoted(after.trim_start_matches(BLANKS).strip_prefix('"')?)?;
        if labels.len() >= MAX_LABELS || labels.iter().any(|(other, _)| other == label) {
            return None;
        }
        labels.push((label.into(), value));
        rest = after.trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// The name that a text begins with, and the rest.
fn word(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || also(c))).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    word.starts_with(|c: char| !c.is_ascii_digit()).then_some((word, rest))
}

/// A text up to the quotation mark that ends it, without its escapes, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(place + 1..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                same @ ('\\' | '"') => same,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(report: &str, selector: &str) -> Result<(f64, u32, Option<i64>), Fault> {
        read(report.as_bytes(), &selector.parse().unwrap()).map(|sum| (sum.value, sum.series, sum.stamp))
    }

    /// The example of the format's own description, and a few lines of node_exporter.
    const REPORT: &str = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
rpc_duration_seconds{quantile="0.01"} 3102
node_cpu_seconds_total{cpu="0",mode="idle"} 78291.16
node_cpu_seconds_total{cpu="0",mode="user"} 1250.91
node_cpu_seconds_total{cpu="1",mode="idle"} 78205.5
node_cpu_seconds_total{ cpu = "1" , mode="user", } 1300
"#;

    #[test]
    fn series_are_added_up() {
        assert_eq!(sum(REPORT, "metric_without_timestamp_and_labels"), Ok((12.47, 1, None)));
        assert_eq!(sum(REPORT, "http_requests_total"), Ok((1030.0, 2, Some(1_395_066_363_000))));
        assert_eq!(sum(REPORT, r#"http_requests_total{code="400"}"#), Ok((3.0, 1, Some(1_395_066_363_000))));
        let idle = sum(REPORT, r#"node_cpu_seconds_total{mode="idle"}"#).unwrap();
        assert!((idle.0 - 156_496.66).abs() < 1e-6 && idle.1 == 2, "{idle:?}");
        assert_eq!(sum(REPORT, r#"node_cpu_seconds_total{cpu="1", mode="user"}"#), Ok((1300.0, 1, None)));
        assert_eq!(sum(REPORT, "something_weird"), Ok((f64::INFINITY, 1, Some(-3_982_045))));
        let path = r#"msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""}"#;
        assert_eq!(sum(REPORT, path), Ok((1.458255915e9, 1, None)));
        // A label that is not there is empty.
        assert_eq!(sum("a{b=\"\"} 1\na{b=\"c\"} 2\na 4\n", r#"a{b=""}"#), Ok((5.0, 2, None)));
        // Series that differ in where a name or a value ends are two.
        let alike = "a{b=\"cd\"} 1\na{bc=\"d\"} 1\na{b=\"c\",d=\"\"} 1\na{b=\"\",c=\"d\"} 1\na{b=\"cd\",e=\"\"} 1\n";
        assert_eq!(sum(alike, "a"), Ok((5.0, 5, None)));
        assert!(sum("a NaN\n", "a").unwrap().0.is_nan());
        assert_eq!(sum("a 1\r\n\t a2\t-2e3 \n", "a2"), Ok((-2000.0, 1, None)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (report, fault) in [
            (REPORT, Fault::Missing),
            ("", Fault::Missing),
            ("b 1\n", Fault::Missing),
            ("a{b=\"c\"} 1", Fault::CutOff),
            ("a 1\na 1\n", Fault::Twice),
            ("a{b=\"c\",d=\"e\"} 1\na{d=\"e\",b=\"c\"} 2\n", Fault::Twice),
            ("a{b=\"\"} 1\na{b=\"\"} 1\n", Fault::Twice),
            ("<html>\n", Fault::Malformed(1)),
            ("b 1\na\n", Fault::Malformed(2)),
            ("a one\n", Fault::Malformed(1)),
            ("a 1 2 3\n", Fault::Malformed(1)),
            ("a 1 2.5\n", Fault::Malformed(1)),
            ("a-b 1\n", Fault::Malformed(1)),
            ("1a 1\n", Fault::Malformed(1)),
            ("a{1b=\"c\"} 1\n", Fault::Malformed(1)),
            ("a{b=c} 1\n", Fault::Malformed(1)),
            ("a{b=\"c} 1\n", Fault::Malformed(1)),
            ("a{b=\"c\" d=\"e\"} 1\n", Fault::Malformed(1)),
            ("a{b=\"c\",b=\"d\"} 1\n", Fault::Malformed(1)),
            ("a{b=\"\\t\"} 1\n", Fault::Malformed(1)),
            ("a{,} 1\n", Fault::Malformed(1)),
            ("a{b=\"c\" 1\n", Fault::Malformed(1)),
        ] {
            assert_eq!(sum(report, "a"), Err(fault), "{report}");
        }
        assert_eq!(read(&b"a \xff\n"[..], &"a".parse().unwrap()), Err(Fault::Malformed(1)));
        for selector in ["", "1", "a b", "a{", "a{b}", "a{b=\"c\"} 1", "{b=\"c\"}"] {
            assert_eq!(selector.parse::<Selector>(), Err(()), "{selector}");
        }
    }

    /// Something that goes on for ever.
    struct Endless(&'static [u8], usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for place in buffer.iter_mut() {
                *place = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }

    #[test]
    fn whatever_does_not_end_is_given_up() {
        let endless = |text| read(std::io::BufReader::new(Endless(text, 0)), &"a".parse().unwrap());
        assert_eq!(endless(b"# a comment that is there again and again, and again, and again, and again\n"), Err(Fault::TooLong));
        assert_eq!(endless(b"# "), Err(Fault::Malformed(1)));
        let labels = |count| (0..count).map(|n| format!("l{n}=\"\",")).collect::<String>();
        assert_eq!(sum(&format!("a{{{}}} 1\n", labels(MAX_LABELS)), "a"), Ok((1.0, 1, None)));
        assert_eq!(sum(&format!("a{{{}}} 1\n", labels(MAX_LABELS + 1)), "a"), Err(Fault::Malformed(1)));
        let many: String = (0..MAX_SERIES).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect();
        assert_eq!(sum(&many, "a"), Ok((4_096.0, MAX_SERIES as u32, None)));
        let many: String = (0..=MAX_SERIES).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect();
        assert_eq!(sum(&many, "a"), Err(Fault::TooMany));
    }

    /// Whatever is done to a report: nothing panics, and what is believed are the numbers that stand in it.
    #[test]
    fn damaged_reports_are_refused_or_read() {
        let selector: Selector = r#"node_cpu_seconds_total{mode="idle"}"#.parse().unwrap();
        let mut dice = 1_u64;
        let mut roll = |below: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % below
        };
        let (mut refused, mut taken) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = REPORT.as_bytes().to_vec();
            for _ in 0..=roll(3) {
                let at = roll(bytes.len());
                match roll(4) {
                    0 => bytes.truncate(at + 1),
                    1 => bytes[at] = roll(256) as u8,
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"{}\"\\=, \n#"[roll(9)]),
                }
            }
            match read(&bytes[..], &selector) {
                Ok(sum) => {
                    assert!(sum.series <= 4, "{sum:?}");
                    taken += 1;
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1_000 && taken > 1_000, "{refused} {taken}");
        for _ in 0..20_000 {
            let length = roll(60);
            let signs = b"a1_{}\"\\=,. \n#+eInfNa\xc3\xa4";
            let bytes: Vec<u8> = (0..length).map(|_| signs[roll(signs.len())]).collect();
            let _ = read(&bytes[..], &selector);
        }
    }
}
