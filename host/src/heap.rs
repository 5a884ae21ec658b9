//! How the C library keeps freed memory.

/// Freed memory is kept in this many places, instead of eight for each processor: a thousand tenants start with a
/// burst, and what a burst leaves behind in each of many places is never given back.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Blocks of a batch and more come from memory that is kept; larger ones are given back at once.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 4 << 20;

/// So much is kept at the end of each place. With less, the memory of each batch is given back and asked for again,
/// page by page.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 8 << 20;

/// Sets all this; to be called before the first thread.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    #[allow(
        unsafe_code,
        reason = "there is no safe way to say this to the C library"
    )]
    // SAFETY: each call takes two numbers and touches no memory of ours.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
