//! Reports to a collector, as IPFIX: a thread that owns the socket. Shards give it their events through a bounded queue and
//! never wait for it; what the queue cannot take is counted, and the collector is told so.

mod line;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use byway::report::{Exporter, Full, Totals};
use byway::{Event, Instant, Measurements, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use crate::clock::Clock;
use crate::config;
use crate::report_changes::Readings;
use crate::shard::Handle;
use crate::waker::Waker;
use line::{Line, Wire};

/// How many events of all shards wait at most until they are written.
const EVENTS: usize = 8_192;
/// How many are written before anything else has its turn.
const BURST: usize = 512;
/// How many servers a shard is asked for before packets have their turn again.
const PAGE: usize = 64;

/// What was sent so far, and what got lost; read by the metrics page.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages.
    pub messages: AtomicU64,
    /// Data records in them.
    pub records: AtomicU64,
    /// Records that got lost.
    pub lost: AtomicU64,
    /// How often the collector could not be reached.
    pub failures: AtomicU64,
}

/// A shard's end of the queue.
#[derive(Clone, Debug)]
pub struct ReportSender {
    events: SyncSender<(usize, Report)>,
    /// Events that did not fit, by shard.
    lost: Arc<[AtomicU64]>,
    waker: Arc<Waker>,
}

impl ReportSender {
    /// Hands an event over, or counts it as lost. It never waits.
    pub fn send(&self, shard: usize, report: Report) {
        if self.events.try_send((shard, report)).is_err()
            && let Some(lost) = self.lost.get(shard)
        {
            lost.fetch_add(records_of(&report), Ordering::Relaxed);
        }
    }

    /// To be called after the last of some events.
    pub fn wake(&self) {
        self.waker.wake();
    }
}

/// How many records an event becomes at most.
const fn records_of(report: &Report) -> u64 {
    match report.event {
        Event::Opened(_) => 1,
        Event::Moved { .. } => 3,
        Event::Closed { .. } => 2,
        _ => 0,
    }
}

#[derive(Debug)]
enum Order {
    Change(config::Report),
    Stop,
}

/// The thread, seen from others.
#[derive(Clone, Debug)]
pub struct ReportHandle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    sent: Arc<Sent>,
}

impl ReportHandle {
    /// What it has sent.
    #[must_use]
    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Changes its settings.
    pub fn change(&self, settings: config::Report) {
        let _ = self.orders.send(Order::Change(settings));
        self.waker.wake();
    }

    /// Makes it send what it has, and end.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        self.waker.wake();
    }
}

/// The thread and its queues, before it is started.
#[derive(Debug)]
pub struct ReportThread {
    reporter: Reporter,
    events: Receiver<(usize, Report)>,
    orders: Receiver<Order>,
    sender: ReportSender,
    handle: ReportHandle,
}

impl ReportThread {
    /// Creates its queues, for this number of shards.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(settings: config::Report, shards: usize, clock: Clock) -> io::Result<Self> {
        let waker = Arc::new(Waker::new()?);
        let ((sender, events), (orders, received)) = (sync_channel(EVENTS), channel());
        let lost = (0..shards).map(|_| AtomicU64::new(0)).collect();
        let sent = Arc::new(Sent::default());
        let behind = clock.behind();
        let exporter = |shard| {
            let buffer = vec![0; settings.message()];
            Exporter::new(settings.settings(shard as u32).zero(behind), buffer).map_err(io::Error::other)
        };
        let reporter = Reporter {
            settings,
            exporters: (0..shards).map(exporter).collect::<io::Result<_>>()?,
            line: Line { collector: settings.collector.into(), wire: Wire::of(&settings)?, sent: sent.clone(), lacks: false },
            before: Readings::default(),
            behind,
            last: clock.now(),
        };
        Ok(Self {
            reporter,
            events,
            orders: received,
            sender: ReportSender { events: sender, lost, waker: waker.clone() },
            handle: ReportHandle { orders, waker, sent },
        })
    }

    /// What shards report to.
    #[must_use]
    pub const fn sender(&self) -> &ReportSender {
        &self.sender
    }

    /// The handle for other threads.
    #[must_use]
    pub fn handle(&self) -> ReportHandle {
        self.handle.clone()
    }

    /// Reports what these shards do until it is told to stop.
    ///
    /// # Errors
    /// The kernel's. Problems with the collector are no errors.
    pub fn run(self, shards: &[Handle], clock: Clock) -> io::Result<()> {
        let Self { mut reporter, events, orders, sender, .. } = self;
        let ReportSender { lost, waker, .. } = &sender;
        let mut stops = false;
        loop {
            // From now on, whatever comes wakes this thread.
            waker.will_sleep();
            for order in orders.try_iter() {
                match order {
                    Order::Change(settings) => reporter.change(settings),
                    Order::Stop => stops = true,
                }
            }
            for (exporter, lost) in reporter.exporters.iter_mut().zip(lost.iter()) {
                exporter.lost(lost.swap(0, Ordering::Relaxed));
            }
            let now = clock.now();
            // Without a connection to the collector, events wait in their queue, as many as it takes.
            let is_connected = reporter.line.connect(now, &mut reporter.exporters);
            // Templates that are due go ahead of the records that need them.
            reporter.transmit(now, false);
            let is_busy = is_connected && reporter.take(now, &events);
            if !stops && now >= reporter.last + reporter.settings.interval {
                reporter.measure(now, shards, is_connected);
            }
            reporter.transmit(now, stops);
            reporter.line.announce_lost(&mut reporter.exporters);
            reporter.count();
            if stops && !is_busy {
                return Ok(());
            }
            if !is_busy {
                let due = reporter.due(now);
                wait(waker, due.duration_since(now))?;
            }
            waker.is_awake();
        }
    }
}

/// Sleeps until it is woken, or until it is time.
fn wait(waker: &Waker, time: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(time.max(Duration::from_millis(1))).ok();
    match poll(&mut [PollFd::new(waker, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The exporters of all shards, and their line to the collector.
#[derive(Debug)]
struct Reporter {
    settings: config::Report,
    exporters: Vec<Exporter<Vec<u8>>>,
    line: Line,
    /// What was measured of servers when they were reported last, by shard.
    before: Readings,
    /// How much the clock of events is behind the time of the day.
    behind: Duration,
    last: Instant,
}

impl Reporter {
    /// Takes over new settings, of which only those that may change differ.
    fn change(&mut self, settings: config::Report) {
        for (shard, exporter) in self.exporters.iter_mut().enumerate() {
            if let Err(why) = exporter.change(settings.settings(shard as u32).zero(self.behind)) {
                warn!("report: {why}");
            }
        }
        self.settings = settings;
    }

    /// Writes events that wait. Returns whether there may be more.
    fn take(&mut self, now: Instant, events: &Receiver<(usize, Report)>) -> bool {
        for _ in 0..BURST {
            let Ok((shard, report)) = events.try_recv() else {
                return false;
            };
            self.write(shard, now, |exporter| exporter.report(now, &report), records_of(&report));
        }
        true
    }

    /// Writes something, and sends what is there if it does not fit. What cannot be sent is lost.
    fn write(
        &mut self,
        shard: usize,
        now: Instant,
        mut what: impl FnMut(&mut Exporter<Vec<u8>>) -> Result<(), Full>,
        records: u64,
    ) {
        let Some(exporter) = self.exporters.get_mut(shard) else {
            return;
        };
        // Templates may be due between two messages; there are no more reasons not to fit.
        for _ in 0..4 {
            if what(exporter).is_ok() {
                return;
            }
            self.line.send_all(now, exporter);
        }
        exporter.lost(records);
    }

    /// Reports servers and counters. Without a line to the collector the interval goes by, and the next one is longer.
    fn measure(&mut self, now: Instant, shards: &[Handle], is_connected: bool) {
        if !is_connected {
            return;
        }
        let from = core::mem::replace(&mut self.last, now);
        let mut all = Readings::default();
        for (number, shard) in shards.iter().enumerate() {
            let Some((servers, totals)) = ask(shard) else {
                // The shard is ending.
                continue;
            };
            for (since, change) in self.before.changes(number, &servers, from).into_values() {
                self.write(number, now, |exporter| exporter.server(now, since, &change), 1);
            }
            all.note(number, servers);
            self.write(number, now, |exporter| exporter.counters(now, &totals), 2);
        }
        self.before = all;
    }

    /// Sends what is due; at the end everything.
    fn transmit(&mut self, now: Instant, everything: bool) {
        for exporter in &mut self.exporters {
            if everything {
                exporter.flush();
            }
            self.line.send_all(now, exporter);
        }
    }

    /// When there is something to do, if nothing happens until then.
    fn due(&self, now: Instant) -> Instant {
        // Without a connection nothing is sent before it is tried again.
        self.line.due(now).unwrap_or_else(|| {
            let exporters = self.exporters.iter().filter_map(Exporter::poll_at);
            exporters.fold(self.last + self.settings.interval, Instant::min)
        })
    }

    /// Updates the figures of the metrics page.
    fn count(&self) {
        let sum = |value: fn(byway::report::Statistics) -> u64| -> u64 {
            self.exporters.iter().map(|exporter| value(exporter.statistics())).sum()
        };
        let sent = &self.line.sent;
        sent.messages.store(sum(|statistics| statistics.messages), Ordering::Relaxed);
        sent.records.store(sum(|statistics| statistics.records), Ordering::Relaxed);
        sent.lost.store(sum(|statistics| statistics.not_sent), Ordering::Relaxed);
    }
}

/// What was measured of a shard's servers, each with its place in the list, and its counters. `None` if it has ended.
fn ask(shard: &Handle) -> Option<(Vec<(usize, Measurements)>, Totals)> {
    let mut servers = Vec::new();
    let mut first = 0;
    loop {
        let (page, next) = shard.ask(move |router| {
            let mut all = router.translator.measurements_from(first);
            let mut page = Vec::new();
            while page.len() < PAGE
                && let Some(measured) = all.next()
            {
                page.push((all.position(), measured));
            }
            (page, all.position())
        })?;
        let is_last = page.len() < PAGE;
        servers.extend(page);
        if is_last {
            break;
        }
        first = next;
    }
    Some((servers, shard.ask(|router| Totals::of(&router.translator))?))
}
