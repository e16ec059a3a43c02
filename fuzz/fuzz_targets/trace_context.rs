//! libFuzzer's way into the target `trace_context`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::trace_context::run(data));
