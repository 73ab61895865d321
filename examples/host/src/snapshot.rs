//! Connections over a restart, in one file.
//!
//! ```text
//! byway snapshot 1
//! time MICROSECONDS               of byway's clock
//! byway written MICROSECONDS      of the system clock, since 1970; a byway that does not know this passes over it
//! shards NUMBER
//! secret HEXADECIMAL              which client is which shard's
//! alternatives RANGE...
//! limit NUMBER                    as they were when the snapshot was written,
//! timeouts MICROSECONDS...
//! rule RULE                       one line each
//! said limit NUMBER               and as the configuration had said: what an instruction has changed stays changed
//! said timeouts MICROSECONDS...
//! said rule RULE
//! name ENTRY, said name ENTRY     likewise: names, clients, seconds, addresses or the rule
//! records NUMBER
//! (56 bytes for each record, and 32 of SHA-256 over all before)
//! ```

use core::fmt::Write as _;
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use byway::control::Rule as OwnedRule;
use byway::{Divert, Instant, RECORD_LENGTH, Record, Target, Timeouts, Weighted};
use sha2::{Digest, Sha256};

use crate::config::{Entry, only_regular};
use crate::reload::Said;

const MAGIC: &str = "byway snapshot ";
const VERSION: &str = "1";
/// Older readers pass over whatever begins with the first word.
const WRITTEN: &str = "byway written ";
const CHECK: usize = 32;

/// The contents of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When it was written, on the clock of the connections.
    pub time: Instant,
    /// When it was written, on the system clock; unknown if an older byway has written it.
    pub written: Option<Instant>,
    /// How many shards the connections were divided among.
    pub shards: usize,
    /// The secret that assigned clients to shards.
    pub secret: [u8; 32],
    /// The alternative addresses of the connections.
    pub alternatives: String,
    /// Rules and limits as they were.
    pub rules: Said,
    /// Rules and limits as the configuration had said.
    pub said: Said,
    /// The connections.
    pub records: Vec<Record>,
}

impl Snapshot {
    /// How many connections there are: some have two records.
    pub(crate) fn connections(&self) -> usize {
        self.records.iter().filter(|record| !record.is_second()).count()
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{MAGIC}{VERSION}\ntime {}\n", self.time.as_micros());
        if let Some(written) = self.written {
            let _ = writeln!(text, "{WRITTEN}{}", written.as_micros());
        }
        let _ = write!(text, "shards {}\nsecret ", self.shards);
        for byte in self.secret {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "\nalternatives {}\n", self.alternatives);
        for (before, said) in [("", &self.rules), ("said ", &self.said)] {
            let Timeouts { tcp_established, tcp_transitory, udp, icmp, fragment, hold } = said.timeouts;
            let all = [tcp_established, tcp_transitory, udp, icmp, fragment, hold];
            let all = all.map(|timeout| timeout.as_micros().to_string()).join(" ");
            let _ = write!(text, "{before}limit {}\n{before}timeouts {all}\n", said.client_limit);
            for rule in &said.rules {
                let _ = writeln!(text, "{before}rule {}", rule.divert());
            }
            for entry in &said.names {
                let _ = writeln!(text, "{before}name {entry}");
            }
        }
        let _ = writeln!(text, "records {}", self.records.len());
        let mut bytes = text.into_bytes();
        for record in &self.records {
            bytes.extend_from_slice(record.as_bytes());
        }
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let Some(version) = bytes.strip_prefix(MAGIC.as_bytes()) else {
            return Err("it is no snapshot of byway".into());
        };
        let version = String::from_utf8_lossy(version.split(|b| *b == b'\n').next().unwrap_or_default());
        if version != VERSION {
            return Err(format!("it is of version {version}, and this byway reads version {VERSION}"));
        }
        let Some((written, check)) = bytes.split_last_chunk::<CHECK>() else {
            return Err("it is damaged: it ends too early".into());
        };
        if Sha256::digest(written)[..] != check[..] {
            return Err("it is damaged: its checksum is not that of its contents".into());
        }
        Self::read(written).ok_or_else(|| "its contents make no sense".into())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let nothing = || Said { rules: Vec::new(), client_limit: 0, timeouts: Timeouts::RECOMMENDED, names: Vec::new() };
        let (mut time, mut shards, mut secret, mut alternatives) = (None, None, None, None);
        let (mut rules, mut said, mut written) = (nothing(), nothing(), None);
        let mut rest = bytes;
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = core::str::from_utf8(&rest[..end]).ok()?;
            rest = &rest[end + 1..];
            if let Some(micros) = line.strip_prefix(WRITTEN) {
                written = Some(Instant::from_micros(micros.parse().ok()?));
                continue;
            }
            let (word, value) = line.split_once(' ')?;
            let (word, value, into) = match word {
                "said" => value.split_once(' ').map(|(word, value)| (word, value, &mut said))?,
                _ => (word, value, &mut rules),
            };
            match word {
                "byway" => {}
                "time" => time = Some(Instant::from_micros(value.parse().ok()?)),
                "shards" => shards = Some(value.parse().ok()?),
                "secret" => secret = Some(hexadecimal(value)?),
                "alternatives" => alternatives = Some(value.to_string()),
                "limit" => into.client_limit = value.parse().ok()?,
                "timeouts" => into.timeouts = timeouts(value)?,
                "rule" => {
                    let mut room = [Weighted { target: Target::Same, weight: 1 }; 16];
                    into.rules.push(OwnedRule::new(&Divert::parse(value, &mut room).ok()?)?);
                }
                "name" => into.names.push(Entry::parse(value)?),
                "records" => {
                    let (records, behind) = rest.as_chunks::<RECORD_LENGTH>();
                    if records.len() != value.parse::<usize>().ok()? || !behind.is_empty() {
                        return None;
                    }
                    let records = records.iter().map(|bytes| Record::from_bytes(bytes)).collect::<Result<_, _>>();
                    return Some(Self {
                        time: time?,
                        written,
                        shards: shards?,
                        secret: secret?,
                        alternatives: alternatives?,
                        rules,
                        said,
                        records: records.ok()?,
                    });
                }
                _ => return None,
            }
        }
    }

    /// Reads a snapshot, if there is one.
    ///
    /// # Errors
    /// One line that says what is wrong with the file.
    pub fn load(file: &Path) -> Result<Option<Self>, String> {
        check_file(file)?;
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("snapshot {}: {error}", file.display())),
        };
        Self::from_bytes(&bytes).map(Some).map_err(|why| refused(file, &why))
    }

    /// Writes it: a new file, which is on the disk before it takes the old one's place. Whatever happens, there is one
    /// whole file or the other.
    ///
    /// # Errors
    /// One line with the file and the reason.
    pub fn save(&self, file: &Path) -> Result<(), String> {
        let new = with(file, ".new");
        let written = || {
            write_whole(&new, &self.to_bytes())?;
            std::fs::rename(&new, file)?;
            sync_folder(file)
        };
        written().map_err(|error| {
            let _ = std::fs::remove_file(&new);
            format!("snapshot {}: {error}", file.display())
        })
    }
}

/// Refuses a path that names a folder, a pipe, a device or a socket. Reading a pipe would block, and no signal would be handled.
///
/// # Errors
/// One line with the file and what it is.
pub fn check_file(file: &Path) -> Result<(), String> {
    let found = if file.is_dir() { Err("it is a folder".into()) } else { only_regular(file) };
    found.map_err(|why| format!("snapshot {}: {why}", file.display()))
}

/// Checks that a snapshot can be written, before one has to be.
///
/// # Errors
/// One line with the folder and the reason.
pub fn check_folder(file: &Path) -> Result<(), String> {
    let folder = folder(file);
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| format!("state.snapshot: the folder {}: {error}", folder.display()))
}

/// Renames a snapshot that was used: after a crash its connections would be out of date.
///
/// # Errors
/// One line with the file and the reason.
pub fn retire(file: &Path) -> Result<(), String> {
    let retired = || {
        std::fs::rename(file, with(file, ".used"))?;
        sync_folder(file)
    };
    retired().map_err(|error: io::Error| format!("snapshot {}: it cannot be renamed: {error}", file.display()))
}

/// Why a snapshot is not used, and what to do.
#[must_use]
pub fn refused(file: &Path, why: &str) -> String {
    format!("snapshot {}: {why}: move it away to start without its connections", file.display())
}

/// Writes a file that gets its name when it is whole, and on the disk: not even `kill -9` leaves half of it.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    let mode = Mode::RUSR | Mode::WUSR;
    let write = |mut to: File| {
        to.write_all(bytes)?;
        to.sync_all()?;
        Ok::<_, io::Error>(to)
    };
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match open(folder(file), OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(nameless) => {
            let whole = write(nameless.into())?;
            let path = format!("/proc/self/fd/{}", whole.as_raw_fd());
            Ok(linkat(CWD, &path, CWD, file, AtFlags::SYMLINK_FOLLOW)?)
        }
        // A file system that has no files without names.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let mut options = OpenOptions::new();
            write(options.write(true).create_new(true).mode(0o600).open(file)?).map(drop)
        }
        Err(error) => Err(error.into()),
    }
}

fn with(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A rename is on the disk when its folder is.
fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder(file))?.sync_all()
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    if digits.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn timeouts(text: &str) -> Option<Timeouts> {
    let all: Result<Vec<u64>, _> = text.split(' ').map(str::parse).collect();
    let [tcp_established, tcp_transitory, udp, icmp, fragment, hold] = *all.ok()? else {
        return None;
    };
    let of = Duration::from_micros;
    Some(Timeouts {
        tcp_established: of(tcp_established),
        tcp_transitory: of(tcp_transitory),
        udp: of(udp),
        icmp: of(icmp),
        fragment: of(fragment),
        hold: of(hold),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> OwnedRule {
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 16];
        OwnedRule::new(&Divert::parse(text, &mut room).unwrap()).unwrap()
    }

    fn snapshot() -> Snapshot {
        let rules = ["100.1.1.1:80 tcp to 20.0.0.1:80*2, 20.0.0.2:80 midstream drop", "0.0.0.0/0 to same"];
        let names = ["*.xyz.com 192.168.0.0/16 20 203.0.113.1*3 203.0.113.2*1", "a\\032b.c 0.0.0.0/0 86400 rule 100.1.1.1:80 tcp"];
        let names: Vec<_> = names.iter().map(|name| Entry::parse(name).unwrap()).collect();
        let said = Said {
            rules: vec![rule(rules[1])],
            client_limit: 5,
            timeouts: Timeouts::RECOMMENDED,
            names: names[..1].to_vec(),
        };
        let now = Timeouts { udp: Duration::from_micros(180_000_001), ..Timeouts::RECOMMENDED };
        let config = byway::Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = byway::Translator::new(config, byway::Heap::new(64, 16)).unwrap();
        translator.divert(rule(rules[0]).divert()).unwrap();
        let mut packet = crate::packet::tests::tcp([1, 2, 3, 4], [100, 1, 1, 1], &[]);
        packet[33] = 2;
        let _ = translator.translate(Instant::ZERO, &mut packet);
        let records: Vec<_> = translator.records().collect();
        assert_eq!(records.len(), 1);
        Snapshot {
            time: Instant::from_micros(1_700_000_000_123_456),
            written: Some(Instant::from_micros(1_700_000_555_123_456)),
            shards: 2,
            secret: core::array::from_fn(|n| n as u8),
            alternatives: "10.10.10.10-10.10.10.10:1024-65535".into(),
            rules: Said { rules: rules.map(rule).to_vec(), client_limit: 0, timeouts: now, names },
            said,
            records,
        }
    }

    #[test]
    fn only_a_regular_file_is_read() {
        assert_eq!(Snapshot::load(Path::new("/dev/zero")), Err("snapshot /dev/zero: it is no regular file".into()));
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = std::env::temp_dir().join(format!("byway-snapshot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("snapshot");
        assert_eq!(Snapshot::load(&file), Ok(None));
        snapshot().save(&file).unwrap();
        assert_eq!(Snapshot::load(&file), Ok(Some(snapshot())));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "it holds a secret");
        // Over an old one; and then nothing is left of the new file.
        snapshot().save(&file).unwrap();
        retire(&file).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.pop().unwrap(), "snapshot.used");
        assert!(names.is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
        let error = snapshot().save(&file).unwrap_err();
        assert!(error.ends_with("snapshot: No such file or directory (os error 2)"), "{error}");
    }

    #[test]
    fn what_is_damaged_is_refused_with_the_reason() {
        let whole = snapshot().to_bytes();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let why = Snapshot::from_bytes(&damaged).unwrap_err();
            let expected = match at {
                0..15 => "it is no snapshot of byway",
                15 | 16 => "it is of version ",
                _ => "it is damaged: its checksum is not that of its contents",
            };
            assert!(why.starts_with(expected), "byte {at}: {why}");
            assert!(Snapshot::from_bytes(&whole[..at]).is_err(), "the first {at} bytes");
        }
        let mut other = whole[..whole.len() - CHECK].to_vec();
        other.truncate(other.len() - 1);
        let check = Sha256::digest(&other);
        other.extend_from_slice(&check);
        assert_eq!(Snapshot::from_bytes(&other).unwrap_err(), "its contents make no sense");
    }

    /// Neither does an older byway refuse a newer one's, which has a line more, nor the other way round.
    #[test]
    fn a_snapshot_of_an_older_byway_does_not_say_when_it_was_written() {
        let (whole, older) = (snapshot().to_bytes(), Snapshot { written: None, ..snapshot() }.to_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = "byway written 1700000555123456\n";
        assert!(text(&whole).contains(line) && !text(&older).contains("written"));
        assert_eq!(Snapshot::from_bytes(&older), Ok(Snapshot { written: None, ..snapshot() }));
        assert!(line.starts_with(MAGIC.split(' ').next().unwrap()), "all that an older one looks at");
    }
}
