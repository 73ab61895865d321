//! The TUN device: frames in, frames out.

mod routes;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};
use tun_rs::{DeviceBuilder, SyncDevice};

pub use routes::{LeftOver, add_routes, left_over};

use crate::config::Device;
use crate::counters::Counters;
use crate::router::Output;
use crate::segment;
use crate::vnet::{LENGTH, VnetHeader};

/// Room for the longest packet there is.
pub const FRAME: usize = LENGTH + 65_535;

/// Work that a device leaves to its readers, and accepts unfinished from its writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Unfinished checksums, and super-packets of TCP.
    pub tcp: bool,
    /// Super-packets of UDP (Linux 6.2).
    pub udp: bool,
}

/// One queue of the device, which one thread reads and writes.
#[derive(Debug)]
pub struct Queue {
    fd: OwnedFd,
    has_header: bool,
    /// A buffer for frames that are finished here because the device has refused to.
    finished: Vec<u8>,
}

/// Opens the device: as many queues as are asked for.
///
/// # Errors
/// One line that says what to do.
pub fn open(device: &Device) -> Result<(Vec<Queue>, Offload), String> {
    if device.queues > 1 && is_taken(&device.name)? {
        return Err(explain(&device.name, &Errno::BUSY.into()));
    }
    let first = match build(device, device.offload) {
        // A kernel without these offloads.
        Err(error) if device.offload && error.kind() == ErrorKind::InvalidInput => build(device, false),
        opened => opened,
    };
    let first = first.map_err(|error| explain(&device.name, &error))?;
    let offload = Offload { tcp: first.tcp_gso(), udp: first.udp_gso() };
    let more: io::Result<Vec<_>> = (1..device.queues).map(|_| first.try_clone()).collect();
    let more = more.map_err(|error| format!("device {}: no further queue: {error}", device.name))?;
    let queue = |device: SyncDevice| {
        device.set_nonblocking(true)?;
        Ok(Queue::new(device.as_fd().try_clone_to_owned()?, offload.tcp))
    };
    let queues: io::Result<Vec<_>> = core::iter::once(first).chain(more).map(queue).collect();
    Ok((queues.map_err(|error| explain(&device.name, &error))?, offload))
}

fn build(device: &Device, offload: bool) -> io::Result<SyncDevice> {
    let builder = DeviceBuilder::new().name(&device.name).multi_queue(device.queues > 1).offload(offload);
    // The device comes up when everything else is ready.
    builder.inherit_enable_state().build_sync()
}

/// Whether another program has a device. The kernel itself refuses only devices with one queue; to one with several it would add
/// queues, and packets of connections that are another program's would come here.
fn is_taken(name: &str) -> Result<bool, String> {
    let failed = |error: Errno| format!("device {name}: {}", io::Error::from(error));
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(failed)?;
    match name_to_index(socket, name) {
        Err(Errno::NODEV) => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(_) => Ok(says_taken(&routes::ip(&["-d", "-o", "link", "show", "dev", name], None)?)),
    }
}

/// Whether `ip` says that a device has queues: one that stays without a program does not always have any.
fn says_taken(shown: &str) -> bool {
    let words: Vec<_> = shown.split_whitespace().collect();
    let value = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    let is_tun = words.windows(2).any(|pair| pair == ["tun", "type"]);
    let has = |name| value(name).is_some_and(|number| number != "0");
    is_tun && (value("persist") == Some("off") || has("numqueues") || has("numdisabled"))
}

fn explain(name: &str, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => ": run byway as root, or where it has CAP_NET_ADMIN and may open /dev/net/tun",
        ErrorKind::NotFound => ": load the module tun (modprobe tun), or let this container use /dev/net/tun",
        ErrorKind::ResourceBusy => ": another program has it; is byway running already?",
        ErrorKind::InvalidInput => {
            ": it is there already, and of another kind: remove it (ip link del), or name another in device.name"
        }
        _ => "",
    };
    format!("device {name}: {error}{advice}")
}

impl Queue {
    /// An open queue, which does not block.
    #[must_use]
    pub const fn new(fd: OwnedFd, has_header: bool) -> Self {
        Self { fd, has_header, finished: Vec::new() }
    }

    /// Whether its frames come with a header, and are to be written with one.
    #[must_use]
    pub const fn has_header(&self) -> bool {
        self.has_header
    }

    /// Reads the next frame; returns its length. `None` if there is none just now.
    ///
    /// # Errors
    /// The device is gone or down.
    pub fn receive(&self, frame: &mut [u8; FRAME]) -> io::Result<Option<usize>> {
        let into = if self.has_header {
            &mut frame[..]
        } else {
            frame[..LENGTH].fill(0);
            &mut frame[LENGTH..]
        };
        match rustix::io::read(&self.fd, into) {
            Ok(length) => Ok(Some(if self.has_header { length } else { LENGTH + length })),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        let from = if self.has_header { 0 } else { LENGTH };
        Ok(rustix::io::write(&self.fd, frame.get(from..).unwrap_or_default()).map(drop)?)
    }

    /// Finishes the checksum and the segmentation of a frame here, and sends the result.
    fn send_finished(&mut self, header: &VnetHeader, frame: &[u8], counters: &mut Counters) {
        let mut finished = core::mem::take(&mut self.finished);
        let mut send = |packet: &[u8], counters: &mut Counters| {
            finished.clear();
            finished.extend_from_slice(&VnetHeader::NONE.to_bytes());
            finished.extend_from_slice(packet);
            count(self.write(&finished), counters);
        };
        let mut packet = frame.get(LENGTH..).unwrap_or_default().to_vec();
        let is_done = match header.super_packet() {
            Some(_) => segment::split(header, &packet, |one| send(one, counters)),
            // Fragments of one datagram (UFO) too: the packet is fragmented when it is forwarded.
            None => {
                segment::complete(header, &mut packet) && {
                    send(&packet, counters);
                    true
                }
            }
        };
        counters.send_failed += u64::from(!is_done);
        self.finished = finished;
    }
}

impl Output for Queue {
    fn send(&mut self, frame: &[u8], counters: &mut Counters) {
        let header = frame.first_chunk().map_or(VnetHeader::NONE, VnetHeader::read);
        let is_left = header.is_split() || header.checksum().is_some();
        match self.write(frame) {
            // `EINVAL`: it does not take what it has given. So does what came through another queue.
            Err(error) if is_left && error.kind() == ErrorKind::InvalidInput => {
                counters.offload_refused += 1;
                self.send_finished(&header, frame, counters);
            }
            written => count(written, counters),
        }
    }
}

fn count(written: io::Result<()>, counters: &mut Counters) {
    *(if written.is_ok() { &mut counters.sent } else { &mut counters.send_failed }) += 1;
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
