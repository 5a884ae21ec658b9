//! The pages and files generated from the tables: MAPPING.md and the Elasticsearch index template.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sluicegate_ecs::table::fields::{AUDIT, ENRICHED, rows};
use sluicegate_ecs::table::operations::{Category, OPERATIONS, Type};
use sluicegate_ecs::table::record_types::{KNOWN, LATER, RecordType};
use sluicegate_ecs::{IndexType, fields};

use crate::{check_file, root};

const HEAD: &str = "\
# Office 365 audit records as ECS events

Generated from the tables in `src/table`; `SLUICEGATE_GOLDEN=1 cargo test -p sluicegate-ecs`
writes it anew.

A member that a field takes is moved unless it says otherwise; everything else stays under
`o365.audit` with Microsoft's names. Profile `newer` writes numbers of the record as texts and
leaves out what is empty.

## When a rule does not fit the record

In `reference` mode the mapping ends there and the record stands under `o365audit`. In `robust`
mode, the default, every other rule still runs: `error.message` says what did not fit,
`event.kind` is `pipeline_error`, `event.original` holds the record's bytes, and the member stays
as it is. What robust mode does besides:

- null counts as missing; `\"\"` in a date member too
- the first value of a field stays, the second member stays under `o365.audit`
- odd elements of `Parameters` and its relatives stay under `_raw_items`
- numbers and booleans where a text is needed are taken as text
- a record type given by name or as `8.0` is understood, `CreationTime` also as an epoch number
- `Data` that is an object is used; own `ThreatDetectionMethods` and the like stay beside those of
  entities
- an object never becomes a field of scalars
- of a name that occurs twice in one object the last value is mapped (`duplicate_keys`)
- bad UTF-8 and half surrogate pairs become U+FFFD, `event.original` keeps them (as Base64 if need
  be)
- a record nested deeper than 128 comes out with its bytes only; what is no JSON object is
  rejected

With option `tidy` it also tidies what is no error: `event.category` and `event.type` hold nothing
twice, an unknown record type has its number for a code, `host:port` is split, zone ids are cut
from addresses, `user.email` is one, an unknown `ResultStatus` gives the outcome `unknown`, an
empty `DeviceName` counts as missing.

Tag `clock_suspect`: the event claims to be more than a day later or thirty days older than its
arrival.
";

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn record_types(page: &mut String, title: &str, table: &[RecordType]) {
    let _ = write!(
        page,
        "\n## {title}\n\n| `RecordType` | `event.code` |\n| --- | --- |\n"
    );
    for row in table {
        let _ = writeln!(page, "| {} | `{}` |", row.number, row.code);
    }
}

#[test]
fn the_mapping_page_is_not_stale() {
    let mut page = HEAD.to_owned();
    page.push_str(
        "\n## Fields\n\n| field | type in an index | comes from |\n| --- | --- | --- |\n",
    );
    for row in rows() {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            row.name,
            word(row.index),
            row.from
        );
    }
    page.push_str("\n## Operations\n\n| records | `Operation` | `event.action` ");
    page.push_str("| `event.category` | `event.type` |\n");
    page.push_str("| --- | --- | --- | --- | --- |\n");
    for row in OPERATIONS {
        let _ = writeln!(
            page,
            "| {:?} | `{}` | {} | {} | {} |",
            row.scope,
            row.operation,
            row.action
                .map_or("the same".into(), |action| format!("`{action}`")),
            names(row.categories.iter().copied().map(Category::name)),
            names(row.types.iter().copied().map(Type::name)),
        );
    }
    record_types(&mut page, "Record types", KNOWN);
    record_types(
        &mut page,
        "Record types with option `later_record_types`",
        LATER,
    );
    check_file(&root().join("guest/ecs/MAPPING.md"), &page).unwrap();
}

fn word(index: IndexType) -> &'static str {
    match index {
        IndexType::Keyword => "keyword",
        IndexType::Wildcard => "wildcard",
        IndexType::Text => "match_only_text",
        IndexType::Date => "date",
        IndexType::Ip => "ip",
        IndexType::Long => "long",
        IndexType::Boolean => "boolean",
        IndexType::GeoPoint => "geo_point",
        IndexType::Flattened => "flattened",
        IndexType::Stored => "not indexed",
        IndexType::Object | IndexType::Scratch => "object",
    }
}

fn mapping(index: IndexType) -> Value {
    let kind = word(index);
    match index {
        // A term may have 32766 bytes; what is longer is kept and not indexed.
        IndexType::Keyword => json!({ "type": kind, "ignore_above": 8191 }),
        IndexType::Flattened => json!({ "type": kind, "ignore_above": 8191, "depth_limit": 128 }),
        IndexType::Date | IndexType::Ip | IndexType::Long | IndexType::GeoPoint => {
            json!({ "type": kind, "ignore_malformed": true })
        }
        IndexType::Stored => json!({ "type": "keyword", "index": false, "doc_values": false }),
        _ => json!({ "type": kind }),
    }
}

fn put(properties: &mut Map<String, Value>, path: &str, index: IndexType) {
    match path.split_once('.') {
        None => {
            properties.insert(path.to_owned(), mapping(index));
        }
        Some((parent, rest)) => {
            let entry = properties
                .entry(parent)
                .or_insert_with(|| json!({ "properties": {} }));
            put(entry["properties"].as_object_mut().unwrap(), rest, index);
        }
    }
}

/// What no row knows becomes exact text: the type of the first value that comes along would refuse
/// the next one of another type.
fn dynamic(name: &str, kind: &str) -> Value {
    json!({ name: { "match_mapping_type": kind, "mapping": mapping(IndexType::Keyword) } })
}

#[test]
fn the_index_template_is_not_stale() {
    let mut properties = Map::new();
    for (name, index) in fields().chain(ENRICHED.iter().copied()) {
        put(&mut properties, name, index);
    }
    for (name, index) in AUDIT {
        put(&mut properties, &format!("o365.audit.{name}"), *index);
    }
    // A data stream wants exactly this type for its time.
    properties.insert("@timestamp".into(), json!({ "type": "date" }));
    let template = json!({
        "index_patterns": ["logs-o365.audit-*"],
        "data_stream": {},
        "priority": 250,
        "_meta": { "description": "Office 365 audit events as Sluicegate maps them" },
        "template": {
            "settings": { "index.mapping.total_fields.limit": 2000 },
            "mappings": {
                "date_detection": false,
                "dynamic_templates": [
                    { "audit_objects": {
                        "path_match": "o365.audit.*",
                        "match_mapping_type": "object",
                        "mapping": mapping(IndexType::Flattened),
                    } },
                    dynamic("texts", "string"),
                    dynamic("integers", "long"),
                    dynamic("fractions", "double"),
                    dynamic("flags", "boolean"),
                ],
                "properties": properties,
            },
        },
    });
    let path = root().join("pipelines/elasticsearch/index_template.json");
    check_file(&path, &format!("{template:#}\n")).unwrap();
}

#[test]
fn every_field_has_a_type_and_every_type_is_used() {
    let mut seen = Vec::new();
    for (name, index) in fields()
        .chain(ENRICHED.iter().copied())
        .chain(AUDIT.iter().copied())
    {
        assert!(!name.is_empty() && !name.starts_with('.'), "{name}");
        seen.push(index);
    }
    for index in [
        IndexType::Keyword,
        IndexType::Wildcard,
        IndexType::Text,
        IndexType::Date,
        IndexType::Ip,
        IndexType::Long,
        IndexType::Boolean,
        IndexType::GeoPoint,
        IndexType::Flattened,
        IndexType::Stored,
    ] {
        assert!(seen.contains(&index), "{index:?}");
    }
}
