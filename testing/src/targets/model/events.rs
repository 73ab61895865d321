//! What events say of connections: whether each of them was legal, and what the model learns from it.

use core::net::SocketAddrV4;

use byway::{Closed, Connection, Event, Pair, Protocol, State};

use super::{Conn, Ended, Held, Incidents, Model, is_cheap, is_over, timeout};

impl Model {
    /// Takes in what the events of a step say, and checks that each of them was legal.
    pub(super) fn hear(&mut self, events: &[Event], may_open: bool) -> Incidents {
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
                            // It went back to its original destination, and nothing is left to translate.
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
            Some(tcp) => tcp.sent_before_reset(),
            None => vec![[0; 2]],
        };
        self.ended_here.push(Ended { conn, sent });
    }

    /// Every connection is forgotten: no packet belongs to one of them any more. Their ends may be told later.
    pub fn forget(&mut self) {
        let now = self.now;
        self.forgetting = true;
        // A forgotten connection whose end is not told yet, and that has timed out since, is as dead as any other.
        for (conn, alive) in core::mem::take(&mut self.forgotten) {
            let alive = alive && self.is_alive(&conn);
            self.forgotten.push((conn, alive));
        }
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

    pub(super) fn check_alternative(&self, source: SocketAddrV4) {
        assert_eq!(*source.ip(), self.settings.alternative);
        assert!(self.settings.ports.contains(&source.port()), "a port out of the range: {source}");
    }

    /// A step that is no packet: it may move and end connections, but opens none.
    pub fn quiet_step(&mut self, events: &[Event]) {
        let incidents = self.hear(events, false);
        assert!(incidents.finished.is_empty(), "no packet came, and yet it finished");
    }
}
