//! One client's connection.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::Instant;
use smoltcp::iface::SocketHandle;

use super::{HANDSHAKE, IDLE, PROGRESS};

/// A client's connection, and the connection to the server that it asks.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: SocketHandle,
    /// The client, and the server that it asks.
    pub(super) ends: Option<(SocketAddrV4, Ipv4Addr)>,
    /// The connection to a server, and its local port.
    pub(super) server: Option<(SocketHandle, u16)>,
    /// Whether a packet has come for it that it was not served for yet, or it has moved since.
    pub(super) is_touched: bool,
    /// What the client has sent and that is not processed yet.
    pub(super) asked: Vec<u8>,
    /// What goes to the server.
    pub(super) to_server: Vec<u8>,
    /// What the server has sent and that is no whole message yet.
    pub(super) from_server: Vec<u8>,
    /// What goes to the client.
    pub(super) to_client: Vec<u8>,
    /// How many queries the server has not answered.
    pub(super) open: usize,
    /// When the client last asked something or took an answer.
    pub(super) moved: Instant,
    /// How many bytes the client had not acknowledged at the last check, and how many it has acknowledged since `moved`.
    pub(super) unconfirmed: usize,
    pub(super) confirmed: usize,
    /// Whether the client has answered the handshake.
    pub(super) is_open: bool,
    pub(super) is_closing: bool,
}

impl Session {
    /// The session of a client that has just connected.
    pub(super) const fn new(now: Instant, client: SocketHandle, ends: Option<(SocketAddrV4, Ipv4Addr)>) -> Self {
        Self {
            client,
            ends,
            server: None,
            is_touched: true,
            asked: Vec::new(),
            to_server: Vec::new(),
            from_server: Vec::new(),
            to_client: Vec::new(),
            open: 0,
            moved: now,
            unconfirmed: 0,
            confirmed: 0,
            is_open: false,
            is_closing: false,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.asked.len() + self.to_server.len() + self.from_server.len() + self.to_client.len()
    }

    /// Whether the client has acknowledged enough to count as reading.
    pub(super) fn is_read(&mut self, unconfirmed: usize) -> bool {
        self.confirmed += self.unconfirmed.saturating_sub(unconfirmed);
        let is_read = self.confirmed >= PROGRESS || (self.confirmed != 0 && unconfirmed == 0);
        if is_read {
            self.confirmed = 0;
        }
        is_read
    }

    /// When it is given up unless something moves.
    pub(super) fn until(&self) -> Instant {
        self.moved + if self.is_open { IDLE } else { HANDSHAKE }
    }
}
