//! See `tests/fuzz/src/address.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::address::check(data));
