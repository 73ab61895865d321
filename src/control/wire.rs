//! Reading and writing bytes, never beyond the end of a buffer.

use core::net::{Ipv4Addr, SocketAddrV4};

/// Reads the fields of a datagram, from the front. `None` where it ends too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn address(&mut self) -> Option<Ipv4Addr> {
        self.u32().map(Ipv4Addr::from_bits)
    }

    pub(super) fn endpoint(&mut self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.address()?, self.u16()?))
    }

    /// Bytes that must be zero in this version, so that a later one can give them a meaning.
    pub(super) fn zeros(&mut self, length: usize) -> Option<()> {
        self.take(length)?.iter().all(|byte| *byte == 0).then_some(())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a datagram from the front. Output that does not fit is cut off, which [`Writer::length`] reports.
///
/// Its methods are not inlined: they are called in many places, and not in the path of packets.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buffer: &'a mut [u8],
    /// How much has been written; more than there is room for if something did not fit.
    written: usize,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, written: 0 }
    }

    #[inline(never)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let free = self.buffer.get_mut(self.written..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.written = self.written.saturating_add(bytes.len());
    }

    #[inline(never)]
    pub(super) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline(never)]
    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline(never)]
    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    #[inline(never)]
    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    #[inline(never)]
    pub(super) fn endpoint(&mut self, endpoint: SocketAddrV4) {
        self.put(&endpoint.ip().octets());
        self.u16(endpoint.port());
    }

    #[inline(never)]
    pub(super) fn zeros(&mut self, length: usize) {
        for _ in 0..length {
            self.u8(0);
        }
    }

    /// How much room there is before the last `end` bytes.
    pub(super) const fn room(&self, end: usize) -> usize {
        self.buffer.len().saturating_sub(self.written).saturating_sub(end)
    }

    /// How much was written; `None` if something did not fit.
    pub(super) const fn length(&self) -> Option<usize> {
        if self.written <= self.buffer.len() { Some(self.written) } else { None }
    }

    /// What was written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.written).unwrap_or_default()
    }

    /// Continues writing at another position; returns the previous one. Heads often have fields that are only known at
    /// the end.
    pub(super) const fn go_to(&mut self, place: usize) -> usize {
        core::mem::replace(&mut self.written, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = [0xff; 40];
        let mut writer = Writer::new(&mut buffer);
        let endpoint = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 5);
        writer.u8(1);
        writer.u16(2);
        writer.u32(3);
        writer.u64(4);
        writer.endpoint(endpoint);
        writer.zeros(2);
        let length = writer.length().unwrap();
        let mut reader = Reader(&buffer[..length]);
        assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (Some(1), Some(2), Some(3), Some(4)));
        assert_eq!((reader.endpoint(), reader.zeros(2), reader.u8()), (Some(endpoint), Some(()), None));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut buffer = [0; 3];
        let mut writer = Writer::new(&mut buffer);
        writer.u16(1);
        writer.u16(2);
        assert_eq!((writer.room(0), writer.length()), (0, None));
        assert_eq!(buffer, [0, 1, 0]);
        assert_eq!(Reader(&[0, 1]).zeros(2), None);
    }
}
