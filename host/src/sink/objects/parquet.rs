//! Events as a Parquet file: a few columns that everybody asks for, and each event whole beside them.
//!
//! Nothing is lost in columns: what an event has besides, and what is of another type than its column, stands in
//! `document`, byte for byte. The same events give the same bytes.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::config::sink::objects::ColumnCompression;
use crate::event::{Event, StreamKey};
use crate::sink::members::Members;

/// The column of whole events.
const DOCUMENT: &str = "document";

/// What a column holds of an event.
#[derive(Clone, Copy)]
enum Holds {
    /// The tenant in the pipeline.
    Tenant,
    /// The stream.
    Stream,
    /// A field that is a time.
    Time(&'static str),
    /// A field that is text.
    Text(&'static str),
    /// A field that is a whole number.
    Number(&'static str),
    /// All of it.
    Document,
}

/// The columns. Their names need no quotes in any dialect of SQL, which those of the fields would.
const COLUMNS: [(&str, Holds); 19] = [
    ("timestamp", Holds::Time("@timestamp")),
    ("tenant", Holds::Tenant),
    ("stream", Holds::Stream),
    ("organization_id", Holds::Text("organization.id")),
    ("event_id", Holds::Text("event.id")),
    ("event_kind", Holds::Text("event.kind")),
    ("event_code", Holds::Text("event.code")),
    ("event_action", Holds::Text("event.action")),
    ("event_outcome", Holds::Text("event.outcome")),
    ("event_provider", Holds::Text("event.provider")),
    ("event_dataset", Holds::Text("event.dataset")),
    ("event_severity", Holds::Number("event.severity")),
    ("user_id", Holds::Text("user.id")),
    ("user_name", Holds::Text("user.name")),
    ("user_email", Holds::Text("user.email")),
    ("source_ip", Holds::Text("source.ip")),
    ("host_name", Holds::Text("host.name")),
    ("file_path", Holds::Text("file.path")),
    (DOCUMENT, Holds::Document),
];

/// A file with the events as its rows, in their order.
pub(super) fn file(
    compression: ColumnCompression,
    stream: &StreamKey,
    events: &[&Event],
) -> Result<Bytes, ParquetError> {
    let schema = parse_message_type(&schema())?;
    let properties = properties(compression);
    let mut file = SerializedFileWriter::new(Vec::new(), schema.into(), properties.into())?;
    // An object is no larger than what the source hands over at once, so one group holds it.
    let mut group = file.next_row_group()?;
    let parsed = events.iter();
    let parsed = parsed.map(|event| serde_json::from_slice(&event.body).ok());
    let parsed: Vec<Option<Members<'_>>> = parsed.collect();
    let text = |field: &str| -> Vec<Option<ByteArray>> {
        let texts = parsed
            .iter()
            .map(|members| value::<String>(members.as_ref(), field));
        let texts = texts.map(|text| text.map(|text| text.into_bytes().into()));
        texts.collect()
    };
    let same = |text: &Arc<str>| {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        vec![ByteArray::from(bytes); events.len()]
    };
    for (_, holds) in COLUMNS {
        match holds {
            Holds::Tenant => full::<ByteArrayType>(&mut group, &same(&stream.tenant))?,
            Holds::Stream => full::<ByteArrayType>(&mut group, &same(&stream.stream))?,
            Holds::Document => {
                let bodies = events.iter().map(|event| event.body.clone().into());
                full::<ByteArrayType>(&mut group, &bodies.collect::<Vec<_>>())?;
            }
            Holds::Text(field) => gapped::<ByteArrayType>(&mut group, text(field))?,
            Holds::Number(field) => {
                let numbers = parsed
                    .iter()
                    .map(|members| value::<i64>(members.as_ref(), field));
                gapped::<Int64Type>(&mut group, numbers.collect())?;
            }
            Holds::Time(field) => {
                let texts = parsed
                    .iter()
                    .map(|members| value::<String>(members.as_ref(), field));
                let times = texts.map(|text| {
                    let time = DateTime::parse_from_rfc3339(&text?).ok()?;
                    Some(time.timestamp_millis())
                });
                gapped::<Int64Type>(&mut group, times.collect())?;
            }
        }
    }
    let _ = group.close()?;
    Ok(file.into_inner()?.into())
}

/// The value of a field, where it is there and of that type.
fn value<T: serde::de::DeserializeOwned>(members: Option<&Members<'_>>, field: &str) -> Option<T> {
    serde_json::from_str(members?.find(field)?.get()).ok()
}

/// The columns, in the words of the format.
fn schema() -> String {
    let columns = COLUMNS.iter().map(|(name, holds)| match holds {
        Holds::Tenant | Holds::Stream => format!("required binary {name} (STRING);"),
        Holds::Time(_) => format!("optional int64 {name} (TIMESTAMP(MILLIS,true));"),
        Holds::Text(_) => format!("optional binary {name} (STRING);"),
        Holds::Number(_) => format!("optional int64 {name};"),
        Holds::Document => format!("required binary {name} (JSON);"),
    });
    let columns: String = columns.collect();
    format!("message event {{ {columns} }}")
}

fn properties(compression: ColumnCompression) -> WriterProperties {
    let document = ColumnPath::from(DOCUMENT);
    WriterProperties::builder()
        .set_compression(match compression {
            ColumnCompression::None => Compression::UNCOMPRESSED,
            ColumnCompression::Snappy => Compression::SNAPPY,
            ColumnCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        })
        // No two events are the same, and nobody asks for the smallest of them.
        .set_column_dictionary_enabled(document.clone(), false)
        .set_column_statistics_enabled(document, EnabledStatistics::None)
        .build()
}

/// Writes the next column, which has a value in each row.
fn full<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
) -> Result<(), ParquetError> {
    write::<T>(group, values, None)
}

/// Writes the next column, which may lack values.
fn gapped<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: Vec<Option<T::T>>,
) -> Result<(), ParquetError> {
    let there: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    let values: Vec<_> = values.into_iter().flatten().collect();
    write::<T>(group, &values, Some(&there))
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    there: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let next = group.next_column()?;
    let mut column =
        next.ok_or_else(|| ParquetError::General("there is no such column".to_owned()))?;
    let _ = column.typed::<T>().write_batch(values, there, None)?;
    column.close()
}

#[cfg(test)]
mod tests;
