//! Limits that error messages mention.

use core::time::Duration;

/// How many alternative address ranges, and how many other own addresses, one translator can have.
pub const MAX_ALTERNATIVES: usize = 8;

/// The largest number of connections of one translator: positions in the indexes are 32-bit numbers.
pub(crate) const MAX_CONNECTIONS: usize = 1 << 28;

/// The longest time-out: five days.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(5 * 24 * 3600);
