//! Data records: each function writes the fields of one template, in their order.

use core::net::SocketAddrV4;
use core::time::Duration;

use super::element::Element;
use super::message::Writer;
use super::{Settings, Statistics, Totals};

use crate::connection::{Connection, Measured};
use crate::divert::Target;
use crate::endpoint::Pair;
use crate::event::{Closed, Moving};
use crate::histogram::Histogram;
use crate::measurements::{Measurements, Total};
use crate::time::Instant;
use crate::verdict::DropReason;

/// `natEvent` (RFC 8158, and IANA's registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum NatEvent {
    Create = 4,
    Delete = 5,
    PortsExhausted = 12,
    QuotaExceeded = 13,
}

/// `natQuotaExceededEvent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Quota {
    SessionEntries = 1,
    EntriesPerUser = 3,
}

impl Settings {
    /// Milliseconds since 1970.
    pub(super) fn millis(&self, at: Instant) -> u64 {
        self.unix_micros(at) / 1_000
    }

    /// Microseconds since 1970.
    pub(super) fn unix_micros(&self, at: Instant) -> u64 {
        micros(self.zero).saturating_add(at.as_micros())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time in a field of 32 bits: up to 71 minutes.
fn short(time: Option<Duration>) -> u32 {
    time.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
}

fn pair(out: &mut Writer<'_>, pair: Pair) {
    out.put(&pair.source.ip().octets());
    out.put(&pair.destination.ip().octets());
    out.u16(pair.source.port());
    out.u16(pair.destination.port());
}

fn pairs(out: &mut Writer<'_>, connection: &Connection, server_side: Pair) {
    pair(out, connection.client_side);
    pair(out, server_side);
    out.u8(connection.protocol.number());
}

fn endpoint(out: &mut Writer<'_>, endpoint: SocketAddrV4) {
    out.put(&endpoint.ip().octets());
    out.u16(endpoint.port());
}

const fn cause(why: Closed) -> u8 {
    match why {
        Closed::Finished => 1,
        Closed::Reset => 2,
        Closed::Rediverted => 3,
        Closed::Expired => 4,
        Closed::Evicted => 5,
        Closed::Stranded => 6,
        Closed::Forgotten => 7,
    }
}

/// `flowEndReason` (RFC 5102, section 5.11.3).
const fn flow_end_reason(why: Closed) -> u8 {
    const IDLE_TIMEOUT: u8 = 1;
    const END_OF_FLOW: u8 = 3;
    const FORCED_END: u8 = 4;
    const LACK_OF_RESOURCES: u8 = 5;
    match why {
        Closed::Expired => IDLE_TIMEOUT,
        Closed::Finished | Closed::Reset => END_OF_FLOW,
        Closed::Rediverted | Closed::Forgotten => FORCED_END,
        Closed::Evicted | Closed::Stranded => LACK_OF_RESOURCES,
    }
}

pub(super) fn connection(
    out: &mut Writer<'_>,
    settings: &Settings,
    connection: &Connection,
    why: Closed,
    measured: &Measured,
) {
    /// `biflowDirection`: the source is the initiator.
    const INITIATOR: u8 = 1;
    out.u64(settings.millis(measured.first));
    out.u64(settings.millis(measured.last));
    pairs(out, connection, connection.server_side);
    out.u8(INITIATOR);
    let (there, back) = (measured.to_server, measured.to_client);
    for volume in [there, back] {
        out.u64(volume.bytes);
        out.u64(volume.packets);
    }
    for volume in [there, back] {
        out.u16(volume.smallest);
        out.u16(volume.largest);
    }
    out.u8(flow_end_reason(why));
    out.u8(cause(why));
    let round_trip = measured.server_handshake.zip(measured.client_handshake);
    out.u32(short(measured.server_handshake));
    out.u32(short(measured.client_handshake));
    out.u32(short(round_trip.and_then(|(server, client)| server.checked_add(client))));
    out.u32(short(measured.round_trip));
    out.u16(measured.retransmissions);
    out.u16(measured.resets);
    out.u16(measured.icmp_errors);
}

pub(super) fn session(
    out: &mut Writer<'_>,
    settings: &Settings,
    at: Instant,
    (event, why): (NatEvent, Option<Closed>),
    (connection, server_side): (&Connection, Pair),
) {
    out.u64(settings.millis(at));
    out.u8(event as u8);
    out.u32(settings.domain);
    pairs(out, connection, server_side);
    out.u8(why.map_or(0, cause));
}

/// Writes the move of a connection away from these two endpoints; `alternative` is 0.0.0.0:0 if it is not known, and
/// `how` includes the generation.
pub(super) fn moved(
    out: &mut Writer<'_>,
    settings: &Settings,
    at: Instant,
    connection: &Connection,
    (alternative, server): (SocketAddrV4, SocketAddrV4),
    how: Option<(Moving, u32)>,
) {
    out.u64(settings.millis(at));
    pairs(out, connection, connection.server_side);
    endpoint(out, alternative);
    endpoint(out, server);
    out.u32(how.map_or(0, |(_, generation)| generation));
    out.u8(match how {
        None => 0,
        Some((Moving::Instruction, _)) => 1,
        Some((Moving::HandOver, _)) => 2,
        Some((Moving::Record, _)) => 3,
    });
}

/// Buckets of a histogram as pairs of 32 bits.
const BUCKET: usize = 8;

/// How many bytes the histogram of a server takes if there is room for `room` bytes. Its length field, which the
/// template counts with one byte, may take three.
pub(super) fn histogram_length(histogram: &Histogram, room: usize) -> usize {
    let (filled, step) = steps(histogram, room);
    let length = filled.div_ceil(step) * BUCKET;
    if length < 255 { length } else { length + 2 }
}

/// How many buckets are filled, and how many of them are written as one, so that they fit.
fn steps(histogram: &Histogram, room: usize) -> (usize, usize) {
    let filled = histogram.buckets().count();
    let most = (room.saturating_sub(2) / BUCKET).max(1);
    (filled, filled.div_ceil(most).max(1))
}

fn histogram(out: &mut Writer<'_>, histogram: &Histogram, room: usize) {
    let (filled, step) = steps(histogram, room);
    let length = filled.div_ceil(step) * BUCKET;
    if length < 255 {
        out.u8(length as u8);
    } else {
        out.u8(255);
        out.u16(length as u16);
    }
    let mut buckets = histogram.buckets();
    while let Some((least, _, mut count)) = buckets.next() {
        for (_, _, more) in buckets.by_ref().take(step - 1) {
            count = count.saturating_add(more);
        }
        out.u32(short(Some(least)));
        out.u32(count);
    }
}

pub(super) fn server(
    out: &mut Writer<'_>,
    settings: &Settings,
    (from, to): (Instant, Instant),
    measured: &Measurements,
    room: usize,
) {
    out.u64(settings.millis(from));
    out.u64(settings.millis(to));
    let (address, port) = match measured.server {
        Target::Same => ([0; 4], 0),
        Target::Address(address) => (address.octets(), 0),
        Target::Endpoint(endpoint) => (endpoint.ip().octets(), endpoint.port()),
    };
    out.put(&address);
    out.u16(port);
    for traffic in [measured.to_server, measured.to_client] {
        out.u64(traffic.bytes);
        out.u64(traffic.packets);
    }
    let ends = &measured.ends;
    for count in [
        measured.connections,
        measured.started,
        measured.established,
        ends.finished,
        ends.refused,
        ends.reset_before_data,
        ends.reset_after_data,
        ends.aborted,
        ends.handshake_timeouts,
        ends.expired,
        ends.withdrawn,
        measured.unreachable,
        measured.retransmissions,
    ] {
        out.u32(count);
    }
    total(out, measured.server_handshake);
    total(out, measured.client_handshake);
    total(out, measured.connecting);
    out.u32(u32::try_from(measured.response.count()).unwrap_or(u32::MAX));
    out.u32(short(measured.response.mean()));
    for percent in [50.0, 90.0, 99.0] {
        out.u32(short(measured.response.percentile(percent)));
    }
    total(out, measured.waiting);
    total(out, measured.unanswered);
    out.u64(measured.silent.map_or(0, micros));
    histogram(out, &measured.response, room);
}

fn total(out: &mut Writer<'_>, total: Total) {
    out.u32(total.count);
    out.u32(short(total.mean()));
}

pub(super) fn drop(
    out: &mut Writer<'_>,
    settings: &Settings,
    at: Instant,
    reason: DropReason,
    (more, all): (u64, u64),
) {
    out.u8(reason as u8);
    out.text(reason.name());
    out.u64(settings.millis(at));
    out.u64(more);
    out.u64(all);
}

/// Writes an event about what has run out, and how many packets were dropped because of it.
pub(super) fn exhausted(
    out: &mut Writer<'_>,
    settings: &Settings,
    at: Instant,
    event: NatEvent,
    quota: Option<(Quota, u32)>,
    dropped: u64,
) {
    out.u64(settings.millis(at));
    out.u8(event as u8);
    out.u32(settings.domain);
    if let Some((quota, limit)) = quota {
        out.u32(quota as u32);
        out.u32(limit);
    }
    out.u64(dropped);
}

pub(super) fn counters(out: &mut Writer<'_>, settings: &Settings, at: Instant, totals: &Totals) {
    let counters = &totals.counters;
    out.u32(settings.domain);
    out.u64(settings.millis(at));
    out.u32(totals.capacity);
    for count in [
        counters.to_server,
        counters.to_client,
        counters.passed,
        counters.held,
        counters.opened,
        counters.imported,
        counters.moved,
        counters.closed,
        counters.reset,
        counters.expired,
        counters.evicted,
        counters.stranded,
        counters.forgotten,
        counters.transmitted,
        counters.transmit_lost,
        counters.events_lost,
        counters.fragments_evicted,
        counters.dropped_in_all(),
    ] {
        out.u64(count);
    }
}

pub(super) fn statistics(out: &mut Writer<'_>, settings: &Settings, at: Instant, statistics: &Statistics) {
    out.u32(settings.domain);
    out.u64(settings.millis(at));
    out.u64(statistics.not_sent);
    out.u64(statistics.messages);
    out.u64(statistics.records);
    out.u64(statistics.bytes);
}

/// Bytes of the texts of a type record.
pub(super) const fn texts(element: &Element) -> usize {
    element.description.len() + element.name.len()
}

pub(super) fn element(out: &mut Writer<'_>, settings: &Settings, number: u16, element: &Element) {
    out.u32(settings.enterprise);
    out.u16(number);
    out.u8(element.data_type as u8);
    out.u8(element.semantics as u8);
    out.u16(element.units as u16);
    // No range.
    out.u64(0);
    out.u64(0);
    out.text(element.description);
    out.text(element.name);
}
