//! What an agent tells: pages of the tables, counters, settings, events.

use core::time::Duration;

use super::answer::{END, LISTED_CONNECTION, LISTED_EVENT, LISTED_MEASURED, LISTED_SERVER, MAX_LISTED_SERVERS};
use super::authentication::Rights;
use super::instruction::{Kinds, write_match, write_server, write_timeouts};
use super::names::{all_counters, closed_number, state_number};
use super::refused::Refused;
use super::wire::Writer;
use crate::connection::{Connection, Measured, Volume};
use crate::event::Event;
use crate::table::divert::DivertEntry;
use crate::table::storage::Storage;
use crate::translator::Translator;

/// How many slots of the connection table one page looks at, empty ones included. It bounds the work.
const SLOTS_PER_PAGE: usize = 1024;

/// Octets in front of a page's entries.
const PAGE_HEAD: usize = 8;

/// Writes the front of a page once its entries are known.
fn finish_page(out: &mut Writer<'_>, at: usize, next: u32, count: u16) {
    out.patch(at, &next.to_be_bytes());
    out.patch(at + 4, &count.to_be_bytes());
}

pub(crate) fn rules<S: Storage>(translator: &Translator<S>, position: u32, out: &mut Writer<'_>) {
    let at = out.length().unwrap_or(0);
    out.zeros(PAGE_HEAD);
    let (mut next, mut count) = (END, 0);
    let first = usize::try_from(position).unwrap_or(usize::MAX);
    for (place, entry) in translator.diverts().enumerate().skip(first) {
        let told = entry.servers().count().min(MAX_LISTED_SERVERS);
        if out.room() < 20 + told * LISTED_SERVER {
            next = u32::try_from(place).unwrap_or(END);
            break;
        }
        rule(&entry, told, out);
        count += 1;
    }
    finish_page(out, at, next, count);
}

fn rule(entry: &DivertEntry<'_>, told: usize, out: &mut Writer<'_>) {
    write_match(out, &entry.matches());
    out.u8(u8::from(entry.keeps_source()) | u8::from(entry.takes_replies_from_any_port()) << 1);
    out.u8(told as u8);
    out.u16(u16::try_from(entry.servers().count()).unwrap_or(u16::MAX));
    for (server, connections) in entry.servers().take(told) {
        write_server(out, server);
        out.u32(connections);
    }
}

pub(crate) fn connections<S: Storage>(translator: &Translator<S>, position: u32, out: &mut Writer<'_>) {
    let at = out.length().unwrap_or(0);
    out.zeros(PAGE_HEAD);
    out.u64(translator.now().as_micros());
    let mut count = 0;
    let first = usize::try_from(position).unwrap_or(usize::MAX);
    let (mut page, all) = translator.connections_from(first).within(SLOTS_PER_PAGE);
    while out.room() >= LISTED_CONNECTION + LISTED_MEASURED {
        let Some((entry, measured)) = page.next_measured() else {
            break;
        };
        connection(&entry, measured.as_ref(), out);
        count += 1;
    }
    let next = page.position();
    let next = if next >= all { END } else { u32::try_from(next).unwrap_or(END) };
    finish_page(out, at, next, count);
}

fn connection(entry: &Connection, measured: Option<&Measured>, out: &mut Writer<'_>) {
    out.u8(entry.protocol.number());
    out.u8(state_number(entry.state));
    out.u8(u8::from(measured.is_some()));
    out.u8(0);
    pairs(entry, out);
    let Some(m) = measured else {
        return;
    };
    for Volume { packets, octets, smallest, largest } in [m.to_server, m.to_client] {
        out.u64(packets);
        out.u64(octets);
        out.u16(smallest);
        out.u16(largest);
    }
    out.u64(m.first.as_micros());
    out.u64(m.last.as_micros());
    for duration in [m.server_handshake, m.client_handshake, m.round_trip] {
        out.u32(duration.map_or(u32::MAX, micros));
    }
    out.u16(m.retransmissions);
    out.u16(m.resets);
    out.u16(m.icmp_errors);
}

/// Microseconds, at most one less than what stands for "not measured".
fn micros(duration: Duration) -> u32 {
    let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()));
    u32::try_from(micros).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

fn pairs(entry: &Connection, out: &mut Writer<'_>) {
    for pair in [entry.client_side, entry.server_side] {
        out.endpoint(pair.source);
        out.endpoint(pair.destination);
    }
}

pub(crate) fn counters<S: Storage>(translator: &Translator<S>, refused: impl Fn(Refused) -> u64, out: &mut Writer<'_>) {
    let at = out.length().unwrap_or(0);
    out.u32(0);
    let mut count = 0_u16;
    for (number, value) in all_counters(translator.counters(), refused) {
        out.u16(number);
        out.u64(value);
        count += 1;
    }
    out.patch(at, &count.to_be_bytes());
}

pub(crate) fn settings<S: Storage>(translator: &Translator<S>, rights: Rights, out: &mut Writer<'_>) {
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    write_timeouts(out, &translator.timeouts());
    out.u32(translator.client_limit());
    out.u32(size(translator.diverts().count()));
    out.u32(size(translator.capacity()));
    out.u32(translator.slots_in_use());
    let (kind, prefix) = rights.parts();
    out.u8(kind);
    out.u8(prefix.length());
    out.u16(0);
    out.put(&prefix.network().octets());
}

/// An event as it stands in a datagram.
pub(crate) fn event(event: &Event) -> [u8; LISTED_EVENT] {
    let mut octets = [0; LISTED_EVENT];
    let mut out = Writer::new(&mut octets);
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
    octets
}

pub(crate) const fn kind_of(octets: &[u8; LISTED_EVENT]) -> Kinds {
    match octets[0] {
        1 => Kinds::OPENED,
        2 => Kinds::CHANGED,
        3 => Kinds::MOVED,
        _ => Kinds::CLOSED,
    }
}
