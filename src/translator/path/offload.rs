//! Packets whose processing is partly left to hardware, described by metadata from the driver.
//!
//! Such a packet is translated like any other, and two of its fields are rewritten afterwards. So other packets pay
//! nothing for it on any path, and a program that does not call it does not link it.

use crate::packet_meta::{ChecksumState, PacketMeta};
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::translator::Translator;
use crate::verdict::Verdict;
use crate::wire::checksum::{self, Delta};
use crate::wire::ipv4::{self, HEADER, Header, TCP, UDP};
use crate::wire::rewrite;

impl<S: Storage> Translator<S> {
    /// Translates one packet in place as [`translate`](Self::translate) does, given what the driver knows about it
    /// besides its bytes. With [`PacketMeta::new`] the two do the same.
    ///
    /// - **A partial checksum** stays partial: it is adjusted for the addresses, and ports are not part of it. This
    ///   holds with [`Checksums::Hardware`](crate::Checksums::Hardware) too. A partial sum of UDP has no special value:
    ///   the device or driver that completes it writes 0xFFFF for a computed zero. The checksum of the IPv4 header is
    ///   complete in any case; [`Config::checksums`](crate::Config::checksums) says what updates it.
    /// - **Only a whole TCP segment or UDP datagram** can have a partial checksum. That of a fragment or of an ICMP
    ///   message is taken as complete, whatever `meta` says: no hardware completes it.
    /// - **Segments**: where the translator rewrites the identification
    ///   ([`Config::rewrite_identification`](crate::Config::rewrite_identification)), it reserves one for each segment,
    ///   in a row, since the device that splits the packet numbers the parts upwards from the packet's own
    ///   identification. At most 8192 are reserved. A fragment counts as one.
    ///
    /// If nothing on the way out completes checksums, the caller has to complete this one before sending. Packets from
    /// [`poll_transmit`](Self::poll_transmit) have complete checksums.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::Ipv4Addr;
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # byway.divert(Divert::new(Ipv4Addr::new(100, 100, 100, 100)).to(Ipv4Addr::new(123, 45, 67, 89)))?;
    /// /// The sum of the pseudo-header of a UDP datagram of 8 bytes.
    /// fn pseudo_header(packet: &[u8; 28]) -> u16 {
    ///     let words = packet[12..20].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    ///     let sum = words.sum::<u32>() + 17 + 8;
    ///     ((sum & 0xffff) + (sum >> 16)) as u16
    /// }
    ///
    /// let mut packet = [
    ///     0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 100, 100, 100, // addresses
    ///     0x0d, 0x80, 0, 53, 0, 8, 0, 0, // ports, length, and the checksum's place
    /// ];
    /// let partial = pseudo_header(&packet);
    /// packet[26..28].copy_from_slice(&partial.to_be_bytes());
    ///
    /// let meta = PacketMeta::new().checksum(ChecksumState::Partial);
    /// assert_eq!(byway.translate_with(Instant::ZERO, &mut packet, meta), Verdict::ToServer);
    /// assert_eq!(packet[26..28], pseudo_header(&packet).to_be_bytes());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn translate_with(&mut self, now: Instant, packet: &mut [u8], meta: PacketMeta) -> Verdict {
        let partial = match meta.checksum {
            ChecksumState::Complete => None,
            ChecksumState::Partial => Partial::read(packet),
        };
        let identification = self.state.identification;
        let verdict = self.translate(now, packet);
        if !matches!(verdict, Verdict::ToServer | Verdict::ToClient) {
            return verdict;
        }
        if let Some(partial) = partial {
            partial.follow(packet);
        }
        if meta.segments > 1
            && self.state.identification != identification
            && let Some(header) = packet.first_chunk_mut::<HEADER>()
            && !ipv4::is_fragment(Header(header).fragmentation())
        {
            // Replaces the single identification that the packet was given, which nothing has seen yet.
            self.state.identification = identification;
            let first = self.state.reserve_identifications(meta.segments);
            rewrite::identification(header, first, self.state.config.checksums);
        }
        verdict
    }
}

/// A partial checksum, and the addresses that are in it.
struct Partial {
    sum: [u8; 2],
    addresses: [u32; 2],
}

impl Partial {
    /// Reads a packet before it is translated. `None` if its checksum cannot be partial.
    fn read(packet: &mut [u8]) -> Option<Self> {
        let header = Header(packet.first_chunk()?);
        let addresses = [header.source(), header.destination()];
        Some(Self { sum: *place(packet)?, addresses })
    }

    /// Writes the adjusted sum into the translated packet: a partial sum holds the addresses themselves, where a
    /// checksum holds their complements, and no ports.
    fn follow(self, packet: &mut [u8]) {
        let Some(header) = packet.first_chunk() else {
            return;
        };
        let delta = Delta::of(self.addresses, [Header(header).source(), Header(header).destination()]);
        if let Some(field) = place(packet) {
            *field = checksum::update_partial(self.sum, delta);
        }
    }
}

/// The checksum field of a whole TCP segment or UDP datagram.
fn place(packet: &mut [u8]) -> Option<&mut [u8; 2]> {
    let header = Header(packet.first_chunk()?);
    let at = match header.protocol() {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    if ipv4::is_fragment(header.fragmentation()) {
        return None;
    }
    let at = header.header_length() + at;
    packet.get_mut(at..)?.first_chunk_mut()
}
