//! How much may be sent to an origin (RFC 7252, sections 4.7 and 4.8).

use core::time::Duration;
use std::collections::VecDeque;

use byway::Instant;

/// Average bytes per second to an endpoint that does not answer (`PROBING_RATE`, RFC 7252, section 4.8).
const PROBING_RATE: u64 = 1;

/// The parameters of RFC 7252, section 4.8.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `ACK_TIMEOUT`: how long the first acknowledgement may take. Default 2 s.
    pub ack_timeout: Duration,
    /// `MAX_RETRANSMIT`: how often a request is sent again. Default 4.
    pub max_retransmit: u8,
    /// `NSTART`: requests to one origin that are neither acknowledged nor answered. Default 1; a larger one is for
    /// networks where congestion is not a concern (section 4.7).
    pub nstart: usize,
    /// How long a response may take after its request was acknowledged. Default 60 s.
    pub response_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            max_retransmit: 4,
            nstart: 1,
            response_timeout: Duration::from_secs(60),
        }
    }
}

/// What is known of an origin.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Requests that are neither acknowledged nor answered.
    pub(super) outstanding: usize,
    /// The tokens of requests that wait for their turn.
    pub(super) queue: VecDeque<u64>,
    /// Bytes sent since it was last heard, and when the first of them was.
    pub(super) unanswered: u64,
    pub(super) since: Option<Instant>,
    /// Whether a request has timed out, and it was not heard since that was sent.
    pub(super) is_silent: bool,
}

impl Origin {
    /// Bytes were sent to it.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        self.since.get_or_insert(now);
        self.unanswered += bytes as u64;
    }

    /// It has answered.
    pub(super) fn heard(&mut self) {
        (self.unanswered, self.since, self.is_silent) = (0, None, false);
    }

    /// Whether it was not heard since this time, when a request was sent to it.
    pub(super) fn is_unheard_since(&self, time: Instant) -> bool {
        self.since.is_some_and(|since| since <= time)
    }

    /// Whether it is silent, and has been sent as much as it may be.
    pub(super) fn must_wait(&self, now: Instant) -> bool {
        self.is_silent && self.unanswered > self.allowed(now)
    }

    /// How many bytes may have been sent since it was last heard.
    fn allowed(&self, now: Instant) -> u64 {
        self.since.map_or(0, |since| now.duration_since(since).as_secs().saturating_mul(PROBING_RATE))
    }
}
