//! A naive model of the translator: plain lists with linear search, written from the specification. The property test
//! and the fuzz targets hold the library against it.
//!
//! The model is told what went in and what came out, and says whether that was right. Where the library is free to
//! choose (an alternative port, a member of a group, a victim when the table is full) any legal choice will do: the
//! model reads it from the events, checks that it was legal, and remembers it.

pub mod packet;
pub mod rules;
pub mod tcp;

use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::RangeInclusive;
use core::time::Duration;

use byway::{
    Closed, Connection, DropReason, Event, InexactReset, Midstream, Pair, Prefix, Protocol, Record, State, Target,
    Timeouts, Verdict,
};
use packet::{ACK, ICMP, RST, SYN, TCP, UDP, address, layout, long, word};
use rules::{Rule, Rules, is_martian};
use tcp::{Reset, Sign, Tcp, Way};

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
    /// What both sides, the client first, will seem to have used. When it is not sure whether it has been silent for long
    /// enough, there are two possibilities.
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

/// What is known of a datagram that is under way in fragments.
#[derive(Clone, Debug)]
struct Note {
    key: (Ipv4Addr, Ipv4Addr, u8, u16),
    verdict: Verdict,
    /// Source, destination and identification of the first fragment as it went out.
    out: (Ipv4Addr, Ipv4Addr, u16),
    /// Units of 8 octets that were seen.
    seen: Vec<u16>,
    /// Where the datagram ends, if its last fragment was seen.
    end: Option<u16>,
    last: u64,
    /// Whether the library must remember it: what is none of ours it need not.
    sure: bool,
}

impl Note {
    fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| (0..end).all(|unit| self.seen.contains(&unit)))
    }
}

/// Within this time a fragment that was seen is taken for a copy, in microseconds.
const REPEATED: u64 = TICK;

/// An alternative endpoint that must not be used again yet.
#[derive(Clone, Debug)]
struct Held {
    protocol: Protocol,
    near: Pair,
    far: Pair,
    since: u64,
}

/// What a packet says of where it belongs.
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
    /// Connections that were forgotten and whose end was not told yet, and whether each had been alive.
    pub forgotten: Vec<(Conn, bool)>,
    notes: Vec<Note>,
    /// TCP connections that were ended from here, whose ends may be told so.
    pub ended_here: Vec<Ended>,
    /// RSTs of our own that somebody's segment asked for: their ends, sequence number, and acknowledgement.
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
/// After so many ticks without a packet nothing of a connection is on its way any more.
const SILENCE: u64 = 16;

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
        // What is over ends without a word.
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
        let Some(conn) = self.connections.iter_mut().find(|c| c.protocol == protocol && c.near == near) else {
            return;
        };
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

    /// Takes in what the events of a step say, and checks that each of them was legal.
    fn hear(&mut self, events: &[Event], may_open: bool) -> Incidents {
        let mut incidents = Incidents::default();
        for event in events {
            match event {
                Event::Opened(connection) => {
                    assert!(may_open, "opened out of nothing: {connection}");
                    incidents.opened.push(*connection);
                }
                Event::Moved { connection, from } => {
                    self.left = true;
                    let at = self.place_of(connection, |c| c.far.destination == *from);
                    let old = self.connections[at].clone();
                    let (server, reset) = self.course(&old).expect("moved without a re-divert");
                    assert!(!(reset && old.protocol == Protocol::Tcp), "moved instead of reset: {connection}");
                    assert_eq!(connection.server_side.destination, server, "moved to the wrong server");
                    let (source, was) = (connection.server_side.source, old.far.source);
                    let taken = |pair: Pair| {
                        let same = |c: &Conn| c.protocol == old.protocol && c.far == pair && c.near != old.near;
                        self.connections.iter().any(same)
                            || self.held.iter().any(|h| h.protocol == old.protocol && h.far == pair)
                    };
                    if source != was {
                        assert!(!old.kept, "a source that is kept was changed");
                        let siblings = old.siblings;
                        assert!(
                            siblings || taken(Pair { source: was, destination: server }),
                            "a free port was given up"
                        );
                        self.check_alternative(source);
                    }
                    let far = Pair { source, destination: server };
                    let clash = |c: &Conn| c.protocol == old.protocol && c.far == far && c.near != old.near;
                    assert!(!self.connections.iter().any(clash), "two connections with one alternative endpoint");
                    incidents.moved.push(old);
                    let followed = self.moves.len();
                    let conn = &mut self.connections[at];
                    (conn.far, conn.followed) = (far, followed);
                }
                Event::Closed { connection, why: Closed::Finished | Closed::Reset } => {
                    let Event::Closed { why, .. } = event else { unreachable!("it was matched") };
                    incidents.finished.push((*connection, *why));
                }
                Event::Closed { connection, why } if self.was_forgotten(connection, *why) => {}
                Event::Closed { connection, why } => {
                    let at = self.place_of(connection, |c| c.far == connection.server_side);
                    let conn = self.connections[at].clone();
                    assert!(!is_over(conn.state), "closed twice: {connection}");
                    match why {
                        Closed::Expired => {
                            assert!(!self.is_alive(&conn), "expired before its time: {connection}");
                            self.held.push(Held {
                                protocol: conn.protocol,
                                near: conn.near,
                                far: conn.far,
                                since: self.now.min(conn.last + timeout(&conn)),
                            });
                            self.connections.remove(at);
                        }
                        Closed::Evicted => {
                            assert!(may_open, "evicted for nothing: {connection}");
                            assert!(is_cheap(&conn), "evicted although it is worth more: {connection}");
                            incidents.evicted += 1;
                            self.left = true;
                            self.note_ended(conn);
                            self.connections.remove(at);
                        }
                        Closed::Rediverted
                            if conn.kept && self.course(&conn) == Some((conn.near.destination, false)) =>
                        {
                            // It went home, and nothing is left to translate.
                            self.note_ended(conn.clone());
                            incidents.home.push(conn);
                            self.connections.remove(at);
                        }
                        Closed::Rediverted => {
                            let course = self.course(&conn);
                            assert!(course.is_some_and(|(_, reset)| reset), "reset without a re-divert: {connection}");
                            assert_eq!(conn.protocol, Protocol::Tcp);
                            self.note_ended(conn);
                            let (now, followed) = (self.now, self.moves.len());
                            let conn = &mut self.connections[at];
                            (conn.state, conn.last, conn.followed) = (State::Resetting, now, followed);
                        }
                        Closed::Stranded => {
                            self.left = true;
                            assert!(self.course(&conn).is_some(), "stranded without a re-divert: {connection}");
                            self.note_ended(conn.clone());
                            incidents.stranded.push(conn);
                            self.connections.remove(at);
                        }
                        other => panic!("an unknown end: {other:?}"),
                    }
                }
                other => panic!("an event that nobody asked for: {other:?}"),
            }
        }
        incidents
    }

    /// A connection was ended from here.
    fn note_ended(&mut self, conn: Conn) {
        let sent = match &conn.tcp {
            Some(tcp) => self.silent_for(&conn).map(|ticks| tcp.sent_before_reset(ticks >= SILENCE)).collect(),
            None => vec![[0; 2]],
        };
        self.ended_here.push(Ended { conn, sent });
    }

    /// Every connection is forgotten: no packet belongs to one of them any more. Their ends may be told later.
    pub fn forget(&mut self) {
        let now = self.now;
        for conn in core::mem::take(&mut self.connections) {
            self.held.push(Held { protocol: conn.protocol, near: conn.near, far: conn.far, since: now });
            if !is_over(conn.state) {
                let alive = self.is_alive(&conn);
                self.forgotten.push((conn, alive));
            }
        }
    }

    /// Whether this is the end of a connection that was forgotten, which is taken note of.
    fn was_forgotten(&mut self, told: &Connection, why: Closed) -> bool {
        let same = |c: &Conn| (c.protocol, c.near, c.far) == (told.protocol, told.client_side, told.server_side);
        let expected = |alive: bool| if alive { Closed::Forgotten } else { Closed::Expired };
        let found = self.forgotten.iter().position(|(c, alive)| same(c) && expected(*alive) == why);
        if let Some(at) = found {
            self.forgotten.remove(at);
        }
        found.is_some()
    }

    fn place_of(&self, told: &Connection, also: impl Fn(&Conn) -> bool) -> usize {
        let same = |c: &Conn| c.protocol == told.protocol && c.near == told.client_side && also(c);
        self.connections.iter().position(same).unwrap_or_else(|| panic!("an event about nobody: {told}"))
    }

    fn check_alternative(&self, source: SocketAddrV4) {
        assert_eq!(*source.ip(), self.settings.alternative);
        assert!(self.settings.ports.contains(&source.port()), "a port out of the range: {source}");
    }

    /// A step that is no packet: it may move and end connections, but opens none.
    pub fn quiet_step(&mut self, events: &[Event]) {
        let incidents = self.hear(events, false);
        assert!(incidents.finished.is_empty(), "no packet came, and yet it finished");
    }

    /// Holds the listing against the model; `told` are those that are not listed any more since both ends know.
    pub fn check_listing(&mut self, listed: &[Connection], told: &[Connection], in_use: usize) {
        self.crowded |= in_use >= self.settings.capacity;
        if self.crowded {
            // What is over gives way in silence.
            let shown =
                |c: &Conn| listed.iter().chain(told).any(|l| l.protocol == c.protocol && l.client_side == c.near);
            self.connections.retain(|c| !is_over(c.state) || shown(c));
        }
        // Within two units after a time-out both are right.
        let doubtful = |c: &Conn| self.now - c.last > timeout(c) && self.now - c.last < timeout(c) + 2 * TICK;
        let of = |l: &Connection, c: &Conn| c.protocol == l.protocol && c.near == l.client_side;
        let mut ours: Vec<&Conn> = self.alive().collect();
        for l in listed {
            if self.connections.iter().any(|c| of(l, c) && doubtful(c)) {
                continue;
            }
            let place = ours.iter().position(|c| of(l, c));
            let conn = ours.swap_remove(place.unwrap_or_else(|| panic!("listed, and unknown: {l} {:?}", l.state)));
            assert_eq!((l.server_side, l.state), (conn.far, conn.state), "{l}");
        }
        // What is being reset is listed until both of its ends have been told.
        ours.retain(|c| c.state != State::Resetting || c.told != [true; 2]);
        assert!(ours.is_empty(), "known, and not listed: {ours:?}");
    }

    /// Holds the record of a connection against the model.
    pub fn check_record(&self, record: &Record) {
        let told = record.connection().expect("a record is well-formed");
        let Some(conn) = self.connections.iter().find(|c| c.protocol == told.protocol && c.near == told.client_side)
        else {
            return;
        };
        let octets = record.as_bytes();
        let mut idle = self.silent_for(conn).map(|ticks| ticks * TICK / 1_000);
        let told_idle = u64::from(long(octets, 32));
        assert!(idle.any(|idle| idle == told_idle), "{told}: idle for {told_idle} ms");
        let Some(tcp) = &conn.tcp else {
            return;
        };
        let (state, flags, numbers) = tcp.record();
        assert_eq!([36, 40, 44, 48].map(|at| long(octets, at)), numbers, "{told}: sent and acknowledged");
        // What is over and left behind forgets the rest, sooner or later.
        if !is_over(conn.state) || conn.followed == self.moves.len() {
            assert_eq!((octets[4], octets[5] & 0b0111_1100), (state, flags), "{told}");
        }
    }

    /// A packet: what went in, what came out, and what was told.
    pub fn packet(&mut self, before: &[u8], after: &[u8], verdict: Verdict, events: &[Event]) {
        self.packets += 1;
        let translated = matches!(verdict, Verdict::ToServer | Verdict::ToClient);
        if !translated {
            assert_eq!(before, after, "{verdict:?} changed the packet");
        }
        let evicted_late: Vec<Event> =
            events.iter().filter(|e| matches!(e, Event::Closed { why: Closed::Evicted, .. })).copied().collect();
        let others: Vec<Event> = events.iter().filter(|e| !evicted_late.contains(e)).copied().collect();
        let mut incidents = self.hear(&others, true);
        let first_fragment = layout(before).is_some() && word(before, 6) & 0x3fff == 0x2000;
        self.judge(before, after, verdict, &mut incidents);
        if first_fragment {
            self.learn(before, after, verdict);
        }
        assert!(incidents.opened.is_empty(), "opened, and not by this packet: {:?}", incidents.opened);
        assert!(incidents.finished.is_empty(), "finished, and not by this packet: {:?}", incidents.finished);
        let _ = self.hear(&evicted_late, true);
    }

    fn judge(&mut self, before: &[u8], after: &[u8], verdict: Verdict, incidents: &mut Incidents) {
        if before.first().is_some_and(|first| first >> 4 != 4) {
            return assert_eq!(verdict, Verdict::Pass);
        }
        let Some(at) = layout(before) else {
            return assert_eq!(verdict, Verdict::Drop(DropReason::MalformedIpv4));
        };
        let (source, destination) = (address(before, 12), address(before, 16));
        let payload = &before[at.header..at.total];
        let fragmentation = word(before, 6);
        let concerned = self.concerns(destination);
        let refused =
            |reason| if concerned { vec![Verdict::Drop(reason)] } else { vec![Verdict::Drop(reason), Verdict::Pass] };
        if fragmentation & 0x1fff != 0 {
            return self.judge_later(before, after, verdict, concerned);
        }
        let fragment = fragmentation & 0x2000 != 0;
        let protocol = before[9];
        let needed = match protocol {
            TCP => 20,
            UDP | ICMP => 8,
            _ => 0,
        };
        if payload.len() < needed {
            let reason = if fragment { DropReason::TinyFragment } else { DropReason::MalformedTransport };
            return assert!(refused(reason).contains(&verdict), "{verdict:?}");
        }
        if fragment && protocol == TCP && payload[12] >> 4 >= 5 && usize::from(payload[12] >> 4) * 4 > payload.len() {
            return assert!(refused(DropReason::TinyFragment).contains(&verdict), "{verdict:?}");
        }
        let wrong = match protocol {
            TCP => usize::from(payload[12] >> 4) * 4 > payload.len() || payload[12] >> 4 < 5,
            UDP => !fragment && (usize::from(word(payload, 4)) > payload.len() || word(payload, 4) < 8),
            _ => false,
        };
        if wrong {
            return assert!(refused(DropReason::MalformedTransport).contains(&verdict), "{verdict:?}");
        }
        if fragment && let Some(reason) = self.against_first(before, verdict) {
            return assert!(refused(reason).contains(&verdict), "{verdict:?} instead of {reason:?}");
        }
        let flow = |protocol, source_port, destination_port| Flow {
            protocol,
            source: SocketAddrV4::new(source, source_port),
            destination: SocketAddrV4::new(destination, destination_port),
        };
        let flow = match protocol {
            TCP => flow(Protocol::Tcp, word(payload, 0), word(payload, 2)),
            UDP => flow(Protocol::Udp, word(payload, 0), word(payload, 2)),
            ICMP => match payload[0] {
                8 => flow(Protocol::Icmp, word(payload, 4), 0),
                0 => flow(Protocol::Icmp, 0, word(payload, 4)),
                3 | 4 | 5 | 11 | 12 if !fragment => return self.judge_error(before, after, verdict, incidents),
                _ => return self.judge_other(Some(Protocol::Icmp), (source, destination), verdict),
            },
            _ => return self.judge_other(None, (source, destination), verdict),
        };
        self.judge_whole(flow, before, after, verdict, incidents);
    }

    fn judge_whole(&mut self, flow: Flow, before: &[u8], after: &[u8], verdict: Verdict, incidents: &mut Incidents) {
        let at = layout(before).expect("it was parsed");
        let payload = &before[at.header..at.total];
        let late = |c: &Conn| c.far == Pair { source: flow.destination, destination: flow.source };
        if incidents.moved.iter().any(|c| c.protocol == flow.protocol && late(c)) && self.find_far(flow).is_none() {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OldServer));
        }
        let of = |c: &Conn| c.protocol == flow.protocol && (late(c) || c.near == pair(flow));
        if incidents.stranded.iter().any(of) && self.find_far(flow).or(self.find_near(flow)).is_none() {
            return assert_eq!(verdict, Verdict::Drop(DropReason::NoPort));
        }
        let to_alternative = *flow.destination.ip() == self.settings.alternative;
        // A packet to an alternative address belongs to the way back; every other is looked up as one of the way there,
        // and only then as an answer to a client that keeps its address.
        if !to_alternative && let Some(conn) = self.near_and_not_anew(flow, payload, incidents) {
            return self.carry(conn, Way::There, before, after, verdict, incidents);
        }
        if let Some(conn) = self.find_far(flow) {
            // A packet that made the connection follow, since it came from another port of its old server, and that
            // happens to come from the new one: it may be dropped.
            let near = self.connections[conn].near;
            let just_moved = incidents.moved.iter().any(|c| c.siblings && c.near == near);
            if just_moved && matches!(verdict, Verdict::Drop(_)) {
                return assert_eq!(verdict, Verdict::Drop(DropReason::NoPort));
            }
            return self.carry(conn, Way::Back, before, after, verdict, incidents);
        }
        if let Some(parent) = self.parent_of(flow) {
            if verdict == Verdict::ToClient {
                return self.open_sibling(parent, flow, before, after, incidents);
            }
            let refused = match verdict {
                Verdict::Drop(DropReason::NoPort) => true,
                Verdict::Drop(DropReason::ClientLimit | DropReason::TableFull) => {
                    self.may_refuse(*parent.near.source.ip())
                }
                _ => false,
            };
            return assert!(refused, "{verdict:?} for an answer from another port");
        }
        if to_alternative {
            let in_range = self.settings.ports.contains(&flow.destination.port());
            let request = flow.protocol == Protocol::Icmp && payload[0] == 8;
            let forwarded = flow.protocol != Protocol::Icmp && self.rules.forward(flow.protocol, flow.destination);
            if in_range && !request && !forwarded && self.find_near(flow).is_none() {
                let left = self.moves.iter().any(|m| m.from.holds(flow.source));
                let old = left && verdict == Verdict::Drop(DropReason::OldServer);
                return assert!(old || verdict == Verdict::Drop(DropReason::NoConnection), "{verdict:?}");
            }
        }
        if let Some(conn) = self.near_and_not_anew(flow, payload, incidents) {
            return self.carry(conn, Way::There, before, after, verdict, incidents);
        }
        self.open(flow, before, after, verdict, incidents);
    }

    /// The connection that a packet of a client belongs to. One that is over ends with a fresh SYN.
    fn near_and_not_anew(&mut self, flow: Flow, payload: &[u8], incidents: &mut Incidents) -> Option<usize> {
        let conn = self.find_near(flow)?;
        let anew = flow.protocol == Protocol::Tcp && payload[13] & (SYN | RST | ACK) == SYN;
        let state = self.connections[conn].state;
        if anew && state == State::Closing {
            let (_, why) = incidents.finished.pop().expect("its client began anew, and nobody was told");
            assert_eq!(why, Closed::Finished);
        }
        if anew && (is_over(state) || state == State::Closing) {
            let Conn { protocol, near, far, .. } = self.connections.remove(conn);
            self.held.push(Held { protocol, near, far, since: self.now });
            return None;
        }
        Some(conn)
    }

    /// A packet of a client that belongs to no connection.
    fn open(&mut self, flow: Flow, before: &[u8], after: &[u8], verdict: Verdict, incidents: &mut Incidents) {
        let payload = &before[layout(before).expect("it was parsed").header..];
        let Some(rule) = self.rule_for(Some(flow.protocol), *flow.source.ip(), flow.destination) else {
            let dropped = Verdict::Drop(DropReason::NoConnection);
            return self.judge_unmatched(Some(flow.protocol), pair(flow), dropped, verdict);
        };
        if rule.is_exception() {
            return assert_eq!(verdict, Verdict::Pass);
        }
        // Where neither address would change there is nothing to translate.
        let unchanged = rule.keep_source && rule.leads_to(flow.protocol, flow.destination, flow.destination);
        if unchanged && verdict == Verdict::Pass {
            return;
        }
        if is_martian(*flow.source.ip()) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::MartianSource));
        }
        if [self.settings.alternative, self.settings.own].contains(flow.source.ip()) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OwnSource));
        }
        let state = match flow.protocol {
            Protocol::Tcp => {
                let flags = payload[13];
                let adopted = flags & (ACK | SYN | RST) == ACK;
                let default = if rule.masquerades() { Midstream::Adopt } else { Midstream::Pass };
                match self.settings.midstream.or(rule.midstream).unwrap_or(default) {
                    _ if flags & (SYN | ACK | RST) == SYN => State::Opening,
                    Midstream::Adopt if adopted => State::Established,
                    Midstream::Drop => return assert_eq!(verdict, Verdict::Drop(DropReason::Midstream)),
                    Midstream::Adopt if rule.masquerades() => {
                        return assert_eq!(verdict, Verdict::Drop(DropReason::Midstream));
                    }
                    _ => return assert_eq!(verdict, Verdict::Pass),
                }
            }
            Protocol::Icmp if payload[0] != 8 && rule.masquerades() => {
                return assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
            }
            Protocol::Icmp if payload[0] != 8 => return assert_eq!(verdict, Verdict::Pass),
            _ => State::Unanswered,
        };
        match verdict {
            Verdict::ToServer => {}
            Verdict::Drop(DropReason::ClientLimit) => {
                let limit = self.settings.client_limit;
                return assert!(limit != 0 && self.count(*flow.source.ip()) >= limit, "no limit was reached");
            }
            Verdict::Drop(DropReason::TableFull) => return assert!(self.may_be_full(), "there was room"),
            Verdict::Drop(DropReason::NoPort) => return assert!(self.may_lack_port(&rule, flow), "there was a port"),
            other => panic!("{other:?} for the first packet of a connection"),
        }
        let limit = self.settings.client_limit;
        let sweeping = !self.forgotten.is_empty();
        assert!(sweeping || limit == 0 || self.count(*flow.source.ip()) < limit, "beyond the client's limit");
        assert_eq!(incidents.opened.len(), 1, "a packet opens one connection");
        let told = incidents.opened.remove(0);
        assert_eq!((told.protocol, told.client_side, told.state), (flow.protocol, pair(flow), state));
        let server = told.server_side.destination;
        assert!(rule.leads_to(flow.protocol, flow.destination, server), "{server} is no server of its rule");
        self.rules.check_choice(&rule, *flow.source.ip(), flow, server);
        if rule.keep_source {
            assert_eq!(told.server_side.source, flow.source, "a source that is kept was changed");
        } else {
            self.check_alternative(told.server_side.source);
            let forwarded =
                flow.protocol != Protocol::Icmp && self.rules.forward(flow.protocol, told.server_side.source);
            assert!(!forwarded, "a port that is forwarded was given away");
        }
        self.check_unique(flow.protocol, told.client_side, told.server_side);
        self.check_kept_port(&rule, &told);
        let siblings = rule.siblings && flow.protocol == Protocol::Udp;
        self.add(&told, rule.keep_source, siblings);
        self.carry(self.connections.len() - 1, Way::There, before, after, verdict, incidents);
    }

    /// The rule that speaks of a packet; without a protocol it is one without ports.
    fn rule_for(&self, protocol: Option<Protocol>, source: Ipv4Addr, destination: SocketAddrV4) -> Option<Rule> {
        let to_alternative = *destination.ip() == self.settings.alternative;
        let in_range = self.settings.ports.contains(&destination.port());
        // A packet to our own address is no traffic to divert, unless a rule speaks of that very address, and of that
        // very port if it is one that we give away.
        let own = to_alternative || *destination.ip() == self.settings.own;
        let rule = self.rules.find(protocol, source, destination).cloned()?;
        // A prefix does not speak of this machine, nor of what is no host.
        let host = rule.is_host() || !(own || is_martian(*destination.ip()));
        let ported = !in_range || protocol == Some(Protocol::Icmp) || rule.port().is_some();
        (host && (!to_alternative || ported)).then_some(rule)
    }

    /// A packet that is never translated: it passes where no rule masquerades it.
    fn judge_other(&self, protocol: Option<Protocol>, (source, destination): (Ipv4Addr, Ipv4Addr), verdict: Verdict) {
        let ends = Pair { source: SocketAddrV4::new(source, 0), destination: SocketAddrV4::new(destination, 0) };
        let dropped = Verdict::Drop(DropReason::Untranslatable);
        match self.rule_for(protocol, source, ends.destination) {
            Some(rule) => assert_eq!(verdict, if rule.masquerades() { dropped } else { Verdict::Pass }),
            None => self.judge_unmatched(protocol, ends, dropped, verdict),
        }
    }

    /// A packet that belongs to no connection and that no rule matches: it passes, unless it would show the address of a
    /// server that hides behind a forward, or belongs to a connection that kept its source and has ended.
    fn judge_unmatched(&self, protocol: Option<Protocol>, ends: Pair, dropped: Verdict, verdict: Verdict) {
        let pass = Verdict::Pass;
        let client = *ends.destination.ip();
        if [self.settings.alternative, self.settings.own].contains(&client) || is_martian(client) {
            return assert_eq!(verdict, pass);
        }
        if self.hidden_by_forward(protocol, ends) {
            return assert_eq!(verdict, dropped);
        }
        // What has ended is remembered for a while, if there is room.
        let far = turned(ends);
        let same = |h: &Held| Some(h.protocol) == protocol && h.far == far && h.near.source == far.source;
        assert!(verdict == pass || (self.held.iter().any(same) && verdict == dropped), "{verdict:?}");
    }

    /// Whether a packet comes from where a port forward leads to that keeps the source.
    fn hidden_by_forward(&self, protocol: Option<Protocol>, ends: Pair) -> bool {
        self.rules.list.iter().any(|rule| {
            let original = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, rule.port().unwrap_or(0));
            let own = [self.settings.alternative, self.settings.own].map(Prefix::host);
            let m = rule.matches;
            rule.keep_source
                && own.contains(&m.destination())
                && self.settings.midstream.or(rule.midstream) != Some(Midstream::Pass)
                && m.limited_to().is_none_or(|p| Some(p) == protocol)
                && m.from_clients().contains(*ends.destination.ip())
                && rule.targets.iter().any(|t| match t.target {
                    Target::Same => false,
                    Target::Address(a) => SocketAddrV4::new(a, original.port()) == ends.source,
                    Target::Endpoint(e) => e == ends.source,
                })
        })
    }

    fn add(&mut self, told: &Connection, kept: bool, siblings: bool) {
        self.siblings_seen |= siblings;
        // What it held when it lived before is its own again: if a re-divert moves it, it leaves that and holds nothing.
        self.held.retain(|h| (h.protocol, h.far) != (told.protocol, told.server_side));
        self.connections.push(Conn {
            protocol: told.protocol,
            near: told.client_side,
            far: told.server_side,
            state: told.state,
            tcp: None,
            last: self.now,
            kept,
            siblings,
            followed: self.moves.len(),
            told: [false; 2],
            imported: false,
        });
    }

    fn check_unique(&self, protocol: Protocol, near: Pair, far: Pair) {
        let same = |c: &Conn| c.protocol == protocol && c.far == far;
        assert!(!self.connections.iter().any(same), "two connections with one alternative endpoint");
        let recent = |h: &Held| {
            h.protocol == protocol
                && h.far == far
                && h.near != near
                && self.now - h.since <= micros(TIMEOUTS.hold)
                && !self.crowded
        };
        assert!(!self.held.iter().any(recent), "an alternative endpoint was used again too early: {far}");
    }

    /// A client's port is kept where the configuration asks for it and it is free.
    fn check_kept_port(&self, rule: &Rule, told: &Connection) {
        let port = told.client_side.source.port();
        let wished = SocketAddrV4::new(self.settings.alternative, port);
        let far = Pair { source: wished, ..told.server_side };
        let taken = self.connections.iter().any(|c| c.protocol == told.protocol && c.far == far)
            || self.held.iter().any(|h| h.protocol == told.protocol && h.far == far)
            || self.rules.forward(told.protocol, wished)
            || rule.siblings
            || self.left
            || self.crowded;
        if self.settings.keep_port && !rule.keep_source && !taken && self.settings.ports.contains(&port) && port != 0 {
            assert_eq!(told.server_side.source, wished, "a port that was free was not kept");
        }
    }

    fn parent_of(&self, flow: Flow) -> Option<Conn> {
        let parent = self.alive().find(|c| {
            c.siblings
                && flow.protocol == Protocol::Udp
                && c.protocol == Protocol::Udp
                && c.far.source == flow.destination
                && c.far.destination.ip() == flow.source.ip()
        })?;
        // The client may have a connection of its own with that very endpoint: the answer cannot be told apart then.
        let near =
            Pair { destination: SocketAddrV4::new(*parent.near.destination.ip(), flow.source.port()), ..parent.near };
        let taken = self.alive().any(|c| c.protocol == Protocol::Udp && c.near == near);
        (!taken).then(|| parent.clone())
    }

    fn open_sibling(&mut self, parent: Conn, flow: Flow, before: &[u8], after: &[u8], incidents: &mut Incidents) {
        assert_eq!(incidents.opened.len(), 1, "a packet opens one connection");
        let told = incidents.opened.remove(0);
        let original = SocketAddrV4::new(*parent.near.destination.ip(), flow.source.port());
        assert_eq!(told.client_side, Pair { source: parent.near.source, destination: original });
        assert_eq!(told.server_side, Pair { source: flow.destination, destination: flow.source });
        assert_eq!((told.protocol, told.state), (Protocol::Udp, State::Unanswered));
        self.add(&told, parent.kept, false);
        self.carry(self.connections.len() - 1, Way::Back, before, after, Verdict::ToClient, incidents);
    }

    /// Connections of a client whose end was not told yet.
    fn count(&self, client: Ipv4Addr) -> u32 {
        self.connections.iter().filter(|c| *c.near.source.ip() == client && !is_over(c.state)).count() as u32
    }

    fn may_refuse(&self, client: Ipv4Addr) -> bool {
        self.may_be_full() || (self.settings.client_limit != 0 && self.count(client) >= self.settings.client_limit)
    }

    /// Whether there may be no room for a connection: nothing that may be given up is there. A second entry in the
    /// index for a server's other ports may find no room before that, also beside what is only held.
    fn may_be_full(&self) -> bool {
        let dear = self.connections.iter().filter(|c| !is_cheap(c)).count();
        dear >= self.settings.capacity || self.siblings_seen
    }

    fn may_lack_port(&self, rule: &Rule, flow: Flow) -> bool {
        if rule.keep_source {
            let same = |protocol, far: Pair| protocol == flow.protocol && far.source == flow.source;
            return self.connections.iter().any(|c| same(c.protocol, c.far))
                || self.held.iter().any(|h| same(h.protocol, h.far))
                || rule.siblings;
        }
        let taken =
            self.connections.iter().map(|c| (c.protocol, c.far)).chain(self.held.iter().map(|h| (h.protocol, h.far)));
        let servers = taken.filter(|(p, far)| {
            let server = far.destination;
            *p == flow.protocol && (rule.leads_to(flow.protocol, flow.destination, server) || rule.siblings)
        });
        let mut ports: Vec<u16> = servers.map(|(_, far)| far.source.port()).collect();
        ports.extend(self.settings.ports.clone().take(64).filter(|port| {
            let endpoint = SocketAddrV4::new(self.settings.alternative, *port);
            self.rules.forward(flow.protocol, endpoint)
        }));
        ports.sort_unstable();
        ports.dedup();
        // With three quarters in use an attempt fails once in 10^8, beyond that more often.
        ports.len() * 4 >= self.settings.ports.len() * 3
    }

    /// A connection has followed all re-diverts. One that was over has not moved, and nothing opens it again where it is.
    fn catch_up(&mut self, at: usize) {
        let followed = self.moves.len();
        let conn = &mut self.connections[at];
        if conn.followed != followed
            && let Some(tcp) = &mut conn.tcp
        {
            tcp.stay_behind();
        }
        conn.followed = followed;
    }

    /// A packet of a connection that is known.
    fn carry(&mut self, at: usize, way: Way, before: &[u8], after: &[u8], verdict: Verdict, incidents: &mut Incidents) {
        // A re-divert that was not followed yet would have been told.
        assert!(!self.is_behind(&self.connections[at]), "it did not follow a re-divert");
        self.catch_up(at);
        let (now, settings) = (self.now, self.settings.clone());
        let conn = &mut self.connections[at];
        let mut refreshing = way == Way::There || settings.refresh_from_server;
        let told = |c: &Conn| (c.protocol, c.near, c.far);
        if conn.protocol == Protocol::Tcp {
            let layout = layout(before).expect("it was parsed");
            let whole = word(before, 6) & 0x3fff == 0;
            let segment = tcp::segment(&before[layout.header..layout.total], whole);
            if conn.state == State::Resetting {
                if segment.flags & RST == 0 {
                    let sent = if way == Way::There { conn.near } else { turned(conn.far) };
                    let sequence = if segment.flags & ACK != 0 { segment.acknowledgment } else { 0 };
                    self.asked.push((turned(sent), (sequence, segment.end())));
                }
                return assert_eq!(verdict, Verdict::Drop(DropReason::Resetting));
            }
            let before = (conn.state, is_adopted(conn));
            let tcp = conn.tcp.get_or_insert_with(|| Tcp::new(segment));
            let reset = (segment.flags & RST != 0 && !is_over(conn.state)).then(|| tcp.reset(way, segment));
            let sign = if segment.flags & RST == 0 { tcp.follow(way, segment) } else { Sign::None };
            conn.state = tcp.state();
            refreshing &= sign == Sign::OfLife;
            if (conn.state, is_adopted(conn)) != before {
                // A state's time-out begins with the packet that brought it.
                conn.last = now;
            }
            if is_over(before.0) && !is_over(conn.state) {
                let opened = incidents.opened.pop().expect("it was opened again, and nobody was told");
                let is = (opened.protocol, opened.client_side, opened.server_side, opened.state);
                assert_eq!(is, (conn.protocol, conn.near, conn.far, conn.state));
            }
            if is_over(conn.state) && !is_over(before.0) {
                let end = incidents.finished.pop().expect("it is over, and nobody was told");
                let why = if reset.is_some() { Closed::Reset } else { Closed::Finished };
                assert_eq!((told(conn), end.1), ((end.0.protocol, end.0.client_side, end.0.server_side), why));
            }
            if reset == Some(Reset::Inexact) && settings.inexact_reset == InexactReset::Drop {
                return assert_eq!(verdict, Verdict::Drop(DropReason::InexactReset));
            }
        } else if way == Way::Back {
            conn.state = State::Answered;
        }
        if refreshing {
            conn.last = now;
        }
        let (expected, pair) = match way {
            Way::There => (Verdict::ToServer, conn.far),
            Way::Back => (Verdict::ToClient, Pair { source: conn.near.destination, destination: conn.near.source }),
        };
        assert_eq!(verdict, expected);
        let identification = identification(&settings, before, after);
        assert_eq!(after, rewritten(before, pair, identification), "not what it should have become");
    }
}

/// The ends of an answer.
fn turned(pair: Pair) -> Pair {
    Pair { source: pair.destination, destination: pair.source }
}

/// The identification that a packet should have now: any, where it may be fragmented and is to get one of its own.
fn identification(settings: &Settings, before: &[u8], after: &[u8]) -> u16 {
    let atomic = word(before, 6) & 0x4000 != 0 && word(before, 6) & 0x3fff == 0;
    word(if settings.rewrite_identification && !atomic { after } else { before }, 4)
}

fn pair(flow: Flow) -> Pair {
    Pair { source: flow.source, destination: flow.destination }
}

/// The packet with other addresses. A checksum that was right is computed anew from scratch; one that was wrong, or
/// that covers more than is there, must stay as far off as it was.
fn rewritten(before: &[u8], pair: Pair, identification: u16) -> Vec<u8> {
    let at = layout(before).expect("it was parsed");
    let mut new = before.to_vec();
    new[4..6].copy_from_slice(&identification.to_be_bytes());
    new[12..16].copy_from_slice(&pair.source.ip().octets());
    new[16..20].copy_from_slice(&pair.destination.ip().octets());
    let ports = at.header;
    match before[9] {
        TCP | UDP => {
            new[ports..ports + 2].copy_from_slice(&pair.source.port().to_be_bytes());
            new[ports + 2..ports + 4].copy_from_slice(&pair.destination.port().to_be_bytes());
        }
        _ => {
            let identifier = pair.source.port() | pair.destination.port();
            new[ports + 4..ports + 6].copy_from_slice(&identifier.to_be_bytes());
        }
    }
    follow_checksums(before, &mut new);
    new
}

/// Gives `new` the checksums that are as right or as wrong as those of `before`.
fn follow_checksums(before: &[u8], new: &mut [u8]) {
    let at = layout(before).expect("it was parsed");
    let old = packet::sums(before, at);
    let header = packet::as_far_off(old.header, |field| {
        new[10..12].copy_from_slice(&field.to_be_bytes());
        packet::sums(new, at).header
    });
    new[10..12].copy_from_slice(&header.to_be_bytes());
    if before[9] == ICMP && before[at.header..] == new[at.header..] {
        return;
    }
    if let (Some(old), Some(field)) = (old.transport, packet::checksum_place(before[9]).map(|f| at.header + f)) {
        let checksum = packet::as_far_off(old, |value| {
            new[field..field + 2].copy_from_slice(&value.to_be_bytes());
            packet::transport_sum(new, at).unwrap_or(0)
        });
        let written = if before[9] == UDP && checksum == 0 { 0xffff } else { checksum };
        new[field..field + 2].copy_from_slice(&written.to_be_bytes());
    }
}

impl Model {
    /// Whether a packet to this address can be of ours at all. The library may think so of a few more.
    fn concerns(&self, destination: Ipv4Addr) -> bool {
        destination == self.settings.alternative || self.rules.speak_of(destination)
    }

    /// Range in units of 8 octets, or `None` if a fragment contradicts itself.
    fn units(packet: &[u8]) -> Option<(u16, u16)> {
        let at = layout(packet)?;
        let (start, length) = (word(packet, 6) & 0x1fff, at.total - at.header);
        let more = word(packet, 6) & 0x2000 != 0;
        let too_long = usize::from(start) * 8 + length + at.header > 65_535;
        if length == 0 || (more && length % 8 != 0) || too_long {
            return None;
        }
        Some((start, start + length.div_ceil(8) as u16))
    }

    /// What is known of a fragment's datagram. What is complete is known for a moment only, so that copies of its
    /// fragments are told from those of the next datagram with its identification.
    fn note_of(&self, packet: &[u8]) -> Option<usize> {
        let key = (address(packet, 12), address(packet, 16), packet[9], word(packet, 4));
        let limit = |n: &Note| if n.is_complete() { REPEATED } else { micros(TIMEOUTS.fragment) };
        self.notes.iter().position(|n| n.key == key && self.now - n.last <= limit(n))
    }

    /// What speaks against a first fragment: if one came a moment ago and the datagram is not complete, it is a copy.
    /// Otherwise the sender has begun another datagram.
    fn against_first(&self, packet: &[u8], verdict: Verdict) -> Option<DropReason> {
        let Some((start, end)) = Self::units(packet) else {
            return Some(DropReason::MalformedIpv4);
        };
        let known = self.note_of(packet).map(|n| &self.notes[n]);
        let known = known.filter(|n| !n.is_complete() && self.now - n.last <= REPEATED);
        let seen = known.is_some_and(|n| (start..end).any(|u| n.seen.contains(&u)));
        let sure = known.is_some_and(|n| n.sure);
        (seen && (sure || verdict == Verdict::Drop(DropReason::OverlappingFragment)))
            .then_some(DropReason::OverlappingFragment)
    }

    /// A first fragment has gone its way: later ones follow it.
    fn learn(&mut self, before: &[u8], after: &[u8], verdict: Verdict) {
        let Some((start, end)) = Self::units(before) else {
            return;
        };
        let key = (address(before, 12), address(before, 16), before[9], word(before, 4));
        match verdict {
            // It was not looked at as far as its datagram.
            Verdict::Drop(
                DropReason::OverlappingFragment
                | DropReason::TinyFragment
                | DropReason::MalformedIpv4
                | DropReason::MalformedTransport,
            ) => return,
            // What follows it must not follow the first one of an older datagram.
            Verdict::Drop(_) => return self.notes.retain(|n| n.key != key),
            _ => self.notes.retain(|n| n.key != key),
        }
        let out = (address(after, 12), address(after, 16), word(after, 4));
        let sure = verdict != Verdict::Pass || self.concerns(key.1);
        self.notes.push(Note { key, verdict, out, seen: (start..end).collect(), end: None, last: self.now, sure });
    }

    fn judge_later(&mut self, before: &[u8], after: &[u8], verdict: Verdict, concerned: bool) {
        let refused = |reason| verdict == Verdict::Drop(reason) || (!concerned && verdict == Verdict::Pass);
        // It reaches into the TCP header (RFC 3128).
        let reaches = before[9] == TCP && word(before, 6) & 0x1fff == 1;
        if reaches && (concerned || verdict == Verdict::Drop(DropReason::OverlappingFragment)) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OverlappingFragment));
        }
        let Some((start, end)) = Self::units(before) else {
            return assert!(refused(DropReason::MalformedIpv4), "{verdict:?}");
        };
        let Some(note) = self.note_of(before) else {
            let either =
                !concerned && matches!(verdict, Verdict::Hold | Verdict::Drop(DropReason::OverlappingFragment));
            let expected = if concerned { Verdict::Hold } else { Verdict::Pass };
            return assert!(either || verdict == expected, "{verdict:?} for a fragment without a first one");
        };
        let is_known = self.notes[note].verdict == Verdict::ToServer;
        if !self.notes[note].sure || (!concerned && !is_known && verdict == Verdict::Pass) {
            // It may have been taken note of all the same.
            let now = self.now;
            let note = &mut self.notes[note];
            (note.sure, note.last) = (false, now);
            note.seen.extend(start..end);
            return assert!(!matches!(verdict, Verdict::ToServer | Verdict::ToClient));
        }
        let now = self.now;
        let note = &mut self.notes[note];
        let is_last = word(before, 6) & 0x2000 == 0;
        let beyond = match note.end {
            Some(known) => is_last || end > known,
            None => is_last && note.seen.iter().any(|unit| *unit >= end),
        };
        if beyond || (start..end).any(|unit| note.seen.contains(&unit)) {
            return assert!(refused(DropReason::OverlappingFragment), "{verdict:?}");
        }
        let mut seen = note.seen.clone();
        seen.extend(start..end);
        seen.sort_unstable();
        let pieces = 1 + seen.windows(2).filter(|w| w[0] + 1 != w[1]).count();
        // The first one and eleven behind it.
        if pieces > 12 {
            return assert!(refused(DropReason::ScatteredFragment), "{verdict:?}");
        }
        (note.seen, note.last) = (seen, now);
        note.end = note.end.or(is_last.then_some(end));
        assert_eq!(verdict, note.verdict, "a later fragment goes where the first one went");
        if verdict != Verdict::Pass {
            let mut new = before.to_vec();
            new[4..6].copy_from_slice(&note.out.2.to_be_bytes());
            new[12..16].copy_from_slice(&note.out.0.octets());
            new[16..20].copy_from_slice(&note.out.1.octets());
            follow_checksums(before, &mut new);
            assert_eq!(after, new, "not what the first fragment became");
        }
    }

    /// An ICMP error.
    fn judge_error(&mut self, before: &[u8], after: &[u8], verdict: Verdict, incidents: &Incidents) {
        let at = layout(before).expect("it was parsed");
        let (source, destination) = (address(before, 12), address(before, 16));
        let message = &before[at.header..at.total];
        let concerned = self.concerns(destination) || self.connections.iter().any(|c| c.kept);
        let refused = |reason| verdict == Verdict::Drop(reason) || (!concerned && verdict == Verdict::Pass);
        if packet::sum(&[message]) != 0xffff {
            return assert!(refused(DropReason::IcmpChecksum), "{verdict:?}");
        }
        let quote = &message[8..];
        let inner = usize::from(quote.first().copied().unwrap_or(0) & 15) * 4;
        if quote.len() < 20 || quote[0] >> 4 != 4 || inner < 20 || quote.len() < inner {
            return assert!(refused(DropReason::MalformedTransport), "{verdict:?}");
        }
        if packet::sum(&[&quote[..inner]]) != 0xffff {
            return assert!(refused(DropReason::IcmpChecksum), "{verdict:?}");
        }
        if word(quote, 6) & 0x1fff != 0 {
            return self.judge_unrelated(None, (source, destination), verdict);
        }
        let first = &quote[inner..];
        if first.len() < 8 {
            return assert!(refused(DropReason::MalformedTransport), "{verdict:?}");
        }
        let (protocol, ports) = match (quote[9], first[0]) {
            (TCP, _) => (Protocol::Tcp, (word(first, 0), word(first, 2))),
            (UDP, _) => (Protocol::Udp, (word(first, 0), word(first, 2))),
            (ICMP, 8) => (Protocol::Icmp, (word(first, 4), 0)),
            (ICMP, 0) => (Protocol::Icmp, (0, word(first, 4))),
            _ => return self.judge_unrelated(None, (source, destination), verdict),
        };
        if address(quote, 12) != destination {
            return assert!(refused(DropReason::IcmpUnrelated), "{verdict:?}");
        }
        if is_martian(source) {
            return assert!(refused(DropReason::MartianSource), "{verdict:?}");
        }
        if [self.settings.alternative, self.settings.own].contains(&source) {
            return assert!(refused(DropReason::OwnSource), "{verdict:?}");
        }
        let quoted = Pair {
            source: SocketAddrV4::new(address(quote, 12), ports.0),
            destination: SocketAddrV4::new(address(quote, 16), ports.1),
        };
        let about = |p: Pair| Flow { protocol, source: p.source, destination: p.destination };
        let turned = Pair { source: quoted.destination, destination: quoted.source };
        let old = |c: &Conn| c.protocol == protocol && c.far == quoted;
        if incidents.moved.iter().any(old) && self.find_far(about(turned)).is_none() {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OldServer));
        }
        let gone = |c: &Conn| c.protocol == protocol && (c.far == quoted || c.near == turned);
        if incidents.stranded.iter().any(gone) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::NoPort));
        }
        if incidents.home.iter().any(gone) {
            return assert_eq!(verdict, Verdict::Drop(DropReason::IcmpUnrelated));
        }
        let (expected, new_quoted, ends) = if let Some(at) = self.find_far(about(turned)) {
            self.catch_up(at);
            let c = &self.connections[at];
            let from = if source == *c.far.destination.ip() { *c.near.destination.ip() } else { source };
            (Verdict::ToClient, c.near, (from, *c.near.source.ip()))
        } else if let Some(at) = self.find_near(about(turned)) {
            self.catch_up(at);
            let c = &self.connections[at];
            let quoted = Pair { source: c.far.destination, destination: c.far.source };
            (Verdict::ToServer, quoted, (*c.far.source.ip(), *c.far.destination.ip()))
        } else {
            let ours = destination == self.settings.alternative && self.settings.ports.contains(&quoted.source.port());
            if ours {
                return assert_eq!(verdict, Verdict::Drop(DropReason::IcmpUnrelated));
            }
            return self.judge_unrelated(Some(about(turned)), (source, destination), verdict);
        };
        assert_eq!(verdict, expected);
        self.check_error(before, after, new_quoted, ends);
    }

    /// An error about no connection: it passes, but not where its own source or that of the packet that would answer the
    /// quoted one is hidden.
    fn judge_unrelated(&self, answer: Option<Flow>, (source, destination): (Ipv4Addr, Ipv4Addr), verdict: Verdict) {
        let dropped = Verdict::Drop(DropReason::IcmpUnrelated);
        let own = Flow {
            protocol: Protocol::Icmp,
            source: SocketAddrV4::new(source, 0),
            destination: SocketAddrV4::new(destination, 0),
        };
        let flows = || answer.into_iter().chain([own]);
        let found = |flow: &Flow| self.rule_for(Some(flow.protocol), *flow.source.ip(), flow.destination);
        if flows().any(|flow| found(&flow).is_some_and(|rule| rule.masquerades())) {
            return assert_eq!(verdict, dropped);
        }
        let may = |flow: Flow| {
            let far = Pair { source: flow.destination, destination: flow.source };
            let ended = self.held.iter().any(|h| h.protocol == flow.protocol && h.far == far);
            found(&flow).is_none() && (ended || self.hidden_by_forward(Some(flow.protocol), pair(flow)))
        };
        assert!(verdict == Verdict::Pass || (verdict == dropped && flows().any(may)), "{verdict:?}");
    }

    /// Whether an ICMP error became what it should have.
    fn check_error(&self, before: &[u8], after: &[u8], quoted: Pair, (source, destination): (Ipv4Addr, Ipv4Addr)) {
        let at = layout(before).expect("it was parsed");
        let mut new = before.to_vec();
        new[4..6].copy_from_slice(&identification(&self.settings, before, after).to_be_bytes());
        new[12..16].copy_from_slice(&source.octets());
        new[16..20].copy_from_slice(&destination.octets());
        let quote = at.header + 8;
        let inner = quote + usize::from(before[quote] & 15) * 4;
        let protocol = before[quote + 9];
        new[quote + 12..quote + 16].copy_from_slice(&quoted.source.ip().octets());
        new[quote + 16..quote + 20].copy_from_slice(&quoted.destination.ip().octets());
        if protocol == ICMP {
            let identifier = quoted.source.port() | quoted.destination.port();
            new[inner + 4..inner + 6].copy_from_slice(&identifier.to_be_bytes());
        } else {
            new[inner..inner + 2].copy_from_slice(&quoted.source.port().to_be_bytes());
            new[inner + 2..inner + 4].copy_from_slice(&quoted.destination.port().to_be_bytes());
        }
        new[quote + 10..quote + 12].fill(0);
        let header = !packet::sum(&[&new[quote..inner]]);
        new[quote + 10..quote + 12].copy_from_slice(&header.to_be_bytes());
        // The quoted transport's checksum covers more than is quoted: it must be as far off as it was.
        let field = inner + packet::checksum_place(protocol).expect("it belongs to a connection");
        if field + 2 <= at.total && !(protocol == UDP && word(before, field) == 0) {
            let covered = |p: &[u8]| {
                let pseudo = if protocol == ICMP { Vec::new() } else { p[quote + 12..quote + 20].to_vec() };
                packet::sum(&[&pseudo, &p[inner..at.total]])
            };
            let old = covered(before);
            let checksum = packet::as_far_off(old, |value| {
                new[field..field + 2].copy_from_slice(&value.to_be_bytes());
                covered(&new)
            });
            let written = if protocol == UDP && checksum == 0 { 0xffff } else { checksum };
            // One's complement has two zeros; which of them stands in the quote is nobody's business, unless all that is
            // quoted are zeros.
            let theirs = word(after, field);
            assert!(packet::same_sum(theirs, written), "the quoted checksum: {theirs:#x}, not {written:#x}");
            let renamed = before[inner..inner + 8] != new[inner..inner + 8];
            assert!(!renamed || written != 0xffff || theirs == written, "the quoted checksum of nothing but zeros");
            new[field..field + 2].copy_from_slice(&theirs.to_be_bytes());
        }
        new[10..12].fill(0);
        packet::fill_checksums(&mut new);
        if packet::sums(before, at).header != 0xffff {
            new[10..12].copy_from_slice(&after[10..12]);
            assert!(packet::same_sum(packet::sums(before, at).header, packet::sums(after, at).header));
        }
        let own = at.header + 2;
        assert!(packet::same_sum(word(&new, own), word(after, own)), "the error's own checksum");
        new[own..own + 2].copy_from_slice(&after[own..own + 2]);
        assert_eq!(after, new, "not what the error should have become");
    }

    /// A packet that the translator says itself.
    pub fn said(&mut self, packet: &[u8], to_client: bool) {
        let at = layout(packet).expect("it says what no host would read");
        let sums = packet::sums(packet, at);
        assert_eq!((sums.header, sums.transport), (0xffff, Some(0xffff)), "a wrong checksum of our own");
        match packet[9] {
            TCP => {
                let segment = &packet[at.header..at.total];
                assert_eq!(segment[13] & RST, RST, "it says nothing but RSTs over TCP");
                let source = SocketAddrV4::new(address(packet, 12), word(segment, 0));
                let destination = SocketAddrV4::new(address(packet, 16), word(segment, 2));
                let seen = |c: &Conn| {
                    if to_client { Pair { source: c.near.destination, destination: c.near.source } } else { c.far }
                };
                for conn in self.connections.iter_mut().filter(|c| c.state == State::Resetting) {
                    conn.told[usize::from(to_client)] |= seen(conn) == Pair { source, destination };
                }
                let mut about = self.ended_here.iter().filter(|e| seen(&e.conn) == Pair { source, destination });
                let numbers = (long(segment, 4), long(segment, 8));
                // Behind what was sent, or, after a silence, what the other end has acknowledged of it. What it acknowledges
                // matters to a client that has only sent a SYN.
                let due = |[client, server]: [u32; 2]| if to_client { (server, client) } else { (client, server) };
                let said = |e: &Ended| e.sent.iter().any(|sent| due(*sent) == numbers);
                let exact = about.any(said) || self.asked.contains(&(Pair { source, destination }, numbers));
                assert!(exact, "a RST with numbers that nobody expects: {numbers:?}, {source} -> {destination}");
            }
            ICMP => assert!(to_client && packet[at.header] == 3 && packet[at.header + 1] == 13),
            other => panic!("it says something over protocol {other}"),
        }
    }
}
