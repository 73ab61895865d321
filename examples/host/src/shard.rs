//! One thread: a queue of the device, and the router for the packets that belong to it.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use byway::{DatagramId, Instant, Owner, Sharding};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Clock;
use crate::device::{FRAME, Queue};
use crate::firsts::Firsts;
use crate::held::Given;
use crate::lending::{Lent, Turn};
use crate::listeners::Listeners;
use crate::packet;
use crate::router::Router;
use crate::vnet::LENGTH;
use crate::waker::Waker;

/// How many packets are taken before anything else has its turn.
const BURST: usize = 64;
/// How many packets wait at most for their owner.
const RING: usize = 512;

/// A task of another thread, which a shard runs between two packets.
pub type Task = Box<dyn FnOnce(&mut Router) + Send>;

enum Order {
    Do(Task),
    Lend(Sender<Lent>),
    Stop,
}

/// A shard, seen from other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    turn: Turn,
}

impl core::fmt::Debug for Order {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Do(_) => "Do",
            Self::Lend(_) => "Lend",
            Self::Stop => "Stop",
        })
    }
}

impl Handle {
    /// Runs a task on the shard's thread, and waits for its result. `None` if the shard has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Router) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = channel();
        let task: Task = Box::new(move |router| drop(reply.send(task(router))));
        self.orders.send(Order::Do(task)).ok()?;
        self.waker.wake();
        answer.recv().ok()
    }

    /// Makes the shard lend its router, and wait until it is given back. False if the shard has ended.
    pub(crate) fn lend(&self, to: Sender<Lent>) -> bool {
        let is_there = self.orders.send(Order::Lend(to)).is_ok();
        self.waker.wake();
        is_there
    }

    /// The lock to be held while the routers of several shards are borrowed.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Ends the shard.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        self.waker.wake();
    }
}

/// The way to another shard: a bounded ring.
#[derive(Debug)]
struct Peer {
    ring: SyncSender<(Vec<u8>, Given)>,
    waker: Arc<Waker>,
}

/// A shard: all that its thread owns.
#[derive(Debug)]
pub struct Shard {
    number: usize,
    queue: Queue,
    /// In a box, so that it can be lent.
    router: Box<Router>,
    listeners: Listeners,
    sharding: Sharding,
    peers: Vec<Peer>,
    ring: Receiver<(Vec<u8>, Given)>,
    /// Which shards have got the first fragments that came out of this shard's queue.
    firsts: Firsts,
    orders: Receiver<Order>,
    /// Orders that were received and not yet obeyed.
    pending: Vec<Order>,
    waker: Arc<Waker>,
    clock: Clock,
    stops: bool,
}

/// What a shard is made of, and what is left of it when it has ended.
pub type Parts = (Queue, Box<Router>);

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
    let mut all = Vec::new();
    let mut rings = Vec::new();
    let turn = Turn::default();
    for (number, (queue, router)) in parts.into_iter().enumerate() {
        let waker = Arc::new(Waker::new()?);
        let ((sender, ring), (orders, received)) = (sync_channel(RING), channel());
        rings.push((sender, waker.clone()));
        let handle = Handle { orders, waker: waker.clone(), turn: turn.clone() };
        let peers = Vec::new();
        let shard = Shard {
            number,
            queue,
            router,
            listeners: listeners.clone(),
            sharding,
            peers,
            ring,
            firsts: Firsts::default(),
            orders: received,
            pending: Vec::new(),
            waker,
            clock,
            stops: false,
        };
        all.push((shard, handle));
    }
    for (shard, _) in &mut all {
        shard.peers = rings.iter().map(|(ring, waker)| Peer { ring: ring.clone(), waker: waker.clone() }).collect();
    }
    Ok(all)
}

impl Shard {
    /// Runs until it is told to stop. Returns itself, with its connections.
    ///
    /// # Errors
    /// The device is gone.
    pub fn run(mut self) -> io::Result<Self> {
        let mut frame = vec![0; FRAME].into_boxed_slice();
        let frame: &mut [u8; FRAME] = frame.as_mut_array().expect("it has this length");
        while !self.stops {
            let mut is_busy = self.read(frame)?;
            is_busy |= self.take_handed_over();
            if self.has_orders() {
                self = self.obey()?;
                is_busy = true;
            }
            let now = self.clock.now();
            self.router.poll(now, &mut self.queue);
            self.listeners.report(self.number, &mut self.router);
            if !is_busy {
                self.wait(now)?;
            }
        }
        Ok(self)
    }

    /// Routes what others have handed over since it ended, and returns what it was made of. To be called when all have ended, so
    /// that nothing more comes.
    #[must_use]
    pub fn finish(mut self) -> Parts {
        while self.take_handed_over() {}
        self.listeners.report(self.number, &mut self.router);
        (self.queue, self.router)
    }

    /// Whether other threads want something done.
    fn has_orders(&mut self) -> bool {
        self.pending.extend(self.orders.try_iter());
        !self.pending.is_empty()
    }

    /// Does what other threads want done.
    fn obey(mut self) -> io::Result<Self> {
        for order in core::mem::take(&mut self.pending) {
            match order {
                Order::Do(task) => task(&mut self.router),
                Order::Lend(to) => self = self.lend(&to)?,
                Order::Stop => self.stops = true,
            }
        }
        Ok(self)
    }

    /// Lends the router, and waits until it is given back.
    fn lend(mut self, to: &Sender<Lent>) -> io::Result<Self> {
        let (back, returned) = channel();
        self.router = match to.send(Lent { router: self.router, back }) {
            Ok(()) => returned.recv().map_err(|_| io::Error::other("a router was borrowed and not given back"))?,
            // The borrower has gone.
            Err(unsent) => unsent.0.router,
        };
        Ok(self)
    }

    /// Reads packets, and routes those that are this shard's. Whether there may be more.
    fn read(&mut self, frame: &mut [u8; FRAME]) -> io::Result<bool> {
        for _ in 0..BURST {
            let Some(length) = self.queue.receive(frame)? else {
                return Ok(false);
            };
            let frame = &mut frame[..length];
            match self.owner(frame) {
                Owner::One(shard) if shard == self.number => self.route(frame, Given::Alone),
                Owner::One(shard) => self.hand_over(shard, frame, Given::Alone),
                Owner::Every => {
                    let own = self.number;
                    self.router.counters.fragments_copied += 1;
                    for shard in (0..self.peers.len()).filter(|shard| *shard != own) {
                        self.hand_over(shard, frame, Given::ToEvery);
                    }
                    self.route(frame, Given::ToEvery);
                }
            }
        }
        Ok(true)
    }

    fn owner(&mut self, frame: &[u8]) -> Owner {
        if self.peers.len() == 1 {
            return Owner::One(self.number);
        }
        let packet = frame.get(LENGTH..).unwrap_or_default();
        match (self.sharding.owner(packet), DatagramId::of_fragment(packet)) {
            (Owner::Every, Some(datagram)) => {
                self.firsts.owner(self.clock.now(), &datagram).map_or(Owner::Every, Owner::One)
            }
            (Owner::One(shard), Some(datagram)) if self.router.translator.is_own(datagram.destination) => {
                if !packet::is_later_fragment(packet) {
                    self.firsts.add(self.clock.now(), datagram, shard);
                }
                Owner::One(shard)
            }
            (owner, _) => owner,
        }
    }

    fn route(&mut self, frame: &mut [u8], given: Given) {
        self.router.take(self.clock.now(), frame, given, &mut self.queue);
    }

    fn hand_over(&mut self, shard: usize, frame: &[u8], given: Given) {
        let counters = &mut self.router.counters;
        let Some(peer) = self.peers.get(shard) else {
            return;
        };
        if peer.ring.try_send((frame.to_vec(), given)).is_ok() {
            counters.handed_over += 1;
            peer.waker.wake();
        } else {
            counters.ring_full += 1;
        }
    }

    /// Routes what other shards have handed over. Whether there was any.
    fn take_handed_over(&mut self) -> bool {
        for taken in 0..BURST {
            let Ok((mut frame, given)) = self.ring.try_recv() else {
                return taken != 0;
            };
            self.route(&mut frame, given);
        }
        true
    }

    /// Sleeps until a packet comes, another thread wants something, or it is time.
    fn wait(&mut self, now: Instant) -> io::Result<()> {
        self.waker.will_sleep();
        // What came before that has not woken this thread.
        if self.take_handed_over() | self.has_orders() {
            self.waker.is_awake();
            return Ok(());
        }
        let due = self.router.poll_at(now).map(|due| due.duration_since(now));
        // Fragments that are kept are looked after now and then.
        let due = if self.router.held() == 0 { due } else { Some(due.map_or(SECOND, |due| due.min(SECOND))) };
        let due = if self.listeners.is_held_up() { Some(Duration::from_millis(1)) } else { due };
        let timeout = due.and_then(|due| Timespec::try_from(due.max(Duration::from_millis(1))).ok());
        let mut fds = [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(&*self.waker, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.waker.is_awake();
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
