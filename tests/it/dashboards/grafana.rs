//! Turns the rows into a dashboard of Grafana 10.

use serde_json::{Value, json};

use super::table::{Kind, Panel, ROWS};

/// Grafana's grid is so wide.
pub const COLUMNS: u64 = 24;

/// The form of dashboards that Grafana 10 writes.
const SCHEMA: u64 = 38;

/// The whole dashboard.
pub fn dashboard() -> Value {
    let mut panels = Vec::new();
    let (mut id, mut y) = (0, 0);
    for (title, row) in ROWS {
        id += 1;
        panels.push(json!({
            "id": id,
            "type": "row",
            "title": title,
            "collapsed": false,
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
            "panels": [],
        }));
        y += 1;
        let (mut x, mut high) = (0, 0);
        for panel in *row {
            let (width, height) = match panel.kind {
                Kind::Stat => (6, 4),
                Kind::Lines => (12, 8),
            };
            if x + width > COLUMNS {
                y += high;
                (x, high) = (0, 0);
            }
            id += 1;
            panels.push(of_panel(
                panel,
                id,
                json!({ "x": x, "y": y, "w": width, "h": height }),
            ));
            x += width;
            high = high.max(height);
        }
        y += high;
    }
    json!({
        "__requires": [
            { "type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.0.0" },
            { "type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0" },
        ],
        "id": null,
        "uid": "sluicegate",
        "title": "Sluicegate",
        "description": "Is everything fetched, mapped and delivered, how late, and what stands in the way.",
        "tags": ["sluicegate"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "timezone": "",
        "time": { "from": "now-6h", "to": "now" },
        "refresh": "30s",
        "annotations": { "list": [] },
        "links": [],
        "templating": { "list": [
            {
                "name": "datasource",
                "label": "Data source",
                "type": "datasource",
                "query": "prometheus",
                "hide": 0,
                "refresh": 1,
                "includeAll": false,
                "multi": false,
                "options": [],
            },
            variable("pipeline", "Pipeline", "label_values(sluicegate_tenants, pipeline)"),
            variable("tenant", "Tenant", "label_values(sluicegate_requests_total{pipeline=~\"$pipeline\"}, tenant)"),
        ] },
        "panels": panels,
    })
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": source(),
        "definition": query,
        "query": { "query": query, "refId": name },
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "options": [],
    })
}

fn of_panel(panel: &Panel, id: u64, place: Value) -> Value {
    let targets = panel
        .queries
        .iter()
        .zip('A'..)
        .map(|((query, name), letter)| {
            json!({
                "refId": letter.to_string(),
                "datasource": source(),
                "editorMode": "code",
                "expr": query,
                "legendFormat": name,
                "instant": panel.kind == Kind::Stat,
                "range": panel.kind == Kind::Lines,
            })
        });
    let (kind, options) = match panel.kind {
        Kind::Stat => (
            "stat",
            json!({
                "colorMode": "value",
                "graphMode": "none",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "auto",
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            }),
        ),
        Kind::Lines => (
            "timeseries",
            json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        ),
    };
    json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source(),
        "gridPos": place,
        "targets": targets.collect::<Vec<_>>(),
        "options": options,
        "fieldConfig": { "defaults": { "unit": panel.unit, "min": 0 }, "overrides": [] },
    })
}
