//! Any bytes as a stored cursor: refused with a reason, or one that can be worked with and stored again.

use sluicegate_o365::config::{self, Use};
use sluicegate_o365::cursor::Cursor;

/// 2026-01-10T08:41:07Z.
const NOW_MS: i64 = 1_768_034_467_000;

/// See the head of the file. What is no cursor yet is tried with the checksum that it lacks as well.
pub fn check(data: &[u8]) {
    work(data);
    if let Ok(json) = std::str::from_utf8(data) {
        work(format!("1 {} {json}", checksum(json)).as_bytes());
    }
}

fn work(stored: &[u8]) {
    let mut cursor = match Cursor::load(stored) {
        Ok(cursor) => cursor,
        Err(reason) => {
            assert!(!reason.is_empty(), "a refusal says why");
            return;
        }
    };
    let again = cursor.store().map(|stored| Cursor::load(&stored));
    assert_eq!(again, Ok(Ok(cursor.clone())), "it is stored as it was read");
    let config = match config::load(r#"{"lookback":"7d"}"#, Use::Transform) {
        Ok(config) => config,
        Err(reason) => panic!("the config of this target: {reason}"),
    };
    let before = cursor.watermark;
    let gaps = cursor.advance(NOW_MS, &config);
    assert!(gaps.iter().all(|gap| gap.since < gap.until), "{gaps:?}");
    for index in cursor.due(NOW_MS, &config) {
        assert!(index < cursor.windows.len(), "a window that is there");
    }
    cursor.settle(&config);
    assert!(cursor.watermark >= before, "never back");
    let _ = cursor.wake(NOW_MS, &config);
}

/// As the cursor makes it: 64 bits of FNV-1a.
fn checksum(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{sum:016x}")
}
