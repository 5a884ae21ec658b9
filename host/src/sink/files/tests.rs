//! The sink through crashes, in files that are chosen, rotated and packed.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tempfile::TempDir;

use super::*;
use crate::clock::SystemClock;
use crate::config::sink::path_template::Template;
use crate::event::Part;

fn config(folder: &TempDir, path: &str) -> Files {
    let path = folder.path().join(path).display().to_string();
    Files {
        template: Template::parse(&path).unwrap(),
        path,
        columns: None,
        header: true,
        gzip: false,
        max_bytes: None,
        max_age: None,
    }
}

fn sink(config: &Files) -> FilesSink {
    let clock: SharedClock = Arc::new(SystemClock);
    FilesSink::new("file", config, &clock)
}

fn batch(tenant: &str, bodies: &[String]) -> Batch {
    let event = |body: &String| Event {
        id: body.clone().into(),
        fingerprint: 0,
        time_ms: 1_767_225_600_000,
        body: Bytes::from(body.clone()),
        identity: Identity::of(tenant, body, 0),
    };
    Batch {
        stream: StreamKey::new(tenant, "Audit.General"),
        events: bodies.iter().map(event).collect(),
        part: Part::default(),
    }
}

fn bodies(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers
        .map(|number| format!("{{\"n\":{number}}}"))
        .collect()
}

/// What stands in each file, by its path below the folder; the journal left out.
fn found(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            for (below, text) in found(&path) {
                all.insert(format!("{name}/{below}"), text);
            }
        } else if !name.starts_with('.') {
            let bytes = fs::read(&path).unwrap();
            let mut text = String::new();
            if path.extension().is_some_and(|end| end == "gz") {
                MultiGzDecoder::new(&bytes[..])
                    .read_to_string(&mut text)
                    .unwrap();
            } else {
                text = String::from_utf8(bytes).unwrap();
            }
            all.insert(name, text);
        }
    }
    all
}

#[tokio::test]
async fn each_event_is_in_the_file_that_it_belongs_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(&config(&folder, "out/{{ tenant }}/{{ a }}-%Y.ndjson"));
    sink.recover(&Positions::new()).await.unwrap();
    let texts = [r#"{"a":"1"}"#, r#"{"a":"../../x"}"#, "[]", r#"{"b":1}"#].map(str::to_owned);
    let written = sink
        .write(&[batch("contoso", &texts), batch("fabrikam", &texts[..1])])
        .await
        .unwrap();
    assert_eq!(written.positions.len(), 2);
    assert!(
        matches!(&written.refused[..], [(0, 2, reason)] if reason.contains("not a JSON object"))
    );
    let wanted = [
        ("out/contoso/1-2026.ndjson", "{\"a\":\"1\"}\n"),
        ("out/contoso/_-2026.ndjson", "{\"b\":1}\n"),
        ("out/contoso/_._.._x-2026.ndjson", "{\"a\":\"../../x\"}\n"),
        ("out/fabrikam/1-2026.ndjson", "{\"a\":\"1\"}\n"),
    ];
    let wanted = wanted.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(found(folder.path()), wanted.into());
}

/// Writes in calls of several batches and crashes again and again, with less committed than written; what is not
/// committed is sent again. At the end each event has to be there once.
async fn crashes(
    mut config: Files,
    seed: u64,
    change: impl Fn(&mut Files),
) -> BTreeMap<String, String> {
    change(&mut config);
    let mut random = fastrand::Rng::with_seed(seed);
    let batches: Vec<Batch> = (0..60)
        .map(|number| {
            let tenant = if number % 3 == 0 {
                "contoso"
            } else {
                "fabrikam"
            };
            batch(tenant, &bodies(number * 10..number * 10 + 1 + number % 5))
        })
        .collect();
    let mut committed = Positions::new();
    let mut next = 0;
    while next < batches.len() {
        let mut sink = sink(&config);
        committed.extend(sink.recover(&committed).await.unwrap());
        let mut at = next;
        for _ in 0..random.usize(1..6) {
            let end = (at + random.usize(1..6)).min(batches.len());
            let written = sink.write(&batches[at..end]).await.unwrap();
            assert_eq!(written.positions.len(), end - at);
            // A commit comes later, and ends anywhere.
            let last = end == batches.len();
            let acknowledged = if last {
                end - at
            } else {
                random.usize(0..=end - at)
            };
            for position in &written.positions[..acknowledged] {
                committed.extend(position.clone());
            }
            next = at + acknowledged;
            at = end;
            if acknowledged < written.positions.len() || last {
                break;
            }
        }
    }
    let mut sink = sink(&config);
    sink.recover(&committed).await.unwrap();
    let folder = Path::new(config.template.folder()).to_owned();
    let files = found(&folder);
    let mut lines: Vec<&str> = files
        .values()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with('{'))
        .collect();
    let mut wanted: Vec<String> = batches
        .iter()
        .flat_map(|batch| &batch.events)
        .map(|event| String::from_utf8(event.body.to_vec()).unwrap())
        .collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted, "seed {seed}");
    files
}

#[tokio::test]
async fn each_event_is_there_once_after_any_crash() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let files = crashes(config(&folder, "{{ tenant }}.ndjson"), seed, |_| {}).await;
        assert_eq!(files.len(), 2);
    }
}

#[tokio::test]
async fn nor_does_rotation_or_packing_change_that() {
    for seed in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let files = crashes(config(&folder, "{{ tenant }}.ndjson"), seed, |config| {
            config.max_bytes = Some(300);
        });
        assert!(files.await.len() > 5);
        let folder = tempfile::tempdir().unwrap();
        let files = crashes(config(&folder, "{{ tenant }}.ndjson.gz"), seed, |config| {
            (config.gzip, config.max_bytes) = (true, Some(400));
        });
        assert!(files.await.len() > 2);
        let folder = tempfile::tempdir().unwrap();
        let files = crashes(config(&folder, "events.ndjson"), seed, |config| {
            config.max_age = Some(std::time::Duration::ZERO);
        });
        assert!(files.await.len() > 20);
    }
}

#[tokio::test]
async fn every_file_of_rows_begins_with_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, "rows.csv");
    config.columns = Some(vec!["n".to_owned(), "x".to_owned()]);
    config.max_bytes = Some(20);
    let mut sink = sink(&config);
    sink.recover(&Positions::new()).await.unwrap();
    for number in 0..4 {
        let batch = batch("contoso", &bodies(number * 2..number * 2 + 2));
        sink.write(&[batch]).await.unwrap();
    }
    let files = found(folder.path());
    assert_eq!(files.len(), 4);
    assert_eq!(files["rows.csv"], "n,x\r\n6,\r\n7,\r\n");
    assert!(
        files.values().all(|text| text.starts_with("n,x\r\n")),
        "{files:?}"
    );
}

#[tokio::test]
async fn a_write_that_fails_half_way_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(&config(&folder, "out/{{ tenant }}/{{ a }}.ndjson"));
    sink.recover(&Positions::new()).await.unwrap();
    let one = |tenant| batch(tenant, &[r#"{"a":"1"}"#.to_owned()]);
    sink.write(&[one("contoso")]).await.unwrap();
    // A file where a folder has to be.
    fs::write(folder.path().join("out/fabrikam"), "").unwrap();
    let both = [one("contoso"), one("fabrikam")];
    let error = sink.write(&both).await.unwrap_err();
    assert_eq!(error.places, ["sink `file`"]);
    assert_eq!(
        found(folder.path())["out/contoso/1.ndjson"],
        "{\"a\":\"1\"}\n"
    );
    fs::remove_file(folder.path().join("out/fabrikam")).unwrap();
    let written = sink.write(&both).await.unwrap();
    let numbers: Vec<_> = written
        .positions
        .iter()
        .flat_map(BTreeMap::values)
        .collect();
    assert_eq!(numbers, [&2, &3]);
    let files = found(folder.path());
    assert_eq!(files["out/contoso/1.ndjson"], "{\"a\":\"1\"}\n".repeat(2));
    assert_eq!(files["out/fabrikam/1.ndjson"], "{\"a\":\"1\"}\n");
}

#[tokio::test]
async fn a_plain_sink_at_the_same_path_cuts_nothing_off() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, "events.ndjson");
    let mut plain = crate::sink::file::FileSink::new("file", &config.path);
    let mut committed = plain.recover(&Positions::new()).await.unwrap();
    let written = plain
        .write(&[batch("contoso", &bodies(0..1))])
        .await
        .unwrap();
    committed.extend(written.positions.into_iter().flatten());
    let mut rotating = sink(&config);
    committed.extend(rotating.recover(&committed).await.unwrap());
    let written = rotating
        .write(&[batch("contoso", &bodies(1..2))])
        .await
        .unwrap();
    committed.extend(written.positions.into_iter().flatten());
    let mut plain = crate::sink::file::FileSink::new("file", &config.path);
    committed.extend(plain.recover(&committed).await.unwrap());
    plain
        .write(&[batch("contoso", &bodies(2..3))])
        .await
        .unwrap();
    // Nor does this one cut off what that one wrote.
    sink(&config).recover(&committed).await.unwrap();
    let text = fs::read_to_string(&config.path).unwrap();
    assert_eq!(text, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn a_file_that_is_closed_has_the_time_in_its_name() {
    for (path, number, wanted) in [
        (
            "a.b/events.ndjson.gz",
            1,
            "a.b/events-20260101T000000Z.ndjson.gz",
        ),
        ("events", 2, "events-20260101T000000Z-2"),
        (".hidden", 1, ".hidden-20260101T000000Z"),
    ] {
        let found = rotated(Path::new(path), 1_767_225_600_000, number);
        assert_eq!(found, Path::new(wanted));
    }
}
