//! A plugin's words: cut, escaped, marked as the plugin's, and few enough to read.

use std::time::Duration;

use tokio::time::Instant;

use crate::capability::source_world::sluicegate::plugin::log::{Host, Level};
use crate::metrics;
use crate::sandbox::Call;

/// Longest line, after escaping.
const LINE_BYTES: usize = 1_024;

/// Longest reason that a plugin gives for a failure, a refusal or a loss, after escaping.
pub const REASON_BYTES: usize = 1_024;

/// Longest name of a counter.
const NAME_BYTES: usize = 64;

/// What a plugin's panic hook puts in front of its last words.
const PANIC: &str = "panic: ";

/// The log of one call.
#[derive(Debug, Default)]
pub struct GuestLog {
    /// The plugin's name.
    pub plugin: String,
    /// The tenant and stream it runs for.
    pub place: String,
    /// Lines that may be written in a second.
    pub lines_per_second: u32,
    /// The second that is running, and the lines written in it.
    window: Option<(Instant, u32)>,
    /// Lines that were not.
    pub suppressed: u64,
    /// The plugin's last words, when it panicked.
    pub panic: Option<String>,
}

impl GuestLog {
    /// The log of one call.
    pub fn new(plugin: &str, place: String, lines: u32) -> Self {
        let mut log = Self::default();
        log.plugin.push_str(plugin);
        log.place = place;
        log.lines_per_second = lines;
        log
    }

    fn write(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        let (since, lines) = self.window.get_or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *lines) = (Instant::now(), 0);
        }
        if *lines >= self.lines_per_second {
            self.suppressed += 1;
            return;
        }
        *lines += 1;
        let mut line = escape(message, LINE_BYTES);
        for (name, value) in fields {
            let room = LINE_BYTES.saturating_sub(line.len());
            if room < 8 {
                break;
            }
            line.push_str(&escape(&format!(" {name}={value}"), room));
        }
        let (plugin, place) = (self.plugin.as_str(), self.place.as_str());
        match level {
            Level::Trace => tracing::trace!(guest = true, plugin, place, "{line}"),
            Level::Debug => tracing::debug!(guest = true, plugin, place, "{line}"),
            Level::Info => tracing::info!(guest = true, plugin, place, "{line}"),
            Level::Warn => tracing::warn!(guest = true, plugin, place, "{line}"),
            Level::Error => tracing::error!(guest = true, plugin, place, "{line}"),
        }
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        if self.suppressed > 0 {
            let Self {
                plugin,
                place,
                suppressed,
                ..
            } = self;
            tracing::warn!(
                plugin,
                place,
                suppressed,
                "the plugin wrote more lines than are shown"
            );
        }
    }
}

/// Makes control bytes, bidirectional overrides and line separators visible, and cuts to `most` bytes.
pub fn escape(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        let hidden = character.is_control()
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}');
        let before = escaped.len();
        if hidden {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
        if escaped.len() > most.saturating_sub('…'.len_utf8()) {
            escaped.truncate(before);
            escaped.push('…');
            break;
        }
    }
    escaped
}

impl Host for Call {
    async fn log(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        if let Some(words) = message.strip_prefix(PANIC) {
            self.log.panic = Some(escape(words, LINE_BYTES));
        }
        self.log.write(level, &message, &fields);
        Ok(())
    }

    async fn count(&mut self, name: String, add: u64) -> wasmtime::Result<()> {
        let fits = name.len() <= NAME_BYTES
            && name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        if fits {
            metrics::count_plugin(&self.log.plugin, &name, add);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Limits;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_default_are_counted() {
        let mut log = GuestLog::new("p", String::new(), Limits::default().log_lines);
        for _ in 0..250 {
            log.write(Level::Info, "line", &[]);
        }
        assert_eq!(log.suppressed, 150, "a hundred in a second");
        tokio::time::advance(Duration::from_secs(1)).await;
        log.write(Level::Info, "line", &[]);
        assert_eq!(log.suppressed, 150, "the next second has its own");
    }

    #[test]
    fn what_hides_is_shown_and_what_is_long_is_cut() {
        assert_eq!(
            escape("a\nb\u{1b}[31m\u{202e}", 100),
            "a\\u{a}b\\u{1b}[31m\\u{202e}"
        );
        assert_eq!(escape("äöü", 100), "äöü");
        assert_eq!(escape(&"x".repeat(50), 10), "xxxxxxx…");
        assert!(escape(&"\n".repeat(500), 1_024).len() <= 1_024);
    }
}
