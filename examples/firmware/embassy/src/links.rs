//! Link addresses for what the translator itself has to say: those that the stack has used.

use byway::{Direction, Verdict};

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET: usize = 14;

/// The EtherType of IPv4 (RFC 894).
pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];

/// Two Ethernet headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    to_server: Option<[u8; ETHERNET]>,
    to_client: [u8; ETHERNET],
}

impl Links {
    /// To the stack by broadcast, until it has shown its address.
    pub(crate) const NEW: Self =
        Self { to_server: None, to_client: [255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, IPV4[0], IPV4[1]] };

    /// Learns from an IPv4 frame that the stack sent.
    pub(crate) fn learn(&mut self, frame: &[u8], verdict: Verdict) {
        let Some(&header) = frame.first_chunk::<ETHERNET>() else { return };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, kind @ ..] = header;
        self.to_client = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, kind[0], kind[1]];
        if verdict == Verdict::ToServer {
            self.to_server = Some(header);
        }
    }

    /// Writes the Ethernet header of a packet of the translator's own, where there is one. False if it is not known.
    pub(crate) fn address(&self, frame: &mut [u8], header: usize, direction: Direction) -> bool {
        let Some(place) = frame.first_chunk_mut::<ETHERNET>().filter(|_| header == ETHERNET) else { return true };
        let known = match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => Some(self.to_client),
        };
        *place = known.unwrap_or_default();
        known.is_some()
    }
}
