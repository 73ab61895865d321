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

/// The next bytes of the input; zeros where it has ended.
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let length = N.min(data.len());
    taken[..length].copy_from_slice(&data[..length]);
    *data = &data[length..];
    taken
}
