//! A translator with its agent behind a real UDP socket on this machine.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use byway::control::{Agent, MAX_ANSWER};
use byway::{Heap, Translator};

pub struct Served {
    pub at: SocketAddr,
    pub byway: Arc<Mutex<Translator<Heap>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    start: Instant,
}

impl Served {
    /// Serves until it is dropped. Of the datagrams that come, the first `lost` are lost on purpose.
    pub fn new(agent: Agent<4, 4, 2>, byway: Translator<Heap>, lost: usize) -> Self {
        Self::listening("127.0.0.1:0".parse().unwrap(), agent, byway, lost)
    }

    /// The same, at this address.
    pub fn listening<const REPORTS: usize>(
        at: SocketAddr,
        mut agent: Agent<4, 4, REPORTS>,
        byway: Translator<Heap>,
        mut lost: usize,
    ) -> Self {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let at = socket.local_addr().unwrap();
        let byway = Arc::new(Mutex::new(byway));
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let (shared, stopped) = (byway.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut datagram, mut answer) = ([0; 2048], [0; MAX_ANSWER]);
            while !stopped.load(Ordering::Relaxed) {
                let received = socket.recv_from(&mut datagram);
                let mut byway = shared.lock().unwrap();
                let now = since(start);
                if let Ok((length, from)) = received {
                    if lost > 0 {
                        lost -= 1;
                    } else if let Ok(n) = agent.handle(now, &mut *byway, from, &datagram[..length], &mut answer) {
                        socket.send_to(&answer[..n], from).unwrap();
                    }
                }
                while agent.has_room()
                    && let Some(event) = byway.poll_event()
                {
                    agent.tell(now, &event);
                }
                while let Some((to, length)) = agent.poll_transmit(now, &mut answer) {
                    let _ = socket.send_to(&answer[..length], to);
                }
                while let Some((to, length)) = agent.poll_report(now, &mut *byway, &mut answer) {
                    let _ = socket.send_to(&answer[..length], to);
                }
            }
        });
        Self { at, byway, stop, thread: Some(thread), start }
    }

    pub fn now(&self) -> byway::Instant {
        since(self.start)
    }
}

fn since(start: Instant) -> byway::Instant {
    byway::Instant::ZERO + start.elapsed() + Duration::from_secs(1)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
