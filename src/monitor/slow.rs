//! Servers that are much slower than the others. Where connections stay open for many requests, a small weight does not
//! help those that are there already.

use crate::monitor::Monitor;
use crate::monitor::action::Action;
use crate::monitor::allocate::{Carries, bearable, optimum_beside};
use crate::monitor::beside::others;
use crate::monitor::model::{FEW, Observation};
use crate::monitor::standing::{Rest, Standing, carries};
use crate::time::Instant;

/// Which servers are judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those in use: each must be too slow twice in a row, so that one bad interval is not enough.
    InUse,
    /// Those on trial, by all answers that they have given since the trial began, without the slowest one. These may be
    /// reported late, but are not from before the ejection, because a trial waits for such reports.
    OnTrial,
}

/// What is remembered of a server that is or was too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness {
    /// In how many intervals in a row.
    intervals: u32,
    /// How many times in a row it was ejected.
    times: u32,
    /// The end of its last rest.
    until: Instant,
}

impl Slowness {
    pub(super) const NONE: Self = Self { intervals: 0, times: 0, until: Instant::ZERO };
}

/// In how many intervals in a row a server in use must be too slow.
const LASTS: u32 = 2;

impl<const N: usize> Monitor<N> {
    /// Ejects the first of these servers that is too slow to be of use, if there is one: by what was seen of it, beside
    /// what was seen of the others in the present window, which has lasted `seconds`.
    pub(super) fn eject_slow(
        &mut self,
        which: Which,
        seen: &[Observation; N],
        seconds: f64,
        now: Instant,
    ) -> Option<Action> {
        if self.settings.slow <= 0.0 {
            return None;
        }
        let mut ejected = None;
        for (server, mine) in seen.iter().enumerate() {
            let found = self.too_slow(which, server, mine, seconds);
            let slowness = self.slowness.get_mut(server)?;
            if which == Which::InUse {
                slowness.intervals = if found.is_some() { slowness.intervals + 1 } else { 0 };
            }
            let lasts = which != Which::InUse || slowness.intervals >= LASTS;
            if let Some((response, others)) = found.filter(|_| lasts && ejected.is_none()) {
                ejected = Some(Action::EjectSlow { server, response, others });
                self.rest_slow(server, now);
            }
        }
        ejected
    }

    /// Ejects a server. The others can do without it, so it rests twice as long each time, up to the longest dwell
    /// time; it begins with the shortest rest again after it was well for that longest time.
    fn rest_slow(&mut self, server: usize, now: Instant) {
        let (longest, rest) = (self.settings.longest_dwell.max(self.settings.rest), self.settings.rest);
        if let (Some(standing), Some(slowness)) = (self.standing.get_mut(server), self.slowness.get_mut(server)) {
            let times = if now.duration_since(slowness.until) > longest { 0 } else { slowness.times };
            let until = now + rest.saturating_mul(1 << times.min(10)).min(longest);
            *slowness = Slowness { intervals: 0, times: times + 1, until };
            *standing = Standing::Out(Rest { until, times: 1, was_slow: true });
        }
    }

    /// How long a server's requests take, and those of the others, if it is too slow to be of use.
    fn too_slow(&self, which: Which, server: usize, mine: &Observation, seconds: f64) -> Option<(f64, f64)> {
        let response = match (which, self.standing.get(server)?) {
            (Which::InUse, Standing::In) if mine.answered.saturating_add(mine.waiting) >= FEW => mine.bound()?,
            // Requests that still wait may have waited since before the trial.
            (Which::OnTrial, Standing::Trial(trial)) => trial.response(mine)?,
            _ => return None,
        };
        let (others, estimate) = (self.seen_of_others(server), self.estimates.get(server)?);
        let mut usual = others.mean().filter(|_| others.answered >= FEW)?;
        if which == Which::OnTrial {
            // In the few answers of a quarter of a second there may be none of those that usually take long.
            usual = usual.max(self.usual_of_others(server));
        }
        // Slower than it was itself, too: otherwise the others may be fast because they fail.
        if response <= self.settings.slow * usual.max(estimate.floor) {
            return None;
        }
        let mut carries = estimate.carries();
        match which {
            Which::InUse => {
                // Seconds of waiting that its present requests would save over the horizon.
                let asked = f64::from(mine.answered.saturating_add(mine.waiting)) / seconds.max(1e-6);
                let gain = asked * (response - usual) * self.settings.horizon.as_secs_f64();
                if gain <= self.settings.cost {
                    return None;
                }
            }
            // The estimate is from before it was ejected.
            Which::OnTrial => carries.floor = carries.floor.max(response),
        }
        (!self.is_of_use(server, carries, mine.waiting, seconds)).then_some((response, usual))
    }

    pub(super) fn is_in_use(&self, server: usize) -> bool {
        matches!(self.standing.get(server), Some(Standing::In))
    }

    fn seen_of_others(&self, server: usize) -> Observation {
        let mut others = Observation::NONE;
        let each = self.window.iter().enumerate().filter(|(other, _)| *other != server && self.is_in_use(*other));
        each.for_each(|(_, seen)| others.add(seen));
        others
    }

    /// The mean response time of the others, smoothed.
    fn usual_of_others(&self, server: usize) -> f64 {
        let each = self.estimates.iter().enumerate().filter(|(other, _)| *other != server && self.is_in_use(*other));
        let (time, rate) = each.fold((0.0, 0.0), |(time, rate), (_, estimate)| {
            (time + estimate.rate * estimate.response, rate + estimate.rate)
        });
        if rate > 0.0 { time / rate } else { 0.0 }
    }

    /// Whether the model would give a server more than a small part of an equal share of all present requests. The
    /// requests that wait at it would go to the others.
    fn is_of_use(&self, server: usize, mine: Carries, waiting: u32, seconds: f64) -> bool {
        let mut carries = carries(&self.standing, &self.estimates);
        if let Some(place) = carries.get_mut(server) {
            *place = mine;
        }
        let own = self.window.iter().map(|seen| f64::from(seen.own()));
        let (asked, others) = (f64::from(waiting) + own.sum::<f64>(), others(&carries, &self.estimates));
        let rate = bearable(&carries, &others, asked / seconds.max(1e-6));
        let mut rates = [0.0; N];
        optimum_beside(&carries, &others, rate, &mut rates);
        let servers = carries.iter().filter(|carries| carries.capacity > 0.0).count();
        let least = self.settings.least_moved * rate / servers.max(1) as f64;
        rates.get(server).is_some_and(|share| *share > least)
    }
}
