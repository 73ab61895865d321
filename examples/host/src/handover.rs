//! A running byway gives way to a new one: its queues, its sockets and its connections go over a UNIX socket, so that no packet
//! is lost. Packets that wait in a queue stay there until the new process reads them.
//!
//! ```text
//!   new                                      old
//!   everything that takes long
//!   "byway hand-over 1\n"            ---->
//!                                    <----   a line that says what it is
//!   looks whether it fits, adds routes
//!   "go\n", or why not               ---->
//!                                            ends its threads
//!                                    <----   a line that says what follows, with the file descriptors
//!                                    <----   a snapshot
//!   takes it over
//!   "ready\n", or why not            ---->
//!                                    <----   "yours\n", if that came in time
//!   translates, or ends                      ends, or goes on as if nothing had been
//! ```
//!
//! Never do both go on. The old one gives up waiting by closing its end for what comes in, after which the new one's "ready"
//! fails, or is there already and counts; the new one gives up waiting for "yours" in the same way.
//!
//! A byway that does not say `answers yours` in its line of contents is an older one. It is told "taken\n", and answers nothing;
//! likewise a new one that says "taken" wants no answer. With either of them, one that takes longer than 20 s for its part may
//! go on beside the other.

mod agreement;
mod look;

use core::mem::MaybeUninit;
use core::net::SocketAddrV4;
use core::time::Duration;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use rustix::process::Uid;
use signal_hook::consts::SIGUSR2;
use tracing::warn;

use agreement::{claim, let_go};

use crate::config::Config;
use crate::device::Queue;
use crate::metrics::Handles;
use crate::snapshot::Snapshot;
use crate::thread;
use crate::waker::Waker;

const GREETING: &str = "byway hand-over 1";
/// Followed by a number of seconds, and the match of a rule.
const LOOK: &str = "byway pcap 1 ";
const GO: &str = "go";
/// How long the other process may take for a step. The new one imports all connections in one step.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The most file descriptors that Linux passes at once.
const MOST: usize = 253;

/// A process that waits to take over. The main thread gets `SIGUSR2`, and serves it when it has time.
pub type Waiting = Arc<Mutex<Option<UnixStream>>>;

/// What a process has taken over.
#[derive(Debug)]
pub struct Taken {
    /// The queues of the device.
    pub queues: Vec<Queue>,
    /// The socket of the port for instructions, if it is at the same address.
    pub control: Option<UdpSocket>,
    /// The socket of the metrics page, likewise.
    pub metrics: Option<TcpListener>,
    /// The socket that the next process comes to. None from an older byway.
    pub next: Option<UnixListener>,
    /// The connections.
    pub snapshot: Snapshot,
    /// What `CLOCK_MONOTONIC` said at the time of the snapshot, if the other process says so.
    pub monotonic: Option<Duration>,
    stream: UnixStream,
    /// Whether the other process says "yours".
    answers: bool,
}

/// What a process gives away.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// Whether frames have headers.
    pub has_header: bool,
    /// The queues of the device.
    pub queues: Vec<BorrowedFd<'a>>,
    /// The socket of the port for instructions.
    pub control: Option<BorrowedFd<'a>>,
    /// The socket of the metrics page.
    pub metrics: Option<BorrowedFd<'a>>,
    /// The socket that the next process comes to.
    pub next: Option<BorrowedFd<'a>>,
    /// The connections.
    pub snapshot: &'a Snapshot,
    /// What `CLOCK_MONOTONIC` said at the time of the snapshot.
    pub monotonic: Duration,
}

/// The line that describes a process. The new process must have the same.
#[must_use]
pub fn description(config: &Config) -> String {
    let (device, alternatives) = (&config.device, config.nat.alternatives_text());
    format!("device {} with {} queues, alternative addresses {alternatives}", device.name, device.queues)
}

/// The line that announces what follows.
fn contents(config: &Config, has_header: bool, length: usize, monotonic: Duration, next: bool) -> String {
    let at = |address: Option<SocketAddrV4>| address.map_or_else(|| "none".into(), |address| address.to_string());
    let control = at(config.control.as_ref().map(|control| control.listen));
    let metrics = at(config.metrics);
    let monotonic = monotonic.as_micros();
    // A process that does not know a word passes over it. What an older byway does not know comes last, and its file descriptor too.
    format!(
        "header {has_header} control {control} metrics {metrics} monotonic {monotonic} bytes {length} next {next} answers yours\n"
    )
}

/// Asks the process that listens at `socket` to give way, after `prepare` has done what takes time. `None` if there is none.
///
/// # Errors
/// One line that says why nothing was taken over. The other process goes on.
pub fn take(
    socket: &Path,
    config: &Config,
    prepare: impl FnOnce() -> Result<(), String>,
) -> Result<Option<Taken>, String> {
    let failed = |error: &dyn core::fmt::Display| format!("hand-over {}: {error}", socket.display());
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|error| failed(&error))?;
    if !may_be_taken_from(peer.uid, rustix::process::geteuid()) {
        let why = format!("user {} listens there, and whoever does decides where all packets go: remove it", peer.uid.as_raw());
        return Err(failed(&why));
    }
    match converse(&stream, config, prepare) {
        Ok(taken) => Ok(Some(taken)),
        Err(why) => {
            let _ = writeln!(&stream, "{why}");
            Err(failed(&why))
        }
    }
}

/// Whether to take over from a process of user `peer`: only from the same user, and from root.
fn may_be_taken_from(peer: Uid, own: Uid) -> bool {
    peer == own || peer.is_root()
}

fn converse(
    stream: &UnixStream,
    config: &Config,
    prepare: impl FnOnce() -> Result<(), String>,
) -> Result<Taken, String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut out = stream;
    writeln!(out, "{GREETING}").map_err(failed)?;
    let (theirs, _) = receive(stream).map_err(failed)?;
    let (theirs, ours) = (theirs.trim_end(), description(config));
    if theirs != ours {
        return Err(format!("it has the {theirs}, and there is now the {ours}: end it, and start anew"));
    }
    prepare()?;
    writeln!(out, "{GO}").map_err(failed)?;
    let (line, fds) = receive(stream).map_err(failed)?;
    let word = |name: &str| word(&line, name).ok_or_else(|| format!("it does not say its {name}, but: {line}"));
    let length: u64 = word("bytes")?.parse().map_err(|_| "it sends no snapshot".to_string())?;
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes).map_err(failed)?;
    let snapshot = Snapshot::from_bytes(&bytes)?;
    // In the order in which they were sent.
    let mut fds = fds.into_iter();
    let has_header = word("header")? == "true";
    let queues: Vec<_> = fds.by_ref().take(config.device.queues).map(|fd| Queue::new(fd, has_header)).collect();
    if queues.len() != config.device.queues {
        return Err("queues are missing".into());
    }
    let mut socket = |said: &str, ours: Option<SocketAddrV4>| {
        let fd = if said == "none" { None } else { fds.next() };
        fd.filter(|_| ours.is_some_and(|ours| ours.to_string() == said))
    };
    let control = socket(word("control")?, config.control.as_ref().map(|control| control.listen));
    let metrics = socket(word("metrics")?, config.metrics);
    let is_said = |name: &str, wanted: &str| word(name).is_ok_and(|said| said == wanted);
    let next = if is_said("next", "true") { fds.next() } else { None };
    Ok(Taken {
        queues,
        control: control.map(UdpSocket::from),
        metrics: metrics.map(TcpListener::from),
        next: next.map(UnixListener::from),
        snapshot,
        monotonic: clock_of(&line),
        stream: stream.try_clone().map_err(failed)?,
        answers: is_said("answers", "yours"),
    })
}

/// What a line of [`contents`] says of this.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().skip_while(|word| *word != name).nth(1)
}

/// The monotonic clock at the time of the snapshot, if the line says so.
fn clock_of(line: &str) -> Option<Duration> {
    word(line, "monotonic")?.parse().ok().map(Duration::from_micros)
}

/// The next line, and the file descriptors that came with it.
fn receive(stream: &UnixStream) -> std::io::Result<(String, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    // A byte at a time: what is behind the line is the snapshot's.
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        let got = match recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            got => got?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.bytes == 0 || line.len() > 1024 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&byte);
    }
    Ok((String::from_utf8_lossy(&line).into_owned(), fds))
}

impl Taken {
    /// Asks the other process to end, and waits until it does. Nothing may be translated before.
    ///
    /// # Errors
    /// The other process goes on, and this one must not begin.
    pub fn claim(&self) -> Result<(), String> {
        claim(&self.stream, self.answers, PATIENCE)
    }

    /// Tells the other process that it has to go on.
    pub fn refuse(&self, why: &str) {
        let _ = writeln!(&self.stream, "{why}");
    }
}

impl Offer<'_> {
    /// Gives everything away.
    ///
    /// # Errors
    /// The reason why the other process has not taken it.
    pub fn give(&self, stream: &UnixStream) -> Result<(), String> {
        let bytes = self.snapshot.to_bytes();
        let mut fds = self.queues.clone();
        fds.extend(self.control);
        fds.extend(self.metrics);
        // Without it the new one makes its own.
        let next = self.next.filter(|_| fds.len() < MOST);
        fds.extend(next);
        let line = contents(self.config, self.has_header, bytes.len(), self.monotonic, next.is_some());
        let give = || -> std::io::Result<()> {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&fds).size()];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if fds.len() > MOST || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(std::io::Error::other("there are too many queues"));
            }
            // Short, so that it is sent at once.
            sendmsg(stream, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
            let mut out = stream;
            out.write_all(&bytes)
        };
        let given = give().map_err(|error| error.to_string()).and_then(|()| let_go(stream, PATIENCE));
        if given.is_err() {
            // Whatever comes next is too late: this process goes on.
            let _ = stream.shutdown(Shutdown::Both);
        }
        given
    }
}

/// Listens for the next process, and replaces the socket of the process before.
///
/// # Errors
/// One line that says what to do.
pub fn listen(socket: &Path) -> Result<UnixListener, String> {
    let failed = |error: std::io::Error| format!("hand-over {}: {error}", socket.display());
    let mut new = socket.as_os_str().to_owned();
    new.push(".new");
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new).map_err(failed)?;
    // Any process that can connect can take over all connections.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&new, mode).and_then(|()| std::fs::rename(&new, socket)).map_err(failed)?;
    Ok(listener)
}

/// The socket that the next process comes to, and the thread that waits there.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    waker: Arc<Waker>,
}

impl Door {
    /// Leaves whoever comes to the process that has taken over: it has the same socket.
    pub fn leave(&self) {
        self.waker.wake();
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The next one who comes; none once the process has left the door.
fn visitor(listener: &UnixListener, waker: &Waker) -> Option<UnixStream> {
    loop {
        waker.will_sleep();
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(waker, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
        let [_, left] = fds;
        if !left.revents().is_empty() {
            return None;
        }
        // It does not block: another process may have it at the same moment.
        match listener.accept() {
            Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => return Some(stream),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // No file descriptor is left, say.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Waits for the next process, on a thread of its own, and notifies the main thread.
///
/// # Errors
/// The thread cannot be started.
pub fn wait(listener: UnixListener, waiting: Waiting, description: String, shards: Handles) -> Result<Door, String> {
    let failed = |error: std::io::Error| format!("hand-over: {error}");
    listener.set_nonblocking(true).map_err(failed)?;
    let door = Door { listener: listener.try_clone().map_err(failed)?, waker: Arc::new(Waker::new().map_err(failed)?) };
    let waker = door.waker.clone();
    let wait = move || {
        while let Some(stream) = visitor(&listener, &waker) {
            match greet(&stream, &description) {
                Ok(Some(wanted)) => {
                    let shards = shards.clone();
                    let look = move || {
                        if let Err(why) = look::look(&stream, &wanted, &shards) {
                            let _ = writeln!(&stream, "{why}");
                        }
                    };
                    if let Err(why) = thread::start("pcap", look) {
                        warn!("{why}");
                    }
                }
                Ok(None) => {
                    if let Ok(mut waiting) = waiting.lock() {
                        *waiting = Some(stream);
                    }
                    let _ = signal_hook::low_level::raise(SIGUSR2);
                }
                Err(why) => warn!("another byway has not taken over, going on: {why}"),
            }
        }
    };
    thread::start("hand-over", wait)?;
    Ok(door)
}

/// `None` if the peer wants to take over; the rest of its request if it wants a capture.
fn greet(stream: &UnixStream, description: &str) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut out = stream;
    let (greeting, _) = receive(stream).map_err(failed)?;
    if let Some(wanted) = greeting.trim_end().strip_prefix(LOOK) {
        return Ok(Some(wanted.into()));
    }
    if greeting.trim_end() != GREETING {
        let _ = writeln!(out, "this byway understands: {GREETING}");
        return Err(format!("it says: {}", greeting.trim_end()));
    }
    writeln!(out, "{description}").map_err(failed)?;
    let (answer, _) = receive(stream).map_err(failed)?;
    if answer.trim_end() == GO { Ok(None) } else { Err(answer.trim_end().into()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::reload::Said;

    #[test]
    fn nothing_is_taken_over_from_somebody_else() {
        let [root, own, other] = [0, 1000, 1001].map(Uid::from_raw);
        assert!(may_be_taken_from(root, own) && may_be_taken_from(own, own) && may_be_taken_from(root, root));
        assert!(!may_be_taken_from(other, own) && !may_be_taken_from(other, root));
    }

    /// What the process that gives says arrives as it was said, and what one of an older version does not say is missing.
    #[test]
    fn the_clock_is_handed_over_with_the_connections() {
        let file = "[router]\naddress = \"10.9.9.9\"\n[nat]\nalternatives = [\"10.10.10.10:1024-65535\"]\n";
        let config = Config::parse(Path::new("byway.toml"), file.into()).unwrap();
        let said = Said::by(&config);
        let snapshot = Snapshot {
            time: byway::Instant::from_secs(1_000),
            written: None,
            shards: 1,
            secret: [7; 32],
            alternatives: config.nat.alternatives_text(),
            rules: said.clone(),
            said,
            records: Vec::new(),
        };
        let monotonic = Duration::from_micros(123_456_789);
        let (old, new) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(greet(&old, &description(&config)), Ok(None));
                let queue = std::fs::File::open("/dev/null").unwrap();
                let (queues, snapshot) = (vec![queue.as_fd()], &snapshot);
                let (control, metrics) = (None, None);
                let next = None;
                let offer = Offer { config: &config, has_header: true, queues, control, metrics, next, snapshot, monotonic };
                assert_eq!(offer.give(&old), Ok(()));
            });
            let taken = converse(&new, &config, || Ok(())).unwrap();
            taken.claim().unwrap();
            assert_eq!((taken.queues.len(), taken.monotonic), (1, Some(monotonic)));
            assert_eq!(taken.snapshot, snapshot);
        });
        let line = contents(&config, true, 9, monotonic, false);
        assert_eq!((word(&line, "bytes"), clock_of(&line)), (Some("9"), Some(monotonic)));
        let older = "header true control 127.0.0.1:5213 metrics none bytes 9\n";
        assert_eq!((word(older, "bytes"), clock_of(older)), (Some("9"), None));
    }
}
