//! Any answer of the service that is not success: one decision, one line for the operator, a wait
//! within bounds.

use sluicegate_o365::failure::{self, BODY_LIMIT};

/// 2026-01-10T08:41:07Z.
const NOW_MS: i64 = 1_768_034_467_000;

/// See the head of the file.
pub fn check(data: &[u8]) {
    let Some((status, body)) = data.split_last() else {
        return;
    };
    let status = 300 + u16::from(*status);
    // The header's value is the first line, when it is text.
    let header = body.split(|&byte| byte == b'\n').next();
    let header = header.and_then(|line| std::str::from_utf8(line).ok());
    let refused = failure::understand(status, body, header, NOW_MS);
    assert_eq!(refused.status, status);
    assert!(refused.reason.starts_with(&format!("HTTP {status}")));
    assert!(
        !refused.reason.contains(char::is_control),
        "one line: {:?}",
        refused.reason
    );
    assert!(
        refused
            .after_ms
            .is_none_or(|wait| (1_000..=900_000).contains(&wait))
    );
    if body.len() <= BODY_LIMIT {
        assert_eq!(failure::understand(status, body, header, NOW_MS), refused);
    }
}
