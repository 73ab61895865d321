//! What is measured of a connection, where the storage has room for it.

#[cfg(feature = "report")]
mod event;

use core::time::Duration;

use crate::connection::{Direction, Measured, Volume};
use crate::time::{Instant, Tick};
use crate::track::sequence::Sequences;
use crate::wire::tcp::{ACK, RST, SYN, Segment};

#[cfg(feature = "report")]
pub(crate) use event::About;

/// Room for the measurements of one connection in a translator's storage: all zeros when unused.
///
/// Small numbers lie in the upper bits of large ones, so that a measured connection takes no more than 168 bytes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MeasureSlot {
    /// In the upper 16 bits: the entry of the server that the connection is measured with; and retransmissions.
    packets: [u64; 2],
    /// In the upper 8 bits: flags; and resets.
    bytes: [u64; 2],
    /// In the upper 8 bits: ICMP errors.
    first: u64,
    smallest: [u16; 2],
    largest: [u16; 2],
    /// Microseconds; zero if not measured.
    server_handshake: u32,
    client_handshake: u32,
    /// Microseconds times 8; zero if not measured.
    smoothed: u32,
    /// When the packet that is being timed was sent: the lower 32 bits of the microseconds, zero if there is none.
    probe_at: u32,
    /// TCP: the sequence number that its answer acknowledges.
    probe_end: u32,
    /// When the last byte that the server has not responded to came: the lower 32 bits of a time in units of 4 µs, zero
    /// if there is none. While the server has not answered the SYN: when the SYN came.
    waiting_since: u32,
}

/// How many lower bits of a word the small number in its upper bits leaves.
const PACKETS: u32 = 48;
const BYTES: u32 = 56;

/// Waiting times are kept in units of 2^2 µs, so that 32 bits last for 4.7 hours.
const WAITING_SHIFT: u32 = 2;

/// What is remembered of a connection for the measurements of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// It has been counted as established.
    pub(crate) const ESTABLISHED: u8 = 1;
    /// Its server has sent data.
    pub(crate) const ANSWERED: u8 = 2;
    /// It waits for the answer to its SYN.
    pub(crate) const CONNECTING: u8 = 4;
    /// The last RST came from the client.
    pub(crate) const RESET_BY_CLIENT: u8 = 8;
    /// An ICMP error has said that the server is unreachable.
    pub(crate) const UNREACHABLE: u8 = 16;
    /// It has ended.
    pub(crate) const ENDED: u8 = 32;

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    /// The generation of the server's counters, modulo 4, that its waiting is part of.
    pub(crate) const fn generation(self) -> u8 {
        self.0 >> 6
    }

    pub(crate) const fn set_generation(&mut self, generation: u8) {
        self.0 = self.0 & 0x3f | generation << 6;
    }
}

/// The number in the upper bits of a word.
const fn upper(word: u64, from: u32) -> u16 {
    (word >> from) as u16
}

const fn lower(word: u64, bits: u32) -> u64 {
    word & ((1 << bits) - 1)
}

const fn set_upper(word: &mut u64, from: u32, number: u16) {
    *word = lower(*word, from) | (number as u64) << from;
}

/// Adds to the lower bits of a word, which wrap around without touching the upper ones.
const fn add_lower(word: &mut u64, bits: u32, number: u64) {
    *word = (*word & !((1 << bits) - 1)) | lower(word.wrapping_add(number), bits);
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
        waiting_since: 0,
    };

    pub(crate) const fn flags(&self) -> Flags {
        Flags(upper(self.bytes[0], BYTES) as u8)
    }

    pub(crate) const fn set_flags(&mut self, flags: Flags) {
        set_upper(&mut self.bytes[0], BYTES, flags.0 as u16);
    }

    /// The entry of the server that it is measured with.
    pub(crate) const fn entry(&self) -> u16 {
        upper(self.packets[0], PACKETS)
    }

    pub(crate) const fn set_entry(&mut self, entry: u16) {
        set_upper(&mut self.packets[0], PACKETS, entry);
    }

    pub(crate) const fn retransmissions(&self) -> u16 {
        upper(self.packets[1], PACKETS)
    }

    /// Microseconds of both legs of the handshake; zero if not measured.
    pub(crate) const fn handshakes(&self) -> (u32, u32) {
        (self.server_handshake, self.client_handshake)
    }

    /// Begins to wait for the server, or restarts the wait at `now`.
    pub(crate) const fn wait(&mut self, now: Instant) {
        let since = (now.as_micros() >> WAITING_SHIFT) as u32;
        self.waiting_since = if since == 0 { 1 } else { since };
    }

    pub(crate) const fn stop_waiting(&mut self) {
        self.waiting_since = 0;
    }

    #[cfg(target_pointer_width = "64")]
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting_since != 0
    }

    /// How long it has waited for the server, in microseconds; `None` if it does not wait.
    pub(crate) const fn waited(&self, now: Instant) -> Option<u64> {
        if self.waiting_since == 0 {
            return None;
        }
        let now = (now.as_micros() >> WAITING_SHIFT) as u32;
        let units = now.wrapping_sub(self.waiting_since);
        // `wait` stores one instead of zero.
        Some(if units == u32::MAX { 0 } else { (units as u64) << WAITING_SHIFT })
    }

    pub(crate) const fn note_icmp_error(&mut self) {
        let errors = upper(self.first, BYTES);
        set_upper(&mut self.first, BYTES, if errors < 255 { errors + 1 } else { errors });
    }

    pub(crate) const fn start(&mut self, now: Instant) {
        *self = Self { first: lower(now.as_micros(), BYTES), ..Self::EMPTY };
    }

    /// Counts a packet of `bytes` bytes.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn count(&mut self, direction: Direction, bytes: usize) {
        let way = direction as usize;
        let bytes16 = u16::try_from(bytes).unwrap_or(u16::MAX);
        if let Some(packets) = self.packets.get_mut(way) {
            add_lower(packets, PACKETS, 1);
        }
        if let Some(sum) = self.bytes.get_mut(way) {
            add_lower(sum, BYTES, bytes as u64);
        }
        if let Some(smallest) = self.smallest.get_mut(way) {
            *smallest = if *smallest == 0 { bytes16 } else { (*smallest).min(bytes16) };
        }
        if let Some(largest) = self.largest.get_mut(way) {
            *largest = (*largest).max(bytes16);
        }
    }

    /// Times a UDP datagram or an ICMP echo: from a packet of the client to the next one of the server.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn time_datagram(&mut self, direction: Direction, now: Instant) {
        match direction {
            Direction::ToServer => {
                if self.probe_at == 0 {
                    self.probe(now, 0);
                }
            }
            Direction::ToClient => self.answer(now),
        }
    }

    /// Times a TCP segment and detects retransmissions. `before` is what was known before the segment.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn time_segment(&mut self, direction: Direction, segment: &Segment, before: &Sequences, now: Instant) {
        if segment.has(RST) {
            let resets = upper(self.bytes[1], BYTES);
            set_upper(&mut self.bytes[1], BYTES, resets.saturating_add(1).min(255));
            return;
        }
        let end = segment.end();
        let repeated = segment.span() > 0
            && before.sent(direction).is_some_and(|sent| end.wrapping_sub(sent) > u32::MAX / 2 || end == sent);
        if repeated {
            let repetitions = self.retransmissions().saturating_add(1);
            set_upper(&mut self.packets[1], PACKETS, repetitions);
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

    /// Whether a segment of the client asks for something: it brings new data, and its server would accept it.
    pub(crate) const fn asks(segment: &Segment, before: &Sequences) -> bool {
        is_new_data(Direction::ToServer, segment, before)
    }

    /// Whether a segment of the server responds to what the client has sent last: it brings new data, and acknowledges
    /// some of that or comes after all of it is acknowledged. A segment that was in flight when the client asked does
    /// neither.
    pub(crate) const fn responds(segment: &Segment, before: &Sequences) -> bool {
        let (acknowledged, sent) = before.unacknowledged(Direction::ToServer);
        let more = segment.acknowledgment.wrapping_sub(acknowledged);
        is_new_data(Direction::ToClient, segment, before) && (acknowledged == sent || more.wrapping_sub(1) < 1 << 31)
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
            packets: self.packets.get(way).map_or(0, |word| lower(*word, PACKETS)),
            bytes: self.bytes.get(way).map_or(0, |word| lower(*word, BYTES)),
            smallest: self.smallest.get(way).copied().unwrap_or(0),
            largest: self.largest.get(way).copied().unwrap_or(0),
        });
        let first = lower(self.first, BYTES);
        let idle = u64::from(now.tick().since(last)) << 16;
        Measured {
            to_server: there,
            to_client: back,
            first: Instant::from_micros(first),
            last: Instant::from_micros(now.as_micros().saturating_sub(idle).max(first)),
            server_handshake: some(self.server_handshake),
            client_handshake: some(self.client_handshake),
            round_trip: some(self.smoothed >> 3),
            retransmissions: self.retransmissions(),
            resets: upper(self.bytes[1], BYTES),
            icmp_errors: upper(self.first, BYTES),
        }
    }
}

const fn is_new_data(direction: Direction, segment: &Segment, before: &Sequences) -> bool {
    let end = segment.end();
    segment.data > 0 && before.is_new(direction, end) && before.fits(direction, end, segment.acknowledgment)
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
        assert!(size_of::<MeasureSlot>() + 96 <= 168);
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
