//! The best shares of the servers' load, and the shares that weights lead to.
//!
//! A server is modelled as sharing its processor among its requests: at λ requests a second, each takes d + 1 / (μ -
//! λ), where μ is its capacity and d its floor.

/// The most of a server's capacity that it is given, so that times stay finite.
const FULL: f64 = 0.98;
/// The highest load that the model is asked about, as a share of all capacities.
const MOST: f64 = 0.95;
/// The least part of a server's capacity that is for own requests, so that the server stays in use.
const LEAST: f64 = 0.01;
/// How often an interval is halved: more often than an `f64` has binary digits.
const STEPS: usize = 80;

/// What a server can carry.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Carries {
    /// Requests a second at most; nothing is sent to it if it is zero.
    pub capacity: f64,
    /// Seconds that a request takes when the server has no other.
    pub floor: f64,
}

impl Carries {
    /// Seconds that a request takes at this rate, in requests a second.
    pub(super) fn time(&self, rate: f64) -> f64 {
        self.floor + 1.0 / (self.capacity - rate.min(self.capacity * FULL)).max(1e-9)
    }

    /// What is left of it beside others that get so much of it: own requests take as long there as here.
    fn beside(&self, others: f64) -> Self {
        Self { capacity: self.capacity - within(others, self), floor: self.floor }
    }

    /// The rate at which `present` requests are at the server at once: λ d + λ / (μ - λ) = n.
    fn rate_of(&self, present: f64) -> f64 {
        let (mu, d) = (self.capacity, self.floor);
        if mu <= 0.0 || present <= 0.0 {
            return 0.0;
        }
        if d <= 0.0 {
            return (mu * present / (1.0 + present)).min(mu * FULL);
        }
        // d λ² - (d μ + 1 + n) λ + n μ = 0, the smaller root.
        let b = d * mu + 1.0 + present;
        let root = libm::sqrt((b * b - 4.0 * d * present * mu).max(0.0));
        (2.0 * present * mu / (b + root)).min(mu * FULL)
    }

    /// The rate at which the marginal cost of one more request a second, d + μ / (μ - λ)², is `cost`.
    fn rate_at(&self, cost: f64) -> f64 {
        let free = cost - self.floor;
        if self.capacity <= 0.0 || free <= 1.0 / self.capacity {
            return 0.0;
        }
        (self.capacity - libm::sqrt(self.capacity / free)).clamp(0.0, self.capacity * FULL)
    }
}

/// Sets the rates that minimise Σ λᵢ Tᵢ(λᵢ) for `rate` requests a second in all: one more request would then cost the
/// same at every server (water-filling). What is beyond the capacity of all servers is left out. Returns the mean time
/// in seconds.
///
/// ```
/// use byway::monitor::{Carries, optimum};
///
/// let servers = [Carries { capacity: 100.0, floor: 0.0 }, Carries { capacity: 25.0, floor: 0.0 }];
/// let mut rates = [0.0; 2];
/// optimum(&servers, 75.0, &mut rates);
/// // Without floors the spare capacities are as the square roots of the capacities.
/// let [a, b] = [100.0 - rates[0], 25.0 - rates[1]];
/// assert!((a / b - 2.0).abs() < 1e-6 && (rates[0] + rates[1] - 75.0).abs() < 1e-6);
/// ```
pub fn optimum(servers: &[Carries], rate: f64, rates: &mut [f64]) -> f64 {
    optimum_beside(servers, &[], rate, rates)
}

/// The same on top of the requests that others have there: the best for all together that own requests can do.
pub(super) fn optimum_beside(servers: &[Carries], others: &[f64], rate: f64, rates: &mut [f64]) -> f64 {
    fill(servers, others, rate, rates);
    mean(servers, others, rates)
}

/// The part of each server's capacity that is for own requests, `rate` of them a second, beside those that others have
/// there: as large as their part of its requests if own requests went where that is best for all together
/// (water-filling on top of the others). If all services do so in turn, the optimum of all of them is reached, since
/// the waiting in all is a convex function of their rates.
pub(super) fn parts<const N: usize>(servers: &[Carries; N], others: &[f64; N], rate: f64) -> [f64; N] {
    let mut rates = [0.0; N];
    fill(servers, others, rate, &mut rates);
    let mut parts = [1.0; N];
    for ((part, own), others) in parts.iter_mut().zip(rates).zip(others).filter(|(_, others)| **others > 0.0) {
        *part = (own / (own + others)).max(LEAST);
    }
    parts
}

/// As much of what others have at a server as it can carry.
pub(super) const fn within(others: f64, server: &Carries) -> f64 {
    others.min(server.capacity * MOST)
}

/// As much of a rate as servers can carry without queues that only grow.
pub(super) fn bearable(servers: &[Carries], others: &[f64], rate: f64) -> f64 {
    rate.max(0.0).min(MOST * beside(servers, others).map(|(server, _)| server.capacity).sum::<f64>())
}

/// Sets the rates at which the loads of all servers, (present + 1) / weight, are equal: the equilibrium of always
/// picking the least loaded one. Returns the mean time in seconds.
pub(super) fn equilibrium<const N: usize>(
    servers: &[Carries; N],
    others: &[f64; N],
    weights: &[f64; N],
    rate: f64,
    rates: &mut [f64; N],
) -> f64 {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    // The rate of a server when the one with the largest weight has this load.
    let of = |server: usize, load: f64| {
        let (carries, weight) = (servers.get(server)?.beside(*others.get(server)?), weights.get(server)?);
        Some(carries.rate_of(load * weight / largest.max(1e-9) - 1.0))
    };
    let mut bounds = [0.0, 1e6];
    for _ in 0..STEPS {
        let middle = (bounds[0] + bounds[1]) / 2.0;
        let all: f64 = (0..N).filter_map(|server| of(server, middle)).sum();
        bounds[usize::from(all >= rate)] = middle;
    }
    for (server, place) in rates.iter_mut().enumerate() {
        *place = of(server, bounds[1]).unwrap_or(0.0);
    }
    mean(servers, others, rates)
}

/// Sets the rates of servers that get requests in proportion to their weights, however many requests wait there.
/// Returns the mean time in seconds.
pub(super) fn proportional<const N: usize>(
    servers: &[Carries; N],
    others: &[f64; N],
    weights: &[f64; N],
    rate: f64,
    rates: &mut [f64; N],
) -> f64 {
    let sum = weights.iter().sum::<f64>().max(1e-9);
    for ((place, weight), server) in rates.iter_mut().zip(weights).zip(servers) {
        // Where nothing can be carried, nothing is sent.
        *place = if server.capacity > 0.0 { rate * weight / sum } else { 0.0 };
    }
    mean(servers, others, rates)
}

/// Sets the rates that minimise the waiting of own requests and others together: one more own request would then cost
/// the same at every server that has any.
fn fill(servers: &[Carries], others: &[f64], rate: f64, rates: &mut [f64]) {
    let each = |cost: f64| {
        let others = others.iter().copied().chain(core::iter::repeat(0.0));
        servers.iter().zip(others).map(move |(server, others)| (server.rate_at(cost) - others).max(0.0))
    };
    let mut bounds = [0.0, 1e9];
    for _ in 0..STEPS {
        let middle = (bounds[0] + bounds[1]) / 2.0;
        bounds[usize::from(each(middle).sum::<f64>() >= rate)] = middle;
    }
    for (place, own) in rates.iter_mut().zip(each(bounds[1])) {
        *place = own;
    }
}

/// Each server beside its others, and how many requests a second those are. Without any, `others` may be empty.
fn beside(servers: &[Carries], others: &[f64]) -> impl Iterator<Item = (Carries, f64)> {
    let others = others.iter().copied().chain(core::iter::repeat(0.0));
    servers.iter().zip(others).map(|(server, others)| (server.beside(others), within(others, server)))
}

/// The mean time of own requests and others together.
fn mean(servers: &[Carries], others: &[f64], rates: &[f64]) -> f64 {
    let each = || beside(servers, others).zip(rates).map(|((server, others), own)| (server.time(*own), own + others));
    let all: f64 = each().map(|(_, rate)| rate).sum();
    let present: f64 = each().map(|(time, rate)| rate * time).sum();
    if all > 0.0 { present / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_servers() -> impl Strategy<Value = [Carries; 4]> {
        let one = || (1.0_f64..1000.0, 0.0_f64..0.1).prop_map(|(capacity, floor)| Carries { capacity, floor });
        [one(), one(), one(), one()]
    }

    proptest! {
        /// No shift of load from one server to another makes the optimum better.
        #[test]
        fn nothing_is_better_than_the_optimum(servers in some_servers(), load in 0.05_f64..0.9, by in 1e-4_f64..0.05) {
            let rate = load * servers.iter().map(|s| s.capacity).sum::<f64>();
            let mut rates = [0.0; 4];
            let best = optimum(&servers, rate, &mut rates);
            prop_assert!((rates.iter().sum::<f64>() / rate - 1.0).abs() < 1e-6);
            for from in 0..4 {
                for to in 0..4 {
                    let mut other = rates;
                    let moved = (by * rate).min(other[from]);
                    other[from] -= moved;
                    other[to] += moved;
                    if other[to] < servers[to].capacity * FULL {
                        prop_assert!(mean(&servers, &[], &other) >= best * (1.0 - 1e-6));
                    }
                }
            }
        }

        /// In the equilibrium all that are used are equally loaded, and those that are not used would be more so.
        #[test]
        fn the_equilibrium_is_one(servers in some_servers(), load in 0.05_f64..0.9, weights in [1.0_f64..100.0, 1.0..100.0, 1.0..100.0, 1.0..100.0]) {
            let rate = load * servers.iter().map(|s| s.capacity).sum::<f64>();
            let mut rates = [0.0; 4];
            equilibrium(&servers, &[0.0; 4], &weights, rate, &mut rates);
            prop_assume!((rates.iter().sum::<f64>() / rate - 1.0).abs() < 1e-3);
            prop_assume!(servers.iter().zip(rates).all(|(s, r)| r < s.capacity * 0.97));
            let loads: Vec<f64> = (0..4).map(|n| (rates[n] * servers[n].time(rates[n]) + 1.0) / weights[n]).collect();
            let used: Vec<f64> = (0..4).filter(|n| rates[*n] > 1e-9).map(|n| loads[n]).collect();
            let most = used.iter().copied().fold(0.0, f64::max);
            prop_assert!(used.iter().all(|load| (load / most - 1.0).abs() < 1e-3), "{loads:?}");
            prop_assert!((0..4).filter(|n| rates[*n] <= 1e-9).all(|n| loads[n] >= most * 0.999), "{loads:?}");
        }
    }

    proptest! {
        /// Two services that have two of four servers in common, each in turn on top of the other, come to the best of
        /// all: no shift of load of either makes all of it faster.
        #[test]
        fn services_in_turn_come_to_the_best_of_all(servers in some_servers(), loads in [0.05_f64..0.45, 0.05..0.45]) {
            let all = |rates: &[[f64; 4]; 2]| [0, 1, 2, 3].map(|n| rates[0][n] + rates[1][n]);
            let asked = [0, 1].map(|s: usize| loads[s] * servers[s..s + 3].iter().map(|s| s.capacity).sum::<f64>());
            let mut rates = [[0.0; 4]; 2];
            for turn in 0..400 {
                let s = turn % 2;
                let others = rates[1 - s];
                fill(&servers[s..s + 3], &others[s..s + 3], asked[s], &mut rates[s][s..s + 3]);
            }
            let best = mean(&servers, &[], &all(&rates));
            for (s, from, to) in (0..18).map(|n| (n % 2, n % 2 + n / 2 % 3, n % 2 + n / 6)) {
                let mut other = rates;
                let moved = (0.01 * asked[s]).min(other[s][from]);
                other[s][from] -= moved;
                other[s][to] += moved;
                if all(&other)[to] < servers[to].capacity * FULL {
                    prop_assert!(mean(&servers, &[], &all(&other)) >= best * (1.0 - 1e-5), "{rates:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_to_carry_and_nobody_to_carry_it() {
        let none = [Carries { capacity: 0.0, floor: 0.0 }; 2];
        let mut rates = [9.0; 2];
        assert_eq!((optimum(&none, 5.0, &mut rates), rates), (0.0, [0.0; 2]));
        assert_eq!((equilibrium(&none, &[0.0; 2], &[0.0; 2], 5.0, &mut rates), rates), (0.0, [0.0; 2]));
    }
}
