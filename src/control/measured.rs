//! What was measured of servers: its form in a datagram, and reading a page of it on the monitor's side.

use super::authentication::TAG;
use super::datagram::END;
use super::forms::{read_server, write_server};
use super::wire::{Reader, Writer};
use core::time::Duration;

use crate::divert::Weighted;
use crate::histogram::{BUCKETS, Histogram};
use crate::measurements::{Ends, Measurements, Total, Traffic};
use crate::time::Instant;

/// Length in bytes of the bitmap of buckets that are not empty.
const FILLED: usize = BUCKETS.div_ceil(8);

/// Length in bytes of a server without the counts of its buckets, and with all of them.
const LEAST: usize = 4 + 10 + 8 + 4 * 3 + 4 * 8 + 4 * 2 + 8 * 4 + 12 * 5 + 8 * 2 + FILLED;
pub(super) const MOST: usize = LEAST + 4 * BUCKETS;

/// Stands for "nothing waits".
const NOTHING_WAITS: u64 = u64::MAX;

fn total(out: &mut Writer<'_>, total: &Total) {
    out.u32(total.count);
    out.u64(total.micros);
}

pub(super) fn write(server: &MeasuredServer, out: &mut Writer<'_>) {
    let m = &server.measured;
    out.u32(server.position);
    write_server(out, Weighted { target: m.server, weight: server.weight });
    out.u64(m.since.as_micros());
    for count in [m.connections, m.started, m.established] {
        out.u32(count);
    }
    for count in m.ends.each() {
        out.u32(count);
    }
    out.u32(m.unreachable);
    out.u32(m.retransmissions);
    for traffic in [&m.to_server, &m.to_client] {
        out.u64(traffic.packets);
        out.u64(traffic.bytes);
    }
    for times in [&m.server_handshake, &m.client_handshake, &m.connecting, &m.waiting, &m.unanswered] {
        total(out, times);
    }
    let micros = |silent: Duration| u64::try_from(silent.as_micros()).unwrap_or(u64::MAX).min(NOTHING_WAITS - 1);
    out.u64(m.silent.map_or(NOTHING_WAITS, micros));
    let (buckets, sum) = m.response.raw();
    out.u64(sum);
    for eight in buckets.chunks(8) {
        out.u8(eight.iter().rev().fold(0, |filled, count| filled << 1 | u8::from(*count != 0)));
    }
    for count in buckets.iter().filter(|count| **count != 0) {
        out.u32(*count);
    }
}

fn read_total(reader: &mut Reader<'_>) -> Option<Total> {
    Some(Total { count: reader.u32()?, micros: reader.u64()? })
}

fn read(reader: &mut Reader<'_>) -> Option<MeasuredServer> {
    let position = reader.u32()?;
    let Weighted { target, weight } = read_server(reader)?;
    let mut m = Measurements::none(target, Instant::from_micros(reader.u64()?));
    (m.connections, m.started, m.established) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut ends = [0; 8];
    for count in &mut ends {
        *count = reader.u32()?;
    }
    m.ends = Ends::of(ends);
    (m.unreachable, m.retransmissions) = (reader.u32()?, reader.u32()?);
    for traffic in [&mut m.to_server, &mut m.to_client] {
        *traffic = Traffic { packets: reader.u64()?, bytes: reader.u64()? };
    }
    (m.server_handshake, m.client_handshake) = (read_total(reader)?, read_total(reader)?);
    (m.connecting, m.waiting, m.unanswered) = (read_total(reader)?, read_total(reader)?, read_total(reader)?);
    let silent = reader.u64()?;
    m.silent = (silent != NOTHING_WAITS).then(|| Duration::from_micros(silent));
    let sum = reader.u64()?;
    let filled = reader.array::<FILLED>()?;
    let mut buckets = [0; BUCKETS];
    for (place, count) in buckets.iter_mut().enumerate() {
        if filled.get(place / 8).is_some_and(|eight| eight & 1 << (place % 8) != 0) {
            *count = reader.u32()?;
        }
    }
    m.response = Histogram::from_raw(buckets, sum);
    Some(MeasuredServer { position, weight, measured: m })
}

/// What was measured of one server of a rule, as a translator has sent it.
///
/// A server in the groups of several rules, or of several shards, is listed once for each; [`Measurements::merge`] adds
/// them up. Compare two readings entry by entry: those with the same position, server and
/// [`since`](Measurements::since).
///
/// Nothing in it was checked, except that it can be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct MeasuredServer {
    /// Its position in the list: the shard's number times 65 536 plus the place in the shard. Entries keep their
    /// positions.
    pub position: u32,
    /// Its weight in the group, as the rule has it now.
    pub weight: u16,
    /// What was measured.
    pub measured: Measurements,
}

/// A page of what was measured of servers: of an answer ([`Answer::measurements`](super::Answer::measurements)) or of a
/// report ([`Report::page`](super::Report::page)).
#[derive(Clone, Copy, Debug)]
pub struct ServerPage<'a> {
    next: u32,
    count: u16,
    time: u64,
    entries: &'a [u8],
}

#[cfg(feature = "defmt")]
impl defmt::Format for ServerPage<'_> {
    /// How many, not each.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "ServerPage {{ next: {}, count: {}, time: {} us }}", self.next, self.count, self.time);
    }
}

impl<'a> ServerPage<'a> {
    /// An empty page if it cannot be read.
    pub(super) fn read(page: &'a [u8]) -> Self {
        let mut reader = Reader(page);
        let mut head = || Some((reader.u32()?, reader.u16()?, reader.u16()?, reader.u64()?));
        let (next, count, _, time) = head().unwrap_or((END, 0, 0, 0));
        Self { next, count, time, entries: reader.0 }
    }

    /// The servers. Fewer than [`len`](Self::len) if the page is malformed.
    pub fn servers(&self) -> impl Iterator<Item = MeasuredServer> + use<'a> {
        let mut reader = Reader(self.entries);
        core::iter::from_fn(move || read(&mut reader)).take(usize::from(self.count))
    }

    /// How many servers the page says that it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The position of the next page, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        (self.next != END).then_some(self.next)
    }

    /// The translator's time when it wrote the page, on the clock of [`Measurements::since`].
    #[must_use]
    pub const fn translator_time(&self) -> Instant {
        Instant::from_micros(self.time)
    }
}

const _: () = assert!(MOST * 2 + 16 + 12 + 16 + TAG <= super::datagram::MAX_ANSWER, "two servers are one page");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use core::net::{Ipv4Addr, SocketAddrV4};
    use proptest::prelude::*;

    fn total() -> impl Strategy<Value = Total> {
        (any::<u32>(), any::<u64>()).prop_map(|(count, micros)| Total { count, micros })
    }

    fn any_server() -> impl Strategy<Value = MeasuredServer> {
        let traffic = || (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Traffic { packets, bytes });
        let target = prop_oneof![
            Just(Target::Same),
            any::<u32>().prop_map(|address| Target::Address(Ipv4Addr::from_bits(address))),
            (any::<u32>(), any::<u16>())
                .prop_map(|(address, port)| Target::Endpoint(SocketAddrV4::new(Ipv4Addr::from_bits(address), port))),
        ];
        let counts = prop::collection::vec(prop_oneof![Just(0_u32), any::<u32>()], BUCKETS);
        let silent = prop::option::of(0_u64..u64::MAX);
        let numbers = (any::<[u32; 13]>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u32>());
        let totals = (total(), total(), total(), total(), total());
        (target, numbers, traffic(), traffic(), totals, silent, counts).prop_map(
            |(target, (n, since, sum, weight, position), to_server, to_client, totals, silent, counts)| {
                let mut m = Measurements::none(target, Instant::from_micros(since));
                let [connections, started, established, unreachable, retransmissions, ends @ ..] = n;
                (m.connections, m.started, m.established) = (connections, started, established);
                (m.unreachable, m.retransmissions) = (unreachable, retransmissions);
                (m.to_server, m.to_client, m.ends) = (to_server, to_client, Ends::of(ends));
                (m.server_handshake, m.client_handshake, m.connecting, m.waiting, m.unanswered) = totals;
                m.silent = silent.map(Duration::from_micros);
                let mut buckets = [0; BUCKETS];
                buckets.copy_from_slice(&counts);
                m.response = Histogram::from_raw(buckets, sum);
                MeasuredServer { position, weight, measured: m }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(server in any_server()) {
            let mut buffer = [0; MOST];
            let mut out = Writer::new(&mut buffer);
            write(&server, &mut out);
            let length = out.length().expect("it fits");
            let mut reader = Reader(&buffer[..length]);
            prop_assert_eq!(read(&mut reader), Some(server));
            prop_assert!(reader.is_empty() && length >= LEAST);
            prop_assert_eq!(read(&mut Reader(&buffer[..length - 1])), None);
        }
    }
}
