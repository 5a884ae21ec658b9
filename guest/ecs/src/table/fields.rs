//! Every field an event can have, with its type in an index.
//!
//! Sorted by path, so that the writer opens and closes each object once. An object row stands for an object that
//! may be empty or whose members come from the record.

/// The type of a field in an Elasticsearch index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexType {
    /// Exact text.
    Keyword,
    /// Exact text that is long and searched by pattern.
    Wildcard,
    /// Full text.
    Text,
    /// A date.
    Date,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A 64-bit integer.
    Long,
    /// A latitude and a longitude; written by the stage `geo`, not by this crate.
    GeoPoint,
    /// Whatever is inside, indexed as exact text.
    Flattened,
    /// Kept and not indexed.
    Stored,
    /// An object whose members have rows or templates of their own.
    Object,
    /// Only inside a document whose mapping was aborted.
    Scratch,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct FieldRow {
    /// The path with dots.
    pub name: &'static str,
    /// The type in an index.
    pub index: IndexType,
    /// What opens each object on the way.
    pub(crate) parents: &'static [&'static str],
    /// What opens the member itself.
    pub(crate) leaf: &'static str,
}

macro_rules! fields {
    ($($field:ident [$($parent:literal)*] $leaf:literal $index:ident)*) => {
        /// A field of the event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Field { $($field),* }

        /// The rows, in the order of `Field`.
        pub(crate) const ROWS: &[FieldRow] = &[$(FieldRow {
            name: concat!($($parent, ".",)* $leaf),
            index: IndexType::$index,
            parents: &[$(concat!("\"", $parent, "\":{")),*],
            leaf: concat!("\"", $leaf, "\":"),
        }),*];
    };
}

#[rustfmt::skip]
fields! {
    Timestamp [] "@timestamp" Date
    ApplicationName ["application"] "name" Keyword
    Client [] "client" Object
    ClientPortScratch ["client"] "_port" Scratch
    ClientTempScratch ["client"] "_temp" Scratch
    ClientAddress ["client"] "address" Keyword
    ClientDomain ["client"] "domain" Keyword
    ClientIp ["client"] "ip" Ip
    ClientPort ["client"] "port" Long
    DestinationIp ["destination"] "ip" Ip
    DestinationUserDomain ["destination" "user"] "domain" Keyword
    DestinationUserEmail ["destination" "user"] "email" Keyword
    DestinationUserId ["destination" "user"] "id" Keyword
    DestinationUserName ["destination" "user"] "name" Keyword
    DeviceId ["device"] "id" Keyword
    EcsVersion ["ecs"] "version" Keyword
    EmailAttachments ["email"] "attachments" Flattened
    EmailFromAddress ["email" "from"] "address" Keyword
    EmailLocalId ["email"] "local_id" Keyword
    EmailMessageId ["email"] "message_id" Keyword
    EmailSenderAddress ["email" "sender"] "address" Keyword
    EmailSubject ["email"] "subject" Keyword
    EmailToAddress ["email" "to"] "address" Keyword
    ErrorMessage ["error"] "message" Text
    EventAction ["event"] "action" Keyword
    EventCategory ["event"] "category" Keyword
    EventCode ["event"] "code" Keyword
    EventDataset ["event"] "dataset" Keyword
    EventId ["event"] "id" Keyword
    EventKind ["event"] "kind" Keyword
    EventModule ["event"] "module" Keyword
    EventOriginal ["event"] "original" Stored
    EventOutcome ["event"] "outcome" Keyword
    EventProvider ["event"] "provider" Keyword
    EventSeverity ["event"] "severity" Long
    EventType ["event"] "type" Keyword
    FileDirectory ["file"] "directory" Keyword
    FileExtension ["file"] "extension" Keyword
    FileHashSha1 ["file" "hash"] "sha1" Keyword
    FileHashSha256 ["file" "hash"] "sha256" Keyword
    FileInode ["file"] "inode" Keyword
    FileMtime ["file"] "mtime" Date
    FileName ["file"] "name" Keyword
    FileOwner ["file"] "owner" Keyword
    FilePath ["file"] "path" Keyword
    FileSize ["file"] "size" Long
    GroupName ["group"] "name" Keyword
    HostId ["host"] "id" Keyword
    HostName ["host"] "name" Keyword
    HostOsPlatform ["host" "os"] "platform" Keyword
    HostOsType ["host" "os"] "type" Keyword
    Message [] "message" Text
    NetworkType ["network"] "type" Keyword
    Audit ["o365"] "audit" Object
    Aborted [] "o365audit" Object
    OrganizationId ["organization"] "id" Keyword
    OrganizationName ["organization"] "name" Keyword
    ProcessName ["process"] "name" Keyword
    RelatedHash ["related"] "hash" Keyword
    RelatedHosts ["related"] "hosts" Keyword
    RelatedIp ["related"] "ip" Ip
    RelatedUser ["related"] "user" Keyword
    RuleCategory ["rule"] "category" Keyword
    RuleDescription ["rule"] "description" Keyword
    RuleId ["rule"] "id" Keyword
    RuleName ["rule"] "name" Keyword
    RuleReference ["rule"] "reference" Keyword
    RuleRuleset ["rule"] "ruleset" Keyword
    Server [] "server" Object
    ServerTempScratch ["server"] "_temp" Scratch
    ServerAddress ["server"] "address" Keyword
    ServerDomain ["server"] "domain" Keyword
    ServerIp ["server"] "ip" Ip
    SessionId ["session"] "id" Keyword
    SourceIp ["source"] "ip" Ip
    SourcePort ["source"] "port" Long
    SourceUserEmail ["source" "user"] "email" Keyword
    Tags [] "tags" Keyword
    TokenId ["token"] "id" Keyword
    UrlDomain ["url"] "domain" Keyword
    UrlOriginal ["url"] "original" Wildcard
    UserDomain ["user"] "domain" Keyword
    UserEmail ["user"] "email" Keyword
    UserFullName ["user"] "full_name" Keyword
    UserId ["user"] "id" Keyword
    UserName ["user"] "name" Keyword
    UserTargetDomain ["user" "target"] "domain" Keyword
    UserTargetEmail ["user" "target"] "email" Keyword
    UserTargetId ["user" "target"] "id" Keyword
    UserTargetName ["user" "target"] "name" Keyword
    UserAgentOriginal ["user_agent"] "original" Keyword
}

/// How many rows there are.
pub(crate) const COUNT: usize = ROWS.len();

impl Field {
    /// The path with dots.
    pub(crate) fn name(self) -> &'static str {
        ROWS[self as usize].name
    }
}

/// How many objects a row shares with the row before it.
pub(crate) static SHARED: [u8; COUNT] = {
    let mut shared = [0; COUNT];
    let mut row = 1;
    while row < COUNT {
        let (before, after) = (ROWS[row - 1].parents, ROWS[row].parents);
        let mut depth = 0;
        while depth < before.len() && depth < after.len() && equal(before[depth], after[depth]) {
            depth += 1;
            shared[row] += 1;
        }
        row += 1;
    }
    shared
};

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Every field that an event can have, with its type in an index.
///
/// The members of `o365.audit` are the record's own; `audit_fields` lists those that need a type.
pub fn fields() -> impl Iterator<Item = (&'static str, IndexType)> {
    ROWS.iter()
        .filter(|row| !matches!(row.index, IndexType::Scratch | IndexType::Object))
        .map(|row| (row.name, row.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_named() {
        let path = |row: &FieldRow| row.name.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert!(ROWS.is_sorted_by(|a, b| path(a) < path(b)));
        for row in ROWS {
            assert_eq!(
                row.parents.len(),
                row.name.matches('.').count(),
                "{}",
                row.name
            );
            assert!(
                row.name.ends_with(row.leaf.trim_matches(['"', ':'])),
                "{}",
                row.name
            );
        }
        assert_eq!(Field::Timestamp.name(), "@timestamp");
        assert_eq!(Field::UserAgentOriginal.name(), "user_agent.original");
    }
}
