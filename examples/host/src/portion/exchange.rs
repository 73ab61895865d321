//! What one portion tells the other.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

use byway::naming::{RelayNotice, RelayRecord};
use byway::{Closed, Connection, Event, Heap, Instant, Record, Translator};

use super::{Direction, Status};
use super::closed::ClosedLog;
use super::frame::{Gone, MOST, MOST_QUERIES, Message};
use crate::clock::Clock;
use crate::router::Router;
use crate::shard::Handle;

/// How many records of all shards wait at most until they are sent.
const WAITING: usize = 8192;
/// How many ends that found the queue full are remembered at most.
const UNSAID: usize = 16_384;
/// How many connections are looked at before packets have their turn again.
const PAGE: usize = 256;

/// How shards report what happens to connections: a bounded queue that all of them fill.
#[derive(Clone, Debug)]
pub struct RecordSender {
    items: SyncSender<Item>,
    state: Arc<State>,
}

/// What a shard reports, or the naming server.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Record(Record),
    Gone(Gone),
    Query(Box<RelayRecord>),
    Notice(RelayNotice),
}

#[derive(Debug, Default)]
struct State {
    /// Without the other portion nothing is sent to it; when it comes it is sent everything.
    link: Arc<Status>,
    /// Whether a record found the queue full, so that everything has to be sent.
    is_behind: AtomicBool,
    /// What was closed here, in the portion that opens connections.
    closed: Option<Mutex<ClosedLog>>,
    /// Ends that found the queue full, in the portion that has no such log.
    unsaid: Mutex<Vec<Gone>>,
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

    fn unsaid(&self) -> MutexGuard<'_, Vec<Gone>> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Reports a query whose answer comes to the other portion. One that is lost costs its client an attempt.
    pub fn query(&self, record: RelayRecord) {
        self.send_at_once(Item::Query(Box::new(record)));
    }

    /// Reports what has become of such a query.
    pub fn notice(&self, notice: RelayNotice) {
        self.send_at_once(Item::Notice(notice));
    }

    /// What is of no use later.
    fn send_at_once(&self, item: Item) {
        let is_connected = self.state.link.is_connected.load(Ordering::Relaxed);
        if !is_connected || self.items.try_send(item).is_err() {
            self.state.link.queries_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something was lost that should have been reported: everything has to be sent.
    pub fn fall_behind(&self) {
        self.state.is_behind.store(true, Ordering::Relaxed);
    }

    fn send(&self, item: Item) {
        if !self.state.link.is_connected.load(Ordering::Relaxed) {
            return;
        }
        if let Err(TrySendError::Full(item)) = self.items.try_send(item) {
            if let (Item::Gone(gone), None) = (item, &self.state.closed) {
                let mut unsaid = self.state.unsaid();
                if unsaid.len() < UNSAID {
                    unsaid.push(gone);
                }
            }
            self.fall_behind();
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
        let set = || self.state.link.is_connected.swap(is_connected, Ordering::AcqRel);
        let forget = || {
            self.items.try_iter().for_each(drop);
            self.state.unsaid().clear();
        };
        if is_connected {
            // What is reported from the moment on when it counts as connected is for the new one.
            forget();
            set()
        } else {
            let was_connected = set();
            forget();
            was_connected
        }
    }

    /// Whether a record was lost since this was asked last.
    pub(super) fn was_behind(&self) -> bool {
        self.state.is_behind.swap(false, Ordering::Relaxed)
    }

    /// What was closed here and not opened again: the other portion may not have heard of it.
    pub(super) fn closed(&self) -> Vec<Gone> {
        self.state.closed().map_or(Vec::new(), |closed| closed.all())
    }

    /// What has ended here in the portion to the client, and found the queue full since this was asked last.
    pub(super) fn unsaid(&self) -> Vec<Gone> {
        core::mem::take(&mut *self.state.unsaid())
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
    let is_same = |a: &Item, b: &Item| core::mem::discriminant(a) == core::mem::discriminant(b);
    let mut messages = Vec::new();
    for run in items.chunk_by(is_same) {
        let (mut records, mut gone, mut queries, mut notices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for item in run {
            match item {
                Item::Record(record) => records.push(*record),
                Item::Gone(one) => gone.push(*one),
                Item::Query(record) => queries.push((**record).clone()),
                Item::Notice(notice) => notices.push(*notice),
            }
        }
        messages.extend((!records.is_empty()).then_some(Message::Records(records)));
        messages.extend((!gone.is_empty()).then_some(Message::Gone(gone)));
        messages.extend(queries.chunks(MOST_QUERIES).map(|queries| Message::Queries(queries.to_vec())));
        messages.extend((!notices.is_empty()).then_some(Message::Notices(notices)));
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

#[cfg(test)]
mod tests {
    use byway::{Config, Divert, Target, Weighted};

    use super::*;
    use crate::control::EventReporter;
    use crate::listeners::Listeners;
    use crate::packet::tests::udp;
    use crate::packet::put;
    use crate::router::Settings;

    /// A router with room for so many events, and a portion's queue that is read.
    fn router(events: usize) -> Router {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535);
        let mut translator = Translator::new(config, Heap::new(4096, 16).events(events)).unwrap();
        let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
        translator.divert(Divert::parse("100.1.1.1 to 20.0.0.1", &mut room).unwrap()).unwrap();
        let address = [10, 9, 9, 9].into();
        let settings = Settings { address, mtu: 1500, errors_per_second: 10, held: 4, resumable: None, early: None };
        Router::new(translator, settings)
    }

    fn portion(direction: Direction) -> (Listeners, Records) {
        let (sender, records) = queue(direction, Arc::default());
        records.set_connected(true);
        (Listeners { portion: Some(sender), ..Listeners::default() }, records)
    }

    fn open(router: &mut Router, ports: core::ops::Range<u16>) {
        for port in ports {
            let mut packet = udp([1, 2, 3, 4], [100, 1, 1, 1], &[7; 9]);
            put(&mut packet, 20, port);
            let _ = router.translator.translate(Instant::from_secs(1), &mut packet);
        }
    }

    fn port(connection: &Connection) -> u16 {
        connection.client_side.source.port()
    }

    /// All records that wait, by their clients' ports.
    fn ports(records: &Records) -> Vec<u16> {
        let mut ports = Vec::new();
        while let items @ [_, ..] = &records.next(Duration::ZERO)[..] {
            ports.extend(items.iter().filter_map(|item| match item {
                Item::Record(record) => record.connection().as_ref().map(port),
                Item::Gone(gone) => Some(gone.client.port()),
                Item::Query(_) | Item::Notice(_) => None,
            }));
        }
        ports
    }

    /// A subscriber that reads slowly, or a port that has no time, does not keep records from the other portion.
    #[test]
    fn records_do_not_wait_for_subscribers_of_events() {
        let (mut router, (mut listeners, records)) = (router(1024), portion(Direction::ToServer));
        let (reporter, events) = EventReporter::with_room_for(1).unwrap();
        listeners.control = Some(reporter);
        let all: Vec<u16> = (1..4000).collect();
        for range in all.chunks(500) {
            open(&mut router, range[0]..range[0] + range.len() as u16);
            listeners.report(0, &mut router);
            assert_eq!(ports(&records), range);
        }
        assert!(!records.was_behind() && listeners.is_held_up());
        assert_eq!(router.translator.counters().events_lost, 0);
        // Subscribers get what there was room for, in its order, and what comes later.
        open(&mut router, 5000..5001);
        let mut told = Vec::new();
        for _ in 0..3000 {
            told.extend(events.try_iter().map(|event| match event {
                Event::Opened(connection) => port(&connection),
                other => panic!("{other:?}"),
            }));
            listeners.report(0, &mut router);
        }
        assert!(!listeners.is_held_up());
        let lost = router.counters.control_events_lost as usize;
        assert!(lost > 2000 && told.len() + lost == 4000, "{} and {lost}", told.len());
        assert!(told.is_sorted() && told.last() == Some(&5000));
    }

    /// What ends while the other portion comes is told to it, however much is left of the one before.
    #[test]
    fn nothing_is_lost_while_the_other_portion_comes() {
        let (sender, records) = queue(Direction::ToClient, Arc::default());
        let mut router = router(64);
        open(&mut router, 1..2);
        let connection = router.translator.connections().next().unwrap();
        let gone = Gone::of(&connection, false);
        for _ in 0..20 {
            records.set_connected(false);
            for _ in 0..WAITING {
                sender.items.try_send(Item::Record(router.translator.record(&connection).unwrap())).unwrap();
            }
            let reporter = sender.clone();
            let reporting = std::thread::spawn(move || {
                while !reporter.state.link.is_connected.load(Ordering::Acquire) {
                    core::hint::spin_loop();
                }
                reporter.send(Item::Gone(gone));
            });
            records.set_connected(true);
            reporting.join().unwrap();
            let told = records.next(Duration::ZERO);
            assert!(matches!(told[..], [Item::Gone(told)] if told == gone), "{told:?}");
            assert!(records.unsaid().is_empty());
        }
    }

    /// What nobody could report has to be sent with everything else.
    #[test]
    fn whoever_has_lost_events_is_behind() {
        let (mut router, (mut listeners, records)) = (router(4), portion(Direction::ToServer));
        open(&mut router, 1..3);
        listeners.report(0, &mut router);
        assert!(!records.was_behind());
        open(&mut router, 3..13);
        listeners.report(0, &mut router);
        assert!(records.was_behind() && ports(&records).len() == 6);
        open(&mut router, 13..14);
        listeners.report(0, &mut router);
        assert!(!records.was_behind());
    }

    /// The portion to the client keeps no log of what it has closed, but of what it could not say.
    #[test]
    fn an_end_that_found_the_queue_full_is_said_later() {
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (mut router, (listeners, records)) = (router(0), portion(direction));
            open(&mut router, 1..3);
            let all: Vec<_> = router.translator.connections().collect();
            let sender = listeners.portion.unwrap();
            for _ in 0..WAITING {
                sender.report(&router.translator, &Event::Changed(all[0]));
            }
            assert!(!records.was_behind());
            for connection in &all {
                let _ = router.translator.close(connection);
                sender.report(&router.translator, &Event::Closed { connection: *connection, why: Closed::Reset });
            }
            assert!(records.was_behind());
            let gone: Vec<_> = all.iter().map(|connection| Gone::of(connection, false)).collect();
            assert_eq!([records.closed(), records.unsaid()].concat(), gone, "{direction:?}");
            assert!(records.unsaid().is_empty());
            assert_eq!(ports(&records).len(), WAITING);
        }
    }
}
