//! Measures how many requests a second the loopback office answers, with 50 connections.
//!
//! `cargo run --release -p sluicegate-office --example load -- [SECONDS]` prints requests per
//! second for small blobs, and bytes per second for large ones, client and server sharing the
//! machine.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use sluicegate_office::{ContentType, Office, Reply, Request, Server};

type Failure = Box<dyn Error + Send + Sync>;

const CONNECTIONS: usize = 50;

fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    for (blobs, events) in [(200, 10), (50, 2_000)] {
        let rates = runtime.block_on(measure(blobs, events, Duration::from_secs(seconds)))?;
        println!(
            "blobs of {events} events: {} requests/s, {} MB/s, over {CONNECTIONS} connections",
            rates.0,
            rates.1 / 1_000_000
        );
    }
    Ok(())
}

async fn measure(blobs: u32, events: u32, time: Duration) -> Result<(u64, u64), Failure> {
    let builder = Office::builder(1)
        .blobs(blobs)
        .events_per_blob(events)
        .page_size(200)
        .subscribed();
    let kinds = [ContentType::Exchange];
    let office = builder
        .content_types(&kinds)
        .build(sluicegate_office::Clock::system().now_ms());
    let server = Server::start(office, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let (token, uris) = server.office(prepare)?;
    let (token, uris) = (Arc::new(token), Arc::new(uris));
    let address = server.resource_url.trim_start_matches("http://").to_owned();
    let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let (token, uris, counts) = (Arc::clone(&token), Arc::clone(&uris), Arc::clone(&counts));
        let address = address.clone();
        tasks.push(tokio::spawn(async move {
            fetch_until(started + time, number, &address, &token, &uris, &counts).await
        }));
    }
    for task in tasks {
        task.await??;
    }
    let ms = u64::try_from(started.elapsed().as_millis())?.max(1);
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) * 1_000 / ms;
    Ok((rate(&counts.0), rate(&counts.1)))
}

/// A token and the paths of all blobs, asked for in memory.
fn prepare(office: &mut Office, now: i64) -> Result<(String, Vec<String>), Failure> {
    let tenant = &office.tenants()[0];
    let (login, root) = (
        office.login_url().to_owned(),
        office.resource_url().to_owned(),
    );
    let directory = tenant.directory_id.clone();
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={root}/.default",
        tenant.client_id,
        tenant
            .client_secret
            .replace('%', "%25")
            .replace('&', "%26")
            .replace('+', "%2B"),
    );
    let url = format!("{login}/{directory}/oauth2/v2.0/token");
    let token = body(office.handle(now, &Request::post(&url).with_body(form)))?;
    let token = token["access_token"].as_str().ok_or("no token")?.to_owned();
    let bearer = format!("Bearer {token}");
    let feed = format!("{root}/api/v1.0/{directory}/activity/feed/subscriptions/content");
    let url = format!("{feed}?contentType=Audit.Exchange");
    let list = body(office.handle(now, &Request::get(&url).header("authorization", &bearer)))?;
    let uris = list
        .as_array()
        .ok_or("no list")?
        .iter()
        .filter_map(|d| d["contentUri"].as_str());
    Ok((bearer, uris.map(|uri| uri.replace(&root, "")).collect()))
}

fn body(reply: Reply) -> Result<serde_json::Value, Failure> {
    Ok(serde_json::from_slice(&reply.content.into_bytes())?)
}

async fn fetch_until(
    end: Instant,
    number: usize,
    address: &str,
    token: &str,
    uris: &[String],
    counts: &(AtomicU64, AtomicU64),
) -> Result<(), Failure> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    for index in number.. {
        if Instant::now() >= end {
            break;
        }
        let request = hyper::Request::get(&uris[index % uris.len()])
            .header("host", address)
            .header("authorization", token)
            .body(Full::<Bytes>::default())?;
        let reply = sender.send_request(request).await?;
        if reply.status() != 200 {
            return Err(format!("status {}", reply.status()).into());
        }
        let mut body = reply.into_body();
        while let Some(frame) = body.frame().await {
            let bytes = frame?.data_ref().map_or(0, Bytes::len);
            counts.1.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        counts.0.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
