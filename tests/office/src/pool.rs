//! Records given from outside, which the office serves with their bytes exactly.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::kind::ContentType;

/// A pool of real records. Each comes out once; repeated ones get fresh Ids.
#[derive(Debug, Default)]
pub struct Pool {
    pub(crate) records: Vec<PoolRecord>,
    pub(crate) repeat: bool,
}

#[derive(Debug)]
pub(crate) struct PoolRecord {
    pub bytes: Bytes,
    pub id: String,
    pub kind: ContentType,
}

impl Pool {
    /// Reads one record per line; a line may also be an array of records. Blank lines are skipped.
    ///
    /// The first line that is no record with a string `Id` is refused by its number.
    pub fn from_ndjson(bytes: &[u8]) -> Result<Self, String> {
        let mut pool = Self::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() {
                pool.add_line(line)
                    .map_err(|e| format!("line {}: {e}", index + 1))?;
            }
        }
        Ok(pool)
    }

    /// The records of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.records.extend(other.records);
        self
    }

    /// When more records are asked for than the pool holds, repeats them under fresh Ids.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeat = true;
        self
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn add_line(&mut self, line: &[u8]) -> Result<(), String> {
        if line[0] == b'[' {
            let elements: Vec<&RawValue> =
                serde_json::from_slice(line).map_err(|e| e.to_string())?;
            return elements
                .iter()
                .try_for_each(|e| self.add(e.get().as_bytes()));
        }
        self.add(line)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        // Read as it will be read when its Id is replaced, so that this cannot fail there.
        let top: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let id = top
            .get("Id")
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let id = id.ok_or("no string member `Id`")?;
        let record_type = top
            .get("RecordType")
            .and_then(|raw| raw.get().parse().ok())
            .unwrap_or(-1);
        let kind = ContentType::of_record_type(record_type);
        self.records.push(PoolRecord {
            bytes: Bytes::copy_from_slice(bytes),
            id,
            kind,
        });
        Ok(())
    }
}

impl PoolRecord {
    /// Appends the record with another Id, every other byte as it is.
    pub(crate) fn write_with_id(&self, out: &mut Vec<u8>, id: &str) {
        let text = std::str::from_utf8(&self.bytes).expect("serde_json read the record as UTF-8");
        let top: BTreeMap<&str, &RawValue> =
            serde_json::from_str(text).expect("the record was read when the pool was made");
        let old = top["Id"].get();
        // The raw value borrows from the text, so its address says where it stands.
        let at = old.as_ptr() as usize - text.as_ptr() as usize;
        out.extend_from_slice(&self.bytes[..at]);
        out.push(b'"');
        out.extend_from_slice(id.as_bytes());
        out.push(b'"');
        out.extend_from_slice(&self.bytes[at + old.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_bytes_and_find_their_content_type() {
        let text = b"{ \"Id\" : \"a\", \"RecordType\":15 }\n\n[{\"Id\":\"b\",\"RecordType\":13}, \
        {\"Id\":\"c\"}]\n";
        let pool = Pool::from_ndjson(text).unwrap();
        let seen: Vec<_> = pool.records.iter().map(|r| (&*r.id, r.kind)).collect();
        let expected = [
            ("a", ContentType::AzureActiveDirectory),
            ("b", ContentType::Dlp),
            ("c", ContentType::General),
        ];
        assert_eq!(seen, expected);
        assert_eq!(
            pool.records[0].bytes,
            "{ \"Id\" : \"a\", \"RecordType\":15 }"
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        assert!(
            Pool::from_ndjson(b"{\"Id\":\"a\"}\n{\"Id\":7}")
                .unwrap_err()
                .starts_with("line 2: ")
        );
        assert!(
            Pool::from_ndjson(b"[{]")
                .unwrap_err()
                .starts_with("line 1: ")
        );
    }

    #[test]
    fn only_the_top_level_id_is_replaced() {
        let pool = Pool::from_ndjson(br#"{"Item":{"Id":"x"}, "Id" : "x","n":1}"#).unwrap();
        let mut out = Vec::new();
        pool.records[0].write_with_id(&mut out, "y");
        assert_eq!(out, br#"{"Item":{"Id":"x"}, "Id" : "y","n":1}"#);
    }
}
