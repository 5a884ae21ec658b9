//! Content that is not what it should be: read again, then kept aside and reported; nobody else notices.

use sluicegate_office::{ContentType, Fault, Faults, Office, Pool};
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::{folder, sluicegate};

#[test]
fn what_comes_broken_once_is_read_again() {
    // Each at a rate that a blob does not meet six times in a row.
    let broken = [
        Fault::Truncate,
        Fault::TruncateChunked,
        Fault::TruncateGzip,
        Fault::LengthShort,
        Fault::LengthLong,
        Fault::ErrorWith200,
        Fault::NullBody,
        Fault::EmptyBody,
        Fault::HtmlBody,
        Fault::GarbageTail,
        Fault::FalseEncoding,
        Fault::ResetAfterHeaders,
    ];
    let faults = broken
        .iter()
        .fold(Faults::none(), |faults, fault| faults.with(*fault, 0.015));
    let office = Simulated::start(
        Office::builder(31)
            .blobs(150)
            .events_per_blob(10)
            .faults(faults),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("broken", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&folder.path().join("broken.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(
        verdict.is_clean() && verdict.owed == 1_500,
        "{verdict:?}\n{}",
        ended.stderr
    );
    let played = office.stats().faults;
    assert!(
        played.len() >= 5,
        "too few kinds of faults were met: {played:?}"
    );
}

#[test]
fn what_stays_broken_is_kept_aside_and_reported() {
    for (seed, fault) in [(32, Fault::PoisonBody), (33, Fault::PoisonError)] {
        let faults = Faults::none().with(fault, 0.12);
        let office = Simulated::start(
            Office::builder(seed)
                .blobs(50)
                .events_per_blob(10)
                .faults(faults),
        );
        let folder = folder();
        let pipeline = Pipeline::o365("poison", &office);
        let ended = pipeline
            .give(sluicegate(&folder).args("run --once"))
            .run()
            .expect(75);
        let delivered = Delivered::read(&folder.path().join("poison.ndjson"));
        let verdict = office.judge(&delivered);
        assert!(verdict.is_clean(), "{fault}: {verdict:?}");
        let bad = 500 - verdict.owed;
        assert!(
            bad > 0 && bad < 300,
            "{fault}: {bad} events stand in broken blobs"
        );
        ended.says(&["a split is set aside", "in quarantine; they are kept"]);
        ended.says(&[&format!("{} split(s) set aside", bad / 10)]);
        ended.says(&["0 declared loss(es)"]);
    }
}

#[test]
fn what_cannot_be_found_holds_up_nothing_and_is_reported() {
    let faults = Faults::none().with(Fault::Gone, 0.1);
    let office = Simulated::start(
        Office::builder(34)
            .blobs(50)
            .events_per_blob(4)
            .faults(faults),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("gone", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(75);
    let delivered = Delivered::read(&folder.path().join("gone.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(verdict.owed < 200, "the seed hides no blob");
    // It may turn up yet: that it is lost is said only when it is no longer listed either.
    ended.says(&["split(s) wait until ", "0 declared loss(es)"]);
}

#[test]
fn a_list_that_never_ends_is_never_taken_for_the_whole() {
    // Cut at the same rate in every answer, with a length that agrees: only the missing bracket tells.
    let faults = Faults::none().with(Fault::LengthShort, 1.0);
    let office = Simulated::start(
        Office::builder(35)
            .blobs(5)
            .events_per_blob(10)
            .faults(faults),
    );
    let folder = folder();
    let pipeline = Pipeline::o365("cut", &office);
    let ended = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(75);
    ended.says(&[
        "5 split(s) set aside",
        "in quarantine; they are kept",
        "0 declared loss(es)",
    ]);
    let delivered = Delivered::read(&folder.path().join("cut.ndjson"));
    let verdict = office.judge(&delivered);
    assert!(
        verdict.duplicated == 0 && verdict.invented == 0,
        "{verdict:?}"
    );
    assert!(verdict.missing > 0, "nothing was cut: {verdict:?}");
}

#[test]
fn a_blob_needs_no_more_memory_than_a_piece_of_it() {
    let kinds = [ContentType::Exchange];
    let builder = Office::builder(36).content_types(&kinds).blobs(1);
    let office = Simulated::start(builder.events_per_blob(16_000));
    let folder = folder();
    let pipeline = Pipeline::o365("large", &office)
        .config("content_types: [Audit.Exchange]")
        .limits("requests_per_minute: 1000000, memory: 12MiB, batch_bytes: 256KiB");
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let path = folder.path().join("large.ndjson");
    let verdict = office.judge(&Delivered::read(&path));
    assert!(verdict.is_clean() && verdict.owed == 16_000, "{verdict:?}");
    let bytes = std::fs::metadata(path).unwrap().len();
    assert!(bytes > 24 << 20, "{bytes} bytes would have fitted");
}

#[test]
fn an_event_of_many_megabytes_comes_whole_beside_small_ones() {
    let text = "lorem ipsum ".repeat(1 << 21);
    let record = |id: &str, text: &str| {
        format!(
            r#"{{"Id":"{id}","RecordType":2,"CreationTime":"2026-03-01T08:00:00","Operation":"Send","Text":"{text}"}}"#
        )
    };
    let lines = [
        record("a", "x"),
        record("b", &text[..20 << 20]),
        record("c", "y"),
    ];
    let pool = Pool::from_ndjson(lines.join("\n").as_bytes()).unwrap();
    let builder = Office::builder(37).content_types(&[ContentType::Exchange]);
    let office = Simulated::start(builder.blobs(1).events_per_blob(3).records(pool));
    let folder = folder();
    let pipeline = Pipeline::o365("wide", &office).config("content_types: [Audit.Exchange]");
    let _ = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .run()
        .expect(0);
    let delivered = Delivered::read(&folder.path().join("wide.ndjson"));
    let mut ids = delivered.ids();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b", "c"]);
    let longest = delivered
        .events
        .iter()
        .map(|event| event.to_string().len())
        .max();
    assert!(longest > Some(20 << 20), "{longest:?}");
}
