//! The ports that relayed queries come from just now: read for each packet, and so without a lock.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A set of ports that is shared between threads.
#[derive(Clone, Debug)]
pub(super) struct Ports(Arc<[AtomicU64]>);

impl Ports {
    /// An empty set.
    pub(super) fn new() -> Self {
        Self((0..=u16::MAX / 64).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether a port is one of them.
    #[inline]
    pub(super) fn contains(&self, port: u16) -> bool {
        let (word, bit) = self.place(port);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    pub(super) fn insert(&self, port: u16) {
        let (word, bit) = self.place(port);
        if let Some(word) = word {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, port: u16) {
        let (word, bit) = self.place(port);
        if let Some(word) = word {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn place(&self, port: u16) -> (Option<&AtomicU64>, u64) {
        (self.0.get(usize::from(port / 64)), 1 << (port % 64))
    }
}
