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
use super::rules::{Demands, Each, Pins};
use crate::config::monitor::{Rule, Service};

/// The period for which response times are shown.
const SHOWN: Duration = Duration::from_secs(10);
/// Shares that differ by less are the same.
const SAME: f64 = 0.005;
/// If the share of a server falls by more, its open connections are shared anew.
const FALLS: f64 = 0.02;
/// A server gets open connections with the first trial after so many that had to wait for new ones.
const PATIENT: u32 = 4;
/// So many of these trials count as done for a server that was only slow: little is lost with a connection that tries it.
const SLOW: u32 = 3;

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
    /// How often a server was tried since it was ejected; one that was only slow begins with [`SLOW`].
    tried: Each<u32>,
    place: usize,
    /// Whether something was measured while other weights were in force.
    pub(super) is_late: bool,
}

fn settings(service: &Service) -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.most_moved = f64::from(service.most_moved) / 100.0;
    settings.dwell = service.dwell;
    settings.holds_connections = service.rebalance;
    settings.slow = f64::from(service.slow);
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
            model: Box::new(Monitor::new(settings(&service), weights)),
            kept: shares(&weights),
            held: Default::default(),
            in_force: None,
            connections: Default::default(),
            seen: [Observation::NONE; MAX_SERVERS],
            failures: Default::default(),
            times: Default::default(),
            tried: Default::default(),
            pins,
            service,
            place,
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
        self.model.configure(settings(&service));
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

    /// Servers that have no weight though nobody has forbidden them, at the start, get a small one.
    #[must_use]
    pub fn revive(&self, listed: &Each<u16>) -> Option<Each<u16>> {
        let mut weights = fine(listed);
        let largest = weights.iter().copied().max().unwrap_or(0).max(1);
        for (weight, excluded) in weights.iter_mut().zip(&self.demands.excluded).take(self.len()) {
            if *weight == 0 && excluded.is_none() {
                *weight = (largest / 20).max(1);
            }
        }
        (weights != fine(listed)).then_some(weights)
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
        let were_out = self.model.ejected();
        let decision = self.model.observe_late(now, seen, is_current).copied();
        let mut ejected = self.model.ejected();
        ejected.iter_mut().zip(were_out).for_each(|(is_out, was_out)| *is_out &= !was_out);
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
    /// in use until now: there may be several, though a decision names one.
    fn settle(
        &mut self,
        decision: Option<&Decision<MAX_SERVERS>>,
        operator: Option<(&str, &str)>,
        ejected: &Each<bool>,
    ) -> Option<Change> {
        let before = self.in_force?;
        let (weights, mut by) = self.demands.constrain(&self.model.weights(), self.len(), &self.pins);
        if is_same(&before, &weights) {
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
        let emptied = |server: &usize| before[*server] != 0 && weights[*server] == 0;
        let action = decision.map(|decision| decision.action);
        let must_move = |server: usize| match action {
            Some(Action::EjectFailing { server: of, .. } | Action::EjectHanging { server: of, .. }) if of == server => true,
            // Where they can be shared anew, they need not all go to the same server.
            Some(Action::EjectSlow { server: of, .. }) if of == server => !self.service.rebalance,
            _ => ejected[server],
        };
        let best = (0..self.len()).max_by_key(|server| weights[*server]);
        let is_rule = |server: usize| self.demands.excluded[server].as_ref().is_some_and(|by| by != "the operator");
        let moves: Vec<_> = (0..self.len())
            .filter(emptied)
            .filter(|server| self.service.open_connections != Redivert::Drain && (must_move(*server) || is_rule(*server)))
            .filter_map(|server| Some((server, best.filter(|best| *best != server)?)))
            .collect();
        let mut text = format!("{}: {} instead of {}, since {why}", self.service.name, self.words(&weights), self.words(&before));
        for (from, to) in &moves {
            text += &format!("; open connections of {} go to {}", self.name(*from), self.name(*to));
        }
        self.note_trials(action);
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

    /// Counts how often a server was tried since it was ejected.
    fn note_trials(&mut self, action: Option<Action>) {
        match action {
            Some(Action::EjectSlow { server, .. }) => self.tried[server] = SLOW,
            Some(Action::Try { server }) => self.tried[server] = self.tried[server].saturating_add(1),
            Some(Action::EjectFailing { server, .. } | Action::EjectHanging { server, .. } | Action::Return { server }) => {
                self.tried[server] = 0;
            }
            _ => {}
        }
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
        let (mut least, mut emptied) = (FALLS, None);
        match action {
            Some(Action::EjectSlow { server, .. } | Action::Pause { server }) => (least, emptied) = (0.0, Some(server)),
            Some(Action::Try { server }) if self.tried[server] > PATIENT => least = 0.0,
            Some(Action::Try { .. } | Action::Return { .. }) => return Vec::new(),
            _ => {}
        }
        let falls = |server: usize| had[server] - has[server] > least && (has[server] > 0.0 || emptied == Some(server));
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
pub(in crate::monitor) mod tests {
    use super::*;

    /// A service with so many servers, whose open connections stay where they are.
    pub(in crate::monitor) fn service(name: &str, servers: usize) -> Service {
        Service {
            name: name.into(),
            matches: "100.100.100.100:80 tcp".parse().unwrap(),
            servers: (1..=servers).map(|n| format!("20.0.0.{n}:80").parse().unwrap()).collect(),
            open_connections: Redivert::Drain,
            rebalance: false,
            slow: 0,
            most_moved: 20,
            dwell: Duration::from_secs(3),
        }
    }

    /// Three servers that have been equally fast for five seconds, with five open connections each.
    fn state(open_connections: Redivert, rebalance: bool) -> (State, u64) {
        let service = Service { open_connections, rebalance, slow: 4, ..service("web", 3) };
        let mut state = State::new(service, 0, Pins::default());
        let (mut weights, mut connections) = (Each::default(), Each::default());
        weights[..3].fill(10_000);
        connections[..3].fill(5);
        state.adopt(&weights);
        state.connections = connections;
        state.demand(Timestamp::UNIX_EPOCH, &[]);
        let changes = (0..20).filter_map(|quarter| tick(&mut state, quarter, FAST)).count();
        assert_eq!(changes, 0);
        (state, 20)
    }

    const FAST: Observation = Observation { answered: 30, response: Duration::from_millis(300), ..Observation::NONE };
    const SLOW: Observation = Observation { answered: 3, response: Duration::from_millis(900), ..Observation::NONE };
    const HANGING: Observation =
        Observation { waiting: 5, waited: Duration::from_secs(2), silent: Duration::from_millis(400), ..Observation::NONE };

    /// A quarter of a second in which this was seen of the first server.
    fn tick(state: &mut State, quarter: u64, first: Observation) -> Option<Change> {
        let mut seen = [Observation::NONE; MAX_SERVERS];
        (seen[0], seen[1], seen[2]) = (first, FAST, FAST);
        state.tick(Instant::from_millis(1_000 + 250 * quarter), &seen)
    }

    /// The next change that takes all from the first server.
    fn emptied(state: &mut State, from: u64, first: Observation) -> Change {
        let change = (from..from + 40).filter_map(|quarter| tick(state, quarter, first)).find(|change| change.weights[0] == 0);
        change.expect("it is ejected")
    }

    #[test]
    fn connections_of_a_slow_server_go_where_the_rule_says_or_to_the_best() {
        let (mut state, now) = state(Redivert::HandOver, true);
        let change = emptied(&mut state, now, SLOW);
        assert_eq!((change.falling, change.moves), (vec![0], vec![]));
        let (mut state, now) = self::state(Redivert::Reset, false);
        let change = emptied(&mut state, now, SLOW);
        assert!(change.falling.is_empty() && matches!(change.moves[..], [(0, 1 | 2)]), "{change:?}");
        let (mut state, now) = self::state(Redivert::Drain, false);
        let change = emptied(&mut state, now, SLOW);
        assert!(change.falling.is_empty() && change.moves.is_empty(), "{change:?}");
    }

    /// A hand-over for sharing anew would take back that connections which cannot be handed over are reset.
    #[test]
    fn connections_move_in_one_way() {
        let (mut state, now) = state(Redivert::HandOverOrReset, true);
        let change = emptied(&mut state, now, HANGING);
        assert!(change.falling.is_empty() && matches!(change.moves[..], [(0, 1 | 2)]), "{change:?}");
    }

    #[test]
    fn a_server_that_an_operator_drains_keeps_its_connections() {
        let (mut state, _) = state(Redivert::HandOver, true);
        state.pins.drained[0] = true;
        state.demand(Timestamp::UNIX_EPOCH, &[]);
        let change = state.apply("the operator", "drained").unwrap();
        assert_eq!((change.weights[0], change.falling, change.moves), (0, vec![], vec![]));
    }

    /// What one server may not have, another has to take, however slow it is.
    #[test]
    fn nothing_is_ejected_for_slowness_beside_a_pinned_share() {
        let (mut state, now) = state(Redivert::HandOver, true);
        state.pins.share[1] = Some(20);
        state.demand(Timestamp::UNIX_EPOCH, &[]);
        state.apply("the operator", "pinned");
        for quarter in now..now + 60 {
            let change = tick(&mut state, quarter, SLOW);
            assert!(change.is_none_or(|change| change.weights[0] != 0), "{quarter}");
        }
    }
}
