//! Log lines on standard error, with every known secret taken out on the way.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{LogFormat, progress};
use crate::secret::Redactor;

/// Starts logging for this process.
pub(super) fn start(format: LogFormat, verbose: u8, quiet: bool, redactor: &Arc<Redactor>) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "sluicegate=info,warn",
        (false, 1) => "sluicegate=debug,info",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("SLUICEGATE_LOG").unwrap_or_else(|_| level.into());
    let writer = Redacting(redactor.clone());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    // Failing means that logging was started already, by a test in the same process.
    let _ = match format {
        LogFormat::Json => lines.json().try_init(),
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_target(false)
            .try_init(),
    };
}

/// Standard error behind the redactor.
#[derive(Clone)]
struct Redacting(Arc<Redactor>);

impl MakeWriter<'_> for Redacting {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line {
            redactor: self.0.clone(),
            bytes: Vec::new(),
        }
    }
}

/// One line, written when it is complete: a secret cannot hide between two writes.
struct Line {
    redactor: Arc<Redactor>,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = self.redactor.scrub(&text);
        // There is no other place to say that standard error is closed.
        let _ = progress::above(|| io::stderr().lock().write_all(text.as_bytes()));
    }
}
