//! Servers that are a queue with workers. A request says how much work it is; a worker sleeps for that long, so that
//! the machine's own load hardly matters.
//!
//! Commands are lines on the standard input, about a server with a number from 0 on: `3 slower 3`, `1 fails 0.5`,
//! `0 hangs`, `4 refuses`, and `3 well`. Each is answered with `done`.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use byway_testing::random::Dice;

/// How many requests a server works on at once.
const WORKERS: usize = 8;

/// What is wrong with a server.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// How many times longer its work takes.
    slower: f64,
    /// This share of its requests is answered with a RST, at once.
    fails: f64,
    /// It accepts, and answers nothing.
    hangs: bool,
    /// Nothing listens: the kernel answers with a RST, and all connections have ended with one.
    refuses: bool,
}

const WELL: Health = Health { slower: 1.0, fails: 0.0, hangs: false, refuses: false };

struct Server {
    address: SocketAddr,
    speed: f64,
    /// An answer takes so long to travel. The network between the namespaces has no delay of its own.
    delay: Duration,
    workers: Semaphore,
    health: watch::Sender<Health>,
    /// How many requests there were, for the dice.
    requests: AtomicU64,
}

pub(crate) async fn run(words: &[String]) -> Result<(), String> {
    let mut servers = Vec::new();
    for (word, last) in words.iter().zip(1..) {
        let parts = word.split_once('@').and_then(|(speed, millis)| Some((speed.parse().ok()?, millis.parse().ok()?)));
        let (speed, millis) = parts.ok_or_else(|| format!("{word} is no SPEED@MILLISECONDS"))?;
        let server = Arc::new(Server {
            address: SocketAddrV4::new(Ipv4Addr::new(20, 0, 0, last), 80).into(),
            speed,
            delay: Duration::from_millis(millis),
            workers: Semaphore::new(WORKERS),
            health: watch::Sender::new(WELL),
            requests: AtomicU64::new(0),
        });
        let listener = listen(server.address)?;
        tokio::spawn(accept(server.clone(), listener));
        servers.push(server);
    }
    println!("serving");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        let health = command(&line).ok_or_else(|| format!("{line}: no command"))?;
        let server = servers.get(health.0).ok_or_else(|| format!("{line}: no such server"))?;
        server.health.send_replace(health.1);
        println!("done");
    }
    Ok(())
}

fn command(line: &str) -> Option<(usize, Health)> {
    let mut words = line.split(' ');
    let server = words.next()?.parse().ok()?;
    let what = words.next()?;
    let mut number = || words.next()?.parse().ok();
    let health = match what {
        "slower" => Health { slower: number()?, ..WELL },
        "fails" => Health { fails: number()?, ..WELL },
        "hangs" => Health { hangs: true, ..WELL },
        "refuses" => Health { refuses: true, ..WELL },
        "well" => WELL,
        _ => return None,
    };
    Some((server, health))
}

fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(4_096)
    };
    listen().map_err(|error| format!("{address}: {error}"))
}

async fn accept(server: Arc<Server>, mut listener: TcpListener) -> Result<(), String> {
    let mut health = server.health.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted),
            _ = health.wait_for(|health| health.refuses) => None,
        };
        match accepted {
            Some(Ok((stream, _))) => drop(tokio::spawn(talk(server.clone(), stream))),
            Some(Err(error)) => eprintln!("{}: {error}", server.address),
            None => {
                drop(listener);
                let _ = health.wait_for(|health| !health.refuses).await;
                listener = listen(server.address)?;
            }
        }
    }
}

/// Answers the requests of a connection, until its client leaves or the server fails.
async fn talk(server: Arc<Server>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut health = server.health.subscribe();
    let mut stream = BufReader::new(stream);
    let fails = tokio::select! {
        fails = answer(&server, &mut stream) => fails,
        _ = health.wait_for(|health| health.refuses) => true,
    };
    if fails {
        let _ = stream.get_ref().set_zero_linger();
    }
}

/// Returns true if the connection is to end with a RST.
async fn answer(server: &Server, stream: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match stream.read_line(&mut line).await {
            Ok(1..) => {}
            _ => return false,
        }
        let Ok(micros) = line.trim_end().parse() else { return true };
        let fails = server.health.borrow().fails;
        if fails > 0.0 {
            let number = server.requests.fetch_add(1, Ordering::Relaxed);
            if Dice(number.wrapping_mul(0x9e37_79b9)).unit() < fails {
                sleep(server.delay).await;
                return true;
            }
        }
        // Nobody works for a client that has left.
        let mut more = [0];
        tokio::select! {
            () = work(server, micros) => {}
            _ = stream.get_ref().peek(&mut more) => return false,
        }
        if stream.get_mut().write_all(b"done\n").await.is_err() {
            return false;
        }
    }
}

async fn work(server: &Server, micros: u32) {
    let mut health = server.health.subscribe();
    let _ = health.wait_for(|health| !health.hangs).await;
    let permit = server.workers.acquire().await;
    let slower = health.borrow().slower;
    sleep(Duration::from_micros(u64::from(micros)).mul_f64(slower / server.speed)).await;
    // What a worker has in hand when the server begins to hang stays there.
    let _ = health.wait_for(|health| !health.hangs).await;
    drop(permit);
    sleep(server.delay).await;
}
