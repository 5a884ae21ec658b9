//! What is on the screen: rows, their order, and what keys do to them. Nothing here draws or asks.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use super::sample::{Pipeline, Sample, Status};
use crate::cli::people::{span, table};
use crate::error::Error;

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Letter(char),
    Enter,
    Escape,
    Backspace,
    Up(usize),
    Down(usize),
    Other,
}

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Lag,
    Rate,
    Backlog,
    Errors,
}

impl Sort {
    const ALL: [Self; 5] = [
        Self::Name,
        Self::Lag,
        Self::Rate,
        Self::Backlog,
        Self::Errors,
    ];

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }

    /// The heading of its column.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Name => "TENANT",
            Self::Lag => "LAG",
            Self::Rate => "EVENTS/S",
            Self::Backlog => "BACKLOG",
            Self::Errors => "ERRORS",
        }
    }
}

/// One stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub pipeline: String,
    pub tenant: String,
    pub stream: String,
    pub health: String,
    /// Why it is not well.
    pub reason: String,
    pub lag_seconds: Option<i64>,
    pub events: u64,
    /// Events a second since the last look.
    pub rate: f64,
    pub backlog: Option<u64>,
    pub quarantined: Option<u64>,
    pub errors: u64,
    /// Declared losses and dead letters.
    pub lost: u64,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SinkRow {
    pub pipeline: String,
    pub name: String,
    pub kind: String,
    pub events: u64,
    pub rate: f64,
    pub pending: u64,
    pub refused: u64,
    pub waited_seconds: Option<f64>,
}

/// The columns of streams and of sinks.
pub(super) const COLUMNS: [&str; 10] = [
    "PIPELINE", "TENANT", "STREAM", "HEALTH", "LAG", "EVENTS", "EVENTS/S", "BACKLOG", "ERRORS",
    "LOST",
];
pub(super) const SINK_COLUMNS: [&str; 8] = [
    "PIPELINE",
    "SINK",
    "TYPE",
    "EVENTS",
    "EVENTS/S",
    "PENDING",
    "REFUSED",
    "WAITED FOR",
];

/// Everything that is shown.
pub(super) struct State {
    /// Where the collector is.
    pub address: String,
    pub status: Status,
    pub sinks: Vec<SinkRow>,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    /// Whether keys are letters of the filter.
    pub typing: bool,
    /// The first row that is shown.
    pub offset: usize,
    /// Why there is nothing new.
    pub lost: Option<String>,
    rows: Vec<Row>,
    /// When this was, and how many events everything had delivered.
    last: Option<(Instant, HashMap<String, u64>)>,
}

impl State {
    /// Nothing is known yet.
    pub fn new(address: String) -> Self {
        Self {
            address,
            status: Status::default(),
            sinks: Vec::new(),
            sort: Sort::Name,
            reversed: false,
            filter: String::new(),
            typing: false,
            offset: 0,
            lost: None,
            rows: Vec::new(),
            last: None,
        }
    }

    /// Takes a new look in.
    pub fn update(&mut self, sample: Sample) {
        let mut counts = HashMap::new();
        let mut rate = |key: String, events: u64| {
            let rate = self.last.as_ref().and_then(|(at, before)| {
                // Fewer than before: the collector was started anew, and nobody knows.
                let more = events.checked_sub(*before.get(&key)?)?;
                let seconds = sample.at.duration_since(*at).as_secs_f64();
                (seconds > 0.0)
                    .then(|| f64::from(u32::try_from(more).unwrap_or(u32::MAX)) / seconds)
            });
            counts.insert(key, events);
            rate.unwrap_or(0.0)
        };
        let (mut rows, mut sinks) = (Vec::new(), Vec::new());
        for pipeline in &sample.status.pipelines {
            for mut row in rows_of(pipeline, &sample) {
                let key = format!("{}\n{}\n{}", row.pipeline, row.tenant, row.stream);
                row.rate = rate(key, row.events);
                rows.push(row);
            }
            for sink in &pipeline.sinks {
                let key = format!("{}\n{}", pipeline.name, sink.name);
                sinks.push(SinkRow {
                    pipeline: pipeline.name.clone(),
                    name: sink.name.clone(),
                    kind: sink.kind.clone(),
                    events: sink.events_delivered,
                    rate: rate(key, sink.events_delivered),
                    pending: sink.events_pending,
                    refused: sink.events_refused,
                    waited_seconds: sink.waited_for_seconds,
                });
            }
        }
        self.last = Some((sample.at, counts));
        self.status = sample.status;
        (self.rows, self.sinks) = (rows, sinks);
        self.lost = None;
    }

    /// The collector could not be asked; what was known stays on the screen.
    pub fn lose(&mut self, error: &Error) {
        self.lost = Some(error.what.clone());
    }

    /// What a key does; true when it ends everything.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Quit => return true,
            Key::Letter(letter) if self.typing => {
                self.filter.push(letter);
                self.offset = 0;
            }
            Key::Backspace if self.typing => {
                self.filter.pop();
            }
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Letter('q') => return true,
            Key::Letter('s') => self.sort = self.sort.next(),
            Key::Letter('r') => self.reversed = !self.reversed,
            Key::Letter('/') => self.typing = true,
            Key::Up(rows) => self.offset = self.offset.saturating_sub(rows),
            Key::Down(rows) => {
                let last = self.rows().len().saturating_sub(1);
                self.offset = (self.offset + rows).min(last);
            }
            _ => {}
        }
        false
    }

    /// The rows that the filter leaves, in order: what needs attention first.
    pub fn rows(&self) -> Vec<&Row> {
        let wanted = self.filter.to_lowercase();
        let fits = |row: &&Row| {
            let texts = [&row.pipeline, &row.tenant, &row.stream, &row.health];
            wanted.is_empty()
                || texts
                    .iter()
                    .any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<&Row> = self.rows.iter().filter(fits).collect();
        match self.sort {
            // They come by name.
            Sort::Name => {}
            Sort::Lag => rows.sort_by_key(|row| Reverse(row.lag_seconds)),
            Sort::Rate => rows.sort_by(|one, other| other.rate.total_cmp(&one.rate)),
            Sort::Backlog => rows.sort_by_key(|row| Reverse(row.backlog)),
            Sort::Errors => rows.sort_by_key(|row| Reverse(row.errors)),
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Events a second that all sinks together take.
    pub fn rate(&self) -> f64 {
        self.sinks.iter().map(|sink| sink.rate).sum()
    }

    /// All of it as text.
    pub fn table(&self) -> String {
        let heads = |columns: &[&str]| columns.iter().map(|&head| head.to_owned()).collect();
        let mut streams: Vec<Vec<String>> = vec![heads(&COLUMNS)];
        streams.extend(self.rows().into_iter().map(|row| row.cells().to_vec()));
        let mut sinks: Vec<Vec<String>> = vec![heads(&SINK_COLUMNS)];
        sinks.extend(self.sinks.iter().map(|sink| sink.cells().to_vec()));
        format!("{}\n{}", table(&streams), table(&sinks))
    }
}

fn rows_of<'s>(pipeline: &'s Pipeline, sample: &'s Sample) -> impl Iterator<Item = Row> + 's {
    pipeline.tenants.iter().flat_map(move |tenant| {
        tenant.streams.iter().map(move |stream| {
            let key = [&pipeline.name, &tenant.id, &stream.name].map(Clone::clone);
            let errors = sample.errors.get(&key).copied().unwrap_or_default();
            let health = stream.health.as_ref();
            let reason = health.and_then(|health| health.reasons.first());
            let trouble = stream.trouble.as_ref().map(|trouble| &trouble.reason);
            let [name, tenant, stream_name] = key;
            Row {
                pipeline: name,
                tenant,
                stream: stream_name,
                health: health.map_or_else(|| "-".into(), |health| health.state.clone()),
                reason: reason.or(trouble).cloned().unwrap_or_default(),
                lag_seconds: stream.lag_seconds,
                events: stream.since_start.events_delivered,
                rate: 0.0,
                backlog: stream.backlog.splits,
                quarantined: stream.quarantine.splits,
                errors,
                lost: stream.since_start.losses + stream.since_start.dead_lettered,
            }
        })
    })
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

impl Row {
    /// A cell for each of [`COLUMNS`].
    pub fn cells(&self) -> [String; 10] {
        let backlog = match self.quarantined {
            Some(aside) if aside > 0 => format!("{} +{aside}", number(self.backlog)),
            _ => number(self.backlog),
        };
        [
            self.pipeline.clone(),
            self.tenant.clone(),
            self.stream.clone(),
            self.health.clone(),
            self.lag_seconds
                .map_or_else(|| "-".into(), |lag| span(lag.saturating_mul(1_000))),
            self.events.to_string(),
            format!("{:.1}", self.rate),
            backlog,
            self.errors.to_string(),
            self.lost.to_string(),
        ]
    }
}

impl SinkRow {
    /// A cell for each of [`SINK_COLUMNS`].
    pub fn cells(&self) -> [String; 8] {
        [
            self.pipeline.clone(),
            self.name.clone(),
            self.kind.clone(),
            self.events.to_string(),
            format!("{:.1}", self.rate),
            self.pending.to_string(),
            self.refused.to_string(),
            self.waited_seconds
                .map_or_else(|| "-".into(), |waited| format!("{waited:.0} s")),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests;
