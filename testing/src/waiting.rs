//! Waiting for something, for as long as a busy machine may need.

use core::time::Duration;
use std::time::Instant;

/// Far more than anything takes: a test goes on as soon as what it waits for has come.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something holds, and returns for how long. Panics after [`PATIENCE`].
#[track_caller]
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}
