//! What Fluent Bit's runtime calls: `malloc`, `free` and the filter function itself.
//!
//! Per record it copies tag and record, each with a NUL behind it, into blocks from `malloc`, calls
//! `o365_filter`, copies the answer up to its NUL, and gives both blocks to `free`. Without these
//! exports it would use a heap of its own of a few KiB, and drop every record that does not fit.

#![expect(
    unsafe_code,
    reason = "a C interface is raw pointers; all of them are in this file"
)]

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ptr;

use crate::Filter;

thread_local! {
    static FILTER: RefCell<Filter> = RefCell::default();
}

/// Bytes before a block, which hold its size; also its alignment, the largest that C asks for.
const HEADER: usize = 16;

/// How a header begins.
type Size = [u8; size_of::<usize>()];

/// Where the event of a record stands: one JSON object with a NUL behind it, until the next call.
///
/// Never null, not even for a record that `malloc` had no room for (which arrives as a null
/// pointer): only running out of memory here, which ends in a trap, loses a record. The tag is not
/// looked at; Fluent Bit keeps it with the event. `sec` and `nsec` are the record's time by Fluent
/// Bit's clock.
///
/// # Safety
///
/// `record` is null, or `record_len` bytes can be read there.
#[cfg_attr(target_arch = "wasm32", unsafe(no_mangle))]
pub unsafe extern "C" fn o365_filter(
    _tag: *const u8,
    _tag_len: usize,
    sec: u32,
    nsec: u32,
    record: *const u8,
    record_len: usize,
) -> *const u8 {
    let record = if record.is_null() {
        None
    } else {
        // SAFETY: the caller promises that so many bytes can be read there; nobody writes to them
        // during the call, since there is one thread and `free` comes after it.
        Some(unsafe { std::slice::from_raw_parts(record, record_len) })
    };
    let time_ms = i64::from(sec) * 1000 + i64::from(nsec / 1_000_000);
    FILTER.with_borrow_mut(|filter| filter.filter(record, time_ms).as_ptr())
}

/// A block of so many bytes, or null when memory has ended.
///
/// The name is for wasm only: natively it would take the place of the system's own.
#[cfg_attr(target_arch = "wasm32", unsafe(export_name = "malloc"))]
pub extern "C" fn allocate(size: usize) -> *mut u8 {
    let Some(layout) = layout(size) else {
        return ptr::null_mut();
    };
    // SAFETY: a layout is never empty, since it has room for the header.
    let start = unsafe { alloc::alloc(layout) };
    if start.is_null() {
        return start;
    }
    // SAFETY: the block begins with `HEADER` bytes, of which a size needs a part, and what follows
    // them is inside of it or its end.
    unsafe {
        start.cast::<Size>().write(size.to_ne_bytes());
        start.add(HEADER)
    }
}

/// Gives a block back; null is none.
///
/// # Safety
///
/// `block` is null or came from `malloc` and has not been given back.
#[cfg_attr(target_arch = "wasm32", unsafe(export_name = "free"))]
pub unsafe extern "C" fn release(block: *mut u8) {
    if block.is_null() {
        return;
    }
    // SAFETY: the block came from `allocate`, so its header stands before it.
    let (start, size) = unsafe {
        let start = block.sub(HEADER);
        (start, usize::from_ne_bytes(start.cast::<Size>().read()))
    };
    if let Some(layout) = layout(size) {
        // SAFETY: `allocate` took this block with the layout of the same size.
        unsafe { alloc::dealloc(start, layout) }
    }
}

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_what_is_written_and_are_aligned() {
        let sizes = [0, 1, 15, 16, 17, 4096, 1 << 20];
        let blocks = sizes.map(|size| {
            let block = allocate(size);
            assert!(!block.is_null() && block.addr().is_multiple_of(HEADER));
            // SAFETY: the block has `size` bytes.
            unsafe { block.write_bytes(0xa5, size) };
            block
        });
        for (block, size) in blocks.into_iter().zip(sizes) {
            // SAFETY: as above; each block is given back once.
            unsafe {
                assert!(
                    std::slice::from_raw_parts(block, size)
                        .iter()
                        .all(|&b| b == 0xa5)
                );
                release(block);
            }
        }
        // SAFETY: null is allowed.
        unsafe { release(ptr::null_mut()) };
        assert!(allocate(usize::MAX - 3).is_null());
    }

    #[test]
    fn a_record_that_found_no_room_is_not_dropped() {
        // SAFETY: null is allowed, and the answer ends with a NUL.
        let answer = unsafe {
            let answer = o365_filter(ptr::null(), 0, 1, 0, ptr::null(), 9);
            std::ffi::CStr::from_ptr(answer.cast())
                .to_str()
                .expect("text")
        };
        assert!(
            answer.contains("pipeline_error") && answer.contains("memory"),
            "{answer}"
        );
    }
}
