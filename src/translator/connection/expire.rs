//! The work that time brings: connections are closed whose time-out has passed, and what is due in steps goes on.

use crate::event::{Closed, Event};
use crate::table::connection::{Entry, OWES_CLIENT, OWES_SERVER};
use crate::table::redivert_log::DONE;
use crate::table::storage::Storage;
use crate::time::{Instant, Tick};
use crate::timeouts::Timeouts;
use crate::track::phase::Class;
use crate::translator::Translator;
use crate::translator::state::State;
use crate::translator::table::Table;

/// How many connections one call of `poll` looks at.
pub(crate) const LOOKS: usize = 64;

/// The first call after so many microseconds (2^10 ticks) without a poll closes connections whose time-out has passed. With
/// 64 looks at each list each time a table of any size is gone through before ticks wrap around, whatever is called.
pub(in crate::translator) const POLL_WITHIN: u32 = 1 << 26;

/// Longer than any time-out with what it is rounded up by, in ticks.
const LONGEST_SILENCE: u64 = ((Timeouts::MAX.as_secs() * 1_000_000) >> 16) + 16;

impl<S: Storage> Translator<S> {
    /// Does the work that time brings, a bounded share of it: closes connections whose time-out has passed, lets
    /// silent connections follow a re-divert, and forgets the addresses of rules and connections that are gone, so that
    /// fragments to them are not held any more. [`poll_at`](Self::poll_at) says when to call it.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    /// #     let mut packet = [0; 28];
    /// #     (packet[0], packet[3], packet[8], packet[9], packet[25]) = (0x45, 28, 64, 17, 8);
    /// #     packet[12..16].copy_from_slice(&from.ip().octets());
    /// #     packet[16..20].copy_from_slice(&to.ip().octets());
    /// #     packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    /// #     packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    /// #     packet
    /// # }
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// byway.divert(Divert::new(original).to(server))?;
    /// byway.translate(Instant::ZERO, &mut udp(client, original));
    ///
    /// // Nothing but time happens: the caller sleeps until `poll_at`, and the silent connection ends.
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

    /// Lets time go on, and closes connections whose time-out has passed if nobody has polled for long.
    pub(in crate::translator) fn begin(&mut self, now: Instant) {
        if self.state.advance(now) {
            self.table().catch_up_with_time();
        }
    }

    /// When [`poll`](Self::poll) and [`poll_transmit`](Self::poll_transmit) should be called next; `None` if there is
    /// nothing to wait for. As long as there is something to fetch with `poll_transmit`, that is at once.
    ///
    /// It may change with every other call. Coming early is harmless and wastes a little energy. Coming late is
    /// harmless to traffic, since a connection past its time-out is dead to every packet whether or not it was swept;
    /// but its slot stays taken, and [`Event::Closed`] comes as late. Even who comes in time
    /// learns of the end of a connection that had been busy up to a quarter of its time-out late; of one that a RST had
    /// made [`Doubtful`](crate::State::Doubtful), up to a quarter of that of an established one.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::time::Duration;
    /// # fn sleep(_: Option<Duration>) {}
    /// # let now = Instant::ZERO;
    /// # let mut byway = Translator::new(Config::new([7; 32]), Fixed::<64, 4>::new())?;
    /// // Until a packet comes, but no longer than this; `None` is as long as it takes.
    /// sleep(byway.poll_at().map(|due| due.duration_since(now)));
    /// # Ok::<(), ConfigError>(())
    /// ```
    #[must_use]
    pub fn poll_at(&mut self) -> Option<Instant> {
        self.table().poll_at()
    }

    /// The next event, the oldest first.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    /// #     let mut packet = [0; 28];
    /// #     (packet[0], packet[3], packet[8], packet[9], packet[25]) = (0x45, 28, 64, 17, 8);
    /// #     packet[12..16].copy_from_slice(&from.ip().octets());
    /// #     packet[16..20].copy_from_slice(&to.ip().octets());
    /// #     packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    /// #     packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    /// #     packet
    /// # }
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
    /// Whether a connection has outlived its time-out, or is forgotten.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn is_dead(&self, slot: u32) -> bool {
        self.slot(slot).is_some_and(|c| self.state.is_dead(c))
    }

    /// Ends a connection that is dead.
    pub(crate) fn bury(&mut self, slot: u32) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        if let Some(bury) = self.state.bury {
            core::hint::cold_path();
            bury(self, slot);
        } else if connection.phase.is_over() {
            self.release(slot);
        } else {
            self.hold(slot, Closed::Expired);
        }
    }

    /// Looks at the head of an age list, and again at the next, as long as there is something to do, `looks` times
    /// at most. A connection that is dead is ended, one that was busy is put at the end of the list; `thoroughly` also one
    /// that was put there a short while ago.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(super) fn expire(&mut self, class: Class, looks: usize, thoroughly: bool) {
        let mut left = looks;
        while left > 0 {
            let head = self.state.ages.head(class);
            let Some(connection) = self.slot(head) else { break };
            let State { timers, tick: now, rotate, .. } = &*self.state;
            if self.state.is_dead(connection) {
                self.bury(head);
            } else if timers.lap_is_over(class, connection.stamp, *now)
                || (thoroughly && timers.has_stood_for(connection.stamp, *now) != 0)
                // What is forgotten and over may stand behind what only holds its endpoint.
                || (class == Class::Held && *rotate != 0)
            {
                self.dequeue(head);
                self.enqueue(head);
            } else {
                break;
            }
            left -= 1;
        }
        if class == Class::Held {
            self.state.rotate = self.state.rotate.saturating_sub((looks - left) as u32);
        }
    }

    /// Looks at the heads of all age lists, at most `looks` times at each list.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn expire_all(&mut self, looks: usize) {
        for class in &Class::ALL {
            self.expire(*class, looks, false);
        }
    }

    /// The age list whose turn it is.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    fn next_class(&mut self) -> Class {
        let turn = usize::from(self.state.turn);
        self.state.turn = if turn + 1 < Class::COUNT { self.state.turn + 1 } else { 0 };
        Class::ALL.get(turn).copied().unwrap_or(Class::Held)
    }

    /// One look with each new connection, at one list after the other, so that a table whose caller never polls is
    /// swept too.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn tidy(&mut self) {
        let class = self.next_class();
        #[cfg(target_pointer_width = "64")]
        if self.is_young(class) {
            return self.state.recent.advance(self.state.tick, self.state.timers.hold());
        }
        self.expire_one(class);
        self.state.recent.advance(self.state.tick, self.state.timers.hold());
    }

    /// One look at an age list. It is hardly ever the time for one.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(always))]
    fn expire_one(&mut self, class: Class) {
        self.expire(class, 1, false);
    }

    /// Whether the head of an age list is surely nothing to look at.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    fn is_young(&self, class: Class) -> bool {
        let State { ages, moves, timers, tick, .. } = &*self.state;
        let head = self.memory.connections.get(ages.head(class) as usize);
        head.is_none_or(|head| {
            let c = &head.0;
            !moves.is_forgetting()
                && !timers.is_dead(c.phase, c.last, *tick)
                && !timers.lap_is_over(class, c.stamp, *tick)
        })
    }

    /// The work that time brings, bounded: dead connections, those that have to follow a re-divert, and the filter.
    pub(crate) fn poll(&mut self) {
        self.catch_up_with_time();
        if self.state.bury.is_some() {
            self.check_forgotten();
        }
        self.sweep(LOOKS);
        self.next_owing(LOOKS);
        self.rebuild_filter(LOOKS);
        self.adopt(LOOKS);
        #[cfg(target_pointer_width = "64")]
        self.renew(LOOKS);
    }

    /// The part of a poll that is done without one too, by the first call after a long time.
    #[cold]
    #[inline(never)]
    pub(crate) fn catch_up_with_time(&mut self) {
        let State { now, poll_by, tick, skipped, .. } = *self.state;
        let silence = now.as_micros().saturating_sub(poll_by.as_micros()) >> 16;
        if let Some(skipped_now) = silence.checked_sub(LONGEST_SILENCE) {
            // All are dead, however much longer it was. Ticks, which wrap around, leave the rest out.
            self.state.skipped = skipped.wrapping_add(skipped_now as u32);
            self.state.tick = Tick(tick.0.wrapping_sub(skipped_now as u32));
        }
        self.state.poll_by = Instant::from_micros(now.as_micros().saturating_add(POLL_WITHIN.into()));
        self.expire_all(LOOKS);
    }

    /// Counts connections that records brought with the servers of rules that came later, in so many slots.
    pub(crate) fn adopt(&mut self, slots: usize) {
        if let Some(adopt) = self.state.adopt.filter(|_| self.state.adopting != DONE) {
            adopt(self, slots);
        }
    }

    /// When [`Table::poll`] has something to do.
    pub(crate) fn poll_at(&self) -> Option<Instant> {
        let now = self.state.now;
        if self.state.outbox.has_something() {
            return Some(now);
        }
        let State { moves, adopt, adopting, .. } = &*self.state;
        #[cfg(target_pointer_width = "64")]
        if self.state.renewal.is_due() {
            return Some(now);
        }
        if moves.cursor != DONE || moves.is_forgetting() || (adopt.is_some() && *adopting != DONE) {
            return Some(now);
        }
        let telling = moves.telling;
        let owing = |c: &Entry| c.has(OWES_CLIENT | OWES_SERVER);
        let told = (telling != DONE).then(|| match self.slot(telling).is_some_and(owing) {
            true => self.state.outbox.next_reset(self.state.config.resets_per_second, now),
            false => now,
        });
        let tick = self.state.tick;
        let heads = Class::ALL.into_iter().filter_map(|class| {
            let head = self.slot(self.state.ages.head(class))?;
            let death = self.state.timers.death(head.phase, head.last);
            let lap = self.state.timers.end_of_lap(class, head.stamp, tick);
            Some(self.state.instant(death).min(self.state.instant(lap)))
        });
        let rebuilding = self.state.rebuilding.due(tick).map(|due| due.instant(now));
        heads.chain(told).chain(rebuilding).min()
    }
}
