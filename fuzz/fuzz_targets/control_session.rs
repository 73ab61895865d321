#![no_main]

#[path = "../../tests/control_support/fuzz.rs"]
mod control;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control::session(data));
