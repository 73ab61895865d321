//! The weights that servers should have: in proportion to what they can carry, or, while one of them changes its
//! standing, as they are now.

use crate::monitor::model::{Estimate, Observation};
use crate::monitor::settings::Settings;
use crate::monitor::standing::Standing;

/// Where connections stay, a server that is tried gets this part of an equal share at first, and four times as much at
/// most; ...
const TRIAL: f64 = 0.05;
/// ... and one that comes back gets at least this.
pub(super) const BACK: f64 = 0.15;
/// The largest weight where nothing else is known.
pub(super) const LARGEST: u16 = Settings::DEFAULT.largest;

/// What the weights of servers follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Servers<'a, const N: usize> {
    pub(super) standing: &'a [Standing; N],
    pub(super) estimates: &'a [Estimate; N],
    /// The present weights.
    pub(super) weights: &'a [u16; N],
    pub(super) seen: &'a [Observation; N],
    /// The servers that come back just now: the weight that each had when it was in use, in relation to the mean of the
    /// others.
    pub(super) back: &'a [Option<f64>; N],
    pub(super) holds_connections: bool,
}

/// One of the servers.
#[derive(Clone, Copy)]
struct Server<'a> {
    standing: &'a Standing,
    estimate: &'a Estimate,
    weight: f64,
    back: Option<f64>,
}

impl Server<'_> {
    /// Whether it is in use, and was so before. An array may have more places than the rule has servers: those have no
    /// weight.
    const fn serves(&self) -> bool {
        self.weight > 0.0 && matches!(self.standing, Standing::In) && self.back.is_none()
    }
}

impl<'a, const N: usize> Servers<'a, N> {
    fn each(&self) -> impl Iterator<Item = Server<'a>> {
        let weights = self.standing.iter().zip(self.estimates).zip(self.weights).zip(self.back);
        weights.map(|(((standing, estimate), weight), back)| Server {
            standing,
            estimate,
            weight: f64::from(*weight),
            back: *back,
        })
    }

    /// The weights that servers should have, not rounded: what they can carry. A server of which nothing is known keeps
    /// its weight in relation to the others.
    pub(super) fn by_capacity(&self) -> [f64; N] {
        self.wanted(true)
    }

    /// The present weights, not rounded, without those of servers that are out of use, and with those of servers that
    /// are tried or come back: the others keep theirs in relation to one another.
    pub(super) fn kept(&self) -> [f64; N] {
        self.wanted(false)
    }

    fn wanted(&self, is_by_capacity: bool) -> [f64; N] {
        let serving = || self.each().filter(Server::serves);
        let known = || serving().filter(|server| server.estimate.is_known());
        let capacity: f64 = known().map(|server| server.estimate.own_capacity()).sum();
        let weight: f64 = known().map(|server| server.weight).sum();
        // What a unit of weight can carry, by the servers in use of which something is known.
        let is_known = capacity > 0.0 && weight > 0.0;
        let scale = if is_known { capacity / weight } else { 1.0 };
        let count = serving().count() as f64;
        let mean =
            if count > 0.0 { serving().map(|server| server.weight).sum::<f64>() / count } else { f64::from(LARGEST) };
        // If no server is left, those that are ejected and still have a weight keep it.
        let has_weight = |server: Server<'_>| server.weight > 0.0 || server.back.is_some();
        let is_left = self.each().any(|server| has_weight(server) && matches!(server.standing, Standing::In));
        let mut wanted = [0.0; N];
        for (place, server) in wanted.iter_mut().zip(self.each()) {
            let counts = server.estimate.is_known() && (is_by_capacity || server.back.is_some() && is_known);
            *place = match (server.standing, server.back) {
                (Standing::In, _) if counts => server.estimate.own_capacity(),
                (Standing::In, Some(relation)) => relation * mean * scale,
                (Standing::In, None) => server.weight * scale,
                (Standing::Out(_), _) if !is_left => server.weight * scale,
                (Standing::Out(_) | Standing::Excluded | Standing::Trial(_), _) => 0.0,
            };
        }
        self.with_trials(wanted)
    }

    /// The same with the weights of servers on trial, beside those that `wanted` has.
    ///
    /// A connection goes to the server with the lowest (connections + 1) / weight. So one that is tried gets one
    /// request or two at a time, where the others have some; where they have none, a larger weight than theirs would
    /// attract all that comes, and all of it would fail if it fails at once.
    fn with_trials(&self, mut wanted: [f64; N]) -> [f64; N] {
        let (mut all, mut largest, mut waiting, mut others) = (0.0, 0.0, 0.0, 0.0);
        for (weight, seen) in wanted.iter().zip(self.seen).filter(|(weight, _)| **weight > 0.0) {
            (all, largest, waiting) = (all + weight, f64::max(largest, *weight), waiting + f64::from(seen.waiting));
            others += 1.0;
        }
        // If nobody else is left, it does not matter beside what.
        let (one, largest) = if others > 0.0 { (all / others, largest) } else { (1.0, 1.0) };
        // Where connections stay, they are shared in proportion to the weights.
        let (first, most) = if self.holds_connections {
            (TRIAL * one, 4.0 * TRIAL * one)
        } else {
            // How many requests wait at each of the others.
            let each_has = waiting / f64::max(others, 1.0);
            (one * (1.5 / (each_has + 1.0)).min(1.0), largest)
        };
        for (place, standing) in wanted.iter_mut().zip(self.standing) {
            if let Standing::Trial(trial) = standing
                && !trial.paused
            {
                *place = (first * f64::from(1_u32 << trial.raised.min(10))).min(most);
            }
        }
        wanted
    }
}

/// The weight of each server in use, in relation to the mean of the others in use, if there are others.
pub(super) fn relation<const N: usize>(standing: &[Standing; N], weights: &[u16; N]) -> [Option<f64>; N] {
    let in_use =
        || standing.iter().zip(weights).map(|(one, weight)| (*weight != 0 && matches!(one, Standing::In), weight));
    let serving = || in_use().filter(|(serves, _)| *serves).map(|(_, weight)| f64::from(*weight));
    let (all, others) = (serving().sum::<f64>(), serving().count().saturating_sub(1) as f64);
    let mut relation = [None; N];
    for (place, (serves, weight)) in relation.iter_mut().zip(in_use()) {
        let weight = f64::from(*weight);
        *place = (serves && others > 0.0).then(|| weight * others / (all - weight));
    }
    relation
}

/// The weights as whole numbers, of which the largest is this; `None` if there are none.
pub(super) fn whole<const N: usize>(weights: &[f64; N], largest: u16) -> Option<[u16; N]> {
    let scale = weights.iter().copied().fold(0.0, f64::max);
    let one = |weight: f64| (weight / scale * f64::from(largest) + 0.5) as u16;
    (scale > 0.0).then(|| weights.map(|weight| if weight > 0.0 { one(weight).max(1) } else { 0 }))
}
