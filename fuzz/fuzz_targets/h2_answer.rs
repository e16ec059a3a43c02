//! libFuzzer's way into the target `h2_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::h2_answer::run(data));
