//! DNS over TCP, in the path of packets: a TCP stack that takes what comes to port 53 of any server, answers the queries for
//! names of the table, and relays the others to that server, byte by byte. What it does not know it cannot hide; so whoever
//! asks over TCP gets no answer that he would not get over UDP.
//!
//! The stack has no sockets of the kernel: it is given packets and gives packets, as the translator does. So it needs no
//! rights, sees each client's own address, and works for every server at once.

mod session;
mod sockets;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use byway::Instant;
use byway::naming::{HeapNames, MAX_STREAM_ANSWER, Names, Next};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use self::session::Session;
use self::sockets::{ends, first_message, read, write};
use super::DNS;
use super::numbers::Numbers;
use super::ports::Ports;
use super::queues::Queues;
use super::transfer;
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
/// How many bytes wait at most over all sessions. Above that each has room for [`SHORT`] ones, so that none stands still.
const ALL_WAITING: usize = 32 * MESSAGE;
/// Longer than most messages.
const SHORT: usize = 2048;
/// How many bytes a client has to acknowledge, unless there are no more: a byte from time to time does not keep a connection.
const PROGRESS: usize = 512;
/// How long a connection is kept whose client neither asks nor takes answers (RFC 7766, section 6.2.3: of the order of
/// seconds), and how long somebody may leave data unacknowledged.
const IDLE: Duration = Duration::from_secs(20);
/// How long a handshake may take, so that SYNs from forged sources do not keep others out for long.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// The longest packet. The stack sets DF and does not learn a path's MTU, so it keeps to what paths of IPv6 carry without
/// learning (1280 bytes, RFC 8200, section 5), and usual tunnels do.
const LONGEST: u16 = 1260;
/// The ports that relayed queries come from.
const PORTS: core::ops::Range<u16> = 32_768..60_999;

/// The stack with its connections.
pub(super) struct Relay {
    address: Ipv4Addr,
    interface: Interface,
    queues: Queues,
    numbers: Numbers,
    sockets: SocketSet<'static>,
    listening: Vec<SocketHandle>,
    sessions: Vec<Session>,
    port: u16,
    /// The ports of sockets to servers.
    ports: Ports,
    accepted: u64,
    refused: u64,
    relayed: u64,
    failed: u64,
    transfers: u64,
    /// Sockets that are removed once they have sent a RST.
    ended: Vec<SocketHandle>,
    /// How many bytes wait over all sessions.
    waiting: usize,
    /// The local port of each socket.
    bound: HashMap<SocketHandle, u16>,
    /// When something is due without a packet, at the latest.
    due: Option<Instant>,
    /// How often sessions were served.
    #[cfg(test)]
    served: u64,
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
    /// A relay without connections. Relayed queries come from `address`, and from the ports that it puts into `ports`.
    pub(super) fn new(address: Ipv4Addr, ports: Ports, mtu: u16, seed: u64) -> Self {
        let mut queues = Queues { received: VecDeque::new(), sent: VecDeque::new(), mtu: mtu.min(LONGEST).into() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, Time::ZERO);
        interface.update_ip_addrs(|addresses| {
            // There is room for the first.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 32));
        });
        // Packets to any address are for this stack.
        interface.set_any_ip(true);
        let _ = interface.routes_mut().add_default_ipv4_route(address);
        let port = PORTS.start + (seed >> 32) as u16 % (PORTS.end - PORTS.start);
        Self {
            address,
            interface,
            queues,
            numbers: Numbers::new(),
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            sessions: Vec::new(),
            port,
            ports,
            accepted: 0,
            refused: 0,
            relayed: 0,
            failed: 0,
            transfers: 0,
            ended: Vec::new(),
            waiting: 0,
            bound: HashMap::new(),
            due: None,
            #[cfg(test)]
            served: 0,
        }
    }

    /// Takes a segment: a complete packet to or from port 53. It is looked at by [`Self::work`]. False if it was refused, so that
    /// there is nothing to do.
    pub(super) fn receive(&mut self, mut packet: Vec<u8>) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        let flags = packet.get(packet::header_length(&packet) + 13).copied().unwrap_or(0);
        let client = packet::source(&packet);
        if client == self.address {
            // Forged, or one of our own that has come back.
            self.refused += 1;
            return false;
        }
        if flags & (SYN | ACK) == SYN {
            let is_own = |session: &&Session| session.ends.is_some_and(|(from, _)| *from.ip() == client);
            if self.sessions.len() >= SESSIONS || self.sessions.iter().filter(is_own).count() >= OF_ONE_CLIENT {
                self.refused += 1;
                return false;
            }
        }
        self.touch(&packet);
        self.numbers.reveal(&mut packet);
        self.queues.received.push_back(packet);
        true
    }

    /// Notes which session a packet is for: no other can have changed because of it.
    fn touch(&mut self, packet: &[u8]) {
        let Some((from, to)) = packet::source_port(packet).zip(packet::destination_port(packet)) else {
            return;
        };
        let from = SocketAddrV4::new(packet::source(packet), from);
        let (is_here, server) = (packet::destination(packet) == self.address, packet::destination(packet));
        for session in &mut self.sessions {
            let is_of_client = to == DNS && session.ends == Some((from, server));
            session.is_touched |= is_of_client || (is_here && session.server.is_some_and(|(_, port)| port == to));
        }
    }

    /// Packets to send.
    pub(super) fn packets(&mut self) -> impl Iterator<Item = Vec<u8>> {
        let numbers = &self.numbers;
        self.queues.sent.drain(..).map(|mut packet| {
            numbers.hide(&mut packet);
            packet
        })
    }

    /// When there is something to do at the latest.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) const fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("accepted", self.accepted),
            ("refused", self.refused),
            ("relayed", self.relayed),
            ("relay_failed", self.failed),
            ("transfer_refused", self.transfers),
        ]
    }

    pub(super) const fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// Does all that can be done now. `server_of` says where a client's queries to a server are relayed to.
    ///
    /// Only sessions that something has come for are served, and all of them when something is due.
    pub(super) fn work(
        &mut self,
        now: Instant,
        names: &mut Names<HeapNames>,
        server_of: impl Fn(Ipv4Addr, Ipv4Addr) -> Option<SocketAddrV4>,
    ) {
        let touch_all = |sessions: &mut [Session]| sessions.iter_mut().for_each(|session| session.is_touched = true);
        if self.due.is_some_and(|due| due <= now) {
            touch_all(&mut self.sessions);
        }
        loop {
            self.listen();
            self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
            self.accept(now);
            let mut sessions = core::mem::take(&mut self.sessions);
            let (mut has_moved, has_more) = (false, !self.queues.received.is_empty());
            let is_short = self.waiting >= ALL_WAITING;
            sessions.retain_mut(|session| {
                if !session.is_touched {
                    return true;
                }
                let waiting = session.waiting();
                let moved = self.serve(now, session, names, &server_of);
                has_moved |= moved;
                session.is_touched = moved || has_more;
                self.waiting = (self.waiting + session.waiting()).saturating_sub(waiting);
                let is_over = self.is_over(now, session);
                if is_over {
                    self.waiting = self.waiting.saturating_sub(session.waiting());
                    match self.is_late(now, session) {
                        true => self.end(session.client),
                        false => drop(self.sockets.remove(session.client)),
                    }
                    if let Some((server, _)) = session.server.take() {
                        self.end(server);
                    }
                }
                !is_over
            });
            self.sessions = sessions;
            if is_short && self.waiting < ALL_WAITING {
                // Any of them may have waited for the room that there is now.
                touch_all(&mut self.sessions);
                has_moved = true;
            }
            // Sends what was written, which may bring more packets. It is over when nothing moves and no packet is left.
            if !has_moved && self.queues.received.is_empty() {
                if !self.ended.is_empty() {
                    // Whoever is at the other end is told before the socket goes.
                    self.interface.poll(time(now), &mut self.queues, &mut self.sockets);
                    self.remove_ended();
                }
                break;
            }
        }
        let stack = self.interface.poll_delay(time(now), &self.sockets).map(|delay| now + delay.into());
        self.due = self.sessions.iter().map(Session::until).chain(stack).min();
    }

    /// Aborts a connection. Its other end gets a RST: otherwise it would keep the connection.
    fn end(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
        self.ended.push(handle);
    }

    /// Removes aborted sockets, after they have sent their RST.
    fn remove_ended(&mut self) {
        for handle in self.ended.drain(..) {
            if let Some(port) = self.bound.remove(&handle) {
                self.ports.remove(port);
            }
            self.sockets.remove(handle);
        }
    }

    /// Makes as many sockets listen as clients may connect at once.
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
            self.sessions.push(Session::new(now, client, ends(self.sockets.get(client))));
        }
    }

    /// Moves what can be moved. Returns whether anything did.
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
        #[cfg(test)]
        {
            self.served += 1;
        }
        let client = *client.ip();
        let (message, most) = if self.waiting < ALL_WAITING { (MESSAGE, WAITING) } else { (SHORT, SHORT) };
        let socket = self.sockets.get_mut::<Socket<'_>>(session.client);
        let mut moved = !session.is_open && socket.state() != State::SynReceived;
        session.is_open |= moved;
        // Bytes alone are no sign of life: a client could send one from time to time for ever.
        let mut is_alive = moved | session.is_read(socket.send_queue());
        if !session.is_closing {
            moved |= read(socket, &mut session.asked, message);
        }
        is_alive |= self.answer(now, session, names, client, || server_of(client, server), most);
        moved |= is_alive;
        if let Some((handle, _)) = session.server {
            let socket = self.sockets.get_mut(handle);
            moved |= write(socket, &mut session.to_server);
            if session.to_client.len() < most {
                moved |= read(socket, &mut session.from_server, message);
            }
            // Whole messages, so that our own answers can stand between them.
            while let Some(length) = first_message(&session.from_server) {
                session.to_client.extend(session.from_server.drain(..length));
                session.open = session.open.saturating_sub(1);
            }
            let is_over = !socket.is_active() || (!socket.may_recv() && socket.state() != State::SynSent);
            if is_over && !socket.can_recv() {
                self.end(handle);
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
            let before = socket.state();
            socket.close();
            moved |= socket.state() != before;
        }
        session.unconfirmed = socket.send_queue();
        if is_alive {
            session.moved = now;
        }
        moved
    }

    /// Answers those of the client's queries that are for names of the table, and leaves the rest to the server.
    fn answer(
        &mut self,
        now: Instant,
        session: &mut Session,
        names: &mut Names<HeapNames>,
        client: Ipv4Addr,
        server: impl Fn() -> Option<SocketAddrV4>,
        most: usize,
    ) -> bool {
        if session.asked.is_empty() {
            return false;
        }
        let mut out = [0; 4 * MAX_STREAM_ANSWER];
        let mut moved = false;
        while !session.is_closing && session.to_client.len() < most && session.to_server.len() < most {
            let done = names.answer_stream(now, client, &session.asked, &mut out);
            session.to_client.extend_from_slice(&out[..done.written]);
            let (taken, more) = (done.taken, !matches!(done.next, Next::Read));
            match done.next {
                Next::Read | Next::Write => {}
                Next::Ask(message) if let Some(refusal) = transfer::refuse(message) => {
                    session.to_client.extend((refusal.len() as u16).to_be_bytes());
                    session.to_client.extend(refusal);
                    self.transfers += 1;
                }
                Next::Ask(message) => {
                    // Where the rules lead is asked once for each connection to a server.
                    let to = if session.server.is_none() { server() } else { None };
                    if session.server.is_some() || to.is_some() {
                        session.to_server.extend_from_slice(&(message.len() as u16).to_be_bytes());
                        session.to_server.extend_from_slice(message);
                        session.open += 1;
                        self.relayed += 1;
                    } else {
                        // There is no server behind this machine's own address.
                        session.is_closing = true;
                    }
                    if let Some(to) = to {
                        session.server = self.connect(to);
                    }
                }
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

    fn connect(&mut self, server: SocketAddrV4) -> Option<(SocketHandle, u16)> {
        // There are more ports than connections.
        let next = |port| if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
        self.port = next(self.port);
        while self.ports.contains(self.port) {
            self.port = next(self.port);
        }
        let mut socket = socket();
        let remote = IpEndpoint::new(IpAddress::Ipv4(*server.ip()), server.port());
        let local = IpEndpoint::new(IpAddress::Ipv4(self.address), self.port);
        socket.connect(self.interface.context(), remote, local).ok()?;
        let handle = self.sockets.add(socket);
        self.ports.insert(self.port);
        self.bound.insert(handle, self.port);
        Some((handle, self.port))
    }

    /// Whether nothing has moved on a session for too long.
    fn is_late(&self, now: Instant, session: &Session) -> bool {
        now >= session.until() && self.sockets.get::<Socket<'_>>(session.client).is_open()
    }

    /// Whether a session has ended, or nothing has moved on it for too long.
    fn is_over(&self, now: Instant, session: &Session) -> bool {
        // A socket that was reset before it was open listens again, for any client. A client that has got everything and is gone
        // has no need of TIME-WAIT here: it was the client that closed, or it has been told.
        let state = self.sockets.get::<Socket<'_>>(session.client).state();
        self.is_late(now, session) || matches!(state, State::Closed | State::Listen | State::TimeWait)
    }
}

#[cfg(test)]
mod tests;
