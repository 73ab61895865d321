//! The TCP header (RFC 9293, section 3.1).

/// Length in bytes of a header without options.
pub(crate) const HEADER: usize = 20;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Whether a number of the sequence space, or a timestamp, lies before another (RFC 9293, section 3.4).
pub(crate) const fn is_behind(number: u32, other: u32) -> bool {
    other.wrapping_sub(number).wrapping_sub(1) < (1 << 31) - 1
}

/// The fields of a segment that tracking needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    /// Bytes of data, not counting SYN and FIN.
    pub(crate) data: u32,
    pub(crate) flags: u8,
}

impl Segment {
    /// Reads the segment that begins with `header` and is `length` bytes long in all.
    fn read(header: &[u8; HEADER], length: usize) -> Option<Self> {
        let header_length = usize::from(header[12] >> 4) << 2;
        let data = length.checked_sub(header_length)?;
        (header_length >= HEADER).then(|| Self::with(header, data as u32))
    }

    /// Reads a segment. `None` if it is truncated, or its data offset is invalid.
    #[inline(never)]
    pub(crate) fn of(segment: &[u8]) -> Option<Self> {
        Self::read(segment.first_chunk()?, segment.len())
    }

    /// Reads the segment that begins with `header` and has this many bytes of data.
    #[inline(always)]
    pub(crate) const fn with(header: &[u8; HEADER], data: u32) -> Self {
        Self {
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledgment: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            data,
            flags: header[13],
        }
    }

    #[inline]
    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it is nothing but data or an acknowledgement, as nearly all are between handshake and end.
    #[inline]
    pub(crate) const fn is_established(self) -> bool {
        self.flags & (SYN | FIN | RST | ACK) == ACK
    }

    /// How much of the sequence space it occupies: its data, and one each for SYN and FIN.
    #[inline]
    pub(crate) const fn span(self) -> u32 {
        self.data + (self.flags >> 1 & 1) as u32 + (self.flags & 1) as u32
    }

    /// The sequence number after its end.
    #[inline]
    pub(crate) const fn end(self) -> u32 {
        self.sequence.wrapping_add(self.span())
    }
}
