//! Configs: what is taken, what is refused and with which words; the schema is in step.

use std::collections::BTreeSet;

use super::*;
use crate::fake::{TENANT, config};

fn check(more: &str, expected: &[(&str, &str, &str)]) {
    let found = super::check(&config(more), Use::Source);
    let found: Vec<_> = found
        .iter()
        .map(|finding| (&*finding.pointer, &*finding.what, &*finding.help))
        .collect();
    assert_eq!(found, expected, "{more}");
}

#[test]
fn defaults_hold() {
    let config = load(&config(""), Use::Source).expect("complete");
    assert_eq!(config.content_types, &CONTENT_TYPES[..4]);
    assert_eq!(config.publisher_id, TENANT);
    assert_eq!((config.window, config.settle), (6 * HOUR, 10 * MINUTE));
    assert_eq!(config.relist, [HOUR, 6 * HOUR, 24 * HOUR]);
    assert_eq!((config.lookback, config.interval), (7 * DAY, MINUTE));
    assert_eq!((config.unsubscribe, config.attempt), (false, 0));
}

#[test]
fn everything_can_be_set() {
    let config = load(
        &config(
            r#""content_types":["dlp.all","Audit.General"],"window":"6h","settle":"5m",
            "relist":["12h","2h"],"lookback":"1d12h","interval":"90s","unsubscribe":true,
            "since":"2026-01-08T00:00:30Z","until":"2026-01-09","attempt":4,
            "publisher_id":"9B7E4C02-51aa-4d0f-8c9e-2f6f3d1a7b44","profile":"1.7.1",
            "tenant_names":{"3F2C1F5E-0b6d-4a57-9a11-7d1f6b0c9e21":"contoso.example"}"#,
        ),
        Use::Source,
    )
    .expect("complete");
    assert_eq!(config.content_types, ["DLP.All", "Audit.General"]);
    assert_eq!(config.relist, [2 * HOUR, 12 * HOUR]);
    assert_eq!((config.window, config.interval), (6 * HOUR, 90_000));
    assert_eq!(config.lookback, 36 * HOUR);
    assert_eq!(
        config.since.map(time::show).as_deref(),
        Some("2026-01-08T00:00:00Z")
    );
    assert_eq!(
        config.until.map(time::show).as_deref(),
        Some("2026-01-09T00:00:00Z")
    );
    assert_eq!(
        config.mapping.tenants.keys().next().map(String::as_str),
        Some(TENANT)
    );
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(
        r#""content_types":["Audit.Exchnage"]"#,
        &[(
            "/content_types/0",
            "unknown content type `Audit.Exchnage`",
            "did you mean `Audit.Exchange`?",
        )],
    );
    check(
        r#""content_type":["DLP.All"]"#,
        &[(
            "/content_type",
            "unknown key `content_type`",
            "did you mean `content_types`?",
        )],
    );
    check(
        r#""zebra/x":1"#,
        &[(
            "/zebra~1x",
            "unknown key `zebra/x`",
            "`sluicegate inspect o365` lists every key",
        )],
    );
    let duration = "write `30s`, `10m`, `24h` or `7d`";
    check(
        r#""settle":"ten""#,
        &[("/settle", "`ten` is not a duration", duration)],
    );
    check(
        r#""relist":["1h","x"]"#,
        &[("/relist/1", "`x` is not a duration", duration)],
    );
    check(
        r#""lookback":"8d""#,
        &[(
            "/lookback",
            "`8d` is out of range",
            "between 60 and 604800 seconds",
        )],
    );
}

#[test]
fn values_that_cannot_be_are_refused() {
    check(
        r#""window":"7h""#,
        &[(
            "/window",
            "`window` of 420 minutes does not divide a day",
            "choose 5m, 10m, 15m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h, 24h",
        )],
    );
    let schema = "see the plugin's schema: `sluicegate inspect o365`";
    check(
        r#""unsubscribe":"yes""#,
        &[(
            "/unsubscribe",
            "`unsubscribe` is not `true` or `false`",
            schema,
        )],
    );
    check(
        r#""since":"soon""#,
        &[(
            "/since",
            "`soon` is not a time",
            "write it as 2026-05-02T10:14:00Z",
        )],
    );
    check(
        r#""since":"2026-01-02","until":"2026-01-01""#,
        &[("/until", "`until` is not behind `since`", "")],
    );
    check(
        r#""publisher_id":"me""#,
        &[(
            "/publisher_id",
            "`publisher_id` is not a GUID",
            "leave it out to use the tenant's own id, which is what Microsoft asks for",
        )],
    );
    // Two mistakes are two findings.
    let two = super::check(&config(r#""settle":"x","interval":"y""#), Use::Source);
    assert_eq!(two.len(), 2);
}

#[test]
fn mapping_options_are_checked_too() {
    for (more, pointer) in [
        (r#""profile":"newest""#, "/profile"),
        (r#""tags":"x""#, "/tags"),
        (r#""tenant_names":["x"]"#, "/tenant_names"),
        (r#""error_mode":"strict""#, "/error_mode"),
    ] {
        let found = super::check(&config(more), Use::Source);
        assert_eq!(found.len(), 1, "{more}: {found:?}");
        assert_eq!(
            (&*found[0].pointer, found[0].severity),
            (pointer, Severity::Error)
        );
    }
}

#[test]
fn a_type_named_twice_is_a_warning() {
    let found = super::check(
        &config(r#""content_types":["DLP.All","dlp.all"]"#),
        Use::Source,
    );
    assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
    let loaded = load(
        &config(r#""content_types":["DLP.All","dlp.all"]"#),
        Use::Source,
    );
    assert_eq!(loaded.expect("usable").content_types, ["DLP.All"]);
}

#[test]
fn a_source_needs_its_tenant_and_a_transform_does_not() {
    for text in ["{}", "null"] {
        let found = super::check(text, Use::Source);
        assert_eq!(found[0].pointer, "/tenant");
        assert_eq!(super::check(text, Use::Transform), []);
    }
    let tenant = |directory: &str, resource: &str| {
        let text = format!(
            r#"{{"tenant":{{"id":"x","directory_id":"{directory}","resource_url":"{resource}"}}}}"#
        );
        super::check(&text, Use::Source)
            .iter()
            .map(|f| f.pointer.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(tenant(TENANT, "https://manage.example.com/"), [""; 0]);
    assert_eq!(
        tenant("contoso.example", "https://manage.example.com"),
        ["/tenant/directory_id"]
    );
    assert_eq!(
        tenant(TENANT, "manage.example.com"),
        ["/tenant/resource_url"]
    );
    assert_eq!(
        super::check("[]", Use::Source)[0].what,
        "the config is not an object"
    );
    assert!(
        super::check("{", Use::Source)[0]
            .what
            .starts_with("the config is not JSON")
    );
}

/// Every key of the config is in the schema and the other way round; its defaults are taken.
#[test]
fn the_schema_is_in_step() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let properties = schema["properties"].as_object().expect("an object");
    let written: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    // These two come from the host.
    let hidden = ["attempt", "tenant"];
    let known: BTreeSet<&str> = MEMBERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !hidden.contains(name))
        .chain(map::OPTIONS)
        .collect();
    assert_eq!(written, known);
    for (name, property) in properties {
        assert!(
            property["description"].is_string(),
            "`{name}` needs a description"
        );
        let Some(default) = property.get("default") else {
            continue;
        };
        let single = config(&format!(r#""{name}":{default}"#));
        assert_eq!(
            super::check(&single, Use::Source),
            [],
            "default of `{name}`"
        );
        let (with, without) = (load(&single, Use::Source), load(&config(""), Use::Source));
        assert_eq!(
            format!("{with:?}"),
            format!("{without:?}"),
            "default of `{name}`"
        );
    }
}
