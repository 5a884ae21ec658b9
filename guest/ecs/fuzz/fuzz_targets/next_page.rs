//! See `tests/fuzz/src/next_page.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluicegate_fuzz::next_page::check(data));
