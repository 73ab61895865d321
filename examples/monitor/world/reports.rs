//! What translators report, and what monitors make of it.

use byway::Measurements;
use byway::monitor::{LoadSample, Observation};

use super::{Instant, Monitor, N, Policy, READ, WORKERS, World, server_at};

/// How many readings pass between two reports of a server's own load.
const SCRAPE: u64 = 8;

/// What a translator has measured.
pub(super) struct Report {
    due: f64,
    translator: usize,
    at: Instant,
    /// By service.
    measured: Vec<[Option<Measurements>; N]>,
    /// Those that its rules had then, by service.
    weights: Vec<[u16; N]>,
}

impl World {
    /// What the monitors do, four times a second.
    pub(super) fn read(&mut self) {
        self.at(self.now + READ, super::Event::Read);
        for number in 0..self.translators.len() {
            let at = self.clock(number);
            self.translators[number].poll(at);
            let measured = (0..self.weights.len()).map(|service| self.measured(number, service)).collect();
            if self.luck.unit() >= self.hearing.lost {
                let (due, weights) = (self.now + self.hearing.late, self.weights.clone());
                self.reports.push_back(Report { due, translator: number, at, measured, weights });
            }
        }
        if !matches!(self.policy, Policy::Monitor | Policy::Apart | Policy::Loads) || self.now >= self.dies {
            return self.reports.clear();
        }
        let now = Instant::from_micros((self.now * 1e6) as u64);
        self.reads += 1;
        if self.policy == Policy::Loads && self.reads.is_multiple_of(SCRAPE) {
            self.scrape(now);
        }
        let mut seen = vec![[Observation::default(); N]; self.monitors.len()];
        while let Some(report) = self.reports.pop_front_if(|report| report.due <= self.now) {
            self.take(report, &mut seen);
        }
        let is_current = self.reported.iter().all(|weights| *weights == self.weights);
        for (monitor, seen) in seen.iter().enumerate() {
            self.decide(monitor, now, seen, is_current);
        }
    }

    /// What a translator has measured of the servers of a service. Each rule has entries of its own, which stand in the
    /// order of the rules.
    fn measured(&self, translator: usize, service: usize) -> [Option<Measurements>; N] {
        core::array::from_fn(|server| {
            let before = self.scene.offers[..service].iter().filter(|offer| offer.servers[server]).count();
            let mut all = self.translators[translator].measurements();
            self.scene.offers[service].servers[server]
                .then(|| all.by_ref().filter(|one| one.server == server_at(server).into()).nth(before))
                .flatten()
        })
    }

    /// Adds a report to what each monitor sees.
    fn take(&mut self, report: Report, seen: &mut [[Observation; N]]) {
        self.reported[report.translator] = report.weights;
        let offers = &self.scene.offers;
        for (service, measured) in report.measured.into_iter().enumerate() {
            for (server, measured) in measured.into_iter().enumerate() {
                let reading = &mut self.readings[report.translator][service][server];
                let Some(Ok(Some(new))) = measured.map(|measured| reading.take(report.at, &measured)) else { continue };
                for (monitor, seen) in seen.iter_mut().enumerate() {
                    let is_own = self.policy == Policy::Apart || offers[service].monitor == monitor;
                    if offers.iter().any(|offer| offer.monitor == monitor && offer.servers[server]) {
                        seen[server].merge(&if is_own { new } else { new.of_others() });
                    }
                }
            }
        }
    }

    fn decide(&mut self, number: usize, now: Instant, seen: &[Observation; N], is_current: bool) {
        let Some(decision) = self.monitors[number].observe_late(now, seen, is_current).copied() else {
            return self.note_outcomes(number);
        };
        let shares = |weights: [u16; N]| {
            let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            weights.map(|w| f64::from(w) / sum)
        };
        let (old, new) = (shares(decision.inputs.weights), shares(decision.weights));
        let moved = old.iter().zip(new).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
        self.seen.moved.push((self.now, moved));
        self.seen.decisions.push(decision);
        for service in 0..self.weights.len() {
            if self.scene.offers[service].monitor == number {
                self.set_weights(service, &decision.weights);
            }
        }
        self.note_outcomes(number);
    }

    /// Outcomes become known later.
    fn note_outcomes(&mut self, number: usize) {
        for decision in Monitor::decisions(&self.monitors[number]) {
            let is_it = |mine: &&mut byway::monitor::Decision<N>| {
                mine.number == decision.number && mine.inputs == decision.inputs
            };
            if let Some(mine) = self.seen.decisions.iter_mut().rev().find(is_it) {
                mine.outcome = decision.outcome;
            }
        }
    }

    /// Reads the load that each server reports.
    fn scrape(&mut self, now: Instant) {
        for (number, reading) in self.loads.iter_mut().enumerate() {
            let busy = LoadSample { at: now, value: self.servers[number].worked, series: WORKERS as u32, stamp: None };
            let load = match self.hearing.liar {
                Some((liar, share)) if liar == number => byway::monitor::Load::new(share, now),
                _ => reading.take(&busy).ok().flatten(),
            };
            for monitor in &mut self.monitors {
                load.map(|load| monitor.report_load(number, load));
            }
        }
    }
}
