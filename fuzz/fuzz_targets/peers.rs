//! libFuzzer's way into the target `peers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::peers::run(data));
