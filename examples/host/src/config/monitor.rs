//! What `byway monitor` reads: translators, services, and the rules that stand above the model. `docs/monitor.md` describes
//! the fields.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use byway::control::{MAX_INTERVAL, MAX_SERVERS, MIN_INTERVAL};
use byway::{Match, ParseError, Prefix, Redivert, Target, Weighted};

use super::load::Load;
use super::locations::Locations;
use super::document::{ConfigError, Fault, Table, Value, parse};
use super::{document, key_file, path};
use crate::monitor::rules::Clients;
use crate::monitor::window::{DAYS, Window};

/// A monitor's configuration.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// How often translators send reports.
    pub interval: Duration,
    /// Of several monitors with the same keys the one with the lowest rank acts; of the same rank the one that has run
    /// longest.
    pub rank: u16,
    /// Whether nothing is sent: decisions are made, stored and explained, and the translators stay as they are.
    pub dry_run: bool,
    /// Where decisions are stored.
    pub journal: PathBuf,
    /// How many rules for some clients there may be.
    pub client_rules: usize,
    /// Where the page is.
    pub page: Option<SocketAddr>,
    /// The file with the page's token; made if it is not there.
    pub token: PathBuf,
    /// The translators that send reports.
    pub translators: Vec<Translator>,
    /// The services that the monitor decides about.
    pub services: Vec<Service>,
    /// Servers that report their load.
    pub loads: Vec<Load>,
    /// Rules that take precedence over the model.
    pub rules: Vec<Rule>,
    /// Settings from the command line, which override the file.
    pub overrides: Overrides,
}

/// Settings from the command line that override the file, also when it is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Where the page is.
    pub page: Option<SocketAddr>,
    /// Whether nothing is sent, whatever the file says.
    pub dry_run: bool,
}

/// A translator.
#[derive(Clone, PartialEq, Eq)]
pub struct Translator {
    /// What it is called.
    pub name: String,
    /// Its control port.
    pub at: SocketAddr,
    /// The key's number and secret.
    pub key: (u16, [u8; 32]),
}

impl core::fmt::Debug for Translator {
    /// Everything but the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Translator").field("name", &self.name).field("at", &self.at).finish_non_exhaustive()
    }
}

/// How many times as slow as the others a server is emptied, where nothing else is said and open connections can be shared anew.
const SLOW: u8 = 4;

/// A rule of the translators, and how its servers share the clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// The rule's match.
    pub matches: Match,
    /// Its servers, with the weights to begin with.
    pub servers: Vec<Weighted>,
    /// What happens to the open connections of a server that is ejected or must be emptied.
    pub open_connections: Redivert,
    /// Whether open connections of a server whose share falls are handed over to others, until all servers are equally loaded.
    pub rebalance: bool,
    /// How many times as long as those of the others a server's requests may take before it is emptied; zero if that does not
    /// matter.
    pub slow: u8,
    /// How much of all shares may be moved at once, in per cent.
    pub most_moved: u8,
    /// How long shares stay as they are after a change.
    pub dwell: Duration,
}

/// A rule above the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// The line that it begins in.
    pub line: usize,
    /// The place of its service.
    pub service: usize,
    /// The places of its servers in the service.
    pub servers: Vec<usize>,
    /// What it demands of them.
    pub demand: Demand,
    /// When it holds; always if `None`.
    pub window: Option<Window>,
    /// The locations that its clients are in, if it says so.
    pub locations: Vec<String>,
}

impl Rule {
    /// For how many prefixes of clients the translators get rules of their own because of this rule.
    #[must_use]
    pub fn clients(&self) -> usize {
        if let Demand::Only(Some(clients)) = &self.demand { clients.len() } else { 0 }
    }
}

/// What a rule demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Its servers get at most this share each, in per cent.
    Maximum(u8),
    /// Its servers get nothing new, and their open connections are moved as the service says.
    Maintenance,
    /// Only its servers get anything; with prefixes, of these clients.
    Only(Option<Clients>),
}

impl Monitor {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, column and field, and says what was expected.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &document::text(file)?)
    }

    /// Reads what a command needs that talks to a running monitor: everything but the rules and the locations of clients.
    ///
    /// # Errors
    /// As [`Monitor::read`].
    pub fn read_for_command(file: &Path) -> Result<Self, ConfigError> {
        let text = document::text(file)?;
        of(file, &text, false).map_err(|fault| ConfigError::at(file, &text, fault))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Monitor::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        of(file, text, true).map_err(|fault| ConfigError::at(file, text, fault))
    }

    /// The same configuration with these overrides.
    #[must_use]
    pub fn with(mut self, overrides: Overrides) -> Self {
        self.page = overrides.page.or(self.page);
        self.dry_run |= overrides.dry_run;
        Self { overrides, ..self }
    }

    /// Whether this can take the place of `old` while the program runs: rules, loads and settings of services may change.
    ///
    /// # Errors
    /// Which field cannot change.
    pub fn check_reload(&self, old: &Self) -> Result<(), String> {
        let shape = |m: &Self| -> Vec<_> {
            m.services.iter().map(|s| (s.name.clone(), s.matches, s.servers.iter().map(|s| s.target).collect::<Vec<_>>())).collect()
        };
        let fixed = [
            ("translator", self.translators == old.translators),
            ("service", shape(self) == shape(old)),
            ("monitor.rank", self.rank == old.rank),
            ("monitor.page", self.page == old.page),
            ("monitor.journal", self.journal == old.journal),
            ("monitor.token", self.token == old.token),
            ("monitor.interval", self.interval == old.interval),
        ];
        match fixed.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((field, _)) => Err(format!("{field} cannot change while the monitor runs: restart it")),
        }
    }
}

fn of(file: &Path, text: &str, with_rules: bool) -> Result<Monitor, Fault> {
    let (document, span) = parse(text)?;
    let root = Table::root(&document, span);
    root.only(&["monitor", "translator", "service", "load", "rule"])?;
    let mut monitor = Monitor {
        interval: Duration::from_millis(250),
        rank: 100,
        client_rules: 1_000,
        dry_run: false,
        overrides: Overrides::default(),
        journal: path(file, "decisions.jsonl"),
        page: None,
        token: path(file, "monitor.token"),
        translators: Vec::new(),
        services: Vec::new(),
        loads: Vec::new(),
        rules: Vec::new(),
    };
    let mut locations = None;
    if let Some(table) = root.table("monitor")? {
        monitor.interval = table.or("interval", monitor.interval, |value| {
            let range = Duration::from_millis(MIN_INTERVAL.into())..=Duration::from_millis(MAX_INTERVAL.into());
            let interval = value.duration()?;
            if range.contains(&interval) { Ok(interval) } else { Err(value.fault("expected a time from 100ms to 60s")) }
        })?;
        monitor.rank = table.or("rank", monitor.rank, |value| value.number(0_u16..=999))?;
        monitor.client_rules = usize::from(table.or("client_rules", 1_000, |value| value.number(1_u16..=20_000))?);
        locations = table.get("locations").filter(|_| with_rules).map(|value| Places::read(file, &value)).transpose()?;
        monitor.dry_run = table.or("dry_run", false, Value::boolean)?;
        let name = |value: &Value<'_>| value.text("the name of a file").map(|name| path(file, name));
        monitor.journal = table.or("journal", monitor.journal, name)?;
        monitor.token = table.or("token", monitor.token, name)?;
        monitor.page = table.or("page", None, |value| {
            let at: SocketAddr = value.read("an address and port like \"127.0.0.1:8213\"")?;
            match at.ip().is_loopback() {
                true => Ok(Some(at)),
                false => Err(value.fault(format!("{at} found: expected a loopback address, since nothing is encrypted"))),
            }
        })?;
        table.finish()?;
    }
    for value in tables(&root, "translator")? {
        let translator = translator(file, &value)?;
        if monitor.translators.iter().any(|other| other.name == translator.name || other.at == translator.at) {
            return Err(value.fault("another translator has this name or address"));
        }
        monitor.translators.push(translator);
    }
    for value in tables(&root, "service")? {
        let service = service(&value)?;
        if monitor.services.iter().any(|other| other.name == service.name || other.matches == service.matches) {
            return Err(value.fault("another service has this name or match"));
        }
        monitor.services.push(service);
    }
    if monitor.translators.is_empty() || monitor.services.is_empty() {
        return Err(root.fault("a [[translator]] and a [[service]] are needed at least"));
    }
    for value in tables(&root, "load")? {
        let load = Load::read(&value, &monitor.services)?;
        if monitor.loads.iter().any(|other| other.server == load.server) {
            return Err(value.fault(format!("the load of {} is said twice", load.server)));
        }
        monitor.loads.push(load);
    }
    if let Some(listed) = root.get("rule").filter(|_| with_rules) {
        for value in listed.list("a list of tables: [[rule]]")? {
            let rule = rule(text, &value, &monitor.services, locations.as_ref())?;
            if monitor.rules.iter().any(|other: &Rule| other.name == rule.name) {
                return Err(value.fault(format!("another rule is called \"{}\"", rule.name)));
            }
            let mut all = monitor.rules.clone();
            all.push(rule.clone());
            let count = |rules: &[Rule]| -> usize { rules.iter().map(Rule::clients).sum() };
            if count(&all) > monitor.client_rules {
                let place = locations.as_ref().map_or(String::new(), |places| format!(" by {}", places.file.display()));
                return Err(value.fault(format!(
                    "rule \"{}\" (line {}) is {} rules for some clients{place}, and all together are {}: at most {} (monitor.client_rules)",
                    rule.name, rule.line, rule.clients(), count(&all), monitor.client_rules
                )));
            }
            if let Some(other) = crate::monitor::rules::conflict(&all, &monitor.services) {
                return Err(value.fault(format!(
                    "rule \"{}\" (line {}) and rule \"{}\" (line {}) leave no server of \"{}\" at times",
                    rule.name, rule.line, other.name, other.line, monitor.services[rule.service].name
                )));
            }
            monitor.rules.push(rule);
        }
    }
    Ok(monitor)
}

fn tables<'a>(root: &Table<'a>, name: &'static str) -> Result<Vec<Value<'a>>, Fault> {
    root.get(name).map_or(Ok(Vec::new()), |value| value.list("a list of tables"))
}

fn translator(file: &Path, value: &Value<'_>) -> Result<Translator, Fault> {
    const AT: &str = "the address and port of its control port, like \"10.0.0.1:5213\"";
    let table = value.table()?;
    let at: SocketAddr = table.need("at", AT)?.read(AT)?;
    let key = table.need("key", "the name of a key file")?;
    let (_, secret) = key_file(&key, file)?;
    let name = table.or("name", at.to_string(), |name| name.text("a name").map(String::from))?;
    table.finish()?;
    Ok(Translator { name, at, key: secret })
}

fn service(value: &Value<'_>) -> Result<Service, Fault> {
    const MATCH: &str = "ADDRESS[/LENGTH][:PORT] [tcp|udp|icmp] [from CLIENTS], like \"100.100.100.100:80 tcp\"";
    const SERVER: &str = "a server: ADDRESS[:PORT][*WEIGHT]";
    const OPEN: [(&str, Redivert); 5] = [
        ("switch", Redivert::Switch),
        ("drain", Redivert::Drain),
        ("reset", Redivert::Reset),
        ("hand-over", Redivert::HandOver),
        ("hand-over-or-reset", Redivert::HandOverOrReset),
    ];
    let table = value.table()?;
    let divert = table.need("divert", MATCH)?;
    let matches: Match = divert.text(MATCH)?.parse().map_err(|error: ParseError| divert.fault(error))?;
    let listed = table.need("servers", "a list of servers")?;
    let mut servers: Vec<Weighted> = Vec::new();
    for value in listed.list("a list of servers")? {
        let server: Weighted = value.text(SERVER)?.parse().map_err(|error: ParseError| value.fault(error))?;
        if server.target == Target::Same || server.weight == 0 {
            return Err(value.fault(format!("expected {SERVER}, with a weight above zero")));
        }
        if servers.iter().any(|other| other.target == server.target) {
            return Err(value.fault("this server is named twice"));
        }
        servers.push(server);
    }
    if !(1..=MAX_SERVERS).contains(&servers.len()) {
        return Err(listed.fault(format!("{} servers found: expected 1 to {MAX_SERVERS}", servers.len())));
    }
    let open_connections = table.or("open_connections", Redivert::Drain, |value| value.choice(&OPEN))?;
    let hands_over = matches!(open_connections, Redivert::HandOver | Redivert::HandOverOrReset);
    let rebalance = table.or("rebalance", hands_over, Value::boolean)?;
    let slow = table.or("slow", if rebalance { SLOW } else { 0 }, |value| match value.number(0_u8..=100)? {
        1 => Err(value.fault("1 found: expected 2 to 100, or 0 if it does not matter how slow a server is")),
        slow => Ok(slow),
    })?;
    let service = Service {
        name: table.or("name", matches.to_string(), |name| name.text("a name").map(String::from))?,
        matches,
        servers,
        open_connections,
        rebalance,
        slow,
        most_moved: table.or("most_moved", 20, |value| value.number(1_u8..=100))?,
        dwell: table.or("dwell", Duration::from_secs(3), Value::duration)?,
    };
    table.finish()?;
    Ok(service)
}

fn rule(text: &str, value: &Value<'_>, services: &[Service], places: Option<&Places>) -> Result<Rule, Fault> {
    let table = value.table()?;
    let place = table.fault("").span.start;
    let line = text.get(..place).unwrap_or(text).matches('\n').count() + 1;
    let name = table.or("name", format!("line {line}"), |name| name.text("a name").map(String::from))?;
    let service = match (table.get("service"), services) {
        (None, [_]) => 0,
        (None, _) => return Err(table.fault("service is missing: there are several")),
        (Some(value), _) => {
            let name = value.text("the name of a service")?;
            let found = services.iter().position(|service| service.name == name);
            found.ok_or_else(|| value.fault(format!("there is no service \"{name}\"")))?
        }
    };
    let listed = table.need("servers", "a list of servers of the service")?;
    let mut servers = Vec::new();
    for value in listed.one_or_more() {
        let target: Target = value.read("a server: ADDRESS[:PORT]")?;
        let found = services[service].servers.iter().position(|server| server.target == target);
        servers.push(found.ok_or_else(|| value.fault(format!("{target} is no server of \"{}\"", services[service].name)))?);
    }
    let maximum = table.or("maximum", None, |value| value.number(1_u8..=99).map(Some))?;
    let maintenance = table.or("maintenance", false, Value::boolean)?;
    let only = table.or("only", false, Value::boolean)?;
    let mut clients = table.or("clients", None, |value| clients(value, &services[service]).map(Some))?;
    let mut locations = Vec::new();
    if let Some(value) = table.get("location") {
        if clients.is_some() {
            return Err(value.fault("expected clients or location, not both"));
        }
        let all = places.map_or_else(|| Err(value.fault("monitor.locations is missing: the file that says where clients are")), |places| places.of(&value, &services[service]))?;
        locations = value.one_or_more().iter().filter_map(|value| value.text("").ok()).map(String::from).collect();
        clients = Some(all);
    }
    let demand = match (maximum, maintenance, only, clients) {
        (Some(maximum), false, false, None) => Demand::Maximum(maximum),
        (None, true, false, None) => Demand::Maintenance,
        (None, false, true, clients) => Demand::Only(clients),
        _ => return Err(table.fault("expected just one of maximum, maintenance and only; clients or location only with only")),
    };
    let window = window(&table)?;
    table.finish()?;
    Ok(Rule { name, line, service, servers, demand, window, locations })
}

/// The file that says where clients are.
struct Places {
    file: PathBuf,
    locations: Locations,
}

impl Places {
    fn read(config: &Path, value: &Value<'_>) -> Result<Self, Fault> {
        let file = path(config, value.text("the name of a file of locations: .csv or .mmdb")?);
        let locations = Locations::read(&file).map_err(|why| value.fault(why))?;
        Ok(Self { file, locations })
    }

    /// The clients of a service that are in one of the listed locations, as the fewest prefixes.
    fn of(&self, value: &Value<'_>, service: &Service) -> Result<Clients, Fault> {
        let mut names = Vec::new();
        for value in value.one_or_more() {
            let name = value.text("the name of a location")?;
            if !self.locations.has(name) {
                return Err(value.fault(format!("{} has no location \"{name}\"", self.file.display())));
            }
            names.push(name);
        }
        let whole = service.matches.from_clients();
        let all = self.locations.prefixes(&names, whole);
        if all.is_empty() || all.contains(&whole) {
            let (who, what) = if all.is_empty() { ("no", "can hold for nobody") } else { ("all", "needs no location") };
            return Err(value.fault(format!("by {}, {who} clients of \"{}\" are there: the rule {what}", self.file.display(), service.name)));
        }
        Ok(all.into())
    }
}

/// Prefixes that are narrower than the clients of the service: a rule for all its clients would be the service's own.
fn clients(value: &Value<'_>, service: &Service) -> Result<Clients, Fault> {
    let of_service = service.matches.from_clients();
    let mut all: Vec<Prefix> = Vec::new();
    for value in value.one_or_more() {
        let prefix = value.read("ADDRESS[/LENGTH]")?;
        if !is_part(prefix, of_service) {
            return Err(value.fault(format!("{prefix} is no part of the clients of \"{}\", {of_service}", service.name)));
        }
        if all.contains(&prefix) {
            return Err(value.fault(format!("{prefix} is named twice")));
        }
        all.push(prefix);
    }
    if all.is_empty() {
        return Err(value.fault("expected a prefix, or a list of some"));
    }
    Ok(all.into())
}

fn is_part(prefix: Prefix, whole: Prefix) -> bool {
    prefix.length() > whole.length() && whole.contains(prefix.network())
}

fn window(table: &Table<'_>) -> Result<Option<Window>, Fault> {
    const TIME: &str = "a time of day like \"22:00\"";
    let (from, to) = (table.get("from"), table.get("to"));
    let days = table.or("days", None, |value| {
        let mut days = [false; 7];
        for value in value.one_or_more() {
            days[value.choice(&DAYS)?] = true;
        }
        Ok(Some(days))
    })?;
    let zone = table.get("zone");
    if from.is_none() && to.is_none() && days.is_none() {
        return match zone {
            None => Ok(None),
            Some(zone) => Err(zone.fault("a zone says nothing without from, to or days")),
        };
    }
    let time = |value: Option<Value<'_>>| {
        value.map_or(Ok(0), |value| {
            let text = value.text(TIME)?;
            Window::minute(text).ok_or_else(|| value.fault(format!("\"{text}\" found: expected {TIME}")))
        })
    };
    let (from, to) = (time(from)?, time(to)?);
    let (name, place) = match &zone {
        None => return Err(table.fault("zone is missing, like \"Europe/Berlin\" or \"UTC\"")),
        Some(zone) => (zone.text("the name of a time zone")?, zone),
    };
    Window::new(days.unwrap_or([true; 7]), from, to, name).map(Some).map_err(|error| place.fault(error))
}
