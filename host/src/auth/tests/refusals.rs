//! What is made of each refusal that Entra documents.

use super::*;

/// Section 2.6 of the client contract: status, error, code, what it means for the tenant, what is
/// done about it, a word of the help.
const REFUSALS: &[(u16, &str, u64, Class, Decision, &str)] = {
    use Class::{Misconfigured, Transient, Unauthorised};
    use Decision::{AskAPerson, BackOff, KeepAway, ReadAgain, TakeServersTime};
    &[
        (
            401,
            "invalid_client",
            7_000_215,
            Unauthorised,
            ReadAgain,
            "Certificates & secrets",
        ),
        (
            401,
            "invalid_client",
            7_000_222,
            Unauthorised,
            ReadAgain,
            "Certificates & secrets",
        ),
        (
            401,
            "invalid_client",
            700_027,
            Unauthorised,
            ReadAgain,
            "upload the certificate",
        ),
        (
            401,
            "invalid_client",
            700_024,
            Misconfigured,
            TakeServersTime,
            "clock",
        ),
        (
            401,
            "invalid_client",
            700_021,
            Misconfigured,
            AskAPerson,
            "client_id",
        ),
        (
            401,
            "invalid_client",
            700_023,
            Misconfigured,
            AskAPerson,
            "login_url",
        ),
        (
            401,
            "invalid_client",
            700_030,
            Unauthorised,
            ReadAgain,
            "certificate",
        ),
        (
            401,
            "invalid_client",
            7_000_216,
            Misconfigured,
            AskAPerson,
            "defect",
        ),
        (
            400,
            "unauthorized_client",
            700_016,
            Misconfigured,
            AskAPerson,
            "client_id",
        ),
        (
            400,
            "unauthorized_client",
            7_000_112,
            Unauthorised,
            AskAPerson,
            "Enterprise applications",
        ),
        (
            400,
            "unauthorized_client",
            7_000_229,
            Unauthorised,
            AskAPerson,
            "consent",
        ),
        (
            400,
            "invalid_request",
            90_002,
            Misconfigured,
            AskAPerson,
            "directory_id",
        ),
        (
            400,
            "invalid_request",
            900_023,
            Misconfigured,
            AskAPerson,
            "directory_id",
        ),
        (
            400,
            "invalid_request",
            900_144,
            Misconfigured,
            AskAPerson,
            "defect",
        ),
        (
            400,
            "invalid_request",
            90_014,
            Misconfigured,
            AskAPerson,
            "defect",
        ),
        (
            400,
            "invalid_request",
            900_382,
            Misconfigured,
            AskAPerson,
            "cloud",
        ),
        (
            400,
            "invalid_request",
            900_432,
            Misconfigured,
            AskAPerson,
            "cloud",
        ),
        (
            400,
            "invalid_resource",
            500_011,
            Misconfigured,
            AskAPerson,
            "API permissions",
        ),
        (
            400,
            "invalid_resource",
            50_001,
            Misconfigured,
            AskAPerson,
            "API permissions",
        ),
        (
            400,
            "invalid_resource",
            650_057,
            Misconfigured,
            AskAPerson,
            "API permissions",
        ),
        (
            400,
            "invalid_scope",
            70_011,
            Misconfigured,
            AskAPerson,
            "resource_url",
        ),
        (
            400,
            "access_denied",
            53_003,
            Unauthorised,
            AskAPerson,
            "Conditional Access",
        ),
        (400, "server_error", 90_006, Transient, BackOff, ""),
        (
            503,
            "temporarily_unavailable",
            90_024,
            Transient,
            BackOff,
            "",
        ),
        (
            504,
            "temporarily_unavailable",
            90_033,
            Transient,
            BackOff,
            "",
        ),
        (
            400,
            "temporarily_unavailable",
            90_012,
            Transient,
            BackOff,
            "",
        ),
        (
            400,
            "temporarily_unavailable",
            90_090,
            Transient,
            BackOff,
            "",
        ),
        (429, "invalid_request", 90_055, Transient, BackOff, ""),
        (
            429,
            "invalid_client",
            7_000_215,
            Transient,
            BackOff,
            "Certificates & secrets",
        ),
        (400, "invalid_client", 50_196, Transient, KeepAway, ""),
        (400, "invalid_request", 50_196, Transient, KeepAway, ""),
        (
            400,
            "invalid_client",
            999_999,
            Unauthorised,
            ReadAgain,
            "client_id",
        ),
    ]
};

#[tokio::test]
async fn every_documented_refusal_is_decided_named_and_explained() {
    for &(status, error, code, class, decision, help) in REFUSALS {
        let world = World::new().await;
        (0..4).for_each(|_| world.script.refuse(status, error, code));
        let found = world.error().await;
        assert_eq!((found.class, found.decision), (class, decision), "{code}");
        assert_eq!(found.code, Some(code));
        for part in [
            &format!("AADSTS{code}"),
            "trace-1",
            "corr-1",
            "2026-01-01 12:00:00Z",
        ] {
            assert!(found.what.contains(part), "{code}: {found}");
        }
        assert!(found.help.contains(help), "{code}: {found}");
        // The decision is what is done: patience where it helps, one request where it does not.
        let (asked, stands_s) = match decision {
            Decision::BackOff => (4, 10),
            Decision::KeepAway => (1, 300),
            // Nothing has changed, and a secret says no time.
            Decision::ReadAgain | Decision::AskAPerson | Decision::TakeServersTime => (1, 60),
        };
        assert_eq!(world.script.asked(), asked, "{code}");
        world.pass(stands_s - 1);
        world.error().await;
        assert_eq!(
            world.script.asked(),
            asked,
            "{code}: asked before {stands_s} s"
        );
        world.pass(2);
        world.script.answers.lock().unwrap().clear();
        world.script.issue("tok-1", 3600);
        assert_eq!(world.value().await, "tok-1", "{code}");
    }
}
