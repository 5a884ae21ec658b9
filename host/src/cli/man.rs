//! `sluicegate man`: manual pages, from what the commands say of themselves.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_mangen::{Man as Page, generate_to};

use super::{Arguments, Done, print};
use crate::error::{Error, Kind};

/// Print a manual page (`sluicegate man run | man -l -`), or write those of all commands.
#[derive(Args)]
pub(super) struct Man {
    /// The page of this command; without it, of `sluicegate` itself.
    #[arg(conflicts_with = "output")]
    command: Vec<String>,
    /// A folder that is there already, for the pages of all commands.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Done {
        let mut root = Arguments::command().disable_help_subcommand(true);
        if let Some(folder) = &self.output {
            let shown = folder.display();
            return match generate_to(root, folder) {
                Ok(()) => Ok(0),
                Err(error) => Err(vec![
                    Error::unavailable(format!("cannot write pages into `{shown}`: {error}"))
                        .help("`--output` takes a folder that is there"),
                ]),
            };
        }
        root.build();
        let mut command = &root;
        for name in &self.command {
            command = command.find_subcommand(name).ok_or_else(|| {
                let what = format!("there is no command `{}`", self.command.join(" "));
                vec![Error::new(Kind::Usage, what).help("`sluicegate --help` lists them")]
            })?;
        }
        let mut page = Vec::new();
        Page::new(command.clone())
            .render(&mut page)
            .map_err(|error| vec![Error::internal(format!("a page cannot be made: {error}"))])?;
        print(page)
    }
}
