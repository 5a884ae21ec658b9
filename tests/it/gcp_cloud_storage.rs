//! The real command against a store that speaks Google Cloud Storage's protocol and checks the signature of each token:
//! each event stands in one object whatever breaks, and a key that is not accepted waits and says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use sluicegate_office::Office;
use sluicegate_tests::http_server::{HttpServer, Request, Response};
use sluicegate_tests::real_server::{patient_office, torment};
use sluicegate_tests::{Delivered, Pipeline, Simulated};
use tempfile::TempDir;

use crate::{folder, root, sluicegate};

const ACCOUNT: &str = "sluicegate@project.iam.gserviceaccount.example";

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    complaints: Vec<String>,
    requests: usize,
    /// One in so many requests fails with 503; one in so many is taken without an answer.
    busy: Option<usize>,
    breaks: Option<usize>,
}

/// The store: its objects stay while it is down.
struct Store {
    server: HttpServer,
    state: Arc<Mutex<State>>,
}

impl Store {
    fn start(busy: Option<usize>, breaks: Option<usize>) -> Self {
        let state = Arc::new(Mutex::new(State {
            busy,
            breaks,
            ..State::default()
        }));
        let shared = state.clone();
        let server =
            HttpServer::start(move |request| answer(&mut shared.lock().unwrap(), &request));
        Self { server, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn delivered(&self) -> Delivered {
        Delivered::unpack(self.state().objects.clone())
    }

    fn pipeline(&self, name: &str, office: &Simulated, folder: &TempDir) -> Pipeline {
        self.pipeline_with("", name, office, folder)
    }

    /// The same with more keys of the sink.
    fn pipeline_with(
        &self,
        keys: &str,
        name: &str,
        office: &Simulated,
        folder: &TempDir,
    ) -> Pipeline {
        std::fs::write(folder.path().join("account.json"), account(ACCOUNT)).unwrap();
        Pipeline::o365(name, office).only(&format!(
            "gcp_cloud_storage: {{ endpoint: '{}', bucket: audit-archive, request: {{ timeout: 10s }}, \
             {keys} credentials: {{ file: account.json }} }}",
            self.server.url()
        ))
    }
}

/// A service account's key as the console gives it.
fn account(email: &str) -> String {
    let key = std::fs::read_to_string(root().join("tests/fixtures/auth/client.key")).unwrap();
    let account = json!({
        "type": "service_account", "project_id": "project", "private_key_id": "c0ffee",
        "private_key": key, "client_email": email,
    });
    account.to_string()
}

fn public_key() -> Vec<u8> {
    let pem = std::fs::read_to_string(root().join("tests/fixtures/auth/client.key")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let pair = KeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
    pair.public().as_ref().to_vec()
}

/// Whether it is a token that the account itself signed, for now and for storage.
fn is_signed(bearer: &str) -> bool {
    let Some((signed, signature)) = bearer.rsplit_once('.') else {
        return false;
    };
    let decode = |part: &str| {
        URL_SAFE_NO_PAD
            .decode(part.trim_end_matches('='))
            .unwrap_or_default()
    };
    let claims = signed.split('.').nth(1).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&decode(claims)).unwrap_or_default();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key());
    let now = chrono::Utc::now().timestamp();
    claims["iss"] == ACCOUNT
        && claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        && claims["exp"]
            .as_i64()
            .is_some_and(|end| end > now && end <= now + 3_700)
        && key.verify(signed.as_bytes(), &decode(signature)).is_ok()
}

fn answer(state: &mut State, request: &Request) -> Response {
    state.requests += 1;
    let bearer = request.header("authorization").unwrap_or_default();
    if !bearer.strip_prefix("Bearer ").is_some_and(is_signed) {
        return Response::Answer(
            401,
            "<Error><Code>AuthenticationRequired</Code></Error>".into(),
        );
    }
    // The client escapes whatever is no letter or digit.
    let path = url::form_urlencoded::parse(request.path.as_bytes()).next();
    let path = path.map(|(path, _)| path.into_owned()).unwrap_or_default();
    let name = path.strip_prefix("/audit-archive/");
    let kind = request.header("content-type");
    let is_parquet = name.is_some_and(|name| name.ends_with(".parquet"));
    let wanted = if is_parquet {
        "application/vnd.apache.parquet"
    } else {
        "application/gzip"
    };
    let (Some(name), "PUT", true) = (name, request.method.as_str(), kind == Some(wanted)) else {
        let complaint = format!("{} {} {kind:?}", request.method, request.path);
        state.complaints.push(complaint);
        return Response::Answer(400, String::new());
    };
    let falls =
        |one_in: Option<usize>| one_in.is_some_and(|one_in| state.requests.is_multiple_of(one_in));
    if falls(state.busy) {
        return Response::Answer(503, "<Error><Code>ServiceUnavailable</Code></Error>".into());
    }
    let breaks = falls(state.breaks);
    let former = state.objects.insert(name.to_owned(), request.body.clone());
    if former.is_some_and(|former| former != request.body) {
        state.complaints.push(format!("{name} is another one now"));
    }
    if breaks {
        return Response::Break;
    }
    Response::Answer(200, String::new())
}

#[test]
fn every_event_stands_in_one_object_whatever_breaks() {
    let office = Simulated::start(
        Office::builder(171)
            .tenants(2)
            .blobs(30)
            .events_per_blob(10),
    );
    let store = Store::start(Some(7), Some(5));
    let folder = folder();
    for name in ["first", "again"] {
        let pipeline = store.pipeline(name, &office, &folder);
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        ended
            .expect(0)
            .says(&["600 event(s) delivered", "0 dead letter(s)"]);
        let verdict = office.judge(&store.delivered());
        assert!(
            verdict.is_clean() && verdict.owed == 600,
            "{name}: {verdict:?}"
        );
    }
    let state = store.state();
    assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
    let mut names = state.objects.keys();
    assert!(names.all(|name| name.split('/').count() == 4 && name.ends_with(".ndjson.gz")));
}

#[cfg(feature = "parquet")]
#[test]
fn every_event_stands_in_one_row_whatever_breaks() {
    let office = Simulated::start(Office::builder(174).blobs(30).events_per_blob(10));
    let store = Store::start(Some(7), Some(5));
    let folder = folder();
    for name in ["first", "again"] {
        let keys = "batch_encoding: { codec: parquet, compression: { algorithm: snappy } },";
        let pipeline = store.pipeline_with(keys, name, &office, &folder);
        let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
        ended
            .expect(0)
            .says(&["300 event(s) delivered", "0 dead letter(s)"]);
        let verdict = office.judge(&store.delivered());
        assert!(
            verdict.is_clean() && verdict.owed == 300,
            "{name}: {verdict:?}"
        );
    }
    let state = store.state();
    assert!(state.complaints.is_empty(), "{:#?}", state.complaints);
    assert!(state.objects.keys().all(|name| name.ends_with(".parquet")));
}

#[test]
fn kills_and_restarts_of_the_store_lose_and_double_nothing() {
    let office = patient_office(172);
    let store = Store::start(None, None);
    let folder = folder();
    torment(
        || sluicegate(&folder),
        &store.pipeline("killed", &office, &folder),
        |on| store.server.switch(on),
        || store.state().objects.len(),
    );
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 2_400, "{verdict:?}");
    let complaints = &store.state().complaints;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn an_account_that_is_not_accepted_waits_says_so_and_heals() {
    let office = Simulated::start(Office::builder(173).blobs(10).events_per_blob(10));
    let store = Store::start(None, None);
    let folder = folder();
    let pipeline = store.pipeline("wrong", &office, &folder);
    let file = folder.path().join("account.json");
    std::fs::write(&file, account("another@project.example")).unwrap();
    let running = pipeline
        .give(sluicegate(&folder).args("run --once"))
        .start();
    running.must_wait("check `credentials`");
    assert!(store.state().objects.is_empty());
    std::fs::write(&file, account(ACCOUNT)).unwrap();
    let ended = running.end().expect(0);
    ended.says(&["check `credentials`", "100 event(s) delivered"]);
    assert!(!ended.stderr.contains("PRIVATE KEY"));
    let verdict = office.judge(&store.delivered());
    assert!(verdict.is_clean() && verdict.owed == 100, "{verdict:?}");
    // What is no key at all is found before anything runs.
    std::fs::write(&file, "{}").unwrap();
    let ended = pipeline.give(sluicegate(&folder).args("run --once")).run();
    ended
        .expect(78)
        .says(&["holds no key of a service account"]);
}
