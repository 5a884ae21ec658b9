//! Batches as objects: which events stand in which, what it is called, how it is packed.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;

use crate::config::sink::objects::Form;
use crate::config::sink::request::Compression;
use crate::config::sink::template::Template;
use crate::error::Error;
use crate::event::{Batch, Event, StreamKey};

/// So much of a split's id stands in a name; the digest tells those apart that begin alike.
const SPLIT_CHARS: usize = 150;

/// An object to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Its whole name.
    pub name: String,
    /// Its media type.
    pub kind: &'static str,
    /// Its bytes: the same for the same events.
    pub body: Bytes,
}

/// The objects of some batches, in no order that matters.
pub(super) async fn pack(
    prefix: &Template,
    form: Form,
    batches: &[Batch],
) -> Result<Vec<Object>, Error> {
    let (prefix, batches) = (prefix.clone(), batches.to_vec());
    // Packing takes much of a core; the tasks that wait for the network go on meanwhile.
    let packed = tokio::task::spawn_blocking(move || {
        let objects = batches.iter().map(|batch| of(&prefix, form, batch));
        objects.collect::<Result<Vec<_>, _>>()
    });
    match packed.await {
        Ok(Ok(objects)) => Ok(objects.into_iter().flatten().collect()),
        Ok(Err(error)) => Err(Error::internal(format!("packing fails: {error}"))),
        Err(error) => Err(Error::internal(format!("packing ended early: {error}"))),
    }
}

/// One object for each day.
fn of(prefix: &Template, form: Form, batch: &Batch) -> Result<Vec<Object>, std::io::Error> {
    let mut days: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    for event in &batch.events {
        let time = chrono::DateTime::from_timestamp_millis(event.time_ms).unwrap_or_default();
        let day = time.format("%Y-%m-%d").to_string();
        days.entry(day).or_default().push(event);
    }
    let prefix = prefix.fill(&batch.stream, is_plain);
    let slash = if prefix.is_empty() || prefix.ends_with('/') {
        ""
    } else {
        "/"
    };
    let split = batch.part.split.chars().take(SPLIT_CHARS);
    let split: String = split
        .map(|letter| if is_plain(letter) { letter } else { '_' })
        .collect();
    let digest = batch.part.digest.delivery_id();
    let (end, kind) = match form {
        Form::Lines(Compression::None) => ("ndjson", "application/x-ndjson"),
        Form::Lines(Compression::Gzip) => ("ndjson.gz", "application/gzip"),
        Form::Parquet(_) => ("parquet", "application/vnd.apache.parquet"),
    };
    let object = |(day, events): (String, Vec<&Event>)| {
        Ok(Object {
            name: format!("{prefix}{slash}{day}/{split}-{digest}.{end}"),
            kind,
            body: body(form, &batch.stream, &events)?,
        })
    };
    days.into_iter().map(object).collect()
}

/// What means nothing else in a name.
fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.".contains(letter)
}

fn body(form: Form, stream: &StreamKey, events: &[&Event]) -> Result<Bytes, std::io::Error> {
    match form {
        Form::Lines(compression) => lines(compression, events),
        #[cfg(feature = "parquet")]
        Form::Parquet(compression) => {
            super::parquet::file(compression, stream, events).map_err(std::io::Error::other)
        }
        #[cfg(not(feature = "parquet"))]
        Form::Parquet(_) => Err(std::io::Error::other(format!(
            "this build writes no Parquet: {stream}"
        ))),
    }
}

fn lines(compression: Compression, events: &[&Event]) -> Result<Bytes, std::io::Error> {
    let bytes: usize = events.iter().map(|event| event.body.len() + 1).sum();
    let mut lines = Vec::with_capacity(bytes);
    for event in events {
        lines.extend_from_slice(&event.body);
        lines.push(b'\n');
    }
    if compression == Compression::None {
        return Ok(lines.into());
    }
    // No time of packing stands in it, so the same lines give the same bytes.
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 8), Level::default());
    encoder.write_all(&lines)?;
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SinkKind};
    use crate::event::{Identity, Part};

    const NEW_YEAR: i64 = 1_767_225_600_000;

    fn batch(events: &[(&'static str, i64)]) -> Batch {
        let events: Vec<_> = events
            .iter()
            .map(|(body, time_ms)| Event {
                id: (*body).into(),
                fingerprint: 0,
                time_ms: *time_ms,
                body: Bytes::from_static(body.as_bytes()),
                identity: Identity::of("contoso", body, 0),
            })
            .collect();
        Batch {
            stream: StreamKey::new("contoso", "Audit.General"),
            part: Part::of("2026$a/b", &events),
            events,
        }
    }

    fn prefix(keys: &str) -> Template {
        let text = format!(
            "source: {{ plugin: o365, tenants: [{{ id: a }}] }}\nsinks: [s3: {{ bucket: abc, {keys} }}]\n"
        );
        let config = Config::parse(std::path::Path::new("a.yaml"), &text, None).unwrap();
        let SinkKind::S3(s3) = &config.sinks[0].kind else {
            panic!("{config:?}")
        };
        s3.objects.prefix.clone()
    }

    #[tokio::test]
    async fn events_stand_under_their_day_and_the_name_of_their_part() {
        let mut batch = batch(&[
            ("{}", NEW_YEAR),
            ("[]", NEW_YEAR - 1),
            ("{ }", NEW_YEAR + 1),
        ]);
        let digest = batch.part.digest.delivery_id();
        for (keys, begin) in [
            ("", "contoso/Audit.General/"),
            ("key_prefix: ''", ""),
            ("key_prefix: 'o365/t={tenant}'", "o365/t=contoso/"),
        ] {
            let prefix = prefix(keys);
            let one = std::slice::from_ref(&batch);
            let packed = pack(&prefix, Form::Lines(Compression::None), one)
                .await
                .unwrap();
            let found: Vec<_> = packed
                .iter()
                .map(|object| (object.name.clone(), object.body.clone()))
                .collect();
            let name = |day: &str| format!("{begin}{day}/2026_a_b-{digest}.ndjson");
            assert_eq!(
                found,
                [
                    (name("2025-12-31"), Bytes::from_static(b"[]\n")),
                    (name("2026-01-01"), Bytes::from_static(b"{}\n{ }\n")),
                ]
            );
        }
        // What is known by now is left out, and the name stays.
        batch.events.remove(1);
        let packed = pack(&prefix(""), Form::Lines(Compression::Gzip), &[batch])
            .await
            .unwrap();
        assert_eq!(packed.len(), 1);
        let name = format!("contoso/Audit.General/2026-01-01/2026_a_b-{digest}.ndjson.gz");
        assert_eq!(packed[0].name, name);
        assert_eq!(packed[0].body[..2], [0x1f, 0x8b]);
    }

    #[tokio::test]
    async fn the_same_events_give_the_same_bytes() {
        let batches = [batch(&[("{}", NEW_YEAR), ("[]", NEW_YEAR)])];
        let prefix = prefix("");
        let pack = || pack(&prefix, Form::Lines(Compression::Gzip), &batches);
        assert_eq!(pack().await.unwrap(), pack().await.unwrap());
    }
}
