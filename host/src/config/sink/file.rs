//! Sink `file`: files on this machine.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::path_template::Template;
use super::request::Compression;
use super::{SinkKind, When};
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::{Period, Size};

/// Appends events to files, one JSON object a line or as CSV. What is in a file is on the disk before it counts as
/// delivered, and after a crash each file is cut back to that, so each event stands there once. With fields in its
/// path, `rotate`, `gzip` or CSV, a small journal (`.NAME-….journal`) beside the files says how far each of them is;
/// let nothing else append to the files, and rename or remove only those that are rotated.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "file")]
pub struct FileSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// The file, seen from the working directory. `{{ organization.id }}` and the like are filled in from the event,
    /// `{{ tenant }}` and `{{ stream }}` from where it comes from, `%Y-%m-%d` from its time (UTC); the folder before
    /// the first of them has to be named. What is filled in keeps letters, digits, `-`, `_`, `.` and `@`, everything
    /// else becomes `_`, so it never leads out of its folder. A percent sign is `%%`.
    #[schemars(extend("examples" = ["out/{{ organization.id }}/%Y-%m-%d.ndjson"]))]
    pub path: String,
    /// How events stand in the file.
    #[serde(default)]
    pub encoding: Part<FileEncodingSection>,
    /// When a file is closed and a new one begun. Without it, rename the file as it suits you.
    pub rotate: Option<Part<RotateSection>>,
    /// How the file is packed. Each write is a gzip member of its own, which every reader of gzip joins.
    #[serde(default)]
    pub compression: Compression,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// How events stand in a file.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "file_encoding")]
pub struct FileEncodingSection {
    /// The form.
    #[serde(default)]
    pub codec: FileCodec,
    /// The fields of a row, for `csv`. A list or an object within an event stands in its column as JSON.
    #[schemars(extend("examples" = [["@timestamp", "event.action", "user.name"]]))]
    pub columns: Option<Vec<String>>,
    /// Whether each file begins with the names of the columns, for `csv`. Default: `true`.
    pub header: Option<bool>,
}

/// The form of events in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "file_codec", inline)]
pub enum FileCodec {
    /// The event as it is, one a line.
    #[default]
    Json,
    /// Chosen fields, one row an event (RFC 4180).
    Csv,
}

/// When a file is closed. It is renamed with the time in its name (`events-20260101T000000Z.ndjson`) when the next
/// event for it comes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "rotate")]
pub struct RotateSection {
    /// Before it would be larger. One batch of events is never parted, so a file may be larger by that.
    #[schemars(extend("examples" = ["100MiB"]))]
    pub max_size: Option<Size>,
    /// When it was begun so long ago.
    #[schemars(extend("examples" = ["1d"]))]
    pub max_age: Option<Period>,
}

/// Files of one sink, checked: everything but one plain file of NDJSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Which file an event goes to.
    pub template: Template,
    /// The template as it is written.
    pub path: String,
    /// The fields of a row; `None` for lines of JSON.
    pub columns: Option<Vec<String>>,
    /// Whether each file begins with the names of the columns.
    pub header: bool,
    /// Whether files are packed.
    pub gzip: bool,
    /// The size after which a file is closed.
    pub max_bytes: Option<u64>,
    /// The age after which a file is closed.
    pub max_age: Option<Duration>,
}

impl FileSection {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<SinkKind> {
        let path_at = at.key("path");
        if self.path.trim().is_empty() || self.path.ends_with('/') {
            let help = "for example `path: events.ndjson`";
            scope.report.add(&path_at, "`path` names no file", help);
        }
        let template = Template::parse(&self.path).map_err(|what| {
            let help = "write fields as `{{ organization.id }}` and times as `%Y-%m-%d`";
            scope.report.add(&path_at, what, help);
        });
        let encoding = self.encoding.0.clone().unwrap_or_default();
        let columns = encoding.columns(scope, &at.key("encoding"));
        let rotate = self
            .rotate
            .as_ref()
            .map(|rotate| rotate.0.clone().unwrap_or_default());
        let (max_bytes, max_age) = rotate
            .as_ref()
            .map(|rotate| rotate.check(scope, &at.key("rotate")))
            .unwrap_or_default();
        let template = template.ok()?;
        let gzip = self.compression == Compression::Gzip;
        let fixed = template.fixed();
        if fixed.is_none() && template.folder().is_empty() {
            let help = "begin with a folder, for example `out/{{ tenant }}.ndjson`";
            scope.report.add(
                &path_at,
                "`path` begins with something that is filled in",
                help,
            );
        }
        let plain = rotate.is_none() && !gzip && encoding.codec == FileCodec::Json;
        if let (Some(path), true) = (fixed, plain) {
            let path = PathBuf::from(path);
            return Some(SinkKind::File { path });
        }
        Some(SinkKind::Files(Box::new(Files {
            template,
            path: self.path.clone(),
            columns,
            header: encoding.header.unwrap_or(true),
            gzip,
            max_bytes,
            max_age,
        })))
    }
}

impl FileEncodingSection {
    fn columns(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Vec<String>> {
        if self.codec == FileCodec::Json {
            for (key, is_set) in [
                ("columns", self.columns.is_some()),
                ("header", self.header.is_some()),
            ] {
                if is_set {
                    let what = format!("`{key}` goes with `codec: csv` only");
                    scope.report.add_key(&at.key(key), what, "remove it");
                }
            }
            return None;
        }
        let columns = self.columns.clone().unwrap_or_default();
        if columns.is_empty() {
            let help = "add `columns: [\"@timestamp\", event.action]`";
            scope.report.add(at, "`codec: csv` needs `columns`", help);
        }
        for (index, name) in columns.iter().enumerate() {
            if name.split('.').any(str::is_empty) {
                let what = format!("`{}` is not the name of a field", name.escape_debug());
                let help = "write a dotted path, such as `event.action`";
                scope
                    .report
                    .add(&at.key("columns").index(index), what, help);
            }
        }
        Some(columns)
    }
}

impl RotateSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> (Option<u64>, Option<Duration>) {
        if self.max_size.is_none() && self.max_age.is_none() {
            let help = "add `max_size: 100MiB` or `max_age: 1d`, or both";
            scope
                .report
                .add(at, "`rotate` says neither how large nor how old", help);
        }
        let size = self.max_size.map(|size| {
            in_range(
                scope.report,
                &at.key("max_size"),
                Some(size.0),
                1 << 20,
                (1 << 10, 1 << 50),
                |bytes| Size(bytes).to_string(),
            )
        });
        let age = self.max_age.map(|age| {
            in_range(
                scope.report,
                &at.key("max_age"),
                Some(age.0),
                Duration::from_hours(1),
                (Duration::from_secs(1), Duration::from_hours(24 * 366)),
                |age| Period(age).to_string(),
            )
        });
        (size, age)
    }
}
