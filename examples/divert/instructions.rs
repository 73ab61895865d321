//! The port for instructions: a real socket, with an agent behind it.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::net::UdpSocket;

use byway::control::{Agent, Key, MAX_ANSWER, Rights};
use byway::{Heap, Instant, Translator};

use crate::arguments::Driven;

pub(crate) struct Instructions {
    socket: UdpSocket,
    agent: Agent<1, 4>,
    pub(crate) at: SocketAddr,
}

impl Instructions {
    /// Opens the port, for whoever has the key.
    pub(crate) fn open(driven: &Driven) -> Result<Self, String> {
        let (id, secret) = byway_key_file::read(&driven.key)?;
        let describe = |error: std::io::Error| format!("--control {}: {error}", driven.control);
        let socket = UdpSocket::bind(driven.control).map_err(describe)?;
        let at = socket.local_addr().map_err(describe)?;
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(|error| error.to_string())?;
        let mut agent = Agent::new(entropy);
        agent.add_key(Key::new(id, secret, Rights::All)).map_err(|error| error.to_string())?;
        Ok(Self { socket, agent, at })
    }

    /// Waits for a datagram, no longer than this, and lets the agent carry it out. Then tells what was subscribed to.
    pub(crate) fn serve(
        &mut self,
        wait: Duration,
        clock: impl Fn() -> Instant,
        translator: &mut Translator<Heap>,
    ) -> Result<(), String> {
        let (mut datagram, mut answer) = ([0; 2048], [0; MAX_ANSWER]);
        // A time-out of zero would be none.
        let waiting = self.socket.set_read_timeout(Some(wait.max(Duration::from_micros(100))));
        match waiting.and_then(|()| self.socket.recv_from(&mut datagram)) {
            Ok((length, from)) => {
                // What the agent refuses is counted there, and gets no answer. What cannot be sent is lost, as
                // datagrams are: the monitor asks again.
                let datagram = &datagram[..length];
                if let Ok(length) = self.agent.handle(clock(), translator, from, datagram, &mut answer) {
                    let _ = self.socket.send_to(&answer[..length], from);
                }
            }
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
            Err(error) => return Err(format!("the port for instructions: {error}")),
        }
        let now = clock();
        while self.agent.has_room()
            && let Some(event) = translator.poll_event()
        {
            self.agent.tell(now, &event);
        }
        while let Some((to, length)) = self.agent.poll_transmit(now, &mut answer) {
            let _ = self.socket.send_to(&answer[..length], to);
        }
        Ok(())
    }
}
