//! Microsoft's clouds and Entra's error codes: where to sign in, and what a refusal means.
//!
//! Two tables. A code chooses what the operator reads and what happens to the tenant; the text of
//! an answer never does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Class, Decision};
use crate::config::auth::TokenEndpoint;

/// One of Microsoft's clouds. A token of one is useless in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "cloud", inline)]
pub enum Cloud {
    /// The public cloud: `login.microsoftonline.com`, `manage.office.com`.
    #[default]
    Commercial,
    /// US government, moderate: `login.microsoftonline.com`, `manage-gcc.office.com`.
    Gcc,
    /// US government, high: `login.microsoftonline.us`, `manage.office365.us`.
    GccHigh,
    /// US Department of Defense: `login.microsoftonline.us`, `manage.protection.apps.mil`.
    Dod,
    /// China, run by 21Vianet: `login.partner.microsoftonline.cn`, `manage.office365.cn`.
    China,
    /// Whatever `login_url` and `resource_url` say: a private cloud, a gateway, a test server.
    Custom,
}

impl Cloud {
    /// Where its tenants sign in; `None` for the custom one.
    pub fn login_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Gcc => Some("https://login.microsoftonline.com"),
            Self::GccHigh | Self::Dod => Some("https://login.microsoftonline.us"),
            Self::China => Some("https://login.partner.microsoftonline.cn"),
            Self::Custom => None,
        }
    }

    /// Its Management Activity API, which is also what tokens are for; `None` for the custom one.
    pub fn resource_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial => Some("https://manage.office.com"),
            Self::Gcc => Some("https://manage-gcc.office.com"),
            Self::GccHigh => Some("https://manage.office365.us"),
            Self::Dod => Some("https://manage.protection.apps.mil"),
            Self::China => Some("https://manage.office365.cn"),
            Self::Custom => None,
        }
    }
}

/// The token endpoint of a directory.
pub(crate) fn token_url(login_url: &Url, directory_id: &str, endpoint: TokenEndpoint) -> Url {
    let mut url = login_url.clone();
    let base = login_url.path().trim_end_matches('/');
    let version = match endpoint {
        TokenEndpoint::V2 => "v2.0/",
        TokenEndpoint::V1 => "",
    };
    url.set_path(&format!("{base}/{directory_id}/oauth2/{version}token"));
    url
}

/// What to ask for: everything that was granted for the resource. Exactly one slash before
/// `.default`.
pub(super) fn scope(resource_url: &Url) -> String {
    format!("{}/.default", resource_url.as_str().trim_end_matches('/'))
}

/// What an AADSTS code means.
#[derive(Debug)]
pub(super) struct Row {
    code: u64,
    /// What it means for the tenant.
    pub(super) class: Class,
    /// What is done about it.
    pub(super) decision: Decision,
    /// What is wrong.
    pub(super) what: &'static str,
    /// What to do, and where in the portal.
    pub(super) help: &'static str,
}

/// Finds a code's row.
pub(super) fn row(code: u64) -> Option<&'static Row> {
    CODES
        .binary_search_by_key(&code, |row| row.code)
        .ok()
        .map(|index| &CODES[index])
}

/// A wait that a code asks for whatever the server says.
pub(super) fn least_wait(code: u64) -> Option<Duration> {
    // 50196: the same token was asked for too often; less than five minutes makes it worse.
    (code == 50_196).then_some(Duration::from_mins(5))
}

const fn at(code: u64, class: Class, what: &'static str, help: &'static str) -> Row {
    let decision = match (code, class) {
        (50_196, _) => Decision::KeepAway,
        (700_024, _) => Decision::TakeServersTime,
        (700_027 | 700_030 | 7_000_215 | 7_000_222, _) => Decision::ReadAgain,
        (_, Class::Transient) => Decision::BackOff,
        _ => Decision::AskAPerson,
    };
    Row {
        code,
        class,
        decision,
        what,
        help,
    }
}

const SECRETS: &str = "in the Entra admin center under App registrations, the application, \
    Certificates & secrets, make a new client secret and put its value (not its id) where \
    `client_secret` points";
const CERTIFICATES: &str = "in the Entra admin center under App registrations, the application, \
    Certificates & secrets, Certificates, upload the certificate that `certificate.file` names, or \
    name the one that stands there (compare thumbprints)";
const DIRECTORY: &str =
    "check `directory_id` (Entra admin center, Overview, Tenant ID) and `cloud`";
const APPLICATION: &str = "check `client_id` (Entra admin center, App registrations, \
    Application (client) ID), `directory_id` and `cloud`";
const CONSENT: &str = "in the customer's Entra admin center under Enterprise applications, the \
    application, Permissions, grant admin consent";
const RESOURCE: &str = "check `cloud`; in the Entra admin center under App registrations, the \
    application, API permissions, add Office 365 Management APIs, ActivityFeed.Read, and grant \
    admin consent";
const CLOCK: &str = "set this machine's clock right (NTP)";
const POLICY: &str = "in the Entra admin center under Protection, Conditional Access, let the \
    application sign in from this address";
const ENABLE: &str = "in the Entra admin center under Enterprise applications, the application, \
    Properties, enable it";
const AUDIENCE: &str = "check `cloud` or `login_url`, and where the token comes from if it is \
    `federated_token_file`";
const ISSUER: &str =
    "check `client_id`, and where the token comes from if it is `federated_token_file`";
const WAIT: &str = "";
const OURS: &str = "please report this as a defect of sluicegate";

/// Codes of Entra's token endpoint, in ascending order.
const CODES: &[Row] = {
    use Class::{Misconfigured, Transient, Unauthorised};
    &[
        at(
            50_001,
            Misconfigured,
            "the directory does not know the resource",
            RESOURCE,
        ),
        at(
            50_196,
            Transient,
            "the same token was asked for too often",
            WAIT,
        ),
        at(
            53_003,
            Unauthorised,
            "a Conditional Access policy blocks the sign-in",
            POLICY,
        ),
        at(
            70_011,
            Misconfigured,
            "the scope is malformed",
            "check `resource_url`",
        ),
        at(
            90_002,
            Misconfigured,
            "the directory does not exist in this cloud",
            DIRECTORY,
        ),
        at(
            90_006,
            Transient,
            "the login service has trouble of its own",
            WAIT,
        ),
        at(90_012, Transient, "the login service was too slow", WAIT),
        at(
            90_014,
            Misconfigured,
            "a field of the request is missing",
            OURS,
        ),
        at(
            90_024,
            Transient,
            "the login service has trouble of its own",
            WAIT,
        ),
        at(
            90_033,
            Transient,
            "the login service is not available",
            WAIT,
        ),
        at(90_055, Transient, "too many requests", WAIT),
        at(
            90_090,
            Transient,
            "the login service has trouble of its own",
            WAIT,
        ),
        at(
            500_011,
            Misconfigured,
            "the directory does not know the resource",
            RESOURCE,
        ),
        at(
            650_057,
            Misconfigured,
            "the resource is not among the application's permissions",
            RESOURCE,
        ),
        at(
            700_016,
            Misconfigured,
            "the directory does not know the application",
            APPLICATION,
        ),
        at(
            700_021,
            Misconfigured,
            "the assertion names another application",
            ISSUER,
        ),
        at(
            700_023,
            Misconfigured,
            "the assertion is meant for another login host",
            AUDIENCE,
        ),
        at(
            700_024,
            Misconfigured,
            "the assertion is not valid at this time",
            CLOCK,
        ),
        at(
            700_027,
            Unauthorised,
            "the certificate's signature is not accepted",
            CERTIFICATES,
        ),
        at(
            700_030,
            Unauthorised,
            "the certificate's subject is not authorised",
            CERTIFICATES,
        ),
        at(
            900_023,
            Misconfigured,
            "the directory's id is not one",
            DIRECTORY,
        ),
        at(
            900_144,
            Misconfigured,
            "a field of the request is missing",
            OURS,
        ),
        at(
            900_382,
            Misconfigured,
            "the application belongs to another cloud",
            "check `cloud`",
        ),
        at(
            900_432,
            Misconfigured,
            "the application belongs to another cloud",
            "check `cloud`",
        ),
        at(
            7_000_112,
            Unauthorised,
            "the application is disabled",
            ENABLE,
        ),
        at(
            7_000_215,
            Unauthorised,
            "the client secret is wrong",
            SECRETS,
        ),
        at(
            7_000_216,
            Misconfigured,
            "neither a secret nor an assertion was sent",
            OURS,
        ),
        at(
            7_000_222,
            Unauthorised,
            "the client secret has expired",
            SECRETS,
        ),
        at(
            7_000_229,
            Unauthorised,
            "the application has no consent in this directory",
            CONSENT,
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_say_what_to_do() {
        for pair in CODES.windows(2) {
            assert!(pair[0].code < pair[1].code, "{}", pair[1].code);
        }
        for row in CODES {
            let transient = row.class == Class::Transient;
            assert_eq!(row.help.is_empty(), transient, "{}", row.code);
            assert!(
                !row.what.ends_with('.') && !row.help.ends_with('.'),
                "{}",
                row.code
            );
        }
    }

    /// Every row of section 2.6 of the client contract.
    #[test]
    fn every_documented_code_has_its_class() {
        use Class::{Misconfigured, Transient, Unauthorised};
        let table: &[(Class, &[u64])] = &[
            (
                Unauthorised,
                &[
                    7_000_215, 7_000_222, 700_027, 700_030, 7_000_112, 7_000_229, 53_003,
                ],
            ),
            (
                Misconfigured,
                &[
                    700_024, 700_021, 700_023, 7_000_216, 700_016, 90_002, 900_023,
                ],
            ),
            (
                Misconfigured,
                &[
                    900_144, 90_014, 900_382, 900_432, 500_011, 50_001, 650_057, 70_011,
                ],
            ),
            (
                Transient,
                &[90_006, 90_024, 90_033, 90_012, 90_090, 90_055, 50_196],
            ),
        ];
        let mut count = 0;
        for (class, codes) in table {
            for code in *codes {
                assert_eq!(row(*code).map(|row| row.class), Some(*class), "{code}");
                count += 1;
            }
        }
        assert_eq!(count, CODES.len());
    }

    #[test]
    fn addresses_follow_from_the_cloud() {
        let url = |text| Url::parse(text).unwrap();
        for (login, endpoint, wanted) in [
            (
                "https://login.microsoftonline.us",
                TokenEndpoint::V2,
                "https://login.microsoftonline.us/t/oauth2/v2.0/token",
            ),
            (
                "http://127.0.0.1:8080/login/",
                TokenEndpoint::V2,
                "http://127.0.0.1:8080/login/t/oauth2/v2.0/token",
            ),
            (
                "https://login.partner.microsoftonline.cn",
                TokenEndpoint::V1,
                "https://login.partner.microsoftonline.cn/t/oauth2/token",
            ),
        ] {
            assert_eq!(token_url(&url(login), "t", endpoint).as_str(), wanted);
        }
        for (cloud, wanted) in [
            (Cloud::Commercial, "https://manage.office.com/.default"),
            (Cloud::Gcc, "https://manage-gcc.office.com/.default"),
            (Cloud::GccHigh, "https://manage.office365.us/.default"),
            (Cloud::Dod, "https://manage.protection.apps.mil/.default"),
            (Cloud::China, "https://manage.office365.cn/.default"),
        ] {
            assert_eq!(scope(&url(cloud.resource_url().unwrap())), wanted);
            assert!(
                url(cloud.login_url().unwrap())
                    .host_str()
                    .unwrap()
                    .starts_with("login.")
            );
        }
    }
}
