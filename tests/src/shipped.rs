//! What programs that measure the command as it is shipped have in common.

use std::path::PathBuf;

use clap::Parser;

/// Which command is measured.
#[derive(Debug, clap::Args)]
pub struct Shipped {
    /// The command; the `sluicegate` beside this program when left out.
    #[arg(long = "command", value_name = "PATH")]
    path: Option<PathBuf>,
}

impl Shipped {
    /// Where it is.
    ///
    /// # Errors
    /// Says what to do when it is not there.
    pub fn find(self) -> Result<PathBuf, String> {
        let beside = || std::env::current_exe().map(|here| here.with_file_name("sluicegate"));
        let path = self.path.map_or_else(beside, Ok);
        let path = path.map_err(|error| error.to_string())?;
        if path.is_file() {
            return Ok(path);
        }
        let path = path.display();
        Err(format!(
            "there is no `{path}`: build it with `cargo build --release`"
        ))
    }
}

/// The program's options; ends it with 64 where they are wrong.
pub fn options<Options: Parser>() -> Options {
    Options::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { 64 } else { 0 })
    })
}

/// Of a sorted list: what so many percent of it do not exceed.
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied()
}
