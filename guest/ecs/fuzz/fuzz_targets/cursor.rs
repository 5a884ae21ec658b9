//! See `tests/fuzz/src/cursor.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::cursor::check(data));
