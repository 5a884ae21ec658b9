//! The state of o365beat: one file with one time.
//!
//! It is the `contentCreated` of the blob that was published last; o365beat takes the blobs of all content types in
//! the order of that time, so the one time holds for all of them.

use std::path::Path;

use super::{Position, text};
use crate::error::Error;

/// Reads the state file.
pub(super) fn read(path: &Path) -> Result<Position, Error> {
    let text = text(path)?;
    let time = chrono::DateTime::parse_from_rfc3339(text.trim()).map_err(|error| {
        Error::config(format!(
            "the file holds something else than a time: {error}"
        ))
        .at(format!("`{}`", path.display()))
        .help("the state of o365beat is one line such as `2026-05-02T10:14:00Z`")
    })?;
    Ok(Position {
        directory: None,
        stream: None,
        ms: time.timestamp_millis(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o365beat.state");
        std::fs::write(&path, "2026-05-02T12:14:00+02:00\n").unwrap();
        let position = Position {
            directory: None,
            stream: None,
            ms: 1_777_716_840_000,
        };
        assert_eq!(read(&path).unwrap(), position);
        std::fs::write(&path, "0001-01-01").unwrap();
        assert!(read(&path).unwrap_err().help.contains("one line"));
        assert!(read(&folder.path().join("other")).is_err());
    }
}
