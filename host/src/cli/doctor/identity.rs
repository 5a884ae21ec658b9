//! Who we are: the credential, the token it gets, and what the token allows.
//!
//! The token's own words are read (`tid`, `aud`, `roles`) and never shown; only what follows from
//! them is.

use std::sync::Arc;

use serde_json::Value;

use super::Patient;
use super::network::Reached;
use super::report::{Cause, Step};
use crate::auth::microsoft::Cloud;
use crate::auth::{self, AuthError, Class, Credentials, Seen, Token};
use crate::config::auth::Microsoft;
use crate::config::{Auth, Credential};
use crate::engine::rfc3339;

/// The permissions of the feed.
const READ: &str = "ActivityFeed.Read";
const READ_DLP: &str = "ActivityFeed.ReadDlp";
/// The application behind the feed, by its id: what `aud` may hold in place of the address.
const RESOURCE_ID: &str = "c5393580-f805-4401-95e8-94b7a6ef2fc2";

const CONSENT: &str = "in the Entra admin center under App registrations, the application, API \
    permissions: add Office 365 Management APIs, Application permissions, ";
const GRANT: &str = ", then `Grant admin consent`; a new token has it within minutes";
const RENEW: &str = "make a new one in the Entra admin center under App registrations, the \
    application, Certificates & secrets, and put its file in place of the old one";

impl Patient<'_> {
    fn microsoft(&self) -> Option<&Microsoft> {
        match &self.tenant.auth {
            Auth::Microsoft(microsoft) => Some(microsoft),
            Auth::OAuth2(_) | Auth::None => None,
        }
    }

    /// Whether what proves who we are is there and in date.
    pub(super) fn credential(&self) -> (Step, bool) {
        let step = Step::new("credential", "");
        let credential = match &self.tenant.auth {
            Auth::Microsoft(auth) => &auth.credential,
            Auth::OAuth2(auth) => &auth.credential,
            Auth::None => return (step.skip("the tenant has no `auth`"), false),
        };
        let (seen, warnings) = match auth::look(credential) {
            Ok(found) => found,
            Err(error) => {
                let found = format!("{} ({})", error.what, error.places.join(", "));
                return (
                    step.fail(Cause::CredentialUnreadable, found, error.help),
                    false,
                );
            }
        };
        let step = self.judge(step, credential, &seen);
        // Who can read it matters only when nothing worse is to be said.
        match warnings.into_iter().next() {
            Some(warning) if step.cause.is_none() => {
                let what = format!("{}; {}", step.found, warning.what);
                (
                    step.warn(Cause::CredentialReadable, what, warning.help),
                    true,
                )
            }
            _ => (step, true),
        }
    }

    fn judge(&self, step: Step, credential: &Credential, seen: &Seen) -> Step {
        let now_ms = self.clock.now_ms();
        match (seen, credential) {
            (Seen::ClientSecret(origin), _) => step.ok(format!("client secret in {origin}")),
            (
                Seen::Certificate {
                    validity,
                    thumbprints: (sha1, _),
                    algorithm,
                },
                Credential::Certificate(certificate),
            ) => {
                let path = certificate.file.display();
                let days = validity.days_left(now_ms);
                let about = format!("certificate `{path}`, thumbprint {sha1}, {algorithm:?}");
                match (validity.sentence(now_ms), validity.stage(now_ms)) {
                    (None, _) => step.ok(format!("{about}, {days} day(s) left")),
                    (Some(sentence), auth::Stage::Soon(_)) => step.warn(
                        Cause::CertificateExpires,
                        format!("{sentence}: {about}"),
                        RENEW.into(),
                    ),
                    (Some(sentence), auth::Stage::Fine) => step.warn(
                        Cause::CertificateNotYetValid,
                        format!("{sentence}: {about}"),
                        "check this machine's clock, or wait".into(),
                    ),
                    (Some(sentence), auth::Stage::Over) => step.fail(
                        Cause::CertificateExpired,
                        format!("{sentence}: {about}"),
                        RENEW.into(),
                    ),
                }
            }
            (Seen::Federated(Some(claims)), _) => {
                let end_ms = claims["exp"]
                    .as_i64()
                    .map(|seconds| seconds.saturating_mul(1000));
                let issuer = claims["iss"].as_str().unwrap_or("an unnamed issuer");
                match end_ms {
                    Some(end_ms) if end_ms < now_ms => {
                        let found = format!(
                            "the token in `federated_token_file` expired at {}",
                            rfc3339(end_ms)
                        );
                        let fix = "see to it that the platform that writes the file renews it";
                        step.fail(Cause::CredentialUnreadable, found, fix.into())
                    }
                    _ => step.ok(format!("federated token of `{}`", plain(issuer))),
                }
            }
            _ => step.warn(
                Cause::CredentialUnreadable,
                "what is in `federated_token_file` does not look like a token (JWT)".into(),
                "name the file into which the platform writes its token".into(),
            ),
        }
    }

    /// Whether the directory is known to this login host, and in which cloud it really is: the
    /// login host says so to anybody who asks.
    pub(super) fn directory(&self, login: &Reached) -> Option<Step> {
        let microsoft = self.microsoft()?;
        let step = Step::new("directory", "");
        let Reached::Answered { status, body, .. } = login else {
            return Some(step.skip("the login host cannot be reached"));
        };
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        let id = &microsoft.directory_id;
        if status.is_success() {
            return Some(match (cloud_of(&said), microsoft.cloud) {
                (None, _) => step.skip("the login host says nothing of it"),
                (Some(_), Cloud::Custom) => step.ok(format!("the login host knows {id}")),
                (Some(found), wanted) if found == wanted => {
                    step.ok(format!("the login host knows {id}"))
                }
                (Some(found), wanted) => {
                    let (found, wanted) = (word(found), word(wanted));
                    let what =
                        format!("the directory is in cloud `{found}`, the config says `{wanted}`");
                    step.fail(Cause::WrongCloud, what, format!("write `cloud: {found}`"))
                }
            });
        }
        if said["error_codes"][0] == 90_002 {
            let what = format!("the login host knows no directory {id}");
            return Some(step.fail(Cause::WrongTenant, what, WRONG_TENANT.into()));
        }
        Some(step.skip("the login host says nothing of it"))
    }

    /// Asks for a token, as a run does.
    pub(super) async fn sign_in(
        &self,
        usable: bool,
        login: &Reached,
        steps: &mut Vec<Step>,
    ) -> Option<(Arc<dyn Credentials>, Token)> {
        let step = Step::new("token", "");
        if !usable {
            steps.push(step.skip("there is no usable credential"));
            return None;
        }
        if !login.is_reached() {
            steps.push(step.skip("the login host cannot be reached"));
            return None;
        }
        let made = auth::credentials(&self.tenant.auth, &self.client, &self.clock, &self.redactor);
        let credentials = match made {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return None,
            Err(error) => {
                steps.push(step.fail(Cause::CredentialUnreadable, error.what, error.help));
                return None;
            }
        };
        match credentials.bearer().await {
            Ok(token) => {
                steps.push(step.ok("the login host issued one".into()));
                Some((credentials, token))
            }
            Err(error) => {
                let (cause, fix) = cause_of(&error);
                steps.push(step.fail(cause, error.what, fix));
                None
            }
        }
    }

    /// What the token allows.
    pub(super) fn roles(&self, token: Option<&Token>) -> Step {
        let step = Step::new("roles", "");
        let Some(token) = token else {
            return step.skip("there is no token");
        };
        let Some(microsoft) = self.microsoft().filter(|_| self.knows_feed) else {
            return step.skip("only the plugin knows which it needs");
        };
        let Some(claims) = auth::claims(token.secret()) else {
            return step.skip("the token does not say");
        };
        judge_roles(step, microsoft, &self.content_types(), &claims)
    }

    /// The content types that are asked for.
    pub(super) fn content_types(&self) -> Vec<String> {
        let written = self.tenant.config["content_types"].as_array();
        match written {
            Some(list) => list
                .iter()
                .filter_map(|kind| kind.as_str().map(str::to_owned))
                .collect(),
            None => DEFAULT_TYPES.map(str::to_owned).to_vec(),
        }
    }
}

/// What the plugin fetches when nothing else is written.
const DEFAULT_TYPES: [&str; 4] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
];

fn judge_roles(step: Step, microsoft: &Microsoft, kinds: &[String], claims: &Value) -> Step {
    let is = |member: &str, wanted: &str| {
        claims[member].as_str().is_none_or(|found| {
            found
                .trim_end_matches('/')
                .eq_ignore_ascii_case(wanted.trim_end_matches('/'))
        })
    };
    if !is("tid", &microsoft.directory_id) {
        let found = format!(
            "the token is for directory {}, not for {}",
            plain(claims["tid"].as_str().unwrap_or_default()),
            microsoft.directory_id
        );
        return step.fail(Cause::WrongTenant, found, WRONG_TENANT.into());
    }
    if !is("aud", microsoft.resource_url.as_str()) && !is("aud", RESOURCE_ID) {
        let found = format!(
            "the token is for `{}`, not for `{}`",
            plain(claims["aud"].as_str().unwrap_or_default()),
            microsoft.resource_url
        );
        return step.fail(
            Cause::WrongCloud,
            found,
            "check `cloud` or `resource_url`".into(),
        );
    }
    let roles: Vec<&str> = claims["roles"]
        .as_array()
        .map(|roles| roles.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let dlp = |kind: &String| kind.eq_ignore_ascii_case("DLP.All");
    let needed = [
        (READ, kinds.iter().any(|kind| !dlp(kind))),
        (READ_DLP, kinds.iter().any(dlp)),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(role, needed)| *needed && !roles.contains(role))
        .map(|(role, _)| *role)
        .collect();
    let fix = format!("{CONSENT}{}{GRANT}", missing.join(" and "));
    if missing.is_empty() {
        step.ok(plain(&roles.join(", ")))
    } else if roles.is_empty() {
        let found = "the token holds no role at all: the permission was not added, or no \
            administrator consented to it";
        step.fail(Cause::MissingConsent, found.into(), fix)
    } else {
        let found = format!(
            "the token holds {}, but not {}",
            plain(&roles.join(", ")),
            missing.join(", ")
        );
        step.fail(Cause::MissingRole, found, fix)
    }
}

const WRONG_TENANT: &str = "check `directory_id` (Entra admin center, Overview, Tenant ID) and \
    `cloud`: a directory is known only in its own";

/// What a refusal is called, and what to do about it.
fn cause_of(error: &AuthError) -> (Cause, String) {
    let help = error.help.clone();
    let cause = match (error.code, error.class) {
        (Some(7_000_215), _) => Cause::WrongSecret,
        (Some(7_000_222), _) => Cause::ExpiredSecret,
        (Some(700_027 | 700_030), _) => Cause::CertificateRefused,
        (Some(700_024), _) => Cause::ClockOff,
        (Some(90_002 | 900_023), _) => Cause::WrongTenant,
        (Some(900_382 | 900_432 | 500_011 | 50_001 | 700_023), _) => Cause::WrongCloud,
        (Some(700_016 | 7_000_112 | 700_021), _) => Cause::WrongApplication,
        (Some(7_000_229 | 650_057), _) => Cause::MissingConsent,
        (Some(53_003), _) => Cause::BlockedByPolicy,
        (Some(50_196 | 90_055), _) => Cause::Throttled,
        (_, Class::Transient) => Cause::ServiceTrouble,
        (_, Class::Unauthorised | Class::Misconfigured) => Cause::Refused,
    };
    let help = match (cause, help.is_empty()) {
        (Cause::Throttled, true) => "wait some minutes; a run waits by itself".to_owned(),
        (_, true) => "try again; a run does so by itself".to_owned(),
        (_, false) => help,
    };
    (cause, help)
}

/// The cloud that a directory's public document names.
fn cloud_of(said: &Value) -> Option<Cloud> {
    let of = |member: &str| said[member].as_str().unwrap_or_default();
    if of("token_endpoint").is_empty() {
        return None;
    }
    Some(
        match (of("tenant_region_scope"), of("tenant_region_sub_scope")) {
            (_, "GCC") => Cloud::Gcc,
            (_, "DODCON") => Cloud::GccHigh,
            (_, "DOD") => Cloud::Dod,
            ("USGov" | "USG", _) => Cloud::GccHigh,
            ("CN", _) => Cloud::China,
            _ if of("cloud_instance_name").ends_with("microsoftonline.cn") => Cloud::China,
            _ => Cloud::Commercial,
        },
    )
}

/// A cloud as it is written in the config.
fn word(cloud: Cloud) -> String {
    let value = serde_json::to_value(cloud).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A server's words on one line of ours.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Status;
    use super::*;
    use crate::config::Place;
    use crate::config::auth::TokenEndpoint;
    use crate::secret::{SecretOrigin, SecretRef};

    const DIRECTORY: &str = "11111111-2222-3333-4444-555555555555";

    fn microsoft() -> Microsoft {
        Microsoft {
            cloud: Cloud::Commercial,
            directory_id: DIRECTORY.into(),
            client_id: "66666666-7777-8888-9999-000000000000".into(),
            credential: Credential::ClientSecret(SecretRef {
                origin: SecretOrigin::Env("X".into()),
                place: Place::default(),
            }),
            token_endpoint: TokenEndpoint::V2,
            login_url: "https://login.microsoftonline.com".parse().unwrap(),
            resource_url: "https://manage.office.com".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_is_judged_by_whose_it_is_and_what_it_allows() {
        let url = "https://manage.office.com";
        let all = &["Audit.Exchange", "DLP.All"][..];
        for (kinds, tid, aud, roles, expected) in [
            (all, DIRECTORY, url, &[READ, READ_DLP][..], None),
            (all, DIRECTORY, RESOURCE_ID, &[READ, READ_DLP], None),
            (&all[..1], DIRECTORY, url, &[READ], None),
            (&all[1..], DIRECTORY, url, &[READ_DLP], None),
            (all, DIRECTORY, url, &[READ], Some(Cause::MissingRole)),
            (
                all,
                DIRECTORY,
                url,
                &["ServiceHealth.Read"],
                Some(Cause::MissingRole),
            ),
            (all, DIRECTORY, url, &[], Some(Cause::MissingConsent)),
            (all, "another", url, &[READ], Some(Cause::WrongTenant)),
            (
                all,
                DIRECTORY,
                "https://manage.office365.us",
                &[READ],
                Some(Cause::WrongCloud),
            ),
        ] {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            let claims = json!({ "tid": tid, "aud": aud, "roles": roles });
            let step = judge_roles(Step::new("roles", ""), &microsoft(), &kinds, &claims);
            assert_eq!(step.cause, expected, "{claims}: {}", step.found);
            assert_eq!(step.status == Status::Ok, expected.is_none());
        }
    }

    #[test]
    fn a_directory_says_in_which_cloud_it_is() {
        let document = |scope: &str, sub: &str, instance: &str| {
            json!({ "token_endpoint": "https://x", "tenant_region_scope": scope,
                "tenant_region_sub_scope": sub, "cloud_instance_name": instance })
        };
        for (said, cloud) in [
            (
                document("EU", "", "microsoftonline.com"),
                Some(Cloud::Commercial),
            ),
            (
                document("NA", "GCC", "microsoftonline.com"),
                Some(Cloud::Gcc),
            ),
            (
                document("USGov", "DODCON", "microsoftonline.us"),
                Some(Cloud::GccHigh),
            ),
            (
                document("USGov", "DOD", "microsoftonline.us"),
                Some(Cloud::Dod),
            ),
            (
                document("", "", "partner.microsoftonline.cn"),
                Some(Cloud::China),
            ),
            (json!({ "error": "x" }), None),
            (json!(null), None),
        ] {
            assert_eq!(cloud_of(&said), cloud, "{said}");
        }
    }

    #[test]
    fn every_refusal_has_a_name_of_its_own() {
        for (code, cause) in [
            (7_000_215, Cause::WrongSecret),
            (7_000_222, Cause::ExpiredSecret),
            (700_027, Cause::CertificateRefused),
            (700_024, Cause::ClockOff),
            (90_002, Cause::WrongTenant),
            (900_382, Cause::WrongCloud),
            (700_016, Cause::WrongApplication),
            (7_000_229, Cause::MissingConsent),
            (53_003, Cause::BlockedByPolicy),
            (1, Cause::Refused),
        ] {
            let error = AuthError {
                code: Some(code),
                ..AuthError::new(Class::Unauthorised, "w", "h")
            };
            assert_eq!(cause_of(&error).0, cause, "{code}");
        }
        let error = AuthError::new(Class::Transient, "w", "");
        let (cause, help) = cause_of(&error);
        assert_eq!(cause, Cause::ServiceTrouble);
        assert!(!help.is_empty());
    }
}
