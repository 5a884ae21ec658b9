//! How fast records become events on one core: the component in its sandbox, beside the same code
//! built natively, a parse and write by `serde_json`, and a script in Vector's language.
//!
//! All of them take turns in one run, so that a busy machine is busy for all; the median round
//! counts, by the time that the thread had a core.

use std::hint::black_box;

use bytes::BytesMut;
use sluicegate::event::Event;
use sluicegate_benches::component::Component;
use sluicegate_benches::corpus::Corpus;
use sluicegate_benches::machine::{self, Elapsed, Stopwatch};
use sluicegate_benches::vrl::Script;
use sluicegate_ecs::{Mapper, Options};

const ROUNDS: usize = 7;

/// The script is so slow that it gets every fifth batch only.
const SCRIPT_SHARE: usize = 5;

type Run<'a> = Box<dyn FnMut(&[Event]) + 'a>;

/// One way to make events.
struct Rival<'a> {
    name: &'static str,
    share: usize,
    run: Run<'a>,
    rounds: Vec<Speed>,
}

/// Of one round.
#[derive(Clone, Copy)]
struct Speed {
    /// Megabytes of records a second of the core, and by the wall.
    core: f64,
    wall: f64,
    /// Records a second of the core.
    records: f64,
}

fn main() {
    // As the command does.
    sluicegate::heap::settle();
    let corpus = Corpus::read();
    let component = Component::load().unwrap_or_else(|error| panic!("{error}"));
    compare(&component, &corpus);
    println!("machine  {}", machine::describe());
    println!(
        "profile  release of the product (opt-level 3, 16 codegen units); component: `guest` (fat \
         LTO, simd128); mapping: newer"
    );
    println!(
        "records  {} in {} calls, {:.1} MB; {} distinct: {}",
        corpus.records,
        corpus.batches.len(),
        as_float(corpus.bytes) / 1e6,
        corpus.distinct,
        corpus.origin
    );
    let mut rivals = rivals(&component);
    for _ in 0..ROUNDS {
        for rival in &mut rivals {
            let speed = round(rival, &corpus);
            rival.rounds.push(speed);
        }
    }
    println!(
        "\n{:44} {:>9} {:>9} {:>9} {:>10}",
        "", "MB/s core", "best", "MB/s wall", "events/s"
    );
    for rival in &rivals {
        let speed = median(&rival.rounds);
        let best = rival
            .rounds
            .iter()
            .map(|speed| speed.core)
            .fold(0.0, f64::max);
        println!(
            "{:44} {:9.1} {best:9.1} {:9.1} {:10.0}",
            rival.name, speed.core, speed.wall, speed.records
        );
    }
    judge(&rivals);
}

/// The component gives what the native mapping gives, byte for byte; otherwise its speed says
/// nothing.
fn compare(component: &Component, corpus: &Corpus) {
    let mut mapper = Mapper::new(Options::default());
    let mut expected = Vec::new();
    let mut seen = 0;
    for batch in &corpus.batches {
        let events = component.map(batch);
        assert_eq!(events.len(), batch.len(), "one event for each record");
        for (record, event) in batch.iter().zip(&events) {
            expected.clear();
            mapper
                .map(&record.body, &mut expected)
                .expect("a record of the corpus can be mapped");
            assert!(
                event.body == expected,
                "component and native differ on {:?}",
                record.body
            );
        }
        seen += batch.len();
        if seen >= corpus.distinct {
            break;
        }
    }
}

fn rivals(component: &Component) -> [Rival<'_>; 5] {
    let mut mapper = Mapper::new(Options::default());
    let mut script = Script::compile();
    let (mut native, mut tree, mut scripted) = (Vec::new(), Vec::new(), Vec::new());
    let rival = |name, run| Rival {
        name,
        share: 1,
        run,
        rounds: Vec::new(),
    };
    [
        rival(
            "a  component, called by the host",
            Box::new(|batch: &[Event]| {
                black_box(component.map(batch));
            }),
        ),
        rival(
            "b  the mapping, native",
            Box::new(move |batch: &[Event]| {
                native.clear();
                for record in batch {
                    let mapped = mapper.map(&record.body, &mut native);
                    black_box(mapped.is_ok());
                }
                black_box(&native);
            }),
        ),
        rival("b' all that the component does, native", Box::new(apply)),
        rival(
            "c  serde_json to a tree and back",
            Box::new(move |batch: &[Event]| {
                tree.clear();
                for record in batch {
                    let value: serde_json::Value =
                        serde_json::from_slice(&record.body).expect("a record is JSON");
                    serde_json::to_writer(&mut tree, &value).expect("a vector takes all");
                }
                black_box(&tree);
            }),
        ),
        Rival {
            share: SCRIPT_SHARE,
            ..rival(
                "d  a mapping in VRL, by the crate `vrl`",
                Box::new(move |batch: &[Event]| {
                    scripted.clear();
                    for record in batch {
                        script.map(record.body.clone(), &mut scripted);
                    }
                    black_box(&scripted);
                }),
            )
        },
    ]
}

/// Packing, splitting, mapping, identities and verdicts, as in the component.
fn apply(batch: &[Event]) {
    use sluicegate_o365::world::{Batch, Entry, Limits};
    let size = batch
        .iter()
        .map(|event| event.id.len() + event.body.len())
        .sum();
    let mut bytes = BytesMut::with_capacity(size);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a record is short");
    let mut entries = Vec::with_capacity(batch.len());
    for Event {
        id,
        fingerprint,
        time_ms,
        body,
        ..
    } in batch
    {
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(body);
        entries.push(Entry {
            id_length: length(id.as_bytes()),
            body_length: length(body),
            fingerprint: *fingerprint,
            time: *time_ms,
        });
    }
    let input = Batch {
        bytes: bytes.into(),
        entries,
    };
    let limits = Limits {
        batch_bytes: 1 << 20,
        batch_events: 4096,
        event_bytes: 32 << 20,
        splits: 1,
        deadline: i64::MAX,
    };
    let applied = sluicegate_o365::transform::apply("{}", &input, limits);
    black_box(applied.is_ok());
}

fn round(rival: &mut Rival<'_>, corpus: &Corpus) -> Speed {
    let batches: Vec<_> = corpus.batches.iter().step_by(rival.share).collect();
    let records = batches.iter().map(|batch| batch.len()).sum();
    let bytes = batches
        .iter()
        .flat_map(|batch| batch.iter())
        .map(|event| event.body.len())
        .sum();
    // The first calls fill caches, buffers and the pool of instances.
    for batch in batches.iter().take(4) {
        (rival.run)(batch);
    }
    let watch = Stopwatch::start();
    for batch in batches {
        (rival.run)(batch);
    }
    let Elapsed { wall, core } = watch.stop();
    let megabytes = as_float(bytes) / 1e6;
    Speed {
        core: megabytes / core,
        wall: megabytes / wall,
        records: as_float(records) / core,
    }
}

/// The round in the middle, by core time.
fn median(rounds: &[Speed]) -> Speed {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|one, other| one.core.total_cmp(&other.core));
    sorted[sorted.len() / 2]
}

/// What the product promises of its speed.
fn judge(rivals: &[Rival<'_>; 5]) {
    let [a, _, b, c, d] = rivals.each_ref().map(|rival| median(&rival.rounds).core);
    println!();
    for (what, value, bar, unit) in [
        ("a, the component", a, 250.0, " MB/s"),
        ("a / b', of the same work natively", a / b, 0.6, ""),
        ("a / c, of serde_json to a tree and back", a / c, 1.0, ""),
        ("a / d, of the mapping in VRL", a / d, 10.0, ""),
    ] {
        let verdict = if value >= bar { "met" } else { "MISSED" };
        println!("{what:44} {value:9.2}{unit}  (at least {bar}{unit}: {verdict})");
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_float(count: usize) -> f64 {
    count as f64
}
