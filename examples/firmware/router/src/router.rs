//! The way that a frame takes. Read first.

use byway::control::{Agent, MAX_ANSWER, WithNames};
use byway::naming::{Answered, MAX_ANSWER_PACKET, NameStorage, Names};
use byway::{Storage, TRANSMIT_BUFFER, Translator, Verdict};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetFrame, EthernetProtocol};

use crate::config::Config;
use crate::counters::{Counters, Reason, bump};
use crate::egress::Egress;
use crate::icmp::{Error, Quote};
use crate::ipv4::{self, Header};
use crate::local::{Local, SocketMemory};
use crate::watchdog::Watchdog;
use crate::{ETHERNET_HEADER, MAX_FRAME, Wires};

/// Messages of the translator that are sent at a time; it asks to be polled again for the rest.
const MESSAGES: usize = 8;

/// Whose instructions are obeyed: one key, and as many monitors at a time as two.
pub type Control = Agent<1, 2>;

/// A router between two subnets, on two wires or on one.
#[derive(Debug)]
pub struct Router<S, N> {
    egress: Egress,
    local: Local,
    translator: Translator<S>,
    names: Names<N>,
    control: Control,
}

impl<S: Storage, N: NameStorage> Router<S, N> {
    /// A router that knows nobody yet. `control` says who may give instructions, at [`Config::control`].
    pub fn new(
        now: Instant,
        config: Config,
        translator: Translator<S>,
        names: Names<N>,
        control: Control,
        memory: &'static mut SocketMemory,
    ) -> Self {
        Self { local: Local::new(now, &config, memory), egress: Egress::new(now, config), translator, names, control }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.egress.counters
    }

    /// The same with the translator's, to be printed.
    pub fn watchdog(&self) -> Watchdog<'_> {
        let connections = self.translator.slots_in_use();
        Watchdog { router: &self.egress.counters, translator: self.translator.counters(), connections }
    }

    /// The translator, to change its rules.
    pub fn translator(&mut self) -> &mut Translator<S> {
        &mut self.translator
    }

    /// Takes a frame that came on `wire`, without its check sequence, and sends what follows from it. The frame is
    /// rewritten in place.
    pub fn receive(&mut self, now: Instant, wire: usize, frame: &mut [u8], wires: &mut impl Wires) {
        let counters = &mut self.egress.counters;
        bump(&mut counters.received);
        if frame.len() > MAX_FRAME {
            return counters.count(Reason::Frame);
        }
        let Ok(ethernet) = EthernetFrame::new_checked(&frame[..]) else { return counters.count(Reason::Frame) };
        let (to, ethertype) = (ethernet.dst_addr(), ethernet.ethertype());
        let to_us = self.egress.config.interfaces.iter().any(|foot| foot.wire == wire && foot.mac == to);
        match ethertype {
            EthernetProtocol::Arp if to_us || to.is_broadcast() => {
                self.egress.receive_arp(now, wire, &frame[ETHERNET_HEADER..], wires);
            }
            EthernetProtocol::Ipv4 if to_us => {
                self.receive_ipv4(now, frame, wires);
                self.speak(now, wires);
            }
            EthernetProtocol::Arp | EthernetProtocol::Ipv4 => counters.count(Reason::OtherStation),
            _ => counters.count(Reason::EtherType),
        }
    }

    fn receive_ipv4(&mut self, now: Instant, frame: &mut [u8], wires: &mut impl Wires) {
        let header = match Header::check(&frame[ETHERNET_HEADER..]) {
            Ok(header) => header,
            Err(reason) => return self.egress.counters.count(reason),
        };
        // What follows the packet is padding.
        let frame = &mut frame[..ETHERNET_HEADER + header.total_len];
        let (source, destination) = (header.source, header.destination);
        if !ipv4::is_host(source) || self.egress.is_own(source) || self.egress.is_edge(source) {
            return self.egress.counters.count(Reason::MartianSource);
        }
        if !ipv4::is_host(destination) || self.egress.is_edge(destination) {
            return self.egress.counters.count(Reason::MartianDestination);
        }
        let quote = Quote::of(&frame[ETHERNET_HEADER..], header.header_len);
        // A packet for somebody else is going to be forwarded, so its TTL can be looked at before the translator
        // makes a connection of it. One for ourselves may yet turn out to be on its way back to a client.
        let expired = header.ttl <= 1;
        if expired && !self.egress.is_own(destination) {
            return self.time_exceeded(now, &quote, wires);
        }
        if ipv4::is_dns_over_tcp(&frame[ETHERNET_HEADER..]) {
            // It would be answered by the server, also about names that are ours. A client that is told so at once does
            // not wait; short answers come over UDP.
            self.egress.counters.count(Reason::DnsOverTcp);
            return self.egress.report(now, Error::Prohibited, Some(&quote), wires);
        }
        if self.answer_name(now, &frame[ETHERNET_HEADER..], wires) {
            return;
        }
        match self.translator.translate(time(now), &mut frame[ETHERNET_HEADER..]) {
            Verdict::ToServer | Verdict::ToClient => bump(&mut self.egress.counters.translated),
            Verdict::Pass => {}
            Verdict::Hold => return self.egress.counters.count(Reason::Held),
            Verdict::Drop(_) => return self.egress.counters.count(Reason::Translator),
        }
        let packet = &mut frame[ETHERNET_HEADER..];
        let for_us = Header::read(packet).is_some_and(|header| self.egress.is_own(header.destination));
        if for_us {
            bump(&mut self.egress.counters.local);
            self.local.receive(packet);
            self.poll_local(now, wires);
            return self.obey(now, wires);
        }
        if expired {
            return self.time_exceeded(now, &quote, wires);
        }
        ipv4::decrement_ttl(packet);
        bump(&mut self.egress.counters.forwarded);
        self.egress.send(now, frame, Some(&quote), wires);
    }

    /// Answers a query for a name of the table. Whether the packet was one.
    fn answer_name(&mut self, now: Instant, packet: &[u8], wires: &mut impl Wires) -> bool {
        let mut frame = [0; ETHERNET_HEADER + MAX_ANSWER_PACKET];
        match self.names.intercept(time(now), packet, &mut frame[ETHERNET_HEADER..]) {
            Answered::Pass => return false,
            Answered::Drop(_) => self.egress.counters.count(Reason::Name),
            Answered::Answer { length } => {
                bump(&mut self.egress.counters.named);
                self.egress.send(now, &mut frame[..ETHERNET_HEADER + length], None, wires);
            }
        }
        true
    }

    fn time_exceeded(&mut self, now: Instant, quote: &Quote, wires: &mut impl Wires) {
        self.egress.counters.count(Reason::Ttl);
        self.egress.report(now, Error::TimeExceeded, Some(quote), wires);
    }

    fn poll_local(&mut self, now: Instant, wires: &mut impl Wires) {
        while let Some(frame) = self.local.next_frame(now) {
            self.egress.send(now, frame, None, wires);
        }
    }

    /// Carries out the instructions that have come, and answers them.
    fn obey(&mut self, now: Instant, wires: &mut impl Wires) {
        let Self { local, control, translator, names, .. } = self;
        let mut both = WithNames::new(translator, names);
        while local.obey(|from, datagram, answer| control.handle(time(now), &mut both, from, datagram, answer).ok()) {}
        self.poll_local(now, wires);
    }

    /// Tells the monitors that have asked for it what has happened to connections.
    fn tell(&mut self, now: Instant, wires: &mut impl Wires) {
        while self.control.has_room()
            && let Some(event) = self.translator.poll_event()
        {
            self.control.tell(time(now), &event);
        }
        let mut datagram = [0; MAX_ANSWER];
        let mut told = false;
        while self.local.can_tell()
            && let Some((to, length)) = self.control.poll_transmit(time(now), &mut datagram)
        {
            self.local.tell(to, &datagram[..length]);
            told = true;
        }
        if told {
            self.poll_local(now, wires);
        }
    }

    /// Sends what the translator itself has to say.
    fn speak(&mut self, now: Instant, wires: &mut impl Wires) {
        let mut frame = [0; ETHERNET_HEADER + TRANSMIT_BUFFER];
        for _ in 0..MESSAGES {
            let Some(message) = self.translator.poll_transmit(time(now), &mut frame[ETHERNET_HEADER..]) else { return };
            self.egress.send(now, &mut frame[..ETHERNET_HEADER + message.length], None, wires);
        }
    }

    /// Does what is due. Called late, a next hop that does not answer holds its packet for longer, and a connection that
    /// is over its slot; called early, it only tells monitors what has happened.
    pub fn poll(&mut self, now: Instant, wires: &mut impl Wires) {
        self.egress.poll(now, wires);
        self.translator.poll(time(now));
        self.speak(now, wires);
        self.tell(now, wires);
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn poll_at(&mut self) -> Option<Instant> {
        let translator = self.translator.poll_at().map(|due| {
            let micros = i64::try_from(due.as_micros()).unwrap_or(i64::MAX);
            Instant::from_micros(micros)
        });
        self.egress.poll_at().into_iter().chain(translator).min()
    }
}

/// The same time for byway; both count from the board's start.
fn time(now: Instant) -> byway::Instant {
    byway::Instant::from_micros(u64::try_from(now.total_micros()).unwrap_or(0))
}
