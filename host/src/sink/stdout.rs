//! Events as NDJSON on standard output.
//!
//! Acknowledged when the last byte was handed to whoever reads: a pipe keeps nothing, so this sink
//! suits people and other programs, not archives.

use std::io;

use async_trait::async_trait;

use super::{Sink, Written, lines};
use crate::error::Error;
use crate::event::Batch;

/// Writes to standard output.
#[derive(Debug)]
pub struct StdoutSink {
    name: String,
}

impl StdoutSink {
    /// A sink called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn write(&mut self, batches: &[Batch]) -> Result<Written, Error> {
        let piece = lines(batches);
        let name = self.name.clone();
        let written = tokio::task::spawn_blocking(move || write(&mut io::stdout().lock(), &piece));
        match written.await {
            Ok(Ok(())) => Ok(Written::default()),
            Ok(Err(error)) => Err(refusal(&name, &error)),
            Err(error) => Err(Error::internal(format!("writing ended early: {error}"))
                .at(format!("sink `{name}`"))),
        }
    }
}

fn write(output: &mut impl io::Write, piece: &[u8]) -> io::Result<()> {
    output.write_all(piece)?;
    output.flush()
}

fn refusal(name: &str, error: &io::Error) -> Error {
    let place = format!("sink `{name}`");
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Error::unavailable(
            "standard output was closed by the program that reads it (EPIPE)",
        )
        .at(place)
        .help("events that were not read are sent again at the next start; keep the reader alive");
    }
    Error::temporary(format!("cannot write to standard output: {error}"))
        .at(place)
        .help("check where standard output goes; writing is tried again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_named() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = refusal("stdout", &write(&mut writer, b"one\n").unwrap_err());
        assert_eq!(error.kind, crate::error::Kind::Unavailable);
        assert!(error.what.contains("EPIPE"), "{error}");
    }

    #[test]
    fn everything_is_written() {
        let mut output = Vec::new();
        write(&mut output, b"one\ntwo\n").unwrap();
        assert_eq!(output, b"one\ntwo\n");
    }
}
