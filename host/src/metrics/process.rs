//! The process itself, as the system counts it.

/// What the system says of this process; what it does not say is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Bytes of memory in use.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space. The sandbox reserves much more than it uses.
    pub virtual_bytes: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The listing itself has one of them open.
        let files = std::fs::read_dir("/proc/self/fd").ok();
        let open_files = files.map(|files| (files.count() as u64).saturating_sub(1));
        Self {
            resident_bytes: field(&status, "VmRSS:"),
            virtual_bytes: field(&status, "VmSize:"),
            open_files,
        }
    }
}

/// A field of `/proc/self/status`, in bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bytes_and_what_is_missing_is_not_zero() {
        let status = "VmSize:\t  200 kB\nVmRSS:\t 12 kB\nThreads:\t4\n";
        assert_eq!(field(status, "VmRSS:"), Some(12 * 1_024));
        assert_eq!(field(status, "VmSwap:"), None);
        assert_eq!(field(status, "Threads:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_and_files() {
        let process = Process::now();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_files.unwrap() >= 3);
    }
}
