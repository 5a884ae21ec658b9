//! How many events a second reach a bulk endpoint on one core: the sink, the whole second half of the line, and a plain
//! loop that posts the same bodies, prepared before, with `reqwest`.
//!
//! The server runs in this process, reads everything and keeps nothing; its threads' time is left out. Everything else
//! runs on one thread, packing excepted. All of them take turns in one run; the median round counts, by time on a core.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate::clock::{SharedClock, SystemClock};
use sluicegate::config::{Config, SinkKind};
use sluicegate::dead_letter::DeadLetters;
use sluicegate::event::{Batch, Event, Identity, Part, StreamKey};
use sluicegate::ledger::memory::MemoryLedger;
use sluicegate::ledger::{Split, Taken};
use sluicegate::line::reading::Reading;
use sluicegate::line::{Line, Parts};
use sluicegate::secret::Redactor;
use sluicegate::sink::elasticsearch::ElasticsearchSink;
use sluicegate::sink::request::{Outgoing, Reply};
use sluicegate::sink::{Outlet, RequestSink, Way};
use sluicegate_benches::corpus::Corpus;
use sluicegate_benches::discard;
use sluicegate_benches::machine;
use sluicegate_ecs::{Mapper, Options};
use tokio::runtime::Runtime;

const ROUNDS: usize = 7;

/// Times that a round goes through the events: the scheduler's account is exact to a few milliseconds only.
const PASSES: usize = 10;

/// Events in one request: about two megabytes.
const REQUEST_EVENTS: usize = 1_000;

/// What the product promises.
const BAR: f64 = 100_000.0;

fn main() {
    let address = discard::start();
    let events = events(&Corpus::read());
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    println!("machine  {}", machine::describe());
    println!("profile  release of the product (opt-level 3, 16 codegen units)");
    println!(
        "events   {}, {:.1} MB, {} in a request",
        events.len(),
        as_float(bytes) / 1e6,
        REQUEST_EVENTS
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on this thread");
    let endpoint = format!("http://{address}");
    let mut rivals: Vec<(&str, Run<'_>, Vec<Speed>)> = vec![
        (
            "a  reqwest, bodies prepared before",
            prepared(&runtime, &endpoint, &events),
            Vec::new(),
        ),
        (
            "b  the sink",
            sink(&runtime, &endpoint, &events, "none"),
            Vec::new(),
        ),
        (
            "c  the line: dedupe, sink, commit (in memory)",
            line(&runtime, &endpoint, &events, "none"),
            Vec::new(),
        ),
        (
            "b' the sink, with gzip",
            sink(&runtime, &endpoint, &events, "gzip"),
            Vec::new(),
        ),
    ];
    for _ in 0..ROUNDS {
        for (_, run, rounds) in &mut rivals {
            let (wall, core) = (Instant::now(), machine::all_but(discard::THREADS));
            (0..PASSES).for_each(|_| run());
            let core = machine::all_but(discard::THREADS) - core;
            let wall = wall.elapsed().as_secs_f64();
            rounds.push(Speed {
                core: as_float(events.len() * PASSES) / core,
                wall: as_float(events.len() * PASSES) / wall,
            });
        }
    }
    println!(
        "\n{:48} {:>14} {:>10} {:>14}",
        "", "events/s core", "best", "events/s wall"
    );
    for (name, _, rounds) in &rivals {
        let best = rounds.iter().map(|speed| speed.core).fold(0.0, f64::max);
        let Speed { core, wall } = median(rounds);
        println!("{name:48} {core:14.0} {best:10.0} {wall:14.0}");
    }
    let (plain, line) = (median(&rivals[0].2).core, median(&rivals[2].2).core);
    let verdict = if line >= BAR { "met" } else { "MISSED" };
    println!("\nc, the line    {line:9.0} events/s of one core  (at least {BAR:.0}: {verdict})");
    println!("c / a          {:9.2}", line / plain);
}

type Run<'a> = Box<dyn FnMut() + 'a>;

/// Of one round, in events a second.
#[derive(Clone, Copy)]
struct Speed {
    core: f64,
    wall: f64,
}

/// The round in the middle, by core time.
fn median(rounds: &[Speed]) -> Speed {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|one, other| one.core.total_cmp(&other.core));
    sorted[sorted.len() / 2]
}

/// The corpus as events, each with an identity of its own.
fn events(corpus: &Corpus) -> Vec<Event> {
    let mut mapper = Mapper::new(Options::default());
    let records = corpus.batches.iter().flatten().enumerate();
    let event = |(number, record): (usize, &Event)| {
        let mut body = Vec::new();
        mapper
            .map(&record.body, &mut body)
            .expect("a record of the corpus can be mapped");
        Event {
            id: number.to_string().into(),
            fingerprint: 0,
            time_ms: 1_767_225_600_000,
            body: body.into(),
            identity: Identity::of("contoso", &number.to_string(), 0),
        }
    };
    records.map(event).collect()
}

fn config(endpoint: &str, compression: &str) -> Config {
    let text = format!(
        "source: {{ plugin: o365, tenants: [{{ id: contoso }}] }}\n\
         sinks: [elasticsearch: {{ endpoints: ['{endpoint}'], compression: {compression},\n\
         batch: {{ max_events: {REQUEST_EVENTS}, timeout: 10ms }} }}]\n"
    );
    Config::parse(Path::new("bench.yaml"), &text, None).expect("the bench's config is good")
}

fn elasticsearch(config: &Config) -> (Arc<ElasticsearchSink>, sluicegate::sink::Policy) {
    let SinkKind::Elasticsearch(kind) = &config.sinks[0].kind else {
        panic!("the bench's sink is elasticsearch")
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let made = ElasticsearchSink::new(
        "bench",
        kind,
        &config.http,
        &Arc::new(Redactor::new()),
        &clock,
    );
    (
        Arc::new(made.expect("the sink needs nothing")),
        kind.delivery.policy.clone(),
    )
}

/// Posts bodies that are there already, one after the other.
fn prepared<'a>(runtime: &'a Runtime, endpoint: &str, events: &[Event]) -> Run<'a> {
    let bodies: Vec<Bytes> = events
        .chunks(REQUEST_EVENTS)
        .map(|events| {
            let mut body = Vec::new();
            for event in events {
                let id = event.identity.delivery_id();
                body.extend_from_slice(format!("{{\"create\":{{\"_id\":\"{id}\"}}}}\n").as_bytes());
                body.extend_from_slice(&event.body);
                body.push(b'\n');
            }
            body.into()
        })
        .collect();
    let client = reqwest::Client::new();
    let url = format!("{endpoint}/logs-o365.audit-default/_bulk");
    Box::new(move || {
        runtime.block_on(async {
            for body in &bodies {
                let request = client
                    .post(&url)
                    .header("content-type", "application/x-ndjson");
                let answer = request
                    .body(body.clone())
                    .send()
                    .await
                    .expect("the server answers");
                let text = answer.bytes().await.expect("the answer is whole");
                assert!(text.ends_with(b"\"errors\":false}"));
            }
        });
    })
}

/// Hands groups of events to the sink, one after the other.
fn sink<'a>(runtime: &'a Runtime, endpoint: &str, events: &[Event], compression: &str) -> Run<'a> {
    let stream = StreamKey::new("contoso", "Audit.General");
    let outgoing = |event: &Event| Outgoing {
        stream: stream.clone(),
        event: event.clone(),
        rewritten: None,
    };
    let groups: Vec<Vec<Outgoing>> = events
        .chunks(REQUEST_EVENTS)
        .map(|events| events.iter().map(outgoing).collect())
        .collect();
    let (sink, _) = elasticsearch(&config(endpoint, compression));
    Box::new(move || {
        runtime.block_on(async {
            for group in &groups {
                let reply = sink.send(group).await;
                assert!(
                    matches!(&reply, Reply::Taken { failed, .. } if failed.is_empty()),
                    "{reply:?}"
                );
            }
        });
    })
}

/// The split that all events seem to come from.
fn split() -> Taken {
    Taken {
        split: Split {
            id: "split".into(),
            payload: Vec::new(),
            created_ms: 0,
            expires_ms: None,
            weight: 1,
        },
        discovered_ms: None,
        attempts: 0,
        quarantined: false,
    }
}

/// Runs batches through a line with nothing but the sink, and waits until all are committed.
fn line<'a>(
    runtime: &'a Runtime,
    endpoint: &'a str,
    events: &'a [Event],
    compression: &'a str,
) -> Run<'a> {
    Box::new(move || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock: SharedClock = Arc::new(SystemClock);
        let (sink, policy) = elasticsearch(&config(endpoint, compression));
        let parts = Parts {
            ledger: Arc::new(MemoryLedger::new(Duration::from_hours(24))),
            stages: Vec::new(),
            sinks: vec![Outlet {
                way: Way::Requests(sink, policy),
                when: None,
            }],
            dead_letter: DeadLetters::new(folder.path(), "bench", clock.clone()),
            clock,
        };
        runtime.block_on(async {
            let (line, ended) = Line::start(parts).await.expect("the line starts");
            let stream = StreamKey::new("contoso", "Audit.General");
            let reading = Arc::new(Reading::new(&stream, &split()));
            for events in events.chunks(500) {
                let batch = Batch {
                    stream: stream.clone(),
                    events: events.to_vec(),
                    part: Part::default(),
                };
                let accepted = line.accept(batch, &reading).await;
                accepted.expect("the line is open");
            }
            line.settled().await;
            assert_eq!(line.totals().counts().delivered, as_count(events.len()));
            drop(line);
            ended.await.expect("the line ends");
        });
    })
}

fn as_count(count: usize) -> u64 {
    u64::try_from(count).expect("fewer events than that")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_float(count: usize) -> f64 {
    count as f64
}
