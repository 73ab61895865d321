//! A client and three servers with real TCP stacks (smoltcp) around a translator that hands connections over, and witnesses
//! on both sides that know what a TCP may be sent.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod host;
pub mod net;
pub mod web;
pub mod witness;

use core::time::Duration;

use byway::{AtRest, HttpGet};

pub const REST: AtRest = AtRest::after(Duration::from_millis(130));

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn http() -> HttpGet<4> {
    HttpGet::new(REST)
}
