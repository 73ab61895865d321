//! The demonstration: an HTTP download over sockets of this machine that changes servers many times on the way.
//!
//! All is in one process: two CoAP servers on UDP sockets, the proxy with its control port, a monitor, and an HTTP client.
//! The origin is an endpoint at which nothing listens; only byway's rule leads to a server.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use byway::Redivert;
use byway::control::Instruction;
use sha2::{Digest, Sha256};

use crate::counters::Reason;
use crate::far::carrier::inside;
use crate::monitor::Monitor;
use crate::server::{Resource, Server, SharedServer, serve};
use crate::service::Service;
use crate::settings::Settings;

/// Nothing listens there.
const ORIGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 9), 5683);

/// How long to wait at most until the transfer has moved.
const MOVING: Duration = Duration::from_millis(500);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes that the client got.
    pub bytes: usize,
    /// Instructions that moved the transfer.
    pub instructions: u32,
    /// Blocks in the middle of the body that came from another server than the one before.
    pub moves: u64,
    /// Requests that each server executed.
    pub requests: [u64; 2],
    /// Whether the client got the bytes that the servers have, in one response.
    pub is_intact: bool,
    /// How long it took.
    pub took: Duration,
}

/// Runs it with a body of so many bytes and so many moves, and tells `out` about it.
///
/// # Errors
/// A socket cannot be used.
pub fn run(bytes: usize, moves: u32, out: &mut impl Write) -> io::Result<Report> {
    let body: Arc<[u8]> = (0..bytes as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server: SharedServer = Arc::new(Mutex::new(Server::default()));
        if let Ok(mut server) = server.lock() {
            server.resources.insert("firmware".into(), Resource::new(body.clone(), Some(42)));
        }
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let SocketAddr::V4(at) = socket.local_addr()? else {
            return Err(io::Error::other("no IPv4"));
        };
        servers.push((server.clone(), SocketAddrV4::new(inside(*at.ip()), at.port())));
        let stop = stop.clone();
        threads.push(thread::spawn(move || serve(&socket, &server, &stop)));
    }
    let [(_, first), (_, second)] = &servers[..] else {
        return Err(io::Error::other("two servers"));
    };
    let (key, secret) = (1, [0x42; 32]);
    let mut settings = Settings {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        origins: vec![format!("coap://{ORIGIN}")],
        diverts: vec![format!("{}:{}={first}", inside(*ORIGIN.ip()), ORIGIN.port())],
        ..Settings::default()
    };
    let folder = std::env::temp_dir().join(format!("byway-mediator-{}", std::process::id()));
    let file = folder.join("key");
    write_key(&folder, &file, &format!("{key} {}", "42".repeat(32)))?;
    (settings.control, settings.keys) = (Some(SocketAddr::from(([127, 0, 0, 1], 0))), vec![file]);
    let service = Service::open(&settings);
    std::fs::remove_dir_all(&folder)?;
    let mut service = service.map_err(io::Error::other)?;
    let http = service.addresses()?.first().copied().ok_or_else(|| io::Error::other("no listener"))?;
    let control = service.control_address().ok_or_else(|| io::Error::other("no control port"))?;
    writeln!(out, "GET http://{http}/firmware, which is coap://{ORIGIN}/firmware, where nothing listens.")?;
    writeln!(out, "byway's rule: {} to {first}; the other server is {second}.\n", settings.diverts[0])?;
    let proxy = {
        let stop = stop.clone();
        thread::spawn(move || service.run(&stop).map(|()| service.mediator().counters().clone()))
    };
    let monitor = Monitor::open(control, (key, secret))?;
    let result = download(http, monitor, &servers, &body, moves, out);
    stop.store(true, Ordering::Relaxed);
    let counters = proxy.join().map_err(|_| io::Error::other("the proxy has panicked"))??;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a server has panicked"))?;
    }
    let mut report = result?;
    report.moves = counters.of(Reason::Moves);
    for (place, (server, _)) in report.requests.iter_mut().zip(&servers) {
        *place = server.lock().map_or(0, |server| server.requests);
    }
    writeln!(
        out,
        "\n{} bytes in one response, {} moves on the way, in {:.2?}.",
        report.bytes, report.moves, report.took
    )?;
    writeln!(out, "Blocks served: {} by the first, {} by the second.", report.requests[0], report.requests[1])?;
    writeln!(out, "SHA-256 {}.", if report.is_intact { "right" } else { "WRONG" })?;
    writeln!(out, "Counters: {counters}")?;
    Ok(report)
}

/// Writes a file that nobody else can read, into a new folder.
fn write_key(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let (mut new, mut options) = (DirBuilder::new(), OpenOptions::new());
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        new.mode(0o700);
        options.mode(0o600);
    }
    new.create(folder)?;
    options.write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}

/// An HTTP/1.1 client of its own, which has the transfer moved as it goes on.
fn download(
    http: SocketAddr,
    mut monitor: Monitor,
    servers: &[(SharedServer, SocketAddrV4)],
    body: &[u8],
    moves: u32,
    out: &mut impl Write,
) -> io::Result<Report> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET /firmware HTTP/1.1\r\nHost: {http}\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        write!(out, "  {line}")?;
    }
    let served = |at: usize| servers[at].0.lock().map_or(0, |server| server.requests);
    let (mut hash, mut bytes, mut instructions, mut at) = (Sha256::new(), 0, 0, 0);
    let every = body.len() / (moves as usize + 1);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::Error::other("the response has ended"))?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk)?;
        if size == 0 {
            break;
        }
        hash.update(chunk.get(..size).unwrap_or_default());
        bytes += size;
        if instructions < moves && bytes >= every * (instructions as usize + 1) {
            let (from, to, before) = (servers[at].1, servers[1 - at].1, served(1 - at));
            monitor.instruct(Instruction::Redivert { from: from.into(), to: to.into(), how: Redivert::Switch })?;
            (at, instructions) = (1 - at, instructions + 1);
            // The proxy is ahead of this client. A server that is asked for a second block has delivered the first one.
            let until = Instant::now() + MOVING;
            while served(at) < before + 2 && Instant::now() < until {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
    let is_intact = bytes == body.len() && hash.finalize() == Sha256::digest(body);
    Ok(Report { bytes, instructions, moves: 0, requests: [0; 2], is_intact, took: start.elapsed() })
}
