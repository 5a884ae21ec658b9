//! The real command writing Parquet into a real object store (SeaweedFS), where it is installed: each event stands in
//! one row whatever breaks on either side, the same files come of the same events, and columns agree with documents.

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::Simulated;
use sluicegate_tests::parquet::rows;

use crate::folder;
use crate::s3::{once, pipeline_with, server, survives};

const FORM: &str = "batch_encoding: { codec: parquet },";

#[test]
fn every_event_stands_in_one_row_and_columns_agree_with_documents() {
    let folder = folder();
    let Some(store) = server(&folder) else {
        return;
    };
    let office = Simulated::start(
        Office::builder(231)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let run = |name: &str| {
        let pipeline = pipeline_with(FORM, name, &office, &store, &folder);
        once(&pipeline, &folder)
            .expect(0)
            .says(&["600 event(s) delivered", "0 dead letter(s)"]);
    };
    run("first");
    let first = store.objects();
    // Another state knows nothing of the first run, so all is written again, over what is there.
    run("second");
    assert!(store.objects() == first, "the same events give other files");
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 600, "{verdict:?}");
    for (name, file) in first {
        let parts: Vec<_> = name.split('/').collect();
        let [tenant, stream, day, object] = parts[..] else {
            panic!("{name}")
        };
        assert!(object.ends_with(".parquet"), "{name}");
        for row in rows(&name, file) {
            let document: Value = serde_json::from_str(row["document"].as_str().unwrap()).unwrap();
            assert_eq!(row["tenant"], tenant);
            assert_eq!(row["stream"], stream);
            let time = row["timestamp"].as_i64().unwrap();
            let time = chrono::DateTime::from_timestamp_millis(time).unwrap();
            assert_eq!(time.format("%Y-%m-%d").to_string(), day);
            for (column, field) in [
                ("organization_id", "/organization/id"),
                ("event_id", "/event/id"),
                ("event_action", "/event/action"),
            ] {
                assert!(row[column].is_string(), "{column} of {row}");
                assert_eq!(Some(&row[column]), document.pointer(field), "{row}");
            }
        }
    }
}

#[test]
fn kills_of_us_and_restarts_of_the_store_lose_and_double_nothing() {
    survives(FORM, 232);
}
