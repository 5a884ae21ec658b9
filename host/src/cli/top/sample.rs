//! What a collector says of itself at one moment: `/status`, and from `/metrics` what fails.

use std::collections::HashMap;
use std::time::Instant;

use serde::Deserialize;

use crate::cli::ask::Collector;
use crate::error::Error;

/// The counter of failed calls and unusable records of a stream.
const ERRORS: &str = "sluicegate_stream_errors_total";

/// One look.
#[derive(Debug)]
pub(super) struct Sample {
    pub at: Instant,
    pub status: Status,
    /// Errors since the start, by pipeline, tenant and stream.
    pub errors: HashMap<[String; 3], u64>,
}

/// The answer of `/status`, as far as it is shown. What is missing, such as by an older collector, is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub version: String,
    pub started: String,
    pub time: String,
    pub memory_bytes: Option<u64>,
    pub pipelines: Vec<Pipeline>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pipeline {
    pub name: String,
    pub tenants: Vec<Tenant>,
    pub sinks: Vec<Sink>,
    pub ledger_trouble: Option<String>,
    pub buffer: Buffer,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Buffer {
    pub bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tenant {
    pub id: String,
    pub streams: Vec<Stream>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    #[serde(rename = "stream")]
    pub name: String,
    pub health: Option<Health>,
    pub trouble: Option<Trouble>,
    pub lag_seconds: Option<i64>,
    pub backlog: Splits,
    pub quarantine: Splits,
    pub since_start: Counts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Health {
    pub state: String,
    pub reasons: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trouble {
    pub reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Splits {
    pub splits: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    pub events_delivered: u64,
    pub losses: u64,
    pub dead_lettered: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sink {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub events_delivered: u64,
    pub events_refused: u64,
    pub events_pending: u64,
    pub waited_for_seconds: Option<f64>,
}

impl Sample {
    /// Asks the collector.
    pub async fn take(collector: &Collector) -> Result<Self, Error> {
        let status = collector.text("/status").await?;
        let metrics = collector.text("/metrics").await?;
        Self::read(&status, &metrics)
    }

    /// What two answers say.
    pub fn read(status: &str, metrics: &str) -> Result<Self, Error> {
        let status = serde_json::from_str(status).map_err(|error| {
            Error::unavailable(format!("the collector's status cannot be read: {error}"))
        })?;
        Ok(Self {
            at: Instant::now(),
            status,
            errors: errors(metrics),
        })
    }
}

/// The sums over kinds of errors, of each stream.
fn errors(metrics: &str) -> HashMap<[String; 3], u64> {
    let mut sums = HashMap::new();
    for line in metrics.lines() {
        let Some(rest) = line
            .strip_prefix(ERRORS)
            .and_then(|rest| rest.strip_prefix('{'))
        else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else {
            continue;
        };
        let names = ["pipeline", "tenant", "stream"];
        if let ([Some(pipeline), Some(tenant), Some(stream)], Ok(value)) =
            (names.map(|name| label(labels, name)), value.parse::<u64>())
        {
            *sums.entry([pipeline, tenant, stream]).or_default() += value;
        }
    }
    sums
}

/// The value of a label; in the text format it is quoted, with `\\`, `\"` and `\n`.
fn label(labels: &str, name: &str) -> Option<String> {
    let mut rest = labels;
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        if key.trim_start_matches(',') == name {
            return Some(value);
        }
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_name_and_unescaped() {
        let labels = r#"pipeline="a",tenant="say \"b\"",stream="c\\d",error_type="x""#;
        assert_eq!(label(labels, "pipeline").unwrap(), "a");
        assert_eq!(label(labels, "tenant").unwrap(), "say \"b\"");
        assert_eq!(label(labels, "stream").unwrap(), "c\\d");
        assert_eq!(label(labels, "type"), None);
    }

    #[test]
    fn errors_are_summed_over_their_kinds() {
        let metrics = "\
# HELP sluicegate_stream_errors_total Something.
sluicegate_stream_errors_total{pipeline=\"p\",tenant=\"t\",stream=\"s\",error_type=\"a\"} 2
sluicegate_stream_errors_total{pipeline=\"p\",tenant=\"t\",stream=\"s\",error_type=\"b\"} 3
sluicegate_streams{pipeline=\"p\"} 9
";
        let key = ["p", "t", "s"].map(str::to_owned);
        assert_eq!(errors(metrics), HashMap::from([(key, 5)]));
    }
}
