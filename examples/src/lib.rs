//! What several of the examples share; each of them is a target of this package.

#![allow(missing_docs, missing_debug_implementations, clippy::std_instead_of_core, reason = "only the examples use it")]

pub mod capture;
pub mod host;
pub mod link;
pub mod mirror;
pub mod packet;
