//! Turns the pages into saved objects of Kibana 8: a data view, Lens charts, maps, searches and their dashboards.
//!
//! The versions name the form in which they are written; every later Kibana 8 brings them up to its own.

use serde_json::{Value, json};
use sluicegate_ecs::IndexType;

use super::table::{Chart, PAGES, Page};

/// What all of them look at.
const DATA_VIEW: &str = "sluicegate-o365";
const INDEX: &str = "logs-o365.audit-*";
const TIME: &str = "@timestamp";

/// Kibana's grid is so wide.
pub const COLUMNS: u64 = 48;

/// One saved object a line.
pub fn objects() -> Vec<Value> {
    let mut objects = vec![data_view()];
    for page in PAGES {
        let mut panels = Panels::default();
        for (index, chart) in page.charts.iter().enumerate() {
            let object = of_chart(
                page,
                chart,
                &format!("sluicegate-{}-{}", page.id, index + 1),
            );
            panels.add(&object, size(chart));
            objects.push(object);
        }
        objects.push(dashboard(page, panels));
    }
    objects
}

fn object(kind: &str, version: &str, id: &str, attributes: Value, references: Vec<Value>) -> Value {
    json!({
        "id": id,
        "type": kind,
        "attributes": attributes,
        "references": references,
        "managed": false,
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": version,
    })
}

fn reference(kind: &str, id: &str, name: &str) -> Value {
    json!({ "type": kind, "id": id, "name": name })
}

fn data_view() -> Value {
    let attributes = json!({
        "title": INDEX,
        "name": "Sluicegate: Office 365 audit",
        "timeFieldName": TIME,
    });
    object("index-pattern", "8.0.0", DATA_VIEW, attributes, Vec::new())
}

/// Width and height.
fn size(chart: &Chart) -> (u64, u64) {
    match chart {
        Chart::Count { .. } | Chart::Distinct { .. } => (12, 6),
        Chart::OverTime { .. } => (48, 12),
        Chart::Top { .. } => (24, 14),
        Chart::Share { .. } => (24, 12),
        Chart::Map { .. } => (48, 20),
        Chart::Events { .. } => (48, 18),
    }
}

fn of_chart(page: &Page, chart: &Chart, id: &str) -> Value {
    let mut layer = Layer::default();
    let (title, own, kind, shown) = match chart {
        Chart::Map {
            title,
            field,
            tooltip,
        } => return map(page, title, field, tooltip, id),
        Chart::Events { title, columns } => return search(page, title, columns, id),
        Chart::Count { title, query } => {
            layer.count();
            (title, *query, "lnsMetric", number("count"))
        }
        Chart::Distinct { title, field } => {
            layer.distinct(field);
            (title, "", "lnsMetric", number("distinct"))
        }
        Chart::OverTime { title, split } => {
            layer.terms("split", split, 8);
            layer.time();
            layer.count();
            (title, "", "lnsXY", bars())
        }
        Chart::Share { title, field } => {
            layer.terms("split", field, 8);
            layer.count();
            (title, "", "lnsPie", ring())
        }
        Chart::Top { title, fields } => {
            let names: Vec<_> = (1..=fields.len())
                .map(|one| format!("split_{one}"))
                .collect();
            for (index, (name, field)) in names.iter().zip(*fields).enumerate() {
                layer.terms(name, field, if index == 0 { 20 } else { 5 });
            }
            layer.count();
            (title, "", "lnsDatatable", table(&names))
        }
    };
    let attributes = json!({
        "title": format!("{}: {title}", page.title),
        "description": "",
        "visualizationType": kind,
        "state": {
            "visualization": shown,
            "query": query(&both(page.query, own)),
            "filters": [],
            "datasourceStates": { "formBased": { "layers": { "layer": layer.end() } } },
            "internalReferences": [],
            "adHocDataViews": {},
        },
    });
    let view = reference(
        "index-pattern",
        DATA_VIEW,
        "indexpattern-datasource-layer-layer",
    );
    object("lens", "8.9.0", id, attributes, vec![view])
}

/// How Lens shows one number.
fn number(column: &str) -> Value {
    json!({ "layerId": "layer", "layerType": "data", "metricAccessor": column })
}

/// How it shows bars over time, parted by a column.
fn bars() -> Value {
    json!({
        "legend": { "isVisible": true, "position": "right" },
        "valueLabels": "hide",
        "fittingFunction": "None",
        "preferredSeriesType": "bar_stacked",
        "layers": [{
            "layerId": "layer",
            "layerType": "data",
            "seriesType": "bar_stacked",
            "position": "top",
            "showGridlines": false,
            "xAccessor": "time",
            "splitAccessor": "split",
            "accessors": ["count"],
        }],
    })
}

/// How it shows shares.
fn ring() -> Value {
    json!({
        "shape": "donut",
        "layers": [{
            "layerId": "layer",
            "layerType": "data",
            "primaryGroups": ["split"],
            "metrics": ["count"],
            "numberDisplay": "percent",
            "categoryDisplay": "default",
            "legendDisplay": "default",
            "nestedLegend": false,
        }],
    })
}

/// How it shows the most frequent combinations of columns.
fn table(columns: &[String]) -> Value {
    let columns = columns.iter().map(String::as_str).chain(["count"]);
    let columns: Vec<_> = columns
        .map(|column| json!({ "columnId": column }))
        .collect();
    json!({
        "layerId": "layer",
        "layerType": "data",
        "columns": columns,
        "sorting": { "columnId": "count", "direction": "desc" },
    })
}

fn query(text: &str) -> Value {
    json!({ "query": text, "language": "kuery" })
}

/// The page's events, of which the chart takes a part.
fn both(page: &str, own: &str) -> String {
    match (page, own) {
        (all, "") => all.to_owned(),
        ("", own) => own.to_owned(),
        (all, own) => format!("({all}) and ({own})"),
    }
}

/// What Lens calls the type of a field of the tables.
fn kind(field: &str) -> &'static str {
    let found = sluicegate_ecs::fields().find(|(name, _)| *name == field);
    match found.map(|(_, index)| index) {
        Some(IndexType::Ip) => "ip",
        Some(IndexType::Long) => "number",
        Some(IndexType::Boolean) => "boolean",
        _ => "string",
    }
}

/// The columns of a Lens chart.
#[derive(Default)]
struct Layer {
    order: Vec<String>,
    columns: serde_json::Map<String, Value>,
}

impl Layer {
    fn add(&mut self, id: &str, column: Value) {
        self.order.push(id.to_owned());
        self.columns.insert(id.to_owned(), column);
    }

    fn count(&mut self) {
        self.add(
            "count",
            json!({
                "label": "Events",
                "dataType": "number",
                "operationType": "count",
                "isBucketed": false,
                "scale": "ratio",
                "sourceField": "___records___",
                "params": { "emptyAsNull": false },
            }),
        );
    }

    fn distinct(&mut self, field: &str) {
        self.add(
            "distinct",
            json!({
                "label": format!("Unique count of {field}"),
                "dataType": "number",
                "operationType": "unique_count",
                "isBucketed": false,
                "scale": "ratio",
                "sourceField": field,
                "params": { "emptyAsNull": false },
            }),
        );
    }

    fn time(&mut self) {
        self.add(
            "time",
            json!({
                "label": TIME,
                "dataType": "date",
                "operationType": "date_histogram",
                "isBucketed": true,
                "scale": "interval",
                "sourceField": TIME,
                "params": { "interval": "auto", "includeEmptyRows": true, "dropPartials": false },
            }),
        );
    }

    fn terms(&mut self, id: &str, field: &str, size: u64) {
        self.add(
            id,
            json!({
                "label": field,
                "dataType": kind(field),
                "operationType": "terms",
                "isBucketed": true,
                "scale": "ordinal",
                "sourceField": field,
                "params": {
                    "size": size,
                    "orderBy": { "type": "column", "columnId": "count" },
                    "orderDirection": "desc",
                    "otherBucket": true,
                    "missingBucket": false,
                    "parentFormat": { "id": "terms" },
                    "include": [],
                    "exclude": [],
                    "includeIsRegex": false,
                    "excludeIsRegex": false,
                },
            }),
        );
    }

    fn end(self) -> Value {
        json!({ "columnOrder": self.order, "columns": self.columns, "incompleteColumns": {} })
    }
}

fn map(page: &Page, title: &str, field: &str, tooltip: &[&str], id: &str) -> Value {
    let view = "layer_1_source_index_pattern";
    let layers = json!([
        {
            "id": "basemap",
            "type": "EMS_VECTOR_TILE",
            "sourceDescriptor": { "type": "EMS_TMS", "isAutoSelect": true },
            "style": { "type": "EMS_VECTOR_TILE", "color": "" },
            "alpha": 1, "minZoom": 0, "maxZoom": 24, "visible": true, "includeInFitToBounds": true,
        },
        {
            "id": "places",
            "type": "GEOJSON_VECTOR",
            "label": title,
            "sourceDescriptor": {
                "id": "places-source",
                "type": "ES_SEARCH",
                "geoField": field,
                "scalingType": "LIMIT",
                "tooltipProperties": tooltip,
                "sortField": TIME,
                "sortOrder": "desc",
                "filterByMapBounds": true,
                "applyGlobalQuery": true,
                "applyGlobalTime": true,
                "applyForceRefresh": true,
                "indexPatternRefName": view,
            },
            "style": {
                "type": "VECTOR",
                "isTimeAware": true,
                "properties": {
                    "icon": { "type": "STATIC", "options": { "value": "marker" } },
                    "fillColor": { "type": "STATIC", "options": { "color": "#54B399" } },
                    "lineColor": { "type": "STATIC", "options": { "color": "#41937c" } },
                    "lineWidth": { "type": "STATIC", "options": { "size": 1 } },
                    "iconSize": { "type": "STATIC", "options": { "size": 6 } },
                    "symbolizeAs": { "options": { "value": "circle" } },
                },
            },
            "query": query(page.query),
            "joins": [],
            "alpha": 0.75, "minZoom": 0, "maxZoom": 24, "visible": true, "includeInFitToBounds": true,
        },
    ]);
    let state = json!({
        "zoom": 1.6,
        "center": { "lon": 0, "lat": 20 },
        "timeFilters": { "from": "now-24h", "to": "now" },
        "refreshConfig": { "isPaused": true, "interval": 0 },
        "query": query(""),
        "filters": [],
    });
    let attributes = json!({
        "title": format!("{}: {title}", page.title),
        "description": "",
        "layerListJSON": layers.to_string(),
        "mapStateJSON": state.to_string(),
        "uiStateJSON": json!({ "isLayerTOCOpen": false, "openTOCDetails": [] }).to_string(),
    });
    object(
        "map",
        "8.4.0",
        id,
        attributes,
        vec![reference("index-pattern", DATA_VIEW, view)],
    )
}

fn search(page: &Page, title: &str, columns: &[&str], id: &str) -> Value {
    let view = "kibanaSavedObjectMeta.searchSourceJSON.index";
    let source = json!({ "query": query(page.query), "filter": [], "indexRefName": view });
    let attributes = json!({
        "title": format!("{}: {title}", page.title),
        "description": "",
        "columns": columns,
        "sort": [[TIME, "desc"]],
        "grid": {},
        "hideChart": true,
        "isTextBasedQuery": false,
        "timeRestore": false,
        "kibanaSavedObjectMeta": { "searchSourceJSON": source.to_string() },
    });
    object(
        "search",
        "8.0.0",
        id,
        attributes,
        vec![reference("index-pattern", DATA_VIEW, view)],
    )
}

/// Panels from left to right and from top to bottom.
#[derive(Default)]
struct Panels {
    list: Vec<Value>,
    references: Vec<Value>,
    x: u64,
    y: u64,
    /// The height of the present row.
    row: u64,
}

impl Panels {
    fn add(&mut self, object: &Value, (width, height): (u64, u64)) {
        if self.x + width > COLUMNS {
            self.y += self.row;
            (self.x, self.row) = (0, 0);
        }
        let index = (self.list.len() + 1).to_string();
        let name = format!("panel_{index}");
        self.list.push(json!({
            "type": object["type"],
            "panelIndex": index,
            "panelRefName": name,
            "gridData": { "x": self.x, "y": self.y, "w": width, "h": height, "i": index },
            "embeddableConfig": { "enhancements": {} },
        }));
        let (kind, id) = (object["type"].as_str(), object["id"].as_str());
        let name = format!("{index}:{name}");
        self.references.push(reference(
            kind.unwrap_or_default(),
            id.unwrap_or_default(),
            &name,
        ));
        self.x += width;
        self.row = self.row.max(height);
    }
}

fn dashboard(page: &Page, panels: Panels) -> Value {
    let options = json!({
        "useMargins": true, "syncColors": true, "syncCursor": true, "syncTooltips": false, "hidePanelTitles": false,
    });
    let source = json!({ "query": query(""), "filter": [] });
    let attributes = json!({
        "title": format!("[Sluicegate] {}", page.title),
        "description": page.about,
        "version": 1,
        "timeRestore": true,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "refreshInterval": { "pause": true, "value": 60_000 },
        "optionsJSON": options.to_string(),
        "panelsJSON": Value::from(panels.list).to_string(),
        "kibanaSavedObjectMeta": { "searchSourceJSON": source.to_string() },
    });
    let id = format!("sluicegate-{}", page.id);
    object("dashboard", "8.9.0", &id, attributes, panels.references)
}
