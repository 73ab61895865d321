//! Portions: two processes, usually on two machines, of which one translates what goes to servers and the other what comes
//! back. They share the connections and exchange them as records over a TCP stream.
//!
//! ```text
//!   exchange  what one portion tells the other: a connection as soon as something happens to it, all of them at the start
//!   link      the stream: opened, kept alive, opened again
//!   frame     what is on it: authenticated frames
//!   closed    what was closed while the stream was cut
//!   early     packets that arrive before the record that they follow from
//! ```
//!
//! The portion to the server has the rules and opens connections; the other only follows. Either can be restarted: when the
//! stream is open again, each sends all connections that it knows.

mod closed;
mod early;
mod exchange;
mod frame;
mod link;

use core::net::SocketAddrV4;
use core::time::Duration;
use std::path::PathBuf;

pub use early::{Awaited, Early};
pub use exchange::RecordSender;
pub use link::{Link, Status};

/// What a portion translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What clients send: it has the rules, and opens connections.
    ToServer,
    /// What servers send.
    ToClient,
}

impl Direction {
    /// The other portion's.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// How the stream to the other portion is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other portion connects to this address.
    Listen(SocketAddrV4),
    /// The other portion listens there.
    Connect(SocketAddrV4),
}

/// The settings of `[portion]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// What this portion translates.
    pub direction: Direction,
    /// How it reaches the other.
    pub end: End,
    /// The secret that only the two portions know.
    pub secret: [u8; 32],
    /// The file that it was read from.
    pub key: PathBuf,
    /// How often connections over which packets pass are sent again.
    pub refresh: Duration,
}

impl Settings {
    /// The secret that assigns clients to shards: the same after each restart.
    pub(crate) fn shard_secret(&self) -> [u8; 32] {
        frame::derive(&self.secret, &[b"byway shards"])
    }
}

impl core::fmt::Debug for Settings {
    /// Everything but the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { direction, end, key, refresh, .. } = self;
        let mut all = f.debug_struct("Settings");
        all.field("direction", direction).field("end", end).field("key", key).field("refresh", refresh);
        all.finish_non_exhaustive()
    }
}
