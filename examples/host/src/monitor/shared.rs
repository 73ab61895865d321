//! The state that the monitor shows, for other threads.

use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The newest state, as JSON.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<(u64, Arc<String>)>,
    new: Condvar,
}

impl Shared {
    /// Replaces the state, and wakes whoever waits for it.
    pub fn publish(&self, state: String) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *held = (held.0 + 1, Arc::new(state));
        self.new.notify_all();
    }

    /// The state and its number, if it is newer than `seen`; waits for that for so long at most.
    #[must_use]
    pub fn after(&self, seen: u64, wait: Duration) -> Option<(u64, Arc<String>)> {
        let held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, _) =
            self.new.wait_timeout_while(held, wait, |held| held.0 <= seen).unwrap_or_else(PoisonError::into_inner);
        (held.0 > seen).then(|| (held.0, held.1.clone()))
    }
}
