//! Any text as a client's address: what stands under an `ip` of the event is an address that Elasticsearch takes.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluicegate_ecs::{Mapper, Options};

/// See the head of the file. The first byte says where in the record the address stands.
pub fn check(data: &[u8]) {
    let Some((place, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let name = ["ClientIP", "ClientIPAddress", "ActorIpAddress"][usize::from(place % 3)];
    let record = json!({
        "Id": "1", "CreationTime": "2026-01-10T08:41:07", "RecordType": 8, "Operation": "Add user.",
        "Workload": "AzureActiveDirectory", name: text,
    });
    let mut event = Vec::new();
    let mut mapper = Mapper::new(Options::default());
    mapper.set_arrival_ms(1_768_034_467_000);
    assert!(
        mapper
            .map(record.to_string().as_bytes(), &mut event)
            .is_ok(),
        "an odd address is no reason to lose an event"
    );
    let event: Value = match serde_json::from_slice(&event) {
        Ok(event) => event,
        Err(error) => panic!("not JSON: {error}"),
    };
    for side in ["source", "client", "destination", "host"] {
        each(&event[side]["ip"]);
    }
    each(&event["related"]["ip"]);
}

fn each(found: &Value) {
    match found {
        Value::Null => {}
        Value::Array(list) => list.iter().for_each(each),
        // The reference leaves a zone on an address, and so does whoever does not tidy.
        Value::String(text) => {
            let bare = text.split_once('%').map_or(&**text, |(address, _)| address);
            assert!(bare.parse::<IpAddr>().is_ok(), "`{text}` is no address");
        }
        other => panic!("{other} is no address"),
    }
}
