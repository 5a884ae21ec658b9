//! Any text as the plugin's config: findings of one line each, and no config where one of them is an error.

use sluicegate_o365::config::{self, Use};
use sluicegate_o365::world::Severity;

/// See the head of the file.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for wanted in [Use::Source, Use::Transform] {
        let findings = config::check(&text, wanted);
        for finding in &findings {
            assert!(!finding.what.is_empty(), "a finding says what is wrong");
        }
        let wrong = findings
            .iter()
            .any(|finding| finding.severity == Severity::Error);
        match config::load(&text, wanted) {
            Ok(_) => assert!(!wrong, "a config with an error is none"),
            Err(reason) => assert!(wrong && !reason.is_empty(), "{reason}"),
        }
    }
}
