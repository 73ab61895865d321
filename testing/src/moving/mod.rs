//! A client and three servers with real TCP stacks (smoltcp) around a translator that hands connections over, and witnesses
//! on both sides that know what a TCP may be sent.

pub mod host;
#[cfg(feature = "http")]
pub mod net;
pub mod web;
pub mod witness;

use core::time::Duration;

use byway::AtRest;

pub const REST: AtRest = AtRest::after(Duration::from_millis(130));

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(feature = "http")]
pub fn http() -> byway::HttpGet<4> {
    byway::HttpGet::new(REST)
}
