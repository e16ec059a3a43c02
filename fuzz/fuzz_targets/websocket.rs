//! libFuzzer's way into the target `websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::websocket::run(data));
