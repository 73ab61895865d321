//! What an operator writes: a TOML file. `docs/host.md` describes its fields.

mod circles;
mod document;
mod fixed;
pub mod load;
mod locations;
pub mod monitor;
mod names;
mod nat;
mod pool;
mod portion;
mod relay;
mod report;
mod routed;
mod rules;
#[cfg(test)]
mod tests;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::path::{Path, PathBuf};

use byway::control::Rights;
use byway::naming::Pattern;
use byway::{AtRest, Greeted, ParseError, Prefix};

pub use document::{ConfigError, only_regular};
use document::{Fault, Table, Value};
use fixed::Fixed;
pub use names::{Answer, Entry, NamesSection};
pub use relay::RelaySection;
pub use nat::{Capacity, Nat};
pub use pool::Before;
pub use report::{Report, Transport};
pub use routed::Routed;
pub use rules::Rule;

use crate::portion::Settings as Portion;
use crate::resumable;
use crate::router::Settings;

/// How many keys the control port knows at most.
pub const MAX_KEYS: usize = 16;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The TUN device.
    pub device: Device,
    /// The router around the translators.
    pub router: Settings,
    /// The translators.
    pub nat: Nat,
    /// The rules, in the file's order.
    pub rules: Vec<Rule>,
    /// The names that are answered here.
    pub names: Option<NamesSection>,
    /// The port for instructions.
    pub control: Option<Control>,
    /// Where measurements and events are reported to.
    pub report: Option<Report>,
    /// The other portion, where each translates one direction only.
    pub portion: Option<Portion>,
    /// Where the metrics page is.
    pub metrics: Option<SocketAddrV4>,
    /// The privileges that the process keeps after it has opened everything.
    pub privileges: Privileges,
    /// The file that keeps the connections over a restart.
    pub snapshot: Option<PathBuf>,
    file: PathBuf,
    text: String,
    /// Fields that cannot change while the program runs.
    fixed: Vec<Fixed>,
}

/// The TUN device and its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// How many queues, and so threads and shards.
    pub queues: usize,
    /// The longest packet that it takes, in bytes.
    pub mtu: u16,
    /// How many packets each queue can hold.
    pub queue_length: u32,
    /// Whether super-packets and unfinished checksums come through it.
    pub offload: bool,
    /// Whether the program sets up the device's address and routes, or finds them there.
    pub configure: bool,
    /// The source of the kernel's own ICMP errors about translated packets: an address that the machine has. Without it, any
    /// address of the machine.
    pub address: Option<Ipv4Addr>,
    /// The prefixes that are routed to it.
    pub routes: Vec<Prefix>,
    /// Whether the configuration lists them. Otherwise they are what the rules are about.
    pub routes_listed: bool,
    /// The number of its routing table, which is also the priority of the rule that selects the table.
    pub table: u32,
    /// Whether packets to the routed prefixes are dropped, and not routed elsewhere, while the program does not run.
    pub blackhole: bool,
}

/// The privileges that the process keeps after it has opened everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The user that it becomes.
    pub user: Option<String>,
    /// Whether the kernel denies it files and sockets that it does not need.
    pub confine: bool,
}

/// The port for instructions.
#[derive(Clone, Debug)]
pub struct Control {
    /// Where it listens.
    pub listen: SocketAddrV4,
    /// The keys, with what their owners may do.
    pub keys: Vec<ControlKey>,
}

/// A key of the control port.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlKey {
    /// Its number.
    pub id: u16,
    /// Its secret.
    pub secret: [u8; 32],
    /// What its owner may do.
    pub rights: Rights,
    /// Which names it may change besides.
    pub names: Vec<Pattern>,
    /// The file that it was read from.
    pub file: PathBuf,
}

impl core::fmt::Debug for ControlKey {
    /// Everything but the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ControlKey").field("id", &self.id).field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, column and field, and says what was expected.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, document::text(file)?)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(file: &Path, text: String) -> Result<Self, ConfigError> {
        match Self::of(file, &text) {
            Ok(config) => Ok(Self { text, ..config }),
            Err(fault) => Err(ConfigError::at(file, &text, fault)),
        }
    }

    fn of(file: &Path, text: &str) -> Result<Self, Fault> {
        let (document, span) = document::parse(text)?;
        let root = Table::root(&document, span);
        root.only(&[
            "device",
            "router",
            "nat",
            "timeouts",
            "groups",
            "rule",
            "names",
            "control",
            "metrics",
            "portion",
            "privileges",
            "report",
            "resumable",
            "state",
        ])?;
        let mut nat = nat::read(&root)?;
        let report = report::read(&root)?;
        nat.capacity.report = report.is_some();
        let groups = rules::groups(&root)?;
        let rules = rules::read(&root, &groups)?;
        circles::refuse(&rules)?;
        let portion = root.table("portion")?.map(|table| portion::read(&table, file, &nat, &rules)).transpose()?;
        if let (None, Some(rule)) = (nat.alternatives.first(), rules.iter().find(|rule| !rule.options.keep_source)) {
            return Err(rule.fault("it replaces the source, and nat.alternatives has nothing to replace it with"));
        }
        let router = Settings { early: portion.as_ref().map(|portion| portion.direction), ..router(&root, &nat)? };
        let mut names = names::read(&root, &nat, &rules, &groups)?;
        let pooled = names.as_ref().and_then(|names| names.pooled.first());
        if let (Some(portion), Some(pooled)) = (&portion, pooled) {
            portion::check_rule(portion.direction, &pooled.rule)?;
        }
        let device = device(&root, &nat, &rules, names.as_ref().and_then(|names| names.pool))?;
        if let Some(relay) = names.as_mut().and_then(|names| names.relay.as_mut()) {
            relay.mtu = device.mtu.min(router.mtu);
        }
        let control = root.table("control")?.map(|table| control(&table, file)).transpose()?;
        let metrics = match root.table("metrics")? {
            None => None,
            Some(table) => {
                const EXPECTED: &str = "an address and port like \"127.0.0.1:9207\"";
                let listen = table.need("listen", EXPECTED)?.endpoint(EXPECTED)?;
                table.finish()?;
                Some(listen)
            }
        };
        let mut privileges = Privileges { user: None, confine: true };
        if let Some(table) = root.table("privileges")? {
            let name = |value: &Value<'_>| value.text("the name of a user").map(|name| Some(name.into()));
            privileges.user = table.or("user", None, name)?;
            privileges.confine = table.or("confine", true, Value::boolean)?;
            table.finish()?;
        }
        let snapshot = match root.table("state")? {
            None => None,
            Some(table) => {
                let file_of = |value: Value<'_>| Ok(path(file, value.text("the name of a file")?));
                let snapshot = table.get("snapshot").map(file_of).transpose()?;
                table.finish()?;
                snapshot
            }
        };
        let fixed = fixed::all(&root, text);
        let (file, text) = (file.into(), String::new());
        let config = Self {
            device,
            router,
            nat,
            rules,
            names,
            control,
            report,
            portion,
            metrics,
            privileges,
            snapshot,
            file,
            text,
            fixed,
        };
        config.try_out()?;
        Ok(config)
    }

    /// Whether this can take the place of `old` while the program runs.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that cannot change, or a rule that has no route.
    pub fn check_reload(&self, old: &Self) -> Result<(), ConfigError> {
        match fixed::difference(&old.fixed, &self.fixed) {
            Some(fault) => Err(ConfigError::at(&self.file, &self.text, fault)),
            None => self.check_routes(&old.device),
        }
    }

    /// The entries of the naming server, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        self.names.as_ref().map_or(&[], |names| &names.entries)
    }

    /// Where it was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Applies everything to temporary translators, so that what they refuse is reported with its place.
    fn try_out(&self) -> Result<(), Fault> {
        let mut config = self.clone();
        config.draw_all(None)?;
        config.try_out_drawn()
    }

    fn try_out_drawn(&self) -> Result<(), Fault> {
        self.names.as_ref().map_or(Ok(()), NamesSection::try_out)?;
        let ejects = self.rules.iter().any(|rule| rule.options.ejecting);
        let mut sharded = self.nat.try_out(self.device.queues, ejects)?;
        for rule in &self.rules {
            sharded.divert(rule.divert()).map_err(|error| rule.fault(error))?;
        }
        Ok(())
    }
}

fn router(root: &Table<'_>, nat: &Nat) -> Result<Settings, Fault> {
    let table = root.table("router")?;
    let address = Ipv4Addr::UNSPECIFIED;
    let resumable = resumable(root)?;
    let default = Settings { address, mtu: 1500, errors_per_second: 100, held: 64, resumable, early: None };
    let Some(table) = table else {
        return match nat.own.first() {
            Some(address) => Ok(Settings { address: *address, ..default }),
            None => Err(root.fault("a [router] with an address is missing: ICMP errors come from it")),
        };
    };
    // Read together with the translators' own addresses.
    let _ = table.get("own");
    let settings = Settings {
        address: table.need("address", ADDRESS)?.read(ADDRESS)?,
        mtu: table.or("mtu", default.mtu, |v| v.number(68..=65535))?,
        errors_per_second: table
            .or("icmp_errors_per_second", default.errors_per_second, |v| v.number(0..=1_000_000))?,
        held: table.or("held_fragments", 64_u32, |v| v.number(0..=65_536))? as usize,
        ..default
    };
    table.finish()?;
    Ok(settings)
}

/// How connections of resumable rules are handed over. `None` if none can be.
fn resumable(root: &Table<'_>) -> Result<Option<resumable::Settings>, Fault> {
    let Some(table) = root.table("resumable")? else {
        return Ok(None);
    };
    let settings = resumable::Settings {
        at_rest: Greeted {
            at_rest: AtRest::after(table.or("quiet", Duration::from_millis(500), Value::duration)?),
            greeting: table.or("greeting", 0_u32, |v| v.number(0..=4096))? as usize,
        },
        remembered: table.or("remembered", 16_384_u32, |v| v.number(0..=1_000_000))? as usize,
        patience: table.or("patience", Duration::from_secs(60), Value::duration)?,
    };
    table.finish()?;
    Ok(Some(settings))
}

/// The expected form of an address, for errors.
const ADDRESS: &str = "an IPv4 address like \"10.0.0.1\"";

fn device(root: &Table<'_>, nat: &Nat, rules: &[Rule], pool: Option<Prefix>) -> Result<Device, Fault> {
    const NAME: &str = "a name of 1 to 15 letters, digits, dots, dashes and underscores";
    let default = Device {
        name: "byway0".into(),
        queues: 1,
        mtu: 1500,
        queue_length: 2000,
        offload: true,
        configure: true,
        address: None,
        routes: Vec::new(),
        routes_listed: false,
        table: 7207,
        blackhole: true,
    };
    // Replies, and packets to own addresses or to the names' pool, must always come here.
    let mut routes = nat.routes();
    routes.extend(pool);
    let table = root.table("device")?;
    let listed = table.as_ref().and_then(|table| table.get("routes"));
    match &listed {
        Some(listed) => {
            for prefix in listed.list("a list of prefixes")? {
                routes.push(prefix.read("a prefix like \"100.100.100.0/24\"")?);
            }
        }
        None => {
            for rule in rules {
                let prefix = rule.matches.destination();
                if prefix.length() < routed::SHORTEST {
                    let problem = format!(
                        "{prefix} is too much to be routed to the device because a rule says so: list device.routes"
                    );
                    return Err(rule.fault(problem));
                }
                routes.push(prefix);
            }
        }
    }
    routes.sort_by_key(|prefix| (prefix.network(), prefix.length()));
    routes.dedup();
    let Some(table) = table else {
        return Ok(Device { routes, ..default });
    };
    let name = match table.get("name") {
        None => default.name,
        Some(value) => {
            let name = value.text(NAME)?;
            let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !(1..=15).contains(&name.len()) || !name.chars().all(is_good) || name.starts_with('.') {
                return Err(value.fault(format!("\"{name}\" found: expected {NAME}")));
            }
            name.into()
        }
    };
    let device = Device {
        name,
        queues: table.or("queues", default.queues as u32, |v| v.number(1..=256))? as usize,
        mtu: table.or("mtu", default.mtu, |v| v.number(68..=65535))?,
        queue_length: table.or("queue_length", default.queue_length, |v| v.number(1..=1_000_000))?,
        offload: table.or("offload", default.offload, Value::boolean)?,
        configure: table.or("configure", default.configure, Value::boolean)?,
        address: table.or("address", None, |v| v.read(ADDRESS).map(Some))?,
        routes,
        routes_listed: listed.is_some(),
        table: table.or("table", default.table, own_table)?,
        blackhole: table.or("blackhole", default.blackhole, Value::boolean)?,
    };
    table.finish()?;
    routed::refuse(&device, rules)?;
    Ok(device)
}

/// The number of a routing table that is not one of the kernel's: for every packet, byway's own table is searched first.
fn own_table(value: &Value<'_>) -> Result<u32, Fault> {
    match value.number(1..=32_000)? {
        number @ 253..=255 => {
            Err(value.fault(format!("{number} found: that is the kernel's own table: expected one that nothing else uses")))
        }
        number => Ok(number),
    }
}

fn control(table: &Table<'_>, file: &Path) -> Result<Control, Fault> {
    const RIGHTS: &str = "\"read\", \"all\", or \"divert PREFIX\"";
    const ADDRESS: &str = "an address and port like \"127.0.0.1:5213\"";
    let listen = table.need("listen", ADDRESS)?.endpoint(ADDRESS)?;
    let mut keys: Vec<ControlKey> = Vec::new();
    let listed = table.need("key", "at least one [[control.key]]")?;
    for value in listed.list("a list of tables: [[control.key]]")? {
        let key = value.table()?;
        let name = key.need("file", "the name of a key file")?;
        let (key_file, (id, secret)) = key_file(&name, file)?;
        let rights = key.or("rights", Rights::All, |value| {
            let text = value.text(RIGHTS)?;
            match text.split_once(' ') {
                None if text == "read" => Ok(Rights::Read),
                None if text == "all" => Ok(Rights::All),
                Some(("divert", prefix)) => {
                    prefix.parse().map(Rights::Divert).map_err(|error: ParseError| value.fault(error))
                }
                _ => Err(value.fault(format!("\"{text}\" found: expected {RIGHTS}"))),
            }
        })?;
        let names = key.or("names", Vec::new(), |value| value.one_or_more().iter().map(names::pattern).collect())?;
        key.finish()?;
        if keys.iter().any(|key| key.id == id) {
            return Err(name.fault(format!("there is another key {id}")));
        }
        keys.push(ControlKey { id, secret, rights, names, file: key_file });
    }
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(listed.fault(format!("{} keys found: expected 1 to {MAX_KEYS}", keys.len())));
    }
    table.finish()?;
    Ok(Control { listen, keys })
}

/// The path of the key file that a value names, and the number and the secret in it.
fn key_file(value: &Value<'_>, file: &Path) -> Result<(PathBuf, (u16, [u8; 32])), Fault> {
    let name = path(file, value.text("the name of a key file")?);
    let regular = only_regular(&name).map_err(|problem| format!("key file {}: {problem}", name.display()));
    let key = regular.and_then(|()| byway_key_file::read(&name)).map_err(|problem| value.fault(problem))?;
    Ok((name, key))
}

/// The path of a file that is named relative to the configuration's folder.
fn path(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}
