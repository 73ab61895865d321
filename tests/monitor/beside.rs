//! Servers that several services have, each with a monitor of its own: a world of fluids, in which every request goes to the
//! server with the lowest (present + 1) / weight of its service.

use core::time::Duration;

use byway::Instant;
use byway::monitor::{Monitor, Observation, Settings};

const SERVERS: usize = 5;
/// Of each service.
const OWN: usize = 3;

/// Two services, and the servers of each: the last one of the first is the first of the second.
struct World {
    capacity: [f64; SERVERS],
    floor: [f64; SERVERS],
    /// Requests a second of each service.
    asked: [f64; 2],
    rates: [[f64; SERVERS]; 2],
    monitors: [Monitor<OWN>; 2],
    quarters: u64,
    /// When there was a decision.
    decided: Vec<u64>,
}

impl World {
    fn new(capacity: [f64; SERVERS], asked: [f64; 2]) -> Self {
        let monitor = || Monitor::new(Settings::default(), [10_000; OWN]);
        let (monitors, rates) = ([monitor(), monitor()], [[0.0; SERVERS]; 2]);
        Self { capacity, floor: [0.004; SERVERS], asked, rates, monitors, quarters: 0, decided: Vec::new() }
    }

    fn time(&self, server: usize) -> f64 {
        let rate = self.rates[0][server] + self.rates[1][server];
        self.floor[server] + 1.0 / (self.capacity[server] - rate).max(0.02 * self.capacity[server])
    }

    /// Sets the rates of a service to those that its weights lead to, beside the other one.
    fn settle(&mut self, service: usize) {
        let (first, weights) = (2 * service, self.monitors[service].weights());
        let present = |world: &mut Self, server: usize, rate: f64| {
            world.rates[service][server] = rate;
            rate * world.time(server)
        };
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..50 {
            let level = (low + high) / 2.0;
            for (server, weight) in (first..first + OWN).zip(weights) {
                let wanted = level * f64::from(weight) - 1.0;
                let (mut least, mut most) = (0.0, self.capacity[server]);
                for _ in 0..40 {
                    let middle = (least + most) / 2.0;
                    if present(self, server, middle) < wanted { least = middle } else { most = middle }
                }
                self.rates[service][server] = least;
            }
            if self.rates[service].iter().sum::<f64>() < self.asked[service] { low = level } else { high = level }
        }
    }

    fn go(&mut self, seconds: u64) {
        for _ in 0..4 * seconds {
            (0..6).for_each(|turn| self.settle(turn % 2));
            self.quarters += 1;
            let now = Instant::from_millis(250 * self.quarters);
            for service in 0..2 {
                let seen = core::array::from_fn(|place| {
                    let of = |service: usize| {
                        let (server, quarter) = (2 * service + place, self.quarters as f64 / 4.0);
                        let rate = self.rates[service].get(server).copied().unwrap_or(0.0);
                        // Whole numbers, with what was left over the last time.
                        let answered = (rate * quarter) as u32 - (rate * (quarter - 0.25)) as u32;
                        let each = Duration::from_secs_f64(self.time(server));
                        let waiting = (rate * self.time(server)) as u32;
                        Observation { answered, response: each * answered, waiting, ..Observation::NONE }
                    };
                    let server = 2 * service + place;
                    let mut seen = of(service);
                    if server == 2 {
                        seen.merge(&self.of_other(service).of_others());
                    }
                    seen
                });
                if self.monitors[service].observe(now, &seen).is_some() {
                    self.decided.push(self.quarters / 4);
                }
            }
        }
    }

    /// What the other service had of the server that both have.
    fn of_other(&self, service: usize) -> Observation {
        let (rate, quarter) = (self.rates[1 - service][2], self.quarters as f64 / 4.0);
        let answered = (rate * quarter) as u32 - (rate * (quarter - 0.25)) as u32;
        let waiting = (rate * self.time(2)) as u32;
        Observation {
            answered,
            response: Duration::from_secs_f64(self.time(2)) * answered,
            waiting,
            ..Observation::NONE
        }
    }

    /// The mean time of all requests in milliseconds.
    fn mean(&self) -> f64 {
        let rate = |server: usize| self.rates[0][server] + self.rates[1][server];
        let present: f64 = (0..SERVERS).map(|server| rate(server) * self.time(server)).sum();
        present * 1e3 / self.asked.iter().sum::<f64>()
    }

    /// The least that there is, by small exchanges from where it is.
    fn best(&mut self) -> f64 {
        let (before, mut least, mut step) = (self.rates, self.mean(), 20.0);
        while step > 0.05 {
            let mut is_better = false;
            for (service, from, to) in (0..2 * OWN * OWN).map(|n| (n % 2, n / 2 / OWN, n / 2 % OWN)) {
                let (old, by) = (self.rates, self.rates[service][2 * service + from].min(step));
                self.rates[service][2 * service + from] -= by;
                self.rates[service][2 * service + to] += by;
                if self.mean() < least - 1e-9 {
                    (least, is_better) = (self.mean(), true);
                } else {
                    self.rates = old;
                }
            }
            if !is_better {
                step /= 2.0;
            }
        }
        self.rates = before;
        least
    }
}

/// Whatever each service asks for, the server that both have goes to the one that needs it.
#[test]
fn several_services_come_to_the_best_shares_of_all() {
    for (capacity, asked) in [
        ([400.0; SERVERS], [1_080.0, 120.0]),
        ([400.0; SERVERS], [1_080.0, 520.0]),
        ([400.0; SERVERS], [520.0, 1_040.0]),
        ([400.0, 200.0, 800.0, 400.0, 200.0], [900.0, 500.0]),
    ] {
        let mut world = World::new(capacity, asked);
        world.go(60);
        let (mean, best) = (world.mean(), world.best());
        assert!(mean <= 1.1 * best, "{asked:?} of {capacity:?}: {mean:.1} ms, {best:.1} ms at best: {:?}", world.rates);
        let parts = [world.monitors[0].estimates()[2].part, world.monitors[1].estimates()[0].part];
        assert!((0.8..=1.25).contains(&parts.iter().sum()), "{parts:?}");
        // They do not go to and fro.
        world.decided.clear();
        world.go(60);
        assert!(world.decided.len() <= 2, "{:?}", world.decided);
        for monitor in &world.monitors {
            assert!(monitor.decisions().all(byway::monitor::Decision::can_be_replayed));
        }
    }
}

/// When the other service has no requests any more, all of the server is free.
#[test]
fn what_the_others_leave_is_free_again() {
    let mut world = World::new([400.0; SERVERS], [700.0, 900.0]);
    world.go(30);
    let part = |world: &World| world.monitors[0].estimates()[2].part;
    assert!(part(&world) < 0.7, "{}", part(&world));
    world.asked = [1_000.0, 10.0];
    world.go(60);
    assert!(part(&world) > 0.95, "{}", part(&world));
    let weights = world.monitors[0].weights();
    assert!(f64::from(weights[2]) > 0.85 * f64::from(weights[0]), "{weights:?}");
}

/// A service that has no requests for a while keeps its part, since nothing says what it will need.
#[test]
fn who_asks_for_nothing_keeps_its_part() {
    let mut world = World::new([400.0; SERVERS], [700.0, 700.0]);
    world.go(30);
    let part = |world: &World| world.monitors[0].estimates()[2].part;
    let before = part(&world);
    world.asked[0] = 0.0;
    world.go(30);
    assert!((part(&world) - before).abs() < 0.03 && before > 0.4, "{} instead of {before}", part(&world));
    assert!(world.monitors[0].weights()[2] > 1_000);
}

#[test]
fn what_others_were_answered_is_counted_apart() {
    let own = Observation { answered: 5, waiting: 1, ..Observation::NONE };
    let mut both = own;
    both.merge(&Observation { answered: 3, ..Observation::NONE }.of_others());
    assert_eq!((both.answered, both.others, both.waiting), (8, 3, 1));
    both.add(&both.clone());
    assert_eq!((both.answered, both.others), (16, 6));
}

/// The largest weights of two monitors differ, so that reports tell their entries apart.
#[test]
fn the_largest_weight_can_be_set() {
    let mut settings = Settings::default();
    settings.largest = 19_993;
    let mut monitor = Monitor::<2>::new(settings, [10_000; 2]);
    let seen = |millis| Observation { answered: 50, response: Duration::from_millis(millis) * 50, ..Observation::NONE };
    for quarter in 1..40 {
        monitor.observe(Instant::from_millis(250 * quarter), &[seen(5), seen(50)]);
    }
    assert!(monitor.decisions().count() > 0);
    assert_eq!(monitor.weights()[0], 19_993);
}
