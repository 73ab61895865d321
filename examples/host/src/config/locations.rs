//! Where clients are: a file of prefixes and locations, as CSV or as an MMDB database of countries.

use core::net::Ipv4Addr;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use byway::Prefix;
use maxminddb::{PathElement, Reader, WithinOptions};

use super::document::only_regular;

/// The longest line of a CSV file, in bytes.
const LONGEST_LINE: u64 = 1_024;
/// The most lines of a CSV file, or networks of a database: four times as many as the files of all countries have.
const MOST: usize = 4_000_000;
/// The largest database, in bytes.
const LARGEST: u64 = 256 << 20;

/// Locations, in lower case, each with its addresses: sorted ranges that do not touch, from the first address to the one after
/// the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Locations(BTreeMap<String, Vec<(u64, u64)>>);

impl Locations {
    /// Reads a file: a database if its name ends with `.mmdb`, else lines of `PREFIX,LOCATION`.
    ///
    /// # Errors
    /// One line that names the file, and the line of a CSV file.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let is_database = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mmdb"));
        let failed = |why: String| format!("{}: {why}", file.display());
        // Reading a pipe may block: a reload reads it on a thread of its own.
        if !std::fs::metadata(file).is_ok_and(|found| found.file_type().is_fifo()) {
            only_regular(file).map_err(failed)?;
        }
        let opened = File::open(file).map_err(|error| failed(error.to_string()))?;
        if is_database {
            Self::of_database(opened).map_err(failed)
        } else {
            Self::of_lines(BufReader::new(opened)).map_err(|(line, why)| format!("{}:{line}: {why}", file.display()))
        }
    }

    /// Reads lines of `PREFIX,LOCATION`; empty ones and those that begin with `#` are left out. Where prefixes overlap, the
    /// narrower one says where a client is.
    fn of_lines(mut lines: impl BufRead) -> Result<Self, (usize, String)> {
        let mut names: Vec<String> = Vec::new();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        // Network, length, location and line.
        let mut entries: Vec<(u32, u8, usize, usize)> = Vec::new();
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let count = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
            if count.map_err(|error| (line, error.to_string()))? == 0 {
                break;
            }
            if line > MOST {
                return Err((line, format!("more than {MOST} lines")));
            }
            if text.len() as u64 == LONGEST_LINE {
                return Err((line, format!("the line is longer than {LONGEST_LINE} bytes")));
            }
            let text = core::str::from_utf8(&text).map_err(|_| (line, "this is no UTF-8".to_string()))?.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let expected = || (line, format!("\"{text}\" found: expected PREFIX,LOCATION like \"192.0.2.0/24,de\", in IPv4"));
            let (prefix, name) = text.split_once(',').map(|(a, b)| (a.trim(), b.trim())).ok_or_else(expected)?;
            if name.is_empty() || name.contains([',', '"']) {
                return Err(expected());
            }
            let (network, length) = exact(prefix).ok_or_else(expected)?;
            let name = name.to_lowercase();
            let number = *numbers.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            });
            entries.push((network, length, number, line));
        }
        entries.sort_unstable();
        if let Some([first, second]) = entries.windows(2).find_map(|two| match two {
            [a, b] if (a.0, a.1) == (b.0, b.1) => Some([a, b]),
            _ => None,
        }) {
            let (line, other) = (first.3.max(second.3), first.3.min(second.3));
            return Err((line, format!("{}/{} is in line {other} already", Ipv4Addr::from_bits(first.0), first.1)));
        }
        let mut all = vec![Vec::new(); names.len()];
        // The prefixes that contain the current address: where each ends, and its location. An inner prefix ends first.
        let mut open: Vec<(u64, usize)> = Vec::new();
        let mut at = 0;
        for (network, length, number, _) in entries {
            let start = u64::from(network);
            while let Some((end, outer)) = open.pop_if(|(end, _)| *end <= start) {
                add(&mut all[outer], &mut at, end);
            }
            if let Some((_, outer)) = open.last() {
                add(&mut all[*outer], &mut at, start);
            }
            at = start;
            open.push((start + (1 << (32 - length)), number));
        }
        while let Some((end, outer)) = open.pop() {
            add(&mut all[outer], &mut at, end);
        }
        Ok(Self(names.into_iter().zip(all).collect()))
    }

    /// The networks of a database whose records have a country with an ISO code: GeoLite2 Country and City, DB-IP, and others of
    /// that form.
    fn of_database(file: File) -> Result<Self, String> {
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("it is larger than {LARGEST} bytes"));
        }
        let said = |error: maxminddb::MaxMindDbError| format!("it is no good MMDB database: {error}");
        let reader = Reader::from_source(bytes).map_err(said)?;
        reader.verify().map_err(said)?;
        let all = "0.0.0.0/0".parse().map_err(|_| "no network".to_string())?;
        let mut found = Self::default();
        // Many networks have the same record.
        let mut names: HashMap<usize, Option<String>> = HashMap::new();
        for (count, network) in reader.within(all, WithinOptions::default()).map_err(said)?.enumerate() {
            if count == MOST {
                return Err(format!("it has more than {MOST} networks"));
            }
            let record = network.map_err(said)?;
            let Some(place) = record.offset() else { continue };
            let name = match names.get(&place) {
                Some(name) => name,
                None => {
                    let path = [PathElement::Key("country"), PathElement::Key("iso_code")];
                    let name: Option<String> = record.decode_path(&path).map_err(said)?;
                    names.entry(place).or_insert(name.map(|name| name.to_lowercase()))
                }
            };
            let Some(name) = name else { continue };
            let network = record.network().map_err(said)?;
            let core::net::IpAddr::V4(first) = network.ip() else { continue };
            let mut start = u64::from(first.to_bits());
            let end = start + (1 << 32_u8.saturating_sub(network.prefix()));
            match found.0.get_mut(name) {
                Some(ranges) => add(ranges, &mut start, end),
                None => drop(found.0.insert(name.clone(), vec![(start, end)])),
            }
        }
        if found.0.is_empty() {
            return Err("no record has country.iso_code".into());
        }
        Ok(found)
    }

    /// Whether there is a location of this name, in upper or lower case.
    #[must_use]
    pub(super) fn has(&self, location: &str) -> bool {
        self.0.contains_key(&location.to_lowercase())
    }

    /// The fewest prefixes that cover exactly those addresses of `within` that are in one of these locations.
    #[must_use]
    pub(super) fn prefixes(&self, locations: &[&str], within: Prefix) -> Vec<Prefix> {
        let first = u64::from(within.network().to_bits());
        let last = first + (1 << (32 - within.length()));
        let found = locations.iter().filter_map(|name| self.0.get(&name.to_lowercase())).flatten();
        let mut ranges: Vec<_> = found.map(|(from, to)| ((*from).max(first), (*to).min(last))).collect();
        ranges.sort_unstable();
        let (mut joined, mut at) = (Vec::new(), 0);
        for (from, to) in ranges {
            // Addresses that are listed twice are added once.
            at = from.max(at);
            add(&mut joined, &mut at, to);
        }
        let mut all = Vec::new();
        for (mut at, end) in joined {
            while at < end {
                // The largest prefix that begins here and does not reach beyond the end.
                let size = (end - at).ilog2().min(at.trailing_zeros()).min(32);
                all.extend(Prefix::new(Ipv4Addr::from_bits(at as u32), (32 - size) as u8));
                at += 1 << size;
            }
        }
        all
    }
}

/// Adds the addresses from `at` to `end` to ranges, and sets `at` to `end`.
fn add(ranges: &mut Vec<(u64, u64)>, at: &mut u64, end: u64) {
    if *at < end {
        match ranges.last_mut() {
            Some(last) if last.1 == *at => last.1 = end,
            _ => ranges.push((*at, end)),
        }
        *at = end;
    }
}

/// A prefix without bits after its length, or an address.
fn exact(text: &str) -> Option<(u32, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) if length.bytes().all(|digit| digit.is_ascii_digit()) => (address, length.parse().ok()?),
        Some(_) => return None,
        None => (text, 32),
    };
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix = Prefix::new(address, length)?;
    (prefix.network() == address).then_some((address.to_bits(), length))
}

#[cfg(test)]
mod tests {
    use byway_testing::Dice;

    use super::*;

    fn lines(text: &str) -> Result<Locations, (usize, String)> {
        Locations::of_lines(text.as_bytes())
    }

    fn of(locations: &Locations, location: &str) -> Vec<String> {
        locations.prefixes(&[location], Prefix::ALL).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn neighbours_become_one_prefix_and_what_lies_inside_another_is_not_part_of_it() {
        let text = "# a comment\n\n 10.0.0.0/8 , DE \n10.1.0.0/16,fr\n10.1.2.0/24,de\n192.0.2.0/25,at\n192.0.2.128/25,AT\n192.0.3.0/24,at\n1.2.3.4,fr";
        let all = lines(text).unwrap();
        assert_eq!(of(&all, "at"), ["192.0.2.0/23"]);
        assert_eq!(of(&all, "de")[..2], ["10.0.0.0/16", "10.1.2.0/24"]);
        assert_eq!(of(&all, "de")[2..], ["10.2.0.0/15", "10.4.0.0/14", "10.8.0.0/13", "10.16.0.0/12", "10.32.0.0/11", "10.64.0.0/10", "10.128.0.0/9"]);
        assert_eq!(of(&all, "FR")[0], "1.2.3.4/32");
        assert!(!all.has("xx") && all.has("De") && of(&all, "xx").is_empty());
        // Several at once, and within some clients.
        let both = all.prefixes(&["de", "fr", "de"], "10.0.0.0/8".parse().unwrap());
        assert_eq!(both, ["10.0.0.0/8".parse().unwrap()]);
        let some = all.prefixes(&["de"], "10.1.0.0/16".parse().unwrap());
        assert_eq!(some, ["10.1.2.0/24".parse().unwrap()]);
        assert_eq!(of(&lines("0.0.0.0/0,all\n255.255.255.255,one\n").unwrap(), "all").len(), 32);
        assert_eq!(of(&lines("0.0.0.0/1,all\n128.0.0.0/1,all\n").unwrap(), "all"), ["0.0.0.0/0"]);
        assert_eq!(lines("").unwrap(), Locations::default());
    }

    /// Each address is where the narrowest prefix says.
    #[test]
    fn addresses_are_where_the_narrowest_prefix_says() {
        let mut dice = Dice(1);
        let mut next = |below: u64| dice.below(below);
        for _ in 0..300 {
            let mut entries: Vec<(Prefix, &str)> = Vec::new();
            for _ in 0..next(12) {
                let length = 24 + next(9) as u8;
                let prefix = Prefix::new(Ipv4Addr::from_bits(0x0a00_0000 | next(256) as u32), length).unwrap();
                if entries.iter().all(|(other, _)| *other != prefix) {
                    entries.push((prefix, ["a", "b", "c"][next(3) as usize]));
                }
            }
            let text: String = entries.iter().map(|(prefix, name)| format!("{prefix},{name}\n")).collect();
            let all = lines(&text).unwrap();
            for host in 0..256 {
                let address = Ipv4Addr::from_bits(0x0a00_0000 | host);
                let narrowest = entries.iter().filter(|(prefix, _)| prefix.contains(address)).max_by_key(|(p, _)| p.length());
                for name in ["a", "b", "c"] {
                    let holders = all.prefixes(&[name], Prefix::ALL);
                    let count = holders.iter().filter(|prefix| prefix.contains(address)).count();
                    assert_eq!(count, usize::from(narrowest.is_some_and(|(_, other)| *other == name)), "{address} {name}\n{text}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line, expected) in [
            ("10.0.0.0/8,de\n10.0.0.0/33,fr", 2, "\"10.0.0.0/33,fr\" found: expected PREFIX,LOCATION"),
            ("10.0.0.1/8,de", 1, "expected PREFIX,LOCATION"),
            ("#\n\n10.0.0.0/8", 3, "expected PREFIX,LOCATION"),
            ("10.0.0.0/8,", 1, "expected PREFIX,LOCATION"),
            ("10.0.0.0/8,de,x", 1, "expected PREFIX,LOCATION"),
            ("\"10.0.0.0/8\",\"de\"", 1, "expected PREFIX,LOCATION"),
            ("2001:db8::/32,de", 1, "in IPv4"),
            ("10.0.0.0/+8,de", 1, "expected PREFIX,LOCATION"),
            ("network,country\n", 1, "expected PREFIX,LOCATION"),
            ("10.0.0.0/8,de\n1.1.1.1,at\n10.0.0.0/8,fr", 3, "10.0.0.0/8 is in line 1 already"),
        ] {
            let (at, why) = lines(text).unwrap_err();
            assert!(at == line && why.contains(expected), "{text}: {at}: {why}");
        }
        let long = format!("10.0.0.0/8,{}\n", "x".repeat(2_000));
        assert_eq!(lines(&long).unwrap_err(), (1, "the line is longer than 1024 bytes".into()));
        assert_eq!(Locations::of_lines(&b"10.0.0.0/8,\xff\n"[..]).unwrap_err(), (1, "this is no UTF-8".into()));
    }

    /// A database that another program has written (`tests/locations/make.py`).
    #[test]
    fn a_database_says_the_same() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/locations/locations.mmdb");
        let all = Locations::read(&file).unwrap();
        assert_eq!(of(&all, "de"), ["192.0.2.0/25", "192.0.2.128/26", "198.51.100.0/24"]);
        assert_eq!(of(&all, "fr"), ["192.0.2.192/26", "203.0.113.0/24"]);
        assert_eq!(all.0.len(), 2);
        // A damaged database is refused, or says something else; nothing panics.
        let bytes = std::fs::read(&file).unwrap();
        let folder = std::env::temp_dir().join(format!("byway-locations-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let damaged = folder.join("damaged.mmdb");
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(7) {
            let mut copy = bytes.clone();
            copy[at] ^= 0x5a;
            std::fs::write(&damaged, &copy).unwrap();
            refused += usize::from(Locations::read(&damaged).is_err());
        }
        assert!(refused > 10, "{refused}");
        std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
        let said = Locations::read(&damaged).unwrap_err();
        assert!(said.contains("damaged.mmdb: it is no good MMDB database"), "{said}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
