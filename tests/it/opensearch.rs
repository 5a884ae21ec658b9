//! The real command against a real OpenSearch, where one can be had (see `tests/src/opensearch.rs`): the template fits,
//! its mapping takes every event, and what is sent again is not stored again.

use serde_json::Value;
use sluicegate_office::Office;
use sluicegate_tests::opensearch::OpenSearch;
use sluicegate_tests::{Delivered, Pipeline, Simulated};

use crate::{cache, folder, sluicegate};

/// Every document of the data streams, as it was sent.
fn documents(server: &OpenSearch, pattern: &str) -> Vec<Value> {
    server
        .get(&format!("/{pattern}/_refresh"))
        .expect("the server answers");
    let found = server.get(&format!("/{pattern}/_search?size=10000"));
    let mut found = found.expect("the server answers");
    let hits = found["hits"]["hits"]
        .as_array_mut()
        .expect("a search has hits");
    hits.iter_mut().map(|hit| hit["_source"].take()).collect()
}

#[test]
fn a_real_opensearch_has_every_event_once() {
    let folder = folder();
    let server = match OpenSearch::start(cache(), folder.path()) {
        Ok(server) => server,
        Err(why) => {
            eprintln!("skipped: no OpenSearch to test with: {why}");
            return;
        }
    };
    let office = Simulated::start(Office::builder(97).tenants(2).blobs(60).events_per_blob(10));
    let pipeline = |name: &str| {
        let url = server.url();
        Pipeline::o365(name, &office).only(&format!(
            "elasticsearch: {{ endpoints: ['{url}'], index: 'logs-o365.audit-{{tenant}}', \
             manage_template: true, compression: gzip, batch: {{ max_events: 100 }} }}"
        ))
    };
    let run = |pipeline: Pipeline| {
        let command = pipeline.give(sluicegate(&folder).args("run --once"));
        command.run().expect(0)
    };
    run(pipeline("first")).says(&["1200 event(s) delivered", "0 dead letter(s)"]);
    // Another state knows nothing of the first run, so all is sent again, and is there already.
    run(pipeline("second")).says(&["1200 event(s) delivered", "0 dead letter(s)"]);
    let events = documents(&server, "logs-o365.audit-*");
    let safe = events
        .iter()
        .filter(|event| event["error"]["message"].is_string())
        .count();
    assert_eq!(safe, 0, "the mapping takes every event as it is");
    let verdict = office.judge(&Delivered { events });
    assert!(verdict.is_clean() && verdict.owed == 1_200, "{verdict:?}");
    let template = server.get("/_index_template/sluicegate-logs-o365.audit");
    let template = template.expect("the server answers").to_string();
    assert!(template.contains("flat_object"), "{template}");
}
