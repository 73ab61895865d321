#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| byway_testing::targets::control::parsers(data));
