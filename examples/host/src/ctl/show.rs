//! Answers in words, or in JSON.

use byway::control::{Answer, Code, Effect, NameSizes, Outcome, RefusedBy, Rights, Settings, counter_name};
use byway::naming::{Pattern, WeightedAddress};
use byway::{Connection, Event, Match, Measured, Midstream, Prefix, Volume, Weighted};

use super::changes::FIELDS;
use super::json::Json;

/// The effect of a change in a sentence; a change of a rule, or of an entry of a name.
pub(crate) fn effect(effect: Effect, of_name: bool, dry_run: bool) -> String {
    let Effect { outcome, servers, connections, .. } = effect;
    let would = if dry_run { "would be " } else { "" };
    match outcome {
        Outcome::Updated if of_name => format!("{would}updated"),
        Outcome::Removed if of_name => {
            format!("{would}removed; who has cached the answer keeps it for its time to live")
        }
        Outcome::Absent if of_name => "there is no such name".into(),
        Outcome::Inserted => format!("{would}inserted"),
        Outcome::Updated => format!("{would}updated; connections that stay on former servers: {connections}"),
        Outcome::Unchanged => "nothing to change".into(),
        Outcome::Removed => format!("{would}removed; connections that stay until they end: {connections}"),
        Outcome::Absent => "there is no such rule".into(),
        Outcome::Rediverted => format!("{would}re-diverted; rules' servers: {servers}, connections: {connections}"),
        Outcome::Set => format!("{would}set"),
        Outcome::Forgotten => format!("{would}forgotten; connections: {connections}"),
    }
}

/// The same as a JSON object; `line` is that of the instruction, if it was one of several.
pub(crate) fn effect_json(effect: Effect, line: Option<usize>) -> Json {
    let mut fields = line_field(line);
    fields.extend([
        ("outcome", effect.outcome.name().into()),
        ("servers", u64::from(effect.servers).into()),
        ("connections", u64::from(effect.connections).into()),
    ]);
    Json::Object(fields)
}

fn line_field(line: Option<usize>) -> Vec<(&'static str, Json)> {
    line.map(|line| ("line", (line as u64).into())).into_iter().collect()
}

/// Why a request was refused, in words, and for which line of a file.
pub(crate) fn refusal(why: RefusedBy, line: Option<usize>) -> String {
    let RefusedBy { code, number, detail, .. } = why;
    let refused = line.map_or("refused".into(), |line| format!("refused, line {line}"));
    match code {
        Some(code @ (Code::TableFull | Code::ServersFull | Code::Busy | Code::NamesFull | Code::EntriesTied)) => {
            format!("{refused}: {code} ({detail})")
        }
        Some(code @ (Code::TimeoutTooShort | Code::TimeoutTooLong)) => {
            let field = FIELDS.get(detail as usize).unwrap_or(&"?");
            format!("{refused}: {code} ({field})")
        }
        Some(code) => format!("{refused}: {code}"),
        None => format!("{refused}: code {number}"),
    }
}

pub(crate) fn refusal_json(why: RefusedBy, line: Option<usize>) -> Json {
    let text = why.code.map(Code::text);
    let detail = u64::from(why.detail);
    let mut fields = vec![("refused", text.into()), ("code", u64::from(why.number).into()), ("detail", detail.into())];
    fields.extend(line_field(line));
    Json::Object(fields)
}

/// A rule as it was listed.
pub(crate) struct Rule {
    pub(crate) matches: Match,
    keeps_source: bool,
    any_port: bool,
    resumable: bool,
    least_loaded: bool,
    ejecting: bool,
    midstream: Option<Midstream>,
    in_all: u16,
    servers: Vec<(Weighted, u32)>,
}

pub(crate) fn rules(answer: &Answer<'_>) -> (Vec<Rule>, Option<u32>) {
    let (rules, next) = answer.rules();
    let rules = rules.map(|r| Rule {
        matches: r.matches(),
        keeps_source: r.keeps_source(),
        any_port: r.takes_replies_from_any_port(),
        resumable: r.is_resumable(),
        least_loaded: r.is_least_loaded(),
        ejecting: r.is_ejecting(),
        midstream: r.midstream(),
        in_all: r.servers_in_all(),
        servers: r.servers().collect(),
    });
    (rules.collect(), next)
}

impl Rule {
    pub(crate) fn line(&self) -> String {
        let several = self.servers.len() > 1;
        let server = |(server, connections): &(Weighted, u32)| {
            let weight = if several { format!("*{}", server.weight) } else { String::new() };
            format!("{}{weight} ({connections})", server.target)
        };
        let servers: Vec<_> = self.servers.iter().map(server).collect();
        let more = usize::from(self.in_all) - self.servers.len().min(usize::from(self.in_all));
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        let flags = [
            (self.keeps_source, ", source kept"),
            (self.any_port, ", answers from any port"),
            (self.resumable, ", resumable"),
            (self.least_loaded, ", least loaded"),
            (self.ejecting, ", ejects"),
        ];
        let flags: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
        let midstream = self.midstream.map_or(String::new(), |m| format!(", midstream {m}"));
        format!("{} -> {}{more}{flags}{midstream}", self.matches, servers.join(", "))
    }

    pub(crate) fn json(&self) -> Json {
        let server = |(server, connections): &(Weighted, u32)| {
            Json::Object(vec![
                ("target", server.target.to_string().into()),
                ("weight", u64::from(server.weight).into()),
                ("connections", u64::from(*connections).into()),
            ])
        };
        Json::Object(vec![
            ("destination", self.matches.destination().to_string().into()),
            ("port", self.matches.port().map(u64::from).into()),
            ("protocol", self.matches.limited_to().map(|p| p.to_string()).into()),
            ("clients", self.matches.from_clients().to_string().into()),
            ("keep_source", self.keeps_source.into()),
            ("any_port", self.any_port.into()),
            ("resumable", self.resumable.into()),
            ("least_loaded", self.least_loaded.into()),
            ("eject", self.ejecting.into()),
            ("midstream", self.midstream.map(|m| m.to_string()).into()),
            ("servers", Json::List(self.servers.iter().map(server).collect())),
        ])
    }
}

/// An entry of the naming server as it was listed.
pub(crate) struct Name {
    pattern: Pattern,
    clients: Prefix,
    ttl: u32,
    addresses: Vec<WeightedAddress>,
    rule: Option<Match>,
    suspended: bool,
}

/// A page of entries, how many there are and fit, and where the next page begins.
pub(crate) fn names(answer: &Answer<'_>) -> (Vec<Name>, Option<NameSizes>, Option<u32>) {
    let (entries, next) = answer.names();
    let entries = entries.map(|e| Name {
        pattern: e.pattern(),
        clients: e.clients(),
        ttl: e.ttl(),
        addresses: e.addresses().collect(),
        rule: e.rule(),
        suspended: e.is_suspended(),
    });
    (entries.collect(), answer.name_sizes(), next)
}

impl Name {
    /// The sort key: related names stand together.
    pub(crate) fn order(&self) -> (Vec<String>, bool, String) {
        let name = self.pattern.name().to_string();
        let labels = name.split('.').rev().map(String::from).collect();
        (labels, self.pattern.is_suffix(), self.clients.to_string())
    }

    pub(crate) fn line(&self) -> String {
        let several = self.addresses.len() > 1;
        let address = |a: &WeightedAddress| {
            if several { format!("{}*{}", a.address, a.weight) } else { a.address.to_string() }
        };
        let addresses: Vec<_> = self.addresses.iter().map(address).collect();
        let clients = if self.clients == Prefix::ALL { String::new() } else { format!(" from {}", self.clients) };
        let rule = self.rule.map_or(String::new(), |rule| format!(", tied to the rule for {rule}"));
        let suspended = if self.suspended { ", which is gone: not answered" } else { "" };
        format!("{}{clients} -> {}, {} s{rule}{suspended}", self.pattern, addresses.join(", "), self.ttl)
    }

    pub(crate) fn json(&self) -> Json {
        let address = |a: &WeightedAddress| {
            Json::Object(vec![("address", a.address.to_string().into()), ("weight", u64::from(a.weight).into())])
        };
        Json::Object(vec![
            ("name", self.pattern.to_string().into()),
            ("clients", self.clients.to_string().into()),
            ("ttl", u64::from(self.ttl).into()),
            ("addresses", Json::List(self.addresses.iter().map(address).collect())),
            ("rule", self.rule.map(|rule| rule.to_string()).into()),
            ("suspended", self.suspended.into()),
        ])
    }
}

pub(crate) type Entry = (Connection, Option<Measured>);

/// A table of connections; those that carried most come first.
pub(crate) fn connections(entries: &mut [Entry], lines: usize) -> String {
    let bytes = |(_, m): &Entry| m.map_or(0, |m| m.to_server.bytes + m.to_client.bytes);
    entries.sort_by_key(|e| core::cmp::Reverse(bytes(e)));
    let row = |a: &[&str; 8]| {
        let [protocol, client, original, server, state, up, down, trip] = a;
        let ends = format!("{protocol:5} {client:21} {original:21} {server:21}");
        format!("{ends} {state:13} {up:>9} {down:>9} {trip:>8}\n")
    };
    let mut table = row(&["", "client", "original", "server", "state", "to server", "to client", "trip"]);
    for (c, m) in entries.iter().take(lines) {
        let size = |v: fn(&Measured) -> Volume| m.as_ref().map_or("-".into(), |m| short(v(m).bytes));
        let trip = m.and_then(|m| m.round_trip).map_or("-".into(), |t| format!("{:.1} ms", t.as_secs_f64() * 1e3));
        let [client, original, server] = [c.client_side.source, c.original(), c.server()].map(|e| e.to_string());
        let (protocol, up, down) = (c.protocol.to_string(), size(|m| m.to_server), size(|m| m.to_client));
        table += &row(&[&protocol, &client, &original, &server, c.state.name(), &up, &down, &trip]);
    }
    if entries.len() > lines {
        table += &format!("and {} more\n", entries.len() - lines);
    }
    table
}

/// Bytes in at most four digits and a unit.
fn short(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["", " K", " M", " G", " T"] {
        if value < 10_000 {
            return format!("{value}{unit}");
        }
        value /= 1_000;
    }
    format!("{value} P")
}

fn connection_fields(c: &Connection) -> Vec<(&'static str, Json)> {
    vec![
        ("protocol", c.protocol.to_string().into()),
        ("client", c.client_side.source.to_string().into()),
        ("original", c.original().to_string().into()),
        ("alternative", c.server_side.source.to_string().into()),
        ("server", c.server().to_string().into()),
        ("state", c.state.name().into()),
    ]
}

pub(crate) fn connection_json((connection, measured): &Entry) -> Json {
    let mut fields = connection_fields(connection);
    if let Some(m) = measured {
        let volume = |v: Volume| {
            Json::Object(vec![
                ("packets", v.packets.into()),
                ("bytes", v.bytes.into()),
                ("smallest", u64::from(v.smallest).into()),
                ("largest", u64::from(v.largest).into()),
            ])
        };
        let micros = |d: core::time::Duration| d.as_micros() as u64;
        fields.extend([
            ("to_server", volume(m.to_server)),
            ("to_client", volume(m.to_client)),
            ("first_us", m.first.as_micros().into()),
            ("last_us", m.last.as_micros().into()),
            ("server_handshake_us", m.server_handshake.map(micros).into()),
            ("client_handshake_us", m.client_handshake.map(micros).into()),
            ("round_trip_us", m.round_trip.map(micros).into()),
            ("retransmissions", u64::from(m.retransmissions).into()),
            ("resets", u64::from(m.resets).into()),
            ("icmp_errors", u64::from(m.icmp_errors).into()),
        ]);
    }
    Json::Object(fields)
}

/// The parts of an event: its name, the connection, and a detail.
fn event_parts(event: &Event) -> (&'static str, Option<&Connection>, String) {
    match event {
        Event::Opened(c) => ("opened", Some(c), String::new()),
        Event::Changed(c) => ("changed", Some(c), c.state.name().into()),
        Event::Moved { connection, from } => ("moved", Some(connection), format!("from {from}")),
        Event::Closed { connection, why } => ("closed", Some(connection), why.name().into()),
        _ => ("unknown", None, String::new()),
    }
}

pub(crate) fn event(event: &Event) -> String {
    let (name, connection, more) = event_parts(event);
    let connection = connection.map(|c| format!("{} {c}", c.protocol)).unwrap_or_default();
    format!("{name:7} {connection} {more}").trim_end().to_string()
}

pub(crate) fn event_json(event: &Event) -> Json {
    let (name, connection, more) = event_parts(event);
    let mut fields = vec![("event", name.into())];
    fields.extend(connection.map(connection_fields).unwrap_or_default());
    fields.push(("detail", (!more.is_empty()).then_some(more).into()));
    Json::Object(fields)
}

pub(crate) fn counters(counters: &[(u16, u64)], json: bool) -> String {
    // Numbers of a later version of the protocol have no name here.
    let named = counters.iter().filter_map(|(number, value)| Some((counter_name(*number)?, *value)));
    if json {
        return Json::Object(named.map(|(name, value)| (name, value.into())).collect()).to_string();
    }
    let lines: Vec<_> = named.filter(|(_, value)| *value != 0).map(|(name, v)| format!("{name:23} {v:>12}")).collect();
    lines.join("\n")
}

/// The counters that are not zero, and what was added to each since.
pub(crate) fn rates(now: &[(u16, u64)], before: &[(u16, u64)]) -> String {
    let mut lines = vec![format!("{:23} {:>12} {:>12}", "", "so far", "in a second")];
    for (number, value) in now {
        let earlier = before.iter().find(|(earlier, _)| earlier == number).map_or(0, |(_, value)| *value);
        if let Some(name) = counter_name(*number)
            && *value != 0
        {
            lines.push(format!("{name:23} {value:>12} {:>12}", value.saturating_sub(earlier)));
        }
    }
    lines.join("\n")
}

pub(crate) fn settings(s: &Settings, json: bool) -> String {
    let rights = match s.rights {
        Rights::Read => "read".to_string(),
        Rights::Divert(prefix) => format!("divert within {prefix}"),
        Rights::All => "all".to_string(),
    };
    let t = s.timeouts;
    let timeouts = [
        ("tcp_established_ms", t.tcp_established),
        ("tcp_transitory_ms", t.tcp_transitory),
        ("udp_ms", t.udp),
        ("icmp_ms", t.icmp),
        ("fragment_ms", t.fragment),
        ("hold_ms", t.hold),
    ];
    let numbers = [
        ("client_limit", s.client_limit),
        ("rules", s.rules),
        ("capacity", s.capacity),
        ("slots_in_use", s.slots_in_use),
    ];
    let timeouts = timeouts.map(|(name, t)| (name, t.as_millis() as u64));
    let all = timeouts.into_iter().chain(numbers.map(|(name, n)| (name, u64::from(n))));
    if json {
        let fields = all.map(|(name, n)| (name, n.into())).chain([("rights", rights.into())]);
        return Json::Object(fields.collect()).to_string();
    }
    let lines: String = all.map(|(name, n)| format!("{name:20} {n:>12}\n")).collect();
    format!("{lines}{:20} {rights}", "rights")
}
