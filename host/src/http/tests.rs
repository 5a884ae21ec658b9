//! The client against servers on the loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::config::http::Proxy;

/// A server that answers with what `answer` makes of a request's method and URI, and counts its
/// connections.
async fn serve(
    answer: impl Fn(&http::Request<Incoming>) -> String + Clone + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let text = answer(&request);
                let response = http::Response::new(Full::new(Bytes::from(text)));
                async move { Ok::<_, Infallible>(response) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, connections)
}

fn client(proxy: Option<&str>) -> Client {
    let proxy = proxy.map(|url| Proxy {
        url: Url::parse(url).unwrap(),
        login: Some(("me".into(), None)),
    });
    Client::new(&HttpConfig {
        proxy,
        ..HttpConfig::default()
    })
    .unwrap()
}

fn get(uri: &str) -> http::Request<Full<Bytes>> {
    http::Request::get(uri).body(Full::default()).unwrap()
}

async fn text(client: &Client, uri: &str) -> Result<String, HttpError> {
    let response = client.send(get(uri)).await?;
    let body = read_all("127.0.0.1", response.into_body(), 1 << 20).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn connections_are_kept_and_pools_are_separate() {
    let (address, connections) = serve(|request| request.uri().to_string()).await;
    let client = client(None);
    for path in ["/a", "/b?c=d", "/e"] {
        assert_eq!(
            text(&client, &format!("http://{address}{path}"))
                .await
                .unwrap(),
            path
        );
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    text(&client.separate(), &format!("http://{address}/"))
        .await
        .unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n";
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    let response = client(None)
        .send(get(&format!("http://{address}/")))
        .await
        .unwrap();
    assert_eq!(response.status(), 302);
}

#[tokio::test]
async fn trouble_is_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = closed.local_addr().unwrap();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap();
    let (plain, _) = serve(|_| String::new()).await;
    let fast = client(None).first_byte_timeout(Duration::from_millis(50));
    let slow = client(None);
    // No label may have more than 63 letters, so no name server is asked.
    let nameless = format!("http://{}.example.com/", "x".repeat(64));
    for (client, uri, trouble) in [
        (&slow, nameless, Trouble::Dns),
        (&slow, format!("http://{refused}/"), Trouble::Connect),
        (&slow, format!("https://{plain}/"), Trouble::Tls),
        (&fast, format!("http://{silent_address}/"), Trouble::Timeout),
        (&slow, "/relative".to_owned(), Trouble::Request),
    ] {
        let error = client.send(get(&uri)).await.unwrap_err();
        assert_eq!(error.trouble, trouble, "{uri}: {error}");
        assert!(!error.what.is_empty());
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let (address, _) = serve(|_| "x".repeat(1000)).await;
    let response = client(None)
        .send(get(&format!("http://{address}/")))
        .await
        .unwrap();
    let error = read_all("127.0.0.1", response.into_body(), 999)
        .await
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::TooLarge);
}

#[tokio::test]
async fn a_proxy_sees_whole_addresses_and_who_asks() {
    let (address, _) = serve(|request| {
        let login = request.headers().get(PROXY_AUTHORIZATION);
        format!(
            "{} {}",
            request.uri(),
            login.map_or("-", |login| login.to_str().unwrap())
        )
    })
    .await;
    let client = client(Some(&format!("http://{address}")));
    let seen = text(&client, "http://api.example.com/list?page=2")
        .await
        .unwrap();
    assert_eq!(seen, "http://api.example.com/list?page=2 Basic bWU6");
}

#[tokio::test]
async fn an_https_host_is_reached_through_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8(request).unwrap()
    });
    let client = client(Some(&format!("http://{address}")));
    let error = client
        .send(get("https://api.example.com/secret-path"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.trouble, error.what.contains("403")),
        (Trouble::Proxy, true),
        "{error}"
    );
    let seen = seen.await.unwrap();
    assert!(
        seen.starts_with("CONNECT api.example.com:443 HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(
        seen.contains("Proxy-Authorization: Basic bWU6\r\n"),
        "{seen}"
    );
    assert!(!seen.contains("secret-path"));
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/auth")
        .join(name)
}

/// A TLS server, certified for `localhost` by nobody but itself, that answers one request.
fn serve_tls() -> SocketAddr {
    serve_tls_to(None)
}

/// The same for clients that have this certificate.
fn serve_tls_to(client: Option<&str>) -> SocketAddr {
    let pem = std::fs::read(fixture("server.pem")).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .map(Result::unwrap)
        .collect();
    let key = std::fs::read(fixture("server.key")).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = client.map(|name| {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(fixture(name)).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&pem).unwrap())
            .unwrap();
        let roots = Arc::new(roots);
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .unwrap()
    });
    let clients = clients.unwrap_or_else(rustls::server::WebPkiClientVerifier::no_client_auth);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        while let Ok((stream, _)) = listener.accept() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream);
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && tls.read(&mut byte).is_ok_and(|read| read > 0)
            {
                request.push(byte[0]);
            }
            // The client that refuses the certificate is gone by now.
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            let _ = tls.flush();
        }
    });
    address
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted_only_when_it_is_named() {
    let port = serve_tls().port();
    let error = client(None)
        .send(get(&format!("https://localhost:{port}/")))
        .await
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::Tls, "{error}");
    let ca_file = Some(fixture("server.pem"));
    let trusting = Client::new(&HttpConfig {
        ca_file,
        ..HttpConfig::default()
    })
    .unwrap();
    assert_eq!(
        text(&trusting, &format!("https://localhost:{port}/"))
            .await
            .unwrap(),
        "ok"
    );
    let ca_file = Some(fixture("server.key"));
    let error = Client::new(&HttpConfig {
        ca_file,
        ..HttpConfig::default()
    })
    .unwrap_err();
    assert!(error.what.contains("holds no certificate"), "{error}");
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_to_the_host_itself() {
    let target = serve_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .unwrap();
        let mut onward = tokio::net::TcpStream::connect(target).await.unwrap();
        tokio::io::copy_bidirectional(&mut stream, &mut onward)
            .await
            .ok();
    });
    let proxy = Some(Proxy {
        url: Url::parse(&format!("http://{address}")).unwrap(),
        login: None,
    });
    let ca_file = Some(fixture("server.pem"));
    let client = Client::new(&HttpConfig {
        ca_file,
        proxy,
        ..HttpConfig::default()
    })
    .unwrap();
    let port = target.port();
    assert_eq!(
        text(&client, &format!("https://localhost:{port}/"))
            .await
            .unwrap(),
        "ok"
    );
}

#[test]
fn retry_after_is_kept_in_bounds() {
    let at = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        // 1994-11-06T08:49:00Z
        retry_after(&headers, 784_111_740_000).map(|wait| wait.as_secs())
    };
    for (text, seconds) in [
        ("7", Some(7)),
        ("0", Some(1)),
        ("-5", Some(1)),
        ("315360000", Some(3600)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
        ("soon", None),
    ] {
        assert_eq!(at(text), seconds, "{text}");
    }
}

#[tokio::test]
async fn a_sink_trusts_and_shows_what_its_own_section_says() {
    let strict = Tls {
        ca_file: None,
        identity: None,
        verify_certificate: true,
        verify_hostname: true,
        place: crate::config::Place::default(),
    };
    let ca_file = Some(fixture("server.pem"));
    let trusting = Tls {
        ca_file,
        ..strict.clone()
    };
    let nameless = Tls {
        verify_hostname: false,
        ..trusting.clone()
    };
    let blind = Tls {
        verify_certificate: false,
        ..strict.clone()
    };
    let stranger = Tls {
        verify_hostname: false,
        ca_file: Some(fixture("client.pem")),
        ..strict.clone()
    };
    let known = Tls {
        identity: Some((fixture("server.pem"), fixture("server.key"))),
        ..trusting.clone()
    };
    // The certificate is made out to `localhost` and 127.0.0.1, not to this name of the same place.
    let other = "[::ffff:127.0.0.1]";
    for (tls, host, client, good) in [
        (&strict, "localhost", None, false),
        (&trusting, "localhost", None, true),
        (&trusting, other, None, false),
        (&nameless, other, None, true),
        (&stranger, other, None, false),
        (&blind, other, None, true),
        (&trusting, "localhost", Some("server.pem"), false),
        (&known, "localhost", Some("server.pem"), true),
    ] {
        let port = serve_tls_to(client).port();
        let ours = Client::with_tls(&HttpConfig::default(), Some(tls)).unwrap();
        let found = text(&ours, &format!("https://{host}:{port}/")).await;
        assert_eq!(found.is_ok(), good, "{tls:?} {host} {client:?}: {found:?}");
    }
    let wrong = Tls {
        identity: Some((fixture("client.pem"), fixture("client-encrypted.key"))),
        ..strict
    };
    let error = Client::with_tls(&HttpConfig::default(), Some(&wrong)).unwrap_err();
    assert!(
        error.what.contains("not encrypted") && error.places[0].contains("tls.key_file"),
        "{error}"
    );
}
