//! From the configuration to threads that translate: anew, with a snapshot, or in the place of a running process.
//!
//! Rules come first, then connections, then packets: a packet that came before its connection would open another.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use byway::{Heap, Sharding, Translator};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::config::{Before, Config, Routed};
use crate::control::ControlPort;
use crate::device::{self, LeftOver, Queue};
use crate::handover::{self, Waiting};
use crate::names::{NameChanges, Naming};
use crate::portion::Link;
use crate::reload::{Changes, Said};
use crate::router::Router;
use crate::run::{Running, no_handles, spawn};
use crate::snapshot::{self, Snapshot};
use crate::strays::Strays;
use crate::{metrics, privileges};

/// Starts. A process that wants to take over later is put into `waiting`.
///
/// # Errors
/// One line that says what did not work, and what to do.
pub(crate) fn start(config: Config, hand_over: Option<&Path>, waiting: &Waiting) -> Result<Running, String> {
    privileges::check(&config)?;
    // What takes long comes first, before anything has to wait for it.
    let translators = translators(&config)?;
    let mut left_over = None;
    let add_routes = || {
        left_over = set_up(&config)?;
        Ok(())
    };
    let taken = match hand_over {
        Some(socket) => handover::take(socket, &config, add_routes)?,
        None => None,
    };
    let Some(mut taken) = taken else {
        let kept = config.snapshot.as_deref().map(Snapshot::load).transpose()?.flatten();
        let queues = |config: &Config| {
            let (queues, offload) = device::open(&config.device)?;
            info!(device = config.device.name, tcp_offload = offload.tcp, udp_offload = offload.udp, "opened");
            Ok((queues, set_up(config)?))
        };
        let open = Open { control: None, metrics: None, next: None };
        let clock = kept.as_ref().map_or_else(Clock::default, |kept| Clock::restarted(kept.time, kept.written));
        let running = prepare(config, translators, (kept.as_ref(), clock), queues, open, hand_over)?.begin(waiting)?;
        if let (Some(_), Some(file)) = (&kept, &running.config.snapshot) {
            // From now on the snapshot is out of date.
            snapshot::retire(file)?;
        }
        info!(rules = running.config.rules.len(), "translating");
        return Ok(running);
    };
    let (queues, snapshot) = (core::mem::take(&mut taken.queues), taken.snapshot.clone());
    let routes = config.device.routes.clone();
    let queues = |config: &Config| {
        // Rules of instructions may be about more.
        Ok((queues, if config.device.routes == routes { left_over } else { set_up(config)? }))
    };
    let open = Open { control: taken.control.take(), metrics: taken.metrics.take(), next: taken.next.take() };
    let clock = Clock::after(snapshot.time, taken.monotonic);
    let ready = prepare(config, translators, (Some(&snapshot), clock), queues, open, hand_over).inspect_err(|why| taken.refuse(why))?;
    taken.claim()?;
    // From here on there is no other byway: without this one there are no connections.
    let file = ready.config.snapshot.clone();
    let running = ready.begin(waiting).inspect_err(|_| {
        if let Some(Err(error)) = file.map(|file| snapshot.save(&file)) {
            error!("{error}");
        }
    })?;
    let pause = running.clock.now().duration_since(snapshot.time);
    info!(rules = running.config.rules.len(), pause_ms = pause.as_secs_f64() * 1e3, "translating, taken over");
    Ok(running)
}

/// Sets the device's routes, unless somebody else does. Returns what can be removed once nobody needs it any more.
fn set_up(config: &Config) -> Result<Option<LeftOver>, String> {
    if !config.device.configure {
        return Ok(None);
    }
    device::add_routes(&config.device)?;
    device::left_over(&config.device)
}

/// Sockets that are open already.
struct Open {
    control: Option<UdpSocket>,
    metrics: Option<TcpListener>,
    next: Option<UnixListener>,
}

/// All that has to be there before packets are translated. It has no threads yet.
struct Ready {
    config: Config,
    said: Said,
    secret: [u8; 32],
    sharding: Sharding,
    clock: Clock,
    queues: Vec<Queue>,
    routers: Vec<Router>,
    control: Option<ControlPort>,
    metrics: Option<TcpListener>,
    naming: Option<Arc<Naming>>,
    link: Option<Link>,
    next: Option<UnixListener>,
    left_over: Option<LeftOver>,
}

/// Everything that can go wrong, while another process may still go on, and gives up what is not needed any more.
fn prepare(
    config: Config,
    translators: Vec<Translator<Heap>>,
    (kept, clock): (Option<&Snapshot>, Clock),
    queues: impl FnOnce(&Config) -> Result<(Vec<Queue>, Option<LeftOver>), String>,
    open: Open,
    hand_over: Option<&Path>,
) -> Result<Ready, String> {
    check_snapshot(&config, kept)?;
    // A name keeps its original, which clients may have cached.
    let before = kept.map(|kept| Before { said: &kept.said, there: &kept.rules });
    let mut config = config.draw(before).map_err(|error| error.to_string())?;
    // The secret assigns clients to shards, so connections that are taken over need the old one. Whatever strangers must not
    // predict depends on another secret, which is new.
    let secret = match (kept, &config.portion) {
        (Some(kept), _) => kept.secret,
        // After a restart the other portion still knows connections that were divided with it.
        (None, Some(portion)) => portion.shard_secret(),
        (None, None) => random()?,
    };
    let said = Said::by(&config);
    let shards = config.device.queues;
    let sharding = Sharding::new(&config.nat.config(secret), shards).map_err(|error| error.to_string())?;
    let mut routers = routers(&config, translators, kept)?;
    if let Some(kept) = kept {
        let there = routers.first().into_iter().flat_map(|first| first.translator.diverts());
        for rule in config.route(there.filter_map(|rule| rule.to_string().parse().ok())) {
            let name = &config.device.name;
            warn!("rule {rule}: what it is about is not routed to {name} and leaves untranslated: add it to device.routes");
        }
        take_over(&mut routers, &sharding, kept);
        for router in &mut routers {
            router.translator.poll(clock.now());
        }
    } else {
        let until = clock.now() + config.nat.timeouts.hold;
        routers.iter_mut().for_each(|router| router.strays = Strays::until(until));
    }
    let routed = Routed::of(&config.device);
    let mut control = match (&config.control, open.control) {
        (None, _) => None,
        (Some(control), Some(socket)) => Some(ControlPort::with(control, socket, random()?)?),
        (Some(control), None) => Some(ControlPort::open(control, random()?)?),
    };
    if let Some(control) = &mut control {
        control.refuse_unrouted(routed);
    }
    let naming = naming(&config, &mut routers, kept)?;
    if let (Some(control), Some(naming)) = (&mut control, &naming) {
        control.change_names(naming.clone());
    }
    let metrics = match (config.metrics, open.metrics) {
        (Some(listen), None) => Some(metrics::open(listen)?),
        (_, open) => open,
    };
    let open_link = |portion| Link::open(portion, config.nat.alternatives_text(), hand_over.is_some());
    let link = config.portion.as_ref().map(open_link).transpose()?;
    if let (Some(link), Some(portion), Some(naming)) = (&link, &config.portion, &naming) {
        naming.share(link.sender().clone(), portion.direction);
    }
    if let Some(link) = &link {
        let status = link.status();
        routers.iter_mut().for_each(|router| router.follow_link(&status));
    }
    let (queues, left_over) = queues(&config)?;
    warn_of_settings();
    let next = match (hand_over, open.next) {
        // There was none, or an older byway has kept its socket to itself.
        (Some(socket), None) => Some(handover::listen(socket)?),
        (_, open) => open,
    };
    privileges::drop(&config)?;
    Ok(Ready { config, said, secret, sharding, clock, queues, routers, control, metrics, naming, link, next, left_over })
}

impl Ready {
    /// Starts the threads. A process that wants to take over later is put into `waiting`.
    fn begin(self, waiting: &Waiting) -> Result<Running, String> {
        let Self { config, said, secret, sharding, clock, metrics, naming, link, .. } = self;
        let handles = no_handles();
        let parts = self.queues.into_iter().zip(self.routers.into_iter().map(Box::new));
        let records = link.as_ref().map(|link| link.sender().clone());
        if let Ok(mut handles) = handles.lock() {
            handles.portion = link.as_ref().map(Link::status);
            handles.naming = naming.clone();
        }
        let (threads, control, report) = spawn(parts, self.control, config.report, (&records, sharding), clock, &handles)?;
        if let Some(link) = link {
            link.start(handles.clone(), sharding, clock)?;
        }
        if let Some(listener) = &metrics {
            let listener = listener.try_clone().map_err(|error| format!("metrics: {error}"))?;
            metrics::serve(listener, handles.clone())?;
        }
        let next = self.next.map(|next| handover::wait(next, waiting.clone(), handover::description(&config), handles.clone()));
        let door = next.transpose()?;
        // Nobody else needs it any more.
        if let Some(Err(why)) = self.left_over.map(LeftOver::remove) {
            warn!("what is left of an earlier configuration cannot be removed: {why}");
        }
        Ok(Running { config, said, secret, sharding, clock, metrics, naming, records, door, handles, threads, control, report })
    }
}

fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn check_snapshot(config: &Config, kept: Option<&Snapshot>) -> Result<(), String> {
    let Some(kept) = kept else {
        return Ok(());
    };
    let alternatives = config.nat.alternatives_text();
    if kept.alternatives != alternatives {
        let why = format!("it is for the alternative addresses {}, and there are {alternatives} now", kept.alternatives);
        return Err(config.snapshot.as_deref().map_or_else(|| why.clone(), |file| snapshot::refused(file, &why)));
    }
    Ok(())
}

/// Translators without rules: this allocates their memory.
fn translators(config: &Config) -> Result<Vec<Translator<Heap>>, String> {
    // Which shard has which addresses does not depend on the secret.
    let fresh = config.nat.config(random()?);
    let sharding = Sharding::new(&fresh, config.device.queues).map_err(|error| error.to_string())?;
    let mut capacity = config.nat.capacity;
    if config.control.is_none() && config.portion.is_none() && config.report.is_none() {
        // Nothing would fetch events.
        capacity.events = 0;
    }
    let one = |shard| {
        let settings = sharding.config(&fresh, shard).ok_or("no such shard")?;
        Translator::new(settings, capacity.storage()).map_err(|error| error.to_string())
    };
    (0..sharding.shards()).map(one).collect()
}

/// A router for each translator, with the rules: those of the snapshot, changed by what the configuration says since.
fn routers(
    config: &Config,
    translators: Vec<Translator<Heap>>,
    kept: Option<&Snapshot>,
) -> Result<Vec<Router>, String> {
    let nothing = Said { rules: Vec::new(), names: Vec::new(), ..Said::by(config) };
    let changes = Changes::between(kept.map_or(&nothing, |kept| &kept.said), config);
    let with_rules = |mut translator: Translator<Heap>| {
        if let Some(kept) = kept {
            for rule in &kept.rules.rules {
                let done = translator.divert(rule.divert());
                done.map_err(|error| format!("snapshot: rule {}: {error}", rule.divert()))?;
            }
            translator.set_client_limit(kept.rules.client_limit).map_err(|error| error.to_string())?;
            translator.set_timeouts(kept.rules.timeouts).map_err(|error| format!("snapshot: {error}"))?;
        }
        changes.apply(&mut translator)?;
        let mut router = Router::new(translator, config.router.clone());
        router.fail_open(changes.open().clone());
        if let Some(pool) = config.names.as_ref().and_then(|names| names.pool) {
            router.close(pool);
        }
        Ok(router)
    };
    translators.into_iter().map(with_rules).collect()
}

/// The naming server for all routers, with the entries of the snapshot, changed by what the configuration says since.
fn naming(
    config: &Config,
    routers: &mut [Router],
    kept: Option<&Snapshot>,
) -> Result<Option<Arc<Naming>>, String> {
    let Some(section) = &config.names else {
        return Ok(None);
    };
    // One secret is for which client gets which address, and for the cookies; the other for what tells relayed queries apart.
    let secrets = [random()?, random()?];
    let naming = Arc::new(Naming::new(section, secrets, config.router.address, config.router.mtu)?);
    if let Some(first) = routers.first() {
        let names = &mut naming.lock().names;
        let (there, said) = kept.map_or((&[][..], &[][..]), |kept| (&kept.rules.names, &kept.said.names));
        let mut changes: Vec<_> = there.iter().map(|entry| NameChanges::setting(entry.clone())).collect();
        changes.extend(NameChanges::between(said, config.entries()).one_by_one());
        for change in changes {
            if let Err(why) = change.apply(names, &first.translator) {
                // Its rule has been removed, or there is less room than before.
                warn!("{why}: it is not answered");
            }
        }
    }
    for router in routers {
        router.answer_names(naming.clone());
    }
    Ok(Some(naming))
}

/// Imports each connection of a snapshot. The rules are there already.
fn take_over(routers: &mut [Router], sharding: &Sharding, kept: &Snapshot) {
    let mut lost = 0_usize;
    let mut of_each = vec![Vec::new(); routers.len()];
    let firsts = kept.records.iter().filter(|record| !record.is_second());
    for record in firsts.clone() {
        let shard = record.connection().and_then(|connection| sharding.shard_of(&connection));
        match shard.and_then(|shard| of_each.get_mut(shard)) {
            Some(records) => records.push(*record),
            None => lost += 1,
        }
    }
    for (router, records) in routers.iter_mut().zip(of_each) {
        router.import_all(kept.time, &records, |why| {
            lost += 1;
            tracing::debug!("a connection is not carried on: {why}");
        });
    }
    let taken = firsts.count() - lost;
    for record in kept.records.iter().filter(|record| record.is_second()) {
        // Its connection is in one of them.
        let imported = routers.iter_mut().any(|router| router.import(kept.time, record).is_ok());
        if !imported {
            tracing::debug!("a connection cannot be handed over any more");
        }
    }
    if lost > 0 {
        warn!(taken, lost, "connections of the snapshot are lost: the number of queues or the room for them has changed");
    } else {
        info!(taken, "connections carried on");
    }
}

/// Warns of kernel settings that byway needs and does not make.
fn warn_of_settings() {
    let forwards = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    if forwards.is_ok_and(|text| text.trim() == "0") {
        warn!("net.ipv4.ip_forward is 0: the kernel forwards nothing (sysctl -w net.ipv4.ip_forward=1)");
    }
}
