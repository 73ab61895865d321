//! Servers that others use too: another service, whose requests this monitor's weights do not steer.
//!
//! The capacity of such a server is estimated from all of its requests. Its weight is in proportion to the part of its
//! capacity that own requests should use: what is best for own requests and others together, while the others stay as
//! they are. When the monitors of all services do so, each beside what the others have, they come to the best shares of
//! all services together.

use crate::monitor::Monitor;
use crate::monitor::allocate::{Carries, parts, within};
use crate::monitor::model::{Estimate, FEW};
use crate::monitor::standing::carries;

impl<const N: usize> Monitor<N> {
    /// Divides the capacity of servers that others use too, from an interval of `seconds`. Smoothed, since the others may
    /// give way at the same time.
    pub(super) fn divide(&mut self, seconds: f64) {
        let (estimates, _) = self.corrected();
        let carries = carries(&self.standing, &estimates);
        let others = others(&carries, &estimates);
        let own: f64 = self.window.iter().map(|seen| f64::from(seen.own())).sum();
        let is_alone = others.iter().all(|others| *others <= 0.0);
        if own < f64::from(FEW) && !is_alone {
            return;
        }
        let new = parts(&carries, &others, own / seconds.max(1e-6));
        for ((estimate, part), others) in self.estimates.iter_mut().zip(new).zip(others) {
            estimate.part = if others > 0.0 { 0.7 * estimate.part + 0.3 * part } else { 1.0 };
        }
    }
}

/// Requests of others a second at each server, as many as it can carry.
pub(super) fn others<const N: usize>(carries: &[Carries; N], estimates: &[Estimate; N]) -> [f64; N] {
    let mut others = estimates.map(|estimate| estimate.others);
    others.iter_mut().zip(carries).for_each(|(others, carries)| *others = within(*others, carries));
    others
}
