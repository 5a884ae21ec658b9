//! Data loss prevention: `ComplianceDLPSharePoint` and `ComplianceDLPExchange`.

use bumpalo::collections::Vec as ArenaVec;

use crate::common::level;
use crate::dates;
use crate::document::Slot;
use crate::event::{Event, Failure, Step, describe, fail};
use crate::print::print;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::table::record_types::number;
use crate::text::Text;
use crate::value::{Kind, Pair, Value};

/// All rules, in order.
pub(crate) fn rules(event: &mut Event<'_>) -> Step {
    if event.newer && event.code == Some(number::DLP_EXCHANGE) {
        event.attempt(message)?;
    }
    event.document.set_word(Field::EventKind, "alert");
    event.classify(&["file"], &["access"]);
    event.attempt(moves)?;
    event.attempt(modified_time)?;
    event.attempt(recipients)?;
    event.attempt(exception)?;
    event.attempt(policies)
}

/// `message` of a mail: what was detected, who sent it, its subject.
fn message(event: &mut Event<'_>) -> Step {
    let mail = event.object(Known::ExchangeMetaData)?;
    let parts = [
        ("Operation", event.document.get(Field::EventAction)),
        ("UserId", event.document.get(Field::UserId)),
        (
            "ExchangeMetaData.Subject",
            mail.and_then(|mail| mail.set_member("Subject")),
        ),
    ];
    let mut texts: [&[u8]; 3] = [b""; 3];
    let mut blank = true;
    for (text, (name, value)) in texts.iter_mut().zip(parts) {
        match value {
            Some(Value::Bool(_) | Value::Number(_)) if !event.robust => {
                return fail(format!("`{name}` is no text"));
            }
            Some(value) => {
                blank &= is_empty(value);
                *text = print(event.arena, value).decode(event.arena);
            }
            None => {}
        }
    }
    let mut line = ArenaVec::new_in(event.arena);
    line.extend_from_slice(b"Office365 Alert");
    if !blank {
        let words = [": ", " detected in email sent by ", " with subject '"];
        for (word, text) in words.iter().zip(texts) {
            line.extend_from_slice(word.as_bytes());
            line.extend_from_slice(text);
        }
        line.push(b'\'');
    }
    let text = Text::encode(event.arena, line.into_bump_slice());
    event.document.set(Field::Message, Value::Text(text));
    Ok(())
}

fn moves(event: &mut Event<'_>) -> Step {
    let files = Known::SharePointMetaData;
    let mails = Known::ExchangeMetaData;
    if !event.document.is_set(Field::UserId) {
        event.take_inner(files, "From", Field::UserId)?;
    }
    event.take_inner(files, "FileName", Field::FileName)?;
    event.take_inner(files, "FilePathUrl", Field::UrlOriginal)?;
    event.take_inner(files, "UniqueId", Field::FileInode)?;
    event.take_inner(files, "UniqueID", Field::FileInode)?;
    event.take_inner(files, "FileOwner", Field::FileOwner)?;
    event.take_inner(mails, "From", Field::SourceUserEmail)?;
    if !event.newer {
        event.take_inner(mails, "Subject", Field::Message)?;
    }
    event.take(Known::PolicyId, Field::RuleId)?;
    event.take(Known::PolicyName, Field::RuleName)
}

fn modified_time(event: &mut Event<'_>) -> Step {
    let Some(files) = event.object(Known::SharePointMetaData)? else {
        return Ok(());
    };
    let Some(value) = files.set_member("LastModifiedTime") else {
        return Ok(());
    };
    let name = "SharePointMetaData.LastModifiedTime";
    if let Some(text) = dates::rewrite(event, value, name, dates::parse)? {
        event.document.set(Field::FileMtime, text);
    }
    Ok(())
}

/// All of `To`, `CC` and `BCC`.
fn recipients(event: &mut Event<'_>) -> Step {
    let Some(mail) = event.set(Known::ExchangeMetaData) else {
        return Ok(());
    };
    event.document.list(Field::DestinationUserEmail);
    for name in ["To", "CC", "BCC"] {
        let Some(value) = mail.member(name) else {
            continue;
        };
        if value.kind() == Kind::Text {
            event.document.append(Field::DestinationUserEmail, value);
        }
        for element in value.elements() {
            event.add(Field::DestinationUserEmail, element, name);
        }
    }
    Ok(())
}

/// A text in place of the exception's object.
fn exception(event: &mut Event<'_>) -> Step {
    if let Some(value @ Value::Text(_)) = event.get(Known::ExceptionInfo) {
        let pair = Pair {
            name: Text::plain(b"Reason"),
            value,
        };
        let pairs: &[Pair<'_>] = event.arena.alloc_slice_copy(&[pair]);
        event.record.put(Known::ExceptionInfo, Value::Pairs(pairs));
    }
    Ok(())
}

/// Ids and names of the rules that matched, the highest severity, whether access was blocked.
fn policies(event: &mut Event<'_>) -> Step {
    let Some(policies) = event.set(Known::PolicyDetails) else {
        return Ok(());
    };
    for field in [Field::RuleId, Field::RuleName] {
        if !event.document.is_set(field) {
            event.document.list(field);
        }
    }
    let (mut severity, mut blocked) = (b"0" as &[u8], false);
    for policy in items(event, policies, "PolicyDetails")? {
        let Some(rules) = policy?.set_member("Rules") else {
            continue;
        };
        for rule in items(event, rules, "PolicyDetails.Rules")? {
            let rule = rule?;
            rule_names(event, rule)?;
            severity = severity.max(rule_level(event, rule)?);
            blocked = blocked || blocks(event, rule)?;
        }
    }
    event
        .document
        .set(Field::EventSeverity, Value::Number(severity));
    let failure = blocked && !excused(event)?;
    event.document.set_word(
        Field::EventOutcome,
        if failure { "failure" } else { "success" },
    );
    Ok(())
}

/// The objects of an array, one after the other: what stood before one that is none has been mapped
/// by then. Robust mode passes over anything else.
fn items<'a>(
    event: &Event<'a>,
    value: Value<'a>,
    name: &'static str,
) -> Result<impl Iterator<Item = Result<Value<'a>, Failure>> + use<'a>, Failure> {
    let robust = event.robust;
    if !value.is_array() && !robust {
        return Err(Failure(format!("`{name}` is no array of objects")));
    }
    let item = move |element: Value<'a>| {
        if element.is_object() || robust {
            return element.is_object().then_some(Ok(element));
        }
        let found = describe(element);
        let failure = format!("an element of `{name}` is {found}, not an object");
        Some(Err(Failure(failure)))
    };
    Ok(value.elements().filter_map(item))
}

fn rule_names<'a>(event: &mut Event<'a>, rule: Value<'a>) -> Step {
    let (Some(id), Some(name)) = (rule.set_member("RuleId"), rule.set_member("RuleName")) else {
        return Ok(());
    };
    for (field, value, name) in [
        (Field::RuleId, id, "RuleId"),
        (Field::RuleName, name, "RuleName"),
    ] {
        let one = matches!(event.document.slot(field), Some(Slot::One(one)) if !one.is_array());
        if one && !event.robust {
            return fail(format!("field [{}] is no array", field.name()));
        }
        event.add(field, value, name);
    }
    Ok(())
}

fn rule_level<'a>(event: &Event<'a>, rule: Value<'a>) -> Result<&'static [u8], Failure> {
    let severity = rule.set_member("Severity");
    let Some(Value::Text(text)) = severity else {
        if event.robust {
            return Ok(b"0");
        }
        let found = severity.map_or("missing", describe);
        return Err(Failure(format!(
            "`Severity` of a rule is {found}, not a text"
        )));
    };
    Ok(level(&text.escaped.to_ascii_lowercase()).unwrap_or(b"0"))
}

fn blocks<'a>(event: &Event<'a>, rule: Value<'a>) -> Result<bool, Failure> {
    let Some(actions) = rule.set_member("Actions") else {
        return Ok(false);
    };
    match actions {
        Value::Text(text) => {
            let text = text.decode(event.arena);
            Ok(text.windows(11).any(|window| window == b"BlockAccess"))
        }
        _ if actions.is_array() => Ok(actions
            .elements()
            .any(|action| action.text().is_some_and(|text| text.is("BlockAccess")))),
        _ if event.robust => Ok(false),
        _ => Err(Failure(format!(
            "`Actions` of a rule is {}",
            describe(actions)
        ))),
    }
}

/// A blocked access that was undone, or for which an exception was given.
fn excused(event: &Event<'_>) -> Result<bool, Failure> {
    match event.action() {
        Some(b"DlpRuleUndo") => return Ok(true),
        Some(b"DlpInfo") => return Ok(false),
        _ => {}
    }
    let Some(info) = event.set(Known::ExceptionInfo) else {
        return Ok(false);
    };
    match info.kind() {
        Kind::Object | Kind::Array => Ok(!is_empty(info)),
        _ if event.robust => Ok(false),
        _ => Err(Failure(format!("`ExceptionInfo` is {}", describe(info)))),
    }
}

/// `""`, `[]` or `{}`.
fn is_empty(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Object => value.members().next().is_none(),
        Kind::Array => value.elements().next().is_none(),
        _ => value.is_blank(),
    }
}
