//! The stage with databases that `mmdb.rs` writes, files that change, and a clock that stands
//! still.

mod mmdb;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};

use self::mmdb::database;
use super::*;
use crate::clock::Clock;
use crate::event::{Event, Identity, Part, StreamKey};

#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Hand {
    fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

fn place(city: &str) -> Value {
    json!({
        "city": { "names": { "en": city, "de": "Stadt" } },
        "continent": { "code": "EU", "names": { "en": "Europe" } },
        "country": { "iso_code": "GB", "names": { "en": "United Kingdom" } },
        "location": { "latitude": 51.75, "longitude": -1.25, "time_zone": "Europe/London" },
        "subdivisions": [
            { "iso_code": "ENG", "names": { "en": "England" } },
            { "iso_code": "OXF", "names": { "en": "Oxfordshire" } },
        ],
    })
}

fn city_database() -> Vec<u8> {
    database(
        "GeoLite2-City",
        &[
            ("192.0.2.0/25", place("Oxford")),
            ("192.0.2.128/26", json!({ "country": { "iso_code": "FR" } })),
            ("192.0.2.192/26", json!({})),
            ("2001:db8::/32", place("New \"York\"\n")),
            // A database may have them; an event says nothing of where they are.
            ("10.0.0.0/8", place("Intranet")),
            ("127.0.0.0/8", place("Here")),
            ("fd00::/8", place("Intranet")),
        ],
    )
}

fn asn_database() -> Vec<u8> {
    let system = |number: u32, name: &str| {
        json!({
            "autonomous_system_number": number,
            "autonomous_system_organization": name,
        })
    };
    database(
        "GeoLite2-ASN",
        &[
            ("192.0.2.0/24", system(64_496, "Example Net")),
            ("2001:db8::/32", system(4_200_000_000, "Example Six")),
            (
                "198.51.100.0/24",
                json!({ "autonomous_system_number": 64_497 }),
            ),
        ],
    )
}

fn databases() -> Databases {
    let reader = |bytes| Some(Arc::new(Reader::from_source(bytes).unwrap()));
    Databases {
        city: reader(city_database()),
        asn: reader(asn_database()),
    }
}

/// What becomes of an event; the same bytes when it says `None`.
fn check(body: &str, expected: Option<&Value>) {
    let found = databases().enrich(body.as_bytes()).unwrap();
    let found = found.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
    assert_eq!(found.as_ref(), expected, "{body}");
}

fn oxford() -> Value {
    json!({
        "city_name": "Oxford", "continent_name": "Europe", "country_iso_code": "GB",
        "country_name": "United Kingdom", "location": { "lat": 51.75, "lon": -1.25 },
        "region_iso_code": "GB-OXF", "region_name": "Oxfordshire",
    })
}

fn example_net() -> Value {
    json!({ "number": 64_496, "organization": { "name": "Example Net" } })
}

#[test]
fn the_databases_of_these_tests_are_sound() {
    for bytes in [city_database(), asn_database()] {
        Reader::from_source(bytes).unwrap().verify().unwrap();
    }
}

#[test]
fn adds_place_and_system_for_every_side() {
    for side in SIDES {
        check(
            &json!({ "a": 1, side: { "ip": "192.0.2.1" } }).to_string(),
            Some(&json!({ "a": 1, side: {
                "ip": "192.0.2.1", "geo": oxford(), "as": example_net(),
            } })),
        );
    }
    let ip = json!({ "ip": "192.0.2.1" });
    let full = json!({ "ip": "192.0.2.1", "geo": oxford(), "as": example_net() });
    check(
        &json!({ "source": ip, "client": ip, "server": ip, "destination": ip }).to_string(),
        Some(&json!({ "source": full, "client": full, "server": ip, "destination": full })),
    );
}

#[test]
fn adds_what_there_is() {
    check(
        r#"{"source":{"ip":"192.0.2.130"}}"#,
        Some(&json!({ "source": {
            "ip": "192.0.2.130", "geo": { "country_iso_code": "FR" }, "as": example_net(),
        } })),
    );
    check(
        r#"{"source":{"ip":"192.0.2.200"}}"#,
        Some(&json!({ "source": { "ip": "192.0.2.200", "as": example_net() } })),
    );
    check(
        r#"{"source":{"ip":"198.51.100.1"}}"#,
        Some(&json!({ "source": { "ip": "198.51.100.1", "as": { "number": 64_497 } } })),
    );
}

#[test]
fn knows_ipv6_and_ipv4_written_as_ipv6() {
    let mut geo = oxford();
    geo["city_name"] = "New \"York\"\n".into();
    check(
        r#"{"source":{"ip":"2001:DB8::1"}}"#,
        Some(
            &json!({ "source": { "ip": "2001:DB8::1", "geo": geo, "as": {
            "number": 4_200_000_000_u32, "organization": { "name": "Example Six" },
        } } }),
        ),
    );
    check(
        r#"{"source":{"ip":"::ffff:192.0.2.1"}}"#,
        Some(&json!({ "source": {
            "ip": "::ffff:192.0.2.1", "geo": oxford(), "as": example_net(),
        } })),
    );
}

#[test]
fn says_nothing_of_private_unknown_and_other_things() {
    for ip in [
        "10.1.2.3",
        "127.0.0.1",
        "::ffff:10.1.2.3",
        "fd00::1",
        "::1",
        "203.0.113.7",
    ] {
        check(&json!({ "source": { "ip": ip } }).to_string(), None);
    }
    for body in [
        "{}",
        r#"{"source":null}"#,
        r#"{"source":"192.0.2.1"}"#,
        r#"{"source":["192.0.2.1"]}"#,
        r#"{"source":[{"ip":"192.0.2.1"}]}"#,
        r#"{"source":{}}"#,
        r#"{"source":{"ip":null}}"#,
        r#"{"source":{"ip":3221225985}}"#,
        r#"{"source":{"ip":"192.0.2.1:443"}}"#,
        r#"{"source":{"address":"192.0.2.1"}}"#,
        r#"{"o365":{"source":{"ip":"192.0.2.1"}}}"#,
    ] {
        check(body, None);
    }
}

#[test]
fn overwrites_nothing() {
    check(
        r#"{"source":{"ip":"192.0.2.1","geo":{"name":"desk"}}}"#,
        Some(&json!({ "source": {
            "ip": "192.0.2.1", "geo": { "name": "desk" }, "as": example_net(),
        } })),
    );
    check(
        r#"{"source":{"as":null,"ip":"192.0.2.1"}}"#,
        Some(&json!({ "source": { "as": null, "ip": "192.0.2.1", "geo": oxford() } })),
    );
    check(r#"{"source":{"as":{},"geo":{},"ip":"192.0.2.1"}}"#, None);
}

fn batch(bodies: &[&str]) -> Batch {
    let event = |body: &&str| Event {
        id: (*body).into(),
        fingerprint: 0,
        time_ms: 0,
        body: Bytes::copy_from_slice(body.as_bytes()),
        identity: Identity::of("contoso", body, 0),
    };
    Batch {
        stream: StreamKey::new("contoso", "Audit.General"),
        events: bodies.iter().map(event).collect(),
        part: Part::default(),
    }
}

#[tokio::test]
async fn rejects_what_is_no_object_with_and_without_databases() {
    let folder = tempfile::tempdir().unwrap();
    let city = folder.path().join("city.mmdb");
    fs::write(&city, city_database()).unwrap();
    for city in [Some(city), None] {
        let stage = GeoipStage::new(city.clone(), None, Arc::new(Hand::default()));
        let staged = stage
            .apply(batch(&["{", r#"{"source":{"ip":"192.0.2.1"}}"#, "[]"]))
            .await;
        assert_eq!(
            (staged.passed.len(), staged.dropped, staged.rejected.len()),
            (1, 0, 2)
        );
        assert!(staged.rejected[0].1.contains("not a JSON object"));
        assert_eq!(staged.rejected[1].0.body, "[]");
        let found = String::from_utf8_lossy(&staged.passed[0].body).contains("Oxford");
        assert_eq!(found, city.is_some());
    }
}

/// The city that the stage finds now.
async fn city(stage: &GeoipStage) -> Option<String> {
    let staged = stage
        .apply(batch(&[r#"{"source":{"ip":"192.0.2.1"}}"#]))
        .await;
    let event: Value = serde_json::from_slice(&staged.passed[0].body).unwrap();
    event["source"]["geo"]["city_name"]
        .as_str()
        .map(str::to_owned)
}

/// Puts a file in its place at once, as updaters do.
fn put(path: &Path, bytes: &[u8]) {
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh).unwrap();
    file.write_all(bytes).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn cities(city: &str) -> Vec<u8> {
    database("GeoLite2-City", &[("192.0.2.0/24", place(city))])
}

#[tokio::test]
async fn reads_a_changed_file_and_keeps_the_old_one_while_the_new_one_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("city.mmdb");
    put(&path, &cities("Oxford"));
    let clock = Arc::new(Hand::default());
    let stage = GeoipStage::new(Some(path.clone()), None, clock.clone());
    assert_eq!(city(&stage).await.as_deref(), Some("Oxford"));

    // As long as the one before: the file is another one all the same.
    put(&path, &cities("Dublin"));
    clock.forward(LOOK_EVERY_MS - 1);
    assert_eq!(
        city(&stage).await.as_deref(),
        Some("Oxford"),
        "not looked at again yet"
    );
    clock.forward(1);
    assert_eq!(city(&stage).await.as_deref(), Some("Dublin"));

    let whole = cities("London");
    for broken in [&b"not a database"[..], &whole[..whole.len() - 40], &[]] {
        put(&path, broken);
        clock.forward(LOOK_EVERY_MS);
        assert_eq!(city(&stage).await.as_deref(), Some("Dublin"));
    }
    fs::remove_file(&path).unwrap();
    clock.forward(LOOK_EVERY_MS);
    assert_eq!(city(&stage).await.as_deref(), Some("Dublin"));

    put(&path, &whole);
    // A clock that was turned back looks as well.
    clock.forward(-LOOK_EVERY_MS * 100);
    assert_eq!(city(&stage).await.as_deref(), Some("London"));
}

/// Collects what the log says.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

impl tracing::field::Visit for Heard {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            writeln!(self.0.lock().unwrap(), "{value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn runs_without_a_file_says_so_once_and_takes_it_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("city.mmdb");
    let heard = Heard::default();
    tracing::subscriber::with_default(heard.clone(), || {
        let database = Database::open(path.clone(), 0);
        for _ in 0..3 {
            database.look();
            assert!(database.state().reader.is_none());
        }
        put(&path, b"broken");
        for _ in 0..3 {
            database.look();
            assert!(database.state().reader.is_none());
        }
        put(&path, &cities("Oxford"));
        database.look();
        assert!(database.state().reader.is_some());
    });
    let heard = heard.0.lock().unwrap().clone();
    let lines: Vec<_> = heard.lines().collect();
    assert_eq!(lines.len(), 2, "{heard}");
    for line in lines {
        assert!(
            line.contains("city.mmdb") && line.contains("nothing from it until"),
            "{line}"
        );
    }
}
