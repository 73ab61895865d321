//! Writing a page of what was measured of servers.

use super::authentication::TAG;
use super::datagram::END;
use super::measured::{MOST, MeasuredServer, write};
use super::pages::{SLOTS_PER_PAGE, begin_page, finish_page};
use super::translators::Translators;
use super::wire::Writer;
use core::cmp::Ordering;

use crate::table::server::Kind;
use crate::time::Instant;

/// The position of an entry: the shard's number, and the place in its list of servers.
const fn position(shard: usize, place: usize) -> u32 {
    (shard as u32) << 16 | (place as u32 & 0xffff)
}

/// Writes a page of servers, of all shards, from a position on. False if none of them measures servers.
pub(super) fn servers<T: Translators + ?Sized>(translators: &mut T, first: u32, out: &mut Writer<'_>) -> bool {
    let at = begin_page(out);
    let time_at = out.bytes().len();
    out.zeros(8);
    let (mut now, mut any, mut count) = (Instant::ZERO, false, 0);
    let (mut examined, mut next) = (0, None);
    // A position has 16 bits for the shard.
    for shard in 0..translators.count().min(1 << 16) {
        let Some(translator) = translators.shard(shard) else {
            continue;
        };
        let table = translator.table();
        now = now.max(table.state.now);
        any |= !table.memory.measured_servers.is_empty();
        let used = usize::from(table.state.unused.up_to());
        let before = match shard.cmp(&(first as usize >> 16)) {
            Ordering::Less => used,
            Ordering::Equal => first as usize & 0xffff,
            Ordering::Greater => 0,
        };
        let entries = table.memory.servers.iter().zip(&*table.memory.measured_servers);
        for (place, (entry, measured)) in entries.enumerate().take(used).skip(before) {
            if examined >= SLOTS_PER_PAGE || out.room(TAG) < MOST {
                next = next.or(Some(position(shard, place)));
                break;
            }
            examined += 1;
            if entry.kind != Kind::Free {
                let weight = measured.ejection.weight_in_rule().unwrap_or(entry.weight());
                let measured = measured.report(entry.identity(), entry.target(), entry.connections, table.state.now);
                write(&MeasuredServer { position: position(shard, place), weight, measured }, out);
                count += 1;
            }
        }
    }
    let end = out.go_to(time_at);
    out.u64(now.as_micros());
    out.go_to(end);
    finish_page(out, at, count, next.map_or(usize::MAX, |next| next as usize), END as usize);
    any
}
