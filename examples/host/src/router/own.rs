//! What a router sends of its own: packets of the translator and of the naming server, replies, and ICMP errors.

use core::net::Ipv4Addr;

use byway::{Instant, TRANSMIT_BUFFER};

use super::{Output, Router};
use crate::icmp::{self, Error, Quote};
use crate::packet;
use crate::vnet::{LENGTH, VnetHeader};

/// The longest segment of a hand-over, in bytes.
const SEGMENT: usize = 1500;

impl Router {
    /// Sends the translator's own packets.
    pub fn speak(&mut self, now: Instant, out: &mut impl Output) {
        self.speak_but(now, None, out);
        if let Some(mover) = &mut self.mover {
            let mut frame = [0; LENGTH + SEGMENT];
            let most = LENGTH + SEGMENT.min(self.settings.mtu.into());
            while let Some(own) = mover.poll_transmit(now, &mut self.translator, &mut frame[LENGTH..most]) {
                out.send(&frame[..LENGTH + own.length], &mut self.counters);
            }
        }
    }

    /// Sends what the translator itself has to say, but no error about the packet `sent`: it leaves as it is, and its client must
    /// not be told that it does not. The error cannot be turned off in the translator: what limits errors there also limits
    /// the RSTs about connections that make room for others.
    pub(super) fn speak_but(&mut self, now: Instant, sent: Option<&[u8]>, out: &mut impl Output) {
        let mut frame = [0; LENGTH + TRANSMIT_BUFFER];
        while let Some(own) = self.translator.poll_transmit(now, &mut frame[LENGTH..]) {
            let frame = &frame[..LENGTH + own.length];
            if !sent.is_some_and(|sent| icmp::quotes(&frame[LENGTH..], sent)) {
                out.send(frame, &mut self.counters);
            }
        }
    }

    /// Sends packets of the naming server.
    pub(super) fn send_own(&mut self, packets: &[Vec<u8>], out: &mut impl Output) {
        let mut frame = Vec::new();
        for packet in packets {
            frame.clear();
            frame.extend_from_slice(&VnetHeader::NONE.to_bytes());
            frame.extend_from_slice(packet);
            out.send(&frame, &mut self.counters);
        }
    }

    /// Takes a packet for this machine: it has no programs, so all it does is to answer, and to relay queries.
    pub(super) fn receive(&mut self, now: Instant, header: &VnetHeader, frame: &mut [u8], out: &mut impl Output) {
        self.counters.local += 1;
        let (head, packet) = frame.split_at_mut(LENGTH);
        if let Some(naming) = &self.naming
            && let Some(own) = naming.relay(now, header, packet)
        {
            return self.send_own(&own, out);
        }
        if icmp::reply(packet) {
            head.fill(0);
            self.counters.echo_replies += 1;
            return out.send(frame, &mut self.counters);
        }
        let error = match packet::protocol(packet) {
            packet::ICMP => return,
            packet::TCP | packet::UDP => Error::PortUnreachable,
            _ => Error::ProtocolUnreachable,
        };
        let quote = Quote::of(header, packet);
        self.complain_from(now, packet::destination(packet), error, quote, out);
    }

    pub(super) fn complain(&mut self, now: Instant, error: Error, quote: Option<Quote>, out: &mut impl Output) {
        self.complain_from(now, self.settings.address, error, quote, out);
    }

    fn complain_from(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        error: Error,
        quote: Option<Quote>,
        out: &mut impl Output,
    ) {
        let Some(quote) = quote else {
            return;
        };
        if !self.errors.take(now) {
            self.counters.icmp_errors_limited += 1;
            return;
        }
        self.counters.icmp_errors += 1;
        let mut frame = vec![0; LENGTH];
        frame.extend(quote.error(error, from));
        out.send(&frame, &mut self.counters);
    }
}
