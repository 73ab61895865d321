//! Translators of this process behind real sockets, with traffic through them, and a monitor that watches them.

pub(crate) mod browser;

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use byway::control::{Agent, Key, Rights};
use byway::{Config, Divert, Heap, Translator, Verdict, Weighted};
use byway_testing::udp::Served;
pub(crate) use byway_testing::waiting::{PATIENCE, wait};

pub(crate) const SECRET: [u8; 32] = [0x5a; 32];
pub(crate) const SERVICE: &str = "100.100.100.100:80";
pub(crate) const SERVERS: [&str; 3] = ["20.0.0.1:80", "20.0.0.2:80", "20.0.0.3:80"];

pub(crate) fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// A datagram without checksums, which the translator does not judge.
fn udp(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let length = 28 + data.len();
    let mut packet = vec![0; 28];
    packet[..10].copy_from_slice(&[0x45, 0, 0, length as u8, 0, 0, 0, 0, 64, 17]);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[25] = length as u8 - 20;
    packet.extend(data);
    packet
}

/// Its source and destination.
fn ends(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let end = |address: usize, port: usize| {
        let bytes: [u8; 4] = packet[address..address + 4].try_into().unwrap();
        SocketAddrV4::new(bytes.into(), u16::from_be_bytes([packet[port], packet[port + 1]]))
    };
    (end(12, 20), end(16, 22))
}

/// A translator that was just started; with the rule, or without.
pub(crate) fn translator(listen: SocketAddr, with_rule: bool) -> Served {
    translator_with_room(listen, with_rule, 200)
}

/// The same, with room for so many rules.
pub(crate) fn translator_with_room(listen: SocketAddr, with_rule: bool, rules: usize) -> Served {
    let mut agent = Agent::<4, 4, 4>::sized([9; 32]).hashes_per_second(1_000);
    agent.add_key(Key::new(1, SECRET, Rights::All)).unwrap();
    let config = Config::new([3; 32]).alternative("10.10.10.10".parse().unwrap(), 1024..=65535);
    let mut byway = Translator::new(config, Heap::new(60_000, rules).measured().events(64)).unwrap();
    if with_rule {
        let group = SERVERS.map(|server| Weighted::new(at(server), 1));
        byway.divert(Divert::new(at(SERVICE)).to_group(&group)).unwrap();
    }
    Served::listening(listen, agent, byway, 0)
}

pub(crate) fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Requests to a translator, each of which is answered after its server's time.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// Milliseconds that each server takes; one that takes none never answers.
    pub(crate) takes: Arc<Mutex<[u64; 3]>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(served: &Served, takes: [u64; 3]) -> Self {
        Self::of(served, SERVICE, takes)
    }

    /// The same, to another service on these servers.
    pub(crate) fn of(served: &Served, service: &str, takes: [u64; 3]) -> Self {
        let service = at(service);
        let mut traffic = Self { stop: Arc::default(), takes: Arc::new(Mutex::new(takes)), thread: None };
        let (stop, takes, byway) = (traffic.stop.clone(), traffic.takes.clone(), served.byway.clone());
        let (origin, begun) = (served.now(), Instant::now());
        let thread = std::thread::spawn(move || {
            let mut waiting: Vec<(Instant, SocketAddrV4, SocketAddrV4)> = Vec::new();
            for n in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(4));
                let (now, here) = (origin + begun.elapsed(), Instant::now());
                let mut byway = byway.lock().unwrap();
                waiting.retain(|(due, source, server)| {
                    if *due <= here {
                        let _ = byway.translate(now, &mut udp(*server, *source, b"the answer"));
                    }
                    *due > here
                });
                let client =
                    SocketAddrV4::new(Ipv4Addr::from_bits(0x0102_0000 + n / 50_000), (1_024 + n % 50_000) as u16);
                let mut packet = udp(client, service, b"question");
                if byway.translate(now, &mut packet) == Verdict::ToServer {
                    let (source, server) = ends(&packet);
                    let which = SERVERS.iter().position(|known| at(known) == server).unwrap();
                    let millis = takes.lock().unwrap()[which];
                    if millis != 0 {
                        waiting.push((here + Duration::from_millis(millis), source, server));
                    }
                }
            }
        });
        traffic.thread = Some(thread);
        traffic
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The weights that a translator's rule has.
pub(crate) fn weights(served: &Served) -> Vec<u16> {
    let byway = served.byway.lock().unwrap();
    let Some(rule) = byway.diverts().find(|rule| rule.matches() == at(SERVICE).into()) else { return Vec::new() };
    SERVERS
        .iter()
        .map(|server| rule.servers().find(|(s, _)| s.target == at(server).into()).map_or(0, |(s, _)| s.weight))
        .collect()
}

/// A monitor with a folder of its own.
pub(crate) struct Monitor {
    pub(crate) folder: PathBuf,
    pub(crate) page: SocketAddr,
    child: Option<Child>,
}

impl Monitor {
    /// Watches these translators.
    pub(crate) fn start(name: &str, translators: &[SocketAddr]) -> Self {
        Self::with(name, translators, "")
    }

    /// Changes the rules of its configuration, and has them read.
    pub(crate) fn set_rules(&self, rules: &str) {
        let file = self.folder.join("monitor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{}{rules}", text.split("[[rule]]").next().unwrap())).unwrap();
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// The same, with rules.
    pub(crate) fn with(name: &str, translators: &[SocketAddr], rules: &str) -> Self {
        Self::configured(name, translators, "", rules)
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
                .unwrap();
            assert!(child.wait().unwrap().success());
        }
    }

    /// Starts it again, with what it has stored.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        self.child = Some(self.command("", &[]).stdin(Stdio::null()).spawn().unwrap());
    }

    /// The same, with more lines about the monitor itself.
    pub(crate) fn configured(name: &str, translators: &[SocketAddr], head: &str, rules: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let digits: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(folder.join("key"), format!("1 {digits}\n")).unwrap();
        std::fs::set_permissions(folder.join("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        // A port that was free a moment ago.
        let page = std::net::TcpListener::bind(anywhere()).unwrap().local_addr().unwrap();
        let mut text = format!("[monitor]\npage = \"{page}\"\n{head}");
        for (number, at) in translators.iter().enumerate() {
            text += &format!("[[translator]]\nname = \"edge-{}\"\nat = \"{at}\"\nkey = \"key\"\n", number + 1);
        }
        text += &format!("[[service]]\nname = \"web\"\ndivert = \"{SERVICE}\"\nservers = {SERVERS:?}\n{rules}");
        std::fs::write(folder.join("monitor.toml"), text).unwrap();
        let mut monitor = Self { folder, page, child: None };
        monitor.child = Some(monitor.command("", &[]).stdin(Stdio::null()).spawn().unwrap());
        monitor
    }

    fn command(&self, words: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_byway"));
        command.arg("monitor").args(words.split_whitespace()).args(more);
        command.arg("--config").arg(self.folder.join("monitor.toml"));
        command
    }

    /// What the command line says.
    pub(crate) fn says(&self, words: &str) -> String {
        let output = self.command(words, &[]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// The state that the page shows, as JSON.
    pub(crate) fn state(&self) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.page).unwrap();
        let (at, token) = (self.page, self.token());
        write!(stream, "GET /api/state HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.folder.join("monitor.token")).unwrap().trim().into()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
