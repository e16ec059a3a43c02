//! libFuzzer's way into the target `h2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::h2::run(data));
