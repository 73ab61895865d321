//! DNS over TCP, in the path of packets: a TCP stack that takes what comes to port 53 of any server, answers the queries for
//! names of the table, and relays the others to that server, byte by byte. What it does not know it cannot hide; so whoever
//! asks over TCP gets no answer that he would not get over UDP.
//!
//! The stack has no sockets of the kernel: it is given packets and gives packets, as the translator does. So it needs no
//! rights, sees each client's own address, and works for every server at once.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::VecDeque;

use byway::Instant;
use byway::naming::{HeapNames, MAX_STREAM_ANSWER, Names, Next};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::DNS;
use crate::packet;

/// How many clients can be connected at once, and how many of one address.
const SESSIONS: usize = 512;
const OF_ONE_CLIENT: usize = 64;
/// How many sockets wait for clients that connect at the same time.
const LISTENING: usize = 16;
/// Buffers of each socket, in bytes.
const ROOM: usize = 16_384;
/// The longest message with its length before it (RFC 1035, section 4.2.2).
const MESSAGE: usize = 2 + 65_535;
/// How many bytes wait at most until the other end has room.
const WAITING: usize = 2 * MESSAGE;
/// How long a connection on which nothing moves is kept (RFC 7766, section 6.2.3: of the order of seconds), and how long
/// somebody may leave data unacknowledged.
const IDLE: Duration = Duration::from_secs(20);
/// How long a handshake may take, so that SYNs from forged sources do not keep others out for long.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// The ports that relayed queries come from.
const PORTS: core::ops::Range<u16> = 32_768..60_999;

/// Packets from and to the stack.
#[derive(Debug)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Time) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Time) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// One client's connection, and the one to the server that it has asked.
#[derive(Debug)]
struct Session {
    client: SocketHandle,
    /// Who asks whom.
    ends: Option<(Ipv4Addr, Ipv4Addr)>,
    server: Option<SocketHandle>,
    /// What the client has sent and nobody has looked at.
    asked: Vec<u8>,
    /// What goes to the server.
    to_server: Vec<u8>,
    /// What the server has sent and is no whole message.
    from_server: Vec<u8>,
    /// What goes to the client.
    to_client: Vec<u8>,
    /// How many queries the server has not answered.
    open: usize,
    moved: Instant,
    /// Whether the client has answered the handshake.
    is_open: bool,
    is_closing: bool,
}

impl Session {
    /// When it is let go unless something moves.
    fn until(&self) -> Instant {
        self.moved + if self.is_open { IDLE } else { HANDSHAKE }
    }
}

/// The stack with its connections.
pub(super) struct Relay {
    address: Ipv4Addr,
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    listening: Vec<SocketHandle>,
    sessions: Vec<Session>,
    port: u16,
    accepted: u64,
    refused: u64,
    relayed: u64,
    failed: u64,
}

impl core::fmt::Debug for Relay {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Relay").field("address", &self.address).field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

fn time(now: Instant) -> Time {
    Time::from_micros(now.as_micros() as i64)
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; ROOM]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_timeout(Some(IDLE.into()));
    socket.set_nagle_enabled(false);
    socket
}

impl Relay {
    /// Without connections. Relayed queries come from `address`.
    pub(super) fn new(address: Ipv4Addr, mtu: u16, seed: u64) -> Self {
        let mut queues = Queues { received: VecDeque::new(), sent: VecDeque::new(), mtu: mtu.into() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, Time::ZERO);
        interface.update_ip_addrs(|addresses| {
            // There is room for the first.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 32));
        });
        // What is for anybody is for this stack.
        interface.set_any_ip(true);
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        let port = PORTS.start + (seed >> 32) as u16 % (PORTS.end - PORTS.start);
        Self {
            address,
            interface,
            queues,
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            sessions: Vec::new(),
            port,
            accepted: 0,
            refused: 0,
            relayed: 0,
            failed: 0,
        }
    }

    /// Takes a segment: a complete packet to or from port 53. It is looked at by [`Self::work`].
    pub(super) fn receive(&mut self, packet: Vec<u8>) {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let flags = packet.get(packet::header_length(&packet) + 13).copied().unwrap_or(0);
        if flags & (SYN | ACK) == SYN {
            let client = packet::source(&packet);
            let own = self.sessions.iter().filter(|session| session.ends.is_some_and(|(from, _)| from == client)).count();
            if own >= OF_ONE_CLIENT || self.sessions.len() >= SESSIONS {
                self.refused += 1;
                return;
            }
        }
        self.queues.received.push_back(packet);
    }

    /// Packets to send.
    pub(super) fn packets(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.queues.sent.drain(..)
    }

    /// When there is something to do at the latest.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        let stack = self.interface.poll_delay(time(now), &self.sockets).map(|delay| now + delay.into());
        let idle = self.sessions.iter().map(Session::until);
        idle.chain(stack).min()
    }

    pub(super) const fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("accepted", self.accepted),
            ("refused", self.refused),
            ("relayed", self.relayed),
            ("relay_failed", self.failed),
        ]
    }

    pub(super) const fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// Does all that can be done now. `server_of` says where a client's other queries go that it has for a server.
    pub(super) fn work(
        &mut self,
        now: Instant,
        names: &mut Names<HeapNames>,
        server_of: impl Fn(Ipv4Addr, Ipv4Addr) -> Option<SocketAddrV4>,
    ) {
        loop {
            self.listen();
            self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
            self.accept(now);
            let mut sessions = core::mem::take(&mut self.sessions);
            let mut moved = false;
            for session in &mut sessions {
                moved |= self.serve(now, session, names, &server_of);
            }
            sessions.retain_mut(|session| {
                let is_over = self.is_over(now, session);
                if is_over {
                    self.sockets.remove(session.client);
                    session.server.take().map(|server| self.sockets.remove(server));
                }
                !is_over
            });
            self.sessions = sessions;
            // What was written is sent, and may bring more; all of it ends with what has come.
            if !moved && self.queues.received.is_empty() {
                self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
                return;
            }
        }
    }

    /// Has as many sockets listen as clients may connect at once.
    fn listen(&mut self) {
        while self.listening.len() < LISTENING && self.listening.len() + self.sessions.len() < SESSIONS {
            let mut socket = socket();
            // A new socket on a port that is not zero.
            let _ = socket.listen(DNS);
            self.listening.push(self.sockets.add(socket));
        }
    }

    /// Makes sessions of the sockets that a client has connected to.
    fn accept(&mut self, now: Instant) {
        let sockets = &self.sockets;
        let is_taken = |handle: &mut SocketHandle| sockets.get::<Socket<'_>>(*handle).state() != State::Listen;
        let taken: Vec<_> = self.listening.extract_if(.., is_taken).collect();
        for client in taken {
            self.accepted += 1;
            self.sessions.push(Session {
                client,
                ends: ends(self.sockets.get(client)),
                server: None,
                asked: Vec::new(),
                to_server: Vec::new(),
                from_server: Vec::new(),
                to_client: Vec::new(),
                open: 0,
                moved: now,
                is_open: false,
                is_closing: false,
            });
        }
    }

    /// Moves what can be moved. Whether anything did.
    fn serve(
        &mut self,
        now: Instant,
        session: &mut Session,
        names: &mut Names<HeapNames>,
        server_of: impl Fn(Ipv4Addr, Ipv4Addr) -> Option<SocketAddrV4>,
    ) -> bool {
        let Some((client, server)) = session.ends else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket<'_>>(session.client);
        let mut moved = !session.is_open && socket.state() != State::SynReceived;
        session.is_open |= moved;
        moved |= read(socket, &mut session.asked, MESSAGE);
        moved |= self.answer(now, session, names, client, server_of(client, server));
        if let Some(handle) = session.server {
            let socket = self.sockets.get_mut(handle);
            moved |= write(socket, &mut session.to_server);
            if session.to_client.len() < WAITING {
                moved |= read(socket, &mut session.from_server, MESSAGE);
            }
            // Whole messages, so that our own answers can stand between them.
            while let Some(length) = first_message(&session.from_server) {
                session.to_client.extend(session.from_server.drain(..length));
                session.open = session.open.saturating_sub(1);
            }
            let is_over = !socket.is_active() || (!socket.may_recv() && socket.state() != State::SynSent);
            if is_over && !socket.can_recv() {
                self.sockets.remove(handle);
                session.server = None;
                session.from_server.clear();
                if session.open != 0 || !session.to_server.is_empty() {
                    // The client asks again, or asks another server.
                    self.failed += session.open as u64;
                    session.is_closing = true;
                }
            }
        }
        let socket = self.sockets.get_mut::<Socket<'_>>(session.client);
        moved |= write(socket, &mut session.to_client);
        // Only what the client has confirmed: smoltcp does not probe a closed window once it has said FIN.
        let is_sent = session.to_client.is_empty() && socket.send_queue() == 0;
        let has_all = is_sent && (session.open == 0 || session.is_closing);
        let has_asked_all = socket.state() == State::CloseWait && !socket.can_recv();
        if has_all && (session.is_closing || has_asked_all) {
            socket.close();
        }
        if moved {
            session.moved = now;
        }
        moved
    }

    /// Answers what is ours among what the client has asked, and leaves the rest to the server.
    fn answer(
        &mut self,
        now: Instant,
        session: &mut Session,
        names: &mut Names<HeapNames>,
        client: Ipv4Addr,
        server: Option<SocketAddrV4>,
    ) -> bool {
        let mut out = [0; 4 * MAX_STREAM_ANSWER];
        let mut moved = false;
        while !session.is_closing && session.to_client.len() < WAITING && session.to_server.len() < WAITING {
            let done = names.answer_stream(now, client, &session.asked, &mut out);
            session.to_client.extend_from_slice(&out[..done.written]);
            let (taken, more) = (done.taken, !matches!(done.next, Next::Read));
            match done.next {
                Next::Read | Next::Write => {}
                Next::Ask(message) => match server {
                    Some(server) => {
                        session.to_server.extend_from_slice(&(message.len() as u16).to_be_bytes());
                        session.to_server.extend_from_slice(message);
                        session.open += 1;
                        self.relayed += 1;
                        if session.server.is_none() {
                            session.server = self.connect(server);
                        }
                    }
                    // There is no server behind this machine's own address.
                    None => session.is_closing = true,
                },
                Next::Close => session.is_closing = true,
            }
            session.asked.drain(..taken);
            moved |= taken != 0;
            if !more {
                break;
            }
        }
        moved
    }

    fn connect(&mut self, server: SocketAddrV4) -> Option<SocketHandle> {
        self.port = if self.port + 1 < PORTS.end { self.port + 1 } else { PORTS.start };
        let mut socket = socket();
        let remote = IpEndpoint::new(IpAddress::Ipv4(*server.ip()), server.port());
        let local = IpEndpoint::new(IpAddress::Ipv4(self.address), self.port);
        socket.connect(self.interface.context(), remote, local).ok()?;
        Some(self.sockets.add(socket))
    }

    /// Whether a session has ended, or nothing has moved on it for too long.
    fn is_over(&mut self, now: Instant, session: &Session) -> bool {
        let socket = self.sockets.get_mut::<Socket<'_>>(session.client);
        if now >= session.until() && socket.is_open() {
            socket.abort();
            if let Some(server) = session.server {
                self.sockets.get_mut::<Socket<'_>>(server).abort();
            }
            // Both say so to their peers before they go.
            self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
            return true;
        }
        // One that was reset before it was open listens again, for anybody.
        if socket.state() == State::Listen {
            return true;
        }
        // A client that has got everything and is gone has no need of TIME-WAIT here: it was the client that closed, or it
        // has been told.
        !socket.is_open() || socket.state() == State::TimeWait
    }
}

fn ends(socket: &Socket<'_>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let address = |endpoint: IpEndpoint| {
        let IpAddress::Ipv4(address) = endpoint.addr;
        address
    };
    Some((address(socket.remote_endpoint()?), address(socket.local_endpoint()?)))
}

/// Reads what there is, as far as there is room. Whether there was anything.
fn read(socket: &mut Socket<'_>, into: &mut Vec<u8>, most: usize) -> bool {
    let before = into.len();
    while into.len() < most && socket.can_recv() {
        let room = most - into.len();
        let read = socket.recv(|bytes| {
            let taken = bytes.len().min(room);
            into.extend_from_slice(&bytes[..taken]);
            (taken, taken)
        });
        if !read.is_ok_and(|read| read != 0) {
            break;
        }
    }
    into.len() != before
}

/// Writes what the other end has room for. Whether it was anything.
fn write(socket: &mut Socket<'_>, from: &mut Vec<u8>) -> bool {
    let mut written = 0;
    while written < from.len() && socket.can_send() {
        match socket.send_slice(&from[written..]) {
            Ok(length) if length != 0 => written += length,
            _ => break,
        }
    }
    from.drain(..written);
    written != 0
}

/// How long the first message is with its length, if it is whole.
fn first_message(bytes: &[u8]) -> Option<usize> {
    let length = 2 + usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests;
