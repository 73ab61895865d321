//! byway as it is installed, between programs that nobody here wrote: in network namespaces, or over sockets of this machine.
//!
//! `cargo test -p byway-host --test linux names::` runs what has to do with names.
#![cfg(target_os = "linux")]

mod dns;
mod monitor;
mod names;
mod network;
mod process;
mod programs;
mod watched;
