//! Servers that answer a few requests, perhaps fast, while many wait: the mean of what was answered does not show them.

use crate::monitor::Monitor;
use crate::monitor::action::Action;
use crate::monitor::model::{FEW, Usual};
use crate::monitor::standing::{SILENT, Standing};
use crate::time::Instant;

/// A server that answers less than this part of its share of all requests does not do its work.
const LITTLE: f64 = 0.1;

impl<const N: usize> Monitor<N> {
    /// Ejects the servers that have stalled in the present window, which has lasted `seconds`, and returns the action
    /// for one of them.
    pub(super) fn eject_stalled(&mut self, seconds: f64, now: Instant) -> Option<Action> {
        let found: [Option<Action>; N] = core::array::from_fn(|server| self.stalled(server, seconds));
        for (standing, found) in self.standing.iter_mut().zip(&found) {
            if found.is_some() {
                *standing = Standing::eject(0, &self.settings, now);
            }
        }
        found.into_iter().flatten().next()
    }

    /// A server has stalled if many more requests wait there than usual, if they have waited as long as a server may
    /// hang, and if it answers next to nothing in comparison with the others.
    fn stalled(&self, server: usize, seconds: f64) -> Option<Action> {
        if !self.is_in_use(server) {
            return None;
        }
        let (mine, estimate) = (self.window.get(server)?, self.estimates.get(server)?);
        let waited = mine.waited.checked_div(mine.waiting)?;
        let usual = self.usual(server)?;
        if waited < self.settings.hanging || waited.as_secs_f64() <= SILENT * usual.response {
            return None;
        }
        let (mut all, mut weights) = (0.0, 0.0);
        for (other, (seen, weight)) in self.window.iter().zip(self.weights).enumerate() {
            if self.is_in_use(other) {
                (all, weights) = (all + f64::from(seen.answered), weights + f64::from(weight));
            }
        }
        let (answered, weight) = (f64::from(mine.answered), f64::from(*self.weights.get(server)?));
        let is_idle = answered < LITTLE * all * weight / f64::max(weights, 1.0) && all - answered >= f64::from(FEW);
        (is_idle && estimate.is_crowded(mine, seconds)).then_some(Action::EjectStalled {
            server,
            waiting: mine.waiting,
            waited,
            answered: mine.answered,
        })
    }

    /// What is usual at a server; if that is not known, what is usual at the slowest of the others.
    pub(super) fn usual(&self, server: usize) -> Option<Usual> {
        let each = || self.estimates.iter().enumerate().filter(|(other, _)| self.is_in_use(*other));
        let others = || each().filter_map(|(_, estimate)| estimate.usual());
        let slowest = || others().max_by(|one, other| one.response.total_cmp(&other.response));
        self.estimates.get(server)?.usual().or_else(slowest)
    }
}
