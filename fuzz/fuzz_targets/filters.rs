//! libFuzzer's way into the target `filters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::filters::run(data));
