//! [`tests::targets::escape`] for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tests::targets::escape(input));
