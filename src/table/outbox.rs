//! Messages that the translator itself has to say and that wait to be fetched, and the rates at which they may be said.

use core::time::Duration;

use crate::connection::Direction;
use crate::time::Instant;

/// The longest IPv4 header, and 64 bits of what it carries (RFC 792).
pub(crate) const QUOTE: usize = 60 + 8;

/// How many messages wait to be fetched. More than a few would be old news.
const WAITING: u8 = 3;

/// A message that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Reset {
        direction: Direction,
        source: (u32, u16),
        destination: (u32, u16),
        sequence: u32,
        acknowledgment: u32,
    },
    /// Administratively prohibited, about the packet that the quote begins.
    Prohibited {
        from: u32,
        quote: [u8; QUOTE],
        length: u8,
    },
}

/// Messages that wait, and the rates at which they may be said.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// A ring.
    waiting: [Option<Message>; WAITING as usize],
    first: u8,
    length: u8,
    errors: Bucket,
    resets: Bucket,
}

/// A token bucket that holds what may be said within a second, and less than a message more, which is what has been earned
/// of the next one.
///
/// It counts millionths of a message, and each microsecond brings as many of them as the rate says. So nothing is
/// rounded, however often the caller comes, and nothing is divided.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Millionths of a message.
    credit: u64,
    filled: Instant,
    started: bool,
}

/// What one message costs, and how many microseconds fill a bucket.
const MESSAGE: u32 = 1_000_000;

impl Bucket {
    const NEW: Self = Self { credit: 0, filled: Instant::ZERO, started: false };

    /// Adds what was earned since the last call.
    fn fill(&mut self, rate: u16, now: Instant) {
        let earned = |micros: u32| u64::from(micros) * u64::from(rate);
        let elapsed = now.as_micros().saturating_sub(self.filled.as_micros());
        let elapsed = if self.started { elapsed.min(u64::from(MESSAGE)) as u32 } else { MESSAGE };
        let credit = (self.credit + earned(elapsed)).min(earned(MESSAGE) + u64::from(MESSAGE - 1));
        *self = Self { credit, filled: now, started: true };
    }

    /// When there will be enough for a message; `now` if there is already.
    fn next(mut self, rate: u16, now: Instant) -> Instant {
        self.fill(rate, now);
        // The difference fits in 32 bits.
        let missing = u64::from(MESSAGE).saturating_sub(self.credit) as u32;
        let rate = u32::from(rate);
        let wait = (missing + rate.saturating_sub(1)).checked_div(rate).unwrap_or(MESSAGE);
        now + Duration::from_micros(wait.into())
    }

    /// Takes what a message costs, if that is there.
    #[inline(never)]
    fn take(&mut self, rate: u16, now: Instant) -> bool {
        self.fill(rate, now);
        let rest = self.credit.checked_sub(MESSAGE.into());
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }
}

impl Outbox {
    pub(crate) const fn new() -> Self {
        Self { waiting: [None; WAITING as usize], first: 0, length: 0, errors: Bucket::NEW, resets: Bucket::NEW }
    }

    pub(crate) fn has_something(&self) -> bool {
        self.length != 0
    }

    /// Takes what an ICMP error, or the RST that goes with one, costs at this rate per second, if that is there.
    pub(crate) fn allows_error(&mut self, rate: u16, now: Instant) -> bool {
        self.errors.take(rate, now)
    }

    /// The same of a RST that a re-divert has ordered, or that answers a late segment.
    pub(crate) fn allows_reset(&mut self, rate: u16, now: Instant) -> bool {
        self.resets.take(rate, now)
    }

    /// When the next RST that a re-divert has ordered may be said.
    pub(crate) fn next_reset(&self, rate: u16, now: Instant) -> Instant {
        self.resets.next(rate, now)
    }

    pub(crate) fn push(&mut self, message: &Message) -> bool {
        if self.length >= WAITING {
            return false;
        }
        let place = self.first + self.length;
        let place = if place >= WAITING { place - WAITING } else { place };
        if let Some(waiting) = self.waiting.get_mut(usize::from(place)) {
            *waiting = Some(*message);
        }
        self.length += 1;
        true
    }

    /// The message that waited longest.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        if self.length == 0 {
            return None;
        }
        let message = self.waiting.get_mut(usize::from(self.first))?.take();
        self.first = if self.first + 1 == WAITING { 0 } else { self.first + 1 };
        self.length -= 1;
        message
    }
}
