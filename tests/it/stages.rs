//! The stages that change, hide and leave out, each in a whole pipeline: what the sink gets, what is counted, and that
//! nothing else about the events changes.

use serde_json::{Value, json};
use sluicegate_office::{Office, Pool};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, sluicegate};

fn record(id: &str, user: &str) -> Value {
    json!({
        "CreationTime": "2026-03-01T10:00:00",
        "Id": id,
        "OrganizationId": "11111111-2222-3333-4444-555555555555",
        "RecordType": 15,
        "Operation": "UserLoggedIn",
        "Workload": "AzureActiveDirectory",
        "UserId": user,
        "ClientIP": "192.0.2.1",
    })
}

/// An office with these records, one in each blob.
fn office(seed: u64, records: &[Value]) -> Simulated {
    let lines: Vec<_> = records.iter().map(Value::to_string).collect();
    let pool = Pool::from_ndjson(lines.join("\n").as_bytes()).unwrap();
    let blobs = u32::try_from(records.len()).unwrap();
    Simulated::start(
        Office::builder(seed)
            .tenants(1)
            .blobs(blobs)
            .events_per_blob(1)
            .records(pool),
    )
}

fn run(folder: &TempDir, pipeline: &Pipeline) -> Ended {
    let command = pipeline.give(sluicegate(folder).args("run --once"));
    command.env("SALT", "the salt of this test").run().expect(0)
}

fn delivered(folder: &TempDir, name: &str) -> Delivered {
    Delivered::read(&folder.path().join(format!("{name}.ndjson")))
}

#[test]
fn fields_are_renamed_dropped_and_hidden_on_their_way() {
    let office = office(
        91,
        &[
            record("a", "alex@example.com"),
            record("b", "sam@example.com"),
            record("c", "alex@example.com"),
        ],
    );
    let folder = folder();
    let pipeline = Pipeline::o365("hidden", &office)
        .stage("drop: { fields: [o365, related, client] }")
        .stage("rename: { source.ip: client.address, event.action: event.verb }")
        .stage("redact: { fields: [user.name], with: hash, salt: { env: SALT } }")
        .stage("redact: { patterns: [email, ipv4] }");
    let ended = run(&folder, &pipeline);
    let delivered = delivered(&folder, "hidden");
    assert_eq!(delivered.events.len(), 3);
    let text = std::fs::read_to_string(folder.path().join("hidden.ndjson")).unwrap();
    for hidden in ["@example.com", "192.0.2.1", "alex", "sam"] {
        assert!(!text.contains(hidden), "`{hidden}` is in {text}");
    }
    assert!(!ended.stderr.contains("the salt of this test"));
    let name = |id: &str| {
        let event = delivered
            .events
            .iter()
            .find(|event| event["event"]["id"] == id)
            .unwrap();
        assert_eq!(event["client"], json!({ "address": "[redacted]" }));
        assert_eq!(event["event"]["action"], Value::Null);
        assert!(event["event"]["verb"].is_string());
        assert_eq!(
            (&event["o365"], &event["related"]),
            (&Value::Null, &Value::Null)
        );
        event["user"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name("a"), name("c"), "one name has one hash");
    assert_ne!(name("a"), name("b"));
    assert_eq!(name("a").len(), 32);
}

#[test]
fn a_sample_is_the_same_in_every_run() {
    let records: Vec<_> = (0..60)
        .map(|id| record(&format!("r{id}"), "alex@example.com"))
        .collect();
    let sample = || {
        let office = office(92, &records);
        let folder = folder();
        let pipeline = Pipeline::o365("sampled", &office)
            .stage("sample: { rate: 4, exclude: { event.id: r0 } }");
        let ended = run(&folder, &pipeline);
        let mut ids: Vec<_> = delivered(&folder, "sampled")
            .ids()
            .iter()
            .map(ToString::to_string)
            .collect();
        ids.sort_unstable();
        (ids, ended.stderr)
    };
    let (ids, said) = sample();
    assert_eq!(ids, sample().0);
    assert!(ids.contains(&"r0".to_owned()), "{ids:?}");
    assert!((5..30).contains(&ids.len()), "{ids:?}");
    let dropped = format!("{} dropped", 60 - ids.len());
    assert!(said.contains(&dropped), "`{dropped}` is not in {said}");
}

#[test]
fn a_salt_that_is_not_there_or_too_short_is_refused() {
    let office = office(93, &[record("a", "alex@example.com")]);
    let folder = folder();
    Pipeline::o365("salted", &office)
        .stage("redact: { fields: [user.name], with: hash, salt: { env: SALT } }")
        .write(folder.path());
    for (salt, words) in [
        (None, "`SALT` is not set"),
        (Some("peppery"), "less than 16 bytes"),
    ] {
        let mut command = sluicegate(&folder).args("validate salted.yaml");
        if let Some(salt) = salt {
            command = command.env("SALT", salt);
        }
        let ended = command.run().expect(78);
        ended.says(&[words, "salted.yaml:"]);
        assert!(!ended.stderr.contains("peppery"));
    }
}

#[test]
fn programs_filter_and_change_events_and_what_fails_is_a_dead_letter() {
    let office = office(
        94,
        &[
            record("a", "alex@example.com"),
            record("b", "sam@example.com"),
            record("broken", "alex@example.com"),
            record("gone", "alex@example.com"),
            record("two", "alex@example.com"),
        ],
    );
    let folder = folder();
    let program = "if .event.id == \"broken\" { .x = to_int!(.event) }\n\
        if .event.id == \"gone\" { abort \"not wanted\" }\n\
        .labels.from = %tenant + \"/\" + %stream\n\
        if .event.id == \"two\" { . = [., .] }\n";
    std::fs::write(folder.path().join("program.vrl"), program).unwrap();
    let pipeline = Pipeline::o365("remapped", &office)
        .stage("filter: { condition: '.user.name != \"sam\"' }")
        .stage("remap: { file: program.vrl }");
    let ended = run(&folder, &pipeline);
    ended.says(&["2 dropped", "1 dead letter"]);
    let delivered = delivered(&folder, "remapped");
    let mut ids = delivered.ids();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "two", "two"]);
    for event in &delivered.events {
        let from = event["labels"]["from"].as_str().unwrap();
        assert!(from.contains("/Audit."), "{from}");
    }
    let letters = folder.path().join("state/remapped/dead-letters");
    let letters: String = std::fs::read_dir(letters)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(
        letters.contains("stage 2 (remap)") && letters.contains("to_int"),
        "{letters}"
    );
}

#[test]
fn a_program_that_does_not_compile_is_refused_with_its_line() {
    let office = office(95, &[record("a", "alex@example.com")]);
    let folder = folder();
    std::fs::write(
        folder.path().join("program.vrl"),
        "true\n.a = parse_json(.b)\n",
    )
    .unwrap();
    Pipeline::o365("wrong", &office)
        .stage("remap: { file: program.vrl }")
        .write(folder.path());
    let ended = sluicegate(&folder)
        .args("validate wrong.yaml")
        .run()
        .expect(78);
    ended.says(&[
        "program.vrl:2:6: VRL: unhandled fallible assignment",
        "^^^^",
        "wrong.yaml:",
    ]);
}
