//! Connections as records, passed from one translator to another.

pub(super) mod import;
mod import_burst;
pub(super) mod record;
mod second;
