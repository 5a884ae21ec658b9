//! `sluicegate completion`: a script that completes commands and options in a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, Done, print};

/// Print a script that completes this command in a shell, such as
/// `sluicegate completion bash > /etc/bash_completion.d/sluicegate`.
#[derive(Args)]
pub(super) struct Completion {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> Done {
        let mut script = Vec::new();
        let mut command = Arguments::command();
        clap_complete::generate(self.shell, &mut command, "sluicegate", &mut script);
        print(script)
    }
}
