#![no_main]

#[path = "../../tests/naming_support/fuzz.rs"]
mod naming;

libfuzzer_sys::fuzz_target!(|data: &[u8]| naming::run(data));
