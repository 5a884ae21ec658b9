//! A collector of OTLP for what the host tells of itself: metrics and traces, read by the protocol's own numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

use crate::http_server::{HttpServer, Request, Response};
use crate::otlp::{Field, attributes, fields, messages, pairs};

/// A span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace.
    pub trace: Vec<u8>,
    /// Its own id.
    pub id: Vec<u8>,
    /// The span that holds it; empty for none.
    pub parent: Vec<u8>,
    /// What it is.
    pub name: String,
    /// From when, in nanoseconds.
    pub start: u64,
    /// Until when.
    pub end: u64,
    /// What is said of it.
    pub attributes: Value,
    /// Whether it ended in an error.
    pub failed: bool,
}

/// What the collector has and saw.
#[derive(Debug, Default)]
pub struct ToldState {
    /// The values of the last metrics, by name and labels as `/metrics` writes them.
    pub metrics: BTreeMap<String, f64>,
    /// How often metrics came.
    pub exports: usize,
    /// All spans.
    pub spans: Vec<Span>,
    /// All bodies, one after the other.
    pub bytes: Vec<u8>,
    /// What a client did wrong.
    pub complaints: Vec<String>,
    /// The one `Authorization` that is accepted; `None` for any.
    pub login: Option<String>,
}

/// A collector on loopback.
pub struct Told {
    server: HttpServer,
    state: Arc<Mutex<ToldState>>,
}

impl Told {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let state = Arc::<Mutex<ToldState>>::default();
        let shared = state.clone();
        let server = HttpServer::start(move |request| {
            let mut state = lock(&shared);
            answer(&mut state, &request)
        });
        Self { server, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Listens again, or breaks connections and refuses new ones.
    pub fn switch(&self, on: bool) {
        self.server.switch(on);
    }

    /// What it has and saw.
    ///
    /// # Panics
    /// When answering a request has panicked.
    pub fn state(&self) -> MutexGuard<'_, ToldState> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<ToldState>) -> MutexGuard<'_, ToldState> {
    state.lock().expect("no answer panics")
}

fn answer(state: &mut ToldState, request: &Request) -> Response {
    let login = request.header("authorization").map(str::to_owned);
    if state.login.is_some() && state.login != login {
        return Response::Answer(401, String::new());
    }
    state.bytes.extend_from_slice(&request.body);
    let kind = request.header("content-type");
    let read = match (&*request.path, kind) {
        ("/v1/metrics", Some("application/x-protobuf")) => metrics(&request.body).map(|metrics| {
            state.metrics = metrics;
            state.exports += 1;
        }),
        ("/v1/traces", Some("application/x-protobuf")) => {
            spans(&request.body).map(|spans| state.spans.extend(spans))
        }
        (path, kind) => Err(format!("{path} as {kind:?}")),
    };
    match read {
        Ok(()) => Response::Answer(200, String::new()),
        Err(complaint) => {
            state.complaints.push(complaint);
            Response::Answer(400, String::new())
        }
    }
}

/// What stands under the resources and scopes of a request, where each says who it is.
fn scoped(request: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut found = Vec::new();
    for of_resource in messages(request, 1)? {
        let resource = messages(of_resource, 1)?;
        let resource = attributes(resource.first().copied().unwrap_or_default(), 1)?;
        if resource["service.name"] != "sluicegate" || !resource["sluicegate.pipeline"].is_string()
        {
            return Err(format!("resource {resource}"));
        }
        for of_scope in messages(of_resource, 2)? {
            let scope = messages(of_scope, 1)?;
            let name = messages(scope.first().copied().unwrap_or_default(), 1)?;
            if name != [b"sluicegate"] {
                return Err(format!("scope {name:?}"));
            }
            found.extend(messages(of_scope, 2)?);
        }
    }
    Ok(found)
}

/// `ExportMetricsServiceRequest`
fn metrics(request: &[u8]) -> Result<BTreeMap<String, f64>, String> {
    let mut values = BTreeMap::new();
    for metric in scoped(request)? {
        let name = text(metric, 1)?;
        // Gauges and sums have values, histograms a count and a sum.
        for (tag, is_sum) in [(5, false), (7, true)] {
            for data in messages(metric, tag)? {
                if is_sum && (number(data, 2)?, number(data, 3)?) != (Some(2), Some(1)) {
                    return Err(format!("`{name}` is no cumulative counter"));
                }
                for point in messages(data, 1)? {
                    let value = match (number(point, 4)?, number(point, 6)?) {
                        (Some(bits), None) => f64::from_bits(bits),
                        (None, Some(whole)) => real(whole),
                        other => return Err(format!("`{name}` is {other:?}")),
                    };
                    let started = number(point, 2)?.is_some();
                    if started != is_sum || number(point, 3)?.is_none() {
                        return Err(format!("the times of `{name}`"));
                    }
                    values.insert(sample(&name, "", point, 7)?, value);
                }
            }
        }
        for data in messages(metric, 9)? {
            for point in messages(data, 1)? {
                let count = number(point, 4)?.ok_or("a histogram without a count")?;
                let buckets = messages(point, 6)?.concat();
                let buckets = buckets.chunks_exact(8).map(|chunk| {
                    let chunk: [u8; 8] = chunk.try_into().unwrap_or_default();
                    u64::from_le_bytes(chunk)
                });
                let bounds = messages(point, 7)?.concat().len() / 8;
                let buckets: Vec<u64> = buckets.collect();
                if buckets.len() != bounds + 1 || buckets.iter().sum::<u64>() != count {
                    return Err(format!("`{name}` has buckets {buckets:?} of {count}"));
                }
                let sum = f64::from_bits(number(point, 5)?.unwrap_or_default());
                values.insert(sample(&name, "_count", point, 9)?, real(count));
                values.insert(sample(&name, "_sum", point, 9)?, sum);
            }
        }
    }
    Ok(values)
}

#[expect(clippy::cast_precision_loss, reason = "values of tests are small")]
fn real(number: u64) -> f64 {
    number as f64
}

/// A sample's name as `/metrics` writes it; no label of a test needs an escape.
fn sample(name: &str, suffix: &str, point: &[u8], tag: u64) -> Result<String, String> {
    let labels = pairs(point, tag)?.into_iter();
    let labels = labels.map(|(label, value)| {
        let value = value.as_str().ok_or("a label that is no text")?;
        Ok(format!("{label}=\"{value}\""))
    });
    let labels: Vec<String> = labels.collect::<Result<_, String>>()?;
    Ok(if labels.is_empty() {
        format!("{name}{suffix}")
    } else {
        format!("{name}{suffix}{{{}}}", labels.join(","))
    })
}

/// `ExportTraceServiceRequest`
fn spans(request: &[u8]) -> Result<Vec<Span>, String> {
    let bytes = |message, tag| {
        let found = messages(message, tag)?;
        Ok::<_, String>(found.first().copied().unwrap_or_default().to_vec())
    };
    let spans = scoped(request)?.into_iter().map(|span| {
        let (trace, id) = (bytes(span, 1)?, bytes(span, 2)?);
        if (trace.len(), id.len()) != (16, 8) {
            return Err(format!("ids {trace:?} {id:?}"));
        }
        let status = messages(span, 15)?;
        let status = status.first().copied().unwrap_or_default();
        Ok(Span {
            trace,
            id,
            parent: bytes(span, 4)?,
            name: text(span, 5)?,
            start: number(span, 7)?.ok_or("a span without a start")?,
            end: number(span, 8)?.ok_or("a span without an end")?,
            attributes: attributes(span, 9)?,
            failed: number(status, 3)? == Some(2),
        })
    });
    spans.collect()
}

fn text(message: &[u8], tag: u64) -> Result<String, String> {
    let found = messages(message, tag)?;
    let found = found.first().copied().unwrap_or_default();
    Ok(String::from_utf8_lossy(found).into_owned())
}

fn number(message: &[u8], tag: u64) -> Result<Option<u64>, String> {
    let all = fields(message)?.into_iter();
    let mut found = all.filter_map(|(known, field)| match field {
        Field::Number(number) if known == tag => Some(number),
        _ => None,
    });
    Ok(found.next())
}
