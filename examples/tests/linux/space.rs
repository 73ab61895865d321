//! A network namespace with a TUN device, and what is done in it.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use byway_testing::truth::End;
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use tun_rs::{DeviceBuilder, SyncDevice};

/// A network namespace: a thread that lives in it and does what it is told.
pub struct Space {
    work: Sender<Box<dyn FnOnce() + Send>>,
    pub(super) device: Arc<SyncDevice>,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Space {
    pub fn new(address: Ipv4Addr) -> Self {
        let (work, tasks) = channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root of its namespace may do that");
            for task in tasks {
                task();
            }
        });
        let set_up = move || {
            let device = DeviceBuilder::new().name("tun0").build_sync().expect("a TUN device");
            ip("link set lo up");
            ip("link set tun0 mtu 1500 up");
            ip(&format!("address add {address}/32 dev tun0"));
            ip("route add default dev tun0");
            Arc::new(device)
        };
        Self { device: within(&work, set_up), work }
    }

    /// Does something in the namespace.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.work, task)
    }

    pub fn sysctl(&self, name: &'static str, value: u32) {
        self.run(move || std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value.to_string()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub fn listen(&self, address: Ipv4Addr, port: u16) -> TcpListener {
        self.run(move || TcpListener::bind((address, port))).expect("the port is free")
    }

    /// The state of the socket with these ends; `ss` reads the same file.
    pub(super) fn state(&self, local: SocketAddrV4, remote: SocketAddrV4) -> End {
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).expect("there is a /proc");
        let hex = |e: SocketAddrV4| format!("{:08X}:{:04X}", u32::from_ne_bytes(e.ip().octets()), e.port());
        let (local, remote) = (hex(local), hex(remote));
        let state = table.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let is = fields.next() == Some(&local) && fields.next() == Some(&remote);
            is.then(|| u8::from_str_radix(fields.next()?, 16).ok()).flatten()
        });
        state.map_or(End::Closed, End::of_linux)
    }
}

fn within<T: Send + 'static>(work: &Sender<Box<dyn FnOnce() + Send>>, task: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    work.send(Box::new(move || drop(done.send(task())))).expect("the thread lives");
    result.recv().expect("the task is done")
}

/// A connection attempt, not yet complete.
pub fn socket(own: SocketAddrV4) -> OwnedFd {
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    sockopt::set_socket_reuseaddr(&fd, true).expect("a good option");
    rustix::net::bind(&fd, &own).expect("the port is free");
    fd
}

/// `sendto` with `MSG_FASTOPEN` (RFC 7413): the data goes into the SYN.
pub fn fast_open(fd: &OwnedFd, to: SocketAddrV4, data: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::sendto(fd, data, SendFlags::from_bits_retain(0x2000_0000), &to)?)
}

/// Ends a connection with a RST.
pub fn abort(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a good option");
}

pub fn keep_alive(stream: &TcpStream) {
    sockopt::set_socket_keepalive(stream, true).expect("a good option");
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(1)).expect("a good option");
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1)).expect("a good option");
}
