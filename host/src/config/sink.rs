//! Section `sinks`: where every event goes.

pub mod address;
pub mod azure;
pub mod azure_blob;
pub mod azure_logs_ingestion;
pub mod elasticsearch;
pub mod file;
pub mod fluent;
pub mod gcp_cloud_storage;
pub mod http;
pub mod kafka;
pub mod logstash;
pub mod loki;
pub mod nats;
pub mod objects;
pub mod otlp;
pub mod path_template;
pub mod redis;
pub mod request;
pub mod s3;
pub mod socket;
pub mod splunk_hec;
pub mod template;

use std::collections::HashMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::Scope;
use super::decode::Part;
use super::report::{Path, Place};
use super::stage::{Condition, ConditionSection};

/// The condition of a sink as it is written.
type When = Option<ConditionSection>;

/// One place where events are delivered. An event counts as delivered when every sink that it goes to has it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "sink")]
pub enum SinkSection {
    /// Writes events to standard output, one JSON object a line.
    Stdout(StdoutSection),
    /// Appends events to files.
    File(Box<file::FileSection>),
    /// Writes events as blobs to Azure Blob Storage.
    AzureBlob(Box<azure_blob::AzureBlobSection>),
    /// Sends events to a table of Azure Monitor Logs, and so to Microsoft Sentinel.
    AzureLogsIngestion(Box<azure_logs_ingestion::AzureLogsIngestionSection>),
    /// Creates events as documents of Elasticsearch or OpenSearch.
    Elasticsearch(Box<elasticsearch::ElasticsearchSection>),
    /// Writes events as objects to Google Cloud Storage.
    GcpCloudStorage(Box<gcp_cloud_storage::GcpCloudStorageSection>),
    /// Posts events to any address.
    Http(Box<http::HttpSection>),
    /// Produces events as messages of Apache Kafka.
    Kafka(Box<kafka::KafkaSection>),
    /// Pushes events to Grafana Loki.
    Loki(Box<loki::LokiSection>),
    /// Publishes events to a stream of NATS JetStream.
    Nats(Box<nats::NatsSection>),
    /// Sends events as log records by OTLP.
    Otlp(Box<otlp::OtlpSection>),
    /// Adds events to streams or lists of Redis.
    Redis(Box<redis::RedisSection>),
    /// Writes events as objects to Amazon S3 or a service that speaks its protocol.
    S3(Box<s3::S3Section>),
    /// Sends events to Splunk's HTTP event collector.
    SplunkHec(Box<splunk_hec::SplunkHecSection>),
    /// Sends events over TCP, UDP or a Unix socket.
    Socket(Box<socket::SocketSection>),
    /// Sends events to Logstash.
    Logstash(Box<logstash::LogstashSection>),
    /// Sends events to Fluentd or Fluent Bit.
    Fluent(Box<fluent::FluentSection>),
}

/// Writes events to standard output, one JSON object a line.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "stdout")]
pub struct StdoutSection {
    /// Its name in logs and metrics; needed when two sinks are of one kind. Default: the kind.
    pub name: Option<String>,
    /// Only events that match go here: a map of field to value or list of values, or a condition in VRL, as for
    /// `filter`.
    #[schemars(extend("examples" = [{ "event.kind": "alert" }]))]
    pub when: When,
}

/// One sink, checked.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Which events go there; `None` for all.
    pub when: Option<Condition>,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// Files that are chosen by the event, rotated, packed, or of rows.
    Files(Box<file::Files>),
    /// Azure Blob Storage.
    AzureBlob(Box<azure_blob::AzureBlob>),
    /// Azure Monitor Logs.
    AzureLogsIngestion(Box<azure_logs_ingestion::AzureLogsIngestion>),
    /// Elasticsearch or OpenSearch.
    Elasticsearch(Box<elasticsearch::Elasticsearch>),
    /// Google Cloud Storage.
    GcpCloudStorage(Box<gcp_cloud_storage::GcpCloudStorage>),
    /// Any endpoint.
    Http(Box<http::HttpSinkConfig>),
    /// Apache Kafka.
    Kafka(Box<kafka::Kafka>),
    /// Grafana Loki.
    Loki(Box<loki::Loki>),
    /// NATS JetStream.
    Nats(Box<nats::Nats>),
    /// OTLP.
    Otlp(Box<otlp::Otlp>),
    /// Redis.
    Redis(Box<redis::Redis>),
    /// Object storage.
    S3(Box<s3::S3>),
    /// Splunk's HTTP event collector.
    SplunkHec(Box<splunk_hec::SplunkHec>),
    /// TCP, UDP or a Unix socket.
    Socket(Box<socket::Socket>),
    /// Logstash.
    Logstash(Box<logstash::Logstash>),
    /// Fluentd or Fluent Bit.
    Fluent(Box<fluent::Fluent>),
}

impl SinkKind {
    /// The key under which it is written; its name where none is given.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::File { .. } | Self::Files(_) => "file",
            Self::AzureBlob(_) => "azure_blob",
            Self::AzureLogsIngestion(_) => "azure_logs_ingestion",
            Self::Elasticsearch(_) => "elasticsearch",
            Self::GcpCloudStorage(_) => "gcp_cloud_storage",
            Self::Http(_) => "http",
            Self::Kafka(_) => "kafka",
            Self::Loki(_) => "loki",
            Self::Nats(_) => "nats",
            Self::Otlp(_) => "otlp",
            Self::Redis(_) => "redis",
            Self::S3(_) => "s3",
            Self::SplunkHec(_) => "splunk_hec",
            Self::Socket(_) => "socket",
            Self::Logstash(_) => "logstash",
            Self::Fluent(_) => "fluent",
        }
    }
}

impl SinkKind {
    /// What two sinks must not share.
    fn target(&self) -> String {
        let key = self.key();
        match self {
            Self::Stdout => key.to_owned(),
            Self::File { path } => format!("{key} {}", path.display()),
            Self::Files(files) => format!("{key} {}", files.path),
            Self::AzureBlob(sink) => {
                let (url, prefix) = (&sink.endpoint, &sink.objects.prefix);
                format!("{key} {url} {} {prefix}", sink.container_name)
            }
            Self::AzureLogsIngestion(sink) => format!("{key} {}{}", sink.endpoint, sink.path),
            Self::Elasticsearch(sink) => {
                let endpoints: Vec<&str> = sink.endpoints.iter().map(url::Url::as_str).collect();
                let pipeline = sink.pipeline.as_deref().unwrap_or_default();
                format!(
                    "{key} {} {} {pipeline}",
                    endpoints.join(" "),
                    sink.index.pattern()
                )
            }
            Self::GcpCloudStorage(sink) => {
                let (url, prefix) = (&sink.endpoint, &sink.objects.prefix);
                format!("{key} {url} {} {prefix}", sink.bucket)
            }
            Self::Http(sink) => format!("{key} {} {:?}", sink.uri, sink.headers),
            Self::Kafka(sink) => format!("{key} {} {}", sink.bootstrap_servers, sink.topic),
            Self::Loki(sink) => format!("{key} {} {:?}", sink.endpoint, sink.labels),
            Self::Nats(sink) => format!("{key} {:?} {}", sink.endpoints, sink.subject),
            Self::Otlp(sink) => {
                format!(
                    "{key} {} {:?} {:?}",
                    sink.endpoint, sink.headers, sink.resource
                )
            }
            Self::Redis(sink) => format!("{key} {} {} {}", sink.endpoint, sink.db, sink.key),
            Self::S3(sink) => {
                format!(
                    "{key} {:?} {} {}",
                    sink.endpoint, sink.bucket, sink.objects.prefix
                )
            }
            Self::SplunkHec(sink) => format!("{key} {} {:?}", sink.endpoint, sink.metadata),
            Self::Socket(sink) => format!("{key} {:?} {}", sink.mode, sink.target),
            Self::Logstash(sink) => format!("{key} {:?} {}", sink.endpoints, sink.beat),
            Self::Fluent(sink) => format!("{key} {:?} {}", sink.endpoints, sink.tag),
        }
    }
}

impl SinkSection {
    fn check(&self, scope: &Scope<'_, '_>, at: &Path) -> Option<Sink> {
        let (key, name, when) = self.common();
        let at = at.key(key);
        let kind = match self {
            Self::Stdout(_) => Some(SinkKind::Stdout),
            Self::File(section) => section.check(scope, &at),
            Self::AzureBlob(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::AzureBlob(Box::new(checked))),
            Self::AzureLogsIngestion(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::AzureLogsIngestion(Box::new(checked))),
            Self::Elasticsearch(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Elasticsearch(Box::new(checked))),
            Self::GcpCloudStorage(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::GcpCloudStorage(Box::new(checked))),
            Self::Http(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Http(Box::new(checked))),
            Self::Kafka(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Kafka(Box::new(checked))),
            Self::Loki(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Loki(Box::new(checked))),
            Self::Nats(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Nats(Box::new(checked))),
            Self::Otlp(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Otlp(Box::new(checked))),
            Self::Redis(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Redis(Box::new(checked))),
            Self::S3(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::S3(Box::new(checked))),
            Self::SplunkHec(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::SplunkHec(Box::new(checked))),
            Self::Socket(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Socket(Box::new(checked))),
            Self::Logstash(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Logstash(Box::new(checked))),
            Self::Fluent(section) => section
                .check(scope, &at)
                .map(|checked| SinkKind::Fluent(Box::new(checked))),
        };
        if let Some(name) = name {
            scope.name(&at.key("name"), name, 64);
        }
        let when = when.as_ref();
        let when = when.and_then(|when| when.check(scope, &at.key("when"), "when"));
        Some(Sink {
            name: name.clone().unwrap_or_else(|| key.to_owned()),
            place: scope.report.place(&at),
            when,
            kind: kind?,
        })
    }

    /// What every sink has: its key, its name, its condition.
    fn common(&self) -> (&'static str, &Option<String>, &When) {
        match self {
            Self::Stdout(section) => ("stdout", &section.name, &section.when),
            Self::File(section) => ("file", &section.name, &section.when),
            Self::AzureBlob(section) => ("azure_blob", &section.name, &section.when),
            Self::AzureLogsIngestion(section) => {
                ("azure_logs_ingestion", &section.name, &section.when)
            }
            Self::Elasticsearch(section) => ("elasticsearch", &section.name, &section.when),
            Self::GcpCloudStorage(section) => ("gcp_cloud_storage", &section.name, &section.when),
            Self::Http(section) => ("http", &section.name, &section.when),
            Self::Kafka(section) => ("kafka", &section.name, &section.when),
            Self::Loki(section) => ("loki", &section.name, &section.when),
            Self::Nats(section) => ("nats", &section.name, &section.when),
            Self::Otlp(section) => ("otlp", &section.name, &section.when),
            Self::Redis(section) => ("redis", &section.name, &section.when),
            Self::S3(section) => ("s3", &section.name, &section.when),
            Self::SplunkHec(section) => ("splunk_hec", &section.name, &section.when),
            Self::Socket(section) => ("socket", &section.name, &section.when),
            Self::Logstash(section) => ("logstash", &section.name, &section.when),
            Self::Fluent(section) => ("fluent", &section.name, &section.when),
        }
    }
}

/// Checks all sinks: at least one, with names and files of their own.
pub(super) fn check_all(
    scope: &Scope<'_, '_>,
    at: &Path,
    sections: &[Part<SinkSection>],
) -> Vec<Sink> {
    if sections.is_empty() {
        scope
            .report
            .add(at, "there is no sink", "add one: `- stdout: {}`");
    }
    let mut names: HashMap<String, u64> = HashMap::new();
    let mut targets: HashMap<String, u64> = HashMap::new();
    let mut sinks = Vec::new();
    for (index, part) in sections.iter().enumerate() {
        let Some(section) = &part.0 else { continue };
        let Some(sink) = section.check(scope, &at.index(index)) else {
            continue;
        };
        let at = at.index(index).key(sink.kind.key());
        let line = sink.place.at.line;
        let target = sink.kind.target();
        if let Some(first) = targets.get(&target) {
            let what = "two sinks write to the same place";
            scope.report.add(
                &at,
                what,
                format!("the other stands in line {first}; remove one"),
            );
        } else if let Some(first) = names.get(&sink.name) {
            let what = format!("sink name `{}` is used twice", sink.name);
            let help = format!("the other stands in line {first}; set `name` on one of them");
            scope.report.add(&at, what, help);
        }
        names.entry(sink.name.clone()).or_insert(line);
        targets.entry(target).or_insert(line);
        sinks.push(sink);
    }
    sinks
}
