//! What the fuzz targets do with their input. `cargo test` includes this file and replays the corpora and every crash
//! that was ever found, without libFuzzer.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::std_instead_of_core, reason = "no library: tests use parts")]

pub mod archive;
pub mod checks;
pub mod handover;
#[path = "../../tests/model/mod.rs"]
pub mod model;
pub mod operations;
pub mod records;
pub mod translate;
