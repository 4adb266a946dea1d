//! [`tests::targets::capture`] for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::targets::capture(input));
