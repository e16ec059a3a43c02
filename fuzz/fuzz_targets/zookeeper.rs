//! libFuzzer's way into the target `zookeeper`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::zookeeper::run(data));
