//! Writing the contents of answers: pages of the tables, counters, settings, events.

use super::answer::{LISTED_CONNECTION, LISTED_EVENT, LISTED_MEASURED, LISTED_SERVER, MAX_LISTED_SERVERS};
use super::authentication::{Rights, TAG};
use super::datagram::END;
use super::forms::{MATCH, match_bytes, target_of, write_server};
use super::instruction::{Kinds, option_bits, write_timeouts};
use super::names::{FIRST_COUNTER, FIRST_DROP, FIRST_REFUSED, closed_number, state_number, values};
use super::wire::Writer;
use core::time::Duration;

use crate::connection::Connection;
use crate::counters::Counters;
use crate::event::Event;
use crate::table::rule::{DivertSlot, Weighted};
use crate::table::server;
use crate::time::{Instant, Tick};
use crate::timeouts::Timeouts;
use crate::track::measure::MeasureSlot;
use crate::translator::Table;

/// How many slots of the connection table one page examines, including empty ones. It bounds the work.
pub(super) const SLOTS_PER_PAGE: usize = 1024;

/// Bytes before a page's entries.
const PAGE_HEAD: usize = 8;

/// Leaves room for the head of a page; returns its position.
pub(super) fn begin_page(out: &mut Writer<'_>) -> usize {
    let at = out.bytes().len();
    out.zeros(PAGE_HEAD);
    at
}

/// Writes the head of a page once its entries are known: how many, and the position of the next one among `all`.
pub(super) fn finish_page(out: &mut Writer<'_>, at: usize, count: usize, next: usize, all: usize) {
    let end = out.go_to(at);
    out.u32(if next >= all { END } else { u32::try_from(next).unwrap_or(END) });
    out.u16(count as u16);
    out.go_to(end);
}

pub(super) fn rules(table: &Table<'_>, position: u32, out: &mut Writer<'_>) {
    let at = begin_page(out);
    let first = position as usize;
    let mut next = first;
    while let Some(slot) = table.rules().get(next) {
        let count = slot.chain(table.memory.servers).count();
        let mut entry = server::meant(table.memory.servers, slot.servers);
        if !rule_head(slot, table.weight_in_rule(entry).is_some(), count, out) {
            break;
        }
        for server in slot.chain(table.memory.servers).take(MAX_LISTED_SERVERS) {
            let weight = table.weight_in_rule(entry).unwrap_or(server.weight());
            write_server(out, Weighted { target: target_of(server), weight });
            out.u32(server.connections);
            entry = server.next;
        }
        next += 1;
    }
    finish_page(out, at, next - first, next, table.rules().len());
}

/// Writes a rule that has `count` servers, up to its servers. False if there is no room for it together with the
/// servers that are listed.
#[inline]
pub(super) fn rule_head(slot: &DivertSlot, ejecting: bool, count: usize, out: &mut Writer<'_>) -> bool {
    let listed = count.min(MAX_LISTED_SERVERS);
    if out.room(TAG) < MATCH + 4 + listed * LISTED_SERVER {
        return false;
    }
    out.put(&match_bytes(&slot.matches()));
    out.u8(option_bits(slot.options(ejecting)));
    out.u8(listed as u8);
    out.u16(u16::try_from(count).unwrap_or(u16::MAX));
    true
}

/// The type of [`measured`], which writes the measurements of a connection whose last packet came at the given tick.
pub(super) type WriteMeasured = fn(&MeasureSlot, Tick, Instant, &mut Writer<'_>);

/// `write` is `None` where the storage has no room for measurements, so that the code that writes them is not linked.
pub(super) fn connections(table: &Table<'_>, position: u32, write: Option<WriteMeasured>, out: &mut Writer<'_>) {
    let at = begin_page(out);
    out.u64(table.state.now.as_micros());
    let (count, next, all) = slots(table, position as usize, SLOTS_PER_PAGE, write, out);
    finish_page(out, at, count, next, all);
}

/// Writes the connections in up to `most` slots from `first` on, as far as there is room. Returns how many, the slot
/// after the last one examined, and the end of those in use.
pub(super) fn slots(
    table: &Table<'_>,
    first: usize,
    most: usize,
    write: Option<WriteMeasured>,
    out: &mut Writer<'_>,
) -> (usize, usize, usize) {
    let now = table.state.now;
    let (mut page, all) = table.connections_within(first, most);
    let mut count = 0;
    while out.room(TAG) >= LISTED_CONNECTION + LISTED_MEASURED
        && let Some((place, slot)) = page.next_slot()
    {
        if let Some(entry) = slot.view() {
            let measured = write.zip(table.memory.measured.get(place));
            connection(&entry, u8::from(measured.is_some()), out);
            if let Some((write, measured)) = measured {
                write(measured, slot.last, now, out);
            }
            count += 1;
        }
    }
    (count, page.position(), all)
}

fn connection(entry: &Connection, flags: u8, out: &mut Writer<'_>) {
    out.u8(entry.protocol.number());
    out.u8(state_number(entry.state));
    out.u8(flags);
    out.u8(0);
    pairs(entry, out);
}

pub(super) fn measured(slot: &MeasureSlot, last: Tick, now: Instant, out: &mut Writer<'_>) {
    let m = slot.report(last, now);
    for volume in [&m.to_server, &m.to_client] {
        out.u64(volume.packets);
        out.u64(volume.bytes);
        out.u16(volume.smallest);
        out.u16(volume.largest);
    }
    out.u64(m.first.as_micros());
    out.u64(m.last.as_micros());
    for duration in [&m.server_handshake, &m.client_handshake, &m.round_trip] {
        out.u32(duration.map_or(u32::MAX, micros));
    }
    out.u16(m.retransmissions);
    out.u16(m.resets);
    out.u16(m.icmp_errors);
}

/// Microseconds, at most one less than the value that means "not measured".
fn micros(duration: Duration) -> u32 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    seconds.saturating_mul(1_000_000).saturating_add(duration.subsec_micros()).min(u32::MAX - 1)
}

fn pairs(entry: &Connection, out: &mut Writer<'_>) {
    for pair in [entry.client_side, entry.server_side] {
        out.endpoint(pair.source);
        out.endpoint(pair.destination);
    }
}

/// All counters of a translator and of its agent, each after its number.
pub(super) fn counters(counters: &Counters, refused: &[u64], out: &mut Writer<'_>) {
    let own = values(counters);
    let dropped = counters.dropped_by_reason();
    out.u16((own.len() + dropped.len() + refused.len()) as u16);
    out.u16(0);
    for (number, value) in (FIRST_COUNTER..).zip(own) {
        pair(number, *value, out);
    }
    for (first, values) in [(FIRST_DROP, dropped.as_slice()), (FIRST_REFUSED, refused)] {
        for (number, value) in (first..).zip(values) {
            pair(number, *value, out);
        }
    }
}

/// A counter after its number.
#[inline(never)]
fn pair(number: u16, value: u64, out: &mut Writer<'_>) {
    out.u16(number);
    out.u64(value);
}

/// Numbers among the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) client_limit: u32,
    pub(super) rules: u32,
    pub(super) capacity: u32,
    pub(super) used: u32,
}

impl Sizes {
    pub(super) fn of(table: &Table<'_>) -> Self {
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            client_limit: table.state.config.client_limit,
            rules: size(table.state.diverts),
            capacity: size(table.memory.connections.len()),
            used: table.state.used,
        }
    }
}

pub(super) fn settings(sizes: &Sizes, timeouts: &Timeouts, rights: Rights, out: &mut Writer<'_>) {
    write_timeouts(out, timeouts);
    for size in [sizes.client_limit, sizes.rules, sizes.capacity, sizes.used] {
        out.u32(size);
    }
    let (kind, prefix) = rights.parts();
    out.u8(kind);
    out.u8(prefix.length());
    out.u16(0);
    out.u32(prefix.bits());
}

/// An event in the form that it has in a datagram.
pub(super) fn event(event: &Event) -> [u8; LISTED_EVENT] {
    let mut bytes = [0; LISTED_EVENT];
    let mut out = Writer::new(&mut bytes);
    let (kind, connection, why) = match event {
        Event::Opened(connection) => (1, connection, 0),
        Event::Changed(connection) => (2, connection, 0),
        Event::Moved { connection, .. } => (3, connection, 0),
        Event::Closed { connection, why } => (4, connection, closed_number(*why)),
    };
    out.u8(kind);
    out.u8(connection.protocol.number());
    out.u8(state_number(connection.state));
    out.u8(why);
    pairs(connection, &mut out);
    if let Event::Moved { from, .. } = event {
        out.endpoint(*from);
    }
    bytes
}

pub(super) const fn kind_of(bytes: &[u8; LISTED_EVENT]) -> Kinds {
    Kinds::numbered(bytes[0])
}
