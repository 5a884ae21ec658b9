//! What the examination found: one verdict a step, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Kind};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// It works, or may work; somebody should look at it.
    Warn,
    Fail,
    /// What it stands on is missing.
    Skipped,
}

/// What is wrong, in one word that does not change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    Config,
    CredentialUnreadable,
    CredentialReadable,
    CertificateExpires,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateRefused,
    WrongSecret,
    ExpiredSecret,
    WrongTenant,
    WrongCloud,
    WrongApplication,
    MissingConsent,
    MissingRole,
    BlockedByPolicy,
    AuditingOff,
    NoSubscription,
    ClockOff,
    DnsFailed,
    ConnectionRefused,
    ConnectionTimedOut,
    ProxyFailed,
    TlsFailed,
    NetworkBroken,
    Throttled,
    ServiceTrouble,
    Refused,
}

impl Cause {
    /// Whether nothing can be changed about it in configuration, machine or portal.
    fn is_out_of_our_hands(self) -> bool {
        matches!(
            self,
            Self::DnsFailed
                | Self::ConnectionRefused
                | Self::ConnectionTimedOut
                | Self::ProxyFailed
                | Self::TlsFailed
                | Self::NetworkBroken
                | Self::Throttled
                | Self::ServiceTrouble
        )
    }
}

/// One step and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// Which step.
    #[serde(rename = "step")]
    pub(super) name: &'static str,
    /// What it is about: a host, a content type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) about: String,
    pub(super) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Cause>,
    /// What was found.
    pub(super) found: String,
    /// What to do, and where.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

impl Step {
    /// A step that has yet to be taken.
    pub(super) fn new(name: &'static str, about: impl Into<String>) -> Self {
        Self {
            name,
            about: about.into(),
            status: Status::Skipped,
            cause: None,
            found: String::new(),
            fix: String::new(),
        }
    }

    pub(super) fn ok(self, found: String) -> Self {
        Self {
            status: Status::Ok,
            found,
            ..self
        }
    }

    pub(super) fn warn(self, cause: Cause, found: String, fix: String) -> Self {
        Self {
            status: Status::Warn,
            cause: Some(cause),
            found,
            fix,
            ..self
        }
    }

    pub(super) fn fail(self, cause: Cause, found: String, fix: String) -> Self {
        Self {
            status: Status::Fail,
            ..self.warn(cause, found, fix)
        }
    }

    pub(super) fn skip(self, why: impl Into<String>) -> Self {
        Self {
            found: why.into(),
            ..self
        }
    }
}

/// All steps of one tenant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TenantReport {
    pub(super) tenant: String,
    pub(super) steps: Vec<Step>,
}

impl TenantReport {
    /// What cannot even be read; the places name the tenants.
    pub(super) fn of_config(errors: &[Error]) -> Self {
        let step = |error: &Error| {
            let found = format!("{} ({})", error.what, error.places.join(", "));
            Step::new("config", "").fail(Cause::Config, found, error.help.clone())
        };
        Self {
            tenant: String::new(),
            steps: errors.iter().map(step).collect(),
        }
    }
}

/// All tenants of a file.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) file: String,
    pub(super) tenants: Vec<TenantReport>,
}

impl Report {
    /// A file that cannot even be read.
    pub(super) fn of_config(file: &Path, errors: &[Error]) -> Self {
        Self {
            file: file.display().to_string(),
            tenants: vec![TenantReport::of_config(errors)],
        }
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.tenants.iter().flat_map(|tenant| &tenant.steps)
    }

    fn count(&self, status: Status) -> usize {
        self.steps().filter(|step| step.status == status).count()
    }

    /// The exit code of the command.
    pub(super) fn code(&self) -> u8 {
        let mut failed = self.steps().filter(|step| step.status == Status::Fail);
        match failed.next() {
            None => 0,
            Some(first) => {
                let away = |step: &Step| step.cause.is_some_and(Cause::is_out_of_our_hands);
                if away(first) && failed.all(away) {
                    Kind::Unavailable.code()
                } else {
                    Kind::Config.code()
                }
            }
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let report = json!({
            "file": self.file,
            "ok": self.count(Status::Fail) == 0,
            "failed": self.count(Status::Fail),
            "warnings": self.count(Status::Warn),
            "exit_code": self.code(),
            "tenants": self.tenants,
        });
        format!("{report:#}")
    }

    /// For people: aligned, what to do below what is wrong.
    pub(super) fn text(&self) -> String {
        let name = |step: &Step| match step.about.as_str() {
            "" => step.name.to_owned(),
            about => format!("{}, {about}", step.name),
        };
        let width = self.steps().map(|step| name(step).chars().count()).max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for tenant in &self.tenants {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "tenant {} ({})", tenant.tenant, self.file);
            for step in &tenant.steps {
                let word = match step.status {
                    Status::Ok => "ok  ",
                    Status::Warn => "warn",
                    Status::Fail => "FAIL",
                    Status::Skipped => "skip",
                };
                let _ = writeln!(text, "  {word}  {:width$}  {}", name(step), step.found);
                if !step.fix.is_empty() {
                    let _ = writeln!(text, "        fix: {}", step.fix);
                }
            }
        }
        let (failed, warnings) = (self.count(Status::Fail), self.count(Status::Warn));
        let _ = match (failed, warnings) {
            (0, 0) => write!(text, "all is well"),
            (0, warnings) => write!(text, "it works; {warnings} warning(s)"),
            (failed, 0) => write!(text, "{failed} step(s) failed"),
            (failed, warnings) => {
                write!(text, "{failed} step(s) failed, {warnings} warning(s)")
            }
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(causes: &[Cause]) -> Report {
        let fail = |cause: &Cause| Step::new("x", "y").fail(*cause, "f".into(), "h".into());
        let mut steps = vec![Step::new("config", "").ok("fine".into())];
        steps.extend(causes.iter().map(fail));
        let tenant = "contoso".into();
        Report {
            file: "a.yaml".into(),
            tenants: vec![TenantReport { tenant, steps }],
        }
    }

    #[test]
    fn the_exit_code_says_whether_somebody_must_change_something() {
        for (causes, code) in [
            (&[][..], 0),
            (&[Cause::DnsFailed], 69),
            (&[Cause::ProxyFailed, Cause::ServiceTrouble], 69),
            (&[Cause::DnsFailed, Cause::WrongSecret], 78),
            (&[Cause::ClockOff], 78),
        ] {
            assert_eq!(report(causes).code(), code, "{causes:?}");
        }
    }

    #[test]
    fn people_read_aligned_lines_and_programs_stable_words() {
        let report = report(&[Cause::ExpiredSecret]);
        let wanted = "tenant contoso (a.yaml)\n  ok    config  fine\n  FAIL  x, y    f\n        \
                      fix: h\n1 step(s) failed";
        assert_eq!(report.text(), wanted);
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["ok"], false);
        let step = &json["tenants"][0]["steps"][1];
        assert_eq!(
            *step,
            json!({ "step": "x", "about": "y", "status": "fail", "cause": "expired-secret",
                "found": "f", "fix": "h" })
        );
    }
}
