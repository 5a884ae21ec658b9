//! The sink against receivers on this machine that read, stall, break off and lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};

use super::*;
use crate::config::sink::address::Address;
use crate::config::sink::request::{Compression, Delivery, Tls};
use crate::config::sink::socket::Encoding;
use crate::event::{Event, Identity, StreamKey};

/// Shorter than any wait of a test that must not be reached.
const PATIENCE: Duration = Duration::from_millis(300);

fn config(mode: Mode, target: Target) -> Socket {
    Socket {
        mode,
        target,
        encoding: Encoding::Json,
        confirm: Confirm::Received,
        max_message: None,
        encrypted: false,
        delivery: Delivery {
            policy: crate::sink::Policy::default(),
            timeout: PATIENCE,
            compression: Compression::None,
            tls: None,
        },
    }
}

fn at(host: &str, address: std::net::SocketAddr) -> Target {
    Target::Address(Address {
        host: host.to_owned(),
        port: address.port(),
    })
}

fn sink(config: &Socket) -> SocketSink {
    SocketSink::new("socket", config, &HttpConfig::default()).unwrap()
}

fn events(bodies: &[&str]) -> Vec<Outgoing> {
    let event = |body: &&str| Outgoing {
        stream: StreamKey::new("contoso", "Audit.General"),
        event: Event {
            id: (*body).into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::copy_from_slice(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        },
        rewritten: None,
    };
    bodies.iter().map(event).collect()
}

#[track_caller]
fn taken(reply: Reply) -> Vec<(usize, Fate)> {
    match reply {
        Reply::Taken { failed, .. } => failed,
        Reply::Again(again) => panic!("{}", again.error),
        Reply::Split(reason) => panic!("{reason}"),
    }
}

#[track_caller]
fn again(reply: Reply) -> String {
    match reply {
        Reply::Again(again) => again.error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_received_is_taken_and_the_connection_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = sink(&config(
        Mode::Tcp,
        at("127.0.0.1", listener.local_addr().unwrap()),
    ));
    // It is received as soon as the system has it, before anybody accepts.
    assert!(taken(sink.send(&events(&["{\"a\":1}", "{}"])).await).is_empty());
    assert!(taken(sink.send(&events(&["[]"])).await).is_empty());
    drop(sink);
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "{\"a\":1}\n{}\n[]\n");
}

#[tokio::test]
async fn a_receiver_that_does_not_read_has_not_confirmed_as_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(Mode::Tcp, at("127.0.0.1", listener.local_addr().unwrap()));
    config.confirm = Confirm::Read;
    let sink = sink(&config);
    let error = again(sink.send(&events(&["{}"])).await);
    assert!(error.contains("no progress"), "{error}");
    drop(listener.accept().await.unwrap());
    // It ends without having read.
    let drops = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        drop(stream);
        listener
    });
    let error = again(sink.send(&events(&["{}"])).await);
    assert!(error.contains("sent again"), "{error}");
    let listener = drops.await.unwrap();
    let reads = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    });
    assert!(taken(sink.send(&events(&["{}"])).await).is_empty());
    assert_eq!(reads.await.unwrap(), "{}\n");
}

#[tokio::test]
async fn a_receiver_that_stalls_is_given_up_and_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = sink(&config(
        Mode::Tcp,
        at("127.0.0.1", listener.local_addr().unwrap()),
    ));
    let large = "x".repeat(64 << 20);
    let error = again(sink.send(&events(&[&large])).await);
    assert!(error.contains("no progress"), "{error}");
}

#[tokio::test]
async fn a_connection_that_the_receiver_closed_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = sink(&config(
        Mode::Tcp,
        at("127.0.0.1", listener.local_addr().unwrap()),
    ));
    let mut texts = Vec::new();
    for body in ["{\"a\":1}", "{\"a\":2}"] {
        assert!(taken(sink.send(&events(&[body])).await).is_empty());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = vec![0; 8];
        stream.read_exact(&mut line).await.unwrap();
        texts.push(String::from_utf8(line).unwrap());
    }
    assert_eq!(texts, ["{\"a\":1}\n", "{\"a\":2}\n"]);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/auth")
        .join(name)
}

/// A TLS server's end, for clients that have its own certificate.
fn acceptor() -> tokio_rustls::TlsAcceptor {
    let read = |name| std::fs::read(fixture(name)).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read("server.pem"))
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&read("server.pem")).unwrap())
        .unwrap();
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}

#[tokio::test]
async fn tls_has_both_certificates_and_an_end() {
    for confirm in [Confirm::Received, Confirm::Read] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config(Mode::Tcp, at("localhost", listener.local_addr().unwrap()));
        (config.encrypted, config.confirm) = (true, confirm);
        config.delivery.timeout = Duration::from_secs(30);
        let tls = |identity: Option<(PathBuf, PathBuf)>| Tls {
            ca_file: Some(fixture("server.pem")),
            identity,
            verify_certificate: true,
            verify_hostname: true,
            place: crate::config::Place::default(),
        };
        let server = tokio::spawn(async move {
            let mut texts = Vec::new();
            for _ in 0..3 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                if let Ok(mut stream) = acceptor().accept(stream).await {
                    // Without an end of TLS where the connection is only dropped.
                    while let Ok(1..) = stream.read_buf(&mut text).await {}
                }
                texts.push(String::from_utf8(text).unwrap());
            }
            texts
        });
        let stranger = sink(&config);
        assert!(again(stranger.send(&events(&["{}"])).await).contains("certificate"));
        config.delivery.tls = Some(tls(None));
        let nobody = sink(&config);
        again(nobody.send(&events(&["{}"])).await);
        config.delivery.tls = Some(tls(Some((fixture("server.pem"), fixture("server.key")))));
        let sink = sink(&config);
        assert!(taken(sink.send(&events(&["{}"])).await).is_empty());
        drop((stranger, nobody, sink));
        assert_eq!(server.await.unwrap(), ["", "", "{}\n"]);
    }
}

#[tokio::test]
async fn a_unix_stream_is_taken_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let sink = sink(&config(Mode::UnixStream, Target::Path(path.clone())));
    assert!(again(sink.send(&events(&["{}"])).await).contains("`path`"));
    let listener = UnixListener::bind(&path).unwrap();
    let error = again(sink.send(&events(&["{}"])).await);
    assert!(error.contains("no progress"), "{error}");
    drop(listener.accept().await.unwrap());
    let reads = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = [0; 3];
        stream.read_exact(&mut line).await.unwrap();
        (stream, line)
    });
    assert!(taken(sink.send(&events(&["{}"])).await).is_empty());
    assert_eq!(reads.await.unwrap().1, *b"{}\n");
}

#[tokio::test]
async fn unix_datagrams_are_taken_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    let mut config = config(Mode::UnixDatagram, Target::Path(path.clone()));
    config.encoding = Encoding::Wazuh {
        location: "office365".into(),
        integration: None,
    };
    config.max_message = Some(100);
    let sink = sink(&config);
    again(sink.send(&events(&["{}"])).await);
    let receiver = UnixDatagram::bind(&path).unwrap();
    let error = again(sink.send(&events(&["{}"])).await);
    assert!(error.contains("no progress"), "{error}");
    let reads = tokio::spawn(async move {
        let mut found = Vec::new();
        for _ in 0..3 {
            let mut space = [0; 200];
            let length = receiver.recv(&mut space).await.unwrap();
            found.push(String::from_utf8(space[..length].to_vec()).unwrap());
        }
        (found, receiver)
    });
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let refused = taken(sink.send(&events(&["{}", &large, "{\"a\":1}"])).await);
    assert!(
        matches!(&refused[..], [(1, Fate::Refused(reason))] if reason.contains("`max_message` is 100")),
        "{refused:?}"
    );
    let (found, _receiver) = reads.await.unwrap();
    assert_eq!(
        found,
        ["1:office365:{}", "1:office365:{}", "1:office365:{\"a\":1}"]
    );
}

#[tokio::test]
async fn what_a_dead_receiver_had_not_read_goes_to_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    let mut config = config(Mode::UnixDatagram, Target::Path(path.clone()));
    config.delivery.timeout = Duration::from_secs(30);
    let sink = sink(&config);
    let first = UnixDatagram::bind(&path).unwrap();
    let (again_path, dies) = (path.clone(), async move {
        first.readable().await.unwrap();
        drop(first);
    });
    let restarts = tokio::spawn(async move {
        dies.await;
        std::fs::remove_file(&again_path).unwrap();
        UnixDatagram::bind(&again_path).unwrap()
    });
    again(sink.send(&events(&["{}"])).await);
    let second = restarts.await.unwrap();
    let reads = tokio::spawn(async move {
        let mut space = [0; 9];
        second.recv(&mut space).await.map(|length| (length, second))
    });
    assert!(taken(sink.send(&events(&["{}"])).await).is_empty());
    assert_eq!(reads.await.unwrap().unwrap().0, 2);
}

#[tokio::test]
async fn udp_tells_when_nobody_listens_and_what_is_too_large() {
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = receiver.local_addr().unwrap();
    let sink = sink(&config(Mode::Udp, at("127.0.0.1", address)));
    let large = "x".repeat(65_508);
    let refused = taken(sink.send(&events(&["{}", &large])).await);
    assert!(
        matches!(&refused[..], [(1, Fate::Refused(reason))] if reason.contains("65508 bytes")),
        "{refused:?}"
    );
    let mut space = [0; 9];
    assert_eq!(receiver.recv(&mut space).await.unwrap(), 2);
    drop(receiver);
    let error = again(sink.send(&events(&["{}"])).await);
    assert!(error.contains("refused"), "{error}");
}
