//! Users, the organisation, the host, and the lists of what is related.

use crate::bytes::{any, position};
use crate::event::{Event, Step, describe, fail};
use crate::print::render;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::text::Text;
use crate::value::{Kind, Value};

/// The ids that may be e-mail addresses: id, name, domain, e-mail.
const IDS: [[Field; 4]; 3] = [
    [
        Field::UserId,
        Field::UserName,
        Field::UserDomain,
        Field::UserEmail,
    ],
    [
        Field::UserTargetId,
        Field::UserTargetName,
        Field::UserTargetDomain,
        Field::UserTargetEmail,
    ],
    [
        Field::DestinationUserId,
        Field::DestinationUserName,
        Field::DestinationUserDomain,
        Field::DestinationUserEmail,
    ],
];

/// Splits ids with exactly one `@`.
pub(crate) fn split(event: &mut Event<'_>) -> Step {
    for [id, name, domain, email] in IDS {
        let Some(value) = event.document.get(id) else {
            continue;
        };
        let Value::Text(text) = value else {
            if event.newer || event.robust || value.is_array() {
                continue;
            }
            return fail(format!(
                "field [{}] is {}, not a text",
                id.name(),
                describe(value)
            ));
        };
        let Some(at) = position(text.escaped, b'@') else {
            continue;
        };
        let (before, after) = (&text.escaped[..at], &text.escaped[at + 1..]);
        if position(after, b'@').is_some() {
            continue;
        }
        let part = |escaped| {
            Value::Text(Text {
                escaped,
                plain: text.plain,
            })
        };
        event.document.set(email, value);
        event.document.set(name, part(before));
        event.document.set(domain, part(after));
    }
    Ok(())
}

/// `related.ip` and the first part of `related.user`.
pub(crate) fn related(event: &mut Event<'_>) -> Step {
    relate(event, Field::RelatedIp, &[Field::ClientIp, Field::ServerIp]);
    let users = [Field::UserName, Field::UserTargetName, Field::FileOwner];
    relate(event, Field::RelatedUser, &users);
    if event.newer
        && let Some(parameters) = event.set(Known::Parameters)
        && let Some(user) = parameters.set_member("User")
    {
        event.document.append_unique(Field::RelatedUser, user);
    }
    Ok(())
}

fn relate(event: &mut Event<'_>, to: Field, from: &[Field]) {
    for &field in from {
        if let Some(value) = event.document.get(field) {
            let value = template(event, value);
            event.document.append_unique(to, value);
        }
    }
}

/// The value as a template writes it; templates of `1.7.1` also escape.
fn template<'a>(event: &Event<'a>, value: Value<'a>) -> Value<'a> {
    let text = render(event.arena, value);
    if event.newer || text.plain {
        return Value::Text(text);
    }
    Value::Text(Text::encode(
        event.arena,
        Text::encode(event.arena, text.decode(event.arena)).escaped,
    ))
}

/// `organization.id` in lower case, also as `host.id`.
pub(crate) fn organization(event: &mut Event<'_>) -> Step {
    let Some(value) = event.document.get(Field::OrganizationId) else {
        return Ok(());
    };
    let lower = match value.kind() {
        Kind::Text => value.text().map(|text| lower(event, text)),
        Kind::Array if value.elements().all(|element| element.kind() == Kind::Text) => {
            let texts = value
                .elements()
                .filter_map(Value::text)
                .map(|text| lower(event, text));
            let texts: Vec<_> = texts.collect();
            Some(Value::List(event.arena.alloc_slice_copy(&texts)))
        }
        _ => None,
    };
    match lower {
        Some(lower) => event.document.set(Field::OrganizationId, lower),
        None if event.newer || event.robust => {}
        None => return fail("field [organization.id] is no text"),
    }
    if let Some(value) = event.document.get(Field::OrganizationId) {
        event.document.set(Field::HostId, value);
    }
    Ok(())
}

fn lower<'a>(event: &Event<'a>, text: Text<'a>) -> Value<'a> {
    let changed = |byte: u8| byte.is_ascii_uppercase() || !byte.is_ascii();
    if text.plain && !any(text.escaped, changed) {
        return Value::Text(text);
    }
    let decoded = String::from_utf8_lossy(text.decode(event.arena)).to_lowercase();
    let decoded = event.arena.alloc_str(&decoded).as_bytes();
    Value::Text(Text::encode(event.arena, decoded))
}

/// `organization.name` from the tenant table; `host.name` from what is known best.
pub(crate) fn host(event: &mut Event<'_>) -> Step {
    let tenants = &event.options.tenants;
    let id = event.document.text(Field::OrganizationId);
    let known = id.filter(|_| !tenants.is_empty()).and_then(|text| {
        let id = str::from_utf8(text.decode(event.arena)).ok()?;
        tenants.get(id)
    });
    if let Some(name) = known {
        let name = Value::Text(Text::encode(event.arena, name.as_bytes()));
        event.document.set(Field::OrganizationName, name);
        if !event.newer {
            event.document.set(Field::HostName, name);
        }
    }
    if event.newer
        && let Some(device) = event.set(Known::DeviceName)
        && !(event.options.tidy && device.is_blank())
    {
        event.put(Field::HostName, device, Known::DeviceName.name());
    }
    for field in [Field::OrganizationName, Field::UserDomain] {
        if event.document.is_set(Field::HostName) {
            break;
        }
        if let Some(value) = event.document.get(field) {
            event.document.set(Field::HostName, value);
        }
    }
    Ok(())
}

/// The lists that `newer` ends with.
pub(crate) fn related_at_end(event: &mut Event<'_>) -> Step {
    let users = [
        Field::UserId,
        Field::UserTargetId,
        Field::UserTargetEmail,
        Field::UserEmail,
    ];
    relate(event, Field::RelatedUser, &users);
    relate(
        event,
        Field::RelatedHosts,
        &[
            Field::HostName,
            Field::UserDomain,
            Field::UserTargetDomain,
            Field::UrlDomain,
            Field::ServerDomain,
            Field::ClientDomain,
        ],
    );
    relate(
        event,
        Field::RelatedHash,
        &[Field::FileHashSha1, Field::FileHashSha256],
    );
    Ok(())
}
