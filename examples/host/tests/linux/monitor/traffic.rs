//! Servers with workers whose service time is known, and clients that ask them.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use byway_host::lab::network::ORIGINAL;
use byway_host::lab::space::Space;

/// How many requests a server works on at once.
const WORKERS: usize = 4;
/// A server with a queue and workers; each request takes a time that a test sets.
pub(super) struct Server {
    accepted: Arc<AtomicUsize>,
    micros: Arc<AtomicU64>,
    pub(super) hangs: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(space: &Space, millis: u64) -> Self {
        let server =
            Self { accepted: Arc::default(), micros: Arc::new(AtomicU64::new(millis * 1_000)), hangs: Arc::default() };
        let (accepted, micros, hangs) = (server.accepted.clone(), server.micros.clone(), server.hangs.clone());
        space.run(move || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
            rustix::net::listen(&listener, 4096).unwrap();
            let free = Arc::new((Mutex::new(WORKERS), Condvar::new()));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let (free, micros, hangs) = (free.clone(), micros.clone(), hangs.clone());
                    std::thread::spawn(move || serve(stream, &free, &micros, &hangs));
                }
            });
        });
        server
    }

    pub(super) fn takes(&self, millis: u64) {
        self.micros.store(millis * 1_000, Ordering::Relaxed);
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, free: &(Mutex<usize>, Condvar), micros: &AtomicU64, hangs: &AtomicBool) {
    let mut buffer = [0; 64];
    while matches!(stream.read(&mut buffer), Ok(1..)) {
        while hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut workers = free.1.wait_while(free.0.lock().unwrap(), |free| *free == 0).unwrap();
        *workers -= 1;
        drop(workers);
        std::thread::sleep(Duration::from_micros(micros.load(Ordering::Relaxed)));
        *free.0.lock().unwrap() += 1;
        free.1.notify_one();
        if stream.write_all(b"done").is_err() {
            return;
        }
    }
}

/// When a request was answered, and after how long; nothing if it was not.
type Answer = (Instant, Option<Duration>);

/// Clients, each of which asks one thing after the other on a connection of its own.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Clients {
    pub(super) fn start(space: &Space, count: u64) -> Self {
        Self::asking(space, count, 70, || ask)
    }

    /// The same where each keeps one connection for all that it asks.
    pub(super) fn keep(space: &Space, count: u64) -> Self {
        Self::asking(space, count, 170, || {
            let mut stream = connect().unwrap();
            move || ask_on(&mut stream)
        })
    }

    /// Each asks with what `client` has made for it, and then rests for so many milliseconds or a few more.
    fn asking<A: FnMut() -> std::io::Result<()>>(
        space: &Space,
        count: u64,
        rest: u64,
        client: impl Fn() -> A + Copy + Send + 'static,
    ) -> Self {
        let clients = Self { stop: Arc::default(), answers: Arc::default() };
        let (stop, answers) = (clients.stop.clone(), clients.answers.clone());
        space.run(move || {
            for number in 0..count {
                let (stop, answers) = (stop.clone(), answers.clone());
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(number * 7));
                    let mut ask = client();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let begun = Instant::now();
                        let time = ask().ok().map(|()| begun.elapsed());
                        answers.lock().unwrap().push((Instant::now(), time));
                        // Not all at once.
                        std::thread::sleep(Duration::from_millis(rest + (number * 37 + n * 53) % 60));
                    }
                });
            }
        });
        clients
    }

    /// Of the requests that ended within so many seconds: how many, how many failed, and the 90th percentile.
    pub(super) fn lately(&self, seconds: u64) -> (usize, usize, Duration) {
        let now = Instant::now();
        self.between(now - Duration::from_secs(seconds), now, 90)
    }

    /// The same of those that ended between two times, with this percentile.
    pub(super) fn between(&self, from: Instant, to: Instant, percent: usize) -> (usize, usize, Duration) {
        let answers = self.answers.lock().unwrap();
        let all: Vec<_> = answers.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, time)| *time).collect();
        let mut times: Vec<Duration> = all.iter().flatten().copied().collect();
        times.sort_unstable();
        (all.len(), all.len() - times.len(), times.get(times.len() * percent / 100).copied().unwrap_or_default())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask() -> std::io::Result<()> {
    ask_on(&mut connect()?)
}

fn connect() -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddrV4::new(ORIGINAL, 80).into(), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn ask_on(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"what?")?;
    stream.read_exact(&mut [0; 4])
}
