//! The settings of a monitor, and their defaults.

use core::time::Duration;

/// The settings of a monitor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Settings {
    /// How often weights are reconsidered: 1 s. Failures are looked for in each observation.
    pub interval: Duration,
    /// Over how long a change is expected to pay: 10 s.
    pub horizon: Duration,
    /// How long weights are left alone after a change, unless the gain is twice what it must be: 3 s. After each change
    /// that has made things worse, and is undone, both the time and how many times as much the gain must be double, until
    /// a change has made nothing worse.
    pub dwell: Duration,
    /// The longest dwell time: 60 s.
    pub longest_dwell: Duration,
    /// What a change costs, in seconds of waiting: 0.1.
    pub cost: f64,
    /// The largest part of all shares that is moved at once: 0.2. Exempt are an ejection, a trial and a return; the last
    /// two change the weight of one server alone, and nothing between the others.
    pub most_moved: f64,
    /// The smallest part of all shares that is worth moving: 0.03. The same are exempt.
    pub least_moved: f64,
    /// A server is ejected when more than this share of its requests fails, 0.25, ...
    pub failing: f64,
    /// ... and at least so many in one observation, 3.
    pub failures: u32,
    /// A server is ejected when at least three requests wait and none has been answered for this long, 250 ms, and for
    /// ten times its usual response time; or when far more wait than usual, for as long on average, and it answers less
    /// than a tenth of its share.
    pub hanging: Duration,
    /// How long an ejected server rests before it is tried: 2 s, and twice as long if it fails again.
    pub rest: Duration,
    /// A load that a server has reported counts the less the older it is, and nothing at this age: 10 s.
    pub oldest_load: Duration,
    /// Measurements that are late are waited for after a change, but no longer than this: 15 s.
    pub longest_delay: Duration,
    /// Whether connections stay open for many requests, and follow the weights ([`HandOver`](crate::Redivert::HandOver)
    /// to the same server): then requests go where the connections are, in proportion to the weights, however many
    /// requests wait there. False: each request is a connection, which goes to the server with the fewest.
    pub holds_connections: bool,
    /// A server is ejected, so that its open connections can be moved, if in two intervals in a row its requests take
    /// more than so many times as long as those of the others and as its own fastest ones, and the others can serve all
    /// of them sooner. A server on trial that is still that slow is ejected again, and rests for twice as long each
    /// time, up to [`longest_dwell`](Self::longest_dwell). Zero: never, since a small weight is enough where each
    /// request is a connection.
    pub slow: f64,
    /// The largest weight of a decision: 20 000, or up to 300 less where the same weights with a larger one were in
    /// force a short time ago (reports name the weights that they were measured under). Where several monitors decide
    /// about services that have a server in common, other numbers for each of them, such as 19 993 and 19 986, show
    /// whose weight a report names. At least 1000 is used.
    pub largest: u16,
}

impl Settings {
    /// The defaults named above.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(1),
        horizon: Duration::from_secs(10),
        dwell: Duration::from_secs(3),
        longest_dwell: Duration::from_secs(60),
        cost: 0.1,
        most_moved: 0.2,
        least_moved: 0.03,
        failing: 0.25,
        failures: 3,
        hanging: Duration::from_millis(250),
        rest: Duration::from_secs(2),
        oldest_load: Duration::from_secs(10),
        longest_delay: Duration::from_secs(15),
        holds_connections: false,
        slow: 0.0,
        largest: 20_000,
    };
}

impl Settings {
    /// The largest weights that decisions may have, the usual one first.
    pub(super) fn scales(&self) -> [u16; 4] {
        let largest = self.largest.max(1_000);
        [largest, largest - 100, largest - 200, largest - 300]
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
