//! The proxy on sockets of the operating system: one thread, and one loop.

use core::fmt::Display;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use byway::Instant;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::control::ControlPort;
use crate::counters::Reason;
use crate::far::outside::Outside;
use crate::http::answer;
use crate::mediator::{ConnectionId, Mediator};
#[cfg(target_os = "linux")]
use crate::portion::{Exchange, Role};
use crate::session::Stream;
use crate::settings::Settings;

/// The longest sleep, and so the longest that a request to stop may wait.
const TICK: Duration = Duration::from_millis(250);

/// The control port's token. Listeners have those from one on, then come the carrier's sockets, then connections.
const CONTROL: usize = 0;
const LISTENERS: usize = 1;

/// How many connections are accepted before those that there are have their turn.
const BURST: usize = 64;

/// How much the system buffers of a connection in each direction, in bytes; it counts its own overhead, too.
const BUFFER: usize = 1 << 14;

/// How long to wait when there is no descriptor left for a new connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// A client's connection.
#[derive(Debug)]
pub struct HttpStream(TcpStream);

impl Read for HttpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for HttpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for HttpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn abort(&mut self) {
        // Closing sends a RST. If this cannot be set, it is an ordinary close.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

/// The program.
#[derive(Debug)]
pub struct Service {
    mediator: Mediator<Outside, HttpStream>,
    poll: Poll,
    listeners: Vec<TcpListener>,
    control: Option<ControlPort>,
    /// The tokens of the device.
    device: core::ops::Range<usize>,
    /// The process that translates what servers send, if it is another one. Its token follows the device's.
    #[cfg(target_os = "linux")]
    portion: Option<Exchange>,
    /// Up to which change it was told the places where transfers stay.
    #[cfg(target_os = "linux")]
    told: u64,
    start: std::time::Instant,
    /// When to try again to accept, after there was no descriptor left.
    accept_at: Option<Instant>,
    /// How often counters are printed, when next, and what they were.
    printing: Option<Printing>,
}

#[derive(Debug)]
struct Printing {
    every: Duration,
    next: Instant,
    last: String,
}

impl Printing {
    fn print(&mut self, now: Instant, mediator: &Mediator<Outside, HttpStream>, portion: impl Display) {
        self.next = now + self.every;
        let (dropped, byway) = (mediator.device().dropped(), mediator.translator().counters());
        let line = format!(
            "{} device: {dropped}{portion} byway: moved={} dropped={}",
            mediator.counters(),
            byway.moved,
            byway.dropped_in_all()
        );
        if line != self.last {
            println!("{line}");
            self.last = line;
        }
    }
}

impl Service {
    /// Opens all sockets.
    ///
    /// # Errors
    /// One line that says which setting is wrong, or what cannot be opened.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let mut entropy = [[0; 32]; 3];
        for secret in &mut entropy {
            getrandom::fill(secret).map_err(|error| format!("no randomness: {error}"))?;
        }
        raise_limit();
        let [for_byway, for_mediator, for_control] = entropy;
        let origins = settings.origins()?;
        let alternative = settings.alternative()?;
        let translator = settings.translator(&alternative, &origins, for_byway)?;
        let mut outside = settings.outside(&alternative)?;
        let poll = Poll::new().map_err(|error| error.to_string())?;
        let system = |error: io::Error| error.to_string();

        let mut listeners = Vec::new();
        let listen = settings.listen.clone();
        for at in if listen.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], 8080))] } else { listen } {
            let mut listener = TcpListener::bind(at).map_err(|error| format!("listen {at}: {error}"))?;
            bound_buffers(&listener);
            let token = Token(LISTENERS + listeners.len());
            poll.registry().register(&mut listener, token, Interest::READABLE).map_err(system)?;
            listeners.push(listener);
        }
        let control = match (settings.control, settings.keys.as_slice()) {
            (None, []) => None,
            (None, _) => return Err("keys without control: expected the address of the control port".into()),
            (Some(at), []) => return Err(format!("control {at}: expected at least one key")),
            (Some(at), keys) => {
                let keys: Vec<_> = keys.iter().map(|path| byway_key_file::read(path)).collect::<Result<_, _>>()?;
                let mut port = ControlPort::open(at, &keys, for_control)?;
                port.register(poll.registry(), Token(CONTROL)).map_err(system)?;
                Some(port)
            }
        };
        let device = outside.register(poll.registry(), LISTENERS + listeners.len()).map_err(system)?;
        #[cfg(target_os = "linux")]
        let portion = match (&settings.portion, &mut outside) {
            (Some(folder), Outside::Tun(tun)) => {
                tun.split();
                let mut portion = Exchange::open(folder, Role::ToServer)?;
                portion.register(poll.registry(), Token(device.end)).map_err(system)?;
                Some(portion)
            }
            _ => None,
        };
        let mediator = Mediator::new(settings.mediator(origins, for_mediator)?, outside, translator, Instant::ZERO);
        let start = std::time::Instant::now();
        let every = Duration::from_secs(settings.counters);
        let printing = (settings.counters != 0).then(|| Printing { every, next: Instant::ZERO, last: String::new() });
        Ok(Self {
            mediator,
            poll,
            listeners,
            control,
            device,
            #[cfg(target_os = "linux")]
            portion,
            #[cfg(target_os = "linux")]
            told: 0,
            start,
            accept_at: None,
            printing,
        })
    }

    /// Where HTTP clients connect.
    ///
    /// # Errors
    /// The operating system's.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Where instructions come.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control.as_ref()?.address().ok()
    }

    /// The proxy.
    #[must_use]
    pub const fn mediator(&self) -> &Mediator<Outside, HttpStream> {
        &self.mediator
    }

    /// Serves until `stop` is set.
    ///
    /// # Errors
    /// The operating system's.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut is_busy = false;
        while !stop.load(Ordering::Relaxed) {
            let now = self.now();
            let at = self.mediator.poll_at(now);
            let report_at = self.control.as_ref().and_then(ControlPort::report_at);
            let at = [self.accept_at, report_at].into_iter().flatten().fold(at, Instant::min);
            let wait = if is_busy { Duration::ZERO } else { at.duration_since(now).min(TICK) };
            // epoll counts in milliseconds, and waking up too early would spin.
            let wait = if wait.is_zero() { wait } else { wait + Duration::from_micros(999) };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            is_busy = self.turn(&events)?;
            let now = self.now();
            let portion = self.exchanged();
            if let Some(printing) = self.printing.as_mut().filter(|printing| printing.next <= now) {
                printing.print(now, &self.mediator, portion);
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// Does what events call for. Returns whether there may be more to do at once.
    fn turn(&mut self, events: &Events) -> io::Result<bool> {
        let now = self.now();
        let connections = self.device.end + 1;
        let mut accept = self.accept_at.take_if(|at| *at <= now).is_some();
        for event in events {
            match event.token().0 {
                CONTROL => {}
                token if token < self.device.start => accept = true,
                token if token < self.device.end => self.mediator.device_mut().mark_ready(token - self.device.start),
                token if token < connections => self.portion_is_ready(),
                token => {
                    let id = ConnectionId(token - connections);
                    let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.mediator.ready(now, id, readable, event.is_writable() || event.is_error());
                }
            }
        }
        if accept {
            self.accept(now)?;
        }
        let control = self.control.as_mut();
        let mut more = control.is_some_and(|control| control.serve(now, self.mediator.translator_mut()));
        more |= self.hear_portion(now);
        self.mediator.poll(now);
        self.tell(now);
        while let Some((_, mut stream)) = self.mediator.closed() {
            // It is closed in any case.
            let _ = self.poll.registry().deregister(&mut stream.0);
        }
        Ok(more || self.mediator.device().is_ready())
    }

    /// Tells subscribers and the other portion what has happened to connections, before the packets leave for which it matters.
    fn tell(&mut self, now: Instant) {
        // Before the records of what moves away from there.
        #[cfg(target_os = "linux")]
        if let Some(portion) = &mut self.portion {
            let (changes, places) = self.mediator.far().places();
            if core::mem::replace(&mut self.told, changes) != changes {
                portion.stay(&places.map(|place| (place.server, place.alternative)).collect::<Vec<_>>());
            }
        }
        while let Some(event) = self.mediator.translator_mut().poll_event() {
            if let Some(control) = &mut self.control {
                control.tell(now, &event);
            }
            #[cfg(target_os = "linux")]
            if let Some(portion) = &mut self.portion {
                portion.report(self.mediator.translator(), &event);
            }
        }
        if let Some(control) = &mut self.control {
            control.flush(now);
            control.report(now, self.mediator.translator_mut());
        }
        #[cfg(target_os = "linux")]
        if let Some(portion) = &mut self.portion {
            portion.poll(now, self.mediator.translator());
            if portion.is_idle()
                && let Outside::Tun(tun) = self.mediator.device_mut()
            {
                tun.flush();
            }
        }
    }

    /// What was exchanged with the other portion, for people. Empty if there is none.
    fn exchanged(&self) -> impl Display + use<> {
        #[cfg(target_os = "linux")]
        let counters = self.portion.as_ref().map(Exchange::counters);
        #[cfg(not(target_os = "linux"))]
        let counters = None::<()>;
        core::fmt::from_fn(move |f| counters.map_or(Ok(()), |counters| write!(f, " portion: {counters:?}")))
    }

    const fn portion_is_ready(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(portion) = &mut self.portion {
            portion.mark_ready();
        }
    }

    /// Takes what the other portion says, and the packets that it has translated. Returns whether there may be more.
    fn hear_portion(&mut self, now: Instant) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(portion) = &mut self.portion {
            let (far, mut packets) = (self.mediator.far_mut(), Vec::new());
            let more = portion.receive(now, far.translator_mut(), |ends, packet| packets.push((ends, packet.to_vec())));
            for ((server, alternative), packet) in packets {
                if !far.hand_in(server, alternative, &packet) {
                    portion.refuse();
                }
            }
            return more;
        }
        let _ = now;
        false
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for listener in 0..self.listeners.len() {
            // There may be more.
            let mut again = Some(now);
            for _ in 0..BURST {
                let Some(accepted) = self.listeners.get(listener).map(TcpListener::accept) else {
                    break;
                };
                match accepted {
                    Ok((stream, from)) => self.take(now, stream, from)?,
                    // The client has gone again.
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    Err(error) => {
                        let is_all = error.kind() == ErrorKind::WouldBlock;
                        again = (!is_all).then_some(now + OUT_OF_DESCRIPTORS);
                        break;
                    }
                }
            }
            self.accept_at = [self.accept_at, again].into_iter().flatten().min();
        }
        Ok(())
    }

    fn take(&mut self, now: Instant, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        // Each block is written at once; without it the last one may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let id = match self.mediator.accept(now, from.ip(), HttpStream(stream)) {
            Ok(id) => id,
            Err((stream, why)) => {
                refuse(stream, why);
                return Ok(());
            }
        };
        let token = Token(self.device.end + 1 + id.0);
        if let Some(HttpStream(stream)) = self.mediator.stream_mut(id) {
            self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        self.mediator.ready(now, id, true, true);
        Ok(())
    }
}

/// Connections get the buffers of their listener. Without a bound the system keeps megabytes for a client that has stopped
/// reading, and goes on taking a body that is sent faster than it can be passed on. Blocks come one in a round trip, so a
/// connection needs no more.
fn bound_buffers(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    // If they cannot be set, the system's own remain.
    let _ = socket.set_send_buffer_size(BUFFER);
    let _ = socket.set_recv_buffer_size(BUFFER);
}

/// Says why a connection is closed, as far as its client listens.
fn refuse(HttpStream(mut stream): HttpStream, why: Reason) {
    let (status, why) = match why {
        Reason::TooManyOfClient => (429, "there are too many connections of this address"),
        _ => (503, "there are too many connections"),
    };
    let mut response = Vec::new();
    answer::error(&mut response, status, false, false, why);
    // If there is no room for it, the client gets no response.
    let _ = stream.write(&response);
}

/// Raises the limit of descriptors as far as the system allows: one is needed for each HTTP client and each alternative port. If
/// they run out, this is noticed when a connection is accepted.
fn raise_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
