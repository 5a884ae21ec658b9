//! See `tests/fuzz/src/map_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::map_record::check(data));
