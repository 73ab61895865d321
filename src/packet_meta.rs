//! Packet metadata from the driver.

/// What a driver knows about a packet besides its bytes, for
/// [`Translator::translate_with`](crate::Translator::translate_with): which part of its processing is left to the
/// hardware that will send it. The default, [`PacketMeta::new`], is none.
///
/// ```
/// use byway::{ChecksumState, PacketMeta};
///
/// /// From the header that virtio puts before each packet (virtio 1.2, section 5.1.6).
/// fn from_virtio(flags: u8, gso_type: u8, gso_size: u16, payload: usize) -> PacketMeta {
///     const NEEDS_CSUM: u8 = 1;
///     const GSO_UDP: u8 = 3; // fragments of one datagram, not several datagrams
///     let mut meta = PacketMeta::new();
///     if flags & NEEDS_CSUM != 0 {
///         meta = meta.checksum(ChecksumState::Partial);
///     }
///     if gso_type != 0 && gso_type != GSO_UDP && gso_size != 0 {
///         let segments = payload.div_ceil(usize::from(gso_size));
///         meta = meta.segments(segments.try_into().unwrap_or(u16::MAX));
///     }
///     meta
/// }
///
/// assert_eq!(from_virtio(0, 0, 0, 512), PacketMeta::new());
/// assert_eq!(from_virtio(1, 1, 1460, 64_000), PacketMeta::new().checksum(ChecksumState::Partial).segments(44));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct PacketMeta {
    /// What the TCP or UDP checksum field holds.
    pub checksum: ChecksumState,
    /// How many packets the hardware splits this one into: 1, or more for a super-packet (TSO, USO; `gso_segs` in
    /// Linux). Zero counts as 1.
    pub segments: u16,
}

impl PacketMeta {
    /// A packet as it is on the wire: one segment with a complete checksum.
    #[must_use]
    pub const fn new() -> Self {
        Self { checksum: ChecksumState::Complete, segments: 1 }
    }

    /// The same with another state of the checksum.
    #[must_use]
    pub const fn checksum(mut self, checksum: ChecksumState) -> Self {
        self.checksum = checksum;
        self
    }

    /// The same with another number of segments.
    #[must_use]
    pub const fn segments(mut self, segments: u16) -> Self {
        self.segments = segments;
        self
    }
}

impl Default for PacketMeta {
    fn default() -> Self {
        Self::new()
    }
}

/// What the checksum field of a TCP segment or UDP datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ChecksumState {
    /// The checksum as it is on the wire, right or wrong; for UDP zero means none. This includes packets that virtio
    /// marks `DATA_VALID`, and those whose checksum a network card has verified.
    Complete,
    /// The sum of the pseudo-header alone, not complemented: the hardware adds the segment to it (virtio's
    /// `NEEDS_CSUM`, `CHECKSUM_PARTIAL` in Linux).
    Partial,
}
