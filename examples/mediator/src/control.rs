//! byway's port for instructions: `byway ctl` and any other monitor.

use core::net::SocketAddr;
use std::io;

use byway::control::{Agent, Key, MAX_ANSWER, MAX_REQUEST, Rights};
use byway::{Event, Heap, Instant, Translator};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

/// Keys and sessions at most.
const KEYS: usize = 8;

/// Monitors at most that get reports of what is measured.
const REPORTS: usize = 4;

/// How many datagrams are answered before traffic has its turn.
const BURST: usize = 32;

/// The agent and its socket.
#[derive(Debug)]
pub struct ControlPort {
    agent: Agent<KEYS, KEYS, REPORTS>,
    socket: UdpSocket,
}

impl ControlPort {
    /// Opens the socket. `keys` are those of key files ([`byway_key_file`]).
    ///
    /// # Errors
    /// It cannot be opened, or there are too many keys.
    pub fn open(at: SocketAddr, keys: &[(u16, [u8; 32])], entropy: [u8; 32]) -> Result<Self, String> {
        let socket = UdpSocket::bind(at).map_err(|error| format!("control {at}: {error}"))?;
        let mut agent = Agent::sized(entropy);
        for (id, secret) in keys {
            agent.add_key(Key::new(*id, *secret, Rights::All)).map_err(|error| format!("control {at}: {error}"))?;
        }
        Ok(Self { agent, socket })
    }

    /// Where it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Registers it for reading.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Answers the requests that have come. Returns whether there may be more.
    pub fn serve(&mut self, now: Instant, translator: &mut Translator<Heap>) -> bool {
        let (mut request, mut answer) = ([0; MAX_REQUEST + 1], [0; MAX_ANSWER]);
        let mut may_have_more = true;
        for _ in 0..BURST {
            let Ok((length, from)) = self.socket.recv_from(&mut request) else {
                may_have_more = false;
                break;
            };
            let datagram = request.get(..length).unwrap_or_default();
            if let Ok(length) = self.agent.handle(now, translator, from, datagram, &mut answer) {
                // A monitor that misses the answer asks again.
                let _ = self.socket.send_to(answer.get(..length).unwrap_or_default(), from);
            }
        }
        may_have_more
    }

    /// Sends the reports that are due.
    pub fn report(&mut self, now: Instant, translator: &mut Translator<Heap>) {
        let mut answer = [0; MAX_ANSWER];
        while let Some((to, length)) = self.agent.poll_report(now, translator, &mut answer) {
            let _ = self.socket.send_to(answer.get(..length).unwrap_or_default(), to);
        }
    }

    /// When the next report is due.
    #[must_use]
    pub fn report_at(&self) -> Option<Instant> {
        self.agent.report_at()
    }

    /// Tells subscribers of an event. One that there is no room for is counted, and they are told the count.
    pub fn tell(&mut self, now: Instant, event: &Event) {
        self.agent.tell(now, event);
    }

    /// Sends what subscribers were told.
    pub fn flush(&mut self, now: Instant) {
        let mut answer = [0; MAX_ANSWER];
        while let Some((to, length)) = self.agent.poll_transmit(now, &mut answer) {
            let _ = self.socket.send_to(answer.get(..length).unwrap_or_default(), to);
        }
    }
}
