//! The processing load that servers report themselves: which reports are believed, and how far they correct what
//! response times say.

use core::time::Duration;

use crate::monitor::model::{Estimate, FEW, Observation};
use crate::time::Instant;

/// How busy a server says it is.
///
/// ```
/// use byway::Instant;
/// use byway::monitor::Load;
///
/// let load = Load::new(0.75, Instant::from_secs(7)).expect("a share");
/// assert_eq!((load.share(), load.at()), (0.75, Instant::from_secs(7)));
/// assert_eq!(Load::new(f64::NAN, Instant::from_secs(7)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Load {
    share: f64,
    at: Instant,
}

impl Load {
    /// A load between 0 (idle) and 1 (it can do no more) that was asked for at this time. `None` if the number is not
    /// in this range.
    #[must_use]
    pub fn new(share: f64, at: Instant) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self { share, at })
    }

    /// Between 0 (idle) and 1.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// When it was asked for, on the asker's clock.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }
}

/// What the values of a report mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LoadKind {
    /// The load itself.
    Gauge,
    /// A counter of what is done; its rate is the load.
    Busy,
    /// A counter of idle time; full load less its rate is the load.
    Idle,
}

/// What was read from a report: the sum of all series that say how loaded a server is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadSample {
    /// When the server was asked, on the monitor's clock.
    pub at: Instant,
    /// The sum of the values.
    pub value: f64,
    /// How many series were added up, such as one for each processor.
    pub series: u32,
    /// The server's own time of the values in milliseconds, if the report has one. Only its differences count.
    pub stamp: Option<i64>,
}

/// Why a reported load is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LoadDistrust {
    /// It is not a finite number.
    NotFinite,
    /// It is below zero.
    Negative,
    /// A gauge above the configured full load.
    AboveFull,
    /// A counter grows faster than at full load.
    TooFast,
    /// A counter has run backwards: the server was restarted, or it lies.
    Backwards,
    /// The report's own time has run backwards.
    TimeBackwards,
}

impl LoadDistrust {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::NotFinite, Self::Negative, Self::AboveFull, Self::TooFast, Self::Backwards, Self::TimeBackwards];

    /// What is wrong, in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotFinite => "the load is no finite number",
            Self::Negative => "the load is below zero",
            Self::AboveFull => "the load is above what full load is said to be",
            Self::TooFast => "the counter grows faster than at full load",
            Self::Backwards => "the counter has run backwards",
            Self::TimeBackwards => "the time of the values has run backwards",
        }
    }
}

impl core::fmt::Display for LoadDistrust {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for LoadDistrust {}

/// A gauge may be above full load by so much: values are rounded.
const ROUNDED: f64 = 1.01;
/// A counter may be so much too fast: it is not known exactly when it was read.
const JITTER: f64 = 1.25;
/// Two values of a counter that are further apart are not used: a mean over so long a time says nothing about the
/// present.
const LONGEST: Duration = Duration::from_secs(30);

/// The last report of one server. The next one is compared with it.
///
/// ```
/// use byway::Instant;
/// use byway::monitor::{LoadDistrust, LoadKind, LoadReading, LoadSample};
///
/// // The idle time of four processors in seconds: one second passes on each in a second.
/// let mut reading = LoadReading::new(LoadKind::Idle, 1.0).expect("full load is a number above zero");
/// let sample = |seconds, value| LoadSample { at: Instant::from_secs(seconds), value, series: 4, stamp: None };
/// assert_eq!(reading.take(&sample(10, 5_000.0)), Ok(None));
/// let load = reading.take(&sample(12, 5_002.0)).unwrap().expect("a second report");
/// assert_eq!(load.share(), 0.75);
/// assert_eq!(reading.take(&sample(14, 5_001.0)), Err(LoadDistrust::Backwards));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadReading {
    kind: LoadKind,
    full: f64,
    last: Option<LoadSample>,
}

impl LoadReading {
    /// Reads values of this kind, of which each series is `full` under full load, or grows by `full` a second. `None`
    /// if `full` is not a finite number above zero.
    #[must_use]
    pub fn new(kind: LoadKind, full: f64) -> Option<Self> {
        (full.is_finite() && full > 0.0).then_some(Self { kind, full, last: None })
    }

    /// Takes a report, and returns the load that it shows; `None` if it shows none: it is the first one of a counter,
    /// has other series than the last, or its time has not advanced.
    ///
    /// # Errors
    /// [`LoadDistrust`] if the report cannot be true. A counter that has run backwards is believed again from its next
    /// report on.
    pub fn take(&mut self, sample: &LoadSample) -> Result<Option<Load>, LoadDistrust> {
        if !sample.value.is_finite() {
            return Err(LoadDistrust::NotFinite);
        }
        if sample.value < 0.0 {
            return Err(LoadDistrust::Negative);
        }
        let Some(last) = self.last.replace(*sample) else {
            return if self.kind == LoadKind::Gauge { self.gauge(sample) } else { Ok(None) };
        };
        let stamps = last.stamp.zip(sample.stamp);
        if stamps.is_some_and(|(before, now)| now < before) {
            return Err(LoadDistrust::TimeBackwards);
        }
        if sample.at <= last.at || stamps.is_some_and(|(before, now)| now == before) {
            return Ok(None);
        }
        match self.kind {
            LoadKind::Gauge => self.gauge(sample),
            LoadKind::Busy | LoadKind::Idle => self.counter(&last, sample),
        }
    }

    fn gauge(&self, sample: &LoadSample) -> Result<Option<Load>, LoadDistrust> {
        let share = sample.value / (f64::from(sample.series.max(1)) * self.full);
        if share <= ROUNDED { Ok(Load::new(share.min(1.0), sample.at)) } else { Err(LoadDistrust::AboveFull) }
    }

    fn counter(&self, last: &LoadSample, sample: &LoadSample) -> Result<Option<Load>, LoadDistrust> {
        if sample.series != last.series {
            return Ok(None);
        }
        if sample.value < last.value {
            return Err(LoadDistrust::Backwards);
        }
        let passed = sample.at.duration_since(last.at);
        let passed = match last.stamp.zip(sample.stamp) {
            Some((before, now)) => Duration::from_millis(now.abs_diff(before)),
            None => passed,
        };
        if passed > LONGEST {
            return Ok(None);
        }
        let most = passed.as_secs_f64() * f64::from(sample.series.max(1)) * self.full;
        let rate = (sample.value - last.value) / most;
        // NaN is in no range.
        if !(0.0..=JITTER).contains(&rate) {
            return Err(LoadDistrust::TooFast);
        }
        let rate = rate.min(1.0);
        Ok(Load::new(if self.kind == LoadKind::Idle { 1.0 - rate } else { rate }, sample.at))
    }
}

/// What a server has reported, together with what it has served in that time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reported {
    /// Between 0 and 1.
    pub share: f64,
    /// How old it is.
    pub age: Duration,
    /// Requests a second that the server could serve according to its report: those that it has served, divided by the
    /// load, smoothed. Zero if it has served too few for an estimate.
    pub capacity: f64,
    /// The factor by which the capacity estimated from response times was multiplied.
    pub correction: f64,
}

/// The newest report of a server, and what it has served since.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Reports {
    last: Option<Load>,
    capacity: f64,
    served: u32,
    since: Instant,
}

/// Lower loads than this count as this.
const LEAST: f64 = 0.05;
/// How much a fresh report counts beside response times: half.
const WEIGHT: f64 = 0.5;
/// The largest factor by which reports raise an estimated capacity; they lower it by the same factor at most.
const MOST: f64 = 1.25;

impl Reports {
    pub(super) const NONE: Self = Self { last: None, capacity: 0.0, served: 0, since: Instant::ZERO };

    pub(super) fn count(&mut self, seen: &Observation) {
        self.served = self.served.saturating_add(seen.answered);
    }

    /// Takes a load; the requests served have been counted until `counted`. After a gap longer than `oldest`, a load
    /// says nothing about the rate before it. False if it is not newer than the last one.
    pub(super) fn take(&mut self, load: Load, counted: Instant, oldest: Duration) -> bool {
        if self.last.is_some_and(|last| load.at <= last.at) {
            return false;
        }
        let seconds = counted.duration_since(self.since).as_secs_f64();
        let goes_on = self.last.is_some_and(|last| load.at.duration_since(last.at) <= oldest);
        if !goes_on || self.since == Instant::ZERO {
            // It is not known how much was served in the time that the load covers.
            self.capacity = 0.0;
        } else if self.served >= FEW && seconds > 0.0 {
            let new = f64::from(self.served) / seconds / load.share.max(LEAST);
            let share = if new < self.capacity { 0.7 } else { 0.3 };
            self.capacity = if self.capacity > 0.0 { (1.0 - share) * self.capacity + share * new } else { new };
        } else {
            self.capacity = 0.0;
        }
        *self = Self { last: Some(load), served: 0, since: counted, ..*self };
        true
    }
}

/// How long ago a load was asked for, and how much it counts: less with its age, and nothing from `oldest` on.
fn weight(load: &Load, now: Instant, oldest: Duration) -> (Duration, f64) {
    let age = now.duration_since(load.at);
    let fresh = 1.0 - age.as_secs_f64() / oldest.as_secs_f64().max(1e-3);
    (age, WEIGHT * fresh.clamp(0.0, 1.0))
}

/// Corrects the estimates of servers by their reports, relative to one another: what all reports have in common, such
/// as a badly chosen unit or a resource that no report covers, cancels out. One report alone changes nothing, and the
/// estimate of a server without a report stays as it is. Returns what was used.
pub(super) fn correct<const N: usize>(
    estimates: &mut [Estimate; N],
    reports: &[Reports; N],
    now: Instant,
    oldest: Duration,
) -> [Option<Reported>; N] {
    let mut used: [Option<Reported>; N] = [None; N];
    let mut ratios = [0.0; N];
    let mut count = 0;
    for ((used, report), estimate) in used.iter_mut().zip(reports).zip(estimates.iter()) {
        let Some(load) = report.last else { continue };
        let (age, weight) = weight(&load, now, oldest);
        if weight <= 0.0 {
            continue;
        }
        *used = Some(Reported { share: load.share, age, capacity: report.capacity, correction: 1.0 });
        if report.capacity > 0.0
            && estimate.is_known()
            && let Some(place) = ratios.get_mut(count)
        {
            (*place, count) = (libm::log(report.capacity / estimate.capacity), count + 1);
        }
    }
    let Some(ratios) = ratios.get_mut(..count).filter(|ratios| ratios.len() > 1) else { return used };
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = |place: usize| ratios.get(place).copied().unwrap_or(0.0);
    // The median, which one false report among three or more moves little. Of two it is the mean.
    let median = (middle((count - 1) / 2) + middle(count / 2)) / 2.0;
    for ((used, report), estimate) in used.iter_mut().zip(reports).zip(estimates) {
        let (Some(used), Some(load)) = (used, report.last) else { continue };
        if report.capacity <= 0.0 || !estimate.is_known() {
            continue;
        }
        let (_, weight) = weight(&load, now, oldest);
        let ratio = libm::log(report.capacity / estimate.capacity) - median;
        used.correction = libm::exp(weight * ratio).clamp(1.0 / MOST, MOST);
        estimate.capacity *= used.correction;
    }
    used
}
