//! The `sluicegate` command.

fn main() -> std::process::ExitCode {
    sluicegate::heap::settle();
    sluicegate::cli::main()
}
