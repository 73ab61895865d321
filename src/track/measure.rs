//! What is measured of a connection, where the storage has room for it.

use core::time::Duration;

use crate::connection::{Direction, Measured, Volume};
use crate::time::{Instant, Tick};
use crate::track::sequence::Sequences;
use crate::wire::tcp::{ACK, RST, SYN, Segment};

/// What is seen of a connection, to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// It begins.
    Start,
    /// A packet of this many bytes went this way.
    Packet(Direction, usize),
    /// That was a UDP datagram or an ICMP echo.
    Datagram(Direction),
    /// That is a TCP segment; and what was known before it.
    Segment(Direction, &'a Segment, &'a Sequences),
    /// An ICMP error was about it.
    IcmpError,
}

/// What is done with what is seen. Called through a pointer that only a storage with room for measurements sets, so that
/// firmware without it need not link it.
pub(crate) type Measure = fn(&mut MeasureSlot, Seen<'_>, Instant);

/// The [`Measure`] that there is.
pub(crate) fn measure(slot: &mut MeasureSlot, seen: Seen<'_>, now: Instant) {
    match seen {
        Seen::Start => slot.start(now),
        Seen::Packet(direction, bytes) => slot.count(direction, bytes),
        Seen::Datagram(direction) => slot.time_datagram(direction, now),
        Seen::Segment(direction, segment, before) => slot.time_segment(direction, segment, before, now),
        Seen::IcmpError => slot.icmp_errors = slot.icmp_errors.saturating_add(1),
    }
}

/// Room for the measurements of one connection in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MeasureSlot {
    packets: [u64; 2],
    bytes: [u64; 2],
    first: u64,
    smallest: [u16; 2],
    largest: [u16; 2],
    /// Microseconds; zero if not measured.
    server_handshake: u32,
    client_handshake: u32,
    /// Microseconds times 8; zero if not measured.
    smoothed: u32,
    /// When the packet was sent that is being timed: the lower 32 bits of the microseconds, zero if none is.
    probe_at: u32,
    /// TCP: the sequence number that its answer acknowledges.
    probe_end: u32,
    retransmissions: u16,
    resets: u8,
    icmp_errors: u8,
}

impl MeasureSlot {
    /// An unused slot.
    pub const EMPTY: Self = Self {
        packets: [0; 2],
        bytes: [0; 2],
        first: 0,
        smallest: [0; 2],
        largest: [0; 2],
        server_handshake: 0,
        client_handshake: 0,
        smoothed: 0,
        probe_at: 0,
        probe_end: 0,
        retransmissions: 0,
        resets: 0,
        icmp_errors: 0,
    };

    fn start(&mut self, now: Instant) {
        *self = Self { first: now.as_micros(), ..Self::EMPTY };
    }

    /// Counts a packet of `bytes` bytes.
    fn count(&mut self, direction: Direction, bytes: usize) {
        let way = direction as usize;
        let octets16 = u16::try_from(bytes).unwrap_or(u16::MAX);
        if let Some(packets) = self.packets.get_mut(way) {
            *packets = packets.wrapping_add(1);
        }
        if let Some(sum) = self.bytes.get_mut(way) {
            *sum = sum.wrapping_add(bytes as u64);
        }
        if let Some(smallest) = self.smallest.get_mut(way) {
            *smallest = if *smallest == 0 { octets16 } else { (*smallest).min(octets16) };
        }
        if let Some(largest) = self.largest.get_mut(way) {
            *largest = (*largest).max(octets16);
        }
    }

    /// Times a UDP datagram or an ICMP echo: from a packet of the client to the next one of the server.
    fn time_datagram(&mut self, direction: Direction, now: Instant) {
        match direction {
            Direction::ToServer => {
                if self.probe_at == 0 {
                    self.probe(now, 0);
                }
            }
            Direction::ToClient => self.answer(now),
        }
    }

    /// Times a TCP segment and looks for repetitions. `before` is what was known before the segment.
    fn time_segment(&mut self, direction: Direction, segment: &Segment, before: &Sequences, now: Instant) {
        if segment.has(RST) {
            self.resets = self.resets.saturating_add(1);
            return;
        }
        let end = segment.end();
        let repeated = segment.span() > 0
            && before.sent(direction).is_some_and(|sent| end.wrapping_sub(sent) > u32::MAX / 2 || end == sent);
        if repeated {
            self.retransmissions = self.retransmissions.saturating_add(1);
            // An answer to either copy could follow: neither is timed (Karn's algorithm, RFC 6298 section 3).
            self.probe_at = 0;
        }
        match (direction, segment.has(SYN)) {
            (Direction::ToServer, true) if !repeated => self.probe(now, end),
            (Direction::ToClient, true) => {
                if self.server_handshake == 0 && self.probe_at != 0 {
                    self.server_handshake = self.elapsed(now);
                }
                // From here the client's share is timed.
                self.probe(now, end);
            }
            (Direction::ToServer, false) => {
                if self.client_handshake == 0 && self.server_handshake != 0 && self.probe_at != 0 {
                    self.client_handshake = self.elapsed(now);
                    self.probe_at = 0;
                }
                if segment.data > 0 && self.probe_at == 0 && !repeated {
                    self.probe(now, end);
                }
            }
            (Direction::ToClient, false) => {
                let covered = segment.acknowledgment.wrapping_sub(self.probe_end) < u32::MAX / 2;
                if segment.has(ACK) && covered {
                    self.answer(now);
                }
            }
            (Direction::ToServer, true) => {}
        }
    }

    fn probe(&mut self, now: Instant, end: u32) {
        self.probe_at = (now.as_micros() as u32).max(1);
        self.probe_end = end;
    }

    /// Microseconds since the probe was sent, at least one.
    fn elapsed(&self, now: Instant) -> u32 {
        (now.as_micros() as u32).wrapping_sub(self.probe_at).max(1)
    }

    fn answer(&mut self, now: Instant) {
        if self.probe_at == 0 {
            return;
        }
        let sample = self.elapsed(now).min(u32::MAX >> 4);
        // RFC 6298, section 2.3, with the smoothed value kept times 8: SRTT <- 7/8 SRTT + 1/8 R.
        self.smoothed = if self.smoothed == 0 { sample << 3 } else { self.smoothed - (self.smoothed >> 3) + sample };
        self.probe_at = 0;
    }

    pub(crate) fn report(&self, last: Tick, now: Instant) -> Measured {
        let some = |micros: u32| (micros != 0).then(|| Duration::from_micros(u64::from(micros)));
        let [there, back] = [0, 1].map(|way| Volume {
            packets: self.packets.get(way).copied().unwrap_or(0),
            octets: self.bytes.get(way).copied().unwrap_or(0),
            smallest: self.smallest.get(way).copied().unwrap_or(0),
            largest: self.largest.get(way).copied().unwrap_or(0),
        });
        let idle = u64::from(now.tick().since(last)) << 16;
        Measured {
            to_server: there,
            to_client: back,
            first: Instant::from_micros(self.first),
            last: Instant::from_micros(now.as_micros().saturating_sub(idle).max(self.first)),
            server_handshake: some(self.server_handshake),
            client_handshake: some(self.client_handshake),
            round_trip: some(self.smoothed >> 3),
            retransmissions: self.retransmissions,
            resets: u16::from(self.resets),
            icmp_errors: u16::from(self.icmp_errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::claims::Claims;
    use crate::track::phase::Phase;
    use crate::track::tcp::Tcp;
    use Direction::{ToClient, ToServer};

    #[test]
    fn a_slot_fits_its_budget() {
        assert!(size_of::<MeasureSlot>() + 64 + 20 <= 160);
    }

    #[test]
    fn a_handshake_and_a_round_trip() {
        let mut slot = MeasureSlot::EMPTY;
        let (phase, sequences, claims) = (Phase::Opening, Sequences::default(), Claims::default());
        let mut tcp = Tcp { phase, sequences, claims };
        let at = |ms: u64| Instant::from_millis(1_000 + ms);
        slot.start(at(0));
        for (ms, direction, flags, sequence, acknowledgment, data) in [
            (0, ToServer, SYN, 100, 0, 0),
            (30, ToClient, SYN | ACK, 900, 101, 0),
            (35, ToServer, ACK, 101, 901, 0),
            (40, ToServer, ACK, 101, 901, 50),
            (60, ToClient, ACK, 901, 151, 500),
            (61, ToClient, ACK, 901, 151, 500),
        ] {
            let segment = Segment { sequence, acknowledgment, data, flags };
            slot.time_segment(direction, &segment, &tcp.sequences, at(ms));
            slot.count(direction, 40 + data as usize);
            tcp.follow(direction, &segment, true);
        }
        let measured = slot.report(at(61).tick(), at(61));
        assert_eq!(measured.server_handshake, Some(Duration::from_millis(30)));
        assert_eq!(measured.client_handshake, Some(Duration::from_millis(5)));
        assert_eq!(measured.round_trip, Some(Duration::from_millis(20)));
        assert_eq!(measured.retransmissions, 1);
        assert_eq!((measured.to_server.packets, measured.to_client.packets), (3, 3));
        assert_eq!((measured.to_client.smallest, measured.to_client.largest), (40, 540));
    }
}
