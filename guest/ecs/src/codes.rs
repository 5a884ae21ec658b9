//! The rules of single record types, and what an operation says about categories.

use crate::event::{Event, Step, describe, fail};
use crate::print::convert;
use crate::table::fields::Field;
use crate::table::members::Known;
use crate::table::operations::{self, Scope};
use crate::table::record_types::number;
use crate::value::Kind;

/// `ExchangeAdmin`.
pub(crate) fn exchange_admin(event: &mut Event<'_>) -> Step {
    event.take(Known::OrganizationName, Field::OrganizationName)?;
    event.take(Known::OriginatingServer, Field::ServerTempScratch)
}

/// `ExchangeItem`.
pub(crate) fn exchange_item(event: &mut Event<'_>) -> Step {
    if event.newer {
        event.append_word(Field::EventCategory, "email");
    }
    event.take(Known::MailboxOwnerUPN, Field::UserEmail)?;
    fallback_user(event, Known::LogonUserSid);
    event.take(Known::LogonUserDisplayName, Field::UserFullName)?;
    event.take(Known::OrganizationName, Field::OrganizationName)?;
    event.take(Known::OriginatingServer, Field::ServerTempScratch)?;
    event.take(Known::ClientProcessName, Field::ProcessName)
}

/// `user.id` from another member, where `UserId` gave none.
fn fallback_user(event: &mut Event<'_>, known: Known) {
    if event.document.is_set(Field::UserId) {
        return;
    }
    let Some(value) = event.set(known) else {
        return;
    };
    if event.newer && value.is_blank() {
        return;
    }
    let sid = known == Known::LogonUserSid;
    let value = if event.newer && sid {
        value
    } else {
        convert(event.arena, value)
    };
    event.put(Field::UserId, value, known.name());
}

/// `AzureActiveDirectory`.
pub(crate) fn directory(event: &mut Event<'_>) -> Step {
    match event.record.get(Known::ObjectId) {
        Some(value) => {
            event.put(Field::UserTargetId, value, Known::ObjectId.name());
        }
        None if event.robust => {}
        None => return fail("`ObjectId` is missing"),
    }
    operation(event, Scope::Directory);
    Ok(())
}

/// Renames the action and appends what the table says of it.
fn operation(event: &mut Event<'_>, scope: Scope) {
    let Some(row) = event
        .action()
        .and_then(|action| operations::find(scope, action))
    else {
        return;
    };
    if let Some(action) = row.action {
        event.document.set_word(Field::EventAction, action);
    }
    for category in row.categories {
        event.append_word(Field::EventCategory, category.name());
    }
    for kind in row.types {
        event.append_word(Field::EventType, kind.name());
    }
}

/// File and folder operations of every record type.
pub(crate) fn file_operation(event: &mut Event<'_>) -> Step {
    operation(event, Scope::Any);
    Ok(())
}

/// `SharePointFileOperation`, and `SharePointSharingOperation` in `newer`.
pub(crate) fn sharepoint(event: &mut Event<'_>) -> Step {
    event.take(Known::ObjectId, Field::UrlOriginal)?;
    event.take(Known::SourceRelativeUrl, Field::FileDirectory)?;
    event.take(Known::SourceFileName, Field::FileName)?;
    event.take(Known::SourceFileExtension, Field::FileExtension)
}

/// `SecurityComplianceAlerts`.
pub(crate) fn alerts(event: &mut Event<'_>) -> Step {
    if !event.newer {
        event.take(Known::Comments, Field::Message)?;
    } else if let Some(name) = event.record.get(Known::Name) {
        event.put(Field::Message, name, Known::Name.name());
    } else if !event.robust {
        return fail("`Name` is missing");
    }
    event.document.set_word(Field::EventKind, "alert");
    event.take(Known::Name, Field::RuleName)?;
    event.take(Known::PolicyId, Field::RuleId)?;
    event.take(Known::Category, Field::RuleCategory)?;
    event.take(Known::EntityType, Field::RuleRuleset)?;
    event.take(Known::AlertEntityId, Field::RuleDescription)?;
    event.take(Known::AlertLinks, Field::RuleReference)
}

/// `Yammer`.
pub(crate) fn yammer(event: &mut Event<'_>) -> Step {
    event.take(Known::ActorUserId, Field::UserEmail)?;
    fallback_user(event, Known::ActorYammerUserId);
    event.take(Known::FileId, Field::FileInode)?;
    event.take(Known::FileName, Field::FileName)?;
    event.take(Known::GroupName, Field::GroupName)?;
    event.take(Known::TargetUserId, Field::DestinationUserEmail)?;
    event.take(Known::TargetYammerUserId, Field::DestinationUserId)?;
    operation(event, Scope::Yammer);
    Ok(())
}

/// `MicrosoftTeams`.
pub(crate) fn teams(event: &mut Event<'_>) -> Step {
    operation(event, Scope::Teams);
    event.take(Known::TeamName, Field::GroupName)?;
    if event.action() == Some(b"deleted-user-account") {
        event.take(Known::ObjectId, Field::UserTargetId)?;
    }
    let Some(members) = event.get(Known::Members).filter(|value| value.is_array()) else {
        return Ok(());
    };
    event.document.list(Field::RelatedUser);
    for member in members.elements() {
        let Some(upn) = member.member("UPN") else {
            continue;
        };
        let empty = match upn.kind() {
            Kind::Null | Kind::Number | Kind::Bool if event.robust => true,
            Kind::Null | Kind::Number | Kind::Bool => {
                return fail(format!("`UPN` of a team member is {}", describe(upn)));
            }
            Kind::Text => upn.is_blank(),
            Kind::Array => upn.elements().next().is_none(),
            Kind::Object => upn.members().next().is_none(),
        };
        if !empty {
            event.add(Field::RelatedUser, upn, "UPN");
        }
    }
    Ok(())
}

/// The rules of the record type, and of file operations in between.
pub(crate) fn by_code(event: &mut Event<'_>) -> Step {
    match event.code {
        Some(number::EXCHANGE_ADMIN) => event.attempt(exchange_admin)?,
        Some(number::EXCHANGE_ITEM) => event.attempt(exchange_item)?,
        Some(number::DIRECTORY) => event.attempt(directory)?,
        Some(number::DIRECTORY_LOGON) => {
            event.classify(&["authentication"], &["start", "access"]);
        }
        Some(number::SHAREPOINT_FILE) => event.attempt(sharepoint)?,
        Some(number::SHAREPOINT_SHARING) if event.newer => event.attempt(sharepoint)?,
        _ => {}
    }
    event.attempt(file_operation)?;
    match event.code {
        Some(number::ALERTS) => event.attempt(alerts),
        Some(number::DLP_SHAREPOINT | number::DLP_EXCHANGE) => crate::dlp::rules(event),
        Some(number::YAMMER) => event.attempt(yammer),
        Some(number::TEAMS) => event.attempt(teams),
        _ => Ok(()),
    }
}
