//! A shard's router, which every thread may use while it has the lock.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use byway::Instant;

use crate::listeners::Listeners;
use crate::router::{Output, Router};
use crate::waker::Waker;

/// How often fragments that are kept are looked after.
const SECOND: Duration = Duration::from_secs(1);
/// How soon an event is offered again that found no room in a queue.
const SOON: Duration = Duration::from_millis(1);

/// A router, and who is told what happens to its connections.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) router: Box<Router>,
    listeners: Listeners,
    /// When the shard's own thread looks after it next, at the latest; `None`: not before it is woken.
    attended: Option<Instant>,
}

impl Seat {
    /// When something is due.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.router.poll_at(now);
        let fragments = (self.router.held() != 0).then(|| now + SECOND);
        let events = self.listeners.is_held_up().then(|| now + SOON);
        due.into_iter().chain(fragments).chain(events).min()
    }
}

/// What the handles of a shard share.
#[derive(Debug)]
struct Shared {
    number: usize,
    /// `None` when the shard has ended.
    seat: Mutex<Option<Seat>>,
    waker: Waker,
    stops: AtomicBool,
}

/// A shard, seen from any thread.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// A shard with this number and router, which tells these listeners what happens to connections.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(number: usize, router: Box<Router>, listeners: Listeners) -> io::Result<Self> {
        let seat = Mutex::new(Some(Seat { router, listeners, attended: None }));
        Ok(Self(Arc::new(Shared { number, seat, waker: Waker::new()?, stops: AtomicBool::new(false) })))
    }

    /// Locks the router. What the lock guards is `None` if the shard has ended. Whoever needs several of them locks them in the
    /// order of their numbers.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, Option<Seat>>> {
        // A router in which a thread has panicked is no good; the process ends.
        self.0.seat.lock().ok()
    }

    /// Does something with the router. `None` if the shard has ended.
    pub(super) fn with<T>(&self, task: impl FnOnce(&mut Router) -> T) -> Option<T> {
        Some(task(&mut self.lock()?.as_mut()?.router))
    }

    /// Does something with the router, and lets the shard's thread see to what is due then. `None` if the shard has ended.
    pub fn ask<T>(&self, task: impl FnOnce(&mut Router) -> T) -> Option<T> {
        let done = self.with(task);
        self.wake();
        done
    }

    /// Does what is due, and passes events on. If something is due before the shard's own thread would look, wakes that.
    pub(super) fn attend(&self, now: Instant, out: &mut impl Output) {
        let is_earlier = self.lock().is_some_and(|mut seat| {
            seat.as_mut().is_some_and(|seat| {
                seat.router.poll(now, out);
                seat.listeners.report(self.0.number, &mut seat.router);
                let attended = seat.attended;
                seat.due(now).is_some_and(|due| attended.is_none_or(|attended| due < attended))
            })
        });
        if is_earlier {
            self.wake();
        }
    }

    /// Says that the shard's thread is about to sleep; returns until when.
    pub(super) fn will_sleep(&self, now: Instant) -> Option<Instant> {
        self.0.waker.will_sleep();
        let mut seat = self.lock()?;
        let seat = seat.as_mut()?;
        seat.attended = seat.due(now);
        seat.attended
    }

    /// Says that the shard's thread is awake again.
    pub(super) fn is_awake(&self) {
        self.0.waker.is_awake();
    }

    /// Wakes the shard's thread.
    pub(crate) fn wake(&self) {
        self.0.waker.wake();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.0.waker
    }

    /// Ends the shard's thread.
    pub fn stop(&self) {
        self.0.stops.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.stops.load(Ordering::SeqCst)
    }

    /// Ends the shard: nobody can use its router any more but the caller. `None` if it has ended before.
    pub(super) fn end(&self) -> Option<Box<Router>> {
        let mut seat = self.lock()?.take()?;
        seat.listeners.report(self.0.number, &mut seat.router);
        Some(seat.router)
    }
}
