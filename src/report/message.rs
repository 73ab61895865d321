//! One message, as it is filled (RFC 7011, section 3).

/// Bytes of a message's header.
pub(super) const HEADER: usize = 16;
/// Bytes of a set's header.
pub(super) const SET_HEADER: usize = 4;

/// A message in the caller's buffer.
#[derive(Clone, Debug)]
pub(super) struct Message<B> {
    buffer: B,
    /// Bytes so far.
    length: usize,
    /// Where the last set begins, and its number.
    set: (usize, u16),
    /// Data records so far.
    pub(super) records: u32,
}

impl<B: AsMut<[u8]> + AsRef<[u8]>> Message<B> {
    pub(super) const fn new(buffer: B) -> Self {
        Self { buffer, length: HEADER, set: (0, 0), records: 0 }
    }

    /// Empties it.
    pub(super) const fn clear(&mut self) {
        self.length = HEADER;
        self.set = (0, 0);
        self.records = 0;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == HEADER
    }

    /// The longest message.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.as_ref().len().min(usize::from(u16::MAX))
    }

    /// Whether records of `length` bytes in all fit, each in a set of its own.
    pub(super) fn fits(&self, records: usize, length: usize) -> bool {
        self.length + records * SET_HEADER + length <= self.capacity()
    }

    /// Adds a record of `length` bytes to a set of this number; the caller writes it. `None` if it does not fit.
    pub(super) fn add(&mut self, set: u16, length: usize) -> Option<Writer<'_>> {
        let capacity = self.capacity();
        let is_new = self.set.1 != set;
        let start = self.length + if is_new { SET_HEADER } else { 0 };
        let end = start + length;
        if end > capacity {
            return None;
        }
        if is_new {
            self.set = (self.length, set);
        }
        let (first, number) = self.set;
        self.length = end;
        let buffer = self.buffer.as_mut();
        let mut header = Writer(buffer.get_mut(first..)?);
        header.u16(number);
        header.u16((end - first) as u16);
        Some(Writer(buffer.get_mut(start..end)?))
    }

    /// Completes the message: writes its header.
    pub(super) fn close(&mut self, time: u32, sequence: u32, domain: u32) -> &[u8] {
        let length = self.length;
        let mut header = Writer(self.buffer.as_mut());
        header.u16(10);
        header.u16(length as u16);
        header.u32(time);
        header.u32(sequence);
        header.u32(domain);
        self.buffer.as_ref().get(..length).unwrap_or_default()
    }

    pub(super) const fn length(&self) -> usize {
        self.length
    }
}

/// Writes numbers in network byte order. What does not fit is left out.
#[derive(Debug)]
pub(super) struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let rest = core::mem::take(&mut self.0);
        if let Some((place, rest)) = rest.split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            self.0 = rest;
        }
    }

    pub(super) fn u8(&mut self, number: u8) {
        self.put(&[number]);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.put(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    /// A value of variable length below 255 bytes (RFC 7011, section 7).
    pub(super) fn text(&mut self, text: &str) {
        self.u8(text.len() as u8);
        self.put(text.as_bytes());
    }

    /// How much is left to write.
    #[cfg(test)]
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }
}
