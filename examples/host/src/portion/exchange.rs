//! What one portion tells the other.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use byway::{Closed, Connection, Event, Heap, Instant, Record, Translator};

use super::{Direction, Status};
use super::closed::ClosedLog;
use super::frame::{Gone, MOST, Message};
use crate::clock::Clock;
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
    /// Without the other portion nothing is sent to it; when it comes it is sent everything.
    link: Arc<Status>,
    /// Whether a record found the queue full, so that everything has to be sent.
    is_behind: AtomicBool,
    /// What was closed here, in the portion that opens connections.
    closed: Option<Mutex<ClosedLog>>,
}

/// The end of the queue at which records arrive that shards report.
#[derive(Debug)]
pub(super) struct Records {
    items: Receiver<Item>,
    state: Arc<State>,
}

/// Makes both ends of the queue.
pub(super) fn queue(direction: Direction, link: Arc<Status>) -> (RecordSender, Records) {
    let closed = (direction == Direction::ToServer).then(Mutex::default);
    let ((sender, items), state) = (sync_channel(WAITING), Arc::new(State { closed, link, ..State::default() }));
    (RecordSender { items: sender, state: state.clone() }, Records { items, state })
}

impl State {
    fn closed(&self) -> Option<MutexGuard<'_, ClosedLog>> {
        // The lock can be used although a thread has panicked with it: the log is whole.
        self.closed.as_ref().map(|closed| closed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RecordSender {
    /// Reports the connection of an event as it is now.
    pub fn report(&self, translator: &Translator<Heap>, event: &Event) {
        let connection = match event {
            Event::Opened(connection) | Event::Changed(connection) => connection,
            Event::Moved { connection, .. } | Event::Closed { connection, .. } => connection,
            _ => return,
        };
        if let (Event::Opened(connection), Some(mut closed)) = (event, self.state.closed()) {
            closed.remove(connection);
        }
        // There is no second record: a hand-over needs both directions in one process.
        if let Some(record) = translator.record(connection) {
            return self.send(Item::Record(record));
        }
        // A connection that has only been silent expires there too. But there it need not be doubtful.
        if let Event::Closed { why, .. } = event
            && (*why != Closed::Expired || connection.state == byway::State::Doubtful)
        {
            let gone = Gone::of(connection, *why == Closed::Rediverted);
            if let Some(mut closed) = self.state.closed() {
                closed.add(gone);
            }
            self.send(Item::Gone(gone));
        }
    }

    fn send(&self, item: Item) {
        if !self.state.link.is_connected.load(Ordering::Relaxed) {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.items.try_send(item) {
            self.state.is_behind.store(true, Ordering::Relaxed);
        }
    }
}

impl Records {
    /// What the reader of the stream needs to know.
    pub(super) fn closings(&self) -> Closings {
        Closings(self.state.clone())
    }

    /// Says whether the other portion is there; returns whether it was. What was reported to one that has gone is forgotten.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        let was_connected = self.state.link.is_connected.swap(is_connected, Ordering::Relaxed);
        self.items.try_iter().for_each(drop);
        was_connected
    }

    /// Whether a record was lost since this was asked last.
    pub(super) fn was_behind(&self) -> bool {
        self.state.is_behind.swap(false, Ordering::Relaxed)
    }

    /// What was closed here and not opened again: the other portion may not have heard of it.
    pub(super) fn closed(&self) -> Vec<Gone> {
        self.state.closed().map_or(Vec::new(), |closed| closed.all())
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

/// Tells whether a record is of a connection that was closed here.
#[derive(Clone, Debug)]
pub(super) struct Closings(Arc<State>);

impl Closings {
    pub(super) fn includes(&self, connection: &Connection) -> bool {
        self.0.closed().is_some_and(|closed| closed.contains(connection))
    }
}

/// Frames for what was reported, in its order; for nothing, an empty frame, which shows that this end is there.
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

/// The records of connections of a shard whose last packet is not older than this, page by page. Stops when one cannot be sent,
/// or the shard has ended.
pub(super) fn each_page<E>(
    shard: &Handle,
    newer_than: Duration,
    clock: Clock,
    mut send: impl FnMut(Vec<Record>) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = Some(0);
    while let Some(first) = next {
        let Some((records, behind)) = shard.ask(move |router| page(router, clock.now(), first, newer_than)) else {
            return Ok(());
        };
        if !records.is_empty() {
            send(records)?;
        }
        next = behind;
    }
    Ok(())
}

fn page(router: &mut Router, now: Instant, first: usize, newer_than: Duration) -> (Vec<Record>, Option<usize>) {
    // Ages count up to the time that the translator knows.
    router.translator.poll(now);
    let mut connections = router.translator.connections_from(first);
    let page: Vec<_> = connections.by_ref().take(PAGE).collect();
    let next = (page.len() == PAGE).then(|| connections.position());
    let records = page.iter().filter_map(|connection| router.translator.record(connection));
    let is_newer = |record: &Record| record.idle().is_some_and(|idle| idle <= newer_than);
    (records.filter(is_newer).collect(), next)
}
