//! A naive model of the translator: plain lists with linear search, written from the specification. The property test and the
//! fuzz targets compare the library with it.
//!
//! The model is told what went in and what came out, and says whether that was right. Where the library is free to
//! choose (an alternative port, a member of a group, a victim when the table is full) any legal choice will do: the
//! model reads it from the events, checks that it was legal, and remembers it.

mod errors;
mod events;
mod fragments;
mod listing;
mod opening;
mod packets;
mod rewriting;
pub mod rules;
pub mod tcp;
mod transmitted;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::RangeInclusive;
use core::time::Duration;

use byway::{Closed, Connection, InexactReset, Midstream, Pair, Protocol, State, Timeouts};

use fragments::{Note, REPEATED};
use rules::Rules;
use tcp::Tcp;

/// What the translator was configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub alternative: Ipv4Addr,
    pub ports: RangeInclusive<u16>,
    pub own: Ipv4Addr,
    /// Overrides what the rules say.
    pub midstream: Option<Midstream>,
    pub inexact_reset: InexactReset,
    pub client_limit: u32,
    pub refresh_from_server: bool,
    pub rewrite_identification: bool,
    /// A client's port is kept where it is free.
    pub keep_port: bool,
    pub capacity: usize,
}

/// One connection, or what is left of it.
#[derive(Clone, Debug)]
pub struct Conn {
    pub protocol: Protocol,
    pub near: Pair,
    pub far: Pair,
    pub state: State,
    /// Of TCP, what is known of it.
    pub tcp: Option<Tcp>,
    pub last: u64,
    pub kept: bool,
    pub siblings: bool,
    /// The server has opened it from another port, and the client has not sent to that port yet.
    pub unconfirmed: bool,
    /// How many of the re-diverts it has followed or was born after.
    pub followed: usize,
    /// Whether client and server have been told with a RST that it is over.
    pub told: [bool; 2],
    /// A record of it has been taken over, which tells of its last packet in milliseconds: that may count as a tick later.
    imported: bool,
}

/// A connection that was ended from here.
#[derive(Clone, Debug)]
pub struct Ended {
    conn: Conn,
    /// What both sides, the client first, will seem to have used: all possibilities.
    sent: Vec<[u32; 2]>,
}

/// A re-divert of connections.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub from: Place,
    pub to: Place,
    pub reset: bool,
}

/// An address, and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: Ipv4Addr,
    pub port: Option<u16>,
}

impl Place {
    pub fn holds(self, server: SocketAddrV4) -> bool {
        self.address == *server.ip() && self.port.is_none_or(|port| port == server.port())
    }
}

/// An alternative endpoint that must not be used again yet.
#[derive(Clone, Debug)]
struct Held {
    protocol: Protocol,
    near: Pair,
    far: Pair,
    since: u64,
}

/// The flow of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    protocol: Protocol,
    source: SocketAddrV4,
    destination: SocketAddrV4,
}

pub struct Model {
    pub settings: Settings,
    pub now: u64,
    pub rules: Rules,
    pub connections: Vec<Conn>,
    pub moves: Vec<Move>,
    held: Vec<Held>,
    /// Whether the translator may still be going through its table for what was forgotten: until then no client is limited.
    pub forgetting: bool,
    /// Connections that were forgotten and whose end was not told yet, and whether each had been alive.
    pub forgotten: Vec<(Conn, bool)>,
    notes: Vec<Note>,
    /// TCP connections that were ended from here, whose ends may be told so.
    pub ended_here: Vec<Ended>,
    /// RSTs of our own that a segment provoked: their ends, sequence number, and acknowledgement.
    asked: Vec<(Pair, (u32, u32))>,
    /// The table was full at some time: what was held may have been given up since.
    pub crowded: bool,
    /// An endpoint was left by a connection that moved or had to go: it, and others with the same bit of hash, may be
    /// passed over for a while.
    left: bool,
    pub packets: u64,
    /// There were connections that take answers from their server's other ports.
    siblings_seen: bool,
}

/// What the events of one step were, apart from what the packet itself brings about.
#[derive(Default)]
struct Incidents {
    moved: Vec<Conn>,
    stranded: Vec<Conn>,
    opened: Vec<Connection>,
    evicted: usize,
    finished: Vec<(Connection, Closed)>,
    /// Connections that went back to their original destination with their source kept.
    home: Vec<Conn>,
}

const TIMEOUTS: Timeouts = Timeouts::RECOMMENDED;
/// Times are kept in units of 65.536 ms.
const TICK: u64 = 65_536;

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

fn timeout(conn: &Conn) -> u64 {
    micros(match (conn.protocol, conn.state) {
        (Protocol::Udp, _) => TIMEOUTS.udp,
        (Protocol::Icmp, _) => TIMEOUTS.icmp,
        (_, State::Established) if is_adopted(conn) => TIMEOUTS.tcp_transitory,
        (_, State::Opening | State::Opened | State::Closing | State::Doubtful) => TIMEOUTS.tcp_transitory,
        (_, State::TimeWait | State::Resetting) => TIMEOUTS.hold,
        _ => TIMEOUTS.tcp_established,
    })
}

pub fn is_over(state: State) -> bool {
    matches!(state, State::TimeWait | State::Resetting)
}

/// Whether a connection was taken up in the middle, and its server has not been heard: whoever can send a segment can
/// bring that about.
fn is_adopted(conn: &Conn) -> bool {
    conn.tcp.as_ref().is_some_and(Tcp::is_adopted)
}

/// Whether a connection may be given up for the sake of another.
fn is_cheap(conn: &Conn) -> bool {
    matches!(conn.state, State::Opening | State::Opened | State::Closing | State::TimeWait | State::Resetting)
        || is_adopted(conn)
        || conn.protocol == Protocol::Icmp
        || conn.state == State::Unanswered
}

impl Model {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: 0,
            rules: Rules::default(),
            connections: Vec::new(),
            moves: Vec::new(),
            held: Vec::new(),
            forgetting: false,
            forgotten: Vec::new(),
            notes: Vec::new(),
            ended_here: Vec::new(),
            asked: Vec::new(),
            crowded: false,
            left: false,
            packets: 0,
            siblings_seen: false,
        }
    }

    /// The next time, at or a little after `wanted`, at which everything is either surely alive or surely dead: within
    /// two units after a time-out both are right, and there is nothing to check.
    pub fn advance(&mut self, wanted: u64) -> u64 {
        let ends: Vec<u64> = self.connections.iter().map(|c| c.last.saturating_add(timeout(c))).collect();
        let notes = self.notes.iter().map(|n| n.last.saturating_add(micros(TIMEOUTS.fragment)));
        let repeated = self.notes.iter().map(|n| n.last.saturating_add(REPEATED));
        let ends: Vec<u64> = ends.into_iter().chain(notes).chain(repeated).collect();
        let mut now = wanted.max(self.now);
        while ends.iter().any(|end| now > *end && now < end + 2 * TICK) {
            now += 2 * TICK;
        }
        self.now = now;
        // A connection that is over ends without an event.
        let over = |c: &Conn| is_over(c.state) && now - c.last > timeout(c);
        let gone = self.connections.iter().filter(|c| over(c));
        self.held.extend(gone.map(|c| Held { protocol: c.protocol, near: c.near, far: c.far, since: c.last }));
        self.connections.retain(|c| !over(c));
        now
    }

    fn is_alive(&self, conn: &Conn) -> bool {
        self.now - conn.last <= timeout(conn)
    }

    /// Connections that packets can still belong to.
    pub fn alive(&self) -> impl Iterator<Item = &Conn> {
        self.connections.iter().filter(|c| self.is_alive(c))
    }

    fn find_near(&self, flow: Flow) -> Option<usize> {
        let pair = Pair { source: flow.source, destination: flow.destination };
        self.connections.iter().position(|c| c.protocol == flow.protocol && c.near == pair && self.is_alive(c))
    }

    fn find_far(&self, flow: Flow) -> Option<usize> {
        let pair = Pair { source: flow.destination, destination: flow.source };
        self.connections.iter().position(|c| c.protocol == flow.protocol && c.far == pair && self.is_alive(c))
    }

    /// A record of a connection itself was taken over.
    pub fn imported(&mut self, protocol: Protocol, near: Pair) {
        let Some(at) = self.connections.iter().position(|c| c.protocol == protocol && c.near == near) else {
            return;
        };
        self.catch_up(at);
        let conn = &mut self.connections[at];
        conn.imported = true;
        if let Some(tcp) = &mut conn.tcp {
            tcp.hear_of_itself();
            conn.state = if conn.state == State::Resetting { conn.state } else { tcp.state() };
        }
    }

    /// How many ticks ago the last packet of a connection came that was a sign of life.
    fn silent_for(&self, conn: &Conn) -> RangeInclusive<u64> {
        let ticks = self.now / TICK - conn.last / TICK;
        ticks.saturating_sub(conn.imported.into())..=ticks
    }

    /// Where a connection has to go because of re-diverts that it has not followed, and whether it is to be reset.
    fn course(&self, conn: &Conn) -> Option<(SocketAddrV4, bool)> {
        let mut server = conn.far.destination;
        let (mut moved, mut reset) = (false, false);
        for m in &self.moves[conn.followed..] {
            if m.from.holds(server) {
                let port = if conn.protocol == Protocol::Icmp { 0 } else { m.to.port.unwrap_or(server.port()) };
                server = SocketAddrV4::new(m.to.address, port);
                moved = true;
                reset |= m.reset;
            }
        }
        let reset = reset && conn.protocol == Protocol::Tcp;
        (moved && (reset || server != conn.far.destination)).then_some((server, reset))
    }

    /// Whether it has to follow a re-divert.
    pub fn is_behind(&self, conn: &Conn) -> bool {
        !is_over(conn.state) && self.course(conn).is_some()
    }

    /// Whether a packet to this address can be of ours at all. The library may think so of a few more.
    fn concerns(&self, destination: Ipv4Addr) -> bool {
        destination == self.settings.alternative || self.rules.speak_of(destination)
    }
}
