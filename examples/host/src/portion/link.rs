//! The stream to the other portion, on threads of its own: one reads, one writes.

use core::convert::Infallible;
use core::net::SocketAddrV4;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use byway::{Connection, Record, Sharding};
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket_with, sockopt};
use tracing::{debug, error, info, warn};

use super::exchange::{self, Closings, RecordSender, Records};
use super::frame::{self, Gone, MOST, Message, NONCE, Seal};
use super::{Direction, End, Settings};
use crate::clock::Clock;
use crate::metrics::Handles;
use crate::names::Naming;
use crate::run::Alarm;
use crate::shard::Handle;
use crate::{listen, thread};

/// How long the other end may take to greet, and how long it may say nothing afterwards.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often something is sent, if only an empty frame.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long after a failure the stream is opened again.
const AGAIN: Duration = Duration::from_millis(500);
/// All connections, however old their last packet is.
const ALL: Duration = Duration::MAX;

/// What is known of the stream, for the metrics page.
#[derive(Debug, Default)]
pub struct Status {
    /// Whether it is open.
    pub is_connected: AtomicBool,
    /// Records sent.
    pub sent: AtomicU64,
    /// Records received.
    pub received: AtomicU64,
    /// Records received that the translator refused.
    pub refused: AtomicU64,
    /// How often all connections were sent.
    pub complete: AtomicU64,
    /// Records and notices of relayed DNS queries sent.
    pub queries_sent: AtomicU64,
    /// Those received.
    pub queries_received: AtomicU64,
    /// Those received that the naming server refused.
    pub queries_refused: AtomicU64,
    /// Those that could not be sent.
    pub queries_lost: AtomicU64,
}

/// One end of the stream, before its threads are started.
#[derive(Debug)]
pub struct Link {
    listener: Option<TcpListener>,
    records: Records,
    sender: RecordSender,
    settings: Settings,
    alternatives: String,
    status: Arc<Status>,
}

/// The shards, and the portion that they are of.
#[derive(Debug)]
struct Own {
    settings: Settings,
    /// The alternative addresses: both portions must have the same.
    alternatives: String,
    status: Arc<Status>,
    shards: Handles,
    sharding: Sharding,
    clock: Clock,
}

impl Link {
    /// Opens the port, if this is the end that listens. `shared` allows the process that this one takes over from to listen at it
    /// too.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn open(settings: &Settings, alternatives: String, shared: bool) -> Result<Self, String> {
        let listener = match settings.end {
            End::Listen(at) => {
                Some(open(at, shared).map_err(|error| listen::refusal("portion.listen", at, &error))?)
            }
            End::Connect(_) => None,
        };
        let status = Arc::<Status>::default();
        let (sender, records) = exchange::queue(settings.direction, status.clone());
        Ok(Self { listener, records, sender, settings: settings.clone(), alternatives, status })
    }

    /// What shards report to.
    #[must_use]
    pub const fn sender(&self) -> &RecordSender {
        &self.sender
    }

    /// What is known of the stream.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Exchanges records between these shards and the other portion, on threads that end with the process.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self, shards: Handles, sharding: Sharding, clock: Clock) -> Result<(), String> {
        let Self { listener, mut records, sender: _, settings, alternatives, status } = self;
        let own = Own { settings, alternatives, status, shards, sharding, clock };
        let run = move || {
            // Only a panic ends this thread, and then the process is of no use.
            let _alarm = Alarm;
            let mut said = String::new();
            loop {
                let Err(why) = own.connect(listener.as_ref()).and_then(|stream| own.exchange(stream, &mut records));
                if records.set_connected(false) {
                    said.clear();
                    warn!("the other portion is gone: {why}");
                } else if said != why.to_string() {
                    // The same error is not logged again and again.
                    said = why.to_string();
                    error!("the other portion: {said}");
                }
                std::thread::sleep(AGAIN);
            }
        };
        thread::start("portion", run).map(drop)
    }
}

/// For ever, or until it fails.
type Endless = io::Result<Infallible>;

impl Own {
    fn connect(&self, listener: Option<&TcpListener>) -> io::Result<TcpStream> {
        match (listener, self.settings.end) {
            (Some(listener), _) => Ok(listener.accept()?.0),
            (None, End::Connect(to) | End::Listen(to)) => TcpStream::connect_timeout(&to.into(), PATIENCE),
        }
    }

    /// Goes on until the stream ends.
    fn exchange(&self, stream: TcpStream, records: &mut Records) -> Endless {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
        let Settings { direction, secret, .. } = &self.settings;
        // Greeting and first frame together, however slowly they come.
        let mut patient = Patient::new(&stream);
        let (mut own, mut theirs, common) = frame::greet(&mut patient, *direction, secret, &nonce)?;
        own.write(&mut patient, &Message::Alternatives(self.alternatives.clone()))?;
        match theirs.read(&mut patient)? {
            Message::Alternatives(other) if other == self.alternatives => {}
            Message::Alternatives(other) => {
                let why = format!("its alternative addresses are {other}, and here they are {}", self.alternatives);
                return Err(senseless(&why));
            }
            _ => return Err(senseless("it has not said its addresses")),
        }
        if let Some(naming) = self.naming() {
            naming.begin_exchange(common);
        }
        records.set_connected(true);
        info!(direction = ?direction, "the other portion is there");
        let mut out = stream.try_clone()?;
        let closings = records.closings();
        std::thread::scope(|scope| {
            let write = move || {
                let ended = self.write(&mut out, &mut own, records);
                // So that the reader notices.
                let _ = out.shutdown(Shutdown::Both);
                ended
            };
            let writer = std::thread::Builder::new().name("portion out".into()).spawn_scoped(scope, write)?;
            let ended = self.read(&stream, &mut theirs, &closings);
            let _ = stream.shutdown(Shutdown::Both);
            let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")));
            match (ended, written) {
                // The writer's failure is the cause of the reader's.
                (Err(read), Err(wrote)) if read.kind() == ErrorKind::UnexpectedEof => Err(wrote),
                (Err(read), _) => Err(read),
            }
        })
    }

    fn shards(&self) -> Vec<Handle> {
        self.shards.lock().map(|threads| threads.shards.clone()).unwrap_or_default()
    }

    /// Sends everything, then what shards report, and at intervals the connections with traffic.
    fn write(&self, out: &mut TcpStream, seal: &mut Seal, records: &Records) -> Endless {
        let refresh = self.settings.refresh;
        let mut send = |message: Message| {
            let (count, sent) = match &message {
                Message::Records(records) => (records.len(), &self.status.sent),
                Message::Queries(queries) => (queries.len(), &self.status.queries_sent),
                Message::Notices(notices) => (notices.len(), &self.status.queries_sent),
                Message::Gone(_) | Message::Alternatives(_) => (0, &self.status.sent),
            };
            sent.fetch_add(count as u64, Ordering::Relaxed);
            seal.write(out, &message)
        };
        let sweep = |newer_than: Duration, send: &mut dyn FnMut(Message) -> io::Result<()>| {
            let mut send = |page| {
                send(Message::Records(page))?;
                // What is reported meanwhile does not wait, and its queue does not fill.
                while let items @ [_, ..] = &records.next(Duration::ZERO)[..] {
                    exchange::messages(items).into_iter().try_for_each(&mut *send)?;
                }
                Ok::<_, io::Error>(())
            };
            self.shards().iter().try_for_each(|shard| exchange::each_page(shard, newer_than, self.clock, &mut send))
        };
        let (mut is_behind, mut completed) = (true, None::<Instant>);
        let mut swept = Instant::now();
        loop {
            is_behind |= records.was_behind();
            if is_behind && completed.is_none_or(|completed| completed.elapsed() >= KEEP_ALIVE) {
                // What was lost until now is repaired by what follows, but for ends that the translator itself had no room
                // to report: nobody knows of these any more.
                is_behind = false;
                swept = Instant::now();
                for all in [records.closed(), self.still_gone(records.unsaid())?].concat().chunks(MOST) {
                    send(Message::Gone(all.to_vec()))?;
                }
                sweep(ALL, &mut send)?;
                completed = Some(Instant::now());
                self.status.complete.fetch_add(1, Ordering::Relaxed);
            } else if swept.elapsed() >= refresh {
                // A little more than has passed, so that none is left out.
                let since = swept.elapsed() + refresh / 2;
                swept = Instant::now();
                sweep(since, &mut send)?;
            }
            let patience = refresh.saturating_sub(swept.elapsed()).min(KEEP_ALIVE);
            exchange::messages(&records.next(patience)).into_iter().try_for_each(&mut send)?;
        }
    }

    fn naming(&self) -> Option<Arc<Naming>> {
        self.shards.lock().ok().and_then(|threads| threads.naming.clone())
    }

    /// Gives the naming server what is about queries. It says how much of that it has refused.
    ///
    /// # Errors
    /// A shard has ended.
    fn name(&self, count: usize, give: impl FnOnce(&Naming) -> usize) -> io::Result<()> {
        self.status.queries_received.fetch_add(count as u64, Ordering::Relaxed);
        let refused = self.naming().map_or(count, |naming| give(&naming));
        self.status.queries_refused.fetch_add(refused as u64, Ordering::Relaxed);
        // So that it does what is due now.
        self.shards().first().map_or(Some(()), |shard| shard.ask(|_| ())).ok_or_else(ended)
    }

    /// The shard that this portion's packets of a connection come to.
    fn shard_of(&self, connection: &Connection) -> Option<usize> {
        match self.settings.direction {
            Direction::ToServer => self.sharding.shard_of(connection),
            Direction::ToClient => self.sharding.shard_of_alternative(connection.server_side.source),
        }
    }

    /// Closes in all shards what the other portion has closed.
    ///
    /// # Errors
    /// A shard has ended: everything has to be exchanged again.
    fn close(&self, all: Vec<Gone>) -> io::Result<()> {
        for shard in self.shards() {
            // One of them has it, and the others have no such connection.
            let all = all.clone();
            let done = shard.ask(move |router| {
                for Gone { protocol, is_reset, client, original, alternative } in all {
                    let known = router.translator.connection(protocol, client, original).map(|(known, _)| known);
                    if let Some(known) = known.filter(|known| known.server_side.source == alternative) {
                        let _ = if is_reset { router.translator.reset(&known) } else { router.translator.close(&known) };
                    }
                }
            });
            done.ok_or_else(ended)?;
        }
        Ok(())
    }

    /// Those of them that have not been opened again since.
    fn still_gone(&self, mut all: Vec<Gone>) -> io::Result<Vec<Gone>> {
        for shard in if all.is_empty() { Vec::new() } else { self.shards() } {
            let there = shard.ask(move |router| {
                all.retain(|Gone { protocol, client, original, alternative, .. }| {
                    let known = router.translator.connection(*protocol, *client, *original).map(|(known, _)| known);
                    known.is_none_or(|known| known.server_side.source != *alternative)
                });
                all
            });
            all = there.ok_or_else(ended)?;
        }
        Ok(all)
    }

    /// Passes what comes to the shards.
    fn read(&self, stream: &TcpStream, seal: &mut Seal, closings: &Closings) -> Endless {
        let clock = self.clock;
        loop {
            let records = match seal.read(&mut Patient::new(stream))? {
                Message::Records(records) => records,
                Message::Gone(all) => {
                    self.close(all)?;
                    continue;
                }
                Message::Queries(queries) => {
                    self.name(queries.len(), |naming| naming.import(clock.now(), &queries))?;
                    continue;
                }
                Message::Notices(notices) => {
                    self.name(notices.len(), |naming| naming.apply(clock.now(), &notices))?;
                    continue;
                }
                Message::Alternatives(_) => return Err(senseless("it says its addresses twice")),
            };
            self.status.received.fetch_add(records.len() as u64, Ordering::Relaxed);
            let shards = self.shards();
            let mut of_each: Vec<Vec<Record>> = vec![Vec::new(); shards.len()];
            for record in records {
                let connection = record.connection().filter(|connection| !closings.includes(connection));
                let shard = connection.and_then(|connection| self.shard_of(&connection));
                match shard.and_then(|shard| of_each.get_mut(shard)) {
                    Some(records) => records.push(record),
                    None => drop(self.status.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
            for (shard, records) in shards.iter().zip(of_each) {
                if records.is_empty() {
                    continue;
                }
                let refused = shard.ask(move |router| {
                    let now = clock.now();
                    records.iter().filter_map(|record| router.join(now, record).err()).collect::<Vec<_>>()
                });
                for why in refused.ok_or_else(ended)? {
                    self.status.refused.fetch_add(1, Ordering::Relaxed);
                    debug!("a record is refused: {why}");
                }
            }
        }
    }
}

/// A stream whose next bytes must all arrive within one time-out.
struct Patient<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Patient<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self { stream, until: Instant::now() + PATIENCE }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "it has said nothing for too long"));
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A shard has ended: this process is ending, or goes on with others, which have missed something.
fn ended() -> io::Error {
    io::Error::other("a shard has ended")
}

fn senseless(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

fn open(at: SocketAddrV4, shared: bool) -> io::Result<TcpListener> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &at)?;
    listen(&socket, 4)?;
    Ok(socket.into())
}
