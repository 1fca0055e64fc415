#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| model_proxy::server::laws::door(data));
