//! Requests of OTLP read by their tags alone, against the protocol's own numbers: no code of ours, and none generated.

use serde_json::{Map, Value, json};

/// One field of a message.
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The events of an export request (`ExportLogsServiceRequest`), the body of each a map.
///
/// # Errors
/// Says what a collector would not take.
pub fn events(request: &[u8]) -> Result<Vec<Value>, String> {
    let mut events = Vec::new();
    for resource_logs in messages(request, 1)? {
        let resource = messages(resource_logs, 1)?;
        let resource = attributes(resource.first().copied().unwrap_or_default(), 1)?;
        if !resource["service.name"].is_string() || !resource["sluicegate.tenant"].is_string() {
            return Err(format!("resource {resource}"));
        }
        for scope_logs in messages(resource_logs, 2)? {
            let scope = messages(scope_logs, 1)?;
            let name = messages(scope.first().copied().unwrap_or_default(), 1)?;
            if name != [b"sluicegate"] {
                return Err(format!("scope {name:?}"));
            }
            for record in messages(scope_logs, 2)? {
                events.push(event(record)?);
            }
        }
    }
    Ok(events)
}

/// The answer that so many records were rejected (`ExportLogsServiceResponse`).
///
/// # Panics
/// With more records than a test rejects.
pub fn rejected(records: usize) -> String {
    let message = "no such record";
    let count = u8::try_from(records).ok().filter(u8::is_ascii);
    let count = count.expect("a test rejects few records");
    let length = u8::try_from(message.len()).expect("it is short");
    let mut partial = vec![0x08, count, 0x12, length];
    partial.extend(message.as_bytes());
    let mut answer = vec![0x0a, u8::try_from(partial.len()).expect("it is short")];
    answer.extend(partial);
    String::from_utf8(answer).expect("all of it is ASCII")
}

fn event(record: &[u8]) -> Result<Value, String> {
    let times: Vec<u64> = fields(record)?
        .into_iter()
        .filter_map(|(tag, field)| match field {
            Field::Number(number) if matches!(tag, 1 | 11) => Some(number),
            _ => None,
        })
        .collect();
    // Nanoseconds in this century have nineteen digits.
    if times.len() != 2 || times.iter().any(|time| time.to_string().len() != 19) {
        return Err(format!("times {times:?}"));
    }
    let uid = &attributes(record, 6)?["log.record.uid"];
    if uid.as_str().is_none_or(|uid| uid.len() != 22) {
        return Err(format!("uid {uid}"));
    }
    match messages(record, 5)?[..] {
        [body] => value(body),
        _ => Err("no body".into()),
    }
}

/// `AnyValue`
fn value(message: &[u8]) -> Result<Value, String> {
    let Some((tag, field)) = fields(message)?.pop() else {
        return Ok(Value::Null);
    };
    Ok(match (tag, field) {
        (1, Field::Bytes(text)) => json!(String::from_utf8_lossy(text)),
        (2, Field::Number(flag)) => json!(flag == 1),
        (3, Field::Number(number)) => json!(number.cast_signed()),
        (4, Field::Number(bits)) => json!(f64::from_bits(bits)),
        (5, Field::Bytes(list)) => {
            let values = messages(list, 1)?.into_iter().map(value);
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        (6, Field::Bytes(list)) => attributes(list, 1)?,
        (other, _) => return Err(format!("a value of kind {other}")),
    })
}

/// Every `KeyValue` of a tag, as a map.
pub(crate) fn attributes(message: &[u8], tag: u64) -> Result<Value, String> {
    let pairs = pairs(message, tag)?.into_iter();
    Ok(Value::Object(pairs.collect::<Map<_, _>>()))
}

/// Every `KeyValue` of a tag, in their order.
pub(crate) fn pairs(message: &[u8], tag: u64) -> Result<Vec<(String, Value)>, String> {
    let pairs = messages(message, tag)?.into_iter().map(|pair| {
        let key = messages(pair, 1)?;
        let key = String::from_utf8_lossy(key.first().copied().unwrap_or_default()).into_owned();
        let inner = messages(pair, 2)?;
        Ok((key, value(inner.first().copied().unwrap_or_default())?))
    });
    pairs.collect()
}

/// What stands under a tag, as bytes.
pub(crate) fn messages(message: &[u8], tag: u64) -> Result<Vec<&[u8]>, String> {
    let all = fields(message)?.into_iter();
    Ok(all
        .filter_map(|(found, field)| match field {
            Field::Bytes(bytes) if found == tag => Some(bytes),
            _ => None,
        })
        .collect())
}

pub(crate) fn fields(mut message: &[u8]) -> Result<Vec<(u64, Field<'_>)>, String> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => {
                let (fixed, rest) = message.split_first_chunk().ok_or("cut short")?;
                message = rest;
                Field::Number(u64::from_le_bytes(*fixed))
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).map_err(|_| "too long")?;
                let (bytes, rest) = message.split_at_checked(length).ok_or("cut short")?;
                message = rest;
                Field::Bytes(bytes)
            }
            other => return Err(format!("wire type {other}")),
        };
        fields.push((key >> 3, field));
    }
    Ok(fields)
}

fn varint(message: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or("cut short")?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number without end".into())
}
