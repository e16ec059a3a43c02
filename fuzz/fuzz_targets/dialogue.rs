//! libFuzzer's way into the target `dialogue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::dialogue::run(data));
