//! One service: what is thought of its servers, what they should have, and why.

mod tell;

use core::time::Duration;
use std::collections::VecDeque;

use byway::control::MAX_SERVERS;
use byway::monitor::{Action, Decision, Load, Monitor, Observation, Settings};
use byway::{Histogram, Instant, Redivert, Target};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::tell::cause;
use super::beside::largest;
use super::rules::{Demands, Each, Pins};
use crate::config::monitor::{Rule, Service};

/// The period for which response times are shown.
const SHOWN: Duration = Duration::from_secs(10);
/// Shares that differ by less are the same.
const SAME: f64 = 0.005;
/// If the share of a server falls by more, its open connections are shared anew.
const FALLS: f64 = 0.02;

/// A change to be made, and everything that is to be told about it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The weights from now on.
    pub weights: Each<u16>,
    /// Servers whose open connections move, and where to.
    pub moves: Vec<(usize, usize)>,
    /// Servers whose share falls and whose open connections are shared anew, by hand-over.
    pub falling: Vec<usize>,
    /// How those of `moves` move.
    pub how: Redivert,
    /// For the journal.
    pub entry: Value,
    /// The model's number of the decision, if it will be compared with what comes of it.
    pub promised: Option<u32>,
}

/// What is known of a service.
#[derive(Debug)]
pub struct State {
    /// The service.
    pub service: Service,
    /// What operators have set.
    pub pins: Pins,
    /// What rules and operators demand just now.
    pub demands: Demands,
    /// What the translators have been told, or had when they were first read; `None` before that.
    pub in_force: Option<Each<u16>>,
    /// Connections on each server, by the last reports.
    pub connections: Each<u32>,
    /// What was seen last.
    pub seen: Each<Observation>,
    /// How many requests have failed since the start.
    pub failures: Each<u64>,
    /// Large, with the decisions that it keeps.
    model: Box<Monitor<MAX_SERVERS>>,
    /// The share that a server had before it was excluded.
    kept: Each<f64>,
    /// The share that a server had before a limit or a pin took hold of it.
    held: Each<Option<f64>>,
    times: Each<VecDeque<(Instant, Histogram)>>,
    place: usize,
    /// Whether connections may be left on a server that has failed.
    pub(super) is_unmoved: bool,
    /// Whether something was measured while other weights were in force.
    pub(super) is_late: bool,
}

fn settings(service: &Service, place: usize) -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.most_moved = f64::from(service.most_moved) / 100.0;
    settings.dwell = service.dwell;
    settings.holds_connections = service.rebalance;
    settings.slow = f64::from(service.slow);
    settings.largest = largest(place);
    settings
}

impl State {
    /// A service of which nothing is known yet; `place` is its number among the services.
    #[must_use]
    pub fn new(service: Service, place: usize, pins: Pins) -> Self {
        let mut weights: Each<u16> = Default::default();
        service.servers.iter().zip(&mut weights).for_each(|(server, weight)| *weight = server.weight);
        Self {
            demands: Demands::at(Timestamp::UNIX_EPOCH, &[], place, service.servers.len(), &pins),
            model: Box::new(Monitor::new(settings(&service, place), weights)),
            kept: shares(&weights),
            held: Default::default(),
            in_force: None,
            connections: Default::default(),
            seen: [Observation::NONE; MAX_SERVERS],
            failures: Default::default(),
            times: Default::default(),
            pins,
            service,
            place,
            is_unmoved: false,
            is_late: false,
        }
    }

    /// How many servers it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.service.servers.len()
    }

    /// A service always has a server.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.service.servers.is_empty()
    }

    /// What a server is called.
    #[must_use]
    pub fn name(&self, server: usize) -> String {
        self.service.servers.get(server).map_or_else(String::new, |server| server.target.to_string())
    }

    /// The place of a server with this name.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Option<usize> {
        (0..self.len()).find(|server| self.name(*server) == name)
    }

    /// Takes over the settings of a file that was read anew.
    pub fn configure(&mut self, service: Service) {
        self.model.configure(settings(&service, self.place));
        self.service = service;
    }

    /// The weights that a translator has: those of this monitor, of one before it, or of an operator. A server that has none,
    /// though nobody forbids it, gets a small one, so that it is not forgotten when a monitor dies that had ejected it.
    pub fn adopt(&mut self, listed: &Each<u16>) -> bool {
        let known = self.in_force == Some(*listed);
        self.in_force = Some(*listed);
        self.model.adopt(fine(listed));
        !known
    }

    /// The same where another monitor acts, or has acted until now. A server that this one would have ejected, and that has a
    /// weight all the same, is on trial.
    pub fn follow(&mut self, listed: &Each<u16>) {
        self.in_force = Some(*listed);
        self.model.follow(fine(listed));
    }

    /// Servers that have no weight though nobody has forbidden them, at the start, get a small one; not those that this monitor
    /// has seen fail, if there are others.
    #[must_use]
    pub fn revive(&self, listed: &Each<u16>) -> Option<Each<u16>> {
        let mut weights = fine(listed);
        let largest = weights.iter().copied().max().unwrap_or(0);
        let resting = if largest == 0 { Each::default() } else { self.model.resting() };
        for server in 0..self.len() {
            if weights[server] == 0 && self.demands.excluded[server].is_none() && !resting[server] {
                weights[server] = (largest / 20).max(1);
            }
        }
        (weights != fine(listed)).then_some(weights)
    }

    /// Open connections of servers that this monitor has seen fail, and that have no weight: another monitor has died before it
    /// could move them, or they are those of a trial that failed while nothing more was given to it.
    #[must_use]
    pub fn left_behind(&self, weights: &Each<u16>) -> Vec<(usize, usize)> {
        let resting = self.model.resting();
        self.moves(weights, |server| weights[server] == 0 && resting[server] && self.connections[server] != 0)
    }

    /// Moves all open connections of some servers to the one with the largest weight, if the service allows that.
    fn moves(&self, weights: &Each<u16>, are_moved: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
        let best = (0..self.len()).max_by_key(|server| weights[*server]);
        (0..self.len())
            .filter(|server| self.service.open_connections != Redivert::Drain && are_moved(*server))
            .filter_map(|server| Some((server, best.filter(|best| *best != server)?)))
            .collect()
    }

    /// Response times of a server, lately.
    #[must_use]
    pub fn lately(&self, server: usize) -> Histogram {
        let mut sum = Histogram::EMPTY;
        self.times.get(server).into_iter().flatten().for_each(|(_, times)| sum.merge(times));
        sum
    }

    /// Notes response times of a server.
    pub fn note_times(&mut self, now: Instant, server: usize, times: &Histogram) {
        let Some(lately) = self.times.get_mut(server) else { return };
        while lately.front().is_some_and(|(at, _)| now.duration_since(*at) > SHOWN) {
            lately.pop_front();
        }
        lately.push_back((now, *times));
    }

    /// What rules and operators demand at a time.
    pub fn demand(&mut self, time: Timestamp, rules: &[Rule]) {
        self.demands = self.demands_with(time, rules, &self.pins);
    }

    /// The same with these pins.
    pub(super) fn demands_with(&self, time: Timestamp, rules: &[Rule], pins: &Pins) -> Demands {
        Demands::at(time, rules, self.place, self.len(), pins)
    }

    /// Notes with which weight a server was measured. Returns whether it is another than the one in force.
    pub fn note_weight(&mut self, server: usize, weight: u16) -> bool {
        let is_other = self.in_force.is_some_and(|weights| weights[server] != weight);
        self.is_late |= is_other;
        is_other
    }

    /// Notes that some of what was seen was measured before the last change.
    pub fn note_late(&mut self) {
        self.is_late |= self.in_force.is_some();
    }

    /// Takes in what was seen since the last time, and decides.
    pub fn tick(&mut self, now: Instant, seen: &Each<Observation>) -> Option<Change> {
        self.seen = *seen;
        for (failures, seen) in self.failures.iter_mut().zip(seen) {
            *failures += u64::from(seen.failures.max(seen.unanswered));
        }
        self.exclude();
        // A server that has to take what others may not have cannot be emptied.
        let is_limited = self.demands.maximum.iter().any(Option::is_some) || self.pins.share.iter().any(Option::is_some);
        self.model.set_slow(if is_limited { 0.0 } else { f64::from(self.service.slow) });
        let is_current = !core::mem::take(&mut self.is_late);
        let were_out = self.model.resting();
        let decision = self.model.observe_late(now, seen, is_current).copied();
        let mut ejected = self.model.resting();
        ejected.iter_mut().zip(were_out).for_each(|(is_out, was_out)| *is_out &= !was_out);
        // With `rebalance` they have been handed over when the trial was halted.
        let had_none = |server: usize| self.in_force.is_some_and(|weights| weights[server] == 0);
        self.is_unmoved |= !self.service.rebalance && (0..self.len()).any(|server| ejected[server] && had_none(server));
        self.settle(decision.as_ref(), None, &ejected)
    }

    /// Applies what an operator has just set, or undone.
    pub fn apply(&mut self, cause: &str, text: &str) -> Option<Change> {
        self.exclude();
        self.settle(None, Some((cause, text)), &Each::default())
    }

    /// Takes the load that a server has reported, if it is one of this service.
    pub fn report_load(&mut self, server: &Target, load: Load) {
        if let Some(place) = self.service.servers.iter().position(|other| other.target == *server) {
            self.model.report_load(place, load);
        }
    }

    /// The weights that an operator wants back, until the model has better ones.
    pub fn wish(&mut self, weights: &Each<u16>) {
        self.model.adopt(*weights);
    }

    /// What an operator's pins would make of the weights.
    #[must_use]
    pub fn preview(&self, time: Timestamp, rules: &[Rule], pins: &Pins) -> Each<u16> {
        let demands = self.demands_with(time, rules, pins);
        let mut wanted = self.model.weights();
        let others = wanted;
        for (server, weight) in wanted.iter_mut().enumerate().take(self.len()) {
            if *weight == 0 && self.demands.excluded[server].is_some() && demands.excluded[server].is_none() {
                *weight = self.returning(server, &others);
            }
        }
        demands.constrain(&wanted, self.len(), pins).0
    }

    /// Six tenths of the share that a server had before, beside the weights of the others.
    fn returning(&self, server: usize, others: &Each<u16>) -> u16 {
        let share = (0.6 * self.kept[server]).clamp(0.01, 0.9);
        let sum: f64 = others.iter().map(|weight| f64::from(*weight)).sum();
        if sum <= 0.0 { 20_000 } else { (sum * share / (1.0 - share)).clamp(1.0, 60_000.0) as u16 }
    }

    fn exclude(&mut self) {
        let mut weights = self.model.weights();
        let (others, before) = (weights, shares(&weights));
        for (server, weight) in weights.iter_mut().enumerate().take(self.service.servers.len()) {
            let excluded = self.demands.excluded[server].is_some();
            if self.model.exclude(server, excluded) {
                if excluded && *weight != 0 {
                    self.kept[server] = before[server];
                }
                *weight = if excluded { 0 } else { self.returning(server, &others) };
            }
        }
        // What a limit or a pin has taken away comes back with its end.
        let now = weights;
        for (server, weight) in weights.iter_mut().enumerate().take(self.service.servers.len()) {
            let is_free = self.demands.maximum[server].is_none() && self.pins.share[server].is_none();
            if is_free && let Some(share) = self.held[server].take().filter(|_| *weight != 0) {
                let others: f64 = now.iter().enumerate().filter(|(n, _)| *n != server).map(|(_, w)| f64::from(*w)).sum();
                *weight = (others * share / (1.0 - share).max(0.01)).clamp(1.0, 60_000.0) as u16;
            }
        }
        self.model.adopt(weights);
    }

    /// What the weights should be, with rules and pins; a change if they are not so already. `ejected` are the servers that were
    /// in use or on trial until now: there may be several, though a decision names one.
    fn settle(
        &mut self,
        decision: Option<&Decision<MAX_SERVERS>>,
        operator: Option<(&str, &str)>,
        ejected: &Each<bool>,
    ) -> Option<Change> {
        let before = self.in_force?;
        let (weights, mut by) = self.demands.constrain(&self.model.weights(), self.len(), &self.pins);
        let action = decision.map(|decision| decision.action);
        let is_open = |server: usize| before[server] != 0 && self.connections[server] != 0;
        let opens = self.service.rebalance
            && matches!(action, Some(Action::Try { server, open: true }) if (0..self.len()).any(|n| n != server && is_open(n)));
        if is_same(&before, &weights) && !opens {
            self.model.adopt(fine(&before));
            return None;
        }
        let (had, has) = (shares(&before), shares(&weights));
        for server in 0..self.len() {
            let is_free = self.demands.maximum[server].is_none() && self.pins.share[server].is_none();
            if !is_free && self.held[server].is_none() && had[server] > 0.0 && has[server] != had[server] {
                self.held[server] = Some(had[server]);
            }
        }
        let mut back = Vec::new();
        for server in 0..self.len() {
            match &self.demands.excluded[server] {
                Some(who) if before[server] != 0 && !by.contains(who) => by.push(who.clone()),
                None if before[server] == 0 && weights[server] != 0 => back.push(self.name(server)),
                _ => {}
            }
        }
        self.model.adopt(weights);
        self.in_force = Some(weights);
        let limits = if by.is_empty() { String::new() } else { format!(", within {}", by.join(" and ")) };
        let (cause, why) = match (operator, decision) {
            (Some((cause, text)), _) => (cause.to_string(), text.to_string()),
            (None, Some(decision)) => (format!("{}{limits}", cause(decision)), self.why(decision)),
            (None, None) if by.is_empty() && back.is_empty() => ("rules".into(), "a rule has ended".into()),
            (None, None) if by.is_empty() => {
                ("rules".into(), format!("nothing forbids {} any more", back.join(" and ")))
            }
            (None, None) => (by.join(", "), format!("{} demands it", by.join(" and "))),
        };
        let emptied = |server: usize| before[server] != 0 && weights[server] == 0;
        let must_move = |server: usize| match action {
            // Where they can be shared anew, they need not all go to the same server.
            Some(Action::EjectSlow { server: of, .. }) if of == server => !self.service.rebalance,
            _ => ejected[server],
        };
        let is_rule = |server: usize| self.demands.excluded[server].as_ref().is_some_and(|by| by != "the operator");
        let moves = self.moves(&weights, |server| emptied(server) && (must_move(server) || is_rule(server)));
        let mut text = format!("{}: {} instead of {}, since {why}", self.service.name, self.words(&weights), self.words(&before));
        for (from, to) in &moves {
            text += &format!("; open connections of {} go to {}", self.name(*from), self.name(*to));
        }
        let falling = self.falling(action, (&had, &has), &moves);
        if !falling.is_empty() {
            let names: Vec<_> = falling.iter().map(|server| self.name(*server)).collect();
            text += &format!("; open connections of {} are handed over until all are as loaded", names.join(" and "));
        }
        let promised = decision.filter(|d| d.promise() > 0.0 && by.is_empty()).map(|decision| decision.number);
        let entry = json!({
            "service": self.service.name,
            "cause": cause,
            "text": text,
            "before": self.named(&before),
            "after": self.named(&weights),
            "promise": decision.map(Decision::promise),
            "predicted": decision.map(Decision::predicted),
            "replayed": decision.map(Decision::can_be_replayed),
            "trust": self.model.trust(),
            "inputs": self.inputs(decision),
        });
        Some(Change { weights, moves, falling, how: self.service.open_connections, entry, promised })
    }

    /// Servers whose open connections are to be shared anew, since their shares fall. Not in favour of a server that comes back, or
    /// is tried: it has yet to show what it can do. But it gets some of them if it is tried again and again because nobody
    /// new comes.
    fn falling(
        &self,
        action: Option<Action>,
        (had, has): (&Each<f64>, &Each<f64>),
        moves: &[(usize, usize)],
    ) -> Vec<usize> {
        if !self.service.rebalance {
            return Vec::new();
        }
        let (mut least, mut emptied, mut tried) = (FALLS, None, None);
        match action {
            Some(Action::EjectSlow { server, .. } | Action::Pause { server }) => (least, emptied) = (0.0, Some(server)),
            Some(Action::Try { server, open: true }) => tried = Some(server),
            Some(Action::Try { .. } | Action::Return { .. }) => return Vec::new(),
            _ => {}
        }
        let falls = |server: usize| match tried {
            // Its own share may be what it was.
            Some(tried) => server != tried && has[server] > 0.0,
            None => had[server] - has[server] > least && (has[server] > 0.0 || emptied == Some(server)),
        };
        let is_moved = |server: usize| moves.iter().any(|(from, _)| *from == server);
        (0..self.len()).filter(|server| falls(*server) && !is_moved(*server) && self.connections[*server] != 0).collect()
    }
}

/// The same shares in numbers that can be divided.
fn fine(weights: &Each<u16>) -> Each<u16> {
    let largest = weights.iter().copied().max().unwrap_or(0);
    if largest == 0 || largest > 1_000 {
        return *weights;
    }
    weights.map(|weight| (u32::from(weight) * 20_000 / u32::from(largest)) as u16)
}

fn shares(weights: &Each<u16>) -> Each<f64> {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum::<f64>().max(1.0);
    weights.map(|weight| f64::from(weight) / sum)
}

/// Whether two sets of weights are the same shares, nearly.
#[must_use]
pub fn is_same(one: &Each<u16>, other: &Each<u16>) -> bool {
    let near = |(a, b): (f64, f64)| (a - b).abs() < SAME;
    let is_zero = |(a, b): (&u16, &u16)| (*a == 0) == (*b == 0);
    shares(one).into_iter().zip(shares(other)).all(near) && one.iter().zip(other).all(is_zero)
}

#[cfg(test)]
pub(in crate::monitor) mod tests;
