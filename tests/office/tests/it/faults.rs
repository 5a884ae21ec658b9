//! Every fault shows, and a careful client survives all of them together without loss.

use sluicegate_office::{
    ContentType, DAY_MS, End, Fault, Faults, Framing, HOUR_MS, Office, Reply, Waits,
};

use crate::client::{Client, Delivered, NOON, window};

const KINDS: [ContentType; 2] = [ContentType::Exchange, ContentType::SharePoint];

fn client(faults: Faults) -> Client {
    let builder = Office::builder(6)
        .content_types(&KINDS)
        .blobs(60)
        .events_per_blob(4);
    Client::new(builder.subscribed().faults(faults))
}

fn uri(client: &mut Client) -> String {
    let list = client.list(KINDS[0], NOON - DAY_MS, NOON);
    list[0]["contentUri"].as_str().unwrap().to_owned()
}

/// One fetch of a blob under this fault alone.
fn fetched(fault: Fault) -> Reply {
    let mut client = client(Faults::none());
    let uri = uri(&mut client);
    client.office.faults_mut().set(fault, 1.0);
    client.call("GET", &uri)
}

#[test]
fn broken_bodies_are_never_a_json_array() {
    let broken = [
        Fault::Truncate,
        Fault::TruncateChunked,
        Fault::LengthShort,
        Fault::LengthLong,
        Fault::Stall,
        Fault::ErrorWith200,
        Fault::NullBody,
        Fault::EmptyBody,
        Fault::HtmlBody,
        Fault::GarbageTail,
        Fault::DoubleBody,
        Fault::ResetBeforeHeaders,
        Fault::ResetAfterHeaders,
    ];
    for fault in broken {
        let reply = fetched(fault);
        assert_eq!(reply.status, 200, "{fault}");
        let whole = reply.received().filter(|(_, whole)| *whole);
        let array = whole
            .and_then(|(bytes, _)| serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).ok());
        assert!(array.is_none(), "{fault}");
    }
}

#[test]
fn each_transport_fault_has_its_plan() {
    let plan = |fault| fetched(fault).transport;
    let truncated = plan(Fault::Truncate);
    assert!(matches!(
        (truncated.framing, truncated.end),
        (Framing::Length, End::ResetAfter(_))
    ));
    let chunked = plan(Fault::TruncateChunked);
    assert!(matches!(
        (chunked.framing, chunked.end),
        (Framing::Chunked, End::ResetAfter(_))
    ));
    assert!(matches!(plan(Fault::LengthLong).framing, Framing::LengthPlus(more) if more > 0));
    assert!(matches!(
        plan(Fault::Stall).end,
        End::StallAfter {
            stall_ms: 60_000,
            ..
        }
    ));
    assert_eq!(plan(Fault::LengthShort).end, End::Complete);
    assert_eq!(plan(Fault::SlowHeaders).delay_ms, 2_000);
    assert_eq!(plan(Fault::ResetAfterHeaders).end, End::ResetAfter(0));
    assert_eq!(plan(Fault::ResetBeforeHeaders).end, End::ResetBeforeHeaders);
    assert!(plan(Fault::Close).close);
    assert!(plan(Fault::Trickle).trickle.is_some());
    assert_eq!(plan(Fault::Chunked).framing, Framing::Chunked);
}

#[test]
fn a_body_can_come_byte_by_byte() {
    let mut client = client(Faults::none().with(Fault::Trickle, 1.0));
    client.office.faults_mut().trickle = (1, 1_000);
    let uri = uri(&mut client);
    assert_eq!(client.call("GET", &uri).transport.trickle, Some((1, 1_000)));
}

#[test]
fn some_faults_leave_the_content_as_it_is() {
    let plain = fetched(Fault::Close).content.into_bytes();
    assert_eq!(
        fetched(Fault::ByteOrderMark).content.into_bytes()[3..],
        plain
    );
    let labelled = fetched(Fault::FalseEncoding);
    assert_eq!(labelled.find_header("content-encoding"), Some("gzip"));
    assert_eq!(labelled.content.into_bytes(), plain);
    let octets = fetched(Fault::OctetStream);
    assert_eq!(
        octets.find_header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(octets.content.into_bytes(), plain);
    assert_eq!(
        fetched(Fault::Gzip).content.into_bytes(),
        plain,
        "only for those who accept it"
    );
    let packed = fetched(Fault::UnaskedGzip);
    assert_eq!(packed.find_header("content-encoding"), Some("gzip"));
    let packed = packed.content.into_bytes();
    assert!(packed.starts_with(&[0x1f, 0x8b]) && packed.len() > plain.len());
}

#[test]
fn refusals_come_in_all_their_forms() {
    let statuses = |fault| {
        let mut client = client(Faults::none());
        let uri = uri(&mut client);
        client.office.faults_mut().set(fault, 1.0);
        client.office.faults_mut().waits = Waits::Odd;
        let replies: Vec<Reply> = (0..60).map(|_| client.call("GET", &uri)).collect();
        let mut statuses: Vec<u16> = replies.iter().map(|r| r.status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        (statuses, replies)
    };
    assert_eq!(statuses(Fault::ServerError).0, [408, 500, 502, 503, 504]);
    assert_eq!(statuses(Fault::Unauthorized).0, [401]);
    assert_eq!(statuses(Fault::Missing).0, [404]);
    let (found, replies) = statuses(Fault::Redirect);
    assert_eq!(found, [301, 302, 307, 308]);
    let foreign = |r: &Reply| r.find_header("location").unwrap().contains("example.net");
    assert!(replies.iter().any(foreign) && !replies.iter().all(foreign));
    let (found, replies) = statuses(Fault::Throttle);
    assert_eq!(found, [403, 429]);
    let waits: std::collections::BTreeSet<_> = replies
        .iter()
        .map(|r| r.find_header("retry-after").map(str::to_owned))
        .collect();
    assert!(waits.len() >= 6 && waits.contains(&None), "{waits:?}");
    for reply in replies {
        let status = reply.status;
        let text = String::from_utf8(reply.content.into_bytes().to_vec()).unwrap();
        assert!(text.contains("AF429"), "{text}");
        let json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        assert_eq!(json, status == 429, "403 comes in single quotes: {text}");
    }
}

#[test]
fn poison_stays_and_is_not_owed() {
    for (fault, status) in [
        (Fault::PoisonError, 0),
        (Fault::PoisonBody, 200),
        (Fault::Gone, 404),
    ] {
        let mut client = client(Faults::none().with(fault, 0.3));
        let list = client.list(KINDS[0], NOON - DAY_MS, NOON);
        let mut bad = 0;
        for descriptor in &list {
            let uri = descriptor["contentUri"].as_str().unwrap();
            let good = |client: &mut Client| {
                let reply = client.call("GET", uri);
                let bytes = reply.content.into_bytes();
                reply.status == 200
                    && serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).is_ok()
            };
            let first = good(&mut client);
            assert_eq!(first, good(&mut client), "{fault} is for ever");
            if !first && status > 0 {
                assert_eq!(client.call("GET", uri).status, status);
            }
            bad += u32::from(!first);
        }
        assert!((1..20).contains(&bad), "{fault}: {bad} of {}", list.len());
        let owed = client.office.oracle(client.now).owed();
        assert!(owed < 240 && owed > 0, "{fault}: {owed}");
    }
}

#[test]
fn a_record_that_is_no_text_is_not_owed() {
    let mut client = client(Faults::none().with(Fault::BadText, 0.1));
    let list = client.list(KINDS[0], NOON - DAY_MS, NOON);
    let bad = list.iter().filter(|descriptor| {
        let reply = client.call("GET", descriptor["contentUri"].as_str().unwrap());
        std::str::from_utf8(&reply.content.into_bytes()).is_err()
    });
    assert!(bad.count() > 3);
    let owed = client.office.oracle(client.now).owed();
    assert!((190..235).contains(&owed), "{owed} of 240");
}

#[test]
fn a_token_can_be_lost_on_its_way() {
    let mut client = client(Faults::none().with(Fault::ResetBeforeHeaders, 1.0));
    let (url, form) = client.token_form();
    assert!(client.ask_token(&url, &form).received().is_none());
}

#[test]
fn the_date_can_be_wrong() {
    let mut faults = Faults::none();
    faults.date_skew_ms = 600_000;
    let mut client = client(faults);
    let reply = client.api("GET", "subscriptions/list", "");
    assert_eq!(
        reply.find_header("date"),
        Some("Sun, 01 Mar 2026 12:10:00 GMT")
    );
}

#[test]
fn what_strikes_does_not_depend_on_other_requests() {
    let outcome = |noise: bool| {
        let mut client = client(Faults::none());
        let uri = uri(&mut client);
        client.office.faults_mut().set(Fault::ServerError, 0.5);
        let mut statuses = Vec::new();
        for _ in 0..30 {
            if noise {
                client.api("GET", "subscriptions/list", "");
            }
            statuses.push(client.call("GET", &uri).status == 200);
        }
        statuses
    };
    assert_eq!(outcome(false), outcome(true));
    assert!(outcome(false).contains(&true) && outcome(false).contains(&false));
}

fn swarm(seed: u64) -> Client {
    let builder = Office::builder(seed)
        .tenants(2)
        .content_types(&KINDS)
        .blobs(60)
        .events_per_blob(6);
    let life = std::time::Duration::from_secs(90);
    Client::new(builder.token_life(life).faults(Faults::swarm(seed)))
}

/// Everything a careful client gets, listing again until nothing can be late any more.
fn collect(client: &mut Client) -> Delivered {
    let mut done = Delivered::default();
    for tenant in 0..2 {
        client.tenant = tenant;
        client.subscribe(&KINDS);
        client.collect(&KINDS, &mut done);
        client.now += 3 * HOUR_MS;
        client.collect(&KINDS, &mut done);
    }
    done
}

#[test]
fn a_careful_client_survives_the_swarm() {
    // `OFFICE_SEEDS=1000` looks further than a test run should.
    let seeds = std::env::var("OFFICE_SEEDS").map_or(25, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let mut client = swarm(seed);
        let done = collect(&mut client);
        let verdict = client.office.oracle(client.now).check(done.events);
        assert!(verdict.is_clean(), "seed {seed}: {verdict:?}");
        assert!(verdict.owed > 500, "seed {seed}: {verdict:?}");
        assert_eq!(client.office.stats().leaked_tokens, 0);
    }
}

#[test]
fn one_seed_is_one_history() {
    let history = |seed: u64| {
        let mut client = swarm(seed);
        collect(&mut client);
        (
            client.office.trace(),
            format!("{:?}", client.office.stats()),
        )
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3).0, history(4).0);
}

#[test]
fn a_careless_client_is_caught() {
    let faults = Faults::none()
        .with(Fault::CopyInBlob, 0.1)
        .with(Fault::Truncate, 0.2)
        .with(Fault::PageLoop, 0.0);
    let mut client = client(faults);
    let mut events = Vec::new();
    // It fetches once, does not compare ids, and reads the first page only.
    for kind in KINDS {
        let query = format!(
            "contentType={}&{}",
            kind.name(),
            window(NOON - DAY_MS, NOON)
        );
        let reply = client.api("GET", "subscriptions/content", &query);
        let page = crate::client::json(reply);
        for descriptor in page.as_array().unwrap() {
            let reply = client.call("GET", descriptor["contentUri"].as_str().unwrap());
            let (bytes, _) = reply.received().unwrap();
            for record in
                serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap_or_default()
            {
                events.push((String::new(), record["Id"].as_str().unwrap().to_owned()));
            }
        }
    }
    let verdict = client.office.oracle(client.now).check(events);
    assert!(
        verdict.missing > 80 && verdict.duplicated > 3,
        "{verdict:?}"
    );
    assert_eq!(verdict.invented, 0);
}
