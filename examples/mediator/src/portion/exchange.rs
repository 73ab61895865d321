//! What two portions tell each other: datagrams over Unix sockets.
//!
//! | first byte | then |
//! | ---: | --- |
//! | 0 | nothing: the sender is new, or was, and wants to know all |
//! | 1 | records, of 56 bytes each |
//! | 2 | a connection that has ended: client, original destination and alternative source, 6 bytes each |
//! | 3 | what a server has sent: its endpoint and the alternative one, 6 bytes each, and a packet; translated for the client, or as it was sent if a transfer stays at that server |
//! | 4 | nothing: the receiver forgets everything, since all of it follows |
//! | 5 | servers that transfers stay at: for each its endpoint and the alternative one, 6 bytes each |
//! | 6 | the same, of servers that none stays at any more |

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use byway::{Connection, Event, Heap, Instant, Protocol, RECORD_LENGTH, Record, Translator};
use mio::net::UnixDatagram;
use mio::{Interest, Registry, Token};

use super::packets::{self, Ends};

const HELLO: u8 = 0;
const RECORDS: u8 = 1;
const GONE: u8 = 2;
pub(super) const PACKET: u8 = 3;
const FORGET: u8 = 4;
pub(super) const STAY: u8 = 5;
pub(super) const LEAVE: u8 = 6;

/// The longest datagram, in bytes.
pub(super) const MAX: usize = 1 << 16;
/// How many records are in one datagram at most.
const MOST: usize = (MAX - 1) / RECORD_LENGTH;
/// How many datagrams wait at most until the other process takes them.
const WAITING: usize = 256;
/// How many datagrams are taken before packets have their turn again.
const BURST: usize = 64;
/// How often the connections with traffic are sent again, so that both sides know that they are alive.
const REFRESH: Duration = Duration::from_secs(5);
/// How often it is tried to reach the other process.
const RETRY: Duration = Duration::from_millis(200);

/// Which portion this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It translates what clients send, has the rules and opens connections: the proxy.
    ToServer,
    /// It translates what servers send.
    ToClient,
}

/// What was exchanged, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that were imported.
    pub imported: u64,
    /// Records that the translator has refused, and datagrams that say nothing.
    pub refused: u64,
    /// Datagrams that were not sent: the other process is not there, or too many wait. Everything is sent anew then.
    pub unsent: u64,
    /// How often everything was sent.
    pub synchronised: u64,
    /// Packets that were translated and handed to the proxy.
    pub translated: u64,
    /// Packets that were handed to it as they were, since a transfer stays where they come from.
    pub passed: u64,
    /// Packets that belong to nothing that is known, or are not what a server sends.
    pub dropped: u64,
}

/// One end.
#[derive(Debug)]
pub struct Exchange {
    role: Role,
    /// Receives datagrams. It is not connected: otherwise nobody but its peer could reach it.
    socket: UnixDatagram,
    /// Connected to the other one's socket.
    out: UnixDatagram,
    there: PathBuf,
    is_connected: bool,
    is_ready: bool,
    /// Whether the other one has missed something.
    is_behind: bool,
    /// Where transfers stay, as far as the other one was told, or has told.
    pub(super) stays: BTreeSet<Ends>,
    queue: VecDeque<Vec<u8>>,
    tried: Option<Instant>,
    refreshed: Instant,
    buffer: Vec<u8>,
    pub(super) counters: Counters,
}

impl Exchange {
    /// Opens the socket in the folder, which is created for its owner alone if there is none.
    ///
    /// # Errors
    /// What cannot be opened, that others may use the folder, or that another process is this portion already.
    pub fn open(folder: &Path, role: Role) -> Result<Self, String> {
        let (here, there) = match role {
            Role::ToServer => (folder.join("to-server"), folder.join("to-client")),
            Role::ToClient => (folder.join("to-client"), folder.join("to-server")),
        };
        let wrong = |error: io::Error| format!("portion {}: {error}", here.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
        check(folder)?;
        if std::fs::metadata(&here).is_ok_and(|found| found.file_type().is_socket()) {
            // A file that was left over, unless a process listens.
            let probe = std::os::unix::net::UnixDatagram::unbound().map_err(wrong)?;
            if probe.connect(&here).is_ok() {
                return Err(format!("portion {}: another process is this portion", here.display()));
            }
            std::fs::remove_file(&here).map_err(wrong)?;
        }
        let socket = UnixDatagram::bind(&here).map_err(wrong)?;
        let out = UnixDatagram::unbound().map_err(wrong)?;
        Ok(Self {
            role,
            socket,
            out,
            there,
            is_connected: false,
            is_ready: true,
            is_behind: true,
            stays: BTreeSet::new(),
            queue: VecDeque::new(),
            tried: None,
            refreshed: Instant::ZERO,
            buffer: vec![0; MAX],
            counters: Counters::default(),
        })
    }

    /// Registers the socket.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.out, token, Interest::WRITABLE)?;
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// The socket may have something, or take something.
    pub const fn mark_ready(&mut self) {
        self.is_ready = true;
    }

    /// What was exchanged.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Counts a packet that is for nobody.
    pub const fn refuse(&mut self) {
        self.counters.refused += 1;
    }

    /// Whether nothing waits for the other process.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Reports the connection of an event, as it is now.
    pub fn report(&mut self, translator: &Translator<Heap>, event: &Event) {
        let connection = match event {
            // It has come from the other process.
            Event::Opened(_) if self.role == Role::ToClient => return,
            Event::Opened(connection) | Event::Changed(connection) => connection,
            Event::Moved { connection, .. } | Event::Closed { connection, .. } => connection,
            _ => return,
        };
        match translator.record(connection) {
            Some(record) => self.send([&[RECORDS], &record.as_bytes()[..]].concat()),
            // This process has only followed.
            None if self.role == Role::ToClient => {}
            None => {
                let mut gone = vec![GONE];
                let ends = [connection.client_side.source, connection.client_side.destination];
                for end in ends.into_iter().chain([connection.server_side.source]) {
                    gone.extend(end.ip().octets());
                    gone.extend(end.port().to_be_bytes());
                }
                self.send(gone);
            }
        }
    }

    pub(super) fn send(&mut self, datagram: Vec<u8>) {
        if self.is_connected && self.queue.len() < WAITING {
            self.queue.push_back(datagram);
            self.flush();
        } else {
            // A packet is sent again by its sender.
            self.is_behind |= datagram.first() != Some(&PACKET);
            self.counters.unsent += 1;
        }
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.queue.front() {
            match self.out.send(datagram) {
                Ok(_) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The other process has gone. What it misses is sent when it is back.
                    self.counters.unsent += self.queue.len() as u64;
                    (self.is_connected, self.is_behind) = (false, true);
                    self.queue.clear();
                }
            }
        }
    }

    /// Takes what the other one has sent; `packet` gets packets. Returns whether there may be more.
    pub fn receive(
        &mut self,
        now: Instant,
        translator: &mut Translator<Heap>,
        mut packet: impl FnMut(Ends, &[u8]),
    ) -> bool {
        if !core::mem::take(&mut self.is_ready) {
            return false;
        }
        self.flush();
        let mut buffer = core::mem::take(&mut self.buffer);
        for _ in 0..BURST {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.take(now, translator, buffer.get(..length).unwrap_or_default(), &mut packet),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.buffer = buffer;
                    return false;
                }
            }
        }
        (self.buffer, self.is_ready) = (buffer, true);
        true
    }

    fn take(
        &mut self,
        now: Instant,
        translator: &mut Translator<Heap>,
        datagram: &[u8],
        packet: &mut impl FnMut(Ends, &[u8]),
    ) {
        match (datagram.split_first(), self.role) {
            (Some((&HELLO, [])), _) => {
                // It is another process than the one that the socket is connected to.
                (self.is_connected, self.is_behind, self.tried) = (false, true, None);
                self.queue.clear();
            }
            (Some((&RECORDS, records)), _) => {
                let (records, rest) = records.as_chunks::<RECORD_LENGTH>();
                for record in records {
                    let imported =
                        Record::from_bytes(record).is_ok_and(|record| translator.import(now, &record).is_ok());
                    self.counters.imported += u64::from(imported);
                    self.counters.refused += u64::from(!imported);
                }
                self.counters.refused += u64::from(!rest.is_empty());
            }
            (Some((&GONE, ends)), Role::ToClient) if ends.len() == 18 => {
                let end = |at: usize| {
                    let bytes = ends.get(at..at + 6)?.first_chunk()?;
                    let [a, b, c, d, high, low] = *bytes;
                    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
                };
                if let Some(connection) = ended(translator, end(0), end(6), end(12)) {
                    translator.close(&connection);
                }
            }
            (Some((&PACKET, bytes)), Role::ToServer) => match packets::split(bytes) {
                Some((ends, bytes)) => packet(ends, bytes),
                None => self.refuse(),
            },
            (Some((&what @ (STAY | LEAVE), ends)), Role::ToClient) => {
                self.counters.refused += u64::from(!self.take_ends(what == STAY, ends));
            }
            (Some((&FORGET, [])), Role::ToClient) => {
                translator.forget();
                self.stays.clear();
                // It may have started again.
                self.is_connected = self.out.connect(&self.there).is_ok();
            }
            // Also an empty datagram.
            _ => self.counters.refused += 1,
        }
    }

    /// Does what is due: reaches the other one, and sends everything to one that has missed something.
    pub fn poll(&mut self, now: Instant, translator: &Translator<Heap>) {
        self.flush();
        if !self.is_connected && self.tried.is_none_or(|tried| tried + RETRY <= now) {
            self.tried = Some(now);
            self.is_connected = self.out.connect(&self.there).is_ok();
            if self.is_connected && self.role == Role::ToClient {
                self.is_behind = false;
                self.send(vec![HELLO]);
            }
        }
        let is_due = self.refreshed + REFRESH <= now;
        if self.is_connected && self.is_behind && self.role == Role::ToServer && self.is_idle() {
            (self.is_behind, self.refreshed) = (false, now);
            self.counters.synchronised += 1;
            self.send(vec![FORGET]);
            self.send_stays();
            self.send_all(translator, Duration::MAX);
        } else if self.is_connected && is_due {
            (self.is_behind, self.refreshed) = (self.is_behind && self.role == Role::ToServer, now);
            self.send_all(translator, REFRESH);
        }
    }

    /// The records of connections that had a packet within this time.
    fn send_all(&mut self, translator: &Translator<Heap>, newer_than: Duration) {
        let is_newer = |record: &Record| record.idle().is_some_and(|idle| idle <= newer_than);
        let records: Vec<_> = translator.records().filter(is_newer).collect();
        for records in records.chunks(MOST) {
            let mut datagram = vec![RECORDS];
            records.iter().for_each(|record| datagram.extend_from_slice(record.as_bytes()));
            self.send(datagram);
        }
    }
}

/// Whether only this process's user can use the folder: records and packets in it are believed.
fn check(folder: &Path) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("portion {}: {why}", folder.display()));
    let found = std::fs::symlink_metadata(folder).map_err(|error| format!("portion {}: {error}", folder.display()))?;
    let own = rustix::process::geteuid().as_raw();
    if found.is_symlink() {
        return wrong("expected a folder, not a symbolic link");
    }
    if found.uid() != own {
        return wrong(&format!("it belongs to user {}, not to {own}, who runs this", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return wrong(&format!("others may use it (mode {:o}): chmod 700", found.mode() & 0o7777));
    }
    Ok(())
}

/// The connection that has ended, unless the client has another one to the same destination already.
fn ended(
    translator: &Translator<Heap>,
    client: Option<SocketAddrV4>,
    original: Option<SocketAddrV4>,
    alternative: Option<SocketAddrV4>,
) -> Option<Connection> {
    let (connection, _) = translator.connection(Protocol::Udp, client?, original?)?;
    (connection.server_side.source == alternative?).then_some(connection)
}
