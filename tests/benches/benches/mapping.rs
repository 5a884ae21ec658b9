//! How fast records become events on one core: the component in its sandbox, beside the same code
//! built natively, a parse and write by `serde_json`, and a script in Vector's language.
//!
//! All of them take turns, so that a busy machine is busy for all; a turn is several batches, so
//! that most are met in the state in which work goes on, not behind another one's use of the
//! caches. A batch takes milliseconds, so most are not interrupted: the median counts, of speeds
//! and of ratios.

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use sluicegate::event::Event;
use sluicegate_benches::component::Component;
use sluicegate_benches::corpus::Corpus;
use sluicegate_benches::machine;
use sluicegate_benches::vrl::Script;
use sluicegate_ecs::{Mapper, Options};

const ROUNDS: usize = 7;

/// Batches in a turn.
const TURN: usize = 8;

/// The script is so slow that it gets every fifth batch only.
const SCRIPT_SHARE: usize = 5;

type Run<'a> = Box<dyn FnMut(&[Event]) + 'a>;

/// One way to make events.
struct Rival<'a> {
    name: &'static str,
    share: usize,
    run: Run<'a>,
    /// Of each batch in the order they were taken; none where it was not this one's turn.
    speeds: Vec<Option<Speed>>,
}

/// Of one batch.
#[derive(Clone, Copy)]
struct Speed {
    /// Megabytes of records a second.
    bytes: f64,
    /// Records a second.
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
    // The first calls fill caches, buffers and the pool of instances.
    for batch in corpus.batches.iter().take(4) {
        for rival in &mut rivals {
            (rival.run)(batch);
        }
    }
    let batches: Vec<_> = corpus.batches.iter().enumerate().collect();
    for _ in 0..ROUNDS {
        for turn in batches.chunks(TURN) {
            // Whoever comes first finds the batches in no cache.
            rivals.rotate_left(1);
            for rival in &mut rivals {
                for (index, batch) in turn {
                    let speed = (index % rival.share == 0).then(|| time(rival, batch));
                    rival.speeds.push(speed);
                }
            }
        }
    }
    rivals.sort_by_key(|rival| rival.name);
    println!(
        "\n{:44} {:>9} {:>9} {:>10}",
        "", "MB/s", "best 5 %", "events/s"
    );
    for rival in &rivals {
        let all = || rival.speeds.iter().flatten();
        let bytes = sorted(all().map(|speed| speed.bytes));
        let records = sorted(all().map(|speed| speed.records));
        println!(
            "{:44} {:9.1} {:9.1} {:10.0}",
            rival.name,
            bytes[bytes.len() / 2],
            bytes[bytes.len() * 19 / 20],
            records[records.len() / 2]
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
        speeds: Vec::new(),
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

fn time(rival: &mut Rival<'_>, batch: &[Event]) -> Speed {
    let bytes = batch.iter().map(|event| event.body.len()).sum();
    let start = Instant::now();
    (rival.run)(batch);
    let seconds = start.elapsed().as_secs_f64();
    Speed {
        bytes: as_float(bytes) / 1e6 / seconds,
        records: as_float(batch.len()) / seconds,
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// How many times faster one is than another: the median over the batches that both had.
fn ratio(one: &Rival<'_>, other: &Rival<'_>) -> f64 {
    let pairs = one.speeds.iter().zip(&other.speeds);
    let ratios = pairs.filter_map(|(one, other)| Some((*one)?.bytes / (*other)?.bytes));
    let ratios = sorted(ratios);
    ratios[ratios.len() / 2]
}

/// What the product promises of its speed.
fn judge(rivals: &[Rival<'_>; 5]) {
    let [a, _, b, c, d] = rivals;
    let speed = sorted(a.speeds.iter().flatten().map(|speed| speed.bytes));
    println!();
    for (what, value, bar, unit) in [
        ("a, the component", speed[speed.len() / 2], 250.0, " MB/s"),
        ("a / b', of the same work natively", ratio(a, b), 0.6, ""),
        (
            "a / c, of serde_json to a tree and back",
            ratio(a, c),
            1.0,
            "",
        ),
        ("a / d, of the mapping in VRL", ratio(a, d), 10.0, ""),
    ] {
        let verdict = if value >= bar { "met" } else { "MISSED" };
        println!("{what:44} {value:9.2}{unit}  (at least {bar}{unit}: {verdict})");
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_float(count: usize) -> f64 {
    count as f64
}
