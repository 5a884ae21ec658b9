//! The line: every rule of profiles `newer` and `1.7.1`, in the one order that gives the documents.
//!
//! The order is normative: addresses are chosen before record types move them, names exist before
//! they are related, embedded JSON is parsed after alerts were read. Each line below is one rule of
//! one file.

use crate::event::{Event, Failure, Step, fail};
use crate::print::print;
use crate::table::fields::Field;
use crate::value::Value;
use crate::{address, codes, common, data, dates, device, embedded, mail, name_values, users};

/// How the mapping of a record ended.
pub(crate) enum End {
    /// With all rules applied.
    Complete,
    /// With a rule that failed; the record stands as the rules before it left it.
    Aborted(Failure),
    /// With a failure after the record had become `o365.audit`.
    AbortedLate(Failure),
}

/// Applies every rule. In robust mode it always ends complete.
pub(crate) fn run(event: &mut Event<'_>) -> End {
    if let Err(failure) = line(event) {
        return End::Aborted(failure);
    }
    if let Err(failure) = event.attempt(agent_is_text) {
        return End::AbortedLate(failure);
    }
    if event.newer
        && let Err(failure) = users::related_at_end(event)
    {
        return End::AbortedLate(failure);
    }
    End::Complete
}

fn line(event: &mut Event<'_>) -> Step {
    common::constants(event)?;
    if event.newer {
        event.attempt(common::numbers)?;
        event.attempt(common::entities)?;
        event.attempt(common::copies)?;
        event.attempt(embedded::actions)?;
    }
    event.attempt(dates::timestamp)?;
    event.attempt(common::id)?;
    event.attempt(address::choose)?;
    event.attempt(common::user)?;
    event.attempt(common::provider)?;
    event.attempt(common::operation)?;
    event.attempt(common::organization)?;
    if event.newer {
        event.attempt(embedded::members)?;
    }
    event.attempt(common::user_agent)?;
    event.attempt(common::code)?;
    event.attempt(common::outcome)?;
    event.attempt(name_values::parameters)?;
    if event.newer {
        event.attempt(mail::parameters)?;
        event.attempt(device::platform)?;
    }
    event.attempt(name_values::extended)?;
    event.attempt(name_values::modified)?;
    event.attempt(common::alert_links)?;
    event.attempt(common::severity)?;
    codes::by_code(event)?;
    event.attempt(address::client)?;
    event.attempt(address::server)?;
    event.attempt(address::client_ip)?;
    event.attempt(address::copies)?;
    event.attempt(users::split)?;
    event.attempt(address::network)?;
    event.attempt(users::related)?;
    event.attempt(common::extended_user_agent)?;
    event.attempt(users::organization)?;
    event.attempt(users::host)?;
    if event.newer {
        newer(event)
    } else {
        event.attempt(common::old_texts)
    }
}

/// What profile `newer` adds.
fn newer(event: &mut Event<'_>) -> Step {
    event.attempt(common::provider_fallback)?;
    event.attempt(mail::members)?;
    event.attempt(dates::members)?;
    event.attempt(data::rules)?;
    event.attempt(device::session)?;
    event.attempt(common::aggregated)?;
    event.attempt(data::methods)
}

/// The user agent must be a text before anything can look into it.
fn agent_is_text(event: &mut Event<'_>) -> Step {
    match event.document.get(Field::UserAgentOriginal) {
        // The text itself vanishes with all empty ones, and nobody behind this can tell that it was
        // there: what every rule set says about it is said here.
        Some(Value::Text(text)) if text.is_empty() && event.newer => {
            event.document.set_word(Field::UserAgentName, "Other");
            event.document.set_word(Field::UserAgentDeviceName, "Other");
            Ok(())
        }
        None | Some(Value::Text(_)) => Ok(()),
        Some(value) if event.robust => {
            let text = Value::Text(print(event.arena, value));
            event.document.set(Field::UserAgentOriginal, text);
            Ok(())
        }
        Some(_) => fail("field [user_agent.original] is no text"),
    }
}
