//! The service against servers on the loopback.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::config::Place;
use crate::secret::{SecretOrigin, SecretRef};
use crate::sink::Policy;

/// What a server got.
pub(crate) type Got = (http::request::Parts, Bytes);

/// A server that answers with the status, head line and body that `answer` makes of a request.
pub(crate) async fn serve(
    answer: impl Fn(Got) -> (u16, String) + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let (status, text) = answer((head, body));
                    let response = http::Response::builder()
                        .status(status)
                        .header("retry-after", "7")
                        .header("etag", "1")
                        .body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(response.unwrap())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

pub(crate) fn delivery(compression: Compression) -> Delivery {
    Delivery {
        policy: Policy::default(),
        timeout: Duration::from_secs(5),
        compression,
        tls: None,
    }
}

fn service(endpoints: &[String], login: Option<&Login>, compression: Compression) -> Service {
    let endpoints: Vec<Url> = endpoints
        .iter()
        .map(|url| Url::parse(url).unwrap())
        .collect();
    let clock: SharedClock = Arc::new(SystemClock);
    Service::new(&Setting {
        name: "search",
        endpoints: &endpoints,
        delivery: &delivery(compression),
        login,
        http: &HttpConfig::default(),
        redactor: &Arc::new(Redactor::new()),
        clock: &clock,
    })
    .unwrap()
}

async fn post(service: &Service, body: &[u8]) -> Result<Answer, Again> {
    let body = service.pack(body.to_vec()).await;
    let headers = HeaderMap::new();
    service
        .send(
            Method::POST,
            "/_bulk?a=b",
            &headers,
            "application/x-ndjson",
            &body,
        )
        .await
}

/// An address on which nobody listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_address_that_is_down_is_passed_over() {
    let address = serve(|_| (200, "here".into())).await;
    let service = service(
        &[closed().await, format!("http://{address}")],
        None,
        Compression::None,
    );
    for _ in 0..6 {
        assert_eq!(post(&service, b"x").await.unwrap().body, "here");
    }
    assert_eq!(
        service.endpoints[0].bench().failures,
        1,
        "it is asked once, then left alone"
    );
}

#[tokio::test]
async fn with_nobody_there_the_request_is_again_with_a_reason() {
    let service = service(&[closed().await, closed().await], None, Compression::None);
    let again = post(&service, b"x").await.unwrap_err();
    assert!(!again.overloaded);
    assert!(
        again.error.what.contains("cannot connect"),
        "{}",
        again.error
    );
    assert_eq!(again.error.places, ["sink `search`"]);
}

#[tokio::test]
async fn paths_bodies_and_packing_arrive_as_meant() {
    let address = serve(|(head, body)| {
        let encoding = head.headers.get("content-encoding");
        let encoding = encoding.map_or("plain", |value| value.to_str().unwrap());
        let text = match encoding {
            "gzip" => {
                let mut text = String::new();
                let mut reader = flate2::read::GzDecoder::new(&*body);
                std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
                text
            }
            _ => String::from_utf8(body.to_vec()).unwrap(),
        };
        let kind = head.headers["content-type"].to_str().unwrap();
        (
            200,
            format!("{} {} {kind} {encoding} {text}", head.method, head.uri),
        )
    })
    .await;
    for (base, compression, seen) in [
        (
            "",
            Compression::None,
            "POST /_bulk?a=b application/x-ndjson plain x",
        ),
        (
            "/es",
            Compression::Gzip,
            "POST /es/_bulk?a=b application/x-ndjson gzip x",
        ),
    ] {
        let service = service(&[format!("http://{address}{base}")], None, compression);
        assert_eq!(post(&service, b"x").await.unwrap().body, seen);
    }
}

#[tokio::test]
async fn a_status_says_what_to_do() {
    for (status, wanted) in [
        (400, "split"),
        (422, "split"),
        (413, "split"),
        (401, "again"),
        (403, "again"),
        (404, "again"),
        (301, "again"),
        (500, "again"),
        (502, "again after 7s"),
        (408, "overloaded"),
        (429, "overloaded after 7s"),
        (503, "overloaded after 7s"),
    ] {
        let address = serve(move |_| (status, "why \u{1b}[31m\n not".into())).await;
        let service = service(&[format!("http://{address}")], None, Compression::None);
        let answer = post(&service, b"x").await.unwrap();
        let found = match service.judge(&answer) {
            Reply::Split(_) => "split".to_owned(),
            Reply::Again(again) => {
                assert!(
                    again.error.what.contains(": why [31m not"),
                    "{}",
                    again.error.what
                );
                let word = if again.overloaded {
                    "overloaded"
                } else {
                    "again"
                };
                let after = again
                    .retry_after
                    .map(|wait| format!(" after {}s", wait.as_secs()));
                format!("{word}{}", after.unwrap_or_default())
            }
            Reply::Taken { .. } => "taken".to_owned(),
        };
        assert!(found.starts_with(wanted), "{status}: {found}");
    }
}

#[tokio::test]
async fn a_refused_credential_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old-id:old-key\n").unwrap();
    let secret = SecretRef {
        origin: SecretOrigin::File(file.clone()),
        place: Place::default(),
    };
    let address = serve(|(head, _)| {
        let login = head.headers["authorization"].to_str().unwrap().to_owned();
        // base64 of `new-id:new-key`
        let good = login == "ApiKey bmV3LWlkOm5ldy1rZXk=";
        (if good { 200 } else { 401 }, login)
    })
    .await;
    let login = Login::ApiKey(secret.clone());
    let service_ = service(
        &[format!("http://{address}")],
        Some(&login),
        Compression::None,
    );
    let answer = post(&service_, b"x").await.unwrap();
    assert_eq!(answer.status, 401);
    std::fs::write(&file, "new-id:new-key\n").unwrap();
    let Reply::Again(again) = service_.judge(&answer) else {
        panic!("a refused credential is no fault of the events")
    };
    assert!(again.error.help.contains("`auth`"));
    assert_eq!(post(&service_, b"x").await.unwrap().status, 200);
    for (login, header) in [
        (
            Login::Basic("me".into(), secret.clone()),
            "Basic bWU6bmV3LWlkOm5ldy1rZXk=",
        ),
        (Login::Scheme("Bearer", secret), "Bearer new-id:new-key"),
    ] {
        let service = service(
            &[format!("http://{address}")],
            Some(&login),
            Compression::None,
        );
        assert_eq!(post(&service, b"x").await.unwrap().body, header);
    }
}
