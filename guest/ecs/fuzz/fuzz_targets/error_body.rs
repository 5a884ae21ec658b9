//! See `tests/fuzz/src/error_body.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::error_body::check(data));
