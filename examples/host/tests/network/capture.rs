//! All packets that a machine sends and receives, and what must hold of each of them.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::JoinHandle;

use byway_host::lab::network::{A, ALTERNATIVE, B, OWN, PROXY};
use byway_host::lab::space::Space;
use byway_host::packet::{self, ICMP, TCP, UDP};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with, sockopt};

pub struct Capture {
    /// How many there were, and what was wrong with some.
    packets: JoinHandle<(usize, Vec<String>)>,
    stop: Arc<AtomicBool>,
}

impl Capture {
    /// Begins to listen on every interface of a namespace.
    pub fn start(space: &Space) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let socket = space.run(|| {
            // Without link headers.
            let kind = (AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(eth::ALL));
            let socket = socket_with(kind.0, kind.1, kind.2, kind.3).expect("root may capture");
            let _ = sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20);
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(100)))
                .expect("a time");
            socket
        });
        let packets = std::thread::spawn(move || {
            let (mut seen, mut wrong, mut buffer) = (0, Vec::new(), vec![0; 70_000]);
            loop {
                match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => {
                        seen += 1;
                        wrong.extend(check(&buffer[..length]));
                    }
                    Err(_) if stopped.load(Ordering::Relaxed) => return (seen, wrong),
                    Err(_) => {}
                }
            }
        });
        Self { packets, stop }
    }

    /// Ends it; nothing may have been wrong with any packet.
    #[track_caller]
    pub fn judge(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (seen, wrong) = self.packets.join().expect("it listens to the end");
        assert!(wrong.is_empty(), "{} of {seen} packets: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
        assert!(seen > 10, "the client has seen {seen} packets");
    }
}

/// What is wrong with a packet, in words.
fn check(bytes: &[u8]) -> Option<String> {
    if bytes.first().is_none_or(|first| first >> 4 != 4) {
        return None;
    }
    let fault = fault(bytes)?;
    let head = &bytes[..bytes.len().min(80)];
    Some(format!("{fault}: {} bytes, {head:02x?}", bytes.len()))
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    // What goes to the machine itself is no packet of the network.
    if packet::source(bytes).is_loopback() {
        return None;
    }
    let Ok(total) = packet::check(bytes) else {
        return Some("no good IPv4 header");
    };
    let bytes = &bytes[..total];
    let (source, destination, protocol) = (packet::source(bytes), packet::destination(bytes), packet::protocol(bytes));
    let hidden = [A, B, ALTERNATIVE];
    if hidden.contains(&source) || hidden.contains(&destination) {
        return Some("an address that the client must not see");
    }
    if [PROXY, OWN].contains(&source) && protocol != ICMP {
        return Some("the proxy speaks to the client");
    }
    let payload = &bytes[packet::header_length(bytes)..];
    if !packet::is_fragment(bytes) {
        let sum = match protocol {
            TCP => Some(packet::add_sums(packet::pseudo_sum(bytes, payload.len()), packet::sum(payload))),
            UDP if packet::word(payload, 6) != 0 => {
                Some(packet::add_sums(packet::pseudo_sum(bytes, payload.len()), packet::sum(payload)))
            }
            ICMP => Some(packet::sum(payload)),
            _ => None,
        };
        if sum.is_some_and(|sum| sum != 0xffff) {
            return Some("a wrong checksum");
        }
    }
    if protocol == ICMP && matches!(payload.first(), Some(3 | 4 | 5 | 11 | 12)) {
        let quoted = payload.get(8..)?;
        if quoted.len() < 28 || packet::sum(&quoted[..20]) != 0xffff {
            return Some("an ICMP error that quotes no good header");
        }
        let shown = [packet::source(quoted), packet::destination(quoted)];
        if shown.iter().any(|address| hidden.contains(address)) {
            return Some("an ICMP error that quotes what the client must not see");
        }
    }
    None
}
