//! Servers that are queues with workers. What the monitor thinks of servers is no part of this.

use std::collections::VecDeque;

/// Numbers that look random (SplitMix64).
#[derive(Clone)]
pub(crate) struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, neither included.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponentially distributed.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Work of a request in seconds: log-normal, 20 ms on average, with a standard deviation as large.
    pub(crate) fn work(&mut self) -> f64 {
        let sigma = 2_f64.ln().sqrt();
        let normal = (-2.0 * self.unit().ln()).sqrt() * (core::f64::consts::TAU * self.unit()).cos();
        0.020 * (sigma * normal - sigma * sigma / 2.0).exp()
    }
}

/// Workers of each server.
pub(crate) const WORKERS: usize = 8;
/// How fast each server is, and how long a packet takes to it and back, in seconds.
pub(crate) const SERVERS: [(f64, f64); 6] =
    [(1.0, 0.002), (1.0, 0.005), (0.5, 0.010), (2.0, 0.005), (1.0, 0.020), (0.25, 0.002)];

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Health {
    Well,
    /// This share of its requests is refused, at once.
    Fails(f64),
    /// It accepts and does nothing.
    Hangs,
}

pub(crate) struct Server {
    pub speed: f64,
    pub health: Health,
    queue: VecDeque<(usize, f64)>,
    busy: usize,
    /// Seconds that its workers have worked, all together.
    pub worked: f64,
    /// What workers had in hand when it began to hang.
    stuck: Vec<usize>,
}

impl Server {
    pub(crate) fn new(speed: f64) -> Self {
        Self { speed, health: Health::Well, queue: VecDeque::new(), busy: 0, worked: 0.0, stuck: Vec::new() }
    }

    /// A request with this much work has come. Returns which requests are done, and after how many seconds.
    pub(crate) fn take(&mut self, request: usize, work: f64) -> Option<(usize, f64)> {
        self.queue.push_back((request, work));
        self.start()
    }

    fn start(&mut self) -> Option<(usize, f64)> {
        if self.busy == WORKERS || self.health == Health::Hangs {
            return None;
        }
        let (request, work) = self.queue.pop_front()?;
        self.busy += 1;
        Some((request, work / self.speed))
    }

    /// A worker is done with a request of this much work. Returns whether it answers, and what the worker does next.
    pub(crate) fn done(&mut self, request: usize, work: f64) -> (bool, Option<(usize, f64)>) {
        if self.health == Health::Hangs {
            self.stuck.push(request);
            return (false, None);
        }
        self.busy -= 1;
        self.worked += work / self.speed;
        (true, self.start())
    }

    /// Goes on after it has hung. Returns what is done at once, and what workers begin.
    pub(crate) fn wake(&mut self) -> (Vec<usize>, Vec<(usize, f64)>) {
        let stuck = core::mem::take(&mut self.stuck);
        self.busy -= stuck.len();
        let begun = core::iter::from_fn(|| self.start()).collect();
        (stuck, begun)
    }
}
