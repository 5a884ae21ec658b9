//! The rules of every record: numbers, identity, outcome, severity, plain copies.

use bumpalo::collections::Vec as ArenaVec;

use crate::event::{Event, Failure, Step, describe, fail};
use crate::print::{convert, print};
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::table::record_types::{self, number};
use crate::text::Text;
use crate::value::{Kind, Value};

/// The fields every event has.
pub(crate) fn constants(event: &mut Event<'_>) -> Step {
    let document = &mut *event.document;
    let version = if event.newer { "8.11.0" } else { "8.3.0" };
    document.set_word(Field::EcsVersion, version);
    document.set_word(Field::EventDataset, "o365.audit");
    document.set_word(Field::EventModule, "o365");
    document.set_word(Field::EventKind, "event");
    document.append(Field::EventCategory, Value::word("web"));
    document.append(Field::EventType, Value::word("info"));
    Ok(())
}

/// The members whose numbers `newer` writes in plain decimal.
const NORMALISED: [Known; 9] = [
    Known::RecordType,
    Known::ActorYammerUserId,
    Known::TargetYammerUserId,
    Known::YammerNetworkId,
    Known::Version,
    Known::InternalLogonType,
    Known::LogonType,
    Known::RunningTime,
    Known::FileSize,
];

/// Numbers in exponent form become plain.
pub(crate) fn numbers(event: &mut Event<'_>) -> Step {
    for known in NORMALISED {
        let digits = match event.set(known) {
            Some(Value::Number(digits)) => Some(truncate(digits)),
            Some(Value::Text(text))
                if text.escaped.iter().any(|byte| matches!(byte, b'e' | b'E')) =>
            {
                // The letter may have been part of an escape, such as `\u00e9`.
                let text = text.decode(event.arena);
                let exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
                let expanded = expand(text).filter(|_| exponent);
                if exponent && expanded.is_none() && !is_type_name(event, known, text) {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let failure = format!("`{}` is no integer: `{text}`", known.name());
                    if !event.robust {
                        return fail(failure);
                    }
                    event.note(&failure);
                }
                expanded
            }
            _ => None,
        };
        if let Some(digits) = digits {
            let digits = event.arena.alloc_str(&digits).as_bytes();
            event.record.put(known, Value::Text(Text::plain(digits)));
        }
    }
    Ok(())
}

/// A record type given by its name, which robust mode understands.
fn is_type_name(event: &Event<'_>, known: Known, text: &[u8]) -> bool {
    event.robust && known == Known::RecordType && record_types::find_name(text).is_some()
}

/// A JSON number as a 64-bit integer.
fn truncate(digits: &[u8]) -> String {
    let text = String::from_utf8_lossy(digits);
    if let Ok(integer) = text.parse::<i64>() {
        return integer.to_string();
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the reference truncates to 64 bits too"
    )]
    let integer = text.parse::<f64>().unwrap_or(0.0) as i64;
    integer.to_string()
}

/// Beyond this exponent a number is not written out: it would only cost memory.
const EXPONENT_LIMIT: i64 = 4096;

/// The plain form of a decimal text that is an integer.
fn expand(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let shift = exponent - i64::try_from(fraction.len()).ok()?;
    if shift.abs() > EXPONENT_LIMIT {
        return None;
    }
    for _ in 0..shift {
        digits.push('0');
    }
    for _ in shift..0 {
        match digits.pop() {
            Some('0') | None => {}
            Some(_) => return None,
        }
    }
    let digits = digits.trim_start_matches('0');
    let sign = if mantissa.starts_with('-') && !digits.is_empty() {
        "-"
    } else {
        ""
    };
    Some(format!(
        "{sign}{}",
        if digits.is_empty() { "0" } else { digits }
    ))
}

/// Objects under the names of texts get names of their own.
pub(crate) fn entities(event: &mut Event<'_>) -> Step {
    for (from, to) in [
        (Known::Sender, Known::SenderEntity),
        (Known::Message, Known::MessageObject),
    ] {
        if event.get(from).is_some_and(Value::is_object) {
            event.rename(from, to)?;
        }
    }
    Ok(())
}

/// Members that are also ECS fields, whatever the record type.
pub(crate) fn copies(event: &mut Event<'_>) -> Step {
    event.copy(Known::FileExtension, Field::FileExtension);
    event.copy(Known::Sha1, Field::FileHashSha1);
    event.copy(Known::Sha256, Field::FileHashSha256);
    event.copy(Known::FilePath, Field::FilePath);
    if !event.document.is_set(Field::FilePath) {
        event.copy(Known::TargetFilePath, Field::FilePath);
    }
    event.copy(Known::FileSizeBytes, Field::FileSize);
    if !event.document.is_set(Field::FileSize) {
        event.copy(Known::FileSize, Field::FileSize);
    }
    event.copy(Known::Application, Field::ProcessName);
    event.copy(Known::OriginatingDomain, Field::UrlDomain);
    Ok(())
}

/// `Id`, by which the event is known everywhere.
pub(crate) fn id(event: &mut Event<'_>) -> Step {
    event.take(Known::Id, Field::EventId)
}

/// `UserId`, also for the rules that may replace it.
pub(crate) fn user(event: &mut Event<'_>) -> Step {
    if event.newer {
        event.copy(Known::UserId, Field::UserId);
    } else if let Some(value) = event.set(Known::UserId) {
        let value = convert(event.arena, value);
        event.put(Field::UserId, value, Known::UserId.name());
    }
    Ok(())
}

/// `Workload`.
pub(crate) fn provider(event: &mut Event<'_>) -> Step {
    event.take(Known::Workload, Field::EventProvider)
}

/// `Operation`.
pub(crate) fn operation(event: &mut Event<'_>) -> Step {
    if event.robust
        && let Some(value @ (Value::Bool(_) | Value::Number(_))) = event.get(Known::Operation)
    {
        let text = Value::Text(print(event.arena, value));
        event.record.put(Known::Operation, text);
    }
    event.take(Known::Operation, Field::EventAction)
}

/// `OrganizationId`.
pub(crate) fn organization(event: &mut Event<'_>) -> Step {
    event.take(Known::OrganizationId, Field::OrganizationId)
}

/// `UserAgent`.
pub(crate) fn user_agent(event: &mut Event<'_>) -> Step {
    event.take(Known::UserAgent, Field::UserAgentOriginal)
}

/// `ExtendedProperties.UserAgent`.
pub(crate) fn extended_user_agent(event: &mut Event<'_>) -> Step {
    let Some(value) = event.set(Known::ExtendedProperties) else {
        return Ok(());
    };
    if matches!(value.kind(), Kind::Bool | Kind::Number) && !event.robust {
        return fail(format!("`ExtendedProperties` is {}", describe(value)));
    }
    if value.set_member("UserAgent").is_none() {
        return Ok(());
    }
    event.take_inner(
        Known::ExtendedProperties,
        "UserAgent",
        Field::UserAgentOriginal,
    )
}

/// `event.code`.
pub(crate) fn code(event: &mut Event<'_>) -> Step {
    let Some(value) = event.set(Known::RecordType) else {
        return Ok(());
    };
    if matches!(value.kind(), Kind::Array | Kind::Object) {
        return Ok(());
    }
    let text = print(event.arena, value).decode(event.arena);
    let later = event.options.later_record_types;
    let mut found = record_types::find(text, later);
    if found.is_none() && event.robust {
        let integer = text.strip_suffix(b".0").unwrap_or(text);
        found = record_types::find(integer, later).or_else(|| record_types::find_name(text));
    }
    if let Some(row) = found {
        event.code = Some(row.number);
        event.document.set_word(Field::EventCode, row.code);
    } else if event.options.tidy && text.iter().all(u8::is_ascii_digit) {
        event
            .document
            .set(Field::EventCode, Value::Text(Text::plain(text)));
    }
    Ok(())
}

/// `event.outcome`.
pub(crate) fn outcome(event: &mut Event<'_>) -> Step {
    event.document.set_word(Field::EventOutcome, "success");
    let Some(value) = event.set(Known::ResultStatus) else {
        return Ok(());
    };
    let text = match event.need_text(value, "ResultStatus") {
        Ok(text) => text,
        Err(Failure(what)) => {
            event.document.clear(Field::EventOutcome);
            if event.robust {
                event.document.set_word(Field::EventOutcome, "unknown");
            }
            return fail(what);
        }
    };
    let is = |word: &str| text.escaped.eq_ignore_ascii_case(word.as_bytes());
    if ["failed", "false"].into_iter().any(is) {
        event.document.set_word(Field::EventOutcome, "failure");
    } else if event.options.tidy
        && !text.is_empty()
        && !["succeeded", "success", "partiallysucceeded", "true"]
            .into_iter()
            .any(is)
    {
        event.document.set_word(Field::EventOutcome, "unknown");
    }
    Ok(())
}

/// `event.severity` of alerts, by the exact words.
pub(crate) fn severity(event: &mut Event<'_>) -> Step {
    let text = event.set(Known::Severity).and_then(Value::text);
    if let Some(level) = text.and_then(|text| level(text.escaped)) {
        event
            .document
            .set(Field::EventSeverity, Value::Number(level));
    }
    Ok(())
}

/// The digit of a severity word.
pub(crate) fn level(word: &[u8]) -> Option<&'static [u8]> {
    match word {
        b"informational" => Some(b"1"),
        b"low" => Some(b"2"),
        b"medium" => Some(b"3"),
        b"high" => Some(b"4"),
        _ => None,
    }
}

/// The links of an alert, as a list of texts.
pub(crate) fn alert_links(event: &mut Event<'_>) -> Step {
    let Some(value) = event
        .get(Known::AlertLinks)
        .filter(|value| value.is_array())
    else {
        return Ok(());
    };
    let mut links = ArenaVec::new_in(event.arena);
    links.extend(
        value
            .elements()
            .filter_map(|element| element.member("AlertLinkHref"))
            .filter(|link| link.kind() == Kind::Text),
    );
    if links.is_empty() {
        event.record.remove(Known::AlertLinks);
    } else {
        event
            .record
            .put(Known::AlertLinks, Value::List(links.into_bump_slice()));
    }
    Ok(())
}

/// The eight members that `1.7.1` turns into text.
pub(crate) fn old_texts(event: &mut Event<'_>) -> Step {
    for known in [
        Known::AzureActiveDirectoryEventType,
        Known::RecordType,
        Known::UserType,
        Known::Version,
        Known::InternalLogonType,
        Known::LogonType,
        Known::ActorYammerUserId,
        Known::YammerNetworkId,
    ] {
        if let Some(value) = event.set(known).filter(|value| value.kind() != Kind::Text) {
            event.record.put(known, convert(event.arena, value));
        }
    }
    Ok(())
}

/// `event.provider` from the type of user, where the workload is missing.
pub(crate) fn provider_fallback(event: &mut Event<'_>) -> Step {
    if event.document.is_set(Field::EventProvider) {
        return Ok(());
    }
    if let Some(value) = event.set(Known::UserType).filter(|value| !value.is_blank()) {
        let text = crate::print::render(event.arena, value);
        event.document.set(Field::EventProvider, Value::Text(text));
    }
    Ok(())
}

/// `ExchangeItemAggregated`: lists under names that no other record uses.
pub(crate) fn aggregated(event: &mut Event<'_>) -> Step {
    let text = event.set(Known::RecordType).and_then(Value::text);
    if event.code != Some(number::EXCHANGE_AGGREGATED) && !text.is_some_and(|text| text.is("50")) {
        return Ok(());
    }
    event.classify(&["email"], &["access"]);
    for (from, to) in [
        (Known::Messages, Known::ExchangeAggregatedMessages),
        (Known::Folders, Known::ExchangeAggregatedFolders),
    ] {
        if event.set(from).is_some() {
            event.rename(from, to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponent_forms() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(expand(text.as_bytes()).as_deref(), expected, "{text}");
        };
        check("1.5e1", Some("15"));
        check("1E9", Some("1000000000"));
        check("-12e0", Some("-12"));
        check("1500e-2", Some("15"));
        check("0.0e5", Some("0"));
        check("-0e1", Some("0"));
        for text in [
            "1.5e0",
            "ExchangeItem",
            "1.0-pre",
            "e5",
            "1e",
            "1e999999999",
            " 1e2",
            "1e2x",
        ] {
            check(text, None);
        }
    }
}
