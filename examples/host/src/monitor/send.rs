//! What is sent to translators, and what comes of it.

use core::time::Duration;

use byway::control::{Effect, Instruction, Request};
use byway::{Instant, Match, Prefix, Weighted};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::link::{Ask, NotMade};
use super::listed::Listed;
use super::rules::{Each, Pins};
use super::run::{PATIENCE, Run, Sent, Undo};
use super::service::{Change, State, is_same};

/// For how long what a translator has refused is not asked of it again.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How many decisions back can be undone.
const MOST_UNDONE: usize = 1_000;

impl Run {
    pub(super) fn extra_of(&self, service: usize, weights: &Each<u16>) -> Vec<(Match, Vec<Weighted>)> {
        let state = &self.services[service];
        let one = |(clients, servers, _): &(Prefix, Vec<usize>, String)| {
            let any = servers.iter().any(|server| weights[*server] != 0);
            let weight = |server: usize| if any { weights[server] } else { 1 };
            let servers = servers.iter().map(|s| Weighted { target: state.service.servers[*s].target, weight: weight(*s) });
            (state.service.matches.clients(*clients), servers.collect())
        };
        state.demands.clients.iter().map(one).collect()
    }

    /// The requests that make a change on a translator. A re-divert puts the new server in the place of the old one in the
    /// rule, so the rule is told once more after it.
    pub(super) fn requests(&self, place: usize, service: usize, change: &Change) -> Vec<Request> {
        let (link, state) = (&self.links[place], &self.services[service]);
        let matches = state.service.matches;
        let listed = link.rule(&matches).cloned().unwrap_or_else(|| Listed::new(matches));
        let group: Vec<_> = (0..state.len())
            .map(|server| Weighted { target: state.service.servers[server].target, weight: change.weights[server] })
            .collect();
        let Some(main) = listed.with(matches, &group) else { return Vec::new() };
        let mut first = vec![main];
        let extra = self.extra_of(service, &change.weights);
        first.extend(extra.iter().filter_map(|(matches, group)| listed.with(*matches, group)));
        let gone = self.extra[service].iter().filter(|old| extra.iter().all(|(new, _)| new != *old));
        first.extend(gone.map(|old| Instruction::Remove(*old)));
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
        all
    }

    /// Asks all translators that can be asked for a change, or only what it would do; returns how many answers there will be.
    pub(super) fn ask_all(&mut self, service: usize, change: &Change, number: u64, is_preview: bool) -> usize {
        // What comes after a re-divert only makes good what it changes in the rule.
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
            self.changes += 1;
            number = self.changes;
            open = self.ask_all(service, &change, number, false);
            self.extra[service] = self.extra_of(service, &change.weights).into_iter().map(|(matches, _)| matches).collect();
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
            let sent = Sent { service, open, results: Vec::new(), decision: Some(decision), reply: None, until: now + PATIENCE * 10 };
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
        if let Err(NotMade { why, was_late }) = &result {
            // Where somebody else was faster, what the translator has instead is looked at at once. What it refuses for
            // another reason it would refuse again.
            let later = Instant::ZERO + self.start.elapsed() + REFUSED_FOR;
            if let Some(told) = self.told.get_mut(sent.service) {
                *told = if *was_late { Instant::ZERO } else { later };
            }
            tracing::warn!("{name}: a change was not made: {why}");
        }
        sent.results.push(match result {
            Ok(effects) => {
                let words: Vec<_> =
                    effects.iter().map(|effect| format!("{}, connections: {}", effect.outcome.name(), effect.connections)).collect();
                format!("{name}: {}", words.join("; "))
            }
            Err(NotMade { why, .. }) => format!("{name}: {why}"),
        });
        if sent.open == 0 {
            self.finish(number);
        }
    }

    pub(super) fn finish(&mut self, number: u64) {
        let Some(Sent { results, decision, reply, .. }) = self.sent.remove(&number) else { return };
        if let Some((reply, mut told)) = reply {
            told["translators"] = json!(results);
            let _ = reply.send(Ok(told));
        }
        if let Some(decision) = decision {
            self.journal.note_sent(decision, &results);
        }
    }

    pub(super) fn give_up(&mut self) {
        let now = self.now();
        let late: Vec<u64> = self.sent.iter().filter(|(_, sent)| sent.until < now).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| self.finish(number));
    }
}

fn weights_of(state: &State, named: &Value) -> Each<u16> {
    let mut weights = state.in_force.unwrap_or_default();
    for (server, weight) in weights.iter_mut().enumerate().take(state.len()) {
        *weight = named[state.name(server)].as_u64().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(*weight);
    }
    weights
}

/// As few requests as hold these instructions.
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
