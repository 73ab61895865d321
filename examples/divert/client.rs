//! The client: it asks one server for the resource, and knows of no other.

use core::net::SocketAddrV4;
use std::collections::{BTreeMap, VecDeque};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration, Instant};

use crate::content::{self, CHUNK, SIZE};
use byway_examples::host::Host;

/// The local port that it begins with: Figure 3's.
const PORT: u16 = 3456;

/// A download, over one protocol or the other.
pub(crate) trait Client {
    /// Reads what has come, and sends what there is to send.
    fn act(&mut self, now: Instant, host: &mut Host);

    /// When to act again even if nothing comes.
    fn wake_at(&self) -> Option<Instant>;

    fn download(&self) -> &Download;

    /// Takes no more than so many bytes of the resource from now on. Without that it takes all there is at once.
    fn take_at_most(&mut self, bytes: usize);
}

/// What has come so far.
pub(crate) struct Download {
    pub(crate) content: Vec<u8>,
    /// How many bytes of it there are.
    pub(crate) received: usize,
    /// How many of them each server sent, by the name that it gave, and when the first of them came.
    pub(crate) by_server: BTreeMap<char, (usize, Instant)>,
    /// How many times something had to be asked for again.
    pub(crate) asked_again: u32,
    /// How many bytes of it may come so far.
    allowed: usize,
}

impl Download {
    fn new() -> Self {
        Self { content: vec![0; SIZE], received: 0, by_server: BTreeMap::new(), asked_again: 0, allowed: SIZE }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received == SIZE
    }

    /// Takes bytes of the resource that had not come before.
    fn take(&mut self, now: Instant, server: char, offset: usize, data: &[u8]) {
        let Some(place) = self.content.get_mut(offset..offset + data.len()).filter(|place| !place.is_empty()) else {
            return;
        };
        place.copy_from_slice(data);
        self.received += data.len();
        self.by_server.entry(server).or_insert((0, now)).0 += data.len();
    }
}

/// Over UDP: a window of requests, each repeated until it is answered.
pub(crate) struct OverUdp {
    server: SocketAddrV4,
    socket: SocketHandle,
    download: Download,
    had: Vec<bool>,
    next: usize,
    /// Requests that are not answered yet, the oldest first, and when to repeat them.
    open: VecDeque<(Instant, usize)>,
}

/// How many requests are open at once.
const WINDOW: usize = 48;

/// After how long a request is repeated: more than four times the time that an answer takes.
const PATIENCE: Duration = Duration::from_millis(120);

impl OverUdp {
    pub(crate) fn new(server: SocketAddrV4, host: &mut Host) -> Self {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 1 << 17]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(PORT).expect("the port is not zero");
        let had = vec![false; SIZE.div_ceil(CHUNK)];
        let socket = host.sockets.add(socket);
        Self { server, socket, download: Download::new(), had, next: 0, open: VecDeque::new() }
    }

    fn read(&mut self, now: Instant, socket: &mut udp::Socket<'_>) {
        while let Ok((data, _)) = socket.recv() {
            let Some((server, offset, data)) = content::read_heading(data) else {
                continue;
            };
            // An answer may come twice, when patience was too short.
            let Some(had) = self.had.get_mut(offset / CHUNK).filter(|had| !**had && offset % CHUNK == 0) else {
                continue;
            };
            *had = true;
            self.download.take(now, server, offset, data);
            self.open.retain(|(_, open)| *open != offset);
        }
    }
}

impl Client for OverUdp {
    fn act(&mut self, now: Instant, host: &mut Host) {
        let socket = host.sockets.get_mut(self.socket);
        self.read(now, socket);
        while socket.can_send() {
            let overdue = self.open.front().is_some_and(|(at, _)| *at <= now);
            let offset = if overdue {
                self.download.asked_again += 1;
                self.open.pop_front().map_or(0, |(_, offset)| offset)
            } else if self.open.len() < WINDOW && self.next < self.download.allowed {
                self.next += CHUNK;
                self.next - CHUNK
            } else {
                break;
            };
            self.open.push_back((now + PATIENCE, offset));
            let _ = socket.send_slice(content::request(&(offset..offset + CHUNK)).as_bytes(), self.server);
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.open.front().map(|(at, _)| *at)
    }

    fn download(&self) -> &Download {
        &self.download
    }

    fn take_at_most(&mut self, bytes: usize) {
        self.download.allowed = bytes.min(SIZE);
    }
}

/// Over TCP: one connection, and when it breaks another one, which goes on where the first stopped.
pub(crate) struct OverTcp {
    server: SocketAddrV4,
    socket: SocketHandle,
    download: Download,
    /// How many connections it has begun.
    connections: u16,
    asked: bool,
    /// What has come of the answer before its bytes.
    heading: Vec<u8>,
    /// Who sends, once the heading is read.
    from: Option<char>,
}

impl OverTcp {
    pub(crate) fn new(server: SocketAddrV4, host: &mut Host) -> Self {
        let [rx, tx] = [1 << 16, 4096].map(|size| tcp::SocketBuffer::new(vec![0; size]));
        let socket = host.sockets.add(tcp::Socket::new(rx, tx));
        let (asked, heading, from) = (false, Vec::new(), None);
        Self { server, socket, download: Download::new(), connections: 0, asked, heading, from }
    }

    fn connect(&mut self, host: &mut Host) {
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        let port = PORT + self.connections;
        self.download.asked_again += u32::from(self.connections > 0);
        self.connections += 1;
        (self.asked, self.from) = (false, None);
        self.heading.clear();
        socket.connect(host.interface.context(), self.server, port).expect("the socket is closed, no port is zero");
    }

    fn read(&mut self, now: Instant, socket: &mut tcp::Socket<'_>) {
        loop {
            // What may not come yet stays in the socket, whose window closes. The heading is not counted.
            let most = self.download.allowed - self.download.received.min(self.download.allowed);
            let most = if self.from.is_some() { most } else { usize::MAX };
            let take = |data: &mut [u8]| {
                let length = data.len().min(most);
                (length, data[..length].to_vec())
            };
            let Some(data) = (most != 0 && socket.can_recv()).then(|| socket.recv(take).ok()).flatten() else {
                break;
            };
            self.heading.extend(data);
            if self.from.is_none()
                && let Some((server, offset, rest)) = content::read_heading(&self.heading)
                && offset == self.download.received
            {
                self.from = Some(server);
                self.heading = rest.to_vec();
            }
            if let Some(server) = self.from {
                self.download.take(now, server, self.download.received, &self.heading);
                self.heading.clear();
            }
        }
    }
}

impl Client for OverTcp {
    fn act(&mut self, now: Instant, host: &mut Host) {
        let socket = host.sockets.get_mut(self.socket);
        self.read(now, socket);
        if self.download.is_complete() {
            socket.close();
        } else if !socket.is_open() {
            self.connect(host);
        } else if socket.can_send() && !self.asked {
            self.asked = socket.send_slice(content::request(&(self.download.received..SIZE)).as_bytes()).is_ok();
        } else if socket.state() == tcp::State::CloseWait {
            // The server has said good-bye too early.
            socket.abort();
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        None
    }

    fn download(&self) -> &Download {
        &self.download
    }

    fn take_at_most(&mut self, bytes: usize) {
        self.download.allowed = bytes.min(SIZE);
    }
}
