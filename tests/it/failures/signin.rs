//! Signing in: section 2.6 of the contract, code by code.

use sluicegate_office::{Operation, Script};

use super::{Arrives, Row, Run, TenantWaits, row};
use crate::identity::{fixture, register_for, verify};

/// A refusal in the shape of the login host.
fn refuses(status: u16, name: &str, code: u64) -> Script {
    let body = format!(
        r#"{{"error":"{name}","error_description":"AADSTS{code}: said by the test. Trace ID: t",
            "error_codes":[{code}],"timestamp":"2026-01-01 00:00:00Z",
            "trace_id":"0d6f2a31-5b1e-4f0e-9c55-1f2e3d4c5b6a","correlation_id":"c-1"}}"#
    );
    Script::says(Operation::Token, status, body)
}

fn unauthorised() -> Vec<Row> {
    let wait = "the credential is not accepted: named, with what to do; asked once";
    let of = |input: &'static str, words: &'static [&'static str], script: Script| {
        let comes = TenantWaits("unauthorised", words);
        row(input, wait, comes)
            .on(script)
            .asked(1..=1)
            .starts(0..=0)
    };
    let client = "invalid_client";
    let app = "unauthorized_client";
    vec![
        of(
            "7000215",
            &[
                "AADSTS7000215",
                "secret is wrong",
                "its value (not its id)",
                "trace id 0d6f2a31",
            ],
            refuses(401, client, 7_000_215),
        ),
        of(
            "7000222",
            &["AADSTS7000222", "has expired"],
            refuses(401, client, 7_000_222),
        ),
        of(
            "700030",
            &["AADSTS700030", "subject"],
            refuses(401, client, 700_030),
        ),
        of(
            "7000112",
            &["AADSTS7000112", "disabled", "enable it"],
            refuses(400, app, 7_000_112),
        ),
        of(
            "7000229",
            &["AADSTS7000229", "consent"],
            refuses(400, app, 7_000_229),
        ),
        of(
            "53003",
            &["AADSTS53003", "Conditional Access"],
            refuses(400, "access_denied", 53_003),
        ),
        of(
            "an unknown code",
            &["AADSTS7999999", "said by the test", "`client_id`"],
            refuses(401, client, 7_999_999),
        ),
        of(
            "the word alone",
            &["`invalid_client`"],
            Script::says(Operation::Token, 400, r#"{"error":"invalid_client"}"#),
        ),
    ]
}

/// A status, the standard's word, the vendor's code, and words of what people are told.
type Refusal = (u16, &'static str, u64, &'static [&'static str]);

const MISCONFIGURED: &[Refusal] = &[
    (401, "invalid_client", 700_024, &["AADSTS700024", "clock"]),
    (
        401,
        "invalid_client",
        700_021,
        &["AADSTS700021", "`client_id`"],
    ),
    (401, "invalid_client", 700_023, &["AADSTS700023", "`cloud`"]),
    (
        401,
        "invalid_client",
        7_000_216,
        &["AADSTS7000216", "a defect"],
    ),
    (
        400,
        "unauthorized_client",
        700_016,
        &["AADSTS700016", "`client_id`", "`directory_id`"],
    ),
    (
        400,
        "invalid_request",
        90_002,
        &["AADSTS90002", "`directory_id`", "`cloud`"],
    ),
    (
        400,
        "invalid_request",
        900_023,
        &["AADSTS900023", "`directory_id`"],
    ),
    (
        400,
        "invalid_request",
        900_144,
        &["AADSTS900144", "a defect"],
    ),
    (400, "invalid_request", 90_014, &["AADSTS90014", "a defect"]),
    (
        400,
        "invalid_request",
        900_382,
        &["AADSTS900382", "`cloud`"],
    ),
    (
        400,
        "invalid_request",
        900_432,
        &["AADSTS900432", "`cloud`"],
    ),
    (
        400,
        "invalid_resource",
        500_011,
        &["AADSTS500011", "`cloud`", "ActivityFeed.Read"],
    ),
    (400, "invalid_resource", 50_001, &["AADSTS50001", "`cloud`"]),
    (
        400,
        "invalid_resource",
        650_057,
        &["AADSTS650057", "API permissions"],
    ),
    (
        400,
        "invalid_scope",
        70_011,
        &["AADSTS70011", "`resource_url`"],
    ),
];

fn misconfigured() -> Vec<Row> {
    let wait = "a person must act: named, with what to do; asked once";
    let of = |(status, name, code, words): &Refusal| {
        let comes = TenantWaits("misconfigured", words);
        let refusal = refuses(*status, name, *code);
        row(words[0], wait, comes)
            .on(refusal)
            .asked(1..=1)
            .starts(0..=0)
    };
    MISCONFIGURED.iter().map(of).collect()
}

fn transient() -> Vec<Row> {
    let again = "asked again within the same sign-in, with growing pauses";
    let of = |input: &'static str, script: Script| {
        row(input, again, Arrives).on(script.times(2)).asked(3..=3)
    };
    let (busy, broken) = ("temporarily_unavailable", "server_error");
    vec![
        of("90006", refuses(400, broken, 90_006)),
        of("90024", refuses(503, busy, 90_024)),
        of("90033", refuses(503, busy, 90_033)),
        of("90012", refuses(504, busy, 90_012)),
        of("90090", refuses(400, broken, 90_090)),
        of(
            "90055",
            refuses(429, busy, 90_055).header("Retry-After", "1"),
        ),
        of(
            "503 as HTML",
            Script::says(Operation::Token, 503, "<html>busy</html>"),
        ),
        row(
            "429 for ten minutes",
            "the tenant waits as long as it is told",
            TenantWaits("failing", &["AADSTS90055"]),
        )
        .on(refuses(429, busy, 90_055).header("Retry-After", "600"))
        .asked(1..=1),
        row(
            "50196",
            "asking is what is complained about: five minutes of silence",
            TenantWaits("failing", &["AADSTS50196", "too often"]),
        )
        .on(refuses(400, "invalid_client", 50_196))
        .asked(1..=1),
        row(
            "200 without a token",
            "no token: the tenant waits and asks again",
            TenantWaits("failing", &["without a usable token", "gateway"]),
        )
        .on(Script::says(
            Operation::Token,
            200,
            r#"{"token_type":"Bearer"}"#,
        ))
        .asked(1..=2),
        row(
            "the login host is not there",
            "trouble of the network, by the host's name",
            TenantWaits(
                "failing",
                &["login host `127.0.0.1:1`", "cannot be reached"],
            ),
        )
        .rewrite(
            "login_url: http://127.0.0.1:",
            "login_url: http://127.0.0.1:1 # ",
        )
        .starts(0..=0),
    ]
}

#[test]
fn every_refusal_to_sign_in_has_its_decision() {
    let certificate = |input, decision, comes| {
        let (file, key) = (fixture("client.pem"), fixture("client.key"));
        let to = format!(
            "certificate: {{ file: '{}', key: {{ file: '{}' }} }} # ",
            file.display(),
            key.display()
        );
        row(input, decision, comes).rewrite("client_secret: ", &to)
    };
    let certificates = vec![
        certificate(
            "700024 to a certificate",
            "asked once more with the server's time in the assertion",
            Arrives,
        )
        .on(refuses(401, "invalid_client", 700_024).times(1))
        .asked(2..=2),
        certificate(
            "700027",
            "the certificate is not accepted: named, with its thumbprints",
            TenantWaits(
                "unauthorised",
                &[
                    "AADSTS700027",
                    "A6865730C1BE96C63A98719F8DEC5A56BCB4DCF9",
                    "upload",
                ],
            ),
        )
        .on(refuses(401, "invalid_client", 700_027))
        .asked(1..=1)
        .starts(0..=0),
    ];
    let first = certificates.len();
    let rows = [certificates, unauthorised(), misconfigured(), transient()];
    let run = Run::new(421, rows.into_iter().flatten().collect());
    for index in 0..first {
        register_for(
            &run.office,
            index,
            &crate::identity::pem(&fixture("client.pem")),
        );
    }
    verify(&run.office);
    run.check();
}
