//! libFuzzer's way into the target `grpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::grpc::run(data));
