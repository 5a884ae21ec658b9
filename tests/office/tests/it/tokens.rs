//! The login host: every way to ask, every refusal in its exact shape.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sluicegate_office::{Application, Fault, Faults, Office, Request};

use crate::client::{Client, NOON, encode, json};

type Form = Vec<(&'static str, String)>;

fn client() -> Client {
    Client::new(Office::builder(1).subscribed())
}

fn set(form: &mut Form, name: &str, value: &str) {
    form.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value.into();
}

#[test]
fn a_secret_in_the_form_or_in_the_header_gives_a_token_that_works() {
    let mut client = client();
    let (url, form) = client.token_form();
    let reply = client.ask_token(&url, &form);
    assert_eq!(reply.status, 200);
    let body = json(reply);
    assert_eq!(body["expires_in"], 3_599);
    assert_eq!(body["ext_expires_in"], 3_599);
    assert_eq!(body["token_type"], "Bearer");

    let tenant = &client.office.tenants()[0];
    let pair = format!(
        "{}:{}",
        encode(&tenant.client_id),
        encode(&tenant.client_secret)
    );
    let scope = encode(&form[3].1);
    let request = Request::post(&url)
        .header("authorization", &format!("Basic {}", STANDARD.encode(pair)))
        .with_body(format!("grant_type=client_credentials&scope={scope}"));
    let reply = client.send(&request);
    assert_eq!(reply.status, 200);
    let other = json(reply)["access_token"].clone();
    assert_ne!(other, body["access_token"], "tokens are unique");

    assert_eq!(client.api("GET", "subscriptions/list", "").status, 200);
}

#[test]
fn the_first_endpoint_writes_numbers_as_text() {
    let mut client = client();
    let (url, mut form) = client.token_form();
    form[3] = ("resource", client.office.resource_url().to_owned());
    let body = json(client.ask_token(&url.replace("/v2.0", ""), &form));
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["resource"], client.office.resource_url());
    let expires: i64 = body["expires_on"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires, (client.now + 3_599_000) / 1_000);
}

#[test]
fn a_token_says_whose_it_is_and_what_it_may() {
    let mut client = client();
    let token = client.token();
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let tenant = &client.office.tenants()[0];
    assert_eq!(claims["tid"], tenant.directory_id);
    assert_eq!(claims["appid"], tenant.client_id);
    assert_eq!(
        claims["roles"],
        json!(["ActivityFeed.Read", "ActivityFeed.ReadDlp"])
    );
}

/// A good request is changed, and refused with this error, status and code.
fn refused(change: impl Fn(&mut Client, &mut String, &mut Form), expected: (&str, u16, u64)) {
    let mut client = client();
    let (mut url, mut form) = client.token_form();
    change(&mut client, &mut url, &mut form);
    let reply = client.ask_token(&url, &form);
    let status = reply.status;
    let body = json(reply);
    let code = body["error_codes"][0].as_u64().unwrap();
    assert_eq!(
        (body["error"].as_str().unwrap(), status, code),
        expected,
        "{body}"
    );
    let text = body["error_description"].as_str().unwrap();
    assert!(text.starts_with(&format!("AADSTS{code}: ")), "{text}");
    for member in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
        assert!(body[member].is_string(), "{member}");
    }
    assert!(text.contains(body["trace_id"].as_str().unwrap()));
    let secret = &client.office.tenants()[0].client_secret;
    assert!(
        !body.to_string().contains(&**secret),
        "a secret in an error"
    );
}

#[test]
fn every_refusal_has_its_code() {
    let application = |state| {
        move |client: &mut Client, _: &mut String, _: &mut Form| {
            client.office.tenant_mut(0).application = state;
        }
    };
    refused(
        |_, _, f| set(f, "client_secret", "x"),
        ("invalid_client", 401, 7_000_215),
    );
    refused(
        application(Application::SecretExpired),
        ("invalid_client", 401, 7_000_222),
    );
    refused(
        application(Application::Absent),
        ("unauthorized_client", 400, 700_016),
    );
    refused(
        application(Application::Disabled),
        ("unauthorized_client", 400, 7_000_112),
    );
    refused(
        application(Application::NotConsented),
        ("unauthorized_client", 400, 7_000_229),
    );
    refused(
        application(Application::OtherCloud),
        ("invalid_request", 400, 900_382),
    );
    refused(
        |_, _, f| set(f, "client_id", "x"),
        ("unauthorized_client", 400, 700_016),
    );
    refused(
        |_, _, f| set(f, "client_secret", ""),
        ("invalid_client", 401, 7_000_216),
    );
    refused(
        |_, _, f| set(f, "client_id", ""),
        ("invalid_request", 400, 900_144),
    );
    refused(
        |_, _, f| set(f, "grant_type", ""),
        ("invalid_request", 400, 900_144),
    );
    refused(
        |_, _, f| set(f, "scope", ""),
        ("invalid_request", 400, 900_144),
    );
    refused(
        |_, _, f| set(f, "grant_type", "password"),
        ("unsupported_grant_type", 400, 70_003),
    );
    refused(
        |c, _, f| set(f, "scope", c.office.resource_url()),
        ("invalid_scope", 400, 70_011),
    );
    refused(
        |_, _, f| set(f, "scope", "https://x//.default"),
        ("invalid_scope", 400, 70_011),
    );
    refused(
        |_, _, f| set(f, "scope", "https://x/.default"),
        ("invalid_resource", 400, 500_011),
    );
}

#[test]
fn a_tenant_that_is_not_there_is_refused_by_its_form() {
    let tenant = |name: &'static str| {
        move |client: &mut Client, url: &mut String, _: &mut Form| {
            *url = url.replace(&client.office.tenants()[0].directory_id, name);
        }
    };
    refused(
        tenant("11111111-2222-3333-4444-555555555555"),
        ("invalid_request", 400, 90_002),
    );
    refused(
        tenant("nobody.example.org"),
        ("invalid_request", 400, 90_002),
    );
    refused(tenant("nobody"), ("invalid_request", 400, 900_023));
}

#[test]
fn a_domain_stands_for_its_tenant() {
    let mut client = client();
    let (url, form) = client.token_form();
    let tenant = &client.office.tenants()[0];
    let url = url.replace(&tenant.directory_id, &tenant.domain.clone());
    assert_eq!(client.ask_token(&url, &form).status, 200);
}

#[test]
fn a_client_that_loops_is_told_so() {
    let mut client = client();
    let (url, form) = client.token_form();
    for _ in 0..60 {
        assert_eq!(client.ask_token(&url, &form).status, 200);
    }
    let body = json(client.ask_token(&url, &form));
    assert_eq!(body["error_codes"][0], 50_196);
    client.now += 60_000;
    assert_eq!(client.ask_token(&url, &form).status, 200);
}

#[test]
fn a_login_host_that_is_ill_says_so_with_a_time_to_wait() {
    let faults = Faults::none().with(Fault::BadToken, 1.0);
    let mut client = Client::new(Office::builder(1).faults(faults));
    let (url, form) = client.token_form();
    for _ in 0..20 {
        let reply = client.ask_token(&url, &form);
        assert!([429, 500, 503].contains(&reply.status), "{}", reply.status);
        assert!(reply.find_header("retry-after").is_some());
    }
}

#[test]
fn a_token_of_another_issuer_stands_for_the_application_only_where_it_is_trusted() {
    let mut client = client();
    let (url, mut form) = client.token_form();
    form[2] = ("client_assertion", "a.b.c".into());
    assert_ne!(client.ask_token(&url, &form).status, 200);
    let trusted = &mut client.office.tenant_mut(0).federated_tokens;
    trusted.push("a.b.c".into());
    assert_eq!(client.ask_token(&url, &form).status, 200);
}

#[test]
fn the_login_host_says_which_directories_it_knows() {
    let mut client = client();
    let id = client.office.tenants()[0].directory_id.clone();
    let login = client.office.login_url().to_owned();
    let document = |id: &str| format!("{login}/{id}/v2.0/.well-known/openid-configuration");
    let reply = client.send(&Request::get(&document(&id)));
    assert!(json(reply)["issuer"].as_str().unwrap().contains(&id));
    let unknown = "11111111-2222-3333-4444-555555555555";
    let reply = client.send(&Request::get(&document(unknown)));
    assert_eq!(
        (reply.status, &json(reply)["error_codes"][0]),
        (400, &json!(90_002))
    );
}

/// An assertion by claims; the office checks all but the signature itself.
fn assertion(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.{}",
        part(header),
        part(claims),
        URL_SAFE_NO_PAD.encode("signature")
    )
}

fn ask_with_assertion(client: &mut Client, header: &Value, claims: &Value) -> Value {
    let (url, mut form) = client.token_form();
    form[2] = ("client_assertion", assertion(header, claims));
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    form.push(("client_assertion_type", kind.into()));
    json(client.ask_token(&url, &form))
}

#[test]
fn assertions_are_checked_claim_by_claim() {
    let mut client = client();
    client.office.tenant_mut(0).thumbprints.push("known".into());
    let (url, _) = client.token_form();
    let id = client.office.tenants()[0].client_id.clone();
    let now = NOON / 1_000;
    let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": "known"});
    let claims = json!({"aud": url, "iss": id, "sub": id, "jti": "one", "nbf": now, "iat": now,
        "exp": now + 600});

    let good = ask_with_assertion(&mut client, &header, &claims);
    assert!(good["access_token"].is_string(), "{good}");
    let mut fails = |header: &Value, member: &str, value: Value, expected: u64| {
        let mut claims = claims.clone();
        claims["jti"] = json!(format!("{member} {expected}"));
        claims[member] = value;
        let body = ask_with_assertion(&mut client, header, &claims);
        assert_eq!(body["error_codes"][0], expected, "{member}: {body}");
    };
    fails(&header, "jti", json!("one"), 700_027);
    fails(&header, "iss", json!("other"), 700_021);
    fails(&header, "sub", json!("other"), 700_021);
    fails(
        &header,
        "aud",
        json!("https://login.example.com/x/oauth2/token"),
        700_023,
    );
    fails(&header, "exp", json!(now - 301), 700_024);
    fails(&header, "nbf", json!(now + 302), 700_024);
    fails(
        &json!({"alg": "PS256", "x5t#S256": "unknown"}),
        "x",
        json!(1),
        700_027,
    );
    fails(
        &json!({"alg": "none", "x5t": "known"}),
        "x",
        json!(1),
        700_027,
    );
    fails(&json!({"alg": "PS256"}), "x", json!(1), 50_027);

    client
        .office
        .check_assertions(|assertion| assertion.signature == b"another");
    let claims =
        json!({"aud": url, "iss": id, "sub": id, "jti": "two", "nbf": now, "exp": now + 600});
    assert_eq!(
        ask_with_assertion(&mut client, &header, &claims)["error_codes"][0],
        700_027
    );
    client
        .office
        .check_assertions(|assertion| assertion.signature == b"signature");
    let body = ask_with_assertion(&mut client, &header, &claims);
    assert!(body["access_token"].is_string(), "{body}");
}
