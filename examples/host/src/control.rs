//! The port for instructions: the library's agent on a socket and a thread of its own, for all shards.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};

use byway::control::{Agent, Key, MAX_ANSWER, MAX_REQUEST, NameRights, Refused, Rule};
use byway::{Event, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::Clock;
use crate::config::{Control, ControlKey, MAX_KEYS, Routed};
use crate::all_routers::{AllRouters, WithNaming};
use crate::names::Naming;
use crate::shard::Handle;
use crate::listen;
use crate::waker::Waker;

/// One for each key, so that no key can keep another out.
const SESSIONS: usize = MAX_KEYS;
/// How many monitors can get reports of measurements.
const REPORTS: usize = SESSIONS;
/// How many datagrams are answered before events have their turn.
const BURST: usize = 16;
/// How many pages of measurements are sent before requests have their turn again.
const REPORTS_IN_A_ROW: usize = 32;
/// How many events of all shards wait at most until they are sent; and how many of each shard for room in that queue.
const EVENTS: usize = 1024;

/// The agent and its socket.
#[derive(Debug)]
pub struct ControlPort {
    agent: Agent<MAX_KEYS, SESSIONS, REPORTS>,
    socket: UdpSocket,
    keys: Vec<ControlKey>,
    /// Which names the keys may change.
    rights: Vec<NameRights>,
    /// The naming server, if there is one.
    naming: Option<Arc<Naming>>,
    /// What is routed here, if byway knows.
    comes_here: Option<ComesHere>,
}

/// Says of a rule whether what it is about is routed here.
pub(crate) struct ComesHere(Box<dyn Fn(&Rule) -> bool + Send>);

impl ComesHere {
    pub(crate) fn judge(&self) -> &dyn Fn(&Rule) -> bool {
        &*self.0
    }
}

impl core::fmt::Debug for ComesHere {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ComesHere")
    }
}

impl ControlPort {
    /// Opens the socket.
    ///
    /// # Errors
    /// One line that says what to do.
    pub fn open(control: &Control, entropy: [u8; 32]) -> Result<Self, String> {
        let listen = control.listen;
        let socket = UdpSocket::bind(listen).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("control.listen {listen}: ports below 1024 are root's: take another")
            }
            _ => listen::refusal("control.listen", listen, &error),
        })?;
        Self::with(control, socket, entropy)
    }

    /// Takes a socket that is open already.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn with(control: &Control, socket: UdpSocket, entropy: [u8; 32]) -> Result<Self, String> {
        let listen = control.listen;
        socket.set_nonblocking(true).map_err(|error| format!("control.listen {listen}: {error}"))?;
        let mut port = Self {
            agent: Agent::sized(entropy).listening_on(listen),
            socket,
            keys: Vec::new(),
            rights: Vec::new(),
            naming: None,
            comes_here: None,
        };
        port.set_keys(&control.keys);
        Ok(port)
    }

    /// Replaces the keys. Sessions of keys that remain stay open.
    pub fn set_keys(&mut self, keys: &[ControlKey]) {
        for old in self.keys.extract_if(.., |old| !keys.contains(old)) {
            self.agent.remove_key(old.id);
        }
        for new in keys {
            if !self.keys.contains(new) {
                // The configuration holds no more than there is room for, and no number twice.
                if self.agent.add_key(Key::new(new.id, new.secret, new.rights)).is_ok() {
                    self.keys.push(new.clone());
                }
            }
        }
        let rights = |key: &ControlKey| {
            let id = key.id;
            key.names.clone().into_iter().map(move |pattern| NameRights { key: id, pattern })
        };
        self.rights = self.keys.iter().flat_map(rights).collect();
    }

    /// Takes instructions about names as well.
    pub fn change_names(&mut self, naming: Arc<Naming>) {
        self.naming = Some(naming);
    }

    /// Refuses rules about what is not routed here. `None` if somebody else sets the routes.
    pub fn refuse_unrouted(&mut self, routed: Option<Routed>) {
        self.comes_here = routed.map(|routed| ComesHere(Box::new(move |rule| routed.has(rule))));
    }

    /// How many datagrams got no answer, by reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        Refused::ALL.iter().map(|reason| (reason.name(), self.agent.refused(*reason))).collect()
    }

    /// Answers the requests that wait, for all shards. Returns whether there may be more.
    fn answer(&mut self, now: Instant, shards: &[Handle]) -> bool {
        let (mut request, mut answer) = ([0; MAX_REQUEST + 1], [0; MAX_ANSWER]);
        for _ in 0..BURST {
            let Ok((length, from)) = self.socket.recv_from(&mut request) else {
                return false;
            };
            // Only an authentic request locks the routers; they are free again before the answer is sent.
            let mut all = WithNaming::of(AllRouters::of(shards), self.naming.as_deref(), &self.rights)
                .refusing_unrouted(self.comes_here.as_ref());
            let handled = self.agent.handle(now, &mut all, from, &request[..length], &mut answer);
            drop(all);
            if let Ok(length) = handled {
                // A monitor that misses the answer asks again.
                let _ = self.socket.send_to(&answer[..length], from);
            }
        }
        true
    }

    /// Tells subscribers what happened.
    fn tell(&mut self, now: Instant, events: &Receiver<Event>) {
        let mut answer = [0; MAX_ANSWER];
        let mut is_empty = false;
        while !is_empty {
            while !is_empty && self.agent.has_room() {
                match events.try_recv() {
                    Ok(event) => self.agent.tell(now, &event),
                    Err(_) => is_empty = true,
                }
            }
            while let Some((to, length)) = self.agent.poll_transmit(now, &mut answer) {
                let _ = self.socket.send_to(&answer[..length], to);
            }
        }
    }

    /// Sends monitors the measurements that they have subscribed to. The routers are locked for each page, and free between two.
    fn report(&mut self, clock: &Clock, shards: &[Handle]) {
        let mut answer = [0; MAX_ANSWER];
        for _ in 0..REPORTS_IN_A_ROW {
            let Some((to, length)) = self.agent.poll_report(clock.now(), &mut AllRouters::of(shards), &mut answer)
            else {
                return;
            };
            let _ = self.socket.send_to(&answer[..length], to);
        }
    }

    /// Sleeps until a datagram comes, another thread wants something, or a report is due.
    fn wait(&self, clock: &Clock, waker: &Waker) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(waker, PollFlags::IN)];
        // A millisecond late, since waking up early would be in vain.
        let due = self.agent.report_at().map(|at| at.duration_since(clock.now()) + Duration::from_millis(1));
        let due = due.and_then(|due| Timespec::try_from(due).ok());
        match poll(&mut fds, due.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ControlPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How shards report what happens to connections: a bounded queue that all of them fill.
#[derive(Clone, Debug)]
pub struct EventReporter {
    events: SyncSender<Event>,
    /// Events that found the queue full, at most [`EVENTS`] of them.
    unsent: VecDeque<Event>,
    /// Whether anybody has subscribed.
    is_wanted: Arc<AtomicBool>,
    /// Whether anything was sent since the port was woken.
    is_new: bool,
    waker: Arc<Waker>,
}

impl EventReporter {
    /// Passes an event on if anybody has subscribed. False if it is lost, because too many wait for room already.
    pub fn report(&mut self, event: Event) -> bool {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return true;
        }
        self.is_new = true;
        if self.has_room()
            && let Ok(()) | Err(TrySendError::Disconnected(_)) = self.events.try_send(event)
        {
            return true;
        }
        let fits = self.unsent.len() < EVENTS;
        if fits {
            self.unsent.push_back(event);
        }
        fits
    }

    /// Whether no event waits for room any more, so that another one need not wait.
    pub fn has_room(&mut self) -> bool {
        if !self.is_wanted.load(Ordering::Relaxed) {
            self.unsent.clear();
        }
        while let Some(event) = self.unsent.front()
            && let Ok(()) | Err(TrySendError::Disconnected(_)) = self.events.try_send(*event)
        {
            self.is_new = true;
            self.unsent.pop_front();
        }
        self.unsent.is_empty()
    }

    /// Wakes the port if it has something to tell.
    pub fn wake(&mut self) {
        if core::mem::take(&mut self.is_new) {
            self.waker.wake();
        }
    }

    /// Whether an event waits for room in the queue.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// One that somebody has subscribed to, with a queue for so many events, and the end of that.
    #[cfg(test)]
    pub(crate) fn with_room_for(most: usize) -> io::Result<(Self, Receiver<Event>)> {
        let (events, received) = sync_channel(most);
        let (is_wanted, waker) = (Arc::new(AtomicBool::new(true)), Arc::new(Waker::new()?));
        Ok((Self { events, unsent: VecDeque::new(), is_wanted, is_new: false, waker }, received))
    }
}

/// A task for the port's thread.
type Task = Box<dyn FnOnce(&mut ControlPort) + Send>;

/// The port for instructions, seen from other threads.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

enum Order {
    Do(Task),
    Stop,
}

impl core::fmt::Debug for Order {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Do(_) => "Do",
            Self::Stop => "Stop",
        })
    }
}

impl ControlHandle {
    /// Runs a task on the port's thread, and waits for its result. `None` if the thread has ended.
    pub fn ask<T: Send + 'static>(&self, task: impl FnOnce(&mut ControlPort) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = channel();
        self.orders.send(Order::Do(Box::new(move |port| drop(reply.send(task(port)))))).ok()?;
        self.waker.wake();
        answer.recv().ok()
    }

    /// Ends its thread.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        self.waker.wake();
    }
}

/// The port for instructions and its queues, before its thread is started.
#[derive(Debug)]
pub struct ControlThread {
    port: ControlPort,
    orders: Receiver<Order>,
    events: Receiver<Event>,
    handle: ControlHandle,
    reporter: EventReporter,
}

impl ControlThread {
    /// Creates its queues.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(port: ControlPort) -> io::Result<Self> {
        let waker = Arc::new(Waker::new()?);
        let ((orders, received), (sender, events)) = (channel(), sync_channel(EVENTS));
        let handle = ControlHandle { orders, waker: waker.clone() };
        let (unsent, is_wanted) = (VecDeque::new(), Arc::default());
        let reporter = EventReporter { events: sender, unsent, is_wanted, is_new: false, waker };
        Ok(Self { port, orders: received, events, handle, reporter })
    }

    /// What the shards report to.
    #[must_use]
    pub const fn reporter(&self) -> &EventReporter {
        &self.reporter
    }

    /// The handle for other threads.
    #[must_use]
    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }

    /// Serves requests for these shards until it is told to stop. Returns the port.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(self, shards: &[Handle], clock: Clock) -> io::Result<ControlPort> {
        let Self { mut port, orders, events, handle, reporter } = self;
        loop {
            // From now on, whatever comes wakes this thread.
            handle.waker.will_sleep();
            let is_busy = port.answer(clock.now(), shards);
            port.tell(clock.now(), &events);
            port.report(&clock, shards);
            reporter.is_wanted.store(port.agent.wants_events(clock.now()), Ordering::Relaxed);
            for order in orders.try_iter() {
                match order {
                    Order::Do(task) => task(&mut port),
                    Order::Stop => return Ok(port),
                }
            }
            if !is_busy {
                port.wait(&clock, &handle.waker)?;
            }
            handle.waker.is_awake();
        }
    }
}
