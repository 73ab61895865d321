//! A new handshake within a conversation.

use super::rules::met;
use super::{UNKNOWN, covers};

/// How many segments of the client that do not fit a client's attempt survives.
pub(super) const FORGED: u8 = 3;

/// A new attempt within a conversation. While there is one, no other numbers are claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) is: Is,
    /// The number behind the client's SYN; for an unasked SYN+ACK, the number that the server has acknowledged.
    pub(super) client: u32,
    /// How much data came with the SYN, or, as soon as the server has answered, how much of it that acknowledged.
    pub(super) data: u32,
    /// The number behind the server's SYN.
    pub(super) server: u32,
    /// The number behind the SYN with which the server answered another attempt, if it did.
    pub(super) otherwise: u32,
    /// How many segments of the client have come that fit neither this nor the conversation.
    pub(super) misfits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// The client has sent a SYN.
    Asked,
    /// The server has answered with SYN+ACK.
    Answered,
    /// There was a SYN+ACK that answers no SYN that is known.
    Unasked,
}

impl Attempt {
    /// The client has sent a SYN with this number behind it, and so much data.
    pub(super) fn asked(client: u32, data: u32) -> Self {
        Self { is: Is::Asked, client, data, server: UNKNOWN, otherwise: UNKNOWN, misfits: 0 }
    }

    /// The latest answer to an attempt that is known.
    pub(super) fn answer(&self) -> u32 {
        match self.is {
            Is::Asked => self.otherwise,
            Is::Answered => self.server,
            Is::Unasked => UNKNOWN,
        }
    }

    /// Whether a number acknowledges the client's SYN. For an unasked SYN+ACK none does.
    pub(super) fn is_acknowledged_by(&self, number: u32) -> bool {
        self.is != Is::Unasked && covers(number, self.client, self.data)
    }

    /// The server has answered something else.
    pub(super) fn answered_otherwise(self, server: u32) -> Self {
        met("SYN+ACK for another attempt");
        if self.is == Is::Asked { Self { otherwise: server, ..self } } else { self }
    }

    /// What the server has acknowledged, which is where the client goes on.
    pub(super) fn acknowledged(&self) -> u32 {
        self.client.wrapping_add(self.data)
    }
}
