//! Every field an event can have, with its type in an index.
//!
//! Sorted by path, so that the writer opens and closes each object once. An object row stands for
//! an object that may be empty or whose members come from the record.

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
    /// True or false.
    Boolean,
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
    /// Which members of the record it comes from, for the page.
    pub from: &'static str,
    /// The objects on the way.
    pub(crate) parents: &'static [&'static str],
    /// What opens them and the member itself.
    opening: &'static str,
}

macro_rules! fields {
    ($($field:ident [$($parent:literal)*] $leaf:literal $index:ident $from:literal)*) => {
        /// A field of the event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Field { $($field),* }

        /// The rows, in the order of `Field`.
        pub(crate) const ROWS: &[FieldRow] = &[$(FieldRow {
            name: concat!($($parent, ".",)* $leaf),
            index: IndexType::$index,
            from: $from,
            parents: &[$($parent),*],
            opening: concat!($("\"", $parent, "\":{",)* "\"", $leaf, "\":"),
        }),*];
    };
}

#[rustfmt::skip]
fields! {
    Timestamp [] "@timestamp" Date "`CreationTime`, else the arrival"
    ApplicationName ["application"] "name" Keyword "`ApplicationDisplayName`"
    Client [] "client" Object ""
    ClientPortScratch ["client"] "_port" Scratch ""
    ClientTempScratch ["client"] "_temp" Scratch ""
    ClientAddress ["client"] "address" Keyword
        "`ClientIPAddress`, else `ClientIP`, else `ActorIpAddress`"
    ClientDomain ["client"] "domain" Keyword "the same, when it is a name"
    ClientIp ["client"] "ip" Ip "the same, when it is a valid address"
    ClientPort ["client"] "port" Long "the same, when it has a port"
    DestinationIp ["destination"] "ip" Ip "`server.ip`"
    DestinationUserDomain ["destination" "user"] "domain" Keyword "`destination.user.id`"
    DestinationUserEmail ["destination" "user"] "email" Keyword
        "DLP: `ExchangeMetaData.To`, `.CC`, `.BCC`; Yammer: `TargetUserId`"
    DestinationUserId ["destination" "user"] "id" Keyword "Yammer: `TargetYammerUserId`"
    DestinationUserName ["destination" "user"] "name" Keyword "`destination.user.id`"
    DeviceId ["device"] "id" Keyword
        "`AppAccessContext.DeviceId`, else `ExtendedProperties.additionalDetails.DeviceId`"
    EcsVersion ["ecs"] "version" Keyword "constant"
    EmailAttachments ["email"] "attachments" Flattened "`Item.Attachments`"
    EmailFromAddress ["email" "from"] "address" Keyword "`Parameters.From`; entities: `P2Sender`"
    EmailLocalId ["email"] "local_id" Keyword
        "`NetworkMessageId`, `Data.aii`; entities: `NetworkMessageId`"
    EmailMessageId ["email"] "message_id" Keyword
        "`InternetMessageId`, `Item.InternetMessageId`, `Data.imsgid`; entities: \
         `InternetMessageId`"
    EmailSenderAddress ["email" "sender"] "address" Keyword
        "`P1Sender`, `Data.tsd`; DLP: `source.user.email`; entities: `P1Sender`"
    EmailSubject ["email"] "subject" Keyword
        "`Subject`, `Item.Subject`, `Data.ms`; entities: `Subject`"
    EmailToAddress ["email" "to"] "address" Keyword
        "forwarding `Parameters`, `Recipients`, `Data.trc`; DLP: `destination.user.email`; \
         entities: `Recipient`"
    ErrorMessage ["error"] "message" Text "what could not be mapped"
    EventAction ["event"] "action" Keyword "`Operation`, six of them renamed"
    EventCategory ["event"] "category" Keyword "`web`; record type and operation append"
    EventCode ["event"] "code" Keyword "`RecordType` by name"
    EventDataset ["event"] "dataset" Keyword "constant"
    EventId ["event"] "id" Keyword "`Id`"
    EventKind ["event"] "kind" Keyword
        "`event`; `alert` for alerts and DLP; `pipeline_error` after an error"
    EventModule ["event"] "module" Keyword "constant"
    EventOriginal ["event"] "original" Stored
        "the record's bytes, with `preserve_original_event` or after an error"
    EventOutcome ["event"] "outcome" Keyword "`ResultStatus`; DLP: whether access was blocked"
    EventProvider ["event"] "provider" Keyword "`Workload`, else `UserType`"
    EventSeverity ["event"] "severity" Long "`Severity`; DLP: the highest of the rules"
    EventType ["event"] "type" Keyword "`info`; record type and operation append"
    FileDirectory ["file"] "directory" Keyword "files: `SourceRelativeUrl`"
    FileExtension ["file"] "extension" Keyword "`FileExtension`; files: `SourceFileExtension`"
    FileHashSha1 ["file" "hash"] "sha1" Keyword "`Sha1`"
    FileHashSha256 ["file" "hash"] "sha256" Keyword "`Sha256`"
    FileInode ["file"] "inode" Keyword "DLP: `SharePointMetaData.UniqueId`; Yammer: `FileId`"
    FileMtime ["file"] "mtime" Date "DLP: `SharePointMetaData.LastModifiedTime`"
    FileName ["file"] "name" Keyword
        "files: `SourceFileName`; DLP: `SharePointMetaData.FileName`; Yammer: `FileName`"
    FileOwner ["file"] "owner" Keyword "DLP: `SharePointMetaData.FileOwner`"
    FilePath ["file"] "path" Keyword "`FilePath`, else `TargetFilePath`"
    FileSize ["file"] "size" Long "`FileSizeBytes`, else `FileSize`"
    GroupName ["group"] "name" Keyword "Teams: `TeamName`; Yammer: `GroupName`"
    HostId ["host"] "id" Keyword "`organization.id`"
    HostName ["host"] "name" Keyword "`DeviceName`, else `organization.name`, else `user.domain`"
    HostOs ["host"] "os" Object ""
    HostOsPlatform ["host" "os"] "platform" Keyword "`Platform`"
    HostOsType ["host" "os"] "type" Keyword "`Platform`"
    Message [] "message" Text "alerts: `Name`; DLP of mail: a sentence"
    NetworkType ["network"] "type" Keyword "`client.ip`"
    Audit ["o365"] "audit" Object "every member that no rule moved"
    Aborted [] "o365audit" Object ""
    OrganizationId ["organization"] "id" Keyword "`OrganizationId` in lower case"
    OrganizationName ["organization"] "name" Keyword
        "the tenant table; Exchange: `OrganizationName`"
    ProcessName ["process"] "name" Keyword "`Application`; mailbox items: `ClientProcessName`"
    RelatedHash ["related"] "hash" Keyword "`file.hash.*`"
    RelatedHosts ["related"] "hosts" Keyword "every name of a host"
    RelatedIp ["related"] "ip" Ip "every address"
    RelatedUser ["related"] "user" Keyword "every name of a user"
    RuleCategory ["rule"] "category" Keyword "alerts: `Category`"
    RuleDescription ["rule"] "description" Keyword "alerts: `AlertEntityId`"
    RuleId ["rule"] "id" Keyword "alerts: `PolicyId`; DLP: ids of the rules"
    RuleName ["rule"] "name" Keyword "alerts: `Name`; DLP: names of the rules"
    RuleReference ["rule"] "reference" Keyword "alerts: `AlertLinks`"
    RuleRuleset ["rule"] "ruleset" Keyword "alerts: `EntityType`"
    Server [] "server" Object ""
    ServerTempScratch ["server"] "_temp" Scratch ""
    ServerAddress ["server"] "address" Keyword "Exchange: `OriginatingServer`"
    ServerDomain ["server"] "domain" Keyword "Exchange: `OriginatingServer`"
    ServerIp ["server"] "ip" Ip "Exchange: `OriginatingServer`"
    SessionId ["session"] "id" Keyword "`AppAccessContext.AADSessionId`"
    SourceIp ["source"] "ip" Ip "`client.ip`"
    SourcePort ["source"] "port" Long "`client.port`"
    SourceUserEmail ["source" "user"] "email" Keyword "DLP: `ExchangeMetaData.From`"
    Tags [] "tags" Keyword "option `tags`; `preserve_original_event`; `clock_suspect`"
    TokenId ["token"] "id" Keyword "`AppAccessContext.UniqueTokenId`"
    UrlDomain ["url"] "domain" Keyword "`OriginatingDomain`"
    UrlOriginal ["url"] "original" Wildcard
        "files: `ObjectId`; DLP: `SharePointMetaData.FilePathUrl`"
    UserDomain ["user"] "domain" Keyword "`user.id` behind its `@`"
    UserEmail ["user"] "email" Keyword
        "`user.id` when it is an address; mailbox items: `MailboxOwnerUPN`; Yammer: `ActorUserId`"
    UserFullName ["user"] "full_name" Keyword "mailbox items: `LogonUserDisplayName`"
    UserId ["user"] "id" Keyword "`UserId`, else what the record type has"
    UserName ["user"] "name" Keyword "`user.id` before its `@`"
    UserTargetDomain ["user" "target"] "domain" Keyword "`user.target.id`"
    UserTargetEmail ["user" "target"] "email" Keyword "`user.target.id`"
    UserTargetId ["user" "target"] "id" Keyword
        "directory: `ObjectId`; Teams: `ObjectId` of a deleted user"
    UserTargetName ["user" "target"] "name" Keyword "`user.target.id`"
    UserAgentDeviceName ["user_agent" "device"] "name" Keyword
        "`Other` for an empty `UserAgent`; else the stage `user_agent`"
    UserAgentName ["user_agent"] "name" Keyword
        "`Other` for an empty `UserAgent`; else the stage `user_agent`"
    UserAgentOriginal ["user_agent"] "original" Keyword
        "`UserAgent`, else `ExtendedProperties.UserAgent`, else `additionalDetails.User-Agent`"
}

/// How many rows there are.
pub(crate) const COUNT: usize = ROWS.len();

impl Field {
    /// The path with dots.
    pub(crate) fn name(self) -> &'static str {
        ROWS[self as usize].name
    }
}

/// The objects around a row, a byte for each depth: one more than the first row inside the object.
static OBJECTS: [u32; COUNT] = {
    let mut objects = [0; COUNT];
    let mut row = 0;
    while row < COUNT {
        let mut first = 0;
        let mut depth = 0;
        while depth < ROWS[row].parents.len() {
            while shared(first, row) <= depth {
                first += 1;
            }
            #[expect(clippy::cast_possible_truncation, reason = "fewer than 255 rows")]
            let object = (first + 1) as u32;
            objects[row] |= object << (8 * depth);
            depth += 1;
        }
        row += 1;
    }
    objects
};

/// Where the opening of a row goes on inside so many of its objects.
static INSIDE: [[u8; DEPTH]; COUNT] = {
    let mut inside = [[0; DEPTH]; COUNT];
    let mut row = 0;
    while row < COUNT {
        let (mut depth, mut at) = (0, 0);
        while depth < ROWS[row].parents.len() {
            at += ROWS[row].parents[depth].len() + "\"\":{".len();
            depth += 1;
            #[expect(clippy::cast_possible_truncation, reason = "paths are short")]
            let at = at as u8;
            inside[row][depth] = at;
        }
        row += 1;
    }
    inside
};

/// One more than the most objects around a member.
const DEPTH: usize = 5;

/// What opens a row's member where so many of its objects are open.
#[inline]
pub(crate) fn opening(row: usize, open: usize) -> &'static [u8] {
    let at = usize::from(INSIDE[row][open]);
    ROWS[row].opening.as_bytes().get(at..).unwrap_or_default()
}

const _: () = assert!(COUNT < 255, "a row, one more and none must fit in a byte");

/// How many objects two rows share.
#[inline]
pub(crate) fn shared_objects(one: usize, other: usize) -> usize {
    let differ = OBJECTS[one] ^ OBJECTS[other];
    // Objects behind the first one that differs differ too.
    let same = (differ.trailing_zeros() / 8) as usize;
    same.min(ROWS[other].parents.len())
}

const fn shared(one: usize, other: usize) -> usize {
    let (one, other) = (ROWS[one].parents, ROWS[other].parents);
    let mut depth = 0;
    while depth < one.len() && depth < other.len() && equal(one[depth], other[depth]) {
        depth += 1;
    }
    depth
}

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
/// The members of `o365.audit` are the record's own; `AUDIT` lists those that need a type.
pub fn fields() -> impl Iterator<Item = (&'static str, IndexType)> {
    rows().map(|row| (row.name, row.index))
}

/// The rows behind `fields`.
pub fn rows() -> impl Iterator<Item = &'static FieldRow> {
    ROWS.iter()
        .filter(|row| !matches!(row.index, IndexType::Scratch | IndexType::Object))
}

/// Members of `o365.audit` that are not exact text. Objects are flattened: their members are
/// Microsoft's to add, and an index has a limit of fields.
#[rustfmt::skip]
pub const AUDIT: &[(&str, IndexType)] = &[
    ("Actions", IndexType::Flattened),
    ("AdditionalData", IndexType::Flattened),
    ("AdditionalInfo", IndexType::Flattened),
    ("AppAccessContext", IndexType::Flattened),
    ("AttachmentData", IndexType::Flattened),
    ("AuthDetails", IndexType::Flattened),
    ("Comments", IndexType::Text),
    ("CopilotEventData", IndexType::Flattened),
    ("CustomUniqueId", IndexType::Boolean),
    ("Data.at", IndexType::Date),
    ("Data.flattened", IndexType::Flattened),
    ("Data.md", IndexType::Date),
    ("Data.sip", IndexType::Ip),
    ("Data.te", IndexType::Date),
    ("Data.ts", IndexType::Date),
    ("Data.ttdt", IndexType::Date),
    ("Description", IndexType::Text),
    ("EndTimeUtc", IndexType::Date),
    ("ExceptionInfo", IndexType::Flattened),
    ("ExchangeAggregatedFolders", IndexType::Flattened),
    ("ExchangeAggregatedMessages", IndexType::Flattened),
    ("ExchangeMetaData", IndexType::Flattened),
    ("ExtendedProperties", IndexType::Flattened),
    ("ExternalAccess", IndexType::Boolean),
    ("FileSizeBytes", IndexType::Long),
    ("FilteringDate", IndexType::Date),
    ("Item", IndexType::Flattened),
    ("LastUpdateTimeUtc", IndexType::Date),
    ("Members", IndexType::Flattened),
    ("MessageObject", IndexType::Flattened),
    ("ModifiedProperties", IndexType::Flattened),
    ("OperationCount", IndexType::Long),
    ("OperationProperties", IndexType::Flattened),
    ("Parameters", IndexType::Flattened),
    ("PolicyDetails", IndexType::Flattened),
    ("SenderEntity", IndexType::Flattened),
    ("SensitiveInfoDetectionIsIncluded", IndexType::Boolean),
    ("SharePointMetaData", IndexType::Flattened),
];

/// What the stages `geoip` and `user_agent` add behind this crate.
#[rustfmt::skip]
pub const ENRICHED: &[(&str, IndexType)] = &[
    ("client.as.number", IndexType::Long),
    ("client.as.organization.name", IndexType::Keyword),
    ("client.geo.city_name", IndexType::Keyword),
    ("client.geo.continent_name", IndexType::Keyword),
    ("client.geo.country_iso_code", IndexType::Keyword),
    ("client.geo.country_name", IndexType::Keyword),
    ("client.geo.location", IndexType::GeoPoint),
    ("client.geo.region_iso_code", IndexType::Keyword),
    ("client.geo.region_name", IndexType::Keyword),
    ("destination.as.number", IndexType::Long),
    ("destination.as.organization.name", IndexType::Keyword),
    ("destination.geo.city_name", IndexType::Keyword),
    ("destination.geo.continent_name", IndexType::Keyword),
    ("destination.geo.country_iso_code", IndexType::Keyword),
    ("destination.geo.country_name", IndexType::Keyword),
    ("destination.geo.location", IndexType::GeoPoint),
    ("destination.geo.region_iso_code", IndexType::Keyword),
    ("destination.geo.region_name", IndexType::Keyword),
    ("source.as.number", IndexType::Long),
    ("source.as.organization.name", IndexType::Keyword),
    ("source.geo.city_name", IndexType::Keyword),
    ("source.geo.continent_name", IndexType::Keyword),
    ("source.geo.country_iso_code", IndexType::Keyword),
    ("source.geo.country_name", IndexType::Keyword),
    ("source.geo.location", IndexType::GeoPoint),
    ("source.geo.region_iso_code", IndexType::Keyword),
    ("source.geo.region_name", IndexType::Keyword),
    ("user_agent.os.full", IndexType::Keyword),
    ("user_agent.os.name", IndexType::Keyword),
    ("user_agent.os.version", IndexType::Keyword),
    ("user_agent.version", IndexType::Keyword),
];

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
                row.name
                    .ends_with(row.opening.rsplit(['"']).nth(1).unwrap()),
                "{}",
                row.name
            );
        }
        for row in rows() {
            assert!(!row.from.is_empty(), "{}", row.name);
        }
        assert!(AUDIT.is_sorted_by(|a, b| a.0 < b.0));
        assert!(ENRICHED.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(Field::Timestamp.name(), "@timestamp");
        assert_eq!(Field::UserAgentOriginal.name(), "user_agent.original");
    }
}
