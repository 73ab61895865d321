//! A session over a UDP socket.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::UdpSocket;

use byway::Instant;
use byway::control::{Answer, Client, Events, Incoming, Instruction, RefusedBy, Request};

/// Why there is no answer.
pub(crate) enum LinkError {
    /// The socket cannot be used.
    Socket(std::io::Error),
    /// Nobody answered.
    NoAnswer,
    /// The translator opens no session.
    Refused(RefusedBy),
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error)
    }
}

/// A monitor with a socket and a clock.
pub(crate) struct Link {
    socket: UdpSocket,
    client: Client,
    start: std::time::Instant,
}

impl Link {
    /// Opens a session.
    pub(crate) fn open(agent: SocketAddr, (key, secret): (u16, [u8; 32])) -> Result<Self, LinkError> {
        let any: SocketAddr = if agent.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(agent)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let mut link =
            Self { socket, client: Client::new(Instant::ZERO, key, secret, nonce), start: std::time::Instant::now() };
        let refused = link.exchange(|incoming| match incoming {
            Incoming::Opened(answer) => Some(answer.refused()),
            Incoming::Refused(why) => Some(Some(why)),
            _ => None,
        })?;
        refused.map_or(Ok(link), |why| Err(LinkError::Refused(why)))
    }

    /// Sends a request, repeats it until it is answered, and reads the answer.
    pub(crate) fn ask<R>(&mut self, request: &Request, read: impl Fn(&Answer<'_>) -> R) -> Result<R, LinkError> {
        // There is only one request at a time here, so the client is ready.
        self.client.send(self.now(), request).map_err(|e| std::io::Error::other(e.to_string()))?;
        self.exchange(|incoming| match incoming {
            Incoming::Answer(answer) => Some(read(&answer)),
            _ => None,
        })
    }

    /// Ends the session, without waiting for an answer: an unused session ends by itself.
    pub(crate) fn close(&mut self) {
        let now = self.now();
        if self.client.send(now, &Request::one(Instruction::Close)).is_ok()
            && let Ok(Some(datagram)) = self.client.poll_transmit(now)
        {
            let _ = self.socket.send(datagram);
        }
    }

    /// Receives events until `until`, or until `tell` returns false.
    pub(crate) fn listen(
        &mut self,
        until: std::time::Instant,
        mut tell: impl FnMut(&Events<'_>) -> bool,
    ) -> Result<(), LinkError> {
        let mut buffer = [0; 2048];
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()).filter(|l| !l.is_zero()) {
            let now = self.now();
            if let Some(length) = self.receive(left, &mut buffer)?
                && let Ok(Incoming::Events(events)) = self.client.handle(now, &buffer[..length])
                && !tell(&events)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn exchange<R>(&mut self, wanted: impl Fn(Incoming<'_>) -> Option<R>) -> Result<R, LinkError> {
        let mut buffer = [0; 2048];
        loop {
            let now = self.now();
            match self.client.poll_transmit(now) {
                Ok(Some(datagram)) => match self.socket.send(datagram) {
                    // Nobody listens there (yet): the same as no answer.
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    sent => drop(sent?),
                },
                Ok(None) => {}
                Err(_) => return Err(LinkError::NoAnswer),
            }
            let wait = self.client.poll_at().map_or(Duration::from_millis(1), |at| at.duration_since(self.now()));
            let Some(length) = self.receive(wait.max(Duration::from_millis(1)), &mut buffer)? else {
                continue;
            };
            let now = self.now();
            if let Ok(incoming) = self.client.handle(now, &buffer[..length])
                && let Some(found) = wanted(incoming)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&self, wait: Duration, buffer: &mut [u8]) -> Result<Option<usize>, LinkError> {
        use std::io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.recv(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(e) if matches!(e.kind(), WouldBlock | TimedOut | Interrupted) => Ok(None),
            Err(e) if e.kind() == ConnectionRefused => {
                std::thread::sleep(wait.min(Duration::from_millis(100)));
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}
