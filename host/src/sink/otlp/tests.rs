//! What a request holds, byte by byte where the protocol is at stake.

use bytes::Bytes;

use super::*;
use crate::clock::Clock;
use crate::config::{Config, SinkKind};
use crate::event::{Event, Identity};

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        2
    }
}

fn sink(keys: &str) -> OtlpSink {
    let text = format!(
        "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\n\
         sinks: [otlp: {{ endpoint: 'http://localhost:4318', {keys} }}]\n"
    );
    let config = Config::parse(std::path::Path::new("a.yaml"), &text, None).unwrap();
    let SinkKind::Otlp(otlp) = &config.sinks[0].kind else {
        panic!("{config:?}")
    };
    let clock: SharedClock = Arc::new(Stopped);
    OtlpSink::new("otlp", otlp, &config.http, &Arc::default(), &clock).unwrap()
}

fn event(tenant: &str, body: &'static str) -> Outgoing {
    Outgoing {
        stream: StreamKey::new(tenant, "Audit.General"),
        event: Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: 1,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity([0; 16]),
        },
        rewritten: None,
    }
}

/// By hand, from the numbers of the protocol: tag, length, value.
#[test]
fn a_request_is_encoded_as_the_protocol_says() {
    let sink = sink("body: string, resource: { a: '{tenant}' }");
    let encoded = sink.request(&[event("t", "{}")]).encode_to_vec();
    let version = env!("CARGO_PKG_VERSION");
    let mut scope = b"\x0a\x0asluicegate\x12".to_vec();
    scope.push(u8::try_from(version.len()).unwrap());
    scope.extend(version.as_bytes());
    let uid = b"\x0a\x0elog.record.uid\x12\x18\x0a\x16AAAAAAAAAAAAAAAAAAAAAA";
    let mut record = b"\x09\x40\x42\x0f\0\0\0\0\0".to_vec();
    record.extend(b"\x2a\x04\x0a\x02{}");
    record.extend([0x32, u8::try_from(uid.len()).unwrap()]);
    record.extend(uid);
    record.extend(b"\x59\x80\x84\x1e\0\0\0\0\0");
    let field = |tag: u8, inner: &[u8]| {
        let mut field = vec![tag, u8::try_from(inner.len()).unwrap()];
        field.extend(inner);
        field
    };
    let resource = field(0x0a, &field(0x0a, b"\x0a\x01a\x12\x03\x0a\x01t"));
    let scope_logs = field(0x12, &[field(0x0a, &scope), field(0x12, &record)].concat());
    let expected = field(0x0a, &[resource, scope_logs].concat());
    assert!(expected.len() < 128, "every length is one byte");
    assert_eq!(encoded, expected);
}

#[test]
fn records_stand_under_the_resource_of_their_stream() {
    let sink = sink("");
    let request = sink.request(&[event("b", "{}"), event("a", "{}"), event("b", "[]")]);
    let found: Vec<_> = request
        .resource_logs
        .iter()
        .map(|logs| {
            let attributes = &logs.resource.as_ref().unwrap().attributes;
            (attributes.clone(), logs.scope_logs[0].log_records.len())
        })
        .collect();
    let attributes = |tenant: &str| {
        vec![
            KeyValue::text("service.name", "sluicegate"),
            KeyValue::text("sluicegate.stream", "Audit.General"),
            KeyValue::text("sluicegate.tenant", tenant),
        ]
    };
    assert_eq!(found, [(attributes("a"), 1), (attributes("b"), 2)]);
}

#[test]
fn a_body_keeps_what_json_has() {
    let json = r#"{"a":[null,true,-1,18446744073709551615,1.5,"x"],"b":{}}"#;
    let members = [
        AnyValue::default(),
        Variant::Bool(true).into(),
        Variant::Int(-1).into(),
        Variant::Text("18446744073709551615".into()).into(),
        Variant::Double(1.5).into(),
        Variant::Text("x".into()).into(),
    ];
    let member = |key: &str, variant| KeyValue {
        key: key.into(),
        value: Some(AnyValue::from(variant)),
    };
    let expected = Variant::Map(Map {
        values: vec![
            member(
                "a",
                Variant::Array(Array {
                    values: members.into(),
                }),
            ),
            member("b", Variant::Map(Map::default())),
        ],
    });
    assert_eq!(body(OtlpBody::Map, json.as_bytes()), expected.into());
    let text = Variant::Text(json.into());
    assert_eq!(body(OtlpBody::String, json.as_bytes()), text.into());
}
