//! The DNS servers to which queries to this machine itself are relayed.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use byway::Prefix;
use byway::naming::{MAX_RELAY_SERVERS, RelayConfig};

use super::document::{Fault, Table, Value};
use super::nat::Nat;
use crate::packet;

/// Where DNS servers listen (RFC 1035, section 4.2).
const DNS: u16 = 53;

/// Bytes of the headers of a datagram: IPv4 without options, and UDP.
const HEADERS: u16 = 28;
/// The shortest and the longest answer that is asked for, in bytes.
const SHORTEST: u16 = 512;
const LONGEST: u16 = 1232;

/// The section `[names.relay]`.
#[derive(Clone, Debug)]
pub struct RelaySection {
    /// The DNS servers, in the order in which they are asked: at least one.
    pub servers: Vec<SocketAddrV4>,
    /// Whose queries are relayed.
    pub clients: Vec<Prefix>,
    /// How many queries can wait at the same time.
    pub queries: usize,
    patience: Duration,
    attempts: u8,
    mix_case: bool,
    per_client: u32,
    /// The longest packet that comes in and goes out whole, in bytes.
    pub(super) mtu: u16,
}

impl RelaySection {
    /// The library's settings, with this secret.
    #[must_use]
    pub fn config(&self, secret: [u8; 32]) -> RelayConfig {
        let none = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let (first, others) = self.servers.split_first().unwrap_or((&none, &[]));
        let config = others.iter().fold(RelayConfig::new(secret, *first), |config, server| config.server(*server));
        let config = self.clients.iter().fold(config, |config, clients| config.clients(*clients));
        let config = config.patience(self.patience).attempts(self.attempts).mix_case(self.mix_case);
        config.queries_per_client(self.per_client).payload(self.payload())
    }

    /// The longest answer that is asked for: one that comes in no fragment (RFC 9715, section 3.2), at least what everybody takes
    /// (RFC 1035, section 2.3.4).
    fn payload(&self) -> u16 {
        self.mtu.saturating_sub(HEADERS).clamp(SHORTEST, LONGEST)
    }

    /// Whether this client may ask.
    #[must_use]
    pub fn is_for(&self, client: Ipv4Addr) -> bool {
        self.clients.iter().any(|clients| clients.contains(client))
    }
}

/// Reads the section. `intercepted` are the DNS servers to which queries are intercepted.
pub(super) fn read(
    table: &Table<'_>,
    nat: &Nat,
    address: Option<Ipv4Addr>,
    intercepted: Prefix,
) -> Result<RelaySection, Fault> {
    const SERVERS: &str = "a DNS server, or a list: ADDRESS[:PORT], like \"192.0.2.53\"";
    const CLIENTS: &str = "whose queries are relayed: a prefix like \"192.168.0.0/16\", or a list";
    let servers = some(&table.need("servers", SERVERS)?, |value| server(value, nat, address))?;
    let clients = some(&table.need("clients", CLIENTS)?, |value| value.read(CLIENTS))?;
    let queries = table.or("queries", 1024_u32, |v| v.number(1..=16_384))?;
    let section = RelaySection {
        servers,
        clients,
        queries: queries as usize,
        // So that a single client cannot keep others out.
        per_client: table.or("queries_per_client", (queries / 4).max(1), |v| v.number(0..=16_384))?,
        patience: table.or("patience", RelayConfig::DEFAULT_PATIENCE, Value::duration)?,
        attempts: table.or("attempts", RelayConfig::DEFAULT_ATTEMPTS, |v| v.number(1..=255))?,
        mix_case: table.or("mix_case", true, Value::boolean)?,
        mtu: u16::MAX,
    };
    table.finish()?;
    section.config([0; 32]).check().map_err(|error| table.fault(error))?;
    if !nat.own.iter().chain(&address).any(|own| intercepted.contains(*own)) {
        // Otherwise a query for a name of the table would be relayed too, and not answered here.
        return Err(table.fault(format!("names.servers ({intercepted}) has no address of this machine: nobody could ask it")));
    }
    Ok(section)
}

/// One or more, and not more than there is room for.
fn some<T>(value: &Value<'_>, read: impl Fn(&Value<'_>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let all = value.one_or_more();
    match all.len() {
        1..=MAX_RELAY_SERVERS => all.iter().map(read).collect(),
        count => Err(value.fault(format!("{count} found: expected 1 to {MAX_RELAY_SERVERS}"))),
    }
}

fn server(value: &Value<'_>, nat: &Nat, address: Option<Ipv4Addr>) -> Result<SocketAddrV4, Fault> {
    const EXPECTED: &str = "ADDRESS[:PORT], like \"192.0.2.53\" or \"192.0.2.53:5353\"";
    let text = value.text(EXPECTED)?;
    let server = text.parse().or_else(|_| text.parse().map(|address| SocketAddrV4::new(address, DNS)));
    let server = server.map_err(|_| value.fault(format!("\"{text}\" found: expected {EXPECTED}")))?;
    let ip = *server.ip();
    if !packet::may_be_source(ip) || server.port() == 0 {
        return Err(value.fault(format!("no packet can be sent to {server}")));
    }
    match nat.is_alternative(ip) || nat.own.contains(&ip) || address == Some(ip) {
        true => Err(value.fault(format!("{ip} is this machine itself: expected a DNS server elsewhere"))),
        false => Ok(server),
    }
}
