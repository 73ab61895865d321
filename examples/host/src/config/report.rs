//! Where measurements and events are reported to, as IPFIX.

use core::net::SocketAddrV4;
use core::time::Duration;

use byway::report::{MIN_MESSAGE, Settings};

use super::document::{Fault, Table, Value};

/// Bytes of the headers of a datagram.
const UDP_HEADERS: u16 = 28;
/// The longest message over TCP, in bytes.
const TCP_MESSAGE: usize = 16_384;

/// How messages are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A message is a datagram.
    Udp,
    /// One stream for all messages.
    Tcp,
}

/// The settings of `[report]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The collector's address.
    pub collector: SocketAddrV4,
    /// How messages get there.
    pub transport: Transport,
    /// The private enterprise number of our own elements.
    pub enterprise: u32,
    /// How often templates are sent over UDP.
    pub templates: Duration,
    /// How often servers and counters are reported.
    pub interval: Duration,
    /// The path MTU to the collector, in bytes.
    pub mtu: u16,
    /// Whether sessions that begin and end are NAT events too.
    pub nat_events: bool,
}

impl Report {
    /// The settings of a shard's exporter. Observation domains are numbered from 1: zero stands for the whole process.
    #[must_use]
    pub const fn settings(&self, shard: u32) -> Settings {
        let templates = match self.transport {
            Transport::Udp => Some(self.templates),
            Transport::Tcp => None,
        };
        Settings::new(self.enterprise)
            .domain(shard.saturating_add(1))
            .templates(templates)
            .nat_events(self.nat_events)
    }

    /// The longest message, in bytes.
    #[must_use]
    pub fn message(&self) -> usize {
        match self.transport {
            Transport::Udp => usize::from(self.mtu - UDP_HEADERS),
            Transport::Tcp => TCP_MESSAGE,
        }
    }
}

pub(super) fn read(root: &Table<'_>) -> Result<Option<Report>, Fault> {
    const COLLECTOR: &str = "an address and port like \"192.0.2.9:4739\"";
    const ENTERPRISE: &str = "your private enterprise number (32473 is for examples)";
    let Some(table) = root.table("report")? else {
        return Ok(None);
    };
    let at_least_a_second = |value: &Value<'_>| {
        let time = value.duration()?;
        if time < Duration::from_secs(1) { Err(value.fault("it must be at least \"1s\"")) } else { Ok(time) }
    };
    let words = [("udp", Transport::Udp), ("tcp", Transport::Tcp)];
    let report = Report {
        collector: table.need("collector", COLLECTOR)?.endpoint(COLLECTOR)?,
        transport: table.or("transport", Transport::Udp, |value| value.choice(&words))?,
        enterprise: table.need("enterprise", ENTERPRISE)?.number(1..=u32::MAX)?,
        templates: table.or("templates", Duration::from_secs(60), at_least_a_second)?,
        interval: table.or("interval", Duration::from_secs(10), at_least_a_second)?,
        mtu: table.or("mtu", 1500, |value| value.number(MIN_MESSAGE as u16 + UDP_HEADERS..=65_535))?,
        nat_events: table.or("nat_events", true, Value::boolean)?,
    };
    if let Err(error) = byway::report::Exporter::new(report.settings(0), [0; MIN_MESSAGE]) {
        return Err(table.need("enterprise", ENTERPRISE)?.fault(error));
    }
    table.finish()?;
    Ok(Some(report))
}
