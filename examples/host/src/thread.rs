//! Threads with names.

use std::thread::{Builder, JoinHandle};

/// Starts a thread.
///
/// # Errors
/// One line, if the thread cannot be started.
pub(crate) fn start<T: Send + 'static>(
    name: impl Into<String>,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, String> {
    Builder::new().name(name.into()).spawn(run).map_err(|error| format!("no thread: {error}"))
}
