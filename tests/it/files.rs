//! The real command, killed again and again while it writes files that are chosen by the event, rotated and packed:
//! each event stands there once.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sluicegate_office::Office;
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::backfill::hours_ago;
use crate::socket::run;
use crate::{folder, sluicegate};

/// All files below a folder but journals.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !entry.file_name().to_string_lossy().starts_with('.') {
            found.push(path);
        }
    }
    found
}

/// Every line of these files, unpacked where they are packed.
fn text(files: &[PathBuf]) -> Vec<u8> {
    let mut text = Vec::new();
    for path in files {
        let bytes = std::fs::read(path).unwrap();
        if path.extension().is_some_and(|end| end == "gz") {
            let mut members = flate2::read::MultiGzDecoder::new(&bytes[..]);
            members.read_to_end(&mut text).unwrap();
        } else {
            text.extend_from_slice(&bytes);
        }
    }
    text
}

#[test]
fn each_event_is_once_in_the_files_of_its_tenant() {
    let office = Simulated::start(
        Office::builder(141)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("files", &office)
        .only("file: { path: 'out/{{ organization.id }}/%Y/{{ stream }}.ndjson', rotate: { max_size: 40kB } }")
        .sink(
            "file: { name: table, path: out.csv.gz, compression: gzip, \
             encoding: { codec: csv, columns: [organization.id, event.id, event.original] } }",
        );
    run(&pipeline, &folder)
        .expect(0)
        .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    let files = files(&folder.path().join("out"));
    assert!(files.len() > 2 * 5, "{files:?}");
    let mut all = Delivered::default();
    for path in &files {
        let events = Delivered::parse(&text(std::slice::from_ref(path))).events;
        for event in &events {
            let organization = event["organization"]["id"].as_str().unwrap();
            assert!(
                path.starts_with(folder.path().join("out").join(organization)),
                "{path:?}"
            );
        }
        all.events.extend(events);
    }
    let verdict = office.judge(&all);
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    // The collector's own files are refused for a backfill: two journals would know nothing of each other.
    let (since, until) = (hours_ago(&office, 72).1, hours_ago(&office, 24).1);
    let backfill = format!("run --once --since {since} --until {until}");
    let refused = pipeline.give(sluicegate(&folder).args(&backfill)).run();
    refused.expect(78).says(&["as well", "--output"]);
    let table = String::from_utf8(text(&[folder.path().join("out.csv.gz")])).unwrap();
    let mut rows = table.split("\r\n");
    assert_eq!(rows.next(), Some("organization.id,event.id,event.original"));
    let events = rows.filter(|row| !row.is_empty()).map(|row| {
        let mut cells = row.splitn(3, ',');
        let (organization, id) = (cells.next(), cells.next());
        serde_json::json!({ "organization": { "id": organization }, "event": { "id": id } })
    });
    let verdict = office.judge(&Delivered {
        events: events.collect(),
    });
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
}

#[test]
fn kills_leave_each_event_once_in_rotated_and_packed_files() {
    for (seed, name, keys) in [
        (
            142,
            "rotated",
            "path: 'out/{{ stream }}.ndjson', rotate: { max_size: 30kB }",
        ),
        (
            143,
            "packed",
            "path: 'out/%H.ndjson.gz', compression: gzip, rotate: { max_size: 10kB, max_age: 1s }",
        ),
    ] {
        let office = patient_office(seed);
        let folder = folder();
        let pipeline = Pipeline::o365(name, &office).only(&format!("file: {{ {keys} }}"));
        let out = folder.path().join("out");
        let amount = || {
            let lengths = files(&out).into_iter();
            let lengths = lengths.filter_map(|path| std::fs::metadata(path).ok());
            lengths.map(|file| file.len()).sum::<u64>()
        };
        torment(|| sluicegate(&folder), &pipeline, |_| (), amount);
        let files = files(&out);
        assert!(files.len() > 8, "{files:?}");
        let delivered = Delivered::parse(&text(&files));
        let verdict = office.judge(&delivered);
        assert!(
            verdict.is_clean() && verdict.owed > 0,
            "{name}: {verdict:?}"
        );
        let repeated = delivered.repeated();
        assert!(
            repeated.is_empty(),
            "{name}: twice in the files: {repeated:?}"
        );
    }
}
