//! Two real TCP stacks around a translator, and what both ends know as the truth.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

mod actions;
pub mod host;
mod rules;
pub mod world;
