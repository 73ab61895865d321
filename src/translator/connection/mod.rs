//! The life of a connection: opened, listed, closed, expired, evicted, forgotten.

pub(super) mod alternative;
pub(super) mod close;
pub(super) mod evict;
pub(super) mod expire;
pub(super) mod forget;
pub(super) mod list;
pub(super) mod open;
#[cfg(target_pointer_width = "64")]
pub(super) mod open_plain;
