//! The login host: client credentials to bearer tokens, and its refusals in their exact shape.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::office::Office;
use crate::random::{Concern, Seed};
use crate::records::guid_of;
use crate::script::Operation;
use crate::tenant::Application;
use crate::time;
use crate::wire::{Reply, Request, form_value, percent_decode};

/// A token that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub tenant: usize,
    pub expires: i64,
    pub revoked: bool,
    /// The roles granted when it was issued.
    pub roles: Vec<String>,
    /// Whether a request with it was refused because it had expired.
    pub refused: bool,
}

/// A client assertion whose claims were found good; its signature is still to be checked.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// `PS256` or `RS256`.
    pub algorithm: String,
    /// The registered thumbprint it names.
    pub thumbprint: String,
    /// Header and claims as they were signed.
    pub signed: String,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Says whether an assertion's signature is that of the certificate it names.
pub(crate) type AssertionCheck = Box<dyn Fn(&Assertion) -> bool + Send>;

/// A refusal: OAuth error, HTTP status, AADSTS code, description.
struct Refusal(&'static str, u16, u32, String);

fn refuse<T>(
    error: &'static str,
    status: u16,
    code: u32,
    text: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal(error, status, code, text.into()))
}

impl Office {
    /// Every token that was given out: for searching where none may be.
    pub fn issued_tokens(&self) -> Vec<String> {
        self.tokens.keys().cloned().collect()
    }

    /// What the login host says of a directory to anybody who asks.
    pub(crate) fn describe_directory(&self, now: i64, tenant: &str, about: Seed) -> Reply {
        let index = match self.find_tenant(tenant) {
            Ok(index) => index,
            Err(refusal) => return self.refused(now, refusal, about, None),
        };
        let id = &self.tenants[index].directory_id;
        let document = json!({
            "issuer": format!("{}/{id}/v2.0", self.login_url),
            "token_endpoint": format!("{}/{id}/oauth2/v2.0/token", self.login_url),
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        });
        Reply::json(200, document.to_string())
    }

    pub(crate) fn token(
        &mut self,
        now: i64,
        request: &Request,
        tenant: &str,
        version_2: bool,
        about: Seed,
    ) -> Reply {
        self.stats.token_requests += 1;
        let asked = self.find_tenant(tenant).ok();
        let scripted = asked.and_then(|index| self.cue(Operation::Token, index, None));
        let reply = if let Some(reply) = scripted {
            reply
        } else if self.strikes(Fault::BadToken, about) {
            self.refused(now, unavailable(about), about, Some("2"))
        } else {
            match self.grant(now, request, tenant, version_2) {
                Ok(tenant) => self.issue(now, tenant, version_2, about),
                Err(refusal) => self.refused(now, refusal, about, None),
            }
        };
        self.spoil(reply, about)
    }

    fn grant(
        &mut self,
        now: i64,
        request: &Request,
        tenant: &str,
        version_2: bool,
    ) -> Result<usize, Refusal> {
        if request.method != "POST" {
            return refuse(
                "invalid_request",
                400,
                900_561,
                "The endpoint only accepts POST requests.",
            );
        }
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let member = |name: &str| form_value(&form, name).filter(|value| !value.is_empty());
        let index = self.find_tenant(tenant)?;
        let Some(grant_type) = member("grant_type") else {
            return lacks("grant_type");
        };
        if grant_type != "client_credentials" {
            let text = "The app requested an unsupported grant type.";
            return refuse("unsupported_grant_type", 400, 70_003, text);
        }
        let basic = request.find_header("authorization").and_then(basic);
        let (id, secret) = basic.map_or((None, None), |(id, secret)| (Some(id), Some(secret)));
        let Some(id) = member("client_id").or(id) else {
            return lacks("client_id");
        };
        self.find_application(index, &id)?;
        self.check_loop(now, &id)?;
        self.check_resource(&member, version_2)?;
        let federated =
            |assertion: &String| self.tenants[index].federated_tokens.contains(assertion);
        if member("client_assertion").as_ref().is_some_and(federated) {
            // Whoever issued it has said who the client is.
        } else if let Some(assertion) = member("client_assertion") {
            let endpoint = if version_2 {
                "oauth2/v2.0/token"
            } else {
                "oauth2/token"
            };
            let audience = format!("{}/{tenant}/{endpoint}", self.login_url);
            self.check_assertion(now, index, &assertion, &audience)?;
        } else if let Some(secret) = member("client_secret").or(secret) {
            self.check_secret(index, &secret)?;
        } else {
            let text = "The request body must contain the following parameter: \
            'client_assertion' or \
                        'client_secret'.";
            return refuse("invalid_client", 401, 7_000_216, text);
        }
        Ok(index)
    }

    fn find_tenant(&self, tenant: &str) -> Result<usize, Refusal> {
        let tenant = percent_decode(tenant, false);
        let is = |t: &crate::tenant::Tenant| {
            t.directory_id.eq_ignore_ascii_case(&tenant) || t.domain.eq_ignore_ascii_case(&tenant)
        };
        if let Some(index) = self.tenants.iter().position(is) {
            return Ok(index);
        }
        if !is_guid(&tenant) && !tenant.contains('.') {
            let text = format!(
                "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid \
                external \
                 domain."
            );
            return refuse("invalid_request", 400, 900_023, text);
        }
        let text = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
        );
        refuse("invalid_request", 400, 90_002, text)
    }

    fn find_application(&self, index: usize, id: &str) -> Result<(), Refusal> {
        let tenant = &self.tenants[index];
        let known = tenant.client_id.eq_ignore_ascii_case(id);
        if !known || tenant.application == Application::Absent {
            let text = format!(
                "Application with identifier '{id}' was not found in the directory '{}'.",
                tenant.directory_id
            );
            return refuse("unauthorized_client", 400, 700_016, text);
        }
        if tenant.application == Application::Disabled {
            let text = format!("Application '{id}' is disabled.");
            return refuse("unauthorized_client", 400, 7_000_112, text);
        }
        if tenant.application == Application::NotConsented {
            let text = format!(
                "The client application {id} is missing service principal in the tenant {}.",
                tenant.directory_id
            );
            return refuse("unauthorized_client", 400, 7_000_229, text);
        }
        if tenant.application == Application::OtherCloud {
            let text = "Confidential Client is not supported in Cross Cloud request.";
            return refuse("invalid_request", 400, 900_382, text);
        }
        Ok(())
    }

    fn check_loop(&mut self, now: i64, id: &str) -> Result<(), Refusal> {
        let count = self.minutes.count(&format!("token {id}"), now);
        if self
            .faults
            .tokens_per_minute
            .is_some_and(|most| count > u64::from(most))
        {
            let text =
                "The server terminated an operation because it encountered a client request loop.";
            return refuse("invalid_client", 400, 50_196, text);
        }
        Ok(())
    }

    fn check_resource(
        &self,
        member: &dyn Fn(&str) -> Option<String>,
        version_2: bool,
    ) -> Result<(), Refusal> {
        let name = if version_2 { "scope" } else { "resource" };
        let Some(value) = member(name) else {
            return lacks(name);
        };
        let resource = if version_2 {
            match value.strip_suffix("/.default") {
                Some(resource) if !resource.contains(' ') && !resource.ends_with('/') => resource,
                _ => {
                    let text = format!(
                        "The provided value for the input parameter 'scope' is not valid. \
                        The scope '{value}' is malformed."
                    );
                    return refuse("invalid_scope", 400, 70_011, text);
                }
            }
        } else {
            &value
        };
        if resource != self.resource_url {
            let text =
                format!("The resource principal named {resource} was not found in the tenant.");
            return refuse("invalid_resource", 400, 500_011, text);
        }
        Ok(())
    }

    fn check_secret(&self, index: usize, secret: &str) -> Result<(), Refusal> {
        let tenant = &self.tenants[index];
        let app = &tenant.client_id;
        if secret != tenant.client_secret {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is \
                the client \
                 secret value, not the client secret ID, for a secret added to app '{app}'."
            );
            return refuse("invalid_client", 401, 7_000_215, text);
        }
        if tenant.application == Application::SecretExpired {
            let text = format!("The provided client secret keys for app '{app}' are expired.");
            return refuse("invalid_client", 401, 7_000_222, text);
        }
        Ok(())
    }

    fn check_assertion(
        &mut self,
        now: i64,
        index: usize,
        text: &str,
        audience: &str,
    ) -> Result<(), Refusal> {
        let tenant = &self.tenants[index];
        let Some((header, claims, assertion)) = read_assertion(text) else {
            let text = "Client assertion is not within its expected form: it is no signed JWT.";
            return refuse("invalid_request", 400, 50_027, text);
        };
        let claim = |name: &str| claims[name].as_str().unwrap_or_default();
        let (issuer, subject) = (claim("iss"), claim("sub"));
        if !issuer.eq_ignore_ascii_case(&tenant.client_id) || issuer != subject {
            let text =
                "Client assertion application identifier doesn't match 'client_id' parameter.";
            return refuse("invalid_client", 401, 700_021, text);
        }
        if claim("aud") != audience {
            let text =
                format!("Client assertion audience claim does not match Realm issuer {audience}.");
            return refuse("invalid_client", 401, 700_023, text);
        }
        // Five minutes of difference between the clocks are forgiven.
        let second = |name: &str| claims[name].as_i64();
        let begins = second("nbf").or(second("iat")).unwrap_or(i64::MAX / 2_000);
        let ends = second("exp").unwrap_or(0);
        let now_s = now / 1_000;
        if now_s < begins - 300 || now_s > ends + 300 {
            let text = "Client assertion is not within its valid time range.";
            return refuse("invalid_client", 401, 700_024, text);
        }
        let known = tenant.thumbprints.contains(&assertion.thumbprint);
        let algorithm = matches!(header["alg"].as_str(), Some("PS256" | "RS256"));
        let signed = self
            .assertion_check
            .as_ref()
            .is_none_or(|check| check(&assertion));
        let fresh = !claim("jti").is_empty() && !self.assertions_seen.contains(claim("jti"));
        if !known || !algorithm || !signed || !fresh {
            let text = format!(
                "The certificate with identifier used to sign the client assertion is not \
                registered on application. [Reason - The key was not found., Thumbprint of key \
                used by \
                client: '{}']",
                assertion.thumbprint
            );
            return refuse("invalid_client", 401, 700_027, text);
        }
        self.assertions_seen.insert(claim("jti").to_owned());
        Ok(())
    }

    fn issue(&mut self, now: i64, index: usize, version_2: bool, about: Seed) -> Reply {
        self.tokens_issued += 1;
        let tenant = &self.tenants[index];
        let expires = now + self.token_life_ms;
        let unique = self.seed.of(Concern::Token).with(self.tokens_issued);
        let claims = json!({
            "aud": self.resource_url,
            "iss": format!("https://sts.windows.net/{}/", tenant.directory_id),
            "iat": now / 1_000, "nbf": now / 1_000, "exp": expires / 1_000,
            "appid": tenant.client_id, "roles": tenant.roles, "tid": tenant.directory_id,
            "uti": guid_of(unique), "ver": "1.0",
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({"typ": "JWT", "alg": "RS256", "kid": "office"}));
        let signature = URL_SAFE_NO_PAD.encode(guid_of(unique.with(1)).repeat(7));
        let text = format!("{header}.{}.{signature}", part(&claims));
        let roles = tenant.roles.clone();
        let token = Token {
            tenant: index,
            expires,
            revoked: false,
            roles,
            refused: false,
        };
        self.tokens.insert(text.clone(), token);
        let life = self.token_life_ms / 1_000;
        let mut body = if version_2 {
            json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life})
        } else {
            json!({"token_type": "Bearer", "expires_in": life.to_string(),
                "ext_expires_in": life.to_string(), "expires_on": (expires / 1_000).to_string(),
                "not_before": (now / 1_000).to_string(), "resource": self.resource_url})
        };
        body["access_token"] = text.into();
        if self.strikes(Fault::OddExpiry, about) {
            body["expires_in"] = match about.with(5).below(4) {
                0 => Value::Null,
                1 => json!(0),
                2 => json!(9_007_199_254_740_993_u64),
                _ => json!(life.to_string()),
            };
            if body["expires_in"].is_null() {
                body.as_object_mut()
                    .map(|members| members.remove("expires_in"));
            }
        }
        Reply::json(200, body.to_string())
    }

    fn refused(&self, now: i64, refusal: Refusal, about: Seed, retry: Option<&str>) -> Reply {
        let Refusal(error, status, code, text) = refusal;
        let (trace, correlation) = (guid_of(about.with(8)), guid_of(about.with(9)));
        let time = time::spaced(now + self.faults.date_skew_ms);
        let body = json!({
            "error": error,
            "error_description": format!(
                "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: \
                {time}"),
            "error_codes": [code],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{}/error?code={code}", self.login_url),
        });
        let reply = Reply::json(status, body.to_string());
        match retry {
            Some(seconds) => reply.with("Retry-After", seconds),
            None => reply,
        }
    }
}

fn lacks<T>(name: &str) -> Result<T, Refusal> {
    let text = format!("The request body must contain the following parameter: '{name}'.");
    refuse("invalid_request", 400, 900_144, text)
}

fn unavailable(about: Seed) -> Refusal {
    match about.of(Concern::Style).below(3) {
        0 => Refusal(
            "temporarily_unavailable",
            503,
            90_033,
            "A transient error has occurred.".into(),
        ),
        1 => Refusal(
            "server_error",
            500,
            90_006,
            "External server retryable error.".into(),
        ),
        _ => Refusal(
            "temporarily_unavailable",
            429,
            90_055,
            "Too many requests.".into(),
        ),
    }
}

/// Client id and secret from HTTP Basic, each of which was form-encoded first.
fn basic(value: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(value.strip_prefix("Basic ")?.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((percent_decode(id, true), percent_decode(secret, true)))
}

fn read_assertion(text: &str) -> Option<(Value, Value, Assertion)> {
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, claims) = (json(header)?, json(claims)?);
    let thumbprint = header["x5t#S256"]
        .as_str()
        .or_else(|| header["x5t"].as_str())?
        .to_owned();
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .ok()
        .filter(|bytes| !bytes.is_empty())?;
    let algorithm = header["alg"].as_str()?.to_owned();
    let signed = signed.to_owned();
    Some((
        header,
        claims,
        Assertion {
            algorithm,
            thumbprint,
            signed,
            signature,
        },
    ))
}

/// Whether the text is a GUID with hyphens.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
