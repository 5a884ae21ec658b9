//! The members of a record that rules ask for.
//!
//! A member is found by the hash its name got while it was scanned, in a table that is laid out at
//! compile time; names that are not listed stay under `o365.audit` without any rule knowing them.

use crate::bytes::same;
use crate::hash;
use crate::scan::Hash;

macro_rules! members {
    ($($name:ident)*) => {
        /// A member of the record that some rule asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Known { $($name),* }

        /// The names, in the order of `Known`.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

        const ALL: &[Known] = &[$(Known::$name),*];
    };
}

members! {
    Actions
    ActorIpAddress
    ActorUserId
    ActorYammerUserId
    AdditionalInfo
    AlertEntityId
    AlertLinks
    AppAccessContext
    Application
    ApplicationDisplayName
    AzureActiveDirectoryEventType
    Category
    ClientIP
    ClientIPAddress
    ClientProcessName
    Comments
    CreationTime
    Data
    DeviceName
    EndTimeUtc
    EntityType
    ExceptionInfo
    ExchangeAggregatedFolders
    ExchangeAggregatedMessages
    ExchangeMetaData
    ExtendedProperties
    FileExtension
    FileId
    FileName
    FilePath
    FileSize
    FileSizeBytes
    FilteringDate
    Folders
    GroupName
    Id
    InternalLogonType
    InternetMessageId
    Item
    LastUpdateTimeUtc
    LogonType
    LogonUserDisplayName
    LogonUserSid
    MailboxOwnerUPN
    Members
    Message
    MessageObject
    Messages
    ModifiedProperties
    Name
    NetworkMessageId
    ObjectId
    Operation
    OperationProperties
    OrganizationId
    OrganizationName
    OriginalDeliveryLocation
    OriginatingDomain
    OriginatingServer
    P1Sender
    Parameters
    PhishConfidenceLevel
    Platform
    PolicyDetails
    PolicyId
    PolicyName
    Recipients
    RecordNumber
    RecordType
    RescanResult
    ResultStatus
    RunningTime
    Sender
    SenderEntity
    SenderIP
    SenderIp
    Severity
    Sha1
    Sha256
    SharePointMetaData
    SourceFileExtension
    SourceFileName
    SourceRelativeUrl
    StartTime
    StartTimeUtc
    Subject
    TargetFilePath
    TargetUserId
    TargetYammerUserId
    TeamName
    ThreatDetectionMethods
    UserAgent
    UserId
    UserType
    Version
    Workload
    YammerNetworkId
}

impl Known {
    /// The name as Microsoft spells it.
    pub(crate) fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// Four times the rows, so that a name that is not known is mostly told after one look.
const SLOTS: usize = 512;
const NONE: u8 = u8::MAX;

/// Open addressing: the row in the first free slot behind its hash.
static TABLE: [u8; SLOTS] = {
    let mut table = [NONE; SLOTS];
    let mut row = 0;
    while row < NAMES.len() {
        let mut slot = slot(hash::bytes(NAMES[row].as_bytes()));
        while table[slot] != NONE {
            slot = (slot + 1) % SLOTS;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "there are fewer than 255 rows"
        )]
        let index = row as u8;
        table[slot] = index;
        row += 1;
    }
    table
};

const fn slot(hash: Hash) -> usize {
    (hash.get() >> 32) as usize % SLOTS
}

/// The member of this name, whose hash is already known.
#[inline]
pub(crate) fn find(name: &[u8], hash: Hash) -> Option<Known> {
    let mut slot = slot(hash);
    loop {
        let row = usize::from(TABLE[slot]);
        let known = NAMES.get(row)?;
        if same(known.as_bytes(), name) {
            return ALL.get(row).copied();
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sorted_and_found() {
        assert!(NAMES.is_sorted_by(|a, b| a < b));
        assert!(NAMES.len() < usize::from(NONE));
        for (row, name) in NAMES.iter().enumerate() {
            let found = find(name.as_bytes(), hash::bytes(name.as_bytes()));
            assert_eq!(found.map(|known| known as usize), Some(row));
            assert_eq!(found.map(Known::name), Some(*name));
        }
        assert_eq!(find(b"Scope", hash::bytes(b"Scope")), None);
    }
}
