//! Time-driven work: closes connections whose time-out has passed, and continues work that is done in steps.

use crate::event::Event;
use crate::table::connection::{Entry, OWES_CLIENT, OWES_SERVER};
use crate::table::redivert_log::DONE;
use crate::table::storage::Storage;
use crate::time::{Instant, Tick};
use crate::timeouts::Timeouts;
use crate::track::phase::Class;
use crate::translator::Translator;
use crate::translator::state::{POLL_WITHIN, State, Table};

/// How many connections of each list one call of `poll` examines.
pub(in crate::translator) const LOOKS: usize = 64;

/// How many connections one call of `poll` makes follow a re-divert. Each costs as much as opening one.
const FOLLOWS: usize = 40;

/// Longer than any time-out including its rounding up, in ticks.
const LONGEST_SILENCE: u64 = ((Timeouts::MAX.as_secs() * 1_000_000) >> 16) + 16;

impl<S: Storage> Translator<S> {
    /// Does a bounded amount of the time-driven work that is due: closes connections whose time-out has passed, makes
    /// silent connections follow a re-divert, and removes the addresses of removed rules and closed connections from
    /// the filter, so that fragments to them are no longer held. [`poll_at`](Self::poll_at) says when to call it.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// byway.divert(Divert::new(original).to(server))?;
    /// byway.translate(Instant::ZERO, &mut udp(client, original));
    ///
    /// // No more packets: the caller sleeps until `poll_at`, and the silent connection expires.
    /// let mut slept = 0;
    /// while let Some(due) = byway.poll_at() {
    ///     byway.poll(due);
    ///     slept += 1;
    /// }
    /// assert!(slept < 20 && byway.connections().next().is_none());
    /// assert_eq!((byway.counters().expired, byway.slots_in_use()), (1, 0));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn poll(&mut self, now: Instant) {
        let _ = self.state.advance(now);
        self.table().poll();
    }

    /// Advances the time, and closes connections whose time-out has passed if there has been no poll for long.
    pub(in crate::translator) fn begin(&mut self, now: Instant) {
        if self.state.advance(now) {
            self.table().catch_up_with_time();
        }
    }

    /// When to call [`poll`](Self::poll) and [`poll_transmit`](Self::poll_transmit) next; `None` if nothing is pending.
    /// While `poll_transmit` has something to fetch, the answer is now.
    ///
    /// Any other call may change it. Calling early is harmless and wastes a little energy. Calling late is harmless to
    /// traffic, since a connection past its time-out is dead to every packet whether or not it was swept; but its slot
    /// stays in use, and [`Event::Closed`] is late by the same amount. Even with timely calls, the event for a
    /// connection that had been busy comes up to a quarter of its time-out late; for one that a RST had made
    /// [`Doubtful`](crate::State::Doubtful), up to a quarter of the established time-out.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::time::Duration;
    /// # fn sleep(_: Option<Duration>) {}
    /// # let now = Instant::ZERO;
    /// # let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
    /// // Until a packet arrives, but no longer than this; `None` is without limit.
    /// sleep(byway.poll_at().map(|due| due.duration_since(now)));
    /// # Ok::<(), ConfigError>(())
    /// ```
    #[must_use]
    pub fn poll_at(&mut self) -> Option<Instant> {
        self.table().poll_at()
    }

    /// The next event, oldest first.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// # byway.divert(Divert::new(original).to(server))?;
    /// # byway.translate(Instant::ZERO, &mut udp(client, original));
    /// while let Some(event) = byway.poll_event() {
    ///     match event {
    ///         Event::Opened(connection) => println!("opened {connection}"),
    ///         Event::Closed { connection, why } => println!("closed {connection}: {}", why.name()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn poll_event(&mut self) -> Option<Event> {
        let memory = self.storage.parts();
        self.state.events.pop(memory.events)
    }
}

impl Table<'_> {
    /// Like [`Translator::begin`].
    pub(in crate::translator) fn advance(&mut self, now: Instant) {
        if self.state.advance(now) {
            self.catch_up_with_time();
        }
    }

    /// Whether a connection has outlived its time-out, or has been forgotten.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn is_dead(&self, slot: u32) -> bool {
        self.slot(slot).is_some_and(|c| self.state.is_dead(c))
    }

    /// Ends a connection if it is dead. Returns whether it is.
    #[cfg_attr(target_pointer_width = "64", inline)]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn close_if_dead(&mut self, slot: u32) -> bool {
        let dead = self.is_dead(slot);
        if dead {
            self.close_dead(slot);
        }
        dead
    }

    /// Ends a connection that is dead. If its time-out passed as long ago as a quarantine lasts, that is over too.
    fn close_dead(&mut self, slot: u32) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        if let Some(close_dead) = self.state.close_dead {
            core::hint::cold_path();
            close_dead(self, slot);
        } else if !connection.phase.is_over() {
            self.quarantine_expired(slot);
        }
        if self.is_dead(slot) {
            self.release(slot);
        }
    }

    /// Examines the head of an age list, then the next, while there is something to do, at most `looks` times. A dead
    /// connection is closed; one that was busy moves to the end of the list. With `thoroughly`, so does one that was
    /// moved there only recently.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn expire(&mut self, class: Class, looks: usize, thoroughly: bool) {
        let mut left = looks;
        while left > 0 {
            let head = self.state.ages.head(class);
            if !self.close_if_dead(head) {
                let Some(connection) = self.slot(head) else { break };
                let State { timers, tick: now, rotate, .. } = &*self.state;
                let moves = timers.scan_is_due(class, connection.listed_at, *now)
                    || (thoroughly && timers.has_stood_for(connection.listed_at, *now) != 0)
                    // Forgotten connections that are finished may come after quarantined ones.
                    || (class == Class::Quarantined && *rotate != 0);
                if !moves {
                    break;
                }
                self.dequeue(head);
                self.enqueue(head);
            }
            left -= 1;
        }
        if class == Class::Quarantined {
            self.state.rotate = self.state.rotate.saturating_sub((looks - left) as u32);
        }
    }

    /// Examines the heads of all age lists, at most `looks` times for each list, as `expire` does.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn expire_all(&mut self, looks: usize, thoroughly: bool) {
        for class in Class::all() {
            self.expire(class, looks, thoroughly);
        }
    }

    /// The age list whose turn it is.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn next_class(&mut self) -> Class {
        let turn = self.state.turn;
        self.state.turn = if usize::from(turn) + 1 < Class::COUNT { turn + 1 } else { 0 };
        Class::of(turn)
    }

    /// Examines one list head with each new connection, the lists taking turns, so that the table is swept even if the
    /// caller never polls.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in crate::translator) fn tidy(&mut self) {
        let class = self.next_class();
        #[cfg(target_pointer_width = "64")]
        if self.is_young(class) {
            return self.state.recent.advance(self.state.tick, self.state.timers.quarantine());
        }
        self.expire_one(class);
        self.state.recent.advance(self.state.tick, self.state.timers.quarantine());
    }

    /// Examines the head of one age list. There is hardly ever anything to do.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn expire_one(&mut self, class: Class) {
        self.expire(class, 1, false);
    }

    /// Whether the head of an age list certainly needs no work.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn is_young(&self, class: Class) -> bool {
        let State { ages, redivert_log: moves, timers, tick, .. } = &*self.state;
        let head = self.memory.connections.get(ages.head(class) as usize);
        head.is_none_or(|head| {
            let c = &head.0;
            !moves.is_forgetting()
                && !timers.is_dead(c.phase, c.last, *tick)
                && !timers.scan_is_due(class, c.listed_at, *tick)
        })
    }

    /// The work of a poll, bounded: dead connections, stale connections, and the filter.
    fn poll(&mut self) {
        self.catch_up_with_time();
        if self.state.close_dead.is_some() {
            self.check_forgotten();
        }
        self.sweep(FOLLOWS);
        self.next_owing(LOOKS);
        self.rebuild_filter(LOOKS);
        self.adopt(LOOKS);
        #[cfg(target_pointer_width = "64")]
        self.renew(LOOKS);
    }

    /// The part of a poll that the first call after a long time without a poll does as well.
    #[cold]
    #[inline(never)]
    pub(in crate::translator) fn catch_up_with_time(&mut self) {
        let State { now, poll_by, tick, skipped, .. } = *self.state;
        let silence = now.as_micros().saturating_sub(poll_by.as_micros()) >> 16;
        if let Some(skipped_now) = silence.checked_sub(LONGEST_SILENCE) {
            // All connections are dead by now, however long the silence was. Ticks wrap around, so the rest of the
            // silence is skipped.
            self.state.skipped = skipped.wrapping_add(skipped_now as u32);
            self.state.tick = Tick(tick.0.wrapping_sub(skipped_now as u32));
        }
        self.state.poll_by = Instant::from_micros(now.as_micros().saturating_add(POLL_WITHIN.into()));
        self.expire_all(LOOKS, false);
    }

    /// Counts imported connections with the servers of rules that were added after them, in the next `slots` slots.
    pub(in crate::translator) fn adopt(&mut self, slots: usize) {
        if let Some(adopt) = self.state.adopt.filter(|_| self.state.adopting != DONE) {
            adopt(self, slots);
        }
    }

    /// When [`Table::poll`] has something to do.
    fn poll_at(&self) -> Option<Instant> {
        let now = self.state.now;
        if self.state.outbox.has_something() {
            return Some(now);
        }
        let State { redivert_log: moves, adopt, adopting, .. } = &*self.state;
        if moves.cursor != DONE || moves.is_forgetting() || (adopt.is_some() && *adopting != DONE) {
            return Some(now);
        }
        let reset_cursor = moves.reset_cursor;
        let owing = |c: &Entry| c.has(OWES_CLIENT | OWES_SERVER);
        let told = (reset_cursor != DONE).then(|| match self.slot(reset_cursor).is_some_and(owing) {
            true => self.state.outbox.next_reset(self.state.config.resets_per_second, now),
            false => now,
        });
        let tick = self.state.tick;
        let heads = Class::all().filter_map(|class| {
            let head = self.slot(self.state.ages.head(class))?;
            let death = self.state.timers.death(head.phase, head.last);
            let scan_interval = self.state.timers.next_scan(class, head.listed_at, tick);
            Some(self.state.instant(death).min(self.state.instant(scan_interval)))
        });
        let filter = self.state.rebuilding.due(tick);
        #[cfg(target_pointer_width = "64")]
        let filter = filter.into_iter().chain(self.state.renewal.due(tick, self.state.diverts as u32));
        heads.chain(told).chain(filter.into_iter().map(|due| self.state.instant(due))).min()
    }
}
