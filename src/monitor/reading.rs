//! Whether what a translator reports can be true, and what has happened since its last report.

use core::time::Duration;

use crate::measurements::{Measurements, Total};
use crate::monitor::model::Observation;
use crate::time::Instant;

/// Why a report of a server is not used. The report that comes after it is compared with it, so that a translator that
/// was restarted, or has started to count from zero, is believed again from its next report on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Distrust {
    /// The translator's time is the same as in the last report, and yet something was counted.
    Repeated,
    /// The translator's time is before that of the last report: it was restarted, or its clock runs backwards.
    Restarted,
    /// It says that it has counted since a time in the future.
    Future,
    /// Its counters were started again at a time before the last report.
    Overlaps,
    /// A counter is lower than in the last report.
    Backwards,
    /// More has happened than can happen in the time between both reports.
    TooMuch,
    /// The sum of the response times does not fit into their buckets.
    Inconsistent,
}

impl Distrust {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Repeated,
        Self::Restarted,
        Self::Future,
        Self::Overlaps,
        Self::Backwards,
        Self::TooMuch,
        Self::Inconsistent,
    ];

    /// What is wrong, in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Repeated => "its time stands still, though it has counted something",
            Self::Restarted => "its time has gone back: it was restarted, or its clock is wrong",
            Self::Future => "it says that it counts since a time that is still to come",
            Self::Overlaps => "it has started to count again, since a time before its last report",
            Self::Backwards => "a counter has run backwards",
            Self::TooMuch => "it says that more has happened than can happen in this time",
            Self::Inconsistent => "the sum of its response times does not fit into their buckets",
        }
    }
}

impl core::fmt::Display for Distrust {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Distrust {}

/// More events in a second than this are not believed.
const MOST_PER_SECOND: f64 = 10_000_000.0;
/// The longest response time that is assumed in the last bucket, which has no upper bound.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How much times may differ because they are rounded, or were read one after the other.
const SLACK: u64 = 1_000_000;

/// The last report about one server of one rule by one translator: an entry of its list. The next one is compared with
/// it.
///
/// ```
/// use byway::monitor::{Distrust, Reading};
/// use byway::{Instant, Measurements, Target};
/// use core::time::Duration;
///
/// let mut reading = Reading::default();
/// let mut measured = Measurements::none(Target::Same, Instant::from_secs(1));
/// // The first report has nothing to be compared with.
/// assert_eq!(reading.take(Instant::from_secs(2), &measured), Ok(None));
/// measured.response.add(Duration::from_millis(20));
/// let seen = reading.take(Instant::from_secs(3), &measured).unwrap().unwrap();
/// assert_eq!((seen.answered, seen.response), (1, Duration::from_millis(20)));
/// // It has been restarted.
/// let restarted = Measurements::none(Target::Same, Instant::from_secs(1));
/// assert_eq!(reading.take(Instant::from_secs(1), &restarted), Err(Distrust::Restarted));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reading {
    last: Option<(Instant, Measurements)>,
}

impl Reading {
    /// Takes a report that a translator wrote at the time `at` on its own clock, and returns what has happened since
    /// the last one; `None` if there was none, it was about another server, or no time has passed.
    ///
    /// # Errors
    /// [`Distrust`] if the report cannot be true. Whatever is returned without an error is bounded by the time that has
    /// passed.
    pub fn take(&mut self, at: Instant, new: &Measurements) -> Result<Option<Observation>, Distrust> {
        let Some((before, last)) = self.last else {
            self.last = Some((at, *new));
            return if new.since > at { Err(Distrust::Future) } else { Ok(None) };
        };
        if at == before && last.server == new.server {
            // The clock of a translator stands still while it has nothing to do.
            return if last == *new { Ok(None) } else { Err(Distrust::Repeated) };
        }
        self.last = Some((at, *new));
        if at < before {
            return Err(Distrust::Restarted);
        }
        if new.since > at {
            return Err(Distrust::Future);
        }
        if last.server != new.server {
            return Ok(None);
        }
        if last.since != new.since && new.since < before {
            return Err(Distrust::Overlaps);
        }
        let seen = new.between(&last);
        check(&seen, at.duration_since(before))?;
        Ok(Some(bounded(&seen, at)))
    }
}

/// Whether this can have happened in `time`.
fn check(seen: &Measurements, time: Duration) -> Result<(), Distrust> {
    let counts = [seen.started, seen.established, seen.unreachable, seen.retransmissions, seen.unanswered.count];
    let handshakes = [seen.server_handshake.count, seen.client_handshake.count];
    let ends = seen.ends.each();
    let all = || counts.iter().chain(&handshakes).chain(&ends).copied().chain(seen.response.buckets().map(|(.., n)| n));
    // A difference of more than half of a counter's range is read as a step backwards.
    let backwards = |count: u32| count > u32::MAX / 2;
    let traffic = [seen.to_server.packets, seen.to_server.bytes, seen.to_client.packets, seen.to_client.bytes];
    if all().any(backwards) || traffic.iter().any(|count| *count > u64::MAX / 2) {
        return Err(Distrust::Backwards);
    }
    let most = MOST_PER_SECOND * (time.as_secs_f64() + 1.0);
    if all().any(|count| f64::from(count) > most) || seen.response.count() as f64 > most {
        return Err(Distrust::TooMuch);
    }
    let (mut least, mut longest) = (0_u128, 0_u128);
    for (from, to, count) in seen.response.buckets() {
        least += from.as_micros() * u128::from(count);
        let to = if to > Duration::from_secs(67) { LONGEST } else { to };
        longest += to.as_micros() * u128::from(count);
    }
    if (least..=longest).contains(&seen.response.total().as_micros()) { Ok(()) } else { Err(Distrust::Inconsistent) }
}

/// What was observed, with waiting times limited to the time since the server's counters were started.
fn bounded(seen: &Measurements, at: Instant) -> Observation {
    let age = at.as_micros().saturating_sub(seen.since.as_micros()).saturating_add(SLACK);
    let waited = |total: &Total| Total {
        count: total.count.min(seen.connections),
        micros: total.micros.min(age.saturating_mul(u64::from(total.count.min(seen.connections)))),
    };
    let silent = seen.silent.map(|silent| silent.min(Duration::from_micros(age)));
    let unanswered = Total {
        micros: seen.unanswered.micros.min(age.saturating_mul(u64::from(seen.unanswered.count))),
        ..seen.unanswered
    };
    Observation::of(&Measurements {
        connecting: waited(&seen.connecting),
        waiting: waited(&seen.waiting),
        unanswered,
        silent,
        ..*seen
    })
}

impl Observation {
    /// Adds what was counted of the same server in the same interval elsewhere: in the group of another rule, or by
    /// another translator. The server is as silent as at the place where it has answered last.
    pub fn merge(&mut self, other: &Self) {
        self.silent = match (self.waiting, other.waiting) {
            (0, _) => other.silent,
            (_, 0) => self.silent,
            _ => self.silent.min(other.silent),
        };
        self.answered = self.answered.saturating_add(other.answered);
        self.others = self.others.saturating_add(other.others);
        self.response = self.response.saturating_add(other.response);
        self.slowest = self.slowest.max(other.slowest);
        self.failures = self.failures.saturating_add(other.failures);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        self.unanswered_waited = self.unanswered_waited.saturating_add(other.unanswered_waited);
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.waited = self.waited.saturating_add(other.waited);
    }
}
