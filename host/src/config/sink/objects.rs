//! What the sinks that write objects have in common: names, form and packing, requests, TLS.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Compression, Tls, TlsSection};
use super::template::Template;
use crate::config::check::Scope;
use crate::config::decode::Part;
use crate::config::limits::in_range;
use crate::config::report::Path;
use crate::config::unit::Period;

/// Where objects go unless the config says otherwise.
pub(super) const DEFAULT_PREFIX: &str = "{tenant}/{stream}/";

/// How objects are sent. What fails is sent again for as long as it takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "object_request")]
pub struct ObjectRequestSection {
    /// Longest time for an object and its answer.
    #[schemars(extend("default" = "60s"))]
    pub timeout: Option<Period>,
    /// Most objects under way at once.
    #[schemars(extend("default" = 16))]
    pub concurrency: Option<u32>,
}

/// Events as rows of a columnar file instead of lines; the names of objects then end with `.parquet`. Columns for what
/// is asked for most stand beside a column `document` that holds each event whole, as JSON. Needs a build with the
/// feature `parquet`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "batch_encoding")]
pub struct BatchEncodingSection {
    /// The form.
    pub codec: BatchCodec,
    /// How the columns are packed.
    #[serde(default)]
    pub compression: Part<ColumnCompressionSection>,
}

/// The form of the events of an object together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "batch_codec", inline)]
pub enum BatchCodec {
    /// Apache Parquet. Each column is named after the field that it holds: `timestamp` (`@timestamp`, to the
    /// millisecond), `organization_id`, `event_id`, `event_kind`, `event_code`, `event_action`, `event_outcome`,
    /// `event_provider`, `event_dataset`, `event_severity` (a whole number), `user_id`, `user_name`, `user_email`,
    /// `source_ip`, `host_name`, `file_path`; beside them `tenant` and `stream`, and `document`. A field that an event
    /// has not, or that is of another type there, such as a list, is null in its column.
    Parquet,
}

/// How the columns of a file are packed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "column_compression")]
pub struct ColumnCompressionSection {
    /// The way of packing.
    #[serde(default)]
    pub algorithm: ColumnCompression,
}

/// A way of packing columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "column_algorithm", inline)]
pub enum ColumnCompression {
    /// As they are.
    None,
    /// With Snappy: quick, and read by everything.
    Snappy,
    /// With Zstandard: smaller, for more work.
    #[default]
    Zstd,
}

/// How events stand in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One event a line, packed as a whole.
    Lines(Compression),
    /// Rows of a Parquet file.
    Parquet(ColumnCompression),
}

/// How objects are named, packed and sent, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// What the names of objects begin with.
    pub prefix: Template,
    /// How events stand there.
    pub form: Form,
    /// Longest time for an object.
    pub timeout: Duration,
    /// Most objects at once.
    pub concurrency: usize,
    /// How the server is trusted.
    pub tls: Option<Tls>,
}

/// The keys that all sinks which write objects have.
pub(super) struct Shared<'a> {
    /// The key of the prefix, and what is written there.
    pub prefix: (&'static str, &'a Option<String>),
    pub compression: Option<Compression>,
    pub batch_encoding: &'a Option<Part<BatchEncodingSection>>,
    pub request: &'a Part<ObjectRequestSection>,
    pub tls: &'a Option<Part<TlsSection>>,
}

impl Shared<'_> {
    pub(super) fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Objects {
        let request_at = at.key("request");
        let request = self.request.0.clone().unwrap_or_default();
        let prefix = self.prefix(scope, at);
        let timeout = in_range(
            scope.report,
            &request_at.key("timeout"),
            request.timeout.map(|period| period.0),
            Duration::from_mins(1),
            (Duration::from_millis(100), Duration::from_hours(1)),
            |time| Period(time).to_string(),
        );
        let concurrency = in_range(
            scope.report,
            &request_at.key("concurrency"),
            request.concurrency,
            16,
            (1, 64),
            |number| number.to_string(),
        );
        let tls = self.tls.as_ref().and_then(|tls| tls.0.as_ref());
        Objects {
            prefix,
            form: self.form(scope, at),
            timeout,
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            tls: tls.and_then(|tls| tls.check(scope, &at.key("tls"))),
        }
    }

    fn form(&self, scope: &Scope<'_, '_>, at: &Path) -> Form {
        let Some(encoding) = self.batch_encoding else {
            return Form::Lines(self.compression.unwrap_or(Compression::Gzip));
        };
        if self.compression.is_some() {
            let what = "`compression` is for lines, and `batch_encoding` writes none";
            let help =
                "remove it; `batch_encoding.compression.algorithm` says how columns are packed";
            scope.report.add_key(&at.key("compression"), what, help);
        }
        // What is wrong there is reported.
        let compression = encoding.0.as_ref().and_then(|of| of.compression.0.clone());
        Form::Parquet(compression.unwrap_or_default().algorithm)
    }

    fn prefix(&self, scope: &Scope<'_, '_>, at: &Path) -> Template {
        let (key, text) = self.prefix;
        let at = at.key(key);
        let text = text.as_deref().unwrap_or(DEFAULT_PREFIX);
        let fine = |letter: char| letter.is_ascii_alphanumeric() || "-_.=/".contains(letter);
        let prefix = Template::check(scope, &at, text);
        let parts = || text.trim_end_matches('/').split('/');
        let whole = text.is_empty() || parts().all(|part| !matches!(part, "" | "." | ".."));
        if !whole || text.len() > 300 || !prefix.texts().all(|text| text.chars().all(fine)) {
            let what = format!("`{}` cannot begin a name", text.escape_debug());
            let help = "write folders of letters, digits, `-`, `_`, `.`, `=` with `/` between them: `audit/{tenant}/`";
            scope.report.add(&at, what, help);
        }
        prefix
    }
}
