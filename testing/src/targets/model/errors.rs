//! ICMP errors, and what they quote.

use core::net::{Ipv4Addr, SocketAddrV4};

use byway::{DropReason, Pair, Protocol, Verdict};
use byway_testing::packet::{self, ICMP, TCP, UDP, address, layout, word};

use super::rewriting::{identification, pair};
use super::rules::is_martian;
use super::{Conn, Flow, Incidents, Model};

impl Model {
    /// An ICMP error.
    pub(super) fn judge_error(&mut self, before: &[u8], after: &[u8], verdict: Verdict, incidents: &Incidents) {
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
            // Behind a port forward the routers are inside.
            let forwarded = [self.settings.alternative, self.settings.own].contains(c.near.destination.ip());
            let hidden = forwarded || source == *c.far.destination.ip();
            let from = if hidden { *c.near.destination.ip() } else { source };
            (Verdict::ToClient, c.near, (from, *c.near.source.ip()))
        } else if let Some(at) = self.find_near(about(turned)) {
            self.catch_up(at);
            let c = &self.connections[at];
            let quoted = Pair { source: c.far.destination, destination: c.far.source };
            // Where the source is kept, routers on the client's side keep theirs.
            let from = if c.kept { source } else { *c.far.source.ip() };
            (Verdict::ToServer, quoted, (from, *c.far.destination.ip()))
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
            // One's complement has two zeros; which of them stands in the quote does not matter, unless all that is quoted are
            // zeros.
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
}
