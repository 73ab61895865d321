//! Subscriptions to measurements, and which requests concern measurements or the lead.

use super::code::Code;
use super::instruction::{MAX_INTERVAL, MAX_SUBSCRIPTION, MIN_INTERVAL, code};
use super::request::{Raw, Received};
use super::standing::{MAX_LEASE, MIN_LEASE, NOBODY, Note, Standing};
use super::translators::Translators;
use super::wire::Reader;

use crate::table::storage::sealed::Memory;
use crate::time::Instant;

/// A monitor's subscription to measurements; all zeros when unused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    pub(super) session: [u8; 8],
    pub(super) until: Instant,
    /// When its next report is due; one that has begun is due until it has ended.
    pub(super) due: Instant,
    /// Milliseconds.
    pub(super) interval: u16,
    /// Where the report in progress continues; zero if none is.
    pub(super) position: u32,
    /// Counts its reports.
    pub(super) round: u32,
    /// The number of its last datagram.
    pub(super) sequence: u32,
    /// Whether it stands for the lead, and has it.
    pub(super) standing: Standing,
}

impl Subscriber {
    pub(super) const NONE: Self = Self {
        session: [0; 8],
        until: Instant::ZERO,
        due: Instant::ZERO,
        interval: 0,
        position: 0,
        round: 0,
        sequence: 0,
        standing: Standing::NONE,
    };

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.until > now && self.due <= now
    }

    /// A page of the report in progress was sent: continues with the page at `next`, or schedules the next report.
    pub(super) fn advance(&mut self, next: Option<u32>, now: Instant) {
        self.position = next.unwrap_or(0);
        if next.is_some() {
            return;
        }
        let interval = u64::from(self.interval) * 1_000;
        let planned = self.due.as_micros().saturating_add(interval);
        // Missed reports are not made up for.
        let next = if planned > now.as_micros() { planned } else { now.as_micros().saturating_add(interval) };
        self.due = Instant::from_micros(next);
    }
}

/// An instruction about measurements or the lead.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    Page(u32),
    Reports { seconds: u16, interval: u16 },
    Lead { number: u64, lease: u16, note: Note },
}

impl Asked {
    pub(super) fn read(raw: Raw<'_>) -> Result<Self, Code> {
        let (number, body) = raw.parts();
        let mut body = Reader(body.ok_or(Code::Malformed)?);
        let mut read = || {
            let asked = match number {
                code::MEASUREMENTS => Self::Page(body.u32()?),
                code::LEAD => {
                    let (number, lease) = (body.u64()?, body.u16()?);
                    let is_good = number != NOBODY && (lease == 0 || (MIN_LEASE..=MAX_LEASE).contains(&lease));
                    let note = Note::read(&mut body)?;
                    is_good.then_some(Self::Lead { number, lease, note })?
                }
                _ => {
                    let (seconds, interval) = (body.u16()?, body.u16()?);
                    let is_good = seconds <= MAX_SUBSCRIPTION && (MIN_INTERVAL..=MAX_INTERVAL).contains(&interval);
                    is_good.then_some(Self::Reports { seconds, interval })?
                }
            };
            body.is_empty().then_some(asked)
        };
        read().ok_or(Code::Malformed)
    }
}

/// Whether a request is about measurements or the lead. Other code does not know these instructions, so that an agent
/// whose storage has no room for measurements contains no code for them.
pub(super) fn asks_for_measurements<T: Translators + ?Sized>(request: &Received<'_>) -> bool {
    <T::Storage as Memory>::MEASURES_SERVERS
        && request.instructions().any(|raw| matches!(raw.parts().0, code::MEASUREMENTS | code::REPORT | code::LEAD))
}
