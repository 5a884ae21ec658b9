//! The `sluicegate` command.

fn main() -> std::process::ExitCode {
    few_arenas();
    sluicegate::cli::main()
}

/// Has the C library keep freed memory in two places instead of eight for each processor: a thousand tenants start with
/// a burst, and what the burst leaves behind in each of many arenas is never given back.
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    #[allow(
        unsafe_code,
        reason = "there is no safe way to say this to the C library"
    )]
    // SAFETY: the call takes two numbers and touches no memory of ours; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
