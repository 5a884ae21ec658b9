//! What stands in a Parquet file, read back by the format's own reader.

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value, json};

/// The rows of a file, as objects of their columns; null where a row has no value.
///
/// # Panics
/// When it is not such a file.
pub fn rows(name: &str, file: Vec<u8>) -> Vec<Value> {
    let reader = SerializedFileReader::new(bytes::Bytes::from(file));
    let reader = reader.unwrap_or_else(|error| panic!("{name} is no Parquet: {error}"));
    let rows = reader.get_row_iter(None);
    let rows = rows.unwrap_or_else(|error| panic!("{name} has no rows: {error}"));
    let rows = rows.map(|row| {
        let row = row.unwrap_or_else(|error| panic!("{name} has a broken row: {error}"));
        let columns = row.get_column_iter().map(|(column, field)| {
            let value = match field {
                Field::Null => Value::Null,
                Field::Str(text) => json!(text),
                Field::Long(number) | Field::TimestampMillis(number) => json!(number),
                other => panic!("{name}: {column} is {other:?}"),
            };
            (column.clone(), value)
        });
        Value::Object(columns.collect::<Map<_, _>>())
    });
    rows.collect()
}
