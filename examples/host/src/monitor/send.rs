//! What is sent to translators, and what comes of it.

use core::time::Duration;
use std::collections::BTreeMap;

use byway::control::{Effect, Instruction, Request};
use byway::{Instant, Match, Prefix, Redivert, Target, Weighted};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::link::{Ask, NotMade};
use super::listed::Listed;
use super::results::Results;
use super::rules::{Each, Pins};
use super::run::{PATIENCE, Run, SETTLED, Sent, Undo};
use super::service::{Change, State, is_same};

/// For how long a change that a translator has refused is not requested again; twice as long after each further refusal in a row.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How many times that is doubled at most.
const MOST_DOUBLED: u32 = 4;
/// If a request has more changes than this, only their number is told.
const MOST_TOLD: usize = 4;
/// How many decisions back can be undone.
const MOST_UNDONE: usize = 1_000;

impl Run {
    /// The rules for some clients that a service's rules demand. Of two for the same clients the earlier one holds.
    fn extra_of(&self, service: usize, weights: &Each<u16>) -> BTreeMap<Match, Vec<Weighted>> {
        let State { service, demands, .. } = &self.services[service];
        let mut all = BTreeMap::new();
        for (clients, servers, _) in &demands.clients {
            // What a single server weighs does not matter, and need not be told anew.
            let any = servers.len() > 1 && servers.iter().any(|server| weights[*server] != 0);
            let weight = |server: usize| if any { weights[server] } else { 1 };
            let group: Vec<_> =
                servers.iter().map(|s| Weighted { target: service.servers[*s].target, weight: weight(*s) }).collect();
            for clients in clients.iter() {
                all.entry(service.matches.clients(*clients)).or_insert_with(|| group.clone());
            }
        }
        all
    }

    /// The instructions that give a translator the rules for some clients that it lacks, and remove those that it has too many:
    /// only rules in the form of a monitor, with servers of the service alone. Rules that somebody else has set stay.
    pub(super) fn extra_changes(&self, place: usize, service: usize, weights: &Each<u16>) -> Vec<Instruction> {
        let (link, state) = (&self.links[place], &self.services[service].service);
        let mut wanted = self.extra_of(service, weights);
        let mut changes = Vec::new();
        let of_service = |rule: &Listed| {
            let is_part = rule.matches.clients(Prefix::ALL) == state.matches.clients(Prefix::ALL);
            is_part && self.services.iter().all(|other| other.service.matches != rule.matches)
        };
        for rule in link.rules.iter().flatten().filter(|rule| of_service(rule)) {
            let is_own = |server: &Weighted| state.servers.iter().any(|own| own.target == server.target);
            match wanted.remove(&rule.matches) {
                Some(group) if rule.options.least_loaded && is_same_group(&rule.servers, &group) => {}
                Some(group) => changes.extend(rule.with(rule.matches, &group)),
                None if rule.options.least_loaded && rule.servers.iter().all(is_own) => changes.push(Instruction::Remove(rule.matches)),
                None => {}
            }
        }
        let listed = link.rule(&state.matches).cloned().unwrap_or_else(|| Listed::new(state.matches));
        changes.extend(wanted.iter().filter_map(|(matches, group)| listed.with(*matches, group)));
        changes
    }

    /// Gives translators the rules for some clients that they lack, and removes those that are left over: where the rules were
    /// read anew, and everywhere when the rules in force have changed.
    pub(super) fn keep_extra(&mut self) {
        for service in 0..self.services.len() {
            if self.extra[service] != self.services[service].demands.clients {
                self.extra[service].clone_from(&self.services[service].demands.clients);
                self.unchecked.fill(true);
            }
        }
        for place in 0..self.links.len() {
            if !self.unchecked[place] || !self.acts_at(place) || self.links[place].rules.is_none() {
                continue;
            }
            let is_settled = |service: usize| !self.is_pending_at(place, service) && self.refused[service].is_none();
            if !(0..self.services.len()).all(is_settled) {
                continue;
            }
            self.unchecked[place] = false;
            for service in 0..self.services.len() {
                let Some(weights) = self.services[service].in_force else { continue };
                let count = self.extra_changes(place, service, &weights).len();
                if count != 0 {
                    let name = &self.links[place].translator.name;
                    let text = format!("{}: {name}: {count} rules for some clients begin, change or end", self.services[service].service.name);
                    self.start_with(service, weights, weights, "rules", &text);
                }
            }
        }
    }

    /// Reads the rules again where something was refused a while ago, so that what is still wanted is asked for again.
    pub(super) fn ask_again(&mut self) {
        let now = self.now();
        for service in 0..self.services.len() {
            if self.refused[service].is_some_and(|until| now >= until) {
                self.refused[service] = None;
                self.links.iter_mut().filter(|link| link.is_open()).for_each(super::link::Link::list);
            }
        }
    }

    /// Whether a change to a service was sent so lately that what a translator says may be older.
    pub(super) fn is_pending(&self, service: usize) -> bool {
        self.now().duration_since(self.told[service]) < SETTLED
    }

    /// The same, or this translator has not answered a change yet.
    pub(super) fn is_pending_at(&self, place: usize, service: usize) -> bool {
        // A change that is no longer waited for, but is sent all the same, may be of any service.
        let is_of = |number| self.sent.get(&number).is_none_or(|sent| sent.service == service && sent.decision.is_some());
        self.is_pending(service) || self.links[place].is_to_change(is_of)
    }

    /// Looks at the rules that were listed while a change was under way, once that must have arrived.
    pub(super) fn read_again(&mut self) {
        for place in 0..self.links.len() {
            let is_settled = |service| !self.is_pending_at(place, service);
            let is_due = self.unread[place] && self.links[place].rules.is_some();
            if is_due && (0..self.services.len()).all(is_settled) {
                self.listed(place);
            }
        }
    }

    /// The requests that make a change on a translator. A re-divert puts the new server in the place of the old one in the rule,
    /// so the rule is sent again after it.
    pub(super) fn requests(&self, place: usize, service: usize, change: &Change) -> Vec<Request> {
        let (link, state) = (&self.links[place], &self.services[service]);
        let matches = state.service.matches;
        let listed = link.rule(&matches).cloned().unwrap_or_else(|| Listed::new(matches));
        let group: Vec<_> = (0..state.len())
            .map(|server| Weighted { target: state.service.servers[server].target, weight: change.weights[server] })
            .collect();
        let Some(main) = listed.with(matches, &group) else { return Vec::new() };
        let mut first = vec![main];
        first.extend(self.extra_changes(place, service, &change.weights));
        let target = |server: usize| state.service.servers[server].target;
        let moves: Vec<_> = change
            .moves
            .iter()
            .map(|(from, to)| Instruction::Redivert { from: target(*from), to: target(*to), how: change.how })
            .collect();
        let mut all = split(first);
        if !moves.is_empty() {
            all.extend(split(moves));
            all.extend(split(vec![main]));
        }
        // A request of its own: the weights hold also where this is refused.
        if listed.options.resumable {
            all.extend(split(change.falling.iter().filter_map(|server| share_anew(target(*server))).collect()));
        }
        all
    }

    /// Asks all translators that can be asked for a change, or only what it would do; returns how many answers there will be.
    pub(super) fn ask_all(&mut self, service: usize, change: &Change, number: u64, is_preview: bool) -> usize {
        // The requests after a re-divert only repair what it changes in the rule.
        let most = if is_preview && !change.moves.is_empty() { 2 } else { usize::MAX };
        let mut open = 0;
        for place in 0..self.links.len() {
            if !self.acts_at(place) || self.links[place].rules.is_none() {
                continue;
            }
            for request in self.requests(place, service, change).into_iter().take(most) {
                let request = if is_preview { request.dry_run() } else { request };
                self.links[place].ask(Ask::Change(number), request);
                open += 1;
            }
        }
        open
    }

    /// Cancels the parts of earlier changes to a service that are not sent yet: the next change replaces them. So no more than
    /// one change waits, however slowly a translator answers.
    fn supersede(&mut self, service: usize) {
        for place in 0..self.links.len() {
            let mut heard = Vec::new();
            let sent = &self.sent;
            let is_void = |number: u64| {
                sent.get(&number).is_some_and(|sent| sent.service == service && sent.decision.is_some() && !sent.has_moves)
            };
            self.links[place].take_back(is_void, "a later change has taken its place", &mut heard);
            heard.into_iter().for_each(|heard| self.hear(place, heard));
        }
    }

    /// Stores a change, and sends it.
    pub(super) fn carry_out(&mut self, service: usize, change: Change, pins: Option<Pins>) -> u64 {
        let now = self.now();
        let state = &self.services[service];
        let undo = Undo { service, pins, weights: weights_of(state, &change.entry["before"]) };
        let mut entry = change.entry.clone();
        entry["time"] = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string().into();
        entry["dry_run"] = self.config.dry_run.into();
        let mut number = 0;
        let mut open = 0;
        if !self.config.dry_run {
            self.supersede(service);
            self.changes += 1;
            number = self.changes;
            open = self.ask_all(service, &change, number, false);
            self.told[service] = now;
        }
        if self.config.dry_run {
            // Everything stays as it is, and is proposed once.
            let before = undo.weights;
            self.services[service].adopt(&before);
            if self.proposed[service].replace(change.weights).is_some_and(|last| is_same(&last, &change.weights)) {
                return 0;
            }
        }
        tracing::info!("{}", entry["text"].as_str().unwrap_or_default());
        let decision = self.journal.decide(entry);
        self.undo.insert(decision, undo);
        while self.undo.len() > MOST_UNDONE {
            self.undo.pop_first();
        }
        if open != 0 {
            let until = now + PATIENCE * 10;
            // What empties a server must not be lost, or its connections stay there.
            let empties = change.falling.iter().any(|server| change.weights[*server] == 0);
            let (results, has_moves) = (Results::default(), !change.moves.is_empty() || empties);
            let (decision, reply) = (Some(decision), None);
            let sent = Sent { service, open, results, decision, reply, is_refused: false, is_made: true, has_moves, until };
            self.sent.insert(number, sent);
        }
        if let Some(promised) = change.promised
            && !self.config.dry_run
        {
            self.awaited.push((service, promised, decision));
        }
        decision
    }

    pub(super) fn changed(&mut self, number: u64, name: &str, result: Result<Vec<Effect>, NotMade>) {
        let Some(sent) = self.sent.get_mut(&number) else { return };
        sent.open = sent.open.saturating_sub(1);
        sent.is_made &= result.is_ok();
        // A preview that is refused changes nothing that is to be done.
        if let Err(NotMade { was_late, .. }) = &result
            && sent.decision.is_some()
        {
            // Where somebody else was faster, what the translator has instead is looked at at once. What it refuses for
            // another reason it would refuse again.
            if let (Some(told), Some(refused)) = (self.told.get_mut(sent.service), self.refused.get_mut(sent.service)) {
                if *was_late {
                    *told = Instant::ZERO;
                } else {
                    let count = self.refusals.get(sent.service).copied().unwrap_or(0);
                    let wait = REFUSED_FOR * (1 << count.min(MOST_DOUBLED));
                    *refused = Some(Instant::from_secs(1) + self.start.elapsed() + wait);
                    sent.is_refused = true;
                }
            }
        }
        let why = result.as_ref().err().map(|not_made| not_made.why.clone());
        let is_new = sent.results.add(match result {
            Ok(effects) if effects.len() > MOST_TOLD => {
                let connections: u64 = effects.iter().map(|effect| u64::from(effect.connections)).sum();
                format!("{name}: {} changes made, connections: {connections}", effects.len())
            }
            Ok(effects) => {
                let words: Vec<_> =
                    effects.iter().map(|effect| format!("{}, connections: {}", effect.outcome.name(), effect.connections)).collect();
                format!("{name}: {}", words.join("; "))
            }
            Err(NotMade { why, .. }) => format!("{name}: {why}"),
        });
        if let Some(why) = why.filter(|_| is_new && sent.decision.is_some()) {
            tracing::warn!("{name}: a change was not made: {why}");
        }
        if sent.open == 0 {
            self.finish(number);
        }
    }

    pub(super) fn finish(&mut self, number: u64) {
        let Some(Sent { service, open, results, decision, reply, is_refused, is_made, .. }) = self.sent.remove(&number) else { return };
        if let Some((reply, mut told)) = reply {
            told["translators"] = json!(results.lines());
            let _ = reply.send(Ok(told));
        }
        if let Some(decision) = decision {
            // What was taken back or not answered says nothing about what would be refused.
            if is_refused {
                self.refusals[service] = self.refusals[service].saturating_add(1);
            } else if is_made && open == 0 {
                self.refusals[service] = 0;
            }
            self.journal.note_sent(decision, &results.lines());
        }
    }

    /// Stops waiting for answers that take too long, and cancels the parts of such changes that are not sent yet, since no later
    /// change could. What moves connections is sent all the same.
    pub(super) fn give_up(&mut self) {
        let now = self.now();
        let late: Vec<_> = self.sent.iter().filter(|(_, sent)| sent.until < now).map(|(number, sent)| (*number, sent.is_void(), sent.decision.is_some())).collect();
        for (number, is_void, is_change) in late {
            for place in (0..self.links.len()).filter(|_| is_void) {
                let mut heard = Vec::new();
                self.links[place].take_back(|queued| queued == number, "it took too long", &mut heard);
                if is_change && !heard.is_empty() {
                    // The part of the change that it has made stays; the rest is requested again, based on the rules that it has
                    // then.
                    self.links[place].list();
                }
                heard.into_iter().for_each(|heard| self.hear(place, heard));
            }
            self.finish(number);
        }
    }
}

/// Hands the connections of a server over to where their rules would send them now: a re-divert to the server's own address,
/// which changes no rule. `None` for a server without a port of its own, which has no other name.
fn share_anew(server: Target) -> Option<Instruction> {
    match server {
        Target::Endpoint(endpoint) => {
            Some(Instruction::Redivert { from: server, to: Target::Address(*endpoint.ip()), how: Redivert::HandOver })
        }
        _ => None,
    }
}

fn weights_of(state: &State, named: &Value) -> Each<u16> {
    let mut weights = state.in_force.unwrap_or_default();
    for (server, weight) in weights.iter_mut().enumerate().take(state.len()) {
        *weight = named[state.name(server)].as_u64().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(*weight);
    }
    weights
}

/// Whether both have the same servers with the same weights, in any order.
fn is_same_group(one: &[Weighted], other: &[Weighted]) -> bool {
    one.len() == other.len() && one.iter().all(|server| other.contains(server))
}

/// Packs instructions into as few requests as possible.
fn split(instructions: Vec<Instruction>) -> Vec<Request> {
    let mut all: Vec<Request> = Vec::new();
    for instruction in instructions {
        match all.last().map(|last| last.and(instruction)) {
            Some(Ok(longer)) => {
                all.pop();
                all.push(longer);
            }
            _ => all.push(Request::one(instruction)),
        }
    }
    all
}
