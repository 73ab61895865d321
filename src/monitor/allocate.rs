//! The best shares of the servers' load, and the shares that weights lead to.
//!
//! A server is modelled as sharing its processor among its requests: at λ requests a second, each takes d + 1 / (μ -
//! λ), where μ is its capacity and d its floor.

/// The most of a server's capacity that it is given, so that times stay finite.
const FULL: f64 = 0.98;
/// The highest load that the model is asked about, as a share of all capacities.
const MOST: f64 = 0.95;
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
    let sum = |cost: f64| servers.iter().map(|server| server.rate_at(cost)).sum::<f64>();
    fill(servers, rate, rates, sum, Carries::rate_at)
}

/// As much of a rate as servers can carry without queues that only grow.
pub(super) fn bearable(servers: &[Carries], rate: f64) -> f64 {
    rate.min(MOST * servers.iter().map(|server| server.capacity).sum::<f64>())
}

/// Sets the rates at which the loads of all servers, (present + 1) / weight, are equal: the equilibrium of always
/// picking the least loaded one. Returns the mean time in seconds.
pub(super) fn equilibrium<const N: usize>(
    servers: &[Carries; N],
    weights: &[f64; N],
    rate: f64,
    rates: &mut [f64; N],
) -> f64 {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    // The rate of a server when the one with the largest weight has this load.
    let of = |server: usize, load: f64| {
        let (carries, weight) = (servers.get(server)?, weights.get(server)?);
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
    mean(servers, rates)
}

/// Sets the rates of servers that get requests in proportion to their weights, however many requests wait there.
/// Returns the mean time in seconds.
pub(super) fn proportional<const N: usize>(
    servers: &[Carries; N],
    weights: &[f64; N],
    rate: f64,
    rates: &mut [f64; N],
) -> f64 {
    let sum = weights.iter().sum::<f64>().max(1e-9);
    for ((place, weight), server) in rates.iter_mut().zip(weights).zip(servers) {
        // Where nothing can be carried, nothing is sent.
        *place = if server.capacity > 0.0 { rate * weight / sum } else { 0.0 };
    }
    mean(servers, rates)
}

fn fill(
    servers: &[Carries],
    rate: f64,
    rates: &mut [f64],
    sum: impl Fn(f64) -> f64,
    of: impl Fn(&Carries, f64) -> f64,
) -> f64 {
    let mut bounds = [0.0, 1e9];
    for _ in 0..STEPS {
        let middle = (bounds[0] + bounds[1]) / 2.0;
        bounds[usize::from(sum(middle) >= rate)] = middle;
    }
    for (place, server) in rates.iter_mut().zip(servers) {
        *place = of(server, bounds[1]);
    }
    mean(servers, rates)
}

fn mean(servers: &[Carries], rates: &[f64]) -> f64 {
    let all: f64 = rates.iter().sum();
    let present: f64 = servers.iter().zip(rates).map(|(server, rate)| rate * server.time(*rate)).sum();
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
                        prop_assert!(mean(&servers, &other) >= best * (1.0 - 1e-6));
                    }
                }
            }
        }

        /// In the equilibrium all that are used are equally loaded, and those that are not used would be more so.
        #[test]
        fn the_equilibrium_is_one(servers in some_servers(), load in 0.05_f64..0.9, weights in [1.0_f64..100.0, 1.0..100.0, 1.0..100.0, 1.0..100.0]) {
            let rate = load * servers.iter().map(|s| s.capacity).sum::<f64>();
            let mut rates = [0.0; 4];
            equilibrium(&servers, &weights, rate, &mut rates);
            prop_assume!((rates.iter().sum::<f64>() / rate - 1.0).abs() < 1e-3);
            prop_assume!(servers.iter().zip(rates).all(|(s, r)| r < s.capacity * 0.97));
            let loads: Vec<f64> = (0..4).map(|n| (rates[n] * servers[n].time(rates[n]) + 1.0) / weights[n]).collect();
            let used: Vec<f64> = (0..4).filter(|n| rates[*n] > 1e-9).map(|n| loads[n]).collect();
            let most = used.iter().copied().fold(0.0, f64::max);
            prop_assert!(used.iter().all(|load| (load / most - 1.0).abs() < 1e-3), "{loads:?}");
            prop_assert!((0..4).filter(|n| rates[*n] <= 1e-9).all(|n| loads[n] >= most * 0.999), "{loads:?}");
        }
    }

    #[test]
    fn nothing_to_carry_and_nobody_to_carry_it() {
        let none = [Carries { capacity: 0.0, floor: 0.0 }; 2];
        let mut rates = [9.0; 2];
        assert_eq!((optimum(&none, 5.0, &mut rates), rates), (0.0, [0.0; 2]));
        assert_eq!((equilibrium(&none, &[0.0; 2], 5.0, &mut rates), rates), (0.0, [0.0; 2]));
    }
}
