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
        assert!(
            control
                .say("POST /_mock/fault", "x=1")
                .0
                .starts_with("http/1.1 400 ")
        );
        assert!(control.say("GET /", "").0.starts_with("http/1.1 404 "));
    });
}
