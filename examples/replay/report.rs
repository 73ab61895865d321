//! What the user is told.

use core::fmt::{Display, Write};
use core::time::Duration;
use std::collections::BTreeMap;

use byway::{DropReason, Verdict};

use byway_examples::packet::Packet;

/// How many round trips that differed are named.
const NAMED: usize = 10;

/// What became of the packets of a capture. Each is counted once among the packets: not IPv4, truncated, to the server,
/// to the client, passed, dropped or held.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) packets: u64,
    pub(crate) not_ipv4: u64,
    /// Those of them that came over links which we do not read, by the number of the link type.
    pub(crate) other_links: BTreeMap<i32, u64>,
    /// Cut short when they were captured: nobody knows how they went on.
    pub(crate) truncated: u64,
    pub(crate) to_server: u64,
    pub(crate) to_client: u64,
    pub(crate) passed: u64,
    pub(crate) dropped: BTreeMap<DropReason, u64>,
    /// Later fragments whose first fragment is not in the capture.
    pub(crate) held: u64,
    pub(crate) round_trips: RoundTrips,
    /// How many were opened.
    pub(crate) connections: u64,
    first: Option<Duration>,
    last: Duration,
}

/// What became of the packets that the mirror has made of the original servers' packets.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    /// They came back as the capture has them, byte for byte; only a checksum of 0xFFFF may have become 0x0000 or the other
    /// way round, which is the same number in one's complement (RFC 1071).
    pub(crate) exact: u64,
    pub(crate) differed: u64,
    pub(crate) passed: u64,
    pub(crate) dropped: BTreeMap<DropReason, u64>,
    /// The first ones that differed, by their number in the capture, and the first byte that did.
    differences: Vec<(u64, usize)>,
}

impl Summary {
    /// Counts a packet of the capture.
    pub(crate) fn see(&mut self, time: Duration) {
        self.packets += 1;
        self.first.get_or_insert(time);
        self.last = self.last.max(time);
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let seconds = self.first.map_or(0.0, |first| self.last.saturating_sub(first).as_secs_f64());
        let trips = &self.round_trips;
        let dropped = |reasons: &BTreeMap<DropReason, u64>| match reasons.values().sum() {
            0_u64 => "0".to_owned(),
            sum => format!("{sum} ({})", list(reasons.iter().map(|(reason, count)| format!("{reason} {count}")))),
        };
        let mut line = |name: &str, value: &dyn Display| {
            let _ = writeln!(text, "{name:<22}{value}");
        };
        line("packets", &format_args!("{} in {seconds:.3} s", self.packets));
        line("  not IPv4", &self.not_ipv4);
        if !self.other_links.is_empty() {
            let links = list(self.other_links.iter().map(|(number, count)| format!("type {number}: {count}")));
            line("    of other links", &links);
        }
        line("  truncated", &self.truncated);
        line("  to the server", &self.to_server);
        line("  to the client", &self.to_client);
        line("  passed", &self.passed);
        line("  dropped", &dropped(&self.dropped));
        line("  fragments held", &self.held);
        line("connections", &self.connections);
        line("round trips", &(trips.exact + trips.differed + trips.passed + trips.dropped.values().sum::<u64>()));
        line("  exact", &trips.exact);
        line("  differed", &trips.differed);
        line("  passed", &trips.passed);
        line("  dropped", &dropped(&trips.dropped));
        for (number, byte) in &trips.differences {
            line("", &format_args!("packet {number} differs from byte {byte} on"));
        }
        text
    }

    /// One object, in one line.
    pub(crate) fn json(&self) -> String {
        let trips = &self.round_trips;
        let round_trips = object(&[
            ("exact", &trips.exact),
            ("differed", &trips.differed),
            ("passed", &trips.passed),
            ("dropped", &reasons(&trips.dropped)),
        ]);
        let dropped = reasons(&self.dropped);
        let mut members: Vec<(&str, &dyn Display)> = vec![
            ("packets", &self.packets),
            ("not_ipv4", &self.not_ipv4),
            ("truncated", &self.truncated),
            ("to_server", &self.to_server),
            ("to_client", &self.to_client),
            ("passed", &self.passed),
            ("dropped", &dropped),
            ("held", &self.held),
            ("round_trips", &round_trips),
            ("connections", &self.connections),
        ];
        let links: Vec<(String, &u64)> = self.other_links.iter().map(|(number, n)| (number.to_string(), n)).collect();
        let links: Vec<(&str, &dyn Display)> = links.iter().map(|(number, n)| (number.as_str(), n as _)).collect();
        let links = object(&links);
        if !self.other_links.is_empty() {
            members.push(("other_links", &links));
        }
        object(&members)
    }
}

impl RoundTrips {
    /// Counts what came back as `restored` where the capture has `captured`.
    pub(crate) fn count(&mut self, verdict: Verdict, number: u64, captured: &[u8], restored: &[u8]) {
        match verdict {
            Verdict::ToClient if is_same(captured, restored) => self.exact += 1,
            // An answer that is sent back to the server is no answer.
            Verdict::ToClient | Verdict::ToServer => {
                self.differed += 1;
                let byte = captured.iter().zip(restored).position(|(one, other)| one != other);
                if self.differences.len() < NAMED {
                    self.differences.push((number, byte.unwrap_or(0)));
                }
            }
            Verdict::Pass => self.passed += 1,
            Verdict::Drop(reason) => *self.dropped.entry(reason).or_default() += 1,
            // It is offered again.
            Verdict::Hold => {}
        }
    }
}

/// Whether two packets are the same, apart from the two ways in which a checksum of zero can be written.
fn is_same(captured: &[u8], restored: &[u8]) -> bool {
    if captured == restored {
        return true;
    }
    let mut restored = restored.to_vec();
    for field in Packet::read(captured).map_or_else(Vec::new, Packet::checksums) {
        let range = field..field + 2;
        if let (Some(one), Some(other)) = (captured.get(range.clone()), restored.get_mut(range))
            && [[0, 0], [0xff, 0xff]].iter().all(|zero| one == zero || other == zero)
        {
            other.copy_from_slice(one);
        }
    }
    captured == restored
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A JSON object. The names are ours and need no escapes, and the values are numbers and objects.
fn object(members: &[(&str, &dyn Display)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn reasons(counts: &BTreeMap<DropReason, u64>) -> String {
    let members: Vec<(&str, &dyn Display)> =
        counts.iter().map(|(reason, n)| (reason.name(), n as &dyn Display)).collect();
    object(&members)
}
