//! Packets that belong to no connection: what opens one, what passes, and what may be refused.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{Connection, DropReason, Midstream, Pair, Prefix, Protocol, State, Target, Verdict};
use byway_testing::packet::{ACK, RST, SYN, layout};

use super::rewriting::{pair, turned};
use super::rules::{Rule, is_martian};
use super::tcp::Way;
use super::{Conn, Flow, Held, Incidents, Model, TIMEOUTS, is_cheap, is_over, micros};

impl Model {
    /// A packet of a client that belongs to no connection.
    pub(super) fn open(
        &mut self,
        flow: Flow,
        before: &[u8],
        after: &[u8],
        verdict: Verdict,
        incidents: &mut Incidents,
    ) {
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
        assert!(self.forgetting || limit == 0 || self.count(*flow.source.ip()) < limit, "beyond the client's limit");
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

    /// The rule that matches a packet; without `protocol`, a packet without ports.
    pub(super) fn rule_for(
        &self,
        protocol: Option<Protocol>,
        source: Ipv4Addr,
        destination: SocketAddrV4,
    ) -> Option<Rule> {
        let to_alternative = *destination.ip() == self.settings.alternative;
        let in_range = self.settings.ports.contains(&destination.port());
        // A packet to our own address is not diverted, unless a rule names that very address, and that very port if it is one
        // that we give away.
        let own = to_alternative || *destination.ip() == self.settings.own;
        let rule = self.rules.find(protocol, source, destination).cloned()?;
        // A rule for a prefix does not match this machine, nor addresses that no host can have.
        let host = rule.is_host() || !(own || is_martian(*destination.ip()));
        let ported = !in_range || protocol == Some(Protocol::Icmp) || rule.port().is_some();
        (host && (!to_alternative || ported)).then_some(rule)
    }

    /// A packet that is never translated: it passes where no rule masquerades it.
    pub(super) fn judge_other(
        &self,
        protocol: Option<Protocol>,
        (source, destination): (Ipv4Addr, Ipv4Addr),
        verdict: Verdict,
    ) {
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
    pub(super) fn hidden_by_forward(&self, protocol: Option<Protocol>, ends: Pair) -> bool {
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
            unconfirmed: false,
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

    pub(super) fn parent_of(&self, flow: Flow) -> Option<Conn> {
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

    pub(super) fn open_sibling(
        &mut self,
        parent: Conn,
        flow: Flow,
        before: &[u8],
        after: &[u8],
        incidents: &mut Incidents,
    ) {
        assert_eq!(incidents.opened.len(), 1, "a packet opens one connection");
        let told = incidents.opened.remove(0);
        let original = SocketAddrV4::new(*parent.near.destination.ip(), flow.source.port());
        assert_eq!(told.client_side, Pair { source: parent.near.source, destination: original });
        assert_eq!(told.server_side, Pair { source: flow.destination, destination: flow.source });
        assert_eq!((told.protocol, told.state), (Protocol::Udp, State::Unanswered));
        self.add(&told, parent.kept, false);
        let conn = self.connections.last_mut().expect("it was added");
        conn.unconfirmed = true;
        // However many ports the server sends from, it takes few places while the client answers none of them.
        let ends = |near: Pair, far: Pair| (near.source, *near.destination.ip(), far.source, *far.destination.ip());
        let waiting = |c: &&Conn| c.unconfirmed && ends(c.near, c.far) == ends(told.client_side, told.server_side);
        assert!(self.alive().filter(waiting).count() <= 4, "a server has opened too many connections");
        self.carry(self.connections.len() - 1, Way::Back, before, after, Verdict::ToClient, incidents);
    }

    /// Connections of a client whose end was not told yet.
    pub(super) fn count(&self, client: Ipv4Addr) -> u32 {
        self.connections.iter().filter(|c| *c.near.source.ip() == client && !is_over(c.state)).count() as u32
    }

    pub(super) fn may_refuse(&self, client: Ipv4Addr) -> bool {
        self.may_be_full() || (self.settings.client_limit != 0 && self.count(client) >= self.settings.client_limit)
    }

    /// Whether there may be no room for a connection: nothing that may be given up is there. With a second entry in the
    /// index for a server's other ports there may be fewer connections than there is room for.
    fn may_be_full(&self) -> bool {
        let dear = self.connections.iter().filter(|c| !is_cheap(c)).count();
        dear >= self.settings.capacity || (self.siblings_seen && dear == self.connections.len())
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
}
