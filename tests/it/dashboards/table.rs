//! What the dashboards show, once: pages of charts over events for Kibana, rows of panels over metrics for Grafana.
//!
//! `kibana.rs` and `grafana.rs` turn this into what can be imported; nothing is described there.

mod events;
mod metrics;

pub use events::PAGES;
pub use metrics::ROWS;

/// A dashboard over events.
pub struct Page {
    /// Part of its id.
    pub id: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// Which events, in KQL.
    pub query: &'static str,
    pub charts: &'static [Chart],
}

/// One picture of events. Fields are named as in the index template.
pub enum Chart {
    /// One number.
    Count {
        title: &'static str,
        query: &'static str,
    },
    /// How many different values a field has.
    Distinct {
        title: &'static str,
        field: &'static str,
    },
    /// Bars over time, parted by a field.
    OverTime {
        title: &'static str,
        split: &'static str,
    },
    /// The most frequent combinations of values.
    Top {
        title: &'static str,
        fields: &'static [&'static str],
    },
    /// Shares of the values of a field.
    Share {
        title: &'static str,
        field: &'static str,
    },
    /// Where on earth.
    Map {
        title: &'static str,
        field: &'static str,
        tooltip: &'static [&'static str],
    },
    /// The newest events themselves.
    Events {
        title: &'static str,
        columns: &'static [&'static str],
    },
}

/// A panel of Grafana. Queries are in `PromQL`; `$pipeline` and `$tenant` are chosen on the page.
pub struct Panel {
    pub title: &'static str,
    pub about: &'static str,
    pub kind: Kind,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// Each query with the name of what it gives.
    pub queries: &'static [(&'static str, &'static str)],
}

/// How a panel shows its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One number now.
    Stat,
    /// Lines over time.
    Lines,
}
