//! The process: threads that translate, and what signals do to them.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use byway::{DropReason, Heap, Record, Sharding, Translator};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::all_routers::AllRouters;
use crate::clock::{self, Clock};
use crate::config::{self, Before, Config, ConfigError, Entry};
use crate::control::{ControlPort, ControlThread};
use crate::counters::Counters;
use crate::handover::{Door, Offer, Waiting};
use crate::listeners::Listeners;
use crate::metrics::{Handles, Threaded};
use crate::names::{Counts, Naming};
use crate::portion::RecordSender;
use crate::reload::{Changes, Said, owned_of};
use crate::report::ReportThread;
use crate::router::Router;
use crate::shard::{self, Handle, Parts, Shard};
use crate::snapshot::Snapshot;
use crate::{start, thread};

/// Runs until a signal ends it, or another process takes over at this socket.
///
/// # Errors
/// One line that says what did not work, and what to do.
pub fn run(config: Config, file: Option<&Path>, hand_over: Option<&Path>) -> Result<(), String> {
    let all = [SIGTERM, SIGINT, SIGHUP, SIGUSR2];
    let mut signals = Signals::new(all).map_err(|error| format!("signals: {error}"))?;
    let waiting = Waiting::default();
    let mut running = start::start(config, hand_over, &waiting)?;
    // Tells the service manager, if there is one, that byway is ready.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::MainPid(std::process::id())]);
    for signal in signals.forever() {
        match (signal, file) {
            (SIGHUP, Some(file)) => match running.reload(file) {
                Ok(summary) => info!("reloaded: {summary}"),
                Err(why) => error!("not reloaded, nothing has changed: {why}"),
            },
            (SIGHUP, None) => warn!("there is no file to reload: byway was started with arguments"),
            (SIGUSR2, _) => {
                let next = waiting.lock().ok().and_then(|mut waiting| waiting.take());
                let Some(next) = next else {
                    continue;
                };
                match running.hand_over(&next)? {
                    Some(resumed) => running = resumed,
                    None => return Ok(()),
                }
            }
            _ => {
                info!("ending");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                return running.end();
            }
        }
    }
    Ok(())
}

/// Threads that translate.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) config: Config,
    pub(crate) said: Said,
    pub(crate) secret: [u8; 32],
    pub(crate) sharding: Sharding,
    pub(crate) clock: Clock,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) naming: Option<Arc<Naming>>,
    /// What shards tell the other portion.
    pub(crate) records: Option<RecordSender>,
    /// Where the next process comes to.
    pub(crate) door: Option<Door>,
    pub(crate) handles: Handles,
    pub(crate) threads: Vec<JoinHandle<Result<Shard, String>>>,
    pub(crate) control: Option<JoinHandle<io::Result<ControlPort>>>,
    pub(crate) report: Option<JoinHandle<io::Result<()>>>,
}

/// How many rules are read before packets have their turn again.
const PAGE: usize = 256;
const ENDED: &str = "a shard has ended";
const PANICKED: &str = "a thread has panicked: please report what it printed";

impl Running {
    /// Reads the configuration anew. Takes over all of it, or nothing.
    fn reload(&mut self, file: &Path) -> Result<String, String> {
        let config = Config::read(file).map_err(|error| self.explain(&error))?;
        config.check_reload(&self.config).map_err(|error| error.to_string())?;
        if config.names.is_some() != self.config.names.is_some() {
            return Err("names: a naming server cannot come or go while byway runs: restart byway".into());
        }
        let handles = self.handles.lock().map_err(|_| ENDED)?.clone();
        let (config, changes, mut all) = self.plan(config, &handles.shards)?;
        // Nothing else is done to the shards in between, so what they accept now they accept in a moment.
        for router in all.lock().ok_or(ENDED)? {
            changes.check(&mut router.translator)?;
        }
        if let (Some(naming), Some(first)) = (&self.naming, all.lock().and_then(|mut routers| routers.next())) {
            // Routers are locked before names.
            changes.check_names(&naming.lock().names, naming.capacity(), &first.translator)?;
        }
        for router in all.lock().ok_or(ENDED)? {
            changes.apply(&mut router.translator)?;
            router.fail_open(changes.open().clone());
        }
        // Entries are tied to rules, so these came first.
        if let (Some(naming), Some(first)) = (&self.naming, all.lock().and_then(|mut routers| routers.next())) {
            let names = &mut naming.lock().names;
            changes.names().apply(names, &first.translator)?;
            // An entry of an instruction may be tied to a rule that has gone.
            names.check_rules(&first.translator);
        }
        drop(all);
        if let Some(control) = &handles.control {
            let keys = changes.keys().to_vec();
            control.ask(move |port| port.set_keys(&keys)).ok_or("the port for instructions has ended")?;
        }
        if let (Some(report), Some(settings)) = (&handles.report, config.report) {
            report.change(settings);
        }
        self.said = Said::by(&config);
        // Its routes are still those of the start, though rules may have gone.
        let device = core::mem::replace(&mut self.config, config).device;
        self.config.device = device;
        Ok(changes.summary())
    }

    /// Draws what is to be drawn, and finds the changes. All routers may be locked then, or none.
    ///
    /// What is in use must not be drawn. But packets do not wait for that: if an instruction has changed it when all is drawn, it is
    /// drawn once more, with the routers locked.
    fn plan<'a>(
        &self,
        config: Config,
        shards: &'a [Handle],
    ) -> Result<(Config, Changes, AllRouters<'a>), String> {
        let draw = |config: Config, before: Option<Before<'_>>| {
            let config = config.draw(before).map_err(|error| error.to_string())?;
            let changes = Changes::between(&self.said, &config);
            Ok::<_, String>((config, changes))
        };
        let mut all = AllRouters::of(shards);
        if !config.draws() {
            let (config, changes) = draw(config, None)?;
            return Ok((config, changes, all));
        }
        let (there, seen) = self.in_use(shards.first().ok_or(ENDED)?).ok_or(ENDED)?;
        let (drawn, changes) = draw(config.clone(), Some(Before { said: &self.said, there: &there }))?;
        let first = all.lock().and_then(|mut routers| routers.next()).ok_or(ENDED)?;
        if self.generations(&first.translator) == seen {
            return Ok((drawn, changes, all));
        }
        let there = self.there(&first.translator);
        let (config, changes) = draw(config, Some(Before { said: &self.said, there: &there }))?;
        Ok((config, changes, all))
    }

    /// The rules and names that there are, and their generations before that: they are read in pages, and may change in between.
    /// `None` if the shard has ended.
    fn in_use(&self, shard: &Handle) -> Option<(Said, (u32, Option<u32>))> {
        let (seen, client_limit, timeouts) = shard.ask(|router| {
            let translator = &router.translator;
            (self.generations(translator), translator.client_limit(), translator.timeouts())
        })?;
        let mut rules = Vec::new();
        for first in (0..).step_by(PAGE) {
            let page: Vec<_> =
                shard.ask(|router| router.translator.diverts().skip(first).take(PAGE).map(|rule| owned_of(&rule)).collect())?;
            let is_last = page.len() < PAGE;
            rules.extend(page.into_iter().flatten());
            if is_last {
                break;
            }
        }
        let mut names = Vec::new();
        loop {
            // A packet about names waits for this lock, and others wait for that packet.
            let page = self.names(names.len(), PAGE);
            let is_last = page.len() < PAGE;
            names.extend(page);
            if is_last {
                break;
            }
        }
        Some((Said { rules, client_limit, timeouts, names }, seen))
    }

    /// What an instruction about rules or names changes.
    fn generations(&self, translator: &Translator<Heap>) -> (u32, Option<u32>) {
        (translator.generation(), self.naming.as_ref().map(|naming| naming.lock().names.generation()))
    }

    /// Why a file cannot be read: perhaps because it is outside of where this process may still read.
    fn explain(&self, error: &ConfigError) -> String {
        let denied = io::Error::from(rustix::io::Errno::ACCESS).to_string();
        match error.to_string() {
            error if self.config.privileges.confine && error.contains(&denied) => format!(
                "{error}: while byway runs it reads only in the folders of the files that it started with (privileges.confine)"
            ),
            error => error,
        }
    }

    /// Ends every thread but the one that reports; returns their parts, and what was wrong with one.
    fn halt(&mut self) -> (Vec<Parts>, Option<ControlPort>, Option<String>) {
        let (mut parts, mut port, mut failed) = (Vec::new(), None, None);
        let handles = self.handles.lock().map(|handles| handles.clone()).unwrap_or_default();
        // First the thread that needs the others.
        if let Some(control) = &handles.control {
            control.stop();
        }
        match self.control.take().map(JoinHandle::join) {
            None => {}
            Some(Ok(Ok(control))) => port = Some(control),
            Some(Ok(Err(why))) => failed = Some(format!("the port for instructions: {why}")),
            Some(Err(_)) => failed = Some(PANICKED.into()),
        }
        for shard in &handles.shards {
            shard.stop();
        }
        let mut shards = Vec::new();
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(shard)) => shards.push(shard),
                Ok(Err(why)) => failed = Some(why),
                Err(_) => failed = Some(PANICKED.into()),
            }
        }
        // After all have ended, so that none has a packet for another any more.
        parts.extend(shards.into_iter().filter_map(Shard::finish));
        (parts, port, failed)
    }

    /// Ends the thread that reports what the others have done: after them, and last of all, since it may wait for a collector.
    /// Returns what was wrong with it.
    fn end_report(&mut self) -> Option<String> {
        let handle = self.handles.lock().ok().and_then(|handles| handles.report.clone());
        if let Some(report) = &handle {
            report.stop();
        }
        match self.report.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(why))) => Some(format!("reports: {why}")),
            Some(Err(_)) => Some(PANICKED.into()),
        }
    }

    /// The rules, limits and names in force, be they from the configuration or from instructions.
    fn there(&self, translator: &Translator<Heap>) -> Said {
        let rules = translator.diverts().filter_map(|entry| owned_of(&entry));
        let (client_limit, timeouts) = (translator.client_limit(), translator.timeouts());
        Said { rules: rules.collect(), client_limit, timeouts, names: self.names(0, usize::MAX) }
    }

    /// Names in force: so many, from one on.
    fn names(&self, first: usize, most: usize) -> Vec<Entry> {
        let entries = |naming: &Arc<Naming>| {
            naming.lock().names.entries().skip(first).take(most).map(|entry| Entry::of(&entry)).collect()
        };
        self.naming.as_ref().map(entries).unwrap_or_default()
    }

    /// All that a process needs to go on in the place of this one.
    fn snapshot(&self, parts: &mut [Parts]) -> Option<Snapshot> {
        let time = self.clock.now();
        for (_, router) in parts.iter_mut() {
            router.translator.poll(time);
        }
        let Router { translator, .. } = &*parts.first()?.1;
        let rules = self.there(translator);
        let records: Vec<Record> = parts.iter().flat_map(|(_, router)| router.translator.records()).collect();
        Some(Snapshot {
            time,
            written: Some(clock::system_time()),
            shards: self.config.device.queues,
            secret: self.secret,
            alternatives: self.config.nat.alternatives_text(),
            rules,
            said: self.said.clone(),
            records,
        })
    }

    /// Ends, and writes the snapshot.
    fn end(mut self) -> Result<(), String> {
        let (mut parts, _, failed) = self.halt();
        log_counters(&parts, self.naming.as_deref());
        let snapshot = self.snapshot(&mut parts);
        self.save(snapshot.as_ref())?;
        failed.or_else(|| self.end_report()).map_or(Ok(()), Err)
    }

    fn save(&self, snapshot: Option<&Snapshot>) -> Result<(), String> {
        if let (Some(file), Some(snapshot)) = (&self.config.snapshot, snapshot) {
            snapshot.save(file)?;
            info!(connections = snapshot.connections(), file = %file.display(), "snapshot written");
        }
        Ok(())
    }

    /// Ends because of this, with a snapshot.
    fn fail(&self, snapshot: Option<&Snapshot>, why: String) -> String {
        if let Err(error) = self.save(snapshot) {
            error!("{error}");
        }
        why
    }

    /// Gives way to another process. If that does not take over, goes on. If it can do neither, it writes the snapshot.
    fn hand_over(mut self, next: &UnixStream) -> Result<Option<Self>, String> {
        let begun = self.clock.now();
        let (mut parts, control, failed) = self.halt();
        let snapshot = self.snapshot(&mut parts);
        let snapshot = match (snapshot, failed) {
            (Some(snapshot), None) => snapshot,
            (snapshot, failed) => {
                let why = failed.unwrap_or_else(|| "there are no shards".into());
                let mut out = next;
                let _ = out.write_all(format!("it has ended: {why}\n").as_bytes());
                return Err(self.fail(snapshot.as_ref(), why));
            }
        };
        let offer = Offer {
            config: &self.config,
            has_header: parts.iter().all(|(queue, _)| queue.has_header()),
            queues: parts.iter().map(|(queue, _)| queue.as_fd()).collect(),
            control: control.as_ref().map(AsFd::as_fd),
            metrics: self.metrics.as_ref().map(AsFd::as_fd),
            next: self.door.as_ref().map(AsFd::as_fd),
            snapshot: &snapshot,
            monotonic: self.clock.monotonic(snapshot.time),
        };
        let given = offer.give(next);
        if let (Ok(()), Some(door)) = (&given, &self.door) {
            door.leave();
        }
        // Nobody reads the queues from the halt on; the new one's own figure begins with the snapshot.
        let pause_ms = self.clock.now().duration_since(begun).as_secs_f64() * 1e3;
        if let Some(failed) = self.end_report() {
            // It reports again if this process goes on.
            warn!("{failed}");
        }
        match given {
            Ok(()) => {
                log_counters(&parts, self.naming.as_deref());
                info!(connections = snapshot.connections(), pause_ms, "another byway has taken over");
                Ok(None)
            }
            Err(why) => {
                warn!("another byway has not taken over, going on: {why}");
                let spawned =
                    spawn(parts, control, self.config.report, (&self.records, self.sharding), self.clock, &self.handles);
                (self.threads, self.control, self.report) =
                    spawned.map_err(|why| self.fail(Some(&snapshot), why))?;
                Ok(Some(self))
            }
        }
    }
}

/// Raises SIGTERM if a thread ends that was not told to.
pub(crate) struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = signal_hook::low_level::raise(SIGTERM);
    }
}

/// Threads for shards, for the port for instructions, and for reports.
pub(crate) type Threads = (
    Vec<JoinHandle<Result<Shard, String>>>,
    Option<JoinHandle<io::Result<ControlPort>>>,
    Option<JoinHandle<io::Result<()>>>,
);

/// Starts a thread for each shard, one for the port for instructions and one for reports.
pub(crate) fn spawn(
    parts: impl IntoIterator<Item = Parts>,
    control: Option<ControlPort>,
    report: Option<config::Report>,
    (records, sharding): (&Option<RecordSender>, Sharding),
    clock: Clock,
    handles: &Handles,
) -> Result<Threads, String> {
    let no_thread = |error: io::Error| format!("no thread: {error}");
    let control = control.map(ControlThread::new).transpose().map_err(no_thread)?;
    let report = report.map(|report| ReportThread::new(report, sharding.shards(), clock)).transpose().map_err(no_thread)?;
    let listeners = Listeners {
        control: control.as_ref().map(|control| control.reporter().clone()),
        portion: records.clone(),
        report: report.as_ref().map(|report| report.sender().clone()),
        ..Listeners::default()
    };
    let (mut threads, mut all) = (Vec::new(), Vec::new());
    let shards = shard::shards(parts, &listeners, sharding, clock).map_err(|error| error.to_string())?;
    for (number, (shard, handle)) in shards.into_iter().enumerate() {
        let run = move || {
            let alarm = Alarm;
            let ended = shard.run().map_err(|why| {
                error!(shard = number, "the device: {why}");
                format!("the device: {why}")
            });
            if ended.is_ok() {
                core::mem::forget(alarm);
            }
            ended
        };
        threads.push(thread::start(format!("shard {number}"), run)?);
        all.push(handle);
    }
    let handle = control.as_ref().map(ControlThread::handle);
    let thread = control.map(|control| {
        let shards = all.clone();
        let run = move || {
            let alarm = Alarm;
            let ended = control.run(&shards, clock);
            match &ended {
                Ok(_) => core::mem::forget(alarm),
                Err(why) => error!("the port for instructions: {why}"),
            }
            ended
        };
        thread::start("control", run)
    });
    let thread = thread.transpose()?;
    drop(listeners);
    let report_handle = report.as_ref().map(ReportThread::handle);
    let reports = report.map(|report| {
        let shards = all.clone();
        let run = move || {
            let ended = report.run(&shards, clock);
            if let Err(why) = &ended {
                error!("reports have ended: {why}");
            }
            ended
        };
        thread::start("report", run)
    });
    let reports = reports.transpose()?;
    if let Ok(mut handles) = handles.lock() {
        (handles.shards, handles.control, handles.report) = (all, handle, report_handle);
    }
    Ok((threads, thread, reports))
}

/// No threads yet.
pub(crate) fn no_handles() -> Handles {
    Arc::new(Mutex::new(Threaded::default()))
}

/// Logs all counters that are not zero.
fn log_counters(parts: &[Parts], naming: Option<&Naming>) {
    let mut all = Counters::default();
    for (_, router) in parts {
        all.add(&router.counters);
    }
    let translators: byway::Counters = parts.iter().map(|(_, router)| router.translator.counters()).sum();
    let mut text: Vec<_> = all.named().into_iter().map(|(name, _, count)| (name, count)).collect();
    text.extend([("to_server", translators.to_server), ("to_client", translators.to_client)]);
    text.extend(DropReason::ALL.iter().map(|reason| (reason.name(), translators.dropped(*reason))));
    let text = text.iter().map(|(name, n)| ((*name).to_string(), *n));
    let text = text.chain(naming.map(Naming::counts).into_iter().flat_map(Counts::named));
    let text: Vec<_> = text.filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name}={n}")).collect();
    info!("counted: {}", text.join(" "));
}
