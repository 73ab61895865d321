//! A packet and its verdict: what kind of packet it is, and which connection it belongs to.

use core::net::SocketAddrV4;

use byway::{Closed, DropReason, Event, InexactReset, Pair, Protocol, State, Verdict};
use byway_testing::packet::{ACK, ICMP, RST, SYN, TCP, UDP, address, layout, word};

use super::rewriting::{identification, pair, rewritten, turned};
use super::tcp::{Reset, Sign, Tcp, Way};
use super::{Conn, Flow, Held, Incidents, Model, is_adopted, is_over, tcp};

impl Model {
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
        // A packet to an alternative address belongs to the way back; every other is looked up as one of the way there,
        // and only then as an answer to a client that keeps its address. What a SYN ends there is over whatever follows.
        let to_alternative = *flow.destination.ip() == self.settings.alternative;
        let near = if to_alternative { None } else { self.near_and_not_anew(flow, payload, incidents) };
        let late = |c: &Conn| c.far == Pair { source: flow.destination, destination: flow.source };
        if incidents.moved.iter().any(|c| c.protocol == flow.protocol && late(c)) && self.find_far(flow).is_none() {
            return assert_eq!(verdict, Verdict::Drop(DropReason::OldServer));
        }
        let of = |c: &Conn| c.protocol == flow.protocol && (late(c) || c.near == pair(flow));
        if incidents.stranded.iter().any(of) && self.find_far(flow).or(self.find_near(flow)).is_none() {
            return assert_eq!(verdict, Verdict::Drop(DropReason::NoPort));
        }
        if let Some(conn) = near {
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

    /// A connection has followed all re-diverts. One that was over has not moved, and nothing opens it again where it is.
    pub(super) fn catch_up(&mut self, at: usize) {
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
    pub(super) fn carry(
        &mut self,
        at: usize,
        way: Way,
        before: &[u8],
        after: &[u8],
        verdict: Verdict,
        incidents: &mut Incidents,
    ) {
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
        } else if conn.unconfirmed && way == Way::Back {
            // The server alone does not keep it alive.
            refreshing = false;
        } else if conn.unconfirmed || way == Way::Back {
            // Both ends have been heard.
            conn.unconfirmed = false;
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
