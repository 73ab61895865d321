//! The monitor at work: it listens to translators, decides, sends instructions, and does what an operator says.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use byway::control::{Effect, Instruction, Request};
use byway::monitor::{Distrust, Observation};
use byway::{Instant, Match, Prefix, Redivert, Target, Weighted};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::journal::Journal;
use super::link::{Ask, Heard, Link, Listed};
use super::rules::{Each, Pins};
use super::service::{Change, State, is_same};
use super::shared::Shared;
use crate::config::monitor::{Monitor, Service};
use crate::waker::Waker;

/// How often the page is told what there is.
const SHOWN_EVERY: Duration = Duration::from_millis(500);
/// How long a preview waits for translators.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long weights that a translator reports may differ from those that it was told.
const SETTLED: Duration = Duration::from_secs(2);

/// What an operator wants, and where the answer goes.
#[derive(Debug)]
pub struct Order {
    /// A JSON object: `do`, `service`, `server`, and what else it takes.
    pub command: Value,
    /// Where the answer goes.
    pub reply: Sender<Result<Value, String>>,
}

/// What other threads want.
#[derive(Debug)]
pub enum Wanted {
    /// An operator's command.
    Order(Order),
    /// The file is to be read anew.
    Reload,
    /// The end.
    Stop,
}

/// A change that translators were asked for.
#[derive(Debug)]
struct Sent {
    service: usize,
    /// How many have not answered yet.
    open: usize,
    results: Vec<String>,
    /// The number in the journal; none for a preview.
    decision: Option<u64>,
    /// Who waits for a preview, with what is to be added to it.
    reply: Option<(Sender<Result<Value, String>>, Value)>,
    until: Instant,
}

/// What must be known to take a decision back.
#[derive(Clone, Debug)]
struct Undo {
    service: usize,
    pins: Pins,
    weights: Each<u16>,
}

/// The monitor.
#[derive(Debug)]
pub struct Run {
    file: PathBuf,
    config: Monitor,
    links: Vec<Link>,
    services: Vec<State>,
    journal: Journal,
    start: std::time::Instant,
    /// By service and server: what was seen since the last tick, by translator and position.
    fresh: HashMap<(usize, usize), HashMap<(usize, u32), Observation>>,
    /// The connections that each entry had last.
    connections: HashMap<(usize, usize), HashMap<(usize, u32), u32>>,
    /// Which translators have sent a whole report since the last tick.
    rounds: HashSet<usize>,
    ticked: Instant,
    shown: Instant,
    sent: HashMap<u64, Sent>,
    changes: u64,
    /// When weights were last sent, by service.
    told: Vec<Instant>,
    /// Rules of their own for some clients, by service.
    extra: Vec<Vec<Match>>,
    /// What was proposed last in a dry run, by service.
    proposed: Vec<Option<Each<u16>>>,
    /// The model's decisions whose outcome is awaited: service, its number, and that in the journal.
    awaited: Vec<(usize, u32, u64)>,
    undo: HashMap<u64, Undo>,
    /// Reloads that were refused.
    refused_reloads: u64,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
}

impl Run {
    /// A monitor that has heard nothing yet.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub fn new(file: PathBuf, config: Monitor, shared: Arc<Shared>, waker: Arc<Waker>) -> Result<Self, String> {
        let journal = Journal::open(&config.journal)
            .map_err(|error| format!("monitor.journal {}: {error}", config.journal.display()))?;
        let servers: HashSet<Target> =
            config.services.iter().flat_map(|service| &service.servers).map(|server| server.target).collect();
        let links = config.translators.iter().map(|t| Link::new(t.clone(), config.interval, servers.clone())).collect();
        let state = |(place, service): (usize, &Service)| {
            let pins = journal.pins(&service.name).map_or_else(Pins::default, |pins| Pins::of(pins, service));
            State::new(service.clone(), place, pins)
        };
        let services: Vec<_> = config.services.iter().enumerate().map(state).collect();
        let count = services.len();
        Ok(Self {
            links,
            services,
            journal,
            start: std::time::Instant::now(),
            fresh: HashMap::new(),
            connections: HashMap::new(),
            rounds: HashSet::new(),
            ticked: Instant::ZERO,
            shown: Instant::ZERO,
            sent: HashMap::new(),
            changes: 0,
            told: vec![Instant::ZERO; count],
            extra: vec![Vec::new(); count],
            proposed: vec![None; count],
            awaited: Vec::new(),
            undo: HashMap::new(),
            refused_reloads: 0,
            file,
            config,
            shared,
            waker,
        })
    }

    fn now(&self) -> Instant {
        // Zero means "never" to the model.
        Instant::from_secs(1) + self.start.elapsed()
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(mut self, wanted: &Receiver<Wanted>) -> std::io::Result<()> {
        loop {
            self.waker.will_sleep();
            for wanted in wanted.try_iter() {
                match wanted {
                    Wanted::Stop => return Ok(()),
                    Wanted::Reload => self.reload(),
                    Wanted::Order(Order { command, reply }) => self.obey(&command, reply),
                }
            }
            let mut heard = Vec::new();
            for place in 0..self.links.len() {
                let now = self.now();
                self.links[place].poll(now, &mut heard);
                for heard in heard.drain(..) {
                    self.hear(place, heard);
                }
            }
            self.tick();
            self.give_up();
            self.show();
            self.sleep()?;
            self.waker.is_awake();
        }
    }

    fn sleep(&self) -> std::io::Result<()> {
        let now = self.now();
        let next = self.links.iter().map(Link::poll_at).min().unwrap_or(now);
        let next = next.min(now + SHOWN_EVERY).min(self.ticked + self.config.interval * 2);
        let wait = next.duration_since(now).max(Duration::from_millis(1));
        let mut fds: Vec<_> = self.links.iter().filter_map(Link::socket).map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let waker = self.waker.as_fd();
        fds.push(PollFd::new(&waker, PollFlags::IN));
        match poll(&mut fds, Timespec::try_from(wait).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&mut self, place: usize, heard: Heard) {
        let name = self.links[place].translator.name.clone();
        match heard {
            Heard::Opened => tracing::info!("{name}: the session is open"),
            Heard::Lost(why) => {
                tracing::warn!("{name}: {why}");
                self.connections.values_mut().for_each(|each| each.retain(|(link, _), _| *link != place));
            }
            Heard::Round => {
                self.rounds.insert(place);
            }
            Heard::Listed => self.listed(place),
            Heard::Changed(number, result) => self.changed(number, &name, result),
            Heard::Server { target, weight, position, seen, times, connections } => {
                let now = self.now();
                for service in 0..self.services.len() {
                    let servers = &self.services[service].service.servers;
                    let Some(server) = servers.iter().position(|server| server.target == target) else { continue };
                    if let Some(seen) = seen {
                        let each = self.fresh.entry((service, server)).or_default();
                        each.entry((place, position)).and_modify(|before| before.add(&seen)).or_insert(seen);
                        self.services[service].note_times(now, server, &times);
                    }
                    self.connections.entry((service, server)).or_default().insert((place, position), connections);
                    let told = self.services[service].in_force.map(|weights| weights[server]);
                    let is_alone = self.services.len() == 1 && self.extra[service].is_empty();
                    if is_alone && told.is_some_and(|told| told != weight) && now.duration_since(self.told[service]) > SETTLED {
                        // Somebody else has changed them.
                        self.links[place].list();
                    }
                }
            }
        }
    }

    /// The rules of a translator are known: its weights are taken over, or it is given those that the others have.
    fn listed(&mut self, place: usize) {
        for service in 0..self.services.len() {
            let time = Timestamp::now();
            self.services[service].demand(time, &self.config.rules);
            let matches = self.services[service].service.matches;
            let Some(rule) = self.links[place].rule(&matches).cloned() else {
                let weights = self.services[service].in_force.unwrap_or_else(|| configured(&self.services[service].service));
                self.services[service].adopt(&weights);
                let name = &self.links[place].translator.name;
                let text = format!("{}: {name} has no rule for it, and gets one", self.services[service].service.name);
                self.start_with(service, weights, weights, "the start", &text);
                continue;
            };
            let mut weights: Each<u16> = Default::default();
            let servers = &self.services[service].service.servers;
            for (weight, server) in weights.iter_mut().zip(servers) {
                *weight = rule.servers.iter().find(|listed| listed.target == server.target).map_or(0, |listed| listed.weight);
            }
            let others = rule.servers.iter().any(|listed| servers.iter().all(|server| server.target != listed.target));
            let before = self.services[service].in_force;
            if before == Some(weights) && !others {
                continue;
            }
            if before.is_some() && self.is_pending(service) {
                // It will say so when it has applied what it was asked for.
                continue;
            }
            match before {
                // The first translator that is heard says what holds.
                None => {
                    self.services[service].adopt(&weights);
                    let name = self.services[service].service.name.clone();
                    if let Some(revived) = self.services[service].revive(&weights) {
                        self.services[service].adopt(&revived);
                        let text = format!("{name}: servers without a weight get a small one, since nobody has forbidden them");
                        self.start_with(service, weights, revived, "the start", &text);
                    } else if !rule.least_loaded {
                        let text = format!("{name}: new connections go to the server with the fewest for its weight");
                        self.start_with(service, weights, weights, "the start", &text);
                    }
                }
                Some(_) if self.links.len() == 1 => {
                    tracing::warn!("{}: somebody else has changed the weights", self.services[service].service.name);
                    self.services[service].adopt(&weights);
                }
                // Of several translators one has other weights: it was restarted, or somebody has changed it alone.
                Some(held) => {
                    let name = self.links[place].translator.name.clone();
                    let text = format!("{}: {name} gets the weights that the others have", self.services[service].service.name);
                    self.start_with(service, weights, held, "another translator", &text);
                }
            }
        }
    }

    fn is_pending(&self, service: usize) -> bool {
        self.now().duration_since(self.told[service]) < SETTLED
    }

    fn start_with(&mut self, service: usize, before: Each<u16>, weights: Each<u16>, cause: &str, text: &str) {
        let state = &self.services[service];
        let entry = json!({
            "service": state.service.name, "cause": cause, "text": text,
            "before": state.named(&before), "after": state.named(&weights),
        });
        let how = state.service.open_connections;
        self.carry_out(service, Change { weights, moves: Vec::new(), how, entry, promised: None }, None);
    }

    /// Decides, once each translator has sent a report, or would have.
    fn tick(&mut self) {
        let now = self.now();
        let open = self.links.iter().filter(|link| link.is_open()).count();
        let all = open != 0 && self.rounds.len() >= open;
        let late = now.duration_since(self.ticked) > self.config.interval.mul_f64(1.8);
        if !all && !late {
            return;
        }
        self.ticked = now;
        let heard = !self.rounds.is_empty();
        self.rounds.clear();
        let fresh = core::mem::take(&mut self.fresh);
        let time = Timestamp::now();
        for service in 0..self.services.len() {
            let mut seen = [Observation::NONE; byway::control::MAX_SERVERS];
            for (server, seen) in seen.iter_mut().enumerate() {
                fresh.get(&(service, server)).into_iter().flatten().for_each(|(_, one)| seen.merge(one));
                let connections = self.connections.get(&(service, server)).into_iter().flatten();
                self.services[service].connections[server] = connections.map(|(_, count)| *count).sum();
            }
            self.services[service].demand(time, &self.config.rules);
            if heard && let Some(change) = self.services[service].tick(now, &seen) {
                self.carry_out(service, change, None);
            } else {
                self.keep_extra(service);
            }
        }
        let mut awaited = core::mem::take(&mut self.awaited);
        awaited.retain(|(service, number, entry)| match self.services[*service].outcome(*number) {
            Some(outcome) => {
                self.journal.note_outcome(*entry, outcome);
                false
            }
            None => true,
        });
        self.awaited = awaited;
    }

    /// Rules for some clients come and go with their hours.
    fn keep_extra(&mut self, service: usize) {
        let Some(weights) = self.services[service].in_force else { return };
        let wanted: Vec<Match> = self.extra_of(service, &weights).iter().map(|(matches, _)| *matches).collect();
        if wanted != self.extra[service] {
            let text = format!("{}: rules for some clients begin or end", self.services[service].service.name);
            self.start_with(service, weights, weights, "rules", &text);
        }
    }

    fn extra_of(&self, service: usize, weights: &Each<u16>) -> Vec<(Match, Vec<Weighted>)> {
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
    fn requests(&self, place: usize, service: usize, change: &Change) -> Vec<Request> {
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

    /// Stores a change, and sends it.
    fn carry_out(&mut self, service: usize, change: Change, pins: Option<Pins>) -> u64 {
        let now = self.now();
        let state = &self.services[service];
        let undo = Undo { service, pins: pins.unwrap_or_else(|| state.pins.clone()), weights: weights_of(state, &change.entry["before"]) };
        let mut entry = change.entry.clone();
        entry["time"] = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string().into();
        entry["dry_run"] = self.config.dry_run.into();
        let mut number = 0;
        let mut open = 0;
        if !self.config.dry_run {
            self.changes += 1;
            number = self.changes;
            for place in 0..self.links.len() {
                if !self.links[place].is_open() || self.links[place].rules.is_none() {
                    continue;
                }
                for request in self.requests(place, service, &change) {
                    self.links[place].ask(Ask::Change(number), request);
                    open += 1;
                }
            }
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

    fn changed(&mut self, number: u64, name: &str, result: Result<Vec<Effect>, String>) {
        let Some(sent) = self.sent.get_mut(&number) else { return };
        sent.open = sent.open.saturating_sub(1);
        if let Err(why) = &result {
            // What the translator has instead is looked at at once.
            if let Some(told) = self.told.get_mut(sent.service) {
                *told = Instant::ZERO;
            }
            tracing::warn!("{name}: a change was not made: {why}");
        }
        sent.results.push(match result {
            Ok(effects) => {
                let words: Vec<_> =
                    effects.iter().map(|effect| format!("{}, connections: {}", effect.outcome.name(), effect.connections)).collect();
                format!("{name}: {}", words.join("; "))
            }
            Err(why) => format!("{name}: {why}"),
        });
        if sent.open == 0 {
            self.finish(number);
        }
    }

    fn finish(&mut self, number: u64) {
        let Some(Sent { results, decision, reply, .. }) = self.sent.remove(&number) else { return };
        if let Some((reply, mut told)) = reply {
            told["translators"] = json!(results);
            let _ = reply.send(Ok(told));
        }
        if let Some(decision) = decision {
            self.journal.note_sent(decision, &results);
        }
    }

    fn give_up(&mut self) {
        let now = self.now();
        let late: Vec<u64> = self.sent.iter().filter(|(_, sent)| sent.until < now).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| self.finish(number));
    }

    /// Reads the file anew: all of it holds, or nothing of it.
    fn reload(&mut self) {
        let read = Monitor::read(&self.file).map_err(|error| error.to_string());
        let new = read.and_then(|new| new.check_reload(&self.config).map(|()| new));
        match new {
            Ok(new) => {
                for (state, service) in self.services.iter_mut().zip(&new.services) {
                    state.configure(service.clone());
                }
                self.config = new;
                tracing::info!("the configuration was read anew: {} rules", self.config.rules.len());
            }
            Err(why) => {
                self.refused_reloads += 1;
                tracing::error!("the configuration stays as it was: {why}");
            }
        }
    }

    fn show(&mut self) {
        let now = self.now();
        if now.duration_since(self.shown) < SHOWN_EVERY {
            return;
        }
        self.shown = now;
        let translators = self.links.iter().map(|link| {
            let odd = &link.oddities;
            let distrusted = Distrust::ALL.iter().zip(odd.distrusted).filter(|(_, count)| *count != 0);
            json!({
                "name": link.translator.name,
                "at": link.translator.at.to_string(),
                "open": link.is_open(),
                "age": link.heard.map(|at| now.duration_since(at).as_secs_f64()),
                "missed": odd.missed,
                "unknown": odd.unknown,
                "malformed": odd.malformed,
                "distrusted": distrusted.map(|(why, count)| (why.text().to_string(), count.into())).collect::<serde_json::Map<_, _>>(),
            })
        });
        let state = json!({
            "dry_run": self.config.dry_run,
            "refused_reloads": self.refused_reloads,
            "journal": { "damaged": self.journal.damaged, "unwritten": self.journal.unwritten },
            "translators": translators.collect::<Vec<_>>(),
            "services": self.services.iter().map(State::show).collect::<Vec<_>>(),
            "decisions": self.journal.newest().take(50).collect::<Vec<_>>(),
        });
        self.shared.publish(state.to_string());
    }

    /// Does what an operator says, or says what it would do.
    fn obey(&mut self, command: &Value, reply: Sender<Result<Value, String>>) {
        match self.try_to_obey(command, &reply) {
            Ok(Some(done)) => drop(reply.send(Ok(done))),
            // The translators' answers come first.
            Ok(None) => {}
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn try_to_obey(&mut self, command: &Value, reply: &Sender<Result<Value, String>>) -> Result<Option<Value>, String> {
        let text = |field: &str| command[field].as_str().ok_or_else(|| format!("{field} is missing"));
        let what = text("do")?;
        let dry_run = command["dry_run"] == true;
        if what == "undo" {
            return self.undo(command, dry_run, reply);
        }
        let name = text("service")?;
        let service = self.services.iter().position(|state| state.service.name == name);
        let service = service.ok_or_else(|| format!("there is no service \"{name}\""))?;
        let state = &self.services[service];
        if state.in_force.is_none() {
            return Err("no translator has been heard yet".into());
        }
        let server = |field: &str| {
            let name = text(field)?;
            state.place_of(name).ok_or_else(|| format!("{name} is no server of \"{}\"", state.service.name))
        };
        let mut pins = state.pins.clone();
        let mut moves = Vec::new();
        let words = match what {
            "drain" => {
                pins.drained[server("server")?] = true;
                format!("the operator has drained {}", text("server")?)
            }
            "restore" => {
                let server = server("server")?;
                (pins.drained[server], pins.share[server]) = (false, None);
                format!("the operator has given {} back to the model", text("server")?)
            }
            "only" => {
                let server = server("server")?;
                (0..state.len()).for_each(|other| pins.drained[other] = other != server);
                format!("the operator wants all on {}", text("server")?)
            }
            "release" => {
                pins = Pins::default();
                "the operator leaves everything to the model".into()
            }
            "pin" => {
                let percent = command["share"].as_u64().filter(|share| *share <= 100);
                let percent = percent.ok_or("share must be a number from 0 to 100")? as u8;
                let server = server("server")?;
                pins.share[server] = Some(percent);
                let sum: u32 = pins.share.iter().flatten().map(|share| u32::from(*share)).sum();
                if sum > 100 {
                    return Err(format!("all pinned shares together would be {sum} %"));
                }
                format!("the operator has pinned {} to {percent} %", text("server")?)
            }
            "move" => {
                let (from, to) = (server("server")?, server("to")?);
                if from == to {
                    return Err("old and new server are the same".into());
                }
                pins.drained[from] = true;
                moves.push((from, to));
                format!("the operator moves open connections of {} to {}", text("server")?, text("to")?)
            }
            other => return Err(format!("there is no command \"{other}\"")),
        };
        if (0..state.len()).all(|server| pins.drained[server] || state.demands.excluded[server].as_ref().is_some_and(|by| by != "the operator")) {
            return Err(format!("\"{name}\" would have no server left"));
        }
        let how = match command["how"].as_str() {
            None if state.service.open_connections == Redivert::Drain => Redivert::Switch,
            None => state.service.open_connections,
            Some(word) => word.parse().map_err(|_| format!("how: \"{word}\" is no kind of re-divert"))?,
        };
        if dry_run {
            let weights = state.preview(Timestamp::now(), &self.config.rules, &pins);
            return self.preview(service, weights, moves, how, &words, reply);
        }
        Ok(Some(self.set_pins(service, pins, moves, how, &words)))
    }

    /// Sets pins, and sends what follows from them.
    fn set_pins(&mut self, service: usize, pins: Pins, moves: Vec<(usize, usize)>, how: Redivert, words: &str) -> Value {
        let before = core::mem::replace(&mut self.services[service].pins, pins);
        let weights = self.services[service].in_force.unwrap_or_default();
        self.services[service].demand(Timestamp::now(), &self.config.rules);
        let change = self.services[service].apply("the operator", words);
        let state = &self.services[service];
        self.journal.note_pins(&state.service.name, state.pins.json(state));
        let mut change = change.unwrap_or_else(|| Change {
            weights,
            moves: Vec::new(),
            how,
            entry: json!({
                "service": state.service.name, "cause": "the operator", "text": format!("{}: {words}", state.service.name),
                "before": state.named(&weights), "after": state.named(&weights),
            }),
            promised: None,
        });
        change.moves.extend(moves);
        change.how = how;
        let decision = self.carry_out(service, change, Some(before));
        json!({ "decision": decision, "text": words })
    }

    /// What translators say that a change would do.
    fn preview(
        &mut self,
        service: usize,
        weights: Each<u16>,
        moves: Vec<(usize, usize)>,
        how: Redivert,
        words: &str,
        reply: &Sender<Result<Value, String>>,
    ) -> Result<Option<Value>, String> {
        let state = &self.services[service];
        let told = json!({
            "preview": true,
            "text": words,
            "before": state.named(&state.in_force.unwrap_or_default()),
            "after": state.named(&weights),
        });
        let change = Change { weights, moves, how, entry: Value::Null, promised: None };
        self.changes += 1;
        let (number, mut open) = (self.changes, 0);
        for place in 0..self.links.len() {
            if !self.links[place].is_open() || self.links[place].rules.is_none() {
                continue;
            }
            // What comes after a re-divert only makes good what it changes in the rule.
            let count = if change.moves.is_empty() { usize::MAX } else { 2 };
            for request in self.requests(place, service, &change).into_iter().take(count) {
                self.links[place].ask(Ask::Change(number), request.dry_run());
                open += 1;
            }
        }
        if open == 0 {
            return Err("no translator can be reached".into());
        }
        let until = self.now() + PATIENCE;
        self.sent.insert(number, Sent { service, open, results: Vec::new(), decision: None, reply: Some((reply.clone(), told)), until });
        Ok(None)
    }

    /// Takes a decision back: what operators had set before it holds again, and the weights of that time.
    fn undo(&mut self, command: &Value, dry_run: bool, reply: &Sender<Result<Value, String>>) -> Result<Option<Value>, String> {
        let number = command["decision"].as_u64().ok_or("decision is missing: its number")?;
        let undo = self.undo.get(&number).cloned();
        let Undo { service, pins, weights } =
            undo.ok_or_else(|| format!("decision {number} cannot be undone: it was not made since the monitor was started"))?;
        let words = format!("the operator has undone decision {number}");
        let state = &mut self.services[service];
        if dry_run {
            let how = state.service.open_connections;
            return self.preview(service, weights, Vec::new(), how, &words, reply);
        }
        let how = state.service.open_connections;
        state.wish(&weights);
        Ok(Some(self.set_pins(service, pins, Vec::new(), how, &words)))
    }
}

fn configured(service: &Service) -> Each<u16> {
    let mut weights: Each<u16> = Default::default();
    service.servers.iter().zip(&mut weights).for_each(|(server, weight)| *weight = server.weight);
    weights
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
