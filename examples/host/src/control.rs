//! The port for instructions: the library's agent on a socket of its own.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};

use byway::control::{Agent, Key, MAX_ANSWER, MAX_REQUEST, Refused};
use byway::{Heap, Instant, Translator};

use crate::config::{Control, ControlKey, MAX_KEYS};

/// As many as keys, so that none can keep another out.
const SESSIONS: usize = MAX_KEYS;
/// How many datagrams are taken before packets have their turn again.
const BURST: usize = 16;

/// The agent and its socket.
#[derive(Debug)]
pub struct ControlPort {
    agent: Agent<MAX_KEYS, SESSIONS>,
    socket: UdpSocket,
    keys: Vec<ControlKey>,
}

impl ControlPort {
    /// Opens the socket.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn open(control: &Control, entropy: [u8; 32]) -> Result<Self, String> {
        let listen = control.listen;
        let socket = UdpSocket::bind(listen).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => format!("control.listen {listen}: another program has this port"),
            ErrorKind::AddrNotAvailable => format!("control.listen {listen}: this machine does not have this address"),
            ErrorKind::PermissionDenied => {
                format!("control.listen {listen}: ports below 1024 are root's: take another")
            }
            _ => format!("control.listen {listen}: {error}"),
        })?;
        Self::with(control, socket, entropy)
    }

    /// Takes a socket that is open already.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn with(control: &Control, socket: UdpSocket, entropy: [u8; 32]) -> Result<Self, String> {
        let listen = control.listen;
        socket.set_nonblocking(true).map_err(|error| format!("control.listen {listen}: {error}"))?;
        let mut port = Self { agent: Agent::new(entropy).listening_on(listen), socket, keys: Vec::new() };
        port.set_keys(&control.keys);
        Ok(port)
    }

    /// Changes who may say what. Sessions of keys that stay stay.
    pub fn set_keys(&mut self, keys: &[ControlKey]) {
        for old in self.keys.extract_if(.., |old| !keys.contains(old)) {
            self.agent.remove_key(old.id);
        }
        for new in keys {
            if !self.keys.contains(new) {
                // The configuration holds no more than there is room for, and no number twice.
                if self.agent.add_key(Key::new(new.id, new.secret, new.rights)).is_ok() {
                    self.keys.push(new.clone());
                }
            }
        }
    }

    /// How many datagrams got no answer, by reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        Refused::ALL.iter().map(|reason| (reason.name(), self.agent.refused(*reason))).collect()
    }

    /// Answers what came. Whether there may be more.
    pub fn answer(&mut self, now: Instant, translator: &mut Translator<Heap>) -> bool {
        let (mut request, mut answer) = ([0; MAX_REQUEST + 1], [0; MAX_ANSWER]);
        let mut taken = 0;
        while taken < BURST
            && let Ok((length, from)) = self.socket.recv_from(&mut request)
        {
            taken += 1;
            if let Ok(length) = self.agent.handle(now, translator, from, &request[..length], &mut answer) {
                // Whoever misses the answer asks again.
                let _ = self.socket.send_to(&answer[..length], from);
            }
        }
        taken == BURST
    }

    /// Tells subscribers what happened.
    pub fn tell(&mut self, now: Instant, translator: &mut Translator<Heap>) {
        let mut answer = [0; MAX_ANSWER];
        while self.agent.has_room()
            && let Some(event) = translator.poll_event()
        {
            self.agent.tell(now, &event);
        }
        while let Some((to, length)) = self.agent.poll_transmit(now, &mut answer) {
            let _ = self.socket.send_to(&answer[..length], to);
        }
    }
}

impl AsFd for ControlPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
