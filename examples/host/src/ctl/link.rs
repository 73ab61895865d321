//! A session over a UDP socket.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::net::UdpSocket;

use byway::control::{Answer, Client, Events, Incoming, Instruction, RefusedBy, Request};
use byway::{Event, Instant};

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

/// A datagram of events.
#[derive(Debug)]
pub(crate) struct Heard {
    /// How many datagrams before it got lost on their way.
    pub(crate) missed: u32,
    /// How many events were lost since the agent's start, modulo 2^32.
    pub(crate) lost: u32,
    /// The events, oldest first.
    pub(crate) events: Vec<Event>,
}

impl Heard {
    fn of(events: &Events<'_>) -> Self {
        Self { missed: events.datagrams_missed(), lost: events.lost(), events: events.events().collect() }
    }
}

/// A monitor with a socket and a clock.
pub(crate) struct Link {
    socket: UdpSocket,
    client: Client,
    start: std::time::Instant,
    /// Events that came while an answer was awaited.
    heard: VecDeque<Heard>,
}

impl Link {
    /// Opens a session.
    pub(crate) fn open(agent: SocketAddr, (key, secret): (u16, [u8; 32])) -> Result<Self, LinkError> {
        let any: SocketAddr = if agent.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(agent)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let (client, start) = (Client::new(Instant::ZERO, key, secret, nonce), std::time::Instant::now());
        let mut link = Self { socket, client, start, heard: VecDeque::new() };
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

    /// Receives events until `until`, or until `tell` returns false. Those that came while an answer was awaited are first.
    pub(crate) fn listen(
        &mut self,
        until: std::time::Instant,
        mut tell: impl FnMut(&Heard) -> bool,
    ) -> Result<(), LinkError> {
        while let Some(heard) = self.heard.pop_front() {
            if !tell(&heard) {
                return Ok(());
            }
        }
        let mut buffer = [0; 2048];
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()).filter(|l| !l.is_zero()) {
            let now = self.now();
            if let Some(length) = self.receive(left, &mut buffer)?
                && let Ok(Incoming::Events(events)) = self.client.handle(now, &buffer[..length])
                && !tell(&Heard::of(&events))
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
            match self.client.handle(now, &buffer[..length]) {
                // They do not come again.
                Ok(Incoming::Events(events)) => self.heard.push_back(Heard::of(&events)),
                Ok(incoming) => {
                    if let Some(found) = wanted(incoming) {
                        return Ok(found);
                    }
                }
                Err(_) => {}
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

#[cfg(test)]
mod tests {
    use byway::control::{Agent, Key, Kinds, MAX_ANSWER, Rights};
    use byway::{Config, Divert, Heap, Target, Translator, Weighted};

    use super::*;

    /// A UDP packet from 1.2.3.4 to 100.1.1.1:80, without a checksum.
    fn packet(port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 1, 1, 1];
        let sum: u32 = packet.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(c[1])).sum();
        packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend([0, 80, 0, 8, 0, 0]);
        packet
    }

    /// Events that come ahead of an answer are told like others.
    #[test]
    fn events_ahead_of_an_answer_are_not_lost() {
        const SECRET: [u8; 32] = [0x5a; 32];
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let serve = move || {
            let mut agent: Agent<4, 4, 2> = Agent::sized([9; 32]).listening_on("10.0.0.1:5213".parse().unwrap());
            agent.add_key(Key::new(1, SECRET, Rights::All)).unwrap();
            let config = Config::new([3; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
            let mut byway = Translator::new(config, Heap::new(100, 20).events(64)).unwrap();
            let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
            byway.divert(Divert::parse("100.1.1.1 to 20.0.0.1", &mut room).unwrap()).unwrap();
            let now = Instant::from_secs(1);
            let (mut datagram, mut answer, mut events) = ([0; 2048], [0; MAX_ANSWER], [0; MAX_ANSWER]);
            loop {
                let (length, from) = socket.recv_from(&mut datagram).unwrap();
                let Ok(answered) = agent.handle(now, &mut byway, from, &datagram[..length], &mut answer) else {
                    // It has closed.
                    return;
                };
                if agent.wants_events(now) {
                    // With each answer to a subscriber there are two datagrams of events, which come first.
                    for port in [5000, 5001] {
                        let _ = byway.translate(now, &mut packet(port));
                        while let Some(event) = byway.poll_event() {
                            agent.tell(now, &event);
                        }
                        byway.forget();
                        while let Some((to, length)) = agent.poll_transmit(now, &mut events) {
                            socket.send_to(&events[..length], to).unwrap();
                        }
                    }
                }
                socket.send_to(&answer[..answered], from).unwrap();
            }
        };
        let agent = std::thread::spawn(serve);
        let mut link = Link::open(at, (1, SECRET)).unwrap_or_else(|_| panic!("it opens"));
        let mut ports = Vec::new();
        for _ in 0..2 {
            let subscribe = Request::one(Instruction::Subscribe { seconds: 60, kinds: Kinds::ALL });
            assert!(link.ask(&subscribe, |answer| answer.refused().is_none()).is_ok_and(|accepted| accepted));
            let soon = std::time::Instant::now() + Duration::from_millis(100);
            let listened = link.listen(soon, |heard| {
                assert_eq!((heard.missed, heard.lost), (0, 0));
                ports.extend(heard.events.iter().filter_map(|event| match event {
                    Event::Opened(connection) => Some(connection.client_side.source.port()),
                    _ => None,
                }));
                true
            });
            assert!(listened.is_ok());
        }
        assert_eq!(ports, [5000, 5001, 5000, 5001]);
        drop((link, agent));
    }
}
