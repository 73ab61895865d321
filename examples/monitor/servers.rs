//! Servers that are queues with workers. What the monitor thinks of servers is no part of this.

use std::collections::VecDeque;

/// What a request takes on average where a server works at its usual speed, in seconds.
pub(crate) const WORK: f64 = 0.020;
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
