//! What the program's stack is connected to: UDP sockets, or a TUN device.

use core::fmt;
use core::ops::Range;
use std::io;

use mio::Registry;
use smoltcp::phy::{self, DeviceCapabilities};
use smoltcp::time::Instant;

use super::carrier::{self, Carrier};
#[cfg(target_os = "linux")]
use super::tun::{self, Tun};

/// The device below byway.
#[derive(Debug)]
pub enum Outside {
    /// Sockets of the operating system.
    Sockets(Carrier),
    /// A TUN device.
    #[cfg(target_os = "linux")]
    Tun(Tun),
}

impl Outside {
    /// Registers it for reading, with tokens from `first` on. Returns the tokens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn register(&mut self, registry: &Registry, first: usize) -> io::Result<Range<usize>> {
        match self {
            Self::Sockets(carrier) => carrier.register(registry, first),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.register(registry, mio::Token(first)).map(|()| first..first + 1),
        }
    }

    /// The token with this number, from zero, may have something to read.
    pub fn mark_ready(&mut self, number: usize) {
        match self {
            Self::Sockets(carrier) => carrier.mark_ready(number),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.mark_ready(),
        }
    }

    /// Whether there may still be something to read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Sockets(carrier) => carrier.is_ready(),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.is_ready(),
        }
    }

    /// What was dropped, for people.
    #[must_use]
    pub fn dropped(&self) -> impl fmt::Display + use<> {
        match self {
            Self::Sockets(carrier) => format!("{:?}", carrier.dropped()),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => format!("{:?}", tun.dropped()),
        }
    }
}

impl phy::Device for Outside {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        match self {
            Self::Sockets(carrier) => carrier.capabilities(),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.capabilities(),
        }
    }

    fn receive(&mut self, now: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        match self {
            Self::Sockets(carrier) => carrier.receive(now).map(|(rx, tx)| (RxToken::Sockets(rx), TxToken::Sockets(tx))),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.receive(now).map(|(rx, tx)| (RxToken::Tun(rx), TxToken::Tun(tx))),
        }
    }

    fn transmit(&mut self, now: Instant) -> Option<TxToken<'_>> {
        match self {
            Self::Sockets(carrier) => carrier.transmit(now).map(TxToken::Sockets),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.transmit(now).map(TxToken::Tun),
        }
    }
}

/// A packet that was received.
#[derive(Debug)]
pub enum RxToken<'a> {
    /// By a socket.
    Sockets(carrier::RxToken<'a>),
    /// By a TUN device.
    #[cfg(target_os = "linux")]
    Tun(tun::RxToken),
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        match self {
            Self::Sockets(token) => token.consume(f),
            #[cfg(target_os = "linux")]
            Self::Tun(token) => token.consume(f),
        }
    }
}

/// Permission to send a packet.
#[derive(Debug)]
pub enum TxToken<'a> {
    /// By a socket.
    Sockets(carrier::TxToken<'a>),
    /// By a TUN device.
    #[cfg(target_os = "linux")]
    Tun(tun::TxToken<'a>),
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        match self {
            Self::Sockets(token) => token.consume(length, f),
            #[cfg(target_os = "linux")]
            Self::Tun(token) => token.consume(length, f),
        }
    }
}
