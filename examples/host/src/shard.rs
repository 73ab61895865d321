//! One thread: a queue of the device, and the router for the packets that belong to it.

use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use byway::{Instant, Owner, Sharding};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Clock;
use crate::device::{FRAME, Queue};
use crate::lending::{Lent, Turn};
use crate::listeners::Listeners;
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
    ring: SyncSender<Vec<u8>>,
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
    ring: Receiver<Vec<u8>>,
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
            self.listeners.report(self.number, &mut self.router.translator);
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
        self.listeners.report(self.number, &mut self.router.translator);
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
                Owner::One(shard) if shard == self.number => self.route(frame),
                Owner::One(shard) => self.hand_over(shard, frame),
                Owner::Every => {
                    let own = self.number;
                    for shard in (0..self.peers.len()).filter(|shard| *shard != own) {
                        self.hand_over(shard, frame);
                    }
                    self.route(frame);
                }
            }
        }
        Ok(true)
    }

    fn owner(&self, frame: &[u8]) -> Owner {
        match self.peers.len() {
            1 => Owner::One(self.number),
            _ => self.sharding.owner(frame.get(LENGTH..).unwrap_or_default()),
        }
    }

    fn route(&mut self, frame: &mut [u8]) {
        self.router.forward(self.clock.now(), frame, &mut self.queue);
    }

    fn hand_over(&mut self, shard: usize, frame: &[u8]) {
        let counters = &mut self.router.counters;
        let Some(peer) = self.peers.get(shard) else {
            return;
        };
        if peer.ring.try_send(frame.to_vec()).is_ok() {
            counters.handed_over += 1;
            peer.waker.wake();
        } else {
            counters.ring_full += 1;
        }
    }

    /// Routes what other shards have handed over. Whether there was any.
    fn take_handed_over(&mut self) -> bool {
        for taken in 0..BURST {
            let Ok(mut frame) = self.ring.try_recv() else {
                return taken != 0;
            };
            self.route(&mut frame);
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
mod tests {
    use core::net::Ipv4Addr;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;

    use byway::{Config, Divert, Heap, Target, Translator, Weighted};

    use super::*;
    use crate::packet::tests::udp;
    use crate::router::Settings;
    use crate::vnet::VnetHeader;

    const OWN: [u8; 4] = [10, 9, 9, 9];

    /// Two shards whose queues are sockets, and the other ends of those.
    fn two() -> (Vec<Shard>, Vec<UnixDatagram>) {
        let config = Config::new([7; 32]).alternative([10, 10, 10, 10].into(), 1024..=65535).own(OWN.into());
        let sharding = Sharding::new(&config, 2).unwrap();
        let (mut parts, mut far) = (Vec::new(), Vec::new());
        for shard in 0..2 {
            let mut translator = Translator::new(sharding.config(&config, shard).unwrap(), Heap::new(64, 16)).unwrap();
            let mut room = [Weighted { target: Target::Same, weight: 1 }; 4];
            translator.divert(Divert::parse("100.1.1.1 to 20.0.0.1", &mut room).unwrap()).unwrap();
            let settings =
                Settings { address: OWN.into(), mtu: 1500, errors_per_second: 10, held: 4, resumable: None, early: None };
            let (near, other) = UnixDatagram::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            other.set_nonblocking(true).unwrap();
            parts.push((Queue::new(near.into(), true), Box::new(Router::new(translator, settings))));
            far.push(other);
        }
        let shards = shards(parts, &Listeners::default(), sharding, Clock::new(Instant::from_secs(10))).unwrap();
        (shards.into_iter().map(|(shard, _)| shard).collect(), far)
    }

    /// What other shards have handed over is not lost when a shard has ended before it took it.
    #[test]
    fn what_waits_when_all_end_is_routed() {
        let (mut shards, far) = two();
        let mut frame = vec![0; FRAME].into_boxed_slice();
        let frame: &mut [u8; FRAME] = frame.as_mut_array().unwrap();
        const CLIENTS: u8 = 100;
        for client in 0..CLIENTS {
            let packet = udp([1, 2, 3, client], [100, 1, 1, 1], b"question");
            far[0].send(&[&VnetHeader::NONE.to_bytes(), &packet[..]].concat()).unwrap();
            shards[0].read(frame).unwrap();
        }
        // The other one has ended without looking.
        let counters: Vec<_> = shards.into_iter().map(|shard| shard.finish().1.counters).collect();
        let handed_over = counters[0].handed_over;
        assert!(handed_over > 20 && handed_over < 80, "{handed_over}");
        let mut sent = [0; 2];
        for (sent, far) in sent.iter_mut().zip(&far) {
            while let Ok(length) = far.recv(&mut frame[..]) {
                let server: [u8; 4] = frame[LENGTH + 16..LENGTH + 20].try_into().unwrap();
                assert_eq!((Ipv4Addr::from(server), length > LENGTH + 28), ([20, 0, 0, 1].into(), true));
                *sent += 1;
            }
            assert_eq!(far.recv(&mut frame[..]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(sent, [u64::from(CLIENTS) - handed_over, handed_over]);
    }
}
