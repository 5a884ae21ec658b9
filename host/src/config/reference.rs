//! Writes what the structs of the config say of themselves: the manual's page and a JSON Schema for
//! editors.
//!
//! The doc comments are the words, so a key cannot be there without its sentence; a test keeps both
//! files from growing stale.

use std::fmt::Write as _;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};

use super::{
    PipelineSection, api, auth, health, http, limits, pipeline_test, sink, source, stage,
    telemetry, tenants,
};

/// The JSON Schema (2020-12) of a pipeline file.
pub fn schema() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator
        .into_root_schema_for::<PipelineSection>()
        .to_value();
    schema["title"] = json!("Sluicegate pipeline");
    tidy(&mut schema);
    schema
}

/// Takes out what editors would misread, and joins the lines of doc comments.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // `uint32` is no format that JSON Schema knows; the bounds say the same.
            map.remove("format");
            if let Some(Value::String(words)) = map.get_mut("description") {
                *words = words.replace('\n', " ");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

const INTRODUCTION: &str = "\
# Pipeline files: every key

This page is generated from `host/src/config.rs` and the files beside it; `cargo golden` writes it.
`pipelines/pipeline.schema.json` says the same to editors; `sluicegate validate FILE` checks a file.

A pipeline file is one YAML document: one `source`, any number of `stages`, one or more `sinks`.
Unknown keys are refused. Nothing is interpolated from the environment.

| value | is written |
| --- | --- |
| size | a whole number and one of B, KiB, MiB, GiB, kB, MB, GB: `64MiB` |
| duration | a whole number and one of ms, s, m, h, d: `30s`, `5m`, `8d` |
| secret | where it is found, never itself: `{ env: NAME }`, `{ file: PATH }`, \
`{ directory: PATH, name: NAME }` (a file for each secret), `{ credential: NAME }` (systemd's `LoadCredential=`), or \
`{ exec: [COMMAND, ARGUMENT] }`: what the command prints, run without a shell, killed after `timeout` (`10s`). \
It is read again whenever it is needed anew |
| path | what belongs to the config (plugins, secrets, certificates, databases) is seen from the \
file's folder; what is written (state, output) from the working directory |
";

/// The page `pipelines/REFERENCE.md`.
pub fn reference() -> String {
    let schema = schema();
    let mut page = Page {
        schema: &schema,
        order: order(),
        done: Vec::new(),
        text: INTRODUCTION.into(),
    };
    page.section("pipeline", &schema, "");
    page.text
}

struct Page<'s> {
    schema: &'s Value,
    order: Map<String, Value>,
    /// Sections that stand on the page or will, by the name of their struct, with their heading.
    done: Vec<(String, String)>,
    text: String,
}

impl<'s> Page<'s> {
    /// Writes a section, then those that its keys lead to.
    fn section(&mut self, name: &str, schema: &'s Value, path: &str) {
        if !path.is_empty() {
            let words = schema["description"].as_str().unwrap_or_default();
            let _ = writeln!(self.text, "\n## `{path}`\n\n{words}");
        }
        let inner = match schema["oneOf"].as_array() {
            Some(cases) => self.cases(cases, path),
            None => self.keys(name, schema, path),
        };
        for (name, path) in inner {
            let schema = &self.schema["$defs"][&name];
            self.section(&name, schema, &path);
        }
    }

    /// A section of which exactly one key is written. Returns the sections it leads to.
    fn cases(&mut self, cases: &'s [Value], path: &str) -> Vec<(String, String)> {
        self.text += "\nExactly one of these keys:\n\n| key | meaning |\n| --- | --- |\n";
        let mut inner = Vec::new();
        for case in cases {
            let Some((key, value)) = case["properties"]
                .as_object()
                .and_then(|map| map.iter().next())
            else {
                continue;
            };
            let words = case["description"].as_str().unwrap_or_default();
            let path = format!("{path}.{key}");
            let _ = writeln!(self.text, "| [`{key}`](#{}) | {words} |", anchor(&path));
            inner.extend(self.claim(value, path));
        }
        inner
    }

    /// The section that a value leads to, unless it stands on the page elsewhere.
    fn claim(&mut self, value: &Value, path: String) -> Option<(String, String)> {
        let name = target(value)?;
        if self.done.iter().any(|(known, _)| *known == name) {
            return None;
        }
        self.done.push((name.clone(), path.clone()));
        Some((name, path))
    }

    /// A section's table of keys. Returns the sections it leads to.
    fn keys(&mut self, name: &str, schema: &'s Value, path: &str) -> Vec<(String, String)> {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        if let Some(entries) = schema["x-entries"].as_str() {
            let example = flow(&schema["examples"][0]);
            let _ = writeln!(
                self.text,
                "\nEvery entry has its {entries}. Example: `{example}`."
            );
            return Vec::new();
        }
        if properties.is_empty() {
            self.text += "\nIt has no keys: `{}`.\n";
            return Vec::new();
        }
        self.text += "\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
        let mut inner = Vec::new();
        let order: Vec<String> = self.order[name]
            .as_array()
            .map(|keys| {
                keys.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        for key in order {
            let property = &properties[&key];
            let list = property["type"] == "array";
            let mut path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            if list {
                path += "[]";
            }
            let words = property["description"].as_str().unwrap_or_default();
            let sections = match list_or_map(property) {
                Some((item, map)) => {
                    let name = target(map).unwrap_or_default();
                    vec![(item, format!("{path}[]")), (map, format!("{path}.{name}"))]
                }
                None if list => vec![(&property["items"], path.clone())],
                None => vec![(property, path.clone())],
            };
            let mut value = match &sections[..] {
                [(item, of), (map, or)] => {
                    let (item, map) = (self.kind(item, of), self.kind(map, or));
                    format!("list of {item}, or {map}")
                }
                _ => self.kind(property, &path),
            };
            if list {
                value = format!("list of {value}");
            }
            let default = default(schema, property, &key);
            let example = match &property["examples"][0] {
                Value::Null => String::new(),
                example => format!(" Example: `{}`.", flow(example)),
            };
            let _ = writeln!(
                self.text,
                "| `{key}` | {value} | {default} | {words}{example} |"
            );
            for (section, path) in sections {
                inner.extend(self.claim(section, path));
            }
        }
        inner
    }

    /// What a key takes, in a word or a link.
    fn kind(&self, schema: &Value, path: &str) -> String {
        if let Some(name) = target(if schema["type"] == "array" {
            &schema["items"]
        } else {
            schema
        }) {
            let known = self.done.iter().find(|(known, _)| *known == name);
            let path = known.map_or(path, |(_, path)| path);
            return format!("[`{path}`](#{})", anchor(path));
        }
        if let Some(kind) = schema["x-kind"].as_str() {
            return kind.to_owned();
        }
        if let Some(cases) = schema["oneOf"].as_array() {
            let cases: Vec<String> = cases
                .iter()
                .map(|case| {
                    let words = case["description"].as_str().unwrap_or_default();
                    format!(
                        "`{}`: {}",
                        flow(&case["const"]),
                        words.trim_end_matches('.')
                    )
                })
                .collect();
            return cases.join("<br>");
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| **kind != "null"),
            kind => Some(kind),
        };
        match kind.and_then(Value::as_str) {
            // A list is named by what it is of, which is text where it is no section.
            Some("string" | "array") => "text".to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some("number") => "number".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("object") => "map".to_owned(),
            _ => "any".to_owned(),
        }
    }
}

fn default(section: &Value, property: &Value, key: &str) -> String {
    let needed = section["required"]
        .as_array()
        .is_some_and(|keys| keys.iter().any(|one| one == key));
    match (&property["default"], needed) {
        (_, true) => "needed".to_owned(),
        (Value::Null, false) => String::new(),
        (value, false) => format!("`{}`", flow(value)),
    }
}

/// Both forms of a value that is a list or a map: the list's items, and the map.
fn list_or_map(schema: &Value) -> Option<(&Value, &Value)> {
    match &schema["oneOf"].as_array()?[..] {
        [list, map] if list["type"] == "array" => Some((&list["items"], map)),
        _ => None,
    }
}

/// The name of the struct that a value is read into.
pub(super) fn target(schema: &Value) -> Option<String> {
    let direct = schema["$ref"].as_str();
    let optional = || {
        schema["anyOf"]
            .as_array()?
            .iter()
            .find_map(|case| case["$ref"].as_str())
    };
    direct
        .or_else(optional)?
        .strip_prefix("#/$defs/")
        .map(str::to_owned)
}

/// A value as YAML in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{key}: {}", flow(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// The anchor that Markdown readers make of a heading.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter))
        .collect()
}

/// The keys of every section in the order in which the structs name them, which a schema does not
/// keep.
#[allow(clippy::too_many_lines, reason = "a table: one row for each section")]
pub(super) fn order() -> Map<String, Value> {
    let rows = [
        ("pipeline", keys::<PipelineSection>()),
        ("state", keys::<super::StateSection>()),
        ("test", keys::<pipeline_test::TestSection>()),
        ("test_input", keys::<pipeline_test::InputSection>()),
        ("test_output", keys::<pipeline_test::OutputSection>()),
        (
            "dead_letter",
            keys::<super::dead_letter::DeadLetterSection>(),
        ),
        ("source", keys::<source::SourceSection>()),
        ("tenant", keys::<tenants::TenantSection>()),
        ("directory", keys::<tenants::DirectorySection>()),
        ("grants", keys::<source::GrantsSection>()),
        ("limits", keys::<limits::LimitsSection>()),
        ("microsoft", keys::<auth::MicrosoftSection>()),
        ("oauth2", keys::<auth::OAuth2Section>()),
        ("certificate", keys::<auth::CertificateSection>()),
        ("health", keys::<health::HealthSection>()),
        ("http", keys::<http::HttpSection>()),
        ("proxy", keys::<http::ProxySection>()),
        ("api", keys::<api::ApiSection>()),
        ("telemetry", keys::<telemetry::TelemetrySection>()),
        ("telemetry_otlp", keys::<telemetry::TelemetryOtlpSection>()),
        ("filter", keys::<stage::FilterSection>()),
        ("wasm", keys::<stage::WasmSection>()),
        ("geoip", keys::<stage::GeoipSection>()),
        ("remap", keys::<stage::RemapSection>()),
        ("redact", keys::<stage::RedactSection>()),
        ("sample", keys::<stage::SampleSection>()),
        ("drop", keys::<stage::DropSection>()),
        ("stdout", keys::<sink::StdoutSection>()),
        ("file", keys::<sink::file::FileSection>()),
        ("file_encoding", keys::<sink::file::FileEncodingSection>()),
        ("rotate", keys::<sink::file::RotateSection>()),
        ("azure_blob", keys::<sink::azure_blob::AzureBlobSection>()),
        (
            "azure_blob_auth",
            keys::<sink::azure_blob::AzureBlobAuthSection>(),
        ),
        (
            "gcp_cloud_storage",
            keys::<sink::gcp_cloud_storage::GcpCloudStorageSection>(),
        ),
        ("azure_auth", keys::<sink::azure::AzureAuthSection>()),
        (
            "azure_logs_ingestion",
            keys::<sink::azure_logs_ingestion::AzureLogsIngestionSection>(),
        ),
        (
            "elasticsearch",
            keys::<sink::elasticsearch::ElasticsearchSection>(),
        ),
        ("http_sink", keys::<sink::http::HttpSection>()),
        ("kafka", keys::<sink::kafka::KafkaSection>()),
        ("sasl", keys::<sink::kafka::SaslSection>()),
        ("loki", keys::<sink::loki::LokiSection>()),
        ("nats", keys::<sink::nats::NatsSection>()),
        ("nats_auth", keys::<sink::nats::NatsAuthSection>()),
        ("otlp", keys::<sink::otlp::OtlpSection>()),
        ("redis", keys::<sink::redis::RedisSection>()),
        ("redis_auth", keys::<sink::redis::RedisAuthSection>()),
        ("s3", keys::<sink::s3::S3Section>()),
        ("s3_auth", keys::<sink::s3::S3AuthSection>()),
        (
            "object_request",
            keys::<sink::objects::ObjectRequestSection>(),
        ),
        (
            "batch_encoding",
            keys::<sink::objects::BatchEncodingSection>(),
        ),
        (
            "column_compression",
            keys::<sink::objects::ColumnCompressionSection>(),
        ),
        ("splunk_hec", keys::<sink::splunk_hec::SplunkHecSection>()),
        ("socket", keys::<sink::socket::SocketSection>()),
        ("socket_encoding", keys::<sink::socket::EncodingSection>()),
        ("logstash", keys::<sink::logstash::LogstashSection>()),
        ("fluent", keys::<sink::fluent::FluentSection>()),
        ("batch", keys::<sink::request::BatchSection>()),
        ("request", keys::<sink::request::RequestSection>()),
        ("tls", keys::<sink::request::TlsSection>()),
        ("sink_auth", keys::<sink::request::AuthSection>()),
    ];
    rows.into_iter()
        .map(|(name, keys)| (name.to_owned(), json!(keys)))
        .collect()
}

/// The keys of a struct: what its derived code asks a deserializer for.
fn keys<T: DeserializeOwned>() -> Vec<String> {
    match T::deserialize(Ask) {
        Ok(_) => Vec::new(),
        Err(Keys(keys)) => keys,
    }
}

/// Answers every request with the keys that were asked for.
struct Ask;

/// The keys, on the only way out.
#[derive(Debug)]
struct Keys(Vec<String>);

impl std::fmt::Display for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("asked")
    }
}

impl std::error::Error for Keys {}

impl Error for Keys {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(Vec::new())
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Keys;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Keys> {
        Err(Keys(Vec::new()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Keys> {
        Err(Keys(
            fields.iter().map(|field| (*field).to_owned()).collect(),
        ))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, found: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../pipelines")
            .join(name);
        if std::env::var_os("SLUICEGATE_GOLDEN").is_some() {
            std::fs::write(&path, found).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            wanted == found,
            "pipelines/{name} is stale: SLUICEGATE_GOLDEN=1 cargo test -p sluicegate writes it anew"
        );
    }

    #[test]
    fn the_page_is_not_stale() {
        check("REFERENCE.md", &reference());
    }

    #[test]
    fn the_schema_is_not_stale() {
        let text = serde_json::to_string_pretty(&schema()).unwrap();
        check("pipeline.schema.json", &format!("{text}\n"));
    }

    /// Every key has a sentence, a place in the order and a row on the page.
    #[test]
    fn every_key_is_described() {
        let (schema, order, page) = (schema(), order(), reference());
        let root = [("pipeline".to_owned(), schema.clone())];
        let sections = schema["$defs"].as_object().unwrap().clone();
        for (name, section) in sections.into_iter().chain(root) {
            let Some(properties) = section["properties"].as_object() else {
                continue;
            };
            let mut known: Vec<&str> = order
                .get(&name)
                .map_or(&[][..], |keys| keys.as_array().unwrap())
                .iter()
                .map(|key| key.as_str().unwrap())
                .collect();
            known.sort_unstable();
            assert_eq!(
                properties.keys().map(String::as_str).collect::<Vec<_>>(),
                known,
                "{name}"
            );
            for (key, property) in properties {
                let words = property["description"].as_str().unwrap_or_default();
                assert!(words.ends_with('.'), "{name}.{key}: {words}");
                assert!(page.contains(&format!("| `{key}` | ")), "{name}.{key}");
            }
        }
    }

    /// What the page calls a default is what an empty section becomes.
    #[test]
    fn defaults_are_the_limits_in_force() {
        let schema = schema();
        let written = |section: &str| {
            let keys = schema["$defs"][section]["properties"].as_object().unwrap();
            keys.iter()
                .map(|(key, value)| format!("{key}: {}, ", flow(&value["default"])))
                .collect::<Vec<_>>()
                .concat()
        };
        let (limits, health) = (written("limits"), written("health"));
        let text = format!(
            "source: {{ plugin: o365, tenants: [{{ id: a }}], limits: {{ {limits} }} }}\n\
             sinks: [stdout: ]\n\
             health: {{ {health} }}\n\
             identity_horizon: {}\ndrain_timeout: {}\n",
            flow(&schema["properties"]["identity_horizon"]["default"]),
            flow(&schema["properties"]["drain_timeout"]["default"]),
        );
        let path = std::path::Path::new("a.yaml");
        let set = super::super::Config::parse(path, &text, None).unwrap();
        let plain = "source: { plugin: o365, tenants: [{ id: a }] }\nsinks: [stdout: ]\n";
        let plain = super::super::Config::parse(path, plain, None).unwrap();
        assert_eq!(set.source.tenants[0].limits, plain.source.tenants[0].limits);
        assert_eq!(set.health, plain.health);
        assert_eq!(set.identity_horizon, plain.identity_horizon);
        assert_eq!(set.drain_timeout, plain.drain_timeout);
    }
}
