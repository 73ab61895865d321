//! What one portion tells the other.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use byway::{Closed, Event, Heap, Record, Translator};

use super::frame::{Gone, MOST, Message};
use crate::router::Router;
use crate::shard::Handle;

/// How many records of all shards wait at most until they are sent.
const WAITING: usize = 8192;
/// How many connections are looked at before packets have their turn again.
const PAGE: usize = 256;

/// How shards report what happens to connections: a bounded queue that all of them fill.
#[derive(Clone, Debug)]
pub struct RecordSender {
    items: SyncSender<Item>,
    state: Arc<State>,
}

/// What a shard reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Record(Record),
    Gone(Gone),
}

#[derive(Debug, Default)]
struct State {
    /// Whether the other portion is there. Without it nobody is told; when it comes it is sent everything.
    is_connected: AtomicBool,
    /// Whether a record found the queue full, so that everything has to be sent.
    is_behind: AtomicBool,
}

/// Where the records arrive that shards report.
#[derive(Debug)]
pub(super) struct Records {
    items: Receiver<Item>,
    state: Arc<State>,
}

/// Makes both ends of the queue.
pub(super) fn queue() -> (RecordSender, Records) {
    let ((sender, items), state) = (sync_channel(WAITING), Arc::<State>::default());
    (RecordSender { items: sender, state: state.clone() }, Records { items, state })
}

impl RecordSender {
    /// Reports the connection of an event as it is now.
    pub fn report(&self, translator: &Translator<Heap>, event: &Event) {
        if !self.state.is_connected.load(Ordering::Relaxed) {
            return;
        }
        let connection = match event {
            Event::Opened(connection) | Event::Changed(connection) => connection,
            Event::Moved { connection, .. } | Event::Closed { connection, .. } => connection,
            _ => return,
        };
        let mut is_known = false;
        for record in translator.records_of(connection) {
            is_known = true;
            self.send(Item::Record(record));
        }
        if let (false, Event::Closed { why, .. }) = (is_known, event) {
            let (client, alternative) = (connection.client_side, connection.server_side.source);
            self.send(Item::Gone(Gone {
                protocol: connection.protocol,
                is_reset: *why == Closed::Rediverted,
                client: client.source,
                original: client.destination,
                alternative,
            }));
        }
    }

    fn send(&self, item: Item) {
        if let Err(TrySendError::Full(_)) = self.items.try_send(item) {
            self.state.is_behind.store(true, Ordering::Relaxed);
        }
    }
}

impl Records {
    /// Says whether the other portion is there. What was reported to one that has gone is forgotten.
    pub(super) fn set_connected(&self, is_connected: bool) {
        self.state.is_connected.store(is_connected, Ordering::Relaxed);
        self.items.try_iter().for_each(drop);
    }

    /// Whether a record was lost since this was asked last.
    pub(super) fn was_behind(&self) -> bool {
        self.state.is_behind.swap(false, Ordering::Relaxed)
    }

    /// Waits for what shards report, as much as fits into a frame; nothing if nothing comes in this time.
    pub(super) fn next(&self, patience: Duration) -> Vec<Item> {
        match self.items.recv_timeout(patience) {
            Ok(first) => core::iter::once(first).chain(self.items.try_iter().take(MOST - 1)).collect(),
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            // No shard has been started yet, or none is left.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(patience);
                Vec::new()
            }
        }
    }
}

/// Frames for what was reported, in its order. If nothing was, an empty one, which says that this end is there.
pub(super) fn messages(items: &[Item]) -> Vec<Message> {
    let is_same = |a: &Item, b: &Item| matches!((a, b), (Item::Record(_), Item::Record(_)) | (Item::Gone(_), Item::Gone(_)));
    let mut messages = Vec::new();
    for run in items.chunk_by(is_same) {
        let records = run.iter().filter_map(|item| if let Item::Record(record) = item { Some(*record) } else { None });
        let gone = run.iter().filter_map(|item| if let Item::Gone(gone) = item { Some(*gone) } else { None });
        let (records, gone): (Vec<_>, Vec<_>) = (records.collect(), gone.collect());
        messages.push(if gone.is_empty() { Message::Records(records) } else { Message::Gone(gone) });
    }
    if messages.is_empty() {
        messages.push(Message::Records(Vec::new()));
    }
    messages
}

/// The records of connections of a shard whose last packet is not older than this, a page after the other. Stops when one
/// cannot be sent, or the shard has ended.
pub(super) fn each_page<E>(
    shard: &Handle,
    newer_than: Duration,
    mut send: impl FnMut(Vec<Record>) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = Some(0);
    while let Some(first) = next {
        let Some((records, behind)) = shard.ask(move |router| page(router, first, newer_than)) else {
            return Ok(());
        };
        if !records.is_empty() {
            send(records)?;
        }
        next = behind;
    }
    Ok(())
}

fn page(router: &Router, first: usize, newer_than: Duration) -> (Vec<Record>, Option<usize>) {
    let mut connections = router.translator.connections_from(first);
    let page: Vec<_> = connections.by_ref().take(PAGE).collect();
    let next = (page.len() == PAGE).then(|| connections.position());
    let mut records = Vec::new();
    for connection in page {
        let mut all = router.translator.records_of(&connection);
        if let Some(record) = all.next().filter(|record| record.idle().is_some_and(|idle| idle <= newer_than)) {
            records.push(record);
            records.extend(all);
        }
    }
    (records, next)
}
