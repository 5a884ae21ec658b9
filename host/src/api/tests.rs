//! Over a real socket: what is answered, what is refused, and what becomes of clients that mean no good.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock::{SharedClock, SystemClock};

/// An API on a free port, of a process in which `contoso` should run and does not.
async fn api(token: Option<&str>) -> Api {
    patient(token, PATIENCE).await
}

async fn patient(token: Option<&str>, patience: Patience) -> Api {
    let clock: SharedClock = Arc::new(SystemClock);
    let views = Arc::new(Views::new(clock));
    views.expect(["contoso".to_owned()]);
    let settings = Settings {
        address: ([127, 0, 0, 1], 0).into(),
        token: token.map(Secret::new),
        place: Place::default(),
    };
    Api::start_with(settings, views, CancellationToken::new(), patience)
        .await
        .unwrap()
}

/// All that is answered to these bytes.
async fn tell(api: &Api, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(api.address()).await.unwrap();
    // The answer may come, and the connection end, before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(api: &Api, method: &str, path: &str, fields: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    tell(api, request.as_bytes()).await
}

/// The status of an answer, and its body.
fn parts(answer: &str) -> (u16, &str) {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (status.parse().unwrap_or_default(), body)
}

#[tokio::test]
async fn what_is_asked_for_is_answered_and_the_rest_refused_in_json() {
    let api = api(None).await;
    let answer = ask(&api, "GET", "/healthz?x=1", "").await;
    assert_eq!(parts(&answer), (200, "{\"status\":\"alive\"}\n"));
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let (status, body) = (404, r#"{"error":"there is nothing here""#);
    for path in ["/", "/metrics/", "/healthz/../status", "//status", "*"] {
        let answer = ask(&api, "GET", path, "").await;
        let parts = parts(&answer);
        assert!(
            parts.0 == status && parts.1.starts_with(body),
            "{path}: {answer}"
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = ask(&api, method, "/status", "Content-Length: 5\r\n").await;
        let (status, body) = parts(&answer);
        assert_eq!(
            (status, body.contains("ask with GET")),
            (405, true),
            "{answer}"
        );
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let (head, readiness) = (
        ask(&api, "HEAD", "/readyz", "").await,
        ask(&api, "GET", "/readyz", "").await,
    );
    assert_eq!(parts(&head), (503, ""));
    assert_eq!(parts(&readiness).0, 503);
    assert!(readiness.contains(r#""pipeline":"contoso","reason":"the pipeline does not run""#));
    let metrics = ask(&api, "GET", "/metrics", "").await;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\nsluicegate_build_info{version="),
        "{metrics}"
    );
    let status = ask(&api, "GET", "/status", "").await;
    assert!(status.contains(r#""pipelines":[]"#), "{status}");
}

#[tokio::test]
async fn without_the_token_only_life_is_told() {
    let api = api(Some("a-token-for-tests")).await;
    assert_eq!(parts(&ask(&api, "GET", "/healthz", "").await).0, 200);
    for fields in [
        "",
        "Authorization: Bearer a-token-for-test\r\n",
        "Authorization: Bearer a-token-for-tests-\r\n",
        "Authorization: Basic a-token-for-tests\r\n",
        "Authorization: a-token-for-tests\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: \u{e9}\u{e9}\u{e9}\u{e9}\r\n",
    ] {
        // A probe sees whether all is well, and not what it is about.
        let answer = ask(&api, "GET", "/readyz", fields).await;
        assert_eq!(parts(&answer), (503, "{\"ready\":false}\n"), "{fields}");
        for path in ["/metrics", "/status", "/tap"] {
            let answer = ask(&api, "GET", path, fields).await;
            assert_eq!(parts(&answer).0, 401, "{fields}: {answer}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            assert!(!answer.contains("contoso"), "{answer}");
        }
    }
    for scheme in ["Bearer", "bearer"] {
        let fields = format!("Authorization: {scheme} a-token-for-tests\r\n");
        assert_eq!(parts(&ask(&api, "GET", "/status", &fields).await).0, 200);
        let answer = ask(&api, "GET", "/readyz", &fields).await;
        assert!(answer.contains("contoso"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let api = api(None).await;
    let field = format!("X-Large: {}\r\n", "x".repeat(HEAD_BYTES));
    assert_eq!(parts(&ask(&api, "GET", "/status", &field).await).0, 431);
    let fields = "X: 1\r\n".repeat(FIELDS + 1);
    assert_eq!(parts(&ask(&api, "GET", "/status", &fields).await).0, 431);
    let path = format!("/status?{}", "x".repeat(2 * HEAD_BYTES));
    assert_ne!(parts(&ask(&api, "GET", &path, "").await).0, 200);
    assert_eq!(parts(&tell(&api, b"no HTTP at all\r\n\r\n").await).0, 400);
    // A body is not waited for.
    let answer = ask(&api, "GET", "/healthz", "Content-Length: 1000000000\r\n").await;
    assert_eq!(parts(&answer).0, 200);
}

/// More clients than there are connections, none of which ever ends its request: each is cut off in time, and who asks
/// properly is answered.
#[tokio::test]
async fn clients_that_never_end_their_request_are_cut_off() {
    let patience = Patience {
        head: Duration::from_millis(300),
        ..PATIENCE
    };
    let api = patient(None, patience).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(api.address()).await.unwrap();
        stream
            .write_all(b"GET /status HTTP/1.1\r\nX: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    // Waits for a connection to be free: that is what cuts the others off.
    assert_eq!(parts(&ask(&api, "GET", "/healthz", "").await).0, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let first = api(None).await;
    let settings = Settings {
        address: first.address(),
        token: None,
        place: Place::default(),
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let error = Api::start(
        settings,
        Arc::new(Views::new(clock)),
        CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind.code(), 69);
    let said = error.to_string();
    let wanted = format!(
        "the API cannot listen on `{}`: address already in use",
        first.address()
    );
    assert!(
        said.starts_with(&wanted) && said.contains("another collector"),
        "{said}"
    );
}

/// The end of the API is the end of its connections: nothing outlives the run.
#[tokio::test]
async fn its_end_closes_what_is_open() {
    let api = api(None).await;
    let mut open = TcpStream::connect(api.address()).await.unwrap();
    assert_eq!(parts(&ask(&api, "GET", "/healthz", "").await).0, 200);
    let address = api.address();
    drop(api);
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}
