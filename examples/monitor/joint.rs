//! The shares that are best for all services together, by a method of its own: queues with workers (Erlang's formula), and
//! many small exchanges. What the monitor thinks of servers is no part of this.

use crate::offers::Offer;
use crate::servers::{WORK, WORKERS};
use crate::world::N;

/// Seconds that a request takes at a server of this speed that gets `rate` requests a second, on average.
fn time(speed: f64, rate: f64) -> f64 {
    let work = WORK / speed;
    let offered = rate * work;
    let free = WORKERS as f64 - offered;
    if free < 0.01 {
        return work + 100.0 * work * (1.0 - free);
    }
    // The probability that all workers are busy: Erlang's B by recursion, and C from it.
    let blocked = (1..=WORKERS).fold(1.0, |blocked, k| offered * blocked / (k as f64 + offered * blocked));
    let waits = WORKERS as f64 * blocked / (WORKERS as f64 - offered * (1.0 - blocked));
    work + waits * work / free
}

/// Requests that are at servers or on their way, on average.
fn cost(speeds: &[f64; N], offers: &[Offer], rates: &[[f64; N]]) -> f64 {
    let at = |server: usize| {
        let rate: f64 = rates.iter().map(|rates| rates[server]).sum();
        let ways = offers.iter().zip(rates).map(|(offer, rates)| 2.0 * offer.floors[server] * rates[server]);
        let time = if rate > 0.0 { rate * time(speeds[server].max(1e-3), rate) } else { 0.0 };
        time + ways.sum::<f64>()
    };
    (0..N).map(at).sum()
}

/// The rate of each service at each server.
pub(crate) fn rates(speeds: &[f64; N], offers: &[Offer], rate: f64) -> Vec<[f64; N]> {
    let even = |offer: &Offer| {
        let sum: f64 = (0..N).filter(|n| offer.servers[*n]).map(|n| speeds[n]).sum();
        core::array::from_fn(|n| if offer.servers[n] { rate * offer.share * speeds[n] / sum } else { 0.0 })
    };
    let mut rates: Vec<[f64; N]> = offers.iter().map(even).collect();
    let mut least = cost(speeds, offers, &rates);
    let mut step = rate / 20.0;
    while step > rate / 20_000.0 {
        let mut is_better = false;
        for service in 0..offers.len() {
            for (from, to) in (0..N * N).map(|pair| (pair / N, pair % N)) {
                let by = step.min(rates[service][from]);
                if from == to || by <= 0.0 || !offers[service].servers[to] || speeds[to] <= 0.0 {
                    continue;
                }
                let mut other = rates.clone();
                other[service][from] -= by;
                other[service][to] += by;
                let new = cost(speeds, offers, &other);
                if new < least - 1e-9 {
                    (rates, least, is_better) = (other, new, true);
                }
            }
        }
        if !is_better {
            step /= 2.0;
        }
    }
    rates
}

/// Weights with which the least loaded servers get these rates: all loads, (open + 1) / weight, are equal then.
pub(crate) fn weights(speeds: &[f64; N], offers: &[Offer], rate: f64) -> Vec<[u16; N]> {
    let rates = rates(speeds, offers, rate);
    let open = |service: usize, server: usize| {
        let all: f64 = rates.iter().map(|rates| rates[server]).sum();
        let took = 2.0 * offers[service].floors[server] + time(speeds[server].max(1e-3), all);
        let own = rates[service][server];
        if own > 0.005 * offers[service].share * rate { own * took + 1.0 } else { 0.0 }
    };
    let each = (0..offers.len()).map(|service| {
        let wanted: [f64; N] = core::array::from_fn(|server| open(service, server));
        let largest = wanted.iter().copied().fold(1.0, f64::max);
        wanted.map(|wanted| (wanted / largest * 20_000.0).round() as u16)
    });
    each.collect()
}
