//! Maps records natively: one record a line on standard input, one event a line on standard output.
//!
//! `map [--options JSON] [--profile newer|1.7.1|o365beat|raw] [--error-mode robust|reference]`; exit code 1 when
//! a line was rejected.

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;

use sluicegate_ecs::{ErrorMode, Mapper, Options, Profile};

fn main() -> io::Result<ExitCode> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (argument.as_str(), value.as_str()) {
            ("--options", json) => options = serde_json::from_str(json)?,
            ("--profile", "newer") => options.profile = Profile::Newer,
            ("--profile", "1.7.1") => options.profile = Profile::V1_7_1,
            ("--profile", "o365beat") => options.profile = Profile::O365beat,
            ("--profile", "raw") => options.profile = Profile::Raw,
            ("--error-mode", "robust") => options.error_mode = ErrorMode::Robust,
            ("--error-mode", "reference") => options.error_mode = ErrorMode::Reference,
            _ => {
                eprintln!("map: cannot read `{argument} {value}`");
                return Ok(ExitCode::from(64));
            }
        }
    }
    let mut mapper = Mapper::new(options);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut event = Vec::new();
    let mut rejected = false;
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        if line.is_empty() {
            continue;
        }
        event.clear();
        match mapper.map(&line, &mut event) {
            Ok(_) => {
                event.push(b'\n');
                out.write_all(&event)?;
            }
            Err(refusal) => {
                eprintln!("map: {}", refusal.reason);
                rejected = true;
            }
        }
    }
    out.flush()?;
    Ok(if rejected {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
