//! The sink against servers that ask who we are, and answer wrongly.

use std::path::Path;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::msgpack::Value;
use super::*;
use crate::config::sink::address::Address;
use crate::config::sink::fluent::FluentLogin;
use crate::config::sink::request::Delivery;
use crate::event::{Event, Identity, StreamKey};
use crate::secret::{SecretOrigin, SecretRef};

const PATIENCE: Duration = Duration::from_secs(10);

fn secret(folder: &Path, name: &str, value: &str) -> SecretRef {
    let path = folder.join(name);
    std::fs::write(&path, value).unwrap();
    SecretRef {
        origin: SecretOrigin::File(path),
        place: crate::config::Place::default(),
    }
}

fn sink(listener: &TcpListener, login: Option<FluentLogin>) -> FluentSink {
    let config = Fluent {
        endpoints: vec![Address {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        }],
        load_balance: true,
        tag: "o365.{stream}".to_owned(),
        login,
        encrypted: false,
        delivery: Delivery {
            policy: crate::sink::Policy::default(),
            timeout: PATIENCE,
            compression: Compression::None,
            tls: None,
        },
    };
    FluentSink::new("fluent", &config, &HttpConfig::default(), &Arc::default()).unwrap()
}

fn event(stream: &str, body: &'static str) -> Outgoing {
    Outgoing {
        stream: StreamKey::new("contoso", stream),
        event: Event {
            id: body.into(),
            fingerprint: 0,
            time_ms: 1_500,
            body: Bytes::from_static(body.as_bytes()),
            identity: Identity::of("contoso", body, 0),
        },
        rewritten: None,
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let whole = ring::digest::digest(&ring::digest::SHA512, &parts.concat());
    let hex = |hex: String, byte: &u8| hex + &format!("{byte:02x}");
    whole.as_ref().iter().fold(String::new(), hex)
}

/// What a server asks, and what it makes of the answer, as Fluentd's documentation has it.
async fn asks(stream: &mut TcpStream, answers: &mut Answers, key: &str, password: &str) -> bool {
    let mut hello = Vec::new();
    msgpack::list(&mut hello, 2);
    msgpack::text(&mut hello, "HELO");
    msgpack::map(&mut hello, 3);
    for (name, value) in [("nonce", "n0nce"), ("auth", "pepper")] {
        msgpack::text(&mut hello, name);
        msgpack::binary(&mut hello, value.as_bytes());
    }
    msgpack::text(&mut hello, "keepalive");
    hello.push(0xc3);
    stream.write_all(&hello).await.unwrap();
    let Value::List(ping) = answers.next(stream).await.unwrap() else {
        panic!("no list");
    };
    let ping: Vec<_> = ping.iter().map(|part| part.bytes().unwrap()).collect();
    let [word, hostname, salt, shown, user, proof] = ping[..] else {
        panic!("{} parts", ping.len());
    };
    assert_eq!(
        (word, hostname, user),
        (&b"PING"[..], &b"ours"[..], &b"alice"[..])
    );
    let knows = shown == digest(&[salt, hostname, b"n0nce", key.as_bytes()]).as_bytes()
        && proof == digest(&[b"pepper", user, password.as_bytes()]).as_bytes();
    let mut pong = Vec::new();
    msgpack::list(&mut pong, 5);
    msgpack::text(&mut pong, "PONG");
    pong.push(if knows { 0xc3 } else { 0xc2 });
    msgpack::text(&mut pong, if knows { "" } else { "shared_key mismatch" });
    msgpack::text(&mut pong, "theirs");
    let ours = digest(&[salt, b"theirs", b"n0nce", key.as_bytes()]);
    msgpack::text(&mut pong, &ours);
    stream.write_all(&pong).await.unwrap();
    knows
}

/// The name of the next chunk.
async fn chunk(stream: &mut TcpStream, answers: &mut Answers) -> Vec<u8> {
    let Value::List(parts) = answers.next(stream).await.unwrap() else {
        panic!("no list");
    };
    parts[2]
        .get("chunk")
        .and_then(Value::bytes)
        .unwrap()
        .to_vec()
}

async fn acknowledge(stream: &mut TcpStream, name: &[u8]) {
    let mut ack = Vec::new();
    msgpack::map(&mut ack, 1);
    msgpack::text(&mut ack, "ack");
    msgpack::text(&mut ack, std::str::from_utf8(name).unwrap());
    stream.write_all(&ack).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_replaced_is_read_again_when_the_server_refuses_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = FluentLogin {
        hostname: "ours".to_owned(),
        shared_key: Some(secret(folder.path(), "key", "old-key")),
        user: Some((
            "alice".to_owned(),
            secret(folder.path(), "password", "hunter2"),
        )),
    };
    let sink = sink(&listener, Some(login));
    std::fs::write(folder.path().join("key"), "new-key\n").unwrap();
    let server = tokio::spawn(async move {
        for expected in [false, true] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answers = Answers::new(PATIENCE);
            let knows = asks(&mut stream, &mut answers, "new-key", "hunter2").await;
            assert_eq!(knows, expected);
            // Two requests on one connection, which signs in once.
            for _ in 0..(if knows { 2 } else { 0 }) {
                let name = chunk(&mut stream, &mut answers).await;
                acknowledge(&mut stream, &name).await;
            }
        }
    });
    let Reply::Again(refused) = sink.send(&[event("a", "{}")]).await else {
        panic!("taken");
    };
    let words = refused.error.to_string();
    assert!(words.contains("shared_key mismatch"), "{words}");
    for _ in 0..2 {
        let reply = sink.send(&[event("a", "{}")]).await;
        assert!(matches!(reply, Reply::Taken { failed, .. } if failed.is_empty()));
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_know_the_key_itself_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = FluentLogin {
        hostname: "ours".to_owned(),
        shared_key: Some(secret(folder.path(), "key", "the-key")),
        user: None,
    };
    let sink = sink(&listener, Some(login));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Says yes to anybody.
        let hello = b"\x92\xa4HELO\x81\xa5nonce\xc4\x01n";
        let pong = b"\x95\xa4PONG\xc3\xa0\xa1x\xa1y";
        stream.write_all(hello).await.unwrap();
        let mut answers = Answers::new(PATIENCE);
        answers.next(&mut stream).await.unwrap();
        stream.write_all(pong).await.unwrap();
        assert!(answers.next(&mut stream).await.is_err(), "an event came");
    });
    let Reply::Again(refused) = sink.send(&[event("a", "{}")]).await else {
        panic!("taken");
    };
    let words = refused.error.to_string();
    assert!(
        words.contains("does not know the shared key itself"),
        "{words}"
    );
}

#[tokio::test]
async fn only_what_is_not_acknowledged_comes_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = sink(&listener, None);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut answers = Answers::new(PATIENCE);
        let name = chunk(&mut stream, &mut answers).await;
        acknowledge(&mut stream, &name).await;
        chunk(&mut stream, &mut answers).await;
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut answers = Answers::new(PATIENCE);
        chunk(&mut stream, &mut answers).await;
        // Somebody else's.
        acknowledge(&mut stream, b"c29tZWJvZHkgZWxzZQ==").await;
        stream
    });
    let events = [
        event("b", "{}"),
        event("a", "[]"),
        event("a", "{}"),
        event("b", "{\"a\":1}"),
    ];
    let Reply::Taken { failed, .. } = sink.send(&events).await else {
        panic!("nothing taken");
    };
    let fates: Vec<_> = failed
        .iter()
        .map(|(index, fate)| (*index, matches!(fate, Fate::Refused(_))))
        .collect();
    assert_eq!(fates, [(0, false), (1, true), (3, false)]);
    let Reply::Again(other) = sink.send(&events[..1]).await else {
        panic!("taken");
    };
    assert!(
        other.error.what.contains("something else"),
        "{}",
        other.error
    );
    drop(server.await.unwrap());
}
