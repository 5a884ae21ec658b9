//! What an operation says about `event.category` and `event.type`, and the six that get another
//! name.
//!
//! An operation is looked up in the scope of its record type and, for files and folders, in `Any`.

use crate::bytes::same;
use crate::hash;
use crate::scan::Hash;

/// A value of `event.category` that rules append; `web` is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Log-ons.
    Authentication,
    /// Settings.
    Configuration,
    /// Mail.
    Email,
    /// Files and folders.
    File,
    /// Users, groups and rights.
    Iam,
}

/// A value of `event.type` that rules append; `info` is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Something was read.
    Access,
    /// By or about administrators.
    Admin,
    /// Something was changed.
    Change,
    /// Something was made.
    Creation,
    /// Something was removed.
    Deletion,
    /// About a group.
    Group,
    /// Something began.
    Start,
    /// About a user.
    User,
}

impl Category {
    /// The value in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Category::Authentication => "authentication",
            Configuration => "configuration",
            Category::Email => "email",
            File => "file",
            Iam => "iam",
        }
    }
}

impl Type {
    /// The value in the event.
    pub const fn name(self) -> &'static str {
        match self {
            Access => "access",
            Admin => "admin",
            Change => "change",
            Creation => "creation",
            Deletion => "deletion",
            Group => "group",
            Type::Start => "start",
            User => "user",
        }
    }
}

/// Which records a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Records of every type.
    Any,
    /// `AzureActiveDirectory`.
    Directory,
    /// `MicrosoftTeams`.
    Teams,
    /// `Yammer`.
    Yammer,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OperationRow {
    /// Which records it is about.
    pub scope: Scope,
    /// `Operation` of the record, exactly.
    pub operation: &'static str,
    /// `event.action` of the event where it is not the operation.
    pub action: Option<&'static str>,
    /// Appended to `event.category`, in this order.
    pub categories: &'static [Category],
    /// Appended to `event.type`, in this order.
    pub types: &'static [Type],
}

type Row = OperationRow;

const fn row(
    scope: Scope,
    operation: &'static str,
    categories: &'static [Category],
    types: &'static [Type],
) -> Row {
    Row {
        scope,
        operation,
        action: None,
        categories,
        types,
    }
}

const fn renamed(
    operation: &'static str,
    action: &'static str,
    scope: Scope,
    types: &'static [Type],
) -> Row {
    Row {
        scope,
        operation,
        action: Some(action),
        categories: &[Iam],
        types,
    }
}

/// The row of an operation in a scope.
pub(crate) fn find(scope: Scope, operation: &[u8]) -> Option<&'static OperationRow> {
    let mut slot = slot(hash::bytes(operation));
    loop {
        let row = OPERATIONS.get(usize::from(TABLE[slot]))?;
        if row.scope == scope && same(row.operation.as_bytes(), operation) {
            return Some(row);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Several times the rows, so that an operation without one is mostly told after one look.
const SLOTS: usize = 512;
const NONE: u8 = u8::MAX;

/// Open addressing: the row in the first free slot behind its operation's hash.
static TABLE: [u8; SLOTS] = {
    assert!(OPERATIONS.len() < NONE as usize);
    let mut table = [NONE; SLOTS];
    let mut row = 0;
    while row < OPERATIONS.len() {
        let mut slot = slot(hash::bytes(OPERATIONS[row].operation.as_bytes()));
        while table[slot] != NONE {
            slot = (slot + 1) % SLOTS;
        }
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        let index = row as u8;
        table[slot] = index;
        row += 1;
    }
    table
};

const fn slot(hash: Hash) -> usize {
    (hash.get() >> 32) as usize % SLOTS
}

use Category::{Configuration, File, Iam};
use Scope::{Any, Directory, Teams, Yammer};
use Type::{Access, Admin, Change, Creation, Deletion, Group, User};

/// The rows, sorted by scope and operation.
///
/// A record whose operation already is the new name gets what the old name gets.
#[rustfmt::skip]
pub const OPERATIONS: &[OperationRow] = &[
    row(Any, "ComplianceSettingChanged", &[Configuration], &[Change]),
    row(Any, "FileAccessed", &[File], &[Access]),
    row(Any, "FileDeleted", &[File], &[Deletion]),
    row(Any, "FileDownloaded", &[File], &[Access]),
    row(Any, "FileModified", &[File], &[Change]),
    row(Any, "FileMoved", &[File], &[Change]),
    row(Any, "FileRenamed", &[File], &[Change]),
    row(Any, "FileRestored", &[File], &[Change]),
    row(Any, "FileUploaded", &[File], &[Creation]),
    row(Any, "FolderCopied", &[File], &[Creation]),
    row(Any, "FolderCreated", &[File], &[Creation]),
    row(Any, "FolderDeleted", &[File], &[Deletion]),
    row(Any, "FolderModified", &[File], &[Change]),
    row(Any, "FolderMoved", &[File], &[Change]),
    row(Any, "FolderRenamed", &[File], &[Change]),
    row(Any, "FolderRestored", &[File], &[Change]),
    renamed("Add user.", "added-user-account", Directory, &[User, Creation]),
    renamed("Delete user.", "deleted-user-account", Directory, &[User, Deletion]),
    renamed("Update user.", "modified-user-account", Directory, &[User, Change]),
    row(Directory, "added-user-account", &[Iam], &[User, Creation]),
    row(Directory, "deleted-user-account", &[Iam], &[User, Deletion]),
    row(Directory, "modified-user-account", &[Iam], &[User, Change]),
    renamed("Delete user.", "deleted-user-account", Teams, &[User, Deletion]),
    renamed("MemberAdded", "added-users-to-group", Teams, &[Group, Change]),
    renamed("TeamCreated", "added-group-account-to", Teams, &[Group, Creation]),
    row(Teams, "added-group-account-to", &[Iam], &[Group, Creation]),
    row(Teams, "added-users-to-group", &[Iam], &[Group, Change]),
    row(Teams, "deleted-user-account", &[Iam], &[User, Deletion]),
    row(Yammer, "FileCreated", &[File], &[Creation]),
    row(Yammer, "FileDownloaded", &[File], &[Access]),
    row(Yammer, "FileShared", &[File], &[Access]),
    row(Yammer, "FileUpdateDescription", &[File], &[Access]),
    row(Yammer, "FileUpdateName", &[File], &[Creation]),
    row(Yammer, "FileVisited", &[File], &[Access]),
    row(Yammer, "GroupCreation", &[Iam], &[Creation, Group]),
    row(Yammer, "GroupDeletion", &[Iam], &[Deletion, Group]),
    row(Yammer, "NetworkConfigurationUpdated", &[Configuration], &[Change]),
    row(Yammer, "NetworkSecurityConfigurationUpdated", &[Configuration, Iam], &[Change, Admin]),
    row(Yammer, "NetworkUserSuspended", &[Iam], &[]),
    row(Yammer, "ProcessProfileFields", &[Configuration], &[Change]),
    row(Yammer, "SoftDeleteSettingsUpdated", &[Configuration], &[Change]),
    row(Yammer, "SupervisorAdminToggled", &[Configuration], &[Change]),
    row(Yammer, "UserSuspension", &[Iam], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found() {
        assert!(OPERATIONS.is_sorted_by(|a, b| (a.scope, a.operation) < (b.scope, b.operation)));
        for row in OPERATIONS {
            let found = find(row.scope, row.operation.as_bytes());
            assert_eq!(found.map(|found| found.operation), Some(row.operation));
            assert!(!row.categories.is_empty(), "{}", row.operation);
        }
        assert!(find(Any, b"FileCopied").is_none());
    }

    #[test]
    fn a_new_name_gets_what_the_old_name_gets() {
        for row in OPERATIONS {
            let Some(action) = row.action else { continue };
            let again = find(row.scope, action.as_bytes()).unwrap();
            assert_eq!((again.categories, again.types), (row.categories, row.types));
        }
    }

    #[test]
    fn every_category_has_a_type_ecs_expects_for_it() {
        for row in OPERATIONS {
            for kind in row.types {
                let expected = row.categories.iter().any(|category| match category {
                    Configuration => matches!(kind, Access | Change | Creation | Deletion),
                    File => matches!(kind, Access | Change | Creation | Deletion),
                    Iam => !matches!(kind, Access | Type::Start),
                    Category::Authentication | Category::Email => false,
                });
                assert!(expected, "{} {kind:?}", row.operation);
            }
        }
    }
}
