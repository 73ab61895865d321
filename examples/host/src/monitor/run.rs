//! The monitor at work: it listens to translators, decides, sends instructions, and does what an operator says.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use byway::control::Note;
use byway::monitor::{Distrust, Observation};
use byway::{Instant, Target};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::entries::Entries;
use super::journal::Journal;
use super::lead::{self, Stand};
use super::link::{Heard, Link};
use super::loads::Loads;
use super::reload::Reload;
use super::results::Results;
use super::rules::{Clients, Each, Pins};
use super::service::{Change, State};
use super::shared::Shared;
use crate::config::monitor::{Monitor, Service, Translator};
use crate::waker::Waker;

/// How often the page is told what there is.
const SHOWN_EVERY: Duration = Duration::from_millis(500);
/// How long a preview waits for translators.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long weights that a translator reports may differ from those that it was told.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

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
    /// The file was read.
    Loaded(Box<Result<Monitor, String>>),
    /// The monitor is to end.
    Stop,
}

/// A change that translators were asked for.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) service: usize,
    /// How many have not answered yet.
    pub(super) open: usize,
    pub(super) results: Results,
    /// The number in the journal; none for a preview.
    pub(super) decision: Option<u64>,
    /// Where the answer to a preview goes, and what is to be added to it.
    pub(super) reply: Option<(Sender<Result<Value, String>>, Value)>,
    /// Whether a translator has refused some of it.
    pub(super) is_refused: bool,
    /// Whether all translators that have answered have made all of it.
    pub(super) is_made: bool,
    /// Whether it moves open connections, which no later change makes unnecessary.
    pub(super) has_moves: bool,
    pub(super) until: Instant,
}

impl Sent {
    /// Whether the part that is not sent yet need not be sent any more: of previews, and of changes that move no connections.
    pub(super) fn is_void(&self) -> bool {
        self.decision.is_none() || !self.has_moves
    }
}

/// What must be known to undo a decision.
#[derive(Clone, Debug)]
pub(super) struct Undo {
    pub(super) service: usize,
    /// The pins of before, if the decision has changed them.
    pub(super) pins: Option<Pins>,
    pub(super) weights: Each<u16>,
}

/// The monitor.
#[derive(Debug)]
pub struct Run {
    pub(super) file: PathBuf,
    pub(super) config: Monitor,
    pub(super) links: Vec<Link>,
    pub(super) services: Vec<State>,
    pub(super) loads: Loads,
    pub(super) journal: Journal,
    pub(super) start: std::time::Instant,
    /// By service and server: what was seen since the last tick, by translator and position.
    pub(super) fresh: HashMap<(usize, usize), HashMap<(usize, u32), Observation>>,
    /// Connections by translator, service and server: of its last report, and of the one that is arriving.
    pub(super) connections: HashMap<usize, Vec<Each<u32>>>,
    pub(super) arriving: HashMap<usize, Vec<Each<u32>>>,
    /// What the reports of translators name.
    pub(super) entries: HashMap<usize, Entries>,
    /// Which translators have sent a whole report since the last tick.
    pub(super) rounds: HashSet<usize>,
    pub(super) ticked: Instant,
    pub(super) shown: Instant,
    pub(super) sent: HashMap<u64, Sent>,
    pub(super) changes: u64,
    /// When weights were last sent, by service.
    pub(super) told: Vec<Instant>,
    /// Until when something that was refused is not asked for again, by service.
    pub(super) refused: Vec<Option<Instant>>,
    /// How often in a row something was refused.
    pub(super) refusals: Vec<u32>,
    /// Rules of their own for some clients, by service, as they were sent last.
    pub(super) extra: Vec<Vec<(Clients, Vec<usize>, String)>>,
    /// Translators that may lack such rules, or have too many.
    pub(super) unchecked: Vec<bool>,
    /// Translators whose rules were listed while a change was on its way, and so not looked at.
    pub(super) unread: Vec<bool>,
    /// What was proposed last in a dry run, by service.
    pub(super) proposed: Vec<Option<Each<u16>>>,
    /// The model's decisions whose outcome is awaited: service, its number, and that in the journal.
    pub(super) awaited: Vec<(usize, u32, u64)>,
    /// Where this monitor leads, as far as that was noticed.
    pub(super) acting: Vec<bool>,
    /// Whether it has led anywhere yet.
    pub(super) has_acted: bool,
    /// The note that was taken over last, and its monitor: the one that has led since this one acted.
    pub(super) noted: Option<(u64, Note)>,
    /// Services whose pins watching monitors are not told, for want of room.
    pub(super) unshared: usize,
    pub(super) undo: BTreeMap<u64, Undo>,
    pub(super) reload: Reload,
    /// Reloads that were refused.
    pub(super) refused_reloads: u64,
    pub(super) shared: Arc<Shared>,
    /// Where other threads send what they want.
    pub(super) wanted: Sender<Wanted>,
    pub(super) waker: Arc<Waker>,
}

impl Run {
    /// A monitor that has heard nothing yet.
    ///
    /// # Errors
    /// The journal cannot be opened.
    pub fn new(
        file: PathBuf,
        config: Monitor,
        shared: Arc<Shared>,
        (wanted, waker): (Sender<Wanted>, Arc<Waker>),
    ) -> Result<Self, String> {
        let journal = Journal::open(&config.journal)
            .map_err(|error| format!("monitor.journal {}: {error}", config.journal.display()))?;
        let servers: HashSet<Target> =
            config.services.iter().flat_map(|service| &service.servers).map(|server| server.target).collect();
        let number = lead::number(config.rank)?;
        tracing::info!("this is {}", lead::name(number));
        let stand = Stand::new(number, !config.dry_run);
        let link = |t: &Translator| Link::new(t.clone(), config.interval, servers.clone(), stand.clone());
        let links: Vec<_> = config.translators.iter().map(link).collect();
        let state = |(place, service): (usize, &Service)| {
            let pins = journal.pins(&service.name).map_or_else(Pins::default, |pins| Pins::of(pins, service));
            State::new(service.clone(), place, pins)
        };
        let services: Vec<_> = config.services.iter().enumerate().map(state).collect();
        let count = services.len();
        let loads = Loads::start(&config.loads)?;
        let mut run = Self {
            acting: vec![false; links.len()],
            has_acted: false,
            unchecked: vec![true; links.len()],
            unread: vec![false; links.len()],
            noted: None,
            unshared: 0,
            links,
            services,
            loads,
            journal,
            start: std::time::Instant::now(),
            fresh: HashMap::new(),
            connections: HashMap::new(),
            arriving: HashMap::new(),
            entries: HashMap::new(),
            rounds: HashSet::new(),
            ticked: Instant::ZERO,
            shown: Instant::ZERO,
            sent: HashMap::new(),
            changes: 0,
            told: vec![Instant::ZERO; count],
            refused: vec![None; count],
            refusals: vec![0; count],
            extra: vec![Vec::new(); count],
            proposed: vec![None; count],
            awaited: Vec::new(),
            undo: BTreeMap::new(),
            reload: Reload::default(),
            refused_reloads: 0,
            file,
            config,
            shared,
            wanted,
            waker,
        };
        run.write_note();
        Ok(run)
    }

    pub(super) fn now(&self) -> Instant {
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
                    Wanted::Stop => {
                        let now = self.now();
                        self.links.iter_mut().for_each(|link| link.leave(now));
                        return Ok(());
                    }
                    Wanted::Reload => self.reload(),
                    Wanted::Loaded(read) => self.loaded(*read),
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
            let start = self.start;
            self.loads.poll(&mut self.services, |at| Instant::from_secs(1) + at.saturating_duration_since(start));
            self.note_leads();
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

    pub(super) fn hear(&mut self, place: usize, heard: Heard) {
        let name = self.links[place].translator.name.clone();
        match heard {
            Heard::Opened => tracing::info!("{name}: the session is open"),
            Heard::Lost(why) => {
                tracing::warn!("{name}: {why}");
                self.connections.remove(&place);
                self.entries.entry(place).or_default().lose();
                self.arriving.remove(&place);
            }
            Heard::Round { is_whole } => {
                self.end_report(place, is_whole);
                self.rounds.insert(place);
                self.connections.insert(place, self.arriving.remove(&place).unwrap_or_default());
            }
            Heard::Listed => self.listed(place),
            Heard::Changed(number, result) => self.changed(number, &name, result),
            Heard::Server { target, weight, position, seen, times, connections } => {
                let now = self.now();
                let owner = self.owner_of(place, target, position, weight);
                for service in 0..self.services.len() {
                    let servers = &self.services[service].service.servers;
                    let Some(server) = servers.iter().position(|server| server.target == target) else { continue };
                    if let Some(seen) = seen {
                        let seen = if Self::is_of_others(owner, service) { seen.of_others() } else { seen };
                        let each = self.fresh.entry((service, server)).or_default();
                        each.entry((place, position)).and_modify(|before| before.add(&seen)).or_insert(seen);
                        self.services[service].note_times(now, server, &times);
                    }
                    let count = self.services.len();
                    let arriving = self.arriving.entry(place).or_insert_with(|| vec![Each::default(); count]);
                    arriving[service][server] = arriving[service][server].saturating_add(connections);
                    self.note_weight(place, (service, server), position, weight);
                }
            }
        }
    }

    /// The rules of a translator are known: its weights are taken over, or it is given those that the others have.
    pub(super) fn listed(&mut self, place: usize) {
        self.note_leads();
        self.forget_weights(place);
        (self.unchecked[place], self.unread[place]) = (true, false);
        if !self.acts_at(place) {
            return self.watch(place);
        }
        for service in 0..self.services.len() {
            let time = Timestamp::now();
            self.services[service].demand(time, &self.config.rules);
            let matches = self.services[service].service.matches;
            if self.refused[service].is_some() {
                // The translator refused that a moment ago.
                continue;
            }
            let Some(rule) = self.links[place].rule(&matches).cloned() else {
                let weights = self.services[service].in_force.unwrap_or_else(|| configured(&self.services[service].service));
                self.services[service].adopt(&weights);
                let name = &self.links[place].translator.name;
                let text = format!("{}: {name} has no rule for it, and gets one", self.services[service].service.name);
                self.start_with(service, weights, weights, "the start", &text);
                continue;
            };
            let weights = rule.weights(&self.services[service].service);
            let servers = &self.services[service].service.servers;
            let others = rule.servers.iter().any(|listed| servers.iter().all(|server| server.target != listed.target));
            let before = self.services[service].in_force;
            // The first translator was asked for that when its rule was read.
            let is_least_loaded = rule.options.least_loaded || self.links.len() == 1;
            if before == Some(weights) && !others && is_least_loaded {
                continue;
            }
            if before.is_some() && self.is_pending_at(place, service) {
                // It may have been asked for that a moment ago, or have been away then.
                self.unread[place] = true;
                continue;
            }
            match before {
                // The first translator that is heard decides which weights hold.
                None => {
                    self.services[service].follow(&weights);
                    let name = self.services[service].service.name.clone();
                    if let Some(revived) = self.services[service].revive(&weights) {
                        self.services[service].adopt(&revived);
                        let text = format!("{name}: servers without a weight get a small one, since nobody has forbidden them");
                        self.start_with(service, weights, revived, "the start", &text);
                    } else if !rule.options.least_loaded {
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

    /// The rules of a translator at which another monitor leads are known: its weights are taken over, unless this monitor acts
    /// elsewhere.
    fn watch(&mut self, place: usize) {
        if self.acts() {
            return;
        }
        for state in &mut self.services {
            state.demand(Timestamp::now(), &self.config.rules);
            let Some(rule) = self.links[place].rule(&state.service.matches) else { continue };
            let weights = rule.weights(&state.service);
            // Unless another monitor leads, what this one knows will hold again.
            if state.in_force.is_none() || self.noted.is_some() && state.in_force != Some(weights) {
                state.follow(&weights);
            }
        }
    }

    pub(super) fn start_with(&mut self, service: usize, before: Each<u16>, weights: Each<u16>, cause: &str, text: &str) {
        let state = &self.services[service];
        let entry = json!({
            "service": state.service.name, "cause": cause, "text": text,
            "before": state.named(&before), "after": state.named(&weights),
        });
        let how = state.service.open_connections;
        self.carry_out(service, Change { weights, moves: Vec::new(), falling: Vec::new(), how, entry, promised: None }, None);
    }

    /// Decides, once each translator has sent a report, or should have.
    pub(super) fn tick(&mut self) {
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
        self.move_left_behind();
        let (time, acts) = (Timestamp::now(), self.acts());
        for service in 0..self.services.len() {
            let mut seen = [Observation::NONE; byway::control::MAX_SERVERS];
            for (server, seen) in seen.iter_mut().enumerate() {
                fresh.get(&(service, server)).into_iter().flatten().for_each(|(_, one)| seen.merge(one));
                let each = self.connections.values().filter_map(|services| services.get(service));
                self.services[service].connections[server] = each.map(|servers| servers[server]).sum();
            }
            self.services[service].demand(time, &self.config.rules);
            let before = self.services[service].in_force;
            let change = if heard { self.services[service].tick(now, &seen) } else { None };
            match (change, before) {
                (Some(change), _) if acts => drop(self.carry_out(service, change, None)),
                // Another monitor acts, so this one's decision is dropped.
                (Some(_), Some(before)) => self.services[service].follow(&before),
                _ => {}
            }
        }
        self.ask_again();
        self.read_again();
        self.keep_extra();
        self.tell_apart();
        let mut awaited = core::mem::take(&mut self.awaited);
        awaited.retain(|(service, number, entry)| match self.services[*service].outcome(*number) {
            Some(Some(outcome)) => {
                self.journal.note_outcome(*entry, outcome);
                false
            }
            Some(None) => true,
            None => false,
        });
        self.awaited = awaited;
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
                "watching": link.is_open().then(|| link.stand.why_not(now)).flatten(),
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
            "watching": self.watches(),
            "unshared": self.unshared,
            "refused_reloads": self.refused_reloads,
            "journal": { "damaged": self.journal.damaged, "unwritten": self.journal.unwritten },
            "translators": translators.collect::<Vec<_>>(),
            "services": self.services.iter().map(State::show).collect::<Vec<_>>(),
            "loads": self.loads.show(now),
            "decisions": self.journal.newest().take(50).collect::<Vec<_>>(),
        });
        self.shared.publish(state.to_string());
    }

}

fn configured(service: &Service) -> Each<u16> {
    let mut weights: Each<u16> = Default::default();
    service.servers.iter().zip(&mut weights).for_each(|(server, weight)| *weight = server.weight);
    weights
}

