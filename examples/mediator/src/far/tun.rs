//! A smoltcp device over a TUN device: the stack's packets go to the kernel as they are, and it routes them.
//!
//! The alternative to [`carrier`](super::carrier) for processes that may create the device: the alternative address is then one
//! of its own, whose packets the kernel routes to the device, unless another process translates what comes back
//! ([`portion`](crate::portion)).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use smoltcp::phy::{self, DeviceCapabilities};
use smoltcp::time::Instant;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::MTU;

/// How many packets wait at most, in each direction.
const WAITING: usize = 256;

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From the stack: the device is down, or has no room.
    pub unsent: u64,
    /// Too many waited to be sent.
    pub waiting: u64,
    /// From the device: it could not be read.
    pub unread: u64,
}

/// The device.
pub struct Tun {
    device: SyncDevice,
    /// Whether packets wait until [`flush`](Self::flush), and what is received is another process's business.
    is_split: bool,
    is_ready: bool,
    to_send: VecDeque<Vec<u8>>,
    dropped: Dropped,
}

impl core::fmt::Debug for Tun {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tun").field("is_split", &self.is_split).field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl Tun {
    /// Attaches to a device, which is created if there is none. Whether it is up, and what is routed to it, stays as it is.
    ///
    /// # Errors
    /// The operating system's, with the name.
    pub fn open(name: &str) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("TUN device {name}: {error}"));
        let device = DeviceBuilder::new().name(name).inherit_enable_state().build_sync().map_err(named)?;
        device.set_nonblocking(true).map_err(named)?;
        Ok(Self { device, is_split: false, is_ready: false, to_send: VecDeque::new(), dropped: Dropped::default() })
    }

    /// From now on packets wait until they are [flushed](Self::flush), and nothing is received.
    pub const fn split(&mut self) {
        self.is_split = true;
    }

    /// Registers it for reading.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.device.as_raw_fd()), token, Interest::READABLE)
    }

    /// It may have something to read.
    pub const fn mark_ready(&mut self) {
        self.is_ready = true;
    }

    /// Whether it may still have something.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.is_ready && !self.is_split
    }

    /// What was dropped, by reason.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Reads a packet into `packet`, and returns its length. `None` if there is none just now.
    pub fn read(&mut self, packet: &mut [u8]) -> Option<usize> {
        while self.is_ready {
            match self.device.recv(packet) {
                Ok(length) => return Some(length),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_ready = false;
                    // The device is down, or gone: the sender sends the packet again.
                    self.dropped.unread += u64::from(error.kind() != ErrorKind::WouldBlock);
                }
            }
        }
        None
    }

    /// Sends what waits.
    pub fn flush(&mut self) {
        while let Some(packet) = self.to_send.pop_front() {
            self.write(&packet);
        }
    }

    fn write(&mut self, packet: &[u8]) {
        if self.device.send(packet).is_err() {
            // Dropped, as in a network; its sender sends it again.
            self.dropped.unsent += 1;
        }
    }

    fn send(&mut self, packet: Vec<u8>) {
        if !self.is_split {
            self.write(&packet);
        } else if self.to_send.len() < WAITING {
            self.to_send.push_back(packet);
        } else {
            self.dropped.waiting += 1;
        }
    }

    fn fetch(&mut self) -> Option<Vec<u8>> {
        if self.is_split {
            return None;
        }
        let mut packet = vec![0; MTU];
        let length = self.read(&mut packet)?;
        packet.truncate(length);
        Some(packet)
    }
}

impl phy::Device for Tun {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        super::ip_device()
    }

    fn receive(&mut self, _: Instant) -> Option<(RxToken, TxToken<'_>)> {
        let packet = self.fetch()?;
        Some((RxToken(packet), TxToken(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        Some(TxToken(self))
    }
}

/// A packet that was received.
#[derive(Debug)]
pub struct RxToken(Vec<u8>);

impl phy::RxToken for RxToken {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Permission to send a packet.
#[derive(Debug)]
pub struct TxToken<'a>(&'a mut Tun);

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.send(packet);
        result
    }
}
