//! libFuzzer's way into the target `h1_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::h1_request::run(data));
