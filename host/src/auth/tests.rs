//! Tokens from a server on the loopback, under a clock that tests set.

mod refusals;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::microsoft::Cloud;
use super::*;
use crate::clock::Clock;
use crate::config::auth::{Credential, Microsoft, OAuth2, TokenEndpoint};
use crate::config::{HttpConfig, Place};
use crate::secret::{SecretOrigin, SecretRef};
use certificate::tests::fixture;

const NOON_MS: i64 = 1_767_268_800_000;
const CANARY: &str = "canary~Q+8/x=y&z%secret";

#[derive(Debug)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Status, headers, body.
type Answer = (u16, Vec<(&'static str, String)>, String);

/// What the server is asked and what it will answer.
#[derive(Default)]
struct Script {
    asked: Mutex<Vec<(String, String)>>,
    answers: Mutex<VecDeque<Answer>>,
    /// What happens while the server thinks about the next request.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Script {
    fn say(&self, status: u16, body: impl fmt::Display) {
        self.answers
            .lock()
            .unwrap()
            .push_back((status, Vec::new(), body.to_string()));
    }

    fn issue(&self, token: &str, expires_in: impl Into<serde_json::Value>) {
        let expires_in = expires_in.into();
        self.say(
            200,
            json!({ "token_type": "Bearer", "expires_in": expires_in, "access_token": token }),
        );
    }

    fn refuse(&self, status: u16, error: &str, code: u64) {
        self.say(status, json!({
            "error": error,
            "error_description": format!("AADSTS{code}: words. {CANARY} Trace ID: 1"),
            "error_codes": [code],
            "trace_id": "trace-1", "correlation_id": "corr-1", "timestamp": "2026-01-01 12:00:00Z",
        }));
    }

    /// Refuses a time, from a server that is so many seconds ahead of the test's clock.
    fn refuse_time(&self, ahead_s: i64) {
        let body = json!({ "error": "invalid_client", "error_codes": [700_024] }).to_string();
        let now = chrono::DateTime::from_timestamp_millis(NOON_MS + ahead_s * 1000).unwrap();
        let headers = vec![("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string())];
        self.answers.lock().unwrap().push_back((401, headers, body));
    }

    /// The fields of a request.
    fn form(&self, request: usize) -> Vec<(String, String)> {
        let body = self.asked.lock().unwrap()[request].1.clone();
        url::form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn microsoft(base: &url::Url, credential: Credential) -> Microsoft {
    Microsoft {
        cloud: Cloud::Custom,
        directory_id: "11111111-2222-3333-4444-555555555555".into(),
        client_id: "66666666-7777-8888-9999-000000000000".into(),
        credential,
        token_endpoint: TokenEndpoint::V2,
        login_url: base.clone(),
        resource_url: url::Url::parse("https://manage.example.com").unwrap(),
    }
}

struct World {
    script: Arc<Script>,
    clock: Arc<TestClock>,
    tokens: Arc<Tokens>,
    file: tempfile::NamedTempFile,
}

impl World {
    /// A Microsoft tenant of a private cloud whose secret is [`CANARY`].
    async fn new() -> Self {
        Self::with(|base, secret| {
            Auth::Microsoft(microsoft(base, Credential::ClientSecret(secret)))
        })
        .await
    }

    /// The same with a certificate.
    async fn with_certificate() -> Self {
        Self::with(|base, _| {
            let certificate = fixture("client.pem", Some("client.key"), None);
            Auth::Microsoft(microsoft(
                base,
                Credential::Certificate(Box::new(certificate)),
            ))
        })
        .await
    }

    async fn with(auth: impl Fn(&url::Url, SecretRef) -> Auth) -> Self {
        let script = Arc::new(Script::default());
        let base = serve(Arc::clone(&script)).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{CANARY}\n")).unwrap();
        let origin = SecretOrigin::File(file.path().to_path_buf());
        let auth = auth(
            &base,
            SecretRef {
                origin,
                place: Place::default(),
            },
        );
        let client = Client::new(&HttpConfig::default()).unwrap();
        let clock = Arc::new(TestClock(AtomicI64::new(NOON_MS)));
        let shared: SharedClock = clock.clone();
        let redactor = Arc::new(Redactor::new());
        let endpoint = Endpoint::new(&auth, &client, &shared, &redactor)
            .unwrap()
            .unwrap();
        // Patience without waiting: the pauses are real time.
        let pace = Pace {
            first_pause: Duration::from_millis(1),
            ..Pace::default()
        };
        let tokens = Arc::new(Tokens::new(auth.origin().unwrap(), endpoint, pace));
        Self {
            script,
            clock,
            tokens,
            file,
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    async fn value(&self) -> String {
        self.tokens
            .bearer()
            .await
            .unwrap()
            .secret()
            .expose()
            .to_owned()
    }

    async fn error(&self) -> AuthError {
        let error = self.tokens.bearer().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !text.contains("tok-"), "{text}");
        error
    }
}

async fn serve(script: Arc<Script>) -> url::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = Arc::clone(&script);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let script = Arc::clone(&script);
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    script.asked.lock().unwrap().push((path, body));
                    if let Some(meanwhile) = script.meanwhile.lock().unwrap().take() {
                        meanwhile();
                    }
                    let answer = script.answers.lock().unwrap().pop_front();
                    let (status, headers, body) =
                        answer.unwrap_or((500, Vec::new(), "nothing more to say".into()));
                    let mut response = http::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    url::Url::parse(&format!("http://{address}")).unwrap()
}

#[tokio::test]
async fn the_request_is_as_entra_wants_it_and_nothing_prints_the_secret() {
    let world = World::new().await;
    world.script.issue("token-number-1", 3599);
    let token = world.tokens.bearer().await.unwrap();
    assert_eq!(token.header().unwrap(), "Bearer token-number-1");
    assert!(token.header().unwrap().is_sensitive());
    let (path, body) = world.script.asked.lock().unwrap()[0].clone();
    assert_eq!(
        path,
        "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token"
    );
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let wanted = [
        ("grant_type", "client_credentials"),
        ("client_id", "66666666-7777-8888-9999-000000000000"),
        ("scope", "https://manage.example.com/.default"),
        ("client_secret", CANARY),
    ];
    assert_eq!(
        form,
        wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let printed = format!("{token:?} {:?} {:?}", world.tokens, token.header());
    assert!(
        !printed.contains("canary") && !printed.contains("token-number-1"),
        "{printed}"
    );
    // The second fence knows both, wherever else they turn up.
    let text = format!("{CANARY} gives token-number-1");
    let scrubbed = world.tokens.endpoint.redactor().scrub(&text).into_owned();
    assert_eq!(scrubbed, "[redacted] gives [redacted]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_are_one_request() {
    let world = World::new().await;
    world.script.issue("tok-1", "3599");
    let callers = (0..50).map(|_| {
        let tokens = Arc::clone(&world.tokens);
        tokio::spawn(async move { tokens.bearer().await.unwrap().number })
    });
    for number in futures::future::join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(number.unwrap(), 1);
    }
    assert_eq!(world.script.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_share_one_refusal() {
    let world = World::new().await;
    world.script.refuse(401, "invalid_client", 7_000_215);
    let callers = (0..50).map(|_| {
        let tokens = Arc::clone(&world.tokens);
        tokio::spawn(async move { tokens.bearer().await.unwrap_err().class })
    });
    for class in futures::future::join_all(callers.collect::<Vec<_>>()).await {
        assert_eq!(class.unwrap(), Class::Unauthorised);
    }
    assert_eq!(world.script.asked(), 1);
    // The operator puts the right secret in place: no restart is needed.
    world.pass(61);
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_the_old_one_serves_while_that_fails() {
    let world = World::new().await;
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    // A tenth of an hour is 6 minutes: nothing happens before.
    world.pass(3600 - 361);
    assert_eq!(
        (world.value().await.as_str(), world.script.asked()),
        ("tok-1", 1)
    );
    world.pass(2);
    world.script.say(503, "<html>");
    assert_eq!(
        (world.value().await.as_str(), world.script.asked()),
        ("tok-1", 2)
    );
    // The failure stands for a while: the server is not asked for every request.
    assert_eq!(
        (world.value().await.as_str(), world.script.asked()),
        ("tok-1", 2)
    );
    world.pass(11);
    world.script.issue("tok-2", 3600);
    assert_eq!(
        (world.value().await.as_str(), world.script.asked()),
        ("tok-2", 3)
    );
}

#[tokio::test]
async fn short_lives_work() {
    for (life, unused) in [(60, 29), (600, 299)] {
        let world = World::new().await;
        world.script.issue("tok-1", life);
        world.script.issue("tok-2", life);
        assert_eq!(world.value().await, "tok-1");
        world.pass(unused);
        assert_eq!(
            (world.value().await.as_str(), world.script.asked()),
            ("tok-1", 1)
        );
        world.pass(2);
        assert_eq!(
            (world.value().await.as_str(), world.script.asked()),
            ("tok-2", 2)
        );
    }
    let world = World::new().await;
    for number in 1..=3 {
        world.script.issue(&format!("tok-{number}"), 2);
        assert_eq!(world.value().await, format!("tok-{number}"));
        world.pass(2);
    }
}

#[tokio::test]
async fn only_the_refused_token_is_thrown_away() {
    let world = World::new().await;
    world.script.issue("tok-1", 3600);
    world.script.issue("tok-2", 3600);
    let first = world.tokens.bearer().await.unwrap();
    // Ten requests were refused at once; the first to say so causes the only renewal.
    for _ in 0..10 {
        world.tokens.invalidate(&first);
        assert_eq!(world.value().await, "tok-2");
    }
    assert_eq!(world.script.asked(), 2);
}

#[tokio::test]
async fn transient_trouble_is_tried_again_and_then_reported() {
    let world = World::new().await;
    world.script.say(503, "<html>busy</html>");
    world.script.refuse(400, "temporarily_unavailable", 90_033);
    world.script.issue("tok-1", 3600);
    assert_eq!(
        (world.value().await.as_str(), world.script.asked()),
        ("tok-1", 3)
    );
    let world = World::new().await;
    let error = world.error().await;
    assert_eq!((error.class, world.script.asked()), (Class::Transient, 4));
    assert!(
        error.what.contains("127.0.0.1") && error.what.contains("500"),
        "{error}"
    );
}

#[tokio::test]
async fn a_wait_that_the_server_asks_for_is_passed_on() {
    let world = World::new().await;
    let headers = vec![("retry-after", "120".to_owned())];
    world
        .script
        .answers
        .lock()
        .unwrap()
        .push_back((429, headers, String::new()));
    let error = world.error().await;
    assert_eq!(
        (error.class, error.retry_after),
        (Class::Transient, Some(Duration::from_mins(2)))
    );
    world.pass(100);
    let wait = world.error().await.retry_after;
    assert_eq!(
        (wait, world.script.asked()),
        (Some(Duration::from_secs(20)), 1)
    );
    world.script.refuse(400, "invalid_request", 50_196);
    world.pass(21);
    assert_eq!(
        world.error().await.retry_after,
        Some(Duration::from_mins(5))
    );
}

#[tokio::test]
async fn answers_without_a_usable_token_are_failures() {
    for body in [
        json!({ "token_type": "Bearer", "expires_in": 3600 }).to_string(),
        json!({ "access_token": "", "expires_in": 3600 }).to_string(),
        json!({ "access_token": "tok-\r\nX-Evil: 1" }).to_string(),
        json!({ "access_token": ["tok-1"] }).to_string(),
        json!({ "access_token": "tok-1", "token_type": "mac" }).to_string(),
        "<html>Sign in tok-1</html>".to_owned(),
        "null".to_owned(),
        String::new(),
    ] {
        let world = World::new().await;
        world.script.say(200, &body);
        let error = world.error().await;
        assert_eq!(
            (error.class, world.script.asked()),
            (Class::Transient, 1),
            "{body}"
        );
        assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
    }
}

#[tokio::test]
async fn a_secret_that_changes_while_it_is_refused_is_tried_at_once_and_once() {
    let world = World::new().await;
    let path = world.file.path().to_path_buf();
    let change = move || std::fs::write(&path, "today's secret").unwrap();
    *world.script.meanwhile.lock().unwrap() = Some(Box::new(change));
    world.script.refuse(401, "invalid_client", 7_000_215);
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    assert_eq!(world.script.form(0)[3].1, CANARY);
    assert_eq!(world.script.form(1)[3].1, "today's secret");
}

#[tokio::test]
async fn a_refusal_does_not_outlive_the_secret_that_it_was_for() {
    let world = World::new().await;
    world.script.refuse(401, "invalid_client", 7_000_222);
    world.error().await;
    world.error().await;
    assert_eq!(world.script.asked(), 1, "the refusal stands");
    std::fs::write(world.file.path(), "tomorrow's secret").unwrap();
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    // An unreadable file is no other secret.
    let world = World::new().await;
    world.script.refuse(401, "invalid_client", 7_000_222);
    world.error().await;
    std::fs::remove_file(world.file.path()).unwrap();
    world.error().await;
    assert_eq!(world.script.asked(), 1);
    // One that appears again is.
    world.pass(61);
    assert!(world.error().await.what.contains("cannot read secret file"));
    std::fs::write(world.file.path(), "tomorrow's secret").unwrap();
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
}

#[tokio::test]
async fn an_assertion_takes_the_servers_time_once() {
    let issued_at = |world: &World, request: usize| {
        let assertion = world.script.form(request)[4].1.clone();
        claims(&Secret::new(assertion)).unwrap()["iat"]
            .as_i64()
            .unwrap()
    };
    let world = World::with_certificate().await;
    world.script.refuse_time(3_600);
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    assert_eq!(issued_at(&world, 0), NOON_MS / 1000);
    assert_eq!(issued_at(&world, 1), NOON_MS / 1000 + 3_600);
    // Refused again, the error is passed on and says how far the clock is off.
    let world = World::with_certificate().await;
    world.script.refuse_time(3_600);
    world.script.refuse_time(3_600);
    let error = world.error().await;
    assert!(error.what.contains("clock is -3600 s off"), "{error}");
    assert_eq!(world.script.asked(), 2);
    // A clock that was set right meanwhile is believed again.
    world.pass(61);
    world.script.refuse_time(61);
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    assert_eq!(issued_at(&world, 3), NOON_MS / 1000 + 61);
}

#[tokio::test]
async fn a_refused_certificate_is_named_by_its_thumbprints() {
    let world = World::with_certificate().await;
    world.script.refuse(401, "invalid_client", 700_027);
    let error = world.error().await;
    let sha1 = "A6865730C1BE96C63A98719F8DEC5A56BCB4DCF9";
    assert!(
        error.what.contains(sha1) && error.what.contains("SHA-256"),
        "{error}"
    );
    assert_eq!(world.script.asked(), 1);
}

#[tokio::test]
async fn the_first_endpoint_is_asked_for_a_resource() {
    let world = World::with(|base, secret| {
        let token_endpoint = TokenEndpoint::V1;
        Auth::Microsoft(Microsoft {
            token_endpoint,
            ..microsoft(base, Credential::ClientSecret(secret))
        })
    })
    .await;
    world.script.issue("tok-1", "3599");
    assert_eq!(world.value().await, "tok-1");
    let form = world.script.form(0);
    assert_eq!(
        form[2],
        ("resource".into(), "https://manage.example.com".into())
    );
    let path = world.script.asked.lock().unwrap()[0].0.clone();
    assert_eq!(path, "/11111111-2222-3333-4444-555555555555/oauth2/token");
}

#[tokio::test]
async fn clock_skew_is_measured() {
    let world = World::new().await;
    let body = json!({ "error": "invalid_client", "error_codes": [700_024] }).to_string();
    let headers = vec![("date", "Thu, 01 Jan 2026 11:50:00 GMT".to_owned())];
    world
        .script
        .answers
        .lock()
        .unwrap()
        .push_back((401, headers, body));
    let error = world.error().await;
    assert!(error.what.contains("clock is 600 s off"), "{error}");
}

#[tokio::test]
async fn a_clock_turned_far_back_ends_a_token() {
    let world = World::new().await;
    world.script.issue("tok-1", 3600);
    world.script.issue("tok-2", 3600);
    assert_eq!(world.value().await, "tok-1");
    world.pass(-200);
    assert_eq!(world.value().await, "tok-1");
    world.pass(-86_400);
    assert_eq!(world.value().await, "tok-2");
}

#[tokio::test]
async fn plain_oauth2_sends_a_token_of_another_issuer() {
    let world = World::with(|base, file| {
        Auth::OAuth2(OAuth2 {
            token_url: base.join("/token").unwrap(),
            client_id: "client".into(),
            credential: Credential::FederatedTokenFile(file),
            scope: None,
            resource_url: url::Url::parse("http://127.0.0.1:9").unwrap(),
        })
    })
    .await;
    assert_eq!(world.tokens.origin().to_string(), "http://127.0.0.1:9");
    world.script.issue("tok-1", 3600);
    assert_eq!(world.value().await, "tok-1");
    let (path, body) = world.script.asked.lock().unwrap()[0].clone();
    assert_eq!(path, "/token");
    let form: Vec<_> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(
        form[2].1,
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    assert_eq!(form[3], ("client_assertion".to_owned(), CANARY.to_owned()));
}
