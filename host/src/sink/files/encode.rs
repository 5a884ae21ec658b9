//! Events as a piece of a file: lines of JSON or rows of CSV, packed or not.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::sink::file::Files;
use crate::event::Event;
use crate::sink::members::Members;

/// Puts an event behind the others; an error says why it cannot.
pub(super) fn event(
    columns: Option<&[String]>,
    event: &Event,
    text: &mut Vec<u8>,
) -> Result<(), String> {
    let Some(columns) = columns else {
        text.extend_from_slice(&event.body);
        text.push(b'\n');
        return Ok(());
    };
    let members: Members<'_> = serde_json::from_slice(&event.body)
        .map_err(|error| format!("the event is not a JSON object: {error}"))?;
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        match members.find(column).map(serde_json::value::RawValue::get) {
            None | Some("null") => {}
            Some(raw) if raw.starts_with('"') => {
                let value: String = serde_json::from_str(raw).map_err(|error| error.to_string())?;
                cell(&value, text);
            }
            Some(raw) => cell(raw, text),
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(())
}

/// The names of the columns as a row.
pub(super) fn header(columns: &[String], text: &mut Vec<u8>) {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        cell(column, text);
    }
    text.extend_from_slice(b"\r\n");
}

fn cell(value: &str, text: &mut Vec<u8>) {
    if !value.contains(['"', ',', '\r', '\n']) {
        text.extend_from_slice(value.as_bytes());
        return;
    }
    text.push(b'"');
    text.extend_from_slice(value.replace('"', "\"\"").as_bytes());
    text.push(b'"');
}

/// Text as it stands in the file.
pub(super) fn pack(config: &Files, text: Vec<u8>) -> io::Result<Vec<u8>> {
    if !config.gzip {
        return Ok(text);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::default());
    encoder.write_all(&text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Identity;

    #[test]
    fn rows_are_quoted_where_they_must_be() {
        let columns = ["a.b", "c", "d,e", "f", "g"].map(str::to_owned);
        let body = r#"{"a":{"b":"x,\"y\"\n"},"c":1.50,"d,e":["1",2],"f":null,"h":1}"#;
        let event = Event {
            id: "1".into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", "1", 0),
        };
        let mut text = Vec::new();
        header(&columns, &mut text);
        super::event(Some(&columns), &event, &mut text).unwrap();
        let wanted = "a.b,c,\"d,e\",f,g\r\n\"x,\"\"y\"\"\n\",1.50,\"[\"\"1\"\",2]\",,\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
        let wrong = Event {
            body: Bytes::from_static(b"[]"),
            ..event
        };
        assert!(super::event(Some(&columns), &wrong, &mut Vec::new()).is_err());
    }
}
