//! The part of a request's body that is kept: in bounded memory, and whole as long as it fits.

/// The body that an HTTP client sends, or the part of it that is still needed.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    /// Where the bytes begin in the body.
    start: u64,
    /// Whether nothing more comes.
    pub(super) is_complete: bool,
    limit: usize,
}

impl Body {
    /// An empty one, which holds at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, is_complete: false, limit }
    }

    /// How many bytes it can take.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Adds bytes, at most as many as there is room for.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..bytes.len().min(self.room())).unwrap_or_default();
        // Not doubled: the limit is a promise.
        self.bytes.reserve_exact(self.limit.min(1024.max(bytes.len())).min(self.room()));
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing more comes.
    pub const fn complete(&mut self) {
        self.is_complete = true;
    }

    /// The bytes from this place on.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }

    /// Whether what is before this place has to be forgotten, since so much room is needed.
    pub(super) fn will_forget(&self, offset: u64, needed: usize) -> bool {
        !self.is_complete && self.room() < needed && self.taken(offset) != 0
    }

    /// Forgets what is before this place, if the room is needed.
    pub(super) fn make_room(&mut self, offset: u64, needed: usize) {
        if self.will_forget(offset, needed) {
            let taken = self.taken(offset);
            self.bytes.drain(..taken);
            self.start += taken as u64;
        }
    }

    fn taken(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.start)).unwrap_or(0).min(self.bytes.len())
    }

    /// Whether nothing of it was forgotten.
    pub(super) const fn is_whole(&self) -> bool {
        self.start == 0
    }
}
