//! [`tests::targets::deflate`] for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::targets::deflate(input));
