//! Whether to change something, what to change, and the outcomes of changes.

use crate::monitor::action::Action;
use crate::monitor::allocate::{bearable, equilibrium, optimum_beside, proportional};
use crate::monitor::beside::others;
use crate::monitor::load::Reported;
use crate::monitor::model::{Estimate, Observation};
use crate::monitor::settings::Settings;
use crate::monitor::standing::{Standing, carries};
use crate::monitor::wanted::{LARGEST, Servers, whole};
use crate::time::Instant;

/// Everything that a decision was made from, so that it can be made again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Inputs<const N: usize> {
    /// When it was made.
    pub at: Instant,
    /// How many seconds the observations cover.
    pub seconds: f64,
    /// What was observed.
    pub seen: [Observation; N],
    /// The estimates of the servers, which include these observations and the loads that servers have reported.
    pub estimates: [Estimate; N],
    /// The load that each server has reported, and its effect on the estimate.
    pub reported: [Option<Reported>; N],
    pub(super) standing: [Standing; N],
    /// The servers that come back now: the weight that each had, in relation to the mean of the others.
    pub(super) back: [Option<f64>; N],
    /// The weights before.
    pub weights: [u16; N],
    /// The largest of the weights afterwards.
    pub(super) largest: u16,
    /// How much of what the model says comes true.
    pub trust: f64,
    /// The action about one server that caused the decision, if any.
    pub trigger: Option<Action>,
    /// When weights were last changed.
    pub since: Option<Instant>,
    /// For how many seconds they are left alone after that.
    pub dwell: f64,
    /// The outcome of the previous change, if it was judged now.
    pub judged: Option<Outcome<N>>,
}

impl<const N: usize> Inputs<N> {
    /// Responses of all servers a second.
    fn rate(&self) -> f64 {
        self.seen.iter().map(|seen| f64::from(seen.answered)).sum::<f64>() / self.seconds.max(1e-6)
    }

    fn answered(&self) -> f64 {
        self.seen.iter().map(|seen| f64::from(seen.answered)).sum()
    }
}

/// The mean response time of all servers in seconds.
fn mean<const N: usize>(seen: &[Observation; N]) -> f64 {
    let answered: f64 = seen.iter().map(|seen| f64::from(seen.answered)).sum();
    let waited: f64 = seen.iter().map(|seen| seen.response.saturating_add(seen.unanswered_waited).as_secs_f64()).sum();
    if answered > 0.0 { waited / answered } else { 0.0 }
}

/// The outcome of a change of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Outcome<const N: usize> {
    /// The number of the decision.
    pub of: u32,
    /// The mean response time before and after, in seconds.
    pub response: [f64; 2],
    /// What the response time after should have been, as a share of the one before.
    pub promised: f64,
    /// Whether the two can be compared: nothing else was changed, and the load was the same within a fifth.
    pub is_comparable: bool,
    /// Two standard errors of the difference, as a share of the response time before.
    pub doubt: f64,
    /// The weights before the change.
    pub before: [u16; N],
}

impl<const N: usize> Outcome<N> {
    /// How much of the promise came true: 1 if all did, negative if things became worse. `None` if it cannot be
    /// determined.
    #[must_use]
    pub fn realised_share(&self) -> Option<f64> {
        let [before, after] = self.response;
        let known = self.is_comparable && before > 0.0 && self.promised < 1.0;
        known.then(|| (1.0 - after / before) / (1.0 - self.promised))
    }

    /// Whether things have become worse by more than the doubt.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        let [before, after] = self.response;
        self.is_comparable && after > before * (1.0 + self.doubt)
    }
}

/// A decision, with everything that it was made from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Decision<const N: usize> {
    /// Counts decisions, from one on.
    pub number: u32,
    /// The settings that it was made with.
    pub settings: Settings,
    /// What it was made from.
    pub inputs: Inputs<N>,
    /// What the monitor does.
    pub action: Action,
    /// The weights that the rule should have from now on.
    pub weights: [u16; N],
    pub(super) promise: Promise,
    /// Its outcome, once that is known.
    pub outcome: Option<Outcome<N>>,
}

/// What a change is expected to do.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Promise {
    /// The mean response time that the model predicts, before and after, in seconds.
    pub(super) response: [f64; 2],
    /// The lowest mean response time that any shares could give, in seconds.
    pub(super) best: f64,
    /// Seconds of waiting saved over the horizon.
    pub(super) gain: f64,
    /// What the gain had to exceed.
    pub(super) threshold: f64,
}

impl Promise {
    const NONE: Self = Self { response: [0.0; 2], best: 0.0, gain: 0.0, threshold: 0.0 };
}

impl<const N: usize> Decision<N> {
    /// Seconds of waiting that all requests together are expected to save over the horizon.
    #[must_use]
    pub const fn promise(&self) -> f64 {
        self.promise.gain
    }

    /// The mean response time in seconds that the model expects before and after the change; zeros if the model has not
    /// proposed the change.
    #[must_use]
    pub const fn predicted(&self) -> [f64; 2] {
        self.promise.response
    }

    /// What the promise had to exceed, in seconds of waiting.
    #[must_use]
    pub const fn threshold(&self) -> f64 {
        self.promise.threshold
    }

    /// Makes the decision again from its inputs, and returns whether it comes out the same.
    #[must_use]
    pub fn can_be_replayed(&self) -> bool {
        decide(&self.inputs, &self.settings) == Some((self.action, self.weights, self.promise))
    }

    /// The outcome, by comparison with what was observed in the `seconds` afterwards.
    pub(super) fn outcome(&self, after: &[Observation; N], seconds: f64, alone: bool) -> Outcome<N> {
        let answered: f64 = after.iter().map(|seen| f64::from(seen.answered)).sum();
        let (rate, before) = (answered / seconds.max(1e-6), self.inputs.rate());
        let [now, then] = self.promise.response;
        Outcome {
            of: self.number,
            response: [mean(&self.inputs.seen), mean(after)],
            promised: if now > 0.0 { 1.0 - self.inputs.trust * (1.0 - then / now) } else { 1.0 },
            is_comparable: alone && before > 0.0 && (rate / before - 1.0).abs() < 0.2,
            doubt: 2.0 * libm::sqrt(1.0 / answered.max(1.0) + 1.0 / self.inputs.answered().max(1.0)),
            before: self.inputs.weights,
        }
    }
}

/// Estimates are smoothed with 0.7 and 0.3, which averages over so many intervals: (1 + 0.7) / (1 - 0.7).
const MEMORY: f64 = 5.67;
/// Before the dwell time is over, a gain must be this many times as large, and as many times more as that time has
/// grown.
const URGENT: f64 = 2.0;

/// Decides. Depends on nothing but its arguments, so that it can be replayed.
pub(super) fn decide<const N: usize>(inputs: &Inputs<N>, settings: &Settings) -> Option<(Action, [u16; N], Promise)> {
    let servers = Servers {
        standing: &inputs.standing,
        estimates: &inputs.estimates,
        weights: &inputs.weights,
        seen: &inputs.seen,
        back: &inputs.back,
        holds_connections: settings.holds_connections,
    };
    if let Some(action) = inputs.trigger {
        // What an ejected server had goes to those that can carry it. No other action changes what the others have in
        // relation to one another.
        let wanted = if action.ejects() { servers.by_capacity() } else { servers.kept() };
        let present = inputs.weights.iter().copied().max().unwrap_or(LARGEST);
        // If no server is left, each keeps its weight.
        let is_same = whole(&wanted, present).is_none_or(|weights| weights == inputs.weights);
        let new = whole(&wanted, inputs.largest).filter(|_| !is_same);
        let weights = new.unwrap_or(inputs.weights);
        // Open connections may have to go there though the weights stay as they are, and that a server is in use again is
        // news.
        let is_news = !is_same || matches!(action, Action::Try { open: true, .. } | Action::Return { .. });
        return is_news.then_some((action, weights, Promise::NONE));
    }
    if let Some(outcome) = inputs.judged.filter(Outcome::is_worse) {
        return Some((Action::Undo { of: outcome.of }, outcome.before, Promise::NONE));
    }
    if inputs.rate() <= 0.0 {
        return None;
    }
    let now = shares(&inputs.weights.map(f64::from));
    let mut new = shares(&servers.by_capacity());
    let mut moved = distance(&now, &new);
    if moved > settings.most_moved {
        for (new, now) in new.iter_mut().zip(now) {
            *new = now + (*new - now) * settings.most_moved / moved;
        }
        moved = settings.most_moved;
    }
    if moved < settings.least_moved {
        return None;
    }
    let carries = carries(&inputs.standing, &inputs.estimates);
    // While queues drain, more requests are served than arrive, and more than the model can carry.
    let others = others(&carries, &inputs.estimates);
    let own = bearable(&carries, &others, inputs.rate() - others.iter().sum::<f64>());
    let rate = own + others.iter().sum::<f64>();
    let mut rates = [0.0; N];
    let best = optimum_beside(&carries, &others, own, &mut rates);
    let mut expect = |weights: &[f64; N]| {
        if settings.holds_connections {
            proportional(&carries, &others, weights, own, &mut rates)
        } else {
            equilibrium(&carries, &others, weights, own, &mut rates)
        }
    };
    let response = [expect(&now), expect(&new)];
    let horizon = settings.horizon.as_secs_f64();
    let [before, after] = response;
    let gain = inputs.trust * rate * (before - after) * horizon;
    let error = rate * before * horizon * libm::sqrt(2.0 / (inputs.answered() * MEMORY).max(1.0));
    let rested = |since: Instant| inputs.at.duration_since(since).as_secs_f64() >= inputs.dwell;
    // The dwell time has grown if the last changes have made things worse: the next one must be worth more, too.
    let grown = (inputs.dwell / settings.dwell.as_secs_f64().max(1e-3)).max(1.0);
    let patience = if inputs.since.is_none_or(rested) { 1.0 } else { URGENT * grown };
    let threshold = (settings.cost + 2.0 * error * inputs.trust.max(1.0)) * patience;
    let weights = whole(&new, inputs.largest)?;
    (gain > threshold && weights != inputs.weights).then_some((
        Action::Reweigh,
        weights,
        Promise { response, best, gain, threshold },
    ))
}

/// Scales weights so that their sum is one.
pub(super) fn shares<const N: usize>(weights: &[f64; N]) -> [f64; N] {
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| if sum > 0.0 { weight / sum } else { 0.0 })
}

/// How much moves from one set of shares to another.
fn distance<const N: usize>(one: &[f64; N], other: &[f64; N]) -> f64 {
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}
