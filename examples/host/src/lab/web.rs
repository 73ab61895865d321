//! A small web server and a small client, to see which machine delivers what.

use core::net::{SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use sha2::{Digest, Sha256};

use super::space::Space;

/// How long the file is.
pub const LENGTH: usize = 6 << 20;
/// How much of it is sent at once, and how often: 4 MiB in a second.
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(15);
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// The file that both mirrors have.
#[must_use]
pub fn file() -> Vec<u8> {
    (0..LENGTH as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// The beginning of a hash of it: enough for people to compare.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A mirror's server for web and UDP on port 80.
#[derive(Clone, Debug)]
pub struct Server {
    /// The two ends of each TCP connection, as its own kernel says: own, peer.
    seen: Arc<Mutex<Vec<[SocketAddr; 2]>>>,
}

impl Server {
    /// Starts it. It answers requests for `/` with its name.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(space: &Space, at: SocketAddrV4) -> Result<Self, String> {
        let (name, seen) = (space.name().to_uppercase(), Arc::new(Mutex::new(Vec::new())));
        let server = Self { seen: seen.clone() };
        let started = space.run(move || -> io::Result<()> {
            let (listener, socket) = (TcpListener::bind(at)?, UdpSocket::bind(at)?);
            let named = name.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if let (Ok(own), Ok(peer), Ok(mut seen)) = (stream.local_addr(), stream.peer_addr(), seen.lock()) {
                        seen.push([own, peer]);
                    }
                    let name = named.clone();
                    // Whoever hangs up, or is told to, gets no more.
                    std::thread::spawn(move || drop(serve(&stream, &name)));
                }
            });
            std::thread::spawn(move || {
                let mut question = [0; 64];
                while let Ok((length, from)) = socket.recv_from(&mut question) {
                    let answer = [name.as_bytes(), b" ", &question[..length]].concat();
                    let _ = socket.send_to(&answer, from);
                }
            });
            Ok(())
        });
        started.map_err(|error| format!("server {}: {error}", space.name()))?;
        Ok(server)
    }

    /// The ends of the last connection: own, peer.
    #[must_use]
    pub fn last(&self) -> Option<[SocketAddr; 2]> {
        self.seen.lock().ok()?.last().copied()
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.lock().map_or(0, |seen| seen.len())
    }
}

fn serve(stream: &TcpStream, name: &str) -> io::Result<()> {
    let (mut lines, mut out) = (BufReader::new(stream).lines(), stream);
    let path = lines.next().transpose()?.unwrap_or_default();
    let mut first = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            first = range.trim_end_matches('-').parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let body = match path.split(' ').nth(1) {
        Some("/") => format!("this is mirror {name}\n").into_bytes(),
        _ => file(),
    };
    let part = body.get(first..).unwrap_or_default();
    let status = if first == 0 { "200 OK" } else { "206 Partial Content" };
    let length = part.len();
    write!(out, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nServer: {name}\r\nConnection: close\r\n\r\n")?;
    for piece in part.chunks(PIECE) {
        out.write_all(piece)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// An answer of a web server, as far as it came.
#[derive(Debug, Default)]
pub struct Answer {
    /// Which server it says it is.
    pub server: String,
    /// The body.
    pub body: Vec<u8>,
    /// The longest time without a byte.
    pub gap: Duration,
    /// Whether the body is complete.
    pub is_whole: bool,
}

/// Connects in a namespace, from this port or from any.
///
/// # Errors
/// The kernel's.
pub fn open(space: &Space, port: u16, to: SocketAddrV4) -> io::Result<TcpStream> {
    space.run(move || {
        let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // A SYN without an answer is given up after this time.
        sockopt::set_tcp_user_timeout(&socket, PATIENCE.as_millis() as u32)?;
        bind(&socket, &SocketAddrV4::new(core::net::Ipv4Addr::UNSPECIFIED, port))?;
        connect(&socket, &to)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// Asks for a path, from this byte on, and reads the answer. `progress` is told after each piece how many bytes there are.
///
/// # Errors
/// The connection broke before the headers were there. After that the answer says how far it came.
pub fn get(stream: &TcpStream, path: &str, first: usize, mut progress: impl FnMut(usize)) -> io::Result<Answer> {
    let mut out = stream;
    let range = if first == 0 { String::new() } else { format!("Range: bytes={first}-\r\n") };
    write!(out, "GET {path} HTTP/1.1\r\nHost: lab\r\n{range}Connection: close\r\n\r\n")?;
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let (mut answer, mut length) = (Answer::default(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().unwrap_or(0),
            Some(("Server", value)) => answer.server = value.into(),
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let (mut piece, mut last) = (vec![0; PIECE], Instant::now());
    while answer.body.len() < length {
        match reader.read(&mut piece) {
            Ok(count @ 1..) => answer.body.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => break,
        }
        answer.gap = answer.gap.max(last.elapsed());
        last = Instant::now();
        progress(answer.body.len());
    }
    answer.is_whole = answer.body.len() == length;
    Ok(answer)
}
