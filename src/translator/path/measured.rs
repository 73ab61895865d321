//! Measuring connections and their servers. Reached through a pointer that only storage with room for measurements
//! sets, so that no other program links it.

use crate::connection::Direction;
use crate::event::Closed;
use crate::measurements::Ends;
use crate::time::Instant;
use crate::track::ejection::{PATIENCE, Wait};
use crate::track::measure::{Flags, MeasureSlot};
use crate::track::measure_server::MeasuredServerSlot;
use crate::track::phase::{Class, Phase};
use crate::translator::path::ejection::{Sign, note, rules};
use crate::translator::path::measuring::Pair;
use crate::translator::state::{Beginning, ForMeasured, Table};
use crate::wire::icmp;
use crate::wire::ipv4::{self, Header, Parts, TCP};
use crate::wire::tcp::Segment;

/// The functions that measure.
pub(in crate::translator) static FOR_MEASURED: ForMeasured = ForMeasured {
    start,
    packet,
    segment,
    #[cfg(target_pointer_width = "64")]
    plain: super::fast_measured::carry_measured,
    icmp_error,
    moved,
    close,
    close_dead,
    rules,
};

fn start(table: &mut Table<'_>, slot: u32, beginning: Beginning) {
    let now = table.state.now;
    let member = table.slot(slot).map_or(0, |c| c.member);
    if let Some(connection) = table.memory.measured.get_mut(slot as usize) {
        connection.start(now);
        connection.set_entry(member);
    }
    let over = table.slot(slot).is_none_or(|c| c.phase.is_over());
    if !over && let Some(Pair { connection, server: Some(server), phase, now }) = Pair::of(table, slot) {
        let is_seen = beginning == Beginning::Seen;
        let is_opening = is_seen && phase == Phase::Opening;
        server.open(connection, is_opening, now);
        if !is_seen || phase.class() == Class::TcpEstablished {
            // Its server may have answered already, which was not seen here.
            let mut flags = connection.flags();
            flags.set(Flags::ANSWERED, true);
            connection.set_flags(flags);
        }
        if is_seen {
            note(table, slot, Sign::Began);
        }
        if is_opening {
            note(table, slot, Sign::Waits(Wait::Syn));
        }
    }
    #[cfg(feature = "report")]
    table.keep_opening(slot);
}

fn packet(table: &mut Table<'_>, slot: u32, direction: Direction, header: &[u8; ipv4::HEADER]) {
    let header = Header(header);
    let (bytes, is_datagram) = (header.total_length(), header.protocol() != TCP);
    #[cfg(feature = "report")]
    if table.slot(slot).is_some_and(|c| c.phase.is_over()) {
        table.count_ending(slot, direction, bytes);
    }
    if let Some(mut pair) = Pair::of(table, slot)
        && let Some(sign) = pair.packet(direction, bytes, is_datagram)
    {
        note(table, slot, sign);
    }
}

fn segment(table: &mut Table<'_>, slot: u32, direction: Direction, segment: &Segment) {
    let before = &table.slot(slot).map(|c| c.sequences).unwrap_or_default();
    if let Some(mut pair) = Pair::of(table, slot)
        && let Some(sign) = pair.segment(direction, segment, before)
    {
        note(table, slot, sign);
    }
}

fn icmp_error(table: &mut Table<'_>, slot: u32, direction: Direction, error: &Parts<'_>) {
    let message = &*error.payload;
    let Some(Pair { connection, server, .. }) = Pair::of(table, slot) else {
        return;
    };
    connection.note_icmp_error();
    let mut flags = connection.flags();
    let is_unreachable = message.first() == Some(&icmp::UNREACHABLE) && message.get(1) != Some(&FRAGMENTATION_NEEDED);
    if let Some(server) = server
        && direction == Direction::ToClient
        && is_unreachable
        && !flags.has(Flags::UNREACHABLE | Flags::ESTABLISHED)
    {
        flags.set(Flags::UNREACHABLE, true);
        connection.set_flags(flags);
        server.note_unreachable();
    }
}

/// The code of an error that says nothing about the server (RFC 1191).
const FRAGMENTATION_NEEDED: u8 = 4;

/// A connection was moved: what it waits for does not come from its new server, except that an unanswered SYN is
/// repeated.
fn moved(table: &mut Table<'_>, slot: u32) {
    if let Some(Pair { connection, server: Some(server), phase, now }) = Pair::of(table, slot) {
        server.withdraw(connection, now);
        if phase == Phase::Opening {
            server.connect(connection, now);
        }
    }
}

fn close(table: &mut Table<'_>, slot: u32, why: Closed) {
    #[cfg(feature = "report")]
    table.keep_end(slot);
    let Some(Pair { connection, server: Some(server), phase, now }) = Pair::of(table, slot) else {
        return;
    };
    if phase.is_over() {
        return;
    }
    let sign = if is_failure(server, connection, phase, why, now) { Sign::Failed } else { Sign::Ended };
    if matches!(why, Closed::Finished | Closed::Reset | Closed::Expired) {
        server.give_up(connection, now);
    } else {
        server.withdraw(connection, now);
    }
    server.end(connection, how(why, phase, connection.flags()));
    note(table, slot, sign);
}

/// Whether the end of a connection is its server's fault: only a RST is, of a server that had not answered, or of a
/// client that had waited too long. Any other end could be caused by a host that sees none of the packets, or by the
/// client alone.
fn is_failure(server: &MeasuredServerSlot, connection: &MeasureSlot, phase: Phase, why: Closed, now: Instant) -> bool {
    let flags = connection.flags();
    match why {
        Closed::Reset if !flags.has(Flags::RESET_BY_CLIENT) => !flags.has(Flags::ANSWERED),
        Closed::Reset => {
            let waited = connection.waited(now).filter(|waited| *waited >= PATIENCE);
            let what = if phase == Phase::Opening { Wait::Syn } else { Wait::Request };
            waited.is_some_and(|waited| server.is_too_long(what, waited))
        }
        _ => false,
    }
}

fn close_dead(table: &mut Table<'_>, slot: u32) {
    if table.slot(slot).is_some_and(|c| !c.phase.is_over()) {
        table.quarantine(slot, Closed::Expired);
    }
}

/// The counter for an end with this reason in this phase.
fn how(why: Closed, phase: Phase, flags: Flags) -> fn(&mut Ends) -> &mut u32 {
    match why {
        Closed::Finished => |ends| &mut ends.finished,
        Closed::Reset if flags.has(Flags::RESET_BY_CLIENT) => |ends| &mut ends.aborted,
        Closed::Reset if phase == Phase::Opening => |ends| &mut ends.refused,
        Closed::Reset if flags.has(Flags::ANSWERED) => |ends| &mut ends.reset_after_data,
        Closed::Reset => |ends| &mut ends.reset_before_data,
        Closed::Expired if phase == Phase::Opening => |ends| &mut ends.handshake_timeouts,
        Closed::Expired => |ends| &mut ends.expired,
        Closed::Rediverted | Closed::Evicted | Closed::Stranded | Closed::Forgotten => |ends| &mut ends.withdrawn,
    }
}
