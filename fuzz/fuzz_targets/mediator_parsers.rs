#![no_main]

#[path = "../../examples/mediator/tests/fuzz/mod.rs"]
mod fuzz;
#[path = "../../examples/mediator/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::parsers(data));
