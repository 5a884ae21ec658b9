//! What a test puts into the service's mouth: on these requests, so many times, this answer or this
//! fault.
//!
//! Rates play faults by chance; a script plays them to the letter. On the API it speaks only to
//! those who were let in, so a request without a good token stays refused.

use bytes::Bytes;
use serde_json::Value;

use crate::faults::Fault;
use crate::kind::ContentType;
use crate::office::Office;
use crate::wire::{Reply, Request};

/// What a script is played on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A request for a token.
    Token,
    /// The start of a subscription.
    Start,
    /// The stop of a subscription.
    Stop,
    /// The list of subscriptions.
    Subscriptions,
    /// The first page of a listing.
    Content,
    /// Any other page of a listing.
    NextPage,
    /// A fetch of a blob.
    Blob,
}

const NAMES: &[(&str, Operation)] = &[
    ("token", Operation::Token),
    ("start", Operation::Start),
    ("stop", Operation::Stop),
    ("subscriptions", Operation::Subscriptions),
    ("content", Operation::Content),
    ("next-page", Operation::NextPage),
    ("blob", Operation::Blob),
];

impl Operation {
    pub(crate) fn of(request: &Request, operation: &[&str]) -> Option<Self> {
        Some(match (&*request.method, operation) {
            ("POST", ["subscriptions", "start"]) => Self::Start,
            ("POST", ["subscriptions", "stop"]) => Self::Stop,
            ("GET", ["subscriptions", "list"]) => Self::Subscriptions,
            ("GET", ["subscriptions", "content"]) if request.parameter("nextPage").is_some() => {
                Self::NextPage
            }
            ("GET", ["subscriptions", "content"]) => Self::Content,
            ("GET", ["audit" | "Audit", _]) => Self::Blob,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
enum Part {
    Says(u16, Vec<(String, String)>, Bytes),
    Plays(Fault),
}

/// One instruction; the first that fits a request is followed.
#[derive(Clone, Debug)]
pub struct Script {
    operation: Operation,
    part: Part,
    tenant: Option<usize>,
    kind: Option<ContentType>,
    after: u32,
    times: Option<u32>,
    /// Requests that fitted, followed or not.
    heard: u32,
}

impl Script {
    /// Answers with this status and body.
    pub fn says(operation: Operation, status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(operation, Part::Says(status, Vec::new(), body.into()))
    }

    /// Has this fault strike; those of a fetch strike fetches, those of a page listings.
    pub fn plays(operation: Operation, fault: Fault) -> Self {
        Self::new(operation, Part::Plays(fault))
    }

    fn new(operation: Operation, part: Part) -> Self {
        Self {
            operation,
            part,
            tenant: None,
            kind: None,
            after: 0,
            times: None,
            heard: 0,
        }
    }

    /// With one more header; an answer without a `Content-Type` is said to be JSON.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Part::Says(_, headers, _) = &mut self.part {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Only for this tenant (default: all).
    #[must_use]
    pub fn tenant(mut self, index: usize) -> Self {
        self.tenant = Some(index);
        self
    }

    /// Only for this content type (default: all).
    #[must_use]
    pub fn content_type(mut self, kind: ContentType) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Not for the first so many requests.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    /// So many times (default: for ever).
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn fits(&self, operation: Operation, tenant: usize, kind: Option<ContentType>) -> bool {
        self.operation == operation
            && self.tenant.is_none_or(|own| own == tenant)
            && self.kind.is_none_or(|own| Some(own) == kind)
    }

    /// Counts a request that fits; whether it is followed on this one.
    fn hears(&mut self) -> bool {
        self.heard += 1;
        let turn = self.heard.saturating_sub(self.after);
        turn > 0 && self.times.is_none_or(|times| turn <= times)
    }

    /// Reads what the control plane is told: `operation`, then `status` and `body` or `fault`, and
    /// perhaps `headers`, `tenant`, `content_type`, `after`, `times`.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let told: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let number = |name: &str| told[name].as_u64().and_then(|n| u32::try_from(n).ok());
        let operation = told["operation"].as_str().unwrap_or_default();
        let operation = NAMES.iter().find(|(name, _)| *name == operation);
        let operation = operation
            .ok_or("`operation` is none of those that there are")?
            .1;
        let mut script = if let Some(name) = told["fault"].as_str() {
            let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
            Self::plays(operation, *fault.ok_or("`fault` is not known")?)
        } else {
            let status = told["status"].as_u64().and_then(|n| u16::try_from(n).ok());
            let body = told["body"].as_str().unwrap_or_default().to_owned();
            Self::says(operation, status.ok_or("`status` is missing")?, body)
        };
        for (name, value) in told["headers"].as_object().into_iter().flatten() {
            script = script.header(name, value.as_str().unwrap_or_default());
        }
        script.tenant = number("tenant").and_then(|n| usize::try_from(n).ok());
        script.kind = told["content_type"]
            .as_str()
            .and_then(ContentType::from_name);
        script.after = number("after").unwrap_or(0);
        script.times = number("times");
        Ok(script)
    }
}

impl Office {
    /// Follows a script from now on, behind those that it follows already; gives its number.
    pub fn follow(&mut self, script: Script) -> usize {
        self.scripts.push(script);
        self.scripts.len() - 1
    }

    /// How many requests fitted a script so far, whether it was followed on them or not.
    pub fn heard(&self, script: usize) -> u32 {
        self.scripts[script].heard
    }

    /// What a script says to this request, if one does; a fault that is to strike it is noted.
    pub(crate) fn cue(
        &mut self,
        operation: Operation,
        tenant: usize,
        kind: Option<ContentType>,
    ) -> Option<Reply> {
        let fitting = |script: &&mut Script| script.fits(operation, tenant, kind);
        // Each that fits counts the request, so that `after` and `times` do not depend on others.
        let mut found: Option<Part> = None;
        for script in self.scripts.iter_mut().filter(fitting) {
            if script.hears() && found.is_none() {
                found = Some(script.part.clone());
            }
        }
        match found? {
            Part::Plays(fault) => {
                self.planned = Some(fault);
                None
            }
            Part::Says(status, headers, body) => {
                let mut reply = Reply::json(status, body);
                for (name, value) in headers {
                    reply
                        .headers
                        .retain(|(own, _)| !own.eq_ignore_ascii_case(&name));
                    reply = reply.with(&name, value);
                }
                Some(reply)
            }
        }
    }

    pub(crate) fn is_planned(&self, fault: Fault) -> bool {
        self.planned == Some(fault)
    }
}
