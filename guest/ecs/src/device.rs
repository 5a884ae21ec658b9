//! Platform, device, session, token and application.

use crate::document::Document;
use crate::embedded::{note_bad, parse};
use crate::event::{Event, Step, describe, fail};
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::value::Value;

/// The numbers of `Platform` by name.
const PLATFORMS: [&str; 6] = [
    "Unknown",
    "Windows",
    "MacOS",
    "iOS",
    "Android",
    "Web Browser",
];

/// What the name of a platform must contain to be a type of operating system, in order.
const TYPES: [(&str, &str); 6] = [
    ("windows", "windows"),
    ("linux", "linux"),
    ("mac", "macos"),
    ("unix", "unix"),
    ("ios", "ios"),
    ("android", "android"),
];

/// `Platform` as a name, and `host.os.*`.
pub(crate) fn platform(event: &mut Event<'_>) -> Step {
    let Some(mut value) = event.set(Known::Platform) else {
        return Ok(());
    };
    let digits = match value {
        Value::Number(digits) => digits,
        Value::Text(text) => text.escaped,
        _ => b"",
    };
    if let [digit @ b'0'..=b'5'] = digits {
        value = Value::word(PLATFORMS[usize::from(digit - b'0')]);
        event.record.put(Known::Platform, value);
    }
    // An object without members shows only in the document of a record that breaks a rule.
    event.document.set(Field::HostOs, Value::Pairs(&[]));
    let text = match event.need_text(value, "Platform") {
        Ok(text) => text,
        Err(_) if event.robust => return Ok(()),
        Err(failure) => return Err(failure),
    };
    if text.is_empty() {
        return Ok(());
    }
    event.document.clear(Field::HostOs);
    event.document.set(Field::HostOsPlatform, Value::Text(text));
    let lower = text.decode(event.arena).to_ascii_lowercase();
    let contains = |part: &str| {
        lower
            .windows(part.len())
            .any(|window| window == part.as_bytes())
    };
    if let Some((_, kind)) = TYPES.iter().find(|(part, _)| contains(part)) {
        event.document.set_word(Field::HostOsType, kind);
    }
    Ok(())
}

/// Where the session came from and what it used.
pub(crate) fn session(event: &mut Event<'_>) -> Step {
    let access = event.set(Known::AppAccessContext);
    let inner = |name| access.and_then(|access| access.member(name));
    copy(
        event,
        Field::DeviceId,
        inner("DeviceId"),
        "AppAccessContext.DeviceId",
    );
    additional_details(event)?;
    copy(
        event,
        Field::SessionId,
        inner("AADSessionId"),
        "AppAccessContext.AADSessionId",
    );
    copy(
        event,
        Field::TokenId,
        inner("UniqueTokenId"),
        "AppAccessContext.UniqueTokenId",
    );
    event.copy(Known::ApplicationDisplayName, Field::ApplicationName);
    Ok(())
}

fn copy<'a>(event: &mut Event<'a>, to: Field, value: Option<Value<'a>>, name: &str) {
    if let Some(value) = value.filter(|value| !value.is_blank()) {
        event.put(to, value, name);
    }
}

/// `ExtendedProperties.additionalDetails`, which is JSON in a text.
fn additional_details(event: &mut Event<'_>) -> Step {
    let Some(extended) = event.set(Known::ExtendedProperties) else {
        return Ok(());
    };
    let Some(mut details) = extended.set_member("additionalDetails") else {
        return Ok(());
    };
    if let Value::Text(text) = details {
        let text = text.decode(event.arena);
        let Some(value) = parse(event.arena, text) else {
            let extended = extended.without(event.arena, &["additionalDetails"]);
            event.record.put(Known::ExtendedProperties, extended);
            note_bad(event, "ExtendedProperties.additionalDetails", text);
            return Ok(());
        };
        details = value;
        let extended = extended.with(event.arena, "additionalDetails", details);
        event.record.put(Known::ExtendedProperties, extended);
    }
    if !event.document.is_set(Field::DeviceId) {
        copy(
            event,
            Field::DeviceId,
            details.member("DeviceId"),
            "additionalDetails.DeviceId",
        );
    }
    let Some(agent) = details.set_member("User-Agent") else {
        return Ok(());
    };
    let document = &event.document;
    let taken = if event.robust {
        Document::is_set
    } else {
        Document::has
    };
    if taken(document, Field::UserAgentOriginal) {
        return Ok(());
    }
    if agent.text().is_none() && !event.robust {
        return fail(format!(
            "`additionalDetails.User-Agent` is {}",
            describe(agent)
        ));
    }
    copy(
        event,
        Field::UserAgentOriginal,
        Some(agent),
        "additionalDetails.User-Agent",
    );
    Ok(())
}
