//! Connections as records, passed from one translator to another.

pub(super) mod import;
pub(super) mod record;
mod second;
