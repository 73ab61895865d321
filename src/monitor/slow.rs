//! Servers that are much slower than the others. Where connections stay open for many requests, a small weight does not help
//! those that are there already.

use crate::monitor::Monitor;
use crate::monitor::allocate::{Carries, optimum};
use crate::monitor::decide::{Action, MOST, Standing};
use crate::monitor::model::{FEW, Observation};
use crate::time::Instant;

/// Which servers are judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    /// Those in use. Their smoothed response times must be too long as well, so that one bad interval is not enough.
    InUse,
    /// Those that are tried. They have nothing but the few requests that they got.
    OnTrial,
}

impl<const N: usize> Monitor<N> {
    /// Ejects the first of these servers that is too slow to be of use, if there is one: by what was seen of it, beside what was
    /// seen of the others in the present window, which has lasted `seconds`.
    pub(super) fn eject_slow(
        &mut self,
        which: Slow,
        seen: &[Observation; N],
        seconds: f64,
        now: Instant,
    ) -> Option<Action> {
        if self.settings.slow <= 0.0 {
            return None;
        }
        for (server, mine) in seen.iter().enumerate() {
            let is_asked_for = match self.standing.get(server)? {
                Standing::In => which == Slow::InUse && mine.answered.saturating_add(mine.waiting) >= FEW,
                Standing::Trial { .. } => which == Slow::OnTrial,
                _ => false,
            };
            let others = self.seen_of_others(server);
            let usual = others.mean().filter(|_| others.answered >= FEW);
            let (true, Some(response), Some(usual)) = (is_asked_for, mine.bound(), usual) else { continue };
            let is_slow = |time: f64| time > self.settings.slow * usual;
            let lasts = which == Slow::OnTrial || is_slow(self.estimates.get(server)?.response);
            if is_slow(response)
                && lasts
                && !self.is_of_use(server, seconds)
                && self.standing.get_mut(server)?.eject_slow(&self.settings, now)
            {
                return Some(Action::EjectSlow { server, response, others: usual });
            }
        }
        None
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

    /// Whether the model would give a server anything of what all are asked now.
    fn is_of_use(&self, server: usize, seconds: f64) -> bool {
        let carries: [Carries; N] = core::array::from_fn(|other| match self.estimates.get(other) {
            Some(estimate) if other == server || self.is_in_use(other) => estimate.carries(),
            _ => Carries { capacity: 0.0, floor: 0.0 },
        });
        let answered: f64 = self.window.iter().map(|seen| f64::from(seen.answered)).sum();
        let most: f64 = carries.iter().map(|carries| MOST * carries.capacity).sum();
        let rate = (answered / seconds.max(1e-6)).min(most);
        let mut rates = [0.0; N];
        optimum(&carries, rate, &mut rates);
        rates.get(server).is_some_and(|share| *share > self.settings.least_moved * rate)
    }
}
