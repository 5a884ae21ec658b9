//! Times and tables as people read them; shared by the commands that look at a ledger.

use serde_json::{Value, json};

pub(super) use crate::clock::span;
use crate::engine::rfc3339;
use crate::ledger::Loss;
use crate::ledger::sqlite::view::SplitRow;

/// A time, or a dash.
pub(super) fn time(ms: Option<i64>) -> String {
    ms.map_or_else(|| "-".into(), rfc3339)
}

/// A time in JSON.
pub(super) fn json_time(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| rfc3339(ms).into())
}

/// A table whose columns are as wide as their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A declared loss in one line.
pub(super) fn loss_line(loss: &Loss) -> String {
    let what = match &loss.split {
        Some(split) => format!("split {split}, created {}", rfc3339(loss.since_ms)),
        None => format!("{} to {}", rfc3339(loss.since_ms), rfc3339(loss.until_ms)),
    };
    format!(
        "{what}: {} (declared {})",
        loss.reason,
        rfc3339(loss.declared_ms)
    )
}

/// A declared loss in JSON.
pub(super) fn loss_json(loss: &Loss) -> Value {
    json!({
        "split": loss.split,
        "since": rfc3339(loss.since_ms),
        "until": rfc3339(loss.until_ms),
        "reason": loss.reason,
        "declared": rfc3339(loss.declared_ms),
    })
}

/// A split in quarantine in one line.
pub(super) fn quarantine_line(row: &SplitRow, now_ms: i64) -> String {
    let next = match row.next_try_ms - now_ms {
        _ if row.reading => "being read now".into(),
        due if due <= 0 => "next try now".into(),
        wait => format!("next try in {}", span(wait)),
    };
    let expires = row.expires_ms.map_or(String::new(), |expires_ms| {
        format!(", expires in {}", span(expires_ms - now_ms))
    });
    let (id, attempts, reason) = (&row.key.id, row.attempts, &row.reason);
    format!("{id}: {attempts} attempt(s), {next}{expires}: {reason}")
}

/// A split that is not delivered, in JSON.
pub(super) fn split_json(row: &SplitRow) -> Value {
    json!({
        "split": row.key.id,
        "created": rfc3339(row.created_ms),
        "expires": json_time(row.expires_ms),
        "attempts": row.attempts,
        "next_try": (row.attempts > 0 && !row.reading).then(|| rfc3339(row.next_try_ms)),
        "reading": row.reading,
        "reason": row.reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_no_blanks_at_their_ends() {
        let rows = [
            vec!["a".into(), "bcd".into()],
            vec!["long".into(), "e".into()],
        ];
        assert_eq!(table(&rows), "a     bcd\nlong  e\n");
    }
}
