//! The process: from the configuration to threads that translate, and what signals do to them.

use std::path::Path;
use std::thread::JoinHandle;

use byway::{DropReason, Instant, Record, Sharding, Translator};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::control::ControlPort;
use crate::counters::Counters;
use crate::device::{self, Queue};
use crate::{metrics, privileges};
use crate::reload::{Changes, Said};
use crate::router::Router;
use crate::shard::{self, Handle, Shard};
use crate::snapshot::{self, Snapshot};

/// Runs until a signal ends it.
///
/// # Errors
/// One line that says what did not work, and what to do.
pub fn run(config: Config, file: Option<&Path>) -> Result<(), String> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
    let mut running = Running::start(config)?;
    // Whoever has started it may go on.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let mut failed = None;
    for signal in signals.forever() {
        match (signal, file) {
            (SIGHUP, Some(file)) => match running.reload(file) {
                Ok(summary) => info!("reloaded: {summary}"),
                Err(why) => error!("not reloaded, nothing has changed: {why}"),
            },
            (SIGHUP, None) => warn!("there is no file to reload: byway was started with arguments"),
            _ => {
                info!("ending");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                failed = running.stop().err();
                break;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Threads that translate.
#[derive(Debug)]
struct Running {
    config: Config,
    said: Said,
    secret: [u8; 32],
    clock: Clock,
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<Result<Shard, String>>>,
}

impl Running {
    fn start(config: Config) -> Result<Self, String> {
        let kept = config.snapshot.as_deref().map(Snapshot::load).transpose()?.flatten();
        check_snapshot(&config, kept.as_ref())?;
        // The secret says which client is which shard's, so connections that are taken over want the old one. Whatever
        // strangers must not foresee hangs on another, which is new.
        let secret = kept.as_ref().map_or_else(random, |kept| Ok(kept.secret))?;
        let clock = Clock::new(kept.as_ref().map_or(Instant::ZERO, |kept| kept.time));
        let said = Said::by(&config);

        let shards = config.device.queues;
        let sharding = Sharding::new(&config.nat.config(secret), shards).map_err(|error| error.to_string())?;
        let mut routers = routers(&config, &sharding, kept.as_ref())?;
        if let Some(kept) = &kept {
            take_over(&mut routers, &sharding, kept);
            for router in &mut routers {
                router.translator.poll(clock.now());
            }
        }
        let control = config.control.as_ref().map(|control| ControlPort::open(control, random()?)).transpose()?;
        let (queues, offload) = device::open(&config.device)?;
        info!(
            device = config.device.name,
            queues = shards,
            tcp_offload = offload.tcp,
            udp_offload = offload.udp,
            "opened"
        );
        if config.device.configure {
            device::set_up(&config.device)?;
        }
        warn_of_settings();
        let metrics = config.metrics.map(metrics::open).transpose()?;
        privileges::drop(&config)?;
        config.snapshot.as_deref().map_or(Ok(()), snapshot::check_folder)?;
        let parts = queues.into_iter().zip(routers);
        let (handles, threads) = spawn(parts, control, sharding, clock)?;
        if let Some(listener) = metrics {
            metrics::serve(listener, handles.clone())?;
        }
        if let (Some(_), Some(file)) = (&kept, &config.snapshot) {
            // From now on it is out of date.
            snapshot::retire(file)?;
        }
        info!(rules = config.rules.len(), "translating");
        Ok(Self { config, said, secret, clock, handles, threads })
    }

    /// Reads the configuration anew. Takes over all of it, or nothing.
    fn reload(&mut self, file: &Path) -> Result<String, String> {
        let config = Config::read(file).map_err(|error| error.to_string())?;
        config.check_reload(&self.config).map_err(|error| error.to_string())?;
        let changes = Changes::between(&self.said, &config);
        // With several shards nobody else gives instructions, so that what they accept now they accept in a moment. The
        // only shard that takes instructions checks and changes in one go.
        for handle in &self.handles {
            let changes = changes.clone();
            let checked = handle.ask(move |router, _| changes.check(&mut router.translator));
            checked.ok_or("a shard has ended")??;
        }
        for handle in &self.handles {
            let changes = changes.clone();
            let applied = handle.ask(move |router, control| {
                changes.check(&mut router.translator)?;
                changes.apply(&mut router.translator)?;
                router.fail_open(changes.open().clone());
                if let Some(control) = control {
                    control.set_keys(changes.keys());
                }
                Ok::<(), String>(())
            });
            applied.ok_or("a shard has ended")??;
        }
        self.said = Said::by(&config);
        self.config = config;
        Ok(changes.summary())
    }

    /// Ends every thread, and writes the snapshot.
    fn stop(self) -> Result<(), String> {
        for handle in &self.handles {
            handle.stop();
        }
        let mut routers = Vec::new();
        let mut failed = None;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(shard)) => routers.push(shard.router),
                Ok(Err(why)) => failed = Some(why),
                Err(_) => failed = Some("a shard has panicked: please report what it printed".into()),
            }
        }
        log_counters(&routers);
        if let (Some(file), Some(first)) = (&self.config.snapshot, routers.first()) {
            let translator = &first.translator;
            let rules = translator.diverts().filter_map(|entry| {
                let mut room = [byway::Weighted { target: byway::Target::Same, weight: 1 }; 16];
                let text = entry.to_string();
                byway::control::Rule::new(&byway::Divert::parse(&text, &mut room).ok()?)
            });
            let rules = Said {
                rules: rules.collect(),
                client_limit: translator.client_limit(),
                timeouts: translator.timeouts(),
            };
            let time = self.clock.now();
            for router in &mut routers {
                router.translator.poll(time);
            }
            let records: Vec<Record> = routers.iter().flat_map(|router| router.translator.records()).collect();
            let snapshot = Snapshot {
                time,
                shards: self.config.device.queues,
                secret: self.secret,
                alternatives: self.config.nat.alternatives_text(),
                rules,
                said: self.said,
                records,
            };
            snapshot.save(file)?;
            info!(connections = snapshot.records.len(), file = %file.display(), "snapshot written");
        }
        failed.map_or(Ok(()), Err)
    }
}

/// What was done, as far as it was.
fn log_counters(routers: &[Router]) {
    let mut all = Counters::default();
    for router in routers {
        all.add(&router.counters);
    }
    let translators: byway::Counters = routers.iter().map(|router| router.translator.counters()).sum();
    let mut text: Vec<_> = all.named().into_iter().map(|(name, _, count)| (name, count)).collect();
    text.extend([("to_server", translators.to_server), ("to_client", translators.to_client)]);
    text.extend(DropReason::ALL.iter().map(|reason| (reason.name(), translators.dropped(*reason))));
    let text: Vec<_> = text.iter().filter(|(_, n)| *n != 0).map(|(name, n)| format!("{name}={n}")).collect();
    info!("counted: {}", text.join(" "));
}

fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn check_snapshot(config: &Config, kept: Option<&Snapshot>) -> Result<(), String> {
    let (Some(kept), Some(file)) = (kept, &config.snapshot) else {
        return Ok(());
    };
    let alternatives = config.nat.alternatives_text();
    if kept.alternatives != alternatives {
        let why = format!("it is for the alternative addresses {}, and there are {alternatives} now", kept.alternatives);
        return Err(snapshot::refused(file, &why));
    }
    Ok(())
}

/// A router for each shard, with the rules: those of the snapshot, changed by what the configuration says since.
fn routers(config: &Config, sharding: &Sharding, kept: Option<&Snapshot>) -> Result<Vec<Router>, String> {
    let nothing = Said { rules: Vec::new(), ..Said::by(config) };
    let changes = Changes::between(kept.map_or(&nothing, |kept| &kept.said), config);
    let fresh = config.nat.config(random()?);
    let mut capacity = config.nat.capacity;
    if config.control.is_none() {
        // Nobody would fetch them.
        capacity.events = 0;
    }
    (0..sharding.shards())
        .map(|shard| {
            let settings = sharding.config(&fresh, shard).ok_or("no such shard")?;
            let mut translator = Translator::new(settings, capacity.storage()).map_err(|error| error.to_string())?;
            if let Some(kept) = kept {
                for rule in &kept.rules.rules {
                    translator
                        .divert(rule.divert())
                        .map_err(|error| format!("snapshot: rule {}: {error}", rule.divert()))?;
                }
                translator.set_client_limit(kept.rules.client_limit).map_err(|error| error.to_string())?;
                translator.set_timeouts(kept.rules.timeouts).map_err(|error| format!("snapshot: {error}"))?;
            }
            changes.apply(&mut translator)?;
            let mut router = Router::new(translator, config.router.clone());
            router.fail_open(changes.open().clone());
            Ok(router)
        })
        .collect()
}

/// Has each connection of a snapshot carried on. The rules are there already.
fn take_over(routers: &mut [Router], sharding: &Sharding, kept: &Snapshot) {
    let (mut taken, mut lost) = (0_usize, 0_usize);
    for record in &kept.records {
        let shard = record.connection().and_then(|connection| sharding.shard_of(&connection));
        let router = shard.and_then(|shard| routers.get_mut(shard));
        match router.map(|router| router.translator.import(kept.time, record)) {
            Some(Ok(_)) => taken += 1,
            Some(Err(why)) => {
                lost += 1;
                tracing::debug!("a connection is not carried on: {why}");
            }
            None => lost += 1,
        }
    }
    if lost > 0 {
        warn!(taken, lost, "connections of the snapshot are lost: the number of queues or the room for them has changed");
    } else {
        info!(taken, "connections carried on");
    }
}

/// Has somebody notice if a thread ends that was not told to.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = signal_hook::low_level::raise(SIGTERM);
    }
}

#[expect(clippy::type_complexity, reason = "it is taken apart at once")]
fn spawn(
    parts: impl IntoIterator<Item = (Queue, Router)>,
    control: Option<ControlPort>,
    sharding: Sharding,
    clock: Clock,
) -> Result<(Vec<Handle>, Vec<JoinHandle<Result<Shard, String>>>), String> {
    let mut all = (Vec::new(), Vec::new());
    let shards = shard::shards(parts, control, sharding, clock).map_err(|error| error.to_string())?;
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
        let thread = std::thread::Builder::new().name(format!("shard {number}")).spawn(run);
        all.0.push(handle);
        all.1.push(thread.map_err(|error| format!("no thread: {error}"))?);
    }
    Ok(all)
}

/// What the kernel is told elsewhere, and does nothing for us without.
fn warn_of_settings() {
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    if forwards.is_ok_and(|text| text.trim() == "0") {
        warn!("net.ipv4.ip_forward is 0: the kernel forwards nothing (sysctl -w net.ipv4.ip_forward=1)");
    }
}
