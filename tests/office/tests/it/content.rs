//! Blobs: what can be fetched, until when, and what the oracle makes of it.

use std::time::Duration;

use sluicegate_office::{ContentType, DAY_MS, Fault, Faults, Office, Pool};

use crate::client::{Client, Delivered, NOON, code};

const KIND: ContentType = ContentType::Exchange;

fn first_uri(client: &mut Client) -> String {
    let list = client.list(KIND, NOON - DAY_MS, NOON);
    list[0]["contentUri"].as_str().unwrap().to_owned()
}

#[test]
fn a_blob_is_found_in_either_spelling_and_no_other() {
    let mut client = Client::new(Office::builder(3).subscribed());
    let uri = first_uri(&mut client);
    let records = client.fetch(&uri);
    assert_eq!(records.len(), 50);
    assert_eq!(client.fetch(&uri.replace("/audit/", "/Audit/")), records);
    assert_eq!(client.fetch(&uri.replace('$', "%24")), records);
    for bad in [
        uri.replace("na", "xx").replace("emea", "xx"),
        format!("{uri}0"),
        uri.replace('$', ""),
    ] {
        assert_eq!(code(client.call("GET", &bad)), "AF20052", "{bad}");
    }
    assert_eq!(client.office.stats().repeated_downloads, 2);
}

#[test]
fn a_blob_of_another_tenant_is_not_found() {
    let mut client = Client::new(Office::builder(3).tenants(2).subscribed());
    let uri = first_uri(&mut client);
    client.tenant = 1;
    let own = client.office.tenants()[1].directory_id.clone();
    let other = client.office.tenants()[0].directory_id.clone();
    assert_eq!(code(client.call("GET", &uri)), "AF20010");
    assert_eq!(
        code(client.call("GET", &uri.replace(&other, &own))),
        "AF20052"
    );
}

#[test]
fn an_expired_blob_is_refused_and_never_listed() {
    let mut client = Client::new(Office::builder(3).subscribed());
    let uri = first_uri(&mut client);
    client.now += 7 * DAY_MS;
    client.forget_token();
    assert_eq!(code(client.call("GET", &uri)), "AF20051");
    client.office.faults_mut().expired_is_404 = true;
    let reply = client.call("GET", &uri);
    assert_eq!((reply.status, reply.content.into_bytes().len()), (404, 0));
    assert_eq!(client.office.stats().expired_fetches, 2);
    let from = client.now - 7 * DAY_MS - 3_500_000;
    assert!(client.list(KIND, from, from + 3_400_000).is_empty());
    let verdict = client
        .office
        .oracle(client.now)
        .check(Vec::<(String, String)>::new());
    assert_eq!((verdict.owed, verdict.missing, verdict.lost), (0, 0, 5_000));
}

#[test]
fn a_blob_that_is_not_listed_yet_cannot_be_fetched() {
    let builder = Office::builder(3)
        .blobs(0)
        .later(50, Duration::from_hours(1))
        .subscribed();
    let mut client = Client::new(builder);
    assert!(client.list(KIND, NOON, NOON + DAY_MS).is_empty());
    client.now += 3_600_000;
    client.forget_token();
    let uri = client.list(KIND, NOON, NOON + DAY_MS)[0]["contentUri"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(client.fetch(&uri).len(), 50);
    client.now = NOON;
    assert_eq!(code(client.call("GET", &uri)), "AF20050");
}

#[test]
fn empty_blobs_are_empty_arrays() {
    let faults = Faults::none().with(Fault::EmptyBlob, 1.0);
    let mut client = Client::new(Office::builder(3).subscribed().faults(faults));
    let uri = first_uri(&mut client);
    assert!(client.fetch(&uri).is_empty());
    assert_eq!(client.office.oracle(client.now).owed(), 0);
}

#[test]
fn an_office_of_the_same_seed_is_the_same_office() {
    let of = |seed: u64| {
        let mut client = Client::new(Office::builder(seed).subscribed());
        let uri = first_uri(&mut client);
        client.call("GET", &uri).content.into_bytes()
    };
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn much_content_takes_no_memory_until_it_is_fetched() {
    let builder = Office::builder(3)
        .tenants(20)
        .blobs(200)
        .events_per_blob(2_000)
        .subscribed();
    let mut client = Client::new(builder);
    assert_eq!(client.office.oracle(client.now).owed(), 20 * 200 * 2_000);
    client.tenant = 19;
    let uri = first_uri(&mut client);
    assert_eq!(client.fetch(&uri).len(), 2_000);
}

#[test]
fn events_are_published_again_five_days_later() {
    let faults = Faults::none().with(Fault::Republished, 1.0);
    let builder = Office::builder(3)
        .content_types(&[KIND])
        .blobs(84)
        .events_per_blob(2);
    let builder = builder.span(Duration::from_hours(168)).page_size(100);
    let mut client = Client::new(builder.subscribed().faults(faults));
    // One blob every two hours: the blob of five days before is sixty blobs away.
    let last = client.list(KIND, NOON - DAY_MS, NOON).pop().unwrap();
    let records = client.fetch(last["contentUri"].as_str().unwrap());
    assert_eq!(records.len(), 4);
    let old = records[2]["CreationTime"].as_str().unwrap();
    assert!(old.starts_with("2026-02-24T"), "{old}");
    let old = client.list(KIND, NOON - 5 * DAY_MS - 5 * 3_600_000, NOON - 5 * DAY_MS);
    let mut before = Vec::new();
    for descriptor in old {
        before.extend(client.fetch(descriptor["contentUri"].as_str().unwrap()));
    }
    assert!(
        before.contains(&records[2]),
        "it was there before, under the same Id"
    );
}

#[test]
fn the_oracle_tells_missing_from_repeated_from_invented() {
    let kinds = ContentType::ALL;
    let builder = Office::builder(4)
        .tenants(2)
        .blobs(20)
        .events_per_blob(3)
        .subscribed();
    let mut client = Client::new(builder);
    let mut done = Delivered::default();
    for tenant in 0..2 {
        client.tenant = tenant;
        client.collect(&kinds, &mut done);
    }
    let oracle = client.office.oracle(client.now);
    let verdict = oracle.check(done.events.iter().map(|(t, id)| (t, id)));
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.owed, verdict.delivered), (120, 120));

    let first = client
        .office
        .oracle(client.now)
        .of_tenant(0)
        .check(done.events.clone());
    assert!(first.is_clean() && first.owed == 60, "{first:?}");

    let mut events = done.events.clone();
    let gone = events.remove(5);
    events.push(events[7].clone());
    events.push((String::new(), "5b1f6f0e-3d0c-4c5e-9a43-6f2f5a0b7700".into()));
    // A record of one tenant under the name of the other.
    let other = client
        .office
        .tenants()
        .iter()
        .find(|t| t.directory_id != events[0].0)
        .unwrap();
    events.push((other.name.clone(), events[0].1.clone()));
    let verdict = oracle.check(events);
    assert_eq!(
        (verdict.missing, verdict.duplicated, verdict.invented),
        (1, 1, 2),
        "{verdict:?}"
    );
    assert!(verdict.missing_samples[0].ends_with(&gone.1), "{verdict:?}");
}

const POOL: &[u8] = br#"{"Id":"a","RecordType":2,"OrganizationId":"o"}
{ "Id" : "b", "RecordType":15 ,"OrganizationId":"o"}
{"Id":"b","RecordType":15,"OrganizationId":"o","n":2}
{"Id":"c","RecordType":999,"OrganizationId":"o"}
"#;

#[test]
fn a_pool_comes_out_once_with_its_bytes() {
    let builder = Office::builder(4).blobs(40).subscribed();
    let mut client = Client::new(builder.records(Pool::from_ndjson(POOL).unwrap()));
    let mut done = Delivered::default();
    client.collect(&ContentType::ALL, &mut done);
    let mut ids: Vec<_> = done.events.iter().map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b", "b", "c"]);
    let oracle = client.office.oracle(client.now);
    assert!(oracle.check(done.events.clone()).is_clean());
    let verdict = oracle.check(ids[..2].iter().map(|id| ("", id)));
    assert_eq!((verdict.owed, verdict.missing), (4, 2));
    let verdict = oracle.check(["a", "a"].map(|id| ("", id)));
    assert_eq!((verdict.duplicated, verdict.missing), (1, 3));
}

#[test]
fn a_pool_is_repeated_under_fresh_ids_when_asked() {
    let pool = Pool::from_ndjson(POOL).unwrap().repeated();
    let builder = Office::builder(4)
        .blobs(50)
        .events_per_blob(2)
        .subscribed()
        .records(pool);
    let mut client = Client::new(builder);
    let mut done = Delivered::default();
    client.collect(&ContentType::ALL, &mut done);
    let verdict = client.office.oracle(client.now).check(done.events.clone());
    assert!(verdict.is_clean(), "{verdict:?}");
    // Three of the five content types have records to repeat, each in ten blobs.
    assert_eq!(verdict.owed, 3 * 10 * 2);
    assert_eq!(done.events.iter().filter(|(_, id)| id == "a").count(), 1);
}

#[test]
fn blobs_can_differ_in_size() {
    let builder = Office::builder(4).content_types(&[KIND]).blobs(100);
    let builder = builder.up_to_events_per_blob(40).page_size(200);
    let mut client = Client::new(builder.subscribed());
    let mut sizes: std::collections::BTreeMap<usize, u32> = std::collections::BTreeMap::new();
    let mut done = Delivered::default();
    client.collect(&[KIND], &mut done);
    for descriptor in client.list(KIND, NOON - DAY_MS, NOON) {
        let blob = client.fetch(descriptor["contentUri"].as_str().unwrap());
        *sizes.entry(blob.len()).or_default() += 1;
    }
    assert!(
        sizes[&0] >= 3 && sizes[&1] >= 3 && sizes.len() > 20,
        "{sizes:?}"
    );
    assert!(sizes.keys().all(|size| *size <= 40), "{sizes:?}");
    let verdict = client.office.oracle(client.now).check(done.events);
    assert!(verdict.is_clean() && verdict.owed > 1_000, "{verdict:?}");
}
