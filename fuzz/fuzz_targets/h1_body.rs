//! libFuzzer's way into the target `h1_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::h1_body::run(data));
