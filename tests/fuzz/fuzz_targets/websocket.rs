//! The target `websocket` of `tests::targets` for libFuzzer.
#![no_main]

#[path = "../loads.rs"]
mod loads;

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::targets::run("websocket", input));
