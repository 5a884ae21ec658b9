//! `email.*`: from the parameters of cmdlets and from the plain members of mail records.

use std::collections::BTreeSet;

use bumpalo::collections::Vec as ArenaVec;

use crate::event::{Event, Step, describe, fail};
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::{Text, trim};
use crate::value::{Kind, Pair, Value};

/// What the parameters of a cmdlet say about mail.
pub(crate) fn parameters(event: &mut Event<'_>) -> Step {
    let Some(parameters) = event.set(Known::Parameters) else {
        return Ok(());
    };
    if matches!(parameters.kind(), Kind::Bool | Kind::Number) {
        let kind = describe(parameters);
        return if event.robust {
            Ok(())
        } else {
            fail(format!("`Parameters` is {kind}"))
        };
    }
    let blank = event
        .get(Known::NetworkMessageId)
        .is_none_or(Value::is_blank);
    if blank
        && let Some(Value::Text(raw)) = parameters.member("_raw")
        && let Some(identity) = identity(raw.decode(event.arena))
    {
        let text = Text::encode(event.arena, identity);
        event.record.put(Known::NetworkMessageId, Value::Text(text));
    }
    forwards(event, parameters)?;
    if let Some(from) = parameters.member("From").filter(|value| !value.is_blank()) {
        event.put(Field::EmailFromAddress, from, "Parameters.From");
    }
    Ok(())
}

/// The value of the first line `-Identity "VALUE"` of a raw parameter text.
fn identity(text: &[u8]) -> Option<&[u8]> {
    let starts = (0..text.len()).filter(|&at| at == 0 || text[at - 1] == b'\n');
    starts.into_iter().find_map(|at| {
        let line = &text[at..];
        let line = line
            .strip_prefix(b"-")
            .unwrap_or(line)
            .strip_prefix(b"Identity")?;
        let (&space, line) = line.split_first()?;
        if !matches!(space, b' ' | b'\t'..=b'\r') {
            return None;
        }
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line
            .strip_prefix(b"\"")
            .filter(|line| !line.is_empty())
            .unwrap_or(line);
        let bare = line
            .strip_suffix(b"\"")
            .filter(|line| !line.is_empty())
            .unwrap_or(line);
        Some(bare).filter(|bare| !bare.is_empty())
    })
}

/// `email.to.address` from the parameters that forward mail.
fn forwards<'a>(event: &mut Event<'a>, parameters: Value<'a>) -> Step {
    let (mut set, mut seen) = (Vec::new(), BTreeSet::new());
    for name in ["ForwardAsAttachmentTo", "ForwardTo", "RedirectTo"] {
        let Some(value) = parameters.set_member(name) else {
            continue;
        };
        let Value::Text(text) = value else {
            if event.robust {
                continue;
            }
            return fail(format!(
                "`Parameters.{name}` is {}, not a text",
                describe(value)
            ));
        };
        if text.is_empty() {
            continue;
        }
        for part in text.decode(event.arena).split(|&byte| byte == b';') {
            let part = trim(part);
            if seen.insert(part) {
                set.push(part);
            }
        }
    }
    // The reference collects into a Java hash set; its order is part of the documents.
    let mut buckets = 16;
    while set.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    set.sort_by_key(|part| bucket(part, buckets));
    for part in set {
        let text = Text::encode(event.arena, part);
        event
            .document
            .append(Field::EmailToAddress, Value::Text(text));
    }
    Ok(())
}

fn bucket(text: &[u8], buckets: usize) -> usize {
    let units = String::from_utf8_lossy(text);
    let hash = units.encode_utf16().fold(0u32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(u32::from(unit))
    });
    (hash ^ (hash >> 16)) as usize % buckets
}

/// `email.*` from plain members.
pub(crate) fn members(event: &mut Event<'_>) -> Step {
    let item = event.object(Known::Item)?;
    let inner = |name| item.and_then(|item| item.member(name));
    gather(
        event,
        Field::EmailMessageId,
        event.get(Known::InternetMessageId),
    );
    gather(event, Field::EmailMessageId, inner("InternetMessageId"));
    gather(
        event,
        Field::EmailLocalId,
        event.get(Known::NetworkMessageId),
    );
    gather(event, Field::EmailSenderAddress, event.get(Known::P1Sender));
    gather(
        event,
        Field::EmailSenderAddress,
        event.document.get(Field::SourceUserEmail),
    );
    if let Some(recipients) = event.get(Known::Recipients) {
        for recipient in recipients.elements() {
            gather(event, Field::EmailToAddress, Some(recipient));
        }
    }
    let recipients = Field::DestinationUserEmail;
    if event.document.get(recipients).is_some_and(Value::is_array) {
        event.document.list(recipients);
    }
    for index in 0..event.document.many(recipients).len() {
        let recipient = event.document.many(recipients)[index];
        gather(event, Field::EmailToAddress, Some(recipient));
    }
    gather(event, Field::RelatedIp, event.get(Known::SenderIp));
    gather(event, Field::RelatedIp, event.get(Known::SenderIP));
    gather(event, Field::EmailSubject, event.get(Known::Subject));
    gather(event, Field::EmailSubject, inner("Subject"));
    attachments(event, inner("Attachments"));
    Ok(())
}

/// Appends a value that is neither missing nor null nor `""`.
pub(crate) fn gather<'a>(event: &mut Event<'a>, field: Field, value: Option<Value<'a>>) {
    if let Some(value) = value.filter(|value| !value.is_blank()) {
        event.document.append_unique(field, value);
    }
}

/// `email.attachments` from a text such as `a.pdf (1200b); b.png (5b)`.
fn attachments<'a>(event: &mut Event<'a>, value: Option<Value<'a>>) {
    let Some(value) = value.filter(|value| !value.is_blank()) else {
        return;
    };
    event.document.list(Field::EmailAttachments);
    let Value::Text(text) = value else {
        event.note(&format!(
            "`Item.Attachments` is {}, not a text",
            describe(value)
        ));
        return;
    };
    let arena = event.arena;
    for part in text.decode(arena).split(|&byte| byte == b';') {
        let Some((name, size)) = attachment(trim(part)) else {
            continue;
        };
        let mut file = ArenaVec::new_in(arena);
        let text = |bytes| Value::Text(Text::encode(arena, bytes));
        let extension = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
        if !extension.is_empty() {
            file.push(Pair {
                name: Text::plain(b"extension"),
                value: text(extension),
            });
        }
        file.push(Pair {
            name: Text::plain(b"name"),
            value: text(name),
        });
        let digits = arena.alloc_str(&size.to_string()).as_bytes();
        file.push(Pair {
            name: Text::plain(b"size"),
            value: Value::Number(digits),
        });
        let file = Value::Pairs(file.into_bump_slice());
        let pair: &[Pair<'a>] = arena.alloc_slice_copy(&[Pair {
            name: Text::plain(b"file"),
            value: file,
        }]);
        event
            .document
            .append(Field::EmailAttachments, Value::Pairs(pair));
    }
}

/// Name and size of `NAME (SIZEb)`.
fn attachment(part: &[u8]) -> Option<(&[u8], i64)> {
    let inner = part.strip_suffix(b")")?;
    let at = inner.windows(2).rposition(|window| window == b" (")?;
    let size = str::from_utf8(inner[at + 2..].strip_suffix(b"b")?)
        .ok()?
        .parse()
        .ok()?;
    let name = trim(&part[..at]);
    name.contains(&b'.').then_some((name, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments() {
        let check = |part: &str, expected: Option<(&str, i64)>| {
            let expected = expected.map(|(name, size)| (name.as_bytes(), size));
            assert_eq!(attachment(part.as_bytes()), expected, "{part}");
        };
        check("plan (2).tar.gz (10b)", Some(("plan (2).tar.gz", 10)));
        check("a.b (+1b)", Some(("a.b", 1)));
        for part in [
            "a.b",
            "(5b)",
            "noext (5b)",
            "a.b (5)",
            "a.b (5 b)",
            "a.b(5b)",
            "a.b (5B)",
            "",
        ] {
            check(part, None);
        }
    }

    #[test]
    fn identities() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                identity(text.as_bytes()),
                expected.map(str::as_bytes),
                "{text}"
            );
        };
        check("Identity abc", Some("abc"));
        check("-Force\n-Identity \"a b\"\n-X", Some("a b"));
        check("-Identity\nnext", Some("next"));
        check(" -Identity x", None);
        check("-IdentityX y", None);
        check("-Identity ", None);
    }
}
