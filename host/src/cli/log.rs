//! Log lines on standard error, with every known secret taken out on the way.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{LogFormat, progress};
use crate::capability::log::escape;
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

/// Has panics say what they say as lines of the log. By themselves they write past it: raw, with whatever secret or
/// control byte stood in the value that was not expected, and as text where programs read JSON.
pub(super) fn panics(redactor: &Arc<Redactor>) {
    let redactor = redactor.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let words = last_words(&redactor, panic.payload_as_str());
        let place = panic.location().map(ToString::to_string);
        let place = place.as_deref().unwrap_or("an unknown place");
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        tracing::error!(thread, "panicked at {place}: {words}");
    }));
}

/// Longest text of a panic that is shown.
const PANIC_BYTES: usize = 4 << 10;

/// What a panic says, without secrets: they are taken out before anything is escaped or cut, which would hide a half.
fn last_words(redactor: &Redactor, words: Option<&str>) -> String {
    let words = words.unwrap_or("no words");
    escape(&redactor.scrub(words), PANIC_BYTES)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{SecretOrigin, SecretRef};

    #[test]
    fn a_panic_shows_no_secret_and_stays_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        // It ends in what is escaped, and stands across the place where long texts are cut.
        std::fs::write(&path, "canary-of-a-panic\u{1b}end").unwrap();
        let secret = SecretRef {
            origin: SecretOrigin::File(path),
            place: crate::config::report::Place::default(),
        };
        let redactor = Redactor::new();
        redactor.learn(&secret.resolve().unwrap());
        for before in [0, PANIC_BYTES - 10] {
            let words = format!(
                "{}canary-of-a-panic\u{1b}end\nerror: forged",
                "x".repeat(before)
            );
            let shown = last_words(&redactor, Some(&words));
            assert!(
                !shown.contains("canary") && !shown.contains(char::is_control),
                "{shown}"
            );
            assert!(shown.len() <= PANIC_BYTES);
        }
        assert_eq!(last_words(&redactor, None), "no words");
    }
}
