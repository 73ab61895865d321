//! The document's two portions as two processes: the proxy translates what goes to the servers, another process what comes
//! back. They exchange connections as records ([`byway::Record`]), over Unix sockets in a folder that both know.
//!
//! ```text
//!   stack, byway  ---- TUN device ---->  the kernel  --->  servers
//!        ^   |                                                |
//!        |   | records                                        |
//!        |   v                                                |
//!   portion: byway  <---- TUN device ----  the kernel  <------+
//! ```
//!
//! The proxy opens the connections and has the rules. A record leaves before the packet that it is about, so no answer can
//! overtake it. What a server answers to a transfer that stays with it is handed to the proxy as it is, and so the proxy tells
//! where transfers stay. Either process may be restarted: the proxy sends all connections to a portion that is new. For portions
//! on two machines there is the host program (`docs/host.md`), whose stream is authenticated; here the only protection is the
//! folder's permissions.

mod exchange;
mod packets;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io::{self, ErrorKind};

use byway::{Config, Heap, Instant, Translator};
use mio::{Events, Poll, Token};

pub use exchange::{Exchange, Role};
pub use packets::Ends;

use crate::far::MTU;
use crate::far::tun::Tun;
use crate::settings::Settings;

const DEVICE: Token = Token(0);
const OTHER: Token = Token(1);

/// How many packets are translated before records have their turn again.
const BURST: usize = 64;

/// The longest sleep, and so the longest that a request to stop may wait.
const TICK: Duration = Duration::from_millis(250);

/// The portion that translates what servers send.
#[derive(Debug)]
pub struct Portion {
    translator: Translator<Heap>,
    tun: Tun,
    exchange: Exchange,
    poll: Poll,
    start: std::time::Instant,
    every: u64,
}

impl Portion {
    /// Opens device and sockets.
    ///
    /// # Errors
    /// One line that says which setting is wrong, or what cannot be opened.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let (Some(name), Some(folder)) = (&settings.tun, &settings.portion) else {
            return Err("portion: expected --tun and --portion".into());
        };
        let system = |error: io::Error| error.to_string();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| format!("no randomness: {error}"))?;
        let alternative = settings.alternative()?;
        let config = alternative.config(Config::new(secret));
        // Without rules: it opens no connection, and follows those of the proxy.
        let translator =
            Translator::new(config, Heap::new(alternative.connections(), 1)).map_err(|error| error.to_string())?;
        let poll = Poll::new().map_err(system)?;
        let mut exchange = Exchange::open(folder, Role::ToClient)?;
        exchange.register(poll.registry(), OTHER).map_err(system)?;
        let mut tun = Tun::open(name).map_err(system)?;
        tun.register(poll.registry(), DEVICE).map_err(system)?;
        tun.mark_ready();
        let start = std::time::Instant::now();
        Ok(Self { translator, tun, exchange, poll, start, every: settings.counters })
    }

    /// Translates until `stop` is set.
    ///
    /// # Errors
    /// The operating system's.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        let (mut is_busy, mut last, mut printed) = (true, String::new(), Instant::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let wait = if is_busy { Duration::ZERO } else { TICK };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    DEVICE => self.tun.mark_ready(),
                    _ => self.exchange.mark_ready(),
                }
            }
            let now = Instant::ZERO + self.start.elapsed();
            is_busy = self.turn(now);
            if self.every != 0 && printed + Duration::from_secs(self.every) <= now {
                printed = now;
                let line = format!("{:?} {:?}", self.exchange.counters(), self.tun.dropped());
                if line != last {
                    println!("{line}");
                    last = line;
                }
            }
        }
        Ok(())
    }

    /// Whether there may be more to do at once.
    fn turn(&mut self, now: Instant) -> bool {
        // Records first: an answer must find its connection. The proxy hands in no packets.
        let mut is_busy = self.exchange.receive(now, &mut self.translator, |_, _| {});
        let mut packet = [0; MTU];
        for _ in 0..BURST {
            let Some(length) = self.tun.read(&mut packet) else {
                break;
            };
            self.exchange.carry(now, &mut self.translator, packet.get_mut(..length).unwrap_or_default());
        }
        is_busy |= self.tun.is_ready();
        self.translator.poll(now);
        while let Some(event) = self.translator.poll_event() {
            self.exchange.report(&self.translator, &event);
        }
        self.exchange.poll(now, &self.translator);
        is_busy
    }
}
