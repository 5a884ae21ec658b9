//! What holds for every record, whatever it contains.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sluicegate_ecs::{ErrorMode, Mapper, Options, Profile};

use crate::{event, map, tries};

/// Names that rules know, and some they do not.
const NAMES: &[&str] = &[
    "Actions",
    "ActorIpAddress",
    "ActorUserId",
    "ActorYammerUserId",
    "AdditionalInfo",
    "AlertEntityId",
    "AlertLinks",
    "AppAccessContext",
    "Application",
    "Category",
    "ClientIP",
    "ClientIPAddress",
    "ClientProcessName",
    "Comments",
    "CreationTime",
    "Data",
    "DeviceName",
    "EndTimeUtc",
    "EntityType",
    "ExceptionInfo",
    "ExchangeAggregatedFolders",
    "ExchangeMetaData",
    "ExtendedProperties",
    "FileExtension",
    "FileId",
    "FileName",
    "FilePath",
    "FileSize",
    "FileSizeBytes",
    "Folders",
    "GroupName",
    "Id",
    "Item",
    "LogonType",
    "LogonUserSid",
    "MailboxOwnerUPN",
    "Members",
    "Message",
    "MessageObject",
    "Messages",
    "ModifiedProperties",
    "Name",
    "NetworkMessageId",
    "ObjectId",
    "Operation",
    "OperationProperties",
    "OrganizationId",
    "OrganizationName",
    "OriginalDeliveryLocation",
    "OriginatingServer",
    "P1Sender",
    "Parameters",
    "Platform",
    "PolicyDetails",
    "PolicyId",
    "PolicyName",
    "Recipients",
    "RecordNumber",
    "RescanResult",
    "ResultStatus",
    "Sender",
    "SenderEntity",
    "SenderIp",
    "Severity",
    "Sha1",
    "SharePointMetaData",
    "SourceFileExtension",
    "StartTime",
    "Subject",
    "TargetUserId",
    "TargetYammerUserId",
    "TeamName",
    "ThreatDetectionMethods",
    "UserAgent",
    "UserId",
    "UserType",
    "Version",
    "Workload",
    "YammerNetworkId",
    "Scope",
    "x.y",
    "",
    "o365audit",
    "message",
];

/// Names that rules look for inside members.
const INNER: &[&str] = &[
    "Name",
    "Value",
    "OldValue",
    "NewValue",
    "UPN",
    "From",
    "To",
    "CC",
    "Subject",
    "Rules",
    "RuleId",
    "RuleName",
    "Severity",
    "Actions",
    "UserAgent",
    "additionalDetails",
    "User-Agent",
    "DeviceId",
    "Timestamp",
    "Attachments",
    "InternetMessageId",
    "ForwardTo",
    "UniqueId",
    "UniqueID",
    "LastModifiedTime",
    "AlertLinkHref",
    "_raw",
    "Entities",
    "flattened",
    "f3u",
    "ts",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "ana@contoso.example",
    "192.0.2.1:443",
    "[2001:db8::1]:5",
    "2026-03-04T05:06:07",
    "{\"a\":1}",
    "[{}]",
    "{",
    "True",
    "Add user.",
    "FileDownloaded",
    "MemberAdded",
    "1e3",
    "\u{1}",
    "a\"b\\c\n",
    "x (y)",
    "a.b (5b); c",
    "BlockAccess",
    "{\"Entities\":[{\"Upn\":\"u\"}],\"ts\":1}",
    "\u{1f600}",
    "-Identity x",
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        proptest::sample::select(TEXTS).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 5, |inner| {
        let name = proptest::sample::select(INNER).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(name, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub(crate) fn record() -> impl Strategy<Value = Map<String, Value>> {
    let number =
        proptest::sample::select(&[1, 2, 6, 8, 11, 13, 14, 15, 20, 22, 25, 40, 50, 64][..]);
    let name = proptest::sample::select(NAMES).prop_map(str::to_owned);
    (number, btree_map(name, value(), 0..14)).prop_map(|(number, members)| {
        let mut record: Map<_, _> = members.into_iter().collect();
        record.insert("RecordType".into(), json!(number));
        record
    })
}

pub(crate) fn options() -> impl Strategy<Value = Options> {
    let profiles = [
        Profile::Newer,
        Profile::V1_7_1,
        Profile::O365beat,
        Profile::Raw,
    ];
    let modes = [ErrorMode::Robust, ErrorMode::Reference];
    (
        proptest::sample::select(profiles.to_vec()).boxed(),
        proptest::sample::select(modes.to_vec()).boxed(),
        any::<[bool; 3]>(),
        any::<Option<bool>>(),
    )
        .prop_map(
            |(profile, error_mode, [preserve, tidy, later], string_numbers)| Options {
                profile,
                error_mode,
                preserve_original_event: preserve,
                tidy,
                later_record_types: later,
                string_numbers,
                ..Options::default()
            },
        )
}

/// Every text that occurs in a value, as text.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Bool(_) => found.push(value.to_string()),
        Value::Number(number) => found.push(number.to_string()),
        Value::String(text) => found.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| texts(value, found)),
        Value::Object(members) => members.values().for_each(|value| texts(value, found)),
    }
}

fn check_limits(event: &Value, options: &Options) {
    if matches!(options.profile, Profile::Newer | Profile::V1_7_1) {
        assert!(event["@timestamp"].is_string());
        assert!(event["event"]["kind"].is_string());
    }
}

/// What an analyst must find again: the members that no rule moves, splits or parses.
const KEPT: &[&str] = &["Scope", "Severity", "UserType", "Comments", "UserId"];

/// Members that rules take apart, parse, rename, rewrite or read as numbers, so that what comes out
/// is not what went in; each has fixtures of its own.
const TAKEN_APART: &[&str] = &[
    "Actions",
    "ActorIpAddress",
    "ActorUserId",
    "ActorYammerUserId",
    "AdditionalInfo",
    "AlertLinks",
    "ClientIP",
    "ClientIPAddress",
    "Data",
    "EndTimeUtc",
    "ExtendedProperties",
    "FileSize",
    "LogonType",
    "MailboxOwnerUPN",
    "ModifiedProperties",
    "Operation",
    "OperationProperties",
    "OrganizationId",
    "OriginatingServer",
    "Parameters",
    "Platform",
    "RescanResult",
    "StartTime",
    "TargetUserId",
    "TargetYammerUserId",
    "Version",
    "YammerNetworkId",
];

fn is_fraction(text: &str) -> bool {
    text.contains(['.', 'e']) && text.parse::<f64>().is_ok()
}

proptest! {
    #![proptest_config(tries())]

    #[test]
    fn a_record_always_gives_an_event(record in record(), options in options()) {
        let text = Value::Object(record).to_string();
        let event = map(&options, text.as_bytes()).unwrap();
        check_limits(&event, &options);
    }

    #[test]
    fn bytes_give_an_event_or_a_rejection(bytes in vec(any::<u8>(), 0..80), options in options()) {
        let _ = map(&options, &bytes);
    }

    #[test]
    fn a_damaged_record_gives_an_event_or_a_rejection(
        record in record(),
        options in options(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = Value::Object(record).to_string().into_bytes();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = map(&options, &bytes);
    }

    #[test]
    fn robust_mode_loses_nothing(record in record()) {
        let options = Options { preserve_original_event: true, ..Options::default() };
        let text = Value::Object(record.clone()).to_string();
        let event = map(&options, text.as_bytes()).unwrap();
        prop_assert_eq!(event["event"]["original"].as_str(), Some(text.as_str()));
        let members = record.len();
        let wrapped = members <= 2 && record.contains_key("o365audit");
        for name in KEPT.iter().filter(|_| !wrapped) {
            let mut wanted = Vec::new();
            if let Some(value) = record.get(*name) {
                texts(value, &mut wanted);
            }
            let mut found = Vec::new();
            texts(&event["o365"]["audit"][*name], &mut found);
            texts(&event["message"], &mut found);
            for text in wanted.iter().filter(|text| !text.is_empty()) {
                prop_assert!(found.contains(text), "{} {:?} {:?}", name, text, event);
            }
        }
    }

    #[test]
    fn every_other_value_is_found_again(mut record in record(), mut options in options()) {
        options.error_mode = ErrorMode::Robust;
        // With it, and few others beside it, the record would be another one.
        record.remove("o365audit");
        let text = Value::Object(record.clone()).to_string();
        let mut event = map(&options, text.as_bytes()).unwrap();
        if let Some(members) = event["event"].as_object_mut() {
            members.remove("original");
        }
        let mut found = Vec::new();
        texts(&event, &mut found);
        for (name, value) in &record {
            let mut wanted = Vec::new();
            if !TAKEN_APART.contains(&name.as_str()) {
                texts(value, &mut wanted);
            }
            // The reader of these tests rounds fractions.
            wanted.retain(|text| !text.is_empty() && !is_fraction(text));
            for text in wanted {
                // A list or an object is printed where a rule wants a text.
                let inside = found.iter().any(|have| have.contains(&text));
                prop_assert!(inside, "{} {:?} {:#}", name, text, event);
            }
        }
    }

    #[test]
    fn newer_holds_nothing_empty_and_no_number_of_the_record(record in record()) {
        fn check(value: &Value) {
            match value {
                Value::Null => panic!("null"),
                Value::String(text) => assert!(!text.is_empty()),
                Value::Array(list) => {
                    assert!(!list.is_empty());
                    list.iter().for_each(check);
                }
                Value::Object(members) => {
                    assert!(!members.is_empty());
                    members.values().for_each(check);
                }
                Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let text = Value::Object(record).to_string();
        check(&map(&Options::default(), text.as_bytes()).unwrap());
    }

    #[test]
    fn robust_equals_reference_where_reference_has_no_error(mut record in record()) {
        // The deviations that concern records without an error: F10, F15, F17, B33.
        record.retain(|name, _| !matches!(
            name.as_str(), "Data" | "ThreatDetectionMethods" | "o365audit" | ""
        ));
        // B29: an operation that is a boolean or a number becomes a text.
        record.retain(|name, value| {
            name != "Operation" || !(value.is_boolean() || value.is_number())
        });
        record.insert("Id".into(), json!("a"));
        record.insert("CreationTime".into(), json!("2026-03-04T05:06:07"));
        for profile in [Profile::Newer, Profile::V1_7_1] {
            let robust = Options { profile, ..Options::default() };
            let error_mode = ErrorMode::Reference;
            let reference = Options { error_mode, ..robust.clone() };
            let text = Value::Object(record.clone()).to_string();
            let expected = map(&reference, text.as_bytes()).unwrap();
            let found = map(&robust, text.as_bytes()).unwrap();
            if expected["error"].is_null() && found["error"].is_null() {
                prop_assert!(expected == found, "{:#}\n{:#}", expected, found);
            }
        }
    }

    #[test]
    fn the_fingerprint_ignores_the_order_of_members(record in record()) {
        let mut mapper = Mapper::new(Options::default());
        let mut fingerprint = |members: &mut dyn Iterator<Item = (&String, &Value)>| {
            let members: Vec<_> =
                members.map(|(name, value)| format!("{} : {value}", json!(name))).collect();
            let text = format!("{{ {} }}", members.join(" , "));
            mapper.map(text.as_bytes(), &mut Vec::new()).map(|mapped| mapped.fingerprint)
        };
        prop_assert_eq!(fingerprint(&mut record.iter()), fingerprint(&mut record.iter().rev()));
    }
}

/// The names, values and addresses of hostile records; each would take minutes if it took the
/// square of its length.
#[test]
fn long_lists_take_no_long_time() {
    let texts = |count: usize| (0..count).map(|n| format!("u{n}@contoso.example"));
    let list = |count| Value::Array(texts(count).map(Value::from).collect());
    let names = |count| {
        let pair = |text: String| json!({ "Name": text, "Value": text });
        Value::Array(texts(count).map(pair).collect())
    };
    let forward = texts(50_000).collect::<Vec<_>>().join(";");
    let entities: Vec<_> = texts(20_000).map(|text| json!({ "Upn": text })).collect();
    let members: Map<_, _> = (0..20_000).map(|n| (format!("m{n}"), json!(n))).collect();
    let mut all = members.clone();
    all.extend([
        ("Id".into(), json!("a")),
        ("NetworkMessageId".into(), json!("")),
    ]);
    all.insert("Parameters".into(), json!("Identity x"));
    for record in [
        json!({ "Id": "a", "Recipients": list(100_000) }),
        json!({ "Id": "a", "Parameters": names(50_000) }),
        json!({ "Id": "a", "Parameters": { "ForwardTo": forward } }),
        json!({ "Id": "a", "Data": json!({ "Entities": entities }).to_string() }),
        json!({ "Id": "a", "ModifiedProperties": list(50_000) }),
        json!({ "Id": "a", "ClientIP": "1:".repeat(200_000) }),
        json!({ "Id": "a", "ClientIP": format!("::1%{}", "%".repeat(200_000)) }),
        json!({ "Id": "a", "Nested": members }),
        Value::Object(all),
    ] {
        let text = record.to_string();
        assert!(map(&Options::default(), text.as_bytes()).is_ok());
    }
}

/// Row B39 of what a source may send: one event as large as a blob.
#[test]
fn a_record_of_fifty_mebibytes_comes_out_whole() {
    let note = "0123456789abcdef".repeat(50 << 16);
    let record = json!({ "Id": "a", "Operation": "X", "Note": note }).to_string();
    let event = map(&Options::default(), record.as_bytes()).unwrap();
    assert_eq!(event["event"]["action"], "X");
    assert!(event["o365"]["audit"]["Note"] == note.as_str());
}

#[test]
fn many_members_and_many_names_take_no_long_time() {
    let mut members: Map<_, _> = (0..5000).map(|n| (format!("m{n}"), json!(n))).collect();
    let names: Vec<_> = (0..10_000)
        .map(|n| json!({ "Name": format!("n{n}"), "Value": n }))
        .collect();
    members.insert("Id".into(), json!("a"));
    members.insert("Parameters".into(), Value::Array(names));
    let text = Value::Object(members).to_string();
    let mut mapper = Mapper::new(Options::default());
    let event = event(&mut mapper, text.as_bytes()).unwrap();
    assert_eq!(event["event"]["kind"], "pipeline_error");
    assert_eq!(event["event"]["original"].as_str(), Some(text.as_str()));
    let kept = event["o365"]["audit"].as_object().unwrap().len();
    assert!((990..=1010).contains(&kept), "{kept}");
}
