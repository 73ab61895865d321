//! Messages that the translator originates and that wait to be fetched, and their rate limits.

use core::time::Duration;
use heapless::Deque;

use crate::connection::Direction;
use crate::endpoint::Endpoint;
use crate::time::Instant;

/// The longest IPv4 header, and 64 bits of its payload (RFC 792).
pub(crate) const QUOTE: usize = 60 + 8;

/// How many messages can wait. More than a few would be out of date when fetched.
const WAITING: usize = 3;

/// A waiting message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Reset {
        direction: Direction,
        source: Endpoint,
        destination: Endpoint,
        sequence: u32,
        acknowledgment: u32,
    },
    /// Administratively prohibited, about the packet at the start of the quote.
    Prohibited {
        from: u32,
        quote: [u8; QUOTE],
        length: u8,
    },
}

/// The waiting messages, and their rate limits.
#[derive(Debug)]
// The messages come last, so that a new outbox is not copied with room for them.
#[repr(C)]
pub(crate) struct Outbox {
    errors: Bucket,
    resets: Bucket,
    waiting: Deque<Message, WAITING>,
}

/// A token bucket. It holds at most the messages of one second, plus less than one message earned towards the next.
///
/// It counts millionths of a message: each microsecond adds `rate` of them. So filling it needs no rounding, however
/// often it is called, and no division.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Millionths of a message: how much is spent of what one second earns. Less than zero as far as something has been
    /// earned beyond that.
    spent: i64,
    filled: Instant,
}

/// What one message costs, and how many microseconds fill a bucket.
const MESSAGE: u32 = 1_000_000;

impl Bucket {
    const NEW: Self = Self { spent: 0, filled: Instant::ZERO };

    /// Subtracts what has been earned since the last call. After a second nothing is spent. Time does not run backwards.
    fn fill(&mut self, rate: u16, now: Instant) {
        let elapsed = now.as_micros().wrapping_sub(self.filled.as_micros());
        self.filled = now;
        self.spent = if elapsed < u64::from(MESSAGE) {
            let earned = i64::from(elapsed as u32) * i64::from(rate);
            (self.spent - earned).max(1 - i64::from(MESSAGE))
        } else {
            0
        };
    }

    /// When there will be enough for a message; `now` if there already is.
    fn next(mut self, rate: u16, now: Instant) -> Instant {
        self.fill(rate, now);
        let missing = self.spent + i64::from(MESSAGE) - i64::from(rate) * i64::from(MESSAGE);
        let rate = u32::from(rate);
        // What is missing fits in 32 bits.
        let wait = (missing.max(0) as u32 + rate.saturating_sub(1)).checked_div(rate).unwrap_or(MESSAGE);
        now + Duration::from_micros(wait.into())
    }

    /// Takes the cost of a message. False if there is not enough.
    #[inline(never)]
    fn take(&mut self, rate: u16, now: Instant) -> bool {
        self.fill(rate, now);
        let after = self.spent + i64::from(MESSAGE);
        let enough = after <= i64::from(rate) * i64::from(MESSAGE);
        if enough {
            self.spent = after;
        }
        enough
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { waiting: Deque::new(), errors: Bucket::NEW, resets: Bucket::NEW }
    }

    pub(crate) fn has_something(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the cost of an ICMP error, or of a RST about an evicted connection, at this rate per second. False if
    /// there is not enough.
    pub(crate) fn allows_error(&mut self, rate: u16, now: Instant) -> bool {
        self.errors.take(rate, now)
    }

    /// The same for a RST that a re-divert has ordered, or that answers a late segment.
    pub(crate) fn allows_reset(&mut self, rate: u16, now: Instant) -> bool {
        self.resets.take(rate, now)
    }

    /// When the next RST that a re-divert has ordered may be sent.
    pub(crate) fn next_reset(&self, rate: u16, now: Instant) -> Instant {
        self.resets.next(rate, now)
    }

    /// False if there is no room.
    pub(crate) fn push(&mut self, message: &Message) -> bool {
        self.waiting.push_back(*message).is_ok()
    }

    /// The message that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }
}
