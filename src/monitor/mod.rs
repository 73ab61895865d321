//! The network monitor's judgement: what each server can carry, estimated from what was measured of it, and whether a
//! change is worth making (the document's network monitor 125).
//!
//! It has no clock, no sockets and no memory of its own beyond an array for each server. Give it what
//! [`Translator::measurements`](crate::Translator::measurements) has counted since the last time, several times a
//! second; give the weights of a [`Decision`] to the rule ([`Divert::least_loaded`](crate::Divert::least_loaded)). If
//! it stops, the translator carries on with the last weights.
//!
//! ```
//! use byway::monitor::{Monitor, Observation, Settings};
//! use byway::Instant;
//! use core::time::Duration;
//!
//! // Two servers; in each quarter of a second both have answered 50 requests, the second one in five times the time.
//! let mut monitor = Monitor::<2>::new(Settings::default(), [100, 100]);
//! let seen = |millis, waiting| Observation {
//!     answered: 50,
//!     response: Duration::from_millis(millis) * 50,
//!     waiting,
//!     ..Observation::default()
//! };
//! for quarter in 1..=80 {
//!     monitor.observe(Instant::from_millis(quarter * 250), &[seen(20, 4), seen(100, 20)]);
//! }
//! let [fast, slow] = monitor.weights();
//! assert!(fast > slow);
//! let decision = monitor.decisions().next().expect("it has changed the weights");
//! assert!(decision.promise() > 0.0);
//! println!("{decision}"); // one sentence
//! ```

mod action;
mod allocate;
mod beside;
mod decide;
mod load;
mod model;
mod reading;
mod sentence;
mod settings;
mod slow;
mod stall;
mod standing;
mod wanted;

use heapless::Deque;

use crate::time::Instant;

pub use action::Action;
pub use allocate::{Carries, optimum};
pub use decide::{Decision, Inputs, Outcome};
pub use load::{Load, LoadDistrust, LoadKind, LoadReading, LoadSample, Reported};
pub use model::{Estimate, Observation};
pub use reading::{Distrust, Reading};
pub use settings::Settings;

use decide::decide;
use load::{Reports, correct};
use slow::{Slowness, Which};
use standing::Standing;
use wanted::{BACK, Servers, relation, whole};

/// How many decisions are kept.
pub const KEPT: usize = 32;

/// A monitor of `N` servers of one service. See the [module's documentation](self).
#[derive(Clone, Debug)]
pub struct Monitor<const N: usize> {
    settings: Settings,
    standing: [Standing; N],
    slowness: [Slowness; N],
    /// From response times alone, without what servers report.
    estimates: [Estimate; N],
    reports: [Reports; N],
    weights: [u16; N],
    /// The weight that each server has, or had when it was in use, in relation to the mean of the others in use.
    relation: [f64; N],
    /// The earliest time at which weights are reconsidered.
    due: Instant,
    last: Instant,
    /// Seconds between two changes of weights; longer after one that has made things worse.
    dwell: f64,
    /// How much of the model's predictions comes true, by past outcomes.
    trust: f64,
    /// What was observed since weights were last reconsidered.
    window: [Observation; N],
    began: Instant,
    /// Whether the weights were changed by another program since the last change.
    disturbed: bool,
    /// When the present weights were set, if nothing that was measured under them has arrived yet; otherwise `None`.
    unseen: Option<Instant>,
    /// The last decision whose weights something was measured under, so that nothing older is to come.
    seen_number: u32,
    /// When the first measurement under the present weights arrived, if that was late.
    seen_since: Instant,
    number: u32,
    decisions: Deque<Decision<N>, KEPT>,
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Monitor<N> {
    /// How many decisions it has made.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Monitor {{ servers: {}, decisions: {} }}", N, self.number);
    }
}

impl<const N: usize> Monitor<N> {
    /// A monitor of servers whose rule has these weights now.
    #[must_use]
    pub fn new(settings: Settings, weights: [u16; N]) -> Self {
        Self {
            settings,
            standing: [Standing::In; N],
            slowness: [Slowness::NONE; N],
            estimates: [Estimate::UNKNOWN; N],
            reports: [Reports::NONE; N],
            weights,
            relation: [1.0; N],
            due: Instant::ZERO,
            last: Instant::ZERO,
            dwell: settings.dwell.as_secs_f64(),
            trust: 1.0,
            window: [Observation::NONE; N],
            began: Instant::ZERO,
            disturbed: false,
            unseen: None,
            seen_number: 0,
            seen_since: Instant::ZERO,
            number: 0,
            decisions: Deque::new(),
        }
    }

    /// The weights that the rule should have.
    #[must_use]
    pub const fn weights(&self) -> [u16; N] {
        self.weights
    }

    /// The estimate of each server, including what servers had reported by the time of the last observation.
    #[must_use]
    pub fn estimates(&self) -> [Estimate; N] {
        self.corrected().0
    }

    /// The reported loads that still count, and their effect on the estimates.
    #[must_use]
    pub fn reported(&self) -> [Option<Reported>; N] {
        self.corrected().1
    }

    fn corrected(&self) -> ([Estimate; N], [Option<Reported>; N]) {
        let mut estimates = self.estimates;
        let reported = correct(&mut estimates, &self.reports, self.last, self.settings.oldest_load);
        (estimates, reported)
    }

    /// Takes the load that a server has reported itself, which corrects the capacity estimated from its response times:
    /// in relation to the other servers that report one, the less the older it is, and by a quarter at most. Loads are
    /// optional, and never eject a server. Returns false if there is no such server, or if the load is not newer than
    /// the last one.
    pub fn report_load(&mut self, server: usize, load: Load) -> bool {
        self.reports.get_mut(server).is_some_and(|reports| reports.take(load, self.last, self.settings.oldest_load))
    }

    /// Which servers are ejected at present, including those on trial.
    #[must_use]
    pub fn ejected(&self) -> [bool; N] {
        self.standing.map(|standing| matches!(standing, Standing::Out(_) | Standing::Trial(_)))
    }

    /// Which of the ejected servers rest: they get nothing, and are not on trial.
    #[must_use]
    pub fn resting(&self) -> [bool; N] {
        self.standing.map(|standing| matches!(standing, Standing::Out(_)))
    }

    /// Changes [`Settings::slow`] alone: it has to be zero while the weights are not this monitor's to choose, because
    /// a server may not get less.
    pub const fn set_slow(&mut self, slow: f64) {
        self.settings.slow = slow;
    }

    /// Changes the settings from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.dwell = settings.dwell.as_secs_f64();
    }

    /// Says that the rule has these weights now, because they were set from outside: by an operator, or by a rule that
    /// overrides the model. Then the outcome of the last change can no longer be determined.
    pub fn adopt(&mut self, weights: [u16; N]) {
        if weights != self.weights {
            self.weights = weights;
            self.disturbed = true;
            self.unseen = Some(self.last);
        }
    }

    /// Says that another monitor has set these weights, while this one watches or when it takes over. A server that
    /// this one has ejected, and that gets requests all the same, is on trial from now on: it comes back when it
    /// answers well, and is ejected again when it does not, so that something can be done about its connections.
    pub fn follow(&mut self, weights: [u16; N]) {
        self.adopt(weights);
        for (standing, weight) in self.standing.iter_mut().zip(weights) {
            if weight != 0 {
                standing.follow(self.last);
            }
        }
    }

    /// Excludes a server from decisions, or includes it again: one that is being maintained, or that a rule or an
    /// operator has forbidden. At once, without a decision, its [weight](Self::weights) is zero, unless no other has
    /// one, or one as that of an ejected server that comes back: give the weights to the rule, or say with
    /// [`adopt`](Self::adopt) which others it has. Returns whether anything has changed.
    pub fn exclude(&mut self, server: usize, excluded: bool) -> bool {
        let (Some(standing), Some(estimate)) = (self.standing.get(server), self.estimates.get_mut(server)) else {
            return false;
        };
        if excluded == matches!(standing, Standing::Excluded) {
            return false;
        }
        if !excluded {
            estimate.ramp();
        }
        self.note_relation();
        if let Some(standing) = self.standing.get_mut(server) {
            *standing = if excluded { Standing::Excluded } else { Standing::In };
        }
        let mut back = [None; N];
        if let Some((back, relation)) = back.get_mut(server).zip(self.relation.get(server)).filter(|_| !excluded) {
            *back = Some(*relation);
        }
        let servers = Servers {
            standing: &self.standing,
            estimates: &self.corrected().0,
            weights: &self.weights,
            seen: &self.window,
            back: &back,
            holds_connections: self.settings.holds_connections,
        };
        if let Some(weights) = whole(&servers.kept(), self.settings.largest) {
            self.adopt(weights);
        }
        self.disturbed = true;
        true
    }

    /// Notes the weights of the servers in use, for when they come back after something has happened to them.
    fn note_relation(&mut self) {
        for (mine, new) in self.relation.iter_mut().zip(relation(&self.standing, &self.weights)) {
            *mine = new.unwrap_or(*mine);
        }
    }

    /// How much of what the model says comes true, estimated from past outcomes. Promises are multiplied by it.
    #[must_use]
    pub const fn trust(&self) -> f64 {
        self.trust
    }

    /// The decisions that are kept, the newest first. The last change of weights has no outcome until the dwell time
    /// has passed.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision<N>> {
        self.decisions.iter().rev()
    }

    /// Takes in what was counted since the last call, one observation for each server, and returns a decision if there
    /// is something to change. A call that is not later than the one before changes nothing.
    ///
    /// Servers that fail are ejected at once, whatever the interval. Weights are reconsidered once in an interval.
    pub fn observe(&mut self, now: Instant, seen: &[Observation; N]) -> Option<&Decision<N>> {
        self.observe_late(now, seen, true)
    }

    /// Like [`observe`](Self::observe), for measurements that may arrive late: `is_current` says whether they were made
    /// while the rule had the present [`weights`](Self::weights), which reports that name their weights show without
    /// comparing clocks. Until such measurements arrive, no other weights are tried, a server on trial gets a few
    /// requests and then nothing more, and outcomes are awaited, for [`longest_delay`](Settings::longest_delay) at
    /// most. Ejection does not wait.
    pub fn observe_late(&mut self, now: Instant, seen: &[Observation; N], is_current: bool) -> Option<&Decision<N>> {
        let passed = now.duration_since(self.last).as_secs_f64();
        if passed <= 0.0 {
            return None;
        }
        if self.last == Instant::ZERO {
            // It is not known how much time the first observation covers.
            (self.last, self.began, self.due) = (now, now, now + self.settings.interval);
            return None;
        }
        let last = core::mem::replace(&mut self.last, now);
        for ((window, reports), seen) in self.window.iter_mut().zip(&mut self.reports).zip(seen) {
            window.add(seen);
            reports.count(seen);
        }
        let was_late = self.unseen.is_some_and(|since| now.duration_since(since) > self.settings.longest_delay);
        let is_current = is_current || was_late || self.unseen.is_none();
        if is_current {
            self.seen_number = self.number;
        }
        if is_current && self.unseen.take().is_some_and(|since| since != last) {
            // What was counted until now says nothing about the present weights. Requests that wait now still count.
            (self.seen_since, self.window, self.began, self.due) =
                (now, seen.map(|seen| seen.state()), now, now + self.settings.interval);
        }
        let length = now.duration_since(self.began).as_secs_f64();
        self.note_relation();
        let before = self.standing;
        let mut next = self.eject_slow(Which::OnTrial, seen, length, now);
        for (server, seen) in seen.iter().enumerate() {
            let usual = self.usual(server);
            let Some(standing) = self.standing.get_mut(server) else { break };
            if let Some(action) = standing.judge(server, seen, usual, &self.settings, now, is_current) {
                if action.ejects() || !next.as_ref().is_some_and(Action::ejects) {
                    next = Some(action);
                }
                if matches!(action, Action::Return { .. }) {
                    self.ramp(server);
                }
            }
        }
        let due = now >= self.due;
        if !due && next.is_none() {
            return None;
        }
        if due {
            next = self.eject_stalled(length, now).or(next);
            for ((estimate, window), standing) in self.estimates.iter_mut().zip(&self.window).zip(&self.standing) {
                if matches!(standing, Standing::In) {
                    estimate.learn(window, length);
                }
            }
            self.divide(length);
        }
        if due && !next.as_ref().is_some_and(Action::ejects) {
            let window = self.window;
            next = self.eject_slow(Which::InUse, &window, length, now).or(next);
        }
        let (estimates, reported) = self.corrected();
        let mut back = [None; N];
        for ((place, relation), (before, now)) in
            back.iter_mut().zip(self.relation).zip(before.iter().zip(&self.standing))
        {
            *place = matches!((before, now), (Standing::Trial(_), Standing::In)).then_some(relation);
        }
        let mut inputs = Inputs {
            at: now,
            seconds: length,
            seen: self.window,
            estimates,
            reported,
            standing: self.standing,
            back,
            weights: self.weights,
            largest: self.settings.largest,
            trust: self.trust,
            trigger: next,
            since: self.last_change().map(|decision| decision.inputs.at),
            dwell: self.dwell,
            judged: if due && is_current { self.judge_last(now) } else { None },
        };
        if let Some(outcome) = inputs.judged {
            self.note(outcome);
        }
        if due {
            self.window = [Observation::NONE; N];
            (self.began, self.due) = (now, now + self.settings.interval);
        }
        if next.is_none() && !is_current {
            return None;
        }
        let mut made = None;
        for largest in self.settings.scales() {
            inputs.largest = largest;
            made = decide(&inputs, &self.settings);
            // Reports of a time in which these weights were in force before may still be on their way.
            let is_known = |weights| {
                let unseen = self.decisions.iter().filter(|decision| decision.number > self.seen_number);
                unseen.map(|decision| decision.inputs.weights).any(|before| before == weights)
            };
            if !made.is_some_and(|(_, weights, _)| is_known(weights)) {
                break;
            }
        }
        let (action, weights, promise) = made?;
        self.weights = weights;
        self.disturbed = false;
        self.unseen = Some(now);
        self.number += 1;
        let decision =
            Decision { number: self.number, settings: self.settings, inputs, action, weights, promise, outcome: None };
        if self.decisions.is_full() {
            self.decisions.pop_front();
        }
        let _ = self.decisions.push_back(decision);
        self.decisions.back()
    }

    /// Lowers the capacity of a server that comes back. Where connections stay, it keeps some of them, so that
    /// something can be learnt.
    fn ramp(&mut self, server: usize) {
        let others = || {
            let each = self.estimates.iter().enumerate();
            each.filter(|(other, estimate)| *other != server && estimate.is_known() && self.is_in_use(*other))
        };
        let all: f64 = others().map(|(_, estimate)| estimate.capacity).sum();
        let least = if self.settings.holds_connections { BACK * all / others().count().max(1) as f64 } else { 0.0 };
        if let Some(estimate) = self.estimates.get_mut(server) {
            estimate.ramp();
            estimate.capacity = estimate.capacity.max(least);
        }
    }

    /// The last decision that set new weights by the model, or undid such a change.
    fn last_change(&self) -> Option<&Decision<N>> {
        self.decisions.iter().rev().find(|decision| matches!(decision.action, Action::Reweigh | Action::Undo { .. }))
    }

    /// The outcome of the last change, once enough time has passed.
    fn judge_last(&self, now: Instant) -> Option<Outcome<N>> {
        // That an undone change was not to blame after all is no reason to make it again.
        let is_promise = |change: &&Decision<N>| change.action == Action::Reweigh && change.outcome.is_none();
        let change = self.last_change().filter(is_promise)?;
        // Open connections follow one after the other.
        let intervals = if self.settings.holds_connections { 4.5 } else { 1.5 };
        let old_enough = now.duration_since(change.inputs.at.max(self.seen_since)).as_secs_f64()
            >= self.settings.interval.as_secs_f64() * intervals;
        let alone = !self.disturbed && self.decisions.back().is_some_and(|last| last.number == change.number);
        (old_enough || !alone)
            .then(|| change.outcome(&self.window, now.duration_since(self.began).as_secs_f64(), alone))
    }

    /// Keeps an outcome with its decision, and learns from it.
    fn note(&mut self, outcome: Outcome<N>) {
        if let Some(change) = self.decisions.iter_mut().rev().find(|decision| decision.number == outcome.of) {
            change.outcome = Some(outcome);
        }
        let settings = &self.settings;
        if let Some(share) = outcome.realised_share() {
            // The promise already included the trust at that time.
            self.trust = (self.trust * (0.7 + 0.3 * share.clamp(0.0, 3.0))).clamp(0.2, 4.0);
        }
        self.dwell = if outcome.is_worse() {
            (self.dwell * 2.0).min(settings.longest_dwell.as_secs_f64())
        } else {
            settings.dwell.as_secs_f64()
        };
    }
}
