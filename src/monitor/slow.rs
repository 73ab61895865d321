//! Servers that are much slower than the others. Where connections stay open for many requests, a small weight does not help
//! those that are there already.

use crate::monitor::Monitor;
use crate::monitor::allocate::{Carries, optimum};
use crate::monitor::decide::{Action, MOST, Standing};
use crate::monitor::model::{FEW, Observation};
use crate::time::Instant;

/// Which servers are judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those in use. Their smoothed response times must be too long as well, so that one bad interval is not enough.
    InUse,
    /// Those on trial, by the few answers that they have given.
    OnTrial,
}

impl<const N: usize> Monitor<N> {
    /// Ejects the first of these servers that is too slow to be of use, if there is one: by what was seen of it, beside what was
    /// seen of the others in the present window, which has lasted `seconds`.
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
        let place = (0..N).find(|server| {
            let mine = seen.get(*server).unwrap_or(&Observation::NONE);
            self.is_judged(which, *server, mine) && self.is_too_slow(which, *server, mine, seconds)
        })?;
        let response = seen.get(place).and_then(|seen| time_of(which, seen)).unwrap_or(0.0);
        let others = self.seen_of_others(place).mean().unwrap_or(0.0);
        self.standing.get_mut(place)?.eject_slow(&self.settings, now);
        Some(Action::EjectSlow { server: place, response, others })
    }

    fn is_judged(&self, which: Which, server: usize, seen: &Observation) -> bool {
        match self.standing.get(server) {
            Some(Standing::In) => which == Which::InUse && seen.answered.saturating_add(seen.waiting) >= FEW,
            // What a paused one answers is judged once it gets requests again.
            Some(Standing::Trial { paused: false, .. }) => which == Which::OnTrial,
            _ => false,
        }
    }

    fn is_too_slow(&self, which: Which, server: usize, mine: &Observation, seconds: f64) -> bool {
        let others = self.seen_of_others(server);
        let usual = others.mean().filter(|_| others.answered >= FEW);
        let (Some(response), Some(usual), Some(estimate)) = (time_of(which, mine), usual, self.estimates.get(server))
        else {
            return false;
        };
        let is_slow = |time: f64| time > self.settings.slow * usual;
        let lasts = which == Which::OnTrial || is_slow(estimate.response);
        // Seconds of waiting that those who ask it now would save over the horizon.
        let asked = f64::from(mine.answered.saturating_add(mine.waiting)) / seconds.max(1e-6);
        let gain = asked * (response - usual) * self.settings.horizon.as_secs_f64();
        is_slow(response) && lasts && gain > self.settings.cost && {
            let mut carries = estimate.carries();
            if which == Which::OnTrial {
                // The estimate is from before it was ejected.
                carries.floor = carries.floor.max(response);
            }
            !self.is_of_use(server, carries, seconds)
        }
    }

    fn is_in_use(&self, server: usize) -> bool {
        matches!(self.standing.get(server), Some(Standing::In))
    }

    fn seen_of_others(&self, server: usize) -> Observation {
        let mut others = Observation::NONE;
        let each = self.window.iter().enumerate().filter(|(other, _)| *other != server && self.is_in_use(*other));
        each.for_each(|(_, seen)| others.add(seen));
        others
    }

    /// Whether the model would give a server more than a small part of an equal share of what all are asked now.
    fn is_of_use(&self, server: usize, mine: Carries, seconds: f64) -> bool {
        let carries: [Carries; N] = core::array::from_fn(|other| match self.estimates.get(other) {
            Some(_) if other == server => mine,
            Some(estimate) if self.is_in_use(other) => estimate.carries(),
            _ => Carries { capacity: 0.0, floor: 0.0 },
        });
        // Those who wait at the slow server would ask the others.
        let asked: f64 = self.window.iter().map(|seen| f64::from(seen.answered) + f64::from(seen.waiting)).sum();
        let most: f64 = carries.iter().map(|carries| MOST * carries.capacity).sum();
        let rate = (asked / seconds.max(1e-6)).min(most);
        let mut rates = [0.0; N];
        optimum(&carries, rate, &mut rates);
        let servers = carries.iter().filter(|carries| carries.capacity > 0.0).count();
        let least = self.settings.least_moved * rate / servers.max(1) as f64;
        rates.get(server).is_some_and(|share| *share > least)
    }
}

/// How long requests take, in seconds: what waits at a server in use counts as a lower bound. What waits at one on trial may have
/// waited since before.
fn time_of(which: Which, seen: &Observation) -> Option<f64> {
    match which {
        Which::InUse => seen.bound(),
        Which::OnTrial => seen.mean(),
    }
}
