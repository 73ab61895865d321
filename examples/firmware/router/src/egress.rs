//! The way out: route, MTU, next hop, wire.

use core::net::Ipv4Addr;

use smoltcp::time::Instant;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use crate::arp::{Cache, Deposit, Due, Hop, Lookup};
use crate::config::{Config, Interface};
use crate::counters::{Counters, Reason, bump};
use crate::icmp::{Error, MAX_ERROR, Quote, RateLimit};
use crate::ipv4::{Fragments, Header};
use crate::{ETHERNET_HEADER, MAX_FRAME, Wires};

const ARP: usize = 28;

/// What is needed to send a packet somewhere.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    cache: Cache,
    limit: RateLimit,
    /// Where a packet is cut into pieces.
    piece: [u8; MAX_FRAME],
}

impl Egress {
    pub(crate) const fn new(now: Instant, config: Config) -> Self {
        Self {
            config,
            counters: Counters::ZERO,
            cache: Cache::new(),
            limit: RateLimit::new(now),
            piece: [0; MAX_FRAME],
        }
    }

    /// Whether `address` is one of the router's own.
    pub(crate) fn is_own(&self, address: Ipv4Addr) -> bool {
        self.config.interfaces.iter().any(|foot| foot.address.address() == address)
    }

    /// Whether `address` is the directed broadcast or the network address of one of the subnets.
    pub(crate) fn is_edge(&self, address: Ipv4Addr) -> bool {
        self.config.interfaces.iter().any(|foot| foot.is_edge(address))
    }

    /// The next hop towards `destination`: itself on one of the subnets, or else the gateway.
    fn route(&self, destination: Ipv4Addr) -> Option<(Hop, Interface)> {
        [Some(destination), self.config.gateway].into_iter().flatten().find_map(|address| {
            let mut feet = self.config.interfaces.iter().enumerate();
            let (interface, foot) = feet.find(|(_, foot)| foot.has_host(address))?;
            Some((Hop { interface, address }, *foot))
        })
    }

    /// Sends a packet that starts after the room for its Ethernet header. With a `quote`, whoever sent it hears about
    /// what goes wrong.
    pub(crate) fn send(&mut self, now: Instant, frame: &mut [u8], quote: Option<&Quote>, wires: &mut impl Wires) {
        let Some(header) = frame.get(ETHERNET_HEADER..).and_then(Header::read) else {
            self.counters.count(Reason::Ipv4);
            return;
        };
        let Some((hop, foot)) = self.route(header.destination) else {
            self.counters.count(Reason::NoRoute);
            return self.report(now, Error::NetUnreachable, quote, wires);
        };
        let mtu = foot.packet_limit();
        if header.total_len > mtu && header.dont_fragment() {
            self.counters.count(Reason::TooBig);
            return self.report(now, Error::TooBig { mtu }, quote, wires);
        }
        match self.cache.lookup(now, hop) {
            Lookup::Known(mac) => deliver(&mut self.counters, &mut self.piece, &foot, mac, frame, wires),
            Lookup::Aging(mac) => {
                self.ask(hop, Some(mac), wires);
                deliver(&mut self.counters, &mut self.piece, &foot, mac, frame, wires);
            }
            Lookup::Unknown => match self.cache.deposit(now, hop, frame, quote) {
                Deposit::Ask => self.ask(hop, None, wires),
                Deposit::Displaced => self.counters.count(Reason::Displaced),
                Deposit::Full => self.counters.count(Reason::ArpBusy),
            },
        }
    }

    /// Tells the sender of a packet what is wrong with it, if it may be told.
    pub(crate) fn report(&mut self, now: Instant, error: Error, quote: Option<&Quote>, wires: &mut impl Wires) {
        let Some(quote) = quote else { return };
        let Some(to) = quote.answer_to() else { return };
        let Some((_, foot)) = self.route(to) else { return };
        let from = foot.address.address();
        if !self.limit.take(now) {
            return self.counters.count(Reason::IcmpLimited);
        }
        let mut frame = [0; ETHERNET_HEADER + MAX_ERROR];
        let Some(len) = error.write(from, to, quote, &mut frame[ETHERNET_HEADER..]) else { return };
        bump(&mut self.counters.icmp_errors);
        // Nobody is told what goes wrong with this one: it is itself an error.
        self.send(now, &mut frame[..ETHERNET_HEADER + len], None, wires);
    }

    /// Takes an ARP packet that came on `wire` (RFC 826).
    pub(crate) fn receive_arp(&mut self, now: Instant, wire: usize, bytes: &[u8], wires: &mut impl Wires) {
        let arp = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: mac,
            source_protocol_addr: sender,
            target_protocol_addr: target,
            ..
        }) = arp
        else {
            return self.counters.count(Reason::Arp);
        };
        let feet = &self.config.interfaces;
        let here = feet.iter().enumerate().find(|(_, foot)| foot.wire == wire && foot.address.contains_addr(&sender));
        let Some((interface, foot)) = here else {
            // Also a probe for a duplicate, whose sender is 0.0.0.0 (RFC 5227): it is answered if it is for us.
            let asked = feet.iter().position(|foot| foot.wire == wire && foot.address.address() == target);
            match asked {
                Some(interface)
                    if sender.is_unspecified() && mac.is_unicast() && operation == ArpOperation::Request =>
                {
                    self.answer(Hop { interface, address: sender }, mac, target, wires);
                }
                _ => self.counters.count(Reason::Arp),
            }
            return;
        };
        if sender == foot.address.address() {
            return self.counters.count(Reason::ArpConflict);
        }
        if !mac.is_unicast() || !foot.has_host(sender) {
            return self.counters.count(Reason::Arp);
        }
        let to_us = target == foot.address.address();
        let hop = Hop { interface, address: sender };
        let foot = *foot;
        if let Some(frame) = self.cache.heard(now, hop, mac, to_us) {
            deliver(&mut self.counters, &mut self.piece, &foot, mac, frame, wires);
        }
        if to_us && operation == ArpOperation::Request {
            self.answer(hop, mac, foot.address.address(), wires);
        }
    }

    fn answer(&mut self, hop: Hop, mac: EthernetAddress, asked: Ipv4Addr, wires: &mut impl Wires) {
        let Some(foot) = self.config.interfaces.get(hop.interface) else { return };
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: foot.mac,
            source_protocol_addr: asked,
            target_hardware_addr: mac,
            target_protocol_addr: hop.address,
        };
        send_arp(&mut self.counters, foot, mac, reply, wires);
    }

    /// Asks who has an address: everybody, or, to hear whether it is still there, the host that had it.
    fn ask(&mut self, hop: Hop, had_it: Option<EthernetAddress>, wires: &mut impl Wires) {
        let Some(foot) = self.config.interfaces.get(hop.interface) else { return };
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: foot.mac,
            source_protocol_addr: foot.address.address(),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: hop.address,
        };
        send_arp(&mut self.counters, foot, had_it.unwrap_or(EthernetAddress::BROADCAST), request, wires);
    }

    /// Asks again for next hops that have not answered, and gives up those that will not.
    pub(crate) fn poll(&mut self, now: Instant, wires: &mut impl Wires) {
        while let Some(due) = self.cache.poll(now) {
            match due {
                Due::Ask(hop) => self.ask(hop, None, wires),
                Due::GaveUp(quote) => {
                    self.counters.count(Reason::NoNextHop);
                    self.report(now, Error::HostUnreachable, quote.as_ref(), wires);
                }
            }
        }
    }

    pub(crate) fn poll_at(&self) -> Option<Instant> {
        self.cache.poll_at()
    }
}

/// Sends a frame to a next hop that is known; in pieces, if it is longer than the link takes.
fn deliver(
    counters: &mut Counters,
    piece: &mut [u8; MAX_FRAME],
    foot: &Interface,
    to: EthernetAddress,
    frame: &mut [u8],
    wires: &mut impl Wires,
) {
    let mtu = foot.packet_limit();
    if frame.len() <= ETHERNET_HEADER + mtu {
        address(frame, foot.mac, to);
        return transmit(counters, foot.wire, frame, wires);
    }
    let mut fragments = match Fragments::of(&frame[ETHERNET_HEADER..], mtu) {
        Ok(fragments) => fragments,
        Err(reason) => return counters.count(reason),
    };
    address(piece, foot.mac, to);
    while let Some(len) = fragments.next_into(&mut piece[ETHERNET_HEADER..]) {
        transmit(counters, foot.wire, &piece[..ETHERNET_HEADER + len], wires);
    }
}

/// Writes the link addresses of a frame that carries IPv4.
fn address(frame: &mut [u8], from: EthernetAddress, to: EthernetAddress) {
    let repr = EthernetRepr { src_addr: from, dst_addr: to, ethertype: EthernetProtocol::Ipv4 };
    if let Ok(mut frame) = EthernetFrame::new_checked(frame) {
        repr.emit(&mut frame);
    }
}

fn send_arp(counters: &mut Counters, foot: &Interface, to: EthernetAddress, arp: ArpRepr, wires: &mut impl Wires) {
    let mut bytes = [0; ETHERNET_HEADER + ARP];
    let repr = EthernetRepr { src_addr: foot.mac, dst_addr: to, ethertype: EthernetProtocol::Arp };
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    repr.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    transmit(counters, foot.wire, &bytes, wires);
}

fn transmit(counters: &mut Counters, wire: usize, frame: &[u8], wires: &mut impl Wires) {
    if wires.send(wire, frame) {
        bump(&mut counters.sent);
    } else {
        counters.count(Reason::QueueFull);
    }
}
