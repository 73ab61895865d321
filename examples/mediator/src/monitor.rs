//! A monitor that gives one instruction after the other over byway's control port, for the demonstration and for tests.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::UdpSocket;

use byway::Instant;
use byway::control::{Client, Incoming, Instruction, Request};

/// A session with an agent.
#[derive(Debug)]
pub struct Monitor {
    socket: UdpSocket,
    client: Client,
    start: std::time::Instant,
}

impl Monitor {
    /// Opens a session.
    ///
    /// # Errors
    /// The agent does not answer, or refuses.
    pub fn open(agent: SocketAddr, (key, secret): (u16, [u8; 32])) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(agent)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let client = Client::new(Instant::ZERO, key, secret, nonce);
        let mut monitor = Self { socket, client, start: std::time::Instant::now() };
        monitor.wait()?;
        Ok(monitor)
    }

    /// Gives an instruction, and waits until it is carried out.
    ///
    /// # Errors
    /// The agent does not answer, or refuses.
    pub fn instruct(&mut self, instruction: Instruction) -> io::Result<()> {
        let now = self.now();
        self.client.send(now, &Request::one(instruction)).map_err(|error| io::Error::other(error.to_string()))?;
        self.wait()
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let now = self.now();
            if let Some(datagram) = self.client.poll_transmit(now).map_err(|e| io::Error::other(e.to_string()))? {
                self.socket.send(datagram)?;
            }
            let wait = self.client.poll_at().map_or(Duration::ZERO, |at| at.duration_since(now));
            self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
            let Ok(length) = self.socket.recv(&mut buffer) else {
                continue;
            };
            let now = self.now();
            let refused = match self.client.handle(now, buffer.get(..length).unwrap_or_default()) {
                Ok(Incoming::Opened(answer) | Incoming::Answer(answer)) => answer.refused(),
                Ok(Incoming::Refused(why)) => Some(why),
                _ => continue,
            };
            return refused.map_or(Ok(()), |why| Err(io::Error::other(format!("refused: {why:?}"))));
        }
    }
}
