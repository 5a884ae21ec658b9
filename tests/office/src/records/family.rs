//! The record families the office invents: one row each, a content type, a weight and the record's
//! text.
//!
//! `%name%` is a slot that `template.rs` fills. Line breaks and indentation are only for the
//! reader. Names and addresses are those reserved for documentation.

use crate::kind::ContentType::{self, AzureActiveDirectory, Dlp, Exchange, General, SharePoint};

/// One family of records.
pub(super) struct Family {
    pub kind: ContentType,
    /// How often it comes, against the others of its content type.
    pub weight: u64,
    pub text: &'static str,
}

const fn row(kind: ContentType, weight: u64, text: &'static str) -> Family {
    Family { kind, weight, text }
}

pub(super) const FAMILIES: &[Family] = &[
    // Entra sign-in, succeeded (15).
    row(
        AzureActiveDirectory,
        6,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"UserLoggedIn",
    "OrganizationId":"%org%","RecordType":15,"ResultStatus":"Success","UserKey":"%userid%",
    "UserType":0,
    "Version":1,"Workload":"AzureActiveDirectory","ClientIP":"%ip%","ObjectId":"%guid%",
    "UserId":"%upn%",
    "AzureActiveDirectoryEventType":1,"ExtendedProperties":[{"Name":"ResultStatusDetail",
    "Value":"Success"},
    {"Name":"UserAgent","Value":"%agent%"},{"Name":"RequestType","Value":"OAuth2:Authorize"}],
    "ModifiedProperties":[],"Actor":[{"ID":"%userid%","Type":0},{"ID":"%upn%","Type":5}],
    "ActorContextId":"%org%","ActorIpAddress":"%ip%","InterSystemsId":"%guid%",
    "IntraSystemId":"%guid%",
    "SupportTicketId":"","Target":[{"ID":"%guid%","Type":0}],"TargetContextId":"%org%",
    "ApplicationId":"%app%","DeviceProperties":[{"Name":"OS","Value":"%os%"},
    {"Name":"BrowserType","Value":"Edge"},{"Name":"IsCompliantAndManaged","Value":"False"},
    {"Name":"SessionId","Value":"%guid%"}],"ErrorNumber":"0"}"#,
    ),
    // Entra sign-in, failed (15); `ResultStatus` is that of the HTTP exchange.
    row(
        AzureActiveDirectory,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"UserLoginFailed",
    "OrganizationId":"%org%","RecordType":15,"ResultStatus":"Success","UserKey":"%userid%",
    "UserType":0,
    "Version":1,"Workload":"AzureActiveDirectory","ClientIP":"%ip%","ObjectId":"%guid%",
    "UserId":"%upn%",
    "AzureActiveDirectoryEventType":1,"ExtendedProperties":[{"Name":"ResultStatusDetail",
    "Value":"Success"},
    {"Name":"UserAgent","Value":"%agent%"},{"Name":"RequestType","Value":"OAuth2:Token"},
    {"Name":"UserAuthenticationMethod","Value":"1"}],"ModifiedProperties":[],
    "Actor":[{"ID":"%userid%","Type":0},{"ID":"%upn%","Type":5}],"ActorContextId":"%org%",
    "ActorIpAddress":"%ip%","InterSystemsId":"%guid%","IntraSystemId":"%guid%","SupportTicketId":"",
    "Target":[{"ID":"%guid%","Type":0}],"TargetContextId":"%org%","ApplicationId":"%app%",
    "DeviceProperties":[{"Name":"OS","Value":"%os%"},{"Name":"BrowserType","Value":"Chrome"}],
    "ErrorNumber":"50126","LogonError":"InvalidUserNameOrPassword"}"#,
    ),
    // Entra directory change (8).
    row(
        AzureActiveDirectory,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%",
    "Operation":"Add member to group.","OrganizationId":"%org%","RecordType":8,
    "ResultStatus":"Success",
    "UserKey":"%puid%@%domain%","UserType":0,"Version":1,"Workload":"AzureActiveDirectory",
    "ObjectId":"%upn2%","UserId":"%upn%","AzureActiveDirectoryEventType":1,"ExtendedProperties":[
    {"Name":"additionalDetails","Value":"{\"User-Agent\":\"%agent%\"}"},
    {"Name":"extendedAuditEventCategory","Value":"Group"}],"ModifiedProperties":[
    {"Name":"Group.ObjectID","NewValue":"%guid%","OldValue":""},
    {"Name":"Group.DisplayName","NewValue":"[\r\n  \"Project %word%\"\r\n]","OldValue":"[]"}],
    "Actor":[{"ID":"%upn%","Type":5},{"ID":"%puid%","Type":3},{"ID":"User_%userid%","Type":2},
    {"ID":"%userid%","Type":2},{"ID":"User","Type":2}],"ActorContextId":"%org%",
    "ActorIpAddress":"%ip%",
    "InterSystemsId":"%guid%","IntraSystemId":"%guid%","SupportTicketId":"","Target":[
    {"ID":"User_%guid%","Type":2},{"ID":"%upn2%","Type":5},{"ID":"%puid%","Type":3}],
    "TargetContextId":"%org%"}"#,
    ),
    // Exchange administration (1).
    row(
        Exchange,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"Set-Mailbox",
    "OrganizationId":"%org%","RecordType":1,"ResultStatus":"True",
    "UserKey":"NT AUTHORITY\\SYSTEM (w3wp)","UserType":3,"Version":1,"Workload":"Exchange",
    "ObjectId":"%word%-box","UserId":"NT AUTHORITY\\SYSTEM (w3wp)","AppId":"","ClientAppId":"",
    "ExternalAccess":true,"OrganizationName":"%domain%",
    "OriginatingServer":"EX1PR00MB%n4% (15.20.8000.0%n2%)","Parameters":[
    {"Name":"Identity","Value":"%word%-box"},{"Name":"Force","Value":"True"},
    {"Name":"EmailAddresses","Value":"SMTP:%upn%"}],"SessionId":"%guid%"}"#,
    ),
    // Mailbox item (2).
    row(
        Exchange,
        3,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"Create",
    "OrganizationId":"%org%","RecordType":2,"ResultStatus":"Succeeded","UserKey":"%puid%",
    "UserType":0,
    "Version":1,"Workload":"Exchange","ClientIP":"%ip%","UserId":"%upn%","ClientIPAddress":"%ip%",
    "ClientInfoString":"Client=OWA;%agent%","ClientRequestId":"%guid%","ExternalAccess":false,
    "InternalLogonType":0,"LogonType":0,"LogonUserSid":"S-1-5-21-1000000001-%n8%-%n8%-%n6%",
    "MailboxGuid":"%guid%","MailboxOwnerSid":"S-1-5-21-1000000001-%n8%-%n8%-%n6%",
    "MailboxOwnerUPN":"%upn%","OrganizationName":"%domain%",
    "OriginatingServer":"EX1PR00MB%n4% (15.20.8000.0%n2%)\r\n","SessionId":"%guid%","Item":{
    "Id":"RgAAAAB%word%%n8%AAA","InternetMessageId":"<%n8%.%n6%@mail.%domain%>","IsRecord":false,
    "ParentFolder":{"Id":"LgAAAAB%n8%AAAB","Path":"\\Drafts"},"SizeInBytes":%n4%,
    "Subject":"Notes on project %word%"}}"#,
    ),
    // Mailbox item group (3).
    row(
        Exchange,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"MoveToDeletedItems",
    "OrganizationId":"%org%","RecordType":3,"ResultStatus":"Succeeded","UserKey":"%puid%",
    "UserType":0,
    "Version":1,"Workload":"Exchange","ClientIP":"[%ip6%]:4%n4%","UserId":"%upn%",
    "ClientIPAddress":"%ip6%","ClientInfoString":"Client=MSExchangeRPC",
    "ClientProcessName":"OUTLOOK.EXE",
    "ClientVersion":"16.0.1%n4%.2%n4%","ExternalAccess":false,"InternalLogonType":0,"LogonType":0,
    "LogonUserSid":"S-1-5-21-1000000001-%n8%-%n8%-%n6%","MailboxGuid":"%guid%",
    "MailboxOwnerUPN":"%upn%","OrganizationName":"%domain%",
    "OriginatingServer":"EX1PR00MB%n4% (15.20.8000.0%n2%)","AffectedItems":[{"Attachments":
    "%word%.xlsx (%n4%b)","Id":"RgAAAAD%n8%AAA","InternetMessageId":"<%n8%.%n6%@mail.%domain%>",
    "ParentFolder":{"Id":"LgAAAAD%n8%AAAB","Path":"\\Inbox"},"Subject":"Plan %word%"}],
    "CrossMailboxOperation":false,"DestFolder":{"Id":"LgAAAAD%n8%AAAC","Path":"\\Deleted Items"},
    "Folder":{"Id":"LgAAAAD%n8%AAAB","Path":"\\Inbox"}}"#,
    ),
    // Mailbox items read, aggregated (50).
    row(
        Exchange,
        4,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"MailItemsAccessed",
    "OrganizationId":"%org%","RecordType":50,"ResultStatus":"Succeeded","UserKey":"%puid%",
    "UserType":0,
    "Version":1,"Workload":"Exchange","UserId":"%upn%","AppId":"%app%","ClientAppId":"",
    "ClientIPAddress":"%ip%","ClientInfoString":"Client=REST;Client=RESTSystem;;",
    "ExternalAccess":false,
    "InternalLogonType":0,"LogonType":0,"LogonUserSid":"S-1-5-21-1000000001-%n8%-%n8%-%n6%",
    "MailboxGuid":"%guid%","MailboxOwnerSid":"S-1-5-21-1000000001-%n8%-%n8%-%n6%",
    "MailboxOwnerUPN":"%upn%","OperationProperties":[{"Name":"MailAccessType","Value":"Bind"},
    {"Name":"IsThrottled","Value":"False"}],"OrganizationName":"%domain%",
    "OriginatingServer":"EX1PR00MB%n4% (15.20.8000.0%n2%)","Folders":[{"FolderItems":[
    {"InternetMessageId":"<%n8%.%n6%@mail.%domain%>","SizeInBytes":%n4%},
    {"InternetMessageId":"<%n8%.%n6%@mail.%domain%>","SizeInBytes":%n6%}],
    "Id":"LgAAAAC%n8%AAAB","Path":"\\Inbox"}],"OperationCount":2}"#,
    ),
    // File operation (6).
    row(
        SharePoint,
        6,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"FileDownloaded",
    "OrganizationId":"%org%","RecordType":6,"UserKey":"i:0h.f|membership|%puid%@live.com",
    "UserType":0,
    "Version":1,"Workload":"OneDrive","ClientIP":"[%ip6%]:5%n4%","ObjectId":
    "https://files.%domain%/personal/%name%/Documents/%word%.docx","UserId":"%upn%",
    "CorrelationId":"%guid%","DoNotDistributeEvent":true,"EventSource":"SharePoint",
    "ItemType":"File",
    "ListId":"%guid%","ListItemUniqueId":"%guid%","Site":"%guid%","UserAgent":"%agent%",
    "WebId":"%guid%",
    "SourceFileExtension":"docx","SiteUrl":"https://files.%domain%/personal/%name%/",
    "SourceFileName":"%word%.docx","SourceRelativeUrl":"Documents","FileSizeBytes":%n6%,
    "ApplicationId":"%app%","AppAccessContext":{"AADSessionId":"%guid%","CorrelationId":"%guid%",
    "UniqueTokenId":"%word%%n8%"}}"#,
    ),
    // Sharing (14).
    row(
        SharePoint,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"SharingInvitationCreated",
    "OrganizationId":"%org%","RecordType":14,"UserKey":"i:0h.f|membership|%puid%@live.com",
    "UserType":0,
    "Version":1,"Workload":"SharePoint","ClientIP":"%ip%","ObjectId":
    "https://sites.%domain%/teams/%word%/Shared Documents/%word%.pptx","UserId":"%upn%",
    "CorrelationId":"%guid%","EventSource":"SharePoint","ItemType":"File","ListId":"%guid%",
    "ListItemUniqueId":"%guid%","Site":"%guid%","UserAgent":"%agent%","WebId":"%guid%",
    "EventData":"<Type>View</Type><Subject>%word%</Subject>","SourceFileExtension":"pptx",
    "SiteUrl":"https://sites.%domain%/teams/%word%","SourceFileName":"%word%.pptx",
    "SourceRelativeUrl":"Shared Documents","TargetUserOrGroupName":"guest%n4%@example.net",
    "TargetUserOrGroupType":"Guest","UniqueSharingId":"%guid%"}"#,
    ),
    // Page view (4).
    row(
        SharePoint,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"PageViewed",
    "OrganizationId":"%org%","RecordType":4,"UserKey":"i:0h.f|membership|%puid%@live.com",
    "UserType":0,
    "Version":1,"Workload":"SharePoint","ClientIP":"%ip%:4%n4%","ObjectId":
    "https://sites.%domain%/teams/%word%/SitePages/Home.aspx","UserId":"%upn%",
    "CorrelationId":"%guid%","CustomUniqueId":true,"EventSource":"SharePoint","ItemType":"Page",
    "ListItemUniqueId":"%guid%","Site":"%guid%","UserAgent":"%agent%","WebId":"%guid%"}"#,
    ),
    // Teams (25).
    row(
        General,
        4,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"MemberAdded",
    "OrganizationId":"%org%","RecordType":25,"UserKey":"%userid%","UserType":0,"Version":1,
    "Workload":"MicrosoftTeams","ClientIP":"%ip%","UserId":"%upn%","AADGroupId":"%guid%",
    "CommunicationType":"Team","ItemName":"Team %word%","Members":[{"DisplayName":"%display%",
    "Role":0,
    "UPN":"%upn2%"},{"DisplayName":"Guest %n4%","Role":2,"UPN":"guest%n4%@example.net"}],
    "TeamGuid":"19:%word%%n8%@thread.tacv2","TeamName":"Team %word%","ExtraProperties":[
    {"Key":"TimeZone","Value":"Europe/Lisbon"},{"Key":"OsName","Value":"%os%"}]}"#,
    ),
    // Security and compliance administration (18): `Parameters` is one string.
    row(
        General,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"New-ComplianceSearch",
    "OrganizationId":"%org%","RecordType":18,"ResultStatus":"Success","UserKey":"%upn%",
    "UserType":2,
    "Version":1,"Workload":"SecurityComplianceCenter","ObjectId":"Search %word%","UserId":"%upn%",
    "SecurityComplianceCenterEventType":0,"ClientApplication":"EMC","ClientRequestId":"%guid%",
    "CmdletVersion":"16.00.0.0","EffectiveOrganization":"%domain%","NonPIIParameters":
    "-Name \"<PII>\" -ExchangeLocation \"<PII>\"","Parameters":
    "-Name \"Search %word%\" -ExchangeLocation \"All\"","StartTime":"%time%","UserServicePlan":"",
    "ClientIP":"%ip%"}"#,
    ),
    // Yammer, now Viva Engage (22): ids above 2^53.
    row(
        General,
        1,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"FileCreated",
    "OrganizationId":"%org%","RecordType":22,"ResultStatus":"TRUE","UserKey":"%puid%","UserType":0,
    "Version":1,"Workload":"Yammer","ClientIP":"[%ip6%]:4%n4%","ObjectId":"%word%.png",
    "UserId":"%upn%",
    "ActorUserId":"%upn%","ActorYammerUserId":90071992547%n8%,"FileId":90071992548%n8%,
    "FileName":"%word%.png","GroupName":"All of %word%","IsSoftDelete":false,"MessageId":0,
    "YammerNetworkId":5846122497,"VersionId":90071992549%n8%,"UserAgent":"%agent%"}"#,
    ),
    // Alert (40): `Data` is JSON in a string.
    row(
        General,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"AlertTriggered",
    "OrganizationId":"%org%","RecordType":40,"ResultStatus":"Succeeded",
    "UserKey":"SecurityComplianceAlerts","UserType":4,"Version":1,
    "Workload":"SecurityComplianceCenter",
    "ObjectId":"%guid%","UserId":"SecurityComplianceAlerts","AlertEntityId":"%upn%",
    "AlertId":"%guid%",
    "AlertLinks":[{"AlertLinkHref":"https://security.%domain%/alerts/%guid%"}],"AlertType":"System",
    "Category":"ThreatManagement","Comments":"New alert","Data":
    "{\"etype\":\"User\",\"eid\":\"%upn%\",\"tid\":\"%org%\",\"ts\":\"%time%Z\",
    \"lon\":\"FileDownloaded\"}",
    "EntityType":"User","Name":"Unusual volume of file downloads","PolicyId":"%guid%",
    "Severity":"Medium",
    "Source":"Office 365 Security & Compliance","Status":"Active"}"#,
    ),
    // Copilot (261).
    row(
        General,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"CopilotInteraction",
    "OrganizationId":"%org%","RecordType":261,"UserKey":"%userid%","UserType":0,"Version":1,
    "Workload":"Copilot","ClientIP":"%ip%","UserId":"%upn%","ClientRegion":"emea",
    "CopilotLogVersion":"1.0.0.0","CopilotEventData":{"AISystemPlugin":[{"Id":"BingWebSearch",
    "Name":
    "BingWebSearch"}],"AccessedResources":[{"Action":"Read","Id":"%guid%","Name":"%word%.docx",
    "SiteUrl":"https://files.%domain%/personal/%name%/%word%.docx","Type":"docx",
    "listItemUniqueId":"%guid%"}],"AppHost":"Word","Contexts":[{"Id":
    "https://files.%domain%/personal/%name%/%word%.docx","Type":"docx"}],"Messages":[
    {"Id":"1%n8%1","isPrompt":true,"Size":%n2%},{"Id":"1%n8%2","isPrompt":false,"Size":%n4%}],
    "ModelTransparencyDetails":[{"ModelName":"example-model"}],
    "ThreadId":"19:%word%%n8%@thread.v2"}}"#,
    ),
    // Mail threat (28).
    row(
        General,
        1,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"TIMailData",
    "OrganizationId":"%org%","RecordType":28,"UserKey":"ThreatIntel","UserType":4,"Version":1,
    "Workload":"ThreatIntelligence","ObjectId":"%guid%","UserId":"ThreatIntel","AttachmentData":[
    {"FileName":"%word%.zip","FileType":"zip","FileVerdict":1,"MalwareFamily":"Trojan.Example",
    "SHA256":"%sha%"}],"AuthDetails":[{"Name":"SPF","Value":"Fail"},{"Name":"DKIM","Value":"None"}],
    "DeliveryAction":"Blocked","DetectionMethod":"File detonation","DetectionType":"Inline",
    "Directionality":"Inbound","InternetMessageId":"<%n8%@mail.example.net>","MessageTime":"%time%",
    "NetworkMessageId":"%guid%","P1Sender":"news@mail.example.net","P2Sender":"news@example.net",
    "Policy":"SafeAttachementSAP","PolicyAction":"Quarantine","Recipients":["%upn%"],
    "SenderIp":"%ip%",
    "Subject":"Invoice %n6%","Verdict":"Malware"}"#,
    ),
    // DLP in SharePoint (11).
    row(
        Dlp,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"DlpRuleMatch",
    "OrganizationId":"%org%","RecordType":11,"UserKey":"DlpAgent","UserType":4,"Version":1,
    "Workload":"OneDrive","ObjectId":"https://files.%domain%/personal/%name%/Documents/%word%.xlsx",
    "UserId":"%upn%","IncidentId":"%guid%","PolicyDetails":[{"PolicyId":"%guid%",
    "PolicyName":"Payment data","Rules":[{"Actions":["NotifyUser"],"ConditionsMatched":{
    "SensitiveInformation":[{"Confidence":85,"Count":%n2%,"SensitiveType":
    "50842eb7-edc8-4019-85dd-5a5c1f2bb085","SensitiveInformationTypeName":"Credit Card Number"}]},
    "RuleId":"%guid%","RuleMode":"Enable","RuleName":"Few card numbers","Severity":"Low"}]}],
    "SensitiveInfoDetectionIsIncluded":false,"SharePointMetaData":{"FileName":"%word%.xlsx",
    "FileOwner":"%display%","FilePathUrl":
    "https://files.%domain%/personal/%name%/Documents/%word%.xlsx","From":"%upn%",
    "SiteCollectionGuid":"%guid%","SiteCollectionUrl":"https://files.%domain%/personal/%name%",
    "UniqueID":"%guid%"}}"#,
    ),
    // DLP in Exchange (13).
    row(
        Dlp,
        2,
        r#"{"CreationTime":"%time%","Id":"%id%","Operation":"DlpRuleMatch",
    "OrganizationId":"%org%","RecordType":13,"UserKey":"DlpAgent","UserType":4,"Version":1,
    "Workload":"Exchange","ObjectId":"<%n8%.%n6%@mail.%domain%>","UserId":"%upn%",
    "ExchangeMetaData":{
    "BCC":[],"CC":[],"From":"%upn%","MessageID":"<%n8%.%n6%@mail.%domain%>","RecipientCount":1,
    "Sent":"%time%","Subject":"Card %word%","To":["guest%n4%@example.net"]},"IncidentId":"%guid%",
    "PolicyDetails":[{"PolicyId":"%guid%","PolicyName":"Payment data","Rules":[{"Actions":
    ["BlockAccess","GenerateIncidentReport"],"ConditionsMatched":{"SensitiveInformation":[{
    "Confidence":85,"Count":1,"Location":"Message Body","SensitiveInformationDetections":{
    "DetectedValues":[{"Name":"4111111111111111","Value":"card 4111111111111111 for %word%"}],
    "ResultsTruncated":false},"SensitiveType":"50842eb7-edc8-4019-85dd-5a5c1f2bb085"}]},
    "RuleId":"%guid%","RuleMode":"Enable","RuleName":"Card leaves the house","Severity":"High"}]}],
    "SensitiveInfoDetectionIsIncluded":true}"#,
    ),
];
