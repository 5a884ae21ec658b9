//! See `tests/fuzz/src/plugin_config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::plugin_config::check(data));
