//! Two processes, one for each direction, that exchange records: in a network namespace, over TUN devices.
//!
//! ```text
//!   HTTP client -- proxy == there ==> 10.0.0.1, 10.0.0.2 == back ==> portion -- records, packets --> proxy
//! ```
//!
//! The test runs itself again as root of a namespace of its own, so it needs no rights; it needs `unshare`, `ip` and a
//! `/dev/net/tun` that may be opened. Where that is not so it prints `SKIPPED:`.
#![cfg(target_os = "linux")]

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::AtomicBool;
use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use byway_testing::namespace::in_namespace;

use byway::Redivert;
use byway::control::Instruction;
use byway_mediator::monitor::Monitor;
use byway_mediator::server::{Resource, Server, SharedServer, serve};

const PATIENCE: Duration = Duration::from_secs(15);
const ORIGIN: &str = "192.0.2.1:5683";
const SERVERS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5683), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5683)];
const ALTERNATIVE: &str = "198.51.100.4:40000-40063";
const HTTP: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const CONTROL: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5213);

fn ip(lines: &str) {
    for line in lines.lines().map(str::trim) {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A process that ends with the test, and what it prints.
struct Process(Child, PathBuf);

impl Process {
    fn start(folder: &Path, name: &str, words: &str) -> Self {
        let log = folder.join(name);
        let out = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_byway-mediator"));
        command.args(words.split(' ')).stdout(Stdio::from(out.try_clone().unwrap())).stderr(Stdio::from(out));
        Self(command.spawn().unwrap(), log)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap()
    }

    /// The last value that it has printed of a counter.
    fn counter(&self, name: &str) -> u64 {
        let said = self.said();
        let (_, behind) = said.rsplit_once(name).unwrap_or(("", ": 0"));
        behind.trim_start_matches([':', '=', ' ']).split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "{what}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(at: SocketAddrV4, server: SharedServer) {
    let socket = UdpSocket::bind(at).unwrap();
    std::thread::spawn(move || serve(&socket, &server, &AtomicBool::new(false)));
}

struct World {
    folder: PathBuf,
    servers: [SharedServer; 2],
    body: Vec<u8>,
}

impl World {
    fn new() -> Self {
        ip("link set lo up
            address add 10.0.0.1/32 dev lo
            address add 10.0.0.2/32 dev lo
            tuntap add dev there mode tun
            tuntap add dev back mode tun
            link set there up
            link set back up
            address add 198.18.255.1/32 dev there
            address add 198.18.255.2/32 dev back
            route add 198.51.100.4/32 dev back");
        for device in ["all", "there", "back"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), "0").unwrap();
        }
        let folder = std::env::temp_dir().join(format!("byway-portions-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("key"), format!("1 {}", "42".repeat(32))).unwrap();
        let body: Vec<u8> = (0..2_000_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let servers = SERVERS.map(|at| {
            let server: SharedServer = Arc::new(Mutex::new(Server::default()));
            server.lock().unwrap().resources.insert("big".into(), Resource::new(body.clone(), Some(42)));
            start(at, server.clone());
            server
        });
        Self { folder, servers, body }
    }

    fn portion(&self, name: &str) -> Process {
        let meet = self.folder.join("meet");
        let words = format!("portion --tun back --alternative {ALTERNATIVE} --portion {} --counters 1", meet.display());
        Process::start(&self.folder, name, &words)
    }

    fn proxy(&self) -> Process {
        let (key, meet) = (self.folder.join("key"), self.folder.join("meet"));
        let [first, _] = SERVERS;
        let words = format!(
            "--listen {HTTP} --origin coap://{ORIGIN} --divert {ORIGIN}={first} --control {CONTROL} --key {} --tun there \
             --alternative {ALTERNATIVE} --portion {} --counters 1",
            key.display(),
            meet.display()
        );
        let proxy = Process::start(&self.folder, "proxy", &words);
        proxy.wait_for("it does not listen", |proxy| proxy.said().contains("instructions on"));
        proxy
    }

    /// Downloads the body, and calls `on_the_way` with what has come after each chunk.
    fn download(&self, on_the_way: impl FnMut(usize)) -> Vec<u8> {
        let mut stream = TcpStream::connect(HTTP).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        response(stream, "200", on_the_way)
    }
}

/// Reads a response in chunks, and calls `on_the_way` with what has come after each.
fn response(stream: TcpStream, status: &str, mut on_the_way: impl FnMut(usize)) -> Vec<u8> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let mut body = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk: the response has ended");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
        on_the_way(body.len());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_download_moves_while_each_direction_has_a_process_of_its_own() {
    in_namespace("a_download_moves_while_each_direction_has_a_process_of_its_own", || {
        let world = World::new();
        let portion = world.portion("portion");
        let proxy = world.proxy();
        let mut monitor = Monitor::open(CONTROL, (1, [0x42; 32])).unwrap();
        let mut moves = 0;
        let mut redivert = move |moves: usize| {
            let (from, to) = (SERVERS[moves % 2].into(), SERVERS[(moves + 1) % 2].into());
            monitor.instruct(Instruction::Redivert { from, to, how: Redivert::Switch }).unwrap();
        };
        let body = world.download(|length| {
            if length >= (moves + 1) * 40_000 && moves < 40 {
                redivert(moves);
                moves += 1;
            }
        });
        assert!(body == world.body);
        assert_eq!(moves, 40);
        let requests = world.servers.each_ref().map(|server| server.lock().unwrap().requests);
        assert!(requests.iter().all(|requests| *requests >= 500), "{requests:?}");
        proxy.wait_for("moves", |proxy| proxy.counter(" moves") >= 39);
        // What came back was the other process's business, all of it, and each move came to it as a record.
        portion.wait_for("packets", |portion| portion.counter("translated") >= 1900);
        assert!(portion.counter("imported") >= 40, "{}", portion.said());
        assert_eq!(portion.counter("refused"), 0, "{}", portion.said());
        // No answer was faster than the record of its connection: dropped are at most those of servers that were left.
        let most = 40 + proxy.counter("retransmissions");
        assert!(portion.counter("dropped") <= most, "{} {}", portion.said(), proxy.said());
    });
}

/// What the proxy's old server answers comes to the other process, whose byway knows nothing of it any more.
#[test]
fn a_long_upload_stays_at_its_server_and_so_does_the_response() {
    in_namespace("a_long_upload_stays_at_its_server_and_so_does_the_response", || {
        let world = World::new();
        let mut portion = Some(world.portion("portion"));
        let proxy = world.proxy();
        let mut monitor = Monitor::open(CONTROL, (1, [0x42; 32])).unwrap();
        let mut moves = 0;
        let mut redivert = || {
            let (from, to) = (SERVERS[moves % 2].into(), SERVERS[(moves + 1) % 2].into());
            monitor.instruct(Instruction::Redivert { from, to, how: Redivert::Switch }).unwrap();
            moves += 1;
        };
        let body = &world.body[..300_000];
        let mut stream = TcpStream::connect(HTTP).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let stored = || {
            world
                .servers
                .each_ref()
                .map(|server| server.lock().unwrap().resources.get("up/1").map(|up| up.body.to_vec()))
        };
        write!(stream, "POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
        for (number, piece) in body.chunks(20_000).enumerate() {
            stream.write_all(piece).unwrap();
            // As much as the proxy does not buffer is at the server.
            let due = |server: &SharedServer| server.lock().unwrap().requests >= (number as u64 + 1) * 18;
            let start = Instant::now();
            while !world.servers.iter().any(due) {
                assert!(start.elapsed() < PATIENCE, "{number}: {}", proxy.said());
                std::thread::sleep(Duration::from_millis(5));
            }
            redivert();
            if number == 7 {
                // One that is new learns where uploads stay.
                drop(portion.take());
                portion = Some(world.portion("another"));
            }
        }
        // It is answered with what was sent, block by block, and these are nowhere else.
        let answer = response(stream, "201", |length| {
            if length % 50_000 < 1024 {
                redivert();
            }
        });
        assert!(answer == body, "{} {}", answer.len(), proxy.said());
        assert!(moves >= 18, "{moves}");
        let [first, second] = stored();
        assert!(first.as_deref() == Some(body) && second.is_none());
    });
}

#[test]
fn a_portion_that_starts_again_learns_all_connections() {
    in_namespace("a_portion_that_starts_again_learns_all_connections", || {
        let world = World::new();
        let mut portion = Some(world.portion("portion-0"));
        let mut proxy = Some(world.proxy());
        let mut number = 0;
        let body = world.download(|length| {
            if length >= (number + 1) * 400_000 && number < 3 {
                drop(portion.take());
                number += 1;
                portion = Some(world.portion(&format!("portion-{number}")));
            }
        });
        assert!(body == world.body);
        // The proxy starts again, and its connections are others.
        drop(proxy.take());
        let proxy = world.proxy();
        assert!(world.download(|_| {}) == world.body);
        // What was counted before the response was complete is on the same line; what is zero is not printed.
        proxy.wait_for("the response is not counted", |proxy| proxy.counter(" responses") >= 1);
        assert_eq!(proxy.counter(" foreign_token"), 0, "{}", proxy.said());
        let portion = portion.unwrap();
        portion.wait_for("packets", |portion| portion.counter("translated") >= 100);
        // Neither was there twice.
        let second = world.portion("second");
        second.wait_for("it says so", |second| second.said().contains("another process is this portion"));
    });
}

#[test]
fn the_proxy_alone_may_use_a_device() {
    in_namespace("the_proxy_alone_may_use_a_device", || {
        let world = World::new();
        ip("route replace 198.51.100.4/32 dev there");
        let [first, _] = SERVERS;
        let words = format!(
            "--listen {HTTP} --origin coap://{ORIGIN} --divert {ORIGIN}={first} --tun there --alternative {ALTERNATIVE}"
        );
        let proxy = Process::start(&world.folder, "proxy", &words);
        proxy.wait_for("it does not listen", |proxy| proxy.said().contains("HTTP on"));
        proxy.wait_for("it does not answer", |_| TcpStream::connect(HTTP).is_ok());
        assert!(world.download(|_| {}) == world.body);
    });
}
