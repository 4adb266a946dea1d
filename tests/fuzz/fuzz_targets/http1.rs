//! [`tests::targets::http1`] for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::targets::http1(input));
