#![no_main]

#[path = "../../tests/naming_support/relay_fuzz.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::run(data));
