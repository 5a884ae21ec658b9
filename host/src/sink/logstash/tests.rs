//! The sink against servers that acknowledge in parts, break off, and lie.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::sink::address::Address;
use crate::config::sink::request::{Compression, Delivery};
use crate::event::{Event, Identity, StreamKey};

const PATIENCE: Duration = Duration::from_millis(300);

fn sink(listeners: &[&TcpListener]) -> LogstashSink {
    let address = |listener: &&TcpListener| Address {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
    };
    let config = Logstash {
        endpoints: listeners.iter().map(address).collect(),
        load_balance: true,
        beat: "sluicegate".to_owned(),
        compression_level: 0,
        encrypted: false,
        delivery: Delivery {
            policy: crate::sink::Policy::default(),
            timeout: PATIENCE,
            compression: Compression::None,
            tls: None,
        },
    };
    LogstashSink::new("logstash", &config, &HttpConfig::default()).unwrap()
}

fn events(count: u32) -> Vec<Outgoing> {
    let event = |number: u32| Outgoing {
        stream: StreamKey::new("contoso", "Audit.General"),
        event: Event {
            id: number.to_string().into(),
            fingerprint: 0,
            time_ms: 0,
            body: Bytes::from(format!("{{\"a\":{number}}}")),
            identity: Identity::of("contoso", &number.to_string(), 0),
        },
        rewritten: None,
    };
    (0..count).map(event).collect()
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Reads a window and answers with these numbers; the connection stays open with the value.
async fn answers(listener: &TcpListener, numbers: &[u32]) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    again(&mut stream, numbers).await;
    stream
}

async fn again(stream: &mut TcpStream, numbers: &[u32]) {
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.unwrap();
    for _ in 0..u32::from_be_bytes(head[2..].try_into().unwrap()) {
        let mut head = [0; 10];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes(head[6..].try_into().unwrap());
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.unwrap();
    }
    for number in numbers {
        let frame = [&b"2A"[..], &number.to_be_bytes()].concat();
        stream.write_all(&frame).await.unwrap();
    }
}

fn failed(reply: Reply) -> Vec<usize> {
    match reply {
        Reply::Taken { failed, .. } => failed.into_iter().map(|(index, _)| index).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_window_is_taken_when_its_last_event_is_acknowledged() {
    let listener = listen().await;
    let sink = sink(&[&listener]);
    let server = tokio::spawn(async move {
        // Still at work, a part, the same again, the rest; then the next window on the same connection.
        let mut stream = answers(&listener, &[0, 2, 2, 5]).await;
        again(&mut stream, &[3]).await;
    });
    assert!(failed(sink.send(&events(5)).await).is_empty());
    assert!(failed(sink.send(&events(3)).await).is_empty());
    server.await.unwrap();
}

#[tokio::test]
async fn what_a_broken_window_was_acknowledged_for_is_not_sent_again() {
    let listener = listen().await;
    let sink = sink(&[&listener]);
    let server = tokio::spawn(async move {
        drop(answers(&listener, &[2]).await);
        drop(answers(&listener, &[0]).await);
        // Neither does one that stalls lose what it has acknowledged.
        let stalls = answers(&listener, &[1]).await;
        let (mut lies, _) = listener.accept().await.unwrap();
        again(&mut lies, &[6]).await;
        (stalls, lies)
    });
    assert_eq!(failed(sink.send(&events(5)).await), [2, 3, 4]);
    assert!(matches!(sink.send(&events(5)).await, Reply::Again(_)));
    assert_eq!(failed(sink.send(&events(5)).await), [1, 2, 3, 4]);
    let Reply::Again(lied) = sink.send(&events(5)).await else {
        panic!("taken");
    };
    assert!(lied.error.what.contains("event 6 of 5"), "{}", lied.error);
    server.await.unwrap();
}

#[tokio::test]
async fn servers_take_turns_and_one_that_is_down_is_left_out() {
    let (first, second, down) = (listen().await, listen().await, listen().await);
    let sink = sink(&[&first, &down, &second]);
    drop(down);
    let server = |listener: TcpListener| {
        tokio::spawn(async move {
            let mut stream = answers(&listener, &[1]).await;
            again(&mut stream, &[1]).await;
        })
    };
    let servers = [server(first), server(second)];
    for _ in 0..4 {
        assert!(failed(sink.send(&events(1)).await).is_empty());
    }
    for server in servers {
        server.await.unwrap();
    }
}

#[tokio::test]
async fn an_event_that_is_no_object_is_found_alone() {
    let listener = listen().await;
    let mut events = events(2);
    events[1].event.body = Bytes::from_static(b"[]");
    let reply = sink(&[&listener]).send(&events).await;
    assert!(matches!(reply, Reply::Split(reason) if reason.contains("not a JSON object")));
}
