//! What only a socket can show: how the plan of a reply looks to a client on the wire.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use sluicegate_office::{Clock, ContentType, Fault, Faults, Office, Server};

use crate::client::{NOON, PUBLISHER};

fn with_server(faults: Faults, test: impl FnOnce(&Server, &Tongue)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let kinds = [ContentType::Exchange];
    let builder = Office::builder(5)
        .content_types(&kinds)
        .blobs(4)
        .subscribed()
        .faults(faults);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = runtime
        .block_on(Server::start_with(
            builder.build(NOON),
            any,
            Clock::starting_at(NOON, 1.0),
        ))
        .unwrap();
    let tongue = Tongue::new(&server);
    test(&server, &tongue);
}

/// Speaks HTTP/1.1 by hand, so that nothing repairs what the server does.
struct Tongue {
    address: String,
    token: String,
    blob: String,
}

impl Tongue {
    fn new(server: &Server) -> Self {
        let address = server
            .resource_url
            .strip_prefix("http://")
            .unwrap()
            .to_owned();
        let mut this = Self {
            address,
            token: String::new(),
            blob: String::new(),
        };
        let (directory, form) = server.office(|office, _| {
            let tenant = &office.tenants()[0];
            let form = [
                "grant_type=client_credentials".to_owned(),
                format!("client_id={}", tenant.client_id),
                format!(
                    "client_secret={}",
                    crate::client::encode(&tenant.client_secret)
                ),
                format!("scope={}/.default", office.resource_url()),
            ];
            (tenant.directory_id.clone(), form.join("&"))
        });
        let faults = server.office(|o, _| std::mem::replace(o.faults_mut(), Faults::none()));
        let reply = this
            .say(&format!("POST /{directory}/oauth2/v2.0/token"), &form)
            .1;
        let token: serde_json::Value = serde_json::from_str(&reply).unwrap();
        this.token = token["access_token"].as_str().unwrap().into();
        let feed = format!("/api/v1.0/{directory}/activity/feed");
        let query =
            "contentType=Audit.Exchange&startTime=2026-03-01T00:00&endTime=2026-03-01T12:00";
        let get =
            format!("GET {feed}/subscriptions/content?{query}&PublisherIdentifier={PUBLISHER}");
        let list: serde_json::Value = serde_json::from_str(&this.say(&get, "").1).unwrap();
        let uri = list[0]["contentUri"].as_str().unwrap();
        let path = uri.strip_prefix(&server.resource_url).unwrap();
        this.blob = format!("GET {path}?PublisherIdentifier={PUBLISHER}");
        server.office(|office, _| *office.faults_mut() = faults);
        this
    }

    /// Sends one request and reads until the connection ends: head, body, and how it ended.
    fn say_until_end(&self, line: &str, body: &str) -> (String, String, std::io::Result<()>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let token = &self.token;
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: office\r\nconnection: close\r\nauthorization: Bearer \
            {token}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes).map(drop);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        (head.to_lowercase(), body.to_owned(), end)
    }

    fn say(&self, line: &str, body: &str) -> (String, String) {
        let (head, body, end) = self.say_until_end(line, body);
        end.unwrap();
        (head, body)
    }

    fn fetch(&self) -> (String, String, std::io::Result<()>) {
        self.say_until_end(&self.blob, "")
    }
}

fn length(head: &str) -> Option<usize> {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    line.parse().ok()
}

#[test]
fn a_good_blob_has_its_length_and_the_service_s_headers() {
    with_server(Faults::none(), |server, tongue| {
        let (head, body, end) = tongue.fetch();
        end.unwrap();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(length(&head), Some(body.len()));
        assert!(head.contains("server: microsoft-iis/10.0"));
        assert!(serde_json::from_str::<Vec<serde_json::Value>>(&body).is_ok());
        let stats = server.office(|office, _| office.stats().clone());
        assert_eq!((stats.blobs_sent, stats.peak_in_flight), (1, 1));
    });
}

#[test]
fn a_post_must_say_how_long_it_is() {
    with_server(Faults::none(), |_, tongue| {
        let mut stream = TcpStream::connect(&tongue.address).unwrap();
        let line = tongue.blob.replace("GET", "POST");
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: office\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 411 "), "{text}");
    });
}

#[test]
fn a_truncated_body_falls_short_of_its_length() {
    with_server(Faults::none().with(Fault::Truncate, 1.0), |_, tongue| {
        let (head, body, _) = tongue.fetch();
        assert!(length(&head).unwrap() > body.len(), "{head}");
    });
}

#[test]
fn a_length_can_promise_too_much_and_too_little() {
    with_server(Faults::none().with(Fault::LengthLong, 1.0), |_, tongue| {
        let (head, body, _) = tongue.fetch();
        assert!(length(&head).unwrap() > body.len());
        assert!(
            serde_json::from_str::<Vec<serde_json::Value>>(&body).is_ok(),
            "all of it came"
        );
    });
    with_server(Faults::none().with(Fault::LengthShort, 1.0), |_, tongue| {
        let (head, body, end) = tongue.fetch();
        end.unwrap();
        assert_eq!(length(&head), Some(body.len()));
        assert!(serde_json::from_str::<Vec<serde_json::Value>>(&body).is_err());
    });
}

#[test]
fn a_chunked_body_ends_with_or_without_its_end() {
    with_server(Faults::none().with(Fault::Chunked, 1.0), |_, tongue| {
        let (head, body, end) = tongue.fetch();
        end.unwrap();
        assert!(head.contains("transfer-encoding: chunked") && body.ends_with("0\r\n\r\n"));
    });
    with_server(
        Faults::none().with(Fault::TruncateChunked, 1.0),
        |_, tongue| {
            let (head, body, _) = tongue.fetch();
            assert!(head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n"));
        },
    );
}

#[test]
fn connections_are_reset_before_and_after_the_headers() {
    with_server(
        Faults::none().with(Fault::ResetBeforeHeaders, 1.0),
        |_, tongue| {
            let (head, body, end) = tongue.fetch();
            assert_eq!((head.as_str(), body.as_str()), ("", ""));
            assert!(end.is_err(), "reset, not closed");
        },
    );
    with_server(
        Faults::none().with(Fault::ResetAfterHeaders, 1.0),
        |_, tongue| {
            let (head, body, end) = tongue.fetch();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert!(body.is_empty() && end.is_err());
        },
    );
}

#[test]
fn a_stalled_body_stops_and_a_trickled_one_arrives() {
    let mut faults = Faults::none().with(Fault::Stall, 1.0);
    faults.stall_ms = 30;
    with_server(faults, |_, tongue| {
        let (head, body, _) = tongue.fetch();
        assert!(length(&head).unwrap() > body.len());
    });
    with_server(Faults::none().with(Fault::Trickle, 1.0), |_, tongue| {
        let (head, body, end) = tongue.fetch();
        end.unwrap();
        assert_eq!(length(&head), Some(body.len()));
    });
}

#[test]
fn the_host_that_is_not_ours_notices_a_token() {
    with_server(Faults::none(), |server, tongue| {
        let address = server
            .foreign_url
            .strip_prefix("http://")
            .unwrap()
            .to_owned();
        let stray = Tongue {
            address,
            token: tongue.token.clone(),
            blob: tongue.blob.clone(),
        };
        stray.fetch().2.unwrap();
        assert_eq!(server.office(|office, _| office.stats().leaked_tokens), 1);
    });
}

#[test]
fn the_control_plane_judges_deliveries() {
    with_server(Faults::none(), |server, tongue| {
        let (_, body, _) = tongue.fetch();
        let records: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
        let lines: Vec<String> = records
            .iter()
            .map(|r| {
                format!(
                    r#"{{"event":{{"id":{}}},"organization":{{"id":{}}}}}"#,
                    r["Id"], r["OrganizationId"]
                )
            })
            .collect();
        let address = server
            .control_url
            .strip_prefix("http://")
            .unwrap()
            .to_owned();
        let control = Tongue {
            address,
            token: String::new(),
            blob: String::new(),
        };
        let (_, verdict) = control.say("POST /_mock/oracle", &lines.join("\n"));
        let verdict: serde_json::Value = serde_json::from_str(&verdict).unwrap();
        assert_eq!(
            (&verdict["delivered"], &verdict["owed"]),
            (&50.into(), &200.into()),
            "{verdict}"
        );
        assert_eq!(
            (&verdict["missing"], &verdict["invented"]),
            (&150.into(), &0.into())
        );
        let (_, stats) = control.say("GET /_mock/stats", "");
        assert!(stats.contains("\"blobs_sent\":1"), "{stats}");
        let (head, _) = control.say("POST /_mock/fault", "truncate=1");
        assert!(head.starts_with("http/1.1 200 "));
        let (head, body, _) = tongue.fetch();
        assert!(length(&head).unwrap() > body.len());
        let (_, log) = control.say("GET /_mock/log", "");
        let log: Vec<String> = serde_json::from_str(&log).unwrap();
        assert!(log[0].contains(" 200 POST /") && log.len() == 4, "{log:?}");
        let (_, clock) = control.say("POST /_mock/clock", "3600000");
        assert!(clock.contains("\"now_ms\":17723700"), "{clock}");
        assert!(
            tongue.fetch().0.starts_with("http/1.1 401 "),
            "the token has expired"
        );
        assert!(
            control
                .say("POST /_mock/fault", "x=1")
                .0
                .starts_with("http/1.1 400 ")
        );
        assert!(control.say("GET /", "").0.starts_with("http/1.1 404 "));
    });
}

#[test]
fn the_control_plane_takes_scripts() {
    with_server(Faults::none(), |server, tongue| {
        let address = server.control_url.strip_prefix("http://").unwrap();
        let control = Tongue {
            address: address.to_owned(),
            token: String::new(),
            blob: String::new(),
        };
        let script = r#"{"operation":"blob","tenant":0,"content_type":"Audit.Exchange","times":1,
            "status":429,"headers":{"Retry-After":"3"},"body":"slow down"}"#;
        let (_, answer) = control.say("POST /_mock/script", script);
        assert_eq!(answer, r#"{"script":0}"#);
        let (head, body, _) = tongue.fetch();
        assert!(
            head.starts_with("http/1.1 429 ") && head.contains("retry-after: 3"),
            "{head}"
        );
        assert_eq!(body, "slow down");
        control.say(
            "POST /_mock/script",
            r#"{"operation":"blob","fault":"length-long"}"#,
        );
        let (head, body, _) = tongue.fetch();
        assert!(length(&head).unwrap() > body.len());
        for bad in [
            "",
            "{}",
            r#"{"operation":"blob"}"#,
            r#"{"operation":"x","status":200}"#,
        ] {
            let (head, _) = control.say("POST /_mock/script", bad);
            assert!(head.starts_with("http/1.1 400 "), "{bad}: {head}");
        }
    });
}

/// Sends requests on one HTTP/2 connection until it refuses more; gives how many were answered.
async fn http2(server: &Server, path: &str) -> u32 {
    let address = server.resource_url.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut answered = 0;
    while answered < 3 {
        let request = hyper::Request::get(format!("{}{path}", server.resource_url))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let Ok(response) = sender.send_request(request).await else {
            break;
        };
        assert_eq!(response.version(), hyper::Version::HTTP_2);
        let _ = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        answered += 1;
        if server.office(|office, _| office.faults_mut().rate(Fault::Close)) > 0.0 {
            // What the server says goodbye with has come when its side has ended.
            connection.await.unwrap().unwrap();
            break;
        }
    }
    answered
}

#[test]
fn a_connection_of_http_2_is_left_with_goaway() {
    for (rate, answered) in [(0.0, 3), (1.0, 1)] {
        with_server(Faults::none().with(Fault::Close, rate), |server, tongue| {
            let path = tongue.blob.strip_prefix("GET ").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let seen = runtime.unwrap().block_on(http2(server, path));
            assert_eq!(seen, answered);
        });
    }
}

#[test]
fn a_stop_lets_requests_end_and_takes_no_more() {
    let mut faults = Faults::none().with(Fault::SlowHeaders, 1.0);
    faults.slow_ms = 100;
    with_server(faults, |server, tongue| {
        std::thread::scope(|scope| {
            let fetch = scope.spawn(|| tongue.fetch());
            while server.office(|office, _| office.stats().fetch_requests) == 0 {
                std::thread::yield_now();
            }
            server.stop();
            let (head, body, end) = fetch.join().unwrap();
            end.unwrap();
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert_eq!(length(&head), Some(body.len()));
        });
        let refused = (0..10_000).any(|_| {
            std::thread::yield_now();
            TcpStream::connect(&tongue.address).is_err()
        });
        assert!(refused, "it still listens");
    });
}
