//! A relay of 16 queries at a time.

use core::hint::black_box;

use byway::naming::{FixedRelay, MAX_RELAY_QUERY, Relay, RelayConfig, Relayed};
use byway::{Instant, Pair};

type Table = Relay<FixedRelay<16>>;

/// The way of queries, answers and time. Returns how much of `out` is to be sent.
#[unsafe(no_mangle)]
pub fn relay_path(
    table: &mut Option<Table>,
    micros: u64,
    ends: Pair,
    message: &mut [u8],
    out: &mut [u8; MAX_RELAY_QUERY],
) -> usize {
    let Some(relay) = table else {
        let config = RelayConfig::new(black_box([0; 32]), ends.destination).server(ends.source);
        *table = Relay::new(config, FixedRelay::new()).ok();
        return 0;
    };
    let now = Instant::from_micros(micros);
    if let Some(client) = relay.answer(now, ends.source, ends.destination.port(), message) {
        black_box(client);
        return message.len();
    }
    let due = relay.poll_at().is_some_and(|due| due <= now);
    let done = if due { relay.poll(now, out) } else { Some(relay.query(now, ends, message, out)) };
    match done {
        Some(Relayed::Ask { server, port, length }) => {
            black_box((server, port, relay.waits_at(port)));
            length
        }
        Some(Relayed::Answer { client, length }) => {
            black_box(client);
            length
        }
        Some(Relayed::Drop(_)) | None => 0,
    }
}
