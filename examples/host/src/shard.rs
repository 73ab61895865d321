//! One thread: a queue of the device. It takes each packet to the router that owns it, and looks after a router of its own.

use core::time::Duration;
use std::io;

use byway::{DatagramId, Instant, Owner, Sharding};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::device::{FRAME, Queue};
use crate::firsts::Firsts;
use crate::held::Given;
use crate::listeners::Listeners;
use crate::packet;
use crate::router::{Output, Router};
use crate::vnet::LENGTH;

pub use handle::Handle;
pub(crate) use handle::Seat;

mod handle;

/// How many packets are taken before anything else has its turn.
const BURST: usize = 64;

/// What a shard is made of, and what is left of it when it has ended.
pub type Parts = (Queue, Box<Router>);

/// A shard's thread: what nobody else uses.
#[derive(Debug)]
pub struct Shard {
    number: usize,
    queue: Queue,
    sharding: Sharding,
    own: Handle,
    /// All shards, this one too.
    all: Vec<Handle>,
    /// Which of them have got packets since they were attended to.
    used: Vec<bool>,
    /// Which shards have got the first fragments that came out of this shard's queue.
    firsts: Firsts,
    /// What was counted without a router.
    counters: Counters,
    clock: Clock,
}

/// Makes shards of these queues and routers, which know each other, and report to these listeners what happens to
/// connections.
///
/// # Errors
/// The kernel's.
pub fn shards(
    parts: impl IntoIterator<Item = Parts>,
    listeners: &Listeners,
    sharding: Sharding,
    clock: Clock,
) -> io::Result<Vec<(Shard, Handle)>> {
    let (mut queues, mut all) = (Vec::new(), Vec::new());
    for (number, (queue, router)) in parts.into_iter().enumerate() {
        all.push(Handle::new(number, router, listeners.clone())?);
        queues.push(queue);
    }
    let shard = |(number, (queue, own)): (usize, (Queue, &Handle))| {
        let (firsts, counters) = (Firsts::default(), Counters::default());
        let (all, used) = (all.clone(), vec![false; all.len()]);
        (Shard { number, queue, sharding, own: own.clone(), all, used, firsts, counters, clock }, own.clone())
    };
    Ok(queues.into_iter().zip(&all).enumerate().map(shard).collect())
}

impl Shard {
    /// Runs until it is told to stop. Returns itself.
    ///
    /// # Errors
    /// The device is gone.
    pub fn run(mut self) -> io::Result<Self> {
        let mut frame = vec![0; FRAME].into_boxed_slice();
        let frame: &mut [u8; FRAME] = frame.as_mut_array().expect("it has this length");
        while !self.own.is_stopped() {
            let is_busy = self.read(frame)?;
            let now = self.clock.now();
            self.attend(now);
            if !is_busy {
                self.wait(now)?;
            }
        }
        Ok(self)
    }

    /// Ends it, and returns what it was made of. To be called when all threads have ended, so that no packet is without an owner.
    #[must_use]
    pub fn finish(mut self) -> Option<Parts> {
        self.settle();
        Some((self.queue, self.own.end()?))
    }

    /// Adds what was counted without a router to its own router's counters.
    fn settle(&mut self) {
        let counted = core::mem::take(&mut self.counters);
        if counted != Counters::default() {
            self.own.with(|router| router.counters.add(&counted));
        }
    }

    /// Reads packets, and has them routed. Whether there may be more.
    fn read(&mut self, frame: &mut [u8; FRAME]) -> io::Result<bool> {
        for _ in 0..BURST {
            let Some(length) = self.queue.receive(frame)? else {
                return Ok(false);
            };
            let frame = &mut frame[..length];
            match self.owner(frame) {
                Owner::One(shard) => self.route(shard, frame, Given::Alone),
                Owner::Every => {
                    self.counters.fragments_copied += 1;
                    for shard in 0..self.all.len() {
                        self.route(shard, &mut frame.to_vec(), Given::ToEvery);
                    }
                }
            }
        }
        Ok(true)
    }

    fn owner(&mut self, frame: &[u8]) -> Owner {
        if self.all.len() == 1 {
            return Owner::One(self.number);
        }
        let packet = frame.get(LENGTH..).unwrap_or_default();
        match (self.sharding.owner(packet), DatagramId::of_fragment(packet)) {
            (Owner::Every, Some(datagram)) => {
                self.firsts.owner(self.clock.now(), &datagram).map_or(Owner::Every, Owner::One)
            }
            (Owner::One(shard), Some(datagram)) if self.is_own(&datagram) => {
                if !packet::is_later_fragment(packet) {
                    self.firsts.add(self.clock.now(), datagram, shard);
                }
                Owner::One(shard)
            }
            (owner, _) => owner,
        }
    }

    /// Whether a datagram is for an address of the translator.
    fn is_own(&self, datagram: &DatagramId) -> bool {
        let is_own = |router: &mut Router| router.translator.is_own(datagram.destination);
        self.own.with(is_own).unwrap_or_default()
    }

    /// Gives a frame to the router of a shard, and sends what becomes of it. Writing a long frame takes longer than all else, so
    /// the router is free for others meanwhile.
    fn route(&mut self, shard: usize, frame: &mut [u8], given: Given) {
        let Self { all, used, queue, counters, clock, .. } = self;
        let (Some(owner), Some(used)) = (all.get(shard), used.get_mut(shard)) else {
            return;
        };
        counters.other_queue += u64::from(shard != self.number);
        *used = true;
        match owner.with(|router| router.take(clock.now(), frame, given, queue)) {
            Some(Some(length)) => queue.send(frame.get(..length).unwrap_or_default(), counters),
            Some(None) => {}
            None => counters.owner_ended += 1,
        }
    }

    /// Does what is due in its own router and in those that have got packets.
    fn attend(&mut self, now: Instant) {
        self.settle();
        for (shard, (handle, used)) in self.all.iter().zip(&mut self.used).enumerate() {
            if core::mem::take(used) || shard == self.number {
                handle.attend(now, &mut self.queue);
            }
        }
    }

    /// Sleeps until a packet comes, another thread wants something, or it is time.
    fn wait(&self, now: Instant) -> io::Result<()> {
        let own = &self.own;
        let due = own.will_sleep(now).map(|due| due.duration_since(now));
        // A stop before that has not woken this thread.
        if own.is_stopped() {
            return Ok(());
        }
        let timeout = due.and_then(|due| Timespec::try_from(due.max(Duration::from_millis(1))).ok());
        let mut fds = [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(own.waker(), PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        own.is_awake();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
