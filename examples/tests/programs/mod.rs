//! The examples as programs, for tests that run several of them against each other, and their key file.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test takes what it needs")]

use std::path::PathBuf;

/// Builds an example; returns where it lies.
pub fn built(example: &str) -> PathBuf {
    byway_testing::programs::built(&["byway-examples", "--example", example])
}

/// Writes a key file that only its owner can read.
pub fn key_file(name: &str, id: u16, secret: &[u8; 32]) -> PathBuf {
    byway_testing::programs::key_file(env!("CARGO_TARGET_TMPDIR"), name, id, secret)
}
