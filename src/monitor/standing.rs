//! Whether a server is in use, ejected or on trial, and what takes it from one to the other.

use core::time::Duration;

use crate::monitor::action::Action;
use crate::monitor::allocate::Carries;
use crate::monitor::model::{Estimate, Observation, Usual};
use crate::monitor::settings::Settings;
use crate::time::Instant;

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum Standing {
    In,
    /// It was excluded by `Monitor::exclude`.
    Excluded,
    Out(Rest),
    Trial(Trial),
}

/// What each server carries: nothing if it is not in use.
pub(super) fn carries<const N: usize>(standing: &[Standing; N], estimates: &[Estimate; N]) -> [Carries; N] {
    core::array::from_fn(|server| match (standing.get(server), estimates.get(server)) {
        (Some(Standing::In), Some(estimate)) => estimate.carries(),
        _ => Carries { capacity: 0.0, floor: 0.0 },
    })
}

/// A server that is ejected rests.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Rest {
    pub(super) until: Instant,
    /// How many times in a row it was ejected.
    pub(super) times: u32,
    /// Whether it was only slow.
    pub(super) was_slow: bool,
}

/// A server on trial gets a few requests.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Trial {
    rest: Rest,
    /// How many requests it has answered.
    good: u32,
    /// The response times of requests since the trial began.
    times: Times,
    /// How often its weight was raised because it got too few requests; when that was last checked, and how many
    /// answers there were at that time.
    pub(super) raised: u32,
    since: Instant,
    before: u32,
    /// Requests that have waited since before the trial, and say nothing about its present state.
    stuck: u32,
    /// Since when requests of the trial wait and none was answered.
    quiet: Option<Instant>,
    /// Whether it gets no requests until measurements, which come late, show the result of the trial.
    pub(super) paused: bool,
}

/// How long answers took.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Times {
    count: u32,
    all: Duration,
    slowest: Duration,
}

/// So many good answers end a trial.
const ENOUGH: u32 = 10;
/// A server that is tried gets more if it has answered fewer in an interval.
const TOO_FEW: u32 = 3;
/// It gets open connections once its weight was raised so often without enough new ones; ...
const PATIENT: u32 = 4;
/// ... sooner if it was only slow: little is lost with a connection that tries it.
const PATIENT_IF_SLOW: u32 = 1;
/// A server that has answered nothing for so many usual response times hangs.
pub(super) const SILENT: f64 = 10.0;
/// The same for a server on trial, if at least two requests wait there and have waited for so long on average.
const SILENT_ON_TRIAL: f64 = 4.0;

impl Standing {
    /// Updates the state from what was observed of the server, and returns the action that follows, if any. `usual` is
    /// what is usual there, if that is known.
    pub(super) fn judge(
        &mut self,
        server: usize,
        seen: &Observation,
        usual: Option<Usual>,
        settings: &Settings,
        now: Instant,
        is_current: bool,
    ) -> Option<Action> {
        let bad = seen.failures.max(seen.unanswered);
        let of = seen.answered.saturating_add(bad);
        let is_silent = seen.silent > settings.hanging
            && usual.is_some_and(|usual| seen.silent.as_secs_f64() > SILENT * usual.response);
        let is_failing = f64::from(bad) > settings.failing * f64::from(of);
        match *self {
            Self::In if is_silent && seen.waiting >= 3 => {
                *self = Self::eject(0, settings, now);
                Some(Action::EjectHanging { server, waiting: seen.waiting, silent: seen.silent })
            }
            Self::In if is_failing && bad >= settings.failures => {
                *self = Self::eject(0, settings, now);
                Some(Action::EjectFailing { server, bad, of })
            }
            // What was measured before the ejection must not be taken for a result of the trial.
            Self::Out(rest) if !is_current => {
                *self = Self::Out(Rest { until: rest.until.max(now + settings.rest), ..rest });
                None
            }
            Self::Out(rest) if now >= rest.until => {
                *self = Self::Trial(Trial::new(rest, seen.waiting, now));
                Some(Action::Try { server, open: false })
            }
            Self::Trial(trial) if bad != 0 => {
                *self = Self::eject(trial.rest.times, settings, now);
                Some(Action::EjectFailing { server, bad, of })
            }
            Self::Trial(mut trial) => {
                trial.take(seen, now);
                if let Some(action) = usual.and_then(|usual| trial.stands_still(server, seen, usual, settings, now)) {
                    *self = Self::eject(trial.rest.times, settings, now);
                    return Some(action);
                }
                if trial.good >= ENOUGH {
                    *self = Self::In;
                    return Some(Action::Return { server });
                }
                let action = trial.go_on(server, seen, settings, now, is_current);
                *self = Self::Trial(trial);
                action
            }
            Self::In | Self::Excluded | Self::Out(_) => None,
        }
    }

    /// Ejected, after so many times in a row.
    pub(super) fn eject(times: u32, settings: &Settings, now: Instant) -> Self {
        let until = now + settings.rest.saturating_mul(1 << times.min(1));
        Self::Out(Rest { until, times: times.saturating_add(1), was_slow: false })
    }

    /// The server gets requests by the weights of another monitor: if it was ejected, it is on trial from now on, and
    /// is judged by all of these requests.
    pub(super) fn follow(&mut self, now: Instant) {
        if let Self::Out(rest) = *self {
            *self = Self::Trial(Trial::new(rest, 0, now));
        }
    }
}

impl Trial {
    fn new(rest: Rest, stuck: u32, now: Instant) -> Self {
        let times = Times { count: 0, all: Duration::ZERO, slowest: Duration::ZERO };
        Self { rest, good: 0, times, raised: 0, since: now, before: 0, stuck, quiet: None, paused: false }
    }

    /// Takes in what was seen of it.
    fn take(&mut self, seen: &Observation, now: Instant) {
        self.times = self.times_with(seen);
        self.good = self.good.saturating_add(seen.answered);
        self.stuck = self.stuck.min(seen.waiting);
        let is_quiet = seen.answered == 0 && seen.waiting > self.stuck;
        self.quiet = is_quiet.then(|| self.quiet.unwrap_or(now));
    }

    /// How long its answers have taken, including these. Answers to requests from before the trial do not count.
    fn times_with(&self, seen: &Observation) -> Times {
        let Times { count, all, slowest } = self.times;
        if seen.waiting < self.stuck || seen.answered == 0 {
            return self.times;
        }
        Times {
            count: count.saturating_add(seen.answered),
            all: all.saturating_add(seen.response),
            slowest: slowest.max(seen.slowest).max(seen.response / seen.answered),
        }
    }

    /// The mean response time of its answers in seconds, including these, without the slowest one, since a single
    /// exception says nothing. `None` if no other is left. The requests that wait count as one more answer if that
    /// makes the result greater.
    pub(super) fn response(&self, seen: &Observation) -> Option<f64> {
        let answered = self.times_with(seen);
        let Times { count, all, slowest } = answered;
        // One at least has waited for that long.
        let waited = seen.waited.checked_div(seen.waiting).filter(|_| self.stuck == 0).unwrap_or(Duration::ZERO);
        let and_one =
            Times { count: count.saturating_add(1), all: all.saturating_add(waited), slowest: slowest.max(waited) };
        let others = |times: Times| {
            (times.count > 1)
                .then(|| times.all.saturating_sub(times.slowest).as_secs_f64() / f64::from(times.count - 1))
        };
        let with = others(and_one).filter(|_| waited > Duration::ZERO);
        others(answered).into_iter().chain(with).reduce(f64::max)
    }

    /// Whether requests of the trial wait for too long: that ends it, even if others are answered.
    fn stands_still(
        &self,
        server: usize,
        seen: &Observation,
        usual: Usual,
        settings: &Settings,
        now: Instant,
    ) -> Option<Action> {
        let waiting = seen.waiting;
        let is_over = |time: Duration, least: Duration, usual: f64| time >= least && time.as_secs_f64() > usual;
        // If requests have waited since before the trial, the silence counts from when a new one was first seen.
        let silent = match self.quiet {
            Some(_) if self.stuck == 0 => seen.silent,
            Some(quiet) => now.duration_since(quiet).min(seen.silent),
            None => Duration::ZERO,
        };
        let hangs = Action::EjectHanging { server, waiting, silent };
        if waiting > self.stuck && is_over(silent, settings.hanging, SILENT * usual.response) {
            return Some(hangs);
        }
        if self.stuck != 0 || waiting < 2 {
            return None;
        }
        // A trial that is ended by mistake costs a rest, so clients do not wait much longer than that to be sure.
        let waited = seen.waited / waiting;
        let is_long = |time| is_over(time, settings.rest, SILENT_ON_TRIAL * usual.wait);
        if is_long(silent) && is_long(waited) {
            return Some(hangs);
        }
        let is_stalled = is_over(waited, settings.hanging, SILENT * usual.wait);
        is_stalled.then_some(Action::EjectStalled { server, waiting, waited, answered: self.good })
    }

    /// Gives it more if it got too few requests, and nothing for a while if its measurements come late.
    fn go_on(
        &mut self,
        server: usize,
        seen: &Observation,
        settings: &Settings,
        now: Instant,
        is_current: bool,
    ) -> Option<Action> {
        let tried = now.duration_since(self.since);
        if !is_current && !self.paused && tried >= settings.hanging {
            self.paused = true;
            return Some(Action::Pause { server });
        }
        if !is_current || tried < settings.interval && !self.paused {
            return None;
        }
        // The others have become less loaded since its weight was chosen.
        let is_forgotten = seen.waiting <= self.stuck && self.good.saturating_sub(self.before) < TOO_FEW;
        self.raised = self.raised.saturating_add(u32::from(is_forgotten));
        let is_tried_anew = is_forgotten || self.paused;
        (self.since, self.before, self.paused) = (now, self.good, false);
        let patience = if self.rest.was_slow { PATIENT_IF_SLOW } else { PATIENT };
        // Not each time: its connections may be of a kind that cannot be handed over.
        let is_time = is_forgotten && self.raised >= patience && self.raised.is_power_of_two();
        is_tried_anew.then_some(Action::Try { server, open: settings.holds_connections && is_time })
    }
}
