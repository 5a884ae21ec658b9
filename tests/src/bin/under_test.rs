//! The real command under another name: cargo tells integration tests only of their own package's binaries.

fn main() -> std::process::ExitCode {
    sluicegate::cli::main()
}
