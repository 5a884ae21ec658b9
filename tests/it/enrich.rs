//! The stages `geoip` and `user_agent` in a whole pipeline: what an address and an agent text say stands in the events
//! that the sink gets.
//!
//! The databases are made here; networks and systems are those that documents may use.

use std::path::Path;

use serde_json::{Value, json};
use sluicegate_office::{Office, Pool};
use sluicegate_tests::{Delivered, Ended, Pipeline, Simulated};
use tempfile::TempDir;

use self::mmdb::database;
use crate::{folder, sluicegate};

// The stage's own tests have a writer; a second one could only differ.
#[path = "../../host/src/stage/geoip/tests/mmdb.rs"]
mod mmdb;

const AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0";

fn record(id: &str, members: &Value) -> Value {
    let mut record = json!({
        "CreationTime": "2026-03-01T10:00:00",
        "Id": id,
        "OrganizationId": "11111111-2222-3333-4444-555555555555",
        "RecordType": 15,
        "Operation": "UserLoggedIn",
        "Workload": "AzureActiveDirectory",
        "UserId": "alex@example.com",
    });
    for (name, value) in members.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
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

fn write_databases(folder: &Path) {
    let place = json!({
        "city": { "names": { "en": "Oxford" } },
        "continent": { "names": { "en": "Europe" } },
        "country": { "iso_code": "GB", "names": { "en": "United Kingdom" } },
        "location": { "latitude": 51.75, "longitude": -1.25 },
        "subdivisions": [{ "iso_code": "ENG", "names": { "en": "England" } }],
    });
    let system = json!({ "autonomous_system_number": 64_496, "autonomous_system_organization": "Example Net" });
    let city = [
        ("192.0.2.0/24", place.clone()),
        ("2001:db8::/32", place.clone()),
        ("10.0.0.0/8", place),
    ];
    let asn = [
        ("192.0.2.0/24", system.clone()),
        ("198.51.100.0/24", system),
    ];
    std::fs::write(folder.join("city.mmdb"), database("GeoLite2-City", &city)).unwrap();
    std::fs::write(folder.join("asn.mmdb"), database("GeoLite2-ASN", &asn)).unwrap();
}

fn run(folder: &TempDir, pipeline: &Pipeline) -> Ended {
    pipeline
        .give(sluicegate(folder).args("run --once"))
        .run()
        .expect(0)
}

/// The event of an id.
fn event<'a>(delivered: &'a Delivered, id: &str) -> &'a Value {
    delivered
        .events
        .iter()
        .find(|event| event["event"]["id"] == id)
        .unwrap()
}

#[test]
fn addresses_and_agents_are_taken_apart_on_their_way() {
    let office = office(
        81,
        &[
            record(
                "logon",
                &json!({ "ClientIP": "192.0.2.1:44321", "UserAgent": AGENT }),
            ),
            record(
                "cmdlet",
                &json!({
                    "RecordType": 1, "Workload": "Exchange", "Operation": "Set-Mailbox",
                    "ClientIP": "[2001:db8::7]:443", "OriginatingServer": "MBX01 (198.51.100.7)",
                }),
            ),
            record("inside", &json!({ "ClientIP": "10.1.2.3" })),
        ],
    );
    let folder = folder();
    write_databases(folder.path());
    let pipeline = Pipeline::o365("placed", &office)
        .stage("geoip: { city: city.mmdb, asn: asn.mmdb }")
        .stage("user_agent: {}");
    run(&folder, &pipeline);
    let delivered = Delivered::read(&folder.path().join("placed.ndjson"));
    assert_eq!(delivered.events.len(), 3);

    let oxford = json!({
        "city_name": "Oxford", "continent_name": "Europe", "country_iso_code": "GB",
        "country_name": "United Kingdom", "location": { "lat": 51.75, "lon": -1.25 },
        "region_iso_code": "GB-ENG", "region_name": "England",
    });
    let system = json!({ "number": 64_496, "organization": { "name": "Example Net" } });
    let logon = event(&delivered, "logon");
    let source = json!({ "ip": "192.0.2.1", "port": 44_321, "geo": oxford, "as": system });
    assert_eq!(logon["source"], source);
    assert_eq!(
        (&logon["client"]["geo"], &logon["client"]["as"]),
        (&oxford, &system)
    );
    assert_eq!(
        logon["user_agent"],
        json!({
            "original": AGENT, "name": "Firefox", "version": "121.0", "device": { "name": "Other" },
            "os": { "name": "Windows", "version": "10", "full": "Windows 10" },
        })
    );

    let cmdlet = event(&delivered, "cmdlet");
    assert_eq!(cmdlet["source"]["geo"], oxford);
    assert_eq!(cmdlet["source"]["as"], Value::Null);
    assert_eq!(
        cmdlet["destination"],
        json!({ "ip": "198.51.100.7", "as": system })
    );
    assert_eq!(cmdlet["user_agent"], Value::Null);

    // A private address is nowhere, whatever a database says.
    let inside = event(&delivered, "inside");
    assert_eq!(inside["source"], json!({ "ip": "10.1.2.3" }));
}

#[test]
fn without_a_database_events_come_without_places_and_it_is_said_once() {
    let logon = |id: &str| record(id, &json!({ "ClientIP": "192.0.2.1" }));
    let office = office(82, &[logon("a"), logon("b"), logon("c")]);
    let folder = folder();
    let pipeline = Pipeline::o365("nowhere", &office).stage("geoip: { city: missing.mmdb }");
    let ended = run(&folder, &pipeline);
    let delivered = Delivered::read(&folder.path().join("nowhere.ndjson"));
    assert_eq!(delivered.events.len(), 3);
    for event in &delivered.events {
        assert_eq!(event["source"], json!({ "ip": "192.0.2.1" }));
    }
    let said = ended
        .stderr
        .lines()
        .filter(|line| line.contains("missing.mmdb"))
        .count();
    assert_eq!(said, 1, "{}", ended.stderr);
}
