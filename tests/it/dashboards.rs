//! The dashboards for Kibana and Grafana: written from one description, and true to what is delivered and measured.

mod grafana;
mod kibana;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluicegate::event::StreamKey;
use sluicegate::ledger::progress::{Backlog, Front, Progress};
use sluicegate::metrics::component::SinkCounts;
use sluicegate::metrics::export::export;
use sluicegate::metrics::requests::RequestCounts;
use sluicegate::metrics::snapshot::{
    PipelineSnapshot, SinkSnapshot, Snapshot, StreamSnapshot, TenantSnapshot,
};
use sluicegate::metrics::streams::StreamCounts;
use sluicegate::metrics::text::Text;

use sluicegate_ecs::table::fields::ENRICHED;

use crate::{folder, root};
use table::{Chart, PAGES, ROWS};

const KIBANA: &str = "elasticsearch/kibana.ndjson";
const GRAFANA: &str = "grafana/sluicegate.json";

#[track_caller]
fn golden(name: &str, found: &str) {
    let path = root().join("pipelines").join(name);
    if std::env::var_os("SLUICEGATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        wanted == found,
        "pipelines/{name} is stale: `cargo golden` writes it anew"
    );
}

#[test]
fn the_files_are_not_stale() {
    let objects = kibana::objects();
    let lines: Vec<_> = objects.iter().map(|object| format!("{object}\n")).collect();
    golden(KIBANA, &lines.concat());
    golden(GRAFANA, &format!("{:#}\n", grafana::dashboard()));
}

/// The fields of the index template with their types.
fn mapping() -> BTreeMap<String, String> {
    fn walk(path: &str, properties: &Value, fields: &mut BTreeMap<String, String>) {
        for (name, field) in properties.as_object().unwrap() {
            let path = format!("{path}{name}");
            match field.get("properties") {
                Some(inner) => walk(&format!("{path}."), inner, fields),
                None => {
                    let _ = fields.insert(path, field["type"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    let text = std::fs::read_to_string(root().join("pipelines/elasticsearch/index_template.json"))
        .unwrap();
    let template: Value = serde_json::from_str(&text).unwrap();
    let mut fields = BTreeMap::new();
    walk(
        "",
        &template["template"]["mappings"]["properties"],
        &mut fields,
    );
    fields
}

/// The fields that a query in KQL names: what stands in front of a colon.
fn asked(query: &str) -> Vec<&str> {
    let words: Vec<&str> = query
        .split([' ', '(', ')'])
        .filter(|word| !word.is_empty())
        .collect();
    let pairs = words.windows(2).filter(|pair| pair[1] == ":");
    pairs.map(|pair| pair[0]).collect()
}

#[test]
fn every_field_of_a_chart_is_in_the_mapping_and_can_be_counted_by() {
    let mapping = mapping();
    let tables: BTreeSet<&str> = sluicegate_ecs::fields()
        .chain(ENRICHED.iter().copied())
        .map(|(name, _)| name)
        .collect();
    let mut checked = 0;
    let mut check = |field: &str, kinds: &[&str]| {
        let kind = mapping
            .get(field)
            .unwrap_or_else(|| panic!("`{field}` is not in the template"));
        assert!(
            kinds.is_empty() || kinds.contains(&kind.as_str()),
            "`{field}` is of type {kind}"
        );
        assert!(tables.contains(field), "`{field}` is not in the tables");
        checked += 1;
    };
    let counted = ["keyword", "ip", "long", "boolean"];
    for page in PAGES {
        asked(page.query)
            .into_iter()
            .for_each(|field| check(field, &counted));
        for chart in page.charts {
            match chart {
                Chart::Count { query, .. } => asked(query)
                    .into_iter()
                    .for_each(|field| check(field, &counted)),
                Chart::Distinct { field, .. } | Chart::Share { field, .. } => {
                    check(field, &counted);
                }
                Chart::OverTime { split, .. } => check(split, &counted),
                Chart::Top { fields, .. } => fields.iter().for_each(|field| check(field, &counted)),
                Chart::Map { field, tooltip, .. } => {
                    check(field, &["geo_point"]);
                    tooltip.iter().for_each(|field| check(field, &[]));
                }
                Chart::Events { columns, .. } => columns.iter().for_each(|field| check(field, &[])),
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

/// JSON in a text of an object.
#[track_caller]
fn inner(object: &Value, key: &str) -> Value {
    let text = object["attributes"][key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key}"));
    serde_json::from_str(text).unwrap()
}

#[test]
fn kibana_finds_every_object_that_another_refers_to() {
    let objects = kibana::objects();
    let known: BTreeSet<(&str, &str)> = objects
        .iter()
        .map(|object| {
            (
                object["type"].as_str().unwrap(),
                object["id"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(known.len(), objects.len(), "two objects have one id");
    let dashboards = known
        .iter()
        .filter(|(kind, _)| *kind == "dashboard")
        .count();
    assert_eq!(dashboards, PAGES.len());
    assert!(known.iter().any(|(kind, _)| *kind == "map"));
    for object in &objects {
        let id = &object["id"];
        assert!(
            object["attributes"]["title"].is_string() && object["typeMigrationVersion"].is_string(),
            "{id}"
        );
        let references = object["references"].as_array().unwrap();
        for one in references {
            let target = (one["type"].as_str().unwrap(), one["id"].as_str().unwrap());
            assert!(known.contains(&target), "{id} refers to {target:?}");
        }
        // What is named in the text must be among the references.
        let names: Vec<&str> = references
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        match object["type"].as_str().unwrap() {
            "index-pattern" => assert_eq!(object["attributes"]["timeFieldName"], "@timestamp"),
            "search" => {
                let source = &object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"];
                let source: Value = serde_json::from_str(source.as_str().unwrap()).unwrap();
                assert!(
                    names.contains(&source["indexRefName"].as_str().unwrap()),
                    "{id}"
                );
            }
            "map" => {
                let layers = inner(object, "layerListJSON");
                let source = &layers[1]["sourceDescriptor"]["indexPatternRefName"];
                assert!(names.contains(&source.as_str().unwrap()), "{id}");
                assert!(inner(object, "mapStateJSON")["zoom"].is_number());
            }
            "lens" => check_lens(object),
            "dashboard" => {
                let panels = inner(object, "panelsJSON");
                let panels = panels.as_array().unwrap();
                for panel in panels {
                    let (index, name) =
                        (panel["panelIndex"].as_str(), panel["panelRefName"].as_str());
                    let name = format!("{}:{}", index.unwrap(), name.unwrap());
                    assert!(names.contains(&name.as_str()), "{id}: {name}");
                }
                let places = panels.iter().map(|panel| &panel["gridData"]);
                check_grid(&places.collect::<Vec<_>>(), kibana::COLUMNS);
                assert!(inner(object, "optionsJSON").is_object());
            }
            other => panic!("{other} is not known here"),
        }
    }
}

/// Columns and what shows them agree, and a column has the type of its field.
fn check_lens(object: &Value) {
    let (id, state) = (&object["id"], &object["attributes"]["state"]);
    let layer = &state["datasourceStates"]["formBased"]["layers"]["layer"];
    let columns = layer["columns"].as_object().unwrap();
    let order = layer["columnOrder"].as_array().unwrap();
    assert_eq!(order.len(), columns.len(), "{id}");
    assert!(
        order
            .iter()
            .all(|one| columns.contains_key(one.as_str().unwrap())),
        "{id}"
    );
    let shown = state["visualization"].to_string();
    for name in columns.keys() {
        assert!(
            shown.contains(&format!("\"{name}\"")),
            "{id} does not show `{name}`"
        );
    }
    let mapping = mapping();
    for column in columns
        .values()
        .filter(|column| column["operationType"] == "terms")
    {
        let wanted = match mapping[column["sourceField"].as_str().unwrap()].as_str() {
            "ip" => "ip",
            "long" => "number",
            "boolean" => "boolean",
            _ => "string",
        };
        assert_eq!(column["dataType"], wanted, "{id}: {column}");
    }
}

/// Nothing lies outside the grid or on something else.
fn check_grid(places: &[&Value], columns: u64) {
    let mut taken = BTreeSet::new();
    for place in places {
        let side = |key: &str| place[key].as_u64().unwrap();
        assert!(
            side("w") > 0 && side("h") > 0 && side("x") + side("w") <= columns,
            "{place}"
        );
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{place} lies on another");
            }
        }
    }
}

/// What the host exports: metrics with the labels that they have.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let front = Front {
        at_ms: 0,
        since_ms: 0,
    };
    let mut counts = StreamCounts::default();
    counts.errors.fill(1);
    let stream = StreamSnapshot {
        key: StreamKey::new("contoso", "Audit.General"),
        counts,
        lag: Some(Default::default()),
        health: Some(sluicegate::health::Health::Ok),
        progress: Some(Progress {
            watermark_ms: Some(0),
            listed_ms: Some(0),
            expiring: Some(front),
            ..Progress::default()
        }),
        backlog: Some(Backlog::default()),
    };
    let tenant = TenantSnapshot {
        id: "contoso".into(),
        requests: RequestCounts::default(),
        paces: Vec::new(),
        token_expires_ms: Some(0),
    };
    let sink = SinkSnapshot {
        name: "file".into(),
        kind: "file",
        counts: SinkCounts::default(),
    };
    let snapshot = Snapshot {
        pipelines: vec![PipelineSnapshot {
            name: "night".into(),
            tenants: vec![tenant],
            streams: vec![stream],
            sinks: vec![sink],
            ..PipelineSnapshot::default()
        }],
        ..Snapshot::default()
    };
    let mut bytes = Vec::new();
    let mut hand_over = |piece: bytes::Bytes| {
        bytes.extend_from_slice(&piece);
        true
    };
    let mut text = Text::new(&mut hand_over);
    export(&snapshot, &mut text);
    text.end();
    let text = String::from_utf8(bytes).unwrap();
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            metrics.entry(name.to_owned()).or_default();
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once(['{', ' ']).unwrap();
            let labels = metrics.entry(name.to_owned()).or_default();
            let parts = rest
                .split("=\"")
                .map(|part| part.rsplit([',', '{', '"']).next().unwrap());
            labels.extend(parts.map(|label| label.trim_end_matches('=').to_owned()));
        }
    }
    metrics
}

/// The names in a query that are none of the language's own.
fn names(query: &str) -> Vec<&str> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c: char| !letter(c) && c != '$');
    let own = |word: &&str| {
        ["component_", "sluicegate_", "process_", "o365_"]
            .iter()
            .any(|own| word.starts_with(own))
    };
    words.filter(own).collect()
}

#[test]
fn every_metric_of_a_panel_is_exported_with_the_labels_it_is_asked_by() {
    let metrics = metrics();
    let labels = ["component_id", "component_kind", "component_type"];
    let mut checked = 0;
    for (query, legend) in ROWS
        .iter()
        .flat_map(|(_, row)| *row)
        .flat_map(|panel| panel.queries)
    {
        let used: Vec<_> = names(query)
            .into_iter()
            .filter(|name| !labels.contains(name))
            .collect();
        assert_eq!(used.len(), 1, "{query}");
        let name = used[0];
        let known = metrics
            .get(name)
            .unwrap_or_else(|| panic!("`{name}` is not exported"));
        // Those of limiters come with the first request.
        let limiter = name.starts_with("sluicegate_limiter_");
        let asked = query.split(['{', '}', ',', '(', ')']).filter_map(|part| {
            let (label, _) = part.split_once(['=', '~'])?;
            (!label.contains(' ') && !label.is_empty()).then_some(label)
        });
        let by = query
            .split("by (")
            .skip(1)
            .flat_map(|rest| rest.split(')').next().unwrap().split(", "));
        let told = legend
            .split("{{")
            .skip(1)
            .map(|rest| rest.split("}}").next().unwrap());
        for label in asked
            .chain(by)
            .chain(told)
            .filter(|label| !["instance", "le"].contains(label))
        {
            assert!(
                limiter || known.contains(label),
                "`{name}` has no `{label}`: {known:?}"
            );
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn grafana_gets_a_dashboard_of_its_form() {
    let dashboard = grafana::dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38 && dashboard["id"].is_null());
    assert!(dashboard["uid"].as_str().unwrap().len() <= 40);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    check_grid(
        &panels
            .iter()
            .map(|panel| &panel["gridPos"])
            .collect::<Vec<_>>(),
        grafana::COLUMNS,
    );
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let mut known: BTreeSet<_> = variables
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    // Grafana's own.
    known.extend(["__rate_interval", "__range"]);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(
            !targets.is_empty()
                && panel["title"].is_string()
                && panel["datasource"]["uid"] == "${datasource}"
        );
        for target in targets {
            for rest in target["expr"].as_str().unwrap().split('$').skip(1) {
                let name = rest
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                assert!(known.contains(name), "`${name}` is no variable");
            }
        }
    }
}

/// Prometheus itself reads every query.
#[test]
fn prometheus_understands_every_query() {
    let folder = folder();
    let mut rules = String::from("groups:\n- name: panels\n  rules:\n");
    let queries = ROWS
        .iter()
        .flat_map(|(_, row)| *row)
        .flat_map(|panel| panel.queries);
    for (index, (query, _)) in queries.enumerate() {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$__range", "1h");
        let _ = writeln!(
            rules,
            "  - record: panel_{index}\n    expr: {}",
            Value::from(query)
        );
    }
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, rules).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "rules"])
        .arg(Path::new(&path))
        .output();
    let Ok(checked) = checked else {
        eprintln!("skipped: there is no promtool here");
        return;
    };
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}
