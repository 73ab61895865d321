//! The part of the configuration that the translators are made from.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;

use byway::{Heap, InexactReset, MAX_ALTERNATIVES, PortChoice, Prefix, Sharded, ShardingError, Timeouts};

use super::ADDRESS;
use super::document::{Fault, Table, Value};
use crate::packet::may_be_source;

/// How much there is room for, in each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections.
    pub connections: usize,
    /// Rules, and re-diverts in one sweep.
    pub rules: usize,
    /// Servers of rules in all.
    pub servers: usize,
    /// Datagrams under way in fragments.
    pub fragments: usize,
    /// Events that wait to be reported.
    pub events: usize,
    /// Whether each connection is measured.
    pub measure: bool,
    /// Whether events are reported with what was measured.
    pub report: bool,
    /// Whether connections can be handed over.
    pub resumable: bool,
}

impl Capacity {
    /// Memory for a translator.
    #[must_use]
    pub fn storage(&self) -> Heap {
        let heap = Heap::new(self.connections, self.rules).servers(self.servers).fragments(self.fragments);
        let heap = heap.events(self.events);
        let heap = match (self.measure, self.report) {
            (true, true) => heap.measured_events(),
            (true, false) => heap.measured(),
            (false, _) => heap,
        };
        if self.resumable { heap.resumable() } else { heap }
    }
}

/// The settings of the translators.
#[derive(Clone, Debug)]
pub struct Nat {
    /// Alternative addresses, first and last, and the ports of each.
    pub alternatives: Vec<(Ipv4Addr, Ipv4Addr, RangeInclusive<u16>)>,
    /// Addresses of this machine.
    pub own: Vec<Ipv4Addr>,
    /// How much there is room for.
    pub capacity: Capacity,
    /// How many connections a client may have; zero for no limit.
    pub client_limit: u32,
    /// How long connections live.
    pub timeouts: Timeouts,
    port_choice: PortChoice,
    inexact_reset: InexactReset,
    rewrite_identification: bool,
    tell_changes: bool,
    refresh_from_server: bool,
    short_timeouts: bool,
    rates: (u16, u16),
    places: Places,
}

/// The places of settings that a translator may refuse.
#[derive(Clone, Debug)]
struct Places {
    alternatives: Option<Fault>,
    timeouts: Option<Fault>,
    own: Option<Fault>,
    nat: Fault,
}

impl Nat {
    /// The library's configuration, with this secret.
    #[must_use]
    pub fn config(&self, secret: [u8; 32]) -> byway::Config {
        let mut config = byway::Config::new(secret)
            .client_limit(self.client_limit)
            .timeouts(self.timeouts)
            .port_choice(self.port_choice)
            .inexact_reset(self.inexact_reset)
            .rewrite_identification(self.rewrite_identification)
            .refresh_from_server(self.refresh_from_server)
            .tell_changes(self.tell_changes)
            .transmit_rates(self.rates.0, self.rates.1);
        if self.short_timeouts {
            config = config.allow_short_timeouts();
        }
        for (first, last, ports) in &self.alternatives {
            config = config.alternatives(*first, *last, ports.clone());
        }
        self.own.iter().fold(config, |config, own| config.own(*own))
    }

    /// The alternative addresses as one line: a snapshot can only be used with the same ones.
    #[must_use]
    pub fn alternatives_text(&self) -> String {
        let each = self
            .alternatives
            .iter()
            .map(|(first, last, ports)| format!("{first}-{last}:{}-{}", ports.start(), ports.end()));
        each.collect::<Vec<_>>().join(" ")
    }

    /// Whether connections are translated to this address.
    pub(super) fn is_alternative(&self, address: Ipv4Addr) -> bool {
        self.alternatives.iter().any(|(first, last, _)| (*first..=*last).contains(&address))
    }

    /// What must be routed to the device in any case: alternative and own addresses.
    pub(super) fn routes(&self) -> Vec<Prefix> {
        let mut routes: Vec<_> = self.own.iter().map(|own| Prefix::host(*own)).collect();
        for (first, last, _) in &self.alternatives {
            routes.extend(prefixes(*first, *last));
        }
        routes
    }

    /// Translators with these settings, and little room for connections. They measure if that is both `needed` and configured.
    pub(super) fn try_out(&self, shards: usize, needed: bool) -> Result<Sharded<Heap>, Fault> {
        let measure = self.capacity.measure && needed;
        let capacity = Capacity { connections: 16, measure, events: 0, fragments: 0, ..self.capacity };
        let storages = (0..shards).map(|_| capacity.storage());
        Sharded::new(self.config([0; 32]), storages).map_err(|error| {
            use byway::ConfigError as E;
            let place = match error {
                ShardingError::Config(E::TimeoutTooShort { .. } | E::TimeoutTooLong { .. }) => &self.places.timeouts,
                ShardingError::Config(E::TooManyOwn { .. }) => &self.places.own,
                _ => &self.places.alternatives,
            };
            Fault { problem: error.to_string(), ..place.clone().unwrap_or_else(|| self.places.nat.clone()) }
        })
    }
}

/// The fewest prefixes that cover exactly these addresses.
fn prefixes(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Prefix> {
    let (mut next, last) = (u64::from(first.to_bits()), u64::from(last.to_bits()));
    let mut all = Vec::new();
    while next <= last {
        let size = (0..=32).rev().find(|bits| next.is_multiple_of(1 << bits) && next + (1 << bits) - 1 <= last);
        let bits = size.unwrap_or(0);
        all.extend(Prefix::new(Ipv4Addr::from_bits(next as u32), 32 - bits as u8));
        next += 1 << bits;
    }
    all
}

pub(super) fn read(root: &Table<'_>) -> Result<Nat, Fault> {
    let table = root.table("nat")?.ok_or_else(|| root.fault("[nat] is missing"))?;
    let listed = table.need("alternatives", "a list like [\"10.10.10.10:1024-65535\"]")?;
    let mut alternatives = Vec::new();
    for value in listed.one_or_more() {
        alternatives.push(alternative(&value)?);
    }
    if alternatives.len() > MAX_ALTERNATIVES {
        let problem = format!("{} ranges found: expected at most {MAX_ALTERNATIVES}", alternatives.len());
        return Err(listed.fault(problem));
    }
    let rules = table.or("rules", 1024_u32, |v| v.number(1..=65_000))? as usize;
    let capacity = Capacity {
        connections: table.or("connections", 65_536_u32, |v| v.number(16..=1 << 28))? as usize,
        rules,
        servers: table.or("servers", rules as u32, |v| v.number(1..=65_000))? as usize,
        fragments: table.or("fragments", 256_u32, |v| v.number(0..=65_536))? as usize,
        events: table.or("events", 1024_u32, |v| v.number(0..=1 << 24))? as usize,
        measure: table.or("measure", true, Value::boolean)?,
        report: false,
        resumable: root.get("resumable").is_some(),
    };
    const CHOICES: [(&str, PortChoice); 3] =
        [("random", PortChoice::Random), ("same-range", PortChoice::SameRange), ("keep", PortChoice::Keep)];
    const RESETS: [(&str, InexactReset); 2] = [("pass", InexactReset::Pass), ("drop", InexactReset::Drop)];
    let errors = table.or("errors_per_second", 100, |v| v.number(0..=u16::MAX))?;
    let resets = table.or("resets_per_second", 10_000, |v| v.number(0..=u16::MAX))?;
    let (own, own_place) = own(root)?;
    let (timeouts, timeouts_place) = timeouts(root)?;
    let nat = Nat {
        alternatives,
        own,
        capacity,
        client_limit: table.or("client_limit", 0, |v| v.number(0..=65_534))?,
        timeouts,
        port_choice: table.or("port_choice", PortChoice::Random, |v| v.choice(&CHOICES))?,
        inexact_reset: table.or("inexact_reset", InexactReset::Pass, |v| v.choice(&RESETS))?,
        rewrite_identification: table.or("rewrite_identification", false, Value::boolean)?,
        refresh_from_server: table.or("refresh_from_server", true, Value::boolean)?,
        // For the other portion.
        tell_changes: root.get("portion").is_some(),
        short_timeouts: table.or("short_timeouts", false, Value::boolean)?,
        rates: (errors, resets),
        places: Places {
            alternatives: Some(listed.fault("")),
            timeouts: timeouts_place,
            own: own_place,
            nat: table.fault(""),
        },
    };
    table.finish()?;
    Ok(nat)
}

/// `FIRST[-LAST][:LOW-HIGH]`.
fn alternative(value: &Value<'_>) -> Result<(Ipv4Addr, Ipv4Addr, RangeInclusive<u16>), Fault> {
    const EXPECTED: &str = "FIRST[-LAST][:LOW-HIGH], like \"10.10.10.10:1024-65535\" or \"10.10.10.10-10.10.10.13\"";
    let text = value.text(EXPECTED)?;
    let (addresses, ports) = text.split_once(':').unwrap_or((text, "1024-65535"));
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
    let read = || Some((first.parse().ok()?, last.parse().ok()?, low.parse().ok()?..=high.parse().ok()?));
    let found = read().filter(|(first, last, ports): &(Ipv4Addr, _, RangeInclusive<u16>)| {
        first <= last && !ports.is_empty() && *ports.start() != 0
    });
    found.ok_or_else(|| value.fault(format!("\"{text}\" found: expected {EXPECTED}")))
}

/// The machine's own addresses, from `[router]`: `router.address` comes first, since translators send their own messages from the
/// first one.
fn own(root: &Table<'_>) -> Result<(Vec<Ipv4Addr>, Option<Fault>), Fault> {
    let Some(table) = root.table("router")? else {
        return Ok((Vec::new(), None));
    };
    let names = root.table("names")?;
    let mut all = Vec::new();
    let address = table.get("address");
    let own = table.get("own").map_or(Vec::new(), |own| own.one_or_more());
    // The source address of relayed queries is an own address too.
    let relay = names.as_ref().and_then(|names| names.get("address"));
    for value in address.iter().cloned().chain(own).chain(relay) {
        let one: Ipv4Addr = value.read(ADDRESS)?;
        if !may_be_source(one) {
            return Err(value.fault(format!("no host can have the address {one}")));
        }
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Ok((all, table.get("own").or(address).map(|value| value.fault(""))))
}

fn timeouts(root: &Table<'_>) -> Result<(Timeouts, Option<Fault>), Fault> {
    let mut timeouts = Timeouts::RECOMMENDED;
    let Some(table) = root.table("timeouts")? else {
        return Ok((timeouts, None));
    };
    for (name, place) in [
        ("tcp_established", &mut timeouts.tcp_established),
        ("tcp_transitory", &mut timeouts.tcp_transitory),
        ("udp", &mut timeouts.udp),
        ("icmp", &mut timeouts.icmp),
        ("fragment", &mut timeouts.fragment),
        ("hold", &mut timeouts.hold),
    ] {
        *place = table.or(name, *place, Value::duration)?;
    }
    table.finish()?;
    Ok((timeouts, Some(table.fault(""))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_addresses_is_a_few_prefixes() {
        let text = |first: [u8; 4], last: [u8; 4]| {
            prefixes(first.into(), last.into()).iter().map(Prefix::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text([10, 0, 0, 1], [10, 0, 0, 1]), "10.0.0.1/32");
        assert_eq!(text([10, 0, 0, 1], [10, 0, 0, 6]), "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32");
        assert_eq!(text([0, 0, 0, 0], [255, 255, 255, 255]), "0.0.0.0/0");
        assert_eq!(text([255, 255, 255, 254], [255, 255, 255, 255]), "255.255.255.254/31");
    }
}
