//! `Data` of alerts and investigations: a JSON text with short names, and entities inside it.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::address::is_ip;
use crate::dates;
use crate::embedded::{need_texts, parse, without_query_time};
use crate::event::{Event, Step, describe, fail};
use crate::mail::gather;
use crate::print::print;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::table::record_types::number;
use crate::text::Text;
use crate::value::{Kind, Pair, Value};

/// The members of `Data` that get a place beside `Data.flattened`, sorted.
pub(crate) const MEMBERS: &[&str] = &[
    "ad", "af", "aii", "ail", "alk", "als", "an", "at", "cid", "cpid", "dm", "dpn", "eid", "etps",
    "etype", "f3u", "fvs", "imsgid", "lon", "mat", "md", "ms", "od", "op", "ot", "plk", "pud",
    "reid", "rid", "sev", "sict", "sid", "sip", "sitmi", "srt", "ssic", "suid", "tdc", "te", "thn",
    "tht", "tid", "tpid", "tpt", "trc", "ts", "tsd", "ttdt", "ttr", "upfc", "upfv", "ut", "von",
    "wl", "zfh", "zfn", "zmfh", "zmfn", "zu",
];

/// What an entity may tell, in the order it is asked.
const ENTITY_FIELDS: [(&str, Field); 9] = [
    ("InternetMessageId", Field::EmailMessageId),
    ("NetworkMessageId", Field::EmailLocalId),
    ("P1Sender", Field::EmailSenderAddress),
    ("P2Sender", Field::EmailFromAddress),
    ("Recipient", Field::EmailToAddress),
    ("Recipient", Field::UserEmail),
    ("SenderIP", Field::RelatedIp),
    ("Subject", Field::EmailSubject),
    ("Upn", Field::RelatedUser),
];

/// The whole block.
pub(crate) fn rules(event: &mut Event<'_>) -> Step {
    let Some(value) = event.get(Known::Data) else {
        return Ok(());
    };
    let Some(data) = read(event, value)? else {
        return Ok(());
    };
    if data.member("flattened").is_some() && !event.robust {
        return fail("field [Data.flattened] already exists");
    }
    let mut pairs = ArenaVec::new_in(event.arena);
    pairs.extend(data.members().filter(|pair| {
        let known = |name: &&str| name.as_bytes().cmp(pair.name.escaped);
        MEMBERS.binary_search_by(known).is_ok()
    }));
    let result = members(event, &mut pairs);
    pairs.push(Pair {
        name: Text::plain(b"flattened"),
        value: data,
    });
    event
        .record
        .put(Known::Data, Value::Pairs(pairs.into_bump_slice()));
    result?;
    entities(event, data)
}

/// The object that `Data` holds; nothing where there is none to look into.
fn read<'a>(
    event: &mut Event<'a>,
    value: Value<'a>,
) -> Result<Option<Value<'a>>, crate::event::Failure> {
    let investigation = event.code == Some(number::AIR_INVESTIGATION);
    if investigation {
        need_texts(event, value)?;
    }
    if event.robust {
        match value.kind() {
            Kind::Object => return Ok(Some(value)),
            Kind::Text => {}
            _ => return Ok(None),
        }
    }
    let mut text = print(event.arena, value).decode(event.arena);
    if investigation {
        text = without_query_time(event.arena, text);
        if !event.robust {
            // What a failure behind this leaves is the text as it was cleaned.
            let cleaned = Value::Text(Text::encode(event.arena, text));
            event.record.put(Known::Data, cleaned);
        }
    }
    match parse(event.arena, text) {
        Some(data) if data.is_object() => Ok(Some(data)),
        Some(data) if event.robust && !data.is_null() => Ok(None),
        Some(data) => {
            let flattened = Pair {
                name: Text::plain(b"flattened"),
                value: data,
            };
            let pairs: &[Pair<'a>] = event.arena.alloc_slice_copy(&[flattened]);
            event.record.put(Known::Data, Value::Pairs(pairs));
            if data.is_null() {
                return Ok(None);
            }
            fail(format!("`Data` holds {}, not an object", describe(data))).map(|()| None)
        }
        None => {
            event.record.remove(Known::Data);
            Ok(None)
        }
    }
}

fn find<'a>(pairs: &[Pair<'a>], name: &str) -> Option<Value<'a>> {
    pairs
        .iter()
        .rev()
        .find(|pair| pair.name.is(name))
        .map(|pair| pair.value)
        .filter(|value| !value.is_null())
}

/// Addresses, dates and mail of the short members.
fn members<'a>(event: &mut Event<'a>, pairs: &mut ArenaVec<'a, Pair<'a>>) -> Step {
    if find(pairs, "sip").is_some_and(|sip| !sip.is_blank() && !are_ips(event.arena, sip)) {
        pairs.retain(|pair| !pair.name.is("sip"));
    }
    for name in ["at", "md", "te", "ts", "ttdt"] {
        let Some(value) = find(pairs, name) else {
            continue;
        };
        let spaced = matches!(name, "te" | "ts");
        let parse = if spaced {
            dates::parse_spaced
        } else {
            dates::parse
        };
        if let Some(date) = dates::rewrite(event, value, &format!("Data.{name}"), parse)? {
            for pair in pairs.iter_mut().filter(|pair| pair.name.is(name)) {
                pair.value = date;
            }
        }
    }
    let user = |name: &str, event: &mut Event<'a>| match find(pairs, name) {
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(value) if !event.robust => {
            fail(format!("`Data.{name}` is {}, not a text", describe(value))).map(|()| None)
        }
        _ => Ok(None),
    };
    if let Some(text) = user("f3u", event)?.filter(|text| is_address(event.arena, *text)) {
        event
            .document
            .append_unique(Field::RelatedUser, Value::Text(text));
        if !event.document.is_set(Field::UserEmail) {
            event.document.set(Field::UserEmail, Value::Text(text));
        }
    }
    for (name, field) in [
        ("suid", None),
        ("tsd", Some(Field::EmailSenderAddress)),
        ("trc", Some(Field::EmailToAddress)),
    ] {
        let Some(text) = user(name, event)? else {
            continue;
        };
        if let Some(field) = field {
            gather(event, field, Some(Value::Text(text)));
        }
        if is_address(event.arena, text) {
            event
                .document
                .append_unique(Field::RelatedUser, Value::Text(text));
        }
    }
    gather(event, Field::EmailLocalId, find(pairs, "aii"));
    gather(event, Field::EmailMessageId, find(pairs, "imsgid"));
    gather(event, Field::EmailSubject, find(pairs, "ms"));
    Ok(())
}

fn are_ips<'a>(arena: &'a Bump, value: Value<'a>) -> bool {
    let ip = |value: Value<'a>| value.text().is_some_and(|text| is_ip(text.decode(arena)));
    if value.is_array() {
        value.elements().all(ip)
    } else {
        ip(value)
    }
}

/// Exactly one `@` and at least three UTF-16 units.
fn is_address(arena: &Bump, text: Text<'_>) -> bool {
    let text = String::from_utf8_lossy(text.decode(arena));
    text.matches('@').count() == 1 && text.encode_utf16().count() >= 3
}

/// What the entities of an investigation tell about mails and users.
fn entities<'a>(event: &mut Event<'a>, data: Value<'a>) -> Step {
    let Some(entities) = data.member("Entities").filter(|value| value.is_array()) else {
        return Ok(());
    };
    if !entities.elements().any(Value::is_object) {
        return Ok(());
    }
    for (name, field) in ENTITY_FIELDS {
        let values = collect(event.arena, entities, name);
        if field != Field::UserEmail {
            for &value in values {
                event.document.append_unique(field, value);
            }
        } else if !values.is_empty() && !event.document.is_set(field) {
            let first = event.options.tidy;
            let value = if first {
                values[0]
            } else {
                Value::List(values)
            };
            event.put(field, value, name);
        }
    }
    let lists = [
        (Known::OriginalDeliveryLocation, "OriginalDeliveryLocation"),
        (Known::PhishConfidenceLevel, "PhishConfidenceLevel"),
    ];
    for (known, name) in lists {
        let values = collect(event.arena, entities, name);
        if event.record.get(known).is_some() && !event.robust {
            return fail(format!("field [{name}] already exists"));
        }
        join(event, known, values);
    }
    let mut methods = ArenaVec::new_in(event.arena);
    for &value in collect(event.arena, entities, "ThreatDetectionMethods") {
        match value.kind() {
            Kind::Text => methods.push(value),
            Kind::Array => methods.extend(value.elements()),
            _ => {}
        }
    }
    event.methods = Some(Value::List(methods.into_bump_slice()));
    Ok(())
}

/// Puts collected values into the record, behind what robust mode finds there.
fn join<'a>(event: &mut Event<'a>, known: Known, values: &[Value<'a>]) {
    let mut list = ArenaVec::new_in(event.arena);
    if event.robust
        && let Some(own) = event.set(known)
    {
        if own.is_array() {
            list.extend(own.elements());
        } else {
            list.push(own);
        }
    }
    list.extend_from_slice(values);
    event.record.put(known, Value::List(list.into_bump_slice()));
}

/// The values of a member of all entities that are objects.
fn collect<'a>(arena: &'a Bump, entities: Value<'a>, name: &str) -> &'a [Value<'a>] {
    let mut values = ArenaVec::new_in(arena);
    values.extend(entities.elements().filter_map(|entity| entity.member(name)));
    values.into_bump_slice()
}

/// `ThreatDetectionMethods`, last of all, because mail records have a member of this name too.
pub(crate) fn methods(event: &mut Event<'_>) -> Step {
    if let Some(Value::List(values)) = event.methods {
        join(event, Known::ThreatDetectionMethods, values);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_sorted() {
        assert!(MEMBERS.is_sorted_by(|a, b| a < b));
        assert_eq!(MEMBERS.len(), 59);
    }
}
