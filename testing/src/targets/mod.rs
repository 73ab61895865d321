//! What the fuzz targets do with their input. `cargo test` replays the corpora and every crash that was ever found,
//! without libFuzzer.
//!
//! The library's unit tests include this folder as a module of their own, to look into the translator after each step
//! (`src/translator/consistency.rs`). So paths in it begin with `super` or with the name of a crate.

pub mod archive;
#[cfg(feature = "alloc")]
pub mod checks;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "alloc")]
pub mod handover;
#[cfg(feature = "alloc")]
pub mod model;
#[cfg(feature = "naming")]
pub mod names;
#[cfg(feature = "alloc")]
pub mod operations;
#[cfg(feature = "alloc")]
pub mod records;
#[cfg(feature = "naming")]
pub mod relay;
#[cfg(feature = "alloc")]
pub mod translate;

/// The next bytes of the input; zeros where it has ended.
#[cfg(feature = "alloc")]
fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    let length = N.min(data.len());
    taken[..length].copy_from_slice(&data[..length]);
    *data = &data[length..];
    taken
}
